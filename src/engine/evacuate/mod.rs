//! Evacuation: what still lives of a sealed life moves to a smaller file, so that a few old tasks don't pin the space of
//! many that are done.
//!
//! A *cold* life takes the place of the one that it is made of: the same base, the same block, and of its records those
//! that some group has not settled, each with the index that it had. So everything that names a task by its sequence (acks,
//! notes, dead letters, dedup ids, what was passed over or is far) goes on meaning the same; a place in the file, which some
//! of it remembers as a hint, is looked up by index in a cold life ([`crate::log`]'s `find`).
//!
//! # The protocol
//!
//! 1. *Plan.* Under the list of groups and each group's lock in turn: which records no group needs. Then everything that
//!    says so is made durable: the decisions of transactions, with all that they name, and the journal. From here on nothing
//!    that is left out can ever be needed again.
//! 2. *Copy.* The records that are left are verified, and sealed again for the new life (its salt, their new offsets), in a
//!    file of its own. The file is synced, then its footer is written, then it is synced again: so a footer proves that it
//!    is whole. Then its name is made durable.
//! 3. *Swap.* Under the checkpoint lock, so that no checkpoint is under way, the cold life takes its place in the log;
//!    unless the older one is gone, or there is another group by now. Whoever reads in the older one reads on there. What
//!    is left behind counts as settled for groups to come, like what was cancelled.
//! 4. The next checkpoint lists the cold life. The older file stays until the one after that is durable as well: then
//!    no root that might be used lists it.
//!
//! # What a crash leaves
//!
//! | between | the newest root lists | recovery |
//! |---|---|---|
//! | 2 and 4 | the older life | takes that one: a cold life that is not listed is none, whatever it holds, and its file goes |
//! | 4 and the second checkpoint | the cold life | takes that one; the older file goes after the first checkpoint of the open |
//! | the same, the newest root damaged | (the older root) the older life, which is still there | as in the first row |
//! | at any time, without any usable root | – | takes the cold life if it has its footer: step 1 made durable what it leaves out; else the older |
//!
//! A record that does not verify, or can't be read, keeps its life where it is: it is reported to whoever reads it.

mod copy;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::segment::{LifeHeader, file_name};
use crate::log::{Lanes, Sealed, Segment};
use crate::sabotage::{Bug, on};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::types::{LaneId, Now};

use super::Engine;
use copy::{Copied, Measured};

/// What evacuation remembers between two steps.
#[derive(Default)]
pub(crate) struct Evacuation {
    budget: Mutex<Budget>,
    /// Lives whose place a cold one has, and how many checkpoints there were when it took it.
    superseded: Mutex<Vec<(Arc<Segment>, u64)>>,
    /// The last segment that was wanted could not be had.
    pub(super) short_of_disk: AtomicBool,
    /// Bytes that were moved, and lives, since the open.
    pub moved_bytes: AtomicU64,
    pub moved_lives: AtomicU64,
}

/// How many bytes may be moved.
#[derive(Default)]
struct Budget {
    /// Bytes appended and acked, as they were seen last.
    seen: u64,
    left: u64,
}

/// What is to be moved.
struct Plan {
    lane: LaneId,
    segment: Arc<Segment>,
    sealed: Sealed,
    /// By record index: no group needs it.
    settled: Vec<u64>,
    /// Indices of the tasks that are left behind.
    gone: Vec<u32>,
    groups: BTreeSet<u32>,
    /// Bytes of the cold life's file.
    bytes: u64,
}

/// Below so many records a life's headers are all looked at to learn what lives of it; above, sizes are taken to be even.
const FEW_RECORDS: u32 = 4096;
/// Below so many a look costs nothing.
const SO_FEW_RECORDS: u32 = 64;
/// A life is looked at again when a sixteenth more of its tasks is settled.
const LOOKS: u32 = 16;

