//! What a schedule's steps are drawn from.

use super::super::once::IDS;
use super::{Choices, DELAY_MS_MAX, Fault, How, Keyed, Load, Move, Op, Setting, Stands, small};
use crate::types::Beyond;

impl Op {
    /// A step as a queue in use sees it, with or without keys and workers.
    pub(crate) fn draw_for<R: Choices>(rng: &mut R, setting: Setting) -> Op {
        if rng.once_in(9) {
            return Op::draw_once(rng, setting.lanes);
        }
        let plain = match setting.keyed {
            Keyed::No => true,
            Keyed::Keys => !rng.once_in(3),
            // A bucket that moves takes two workers, two keys, and loans of both.
            Keyed::Sticky => rng.once_in(3),
        };
        if setting.load == Load::Turning && !rng.once_in(12) {
            return Op::draw_turning(rng, setting.lanes);
        }
        if setting.load == Load::Sparse && rng.once_in(2) {
            return Op::draw_sparse(rng, setting.lanes);
        }
        if plain {
            return Op::draw(rng, setting.lanes, setting.load);
        }
        let (group, name) = (small(rng, 4), small(rng, 3));
        match rng.below(16) {
            0..=5 => Op::Keyed {
                lane: small(rng, setting.lanes),
                bytes: u16::try_from(rng.below(if setting.load == Load::Bulky { 700 } else { 60 })).unwrap_or(0),
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

    fn draw_once<R: Choices>(rng: &mut R, lanes: u8) -> Op {
        let window_ms = match rng.below(4) {
            0 => 1 + rng.below(30),
            1 => 1 + rng.below(1_500),
            2 => 100_000,
            _ => 0,
        };
        let bytes_most = if rng.once_in(3) { 700 } else { 60 };
        Op::Once {
            lane: small(rng, lanes),
            tasks: if rng.once_in(3) { 2 + small(rng, 5) } else { 1 },
            bytes: u16::try_from(rng.below(bytes_most)).unwrap_or(0),
            id: small(rng, IDS),
            window_ms: u32::try_from(window_ms).unwrap_or(0),
            power: rng.once_in(2),
            wait: !rng.once_in(3),
        }
    }

    /// A step of a queue whose tasks are done as soon as they come: one lane fills segment after segment.
    fn draw_turning<R: Choices>(rng: &mut R, lanes: u8) -> Op {
        let (lane, bytes) = (if rng.once_in(6) { small(rng, lanes) } else { 0 }, 400);
        match rng.below(16) {
            0..=3 => Op::Enqueue { lane, bytes, power: rng.once_in(6) },
            4..=7 => Op::Batch { lane, tasks: 2 + small(rng, 5), bytes, power: rng.once_in(6), wait: rng.once_in(2) },
            8 | 9 => Op::Reserve { group: 0, tasks: 16, lane: None, lease_ms: 500, consumer: 0 },
            10..=12 => Op::Settle { group: 0, pick: 1, count: 40, how: How::Ack, power: rng.once_in(2) },
            13 | 14 => Self::draw_checkpoint(rng),
            _ => Op::Prepare,
        }
    }

    /// A step of a queue in which a few tasks stay and most are soon done.
    fn draw_sparse<R: Choices>(rng: &mut R, lanes: u8) -> Op {
        match rng.below(12) {
            0..=2 => {
                Op::Thin { lane: small(rng, lanes), group: small(rng, 8), how: How::draw(rng), power: rng.once_in(2) }
            }
            3..=6 => Op::Evacuate,
            7..=9 => Self::draw_checkpoint(rng),
            10 => Op::Recycle,
            _ => Op::Reopen,
        }
    }

    fn draw_settle<R: Choices>(rng: &mut R) -> Op {
        let (group, pick) = (small(rng, 8), small(rng, 255));
        let count = if rng.once_in(2) { 1 } else { 1 + small(rng, 6) };
        let (how, power) = (How::draw(rng), rng.once_in(2));
        match how {
            How::Ack if count == 1 && pick % 3 == 1 => Op::AckAndReserve { group, pick, power },
            _ => Op::Settle { group, pick, count, how, power },
        }
    }

    /// A step as a queue in use sees it.
    pub(crate) fn draw<R: Choices>(rng: &mut R, lanes: u8, load: Load) -> Op {
        let bulky = load == Load::Bulky;
        let lane = |rng: &mut R| small(rng, lanes);
        let (often, seldom) = if bulky { (950, 200) } else { (60, 560) };
        let bytes = |rng: &mut R| if rng.once_in(4) { rng.below(seldom) } else { rng.below(often) };
        let bytes = |rng: &mut R| u16::try_from(bytes(rng)).unwrap_or(0);
        let acks_all = bulky && rng.once_in(6);
        let pauses = rng.once_in(24);
        match rng.below(80) {
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
            29..=43 => Self::draw_settle(rng),
            44 => Op::Leave { group: small(rng, 8), consumer: small(rng, 3) },
            45 | 56 if bulky => Op::Sweep { group: small(rng, 8) },
            45 => Op::Sweep { group: small(rng, 8) },
            46 => Self::draw_group(rng),
            47 => Op::Commit { lane: (!rng.once_in(3)).then(|| small(rng, lanes)) },
            48 | 49 => Op::SyncAll,
            50 => Op::MarkIdle,
            51 => Op::Footers,
            52..=54 => Self::draw_checkpoint(rng),
            55 => Op::Recycle,
            56 => Op::Prepare,
            57 | 58 => Op::Clock {
                boot_ms: u32::try_from(rng.below(700)).unwrap_or(0),
                wall_ms: i32::try_from(rng.below(1400)).unwrap_or(0) - if rng.once_in(2) { 700 } else { 0 },
            },
            59 | 60 => Op::Tick,
            61 | 62 => Op::WriteBack,
            63 => Op::Reopen,
            64 => Self::draw_group(rng),
            65 => Op::Evacuate,
            66 if rng.once_in(2) => Self::draw_snapshot(rng),
            _ => Self::draw_asking(rng, lanes, bytes),
        }
    }

    fn draw_checkpoint<R: Choices>(rng: &mut R) -> Op {
        if rng.once_in(5) {
            return Op::Checkpoint;
        }
        Op::Portions { seed: u32::try_from(rng.next() >> 32).unwrap_or(0), meanwhile: 1 + small(rng, 40) }
    }

    /// A step that others take between two portions of a checkpoint: what changes no list of groups, and often what takes back
    /// what one portion saw before the next one, or fills and settles a life.
    pub(crate) fn draw_between<R: Choices>(rng: &mut R, setting: Setting) -> Op {
        let (group, lane, power) = (small(rng, 8), small(rng, setting.lanes), rng.once_in(12));
        match rng.below(12) {
            0 | 1 => Op::Shelf { group, pick: small(rng, 255), how: Move::Drop, power },
            2 => Op::Cancel { pick: small(rng, 255), power },
            3 => Op::Purge { lane, power },
            4 => Op::Settle { group, pick: 1, count: 40, how: How::draw(rng), power },
            5 | 6 => {
                let (tasks, bytes, id) = (1 + small(rng, 2), 600, small(rng, IDS));
                Op::Once { lane, tasks, bytes, id, window_ms: 100_000, power, wait: power }
            }
            7 => Op::Batch { lane, tasks: 4, bytes: 900, power, wait: false },
            8 => Op::Reserve { group, tasks: 6, lane: None, lease_ms: 500, consumer: small(rng, 3) },
            _ => match Op::draw_meanwhile(rng, setting) {
                Op::CreateGroup { .. } | Op::RemoveGroup { .. } => Op::Tick,
                other => other,
            },
        }
    }

    fn draw_snapshot<R: Choices>(rng: &mut R) -> Op {
        let seed = u32::try_from(rng.next() >> 32).unwrap_or(0);
        let meanwhile = if rng.once_in(3) { 0 } else { 4 + small(rng, 40) };
        let (mut fault, mut stops) = (None, None);
        match rng.below(6) {
            0 => stops = Some(small(rng, 60)),
            1 => fault = Some(Fault::Space { bytes: u32::try_from(rng.below(30 << 10)).unwrap_or(0) }),
            2 => fault = Some(Fault::Fails { call: rng.below(40), choice: small(rng, 12), onwards: rng.once_in(2) }),
            _ => {}
        }
        Op::Snapshot { seed, meanwhile, fault, stops }
    }

    /// A step that others take while a snapshot is copied, or a checkpoint gathered: what needs no checkpoint, and often what makes much of a log durable
    /// and final.
    pub(crate) fn draw_meanwhile<R: Choices>(rng: &mut R, setting: Setting) -> Op {
        let lane = small(rng, setting.lanes);
        match rng.below(12) {
            0 => Op::Batch { lane, tasks: 2 + small(rng, 5), bytes: 900, power: rng.once_in(2), wait: rng.once_in(2) },
            1 => Op::SyncAll,
            2 => Op::Footers,
            3 => Op::MarkIdle,
            4 => Op::Stall { lane, bytes: 100, filled: rng.once_in(2) },
            5 => Op::GoOn,
            6 | 7 => {
                let (tasks, settles, how) = (2 + small(rng, 3), small(rng, 3), How::draw(rng));
                let (bytes, pick, power) = (300, small(rng, 255), rng.once_in(2));
                Op::Transaction { lane, tasks, bytes, id: None, group: 0, pick, settles, how, power, stands: None }
            }
            _ => match Op::draw_for(rng, setting) {
                Op::Checkpoint | Op::Portions { .. } => Op::Tick,
                Op::Reopen | Op::Evacuate | Op::Snapshot { .. } | Op::Thin { .. } => Op::Tick,
                Op::Transaction { stands: Some(_), .. } => Op::GoOn,
                other => other,
            },
        }
    }

    /// What is done to groups.
    fn draw_group<R: Choices>(rng: &mut R) -> Op {
        match rng.below(8) {
            0..=3 => Op::CreateGroup { newest: rng.once_in(2), power: rng.once_in(2) },
            4 => Op::RemoveGroup { group: small(rng, 8), power: rng.once_in(2) },
            _ => Op::Retain {
                group: small(rng, 8),
                tasks: if rng.once_in(3) { 0 } else { 1 + small(rng, 12) },
                bytes: if rng.once_in(3) { 500 + u16::try_from(rng.below(6_000)).unwrap_or(0) } else { 0 },
                age_ms: if rng.once_in(3) { 1 + u16::try_from(rng.below(2_000)).unwrap_or(0) } else { 0 },
                policy: [Beyond::Drop, Beyond::Drop, Beyond::DeadLetter, Beyond::Report][usize::from(small(rng, 4))],
                power: rng.once_in(2),
            },
        }
    }

    /// Tasks that ask for something, what is done by hand, and transactions.
    fn draw_asking<R: Choices>(rng: &mut R, lanes: u8, bytes: impl Fn(&mut R) -> u16) -> Op {
        match rng.below(16) {
            0..=2 => Op::Special {
                lane: small(rng, lanes),
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
            3 | 4 => Op::Park { group: small(rng, 8), pick: small(rng, 255) },
            7 if rng.once_in(2) => {
                Op::Move { group: small(rng, 8), pick: small(rng, 255), lane: small(rng, lanes), power: rng.once_in(2) }
            }
            5..=7 => Op::Shelf {
                group: small(rng, 8),
                pick: small(rng, 255),
                how: [Move::Redrive, Move::Kick, Move::Drop][usize::from(small(rng, 3))],
                power: rng.once_in(2),
            },
            8 => Op::Cancel { pick: small(rng, 255), power: rng.once_in(2) },
            9 if rng.once_in(3) => Op::Purge { lane: small(rng, lanes), power: rng.once_in(2) },
            9 => Op::Cancel { pick: small(rng, 255), power: rng.once_in(2) },
            14 | 15 => Op::Later {
                lane: small(rng, lanes),
                tasks: 2 + small(rng, 6),
                delay_ms: 200 + u16::try_from(rng.below(1_600)).unwrap_or(0),
                step_ms: u16::try_from(rng.below(150)).unwrap_or(0),
                power: rng.once_in(3),
            },
            number @ 10.. => Op::Transaction {
                lane: small(rng, lanes),
                tasks: small(rng, 4),
                bytes: bytes(rng),
                group: small(rng, 8),
                pick: small(rng, 255),
                settles: small(rng, 4),
                how: How::draw(rng),
                power: rng.once_in(2),
                id: rng.once_in(2).then(|| small(rng, IDS)),
                stands: (number == 13).then(|| Stands { step: small(rng, 6), commits: small(rng, 8) }),
            },
        }
    }
}

impl How {
    pub(crate) fn draw(rng: &mut impl Choices) -> How {
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
