//! Handing out: reserve, verify, journal the attempts.
//!
//! Order of things: under the group's lock the tasks are chosen, leased, and their attempts go to the
//! journal (published, so they survive the process). Bodies are verified after the lock is given up; one
//! that fails is reported, and its lease ends as if it had never been a task. What lies in a segment whose map failed is
//! handed out no more: its attempts are taken back, and it waits for a reopen.

use bytes::Bytes;

use crate::delivery::fences::{FENCES_PER_RANGE, Fences};
use crate::delivery::{Ask, Grant, Granted, Group, Lost};
use crate::error::{DamageKind, Error, Result};
use crate::format::record;
use crate::log::{Segment, Source, map_failed};
use crate::sabotage::{Bug, on};
use crate::storage::View;
use crate::types::{LaneSet, Now, TaskId, Timestamp};

use super::Engine;
use super::groups::{GroupCell, GroupWork};
use super::receipt::Receipt;
use super::settle::Settle;

/// With fewer fences than this, and no more to be had, a reserve that asks for more is refused.
const FENCES_MIN: usize = 1 << 16;

/// A task handed out and verified.
#[cfg_attr(any(test, feature = "sim"), derive(Clone))]
pub(crate) struct Handed {
    pub receipt: Receipt,
    /// What was said of the attempt before.
    pub reason: String,
    pub body: Body,
    pub enqueued: Timestamp,
}

/// A task's bytes, borrowed from the log: its fields, and its payload behind them.
#[derive(Clone)]
pub(crate) struct Body {
    view: View,
    fields: usize,
}

impl Body {
    #[inline]
    pub(crate) fn fields(&self) -> &[u8] {
        self.view.as_ref().get(..self.fields).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        self.view.as_ref().get(self.fields..).unwrap_or_default()
    }

    /// The payload as bytes that live on by themselves; they are still the log's.
    pub(crate) fn share_payload(&self) -> Bytes {
        Bytes::from_owner(self.view.clone()).slice(self.fields..)
    }
}

impl Engine {
    /// Hands out up to `ask.tasks` tasks of the group, each made into what the caller keeps by `make`.
    ///
    /// Errors: as for [`Engine::reserve_each`].
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn reserve<T>(
        &self,
        cell: &GroupCell,
        ask: &Ask,
        now: Now,
        mut make: impl FnMut(Handed) -> T,
    ) -> Result<Vec<T>> {
        let mut list = Vec::new();
        self.reserve_each(cell, ask, now, |handed, _| list.push(make(handed)))?;
        Ok(list)
    }

    /// Hands out up to `ask.tasks` tasks of the group, each to `give`, with how many there may be from it on.
    ///
    /// Errors: `Poisoned`; `GroupRemoved`; `WorkerLost` for a worker that is none any more, for every reserve of one is a heartbeat; `Full` if there are no fences to be had before the next checkpoint; `Full` or `InDoubt` if the
    /// attempts could not be journaled. Nothing is on loan then.
    pub(crate) fn reserve_each(
        &self,
        cell: &GroupCell,
        ask: &Ask,
        now: Now,
        give: impl FnMut(Handed, usize),
    ) -> Result<()> {
        self.check_poison()?;
        let mut lost = Vec::new();
        let granted = {
            let mut work = self.lock_group(cell)?;
            self.admit(&mut work, ask, now)?;
            self.lend(cell, &mut work, ask, now, &mut lost)?.0
        };
        self.hand_out(cell, &granted, lost, now, give);
        Ok(())
    }

    /// Acks a receipt and hands out as [`Engine::reserve_each`] does, under one lock and with one entry in the journal. Gives
    /// the position of the journal behind that, as [`Engine::settle_lease`] does, and whether anything could be handed out.
    ///
    /// Errors: those of the two calls, each for its half. Where the entry could not be written the first has it, and nothing
    /// is on loan.
    pub(crate) fn ack_and_reserve_each(
        &self,
        cell: &GroupCell,
        receipt: Receipt,
        ask: &Ask,
        now: Now,
        give: impl FnMut(Handed, usize),
    ) -> (Result<Option<u64>>, Result<()>) {
        let mut lost = Vec::new();
        let (acked, granted) = {
            let admitted = self.check_poison().and_then(|()| {
                let mut work = self.lock_group(cell)?;
                self.admit(&mut work, ask, now)?;
                Ok(work)
            });
            let mut work = match admitted {
                Ok(work) => work,
                Err(refused) => return (self.settle_lease(cell, receipt, Settle::Ack, now), Err(refused)),
            };
            let answer = self.ack_in(&mut work, &receipt, now);
            if on(Bug::AckForgottenForNext) {
                work.changes.clear();
            }
            let lent = self.lend(cell, &mut work, ask, now, &mut lost);
            // Under a bound on what is on loan an ack lets others have something, whatever becomes of its entry.
            if answer.is_ok() && self.settings.rules.bound_loans() {
                self.arrivals.wake_all();
            }
            match (answer, lent) {
                (answer, Ok((granted, end))) => (answer.map(|()| end), granted),
                (Ok(()), Err(error)) => return (Err(Error::in_doubt(error)), Ok(())),
                (Err(stale), Err(error)) => return (Err(stale), Err(error)),
            }
        };
        self.hand_out(cell, &granted, lost, now, give);
        (acked, Ok(()))
    }

