//! What a schedule does to a queue, step by step. An operation carries all its choices, so that a schedule from which
//! others were taken out still means the same.

mod draw;
mod told;

use super::disk::Loss;
use super::rng::Choices;
use super::schedule::{Keyed, Load, Setting};
use crate::engine::hand::Move;
use crate::types::Beyond;

/// One step of a workload. Numbers that pick something are taken modulo what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Enqueue {
        lane: u8,
        bytes: u16,
        power: bool,
    },
    /// A task that asks for something: 0 is not asked.
    Special {
        lane: u8,
        bytes: u16,
        power: bool,
        delay_ms: u16,
        ttl_ms: u32,
        attempts: u8,
    },
    /// Tasks one by one, each with a delay of its own: the first of `delay_ms`, others of up to some `step_ms` more.
    Later {
        lane: u8,
        tasks: u8,
        delay_ms: u16,
        step_ms: u16,
        power: bool,
    },
    /// `wait`: until it is durable.
    Batch {
        lane: u8,
        tasks: u8,
        bytes: u16,
        power: bool,
        wait: bool,
    },
    /// Claims room and stops there, as a producer that is killed, or just slow; `filled`: it wrote part of its task.
    Stall {
        lane: u8,
        bytes: u16,
        filled: bool,
    },
    /// Producers that stand still go on: one that had filled publishes its task, else the claim becomes padding.
    GoOn,
    Reserve {
        group: u8,
        tasks: u8,
        lane: Option<u8>,
        lease_ms: u16,
        consumer: u8,
    },
    Settle {
        group: u8,
        pick: u8,
        count: u8,
        how: How,
        power: bool,
    },
    /// One task is acked and the next one taken, in one step.
    AckAndReserve {
        group: u8,
        pick: u8,
        power: bool,
    },
    /// A task that waits is set aside.
    Park {
        group: u8,
        pick: u8,
    },
    /// Something is done to a dead letter, or to what is parked.
    Shelf {
        group: u8,
        pick: u8,
        how: Move,
        power: bool,
    },
    /// A task is not to be done any more, in any group.
    Cancel {
        pick: u8,
        power: bool,
    },
    /// Nothing that a lane holds is to be done any more.
    Purge {
        lane: u8,
        power: bool,
    },
    /// A task with one of a few keys.
    Keyed {
        lane: u8,
        bytes: u16,
        key: u8,
        power: bool,
    },
    /// A task with one of a few dedup ids, or a batch of such; 0 ms: until the first one is settled. `wait`: until all of
    /// it is durable.
    Once {
        lane: u8,
        tasks: u8,
        bytes: u16,
        id: u8,
        window_ms: u32,
        power: bool,
        wait: bool,
    },
    /// A worker registers, in place of whoever had its name.
    Enlist {
        group: u8,
        name: u8,
    },
    Beat {
        group: u8,
        name: u8,
    },
    /// A worker reserves.
    Work {
        group: u8,
        name: u8,
        tasks: u8,
        lane: Option<u8>,
        lease_ms: u16,
    },
    /// A worker goes and gives back what it holds.
    Dismiss {
        group: u8,
        name: u8,
    },
    /// Tasks over the lanes and settles of one group's loans, wholly or not at all; some tasks have dedup ids from `id` on, if
    /// there is one, of which some may be the same. `stands`: whoever does it stands still after one of its steps, while
    /// others commit, until the process dies.
    Transaction {
        lane: u8,
        tasks: u8,
        bytes: u16,
        id: Option<u8>,
        group: u8,
        pick: u8,
        settles: u8,
        how: How,
        power: bool,
        stands: Option<Stands>,
    },
    /// A dead letter becomes a new task of that lane, for its group alone.
    Move {
        group: u8,
        pick: u8,
        lane: u8,
        power: bool,
    },
    /// A sync of a file fails: the next one, or the one behind so many.
    FailSync {
        skipped: u8,
    },
    /// Fills segments of a lane and acks all that there is, but for a few tasks.
    Thin {
        lane: u8,
        group: u8,
        how: How,
        power: bool,
    },
    /// A consumer goes away and gives back what it holds.
    Leave {
        group: u8,
        consumer: u8,
    },
    /// Makes everything durable, lets all leases run out, and takes everything that waits: nobody may be passed over.
    Sweep {
        group: u8,
    },
    CreateGroup {
        newest: bool,
        power: bool,
    },
    RemoveGroup {
        group: u8,
        power: bool,
    },
    /// Sets what a group may have left to do; 0 is no bound. `policy`: what becomes of what is beyond.
    Retain {
        group: u8,
        tasks: u8,
        bytes: u16,
        age_ms: u16,
        policy: Beyond,
        power: bool,
    },
    /// Pauses a lane, or else a group, or takes that back.
    Pause {
        lane: Option<u8>,
        group: u8,
        resume: bool,
        power: bool,
    },
    /// A commit of one lane's log, or of the journal.
    Commit {
        lane: Option<u8>,
    },
    SyncAll,
    MarkIdle,
    Footers,
    Checkpoint,
    /// A checkpoint, between whose portions others take steps, up to `meanwhile`, that follow from `seed`.
    Portions {
        seed: u32,
        meanwhile: u8,
    },
    Recycle,
    /// Footers, then what lives of sparse lives moves.
    Evacuate,
    Prepare,
    /// The clocks move; the wall clock may go back.
    Clock {
        boot_ms: u32,
        wall_ms: i32,
    },
    Tick,
    /// The kernel writes sectors back by itself.
    WriteBack,
    /// A snapshot into a disk that follows from `seed`, as do the steps, up to `meanwhile`, that others take while it is copied;
    /// on that disk something fails, or the machine that has it stops before an operation.
    Snapshot {
        seed: u32,
        meanwhile: u8,
        fault: Option<Fault>,
        stops: Option<u8>,
    },
    /// A clean close, and an open.
    Reopen,
}

/// Where a transaction stands still, and which logs others commit meanwhile: a bit for the journal, and one for each lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stands {
    pub step: u8,
    pub commits: u8,
}

/// How leases end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Ack,
    Nack { delay_ms: u16 },
    Backoff,
    Release,
    Reject,
    Park,
    Extend { lease_ms: u16 },
}

/// How a stretch of work ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crash {
    /// Before which operation of the disk, counted from the start of the stretch; `None`: after the last step.
    pub at: Option<u64>,
    pub loss: Loss,
}

/// Something that goes wrong while the queue works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A call of the disk fails, counted from the start of the stretch, with one of the errors it can have.
    Fails { call: u64, choice: u8, onwards: bool },
    /// The first sync of a file from that call on fails.
    SyncFails { call: u64, choice: u8 },
    /// So many reads fail, behind so many others. An open reads the checkpoint first, of which much is there twice.
    ReadsFail { skipped: u8, times: u8 },
    /// The disk has only so many bytes left.
    Space { bytes: u32 },
}

/// Damage to a directory at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hurt {
    /// One bit of what is written flips: which file, and which of its bits in use.
    Flip { file: u32, bit: u32 },
    /// A segment of a lane ends before its records do.
    Cut { file: u32, bytes: u32 },
    /// A segment of a lane is gone.
    Remove { file: u32 },
    /// A segment is there twice, under two names.
    Double { file: u32 },
}

/// The longest delay that a task asks for.
pub(super) const DELAY_MS_MAX: u64 = 3_000;

/// A small number below `bound`.
pub(super) fn small(rng: &mut impl Choices, bound: u8) -> u8 {
    u8::try_from(rng.below(u64::from(bound.max(1)))).unwrap_or(0)
}
