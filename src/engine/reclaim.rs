//! Letting go of lives that a durable checkpoint no longer needs: recycled as they are, dirty and mapped, or
//! removed. A life whose bytes somebody borrows waits.

use std::sync::Arc;

use crate::format::segment::file_name;
use crate::log::{Place, Ready, Segment};
use crate::storage::{Medium, Prepare};
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, LogId};

use super::Engine;
use super::prepare::{JOURNAL_KEPT, JOURNAL_READY};
use super::scratch::ScratchFile;

/// A segment of which somebody holds payloads: it can't be given back before they are dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pin {
    /// The lane, or `None` for the journal.
    pub lane: Option<LaneId>,
    /// The file, relative to the queue's directory.
    pub file: String,
    /// Bytes on disk that can't be given back meanwhile.
    pub bytes: u64,
    /// How many deliveries, and payloads that were shared, are still held.
    pub held: usize,
    /// Everything in it is settled: nothing else keeps its space any more.
    pub waits: bool,
}

/// Segments of a size that are kept for lanes, at least: a checkpoint lets go of several at once.
const POOL_KEPT: usize = 4;

impl Engine {
    /// Takes finished lives out of their logs, where no reader finds them any more. Called when a checkpoint without them
    /// is durable.
    pub(super) fn detach(&self, gone: &[(LaneId, u64)], older_journal_from: Place) -> Vec<Arc<Segment>> {
        let mut leaving: Vec<Arc<Segment>> = Vec::new();
        for (lane, base) in gone {
            leaving.extend(self.lanes.log(*lane).and_then(|log| log.detach(*base)));
        }
        for segment in self.journal.segments() {
            if segment.base() < older_journal_from.base && segment.sealed().is_some() {
                leaving.extend(self.journal.detach(segment.base()));
            }
        }
        leaving
    }

    /// The checkpoint that the open began with is superseded twice, so what it alone lists may go.
    pub(super) fn free_listed_strays(&self) {
        let mut strays = self.strays.lock();
        let listed = std::mem::take(&mut strays.listed);
        strays.free.extend(listed);
    }

    /// Gives detached lives back, now or once nobody borrows their bytes any more.
    pub(super) fn retire(&self, leaving: Vec<Arc<Segment>>) {
        self.retired.lock().extend(leaving);
        self.recycle();
    }

    /// Removes the files that the open found to be no life, as far as no checkpoint needs them. Large ones take the file
    /// system milliseconds each, which nobody who opens a queue should wait for.
    pub(crate) fn sweep_strays(&self) {
        let strays = {
            let mut strays = self.strays.lock();
            if std::mem::take(&mut strays.scratch) {
                ScratchFile::sweep(&*self.storage);
            }
            std::mem::take(&mut strays.free)
        };
        for number in &strays {
            // What can't be removed now is found stray again at the next open.
            let _later = self.storage.remove(&file_name(*number));
        }
        if !strays.is_empty() {
            let _later = self.storage.sync_dir();
        }
    }

    /// Recycles or removes retired lives that nobody borrows any more. True if some still wait.
    pub(crate) fn recycle(&self) -> bool {
        let retired = std::mem::take(&mut *self.retired.lock());
        for segment in retired {
            if segment.borrowers() > 0 {
                self.retired.lock().push(segment);
                continue;
            }
            match Arc::try_unwrap(segment) {
                Ok(segment) => self.reuse(segment),
                Err(segment) => self.retired.lock().push(segment),
            }
        }
        !self.retired.lock().is_empty()
    }

    fn reuse(&self, segment: Segment) {
        let (number, bytes) = (segment.header().file, segment.file_bytes());
        let (for_journal, for_lanes) = (self.journal_wants(&segment), self.pool_wants(bytes));
        let recyclable = self.is_whole(&segment) && (for_journal || for_lanes);
        if recyclable && let Some((file, region)) = segment.into_region() {
            let is_busy = match for_journal {
                // Nobody waited for a settle in a whole life of it: it is not synced often.
                true => self.journal.suited_by() == Prepare::Rare,
                false => self.wants_populated(bytes),
            };
            if is_busy {
                // A sync left its pages write-protected. If they can't be had now, the stores fault them in.
                let _slower = region.populate_write(0..region.bytes());
            }
            let ready = Ready { number, bytes, file, region };
            self.counts.recycled.fetch_add(1, Ordering::Relaxed);
            if !for_journal {
                self.pool.lock().put(ready);
                return;
            }
            let mut pool = self.journal_pool.lock();
            pool.put(ready);
            let beyond = pool.take_smallest_beyond(JOURNAL_KEPT);
            drop(pool);
            return beyond.map_or((), |smallest| self.remove(smallest.number));
        }
        self.remove(number);
    }

