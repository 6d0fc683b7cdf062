//! Snapshots: a copy of the queue as it is at one moment, in another directory, while producers and consumers go on.
//!
//! # The protocol
//!
//! 1. *Mark.* The file [`UNFINISHED`] is made in the empty target, durably. Whoever finds it opens nothing there.
//! 2. *Checkpoint*, twice, after what may have a footer got it; and the checkpoint lock is held from here to the end. So nothing that the roots list is let go of,
//!    recycled, cut or moved meanwhile: all of that is done in the last step of a checkpoint, or under its lock
//!    (`reclaim.rs`, `evacuate/`). Twice, because the older root is copied as well, and must list nothing that is gone: a
//!    life whose place a cold one took leaves with the second checkpoint after that.
//! 3. *Wait* until everything is published that was claimed when the second one was written: somebody may have been told
//!    of what lies behind a claim that a producer still fills. What the roots list is published as well then.
//! 4. *The checkpoint's file* is copied. Nobody writes it now.
//! 5. *Footers*: which lives of lanes have one by now is noted. One that is written later is not copied: it makes all of its
//!    life final, transactions too, and their decisions may lie behind what is copied of the journal.
//! 6. *The journal*, up to where it is published without a gap. Then, for an instant, nobody is between claim and publish
//!    of a transaction; and so all that the entries of the copy name is published.
//! 7. *The lanes*, each up to where it is published without a gap by now.
//! 8. *Finish.* Each file was synced as it was complete; now their names are made durable, then the mark is removed, then
//!    that is made durable.
//!
//! # What is copied of a life
//!
//! Bytes that are published never change. Of what lies behind them nothing is read: it may be in the middle of being
//! written, and a mark that is read later could speak of it as durable. So a life that has no footer yet ends in the copy
//! where it is published, and one with a footer is copied as it is, by sharing its blocks where the file system can.
//!
//! Never by a hard link: a queue writes into its files in place when it recycles them, and when it recovers, and cuts them
//! as well, while others may have them mapped. Two queues over one file would each have to know of the other at all of
//! these places; and one bit that flips would hurt both.
//!
//! # What the copy is
//!
//! The directory of a queue whose process was killed after it had synced everything. What was acknowledged before the call
//! began, at `Power` or `Process`, is in it, for step 3 waits for it; what was settled by then is settled, for its entry or
//! the checkpoint is. What happens during the copy is in it or not, each by itself and wholly: a decision of which the copy
//! has not all records, or a record whose decision it has not, is made void by the recovery that opens it, as after a crash.
//! A mark in it speaks only of what lies before the mark, and is copied; what the root lists as durable was published before 6.
//!
//! # What a crash leaves
//!
//! | in | the target | the queue |
//! |---|---|---|
//! | 1 | an empty directory, or the mark | untouched |
//! | 2 to 7 | the mark, and any part of the rest: refused by every open, to be removed by hand | as after a crash in a checkpoint, or idle |
//! | 8, before the mark's removal is durable | the mark or not: if not, all else is durable | untouched |
//!
//! An error does what it can to remove what was made, the mark last. An error of the target says nothing of the queue
//! itself: it is not poisoned by it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Store;
use crate::error::{Error, Result};
use crate::format::segment::file_name;
use crate::log::{Log, Published, Segment};
use crate::sabotage::{Bug, on};
use crate::storage::{File, Prepare, Storage, UNFINISHED, is_want_of_room};
use crate::sync::yield_now;
use crate::types::Now;

use super::Engine;
use super::checkpoint::Checkpoints;

/// Where a snapshot asks its caller whether to go on. An error ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Somebody stands still between claim and publish. Asked again and again until it went on.
    Waiting,
    /// A piece of a file is copied, or all of it, and nothing of the queue is locked but the checkpoints.
    Copying,
}

/// Asks the caller.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(Stage) -> Result<()>;

/// How much is copied in one piece.
const PIECE_BYTES: usize = 1 << 20;

