//! Where a snapshot may go, and how long it waits for producers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Queue;
use super::core::Core;
use crate::engine::snapshot::Stage;
use crate::error::{Error, Result};
use crate::storage::disk::{DiskStorage, clock};
use crate::storage::{LOCK_FILE, Storage};
use crate::types::{Durability, nanos};

/// Between two looks whether a producer went on.
const LOOK: Duration = Duration::from_millis(1);
/// A producer fills a claim within a copy of its task's bytes; one that takes longer than this is stopped.
const PRODUCER_WAIT: Duration = Duration::from_secs(10);

impl Queue {
    /// Copies the queue, as it is now, into the directory `to`, which opens as a queue of its own: a backup. Producers and
    /// consumers go on meanwhile.
    ///
    /// Everything that was acknowledged before this call, at either durability, is in the copy, and what was settled
    /// before is settled there: dead letters, delays, attempts, dedup ids, groups, what is paused, cancelled or retained are as
    /// they are. Tasks on loan come again there. What happens during the call is in the copy or not, each by itself and
    /// wholly. When this returns, all of the copy is on stable storage, as far as its file system has such.
    ///
    /// `to` is made, for its owner alone, or is an empty directory. A snapshot that did not come to its end, for whatever
    /// reason, is never taken for a queue: an error removes what it made, as far as it can, and what a crash leaves is
    /// refused by every open ([`Error::NotAQueue`]), until the directory is removed by hand.
    ///
    /// The copy has this queue's id, and a task has the same id in both. So receipts of one must not be used on the other,
    /// and applications that tell queues by their ids should not see both at once.
    ///
    /// Sealed segments are shared block by block where the file system can (XFS, btrfs), so that they take neither time nor space until
    /// either queue recycles them, and are copied elsewhere. Never linked: a queue writes into its files in place.
    ///
    /// # Blocking
    /// As long as the copy takes, no checkpoint is written: no segment is given back, and at a full disk acks may have to wait.
    /// [`Queue::checkpoint`], [`Queue::close`] and a second snapshot wait for it, but closing ends it with [`Error::Closed`]
    /// at the next MiB. Nothing else waits.
    ///
    /// # Errors
    /// [`Error::SnapshotTarget`] if `to` is not empty, no directory, or inside the queue's own; [`Error::Locked`] if somebody
    /// opened it; [`Error::Full`] if there is no room, there or for the checkpoint; [`Error::Io`] with the file that could not
    /// be read or written; [`Error::InDoubt`] if the checkpoint's sync failed; [`Error::Poisoned`], [`Error::Closed`],
    /// [`Error::Forked`]. Whatever happens to the copy, this queue goes on.
    ///
    /// # Example
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (jobs, backup) = (dir.path().join("jobs"), dir.path().join("backup"));
    /// use lanelog::{Queue, Reserve, Task};
    ///
    /// let queue = Queue::open(&jobs)?;
    /// queue.enqueue(Task::new(b"resize 1.png"))?;
    /// queue.snapshot(&backup)?;
    ///
    /// let copy = Queue::open(&backup)?;
    /// assert_eq!(copy.consumer().reserve(Reserve::new())?[0].payload().as_ref(), b"resize 1.png");
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&self, to: impl AsRef<Path>) -> Result<()> {
        let (core, to) = (self.core(), to.as_ref());
        core.check(Durability::Process)?;
        refuse_target(to, &self.open.path)?;
        let target = DiskStorage::open(to)?;
        // Somebody may have come between the look and the lock.
        refuse_full(&target, to)?;
        let mut waited_from = None;
        core.engine.snapshot(&target, to, clock::now(), &mut |stage| match stage {
            Stage::Copying => core.check(Durability::Process),
            Stage::Waiting => wait_for_producer(core, &mut waited_from),
        })
    }
}

fn wait_for_producer(core: &Core, waited_from: &mut Option<u64>) -> Result<()> {
    core.check(Durability::Process)?;
    let now = clock::nanos();
    if now - *waited_from.get_or_insert(now) > nanos(PRODUCER_WAIT) {
        let stopped =
            std::io::Error::new(std::io::ErrorKind::TimedOut, "a producer stands still in the middle of a task");
        return Err(Error::io(".", "take a snapshot", stopped));
    }
    core.commit_word.enrol().sleep(Some(LOOK));
    Ok(())
}

/// Refuses what a snapshot must not be made in, before anything is made.
fn refuse_target(to: &Path, queue: &Path) -> Result<()> {
    let refuse = |why: &str| Err(Error::SnapshotTarget { path: to.to_owned(), why: why.to_owned() });
    if to.as_os_str().is_empty() {
        return refuse("no directory was named");
    }
    if whole(to).starts_with(whole(queue)) {
        return refuse("it lies in the queue's own directory; name one outside");
    }
    if to.symlink_metadata().is_err() {
        return Ok(());
    }
    if !to.is_dir() {
        return refuse("it is there and is no directory; name one that is not there yet");
    }
    refuse_full(&DiskStorage::open_read_only(to)?, to)
}

fn refuse_full(target: &DiskStorage, to: &Path) -> Result<()> {
    let names = target.list().map_err(|error| Error::io(to.display().to_string(), "list", error))?;
    match names.iter().find(|name| *name != LOCK_FILE) {
        None => Ok(()),
        Some(name) => {
            let why = format!("it holds {name:?}; name a directory that is not there yet, or empty this one");
            Err(Error::SnapshotTarget { path: to.to_owned(), why })
        }
    }
}

/// The path without links and dots, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => whole(Path::new(".")).join(name),
        (Some(parent), Some(name)) => whole(parent).join(name),
        _ => path.to_owned(),
    }
}
