//! How a lease ends: settled, expired, damaged; and what time makes due.

use crate::format::journal::{DeadCause, cut_reason};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Now, Seq, Timestamp};

use super::group::{Group, Phase, Rules, Slot, Ticket, Tried};
use super::keys::KeyHash;
use super::notes::Note;
use super::state::{Change, DeadNote, Runs};

impl Group {
    /// The lease that `ticket` names, if it still holds and is for `seq`.
    pub(crate) fn holds(&self, ticket: Ticket, lane: LaneId, seq: Seq) -> bool {
        self.slots
            .get(ticket.slot, ticket.fence)
            .is_some_and(|task| task.lane == lane && task.seq == seq && matches!(task.phase(), Phase::Leased { .. }))
    }

    /// Ends a lease that holds: the task is done for good.
    pub(crate) fn ack(&mut self, ticket: Ticket) {
        let Some(task) = self.slots.remove(ticket.slot, ticket.fence) else { return };
        self.wheel.disarm(ticket.slot);
        self.free_key(ticket.slot, task.key());
        self.loan_over(task.key());
        self.share.give_back();
        self.forget_note(&task);
        self.in_lane(task.lane, |lane| {
            lane.in_flight -= 1;
            lane.settled.add(u64::from(task.bytes));
            lane.close(task.base(), Some(task.index));
        });
    }

    /// Ends a lease that holds: the task comes again after `delay_ms`, or its backoff, or is dead if its
    /// attempts are used up.
    pub(crate) fn nack(
        &mut self,
        ticket: Ticket,
        delay_ms: Option<u64>,
        reason: &str,
        rules: &Rules,
        now: Now,
        changes: &mut Runs,
    ) {
        if self.slots.get(ticket.slot, ticket.fence).is_none() {
            return;
        }
        let reason = cut_reason(reason).to_owned();
        self.end_lease(ticket.slot);
        let Some(task) = self.slots.slot(ticket.slot) else { return };
        if rules.used_up(task, &self.notes) {
            self.bury(ticket.slot, DeadCause::MaxAttempts, reason, now, changes);
            return;
        }
        let attempts = self.notes.attempts(task);
        let delay_ms = delay_ms.unwrap_or_else(|| rules.backoff_ms(task, attempts));
        let due = Timestamp(now.wall.0.saturating_add(delay_ms));
        let note = Note { attempts, due: Some((due, delay_ms)), reason };
        changes.push(Change::Retry { key: task.task_key(), note: note.clone() });
        self.note(ticket.slot, note);
        if delay_ms == 0 {
            self.make_due(ticket.slot);
        } else {
            self.delay(ticket.slot, due, now.boot_ms.saturating_add(delay_ms));
        }
    }

    /// Ends a lease that holds: the attempt never began, and the task is due at once.
    pub(crate) fn release(&mut self, ticket: Ticket, changes: &mut Runs) {
        if self.take_back(ticket, changes) {
            self.make_due(ticket.slot);
        }
    }

    /// Ends a lease whose bytes can't be read: the attempt never began, and the task waits for a reopen. Its slot keeps
    /// its life from being done.
    pub(crate) fn park(&mut self, ticket: Ticket, changes: &mut Runs) {
        if self.take_back(ticket, changes) {
            let key = self.slots.slot(ticket.slot).and_then(Slot::key);
            self.free_key(ticket.slot, key);
        }
    }

    fn take_back(&mut self, ticket: Ticket, changes: &mut Runs) -> bool {
        if self.slots.get(ticket.slot, ticket.fence).is_none() {
            return false;
        }
        let attempts = self.unbegin(ticket.slot);
        if let Some(task) = self.slots.slot(ticket.slot) {
            changes.released(task.lane, task.seq, attempts);
        }
        self.end_lease(ticket.slot);
        true
    }

    /// Ends a lease that holds: the task is dead at once.
    pub(crate) fn reject(&mut self, ticket: Ticket, reason: &str, now: Now, changes: &mut Runs) {
        if self.slots.get(ticket.slot, ticket.fence).is_some() {
            self.end_lease(ticket.slot);
            self.bury(ticket.slot, DeadCause::Rejected, cut_reason(reason).to_owned(), now, changes);
        }
    }

    /// Ends a lease that holds: the task is set aside until somebody lifts that.
    pub(crate) fn set_aside(&mut self, ticket: Ticket, reason: &str, now: Now, changes: &mut Runs) {
        if self.slots.get(ticket.slot, ticket.fence).is_some() {
            self.end_lease(ticket.slot);
            self.bury(ticket.slot, DeadCause::Parked, cut_reason(reason).to_owned(), now, changes);
        }
    }

    /// Moves the deadline of a lease that holds, as far as the task's own limit allows.
    pub(crate) fn extend(&mut self, ticket: Ticket, deadline_ms: u64) {
        if let Some(task) = self.slots.get(ticket.slot, ticket.fence) {
            let limit_ms = task.own.as_ref().and_then(|own| own.limit_ms).unwrap_or(u64::MAX);
            self.wheel.arm(ticket.slot, deadline_ms.min(limit_ms));
        }
    }

