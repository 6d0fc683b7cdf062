//! The oracle: what was promised to whom, from what a worker said, and whether what recovery found keeps it.
//!
//! The ledger is pure: reports go in, broken promises come out. It knows three kinds of instants.
//!
//! - *While a worker lives* ([`feed`](Ledger::feed)) every answer is checked at once: payloads intact, attempts one
//!   higher than the last, no task on loan twice, first deliveries of a lane in the order of its sequences, no sequence
//!   twice, nothing that was acked.
//! - *After a crash* ([`judge`](Ledger::judge)) a picture of the recovered queue is held against it. After the death of a
//!   process ([`Loss::Process`]) everything that was answered holds exactly. After a power loss ([`Loss::Power`])
//!   what was promised for [`Until::Ever`] holds, and what lies before it in its log; the rest may be there or not. What
//!   is in doubt may be there or not in either case, and is whole.
//! - *Then the picture becomes the truth* ([`adopt`](Ledger::adopt)): recovery has answered every doubt, for good, and
//!   everything it serves must survive a power loss from here on, even if it was in doubt before or came from a page
//!   cache that a failed sync had made a liar.

mod adopt;
mod judge;
mod loans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::payload::Tag;
use crate::report::{Answer, GROUPS, How, LANES, Record, Report, Said, Until};

pub use judge::Loss;

/// How sure an effect is. Each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
enum Sure {
    /// It was not asked for.
    #[default]
    No,
    /// It was asked for and not answered: in doubt.
    Maybe,
    /// It was answered, and survives the death of the process.
    Process,
    /// It survives a power loss.
    Power,
}

impl From<Until> for Sure {
    fn from(until: Until) -> Self {
        match until {
            Until::PowerLoss => Sure::Process,
            Until::Ever => Sure::Power,
        }
    }
}

/// A settle's effect, and the moment it was answered, in reports.
#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    sure: Sure,
    since: u64,
}

/// What one call enqueued: a task or a batch.
#[derive(Clone, Debug)]
struct Unit {
    lane: u8,
    until: Until,
    /// Sequences up to here were known in the lane when it was asked for: its own are higher.
    floor: u64,
    accepted: Effect,
    refused: bool,
    /// Its first sequence, once that is known.
    first: Option<u64>,
    /// What each group was told of each of its tasks.
    tasks: Vec<[Side; GROUPS.len()]>,
}

/// What a group was told of a task.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    /// It was handed out and the lease is not known to have ended.
    held: bool,
    /// How many times it was handed out, so that a late answer is not taken for one about the lease after it.
    turn: u32,
    /// A settle that was asked for.
    settling: Option<How>,
    abandoned: bool,
    /// It was handed out at any time.
    met: bool,
    attempts: u32,
    /// The highest count it ever had: a power loss may bring back one that was taken back.
    attempts_high: u32,
    /// The count that can't be forgotten any more.
    attempts_low: u32,
    acked: Effect,
    dead: Effect,
}

/// A call that was asked for and not answered.
#[derive(Clone, Debug)]
enum Open {
    Enqueue { unit: u64 },
    Reserve { group: usize, tasks: u32, fronts: [u64; LANES as usize] },
    Settle { group: usize, how: How, until: Until, tasks: Vec<(u8, u64, u32)>, since: u64 },
    Sync { since: u64 },
}

/// Everything that was said and not yet superseded.
#[derive(Clone, Default)]
pub struct Ledger {
    units: BTreeMap<u64, Unit>,
    /// Which task has a sequence of a lane.
    places: BTreeMap<(u8, u64), (u64, u16)>,
    open: HashMap<u64, Open>,
    /// The highest sequence of each lane that anybody was told.
    newest: [u64; LANES as usize],
    /// The highest sequence that was ever handed out for the first time, for each group and lane.
    fronts: [[u64; LANES as usize]; GROUPS.len()],
    /// Reports so far.
    said: u64,
    /// Settles that were answered before this moment are on stable storage, for the journal is a log.
    journal_proven: u64,
    /// The picture that is coming in, and what recovery called damaged.
    picture: Vec<Record>,
    damage: Vec<String>,
    /// What the next picture has to bear.
    loss: Loss,
    /// The device gives nothing any more, until the next picture.
    unreadable: bool,
    pub violations: Vec<String>,
    pub counts: Counts,
}

/// What was seen.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub tasks: u64,
    pub acked: u64,
    pub deliveries: u64,
    pub recoveries: u64,
    pub checkpoints: u64,
    pub syncs_failed: u64,
}

impl Ledger {
    /// The power went since: the next picture is judged by that, and those after it again as what the death of a process
    /// leaves.
    pub fn power_lost(&mut self) {
        self.loss = Loss::Power;
    }

    /// The device is cut off: what is said from here on comes from a queue that may not be able to read what it holds. It
    /// leaves out what it can't read, by its promise, and goes on with what is in memory; so what is delivered says
    /// nothing of the order any more.
    pub fn device_lost(&mut self) {
        self.unreadable = true;
    }

