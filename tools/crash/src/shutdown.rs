//! Loss of power by the file system's own hand: ext4's shutdown call, under a worker that goes on for a moment.
//!
//! It cuts the file system off its device: nothing that was not written back gets there any more, and every sync from
//! then on fails. What the worker was told before is promised as after a loss of power; what it was told after is either
//! in doubt, or at `Process`, which a power loss may take. The queue lives on over many cuts.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::block::{Disk, means};
use crate::child::{Enough, Stop, Worker, plain};
use crate::kernel;
use crate::ledger::Ledger;
use crate::outcome::{Outcome, Skipped};
use crate::report::{Report, Said};
use crate::rng::Rng;
use crate::worker::Then;

#[derive(Args, Clone, Debug)]
pub struct ShutdownArgs {
    /// Times to cut.
    #[arg(long, default_value_t = 50)]
    pub cuts: u64,
    /// Seed of all choices; a fresh one if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Negative control: the worker's syncs do nothing, and losses must be seen.
    #[arg(long)]
    pub syncs_off: bool,
}

pub fn run(args: &ShutdownArgs, seed: u64, stop: &Stop) -> Result<Outcome> {
    means(false)?;
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome::new(seed);
    outcome.losses_expected = args.syncs_off;
    let mut life = 0;
    while outcome.of("cuts") < args.cuts {
        let disk = Disk::in_memory()?;
        disk.make_file_system()?;
        let segment_bytes = rng.pick(4_096, &[16 << 10, 64 << 10]);
        let mut reign = Reign { disk, ledger: Ledger::default(), segment_bytes, life, syncs_off: false };
        // A queue that is there, whatever the cuts take.
        reign.live(Until::Closed, &mut rng, stop)?;
        reign.syncs_off = args.syncs_off;
        let cuts = (4 + rng.below(16)).min(args.cuts - outcome.of("cuts"));
        for _ in 0..cuts {
            reign.live(Until::Cut, &mut rng, stop)?;
            outcome.count("cuts", 1);
            if !reign.ledger.violations.is_empty() && !args.syncs_off {
                break;
            }
        }
        if args.syncs_off || reign.ledger.violations.is_empty() {
            reign.syncs_off = false;
            reign.live(Until::Drained, &mut rng, stop)?;
        }
        life = reign.life;
        outcome.add(&reign.ledger.counts);
        if !reign.ledger.violations.is_empty() {
            let kept = if args.syncs_off { None } else { Some(reign.disk.keep_file(&life.to_string())?) };
            outcome.broken(reign.ledger.violations, &format!("seed {seed}, life {life}"), kept.as_deref());
            if !args.syncs_off {
                break;
            }
        }
    }
    Ok(outcome)
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Closed,
    Cut,
    Drained,
}

/// A file system, over all the lives on it.
struct Reign {
    disk: Disk,
    ledger: Ledger,
    segment_bytes: u64,
    life: u64,
    syncs_off: bool,
}

impl Reign {
    fn live(&mut self, until: Until, rng: &mut Rng, stop: &Stop) -> Result<()> {
        self.life += 1;
        let mount = self.disk.mount()?;
        let then = if until == Until::Drained { Then::Drain } else { Then::Work };
        let mut args = plain(&mount.path().join("queue"), self.life, rng.next(), self.segment_bytes, then);
        args.calls = if until == Until::Closed { 80 } else { 0 };
        args.syncs_off = self.syncs_off;
        let mut worker = Worker::start(&args, stop)?;
        let ledger = &mut self.ledger;
        let mut ended_well = false;
        let mut feed = |report: Report| {
            ended_well |= matches!(report.said, Said::Drained | Said::Closed);
            ledger.feed(&report);
        };
        if until == Until::Cut {
            let enough = match rng.below(6) {
                0 => Enough::Time(Duration::from_micros(rng.below(20_000))),
                _ => Enough::Reports(20 + rng.below(500)),
            };
            worker.hear(enough, &mut feed)?;
            kernel::shut_down(&mount.path()).map_err(|error| Skipped(format!("ext4 can't be shut down: {error}")))?;
            ledger.device_lost();
            let mut feed = |report: Report| ledger.feed(&report);
            worker.hear(Enough::Time(Duration::from_micros(rng.below(20_000))), &mut feed)?;
            worker.kill(&mut feed)?;
            self.ledger.power_lost();
        } else {
            worker.hear(Enough::End, &mut feed)?;
            worker.end(&mut feed)?;
            if !ended_well {
                self.ledger.violations.push("a life on a sound file system did not end well".to_owned());
            }
        }
        mount.unmount().context("after a life")
    }
}
