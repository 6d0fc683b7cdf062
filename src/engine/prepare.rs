//! Making segments ready before they are needed. Steps of the janitor; nothing here is on the hot path.
//!
//! A ready segment belongs to no log and has no life: its file exists, durably, with its blocks allocated;
//! it is mapped and resident. Its life (log, base, salt, predecessor) is stored in its first sector when it
//! is attached, and becomes durable with the first commit that covers a record of it. What must be durable
//! *before* a life begins is that its sequences were never handed out: blocks are taken below a ceiling that
//! a durable checkpoint holds.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::segment::file_name;
use crate::log::{Log, Ready, Sealed, Segment};
use crate::sabotage::{Bug, on};
use crate::storage::{Prepare, is_want_of_room};
use crate::sync::atomic::Ordering;
use crate::types::Timestamp;

use super::Engine;

/// For whom a segment is made ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needed {
    /// For a lane: of this many bytes, made so.
    Lane { bytes: u64, how: Prepare },
    /// Set aside for the journal.
    Journal,
}

/// Segments set aside for the journal: one to roll into, and one for what comes while the first fills.
pub(super) const JOURNAL_READY: usize = 2;

/// The most that are set aside of those that come back: a checkpoint lets go of several at once.
pub(super) const JOURNAL_KEPT: usize = 4;

/// Of segments of the full size so many are in use by all lanes together, before a backlog makes them more.
const SHARED_SEGMENTS: u64 = 2;

impl Engine {
    /// Makes the most wanted segment ready, if one is wanted. True if there may be more to do.
    pub(crate) fn prepare(&self) -> Result<bool> {
        match self.needed() {
            Some(needed) => self.prepare_one(needed).map(|()| true),
            None => Ok(false),
        }
    }

    /// The most wanted segment.
    fn needed(&self) -> Option<Needed> {
        if self.journal_pool.lock().len() < JOURNAL_READY {
            return Some(Needed::Journal);
        }
        let wants = self.lane_wants();
        let pool = self.pool.lock();
        // Somebody waits for a segment larger than its lane's next one.
        let large = self.large_wanted.load(Ordering::Relaxed);
        if large > 0 {
            if !pool.has_at_least(large) {
                return Some(Needed::Lane { bytes: large, how: Prepare::Small });
            }
            self.large_wanted.store(0, Ordering::Relaxed);
        }
        let missing = wants.iter().find(|(bytes, how)| {
            let same = wants.iter().filter(|(other, _)| other == bytes).count();
            // A lane of which much is written rolls faster than a file is made: two ahead.
            pool.count(*bytes) < same.min(2).max(1 + usize::from(*how != Prepare::Small))
        });
        let (bytes, how) = *missing?;
        drop(pool);
        // A checkpoint gives one back that is resident already, sooner than a file is made. If one came in between and gave
        // none, a file is made after all.
        let waited = self.recycling_wanted.swap(false, Ordering::Relaxed);
        if !waited && self.reclaimable_of(bytes) > 0 {
            self.recycling_wanted.store(true, Ordering::Relaxed);
            return None;
        }
        Some(Needed::Lane { bytes, how })
    }

    /// The next segment's size of every lane in use, and how it is best made. Before the first use, that of a lane to come.
    fn lane_wants(&self) -> Vec<(u64, Prepare)> {
        let share = self.segment_share();
        let mut wants: Vec<(u64, Prepare)> =
            self.lanes.all().map(|(_, log)| (self.next_segment_bytes(log, share), log.suited_by())).collect();
        if wants.is_empty() {
            wants.push((self.settings.lane_segment_bytes(None), Prepare::Small));
        }
        wants
    }

    /// Size of the segment that comes next in a lane. Lanes begin small and grow, but where many are in use no further than
    /// to their share: what is in use of all of them together is written and read again and again, and should be as warm
    /// as one lane's. A lane of which more waits than that grows on.
    pub(super) fn next_segment_bytes(&self, log: &Log, share: u64) -> u64 {
        let newest = log.newest_bytes();
        let grown = self.settings.lane_segment_bytes(newest);
        let Some(newest) = newest.filter(|newest| *newest < grown) else { return grown };
        let waits = || log.segments().iter().map(|segment| segment.file_bytes()).sum::<u64>();
        if grown <= share || grown <= waits() / SHARED_SEGMENTS { grown } else { newest }
    }

