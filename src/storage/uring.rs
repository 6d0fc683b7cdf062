//! Syncing several files at once: one after the other by system calls, or side by side through a ring (io_uring).
//!
//! A device takes several flushes at a time, and a system call can ask for one only. The ring asks for all of them and
//! waits once. For one file it has nothing to give, for the kernel makes the same sync either way, so that goes by its
//! own call and never comes here.
//!
//! Which way is faster is not known beforehand: it depends on the device, the file system and the kernel. So the first
//! times both are tried in turn, on syncs that have to be made in any case, and the faster one stays. Where the kernel,
//! a container's policy or a limit refuses the ring, the calls are what is left, and nobody notices but whoever asks
//! ([`Syncs::chosen`]). The ring is made when it is first wanted, and lives as long as the queue is open.
//!
//! The rules of a sync are those of [`File::sync_range`](super::File::sync_range): through the handle that wrote, an error
//! is final, and a completion that did not come counts as an error. A ring that refused a call is not used again.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;

use super::{SyncPath, Unsynced, sync_in_turn};
use crate::sync::{Mutex, OnceLock};

#[cfg(test)]
mod tests;

/// Syncs that are asked for before the first is waited for.
const ENTRIES: u32 = 64;

/// How often each way is tried.
const TRIALS: usize = 8;

/// A queue's ways to sync several files.
pub(super) struct Syncs {
    wanted: SyncPath,
    /// `None` within: the kernel refuses.
    ring: OnceLock<Mutex<Option<IoUring>>>,
    trial: Mutex<Trial>,
    nanos: fn() -> u64,
}

/// What is known of the two ways: the nanoseconds that each took for a file.
#[derive(Default)]
struct Trial {
    calls: Vec<u64>,
    ring: Vec<u64>,
    refused: Option<String>,
}

/// How several files are synced, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncChoice {
    /// The way: [`SyncPath::Calls`] or [`SyncPath::Ring`], or [`SyncPath::Faster`] for as long as both are tried.
    pub path: SyncPath,
    /// Why, for people.
    pub why: String,
}

impl Syncs {
    pub(super) fn new(wanted: SyncPath, nanos: fn() -> u64) -> Self {
        Syncs { wanted, ring: OnceLock::new(), trial: Mutex::default(), nanos }
    }

    /// Syncs all of these, each with its outcome, in their order.
    pub(super) fn sync(&self, wanted: &[Unsynced]) -> Vec<io::Result<()>> {
        let path = if wanted.len() < 2 { SyncPath::Calls } else { self.next() };
        let began = (self.nanos)();
        let by_ring = if path == SyncPath::Ring { self.by_ring(wanted) } else { None };
        let is_by_ring = by_ring.is_some();
        let outcomes = by_ring.unwrap_or_else(|| sync_in_turn(wanted));
        if wanted.len() >= 2 && outcomes.iter().all(Result::is_ok) {
            let took = (self.nanos)().saturating_sub(began) / wanted.len() as u64;
            self.trial.lock().note(is_by_ring, took);
        }
        outcomes
    }

    /// What is chosen so far.
    pub(super) fn chosen(&self) -> SyncChoice {
        let trial = self.trial.lock();
        let (path, why) = match (&trial.refused, self.wanted) {
            (Some(error), SyncPath::Ring | SyncPath::Faster) => {
                (SyncPath::Calls, format!("io_uring can't be had: {error}"))
            }
            (_, SyncPath::Faster) => (trial.faster(), trial.why()),
            (_, asked) => (asked, "as the options say".to_owned()),
        };
        SyncChoice { path, why }
    }

    /// The way of the next sync.
    fn next(&self) -> SyncPath {
        let trial = self.trial.lock();
        match (&trial.refused, self.wanted) {
            (Some(_), _) | (None, SyncPath::Calls) => SyncPath::Calls,
            (None, SyncPath::Ring) => SyncPath::Ring,
            (None, SyncPath::Faster) => match trial.faster() {
                SyncPath::Faster if trial.ring.len() < trial.calls.len() => SyncPath::Ring,
                SyncPath::Faster => SyncPath::Calls,
                found => found,
            },
        }
    }

