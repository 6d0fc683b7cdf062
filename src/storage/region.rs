//! Mapped bytes of one segment, and the contract that makes sharing them sound.
//!
//! A region is a pointer and a length, the same type over a real map and over a simulated disk's memory.
//!
//! # The contract
//!
//! - Bytes below the *readable* mark never change, so `&[u8]` over them is sound.
//!   One thing breaks in from outside: where an I/O error hits the map under the SIGBUS guard, zeros take the
//!   page's place and the map's [`Health`] says so. Without the guard the process would be dead at that load; with it
//!   whoever looked at bytes asks [`Region::has_failed`] afterwards, and believes nothing of what it saw if so.
//! - Bytes above belong to whoever claimed them and are written through raw pointers, by that claim alone.
//! - The first word of an extent is shared; it is touched as an atomic only, until it is below the mark.
//! - There is never a `&mut [u8]` over a region, nor a `&[u8]` that reaches above the mark.
//! - The memory stays mapped and its blocks allocated until the last reference is gone; the file never
//!   shrinks meanwhile. Whoever makes a region promises this ([`Region::new`]).
//!
//! One life of a region has one [`Frontier`], which is not `Clone`: only it hands out claims, each behind
//! the one before. A [`Claim`] is published once, by storing its final word with release order; the mark
//! moves over final extents only ([`Region::advance`]), reading their words with acquire order. So whoever
//! sees the mark moved sees the bytes. A publish into a map that failed says so ([`MapFailed`]): the flag is read
//! behind the last store, so a fault of any store of the claim is known to its own thread by then.

#![expect(unsafe_code, reason = "mapped memory is this room's business; every block names the fact it rests on")]

use std::any::Any;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::compiler_fence;

use super::File;
use super::words::Words;
use crate::sabotage::{Bug, on};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Line, linger};
use crate::types::ExtentWord;

/// Whether an I/O error hit a map. Shared by the map's region and by whoever may notice first; a signal handler may set
/// it.
#[derive(Default)]
pub(crate) struct Health {
    failed: AtomicBool,
}

/// Set once any map of the process failed, so that the usual case costs one load.
/// For the process, so a model checker has no share in it.
static ANY_FAILED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// True once any map of this process failed.
pub(crate) fn any_map_failed() -> bool {
    // Acquire: pairs with the release in `Health::fail`; who sees this sees which map it was.
    ANY_FAILED.load(Ordering::Acquire)
}

impl Health {
    /// Tells that an I/O error hit the map. For good: pages of it are not the file's any more.
    pub(crate) fn fail(&self) {
        // Release: both pair with the acquire loads in `has_failed` and `any_map_failed`.
        self.failed.store(true, Ordering::Release);
        ANY_FAILED.store(true, Ordering::Release);
    }

    #[inline]
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// What was published may never reach the file: an I/O error hit the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MapFailed;

/// Whether a range is known to be readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Populated {
    /// Every page was faulted in.
    Whole,
    /// The kernel can't tell, or had no memory for it: read through the file to be sure.
    Unknown,
}

/// A shared range of mapped memory. See the module's contract.
pub(crate) struct Region {
    words: Words,
    /// End of what the frontier has handed out. Never behind `readable`.
    claimed: Line<AtomicUsize>,
    /// Every byte below is final. Only grows within one life.
    readable: Line<AtomicUsize>,
    /// Views that are held. A count for reports; what keeps the memory is the reference in each.
    views: Line<AtomicUsize>,
    /// Failed when an I/O error hit the map; what was published since may be lost.
    health: Arc<Health>,
    /// Keeps the memory mapped.
    _memory: Box<dyn Any + Send + Sync>,
}

