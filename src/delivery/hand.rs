//! What is done to tasks by hand: dead letters redriven and dropped, tasks parked, kicked and cancelled, lanes purged.
//!
//! None of this is on the way of a task: finding the slot of one that was handed out takes a look at every slot.

use crate::format::fields::Traits;
use crate::format::journal::{DeadCause, cut_reason};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Now, Seq, Timestamp};

use super::group::{Group, Own, Phase, Slot, Tried};
use super::keys::{KeyHash, Spot};
use super::lane::Amount;
use super::meet::fire_ms;
use super::notes::Note;
use super::state::{Change, DeadNote, Runs, TaskKey};

/// Where a task is that somebody asks for: key, life, and what its record's header says.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub lane: LaneId,
    pub seq: Seq,
    pub base: u64,
    pub offset: u32,
    pub bytes: u32,
    /// It is not on stable storage yet, and was promised not to be handed out before.
    pub pending: bool,
    /// The optional fields, if they hold anything that delivery must know.
    pub fields: Vec<u8>,
}

/// What a group makes of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Not handed out yet.
    Ahead,
    Leased {
        attempts: u32,
        consumer: u64,
    },
    Due {
        attempts: u32,
    },
    Delayed {
        attempts: u32,
        due: Timestamp,
    },
    Dead(DeadNote),
    Settled,
}

impl Sought {
    pub(crate) fn key(&self) -> TaskKey {
        (self.lane, self.seq)
    }

    fn index(&self) -> u32 {
        self.seq.index_in(self.base)
    }
}

impl Group {
    /// What the group makes of the task.
    pub(crate) fn standing(&self, spot: &Sought) -> Standing {
        let key = spot.key();
        if let Some(dead) = self.dead.get(&key) {
            return Standing::Dead(dead.clone());
        }
        if !self.is_owed(spot.lane, spot.base, spot.index()) {
            return Standing::Settled;
        }
        if let Some(task) = self.slot_of(key).and_then(|slot| self.slots.slot(slot)) {
            let attempts = self.notes.attempts(task);
            return match task.phase() {
                Phase::Leased { consumer } => Standing::Leased { attempts, consumer },
                Phase::Due => Standing::Due { attempts },
                Phase::Delayed { due } => Standing::Delayed { attempts, due },
            };
        }
        if self.lanes.get(spot.lane).is_some_and(|own| own.is_far(spot.base, spot.index())) {
            let due = Traits::decode(&spot.fields).run_at.unwrap_or_default();
            return Standing::Delayed { attempts: 0, due };
        }
        let attempts = self.attempts_of(key, spot.base, spot.index());
        match self.notes.get(&key).and_then(|note| note.due) {
            Some((due, _)) => Standing::Delayed { attempts, due },
            None if attempts > 0 => Standing::Due { attempts },
            None => Standing::Ahead,
        }
    }

    /// The task that has the key which a waiting task needs.
    pub(crate) fn key_is_held_by(&self, spot: &Sought) -> Option<TaskKey> {
        let key = self.key_of(&Traits::decode(&spot.fields))?;
        let holder = self.slots.slot(self.keys.holder(key)?)?;
        Some((holder.lane, holder.seq)).filter(|holder| *holder != spot.key())
    }

    /// True if the task has a key that no live worker owns, in sticky mode.
    pub(crate) fn wants_a_worker(&self, spot: &Sought) -> bool {
        let key = self.key_of(&Traits::decode(&spot.fields));
        key.zip(self.sticky.as_ref()).is_some_and(|(key, sticky)| sticky.is_nobodys(key))
    }

    /// A dead letter, or a parked task, is due again, though not before its time. False if it is none.
    pub(crate) fn revive(&mut self, spot: &Sought, keeps_attempts: Keeps, now: Now, changes: &mut Runs) -> bool {
        let Some(dead) = self.take_dead(&spot.key()) else { return false };
        self.in_lane(spot.lane, |own| own.settled.take_back(u64::from(spot.bytes)));
        let attempts = if keeps_attempts == Keeps::Attempts { dead.attempts } else { 0 };
        if !on(Bug::RevivalForgotten) {
            changes.released(spot.lane, spot.seq, attempts);
        }
        // As a replay of the journal has it: who begins anew has nothing behind it.
        if attempts > 0 {
            self.notes.set(spot.key(), Note { attempts, due: None, reason: dead.reason });
        } else {
            self.attempts_stand(spot.key(), spot.base, spot.index(), 0);
        }
        if self.has_met(spot) {
            let Sought { lane, base, offset, bytes, .. } = *spot;
            let place = Spot { base, index: spot.index(), offset };
            let traits = Traits::decode(&spot.fields);
            let own = Own::of(&traits, self.key_of(&traits));
            let tried = if attempts > 0 { Tried::Noted } else { Tried::Times(0) };
            let slot = self.slots.insert(Slot::new(lane, place, bytes, own, tried));
            match traits.run_at.filter(|at| *at > now.wall) {
                Some(due) => self.delay(slot, due, fire_ms(due.0 - now.wall.0, now)),
                None => self.make_due(slot),
            }
        }
        true
    }

