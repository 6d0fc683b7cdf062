//! Handing out: reserve, verify, journal the attempts.
//!
//! Order of things: under the group's lock the tasks are chosen, leased, and their attempts go to the
//! journal (published, so they survive the process). Bodies are verified after the lock is given up; one
//! that fails is reported, and its lease ends as if it had never been a task. What lies in a segment whose map failed is
//! handed out no more: its attempts are taken back, and it waits for a reopen.

use std::ops::Range;

use bytes::Bytes;

use crate::delivery::fences::{FENCES_PER_RANGE, Fences};
use crate::delivery::{Ask, Grant, Granted, Group, Lost};
use crate::error::{DamageKind, Error, Result};
use crate::format::record;
use crate::log::{Segment, Source, map_failed};
use crate::sabotage::{Bug, on};
use crate::types::{LaneSet, Now, TaskId, Timestamp};

use super::Engine;
use super::groups::GroupCell;
use super::receipt::Receipt;

/// With fewer fences than this, and no more to be had, a reserve that asks for more is refused.
const FENCES_MIN: usize = 1 << 16;

/// A task handed out and verified.
#[cfg_attr(any(test, feature = "sim"), derive(Clone))]
pub(crate) struct Handed {
    pub receipt: Receipt,
    /// What was said of the attempt before.
    pub reason: String,
    pub payload: Bytes,
    pub fields: Bytes,
    pub enqueued: Timestamp,
}

impl Engine {
    /// Hands out up to `ask.tasks` tasks of the group, each made into what the caller keeps by `make`.
    ///
    /// Errors: `Poisoned`; `GroupRemoved`; `WorkerLost` for a worker that is none any more, for every reserve of one is a heartbeat; `Full` if there are no fences to be had before the next checkpoint; `Full` or `InDoubt` if the
    /// attempts could not be journaled. Nothing is on loan then.
    pub(crate) fn reserve<T>(
        &self,
        cell: &GroupCell,
        ask: &Ask,
        now: Now,
        make: impl FnMut(Handed) -> T,
    ) -> Result<Vec<T>> {
        self.check_poison()?;
        let mut lost = Vec::new();
        let granted = {
            let mut work = self.lock_group(cell)?;
            let work = &mut *work;
            self.refill_fences(&mut work.group, ask.tasks)?;
            let rules = &self.settings.rules;
            let ask = &self.without_paused(cell, ask);
            if let Some(worker) = ask.worker() {
                self.beat_in(work, worker, now)?;
            }
            let granted = work.group.reserve(ask, rules, &self.lanes, now, &mut work.changes, &mut lost);
            if let Err(error) = self.write_changes(work, now.wall) {
                work.changes.clear();
                for grant in &granted.grants {
                    work.group.release(grant.ticket, &mut work.changes);
                }
                work.changes.clear();
                self.wake_if_woken(&mut work.group);
                return Err(error);
            }
            self.wake_if_woken(&mut work.group);
            granted
        };
        for lost in lost {
            self.report_lost(lost);
        }
        Ok(self.verify(cell, &granted, now.wall, make))
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

    fn verify<T>(
        &self,
        cell: &GroupCell,
        granted: &Granted,
        time: Timestamp,
        mut make: impl FnMut(Handed) -> T,
    ) -> Vec<T> {
        let mut handed = Vec::with_capacity(granted.grants.len());
        let mut window: Option<Window<'_>> = None;
        let mut rest = granted.grants.as_slice();
        while let Some((grant, after)) = rest.split_first() {
            rest = after;
            if !window.as_ref().is_some_and(|window| window.covers(grant)) {
                window = Window::over(&granted.sources, grant, after);
            }
            let cut = window.as_ref().and_then(|window| window.cut(grant));
            // Asked after the look: what was read of a failed map proves nothing.
            if let Some(source) = granted.sources.get(grant.source).filter(|source| source.region.has_failed()) {
                self.park(cell, &source.segment, grant, time);
                continue;
            }
            match cut {
                Some((fields, payload)) => {
                    let task = TaskId { queue: self.queue, lane: grant.lane, seq: grant.seq };
                    let receipt = Receipt {
                        task,
                        group: cell.id,
                        attempt: grant.attempt,
                        slot: grant.ticket.slot,
                        fence: grant.ticket.fence,
                    };
                    let reason = grant.reason.clone();
                    handed.push(make(Handed { receipt, reason, payload, fields, enqueued: grant.header.time }));
                }
                None => self.drop_damaged(cell, granted, grant),
            }
        }
        handed
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

/// One borrowed range of a segment that covers several grants in a row, so that a batch costs one owner.
struct Window<'a> {
    source: &'a Source,
    /// Index of the source.
    number: usize,
    range: Range<usize>,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    /// The range from `first` over those of `after` that lie behind it in the same segment.
    fn over(sources: &'a [Source], first: &Grant, after: &[Grant]) -> Option<Window<'a>> {
        let source = sources.get(first.source)?;
        let start = first.header.offset as usize;
        let mut end = start + first.header.bytes as usize;
        for grant in after {
            let offset = grant.header.offset as usize;
            if grant.source != first.source || offset < end {
                break;
            }
            end = offset + grant.header.bytes as usize;
        }
        let view = source.region.view(start..end)?;
        Some(Window { source, number: first.source, range: start..end, bytes: Bytes::from_owner(view) })
    }

    fn covers(&self, grant: &Grant) -> bool {
        let start = grant.header.offset as usize;
        let end = start + grant.header.bytes as usize;
        self.number == grant.source && self.range.start <= start && end <= self.range.end
    }

    /// The task's fields and payload, if its body verifies.
    #[inline]
    fn cut(&self, grant: &Grant) -> Option<(Bytes, Bytes)> {
        let header = &grant.header;
        let start = (header.offset as usize).checked_sub(self.range.start)?;
        let extent = self.bytes.get(start..start + header.bytes as usize)?;
        if !on(Bug::BodyNotVerified) {
            record::verify(self.source.segment.life(), header, extent)?;
        }
        let relative = |range: Range<usize>| {
            let from = range.start.checked_sub(self.range.start)?;
            Some(self.bytes.slice(from..from + range.len()))
        };
        let fields = if header.fields_bytes == 0 { Bytes::new() } else { relative(header.fields_range())? };
        Some((fields, relative(header.payload_range())?))
    }
}