// SAFETY: all access goes through the verbs below. Shared reads reach only final bytes; every other access
// is an atomic word or a raw write inside a claim that one owner holds. The memory itself is Send + Sync.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Wraps `bytes` bytes from `start` on. Nothing is readable until [`Region::trust`].
    ///
    /// # Safety
    /// The range must be readable and writable, 8-aligned, and stay so, with its length, until `memory` is
    /// dropped; nothing else in this process may write it except through the region or through the file
    /// handle below a mark that moved already. Pages that the process loses meanwhile may turn to zeros, if
    /// `health` is failed before.
    pub(crate) unsafe fn new(
        start: NonNull<u8>,
        bytes: usize,
        health: Arc<Health>,
        memory: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Region {
            // SAFETY: what `Words::new` asks for is part of what this function asks for.
            words: unsafe { Words::new(start, bytes) },
            claimed: Line::default(),
            readable: Line::default(),
            views: Line::default(),
            health,
            _memory: memory,
        }
    }

    /// Length of the region.
    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes()
    }

    /// Begins a life: writes `prelude` at the start, makes it readable and hands out the one frontier behind
    /// it. Taking the region by value proves that nobody reads it. A map that failed stays failed.
    pub(crate) fn begin(self, prelude: &[u8]) -> Frontier {
        assert!(prelude.len() <= self.bytes() && prelude.len().is_multiple_of(8), "a prelude is whole words and fits");
        // SAFETY: the range is inside the region (asserted) and nobody else holds the region (by value).
        unsafe { self.words.fill(0, prelude) };
        self.resume(prelude.len())
    }

    /// Goes on with a life whose first `end` bytes are known final, for instance after a clean close.
    pub(crate) fn resume(mut self, end: usize) -> Frontier {
        assert!(end <= self.bytes() && end.is_multiple_of(8), "a frontier stands on a word inside the region");
        (self.claimed, self.readable) = (Line::new(AtomicUsize::new(end)), Line::new(AtomicUsize::new(end)));
        Frontier { end, writers: Arc::new(Writers { region: Arc::new(self) }) }
    }

    /// Makes the first `end` bytes readable, for a sealed file that nobody writes any more.
    pub(crate) fn trust(mut self, end: usize) -> Self {
        let end = end.min(self.bytes());
        (self.claimed, self.readable) = (Line::new(AtomicUsize::new(end)), Line::new(AtomicUsize::new(end)));
        self
    }

    /// End of the readable bytes.
    #[inline]
    pub(crate) fn readable(&self) -> usize {
        // Acquire: pairs with the release in `advance`, so the bytes below are seen.
        self.readable.load(Ordering::Acquire)
    }

    /// End of the claimed bytes.
    pub(crate) fn claimed(&self) -> usize {
        // Acquire: pairs with the release in `Frontier::claim`, so the claim words below are seen.
        self.claimed.load(Ordering::Acquire)
    }

    /// Moves the readable mark over every final extent in a row and returns it. Any thread may call it.
    #[inline]
    pub(crate) fn advance(&self) -> usize {
        let claimed = self.claimed();
        let before = self.readable();
        let mut at = before;
        while at < claimed {
            // Acquire: pairs with the release in `Claim::publish`; the extent's bytes are seen after it.
            let word = ExtentWord(self.words.load(at, Ordering::Acquire));
            // Below `claimed` every extent begins with a word of this life that a claim stored whole, with
            // its true length (asserted in `publish`), so the walk never leaves the row of extents.
            if !(word.is_final() || on(Bug::ReadableBeforePublished)) || word.bytes() == 0 {
                break;
            }
            at += word.bytes() as usize;
        }
        if at > before {
            // Release: pairs with the acquire in `readable`. A compare-and-swap, which ThreadSanitizer sees; what
            // `fetch_max` compiles to is the same, and it does not.
            let order = if on(Bug::RelaxedMark) { Ordering::Relaxed } else { Ordering::Release };
            let _farther = self.readable.fetch_update(order, Ordering::Relaxed, |now| (now < at).then_some(at));
        }
        at
    }

    /// Final bytes, or `None` where `range` is malformed or reaches above the mark.
    #[inline]
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.readable() {
            return None;
        }
        // SAFETY: below the readable mark bytes are initialised and never change again (`advance`), and the
        // mark never passes `claimed`, which never passes `bytes`.
        Some(unsafe { self.words.slice(range) })
    }

    /// Final bytes that keep the region alive, or `None` as for [`Region::slice`].
    pub(crate) fn view(self: &Arc<Self>, range: Range<usize>) -> Option<View> {
        self.slice(range.clone())?;
        self.views.fetch_add(1, Ordering::Relaxed);
        Some(View { region: Arc::clone(self), range })
    }

    /// How many views of it are held.
    pub(crate) fn views(&self) -> usize {
        self.views.load(Ordering::Relaxed)
    }

    /// Tells that an I/O error hit the map.
    #[cfg(test)]
    pub(crate) fn mark_failed(&self) {
        self.health.fail();
    }

    /// True once an I/O error hit the map: nothing published since may be acknowledged.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.health.has_failed()
    }

    /// Makes sure that `range` can be read without a signal: an I/O error comes out as an error. `file` is what is
    /// mapped. That holds for a reader that comes along soon; what is not touched for long may be evicted.
    pub(crate) fn check_readable(&self, file: &dyn File, range: Range<usize>) -> io::Result<()> {
        match super::disk::populate_read(self.words.start(), self.bytes(), range.clone())? {
            Populated::Whole => Ok(()),
            Populated::Unknown => read_through(file, range),
        }
    }

    /// Tells the kernel that `range` will be read soon; nothing waits for that, and nothing is promised.
    pub(crate) fn will_need(&self, range: Range<usize>) {
        super::disk::will_need(self.words.start(), self.bytes(), range);
    }

    /// Asks the kernel to fault a range in for writing, as far as there is one, so that stores meet no page fault.
    pub(crate) fn populate_write(&self, range: Range<usize>) -> io::Result<Populated> {
        let range = range.start.min(self.bytes())..range.end.min(self.bytes());
        super::disk::populate_write(self.words.start(), self.bytes(), range)
    }
}

