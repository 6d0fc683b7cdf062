//! The writing side of one log: claim, fill, publish; and the roll from life to life.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::format::record::{self, HEADER_BYTES, Kind, MARK_BYTES, Record};
use crate::storage::{Frontier, MapFailed, Prepare};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Line, Mutex, RwLock};
use crate::types::{ExtentWord, LogId, Seq, Timestamp};

use super::extent::Extent;
use super::ready::Ready;
use super::segment::{Place, Sealed, Segment};
use super::undecided::Undecided;
use crate::format::segment::{LifeHeader, block_for};

// Tests that hold a claim between its steps, which nobody outside this file can.
#[cfg(test)]
#[path = "tests/claims.rs"]
mod claims;

/// A lane's log, or the journal.
pub(crate) struct Log {
    pub(super) id: LogId,
    pub(super) claiming: Line<Mutex<Claiming>>,
    /// Every retained life, by base.
    pub(super) segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Lives that may hold bytes above the durable mark, oldest first; the active one is last.
    pub(super) unsynced: Mutex<VecDeque<Arc<Segment>>>,
    /// Log position; every byte below is on stable storage. Moves in `commit` alone, after the syncs.
    pub(super) durable: AtomicU64,
    /// Log position that the commit now running will make durable, if it succeeds; a hint for waiters.
    pub(super) syncing: AtomicU64,
    pub(super) committing: Mutex<Committing>,
    /// Commits since the open, and the bytes that they gave to the device, in whole pages.
    pub(super) commits: AtomicU64,
    pub(super) synced_bytes: AtomicU64,
    /// The durable mark as a place, and the last durable place at which the counts are known: where the frontier stood as a
    /// commit began. Behind a lock of its own, for the commit lock is held while the disk is waited for.
    pub(super) stable: Mutex<(Place, Counted)>,
    /// Log position behind the last record that is not a mark. For knowing when a last mark is wanted.
    pub(super) filled: Line<AtomicU64>,
    /// Somebody waited for `Power` since the active segment was taken: small commits are to be expected.
    pub(super) powered: AtomicBool,
    /// Nobody did in the whole life of the segment before.
    pub(super) calm: AtomicBool,
    /// Commits were large while the segment before was in use.
    pub(super) large: AtomicBool,
    /// Decisions of the queue that are not durable yet.
    pub(super) undecided: Arc<Undecided>,
}

/// What the claim lock protects.
pub(super) struct Claiming {
    pub(super) active: Option<Active>,
    /// Highest base ever given to this log, and the log position where the next life starts.
    pub(super) last_base: u64,
    pub(super) next_start: u64,
    /// Commits and their bytes as the active life began.
    pub(super) committed: (u64, u64),
}

pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) frontier: Frontier,
    pub(super) index: u32,
    pub(super) tasks: u32,
}

/// What the commit lock protects.
pub(super) struct Committing {
    /// The log position that the last mark in the log speaks of.
    pub(super) marked: u64,
    /// The file whose sync failed first: nothing of this log is durable any more until a reopen.
    pub(super) failed: Option<String>,
}

/// A durable place of a life, with what lies below it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counted {
    pub place: Place,
    /// Index of the next record.
    pub records: u32,
    /// Task records below.
    pub tasks: u32,
}

/// A record that is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    /// Sequence of the (first) record.
    pub first: Seq,
    /// Log position behind the extent: durable once the durable mark reaches it.
    pub end: u64,
}

/// Why an append can't be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotAppended {
    /// Nothing was written. The active segment, if there is one, has no room: roll to one that holds `bytes`, then
    /// try again.
    NeedsRoll { bytes: u32, seen_base: u64 },
    /// Nothing was written: more than any segment or length field can hold.
    TooLarge,
    /// In doubt: it was published into a map that an I/O error hit, in the segment of this file number. `first` is the
    /// sequence it has, if it is there.
    Failed { first: Seq, file: u32 },
}

/// What to append; lengths are the caller's to bound.
pub(crate) struct Draft<'a> {
    pub kind: Kind,
    pub flags: u8,
    pub fields: &'a [u8],
    pub payload: &'a [u8],
}