impl Engine {
    /// Copies the queue into `target`, an empty directory; `path` names it in errors.
    ///
    /// Errors: those of a checkpoint; `Full` where the target has no room; `Io` with the file that could not be read or
    /// written; `Poisoned`; and what `go_on` gives.
    pub(crate) fn snapshot(&self, target: &dyn Storage, path: &Path, now: Now, go_on: GoOn<'_>) -> Result<()> {
        self.check_poison()?;
        let mut copying = Copying { engine: self, target, path, made: Vec::new(), go_on };
        let outcome = copying.all(now);
        if outcome.is_err() {
            copying.sweep();
        }
        outcome
    }
}

/// A snapshot that is being made.
struct Copying<'a, 'g> {
    engine: &'a Engine,
    target: &'a dyn Storage,
    path: &'a Path,
    /// Names that were made, the mark first.
    made: Vec<String>,
    go_on: GoOn<'g>,
}

impl Copying<'_, '_> {
    fn all(&mut self, now: Now) -> Result<()> {
        let engine = self.engine;
        if !on(Bug::SnapshotUnmarked) {
            self.create(UNFINISHED)?;
            self.target.sync_dir().map_err(|error| self.fail(".", "sync", error))?;
        }
        engine.write_footers(now.wall)?;
        let mut checkpoints = engine.checkpoints.lock();
        if on(Bug::SnapshotLanesFirst) {
            self.copy_lanes(&self.with_footers())?;
        }
        self.checkpoint_twice(&mut checkpoints, now)?;
        self.wait_for_claims()?;
        self.copy_checkpoint()?;
        let footed = self.with_footers();
        let journal = published(&engine.journal)?;
        drop(engine.deciding.write());
        for (segment, end) in journal {
            self.copy_life(&segment, end, !segment.wants_footer())?;
        }
        if !on(Bug::SnapshotLanesFirst) {
            self.copy_lanes(&footed)?;
        }
        self.copy_unread()?;
        // What a failed sync left in doubt is in the copy, wholly or not at all; but whoever asks for one hears of it here.
        engine.check_poison()?;
        self.finish()
    }

    /// Step 2.
    fn checkpoint_twice(&mut self, checkpoints: &mut Checkpoints, now: Now) -> Result<()> {
        for _ in 0..2 {
            while !self.engine.checkpoint_with(checkpoints, now, false, &mut yield_now)? {
                (self.go_on)(Stage::Waiting)?;
            }
        }
        Ok(())
    }

    /// Step 3.
    fn wait_for_claims(&mut self) -> Result<()> {
        let engine = self.engine;
        let logs = engine.lanes.all().map(|(_, log)| log).chain([&engine.journal]);
        for log in logs {
            let claimed = log.frontier();
            while !log.is_published_to(claimed).map_err(unmapped)? {
                (self.go_on)(Stage::Waiting)?;
            }
        }
        Ok(())
    }

    /// Step 4.
    fn copy_checkpoint(&mut self) -> Result<()> {
        let open = self.engine.storage.open(Store::FILE);
        let source = open.map_err(|error| Error::io(Store::FILE, "open", error))?;
        self.copy(Store::FILE, &*source, None)
    }

    /// Step 5: bases of lives that have a footer, for good.
    fn with_footers(&self) -> BTreeSet<u64> {
        let lives = self.engine.lanes.all().flat_map(|(_, log)| log.segments());
        lives.filter(|segment| !segment.wants_footer()).map(|segment| segment.base()).collect()
    }

    /// Step 7.
    fn copy_lanes(&mut self, footed: &BTreeSet<u64>) -> Result<()> {
        let engine = self.engine;
        for (_, log) in engine.lanes.all() {
            for (segment, end) in published(log)? {
                let late = on(Bug::SnapshotFooterLate) && !segment.wants_footer();
                self.copy_life(&segment, end, late || footed.contains(&segment.base()))?;
            }
        }
        Ok(())
    }

