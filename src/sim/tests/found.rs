//! The smallest schedules that showed a bug, each with what it was. The disk's choices are tried widely, because what a
//! schedule showed once depends on what happened to survive.

use crate::sim::disk::Loss;
use crate::sim::operation::{Crash, Fault, How, Hurt, Op, Stands};
use crate::sim::run::{Counts, run};
use crate::sim::schedule::{Keyed, Load, Order, Room, Schedule, Setting, Stretch};
use crate::types::Beyond;

mod delivery;
mod older_root;
mod recovery;

const SETTING: Setting = Setting::plain(8192);
const KILLED: Crash = Crash { at: None, loss: Loss::Process };
const POWERLESS: Crash = Crash { at: None, loss: Loss::Power };

fn stretch(ops: &[Op], crash: Crash) -> Stretch {
    Stretch { ops: ops.to_vec(), fault: None, crash, recoveries: Vec::new(), hindrance: None }
}

fn enqueue(lane: u8, bytes: u16, power: bool) -> Op {
    Op::Enqueue { lane, bytes, power }
}

fn batch(tasks: u8, bytes: u16, power: bool, wait: bool) -> Op {
    Op::Batch { lane: 0, tasks, bytes, power, wait }
}

fn reserve(tasks: u8) -> Op {
    Op::Reserve { group: 0, tasks, lane: None, lease_ms: 500, consumer: 0 }
}

fn settle(how: How, count: u8, power: bool) -> Op {
    Op::Settle { group: 0, pick: 1, count, how, power }
}

/// Runs the schedule with many of the disk's choices.
fn keeps_its_promises(disks: u64, stretches: &[Stretch], hurt: Option<Hurt>) {
    keeps_its_promises_in(SETTING, disks, stretches, hurt);
}

fn keeps_its_promises_in(setting: Setting, disks: u64, stretches: &[Stretch], hurt: Option<Hurt>) {
    for disk_seed in 0..disks {
        let stretches = stretches.to_vec();
        let schedule = Schedule { disk_seed, setting, stretches, hurt, hurt_unsealed: false };
        if let Err(violation) = run(&schedule, &mut Counts::default(), None) {
            panic!("{violation:?}\n{schedule}");
        }
    }
}