    /// True if the task is a dead letter, or parked.
    pub(crate) fn has_dead(&self, spot: &Sought) -> bool {
        self.dead.contains_key(&spot.key())
    }

    /// A dead letter goes for good. False if it is none.
    pub(crate) fn drop_dead(&mut self, spot: &Sought, changes: &mut Runs) -> bool {
        if self.take_dead(&spot.key()).is_none() {
            return false;
        }
        changes.acked(spot.lane, spot.seq);
        self.settle_spot(spot);
        true
    }

    /// Sets a task aside that is on loan to nobody, until somebody lifts that. False if it is on loan, or settled.
    pub(crate) fn park_task(&mut self, spot: &Sought, reason: &str, now: Now, changes: &mut Runs) -> bool {
        match self.standing(spot) {
            Standing::Leased { .. } | Standing::Dead(_) | Standing::Settled => return false,
            Standing::Ahead | Standing::Due { .. } | Standing::Delayed { .. } => {}
        }
        let attempts = self.take_from_wait(spot.key(), spot.base, spot.index()).attempts;
        self.in_lane(spot.lane, |own| own.call_off(spot.base, spot.index()));
        let (cause, reason) = (DeadCause::Parked, cut_reason(reason).to_owned());
        let dead = DeadNote { attempts, cause, at: now.wall, bytes: spot.bytes, reason };
        self.put_dead(spot.key(), dead, changes);
        true
    }

    /// The task is done for the group, whatever it is now; a lease on it ends. False if it was settled before. It is for the
    /// caller to journal that, whatever this says: what settled it before may be a transaction that a power loss undoes.
    pub(crate) fn cancel(&mut self, spot: &Sought) -> bool {
        match self.standing(spot) {
            Standing::Settled => return false,
            Standing::Dead(_) => drop(self.take_dead(&spot.key())),
            _ => {
                self.take_from_wait(spot.key(), spot.base, spot.index());
                self.in_lane(spot.lane, |own| {
                    own.call_off(spot.base, spot.index());
                    own.settled.add(u64::from(spot.bytes));
                });
            }
        }
        self.settle_spot(spot);
        true
    }

