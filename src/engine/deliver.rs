//! Handing out: reserve, verify, journal the attempts.
//!
//! Order of things: under the group's lock the tasks are chosen, leased, and their attempts go to the
//! journal (published, so they survive the process). Bodies are verified after the lock is given up; one
//! that fails is reported, and its lease ends as if it had never been a task.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::{Ask, Grant, Lost};
use crate::error::{DamageKind, Result};
use crate::format::record;
use crate::log::Segment;
use crate::storage::Region;
use crate::types::{LaneSet, Now, TaskId, Timestamp};

use super::Engine;
use super::groups::GroupCell;
use super::receipt::Receipt;

/// A task handed out and verified.
pub(crate) struct Handed {
    pub receipt: Receipt,
    pub payload: Bytes,
    pub fields: Bytes,
    pub enqueued: Timestamp,
}

impl Engine {
    /// Hands out up to `ask.tasks` tasks of the group.
    ///
    /// Errors: `Poisoned`; `Full` if the attempts could not be journaled, in which case nothing is on loan.
    pub(crate) fn reserve(&self, cell: &GroupCell, ask: &Ask, now: Now) -> Result<Vec<Handed>> {
        self.check_poison()?;
        let mut lost = Vec::new();
        let grants = {
            let mut work = cell.state.lock();
            let work = &mut *work;
            let rules = &self.settings.rules;
            let grants = work.group.reserve(ask, rules, &self.lanes, now, &mut work.changes, &mut lost);
            if let Err(error) = self.write_changes(work, now.wall) {
                work.changes.clear();
                for grant in &grants {
                    work.group.release(grant.ticket, &mut work.changes);
                }
                work.changes.clear();
                return Err(error);
            }
            grants
        };
        for lost in lost {
            self.report_lost(lost);
        }
        Ok(self.verify(cell, &grants))
    }

    /// True if a reserve might hand something out now.
    pub(crate) fn may_reserve(&self, cell: &GroupCell, lanes: &LaneSet) -> bool {
        cell.state.lock().group.may_have_more(&self.lanes, lanes)
    }

    /// When the group's next lease runs out or its next delay ends, in milliseconds on the boot clock.
    pub(crate) fn next_due(&self, cell: &GroupCell) -> Option<u64> {
        cell.state.lock().group.next_due_ms()
    }

    /// Ends expired leases and wakes delayed tasks of every group. Returns when there is work next, in
    /// milliseconds on the boot clock.
    pub(crate) fn tick(&self, now: Now) -> Result<Option<u64>> {
        let mut next = None;
        for cell in self.groups() {
            let mut work = cell.state.lock();
            let work = &mut *work;
            let due = work.group.next_due_ms();
            if due.is_some_and(|due| due <= now.boot_ms) {
                work.group.tick(&self.settings.rules, now, &mut work.changes);
                self.write_changes(work, now.wall)?;
                self.arrivals.wake_all();
            }
            next = match (next, work.group.next_due_ms()) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u64>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(next)
    }

    fn verify(&self, cell: &GroupCell, grants: &[Grant]) -> Vec<Handed> {
        let mut handed = Vec::with_capacity(grants.len());
        let mut window: Option<Window> = None;
        let mut rest = grants;
        while let Some((grant, after)) = rest.split_first() {
            rest = after;
            if !window.as_ref().is_some_and(|window| window.covers(grant)) {
                window = Window::over(grant, after);
            }
            match window.as_ref().and_then(|window| window.cut(grant)) {
                Some((fields, payload)) => {
                    let task = TaskId { queue: self.queue, lane: grant.lane, seq: grant.seq };
                    let receipt = Receipt {
                        task,
                        group: cell.id,
                        attempt: grant.attempt,
                        epoch: self.epoch,
                        slot: grant.ticket.slot,
                        token: grant.ticket.token,
                    };
                    handed.push(Handed { receipt, payload, fields, enqueued: grant.at.header.time });
                }
                None => self.drop_damaged(cell, grant),
            }
        }
        handed
    }

    fn drop_damaged(&self, cell: &GroupCell, grant: &Grant) {
        let header = &grant.at.header;
        cell.state.lock().group.forget_damaged(grant.ticket);
        let lost = Some((header.index, header.index));
        let what = "the task's checksum does not match; it is not delivered".to_owned();
        self.report(&grant.at.segment, DamageKind::Corrupt, (header.offset, header.bytes), lost, what);
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
            Lost::Unreadable { segment, offset, error } => {
                let lost = segment.sealed().and_then(|s| s.records.checked_sub(1)).map(|last| (0, last));
                let bytes = segment.sealed().map_or(0, |s| s.end.saturating_sub(offset));
                let what = format!("the segment can't be read ({error}); its tasks wait for a reopen");
                self.report(&segment, DamageKind::Unreadable, (offset, bytes), lost, what);
            }
        }
    }
}

/// One borrowed range of a segment that covers several grants in a row, so that a batch costs one owner.
struct Window {
    region: Arc<Region>,
    segment: Arc<Segment>,
    range: Range<usize>,
    bytes: Bytes,
}

impl Window {
    /// The range from `first` over those of `after` that lie behind it in the same segment.
    fn over(first: &Grant, after: &[Grant]) -> Option<Window> {
        let start = first.at.header.offset as usize;
        let mut end = start + first.at.header.bytes as usize;
        for grant in after {
            let offset = grant.at.header.offset as usize;
            if !Arc::ptr_eq(&grant.at.region, &first.at.region) || offset < end {
                break;
            }
            end = offset + grant.at.header.bytes as usize;
        }
        let view = first.at.region.view(start..end)?;
        let (region, segment) = (Arc::clone(&first.at.region), Arc::clone(&first.at.segment));
        Some(Window { region, segment, range: start..end, bytes: Bytes::from_owner(view) })
    }

    fn covers(&self, grant: &Grant) -> bool {
        let start = grant.at.header.offset as usize;
        let end = start + grant.at.header.bytes as usize;
        Arc::ptr_eq(&self.region, &grant.at.region) && self.range.start <= start && end <= self.range.end
    }

    /// The task's fields and payload, if its body verifies.
    fn cut(&self, grant: &Grant) -> Option<(Bytes, Bytes)> {
        let header = &grant.at.header;
        let start = (header.offset as usize).checked_sub(self.range.start)?;
        let extent = self.bytes.get(start..start + header.bytes as usize)?;
        record::verify(self.segment.life(), header, extent)?;
        let relative = |range: Range<usize>| {
            let from = range.start.checked_sub(self.range.start)?;
            Some(self.bytes.slice(from..from + range.len()))
        };
        let fields = if header.fields_bytes == 0 { Bytes::new() } else { relative(header.fields_range())? };
        Some((fields, relative(header.payload_range())?))
    }
}