impl Log {
    /// A log whose next life starts at position `start` and has a base above `last_base`.
    pub(crate) fn new(id: LogId, found: Vec<Arc<Segment>>, last_base: u64) -> Self {
        let start = found.last().map_or(0, |segment| segment.next_start());
        let filled = found.last().map_or(0, |s| s.sealed().map_or(0, |sealed| s.position(sealed.end)));
        let durable = found.last().map_or(Place::default(), |segment| Place {
            base: segment.base(),
            offset: segment.sealed().map_or(0, |sealed| sealed.end),
        });
        Log {
            id,
            claiming: Line::new(Mutex::new(Claiming { active: None, last_base, next_start: start, committed: (0, 0) })),
            segments: RwLock::new(found.into_iter().map(|segment| (segment.base(), segment)).collect()),
            unsynced: Mutex::new(VecDeque::new()),
            durable: AtomicU64::new(start),
            commits: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            syncing: AtomicU64::new(0),
            committing: Mutex::new(Committing { marked: start, failed: None }),
            stable: Mutex::new((durable, Counted::default())),
            filled: Line::new(AtomicU64::new(filled)),
            powered: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            large: AtomicBool::new(false),
            undecided: Arc::default(),
        }
    }

    /// The same log, which knows the queue's open decisions.
    pub(crate) fn minding(mut self, undecided: &Arc<Undecided>) -> Self {
        self.undecided = Arc::clone(undecided);
        self
    }

    /// Goes on in a life that a clean close left open; `segment` must be the newest of the log.
    pub(crate) fn resume(&self, segment: &Arc<Segment>, frontier: Frontier, index: u32) {
        let mut claiming = self.claiming.lock();
        let end = offset_of(frontier.end());
        let position = segment.position(end);
        claiming.last_base = claiming.last_base.max(segment.base());
        claiming.next_start = segment.next_start();
        let tasks = segment.tasks();
        claiming.active = Some(Active { segment: Arc::clone(segment), frontier, index, tasks });
        self.segments.write().insert(segment.base(), Arc::clone(segment));
        segment.synced_to(end);
        self.unsynced.lock().push_back(Arc::clone(segment));
        self.filled.store(position, Ordering::Relaxed);
        self.durable.store(position, Ordering::Release);
        self.committing.lock().marked = position;
        let place = Place { base: segment.base(), offset: end };
        *self.stable.lock() = (place, Counted { place, records: index, tasks: segment.tasks() });
    }

    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    /// Appends one record and publishes it.
    #[inline]
    pub(crate) fn append(&self, draft: &Draft<'_>, time: Timestamp) -> Result<Appended, NotAppended> {
        let bytes = record::extent_bytes(draft.fields.len(), draft.payload.len()).ok_or(NotAppended::TooLarge)?;
        let tasks = u32::from(draft.kind == Kind::Task);
        let extent = self.claim(bytes, 1, tasks, draft.kind)?;
        let (index, end, first) = (extent.index, extent.end, extent.seq());
        let record =
            Record { index, kind: draft.kind, flags: draft.flags, time, fields: draft.fields, payload: draft.payload };
        let file = extent.file;
        extent.fill_one(&record).map_err(|MapFailed| NotAppended::Failed { first, file })?;
        Ok(Appended { first, end })
    }