impl Evacuation {
    /// What the lives that an open found take may be moved once.
    pub(super) fn open(lanes: &Lanes) -> Self {
        let evacuation = Evacuation::default();
        let found = lanes.all().flat_map(|(_, log)| log.segments());
        evacuation.budget.lock().left = found.map(|segment| segment.file_bytes()).sum();
        evacuation
    }

    /// Lives that no root lists any more which might be used, now that there were so many checkpoints.
    pub(super) fn given_up(&self, checkpoints: u64) -> Vec<Arc<Segment>> {
        let after = if on(Bug::MovedTooEarly) { 1 } else { 2 };
        let gone = |(_, since): &mut (Arc<Segment>, u64)| checkpoints >= *since + after;
        self.superseded.lock().extract_if(.., gone).map(|(segment, _)| segment).collect()
    }

    /// How many lives wait for a checkpoint.
    pub(super) fn waiting(&self) -> usize {
        self.superseded.lock().len()
    }

    /// Bytes of the files that wait for a checkpoint.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.superseded.lock().iter().map(|(segment, _)| segment.file_bytes()).sum()
    }
}

impl Engine {
    /// Moves what lives of one life, if there is one of which less than half does and the budget allows it. True if so.
    ///
    /// Errors: `Poisoned`; `InDoubt` and poison where a sync failed. Where there is no room nothing is moved.
    pub(crate) fn evacuate(&self, now: Now) -> Result<bool> {
        self.check_poison()?;
        if self.settings.evacuation_percent == 0 {
            return Ok(false);
        }
        self.earn();
        let Some(plan) = self.plan() else { return Ok(false) };
        if !self.make_told_durable(now.wall)? {
            return Ok(false);
        }
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let old = plan.segment.header();
        let header = LifeHeader { file: number, size: plan.bytes, salt: self.storage.random(), cold: true, ..*old };
        let cold = match copy::copy(&*self.storage, header, &plan) {
            Copied::Whole(cold) => *cold,
            Copied::Not => {
                let _swept = self.storage.remove(&file_name(number));
                return Ok(false);
            }
            Copied::SyncFailed(error) => return Err(self.poisoned_by(Error::io(file_name(number), "sync", error))),
        };
        self.storage.sync_dir().map_err(|error| self.poisoned_by(Error::io(".", "sync", error)))?;
        let moved = self.swap(&plan, cold);
        if !moved {
            let _swept = self.storage.remove(&file_name(number));
        }
        Ok(moved)
    }

    /// Step 3.
    fn swap(&self, plan: &Plan, cold: Segment) -> bool {
        let _checkpoints = self.checkpoints.lock();
        let groups = self.groups.read();
        let same_groups = groups.keys().eq(&plan.groups);
        let log = self.lanes.log(plan.lane).filter(|_| same_groups);
        let Some(old) = log.and_then(|log| log.replace(&plan.segment, Arc::new(cold))) else { return false };
        let mut to_come = self.to_come.lock();
        let acks = to_come.acks.entry((plan.lane, plan.segment.base())).or_default();
        plan.gone.iter().for_each(|index| _ = acks.set(*index));
        drop(to_come);
        let since = self.counts.checkpoints.load(Ordering::Relaxed);
        self.evacuation.superseded.lock().push((old, since));
        self.evacuation.moved_bytes.fetch_add(plan.bytes, Ordering::Relaxed);
        self.evacuation.moved_lives.fetch_add(1, Ordering::Relaxed);
        let mut budget = self.evacuation.budget.lock();
        budget.left = budget.left.saturating_sub(plan.bytes);
        self.changed.store(true, Ordering::Relaxed);
        true
    }

    /// Adds what was appended and acked since the last call to the budget.
    fn earn(&self) {
        let appended: u64 = self.lanes.all().map(|(_, log)| log.published()).sum();
        let settled = |cell: &Arc<super::groups::GroupCell>| {
            cell.state.lock().group.lanes.iter().map(|(_, own)| own.settled.bytes).fold(0, u64::wrapping_add)
        };
        let acked = self.groups().iter().map(settled).fold(0, u64::wrapping_add);
        let mut budget = self.evacuation.budget.lock();
        let seen = std::mem::replace(&mut budget.seen, appended.wrapping_add(acked));
        // What is settled may shrink, as a dead letter comes back.
        let more = budget.seen.wrapping_sub(seen);
        let more = if more > u64::MAX / 2 { 0 } else { more };
        budget.left = budget.left.saturating_add(more / 100 * u64::from(self.settings.evacuation_percent));
    }

