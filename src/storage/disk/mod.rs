//! The real disk: a directory, its lock, its files and maps; clocks and randomness.
//!
//! Every file is opened relative to the directory's own descriptor, without following links, and must be a
//! regular file that belongs to us: a directory of a queue is not a place that others may point elsewhere.

use std::fs::{File as StdFile, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};

use super::uring::{SyncChoice, Syncs};
use super::{File, Medium, Prepare, Storage, SyncPath, Unsynced};
use crate::error::{Error, Result};

pub(crate) mod clock;
mod file;
pub(crate) mod fork;
mod guard;
mod lock;
mod map;
mod medium;
mod zeros;

#[cfg(test)]
mod tests;

pub(super) use file::refuse_cut;
pub(super) use map::{populate_read, populate_write, will_need};

use file::DiskFile;
use guard::Guard;
use lock::Lock;

/// A queue's directory.
pub(crate) struct DiskStorage {
    dir: OwnedFd,
    /// Held until the storage and the last map are gone. `None` when only looking.
    lock: Option<Arc<Lock>>,
    medium: Medium,
    /// Maps are made under it, if the caller asked for it.
    guard: Option<Guard>,
    syncs: Syncs,
    /// Who opened it: a forked child must not write through inherited handles.
    process: u32,
}

impl DiskStorage {
    /// Opens the directory for one process alone, making it (0700) and its parents if they are absent.
    ///
    /// Errors: `Locked` with the holder's process id, `NotAQueue` if the path is no directory of ours, `Io`.
    pub(crate) fn open(path: &Path) -> Result<DiskStorage> {
        make_directory(path)?;
        let dir = open_directory(path)?;
        // A directory's name must survive a power loss as well as what is in it. Whoever made it may have died before it
        // was synced; the lock file is made behind that, so where there is one it is done.
        if fs::statat(&dir, crate::storage::LOCK_FILE, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            sync_parent(&dir, path)?;
        }
        let lock = Lock::take(&dir, path)?;
        Self::over(dir, Some(Arc::new(lock)))
    }

    /// The same directory under the SIGBUS guard: maps made from here on fail instead of ending the process. Installs
    /// the process's handler, if no earlier call did.
    pub(crate) fn guarded(mut self) -> Result<DiskStorage> {
        self.guard = Some(Guard::install().map_err(|error| Error::io(".", "install the SIGBUS handler", error))?);
        Ok(self)
    }

    /// The same directory, where several files are synced in this way.
    pub(crate) fn syncing_by(mut self, path: SyncPath) -> DiskStorage {
        self.syncs = Syncs::new(path, clock::nanos);
        self
    }

    /// Opens the directory for looking: no lock, nothing is made, every write is refused.
    pub(crate) fn open_read_only(path: &Path) -> Result<DiskStorage> {
        Self::over(open_directory(path)?, None)
    }

    /// The process that has the queue open, if the lock file names one that lives. A hint: whether the lock is held is
    /// not tried, for trying takes it.
    pub(crate) fn holder(&self) -> Option<u32> {
        let file = self.open_at(crate::storage::LOCK_FILE, OFlags::RDONLY).ok()?;
        lock::holder(&file).filter(|pid| {
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
        })
    }

    fn over(dir: OwnedFd, lock: Option<Arc<Lock>>) -> Result<DiskStorage> {
        let medium = medium::of(&dir).map_err(|error| Error::io(".", "statfs", error))?;
        Ok(DiskStorage {
            dir,
            lock,
            medium,
            guard: None,
            syncs: Syncs::new(SyncPath::default(), clock::nanos),
            process: std::process::id(),
        })
    }

    fn may_write(&self) -> io::Result<()> {
        if self.lock.is_none() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for looking only"));
        }
        refuse_fork(self.process)
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<StdFile> {
        refuse_special(&self.dir, name)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file belongs to another user"));
        }
        Ok(StdFile::from(file))
    }
}

