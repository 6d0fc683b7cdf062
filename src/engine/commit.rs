//! Making durable, and what happens when that fails.
//!
//! A failed sync is final: the kernel may have dropped the dirty pages and marked them clean, so a second
//! sync would succeed over bytes that are gone. The first failure poisons the engine; only a reopen, whose
//! recovery rewrites what it keeps before trusting it, clears that. An I/O error that hit the map of a segment is met
//! by the next publish into it or commit of it, and ends in the same way.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::segment::file_name;
use crate::log::{Begun, Ends, Failed, Log, map_failed};
use crate::sabotage::{Bug, on};
use crate::storage::Unsynced;
use crate::sync::atomic::Ordering;
use crate::types::{LogId, Seq, TaskId, Timestamp};

use super::Engine;

impl Engine {
    /// One commit of `log`: everything published before the call is durable when it returns the new mark.
    pub(crate) fn commit(&self, log: &Log, time: Timestamp) -> Result<u64> {
        self.check_poison()?;
        let _timed = self.timed(&self.counts.commit_times);
        let durable = log.commit(time, self.settings.pad_commits).map_err(|failed| self.sync_failed(failed))?;
        self.committed(1, log.id() != LogId::JOURNAL);
        // A commit that succeeded beside one that failed elsewhere still counts: their files are apart.
        Ok(durable)
    }

    /// One commit of each of these logs that nobody else commits now, their files synced side by side where the storage
    /// can. What fails is not durable; what is, counts as if it had been committed alone.
    pub(crate) fn commit_together<'a>(&self, logs: impl Iterator<Item = &'a Log>, time: Timestamp) -> Result<()> {
        self.check_poison()?;
        let _timed = self.timed(&self.counts.commit_times);
        let begun = logs.filter_map(|log| log.try_begin_commit(time, self.settings.pad_commits).transpose());
        let begun: Vec<Begun<'_>> = begun.collect::<Result<_, _>>().map_err(|failed| self.sync_failed(failed))?;
        let unsynced: Vec<Unsynced> = begun.iter().flat_map(Begun::unsynced).collect();
        let mut outcomes = self.storage.sync_ranges(&unsynced).into_iter();
        let (mut committed, mut in_lanes, mut first_failed) = (0, false, None);
        for commit in begun {
            let (own, is_lane) = (commit.unsynced().count(), commit.log() != LogId::JOURNAL);
            match commit.end_with(outcomes.by_ref().take(own).collect()) {
                Ok(_) => (committed, in_lanes) = (committed + 1, in_lanes || is_lane),
                Err(failed) => first_failed = first_failed.or(Some(failed)),
            }
        }
        self.committed(committed, in_lanes);
        first_failed.map_or(Ok(()), |failed| Err(self.sync_failed(failed)))
    }

    /// So many commits were made, some of them of lanes or none.
    fn committed(&self, commits: u64, in_lanes: bool) {
        self.counts.commits.fetch_add(commits, Ordering::Relaxed);
        if self.undecided.settle(|log| self.durable_of(log)) {
            // Tasks of transactions became deliverable, in other lanes too.
            self.arrivals.wake_all();
        } else if in_lanes {
            // Tasks enqueued at `Power` became deliverable.
            self.arrivals.wake_one();
        }
    }

    fn sync_failed(&self, (file, error): Failed) -> Error {
        self.poisoned_by(Error::io(file, "sync", error))
    }

    /// Log position below which everything of a log is on stable storage.
    fn durable_of(&self, log: LogId) -> u64 {
        self.log_of(log).map_or(0, |log| log.durable())
    }

    /// What must be durable for all decisions so far to be.
    pub(crate) fn decided(&self) -> Ends {
        self.undecided.furthest()
    }

    /// What a checkpoint waits for: those, and the whole journal.
    pub(crate) fn told(&self) -> Ends {
        let mut ends = self.decided();
        ends.push((LogId::JOURNAL, self.journal.filled()));
        ends
    }

    /// Makes every decision so far durable, with all that it names. False if that can't be had now, because a producer
    /// stands still in front of something of it.
    pub(super) fn commit_decisions(&self, time: Timestamp) -> Result<bool> {
        // Whoever decided before this instant has noted what it waits for.
        drop(self.deciding.write());
        let mut all = true;
        // The lanes first: they have lower numbers than the journal, and a decision is worth nothing without its records.
        for (id, end) in self.undecided.furthest() {
            if self.durable_of(id) < end {
                all &= self.log_of(id).map_or(Ok(false), |log| Ok::<_, Error>(self.commit(log, time)? >= end))?;
            }
        }
        Ok(all)
    }

    /// Makes durable what the groups' states follow from: every entry of the journal so far, and every decision with all that
    /// it names. False if that can't be had now, because somebody stands still in front of something of it.
    pub(super) fn make_told_durable(&self, time: Timestamp) -> Result<bool> {
        let told = self.journal.filled();
        if !self.commit_decisions(time)? {
            return Ok(false);
        }
        if on(Bug::PortionsWithoutJournal) {
            return Ok(true);
        }
        Ok(self.journal.durable() >= told || self.commit(&self.journal, time)? >= told)
    }

    /// Bytes of all logs that are published without a gap and wait for their sync, as far as their lives are there.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.logs().map(Log::waiting_bytes).sum()
    }

    /// Commits the journal and every lane that has something to commit.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sync_all(&self, time: Timestamp) -> Result<()> {
        self.commit_together(self.logs().filter(|log| log.has_unsynced()), time)?;
        self.check_poison()
    }

    /// Writes a last mark into every log at rest, so that a later crash can tell corrupt from torn.
    pub(crate) fn mark_idle(&self, time: Timestamp) -> Result<()> {
        self.logs().filter(|log| log.wants_mark()).try_for_each(|log| self.commit(log, time).map(drop))
    }

    /// Refuses everything after a failure that left durability unknown.
    #[inline]
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    /// Notes that something was published into a segment whose map failed, and gives the error for the publisher.
    pub(super) fn map_failed(&self, log: LogId, first: Seq, file: u32) -> Error {
        let failure = self.poisoned_by(Error::io(file_name(file), "write through the map", map_failed()));
        match (failure, log.lane()) {
            (Error::InDoubt { cause, .. }, Some(lane)) => {
                Error::InDoubt { task: Some(TaskId { queue: self.queue, lane, seq: first }), cause }
            }
            (other, _) => other,
        }
    }

    /// Notes the first failure for good, and gives the error for whoever waited.
    pub(super) fn poisoned_by(&self, error: Error) -> Error {
        let cause = Arc::clone(self.poison.get_or_init(|| Arc::new(error)));
        // Whoever waits for a task or for room would wait in vain.
        self.arrivals.wake_all();
        self.room.wake_all();
        Error::InDoubt { task: None, cause }
    }
}
