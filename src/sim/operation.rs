//! What a schedule does to a queue, step by step. An operation carries all its choices, so that a schedule from which
//! others were taken out still means the same.

use std::fmt;

use super::disk::Loss;
use super::rng::Choices;
use super::schedule::{Keyed, Setting};
use crate::engine::hand::Move;

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
    /// Tasks over the lanes and settles of one group's loans, wholly or not at all. `stands`: whoever does it stands still
    /// after one of its steps, while others commit, until the process dies.
    Transaction {
        lane: u8,
        tasks: u8,
        bytes: u16,
        group: u8,
        pick: u8,
        settles: u8,
        how: How,
        power: bool,
        stands: Option<Stands>,
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
    Recycle,
    Prepare,
    /// The clocks move; the wall clock may go back.
    Clock {
        boot_ms: u32,
        wall_ms: i32,
    },
    Tick,
    /// The kernel writes sectors back by itself.
    WriteBack,
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

impl Op {
    /// A step as a queue in use sees it, with or without keys and workers.
    pub(crate) fn draw_for<R: Choices>(rng: &mut R, setting: Setting) -> Op {
        let plain = match setting.keyed {
            Keyed::No => true,
            Keyed::Keys => !rng.once_in(3),
            // A bucket that moves takes two workers, two keys, and loans of both.
            Keyed::Sticky => rng.once_in(3),
        };
        if plain {
            return Op::draw(rng, setting.lanes, setting.bulky);
        }
        let (group, name) = (small(rng, 4), small(rng, 3));
        match rng.below(16) {
            0..=5 => Op::Keyed {
                lane: small(rng, setting.lanes),
                bytes: u16::try_from(rng.below(if setting.bulky { 700 } else { 60 })).unwrap_or(0),
                key: small(rng, 4),
                power: rng.once_in(3),
            },
            6 | 7 => Op::Enlist { group, name },
            8 | 9 => Op::Beat { group, name },
            10 => Op::Dismiss { group, name },
            11 => Op::Clock { boot_ms: 120, wall_ms: 120 },
            _ => Op::Work {
                group,
                name,
                tasks: 1 + small(rng, 5),
                lane: rng.once_in(4).then(|| small(rng, setting.lanes)),
                lease_ms: if rng.once_in(4) { 20 } else { 900 },
            },
        }
    }

    /// A step as a queue in use sees it; `bulky`: with payloads of which a segment holds a few, most of them acked soon.
    pub(crate) fn draw<R: Choices>(rng: &mut R, lanes: u8, bulky: bool) -> Op {
        let lane = |rng: &mut R| small(rng, lanes);
        let (often, seldom) = if bulky { (950, 200) } else { (60, 560) };
        let bytes = |rng: &mut R| if rng.once_in(4) { rng.below(seldom) } else { rng.below(often) };
        let bytes = |rng: &mut R| u16::try_from(bytes(rng)).unwrap_or(0);
        let acks_all = bulky && rng.once_in(6);
        let pauses = rng.once_in(24);
        match rng.below(78) {
            _ if pauses => Op::Pause {
                lane: rng.once_in(2).then(|| small(rng, lanes)),
                group: small(rng, 8),
                resume: rng.once_in(2),
                power: rng.once_in(2),
            },
            _ if acks_all => {
                Op::Settle { group: small(rng, 8), pick: 1, count: 40, how: How::Ack, power: rng.once_in(2) }
            }
            0..=13 => Op::Enqueue { lane: lane(rng), bytes: bytes(rng), power: rng.once_in(2) },
            14..=18 => Op::Batch {
                lane: lane(rng),
                tasks: 2 + small(rng, 5),
                bytes: bytes(rng),
                power: rng.once_in(2),
                wait: rng.once_in(2),
            },
            19 => Op::Stall { lane: lane(rng), bytes: bytes(rng), filled: rng.once_in(2) },
            20 => Op::GoOn,
            21..=28 => Op::Reserve {
                group: small(rng, 8),
                tasks: 1 + small(rng, 6),
                lane: rng.once_in(4).then(|| small(rng, lanes)),
                lease_ms: if rng.once_in(3) { 20 } else { 500 },
                consumer: small(rng, 3),
            },
            29..=43 => Op::Settle {
                group: small(rng, 8),
                pick: small(rng, 255),
                count: if rng.once_in(2) { 1 } else { 1 + small(rng, 6) },
                how: How::draw(rng),
                power: rng.once_in(2),
            },
            44 => Op::Leave { group: small(rng, 8), consumer: small(rng, 3) },
            45 | 56 if bulky => Op::Sweep { group: small(rng, 8) },
            45 => Op::Sweep { group: small(rng, 8) },
            46 => Op::CreateGroup { newest: rng.once_in(2), power: rng.once_in(2) },
            47 => Op::Commit { lane: (!rng.once_in(3)).then(|| small(rng, lanes)) },
            48 | 49 => Op::SyncAll,
            50 => Op::MarkIdle,
            51 => Op::Footers,
            52..=54 => Op::Checkpoint,
            55 => Op::Recycle,
            56 => Op::Prepare,
            57 | 58 => Op::Clock {
                boot_ms: u32::try_from(rng.below(700)).unwrap_or(0),
                wall_ms: i32::try_from(rng.below(1400)).unwrap_or(0) - if rng.once_in(2) { 700 } else { 0 },
            },
            59 | 60 => Op::Tick,
            61 | 62 => Op::WriteBack,
            63 => Op::Reopen,
            64..=66 => Op::Special {
                lane: lane(rng),
                bytes: bytes(rng),
                power: rng.once_in(2),
                delay_ms: if rng.once_in(3) { 0 } else { u16::try_from(1 + rng.below(DELAY_MS_MAX)).unwrap_or(1) },
                ttl_ms: if rng.once_in(2) {
                    0
                } else {
                    u32::try_from(DELAY_MS_MAX + 1 + rng.below(4_000)).unwrap_or(1)
                },
                attempts: small(rng, 4),
            },
            67 | 68 => Op::Park { group: small(rng, 8), pick: small(rng, 255) },
            69..=71 => Op::Shelf {
                group: small(rng, 8),
                pick: small(rng, 255),
                how: [Move::Redrive, Move::Kick, Move::Drop][usize::from(small(rng, 3))],
                power: rng.once_in(2),
            },
            72 => Op::Cancel { pick: small(rng, 255), power: rng.once_in(2) },
            73 if rng.once_in(3) => Op::Purge { lane: lane(rng), power: rng.once_in(2) },
            73 => Op::Cancel { pick: small(rng, 255), power: rng.once_in(2) },
            number @ 74.. => Op::Transaction {
                lane: lane(rng),
                tasks: small(rng, 4),
                bytes: bytes(rng),
                group: small(rng, 8),
                pick: small(rng, 255),
                settles: small(rng, 4),
                how: How::draw(rng),
                power: rng.once_in(2),
                stands: (number == 77).then(|| Stands { step: small(rng, 6), commits: small(rng, 8) }),
            },
        }
    }
}

impl How {
    fn draw(rng: &mut impl Choices) -> How {
        match rng.below(16) {
            0 => How::Nack { delay_ms: if rng.once_in(2) { 0 } else { 15 } },
            1 => How::Backoff,
            2 | 3 => How::Release,
            4 if rng.once_in(3) => How::Park,
            4 => How::Reject,
            5 => How::Extend { lease_ms: 700 },
            _ => How::Ack,
        }
    }
}

/// The longest delay that a task asks for.
pub(super) const DELAY_MS_MAX: u64 = 3_000;

/// A small number below `bound`.
pub(super) fn small(rng: &mut impl Choices, bound: u8) -> u8 {
    u8::try_from(rng.below(u64::from(bound.max(1)))).unwrap_or(0)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn at(power: bool) -> &'static str {
            if power { "Power" } else { "Process" }
        }
        match *self {
            Op::Enqueue { lane, bytes, power } => write!(f, "enqueue {bytes} bytes into lane {lane} at {}", at(power)),
            Op::Special { lane, bytes, power, delay_ms, ttl_ms, attempts } => write!(
                f,
                "enqueue {bytes} bytes into lane {lane} at {}, delay {delay_ms} ms, to live {ttl_ms} ms, {attempts} attempts",
                at(power)
            ),
            Op::Park { group, pick } => write!(f, "group {group} parks task {pick}"),
            Op::Shelf { group, pick, how, power } => {
                write!(f, "group {group}: {how:?} dead letter {pick} at {}", at(power))
            }
            Op::Cancel { pick, power } => write!(f, "cancel task {pick} at {}", at(power)),
            Op::Purge { lane, power } => write!(f, "purge lane {lane} at {}", at(power)),
            Op::Batch { lane, tasks, bytes, power, wait } => {
                let waits = if wait { ", wait" } else { "" };
                write!(f, "enqueue a batch of {tasks} of up to {bytes} bytes into lane {lane} at {}{waits}", at(power))
            }
            Op::Stall { lane, bytes, filled } => {
                let how = if filled { "and half filled" } else { "and not filled" };
                write!(f, "a producer stands still in lane {lane}, {bytes} bytes claimed {how}")
            }
            Op::GoOn => write!(f, "producers that stand still go on"),
            Op::Reserve { group, tasks, lane, lease_ms, consumer } => {
                let from = lane.map_or_else(String::new, |lane| format!(" from lane {lane}"));
                write!(f, "consumer {consumer} of group {group} reserves {tasks}{from} for {lease_ms} ms")
            }
            Op::Settle { group, pick, count, how, power } => {
                write!(f, "group {group} settles {count} from loan {pick} on: {how:?} at {}", at(power))
            }
            Op::Keyed { lane, bytes, key, power } => {
                write!(f, "enqueue {bytes} bytes with key {key} into lane {lane} at {}", at(power))
            }
            Op::Enlist { group, name } => write!(f, "worker {name} of group {group} registers"),
            Op::Beat { group, name } => write!(f, "worker {name} of group {group} lives"),
            Op::Work { group, name, tasks, lane, lease_ms } => {
                let from = lane.map_or_else(String::new, |lane| format!(" from lane {lane}"));
                write!(f, "worker {name} of group {group} reserves {tasks}{from} for {lease_ms} ms")
            }
            Op::Dismiss { group, name } => write!(f, "worker {name} of group {group} goes"),
            Op::Transaction { lane, tasks, bytes, group, pick, settles, how, power, stands } => {
                write!(
                    f,
                    "a transaction enqueues {tasks} tasks of {bytes} bytes from lane {lane} on, and settles {settles} of"
                )?;
                write!(f, " group {group} from loan {pick} on: {how:?} at {}", at(power))?;
                match stands {
                    Some(Stands { step, commits }) => {
                        write!(f, "; it stands still after step {step}, commits {commits:b}")
                    }
                    None => Ok(()),
                }
            }
            Op::Leave { group, consumer } => write!(f, "consumer {consumer} of group {group} leaves"),
            Op::Sweep { group } => write!(f, "group {group} takes everything that waits"),
            Op::CreateGroup { newest, power } => {
                let from = if newest { "newest" } else { "oldest" };
                write!(f, "create a group from the {from} task on at {}", at(power))
            }
            Op::Pause { lane, group, resume, power } => {
                let how = if resume { "resume" } else { "pause" };
                match lane {
                    Some(lane) => write!(f, "{how} lane {lane} at {}", at(power)),
                    None => write!(f, "{how} group {group} at {}", at(power)),
                }
            }
            Op::Commit { lane: Some(lane) } => write!(f, "commit lane {lane}"),
            Op::Commit { lane: None } => write!(f, "commit the journal"),
            Op::Clock { boot_ms, wall_ms } => write!(f, "clocks move: boot {boot_ms} ms, wall {wall_ms} ms"),
            Op::SyncAll | Op::MarkIdle | Op::Footers | Op::Checkpoint | Op::Recycle | Op::Prepare => {
                write!(f, "{self:?}")
            }
            Op::Tick => write!(f, "tick"),
            Op::WriteBack => write!(f, "the kernel writes back"),
            Op::Reopen => write!(f, "close cleanly and open"),
        }
    }
}
