//! Retention: how much a group may have left to do, and letting go of its oldest tasks beyond that.
//!
//! The janitor's tick looks at each group that is to let go of anything: what it has left is counted segment by segment,
//! without a look at any record, and only what is to go is walked over, the oldest of all lanes first. Every look does so
//! much and no more, under the group's lock; what it lets go of is journaled like an ack or a dead letter, and a crash leaves
//! any part of it, which the next look goes on from.

use crate::delivery::retention::Fate;
use crate::delivery::{Amount, Group};
use crate::error::Result;
use crate::format::journal;
use crate::format::record::Header;
use crate::log::{Cursor, Log, Segment, Step};
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, Now, Retention, Timestamp};

use super::Engine;
use super::groups::{GroupCell, GroupWork};
use super::space::{part, used_bytes};
use super::stats::unsettled;

/// The most records that one look walks over, and the most tasks that it lets go of.
const STEPS_MAX: u32 = 4096;
const TASKS_MAX: u64 = 1024;
/// Time between two looks that find enough, and between two that begin at the front, where a loan may have come back.
const LOOK_MS: u64 = 50;
const FRONT_MS: u64 = 1_000;

/// What is beyond a group's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Excess {
    tasks: u64,
    bytes: u64,
    /// Tasks that were enqueued before that are too old.
    before: Timestamp,
}

impl Excess {
    fn wants(&self, header: &Header) -> bool {
        self.tasks > 0 || self.bytes > 0 || header.time < self.before
    }

    /// One task less, which counts for so many bytes.
    fn take(&mut self, bytes: u64) {
        self.tasks = self.tasks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// One lane in a look: its next task that may be let go of.
struct Walker<'a> {
    lane: LaneId,
    log: &'a Log,
    cursor: Cursor,
    head: Option<Header>,
    at: (u64, u32, u32),
}

impl Engine {
    /// Sets what a group keeps. It counts for others at once and over a crash once the journal is durable up to the returned
    /// position.
    pub(crate) fn set_retention(&self, cell: &GroupCell, retention: Retention, time: Timestamp) -> Result<u64> {
        self.check_poison()?;
        let mut work = self.lock_group(cell)?;
        let mut payload = Vec::new();
        journal::put_group_retains(&mut payload, cell.id, &retention);
        let end = self.append_journal(&payload, time)?;
        work.group.retain(retention);
        self.changed.store(true, Ordering::Relaxed);
        self.housework.wake_all();
        Ok(end)
    }

    pub(crate) fn retention(&self, cell: &GroupCell) -> Retention {
        cell.state.lock().group.retention
    }

    /// What a group has left to do, dead letters excepted, and the bytes that it takes on disk, as [`Retention::bytes`]
    /// reckons them.
    pub(super) fn left_of(&self, group: &Group) -> Amount {
        let mut all = Amount::default();
        for (lane, log) in self.lanes.all() {
            for segment in &log.segments() {
                let open = unsettled(group, lane, segment);
                all.tasks += open;
                all.bytes += part(used_bytes(log, segment), open, self.tasks_held(lane, segment));
            }
        }
        let (tasks, bytes) = without_dead(all, group.dead.len() as u64);
        Amount { tasks, bytes }
    }

    /// Lets go of what is beyond the group's bounds, as far as one look goes. True if there is more to do at once. Under the
    /// group's lock.
    pub(super) fn retain(&self, work: &mut GroupWork, now: Now) -> Result<bool> {
        let retention = work.group.retention;
        if work.removed || !retention.lets_go() || now.boot_ms < work.group.looks.next_ms {
            return Ok(false);
        }
        work.group.looks.next_ms = now.boot_ms.saturating_add(LOOK_MS);
        let Some(mut excess) = self.excess(&work.group, &retention, now) else { return Ok(false) };
        let more = self.let_go_oldest(work, &mut excess, now);
        if more {
            work.group.looks.next_ms = now.boot_ms;
        }
        if !work.changes.is_empty() {
            self.write_changes(work, now.wall)?;
            // A key may have become free.
            self.arrivals.wake_all();
        }
        Ok(more)
    }

    fn excess(&self, group: &Group, retention: &Retention, now: Now) -> Option<Excess> {
        let left = self.left_of(group);
        let over = |left: u64, max: u64| if max > 0 { left.saturating_sub(max) } else { 0 };
        let before = if retention.age_ms > 0 { now.wall.0.saturating_sub(retention.age_ms) } else { 0 };
        let (tasks, bytes) = (over(left.tasks, retention.tasks), over(left.bytes, retention.bytes));
        let excess = Excess { tasks, bytes, before: Timestamp(before) };
        let is_old = |lane: LaneId, segment: &Segment| {
            segment.header().created < excess.before && !group.is_done_with(lane, segment.base())
        };
        let old = before > 0
            && self.lanes.all().any(|(lane, log)| log.segments().iter().any(|segment| is_old(lane, segment)));
        (tasks > 0 || bytes > 0 || old).then_some(excess)
    }