    /// Appends several records as one extent: one claim, and one atomic unit over a crash.
    pub(crate) fn append_batch(&self, drafts: &[Draft<'_>], time: Timestamp) -> Result<Appended, NotAppended> {
        let count = u32::try_from(drafts.len()).map_err(|_| NotAppended::TooLarge)?;
        let mut bytes = u64::from(offset_of(HEADER_BYTES));
        for draft in drafts {
            let one = record::extent_bytes(draft.fields.len(), draft.payload.len()).ok_or(NotAppended::TooLarge)?;
            bytes += u64::from(one);
        }
        let bytes = u32::try_from(bytes).map_err(|_| NotAppended::TooLarge)?;
        let extent = self.claim(bytes, count, count, Kind::Task)?;
        let (index, end, first) = (extent.index, extent.end, extent.seq());
        let file = extent.file;
        extent.fill_batch(drafts, index, count, time).map_err(|MapFailed| NotAppended::Failed { first, file })?;
        Ok(Appended { first, end })
    }

    /// Bytes that `drafts` take as one batch extent, if lengths fit their fields.
    pub(crate) fn batch_bytes(drafts: &[Draft<'_>]) -> Option<u64> {
        let mut bytes = HEADER_BYTES as u64;
        for draft in drafts {
            bytes += u64::from(record::extent_bytes(draft.fields.len(), draft.payload.len())?);
        }
        Some(bytes)
    }

    #[inline]
    pub(super) fn claim(&self, bytes: u32, records: u32, tasks: u32, kind: Kind) -> Result<Extent<'_>, NotAppended> {
        let mut claiming = self.claiming.lock();
        let seen_base = claiming.last_base;
        let needs_roll = NotAppended::NeedsRoll { bytes, seen_base };
        let active = claiming.active.as_mut().ok_or(needs_roll)?;
        let segment = &active.segment;
        let (life, file) = (segment.life(), segment.header().file);
        let offset = offset_of(active.frontier.end());
        let word = record::claim_word(life, offset, bytes);
        let claim = active.frontier.claim(word, segment.limit() as usize).ok_or(needs_roll)?;
        let index = active.index;
        let end = segment.position(offset + bytes);
        if kind != Kind::Mark {
            // Marks carry the next index and use none. Stores, not additions: the claim lock is held.
            active.index += records;
            active.tasks += tasks;
            segment.set_tasks(active.tasks);
            segment.note_record(index, offset);
            self.filled.store(end, Ordering::Relaxed);
        }
        drop(claiming);
        Ok(Extent { log: self, claim: Some(claim), life, file, index, end, void_tasks: tasks })
    }

    /// Attaches `ready` as the new active segment, unless somebody rolled since `seen_base` was read; then
    /// `ready` comes back. A pointer swap: the prelude is stored in memory that is mapped and resident.
    pub(crate) fn roll(&self, ready: Ready, seen_base: u64, birth: &Birth) -> Option<Ready> {
        let mut claiming = self.claiming.lock();
        if claiming.last_base != seen_base {
            return Some(ready);
        }
        debug_assert!(birth.base > claiming.last_base, "bases of a log increase");
        let header = LifeHeader {
            queue: birth.queue,
            file: ready.number,
            size: ready.bytes,
            log: self.id,
            base: birth.base,
            block: block_for(ready.bytes),
            salt: birth.salt,
            predecessor: claiming.last_base,
            predecessor_end: claiming.active.as_ref().map_or(0, |active| offset_of(active.frontier.end())),
            created: birth.created,
            cold: false,
        };
        let frontier = ready.region.begin(&header.encode());
        let region = Arc::clone(frontier.region());
        let segment = Arc::new(Segment::active(header, ready.file, region, claiming.next_start));
        let was_active = self.seal_active(&mut claiming);
        self.calm.store(was_active && !self.powered.swap(false, Ordering::Relaxed), Ordering::Relaxed);
        let committed = (self.commits.load(Ordering::Relaxed), self.synced_bytes.load(Ordering::Relaxed));
        let (commits, bytes) = (committed.0 - claiming.committed.0, committed.1 - claiming.committed.1);
        self.large.store(commits > 0 && bytes / commits.max(1) >= LARGE_COMMIT_BYTES, Ordering::Relaxed);
        claiming.committed = committed;
        claiming.last_base = birth.base;
        claiming.next_start = segment.next_start();
        // Readers of `segments` may see the new life before it is active; it is empty then.
        self.segments.write().insert(birth.base, Arc::clone(&segment));
        self.unsynced.lock().push_back(Arc::clone(&segment));
        claiming.active = Some(Active { segment, frontier, index: 0, tasks: 0 });
        None
    }

    /// True if there was an active life.
    fn seal_active(&self, claiming: &mut Claiming) -> bool {
        let Some(active) = claiming.active.take() else { return false };
        active.segment.seal(Sealed { end: offset_of(active.frontier.end()), records: active.index });
        true
    }

    /// Every retained life, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }

    /// The life that holds `seq`, if it is retained.
    pub(crate) fn segment_of(&self, seq: Seq) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let (_, segment) = segments.range(..=seq.0).next_back()?;
        segment.index(seq).is_some().then(|| Arc::clone(segment))
    }

    /// The oldest life with a base of at least `base`.
    pub(crate) fn segment_from(&self, base: u64) -> Option<Arc<Segment>> {
        self.segments.read().range(base..).next().map(|(_, segment)| Arc::clone(segment))
    }

