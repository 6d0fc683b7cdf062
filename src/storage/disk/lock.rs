//! One process per directory: a kernel lock on a file of its own that is never mapped.
//!
//! The kernel gives the lock up when its last descriptor closes, so a dead process never blocks anybody. The
//! process id in the file is for the message alone. A lock on a mapped file would outlive its descriptor by the
//! map; a descriptor that a child inherits would outlive us, hence close-on-exec.

use std::fs::{File as StdFile, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::file::refuse_beyond_limit;
use super::refuse_special;
use crate::error::{Error, Result};
use crate::storage::LOCK_FILE;

/// The lock, until it is dropped.
pub(super) struct Lock {
    _file: StdFile,
}

impl Lock {
    /// Takes the lock or says who has it.
    pub(super) fn take(dir: &OwnedFd, path: &Path) -> Result<Lock> {
        let fail = |call: &'static str| move |error: io::Error| Error::io(LOCK_FILE, call, error);
        refuse_special(dir, LOCK_FILE).map_err(fail("open"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = fs::openat(dir, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR);
        let file = StdFile::from(opened.map_err(|error| fail("open")(error.into()))?);
        if !file.metadata().map_err(fail("stat"))?.is_file() {
            return Err(fail("open")(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        // The umask may have taken rights away that the next open needs. A file of another user is not ours to change.
        let _others = file.set_permissions(Permissions::from_mode(0o600));
        match fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: path.to_owned(), pid: holder(&file) }),
            Err(error) => return Err(fail("lock")(error.into())),
        }
        let id = format!("{}\n", std::process::id());
        // The id is a courtesy: a full disk must not keep a queue from being opened and drained.
        let _told = refuse_beyond_limit(id.len() as u64)
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.write_all_at(id.as_bytes(), 0));
        Ok(Lock { _file: file })
    }
}

/// The process id in a lock file.
pub(super) fn holder(mut file: &StdFile) -> Option<u32> {
    let mut text = String::new();
    Read::by_ref(&mut file).take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
