//! The commit that moves a log's durable mark, and what is known of the marks.
//!
//! One at a time: a mark for what the commit before made durable goes in; the contiguous published prefix is taken; every
//! file of it is synced; only then, and if no map of them failed, the mark moves. Between the taking and the sync a commit
//! can be held in the hand ([`Begun`]), so that the files of several logs are synced side by side.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::append::{Committing, Counted, Draft, Log, offset_of};
use super::segment::{Place, Segment, map_failed, refuse_failed};
use crate::format::record::{self, Kind};
use crate::sabotage::{Bug, on};
use crate::storage::Unsynced;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::{LogId, Timestamp};

/// The physical block of common devices, in bytes.
const BLOCK_BYTES: u32 = 4096;

/// Lives, each with the end of what is published of it.
pub(crate) type Published = Vec<(Arc<Segment>, u32)>;

/// A file, and why it could not be synced.
pub(crate) type Failed = (String, io::Error);

/// A commit that has begun: the published prefix is taken, and nothing of it synced. No other commit of the log begins
/// meanwhile; one that is dropped has done nothing.
pub(crate) struct Begun<'a> {
    log: &'a Log,
    committing: MutexGuard<'a, Committing>,
    prefix: Vec<(Arc<Segment>, Place)>,
    claimed: Counted,
}

impl Log {
    /// One commit. Returns the durable mark, which covers everything published before the call began. With `pad` it ends
    /// at a physical block.
    ///
    /// After an error the bytes of the file may be lost even though memory still shows them, so the caller
    /// poisons the engine; the mark moved no further than to the end of the life before it. A map that failed is such an
    /// error, whatever the sync says.
    pub(crate) fn commit(&self, time: Timestamp, pad: bool) -> Result<u64, Failed> {
        match self.begin(self.committing.lock(), time, pad)? {
            Some(begun) => begun.sync(),
            None => Ok(self.durable()),
        }
    }

