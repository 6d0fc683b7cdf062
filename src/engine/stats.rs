//! Counts of a queue, open or only looked at.

use std::sync::Arc;

use crate::delivery::Group;
use crate::format::journal::DeadCause;
use crate::log::{Log, Segment};
use crate::storage::SyncChoice;
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, LogId, Now, QueueId, Retention, TaskId, Timestamp};

use super::Engine;
use super::groups::GroupCell;
use super::space::Written;
use super::times::Times;

/// What a queue holds and did. Numbers are taken one after the other, so under load they are only roughly of
/// one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The queue's id.
    pub queue: Option<QueueId>,
    /// Every lane that was used.
    pub lanes: Vec<LaneStats>,
    /// Every group.
    pub groups: Vec<GroupStats>,
    /// Lanes that are paused for all groups, in order.
    pub paused_lanes: Vec<LaneId>,
    /// Segments made ready before they are needed.
    pub ready_segments: usize,
    /// Bytes of all ready segments.
    pub ready_bytes: u64,
    /// Bytes of the journal's segments.
    pub journal_bytes: u64,
    /// Bytes of the checkpoint file.
    pub checkpoint_bytes: u64,
    /// Bytes of segments that wait for whoever holds their payloads.
    pub pinned_bytes: u64,
    /// Bytes of segments whose live tasks were moved to smaller ones, and that go with one of the next two checkpoints.
    pub superseded_bytes: u64,
    /// Bytes of the smaller segments that live tasks were moved to, since the open.
    pub evacuated_bytes: u64,
    /// Segments out of which live tasks were moved, since the open.
    pub evacuated_segments: u64,
    /// Bytes of the scratch file, which has no name: what is noted of tasks whose time is far.
    pub scratch_bytes: u64,
    /// Bytes of the queue on disk.
    pub disk_bytes: u64,
    /// How long checkpoints held what producers and consumers may wait for, since the open.
    pub checkpoint_holds: Times,
    /// Checkpoints written since the open.
    pub checkpoints: u64,
    /// Commits made since the open.
    pub commits: u64,
    /// How long they took, each with its sync; those of several logs that were synced side by side count as one.
    pub commit_times: Times,
    /// Bytes that they gave to the device, in whole pages; what the file system wrote of its own comes on top.
    pub commit_bytes: u64,
    /// How several files are synced at once, and why.
    pub sync_choice: SyncChoice,
    /// Times that an append found no ready segment since the open.
    pub stalls: u64,
    /// Segments recycled and removed since the open.
    pub recycled: u64,
    /// Segments removed since the open.
    pub removed: u64,
    /// Dedup ids that are remembered, those included that are over and not forgotten yet.
    pub dedup_ids: u64,
    /// Bytes that they take in memory.
    pub dedup_bytes: u64,
    /// Enqueues since the open that gave a task which was there before.
    pub dedup_hits: u64,
}

/// One lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Which lane.
    pub lane: LaneId,
    /// Watermark: bytes of the log that are readable, counted since the oldest retained segment at open.
    pub published: u64,
    /// Watermark: bytes of the log that are on stable storage, counted likewise.
    pub durable: u64,
    /// Segments retained.
    pub segments: usize,
    /// Their bytes on disk.
    pub disk_bytes: u64,
    /// Of these: of tasks that some group has not settled, and what else is written. Sizes within a segment are taken to be
    /// even; of a queue that is only looked at, the group that needs most of a segment counts. The rest of `disk_bytes` is
    /// room.
    pub live_bytes: u64,
    /// See `live_bytes`.
    pub dead_bytes: u64,
    /// Tasks in them, settled or not.
    pub tasks: u64,
    /// What waits, as bounds count it ([`Bound`](crate::Bound)): tasks and payload bytes. `None` where no bound is set,
    /// or the queue is only looked at.
    pub waiting: Option<(u64, u64)>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The group's name.
    pub name: String,
    /// It is paused for all lanes.
    pub paused: bool,
    /// The lanes, in order.
    pub lanes: Vec<GroupLaneStats>,
    /// Dead letters that their bounds dropped, since the open.
    pub dead_dropped: u64,
    /// How much it may have left to do.
    pub retention: Retention,
    /// What it has left to do, and what that takes on disk, as [`Retention`] counts tasks and bytes. Of a queue that is only
    /// looked at, what another process has on loan counts as left.
    pub left: (u64, u64),
    /// Tasks that its retention let go of, since the open: dropped, or made dead letters.
    pub let_go: u64,
    /// The live workers, the oldest first.
    pub workers: Vec<WorkerStats>,
}