    /// `None` if nothing was done: there is no ring, another thread has it, or one of the files is none of the kernel's.
    fn by_ring(&self, wanted: &[Unsynced]) -> Option<Vec<io::Result<()>>> {
        let descriptors: Option<Vec<_>> = wanted.iter().map(|unsynced| unsynced.file.descriptor()).collect();
        let pairs: Vec<_> =
            descriptors?.into_iter().zip(wanted.iter().map(|unsynced| unsynced.range.clone())).collect();
        let made = self.ring.get_or_init(|| {
            let made = make_ring();
            self.trial.lock().refused = made.as_ref().err().map(ToString::to_string);
            Mutex::new(made.ok())
        });
        let mut held = made.try_lock()?;
        let ring = held.as_mut()?;
        for unsynced in wanted {
            unsynced.file.will_sync(&unsynced.range);
        }
        let mut outcomes = Vec::with_capacity(pairs.len());
        for some in pairs.chunks(ENTRIES as usize) {
            match sync_some(ring, some) {
                Ok(done) => outcomes.extend(done),
                Err(error) => {
                    // What it still holds goes with it.
                    *held = None;
                    self.trial.lock().refused = Some(error.to_string());
                    outcomes.extend(some.iter().map(|_| Err(io::Error::from(error.kind()))));
                    outcomes.resize_with(pairs.len(), || Err(io::Error::other("not synced, for the ring failed")));
                    break;
                }
            }
        }
        let checked = outcomes
            .into_iter()
            .zip(&pairs)
            .map(|(outcome, (file, range))| outcome.and_then(|()| super::disk::refuse_cut(*file, range.end)));
        Some(checked.collect())
    }
}

impl Trial {
    fn note(&mut self, is_by_ring: bool, took: u64) {
        let known = if is_by_ring { &mut self.ring } else { &mut self.calls };
        if known.len() < TRIALS {
            known.push(took);
        }
    }

    /// The faster way, once each was tried often enough.
    fn faster(&self) -> SyncPath {
        match (median(&self.calls), median(&self.ring)) {
            (Some(calls), Some(ring)) if ring < calls => SyncPath::Ring,
            (Some(_), Some(_)) => SyncPath::Calls,
            _ => SyncPath::Faster,
        }
    }

    fn why(&self) -> String {
        match (median(&self.calls), median(&self.ring)) {
            (Some(calls), Some(ring)) => {
                let (calls, ring) = (calls / 1000, ring / 1000);
                format!(
                    "a file took {calls} µs by calls and {ring} µs by the ring, medians of {TRIALS} syncs of several files"
                )
            }
            _ => format!("tried {} times by calls, {} times by the ring", self.calls.len(), self.ring.len()),
        }
    }
}

/// Of all that will ever be known; `None` before.
fn median(known: &[u64]) -> Option<u64> {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    sorted.get(TRIALS / 2).filter(|_| known.len() == TRIALS).copied()
}

/// A ring of a kernel that has what is needed here.
fn make_ring() -> io::Result<IoUring> {
    let ring = IoUring::new(ENTRIES)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if probe.is_supported(opcode::Fsync::CODE) { Ok(ring) } else { Err(Errno::NOSYS.into()) }
}

/// Asks for all of these at once, no more than the ring has entries, and waits for all. An error: nothing may be assumed of
/// any of them.
fn sync_some(ring: &mut IoUring, wanted: &[(BorrowedFd<'_>, Range<u64>)]) -> io::Result<Vec<io::Result<()>>> {
    for (number, (file, range)) in (0..).zip(wanted) {
        let bytes = u32::try_from(range.end - range.start).map_err(|_| io::Error::from(Errno::FBIG))?;
        let asked = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        let asked = asked.offset(range.start).len(bytes).build().user_data(number);
        #[expect(unsafe_code, reason = "the ring is this room's business")]
        // SAFETY: the entry points to no memory of ours, and its descriptor is borrowed until all completions are there, or
        // the ring is gone.
        unsafe { ring.submission().push(&asked) }.map_err(io::Error::other)?;
    }
    let mut outcomes: Vec<Option<io::Result<()>>> = wanted.iter().map(|_| None).collect();
    while outcomes.iter().any(Option::is_none) {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for done in ring.completion() {
            let outcome = usize::try_from(done.user_data()).ok().and_then(|number| outcomes.get_mut(number));
            let result = if done.result() < 0 { Err(io::Error::from_raw_os_error(-done.result())) } else { Ok(()) };
            if let Some(outcome) = outcome {
                *outcome = Some(result);
            }
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}
