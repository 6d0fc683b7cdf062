//! A deep backlog: built, drained, and found again after a kill.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::clock::now_ns;
use crate::engine::{Consumer, Engine, Settle, Store};
use crate::job::{Job, Outcome, Workload};
use crate::kernel::Peak;
use crate::payload::{Ledger, PATTERNS, Patterns};
use crate::rounds;

use super::meter::Meter;
use super::{curve, histogram, setup};

/// A task that must come comes sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Builds the backlog, drains it, and times the one or the other. Both in batches.
pub fn run(engine: &dyn Engine, job: &Job) -> anyhow::Result<Outcome> {
    let patterns = Patterns::new(job.payload_bytes);
    let base_bytes = Meter::base_bytes();
    let store = engine.open(&setup(job)?)?;
    let meter = Meter::start(job, store.as_ref(), base_bytes)?;
    let peak = Peak::new();
    let tasks = tasks(job);
    std::thread::scope(|scope| {
        scope.spawn(|| peak.watch(meter.processes()));
        let run = || {
            let began = meter.mark(0);
            build(store.as_ref(), job, &patterns)?;
            let built = meter.mark(tasks);
            let mut outcome = meter.outcome((began, built), tasks, 0)?;
            let began = meter.mark(0);
            let mut ledger = Ledger::default();
            drain(store.consumer()?.as_mut(), &patterns, &mut ledger, tasks)?;
            let drained = meter.mark(ledger.tasks);
            if job.workload == Workload::BacklogDrain {
                outcome = meter.outcome((began, drained), tasks, 0)?;
            }
            Ok::<_, anyhow::Error>(outcome.audited(ledger.audit(&[tasks])))
        };
        let outcome = run();
        let peak_bytes = peak.end().saturating_sub(base_bytes);
        Ok(Outcome { peak_anon_bytes: peak_bytes, ..outcome? })
    })
    .and_then(|outcome| store.close().map(|()| outcome))
}

/// A child builds a backlog and is killed; timed is the open up to the sight of the first task. Then all must come.
pub fn reopen(engine: &dyn Engine, job: &Job) -> anyhow::Result<Outcome> {
    let mut child = rounds::start(rounds::HOLD_A_BACKLOG, job)?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut said)?;
    child.kill()?;
    child.wait()?;
    ensure!(said.trim() == "ready", "the child that is killed said {said:?}");
    let (patterns, tasks) = (Patterns::new(job.payload_bytes), tasks(job));
    let (base_bytes, mut ledger, mut latencies) = (Meter::base_bytes(), Ledger::default(), histogram()?);
    let began_ns = now_ns();
    let store = engine.open(&setup(job)?)?;
    let mut first_ns = 0;
    let mut consumer = store.consumer()?;
    consumer.take(1, PATIENCE, &mut |payload| {
        first_ns = now_ns();
        ledger.enter(&patterns, payload);
        Settle::Ack
    })?;
    let peak_anon_bytes = crate::kernel::anonymous_bytes(&store.processes()).saturating_sub(base_bytes);
    ensure!(first_ns > 0, "no task came within {} s", PATIENCE.as_secs());
    latencies.saturating_record(first_ns - began_ns);
    let left = tasks - ledger.tasks;
    drain(consumer.as_mut(), &patterns, &mut ledger, left)?;
    drop(consumer);
    store.close()?;
    let seconds = crate::row::count(first_ns - began_ns) / 1e9;
    let outcome = Outcome { tasks: 1, seconds, curve: curve(&latencies), peak_anon_bytes, ..Outcome::default() };
    Ok(outcome.audited(ledger.audit(&[tasks])))
}

/// The child of [`reopen`]: builds, says so, and waits for its death.
///
/// # Errors
/// It could not build it.
pub fn hold_a_backlog(engine: &dyn Engine, job: &Job) -> anyhow::Result<()> {
    let store = engine.open(&setup(job)?)?;
    build(store.as_ref(), job, &Patterns::new(job.payload_bytes))?;
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn tasks(job: &Job) -> u64 {
    let bytes = u64::try_from(job.payload_bytes.max(1)).unwrap_or(u64::MAX);
    let batch = u64::try_from(job.batch.clamp(1, PATTERNS)).unwrap_or(1);
    (job.bytes_max / bytes / batch).max(1) * batch
}

fn build(store: &dyn Store, job: &Job, patterns: &Patterns) -> anyhow::Result<()> {
    let (mut producer, mut writer) = (store.producer()?, patterns.writer(0));
    while writer.next < tasks(job) {
        writer.with(job.batch, 0, |tasks| producer.send(0, tasks))?;
    }
    Ok(())
}

/// Takes so many more.
fn drain(consumer: &mut dyn Consumer, patterns: &Patterns, ledger: &mut Ledger, tasks: u64) -> anyhow::Result<()> {
    let mut left = tasks;
    while left > 0 {
        let came = consumer.take(PATTERNS, PATIENCE, &mut |payload| {
            ledger.enter(patterns, payload);
            Settle::Ack
        })?;
        ensure!(came > 0, "{left} of {tasks} tasks did not come within {} s", PATIENCE.as_secs());
        left = left.saturating_sub(u64::try_from(came)?);
    }
    Ok(())
}
