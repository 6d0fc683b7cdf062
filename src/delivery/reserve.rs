//! Handing out: due tasks first, then the cursor ([`super::meet`]); a lease for each.

use std::io;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::format::journal::{DeadCause, Run};
use crate::format::record::{Found, Header, Kind};
use crate::log::{Lanes, Log, Segment, Source};
use crate::sabotage::{Bug, on};
use crate::storage::Region;
use crate::types::{LaneId, LaneSet, Now, Seq};

use super::group::{Group, Phase, Rules, Slot, Ticket};
use super::passed::Whose;
use super::scheduler::Turn;
use super::state::Runs;
use super::workers::WorkerId;

/// What a reserve asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub tasks: usize,
    pub bytes: u64,
    pub lanes: LaneSet,
    pub lease_ms: u64,
    pub consumer: u64,
}

impl Ask {
    /// The worker that asks, if it is one.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        WorkerId::of_consumer(self.consumer)
    }
}

/// A task handed out.
pub(crate) struct Grant {
    pub ticket: Ticket,
    pub lane: LaneId,
    pub seq: Seq,
    pub attempt: u32,
    /// What was said of the attempt before.
    pub reason: String,
    /// Index of its life in [`Granted::sources`].
    pub source: usize,
    pub header: Header,
}

/// What a reserve gave. The lives stand apart, for a batch lies in one or two of them. A single task needs no allocation.
#[derive(Default)]
pub(crate) struct Granted {
    pub grants: SmallVec<[Grant; 1]>,
    pub sources: SmallVec<[Source; 1]>,
}

/// Something that could not be handed out and must be reported.
pub(crate) enum Lost {
    Damaged { segment: Arc<Segment>, offset: u32, bytes: u32, lost: Option<(u32, u32)> },
    Unreadable { segment: Arc<Segment>, offset: u32, lost: Option<(u32, u32)>, error: io::Error },
}

impl Granted {
    pub(super) fn source(&mut self, source: &Source) -> usize {
        let is_last = self.sources.last().is_some_and(|last| Arc::ptr_eq(&last.region, &source.region));
        if !is_last {
            self.sources.push(source.clone());
        }
        self.sources.len() - 1
    }
}

/// A task about to be leased: its slot, its life in [`Granted::sources`], its header.
pub(super) type Candidate = (u32, usize, Header);

impl Group {
    /// Hands out up to `ask.tasks` tasks: due ones first, then new ones; the scheduler picks the lanes.
    pub(crate) fn reserve(
        &mut self,
        ask: &Ask,
        rules: &Rules,
        logs: &Lanes,
        now: Now,
        changes: &mut Runs,
        lost: &mut Vec<Lost>,
    ) -> Granted {
        self.load_far(logs, now, lost);
        self.tick(rules, now, changes);
        // No lease without a fence of its own.
        let ask = &Ask { tasks: ask.tasks.min(self.fences.left()), ..*ask };
        let grants = SmallVec::with_capacity(ask.tasks.min(1024));
        let mut granted = Granted { grants, ..Granted::default() };
        let (mut bytes_left, changed) = (ask.bytes, changes.as_slice().len().saturating_sub(1));
        let mut available = logs.started().and(&ask.lanes);
        let tasks = ask.tasks.min(self.may_lend(rules)).min(self.queue_may_lend());
        while granted.grants.len() < tasks {
            let Some(Turn { lane, tasks_max }) = self.scheduler.pick(&available, now.boot_ms) else { break };
            let Some(log) = logs.log(lane) else { break };
            let before = granted.grants.len();
            let may_lend = self.may_lend_of(lane, rules);
            if may_lend == 0 {
                // Its turn is not over, nor was it found empty: it goes on waiting.
                available.remove(lane);
                continue;
            }
            let until = before.saturating_add(tasks_max.min(may_lend)).min(tasks);
            let mut take = Take { ask, rules, log, lane, now, until, bytes_left: &mut bytes_left, changes, lost };
            let more = self.take_from_lane(&mut take, &mut granted);
            self.scheduler.served(lane, granted.grants.len() - before, now.boot_ms);
            match more {
                More::Maybe => {}
                More::LaneEmpty => {
                    self.scheduler.found_empty(lane, now.boot_ms);
                    available.remove(lane);
                }
                More::BudgetUsed => break,
            }
        }
        // The last one before may have grown.
        self.note_begun(changes.as_slice().get(changed..).unwrap_or_default());
        granted
    }

