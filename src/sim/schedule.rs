//! A schedule: everything that happens in one run, drawn from one seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::disk::Loss;
use super::operation::{Crash, Fault, How, Hurt, Op, small};
use super::rng::{Choices, Rng, Tape};
use crate::delivery::Priority;
use crate::engine::settings::store_priority;
use crate::format::meta::{StoredOptions, option};

/// One run from an empty directory to the last check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    /// What the disk's own choices follow from.
    pub disk_seed: u64,
    pub setting: Setting,
    pub stretches: Vec<Stretch>,
    /// What happens to the directory at rest, at the end.
    pub hurt: Option<Hurt>,
    /// Then the directory is one of a process that was killed after all it did was durable, and not one that a recovery
    /// sealed.
    pub hurt_unsealed: bool,
}

/// How the queue is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    pub lanes: u8,
    pub segment_bytes: u64,
    /// 0 is without limit.
    pub attempts_max: u32,
    pub pad_commits: bool,
    /// Expired tasks become dead letters.
    pub expired_are_dead: bool,
    pub load: Load,
    pub order: Order,
    pub room: Room,
    pub keyed: Keyed,
    /// The most dedup ids; 0 is the default.
    pub ids_max: u64,
    /// The most tasks on loan in all groups together; 0 is any number.
    pub loans_max: u64,
}

impl Default for Setting {
    fn default() -> Self {
        Setting::plain(4096)
    }
}

/// What the tasks are like, and what becomes of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    /// A segment holds many of them.
    Small,
    /// A segment holds a few of them, so that segments roll and are let go.
    Bulky,
    /// All of one size and soon acked, so that a file is used again, and its old records lie where new ones may begin.
    Turning,
    /// A few of them stay, and the rest is soon acked.
    Sparse,
}

/// Whether tasks have keys and consumers are workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keyed {
    No,
    Keys,
    /// And each key's tasks go to one worker.
    Sticky,
}

/// How much may wait; 0 is any amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub lane_tasks: u64,
    pub queue_bytes: u64,
}

impl Room {
    pub(crate) const ANY: Room = Room { lane_tasks: 0, queue_bytes: 0 };

    pub(crate) fn is_bounded(self) -> bool {
        self.lane_tasks > 0 || self.queue_bytes > 0
    }
}

/// How lanes are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Strict,
    /// By [`WEIGHTS`].
    Weighted,
    /// By urgency, but for lanes that waited longer than [`LONGEST_WAIT_MS`].
    Aging,
}

/// Of lane 0 and lane 1.
pub(crate) const WEIGHTS: [u16; 2] = [3, 2];
pub(crate) const LONGEST_WAIT_MS: u64 = 40;

impl Order {
    fn priority(self) -> Priority {
        match self {
            Order::Strict => Priority::Strict,
            Order::Weighted => Priority::Weighted(WEIGHTS.to_vec()),
            Order::Aging => Priority::Aging { longest_wait: Duration::from_millis(LONGEST_WAIT_MS) },
        }
    }
}

/// The work of one process, and how it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub ops: Vec<Op>,
    pub fault: Option<Fault>,
    pub crash: Crash,
    /// Crashes of the recoveries that follow, one inside the other.
    pub recoveries: Vec<Crash>,
    /// A recovery that meets a failing disk before one goes well.
    pub hindrance: Option<Fault>,
}

impl Setting {
    /// Two lanes and nothing special.
    pub(crate) const fn plain(segment_bytes: u64) -> Setting {
        Setting {
            lanes: 2,
            segment_bytes,
            attempts_max: 0,
            pad_commits: false,
            expired_are_dead: false,
            load: Load::Small,
            order: Order::Strict,
            room: Room::ANY,
            keyed: Keyed::No,
            ids_max: 0,
            loans_max: 0,
        }
    }

    pub(crate) fn options(self) -> StoredOptions {
        let mut further = BTreeMap::new();
        store_priority(&self.order.priority(), &mut further);
        further.insert(option::EXPIRED_ARE_DEAD, u64::from(self.expired_are_dead));
        further.insert(option::QUEUE_BYTES_MAX, self.room.queue_bytes);
        further.extend((0..u16::from(self.lanes)).map(|lane| (option::LANE_TASKS_MAX + lane, self.room.lane_tasks)));
        let mut options = StoredOptions {
            max_attempts: self.attempts_max,
            segment_bytes: self.segment_bytes,
            further,
            ..StoredOptions::tiny(u16::from(self.lanes))
        };
        if self.ids_max > 0 {
            options.further.insert(option::DEDUP_IDS_MAX, self.ids_max);
        }
        if self.loans_max > 0 {
            options.further.insert(option::QUEUE_IN_FLIGHT_MAX, self.loans_max);
        }
        if self.keyed == Keyed::Sticky {
            options.further.insert(option::STICKY, 1);
        }
        options
    }

