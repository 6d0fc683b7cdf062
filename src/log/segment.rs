//! One life of a segment file, as the running engine sees it.

use std::io;
use std::sync::Arc;

use crate::format::record::{self, Found, Life};
use crate::format::segment::{Footer, LifeHeader, SEEK_STRIDE, file_name, record_limit, seek_table};
use crate::storage::{File, Region, Unsynced};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Line, Mutex, OnceLock};
use crate::types::{LogId, Seq};

/// Where a sealed life ends and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sealed {
    /// End of the last extent.
    pub end: u32,
    /// Record indices used: one above the highest.
    pub records: u32,
}

/// A position in a log that survives the process: a life and an offset in it. Ordered as the log is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    /// Base of the life; 0 is before the log's first life.
    pub base: u64,
    /// Offset in its file.
    pub offset: u32,
}

/// One life: its file, its map, its block of sequences.
pub(crate) struct Segment {
    header: LifeHeader,
    file: Arc<dyn File>,
    /// Log position of the file's first byte, in this open of the queue.
    start: u64,
    /// The map; made on first use for a segment found at open.
    region: Mutex<Option<Arc<Region>>>,
    sealed: OnceLock<Sealed>,
    /// Record indices that were used when this open went on with the life: whatever became of their bytes, they were there.
    resumed_records: u32,
    /// Task records claimed so far; final once sealed and published.
    tasks: Line<AtomicU32>,
    /// Claims of task records that ended as padding.
    voids: AtomicU32,
    /// Tasks that this open met damaged.
    damaged: AtomicU32,
    /// Tasks that wait for a reopen because they can't be read in this one.
    parked: AtomicU32,
    /// A record may have a dedup id. Set by who appended it, before it gives up the index's lock.
    has_ids: AtomicBool,
    /// Offset of every `SEEK_STRIDE`-th record: (index, offset), increasing.
    seek: Mutex<Vec<(u32, u32)>>,
    /// The footer was written, or is not wanted any more.
    footed: AtomicBool,
    /// Actual length of the file in bytes.
    file_bytes: u64,
    /// Everything below is on stable storage. Moves in a commit alone.
    synced: AtomicU32,
    /// A cold life has its place in the log: whoever still reads here reads on there.
    superseded: AtomicBool,
    /// How many of its tasks were settled when somebody looked what lives of it.
    looked_at: AtomicU32,
}

/// Cold bytes are faulted in this far ahead, so that a walk asks the kernel once in a while only.
const WINDOW_BYTES: u32 = 1 << 20;
/// And this far ahead of that they are asked for, so that they are read while a walk is busy.
const READ_AHEAD_BYTES: u32 = 2 << 20;
/// A record that is looked up by its place is expected to take no more than this.
const REREAD_BYTES: u32 = 4 << 10;

impl Segment {
    /// A life that begins now, over a region that is mapped and resident.
    pub(crate) fn active(header: LifeHeader, file: Arc<dyn File>, region: Arc<Region>, start: u64) -> Self {
        let file_bytes = header.size;
        Self::unmapped(header, file, start, file_bytes).with_region(region)
    }

    /// A sealed life found at open; mapped when somebody reads it.
    pub(crate) fn found(
        header: LifeHeader,
        file: Arc<dyn File>,
        start: u64,
        file_bytes: u64,
        sealed: Sealed,
        tasks: u32,
        seek: Vec<(u32, u32)>,
    ) -> Self {
        let segment = Self::unmapped(header, file, start, file_bytes);
        let _first = segment.sealed.set(sealed);
        segment.tasks.store(tasks, Ordering::Relaxed);
        segment.footed.store(true, Ordering::Relaxed);
        *segment.seek.lock() = seek;
        segment
    }

    fn unmapped(header: LifeHeader, file: Arc<dyn File>, start: u64, file_bytes: u64) -> Self {
        Segment {
            header,
            file,
            start,
            region: Mutex::new(None),
            sealed: OnceLock::new(),
            resumed_records: 0,
            tasks: Line::default(),
            voids: AtomicU32::new(0),
            damaged: AtomicU32::new(0),
            parked: AtomicU32::new(0),
            has_ids: AtomicBool::new(false),
            seek: Mutex::new(Vec::new()),
            footed: AtomicBool::new(false),
            file_bytes,
            synced: AtomicU32::new(0),
            superseded: AtomicBool::new(false),
            looked_at: AtomicU32::new(0),
        }
    }