/// Reads bytes through the file and forgets them: what can't be read is an error here, and what can is in memory.
fn read_through(file: &dyn File, range: Range<usize>) -> io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    let mut at = range.start;
    while at < range.end {
        let take = (range.end - at).min(PIECE_BYTES);
        file.read_at(at as u64, piece.get_mut(..take).unwrap_or_default())?;
        at += take;
    }
    Ok(())
}

const PIECE_BYTES: usize = 16 << 10;

/// The share in a region that all its claims have together. Readers count on the region's own count for each range they
/// borrow; were claims counted there too, each count would have to be fetched from the other side's core.
struct Writers {
    region: Arc<Region>,
}

/// The one right to claim extents of a region's life.
pub(crate) struct Frontier {
    writers: Arc<Writers>,
    end: usize,
}

impl Frontier {
    /// The region it belongs to.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.writers.region
    }

    /// Where the next claim begins.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Claims the next `word.bytes()` bytes and writes `word` there before anyone can claim behind it, or
    /// `None` if they don't fit below `limit`.
    #[inline]
    pub(crate) fn claim(&mut self, word: ExtentWord, limit: usize) -> Option<Claim> {
        let bytes = word.bytes() as usize;
        let end = self.end.checked_add(bytes)?;
        let region = &self.writers.region;
        if bytes < 8 || end > limit.min(region.bytes()) {
            return None;
        }
        let start = self.end;
        region.words.store(start, word.0, Ordering::Relaxed);
        // Release: pairs with the acquire in `Region::claimed`; whoever sees the new end sees the word.
        region.claimed.store(end, Ordering::Release);
        self.end = end;
        Some(Claim { writers: Arc::clone(&self.writers), start, bytes })
    }
}

/// Exclusive right to fill one extent and publish it.
///
/// Dropping a claim leaves a hole that stops the mark for good; the log wraps it so that never happens.
pub(crate) struct Claim {
    writers: Arc<Writers>,
    start: usize,
    bytes: usize,
}

impl Claim {
    /// Offset of the extent in the region.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Copies `bytes` to `at` bytes behind the extent's start. The first word is not the claim's to write.
    ///
    /// # Panics
    /// If the range leaves the extent or touches its first word: a bug of the caller, caught before it writes.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at.checked_add(bytes.len());
        assert!(at >= 8 && end.is_some_and(|end| end <= self.bytes), "a fill stays inside its extent");
        // SAFETY: inside the claimed extent (asserted), which this claim alone may write until it is published
        // (`Frontier::claim` hands out disjoint extents; `publish` takes the claim by value).
        unsafe { self.writers.region.words.fill(self.start + at, bytes) };
    }

    /// Stores the final word: from here on the bytes never change.
    ///
    /// Errors: `MapFailed` if an I/O error hit the map; the extent is published all the same, and nothing may be
    /// acknowledged of it.
    ///
    /// # Panics
    /// If `word` is not final or names another length than was claimed.
    #[inline]
    pub(crate) fn publish(self, word: ExtentWord) -> Result<(), MapFailed> {
        assert!(word.is_final() && word.bytes() as usize == self.bytes, "an extent is published as it was claimed");
        linger();
        // Release: pairs with the acquire in `Region::advance`; the fill is seen before the word.
        let order = if on(Bug::RelaxedPublish) { Ordering::Relaxed } else { Ordering::Release };
        let region = &self.writers.region;
        region.words.store(self.start, word.0, order);
        // A fault of these stores is handled in this thread, so the compiler alone could read the flag too early.
        compiler_fence(Ordering::SeqCst);
        if region.has_failed() { Err(MapFailed) } else { Ok(()) }
    }

    /// Length of the extent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Final bytes, and a share in the region that keeps them mapped.
pub(crate) struct View {
    region: Arc<Region>,
    range: Range<usize>,
}

impl Clone for View {
    fn clone(&self) -> Self {
        self.region.views.fetch_add(1, Ordering::Relaxed);
        View { region: Arc::clone(&self.region), range: self.range.clone() }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.region.views.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.region.slice(self.range.clone()).unwrap_or_default()
    }
}
