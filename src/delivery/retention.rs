//! Letting go of the oldest tasks that a group has left to do, where it has more than it may.
//!
//! A task is let go of that waits for somebody who takes it: it lies ahead of the cursor, is due again, or was passed over
//! behind its key. What is on loan, dead, or waits for its time is left alone.

use std::collections::BTreeMap;

use crate::format::fields::Traits;
use crate::format::journal::DeadCause;
use crate::format::record::Header;
use crate::log::{Source, body_of};
use crate::sabotage::{Bug, on};
use crate::types::{Beyond, LaneId, Now, Seq};

use super::group::{Group, Phase};
use super::notes::Note;
use super::state::{DeadNote, Runs};

/// Where the last look came to, so that the next one need not walk over the same loans and dead letters.
#[derive(Default)]
pub(crate) struct Looks {
    /// By lane: base of the life, index and offset.
    pub marks: BTreeMap<LaneId, (u64, u32, u32)>,
    /// When the next look is due, and when it begins at the front again, on the boot clock.
    pub next_ms: u64,
    pub front_ms: u64,
    /// Tasks that were let go of, since the open.
    pub let_go: u64,
    /// Which those are, for whoever checks it.
    #[cfg(any(test, feature = "sim"))]
    pub log: Vec<Seq>,
}

/// What a look makes of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It may be let go of.
    Waits,
    /// It is settled, and so are those behind it up to that index.
    Settled { next: u32 },
    /// It is another group's alone.
    Foreign,
    /// It stays: on loan, dead, or its time has not come.
    Stays,
}

impl Group {
    /// What a look makes of the task with that header.
    pub(crate) fn fate(&self, lane: LaneId, base: u64, source: &Source, header: &Header, now: Now) -> Fate {
        let (index, seq) = (header.index, Seq(base + u64::from(header.index)));
        if self.starts().get(&lane).is_some_and(|start| seq < *start) {
            return Fate::Stays;
        }
        let own = self.lanes.get(lane);
        let next = own.map_or(index, |own| own.next_unacked(base, index));
        if next > index {
            return Fate::Settled { next };
        }
        if self.dead.contains_key(&(lane, seq)) {
            return Fate::Stays;
        }
        let has_met = own.is_some_and(|own| own.has_met(base, index));
        if header.is_special() {
            let Some((fields, _)) = body_of(source, header) else { return Fate::Stays };
            let traits = Traits::decode(&fields);
            if traits.origin.is_some_and(|origin| origin.group != self.id) {
                return if has_met { Fate::Stays } else { Fate::Foreign };
            }
            if traits.run_at.is_some_and(|at| at > now.wall) {
                return Fate::Stays;
            }
        }
        if has_met {
            let waits = self.due_slot(lane, seq).is_some()
                || own.is_some_and(|own| own.is_passed_over(base, index) || own.is_far(base, index));
            return if waits || on(Bug::LoanLetGo) && self.slot_of((lane, seq)).is_some() {
                Fate::Waits
            } else {
                Fate::Stays
            };
        }
        let retry = self.notes.get(&(lane, seq)).and_then(|note| note.due);
        if retry.is_some_and(|(due, _)| due > now.wall) { Fate::Stays } else { Fate::Waits }
    }

    /// Lets go of a task whose fate allows it.
    pub(crate) fn let_go(&mut self, lane: LaneId, base: u64, header: &Header, now: Now, changes: &mut Runs) {
        let (index, seq) = (header.index, Seq(base + u64::from(header.index)));
        let Note { attempts, reason, .. } = self.take_from_wait((lane, seq), base, index);
        self.in_lane(lane, |own| own.call_off(base, index));
        self.looks.let_go += 1;
        #[cfg(any(test, feature = "sim"))]
        self.looks.log.push(seq);
        let bytes = header.payload_bytes;
        if self.retention.beyond == Beyond::DeadLetter {
            let dead = DeadNote { attempts, cause: DeadCause::Retention, at: now.wall, bytes, reason };
            self.put_dead((lane, seq), dead, changes);
            return;
        }
        if !on(Bug::LettingGoForgotten) {
            changes.acked(lane, seq);
        }
        self.in_lane(lane, |own| {
            own.settled.add(u64::from(bytes));
            own.settle(base, index);
        });
    }

    /// A task that the cursor has not met is another group's alone: said once, so that its life is done although nobody reads.
    pub(crate) fn settle_foreign(&mut self, lane: LaneId, base: u64, header: &Header, changes: &mut Runs) {
        changes.acked(lane, Seq(base + u64::from(header.index)));
        self.in_lane(lane, |own| {
            own.settled.add(u64::from(header.payload_bytes));
            own.settle(base, header.index);
        });
    }

    /// A sealed life of which all `tasks` are settled is done, wherever the cursor stands.
    pub(crate) fn finish(&mut self, lane: LaneId, base: u64, tasks: u32) {
        self.in_lane(lane, |own| {
            let is_done = own.lives.get(&base).is_some_and(|life| life.open == 0 && life.acks.count() >= tasks);
            if is_done && own.done.insert(base) {
                own.passed.leave(base);
                if own.cursor.base() == base {
                    own.cursor.skip_life();
                }
            }
        });
    }

    /// The slot of a task that is due again.
    fn due_slot(&self, lane: LaneId, seq: Seq) -> Option<u32> {
        if self.sticky.is_some() {
            let slot = self.slot_of((lane, seq))?;
            return self.slots.slot(slot).filter(|task| task.phase() == Phase::Due).map(|_| slot);
        }
        self.lanes.get(lane)?.due.get(&seq).copied()
    }
}
