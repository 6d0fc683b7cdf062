//! Looking at the tasks of an open queue: one by its id, the next ones of a lane, and why one has not run.
//!
//! Nothing here changes anything. Finding a record costs a walk over at most a stride of records; what a group makes of a
//! task that it handed out costs a look at all of its slots.

use bytes::Bytes;

use crate::delivery::{Group, Sought, Standing};
use crate::error::Result;
use crate::format::fields::Traits;
use crate::log::{Cursor, Log, Step, body_of};
use crate::types::{LaneId, Now, Seq, TaskId};

use super::Engine;
use super::groups::GroupCell;
use super::hand::Found;
use super::task::{TaskRecord, TaskState};

/// Why a task of a group does not run now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What the group makes of it.
    pub state: TaskState,
    /// Everything that keeps it from being handed out now, in words; empty if the next reserve may take it.
    pub reasons: Vec<String>,
    /// Tasks of its lane that are handed out before it.
    pub ahead: u64,
}

impl Engine {
    /// A task and what every group makes of it; `None` if its record is not there (any more).
    pub(crate) fn task(&self, id: TaskId, now: Now) -> Result<Option<TaskRecord>> {
        Ok(self.find(id)?.and_then(|found| self.record_of(id, &found, now)))
    }

    fn record_of(&self, id: TaskId, found: &Found, now: Now) -> Option<TaskRecord> {
        let Found { source, header, spot } = found;
        let (fields, payload) = body_of(source, header)?;
        let states = self.states(spot, &Traits::decode(&fields), now);
        Some(TaskRecord::of(id, source.segment.file_name(), header, &fields, Bytes::from(payload), states))
    }

    /// The first tasks of a lane that the group has not settled, in order, at most so many. What is damaged is left out.
    pub(crate) fn peek(&self, cell: &GroupCell, lane: LaneId, tasks: usize, now: Now) -> Result<Vec<TaskRecord>> {
        let Some(log) = self.lanes.log(lane) else { return Ok(Vec::new()) };
        let mut seen = Vec::new();
        let mut cursor = Cursor::from_base(0);
        while seen.len() < tasks
            && let Some((id, found, standing)) = self.next_unsettled(cell, lane, log, &mut cursor)?
        {
            if !matches!(standing, Standing::Dead(_)) {
                seen.extend(self.record_of(id, &found, now));
            }
        }
        Ok(seen)
    }

    /// The next task of the lane that the group has not settled, dead letters included; what is settled lies in runs, which
    /// the seek tables skip. What is damaged or can't be read is left out.
    pub(super) fn next_unsettled(
        &self,
        cell: &GroupCell,
        lane: LaneId,
        log: &Log,
        cursor: &mut Cursor,
    ) -> Result<Option<(TaskId, Found, Standing)>> {
        loop {
            match cursor.step(log, u64::MAX) {
                Step::End => return Ok(None),
                Step::Entered if cell.state.lock().group.is_done_with(lane, cursor.base()) => cursor.skip_life(),
                Step::Task(header) => {
                    let (base, index) = (cursor.base(), header.index);
                    let next =
                        cell.state.lock().group.lanes.get(lane).map_or(index, |own| own.next_unacked(base, index));
                    if next > index {
                        cursor.skip_to(next);
                        continue;
                    }
                    let id = TaskId { queue: self.queue, lane, seq: Seq(base + u64::from(index)) };
                    let Some(found) = self.find(id)? else { continue };
                    let standing = cell.state.lock().group.standing(&found.spot);
                    if standing != Standing::Settled {
                        return Ok(Some((id, found, standing)));
                    }
                }
                Step::Entered | Step::Damaged { .. } | Step::Unreadable { .. } => {}
            }
        }
    }