impl Storage for DiskStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64, prepare: Prepare) -> io::Result<Arc<dyn File>> {
        self.may_write()?;
        let file = self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let made =
            file.set_permissions(Permissions::from_mode(0o600)).and_then(|()| zeros::allocate(&file, len, prepare));
        if let Err(error) = made {
            // A part of a segment is of no use, and its blocks may be what others lack.
            let _swept = fs::unlinkat(&self.dir, name, AtFlags::empty());
            return Err(error);
        }
        Ok(Arc::new(DiskFile::new(file, Some(prepare), self.lock.clone(), self.guard, self.process)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let flags = if self.lock.is_some() { OFlags::RDWR } else { OFlags::RDONLY };
        let file = self.open_at(name, flags)?;
        Ok(Arc::new(DiskFile::new(file, None, self.lock.clone(), self.guard, self.process)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_write()?;
        Ok(fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.may_write()?;
        Ok(fs::fsync(&self.dir)?)
    }

    fn sync_ranges(&self, wanted: &[Unsynced]) -> Vec<io::Result<()>> {
        match self.may_write() {
            Ok(()) => self.syncs.sync(wanted),
            Err(error) => wanted.iter().map(|_| Err(io::Error::from(error.kind()))).collect(),
        }
    }

    fn sync_choice(&self) -> SyncChoice {
        self.syncs.chosen()
    }

    fn random(&self) -> u64 {
        random()
    }

    fn medium(&self) -> Medium {
        self.medium
    }
}

/// Unpredictable bits from the kernel.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got.is_ok_and(|count| count == bytes.len()) {
        return u64::from_le_bytes(bytes);
    }
    // A kernel without getrandom, or one that is not seeded: time and address are what is left. Salts need to
    // differ from one another, not to be secret.
    let now = clock::nanos();
    let here = std::ptr::from_ref(&bytes).addr() as u64;
    (now ^ here.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn refuse_fork(process: u32) -> io::Result<()> {
    if process == std::process::id() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the queue was opened before a fork; open it in the child"))
}

/// Refuses what is there and can be no file of ours without opening it: to open a device or a terminal is to use it. What
/// is put there in the next moment is seen after the open.
pub(super) fn refuse_special(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        // Not followed when it is opened.
        Err(_) | Ok(FileType::RegularFile | FileType::Symlink) => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Makes the directory and its parents, as far as they are absent, each for its owner alone; the parents with names that
/// survive a power loss.
fn make_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        make_directory(parent)?;
        sync_parent(&open_directory(parent)?, parent)?;
    }
    let fail = |error: rustix::io::Errno| Error::io(path.display().to_string(), "create the directory", error.into());
    match fs::mkdir(path, Mode::RWXU) {
        // The umask may have taken rights away that we need ourselves.
        Ok(()) => fs::chmod(path, Mode::RWXU).map_err(fail)?,
        // By somebody else, meanwhile.
        Err(rustix::io::Errno::EXIST) if path.is_dir() => {}
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTDIR) => {
            return Err(not_a_queue(path, "it is not a directory"));
        }
        Err(error) => return Err(fail(error)),
    }
    Ok(())
}

/// Makes the name of `dir` durable.
fn sync_parent(dir: &OwnedFd, path: &Path) -> Result<()> {
    use rustix::io::Errno;
    let fail =
        |call: &'static str| move |error: Errno| Error::io(path.join("..").display().to_string(), call, error.into());
    let parent = match fs::openat(dir, "..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(parent) => parent,
        // A parent that we may not read was made by somebody else, before us.
        Err(Errno::ACCESS | Errno::PERM) => return Ok(()),
        Err(error) => return Err(fail("open")(error)),
    };
    match fs::fsync(&parent) {
        // A file system that knows no sync of a directory, or is not written to.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
        synced => synced.map_err(fail("sync")),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOTDIR => not_a_queue(path, "it is not a directory"),
        rustix::io::Errno::NOENT => not_a_queue(path, "there is no such directory"),
        _ => Error::io(path.display().to_string(), "open the directory", error.into()),
    })
}

fn not_a_queue(path: &Path, why: &str) -> Error {
    Error::NotAQueue { path: PathBuf::from(path), why: why.to_owned() }
}
