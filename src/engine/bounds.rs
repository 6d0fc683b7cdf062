//! Bounds on what waits: how much a lane and the queue hold, and who is refused more.
//!
//! What *waits* in a lane is what the group that has most left to do there has not settled for good: neither acked nor
//! dead, whether it was handed out or not. Both sides only grow: what was accepted, and the least that any group settled.
//! Waiting is the difference, so an enqueue looks at two numbers per bound and moves one. Where no bound is set nothing
//! is counted but what groups settle, under their own lock.
//!
//! The counts are of this open; the next one counts again what it finds, by the headers of all that waits.

use std::collections::BTreeMap;

use crate::delivery::{Amount, Group};
use crate::error::{Error, Result};
use crate::log::{Cursor, Log, Step};
use crate::sabotage::{Bug, on};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::{LaneId, Seq};

use super::groups::GroupWork;
use super::settings::Limits;
use super::{Attempt, Engine};

/// Counts begin here, so that a group that begins later, with more to do than others have, takes none below 0.
const FIRST: u64 = 1 << 60;

/// What is counted where a bound is set.
pub(crate) struct Bounds {
    limits: Limits,
    lanes: Box<[Load]>,
    queue: Load,
    /// For each group and lane: what it counts as settled at its first look, and what it settled since.
    groups: Mutex<BTreeMap<u32, Vec<Account>>>,
    /// Held for reading from the count of a task to its place in the log, and for writing while a group begins: what a
    /// group counts as its own is what it will meet.
    joining: RwLock<()>,
}

/// What was accepted and what every group settled. Relaxed: nobody reads anything by these numbers but the numbers, and an
/// old one makes an enqueue see less room than there is.
struct Load {
    accepted: Pair,
    settled: Pair,
}

struct Pair {
    tasks: AtomicU64,
    bytes: AtomicU64,
}

/// One group in one lane.
#[derive(Clone, Copy, Default)]
struct Account {
    first: Amount,
    since: Amount,
}

impl Account {
    fn settled(&self) -> Amount {
        let (first, since) = (self.first, self.since);
        Amount { tasks: first.tasks.wrapping_add(since.tasks), bytes: first.bytes.wrapping_add(since.bytes) }
    }
}

impl Pair {
    fn new(amount: Amount) -> Self {
        Pair { tasks: AtomicU64::new(amount.tasks), bytes: AtomicU64::new(amount.bytes) }
    }

