//! Removing a group: one journal entry, after which nothing that was said of it counts.
//!
//! Entry and end of the group happen with the list of groups held for writing, and the group's own lock: so a checkpoint has
//! both or neither, and whatever was claimed for the group before stands before the entry. Somebody may still hold the cell,
//! and finds it marked; what he writes of it names a group that is none, and is passed over by every replay. A number is
//! never used twice, so neither a receipt nor a task that was redriven for the group alone finds another one in its place.

use crate::delivery::{Group, GroupState};
use crate::error::{Error, Result};
use crate::format::journal;
use crate::sabotage::{Bug, on};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, Now, Seq};

use super::Engine;
use super::groups::{GroupCell, GroupWork};
use super::receipt::Receipt;

impl Engine {
    /// Ends a group, and with it everything that it alone kept. It is gone for others at once and over a crash once the
    /// journal is durable up to the returned position; the caller waits for that before it says so.
    ///
    /// Errors: `NoSuchGroup`; `InvalidOption` for the last one, for without a reader nothing counts as acked; `Poisoned`;
    /// `Full` if the journal could not grow, and nothing changed then.
    pub(crate) fn remove_group(&self, name: &str, now: Now) -> Result<u64> {
        self.check_poison()?;
        let mut groups = self.groups.write();
        let found = groups.values().find(|cell| cell.name == name).cloned();
        let cell = found.ok_or_else(|| Error::NoSuchGroup { name: name.to_owned() })?;
        if groups.len() == 1 {
            let why = format!("{name:?} is the queue's only group and can't be removed: create another one first");
            return Err(Error::InvalidOption { option: "group", why });
        }
        let mut work = cell.state.lock();
        let mut payload = Vec::new();
        if !on(Bug::RemovalForgotten) {
            journal::put_group_removed(&mut payload, cell.id);
        }
        let end = self.append_journal(&payload, now.wall)?;
        let mut ended = self.end_group(&mut work, now);
        groups.remove(&cell.id);
        self.arrivals.set_groups(groups.len());
        if on(Bug::GroupNumberReused) {
            let next = groups.keys().next_back().map_or(0, |last| last + 1);
            self.next_group.store(next, Ordering::Relaxed);
        }
        self.leave_bounds(cell.id);
        self.forget_pause(cell.id);
        drop(work);
        drop(groups);
        // It may be large, and nobody need wait for that.
        ended.end_far();
        ended.end_loans();
        self.changed.store(true, Ordering::Relaxed);
        // Whoever waits for a task of it learns that none will come.
        self.arrivals.wake_all();
        self.housework.wake_all();
        Ok(end)
    }

    /// Puts a group in place of one that is gone which has nothing to do with any task. Gives the one that is gone.
    fn end_group(&self, work: &mut GroupWork, now: Now) -> Group {
        let nothing = |lane| u8::try_from(lane).ok().map(|lane| (LaneId(lane), Seq(u64::MAX)));
        let starts = (0..self.lanes.count()).filter_map(nothing).collect();
        let state = GroupState { name: work.group.name.clone(), starts, ..GroupState::default() };
        let nobody = Group::open(work.group.id, state, &self.settings.priority, now);
        work.changes.clear();
        work.removed = true;
        std::mem::replace(&mut work.group, nobody)
    }

    /// A group's lock.
    ///
    /// Errors: `GroupRemoved`.
    pub(super) fn lock_group<'a>(&self, cell: &'a GroupCell) -> Result<MutexGuard<'a, GroupWork>> {
        let work = cell.state.lock();
        if work.removed { Err(Error::GroupRemoved { name: cell.name.clone() }) } else { Ok(work) }
    }

    /// Why a receipt opens nothing whose group is not there: the group was removed, or never was.
    pub(crate) fn no_group_of(&self, receipt: &Receipt) -> Error {
        let was_there = receipt.task.queue == self.queue && receipt.group < self.next_group.load(Ordering::Relaxed);
        match was_there {
            true => Error::LeaseLost { task: receipt.task },
            false => Error::BadReceipt { why: "its group does not exist" },
        }
    }
}
