//! A group of competing consumers: its cursor over every lane, its leases, what is due again and what is dead.
//!
//! # The states of a task in a group
//!
//! ```text
//!  ahead of the cursor ──reserve──▶ leased ──ack──▶ acked
//!                                   │  ▲  └─reject, or attempts used up──▶ dead
//!            nack, drop: delayed ◀──┤  │
//!                          │        ├──expired, released──▶ due
//!                          └─timer─▶ due ──reserve─▶ leased
//! ```
//!
//! A task that the cursor passed has a slot until it is acked or dead. A lease is a slot and a token; every
//! end of a lease gives the slot a new token, so that an old receipt is refused.

use std::collections::BTreeMap;

use crate::format::journal::{DeadCause, Run, cut_reason};
use crate::format::record::{self, Found, Header, Kind};
use crate::log::{Cursor, Lanes, Log, Segment, Step, TaskAt};
use crate::types::{LaneId, LaneSet, Now, Seq, Timestamp};

use super::lane::GroupLane;
use super::scheduler::{Policy, Scheduler};
use super::slab::Slab;
use super::state::{Change, DeadNote, GroupState, Note, Runs, TaskKey};
use super::wheel::Wheel;

/// What a reserve asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub tasks: usize,
    pub bytes: u64,
    pub lanes: LaneSet,
    pub lease_ms: u64,
    pub consumer: u64,
}

/// When a group gives up on a task, and how long it waits between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// 0 is without limit.
    pub max_attempts: u32,
    pub backoff_first_ms: u64,
    pub backoff_max_ms: u64,
}

impl Rules {
    /// Delay after failed attempt number `attempts`: doubling from the first to the cap.
    fn backoff_ms(&self, attempts: u32) -> u64 {
        let doublings = attempts.saturating_sub(1).min(32);
        self.backoff_first_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms)
    }
}

/// A lease's name inside the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub slot: u32,
    pub token: u32,
}

/// A task handed out.
pub(crate) struct Grant {
    pub ticket: Ticket,
    pub lane: LaneId,
    pub seq: Seq,
    pub attempt: u32,
    pub at: TaskAt,
}

/// Something that could not be handed out and must be reported.
pub(crate) enum Lost {
    Damaged { segment: std::sync::Arc<Segment>, offset: u32, bytes: u32, lost: Option<(u32, u32)> },
    Unreadable { segment: std::sync::Arc<Segment>, offset: u32, error: std::io::Error },
}

/// A task that the cursor passed and that is neither acked nor dead.
struct Slot {
    lane: LaneId,
    seq: Seq,
    base: u64,
    offset: u32,
    attempts: u32,
    phase: Phase,
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Leased { consumer: u64 },
    Due,
    Delayed { due: Timestamp, delay_ms: u64 },
}

/// One group of an open queue.
pub(crate) struct Group {
    pub id: u32,
    pub name: String,
    pub lanes: BTreeMap<LaneId, GroupLane>,
    starts: BTreeMap<LaneId, Seq>,
    slots: Slab<Slot>,
    wheel: Wheel,
    scheduler: Scheduler,
    /// What a checkpoint and the journal told of tasks that the cursor has not met again yet.
    notes: BTreeMap<TaskKey, Note>,
    pub dead: BTreeMap<TaskKey, DeadNote>,
    /// `dead` changed since the last checkpoint.
    pub dead_dirty: bool,
}

impl Group {
    /// The group as it goes on from `state`: cursors stand at the floor, and walk over what is acked.
    pub(crate) fn open(id: u32, state: GroupState, policy: Policy, now: Now) -> Self {
        let mut group = Group {
            id,
            name: state.name,
            lanes: BTreeMap::new(),
            starts: state.starts,
            slots: Slab::new(),
            wheel: Wheel::new(now.boot_ms),
            scheduler: Scheduler::new(policy),
            notes: state.notes,
            dead: state.dead,
            dead_dirty: false,
        };
        for ((lane, base), acks) in state.acks {
            group.lane_mut(lane).lives.entry(base).or_default().acks = acks;
        }
        for (lane, base) in state.done {
            group.lane_mut(lane).done.insert(base);
        }
        for (lane, acked) in state.acked_gone {
            group.lane_mut(lane).acked_gone = acked;
        }
        group
    }

