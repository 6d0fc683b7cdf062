//! Death of the process: a worker on real files, killed with SIGKILL at a random moment, again and again.
//!
//! The page cache outlives the process, so after it *everything* that was answered holds, at `Process` as at `Power`, and
//! attempts hold exactly. What the kill cut off is in doubt. The next life recovers the same directory and tells what it
//! found; that settles the doubts, and the work goes on from there. A kill may hit recovery too: then nothing is settled.
//! Now and then a life is let close its queue, and a queue is drained to the last task and a fresh one begun.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::child::{Enough, Stop, Worker, plain};
use crate::ledger::Ledger;
use crate::outcome::{Outcome, side_by_side};
use crate::rng::Rng;
use crate::worker::Then;

#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// Lives to end.
    #[arg(long, default_value_t = 1_000)]
    pub rounds: u64,
    /// Seed of all choices; a fresh one if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Queues that are worked on beside one another; part of what the seed decides.
    #[arg(long, default_value_t = 4)]
    pub tracks: u64,
    /// Keeps, of a queue that breaks a promise, also the directory as its last process found it. Takes time.
    #[arg(long)]
    pub evidence: bool,
    /// Where the queues are made; the system's directory for temporary files if it is not given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

pub fn run(args: &KillArgs, seed: u64, stop: &Stop) -> Result<Outcome> {
    side_by_side(args.tracks, seed, args.rounds, |seed, rounds| track(args, rounds, seed, stop))
}

fn track(args: &KillArgs, all_rounds: u64, seed: u64, stop: &Stop) -> Result<Outcome> {
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome::new(seed);
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut life = 0;
    while outcome.of("rounds") < all_rounds {
        let dir =
            tempfile::Builder::new().prefix("lanelog-kill-").tempdir_in(&parent).context("can't make a directory")?;
        let mut reign = Reign {
            dir: dir.path().join("queue"),
            evidence: args.evidence.then(|| dir.path().join("before")),
            ledger: Ledger::default(),
            segment_bytes: rng.pick(4_096, &[16 << 10, 64 << 10]),
            life,
        };
        let rounds = (5 + rng.below(60)).min(all_rounds - outcome.of("rounds"));
        for _ in 0..rounds {
            reign.live_and_die(&mut rng, stop, &mut outcome)?;
            outcome.count("rounds", 1);
            if !reign.ledger.violations.is_empty() {
                break;
            }
        }
        if reign.ledger.violations.is_empty() {
            reign.drain(&mut rng, stop)?;
            outcome.count("queues", 1);
        }
        life = reign.life;
        outcome.add(&reign.ledger.counts);
        if !reign.ledger.violations.is_empty() {
            let kept = dir.keep();
            outcome.broken(reign.ledger.violations, &format!("seed {seed}, life {life}"), Some(&kept));
            break;
        }
    }
    Ok(outcome)
}

/// One queue, over all the lives that work on it.
struct Reign {
    dir: PathBuf,
    /// Where the directory is kept as the life that runs found it, if it is.
    evidence: Option<PathBuf>,
    ledger: Ledger,
    segment_bytes: u64,
    life: u64,
}

impl Reign {
    fn live_and_die(&mut self, rng: &mut Rng, stop: &Stop, outcome: &mut Outcome) -> Result<()> {
        self.life += 1;
        let mut args = plain(&self.dir, self.life, rng.next(), self.segment_bytes, Then::Work);
        // By reports, it dies amid its work however slow the machine is; by time, in recovery as well.
        let mut enough = match rng.below(8) {
            0 | 1 => Enough::Time(Duration::from_micros(rng.below(20_000))),
            2 => Enough::Reports(1 + rng.below(60)),
            _ => Enough::Reports(20 + rng.below(700)),
        };
        if rng.chance(1, 16) {
            args.calls = 1 + rng.below(200);
            enough = if rng.chance(1, 2) { Enough::End } else { Enough::Reports(10 + rng.below(1_000)) };
        }
        self.keep_evidence()?;
        let mut worker = Worker::start(&args, stop)?;
        let ledger = &mut self.ledger;
        worker.hear(enough, |report| ledger.feed(&report))?;
        if matches!(enough, Enough::End) {
            worker.end(|report| ledger.feed(&report))?;
            outcome.count("closes", 1);
        } else {
            worker.kill(|report| ledger.feed(&report))?;
            outcome.count("kills", 1);
        }
        if self.ledger.counts.syncs_failed > 0 {
            self.ledger.violations.push("a call failed on a disk that works".to_owned());
        }
        Ok(())
    }

    fn keep_evidence(&self) -> Result<()> {
        let Some(to) = self.evidence.as_ref().filter(|_| self.dir.exists()) else { return Ok(()) };
        if to.exists() {
            std::fs::remove_dir_all(to)?;
        }
        std::fs::create_dir(to)?;
        for file in std::fs::read_dir(&self.dir)? {
            let file = file?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
        Ok(())
    }

    /// The end of a queue: everything that it holds is delivered, once, in order.
    fn drain(&mut self, rng: &mut Rng, stop: &Stop) -> Result<()> {
        self.life += 1;
        let args = plain(&self.dir, self.life, rng.next(), self.segment_bytes, Then::Drain);
        self.keep_evidence()?;
        let mut worker = Worker::start(&args, stop)?;
        let ledger = &mut self.ledger;
        let mut drained = false;
        let mut feed = |report: crate::report::Report| {
            drained |= report.said == crate::report::Said::Drained;
            ledger.feed(&report);
        };
        worker.hear(Enough::End, &mut feed)?;
        worker.end(&mut feed)?;
        if !drained {
            self.ledger.violations.push("the queue could not be drained".to_owned());
        }
        Ok(())
    }
}
