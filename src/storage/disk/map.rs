//! Mapping a file, and asking the kernel for its pages.
#![expect(unsafe_code, reason = "mapped memory is this room's business; every block names the fact it rests on")]

use std::fs::File as StdFile;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{Advice as RawAdvice, MsyncFlags, madvise, msync};

use super::guard::{Guard, Watch};
use super::lock::Lock;
use crate::storage::{Health, NoPage, Populated, Prepare, Region};

const PAGE_BYTES: usize = 4096;
/// What one call faults in: whoever maps or unmaps anything meanwhile, an allocator too, waits for it.
const POPULATE_BYTES: usize = 1 << 20;

/// From this many bytes on a sync first lets go of the pages' entries in the page table, all at once. The kernel would
/// take the right to write from each by itself, and tell the other cores each time.
const UNMAP_BYTES: usize = 16 << 10;

/// A map and the directory's lock: who borrows bytes keeps others out of the directory.
pub(super) struct Held {
    /// Before the map, because it must be dropped before the map is.
    _watch: Option<Watch>,
    health: Arc<Health>,
    map: MmapRaw,
    _lock: Option<Arc<Lock>>,
}

impl Held {
    /// Syncs the pages of `range`. On a shared map msync(2) with `MS_SYNC` is a ranged fdatasync through the same
    /// open file that was mapped: it writes the range's dirty pages, commits what metadata they need, flushes the
    /// device, and reports an earlier writeback error of the file once, exactly as fdatasync does. It passes over pages
    /// that were put in place of lost ones; whoever syncs asks the region afterwards whether there are any.
    pub(super) fn sync(&self, range: Range<u64>) -> io::Result<()> {
        let (from, to) = self.pages(&range);
        if from >= to {
            return Ok(());
        }
        self.let_go(&range);
        // SAFETY: [from, to) lies in the map (clamped), which `self` keeps; syncing changes no contents.
        unsafe { msync(self.map.as_mut_ptr().add(from).cast(), to - from, MsyncFlags::SYNC) }?;
        Ok(())
    }

    /// From the page in which `range` begins to its end, as far as the map reaches.
    fn pages(&self, range: &Range<u64>) -> (usize, usize) {
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.map.len());
        (clamp(range.start) / PAGE_BYTES * PAGE_BYTES, clamp(range.end))
    }

    /// Takes whole pages out of the page table, where that is worth a call: they stay in the page cache, dirty as they are,
    /// and who reads them next maps them again, many at once. The page at the end stays, for it is written on.
    pub(super) fn let_go(&self, range: &Range<u64>) {
        let (from, to) = self.pages(range);
        let to = to / PAGE_BYTES * PAGE_BYTES;
        if from.saturating_add(UNMAP_BYTES) <= to {
            // SAFETY: [from, to) lies in the map (clamped), which `self` keeps. Of a shared map this drops table entries
            // and no contents: the file's pages have them.
            let _slower =
                unsafe { madvise(self.map.as_mut_ptr().add(from).cast(), to - from, RawAdvice::LinuxDontNeed) };
        }
    }
}

/// Maps the whole file, shared; read-only and private when the directory is not locked.
pub(super) fn map(
    file: &StdFile,
    made: Option<Prepare>,
    lock: Option<Arc<Lock>>,
    guard: Option<Guard>,
) -> io::Result<Held> {
    let map = if lock.is_some() {
        MmapOptions::new().map_raw(file)?
    } else {
        // SAFETY: a private copy-on-write map; it is only read, below marks that recovery set, and what the
        // process that holds the lock may change meanwhile is verified by checksums where it is looked at.
        MmapRaw::from(unsafe { MmapOptions::new().map_copy(file)? })
    };
    // A child must not write through inherited pages; where the kernel can't promise that, fork is the
    // caller's to avoid, and handles refuse to work in the child anyway.
    let _not_in_children = map.advise(Advice::DontFork);
    let health = Arc::<Health>::default();
    let watch = guard.zip(NonNull::new(map.as_mut_ptr())).map(|(guard, start)| {
        // SAFETY: the range is the whole map. It is unmapped when `Held` drops, which is when the last region over it
        // and with it the last reader is gone, and the watch drops first; that pages may turn to zeros is in the
        // region's contract.
        unsafe { guard.watch(start, map.len(), Arc::clone(&health)) }
    });
    // All page faults now, in few calls, as an error instead of a signal.
    match made {
        // Faulting in for writing would make every page dirty, and what a lane at rest leaves unused would be written again.
        Some(Prepare::Small) => populate(&map, Advice::PopulateRead)?,
        Some(Prepare::Large) => {
            // Who says that he reads at random gets single pages.
            let is_random = map.advise(Advice::Random).is_ok();
            let populated = populate(&map, Advice::PopulateWrite);
            if is_random {
                let _as_before = map.advise(Advice::Normal);
            }
            populated?;
        }
        Some(Prepare::Rare) => populate(&map, Advice::PopulateWrite)?,
        None => {}
    }
    Ok(Held { _watch: watch, health, map, _lock: lock })
}