    fn let_go_oldest(&self, work: &mut GroupWork, excess: &mut Excess, now: Now) -> bool {
        let GroupWork { group, changes, .. } = work;
        if now.boot_ms >= group.looks.front_ms {
            group.looks.front_ms = now.boot_ms.saturating_add(FRONT_MS);
            group.looks.marks.clear();
        }
        let (mut steps, mut taken) = (STEPS_MAX, TASKS_MAX);
        let walkers = self.lanes.all().map(|(lane, log)| Walker::begin(lane, log, group));
        let mut walkers: Vec<Walker<'_>> = walkers.collect();
        let more = loop {
            for walker in walkers.iter_mut().filter(|walker| walker.head.is_none()) {
                while walker.head.is_none() && steps > 0 {
                    steps -= 1;
                    if !walker.step(group, now, changes) {
                        break;
                    }
                }
            }
            if steps == 0 || taken == 0 {
                break true;
            }
            let oldest = walkers.iter_mut().filter_map(|walker| Some((walker.head?.time, walker)));
            let Some((_, walker)) = oldest.min_by_key(|(time, _)| *time) else { break false };
            let Some(header) = walker.head.filter(|header| excess.wants(header)) else { break false };
            group.let_go(walker.lane, walker.cursor.base(), &header, now, changes);
            excess.take(walker.mean_bytes());
            taken -= 1;
            walker.passed(&header);
        };
        for walker in &walkers {
            group.looks.marks.insert(walker.lane, walker.at);
        }
        for (lane, log) in self.lanes.all() {
            for segment in log.segments().iter().filter(|segment| segment.sealed().is_some()) {
                group.finish(lane, segment.base(), segment.tasks());
            }
        }
        more
    }
}

impl<'a> Walker<'a> {
    /// Where the last look came to.
    fn begin(lane: LaneId, log: &'a Log, group: &Group) -> Self {
        let at = group.looks.marks.get(&lane).copied().unwrap_or_default();
        let mut cursor = Cursor::from_base(at.0);
        if at.2 > 0 {
            let _from = cursor.go_to(log, at.0, at.1, at.2);
        }
        Walker { lane, log, cursor, head: None, at }
    }

    /// One record further. False if there is none now.
    fn step(&mut self, group: &mut Group, now: Now, changes: &mut crate::delivery::Runs) -> bool {
        if self.cursor.source().is_some() && group.is_done_with(self.lane, self.cursor.base()) {
            self.cursor.skip_life();
        }
        match self.cursor.step(self.log, self.log.durable()) {
            Step::Task(header) => {
                let (base, Some(source)) = (self.cursor.base(), self.cursor.source()) else { return false };
                match group.fate(self.lane, base, source, &header, now) {
                    Fate::Waits => {
                        self.at = (base, header.index, header.offset);
                        self.head = Some(header);
                        return true;
                    }
                    Fate::Settled { next } => self.cursor.skip_to(next),
                    Fate::Foreign => group.settle_foreign(self.lane, base, &header, changes),
                    Fate::Stays => {}
                }
                self.passed(&header);
                true
            }
            // Whoever reads it is told of what is damaged.
            Step::Entered | Step::Damaged { .. } | Step::Unreadable { .. } => true,
            Step::End => false,
        }
    }

    /// What a task of the life that it stands in counts for: no less, or more would go than is beyond.
    fn mean_bytes(&self) -> u64 {
        let Some(source) = self.cursor.source() else { return 0 };
        if source.segment.is_cold() {
            return self.head.as_ref().map_or(0, |header| u64::from(header.bytes));
        }
        used_bytes(self.log, &source.segment).div_ceil(u64::from(source.segment.tasks()).max(1))
    }

    fn passed(&mut self, header: &Header) {
        self.at = (self.cursor.base(), header.index + 1, header.offset + header.bytes);
        self.head = None;
    }
}

/// What is left of tasks and bytes without so many dead letters.
pub(super) fn without_dead(all: Amount, dead: u64) -> (u64, u64) {
    let open = all.tasks.saturating_sub(dead);
    (open, part(all.bytes, open, all.tasks))
}