/// A live worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its name.
    pub name: String,
    /// Tasks that it has on loan.
    pub in_flight: u64,
    /// How long ago it was last heard of, in milliseconds.
    pub last_heartbeat_ms: u64,
    /// In sticky mode: how many of the 256 buckets of keys are its own.
    pub buckets: usize,
}

/// One lane as one group sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupLaneStats {
    /// Which lane.
    pub lane: LaneId,
    /// Tasks not settled for good: waiting, delayed or on loan.
    pub depth: u64,
    /// Of these: on loan.
    pub in_flight: u64,
    /// Of these: waiting for their delay.
    pub delayed: u64,
    /// Tasks acked, ever.
    pub acked: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// Tasks set aside by hand.
    pub parked: u64,
    /// Tasks that expired and are gone, since the open.
    pub expired: u64,
    /// Age of the oldest task that is not settled, in milliseconds; of its segment's first life moment where
    /// the exact record is not at hand.
    pub oldest_ms: Option<u64>,
}

/// A task that a group gave up on. Its record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The task.
    pub id: TaskId,
    /// Attempts that began.
    pub attempts: u32,
    /// Why it died.
    pub cause: DeadCause,
    /// What was said of the last attempt.
    pub reason: String,
    /// When it died, or was set aside.
    pub at: Timestamp,
    /// Bytes of its payload.
    pub bytes: u32,
}

impl Engine {
    /// The dead letters of a group.
    pub(crate) fn dead_letters(&self, cell: &GroupCell) -> Vec<DeadLetter> {
        self.set_aside(cell, |cause| cause != DeadCause::Parked)
    }

    /// What a group has parked.
    pub(crate) fn parked(&self, cell: &GroupCell) -> Vec<DeadLetter> {
        self.set_aside(cell, |cause| cause == DeadCause::Parked)
    }

    fn set_aside(&self, cell: &GroupCell, wanted: impl Fn(DeadCause) -> bool) -> Vec<DeadLetter> {
        let work = cell.state.lock();
        let letters = work.group.dead.iter().filter(|(_, dead)| wanted(dead.cause));
        let letters = letters.map(|((lane, seq), dead)| DeadLetter {
            id: TaskId { queue: self.queue, lane: *lane, seq: *seq },
            attempts: dead.attempts,
            cause: dead.cause,
            reason: dead.reason.clone(),
            at: dead.at,
            bytes: dead.bytes,
        });
        letters.collect()
    }

    /// Tasks on loan now, over all groups.
    pub(crate) fn in_flight(&self) -> u64 {
        let per_group = |cell: &Arc<GroupCell>| {
            let work = cell.state.lock();
            work.group.lanes.iter().map(|(_, lane)| lane.in_flight).sum::<u64>()
        };
        self.groups().iter().map(per_group).sum()
    }

    /// Counts of this moment.
    pub(crate) fn stats(&self, now: Now) -> Stats {
        let mut stats = Stats { queue: Some(self.queue), ..Stats::default() };
        for (lane, log) in self.lanes.all() {
            stats.lanes.push(self.lane_stats(lane, log));
        }
        stats.paused_lanes = self.paused_lanes();
        for cell in self.groups() {
            stats.groups.push(self.group_stats(&cell, now));
        }
        {
            let (pool, journal_pool) = (self.pool.lock(), self.journal_pool.lock());
            stats.ready_segments = pool.len() + journal_pool.len();
            stats.ready_bytes = pool.bytes() + journal_pool.bytes();
        }
        stats.journal_bytes = self.journal.segments().iter().map(|segment| segment.file_bytes()).sum();
        stats.checkpoint_bytes = self.checkpoint_bytes();
        stats.scratch_bytes = self.scratch.bytes();
        stats.pinned_bytes = self.held().iter().map(|pin| pin.bytes).sum();
        stats.superseded_bytes = self.evacuation.waiting_bytes();
        stats.evacuated_bytes = self.evacuation.moved_bytes.load(Ordering::Relaxed);
        stats.evacuated_segments = self.evacuation.moved_lives.load(Ordering::Relaxed);
        let lanes: u64 = stats.lanes.iter().map(|lane| lane.disk_bytes).sum();
        stats.disk_bytes = lanes
            + stats.ready_bytes
            + stats.journal_bytes
            + stats.checkpoint_bytes
            + stats.pinned_bytes
            + stats.superseded_bytes
            + stats.scratch_bytes;
        let counts = &self.counts;
        stats.checkpoint_holds = counts.holds.times();
        stats.commit_times = counts.commit_times.times();
        stats.commit_bytes = self.logs().map(Log::synced_bytes).sum();
        stats.sync_choice = self.storage.sync_choice();
        stats.checkpoints = counts.checkpoints.load(Ordering::Relaxed);
        stats.commits = counts.commits.load(Ordering::Relaxed);
        stats.stalls = counts.stalls.load(Ordering::Relaxed);
        stats.recycled = counts.recycled.load(Ordering::Relaxed);
        stats.removed = counts.removed.load(Ordering::Relaxed);
        (stats.dedup_ids, stats.dedup_hits, stats.dedup_bytes) = self.dedup_counts();
        stats
    }