    /// Lets in who asks: there are fences for it, and a worker is heard of.
    fn admit(&self, work: &mut GroupWork, ask: &Ask, now: Now) -> Result<()> {
        self.refill_fences(&mut work.group, ask.tasks)?;
        ask.worker().map_or(Ok(()), |worker| self.beat_in(work, worker, now))
    }

    /// Chooses and leases, and writes that to the journal, with whatever changed in the group before. Gives the position of
    /// the journal behind it too.
    fn lend(
        &self,
        cell: &GroupCell,
        work: &mut GroupWork,
        ask: &Ask,
        now: Now,
        lost: &mut Vec<Lost>,
    ) -> Result<(Granted, Option<u64>)> {
        let ask = &self.without_paused(cell, ask);
        let granted = work.group.reserve(ask, &self.settings.rules, &self.lanes, now, &mut work.changes, lost);
        let written = self.write_changes(work, now.wall);
        if written.is_err() {
            work.changes.clear();
            for grant in &granted.grants {
                work.group.release(grant.ticket, &mut work.changes);
            }
            work.changes.clear();
        }
        self.wake_if_woken(&mut work.group);
        Ok((granted, written?))
    }

    fn hand_out(
        &self,
        cell: &GroupCell,
        granted: &Granted,
        lost: Vec<Lost>,
        now: Now,
        give: impl FnMut(Handed, usize),
    ) {
        for lost in lost {
            self.report_lost(lost);
        }
        self.verify(cell, granted, now.wall, give);
    }