    /// Lives that this open could not read: as far as they can be read now. Of what can't the copy says that it is missing,
    /// as the queue says that it is unreadable.
    fn copy_unread(&mut self) -> Result<()> {
        for life in &self.engine.unread {
            let name = file_name(life.file);
            let Ok(source) = self.engine.storage.open(&name) else { continue };
            match self.copy(&name, &*source, None) {
                Err(Error::Io { file, .. }) if file == name => {
                    self.made.retain(|made| *made != name);
                    self.target.remove(&name).map_err(|error| self.fail(&name, "remove", error))?;
                }
                copied => copied?,
            }
        }
        Ok(())
    }

    fn copy_life(&mut self, segment: &Segment, end: u32, is_final: bool) -> Result<()> {
        self.copy(&segment.file_name(), &**segment.file(), (!is_final).then_some(u64::from(end)))
    }

    /// Copies a file: its first `end` bytes, or all of one that nobody writes.
    fn copy(&mut self, name: &str, source: &dyn File, end: Option<u64>) -> Result<()> {
        let read = |error| Error::io(name, "read", error);
        let file = self.create(name)?;
        let there = source.len().map_err(read)?;
        let is_shared = end.is_none() && file.share(source).map_err(|error| self.fail(name, "share", error))?;
        // A file that somebody cut ends before its records do.
        let end = if is_shared { 0 } else { end.map_or(there, |end| end.min(there)) };
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(end).unwrap_or(PIECE_BYTES))];
        let mut at = 0;
        while at < end {
            let take = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let bytes = piece.get_mut(..take).unwrap_or_default();
            source.read_at(at, bytes).map_err(read)?;
            file.write_at(at, bytes).map_err(|error| self.fail(name, "write", error))?;
            at += take as u64;
            if at < end {
                (self.go_on)(Stage::Copying)?;
            }
        }
        if !on(Bug::SnapshotUnsynced) {
            file.sync().map_err(|error| self.fail(name, "sync", error))?;
        }
        (self.go_on)(Stage::Copying)
    }

    /// Step 8.
    fn finish(&mut self) -> Result<()> {
        self.target.sync_dir().map_err(|error| self.fail(".", "sync", error))?;
        if on(Bug::SnapshotUnmarked) {
            return Ok(());
        }
        self.target.remove(UNFINISHED).map_err(|error| self.fail(UNFINISHED, "remove", error))?;
        self.target.sync_dir().map_err(|error| self.fail(".", "sync", error))
    }

    fn create(&mut self, name: &str) -> Result<Arc<dyn File>> {
        let file = self.target.create(name, 0, Prepare::Small).map_err(|error| self.fail(name, "create", error))?;
        self.made.push(name.to_owned());
        Ok(file)
    }

    fn fail(&self, name: &str, call: &'static str, error: std::io::Error) -> Error {
        let file = self.path.join(name).display().to_string();
        if is_want_of_room(&error) {
            return Error::Full { log: format!("the snapshot ({file})"), waited_ms: 0, cause: Some(Arc::new(error)) };
        }
        Error::io(file, call, error)
    }

    /// Removes what was made, as far as that goes: while anything of it may be there, the mark is.
    fn sweep(&mut self) {
        let (mark, rest) = match self.made.split_first() {
            Some((mark, rest)) if mark == UNFINISHED => (Some(mark), rest),
            _ => (None, self.made.as_slice()),
        };
        let is_gone = |name: &String| match self.target.remove(name) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        let all_gone = rest.iter().filter(|name| !is_gone(name)).count() == 0 && self.target.sync_dir().is_ok();
        if let Some(mark) = mark.filter(|_| all_gone) {
            let _stays_refused = self.target.remove(mark).and_then(|()| self.target.sync_dir());
        }
    }
}

/// What of a log is published without a gap.
fn published(log: &Log) -> Result<Published> {
    log.published_lives().map_err(unmapped)
}

fn unmapped((file, error): (String, std::io::Error)) -> Error {
    Error::io(file, "map", error)
}
