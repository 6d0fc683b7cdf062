//! Appending tasks: bounds, the claim, the roll.

use crate::delivery::Amount;
use crate::error::{Error, Result};
use crate::format::record::{self, HEADER_BYTES, Kind};
use crate::log::{Appended, Birth, Draft, Log, NotAppended};
use crate::sync::atomic::Ordering;
use crate::types::{Durability, LaneId, LogId, Timestamp};

use super::settings::room;
use super::{Attempt, Engine};

/// A task as the engine takes it.
#[derive(Clone, Copy)]
pub(crate) struct TaskDraft<'a> {
    pub fields: &'a [u8],
    pub payload: &'a [u8],
    /// Among the fields are traits that delivery must know.
    pub special: bool,
    pub durability: Durability,
}

impl<'a> TaskDraft<'a> {
    /// A task that is nothing but its payload.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn plain(payload: &'a [u8], durability: Durability) -> Self {
        TaskDraft { fields: &[], special: false, payload, durability }
    }

    pub(super) fn draft(&self) -> Draft<'a> {
        let power = match self.durability {
            Durability::Power => record::POWER,
            Durability::Process => 0,
        };
        let flags = if self.special { power | record::SPECIAL } else { power };
        Draft { kind: Kind::Task, flags, fields: self.fields, payload: self.payload }
    }
}

impl Engine {
    /// Publishes one task. It is accepted when this returns `Done`; durable when the lane's durable mark
    /// reaches the returned end.
    ///
    /// Errors: `TaskTooLarge`, `NoSuchLane`, `OverBound`, `Poisoned`; nothing was written then. `InDoubt` if an I/O error hit the
    /// segment under the SIGBUS guard, at either durability.
    #[inline]
    pub(crate) fn append(&self, lane: LaneId, task: &TaskDraft<'_>, time: Timestamp) -> Result<Attempt<Appended>> {
        let log = self.writable_lane(lane)?;
        self.check_task(task, 0)?;
        let amount = Amount { tasks: 1, bytes: task.payload.len() as u64 };
        self.within_bounds(lane, amount, || self.with_rolls(log, |log| log.append(&task.draft(), time), time))
    }

    /// Publishes several tasks as one atomic unit. Errors as for [`Engine::append`], and `BatchTooLarge`.
    pub(crate) fn append_batch(
        &self,
        lane: LaneId,
        tasks: &[TaskDraft<'_>],
        time: Timestamp,
    ) -> Result<Attempt<Appended>> {
        let log = self.writable_lane(lane)?;
        for task in tasks {
            self.check_task(task, 0)?;
        }
        if let [only] = tasks {
            return self.append(lane, only, time);
        }
        let drafts: Vec<Draft<'_>> = tasks.iter().map(TaskDraft::draft).collect();
        let max = room(self.settings.segment_bytes);
        let bytes = Log::batch_bytes(&drafts).unwrap_or(u64::MAX);
        if bytes > max {
            return Err(Error::BatchTooLarge { bytes, max });
        }
        let bytes = tasks.iter().map(|task| task.payload.len() as u64).sum();
        let amount = Amount { tasks: tasks.len() as u64, bytes };
        self.within_bounds(lane, amount, || self.with_rolls(log, |log| log.append_batch(&drafts, time), time))
    }

    /// The lane's log, made on first use.
    #[inline]
    pub(super) fn writable_lane(&self, lane: LaneId) -> Result<&Log> {
        self.check_poison()?;
        match self.lanes.log(lane) {
            Some(log) => Ok(log),
            None => self.start_lane(lane),
        }
    }

    #[cold]
    fn start_lane(&self, lane: LaneId) -> Result<&Log> {
        let last_base = self.last_bases.get(&LogId::from(lane).0).copied().unwrap_or(0);
        let fresh = || Log::new(LogId::from(lane), Vec::new(), last_base).minding(&self.undecided);
        let made = self.lanes.start(lane, fresh);
        made.map(AsRef::as_ref).ok_or(Error::NoSuchLane { lane, lanes: self.settings.lanes })
    }

    /// Refuses a task that is too large, with `more` bytes of fields to come.
    #[inline]
    pub(super) fn check_task(&self, task: &TaskDraft<'_>, more: usize) -> Result<()> {
        let bytes = record_bytes(task) + more as u64;
        let max = self.settings.task_bytes_max;
        if bytes > max {
            return Err(Error::TaskTooLarge { bytes, max });
        }
        Ok(())
    }

    #[inline]
    fn with_rolls(
        &self,
        log: &Log,
        append: impl Fn(&Log) -> std::result::Result<Appended, NotAppended>,
        time: Timestamp,
    ) -> Result<Attempt<Appended>> {
        loop {
            match append(log) {
                Ok(appended) => return Ok(Attempt::Done(appended)),
                Err(NotAppended::NeedsRoll { bytes, seen_base }) => {
                    if !self.roll(log, bytes, seen_base, time) {
                        return Ok(Attempt::NotReady);
                    }
                }
                Err(NotAppended::TooLarge) => {
                    return Err(Error::TaskTooLarge { bytes: u64::from(u32::MAX), max: self.settings.task_bytes_max });
                }
                Err(NotAppended::Failed { first, file }) => return Err(self.map_failed(log.id(), first, file)),
            }
        }
    }

    /// Attaches a ready segment that holds `bytes`, unless another thread rolled meanwhile. False if none is
    /// ready, or for a lane if too much waits for its sync.
    pub(super) fn roll(&self, log: &Log, bytes: u32, seen_base: u64, time: Timestamp) -> bool {
        let is_journal = log.id() == LogId::JOURNAL;
        if !is_journal && self.settings.unsynced_max < u64::MAX && self.unsynced_bytes() > self.settings.unsynced_max {
            return false;
        }
        let wanted = match is_journal {
            true => self.next_journal_bytes(),
            false => self.next_segment_bytes(log, self.segment_share()),
        };
        let Some(needed) = self.settings.size_for(bytes).map(|size| if is_journal { 0 } else { size }) else {
            return false;
        };
        let pool = if is_journal { &self.journal_pool } else { &self.pool };
        let taken = pool.lock().take(wanted.max(needed), needed);
        let Some(ready) = taken else {
            if needed > wanted {
                self.large_wanted.fetch_max(needed, Ordering::Relaxed);
            }
            return false;
        };
        let Some(base) = self.take_block(ready.bytes) else {
            pool.lock().put(ready);
            return false;
        };
        let birth = Birth { queue: self.queue, base, salt: self.storage.random(), created: time };
        if let Some(unused) = log.roll(ready, seen_base, &birth) {
            pool.lock().put(unused);
        }
        self.changed.store(true, Ordering::Relaxed);
        self.housework.wake_all();
        true
    }

    /// A block of sequences for a segment of `bytes` bytes; below the durable ceiling, or none.
    fn take_block(&self, bytes: u64) -> Option<u64> {
        self.take_sequences(u64::from(crate::format::segment::block_for(bytes)))
    }

    /// So many sequences that nobody has or had; below the durable ceiling, or none.
    pub(super) fn take_sequences(&self, count: u64) -> Option<u64> {
        let mut blocks = self.blocks.lock();
        let base = blocks.next;
        let next = base + count;
        if next > blocks.ceiling {
            return None;
        }
        blocks.next = next;
        Some(base)
    }
}

/// Bytes that the task takes as a record.
#[inline]
fn record_bytes(task: &TaskDraft<'_>) -> u64 {
    (HEADER_BYTES + task.fields.len() + task.payload.len()) as u64
}
