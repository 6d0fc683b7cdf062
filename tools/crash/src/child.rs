//! A worker as its watcher has it: started, listened to, killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::report::{Report, Said};
use crate::worker::{Then, WorkerArgs};

/// A worker that says nothing for so long hangs, which is a broken promise.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Set once somebody wants the whole to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// SIGINT and SIGTERM ask for an end in good order, in which nothing stays mounted.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0)).context("can't watch for signals")?;
        }
        Ok(stop)
    }

    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::SeqCst) { bail!("interrupted") } else { Ok(()) }
    }
}

/// A running worker. It dies with this.
pub struct Worker {
    child: Child,
    reports: Receiver<Report>,
    reader: Option<JoinHandle<()>>,
    stop: Stop,
}

/// When a worker has done enough.
#[derive(Clone, Copy, Debug)]
pub enum Enough {
    /// After so many reports of its work, recovery's not counted.
    Reports(u64),
    /// After so long since it was started.
    Time(Duration),
    /// When it ends by itself.
    End,
}

impl Worker {
    /// Starts this program as a worker.
    pub fn start(args: &WorkerArgs, stop: &Stop) -> Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").arg("--dir").arg(&args.dir);
        let mut number = |name: &str, value: u64| {
            command.arg(name).arg(value.to_string());
        };
        number("--life", args.life);
        number("--seed", args.seed);
        number("--calls", args.calls);
        number("--segment-bytes", args.segment_bytes);
        let then = args.then.to_possible_value().map(|value| value.get_name().to_owned());
        command.arg("--then").arg(then.unwrap_or_default());
        if let Some(events) = &args.events {
            command.arg("--events").arg(events);
        }
        if args.syncs_off {
            command.arg("--syncs-off");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("can't start a worker")?;
        let stdout = child.stdout.take().context("a worker has no standard output")?;
        let (sender, reports) = channel();
        let read = move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            // A line without its end was cut by the kill.
            while lines.read_line(&mut line).is_ok() && line.ends_with('\n') {
                if let Some(report) = Report::parse(line.trim_end_matches('\n'))
                    && sender.send(report).is_err()
                {
                    return;
                }
                line.clear();
            }
        };
        let reader = thread::Builder::new().name("reports".to_owned()).spawn(read)?;
        Ok(Worker { child, reports, reader: Some(reader), stop: stop.clone() })
    }

    /// Hears what the worker says until that is enough, or it ended. What it said after that is still to be heard.
    pub fn hear(&mut self, enough: Enough, mut each: impl FnMut(Report)) -> Result<()> {
        let began = Instant::now();
        let mut heard_last = began;
        let mut heard = 0;
        loop {
            self.stop.check()?;
            let left = match enough {
                Enough::Time(time) => time.saturating_sub(began.elapsed()),
                Enough::Reports(reports) if heard >= reports => return Ok(()),
                Enough::Reports(_) | Enough::End => Duration::from_millis(100),
            };
            match self.reports.recv_timeout(left) {
                Ok(report) => {
                    heard_last = Instant::now();
                    heard += u64::from(!report.said.is_of_recovery());
                    each(report);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if matches!(enough, Enough::Time(_)) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if heard_last.elapsed() > SILENCE_MAX => {
                    each(Report { at: 0, said: Said::Complaint(format!("it said nothing for {SILENCE_MAX:?}")) });
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// SIGKILL; then hears the rest of what it had said.
    pub fn kill(mut self, each: impl FnMut(Report)) -> Result<()> {
        self.child.kill().context("can't kill a worker")?;
        self.end(each).map(drop)
    }

    /// Waits until it is gone, and hears the rest.
    pub fn end(&mut self, each: impl FnMut(Report)) -> Result<ExitStatus> {
        let status = self.child.wait().context("can't wait for a worker")?;
        self.reports.iter().for_each(each);
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        Ok(status)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.reader.is_some() {
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// The arguments of a worker that every mode begins with.
pub fn plain(dir: &Path, life: u64, seed: u64, segment_bytes: u64, then: Then) -> WorkerArgs {
    WorkerArgs { dir: dir.to_owned(), life, seed, then, calls: 0, segment_bytes, events: None, syncs_off: false }
}