    fn draw(rng: &mut impl Choices) -> Setting {
        let pad_commits = rng.once_in(16);
        let segment_bytes = if pad_commits { 32 << 10 } else { 4096 << rng.below(2) };
        let attempts_max = if rng.once_in(2) { 0 } else { 3 };
        let load = match rng.below(10) {
            0..=2 => Load::Bulky,
            3 => Load::Turning,
            4 => Load::Sparse,
            _ => Load::Small,
        };
        let (expired_are_dead, lanes) = (rng.once_in(2), 1 + u8::from(!rng.once_in(3)));
        let order = match rng.below(4) {
            0 => Order::Weighted,
            1 => Order::Aging,
            _ => Order::Strict,
        };
        let mut room = Room::ANY;
        if rng.once_in(4) {
            room.lane_tasks = 3 + rng.below(20);
            room.queue_bytes = if rng.once_in(2) { 0 } else { 1_000 + rng.below(6_000) };
        }
        let keyed = match rng.below(4) {
            0 => Keyed::Keys,
            1 => Keyed::Sticky,
            _ => Keyed::No,
        };
        let ids_max = if rng.once_in(4) { 2 + rng.below(4) } else { 0 };
        let loans_max = if rng.once_in(5) { 1 + rng.below(6) } else { 0 };
        let plain = Setting { lanes, attempts_max, pad_commits, expired_are_dead, ..Setting::plain(segment_bytes) };
        Setting { load, order, room, keyed, ids_max, loans_max, ..plain }
    }

    /// The same without a bound on what is on loan, for who takes all that waits.
    pub(super) fn lending_all(self) -> Setting {
        Setting { loans_max: 0, ..self }
    }
}

impl Schedule {
    /// The schedule of a seed.
    pub(crate) fn draw(seed: u64) -> Schedule {
        Self::draw_by(&mut Rng::new(seed))
    }

    /// The schedule whose choices are these bytes.
    pub(crate) fn of_tape(bytes: &[u8]) -> Schedule {
        Self::draw_by(&mut Tape(bytes))
    }

    fn draw_by<R: Choices>(rng: &mut R) -> Schedule {
        let setting = Setting::draw(rng);
        let stretches =
            (0..1 + rng.below(2) + u64::from(rng.once_in(4))).map(|_| Stretch::draw(rng, setting)).collect();
        let number = |rng: &mut R| u32::try_from(rng.next() >> 32).unwrap_or(0);
        let hurt = rng.once_in(4).then(|| match rng.below(8) {
            0..=4 => Hurt::Flip { file: number(rng), bit: number(rng) },
            5 => Hurt::Cut { file: number(rng), bytes: number(rng) },
            6 => Hurt::Remove { file: number(rng) },
            _ => Hurt::Double { file: number(rng) },
        });
        // Of a segment that no checkpoint knows yet nobody can tell that it is gone, or how long it was.
        let is_known = !matches!(hurt, Some(Hurt::Cut { .. } | Hurt::Remove { .. }));
        Schedule { disk_seed: rng.next(), setting, stretches, hurt, hurt_unsealed: is_known && rng.once_in(2) }
    }

    pub(crate) fn steps(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.ops.len()).sum()
    }
}

impl Stretch {
    fn draw(rng: &mut impl Choices, setting: Setting) -> Stretch {
        let most = if rng.once_in(4) { 60 } else { 16 };
        let count = 4 + rng.below(most);
        let mut ops: Vec<Op> = (0..count).map(|_| Op::draw_for(rng, setting)).collect();
        // A checkpoint whose sync fails, and a restart on what the cache shows of it, is rare enough by itself.
        if rng.once_in(3) {
            if rng.once_in(4) {
                ops.push(Op::FailSync { skipped: small(rng, 3) });
            }
            ops.push(Op::Checkpoint);
        }
        if setting.load == Load::Sparse && rng.once_in(2) {
            return Self::draw_moving(rng, setting, ops);
        }
        if matches!(setting.load, Load::Turning | Load::Bulky) && rng.once_in(3) {
            return Self::draw_letting_go(rng, setting, ops);
        }
        let fault = rng.once_in(4).then(|| draw_fault(rng, 4 * count));
        let at = (!rng.once_in(4)).then(|| rng.below(3 * count));
        let recoveries = if rng.once_in(2) { Vec::new() } else { (0..rng.below(5)).map(|_| inner(rng)).collect() };
        let hindrance = rng.once_in(6).then(|| match rng.once_in(3) {
            true => Fault::ReadsFail { skipped: small(rng, 12), times: 1 + small(rng, 3) },
            false => draw_fault(rng, 60),
        });
        Stretch { ops, fault, crash: Crash { at, loss: loss(rng) }, recoveries, hindrance }
    }