    /// First sequences that the group sees.
    pub(crate) fn starts(&self) -> &BTreeMap<LaneId, Seq> {
        &self.starts
    }

    fn lane_mut(&mut self, lane: LaneId) -> &mut GroupLane {
        let start = self.starts.get(&lane).copied().unwrap_or_default();
        self.lanes.entry(lane).or_insert_with(|| GroupLane::new(start))
    }

    // ---- handing out ----

    /// Hands out up to `ask.tasks` tasks: due ones first, then new ones; the scheduler picks the lanes.
    pub(crate) fn reserve(
        &mut self,
        ask: &Ask,
        rules: &Rules,
        logs: &Lanes,
        now: Now,
        changes: &mut Runs,
        lost: &mut Vec<Lost>,
    ) -> Vec<Grant> {
        self.tick(rules, now, changes);
        let mut grants = Vec::with_capacity(ask.tasks.min(1024));
        let mut bytes_left = ask.bytes;
        let mut available = logs.started().and(&ask.lanes);
        while grants.len() < ask.tasks {
            let Some(lane) = self.scheduler.pick(&available) else { break };
            let Some(log) = logs.log(lane) else { break };
            let before = grants.len();
            let mut take = Take { ask, rules, log, lane, now, bytes_left: &mut bytes_left, changes, lost };
            let more = self.take_from_lane(&mut take, &mut grants);
            let served = u32::try_from(grants.len() - before).unwrap_or(u32::MAX);
            self.scheduler.served(lane, served);
            match more {
                More::Maybe => {}
                More::LaneEmpty => available.remove(lane),
                More::BudgetUsed => break,
            }
        }
        grants
    }

    fn take_from_lane(&mut self, take: &mut Take<'_, '_>, grants: &mut Vec<Grant>) -> More {
        self.lane_mut(take.lane);
        while grants.len() < take.ask.tasks {
            let Some((slot, at)) = self.next_of_lane(take) else { return More::LaneEmpty };
            let bytes = u64::from(at.header.payload_bytes);
            if bytes > *take.bytes_left && !grants.is_empty() {
                self.make_due(slot);
                return More::BudgetUsed;
            }
            *take.bytes_left = take.bytes_left.saturating_sub(bytes);
            if let Some(grant) = self.lease(slot, at, take) {
                grants.push(grant);
            }
        }
        More::Maybe
    }

    /// The next task of the lane: a slot that is neither due nor leased, and where its bytes are.
    fn next_of_lane(&mut self, take: &mut Take<'_, '_>) -> Option<(u32, TaskAt)> {
        while let Some((_, slot)) = self.lane_mut(take.lane).due.pop_first() {
            match self.find_again(slot, take.log) {
                Ok(at) => return Some((slot, at)),
                Err(lost) => {
                    take.lost.extend(lost);
                    self.void(slot);
                }
            }
        }
        self.walk(take)
    }

    /// Reads the header of a task that was met before.
    fn find_again(&self, slot: u32, log: &Log) -> Result<TaskAt, Option<Lost>> {
        let task = self.slots.slot(slot).ok_or(None)?;
        let segment = log.segment_of(task.seq).ok_or(None)?;
        let offset = task.offset;
        let region = match segment.region() {
            Ok(region) => region,
            Err(error) => return Err(Some(Lost::Unreadable { segment, offset, error })),
        };
        let bytes = region.slice(offset as usize..region.readable()).unwrap_or_default();
        match record::read(segment.life(), offset, bytes) {
            Found::Record(header) if header.kind == Kind::Task => Ok(TaskAt { segment, region, header }),
            _ => {
                let index = segment.index(task.seq);
                Err(Some(Lost::Damaged { segment, offset, bytes: 8, lost: index.map(|index| (index, index)) }))
            }
        }
    }

    /// Moves the cursor to the next task that the group has to deliver now.
    fn walk(&mut self, take: &mut Take<'_, '_>) -> Option<(u32, TaskAt)> {
        let durable = take.log.durable();
        loop {
            let lane = self.lanes.get_mut(&take.lane)?;
            let before = lane.cursor.base();
            if !skip_done(lane, take.log) {
                return None;
            }
            let step = lane.cursor.step(take.log, durable);
            // Lives between the old and the new place were left behind.
            let after = lane.cursor.base();
            if after != before {
                pass_lives(lane, take.log, before, after);
            }
            match step {
                Step::End => return None,
                Step::Damaged { segment, offset, bytes, lost } => {
                    take.lost.push(Lost::Damaged { segment, offset, bytes, lost });
                }
                Step::Unreadable { segment, offset, error } => {
                    take.lost.push(Lost::Unreadable { segment, offset, error });
                }
                Step::Task(at) => {
                    if let Some(slot) = self.meet(&at, take) {
                        return Some((slot, at));
                    }
                }
            }
        }
    }