    /// Size of the segment that comes next in the journal. It grows from the largest that is there: where no other was ready
    /// a smaller one was taken in between, which says nothing.
    pub(super) fn next_journal_bytes(&self) -> u64 {
        let largest = self.journal.segments().iter().map(|segment| segment.file_bytes()).max();
        self.settings.journal_segment_bytes(largest)
    }

    /// What a lane's segments grow to while its backlog is small.
    pub(super) fn segment_share(&self) -> u64 {
        let first = self.settings.lane_segment_bytes(None);
        let busy = self.lanes.all().filter(|(_, log)| log.newest_bytes().is_some_and(|bytes| bytes > first)).count();
        SHARED_SEGMENTS * self.settings.segment_bytes / (busy as u64).max(1)
    }

    /// True if a lane to which much is appended takes a segment of `bytes` next.
    pub(super) fn wants_populated(&self, bytes: u64) -> bool {
        self.lane_wants().into_iter().any(|(wanted, how)| wanted == bytes && how != Prepare::Small)
    }

    /// Makes one segment ready.
    pub(crate) fn prepare_one(&self, needed: Needed) -> Result<()> {
        let (bytes, how) = match needed {
            Needed::Journal => (self.next_journal_bytes(), Prepare::Small),
            Needed::Lane { bytes, how } => (bytes, how),
        };
        let made = match self.make_segment(bytes, how) {
            // What is to be journaled needs little room, if there is no more.
            Err(Error::Full { .. }) if needed == Needed::Journal => {
                self.make_segment(self.settings.journal_segment_bytes(None), how)
            }
            made => made,
        };
        self.evacuation.short_of_disk.store(made.is_err(), Ordering::Relaxed);
        let ready = made?;
        match needed {
            Needed::Journal => self.journal_pool.lock().put(ready),
            Needed::Lane { .. } => self.pool.lock().put(ready),
        }
        Ok(())
    }

    fn make_segment(&self, bytes: u64, how: Prepare) -> Result<Ready> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let name = file_name(number);
        let full = |error: std::io::Error| Error::Full {
            log: format!("the file system ({name})"),
            waited_ms: 0,
            cause: Some(Arc::new(error)),
        };
        let file = self.storage.create(&name, bytes, how).map_err(full)?;
        // The name must be durable before a record in the file is acknowledged.
        if !on(Bug::NoDirectorySync) {
            self.storage.sync_dir().map_err(|error| self.poisoned_by(Error::io(".", "sync", error)))?;
        }
        let region = file.map().map_err(|error| {
            // Without a map the file is of no use; left behind it would be swept at the next open.
            let _swept = self.storage.remove(&name);
            full(error)
        })?;
        Ok(Ready { number, bytes, file, region })
    }

    /// Writes the footers of lives that are sealed and durable, so that the next open need not scan them. What has a footer
    /// is final, so first the decisions that such a life may have a share in are made durable; or it waits.
    pub(crate) fn write_footers(&self, time: Timestamp) -> Result<()> {
        let mut ended: Vec<Arc<Segment>> = Vec::new();
        for (_, log) in self.lanes.all() {
            let durable = log.durable();
            let is_durable = |segment: &Segment, sealed: Sealed| segment.position(sealed.end) <= durable;
            let wants = |segment: &Arc<Segment>| {
                segment.wants_footer() && segment.sealed().is_some_and(|sealed| is_durable(segment, sealed))
            };
            ended.extend(log.segments().into_iter().filter(wants));
        }
        if ended.is_empty() || !self.commit_decisions(time)? {
            return Ok(());
        }
        // Whoever appended a task with a dedup id to one of them has noted it.
        drop(self.dedup.index.lock());
        for segment in ended {
            self.write_footer(&segment)?;
        }
        Ok(())
    }

    fn write_footer(&self, segment: &Segment) -> Result<()> {
        let Some(sealed) = segment.sealed() else { return Ok(()) };
        let bytes = segment.footer(sealed).encode(segment.life());
        let at = segment.file_bytes() - bytes.len() as u64;
        let written = segment.file().write_at(at, &bytes);
        if written.as_ref().is_err_and(is_want_of_room) {
            // Where overwriting takes room. The segment stays without: the next open scans it instead.
            return Ok(());
        }
        let synced = written.and_then(|()| segment.file().sync());
        synced.map_err(|error| self.poisoned_by(Error::io(segment.file_name(), "write the footer", error)))?;
        segment.footer_written();
        Ok(())
    }
}