    /// What lives of a life moves between two checkpoints. Where the newest root can't be read then, the older one has to
    /// find what it knows.
    fn draw_moving(rng: &mut impl Choices, setting: Setting, mut ops: Vec<Op>) -> Stretch {
        ops.truncate(6);
        let lane = small(rng, setting.lanes);
        ops.push(Op::Thin { lane, group: small(rng, 8), how: How::draw(rng), power: !rng.once_in(4) });
        ops.extend([Op::Checkpoint, Op::Evacuate, Op::Checkpoint]);
        if rng.once_in(4) {
            ops.push(Op::Checkpoint);
        }
        let call = rng.below(40);
        let reads = Fault::Fails { call, choice: small(rng, 12), onwards: false };
        let hindrance = (!rng.once_in(3)).then_some(reads);
        Stretch { ops, fault: None, crash: Crash { at: None, loss: loss(rng) }, recoveries: Vec::new(), hindrance }
    }

    /// Tasks that were never synced are settled and let go between two checkpoints, while later ones are durable. Where the
    /// newest root can't be read then, the older one finds what a crash left of them.
    fn draw_letting_go<R: Choices>(rng: &mut R, setting: Setting, mut ops: Vec<Op>) -> Stretch {
        ops.truncate(8);
        let lane = small(rng, setting.lanes);
        let fill = |rng: &mut R, power| match rng.once_in(4) {
            true => Op::draw_for(rng, setting),
            false => Op::Batch { lane, tasks: 1 + small(rng, 4), bytes: 700, power, wait: power },
        };
        let checkpoint = |rng: &mut R| match rng.once_in(3) {
            true => Op::Portions { seed: u32::from(small(rng, u8::MAX)), meanwhile: small(rng, 8) },
            false => Op::Checkpoint,
        };
        for _ in 0..1 + rng.below(3) {
            ops.push(fill(rng, false));
        }
        ops.push(checkpoint(rng));
        for _ in 0..1 + rng.below(3) {
            for _ in 0..1 + rng.below(4) {
                ops.push(fill(rng, false));
            }
            ops.push(Op::Reserve { group: 0, tasks: 16, lane: None, lease_ms: 500, consumer: 0 });
            ops.push(Op::Settle { group: 0, pick: 1, count: 40, how: How::Ack, power: rng.once_in(2) });
        }
        ops.push(checkpoint(rng));
        // One commit says in a mark, which the next one makes durable, how far it came.
        ops.push(Op::Prepare);
        ops.extend((0..1 + rng.below(3)).map(|_| Op::Enqueue { lane, bytes: 40, power: true }));
        let recoveries = if rng.once_in(2) { Vec::new() } else { (0..1 + rng.below(2)).map(|_| inner(rng)).collect() };
        let hindrance = Some(Fault::ReadsFail { skipped: small(rng, 12), times: 1 + small(rng, 3) });
        Stretch { ops, fault: None, crash: Crash { at: None, loss: loss(rng) }, recoveries, hindrance }
    }
}

fn draw_fault(rng: &mut impl Choices, calls: u64) -> Fault {
    let (call, choice) = (rng.below(calls), small(rng, 12));
    match rng.below(8) {
        0 | 1 => Fault::Space { bytes: u32::try_from(rng.below(24 << 10)).unwrap_or(0) },
        // Syncs are a small part of all calls, and what they promise is what matters most.
        2 | 3 => Fault::SyncFails { call, choice },
        _ => Fault::Fails { call, choice, onwards: rng.once_in(4) },
    }
}

/// A crash inside a recovery, most of which take a few dozen operations.
fn inner(rng: &mut impl Choices) -> Crash {
    let most = if rng.once_in(2) { 12 } else { 50 };
    Crash { at: Some(rng.below(most)), loss: loss(rng) }
}

fn loss(rng: &mut impl Choices) -> Loss {
    if rng.once_in(3) { Loss::Process } else { Loss::Power }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}, disk seed {}", self.setting, self.disk_seed)?;
        for (number, stretch) in self.stretches.iter().enumerate() {
            writeln!(f, "stretch {number}:")?;
            if let Some(fault) = stretch.fault {
                writeln!(f, "  (meanwhile: {fault:?})")?;
            }
            for (at, op) in stretch.ops.iter().enumerate() {
                writeln!(f, "  {at:3}. {op}")?;
            }
            let Crash { at, loss } = stretch.crash;
            let place = at.map_or_else(|| "at rest".to_owned(), |at| format!("before operation {at} of the disk"));
            writeln!(f, "  crash ({loss:?}) {place}")?;
            for inner in &stretch.recoveries {
                writeln!(f, "  recovery crashes ({:?}) before its operation {}", inner.loss, inner.at.unwrap_or(0))?;
            }
            if let Some(hindrance) = stretch.hindrance {
                writeln!(f, "  recovery meets {hindrance:?}")?;
            }
        }
        match self.hurt {
            Some(hurt) if self.hurt_unsealed => writeln!(f, "some work, all of it durable, a kill, and: {hurt:?}"),
            Some(hurt) => writeln!(f, "at rest: {hurt:?}"),
            None => Ok(()),
        }
    }
}
