//! Closed loops: each thread goes on as soon as its call returns. The rate is what was done between two looks, the first
//! one after a warm-up.
//!
//! Where consumers take part, producers wait while more than [`WINDOW_TASKS`] are not settled: a flow, not a backlog.
//! After the second look producers stop, consumers take what is left, and the ledger is held against what was
//! acknowledged. The latency of a single call at `Process` is taken of every sixteenth: the clock costs a third of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::now_ns;
use crate::engine::{Consumer, Durability, Engine, Producer, Settle};
use crate::job::{Job, Outcome, Workload};
use crate::kernel::Peak;
use crate::payload::{Ledger, Patterns};

use super::meter::{Mark, Meter};
use super::{Histogram, curve, histogram, setup};

/// Tasks that may be accepted and not settled in a flow, but no more than of [`WINDOW_BYTES`].
const WINDOW_TASKS: u64 = 8_192;
const WINDOW_BYTES: u64 = 64 << 20;

/// Before the first look.
const WARM_UP: Duration = Duration::from_millis(400);

/// A consumer that waited that long for what must come gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A counter on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// What the threads of a run share.
struct Shared<'a> {
    job: &'a Job,
    patterns: Patterns,
    sent: Vec<Count>,
    /// Tasks that each consumer saw.
    taken: Vec<Count>,
    /// Whether latencies count.
    recording: AtomicBool,
    stopped: AtomicBool,
    producing: AtomicUsize,
    latencies: Mutex<Histogram>,
    ledger: Mutex<Ledger>,
    faults: Mutex<Vec<anyhow::Error>>,
}

