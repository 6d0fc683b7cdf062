//! Runs the measurements: round by round, in each round one engine after the other, each in a process of its own.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Args;
use crate::engine::Engine;
use crate::job::{Job, Outcome, Workload};
use crate::plan::{self, Cell};
use crate::row::{Rounds, Row};

/// The hidden command of the child that measures.
pub const MEASURE: &str = "measure";

/// That of the one that is killed with a backlog in its store.
pub const HOLD_A_BACKLOG: &str = "hold-a-backlog";

/// Runs all of it; gives a row for each engine and cell.
///
/// # Errors
/// The directory can't be used.
pub fn run(args: &Args) -> anyhow::Result<Vec<Row>> {
    let (cells, engines) = (plan::cells(args), plan::engines(args)?);
    let place = tempfile::Builder::new()
        .prefix("lanelog-bench.")
        .tempdir_in(&args.dir)
        .with_context(|| format!("a directory in {}", args.dir.display()))?;
    let take_part = |cell: &Cell| engines.iter().filter(|engine| plan::takes_part(**engine, cell)).count();
    let steps: usize = cells.iter().map(take_part).sum::<usize>() * usize::from(args.rounds());
    let bar = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} rounds, {elapsed} of about {duration}, {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut rows = Vec::new();
    for cell in &cells {
        let taking = engines.iter().copied().filter(|engine| plan::takes_part(*engine, cell));
        rows.extend(measure(args, cell, &taking.collect::<Vec<_>>(), place.path(), &rows, &bar));
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// All rounds of a cell.
fn measure(
    args: &Args,
    cell: &Cell,
    engines: &[&'static dyn Engine],
    place: &Path,
    before: &[Row],
    bar: &ProgressBar,
) -> Vec<Row> {
    let jobs: Vec<Job> = engines.iter().map(|engine| plan::job(args, cell, *engine)).collect();
    let mut contenders: Vec<Contender> = engines
        .iter()
        .zip(jobs)
        .map(|(engine, job)| Contender {
            cant: engine.can(job.durability, &job.needs()).err(),
            engine: *engine,
            job,
            outcomes: Vec::new(),
        })
        .collect();
    for contender in &mut contenders {
        contender.set_rate(place, before);
    }
    for _round in 0..args.rounds() {
        for contender in &mut contenders {
            bar.set_message(format!("{} of {}", cell.workload.name(), contender.engine.name()));
            contender.round(place);
            bar.inc(1);
        }
    }
    contenders.into_iter().map(Contender::row).collect()
}

/// An engine in the rounds of a cell.
struct Contender {
    engine: &'static dyn Engine,
    job: Job,
    outcomes: Vec<Outcome>,
    cant: Option<String>,
}

impl Contender {
    /// One round, unless it can't or an earlier one was void.
    fn round(&mut self, place: &Path) {
        if self.cant.is_none() && self.outcomes.iter().all(|outcome| outcome.verified) {
            self.outcomes.push(in_a_child(&self.job, place));
        }
    }

    /// Half of what its flow reached in this run, or in a round for that alone.
    fn set_rate(&mut self, place: &Path, before: &[Row]) {
        if self.job.workload != Workload::OpenLoop || self.job.rate > 0.0 || self.cant.is_some() {
            return;
        }
        let flow = Job { workload: Workload::Flow, ..self.job.clone() };
        let known = before.iter().find(|row| row.is_of(&flow));
        let rate = known.map(|row| row.tasks_per_s).filter(|&rate| rate > 0.0).unwrap_or_else(|| {
            let outcome = in_a_child(&flow, place);
            crate::row::count(outcome.tasks) / outcome.seconds.max(1e-9)
        });
        self.job.rate = rate / 2.0;
    }

    fn row(self) -> Row {
        let mut settings = self.engine.settings(self.job.durability);
        if self.job.workload == Workload::OpenLoop {
            settings = format!("{settings}; {:.0} tasks a second", self.job.rate);
        }
        let (version, cant) = (self.engine.version(), self.cant);
        Row::of(&Rounds { job: &self.job, version, settings, outcomes: self.outcomes, cant })
    }
}

/// A measurement in a process and a directory of its own.
fn in_a_child(job: &Job, place: &Path) -> Outcome {
    let dir = place.join("store");
    let outcome = measured(&Job { dir: dir.clone(), ..job.clone() });
    // What a server of another user leaves is removed as well, or the next round's directory is not empty.
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && dir.exists()
    {
        return Outcome { fault: Some(format!("{}: {error}", dir.display())), ..Outcome::default() };
    }
    outcome.unwrap_or_else(|error| Outcome { fault: Some(format!("{error:#}")), ..Outcome::default() })
}

fn measured(job: &Job) -> anyhow::Result<Outcome> {
    let mut child = start(MEASURE, job)?;
    let mut output = child.stdout.take().context("its output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let status = wait(&mut child, Duration::from_secs_f64(180.0 + 20.0 * job.seconds))?;
    let text = reader.join().unwrap_or_else(|_| Ok(String::new()))?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the process that measures ended with {status}"))
}

/// Starts a child of this program's with one of the hidden commands, which finds its job on standard input.
///
/// # Errors
/// It can't be started.
pub fn start(command: &str, job: &Job) -> anyhow::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("a process for {command}"))?;
    writeln!(child.stdin.take().context("its input")?, "{}", serde_json::to_string(job)?)?;
    Ok(child)
}

/// Waits for a child; ends one that takes longer.
fn wait(child: &mut Child, longest: Duration) -> anyhow::Result<std::process::ExitStatus> {
    let end = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("the process that measures took longer than {} s", longest.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