    /// Bytes that may be moved now; all where the disk has no room.
    fn may_move(&self) -> u64 {
        if self.evacuation.short_of_disk.load(Ordering::Relaxed) {
            u64::MAX
        } else {
            self.evacuation.budget.lock().left
        }
    }

    /// Step 1, but for the syncs: the first life of which less than half lives.
    fn plan(&self) -> Option<Plan> {
        for (lane, log) in self.lanes.all() {
            let segments = log.segments();
            let Some((_newest, older)) = segments.split_last() else { continue };
            for (segment, settled) in older.iter().zip(self.settled_counts(lane, older)) {
                if !self.is_worth_a_look(segment, settled) {
                    continue;
                }
                match self.plan_for(lane, segment) {
                    None => segment.note_look(settled),
                    Some(plan) if plan.bytes <= self.may_move() => return Some(plan),
                    // It waits for the budget.
                    Some(_) => {}
                }
            }
        }
        None
    }

    /// How many tasks of each life no group needs, at most; 0 where a cursor stands in it.
    fn settled_counts(&self, lane: LaneId, segments: &[Arc<Segment>]) -> Vec<u32> {
        let mut counts: Vec<u32> = segments.iter().map(|segment| segment.tasks()).collect();
        for cell in self.groups() {
            let work = cell.state.lock();
            for (segment, count) in segments.iter().zip(&mut counts) {
                *count = (*count).min(work.group.settled_in(lane, segment.base(), segment.known_records(), *count));
            }
        }
        counts
    }

    fn is_worth_a_look(&self, segment: &Segment, settled: u32) -> bool {
        let Some(sealed) = segment.sealed().filter(|_| !segment.wants_footer()) else { return false };
        let (tasks, bytes) = (u64::from(segment.tasks()), segment.file_bytes());
        let live = tasks.saturating_sub(u64::from(settled));
        // Rolled early, because what came next needed more room than was left; or so few that there may be more padding.
        let short = u64::from(sealed.end) * 2 < bytes || sealed.records <= SO_FEW_RECORDS;
        // With even sizes so much may be off at the most.
        let may_be_half = short || sealed.records <= FEW_RECORDS || live * 8 <= tasks * 5;
        let about = u64::from(sealed.end) / 2 * live / tasks.max(1);
        may_be_half
            && about <= self.may_move()
            && !segment.has_failed()
            && segment.parked() == 0
            && segment.wants_look(settled, segment.tasks() / LOOKS, short)
    }

    /// `None` if more than half of it lives, or something of that can't be had.
    fn plan_for(&self, lane: LaneId, segment: &Arc<Segment>) -> Option<Plan> {
        let sealed = segment.sealed()?;
        let (settled, groups) = self.settled_bits(lane, segment, sealed.records);
        let Measured { gone, bytes } = copy::measure(segment, sealed, &settled)?;
        let is_half = bytes.saturating_mul(2) <= segment.file_bytes();
        is_half.then(|| Plan { lane, segment: Arc::clone(segment), sealed, settled, gone, groups, bytes })
    }

    /// By record index: no group needs it; and the groups that were asked.
    pub(super) fn settled_bits(&self, lane: LaneId, segment: &Segment, records: u32) -> (Vec<u64>, BTreeSet<u32>) {
        let groups = self.groups.read();
        let mut settled = vec![u64::MAX; records.div_ceil(64) as usize];
        for cell in groups.values() {
            cell.state.lock().group.keep_settled(lane, segment.base(), records, &mut settled);
            if on(Bug::MovedForOneGroup) {
                break;
            }
        }
        (settled, groups.keys().copied().collect())
    }
}
