//! The wider workload through several crashes in a row, each at a random operation or between two steps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::wide::{Next, Wide, options};
use crate::engine::Engine;
use crate::engine::recovery::{self, Given};
use crate::error::Error;
use crate::sim::{Loss, SimDisk};
use crate::types::Now;

const CRASHES: u32 = 4;

pub(super) fn open(disk: &SimDisk, now: Now) -> Result<Engine, Error> {
    let given = Given { resolve: &|_| Ok(options()), fail_on_damage: false };
    recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, now)
}

/// Steps until the machine stops or `steps` are done.
fn work(disk: &SimDisk, wide: &mut Wide, steps: u64) {
    let Ok(mut engine) = open(disk, wide.now) else {
        assert!(disk.has_crashed(), "an open fails only where the machine stops");
        return;
    };
    for _ in 0..steps {
        // An error that the engine may pass over hides the crash; what is stored after it is nobody's.
        if disk.has_crashed() {
            return;
        }
        match wide.step(&engine) {
            Ok(Next::Step) => {}
            Ok(Next::Reopen) => {
                drop(engine);
                match open(disk, wide.now) {
                    Ok(opened) => engine = opened,
                    Err(error) => {
                        assert!(disk.has_crashed(), "an open fails only where the machine stops: {error}");
                        return;
                    }
                }
            }
            Err(error) => {
                assert!(disk.has_crashed(), "a step fails only where the machine stops: {error}");
                return;
            }
        }
    }
}

fn recover(disk: &SimDisk, wide: &mut Wide, loss: Loss) -> SimDisk {
    let mut disk = disk.restart(loss);
    for _ in 0..3 {
        disk.crash_at(disk.operations() + wide.rng.below(60));
        if open(&disk, wide.now).is_ok() {
            break;
        }
        assert!(disk.has_crashed(), "recovery fails only where the machine stops");
        disk = disk.restart(loss);
    }
    let disk = disk.restart(Loss::Process);
    open(&disk, wide.now).expect("recovery ends");
    wide.check(&disk, loss);
    disk.restart(Loss::Process)
}

fn run(seed: u64, ack_runs: bool) -> Wide {
    let mut disk = SimDisk::new(seed);
    let mut wide = Wide::new(seed);
    wide.ack_runs = ack_runs;
    for _ in 0..CRASHES {
        let within = 1 + wide.rng.below(250);
        if !wide.rng.once_in(4) {
            disk.crash_at(disk.operations() + within);
        }
        let steps = 20 + wide.rng.below(150);
        work(&disk, &mut wide, steps);
        let loss = if wide.rng.once_in(2) { Loss::Process } else { Loss::Power };
        disk = recover(&disk, &mut wide, loss);
    }
    wide
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let from = number("LANELOG_SEED").unwrap_or(0);
    from..from + number("LANELOG_SEEDS").map_or(default, |seeds: u64| (seeds * 20).max(1))
}

fn run_all(default: u64, ack_runs: bool) {
    let mut failed = Vec::new();
    let (mut seen, mut buried, mut closes) = (0, 0, 0);
    for seed in seeds(default) {
        match catch_unwind(AssertUnwindSafe(|| run(seed, ack_runs))) {
            Ok(wide) => {
                seen += wide.seen;
                buried += wide.buried;
                closes += wide.closes;
            }
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "{} seeds: {failed:?}", failed.len());
    assert!(
        seen > 20 * default && buried > 0 && closes > default / 2,
        "{seen}, {buried}, {closes}: something to check"
    );
}

#[test]
fn several_groups_through_several_crashes_keep_every_promise() {
    run_all(150, false);
}

#[test]
fn batches_of_acks_through_several_crashes_keep_every_promise() {
    run_all(150, true);
}