    /// Notes that a record may have a dedup id, or not.
    pub(crate) fn note_ids(&self, has_ids: bool) {
        if has_ids {
            // Relaxed: who must see it takes the lock under which it was stored.
            self.has_ids.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_ids(&self) -> bool {
        self.has_ids.load(Ordering::Relaxed)
    }

    /// The same life, of which `records` indices were used before this open.
    pub(crate) fn resuming(self, records: u32) -> Self {
        Segment { resumed_records: records, ..self }
    }

    /// Record indices that were certainly used: all of a sealed life.
    pub(crate) fn known_records(&self) -> u32 {
        self.sealed().map_or(self.resumed_records, |sealed| sealed.records)
    }

    fn with_region(self, region: Arc<Region>) -> Self {
        *self.region.lock() = Some(region);
        self
    }

    pub(crate) fn header(&self) -> &LifeHeader {
        &self.header
    }

    /// True if it holds what lived of an earlier life: a record's place in that one is none here.
    pub(crate) fn is_cold(&self) -> bool {
        self.header.cold
    }

    /// Log position of the file's first byte.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// True if another life of the same base has its place in the log.
    pub(crate) fn is_superseded(&self) -> bool {
        // Relaxed: who misses it reads the same records where they were.
        self.superseded.load(Ordering::Relaxed)
    }

    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    /// True if `step` more of its tasks are settled than when somebody looked last; or if nobody did, if `anyway`.
    pub(crate) fn wants_look(&self, settled: u32, step: u32, anyway: bool) -> bool {
        let before = self.looked_at.load(Ordering::Relaxed);
        (anyway && before == 0) || (settled > before && settled - before >= step)
    }

    /// Somebody looked what lives of it, and too much does.
    pub(crate) fn note_look(&self, settled: u32) {
        self.looked_at.store(settled.max(1), Ordering::Relaxed);
    }

    pub(crate) fn log(&self) -> LogId {
        self.header.log
    }

    pub(crate) fn base(&self) -> u64 {
        self.header.base
    }

    pub(crate) fn life(&self) -> Life {
        self.header.life()
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(crate) fn file_name(&self) -> String {
        file_name(self.header.file)
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Log position of an offset in this segment.
    pub(crate) fn position(&self, offset: u32) -> u64 {
        self.start + u64::from(offset)
    }

    /// Log position behind the file; of one that was cut, behind what is known to have been in it, so that no position of it
    /// waits for a sync.
    pub(crate) fn next_start(&self) -> u64 {
        let end = self.sealed().map_or(0, |sealed| u64::from(sealed.end));
        self.start + self.header.size.max(self.file_bytes).max(end)
    }

    /// Offset where extents must end.
    pub(crate) fn limit(&self) -> u32 {
        record_limit(self.header.size)
    }

    pub(crate) fn seq(&self, index: u32) -> Seq {
        Seq(self.header.base + u64::from(index))
    }

    /// The record index of a sequence of this life.
    pub(crate) fn index(&self, seq: Seq) -> Option<u32> {
        let index = u32::try_from(seq.0.checked_sub(self.header.base)?).ok()?;
        (index < self.header.block).then_some(index)
    }

    pub(crate) fn sealed(&self) -> Option<Sealed> {
        self.sealed.get().copied()
    }

    /// Ends the life for every later claim. Called once, under the log's claim lock.
    pub(crate) fn seal(&self, sealed: Sealed) {
        let first = self.sealed.set(sealed);
        debug_assert!(first.is_ok(), "a life is sealed once");
    }

    /// Task records that a group must settle before it is done with the segment, and what is said of it to later opens.
    /// Final once sealed: what is damaged stays among them, for nobody knows whether it was among what is settled.
    pub(crate) fn tasks(&self) -> u32 {
        // Acquire: pairs with the release in `count_void`.
        self.tasks.load(Ordering::Acquire).saturating_sub(self.voids.load(Ordering::Acquire))
    }

    /// Those of them that are not known to be damaged.
    pub(crate) fn readable_tasks(&self) -> u32 {
        self.tasks().saturating_sub(self.damaged.load(Ordering::Relaxed))
    }

    /// Tasks that nobody gets before a reopen, as far as they are counted: at most all.
    pub(crate) fn parked(&self) -> u32 {
        self.parked.load(Ordering::Relaxed)
    }

    /// Counts tasks that can't be read.
    pub(crate) fn park(&self, count: u32) {
        let parked = self.parked().saturating_add(count);
        self.parked.store(parked, Ordering::Relaxed);
    }

    /// Sets the count of task records claimed so far. Under the log's claim lock, or before the segment is shared.
    pub(crate) fn set_tasks(&self, count: u32) {
        self.tasks.store(count, Ordering::Release);
    }

    /// Task records that were claimed and ended as padding.
    pub(crate) fn count_void(&self, count: u32) {
        self.voids.fetch_add(count, Ordering::Release);
    }

    /// Task records that were met damaged.
    pub(crate) fn count_damaged(&self, count: u32) {
        self.damaged.fetch_add(count, Ordering::Relaxed);
    }

    /// The map, made on first use.
    pub(crate) fn region(&self) -> io::Result<Arc<Region>> {
        let mut slot = self.region.lock();
        if let Some(region) = slot.as_ref() {
            return Ok(Arc::clone(region));
        }
        let end = self.sealed().map_or(0, |sealed| sealed.end);
        let region = Arc::new(self.file.map()?.trust(end as usize));
        *slot = Some(Arc::clone(&region));
        Ok(region)
    }

    /// Makes sure that `from..to` can be read without a signal: an I/O error comes out as an error.
    ///
    /// Gives the end of what was checked: a window ahead where that can be, so that a walk asks the kernel once in a
    /// while only. It holds for a reader that comes along soon; what nobody touches may be evicted.
    pub(crate) fn check_readable(&self, region: &Region, from: u32, to: u32) -> io::Result<u32> {
        let end = u32::try_from(region.bytes()).unwrap_or(u32::MAX);
        let ahead = to.max(from.saturating_add(WINDOW_BYTES)).min(end);
        if self.fault_in(region, from, ahead).is_ok() {
            if self.sealed().is_some() {
                // What a walk comes to next is read while it is busy with this.
                let lead = ahead.saturating_add(READ_AHEAD_BYTES).min(end);
                region.will_need(lead.saturating_sub(WINDOW_BYTES).max(ahead) as usize..lead as usize);
            }
            return Ok(ahead);
        }
        // Something ahead can't be read; what is wanted now may well be.
        self.fault_in(region, from, to)?;
        Ok(to)
    }

    /// Reads the header at `offset` again, once it is checked that header and record can be read without a signal.
    pub(crate) fn read_again(&self, region: &Region, offset: u32) -> io::Result<Found> {
        let readable = u32::try_from(region.readable()).unwrap_or(u32::MAX);
        self.fault_in(region, offset, offset.saturating_add(REREAD_BYTES).min(readable))?;
        let bytes = region.slice(offset as usize..readable as usize).unwrap_or_default();
        let found = record::read(self.life(), offset, bytes);
        if let Found::Record(header) = &found
            && header.bytes > REREAD_BYTES
        {
            self.fault_in(region, offset, offset.saturating_add(header.bytes).min(readable))?;
        }
        // Asked after the look: what was read of a failed map proves nothing.
        if region.has_failed() { Err(map_failed()) } else { Ok(found) }
    }

    /// Lets go of the map, so that the next reader has to make it again.
    #[cfg(test)]
    pub(crate) fn forget_map(&self) {
        *self.region.lock() = None;
    }

    fn fault_in(&self, region: &Region, from: u32, to: u32) -> io::Result<()> {
        if region.has_failed() {
            return Err(map_failed());
        }
        region.check_readable(&*self.file, from as usize..to as usize)
    }

    /// Takes the map out of a segment that nobody refers to any more, if nobody borrows its bytes.
    pub(crate) fn into_region(self) -> Option<(Arc<dyn File>, Region)> {
        let region = self.region.lock().take()?;
        let region = Arc::try_unwrap(region).ok()?;
        Some((self.file, region))
    }

    /// How many borrow the map beside the segment itself.
    pub(crate) fn borrowers(&self) -> usize {
        self.region.lock().as_ref().map_or(0, |region| Arc::strong_count(region) - 1)
    }

    /// How many borrowed ranges of its bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.region.lock().as_ref().map_or(0, |region| region.views())
    }

    /// Remembers where a record begins, if its index is one that the seek table holds.
    pub(crate) fn note_record(&self, index: u32, offset: u32) {
        if index.is_multiple_of(SEEK_STRIDE) {
            let mut seek = self.seek.lock();
            let at = seek.partition_point(|(known, _)| *known < index);
            seek.insert(at, (index, offset));
        }
    }

    /// A record start at or before `index`: (index, offset).
    pub(crate) fn seek(&self, index: u32) -> Option<(u32, u32)> {
        let seek = self.seek.lock();
        let at = seek.partition_point(|(known, _)| *known <= index);
        at.checked_sub(1).and_then(|at| seek.get(at).copied())
    }

    /// The seek table as the footer holds it.
    pub(crate) fn seek_table(&self, records: u32) -> Vec<u32> {
        seek_table(&self.seek.lock(), records)
    }

    /// The footer of a life that ended so.
    pub(crate) fn footer(&self, sealed: Sealed) -> Footer {
        let Sealed { end, records } = sealed;
        let (base, tasks, has_ids, cold) = (self.base(), self.tasks(), self.has_ids(), self.is_cold());
        Footer { base, records, tasks, end, has_ids, cold, seek: self.seek_table(records) }
    }

    /// True until the footer is written; the caller then writes it.
    pub(crate) fn wants_footer(&self) -> bool {
        !self.footed.load(Ordering::Relaxed)
    }

    pub(crate) fn footer_written(&self) {
        self.footed.store(true, Ordering::Relaxed);
    }

    /// Makes everything below `end` durable. Not to be called by two threads at once.
    pub(crate) fn sync_to(&self, end: u32) -> io::Result<()> {
        match self.unsynced_to(end) {
            Some(unsynced) => unsynced.file.sync_range(unsynced.range).map(|()| self.synced_to(end)),
            None => Ok(()),
        }
    }

    /// What a sync has to cover so that everything below `end` is durable, if anything.
    pub(super) fn unsynced_to(&self, end: u32) -> Option<Unsynced> {
        let from = self.synced.load(Ordering::Relaxed);
        (from < end).then(|| Unsynced { file: Arc::clone(&self.file), range: u64::from(from)..u64::from(end) })
    }

    /// That was synced.
    pub(super) fn synced_to(&self, end: u32) {
        self.synced.store(end, Ordering::Relaxed);
    }

    /// Lets the stores that follow `end`, as many bytes as a commit just took, meet no page fault, where that is worth a call.
    pub(super) fn go_ahead(&self, end: u32, bytes: u64) {
        if AHEAD_BYTES.contains(&bytes)
            && let Ok(region) = self.region()
        {
            // One that can't be had is met by the store.
            let to = usize::try_from(u64::from(end) + bytes).unwrap_or(usize::MAX);
            let _slower = region.populate_write(end as usize..to);
        }
    }

    /// True if an I/O error hit the map.
    pub(crate) fn has_failed(&self) -> bool {
        self.region.lock().as_ref().is_some_and(|region| region.has_failed())
    }
}

/// An error that names the first of these lives whose map failed.
pub(super) fn refuse_failed(lives: &[(Arc<Segment>, Place)]) -> Result<(), (String, io::Error)> {
    match lives.iter().find(|(segment, _)| segment.has_failed()) {
        Some((segment, _)) => Err((segment.file_name(), map_failed())),
        None => Ok(()),
    }
}

/// From a commit of four pages on: one call costs as much as two faults. Where they are larger the whole segment was faulted
/// in so when it was made, and the call would only keep the map's lock.
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=256 << 10;

/// What is said of a segment whose map failed.
pub(crate) fn map_failed() -> io::Error {
    io::Error::other("an I/O error hit the mapped segment")
}

/// Records are sealed for the life they lie in; this names the widths that the claim word's fields rely on.
const _: () = assert!(record::HEADER_BYTES.is_multiple_of(8), "a header is whole words");