/// Runs it.
pub fn run(engine: &dyn Engine, job: &Job) -> anyhow::Result<Outcome> {
    let shared = Shared::new(job)?;
    let base_bytes = Meter::base_bytes();
    let store = engine.open(&setup(job)?)?;
    let meter = Meter::start(job, store.as_ref(), base_bytes)?;
    let peak = Peak::new();
    let (marks, sent) = std::thread::scope(|scope| -> anyhow::Result<((Mark, Mark), u64)> {
        scope.spawn(|| peak.watch(meter.processes()));
        let consumers = (0..job.consumers).map(|index| {
            let (store, shared) = (store.as_ref(), &shared);
            scope.spawn(move || shared.note(|| shared.consume(store.consumer()?.as_mut(), index)))
        });
        let consumers: Vec<_> = consumers.collect();
        let producers = (0..job.producers).map(|index| {
            let (store, shared) = (store.as_ref(), &shared);
            scope.spawn(move || {
                shared.note(|| shared.produce(store.producer()?.as_mut(), index));
                // Release: partner of `is_flowing`'s Acquire; what this thread sent is counted before it is gone.
                shared.producing.fetch_sub(1, Ordering::Release);
            })
        });
        let producers: Vec<_> = producers.collect();
        let marks = shared.time(&meter);
        shared.stopped.store(true, Ordering::Relaxed);
        producers.into_iter().for_each(|thread| drop(thread.join()));
        consumers.into_iter().for_each(|thread| drop(thread.join()));
        peak.end();
        Ok((marks, shared.sent()))
    })?;
    let mut outcome = meter.outcome(marks, sent, peak.end())?;
    outcome.curve = curve(&shared.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    if job.consumers == 0 && !engine.is_limit() {
        shared.note(|| shared.consume(store.consumer()?.as_mut(), 0));
    }
    store.close()?;
    Ok(outcome.audited(shared.audit(engine.is_limit() && job.consumers == 0)))
}

impl<'a> Shared<'a> {
    fn new(job: &'a Job) -> anyhow::Result<Self> {
        let counts = |count: usize| (0..count).map(|_| Count::default()).collect();
        Ok(Shared {
            job,
            patterns: Patterns::new(job.payload_bytes),
            sent: counts(job.producers),
            taken: counts(job.consumers.max(1)),
            recording: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            producing: AtomicUsize::new(job.producers),
            latencies: Mutex::new(histogram()?),
            ledger: Mutex::new(Ledger::default()),
            faults: Mutex::new(Vec::new()),
        })
    }

    fn sent(&self) -> u64 {
        total(&self.sent)
    }

    /// Tasks that are done: settled where somebody takes.
    fn done(&self) -> u64 {
        if self.job.consumers == 0 { self.sent() } else { total(&self.taken) }
    }

    /// Keeps what a thread failed with, and stops the run.
    fn note(&self, run: impl FnOnce() -> anyhow::Result<()>) {
        if let Err(error) = run() {
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// Looks twice: after the warm-up, and when the time is over or producers are done.
    fn time(&self, meter: &Meter) -> (Mark, Mark) {
        let wait = |span: Duration| {
            let end = now_ns() + u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2);
            while now_ns() < end && self.is_flowing() && !self.stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let start = meter.mark(self.done());
        wait(WARM_UP);
        self.recording.store(true, Ordering::Relaxed);
        let warm = meter.mark(self.done());
        wait(Duration::from_secs_f64(self.job.seconds));
        let end = meter.mark(self.done());
        // Work that ended within the warm-up, or soon after, is timed as a whole.
        let brief = end.at_ns - warm.at_ns < 100_000_000;
        (if brief { start } else { warm }, end)
    }

    fn is_flowing(&self) -> bool {
        self.producing.load(Ordering::Acquire) > 0
    }

    fn produce(&self, producer: &mut dyn Producer, index: usize) -> anyhow::Result<()> {
        let job = self.job;
        let mut latencies = histogram()?;
        let mut writer = self.patterns.writer(index);
        let bytes = u64::try_from(job.payload_bytes)?;
        let tasks_max = job.bytes_max / bytes.max(1) / u64::try_from(job.producers)?;
        let window = if job.consumers == 0 { u64::MAX } else { WINDOW_TASKS.min(WINDOW_BYTES / bytes.max(1)) };
        let sampled = if job.durability == Durability::Process && job.batch == 1 { 16 } else { 1 };
        let lanes = if job.workload == Workload::Lanes { u64::from(job.lanes()) } else { 1 };
        let Some(sent) = self.sent.get(index) else { return Ok(()) };
        let mut calls = 0_u64;
        while !self.stopped.load(Ordering::Relaxed) && writer.next < tasks_max {
            if calls.is_multiple_of(64) {
                self.wait_for_room(window);
            }
            let is_timed = calls.is_multiple_of(sampled) && self.recording.load(Ordering::Relaxed);
            let lane = u8::try_from(calls % lanes)?;
            calls += 1;
            let began = if is_timed { now_ns() } else { 0 };
            if job.outstanding > 1 {
                writer.with(1, 0, |tasks| tasks.iter().try_for_each(|task| producer.submit(lane, task)))?;
                producer.confirm(job.outstanding - 1)?;
            } else {
                writer.with(job.batch, 0, |tasks| producer.send(lane, tasks))?;
                if is_timed {
                    latencies.saturating_record(now_ns() - began);
                }
            }
            sent.0.store(writer.next, Ordering::Relaxed);
        }
        producer.confirm(0)?;
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(latencies)?;
        Ok(())
    }

    /// Waits where the window is full, asleep: until half of it is free, which takes consumers milliseconds.
    fn wait_for_room(&self, window: u64) {
        let is_above = |most: u64| self.sent() > most + total(&self.taken) && !self.stopped.load(Ordering::Relaxed);
        if window == u64::MAX || !is_above(window) {
            return;
        }
        while is_above(window / 2) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Takes until all that was sent came, or nothing does.
    fn consume(&self, consumer: &mut dyn Consumer, index: usize) -> anyhow::Result<()> {
        let mut ledger = Ledger::default();
        let keeps = self.job.workload == Workload::Stragglers;
        let batch = if self.job.consumers == 0 { crate::payload::PATTERNS } else { self.job.batch };
        let Some(taken) = self.taken.get(index) else { return Ok(()) };
        let (mut count, mut last_ns) = (0_u64, now_ns());
        loop {
            let came = consumer.take(batch, Duration::from_millis(100), &mut |payload| {
                ledger.enter(&self.patterns, payload);
                count += 1;
                if keeps && count.is_multiple_of(100) { Settle::Keep } else { Settle::Ack }
            })?;
            taken.0.store(count, Ordering::Relaxed);
            if came > 0 {
                continue;
            }
            // Nothing came for a tenth of a second: the end, or a pause of the engine's.
            let all = !self.is_flowing() && total(&self.taken) >= self.sent();
            let gone = !self.is_flowing() && now_ns() - last_ns > u64::try_from(PATIENCE.as_nanos())?;
            if all || gone {
                break;
            }
            if self.is_flowing() {
                last_ns = now_ns();
            }
        }
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).add(&ledger);
        Ok(())
    }

    /// Whether all that was acknowledged came, and no thread failed. Of what a limit overwrote, nothing can come.
    fn audit(&self, overwrites: bool) -> Result<(), String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = faults.first() {
            return Err(format!("{error:#}"));
        }
        let acknowledged: Vec<u64> = self.sent.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
        let audited = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).audit(&acknowledged);
        if overwrites { Ok(()) } else { audited }
    }
}

fn total(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
}