    /// Begins a commit, for whoever syncs the files of several logs at once. `None` if there is nothing to sync, or somebody
    /// else commits: who has begun one log waits for no other.
    pub(crate) fn try_begin_commit(&self, time: Timestamp, pad: bool) -> Result<Option<Begun<'_>>, Failed> {
        self.committing.try_lock().map_or(Ok(None), |committing| self.begin(committing, time, pad))
    }

    fn begin<'a>(
        &'a self,
        mut committing: MutexGuard<'a, Committing>,
        time: Timestamp,
        pad: bool,
    ) -> Result<Option<Begun<'a>>, Failed> {
        if let Some(file) = committing.failed.as_ref().filter(|_| !on(Bug::OverlappingSync)) {
            // Whoever waited for the lock meanwhile would be told by the kernel that all is well now.
            return Err((file.clone(), io::Error::other("an earlier sync of this log failed")));
        }
        let durable = self.durable();
        if committing.marked < durable && self.filled.load(Ordering::Relaxed) > committing.marked {
            let place = self.durable_place().0;
            let place = if on(Bug::MarkTooFar) { self.claimed().place } else { place };
            let payload = record::mark_payload(place.base, place.offset);
            let draft = Draft { kind: Kind::Mark, flags: 0, fields: &[], payload: &payload };
            // Without room for a mark the next segment's first commit writes it; a failed map is met below.
            if self.append(&draft, time).is_ok() {
                committing.marked = durable;
            }
        }
        if pad {
            self.pad_to_block();
        }
        let claimed = self.claimed();
        let prefix = self.published_prefix();
        // Before the prefix is believed: zeros in a failed map end it, and whoever waits for more would wait for ever.
        committing.remember(refuse_failed(&prefix))?;
        let target = prefix.last().map_or(0, |(last, place)| last.position(place.offset));
        if target <= durable {
            return Ok(None);
        }
        self.syncing.store(target, Ordering::SeqCst);
        Ok(Some(Begun { log: self, committing, prefix, claimed }))
    }

    /// Everything below is durable; `counted` is a place there with its counts, if one is known.
    fn move_mark(&self, place: Place, durable: u64, counted: Option<Counted>) {
        let mut stable = self.stable.lock();
        *stable = (place, counted.unwrap_or(stable.1));
        drop(stable);
        // Release: pairs with the acquire in `durable`; the watermark moves after the syncs that earn it.
        self.durable.store(durable, Ordering::Release);
    }

    /// Claims what is left of the block at the frontier and publishes it as padding, so that the next commit begins in a
    /// block of its own. A block that the life has no room for stays as it is.
    fn pad_to_block(&self) {
        let mut claiming = self.claiming.lock();
        let Some(active) = claiming.active.as_mut() else { return };
        let offset = offset_of(active.frontier.end());
        let bytes = offset.next_multiple_of(BLOCK_BYTES) - offset;
        let life = active.segment.life();
        let word = record::claim_word(life, offset, bytes);
        let limit = active.segment.limit() as usize;
        let claim = (bytes > 0).then(|| active.frontier.claim(word, limit)).flatten();
        drop(claiming);
        if let Some(claim) = claim {
            // A failed map is met by the commit itself.
            let _failed = claim.publish(record::padding_word(life, offset, bytes));
        }
    }

    /// The lives of the contiguous published prefix that may hold unsynced bytes, each with its readable end.
    fn published_prefix(&self) -> Vec<(Arc<Segment>, Place)> {
        let mut prefix = Vec::new();
        for segment in self.unsynced.lock().iter() {
            let Ok(region) = segment.region() else { break };
            let readable = offset_of(region.advance());
            prefix.push((Arc::clone(segment), Place { base: segment.base(), offset: readable }));
            if segment.sealed().is_none_or(|sealed| readable < sealed.end) {
                break;
            }
        }
        prefix
    }

    /// The frontier and what lies below it, claimed at this moment and published soon.
    fn claimed(&self) -> Counted {
        let claiming = self.claiming.lock();
        let Some(active) = claiming.active.as_ref() else { return Counted::default() };
        let place = Place { base: active.segment.base(), offset: offset_of(active.frontier.end()) };
        Counted { place, records: active.index, tasks: active.segment.tasks() }
    }

    /// Where the last claim ends, a mark's included.
    pub(crate) fn frontier(&self) -> Place {
        let claiming = self.claiming.lock();
        if let Some(active) = claiming.active.as_ref() {
            return Place { base: active.segment.base(), offset: offset_of(active.frontier.end()) };
        }
        drop(claiming);
        let last = self.segments().pop();
        last.map_or(Place::default(), |segment| Place {
            base: segment.base(),
            offset: segment.sealed().map_or(0, |sealed| sealed.end),
        })
    }

    /// True if everything below `place` is published. Errors: those of [`Log::published_lives`].
    pub(crate) fn is_published_to(&self, place: Place) -> Result<bool, (String, io::Error)> {
        let lives = self.published_lives()?;
        let last = lives.last().map(|(segment, end)| Place { base: segment.base(), offset: *end });
        Ok(last.unwrap_or_default() >= place)
    }

    /// Every retained life, oldest first, each with the end of what is published of it; up to the first that is not
    /// published whole. Errors: a life that can't be mapped, or whose map failed.
    pub(crate) fn published_lives(&self) -> Result<Published, (String, io::Error)> {
        let durable = self.durable();
        let mut lives = Vec::new();
        for segment in self.segments() {
            let end = match segment.sealed().filter(|sealed| segment.position(sealed.end) <= durable) {
                Some(sealed) => sealed.end,
                None if on(Bug::SnapshotPastWatermark) => u32::MAX,
                None => {
                    let region = segment.region().map_err(|error| (segment.file_name(), error))?;
                    let end = offset_of(region.advance());
                    // Asked behind the look: zeros in a failed map end it too early, and whoever waits would wait for ever.
                    if region.has_failed() {
                        return Err((segment.file_name(), map_failed()));
                    }
                    end
                }
            };
            let is_whole = segment.sealed().is_some_and(|sealed| sealed.end <= end);
            lives.push((segment, end));
            if !is_whole {
                break;
            }
        }
        Ok(lives)
    }

    fn forget_synced(&self, durable: u64) {
        let mut unsynced = self.unsynced.lock();
        while let Some(front) = unsynced.front() {
            match front.sealed() {
                Some(sealed) if front.position(sealed.end) <= durable => drop(unsynced.pop_front()),
                _ => break,
            }
        }
    }

    /// Log position below which everything is on stable storage.
    pub(crate) fn durable(&self) -> u64 {
        // Acquire: pairs with the release in `commit`.
        self.durable.load(Ordering::Acquire)
    }

    /// Bytes that commits gave to the device since the open, in whole pages.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Ordering::Relaxed)
    }

    /// Log position that the commit running now, or the last one, covers.
    pub(crate) fn syncing(&self) -> u64 {
        self.syncing.load(Ordering::SeqCst)
    }

    /// The durable mark as a place that outlives the process, and the last place with known counts.
    pub(crate) fn durable_place(&self) -> (Place, Counted) {
        *self.stable.lock()
    }

    /// Log position below which everything is readable.
    pub(crate) fn published(&self) -> u64 {
        let prefix = self.published_prefix();
        prefix.last().map_or_else(|| self.durable(), |(segment, place)| segment.position(place.offset))
    }

    /// Bytes that are published without a gap and wait for their sync, in lives that are still there: what was given back
    /// meanwhile waits for nothing, and the mark passes over it with the next commit.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let waits = |(segment, place): &(Arc<Segment>, Place)| {
            segment.unsynced_to(place.offset).map_or(0, |unsynced| unsynced.range.end - unsynced.range.start)
        };
        self.published_prefix().iter().map(waits).sum()
    }

    /// Log position behind everything that was accepted, published or about to be.
    pub(crate) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Relaxed)
    }

    /// True if something is published and not durable.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.filled.load(Ordering::Relaxed) > self.durable()
    }

    /// True if a crash now could not tell corrupt from torn in bytes that are durable: a mark is due.
    pub(crate) fn wants_mark(&self) -> bool {
        let marked = self.committing.lock().marked;
        self.filled.load(Ordering::Relaxed).min(self.durable()) > marked
    }
}