    fn load(&self) -> Amount {
        Amount { tasks: self.tasks.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Load {
    fn new(waiting: Amount) -> Self {
        let accepted = Amount { tasks: FIRST + waiting.tasks, bytes: FIRST + waiting.bytes };
        Load { accepted: Pair::new(accepted), settled: Pair::new(Amount { tasks: FIRST, bytes: FIRST }) }
    }

    fn waiting(&self) -> Amount {
        let (accepted, settled) = (self.accepted.load(), self.settled.load());
        Amount {
            tasks: accepted.tasks.saturating_sub(settled.tasks),
            bytes: accepted.bytes.saturating_sub(settled.bytes),
        }
    }

    /// Counts an amount in, unless that exceeds a limit: then which one, and what waits. Between the two steps somebody
    /// else may see tasks that are refused in the end, and be refused a little too early.
    fn take(&self, amount: Amount, max: Amount) -> std::result::Result<(), (&'static str, u64)> {
        take(&self.accepted.tasks, &self.settled.tasks, amount.tasks, max.tasks)
            .map_err(|waiting| ("tasks", waiting))?;
        take(&self.accepted.bytes, &self.settled.bytes, amount.bytes, max.bytes).map_err(|waiting| {
            self.accepted.tasks.fetch_sub(amount.tasks, Ordering::Relaxed);
            ("bytes", waiting)
        })
    }

    fn give_back(&self, amount: Amount) {
        self.accepted.tasks.fetch_sub(amount.tasks, Ordering::Relaxed);
        self.accepted.bytes.fetch_sub(amount.bytes, Ordering::Relaxed);
    }

    /// Notes what all groups settled; `by` more than before, as a difference that wraps.
    fn settle(&self, by: Amount) {
        self.settled.tasks.fetch_add(by.tasks, Ordering::Relaxed);
        self.settled.bytes.fetch_add(by.bytes, Ordering::Relaxed);
    }
}

/// Counts `count` in, unless more than `max` would wait: then what waits.
fn take(accepted: &AtomicU64, settled: &AtomicU64, count: u64, max: u64) -> std::result::Result<(), u64> {
    let fits = |before: u64| {
        let waiting = before.saturating_sub(settled.load(Ordering::Relaxed));
        (waiting.saturating_add(count) <= max).then_some(before + count)
    };
    let taken = accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
    taken.map(drop).map_err(|before| before.saturating_sub(settled.load(Ordering::Relaxed)))
}

impl Bounds {
    /// Counts what waits for each of the groups; `None` where no bound is set. `log_of` gives the lanes' logs.
    pub(crate) fn new<'a>(
        limits: Limits,
        log_of: impl Fn(LaneId) -> Option<&'a Log>,
        groups: &[(u32, &Group)],
    ) -> Option<Self> {
        if !limits.is_set() {
            return None;
        }
        let mut accounts: BTreeMap<u32, Vec<Account>> = groups.iter().map(|(id, _)| (*id, Vec::new())).collect();
        let (mut lanes, mut all) = (Vec::new(), Amount::default());
        for lane in (0..limits.lanes()).filter_map(|lane| u8::try_from(lane).ok().map(LaneId)) {
            let found = log_of(lane).filter(|_| !on(Bug::BacklogForgotten)).map(|log| owed(lane, log, groups));
            let owed = found.unwrap_or_else(|| vec![Amount::default(); groups.len()]);
            let most = Amount {
                tasks: owed.iter().map(|own| own.tasks).max().unwrap_or(0),
                bytes: owed.iter().map(|own| own.bytes).max().unwrap_or(0),
            };
            for ((id, _), own) in groups.iter().zip(owed) {
                let first = Amount { tasks: FIRST + (most.tasks - own.tasks), bytes: FIRST + (most.bytes - own.bytes) };
                accounts.entry(*id).or_default().push(Account { first, since: Amount::default() });
            }
            all = Amount { tasks: all.tasks + most.tasks, bytes: all.bytes + most.bytes };
            lanes.push(Load::new(most));
        }
        let (queue, groups) = (Load::new(all), Mutex::new(accounts));
        Some(Bounds { limits, lanes: lanes.into(), queue, groups, joining: RwLock::default() })
    }

    fn take(&self, lane: LaneId, amount: Amount) -> Result<()> {
        let Some(load) = self.lanes.get(lane.index()) else { return Ok(()) };
        let over = |lane: Option<LaneId>, (what, waiting): (&'static str, u64)| {
            let limit = self.limits.of(lane);
            let (asked, max) = if what == "tasks" { (amount.tasks, limit.tasks) } else { (amount.bytes, limit.bytes) };
            Error::OverBound { lane, what, max, waiting, asked, waited_ms: 0 }
        };
        load.take(amount, self.limits.of(Some(lane))).map_err(|found| over(Some(lane), found))?;
        self.queue.take(amount, self.limits.of(None)).map_err(|found| {
            load.give_back(amount);
            over(None, found)
        })
    }

    fn give_back(&self, lane: LaneId, amount: Amount) {
        if let Some(load) = self.lanes.get(lane.index()) {
            load.give_back(amount);
            self.queue.give_back(amount);
        }
    }

    /// Takes over what a group settled. True if there is room that was not.
    fn note(&self, group: &Group) -> bool {
        let mut accounts = self.groups.lock();
        let Some(own) = accounts.get_mut(&group.id) else { return false };
        let mut changed = Vec::new();
        for (lane, view) in group.lanes.iter() {
            if let Some(account) = own.get_mut(lane.index()).filter(|account| account.since != view.settled) {
                account.since = view.settled;
                changed.push(lane);
            }
        }
        let moved = changed.into_iter().filter(|lane| self.move_settled(*lane, &accounts)).count();
        moved > 0
    }

    /// Brings up to date what every group settled of a lane. True if that changed.
    fn move_settled(&self, lane: LaneId, accounts: &BTreeMap<u32, Vec<Account>>) -> bool {
        let Some(load) = self.lanes.get(lane.index()) else { return false };
        let each = || accounts.values().filter_map(|own| own.get(lane.index())).map(Account::settled);
        let before = load.settled.load();
        let tasks = each().map(|own| own.tasks).min().unwrap_or(before.tasks);
        let bytes = each().map(|own| own.bytes).min().unwrap_or(before.bytes);
        let by = Amount { tasks: tasks.wrapping_sub(before.tasks), bytes: bytes.wrapping_sub(before.bytes) };
        if by == Amount::default() {
            return false;
        }
        load.settle(by);
        self.queue.settle(by);
        true
    }

    /// A group is gone, and what it alone had left to do waits no more. True if there is room that was not.
    fn leave(&self, group: u32) -> bool {
        let mut accounts = self.groups.lock();
        accounts.remove(&group);
        let lanes = (0..self.lanes.len()).filter_map(|lane| u8::try_from(lane).ok().map(LaneId));
        lanes.filter(|lane| self.move_settled(*lane, &accounts)).count() > 0
    }

    /// A group begins, to which `owed` of each lane is owed. Under `joining`, for writing.
    fn join(&self, group: u32, owed: &[Amount]) {
        let first = |(load, owed): (&Load, &Amount)| {
            let accepted = load.accepted.load();
            let first = Amount { tasks: accepted.tasks - owed.tasks, bytes: accepted.bytes - owed.bytes };
            Account { first, since: Amount::default() }
        };
        let mut accounts = self.groups.lock();
        accounts.insert(group, self.lanes.iter().zip(owed).map(first).collect());
        for lane in (0..self.lanes.len()).filter_map(|lane| u8::try_from(lane).ok().map(LaneId)) {
            self.move_settled(lane, &accounts);
        }
    }
}

/// What of the lane before `end` the group has not settled.
pub(super) fn owed_before(lane: LaneId, log: &Log, group: &Group, end: Seq) -> Amount {
    owed_of(lane, log, &[(group.id, group)], end).pop().unwrap_or_default()
}

fn owed(lane: LaneId, log: &Log, groups: &[(u32, &Group)]) -> Vec<Amount> {
    owed_of(lane, log, groups, Seq(u64::MAX))
}

/// What of the lane each group has not settled, by the headers of what it holds. What can't be read is nobody's.
fn owed_of(lane: LaneId, log: &Log, groups: &[(u32, &Group)], end: Seq) -> Vec<Amount> {
    let mut owed = vec![Amount::default(); groups.len()];
    let mut cursor = Cursor::from_base(0);
    loop {
        match cursor.step(log, u64::MAX) {
            Step::Entered => {
                let base = cursor.base();
                if groups.iter().all(|(_, group)| group.is_done_with(lane, base)) {
                    cursor.skip_life();
                }
            }
            Step::Task(header) => {
                let (base, index) = (cursor.base(), header.index);
                if base + u64::from(index) >= end.0 {
                    continue;
                }
                for ((_, group), own) in groups.iter().zip(&mut owed) {
                    if group.is_owed(lane, base, index) {
                        own.add(u64::from(header.payload_bytes));
                    }
                }
            }
            Step::Damaged { .. } | Step::Unreadable { .. } => {}
            Step::End => return owed,
        }
    }
}

impl Engine {
    /// Appends if the bounds allow it.
    #[inline]
    pub(super) fn within_bounds<T>(
        &self,
        lane: LaneId,
        amount: Amount,
        append: impl FnOnce() -> Result<Attempt<T>>,
    ) -> Result<Attempt<T>> {
        match &self.bounds {
            None => append(),
            Some(bounds) => {
                let _nobody_joins = bounds.joining.read();
                bounds.take(lane, amount)?;
                let outcome = append();
                if !matches!(outcome, Ok(Attempt::Done(_))) {
                    bounds.give_back(lane, amount);
                }
                outcome
            }
        }
    }

    /// Takes a step that appends to several lanes, if the bounds allow all of it.
    pub(super) fn within_all_bounds<T>(
        &self,
        amounts: &BTreeMap<LaneId, Amount>,
        step: impl FnOnce() -> Result<Attempt<T>>,
    ) -> Result<Attempt<T>> {
        let Some(bounds) = &self.bounds else { return step() };
        let _nobody_joins = bounds.joining.read();
        let mut taken = Vec::new();
        let counted = amounts.iter().try_for_each(|(lane, amount)| {
            bounds.take(*lane, *amount)?;
            taken.push((*lane, *amount));
            Ok(())
        });
        let outcome = counted.and_then(|()| step());
        if !matches!(outcome, Ok(Attempt::Done(_))) {
            taken.into_iter().for_each(|(lane, amount)| bounds.give_back(lane, amount));
        }
        outcome
    }

    /// Notes what a group settled since the last time. Under the group's lock.
    #[inline]
    pub(super) fn note_settled(&self, work: &GroupWork) {
        if let Some(bounds) = &self.bounds
            && bounds.note(&work.group)
        {
            self.room.wake_all();
        }
    }

    /// Forgets what a group counts, which is gone.
    pub(super) fn leave_bounds(&self, group: u32) {
        if self.bounds.as_ref().is_some_and(|bounds| bounds.leave(group)) {
            self.room.wake_all();
        }
    }

    /// Makes a group by `make`, which gives it to `find_room` before others find it: nothing is enqueued meanwhile.
    pub(super) fn join_bounds<T>(&self, make: impl FnOnce(&dyn Fn(&Group)) -> Result<T>) -> Result<T> {
        let Some(bounds) = &self.bounds else { return make(&|_| {}) };
        let _nobody_enqueues = bounds.joining.write();
        make(&|group| {
            let lanes = (0..self.settings.lanes).filter_map(|lane| u8::try_from(lane).ok().map(LaneId));
            let owed = lanes.map(|lane| {
                let log = self.lanes.log(lane);
                log.and_then(|log| owed(lane, log, &[(group.id, group)]).pop()).unwrap_or_default()
            });
            bounds.join(group.id, &owed.collect::<Vec<_>>());
        })
    }

    /// What waits in a lane, or in the queue; `None` where no bound is set.
    pub(crate) fn waiting(&self, lane: Option<LaneId>) -> Option<Amount> {
        let bounds = self.bounds.as_ref()?;
        match lane {
            Some(lane) => bounds.lanes.get(lane.index()).map(Load::waiting),
            None => Some(bounds.queue.waiting()),
        }
    }
}