    /// A task whose bytes turned out damaged: nobody can ever settle it.
    pub(crate) fn forget_damaged(&mut self, ticket: Ticket) {
        if self.slots.get(ticket.slot, ticket.fence).is_some() {
            self.end_lease(ticket.slot);
            self.void(ticket.slot);
        }
    }

    /// Releases every lease of a consumer.
    pub(crate) fn release_all(&mut self, consumer: u64, changes: &mut Runs) {
        let held: Vec<Ticket> = self
            .slots
            .iter()
            .filter(|(_, task)| matches!(task.phase(), Phase::Leased { consumer: holder } if holder == consumer))
            .map(|(slot, _)| Ticket { slot, fence: self.slots.fence(slot) })
            .collect();
        for ticket in held {
            self.release(ticket, changes);
        }
    }

    /// Nothing is to be said any more of a task that had a slot.
    #[inline]
    pub(super) fn forget_note(&mut self, task: &Slot) {
        if task.tried == Tried::Noted {
            self.notes.remove(&task.task_key());
        }
    }

    /// A task with this key is on loan no more.
    fn loan_over(&mut self, key: Option<KeyHash>) {
        if let (Some(sticky), Some(key)) = (&mut self.sticky, key) {
            sticky.returned(key);
        }
    }

    pub(super) fn end_lease(&mut self, slot: u32) {
        self.wheel.disarm(slot);
        self.slots.end(slot);
        if let Some(task) = self.slots.slot_mut(slot) {
            task.set_phase(Phase::Due);
            let (lane, key) = (task.lane, task.key());
            self.in_lane(lane, |lane| lane.in_flight -= 1);
            self.loan_over(key);
            self.share.give_back();
            if on(Bug::KeyFreedEarly) {
                self.free_key(slot, key);
            }
        }
    }

    pub(super) fn make_due(&mut self, slot: u32) {
        if let Some(task) = self.slots.slot_mut(slot) {
            task.set_phase(Phase::Due);
            let (lane, seq) = (task.lane, task.seq);
            match (&mut self.sticky, task.key()) {
                (Some(sticky), Some(key)) => sticky.put_due(key, lane, seq, slot),
                _ => {
                    self.in_lane(lane, |lane| lane.due.insert(seq, slot));
                }
            }
        }
    }

    pub(super) fn delay(&mut self, slot: u32, due: Timestamp, fire_ms: u64) {
        if let Some(task) = self.slots.slot_mut(slot) {
            task.set_phase(Phase::Delayed { due });
            let lane = task.lane;
            self.wheel.arm(slot, fire_ms);
            self.in_lane(lane, |lane| lane.delayed += 1);
        }
    }

    /// Gives up on a task that is on loan to nobody. Its record stays, and keeps its life from being done.
    pub(super) fn bury(&mut self, slot: u32, cause: DeadCause, reason: String, now: Now, changes: &mut Runs) {
        let Some(task) = self.slots.remove_slot(slot) else { return };
        self.free_key(slot, task.key());
        let attempts = self.notes.attempts(&task);
        self.forget_note(&task);
        let dead = DeadNote { attempts, cause, at: now.wall, bytes: task.bytes, reason };
        self.put_dead((task.lane, task.seq), dead, changes);
    }

    pub(super) fn void(&mut self, slot: u32) {
        if let Some(task) = self.slots.remove_slot(slot) {
            self.free_key(slot, task.key());
            self.forget_note(&task);
            self.in_lane(task.lane, |lane| {
                lane.settled.add(u64::from(task.bytes));
                lane.close(task.base(), None);
            });
        }
    }

    /// Ends leases that ran out and workers that fell silent, and makes delayed tasks due.
    pub(crate) fn tick(&mut self, rules: &Rules, now: Now, changes: &mut Runs) {
        self.tick_workers(rules, now, changes);
        let mut fired = Vec::new();
        self.wheel.advance(now.boot_ms, |slot| fired.push(slot));
        self.ticked |= !fired.is_empty();
        for slot in fired {
            let Some(task) = self.slots.slot(slot) else { continue };
            match task.phase() {
                Phase::Leased { .. } => {
                    self.end_lease(slot);
                    self.expire(slot, "the lease ran out", rules, now, changes);
                }
                Phase::Delayed { .. } => {
                    let lane = task.lane;
                    self.in_lane(lane, |lane| lane.delayed -= 1);
                    self.make_due(slot);
                }
                Phase::Due => {}
            }
        }
    }

    pub(super) fn expire(&mut self, slot: u32, why: &str, rules: &Rules, now: Now, changes: &mut Runs) {
        if self.slots.slot(slot).is_some_and(|task| rules.used_up(task, &self.notes)) {
            self.bury(slot, DeadCause::MaxAttempts, why.to_owned(), now, changes);
        } else {
            self.make_due(slot);
        }
    }

    /// When `tick` has work next, on the boot clock.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        [self.wheel.next_due(), self.workers.next_due_ms(), self.far_next_ms()].into_iter().flatten().min()
    }
}
