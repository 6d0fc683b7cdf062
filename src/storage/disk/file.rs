//! One file of the queue's directory.

use std::fs::File as StdFile;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

use rustix::fs;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::guard::Guard;
use super::lock::Lock;
use super::map::{self, Held};
use super::refuse_fork;
use crate::storage::{File, Prepare, Region, is_want_of_room};
use crate::sync::Mutex;

pub(super) struct DiskFile {
    file: StdFile,
    /// How it was made, for a file that this open made; that decides how it is faulted in when it is mapped.
    made: Option<Prepare>,
    lock: Option<Arc<Lock>>,
    guard: Option<Guard>,
    process: u32,
    /// The map, for as long as somebody has it.
    mapped: Mutex<Weak<Held>>,
}

impl DiskFile {
    pub(super) fn new(
        file: StdFile,
        made: Option<Prepare>,
        lock: Option<Arc<Lock>>,
        guard: Option<Guard>,
        process: u32,
    ) -> Self {
        DiskFile { file, made, lock, guard, process, mapped: Mutex::default() }
    }
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        refuse_fork(self.process)?;
        refuse_beyond_limit(offset.saturating_add(bytes.len() as u64))?;
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        refuse_fork(self.process)?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        refuse_fork(self.process)?;
        // One call, never repeated: an error is final, and the next success would prove nothing.
        Ok(fs::fdatasync(&self.file)?)
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        refuse_fork(self.process)?;
        let mapped = self.mapped.lock().upgrade();
        let end = range.end;
        match mapped {
            Some(held) => held.sync(range)?,
            // What was written through the handle: a map of the moment, which nobody touches, names the range.
            None => map::map(&self.file, None, self.lock.clone(), None)?.sync(range)?,
        }
        refuse_cut(self.file.as_fd(), end)
    }

    fn will_sync(&self, range: &Range<u64>) {
        if let Some(held) = self.mapped.lock().upgrade() {
            held.let_go(range);
        }
    }

    fn map(&self) -> io::Result<Region> {
        let held = Arc::new(map::map(&self.file, self.made, self.lock.clone(), self.guard)?);
        *self.mapped.lock() = Arc::downgrade(&held);
        map::region(held)
    }

    fn share(&self, source: &dyn File) -> io::Result<bool> {
        refuse_fork(self.process)?;
        let Some(source) = source.descriptor() else { return Ok(false) };
        refuse_beyond_limit(fs::fstat(source)?.st_size.unsigned_abs())?;
        match fs::ioctl_ficlone(&self.file, source).map_err(io::Error::from) {
            Ok(()) => Ok(true),
            Err(error) if is_want_of_room(&error) => Err(error),
            // Another file system, or one that knows no such thing. What else is wrong the copy meets, and tells.
            Err(_) => Ok(false),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Refuses a sync of a file that does not reach to `end`. Pages of a file that was cut are gone, so there was nothing of
/// them to sync, and the call succeeded.
pub(in crate::storage) fn refuse_cut(file: BorrowedFd<'_>, end: u64) -> io::Result<()> {
    // Asked by a seek: fstat(2) makes the kernel stamp the next store with a time of its own, which costs the next
    // sync as much again (measured: 180 µs for 115 µs). Nobody uses the file's position.
    if fs::seek(file, fs::SeekFrom::End(0))? < end {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was in use"));
    }
    Ok(())
}

/// Refuses to write up to `end` where this process may have no file so large (`ulimit -f`). The kernel would refuse as
/// well, but send SIGXFSZ with it, which ends a process that did not ask otherwise; and what becomes of signals is the
/// host's business.
pub(super) fn refuse_beyond_limit(end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < end => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}