    /// Gives a group that runs low another range of fences: each is above all that were given out before.
    pub(super) fn refill_fences(&self, group: &mut Group, wanted: usize) -> Result<()> {
        if group.fences.run_low() {
            match self.take_sequences(FENCES_PER_RANGE) {
                Some(first) => group.fences = Fences::from(first),
                // The next checkpoint raises the ceiling, and what is left lasts until then.
                None if group.fences.left() < wanted.min(FENCES_MIN) => {
                    return Err(Error::Full {
                        log: "the range of fencing tokens".to_owned(),
                        waited_ms: 0,
                        cause: None,
                    });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Wakes whoever waits for a task, if one became deliverable by the way.
    pub(super) fn wake_if_woken(&self, group: &mut Group) {
        if group.take_woken() {
            self.arrivals.wake_all();
        }
    }

    /// True if a reserve might hand something out now.
    pub(crate) fn may_reserve(&self, cell: &GroupCell, lanes: &LaneSet, consumer: u64) -> bool {
        let work = cell.state.lock();
        // Who waits for a task of a group that is gone is to ask, and to learn it.
        work.removed
            || work.group.may_have_more(&self.lanes, &self.unpaused(cell, lanes), &self.settings.rules, consumer)
    }

    /// When the group's next lease runs out or its next delay ends, in milliseconds on the boot clock.
    pub(crate) fn next_due(&self, cell: &GroupCell) -> Option<u64> {
        cell.state.lock().group.next_due_ms()
    }

    /// Ends expired leases and wakes delayed tasks of every group. Returns when there is work next, in
    /// milliseconds on the boot clock.
    pub(crate) fn tick(&self, now: Now) -> Result<Option<u64>> {
        let (mut next, mut lost) = (None, Vec::new());
        for cell in self.groups() {
            let mut work = cell.state.lock();
            let work = &mut *work;
            let due = work.group.next_due_ms();
            let is_due = due.is_some_and(|due| due <= now.boot_ms) || work.group.far_wants(now);
            if is_due || work.group.exceeds(&self.settings.rules.dead, now.wall) {
                work.group.load_far(&self.lanes, now, &mut lost);
                work.group.tick(&self.settings.rules, now, &mut work.changes);
                let written = self.write_changes(work, now.wall);
                self.arrivals.wake_all();
                written?;
            }
            let more = self.retain(work, now)?.then_some(now.boot_ms);
            next = match (next, more.or_else(|| work.group.next_due_ms())) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u64>(a, b)),
                (a, b) => a.or(b),
            };
        }
        for lost in lost {
            self.report_lost(lost);
        }
        Ok(next)
    }

    fn verify(&self, cell: &GroupCell, granted: &Granted, time: Timestamp, mut give: impl FnMut(Handed, usize)) {
        let mut rest = granted.grants.as_slice();
        while let Some((grant, after)) = rest.split_first() {
            let source = granted.sources.get(grant.source);
            let body = source.and_then(|source| verified(source, grant));
            // Asked after the look: what was read of a failed map proves nothing.
            if let Some(source) = source.filter(|source| source.region.has_failed()) {
                self.park(cell, &source.segment, grant, time);
            } else if let Some(body) = body {
                let task = TaskId { queue: self.queue, lane: grant.lane, seq: grant.seq };
                let receipt = Receipt {
                    task,
                    group: cell.id,
                    attempt: grant.attempt,
                    slot: grant.ticket.slot,
                    fence: grant.ticket.fence,
                };
                let handed = Handed { receipt, reason: grant.reason.clone(), body, enqueued: grant.header.time };
                give(handed, rest.len());
            } else {
                self.drop_damaged(cell, granted, grant);
            }
            rest = after;
        }
    }

    fn drop_damaged(&self, cell: &GroupCell, granted: &Granted, grant: &Grant) {
        let header = &grant.header;
        {
            let mut work = cell.state.lock();
            work.group.forget_damaged(grant.ticket);
            self.note_settled(&work);
            self.wake_if_woken(&mut work.group);
        }
        let lost = Some((header.index, header.index));
        let what = "the task's checksum does not match; it is not delivered".to_owned();
        if let Some(source) = granted.sources.get(grant.source) {
            self.report(&source.segment, DamageKind::Corrupt, (header.offset, header.bytes), lost, what);
        }
    }

    fn report_lost(&self, lost: Lost) {
        match lost {
            Lost::Damaged { segment, offset, bytes, lost } => {
                let what = match lost {
                    Some(_) => "record headers do not verify; the tasks in this range are not delivered",
                    None => "bytes between records do not verify; no task is lost",
                };
                self.report(&segment, DamageKind::Corrupt, (offset, bytes), lost, what.to_owned());
            }
            Lost::Unreadable { segment, .. } if segment.has_failed() => self.report_failed(&segment),
            Lost::Unreadable { segment, offset, lost, error } => {
                let bytes = segment.sealed().map_or(0, |s| s.end.saturating_sub(offset));
                let what = format!("the segment can't be read ({error}); its tasks wait for a reopen");
                self.report(&segment, DamageKind::Unreadable, (offset, bytes), lost, what);
            }
        }
    }

    /// Takes a task back that lies in a segment whose map failed.
    fn park(&self, cell: &GroupCell, segment: &Segment, grant: &Grant, time: Timestamp) {
        {
            let mut work = cell.state.lock();
            let work = &mut *work;
            work.group.park(grant.ticket, &mut work.changes);
            // If the journal fails too the attempt stays counted, and the engine is poisoned.
            let _counted = self.write_changes(work, time);
            self.wake_if_woken(&mut work.group);
        }
        self.report_failed(segment);
    }

    /// Reports a segment whose map failed, once and as a whole: which of its pages are lost is not known.
    fn report_failed(&self, segment: &Segment) {
        let end = segment.sealed().map_or(segment.limit(), |sealed| sealed.end);
        let lost = segment.sealed().and_then(|s| s.records.checked_sub(1)).map(|last| (0, last));
        let what = format!("{}; its tasks wait for a reopen", map_failed());
        self.report(segment, DamageKind::Unreadable, (0, end), lost, what);
    }
}

/// The task's bytes, if they verify.
#[inline]
fn verified(source: &Source, grant: &Grant) -> Option<Body> {
    let header = &grant.header;
    let start = header.offset as usize;
    let extent = source.region.slice(start..start + header.bytes as usize)?;
    if !on(Bug::BodyNotVerified) {
        record::verify(source.segment.life(), header, extent)?;
    }
    let (fields, payload) = (header.fields_range(), header.payload_range());
    Some(Body { view: source.region.view(fields.start..payload.end)?, fields: fields.len() })
}