    fn take_from_lane(&mut self, take: &mut Take<'_, '_>, granted: &mut Granted) -> More {
        self.meet_lane(take.lane);
        if let Some(lane) = self.lanes.get_mut(take.lane)
            && take.now.boot_ms.saturating_sub(lane.read_ms) >= CHECK_HOLDS_MS
        {
            lane.read_ms = take.now.boot_ms;
            lane.cursor.distrust();
            lane.passed.distrust();
        }
        let durable = take.log.durable();
        while granted.grants.len() < take.until {
            // Another group may have lent the last one that the queue may.
            if self.queue_may_lend() == 0 {
                return More::BudgetUsed;
            }
            let mut due = self.next_due(take, granted);
            // More may be due than was loaded at once.
            while due.is_none() && self.load_lane(take.lane, take.log, take.now, take.lost) {
                due = self.next_due(take, granted);
            }
            let again = due.or_else(|| self.next_ready(take, granted));
            let again = again.or_else(|| self.next_of_buckets(take, granted));
            let candidate = again.or_else(|| self.walk(take, durable, granted));
            let Some(candidate) = candidate else { return More::LaneEmpty };
            let (slot, _, header) = candidate;
            let bytes = u64::from(header.payload_bytes);
            if bytes > *take.bytes_left && !granted.grants.is_empty() {
                self.make_due(slot);
                return More::BudgetUsed;
            }
            *take.bytes_left = take.bytes_left.saturating_sub(bytes);
            if let Some(grant) = self.lease(candidate, take) {
                granted.grants.push(grant);
            }
        }
        More::Maybe
    }

    /// The next task of the lane that is due again.
    #[inline]
    fn next_due(&mut self, take: &mut Take<'_, '_>, granted: &mut Granted) -> Option<Candidate> {
        loop {
            let slot = self.pop_due(take)?;
            if let Err(whose) = self.takes_key(slot) {
                self.shelve(slot, whose);
                continue;
            }
            match self.find_again(slot, take.log) {
                Ok((source, header)) => return Some((slot, granted.source(&source), header)),
                // Its slot stays open, due and in no list, so that its life and its attempts are kept for a reopen.
                Err(Some(lost @ Lost::Unreadable { .. })) => {
                    take.lost.push(lost);
                    let key = self.slots.slot(slot).and_then(Slot::key);
                    self.free_key(slot, key);
                }
                Err(lost) => {
                    take.lost.extend(lost);
                    self.void(slot);
                }
            }
        }
    }

    /// Takes the first due task of the lane that the one who asks may have.
    #[inline]
    fn pop_due(&mut self, take: &Take<'_, '_>) -> Option<u32> {
        let due = &mut self.lanes.get_mut(take.lane)?.due;
        let Some(sticky) = &mut self.sticky else { return due.pop_first().map(|(_, slot)| slot) };
        let keyless = due.first_key_value().map(|(seq, _)| *seq);
        let keyed = sticky.first_due(take.ask.worker(), take.lane);
        match keyed {
            Some((seq, slot)) if keyless.is_none_or(|keyless| seq < keyless) => {
                sticky.take_due(take.ask.worker(), take.lane, seq);
                Some(slot)
            }
            _ => due.pop_first().map(|(_, slot)| slot),
        }
    }

    /// The task in the slot takes its key, if it has one and doesn't have it yet; else, what it waits for.
    #[inline]
    fn takes_key(&mut self, slot: u32) -> Result<(), Whose> {
        let Some(task) = self.slots.slot(slot) else { return Ok(()) };
        let Some(key) = task.key() else { return Ok(()) };
        let spot = task.spot();
        if self.keys.is_held_by(key, slot) {
            return Ok(());
        }
        if self.sticky.as_ref().is_some_and(|sticky| sticky.waits_before(key, task.lane, spot)) {
            return Err(Whose::Another);
        }
        if !self.keys.is_free(key, task.lane, spot) {
            return Err(Whose::Own);
        }
        self.keys.hold(key, slot);
        Ok(())
    }

    /// Reads the header of a task that was met before.
    fn find_again(&self, slot: u32, log: &Log) -> Result<(Source, Header), Option<Lost>> {
        let task = self.slots.slot(slot).ok_or(None)?;
        let segment = log.segment_of(task.seq).ok_or(None)?;
        read_task(segment, task.seq, task.offset).map_err(Some)
    }