    /// Why a task does not run now in a group; `None` if its record is not there (any more).
    pub(crate) fn explain(&self, cell: &GroupCell, id: TaskId, now: Now) -> Result<Option<Explanation>> {
        let Some(spot) = self.spot(id)? else { return Ok(None) };
        let Some(log) = self.lanes.log(id.lane) else { return Ok(None) };
        let traits = Traits::decode(&spot.fields);
        let group = &cell.state.lock().group;
        let standing = group.standing(&spot);
        let state = TaskState::of_standing(&standing, traits.run_at, now.wall);
        let mut reasons = Vec::new();
        match &state {
            TaskState::Delayed { due, .. } => reasons.push(format!("delayed until {} ms", due.0)),
            TaskState::Leased { attempts } => reasons.push(format!("on loan, attempt {attempts}")),
            TaskState::Parked { reason, .. } => reasons.push(format!("parked: {reason}")),
            TaskState::Dead { reason, .. } => reasons.push(format!("a dead letter: {reason}")),
            TaskState::Acked => reasons.push("settled".to_owned()),
            TaskState::Waiting | TaskState::Attempted { .. } => {}
        }
        if let Some(expires) = traits.expires.filter(|expires| *expires <= now.wall) {
            reasons.push(format!("expired at {} ms", expires.0));
        }
        if matches!(state, TaskState::Waiting | TaskState::Attempted { .. }) {
            reasons.extend(self.what_holds(cell, group, &spot));
        }
        let ahead = match standing {
            Standing::Ahead => group.ahead_of(log, &spot),
            Standing::Due { .. } => group.due_before(&spot),
            _ => 0,
        };
        if ahead > 0 {
            reasons.push(format!("{ahead} tasks of its lane go before it"));
        }
        Ok(Some(Explanation { state, reasons, ahead }))
    }

    /// What keeps a task from being handed out whose turn it may be.
    fn what_holds(&self, cell: &GroupCell, group: &Group, spot: &Sought) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_paused(cell.id) {
            reasons.push("the group is paused".to_owned());
        }
        if self.paused_lanes().contains(&spot.lane) {
            reasons.push("its lane is paused".to_owned());
        }
        if spot.pending {
            reasons.push("it is not on stable storage yet".to_owned());
        }
        if group.may_lend(&self.settings.rules) == 0 {
            reasons.push("the group has as many tasks on loan as it may".to_owned());
        }
        if group.queue_may_lend() == 0 {
            reasons.push("the queue has as many tasks on loan as it may".to_owned());
        }
        if group.may_lend_of(spot.lane, &self.settings.rules) == 0 {
            reasons.push("its lane has as many tasks on loan as it may".to_owned());
        }
        if let Some((lane, seq)) = group.key_is_held_by(spot) {
            let holder = TaskId { queue: self.queue, lane, seq };
            reasons.push(format!("its key is taken by task {holder}"));
        }
        if group.wants_a_worker(spot) {
            reasons.push("no live worker owns its key".to_owned());
        }
        reasons
    }

    fn states(&self, spot: &Sought, traits: &Traits<'_>, now: Now) -> Vec<(String, TaskState)> {
        let state = |cell: &GroupCell| {
            let standing = cell.state.lock().group.standing(spot);
            (cell.name.clone(), TaskState::of_standing(&standing, traits.run_at, now.wall))
        };
        let is_for = |cell: &GroupCell| traits.origin.is_none_or(|origin| origin.group == cell.id);
        self.groups().iter().filter(|cell| is_for(cell)).map(|cell| state(cell)).collect()
    }
}

/// What goes before a task.
impl Group {
    /// Tasks before it that the cursor has not met and nobody settled, and all that are due again.
    fn ahead_of(&self, log: &Log, spot: &Sought) -> u64 {
        let Some(own) = self.lanes.get(spot.lane) else {
            return log.segments().iter().map(|segment| tasks_before(segment, spot)).sum();
        };
        let ahead = log.segments().into_iter().map(|segment| {
            let base = segment.base();
            if own.done.contains(&base) {
                return 0;
            }
            let settled = own.lives.get(&base).map_or(0, |life| u64::from(life.acks.count()) + u64::from(life.open));
            tasks_before(&segment, spot).saturating_sub(settled)
        });
        ahead.sum::<u64>() + own.due.len() as u64
    }

    fn due_before(&self, spot: &Sought) -> u64 {
        self.lanes.get(spot.lane).map_or(0, |own| own.due.range(..spot.seq).count() as u64)
    }
}

/// Task records of a life that lie before the spot.
fn tasks_before(segment: &crate::log::Segment, spot: &Sought) -> u64 {
    match segment.base().cmp(&spot.base) {
        std::cmp::Ordering::Less => u64::from(segment.tasks()),
        std::cmp::Ordering::Equal => spot.seq.0 - spot.base,
        std::cmp::Ordering::Greater => 0,
    }
}