    /// Takes what a worker said into account. A picture is judged and adopted.
    pub fn feed(&mut self, report: &Report) {
        self.said += 1;
        match &report.said {
            Said::Began => {
                self.picture.clear();
                self.damage.clear();
            }
            Said::Damage(what) => self.damage.push(what.clone()),
            Said::Found(record) => self.picture.push(*record),
            Said::Pictured => {
                let picture = std::mem::take(&mut self.picture);
                let broken = self.judge(&picture, &self.damage, self.loss);
                self.violations.extend(broken);
                self.adopt(&picture);
                (self.loss, self.unreadable) = (Loss::Process, false);
                self.counts.recoveries += 1;
            }
            Said::Enqueue { op, unit, lane, count, until } => self.intend(*op, *unit, *lane, *count, *until),
            Said::Enqueued { op, answer, first } => self.enqueued(*op, *answer, *first),
            Said::Reserve { op, group, tasks } => {
                let fronts = self.fronts.get(*group).copied().unwrap_or_default();
                self.open.insert(*op, Open::Reserve { group: *group, tasks: *tasks, fronts });
            }
            Said::Reserved { op, answer, got } => self.reserved(*op, *answer, got),
            Said::Settle { op, group, how, until, tasks } => self.settling(*op, *group, *how, *until, tasks),
            Said::Settled { op, answers } => self.settled(*op, answers),
            Said::Sync { op } => {
                self.open.insert(*op, Open::Sync { since: self.said });
            }
            Said::Synced { op, answer } => self.synced(*op, *answer),
            Said::Checkpointed => self.counts.checkpoints += 1,
            Said::Drained => self.expect_drained(),
            Said::Poisoned(_) => self.counts.syncs_failed += 1,
            Said::Complaint(what) => self.violations.push(format!("a worker complains: {what}")),
            Said::Closing | Said::Closed => {}
        }
    }

    fn intend(&mut self, op: u64, unit: u64, lane: u8, count: u16, until: Until) {
        let floor = self.newest.get(usize::from(lane)).copied().unwrap_or_default();
        let accepted = Effect { sure: Sure::Maybe, since: self.said };
        let tasks = vec![Default::default(); usize::from(count)];
        let new = Unit { lane, until, floor, accepted, refused: false, first: None, tasks };
        if self.units.insert(unit, new).is_some() {
            self.violations.push(format!("the harness used unit {unit} twice"));
        }
        self.open.insert(op, Open::Enqueue { unit });
    }

    fn enqueued(&mut self, op: u64, answer: Answer, first: u64) {
        let Some(Open::Enqueue { unit: number }) = self.open.remove(&op) else { return };
        match answer {
            Answer::Done => {
                let Some(unit) = self.units.get(&number) else { return };
                let (until, count) = (unit.until, unit.tasks.len());
                self.place(number, first);
                self.accept(number, until.into());
                self.counts.tasks += count as u64;
            }
            Answer::InDoubt | Answer::LeaseLost => {}
            Answer::Refused => {
                if let Some(unit) = self.units.get_mut(&number) {
                    unit.refused = true;
                    if unit.accepted.sure > Sure::Maybe {
                        self.violations.push(format!("unit {number} was refused, but had been delivered"));
                    }
                }
            }
        }
    }

    fn accept(&mut self, number: u64, sure: Sure) {
        let since = self.said;
        if let Some(unit) = self.units.get_mut(&number)
            && unit.accepted.sure < sure
        {
            unit.accepted = Effect { sure, since };
        }
    }

    /// Notes the sequences of a unit, from the answer to its call or from a delivery that came before it.
    fn place(&mut self, number: u64, first: u64) {
        let Some(unit) = self.units.get_mut(&number) else { return };
        let (lane, floor, count) = (unit.lane, unit.floor, unit.tasks.len() as u64);
        match unit.first {
            Some(known) if known == first => return,
            Some(known) => {
                let what = format!("unit {number} of lane {lane} had sequence {known}, and then {first}");
                self.violations.push(what);
                return;
            }
            None => unit.first = Some(first),
        }
        if first <= floor {
            self.violations.push(format!(
                "lane {lane}: sequence {first} was given to unit {number}, but {floor} had been given out before: reuse, \
                 or append order not followed"
            ));
        }
        for (index, seq) in (0..).zip(first..first + count) {
            if let Some((other, at)) = self.places.insert((lane, seq), (number, index)) {
                let what = format!("lane {lane}: sequence {seq} is unit {number}'s and was unit {other}'s (task {at})");
                self.violations.push(what);
            }
        }
        if let Some(newest) = self.newest.get_mut(usize::from(lane)) {
            *newest = (*newest).max(first + count.saturating_sub(1));
        }
    }

    fn synced(&mut self, op: u64, answer: Answer) {
        let Some(Open::Sync { since }) = self.open.remove(&op) else { return };
        if answer != Answer::Done {
            return;
        }
        for unit in self.units.values_mut() {
            if unit.accepted.sure == Sure::Process && unit.accepted.since < since {
                unit.accepted.sure = Sure::Power;
            }
        }
        self.journal_proven = self.journal_proven.max(since);
    }

    fn side(&mut self, group: usize, lane: u8, seq: u64) -> Option<&mut Side> {
        let (unit, index) = self.places.get(&(lane, seq))?;
        self.units.get_mut(unit)?.tasks.get_mut(usize::from(*index))?.get_mut(group)
    }

    /// After everything was delivered and acked that could be: nothing is left.
    fn expect_drained(&mut self) {
        for (number, unit) in &self.units {
            for (index, sides) in unit.tasks.iter().enumerate() {
                for (side, group) in sides.iter().zip(GROUPS) {
                    let settled = side.acked.sure >= Sure::Process || side.dead.sure >= Sure::Process;
                    if unit.accepted.sure >= Sure::Process && !settled && side.attempts < crate::report::ATTEMPTS_MAX {
                        self.violations.push(format!(
                            "task {index} of unit {number} was never delivered to group {group}, though it was recovered"
                        ));
                    }
                }
            }
        }
    }

    fn name(&self, tag: Tag, lane: u8, seq: u64) -> String {
        let first = self.units.get(&tag.unit).and_then(|unit| unit.first);
        let known = if first.is_some() { "" } else { " (never answered)" };
        format!("task {} of unit {}{known}, lane {lane}, sequence {seq}", tag.index, tag.unit)
    }
}
