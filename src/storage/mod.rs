//! The operating system: files, maps, locks, clocks, randomness; and the only `unsafe` of the crate.
//!
//! The room knows bytes, ranges and names; it knows nothing of records, lanes or tasks. Everything above
//! reaches a disk through two small traits, so that a simulated disk can stand in for the real one, and
//! touches mapped memory only through [`Region`], whose safe verbs keep its contract.
//!
//! An I/O error under a map comes as a signal, not as a result. Three things turn it into one: segments are allocated,
//! written and faulted in before they are used; cold bytes are faulted in by a call that returns the error, just
//! before they are read; and under the guard (`disk/guard.rs`, if the caller asks for it) what is left fails the map that it
//! hit. Every region knows whether its map failed.
//!
//! Absent from here: the on-disk format, policy, retries. A failed call is reported once, as it was.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub(crate) mod disk;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod memory;
pub(crate) mod region;
pub(crate) mod uring;
mod words;

pub use uring::SyncChoice;

pub(crate) use region::{Claim, Frontier, Health, MapFailed, Populated, Region, View, any_map_failed};
#[cfg(test)]
mod tests;

/// The file that the directory's lock is on; never mapped, never removed.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// While it is there the directory is a snapshot that is not whole, and no queue.
pub(crate) const UNFINISHED: &str = "UNFINISHED-SNAPSHOT";

/// How a new segment file is made ready, which follows how its log is used. In any case its blocks are allocated, and all of
/// it is faulted in when it is mapped; for writing, so that an append meets no page fault, where much is appended. A commit
/// writes its own range alone, whatever else is dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prepare {
    /// For small commits: zeros are on the device, so that a commit overwrites written blocks, and in memory every page is
    /// one of its own (a folio of 4 KiB), so that a commit writes no neighbours. Every byte reaches the device twice, once
    /// as a zero.
    Small,
    /// For large commits: blocks that were never written. That they are now, the file system has to note with each commit,
    /// which a small one would notice; and every byte reaches the device once. Pages as for small ones.
    Large,
    /// For rare commits: likewise, in memory as the kernel likes it best, which is many pages at once.
    Rare,
}

/// What kind of file system holds the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Medium {
    /// A local file system that overwrites in place; files may be recycled.
    Local,
    /// Copy-on-write (btrfs, bcachefs, zfs): overwriting allocates, so recycling only costs.
    CopyOnWrite,
    /// Memory (tmpfs, ramfs): nothing survives power loss. The name is for the message.
    Volatile(&'static str),
    /// Network, FUSE or overlay: what a sync means here is not ours to promise.
    Foreign(&'static str),
}

/// How a queue syncs several files at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncPath {
    /// Whichever turns out faster: both are tried on the first syncs of several files, and the faster one stays.
    #[default]
    Faster,
    /// One system call for each, one after the other.
    Calls,
    /// All side by side, through io_uring; one after the other where that can't be had.
    Ring,
}

/// Bytes of a file that wait for a sync. The range is not empty.
pub(crate) struct Unsynced {
    pub file: Arc<dyn File>,
    pub range: Range<u64>,
}

/// Syncs one after the other, each with its outcome.
fn sync_in_turn(wanted: &[Unsynced]) -> Vec<io::Result<()>> {
    wanted.iter().map(|unsynced| unsynced.file.sync_range(unsynced.range.clone())).collect()
}

/// A directory of flat files. Names never contain separators.
///
/// A change of the directory (create, remove) is durable only after [`Storage::sync_dir`].
pub(crate) trait Storage: Send + Sync {
    /// The names of all entries, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `len` zero bytes with its blocks allocated, and its bytes and length durable; fails if
    /// the name exists. On an error no file is left behind.
    fn create(&self, name: &str, len: u64, prepare: Prepare) -> io::Result<Arc<dyn File>>;
    /// Opens a regular file of our own for reading and writing; links are not followed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Removes the name; maps and handles that exist stay valid.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all earlier creates and removes durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Syncs all of these, each as [`File::sync_range`] does and with its own outcome, in their order; one after the other
    /// or side by side.
    fn sync_ranges(&self, wanted: &[Unsynced]) -> Vec<io::Result<()>> {
        sync_in_turn(wanted)
    }
    /// How it does so.
    fn sync_choice(&self) -> SyncChoice {
        SyncChoice::default()
    }
    /// Unpredictable bits, for ids and salts.
    fn random(&self) -> u64;
    /// What holds the files.
    fn medium(&self) -> Medium;
}

/// One file. All its writers and its one syncer use this same handle, because an error of background
/// writeback is told only to handles that were open when it happened.
pub(crate) trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buf` from `offset` on, wholly, or fails (`UnexpectedEof` past the end).
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file where needed; visible through maps at once.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `len`. Never while it is mapped.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Returns after all bytes written or stored before the call, and the length, are on stable storage.
    /// After an error nothing may be assumed of them, and a later success proves nothing.
    fn sync(&self) -> io::Result<()>;
    /// As [`File::sync`], for the bytes of `range` alone (and the length): what was stored or written elsewhere in
    /// the file may stay behind. So a segment can be kept dirty and mapped ahead of its tail. Fails where the file does
    /// not reach to the end of the range any more.
    fn sync_range(&self, range: Range<u64>) -> io::Result<()>;
    /// The range is about to be synced through the file's descriptor, by another call than this trait's.
    fn will_sync(&self, _range: &Range<u64>) {}
    /// Maps the whole file, shared.
    fn map(&self) -> io::Result<Region>;
    /// Takes over all bytes of `source`, which nobody writes meanwhile, by sharing their blocks until either is written;
    /// this file is empty before. False, and nothing done, where that can't be. A sync makes it durable, not the call.
    fn share(&self, _source: &dyn File) -> io::Result<bool> {
        Ok(false)
    }
    /// What the kernel knows the file by, for [`File::share`] and the ring; a file that is none of its own has nothing.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A mapped page that can't be had though its file reaches so far. The kernel says no more.
#[derive(Debug, thiserror::Error)]
#[error("a page can't be had: {0}")]
pub(crate) struct NoPage(pub &'static str);

/// True if the medium failed, which may be for once: it said so itself, or a page of a map can't be had.
pub(crate) fn is_read_error(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO) || error.get_ref().is_some_and(|inner| inner.is::<NoPage>())
}

/// True for what a full disk, a quota or a limit says: what was to be written is not there, and everything else is as
/// it was.
pub(crate) fn is_want_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
