//! A recorded block device: a file in a FUSE file system, served by this process from memory, for a loop device to lie on.
//!
//! It logs every write and every flush in the order in which they came, and can be told to fail writes. That is what
//! device-mapper's log-writes and flakey targets do, where the kernel has them; this needs FUSE and loop devices alone.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::kernel::SharedCounter;

use super::mounts::unmount_patiently;

/// What happened to the device.
pub enum Event {
    Write {
        at: usize,
        bytes: Box<[u8]>,
    },
    /// Everything written before is on stable storage.
    Flush,
}

/// What the device is.
struct State {
    bytes: Vec<u8>,
    /// Its bytes when recording began.
    base: Vec<u8>,
    log: Vec<Event>,
    recording: bool,
    /// Writes into these fail.
    failing: Vec<Range<u64>>,
    failed: u64,
}

/// The device, served while this lives.
pub struct Device {
    state: Arc<Mutex<State>>,
    /// Before the directory that it is mounted on.
    session: Option<BackgroundSession>,
    dir: TempDir,
    counter: PathBuf,
}

impl Device {
    const NAME: &str = "disk";

    pub fn start(bytes: usize) -> Result<Device> {
        let dir = tempfile::Builder::new().prefix("lanelog-device-").tempdir_in("/dev/shm")?;
        let counter = dir.path().join("events");
        let events = SharedCounter::create(&counter)?;
        let at = dir.path().join("fuse");
        std::fs::create_dir(&at)?;
        let empty = Vec::new;
        let state = State {
            bytes: vec![0; bytes],
            base: empty(),
            log: Vec::new(),
            recording: false,
            failing: Vec::new(),
            failed: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("lanelog-crash".to_owned()));
        let served = Served { state: Arc::clone(&state), events };
        let session = fuser::spawn_mount(served, &at, &config).context("can't mount a FUSE file system")?;
        Ok(Device { state, session: Some(session), dir, counter })
    }

    /// The file to put a loop device on.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("fuse").join(Self::NAME)
    }

    /// The file that holds the number of events logged.
    pub fn counter(&self) -> PathBuf {
        self.counter.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the log here.
    pub fn record(&self) {
        let mut state = self.state();
        state.base = state.bytes.clone();
        state.log.clear();
        state.recording = true;
    }

    /// Ends the log: the device's bytes when it began, and what happened since.
    pub fn recorded(&self) -> (Vec<u8>, Vec<Event>) {
        let mut state = self.state();
        state.recording = false;
        (std::mem::take(&mut state.base), std::mem::take(&mut state.log))
    }

    /// How many events were logged.
    pub fn events(&self) -> u64 {
        self.state().log.len() as u64
    }

    /// From here on writes into any of these ranges fail.
    pub fn fail(&self, ranges: Vec<Range<u64>>) {
        let mut state = self.state();
        state.failing = ranges;
        state.failed = 0;
    }

    /// What lies on the device now.
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        let state = self.state();
        part(range.start, len, state.bytes.len()).and_then(|part| state.bytes.get(part)).unwrap_or_default().to_vec()
    }

    /// How many writes failed since they were told to.
    pub fn failed(&self) -> u64 {
        self.state().failed
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let at = self.dir.path().join("fuse");
            if unmount_patiently(&at).is_err() {
                // Still busy: out of sight at least, so that its directory can go, and gone when nobody has it.
                let _gone = unmount(&at, UnmountFlags::DETACH);
            }
            drop(session);
        }
    }
}

/// The kernel's side.
struct Served {
    state: Arc<Mutex<State>>,
    events: SharedCounter,
}

const ROOT: u64 = 1;
const DISK: u64 = 2;
/// Nothing is remembered by the kernel.
const NO_TIME: Duration = Duration::ZERO;

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let size = if ino == DISK { self.state().bytes.len() as u64 } else { 0 };
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if ino == ROOT { FileType::Directory } else { FileType::RegularFile },
            perm: if ino == ROOT { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn log(&self, state: &mut State, event: Event) {
        if state.recording {
            state.log.push(event);
            self.events.set(state.log.len() as u64);
        }
    }
}

/// The part of a file that a request names.
fn part(offset: u64, len: usize, whole: usize) -> Option<Range<usize>> {
    let from = usize::try_from(offset).ok()?;
    let to = from.checked_add(len)?;
    (to <= whole).then_some(from..to)
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if u64::from(parent) == ROOT && name == Device::NAME {
            reply.entry(&NO_TIME, &self.attr(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_TIME, &self.attr(ino.into()));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&NO_TIME, &self.attr(ino.into()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: what the loop device writes is here when its write returns.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state();
        let whole = state.bytes.len();
        let len = (size as usize).min(whole.saturating_sub(usize::try_from(offset).unwrap_or(whole)));
        match part(offset, len, whole).and_then(|part| state.bytes.get(part)) {
            Some(bytes) => reply.data(bytes),
            None => reply.data(&[]),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut guard = self.state();
        let state = &mut *guard;
        let end = offset.saturating_add(data.len() as u64);
        if state.failing.iter().any(|range| range.start < end && offset < range.end) {
            state.failed += 1;
            return reply.error(Errno::EIO);
        }
        let part = part(offset, data.len(), state.bytes.len());
        let Some((at, bytes)) = part.and_then(|part| Some((part.start, state.bytes.get_mut(part)?))) else {
            return reply.error(Errno::ENOSPC);
        };
        bytes.copy_from_slice(data);
        self.log(state, Event::Write { at, bytes: data.into() });
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.state();
        self.log(&mut state, Event::Flush);
        reply.ok();
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
