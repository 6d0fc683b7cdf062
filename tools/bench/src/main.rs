//! `lanelog-bench`: lanelog and its peers, the same work at the same durability, in one run.
//!
//! The rooms, from top to bottom: `args` and `plan` say what is measured; `rounds` runs it, each measurement in a child
//! process; `workload` is what the child does, with any [`engine::Engine`]; `engines` are the adapters, `limit` the
//! machine as one; `row` makes medians of rounds, and `table` and `report` show them.

mod args;
mod clock;
mod engine;
mod engines;
mod job;
mod kernel;
mod limit;
mod measurement;
mod payload;
mod plan;
mod report;
mod rounds;
mod row;
mod table;
mod units;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::Args;
use engine::{Durability, Engine, Need};
use job::Job;
use row::Row;

fn main() -> ExitCode {
    let hidden = std::env::args().nth(1).unwrap_or_default();
    let done = match hidden.as_str() {
        rounds::MEASURE => child(|engine, job| {
            println!("{}", serde_json::to_string(&workload::run(engine, job))?);
            Ok(())
        }),
        rounds::HOLD_A_BACKLOG => child(workload::hold_a_backlog),
        _ => show(&Args::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lanelog-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What a child process does with the job on its standard input.
fn child(run: impl FnOnce(&dyn Engine, &Job) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    let job: Job = serde_json::from_str(&text).context("a job on standard input")?;
    let mut all = engines::all();
    all.push(&limit::Limit);
    let engine = all.into_iter().find(|engine| engine.name() == job.engine).context("no such engine")?;
    run(engine, &job)
}

fn show(args: &Args) -> anyhow::Result<()> {
    if args.list {
        return list(args);
    }
    let mut rows = if args.from.is_empty() { rounds::run(args)? } else { earlier(args)? };
    row::compare(&mut rows);
    let table = table::table(&rows);
    let mut out = std::io::stdout().lock();
    if args.json {
        for row in &rows {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        eprint!("{table}");
    } else {
        write!(out, "{table}")?;
    }
    if let Some(path) = &args.report {
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let command = format!("lanelog-bench {command}");
        let title = report::Title {
            command,
            machine: machine(),
            when: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        };
        std::fs::write(path, report::page(&title, &rows)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The rows of earlier runs.
fn earlier(args: &Args) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in &args.from {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (number, line) in text.lines().enumerate() {
            rows.push(serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))?);
        }
    }
    Ok(rows)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let needs = [Need::Lanes, Need::Keep, Need::Outstanding, Need::Producers, Need::Consumers, Need::Reopen];
    for engine in plan::engines(args)? {
        println!("{} {}", engine.name(), engine.version());
        for durability in [Durability::Process, Durability::Power] {
            match engine.can(durability, &[]) {
                Ok(()) => println!("  {}: {}", durability.name(), engine.settings(durability)),
                Err(reason) => println!("  {}: can't: {reason}", durability.name()),
            }
            for need in needs.iter().filter(|_| engine.can(durability, &[]).is_ok()) {
                if let Err(reason) = engine.can(durability, &[*need]) {
                    println!("    {need:?}: can't: {reason}");
                }
            }
        }
    }
    Ok(())
}

/// The machine in a line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, {} GiB, Linux {}", model.trim_start_matches([' ', '\t', ':']), kib >> 20, kernel.trim())
}