    fn lane_stats(&self, lane: LaneId, log: &Log) -> LaneStats {
        let segments = log.segments();
        debug_assert_eq!(log.id(), LogId::from(lane), "a lane's log is its own");
        let Written { live, dead } = self.written(lane, log);
        LaneStats {
            lane,
            published: log.published(),
            durable: log.durable(),
            segments: segments.len(),
            disk_bytes: segments.iter().map(|segment| segment.file_bytes()).sum(),
            live_bytes: live,
            dead_bytes: dead,
            tasks: segments.iter().map(|segment| u64::from(segment.readable_tasks())).sum(),
            waiting: self.waiting(Some(lane)).map(|amount| (amount.tasks, amount.bytes)),
        }
    }

    fn group_stats(&self, cell: &GroupCell, now: Now) -> GroupStats {
        let paused = self.is_paused(cell.id);
        let work = cell.state.lock();
        let group = &work.group;
        let workers = group.workers_on_loan().map(|(id, worker, in_flight)| WorkerStats {
            name: worker.name.clone(),
            in_flight,
            last_heartbeat_ms: now.boot_ms.saturating_sub(worker.last_ms),
            buckets: group.buckets_of(id),
        });
        let (name, workers, dead_dropped) = (cell.name.clone(), workers.collect(), group.dead_dropped);
        let (retention, let_go, left) = (group.retention, group.looks.let_go, self.left_of(group));
        let left = (left.tasks, left.bytes);
        let lanes = Vec::new();
        let mut stats = GroupStats { name, paused, dead_dropped, retention, left, let_go, workers, lanes };
        for (lane, log) in self.lanes.all() {
            let own = group.lanes.get(lane);
            let (dead, parked) = group.dead_in(lane);
            let mut depth = 0;
            let mut oldest = None;
            for segment in log.segments() {
                let open = unsettled(group, lane, &segment);
                depth += open;
                if open > 0 && oldest.is_none() {
                    oldest = Some(now.wall.0.saturating_sub(segment.header().created.0));
                }
            }
            stats.lanes.push(GroupLaneStats {
                lane,
                depth: depth.saturating_sub(dead + parked),
                in_flight: own.map_or(0, |own| own.in_flight),
                delayed: own.map_or(0, |own| own.delayed),
                acked: own.map_or(0, |own| own.acked()),
                dead,
                parked,
                expired: own.map_or(0, |own| own.expired),
                oldest_ms: oldest,
            });
        }
        stats
    }
}

/// Tasks of a life that a group has not acked; those before its start, and those that can't be had before a reopen,
/// don't count.
pub(super) fn unsettled(group: &Group, lane: LaneId, segment: &Segment) -> u64 {
    let base = segment.base();
    if group.is_done_with(lane, base) {
        return 0;
    }
    let life = group.lanes.get(lane).and_then(|own| own.lives.get(&base));
    let acked = life.map_or(0, |life| life.acks.count());
    let before = group.starts().get(&lane).map_or(0, |start| start.index_in(base));
    u64::from(segment.readable_tasks().saturating_sub(before).saturating_sub(acked).saturating_sub(segment.parked()))
}