    /// A task at the cursor: `None` if it is acked, dead, or delayed.
    fn meet(&mut self, at: &TaskAt, take: &mut Take<'_, '_>) -> Option<u32> {
        let (base, index) = (at.segment.base(), at.header.index);
        let seq = at.segment.seq(index);
        let lane = self.lanes.get_mut(&take.lane)?;
        if seq < lane.start || lane.is_acked(base, index) {
            return None;
        }
        lane.open(base);
        let key = (take.lane, seq);
        if !self.dead.is_empty() && self.dead.contains_key(&key) {
            return None;
        }
        let note = if self.notes.is_empty() { None } else { self.notes.remove(&key) };
        let Note { attempts, due, reason } = note.unwrap_or_default();
        let offset = at.header.offset;
        let task = Slot { lane: take.lane, seq, base, offset, attempts, phase: Phase::Due, reason };
        let (slot, _) = self.slots.insert(task);
        match due {
            // A clock that jumped back must not make the delay longer than it was asked for.
            Some((due, delay_ms)) if due > take.now.wall => {
                let rest = (due.0 - take.now.wall.0).min(delay_ms);
                self.delay(slot, due, delay_ms, take.now.boot_ms.saturating_add(rest));
                None
            }
            _ => Some(slot),
        }
    }

    /// Puts the task on loan, or gives up on it if its attempts are used up.
    fn lease(&mut self, slot: u32, at: TaskAt, take: &mut Take<'_, '_>) -> Option<Grant> {
        let task = self.slots.slot_mut(slot)?;
        if take.rules.max_attempts > 0 && task.attempts >= take.rules.max_attempts {
            let reason = std::mem::take(&mut task.reason);
            self.bury(slot, DeadCause::MaxAttempts, reason, take.now, take.changes);
            return None;
        }
        task.attempts += 1;
        task.phase = Phase::Leased { consumer: take.ask.consumer };
        let (lane, seq, attempt) = (task.lane, task.seq, task.attempts);
        let token = self.slots.renew(slot);
        self.wheel.arm(slot, take.now.boot_ms.saturating_add(take.ask.lease_ms));
        self.lane_mut(lane).in_flight += 1;
        take.changes.reserved(lane, seq, attempt);
        Some(Grant { ticket: Ticket { slot, token }, lane, seq, attempt, at })
    }

    /// True if a reserve might find something in `lanes` now.
    pub(crate) fn may_have_more(&self, logs: &Lanes, lanes: &LaneSet) -> bool {
        logs.started().and(lanes).iter().any(|lane| {
            let Some(log) = logs.log(lane) else { return false };
            self.lanes.get(&lane).is_none_or(|own| !own.due.is_empty() || own.cursor.may_have_more(log))
        })
    }

    // ---- settling ----

    /// The lease that `ticket` names, if it still holds and is for `seq`.
    pub(crate) fn holds(&self, ticket: Ticket, lane: LaneId, seq: Seq) -> bool {
        self.slots
            .get(ticket.slot, ticket.token)
            .is_some_and(|task| task.lane == lane && task.seq == seq && matches!(task.phase, Phase::Leased { .. }))
    }

