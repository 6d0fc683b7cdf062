//! Latencies: of a hand-off from one thread to another, and of calls at a fixed rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now_ns;
use crate::engine::{Consumer, Engine, Settle};
use crate::job::{Job, Outcome, Workload};
use crate::kernel::Peak;
use crate::payload::{Ledger, Patterns};

use super::meter::{Mark, Meter};
use super::{Histogram, curve, histogram, setup};

/// Long enough for every consumer that spins to go to sleep.
const PAUSE: Duration = Duration::from_millis(2);

/// At the start, not recorded.
const WARM_UP_NS: u64 = 400_000_000;

/// What the two threads share.
#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    taken: AtomicU64,
    ended: AtomicBool,
}

/// One task at a time: the latency is that from just before the enqueue to the consumer's sight of it.
pub fn handoff(engine: &dyn Engine, job: &Job) -> anyhow::Result<Outcome> {
    let pause = if job.workload == Workload::Handoff { PAUSE } else { Duration::ZERO };
    run(engine, job, |shared, patterns, producer, end_ns| {
        let mut writer = patterns.writer(0);
        while now_ns() < end_ns {
            std::thread::sleep(pause);
            writer.with(1, now_ns(), |tasks| producer.send(0, tasks))?;
            // Release: partner of the consumer's Acquire at its end.
            shared.sent.store(writer.next, Ordering::Release);
            while shared.taken.load(Ordering::Acquire) < writer.next && now_ns() < end_ns + 5_000_000_000 {
                std::hint::spin_loop();
            }
        }
        Ok(None)
    })
}

/// Tasks at a fixed rate: the latency of each enqueue is counted from when it was due, which corrects for what is called
/// coordinated omission: a producer that is held up doesn't forget those that it should have sent meanwhile.
pub fn open_loop(engine: &dyn Engine, job: &Job) -> anyhow::Result<Outcome> {
    anyhow::ensure!(job.rate > 0.0, "a rate above 0 is needed");
    run(engine, job, |shared, patterns, producer, end_ns| {
        let mut latencies = histogram()?;
        let mut writer = patterns.writer(0);
        let began_ns = now_ns();
        let every_ns = 1e9 / job.rate;
        let mut due = 0.0;
        loop {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds of a run")]
            let due_ns = began_ns + due as u64;
            if due_ns >= end_ns {
                return Ok(Some(latencies));
            }
            while now_ns() < due_ns {
                std::hint::spin_loop();
            }
            writer.with(1, due_ns, |tasks| producer.send(0, tasks))?;
            if due_ns > began_ns + WARM_UP_NS {
                latencies.saturating_record(now_ns() - due_ns);
            }
            shared.sent.store(writer.next, Ordering::Release);
            due += every_ns;
        }
    })
}

type Produce<'a> =
    dyn Fn(&Shared, &Patterns, &mut dyn crate::engine::Producer, u64) -> anyhow::Result<Option<Histogram>> + Sync + 'a;

/// One producer, which does as told until the time is over, and one consumer. Latencies are the producer's, or else the
/// consumer's.
fn run(
    engine: &dyn Engine,
    job: &Job,
    produce: impl Fn(&Shared, &Patterns, &mut dyn crate::engine::Producer, u64) -> anyhow::Result<Option<Histogram>> + Sync,
) -> anyhow::Result<Outcome> {
    let produce: &Produce<'_> = &produce;
    let patterns = Patterns::new(job.payload_bytes);
    let base_bytes = Meter::base_bytes();
    let store = engine.open(&setup(job)?)?;
    let meter = Meter::start(job, store.as_ref(), base_bytes)?;
    let (shared, peak) = (Shared::default(), Peak::new());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
    let end_ns = now_ns() + WARM_UP_NS + (job.seconds * 1e9) as u64;
    let from = meter.mark(0);
    let (sent, seen, to) = std::thread::scope(|scope| {
        scope.spawn(|| peak.watch(meter.processes()));
        let taking = scope.spawn(|| consume(&shared, &patterns, store.consumer()?.as_mut(), from.at_ns + WARM_UP_NS));
        let sent = store.producer().and_then(|mut producer| produce(&shared, &patterns, producer.as_mut(), end_ns));
        shared.ended.store(true, Ordering::Release);
        let to: Mark = meter.mark(shared.taken.load(Ordering::Relaxed));
        let seen = taking.join().unwrap_or_else(|_| anyhow::bail!("the consumer's thread panicked"));
        peak.end();
        (sent, seen, to)
    });
    let mut outcome = meter.outcome((from, to), shared.sent.load(Ordering::Relaxed), peak.end())?;
    let (ledger, handoffs) = seen?;
    outcome.curve = curve(&sent?.unwrap_or(handoffs));
    store.close()?;
    Ok(outcome.audited(ledger.audit(&[shared.sent.load(Ordering::Relaxed)])))
}

/// Takes until the producer ended and all came.
fn consume(
    shared: &Shared,
    patterns: &Patterns,
    consumer: &mut dyn Consumer,
    from_ns: u64,
) -> anyhow::Result<(Ledger, Histogram)> {
    let (mut ledger, mut latencies) = (Ledger::default(), histogram()?);
    let mut idle = 0;
    loop {
        let came = consumer.take(1, Duration::from_millis(500), &mut |payload| {
            let now = now_ns();
            if let Some(stamp) = ledger.enter(patterns, payload)
                && stamp.at_ns > from_ns
            {
                latencies.saturating_record(now - stamp.at_ns);
            }
            Settle::Ack
        })?;
        shared.taken.fetch_add(u64::try_from(came)?, Ordering::Release);
        idle = if came > 0 { 0 } else { idle + 1 };
        let all = shared.ended.load(Ordering::Acquire) && ledger.tasks >= shared.sent.load(Ordering::Acquire);
        if all || idle > 10 {
            return Ok((ledger, latencies));
        }
    }
}