/// The region over a map.
pub(super) fn region(held: Arc<Held>) -> io::Result<Region> {
    let bytes = held.map.len();
    let start = NonNull::new(held.map.as_mut_ptr()).ok_or_else(|| io::Error::other("the map has no address"))?;
    let health = Arc::clone(&held.health);
    // SAFETY: the map is page-aligned, readable and writable, `bytes` long, and lives in `Held` as long as the
    // region. The file does not shrink while it is mapped: only recovery cuts files, before it maps them, and the
    // lock that `Held` keeps lets no other recovery in. Pages turn to zeros by the guard alone, which fails `health`.
    Ok(unsafe { Region::new(start, bytes, health, Box::new(held)) })
}

fn populate(map: &MmapRaw, advice: Advice) -> io::Result<()> {
    let mut steps = (0..map.len()).step_by(POPULATE_BYTES);
    let outcome = steps.try_for_each(|from| map.advise_range(advice, from, POPULATE_BYTES.min(map.len() - from)));
    let Err(error) = outcome else { return Ok(()) };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // A kernel before 5.14 does not know the advice; faults then happen one by one.
        Some(Errno::INVAL) => Ok(()),
        Some(errno) => Err(no_page(errno)),
        None => Err(error),
    }
}

/// Faults in the pages of `range` of a region for reading. An I/O error comes back as one.
pub(crate) fn populate_read(start: NonNull<u8>, bytes: usize, range: Range<usize>) -> io::Result<Populated> {
    populate_range(start, bytes, range, RawAdvice::LinuxPopulateRead)
}

/// Faults in the pages of `range` of a region for writing, which makes them dirty.
pub(crate) fn populate_write(start: NonNull<u8>, bytes: usize, range: Range<usize>) -> io::Result<Populated> {
    let mut populated = Populated::Whole;
    for from in range.clone().step_by(POPULATE_BYTES) {
        let part = from..range.end.min(from + POPULATE_BYTES);
        if populate_range(start, bytes, part, RawAdvice::LinuxPopulateWrite)? == Populated::Unknown {
            populated = Populated::Unknown;
        }
    }
    Ok(populated)
}

/// Has the pages of `range` read from the disk, and waits for none of it.
pub(crate) fn will_need(start: NonNull<u8>, bytes: usize, range: Range<usize>) {
    // Whoever reads them is told of an error.
    let _unasked = advise(start, bytes, range, RawAdvice::WillNeed);
}

fn populate_range(start: NonNull<u8>, bytes: usize, range: Range<usize>, advice: RawAdvice) -> io::Result<Populated> {
    match advise(start, bytes, range, advice) {
        Ok(()) => Ok(Populated::Whole),
        // INVAL: a kernel before 5.14, or a sandbox, that does not know the advice. NOMEM: no memory for a page or for a
        // page table, which says nothing of the pages behind; a real access would wait for memory, not fail.
        Err(Errno::INVAL | Errno::NOMEM) => Ok(Populated::Unknown),
        Err(errno) => Err(no_page(errno)),
    }
}

/// Gives advice on the pages of `range` of a region. On ordinary memory, a simulated disk's, there is nothing to do.
fn advise(start: NonNull<u8>, bytes: usize, range: Range<usize>, advice: RawAdvice) -> Result<(), Errno> {
    let from = range.start.min(bytes) / PAGE_BYTES * PAGE_BYTES;
    let to = range.end.min(bytes);
    let aligned = (start.as_ptr() as usize).is_multiple_of(PAGE_BYTES);
    if !aligned || from >= to {
        return Ok(());
    }
    // SAFETY: [from, to) lies in the region, whose memory the caller keeps; the advice changes no contents.
    unsafe { madvise(start.as_ptr().add(from).cast(), to - from, advice) }
}

/// What it means that a page can't be faulted in.
fn no_page(errno: Errno) -> io::Error {
    match errno {
        // The kernel says "bad address" where an access would raise SIGBUS.
        Errno::FAULT => {
            io::Error::other(NoPage("the device failed, the file system has no room for it, or the file was cut"))
        }
        Errno::HWPOISON => io::Error::other(NoPage("its memory is broken")),
        _ => errno.into(),
    }
}