    /// Takes a sealed life out of the log, for recycling.
    pub(crate) fn detach(&self, base: u64) -> Option<Arc<Segment>> {
        let segment = self.segments.write().remove(&base)?;
        self.unsynced.lock().retain(|other| other.base() != base);
        Some(segment)
    }

    /// Puts a cold life in the place of a sealed one with the same base, which is given back. `None`, and nothing done, if
    /// that one is not in the log any more.
    pub(crate) fn replace(&self, old: &Arc<Segment>, cold: Arc<Segment>) -> Option<Arc<Segment>> {
        debug_assert!(
            old.base() == cold.base() && cold.sealed().is_some(),
            "a cold life is whole, and of the same base"
        );
        let mut segments = self.segments.write();
        let slot = segments.get_mut(&old.base()).filter(|slot| Arc::ptr_eq(slot, old))?;
        old.supersede();
        Some(std::mem::replace(slot, cold))
    }

    /// Where the next record goes: behind the newest one, or in the life that is attached next. One look: between two a
    /// life could come and fill up, and the place would lie behind its records.
    pub(crate) fn next_place(&self) -> Place {
        let claiming = self.claiming.lock();
        match claiming.active.as_ref() {
            Some(active) => Place { base: active.segment.base(), offset: offset_of(active.frontier.end()) },
            None => Place { base: claiming.last_base + 1, offset: 0 },
        }
    }

    /// Base, offset and index of what is claimed next in the active life.
    #[cfg(test)]
    pub(crate) fn head(&self) -> Option<(u64, u32, u32)> {
        let claiming = self.claiming.lock();
        let active = claiming.active.as_ref()?;
        Some((active.segment.base(), offset_of(active.frontier.end()), active.index))
    }

    /// A sequence above every one that was given out so far and at most the next one.
    pub(crate) fn next_seq(&self) -> Seq {
        let claiming = self.claiming.lock();
        if let Some(active) = claiming.active.as_ref() {
            return active.segment.seq(active.index);
        }
        // The next life begins above the block of the last one, which is sealed or gone.
        let last = self.segment_from(claiming.last_base);
        Seq(claiming.last_base + last.map_or(1, |segment| u64::from(segment.header().block)))
    }

    /// Highest base ever given to this log.
    pub(crate) fn last_base(&self) -> u64 {
        self.claiming.lock().last_base
    }

    /// Bytes of the newest life's file, for choosing the next one's size. A cold life's says nothing of that.
    pub(crate) fn newest_bytes(&self) -> Option<u64> {
        let segments = self.segments.read();
        segments.values().rev().find(|segment| !segment.is_cold()).map(|segment| segment.header().size)
    }

    /// Notes that somebody waits for `Power` here, which decides how the next segment is prepared.
    pub(crate) fn note_power(&self) {
        if !self.powered.load(Ordering::Relaxed) {
            self.powered.store(true, Ordering::Relaxed);
        }
    }

    /// How the next segment is best made. Large commits are to be expected where those of the life before were large; rare
    /// ones where a whole life went by without anybody waiting for `Power`, and nobody does now. A segment that was made
    /// for those makes small commits dearer, so a life that was only just begun tells nothing.
    pub(crate) fn suited_by(&self) -> Prepare {
        if self.calm.load(Ordering::Relaxed) && !self.powered.load(Ordering::Relaxed) {
            Prepare::Rare
        } else if self.large.load(Ordering::Relaxed) {
            Prepare::Large
        } else {
            Prepare::Small
        }
    }
}

/// From this size on commits gain more by not writing every byte twice than they lose by what the file system writes. Measured:
/// of 64 KiB 220 µs by either, of more the device is what they wait for.
const LARGE_COMMIT_BYTES: u64 = 128 << 10;

/// What a new life is born with.
pub(crate) struct Birth {
    pub queue: crate::types::QueueId,
    pub base: u64,
    pub salt: u64,
    pub created: Timestamp,
}

/// Offsets in a segment fit 32 bits: a segment is at most 1 GiB.
pub(super) fn offset_of(at: usize) -> u32 {
    debug_assert!(u32::try_from(at).is_ok(), "a segment is at most 1 GiB");
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The claim's word carries its length in 29 bits of 8-byte units.
const _: () = assert!(MARK_BYTES.is_multiple_of(8) && size_of::<ExtentWord>() == 8, "extents are whole words");