impl Begun<'_> {
    /// Syncs one file after the other, and ends.
    fn sync(self) -> Result<u64, Failed> {
        self.count();
        let only_some = on(Bug::OneLaneSynced) && self.log.id.lane().is_some_and(|lane| lane.0 > 0);
        self.end(|segment, place| {
            if on(Bug::AckBeforeSync) || only_some {
                return Ok(());
            }
            let synced = segment.sync_to(place.offset);
            if synced.is_err() && on(Bug::FailedSyncRetried) { segment.sync_to(place.offset) } else { synced }
        })
    }

    /// Which log is committed.
    pub(crate) fn log(&self) -> LogId {
        self.log.id
    }

    /// What is to be synced, in the order in which [`Begun::end_with`] is told of it.
    pub(crate) fn unsynced(&self) -> impl Iterator<Item = Unsynced> {
        self.prefix.iter().filter_map(|(segment, place)| segment.unsynced_to(place.offset))
    }

    /// Ends, now that so became of the syncs: of its own, and of all of them.
    pub(crate) fn end_with(self, outcomes: Vec<io::Result<()>>) -> Result<u64, Failed> {
        self.count();
        let mut outcomes = outcomes.into_iter();
        self.end(|segment, place| {
            if segment.unsynced_to(place.offset).is_none() {
                return Ok(());
            }
            let outcome = outcomes.next().unwrap_or_else(|| Err(io::Error::other("nothing was said of this sync")));
            let outcome = if on(Bug::SyncOfManyTrusted) { Ok(()) } else { outcome };
            outcome.map(|()| segment.synced_to(place.offset))
        })
    }

    fn count(&self) {
        let block = u64::from(BLOCK_BYTES);
        let whole = |Range { start, end }: Range<u64>| end.next_multiple_of(block) - start / block * block;
        let bytes = self.unsynced().map(|unsynced| whole(unsynced.range)).sum();
        self.log.synced_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.log.commits.fetch_add(1, Ordering::Relaxed);
    }

    fn end(mut self, sync: impl FnMut(&Segment, Place) -> io::Result<()>) -> Result<u64, Failed> {
        let outcome = self.sync_each(sync);
        if outcome.is_err() && on(Bug::OverlappingSync) {
            return Ok(self.log.durable());
        }
        self.committing.remember(outcome)
    }

    fn sync_each(&self, mut sync: impl FnMut(&Segment, Place) -> io::Result<()>) -> Result<u64, Failed> {
        let Begun { log, prefix, claimed, .. } = self;
        let Some(((last, end), before)) = prefix.split_last() else { return Ok(log.durable()) };
        let bytes = last.unsynced_to(end.offset).map_or(0, |unsynced| unsynced.range.end - unsynced.range.start);
        for (at, (segment, place)) in before.iter().enumerate() {
            sync(segment, *place).map_err(|error| (segment.file_name(), error))?;
            // Much may have gathered where the disk is slow; a checkpoint need not wait for all of it to list this as durable.
            refuse_failed(prefix.get(..=at).unwrap_or_default())?;
            log.move_mark(*place, segment.position(place.offset), None);
        }
        sync(last, *end).map_err(|error| (last.file_name(), error))?;
        // A sync passes over pages that are not the file's any more. What fails from here on was not promised.
        refuse_failed(prefix)?;
        let target = if on(Bug::LateAck) { log.published() } else { last.position(end.offset) };
        log.move_mark(*end, target, Some(*claimed).filter(|claimed| claimed.place <= *end));
        log.forget_synced(target);
        last.go_ahead(end.offset, bytes);
        Ok(target)
    }
}

impl Committing {
    /// Keeps in mind that a commit failed.
    fn remember<T>(&mut self, outcome: Result<T, Failed>) -> Result<T, Failed> {
        if let Err((file, _)) = &outcome {
            self.failed = Some(file.clone());
        }
        outcome
    }
}