    /// Everything of the lane before `seq` is settled, dead letters included; leases on it end. `base_of` gives the life of
    /// a sequence.
    pub(crate) fn purge(&mut self, lane: LaneId, seq: Seq, base_of: impl Fn(Seq) -> Option<u64>, changes: &mut Runs) {
        let slots: Vec<u32> =
            self.slots.iter().filter(|(_, task)| task.lane == lane && task.seq < seq).map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(task) = self.take_out(slot) {
                self.in_lane(lane, |own| own.close(task.base(), None));
            }
        }
        self.in_lane(lane, |own| own.void_passed(seq));
        self.in_lane(lane, |own| own.void_far(seq));
        self.notes.forget_before(lane, seq);
        let dead: Vec<TaskKey> = self.dead.range((lane, Seq(0))..(lane, seq)).map(|(key, _)| *key).collect();
        for key in dead {
            self.take_dead(&key);
            if let Some(base) = base_of(key.1) {
                self.in_lane(lane, |own| own.settle(base, key.1.index_in(base)));
            }
        }
        self.start_at(lane, seq);
        changes.push(Change::Started { key: (lane, seq) });
    }

    /// Counts what was settled without a look at each task.
    pub(crate) fn settle_amount(&mut self, lane: LaneId, amount: Amount) {
        self.in_lane(lane, |own| own.settled.add_all(amount));
    }

    fn key_of(&self, traits: &Traits<'_>) -> Option<KeyHash> {
        traits.key.map(|key| self.keys.hash(key))
    }

    /// The slot of a task that was handed out, or waits for its time.
    pub(super) fn slot_of(&self, key: TaskKey) -> Option<u32> {
        self.slots.iter().find(|(_, task)| (task.lane, task.seq) == key).map(|(slot, _)| slot)
    }

    /// Takes a task out of whatever it waits for or is on loan to.
    pub(super) fn take_out(&mut self, slot: u32) -> Option<Slot> {
        let phase = self.slots.slot(slot)?.phase();
        self.wheel.disarm(slot);
        let task = self.slots.remove_slot(slot)?;
        self.in_lane(task.lane, |own| match phase {
            Phase::Leased { .. } => own.in_flight -= 1,
            Phase::Delayed { .. } => own.delayed -= 1,
            Phase::Due => drop(own.due.remove(&task.seq)),
        });
        if matches!(phase, Phase::Leased { .. }) && !on(Bug::LoanKeptByHand) {
            self.share.give_back();
        }
        if let (Some(sticky), Some(key)) = (&mut self.sticky, task.key()) {
            match phase {
                Phase::Leased { .. } => sticky.returned(key),
                Phase::Delayed { .. } => {}
                Phase::Due => sticky.drop_due(key, task.lane, task.seq),
            }
        }
        self.free_key(slot, task.key());
        Some(task)
    }

    /// Takes a task that is settled or set aside by hand out of whatever it waits for or is on loan to, and gives what was
    /// known of it.
    pub(super) fn take_from_wait(&mut self, key: TaskKey, base: u64, index: u32) -> Note {
        let attempts = match self.slot_of(key).and_then(|slot| self.take_out(slot)) {
            Some(task) => self.notes.attempts(&task),
            None => self.attempts_of(key, base, index),
        };
        Note { attempts, ..self.notes.remove(&key).unwrap_or_default() }
    }

    /// True if the cursor moved over the task, so that its life counts it as open until it is settled.
    fn has_met(&self, spot: &Sought) -> bool {
        self.lanes.get(spot.lane).is_some_and(|own| own.has_met(spot.base, spot.index()))
    }

    fn settle_spot(&mut self, spot: &Sought) {
        self.in_lane(spot.lane, |own| own.settle(spot.base, spot.index()));
    }

    fn take_dead(&mut self, key: &TaskKey) -> Option<DeadNote> {
        let dead = self.dead.remove(key)?;
        self.dead_dirty.touch(key.1);
        self.dead_order.remove(&(dead.at, *key));
        if dead.cause != DeadCause::Parked {
            self.dead_bytes = self.dead_bytes.saturating_sub(u64::from(dead.bytes));
        }
        Some(dead)
    }

    pub(super) fn put_dead(&mut self, key: TaskKey, dead: DeadNote, changes: &mut Runs) {
        changes.push(Change::Dead { key, dead: dead.clone() });
        self.in_lane(key.0, |own| own.settled.add(u64::from(dead.bytes)));
        self.dead_dirty.touch(key.1);
        self.count_dead(key, &dead);
        self.dead.insert(key, dead);
    }

    /// Takes a dead letter into what bounds are held against; what is parked has none.
    pub(super) fn count_dead(&mut self, key: TaskKey, dead: &DeadNote) {
        if dead.cause != DeadCause::Parked {
            self.dead_order.insert((dead.at, key));
            self.dead_bytes += u64::from(dead.bytes);
        }
    }

    /// Drops the oldest dead letters until the rest is in its bounds; `base_of` gives the life of a sequence.
    pub(crate) fn bound_dead(
        &mut self,
        bounds: &DeadBounds,
        wall: Timestamp,
        base_of: impl Fn(LaneId, Seq) -> Option<u64>,
        changes: &mut Runs,
    ) {
        while let Some((at, key)) = self.dead_order.first().copied() {
            if !bounds.exceeds(at, self.dead_order.len() as u64, self.dead_bytes, wall) {
                return;
            }
            self.take_dead(&key);
            self.dead_dropped += 1;
            changes.acked(key.0, key.1);
            if let Some(base) = base_of(key.0, key.1) {
                self.in_lane(key.0, |own| own.settle(base, key.1.index_in(base)));
            }
        }
    }

    /// True if the dead letters are more, larger or older than that.
    pub(crate) fn exceeds(&self, bounds: &DeadBounds, wall: Timestamp) -> bool {
        let count = self.dead_order.len() as u64;
        self.dead_order.first().is_some_and(|(at, _)| bounds.exceeds(*at, count, self.dead_bytes, wall))
    }
}

/// Whether a task that comes back begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeps {
    /// Its attempts stand.
    Attempts,
    /// All attempts are before it again.
    Nothing,
}

/// What a group keeps of dead letters at most; 0 is without limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DeadBounds {
    pub tasks: u64,
    pub bytes: u64,
    pub age_ms: u64,
}

impl DeadBounds {
    fn exceeds(&self, oldest: Timestamp, tasks: u64, bytes: u64, wall: Timestamp) -> bool {
        (self.age_ms > 0 && oldest.0.saturating_add(self.age_ms) <= wall.0)
            || (self.tasks > 0 && tasks > self.tasks)
            || (self.bytes > 0 && bytes > self.bytes)
    }
}