    /// Puts the task on loan, if the queue may have one more; or gives up on it if its attempts are used up or nobody wants
    /// it any more.
    fn lease(&mut self, candidate: Candidate, take: &mut Take<'_, '_>) -> Option<Grant> {
        let (slot, source, header) = candidate;
        let task = self.slots.slot_mut(slot)?;
        if task.is_expired(take.now) {
            self.expire_task(slot, take);
            return None;
        }
        if take.rules.used_up(task, &self.notes) {
            let reason = self.reason_of(slot);
            self.bury(slot, DeadCause::MaxAttempts, reason, take.now, take.changes);
            return None;
        }
        if !self.share.take() {
            self.make_due(slot);
            return None;
        }
        let mut until = take.now.boot_ms.saturating_add(take.ask.lease_ms);
        if let Some(own) = &mut task.own {
            own.limit_ms = own.time_limit_ms.map(|limit| take.now.boot_ms.saturating_add(limit));
            until = until.min(own.limit_ms.unwrap_or(u64::MAX));
        }
        task.set_phase(Phase::Leased { consumer: take.ask.consumer });
        if let (Some(sticky), Some(key)) = (&mut self.sticky, task.key()) {
            sticky.lent(key);
        }
        let (lane, seq) = task.task_key();
        let reason = self.reason_of(slot);
        let attempt = self.begin_attempt(slot);
        let fence = self.slots.lend(slot, self.fences.take());
        self.wheel.arm(slot, until);
        self.lanes.get_mut(lane)?.in_flight += 1;
        take.changes.reserved(lane, seq, attempt);
        Some(Grant { ticket: Ticket { slot, fence }, lane, seq, attempt, reason, source, header })
    }

    /// A task that nobody wants done any more: a dead letter, or gone and counted.
    fn expire_task(&mut self, slot: u32, take: &mut Take<'_, '_>) {
        if take.rules.expired_are_dead {
            let reason = self.reason_of(slot);
            self.bury(slot, DeadCause::Expired, reason, take.now, take.changes);
        } else if let Some(task) = self.slots.remove_slot(slot) {
            self.free_key(slot, task.key());
            self.forget_note(&task);
            take.changes.acked(task.lane, task.seq);
            self.in_lane(task.lane, |lane| {
                lane.expired += 1;
                lane.settled.add(u64::from(task.bytes));
                lane.close(task.base(), Some(task.index));
            });
        }
    }

    /// True if a reserve of that consumer might find something in `lanes` now.
    pub(crate) fn may_have_more(&self, logs: &Lanes, lanes: &LaneSet, rules: &Rules, consumer: u64) -> bool {
        let worker = WorkerId::of_consumer(consumer);
        self.may_lend(rules) > 0
            && self.queue_may_lend() > 0
            && logs.started().and(lanes).iter().any(|lane| {
                let Some(log) = logs.log(lane) else { return false };
                self.keys.has_ready(lane, |key| self.may_take(worker, key))
                    || self.sticky.as_ref().is_some_and(|sticky| sticky.has_any(worker, lane))
                    || self.lanes.get(lane).is_none_or(|own| !own.due.is_empty() || own.cursor.may_have_more(log))
            })
    }
}

/// How long bytes ahead of a cursor that were checked are taken to be in memory still.
const CHECK_HOLDS_MS: u64 = 1_000;

/// Reads a task's header where it was met before, or where it was moved to since, and makes sure that all of its record can
/// be read.
pub(super) fn read_task(segment: Arc<Segment>, seq: Seq, offset: u32) -> Result<(Source, Header), Lost> {
    let lost = segment.index(seq).map(|index| (index, index));
    let look = |region: &Region| match segment.index(seq).filter(|_| segment.is_cold() && !on(Bug::PlaceTrusted)) {
        Some(index) => Ok(segment.find(region, index)?.map_or(Found::Invalid, Found::Record)),
        None => segment.read_again(region, offset),
    };
    let found = segment.region().and_then(|region| Ok((look(&region)?, region)));
    match found {
        Ok((Found::Record(header), region)) if header.kind == Kind::Task => Ok((Source { segment, region }, header)),
        Ok(_) => Err(Lost::Damaged { segment, offset, bytes: 8, lost }),
        Err(error) => Err(Lost::Unreadable { segment, offset, lost, error }),
    }
}

/// What a lane had to offer.
enum More {
    Maybe,
    LaneEmpty,
    BudgetUsed,
}

/// The circumstances of one lane's turn in a reserve.
pub(super) struct Take<'a, 'b> {
    pub ask: &'a Ask,
    pub rules: &'a Rules,
    pub log: &'a Log,
    pub lane: LaneId,
    pub now: Now,
    /// Its turn ends with so many grants.
    pub until: usize,
    pub bytes_left: &'b mut u64,
    pub changes: &'b mut Runs,
    pub lost: &'b mut Vec<Lost>,
}

/// A header's widths and a run's are what the journal's are.
const _: () = assert!(size_of::<Header>() <= 64 && size_of::<Run>() <= 24, "copied on the hot path");