    /// Ends a lease that holds: the task is done for good.
    pub(crate) fn ack(&mut self, ticket: Ticket) {
        let Some(task) = self.slots.remove(ticket.slot, ticket.token) else { return };
        self.wheel.disarm(ticket.slot);
        let index = u32::try_from(task.seq.0 - task.base).unwrap_or(u32::MAX);
        let lane = self.lane_mut(task.lane);
        lane.in_flight -= 1;
        lane.close(task.base, Some(index));
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
        let Some(task) = self.slots.get_mut(ticket.slot, ticket.token) else { return };
        cut_reason(reason).clone_into(&mut task.reason);
        self.end_lease(ticket.slot);
        let Some(task) = self.slots.slot(ticket.slot) else { return };
        if rules.max_attempts > 0 && task.attempts >= rules.max_attempts {
            let reason = task.reason.clone();
            self.bury(ticket.slot, DeadCause::MaxAttempts, reason, now, changes);
            return;
        }
        let delay_ms = delay_ms.unwrap_or_else(|| rules.backoff_ms(task.attempts));
        let due = Timestamp(now.wall.0.saturating_add(delay_ms));
        let note = Note { attempts: task.attempts, due: Some((due, delay_ms)), reason: task.reason.clone() };
        changes.push(Change::Retry { key: (task.lane, task.seq), note });
        if delay_ms == 0 {
            self.make_due(ticket.slot);
        } else {
            self.delay(ticket.slot, due, delay_ms, now.boot_ms.saturating_add(delay_ms));
        }
    }

    /// Ends a lease that holds: the attempt never began, and the task is due at once.
    pub(crate) fn release(&mut self, ticket: Ticket, changes: &mut Runs) {
        let Some(task) = self.slots.get_mut(ticket.slot, ticket.token) else { return };
        task.attempts = task.attempts.saturating_sub(1);
        changes.released(task.lane, task.seq, task.attempts);
        self.end_lease(ticket.slot);
        self.make_due(ticket.slot);
    }

    /// Ends a lease that holds: the task is dead at once.
    pub(crate) fn reject(&mut self, ticket: Ticket, reason: &str, now: Now, changes: &mut Runs) {
        if self.slots.get(ticket.slot, ticket.token).is_some() {
            self.end_lease(ticket.slot);
            self.bury(ticket.slot, DeadCause::Rejected, cut_reason(reason).to_owned(), now, changes);
        }
    }

    /// Moves the deadline of a lease that holds.
    pub(crate) fn extend(&mut self, ticket: Ticket, deadline_ms: u64) {
        if self.slots.get(ticket.slot, ticket.token).is_some() {
            self.wheel.arm(ticket.slot, deadline_ms);
        }
    }

    /// A task whose bytes turned out damaged: nobody can ever settle it.
    pub(crate) fn forget_damaged(&mut self, ticket: Ticket) {
        if self.slots.get(ticket.slot, ticket.token).is_some() {
            self.end_lease(ticket.slot);
            self.void(ticket.slot);
        }
    }

    /// Releases every lease of a consumer.
    pub(crate) fn release_all(&mut self, consumer: u64, changes: &mut Runs) {
        let held: Vec<Ticket> = self
            .slots
            .iter()
            .filter(|(_, task)| task.phase == Phase::Leased { consumer })
            .map(|(slot, _)| Ticket { slot, token: self.slots.token(slot) })
            .collect();
        for ticket in held {
            self.release(ticket, changes);
        }
    }

    fn end_lease(&mut self, slot: u32) {
        self.wheel.disarm(slot);
        self.slots.renew(slot);
        if let Some(task) = self.slots.slot_mut(slot) {
            task.phase = Phase::Due;
            let lane = task.lane;
            self.lane_mut(lane).in_flight -= 1;
        }
    }

    fn make_due(&mut self, slot: u32) {
        if let Some(task) = self.slots.slot_mut(slot) {
            task.phase = Phase::Due;
            let (lane, seq) = (task.lane, task.seq);
            self.lane_mut(lane).due.insert(seq, slot);
        }
    }

    fn delay(&mut self, slot: u32, due: Timestamp, delay_ms: u64, fire_ms: u64) {
        if let Some(task) = self.slots.slot_mut(slot) {
            task.phase = Phase::Delayed { due, delay_ms };
            let lane = task.lane;
            self.wheel.arm(slot, fire_ms);
            self.lane_mut(lane).delayed += 1;
        }
    }

    /// Gives up on a task that is on loan to nobody. Its record stays, and keeps its life from being done.
    fn bury(&mut self, slot: u32, cause: DeadCause, reason: String, now: Now, changes: &mut Runs) {
        let Some(task) = self.slots.remove_slot(slot) else { return };
        let dead = DeadNote { attempts: task.attempts, cause, at: now.wall, reason };
        let key = (task.lane, task.seq);
        changes.push(Change::Dead { key, dead: dead.clone() });
        self.dead.insert(key, dead);
        self.dead_dirty = true;
    }