    fn remove(&self, number: u32) {
        // A name that can't be removed now is swept at the next open: no checkpoint lists it.
        let _swept = self.storage.remove(&file_name(number));
        self.counts.removed.fetch_add(1, Ordering::Relaxed);
    }

    /// True if another life may begin in its file as it is.
    fn is_whole(&self, segment: &Segment) -> bool {
        // Pages that were put in place of lost ones would stay in the map for the next life.
        let whole = segment.header().size == segment.file_bytes() && !segment.has_failed() && !segment.is_cold();
        whole && self.storage.medium() == Medium::Local
    }

    /// The journal's own segments come first: without them nothing could be acked on a full disk.
    fn journal_wants(&self, segment: &Segment) -> bool {
        let bytes = segment.file_bytes();
        // A file that was cut and is as long as it seems to have been made holds no entry.
        let least = self.settings.journal_segment_bytes(None);
        let most = self.next_journal_bytes().max(least);
        let pool = self.journal_pool.lock();
        // A lane's was made for other commits.
        let wants = match segment.log() {
            LogId::JOURNAL => pool.len() < JOURNAL_KEPT || pool.smallest().is_some_and(|smallest| smallest < bytes),
            _ => pool.len() < JOURNAL_READY,
        };
        (least..=most).contains(&bytes) && wants
    }

    /// A recycled segment costs nothing to make ready, so a few more than usual are kept, but an idle queue
    /// does not hoard.
    fn pool_wants(&self, bytes: u64) -> bool {
        let share = self.segment_share();
        let wanting = self.lanes.all().filter(|(_, log)| {
            let newest = log.newest_bytes();
            bytes == self.next_segment_bytes(log, share)
                || newest == Some(bytes) && bytes == self.settings.segment_bytes
        });
        let wanting = wanting.count();
        wanting > 0 && self.pool.lock().count(bytes) < wanting.max(POOL_KEPT)
    }

    /// How many sealed lives no group needs any more and wait for a checkpoint.
    pub(super) fn reclaimable(&self) -> usize {
        self.count_reclaimable(|_| true)
    }

    /// How many of them can be recycled in place of a new segment of so many bytes.
    pub(super) fn reclaimable_of(&self, bytes: u64) -> usize {
        self.count_reclaimable(|segment| {
            segment.file_bytes() == bytes && segment.borrowers() == 0 && self.is_whole(segment)
        })
    }

    fn count_reclaimable(&self, counts: impl Fn(&Segment) -> bool) -> usize {
        let groups = self.groups();
        let finished = |lane: LaneId, segment: &Segment| {
            let Some(sealed) = segment.sealed() else { return false };
            let end = segment.base() + u64::from(sealed.records);
            groups.iter().all(|cell| cell.state.lock().group.is_done(lane, segment.base(), end))
        };
        let mut count = 0;
        for (lane, log) in self.lanes.all() {
            let oldest = log.segments().into_iter().take(8);
            count += oldest.filter(|segment| counts(segment) && finished(lane, segment)).count();
        }
        count
    }

    /// Segments whose bytes somebody holds, and those that wait for nothing else.
    pub(crate) fn held(&self) -> Vec<Pin> {
        let pin = |segment: &Arc<Segment>, held, waits| Pin {
            lane: segment.log().lane(),
            file: segment.file_name(),
            bytes: segment.file_bytes(),
            held,
            waits,
        };
        let retained = self.lanes.all().flat_map(|(_, log)| log.segments());
        let mut pins: Vec<Pin> = retained.map(|segment| pin(&segment, segment.held(), false)).collect();
        pins.extend(self.retired.lock().iter().map(|segment| pin(segment, segment.held(), true)));
        // What a thread of the queue's own still looks at is given back in a moment.
        pins.retain(|pin| pin.held > 0);
        pins
    }
}