    fn void(&mut self, slot: u32) {
        if let Some(task) = self.slots.remove_slot(slot) {
            self.lane_mut(task.lane).close(task.base, None);
        }
    }

    // ---- time ----

    /// Ends leases that ran out and makes delayed tasks due.
    pub(crate) fn tick(&mut self, rules: &Rules, now: Now, changes: &mut Runs) {
        let mut fired = Vec::new();
        self.wheel.advance(now.boot_ms, |slot| fired.push(slot));
        for slot in fired {
            let Some(task) = self.slots.slot(slot) else { continue };
            match task.phase {
                Phase::Leased { .. } => {
                    self.end_lease(slot);
                    self.expire(slot, rules, now, changes);
                }
                Phase::Delayed { .. } => {
                    let lane = task.lane;
                    self.lane_mut(lane).delayed -= 1;
                    self.make_due(slot);
                }
                Phase::Due => {}
            }
        }
    }

    fn expire(&mut self, slot: u32, rules: &Rules, now: Now, changes: &mut Runs) {
        let used_up = |task: &Slot| rules.max_attempts > 0 && task.attempts >= rules.max_attempts;
        if self.slots.slot(slot).is_some_and(used_up) {
            self.bury(slot, DeadCause::MaxAttempts, "the lease ran out".to_owned(), now, changes);
        } else {
            self.make_due(slot);
        }
    }

    /// When `tick` has work next, on the boot clock.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.wheel.next_due()
    }

    // ---- looking ----

    /// Every task that was handed out and not settled for good, as a checkpoint keeps it.
    pub(crate) fn notes(&self) -> impl Iterator<Item = (TaskKey, Note)> {
        let live = self.slots.iter().filter(|(_, task)| task.attempts > 0).map(|(_, task)| {
            let due = match task.phase {
                Phase::Delayed { due, delay_ms } => Some((due, delay_ms)),
                Phase::Leased { .. } | Phase::Due => None,
            };
            ((task.lane, task.seq), Note { attempts: task.attempts, due, reason: task.reason.clone() })
        });
        live.chain(self.notes.iter().map(|(key, note)| (*key, note.clone())))
    }

    /// True if the group has nothing to do in a life that begins at `base` and ends below `end`.
    pub(crate) fn is_done(&self, lane: LaneId, base: u64, end: u64) -> bool {
        self.starts.get(&lane).is_some_and(|start| end <= start.0)
            || self.lanes.get(&lane).is_some_and(|own| own.done.contains(&base))
    }
}

/// What a lane had to offer.
enum More {
    Maybe,
    LaneEmpty,
    BudgetUsed,
}

/// The circumstances of one lane's turn in a reserve.
struct Take<'a, 'b> {
    ask: &'a Ask,
    rules: &'a Rules,
    log: &'a Log,
    lane: LaneId,
    now: Now,
    bytes_left: &'b mut u64,
    changes: &'b mut Runs,
    lost: &'b mut Vec<Lost>,
}

/// Leaves lives that are done, and jumps over acked runs. False if there is no life to read.
fn skip_done(lane: &mut GroupLane, log: &Log) -> bool {
    loop {
        let Ok(entered) = lane.cursor.enter(log) else { return true };
        let Some(segment) = entered else { return false };
        let base = segment.base();
        if lane.done.contains(&base) {
            lane.cursor.skip_life();
            continue;
        }
        if let Some(life) = lane.lives.get(&base)
            && let Some((_, index)) = lane.cursor.place()
            && life.acks.contains(index)
        {
            lane.cursor.skip_to(life.acks.next_unacked(index));
        }
        return true;
    }
}

/// Notes that the cursor left every life from `from` up to `to`.
fn pass_lives(lane: &mut GroupLane, log: &Log, from: u64, to: u64) {
    let mut base = from;
    while base < to {
        let Some(segment) = log.segment_from(base).filter(|segment| segment.base() < to) else { return };
        if !lane.done.contains(&segment.base()) {
            lane.pass(segment.base());
        }
        base = segment.base() + 1;
    }
}

/// A header's widths and a run's are what the journal's are.
const _: () = assert!(size_of::<Header>() <= 64 && size_of::<Run>() <= 24, "copied on the hot path");

/// The cursor is the group's alone.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Cursor>();
};
