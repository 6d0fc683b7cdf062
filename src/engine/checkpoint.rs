//! Checkpoints: a durable snapshot of groups, acks, notes and the list of lives.
//!
//! # The protocol
//!
//! 1. What of the dedup ids is over is forgotten, and most of the others are copied, a portion at a time ([`super::dedup`]).
//! 2. At one instant, while nothing with a dedup id is enqueued: the list of groups is held for reading until the end, so
//!    that no group begins meanwhile. The journal's head is read: replay will begin there. Every entry below it is in the
//!    groups' state, because entries are claimed under the group's lock after the state changed. Then the rest of the
//!    dedup ids is copied, and it is noted which lives there are and how far they are durable ([`lives`]).
//! 3. Each group is locked in turn, a portion of what changed at a time ([`group`]); then what is paused, and what groups to
//!    come find settled, likewise.
//! 4. The lives of step 2 are listed, without those that every group is done with. Then the journal is made durable as far as
//!    there is one, for what was gathered in portions is whole only with all its entries; and every decision that the groups'
//!    states may hold, or that has records in what is listed as durable, with all that it names: from here on it counts by
//!    the checkpoint alone. Where a producer stands still in front of one of them, the checkpoint is put off.
//! 5. Changed blobs are written and synced, then the root in the older slot, then synced.
//! 6. Only now the lives left out go, and the journal's lives that neither root needs: first out of their logs, then
//!    out of the groups' memory. In the opposite order a group whose cursor has not come so far since the open would
//!    meet such a life between the two, know nothing of it any more, and deliver it from its first task on.
//!
//! A life whose place a cold one took ([`super::evacuate`]) is not listed any more; its file goes in step 6 of the second
//! checkpoint after that.
//!
//! A crash before the root of 5 is durable leaves the previous checkpoint and a journal that still begins
//! where that one needs it. What the older root needs is kept until the newer is superseded: its blobs by
//! the store, its journal by step 6, which spares everything from the *previous* root's place on.
//!
//! An ack that is only `Process`-durable may become durable early by a checkpoint; that breaks no promise. A
//! note of a record that does not survive is dropped at recovery.

mod gather;
mod group;
mod lives;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::{Changes, Key, Store};
use crate::error::{Error, Result};
use crate::format::meta::Meta;
use crate::log::Place;
use crate::sabotage::{Bug, on};
use crate::sync::atomic::Ordering;
use crate::sync::yield_now;
use crate::types::{LaneId, Now};

use super::Engine;
use super::groups::GroupCell;
use gather::Snapshot;

/// Sequences that may be handed out before the next checkpoint must raise the ceiling.
pub(crate) const CEILING_STEP: u64 = 1 << 40;

/// What is done between two portions of what a checkpoint gathers.
pub(crate) type Between<'a> = &'a mut dyn FnMut();

/// The checkpoint file and what is known to be in it.
pub(crate) struct Checkpoints {
    pub store: Store,
    /// Checksum of every blob of the newest checkpoint, to write only what changed.
    pub saved: BTreeMap<Key, u32>,
    /// Where the newest root's replay begins: the older one's after the next checkpoint.
    pub journal_from: Place,
}

impl Engine {
    /// Writes a checkpoint and lets go of what nothing needs any more. `clean` says that nothing will be
    /// appended before the next open.
    ///
    /// Errors: `Full` if the file could not grow (nothing changed, try again later); `InDoubt` and poison if
    /// a write or sync failed.
    pub(crate) fn checkpoint(&self, now: Now, clean: bool) -> Result<()> {
        self.try_checkpoint(now, clean).map(drop)
    }

    /// The same; false if it is put off, for step 4.
    pub(crate) fn try_checkpoint(&self, now: Now, clean: bool) -> Result<bool> {
        self.checkpoint_between(now, clean, &mut yield_now)
    }

    /// The same, for who does something else between two portions, when nothing is locked but what a checkpoint locks to its
    /// end: the checkpoints, and the list of groups for reading.
    pub(crate) fn checkpoint_between(&self, now: Now, clean: bool, between: Between<'_>) -> Result<bool> {
        self.checkpoint_with(&mut self.checkpoints.lock(), now, clean, between)
    }

    /// The same, if nobody has the checkpoints now: whoever keeps house does not wait for a snapshot to be copied.
    pub(crate) fn checkpoint_if_free(&self, now: Now) -> Result<bool> {
        let free = self.checkpoints.try_lock();
        free.map_or(Ok(false), |mut checkpoints| self.checkpoint_with(&mut checkpoints, now, false, &mut yield_now))
    }

    /// The same, for who holds the checkpoints.
    pub(super) fn checkpoint_with(
        &self,
        checkpoints: &mut Checkpoints,
        now: Now,
        clean: bool,
        between: Between<'_>,
    ) -> Result<bool> {
        self.check_poison()?;
        let prepared = self.prepare_ids(now, between);
        // Of one instant with the lives: see `dedup`.
        let mut ids = self.dedup.index.lock();
        // Nobody waits for them where nothing has an id.
        let ids_held = (ids.order > 0).then(|| self.hold());
        let groups = self.groups.read();
        self.changed.store(false, Ordering::Relaxed);
        let journal_position = self.journal.published();
        let lanes_position = self.lanes_durable();
        let from = self.journal.next_place();
        let taken_ids = ids.take(prepared);
        let lives = self.lives_now();
        drop(ids_held);
        drop(ids);
        between();
        let (mut snapshot, last_bases) = self.snapshot_all(checkpoints, &groups, taken_ids, &lives, between);
        // A file is not given back as long as anybody has its segment.
        drop(lives);
        let (next_base, ceiling) = {
            let blocks = self.blocks.lock();
            (blocks.next, blocks.ceiling.max(blocks.next + CEILING_STEP))
        };
        let meta = Meta {
            epoch: self.epoch,
            next_base,
            ceiling,
            journal_base: from.base,
            journal_offset: from.offset,
            clean,
            is_older: false,
            options: self.stored.clone(),
            last_bases,
        };
        if on(Bug::SegmentRemovedEarly) {
            self.retire(self.detach(&snapshot.gone, checkpoints.journal_from));
        }
        let told = if on(Bug::DecisionFoldedEarly) { Ok(true) } else { self.make_told_durable(now.wall) };
        let written = match told {
            Ok(true) => self.write(checkpoints, &meta, &mut snapshot).map(|()| true),
            put_off => put_off,
        };
        if !matches!(written, Ok(true)) {
            self.changed.store(true, Ordering::Relaxed);
            self.put_back(&groups, &snapshot);
            drop(groups);
            self.dedup.not_written(&snapshot.slices);
            return written;
        }
        self.blocks.lock().ceiling = ceiling;
        let before = self.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
        if before > 0 {
            self.free_listed_strays();
        }
        self.counts.note_checkpoint(journal_position, lanes_position, now);
        self.counts.checkpoint_bytes.store(checkpoints.store.file_bytes(), Ordering::Relaxed);
        let older_from = std::mem::replace(&mut checkpoints.journal_from, from);
        let older_from = if on(Bug::JournalDroppedEarly) { from } else { older_from };
        let mut leaving = self.detach(&snapshot.gone, older_from);
        leaving.extend(self.evacuation.given_up(before + 1));
        self.forget_lives(&groups, &snapshot.gone);
        // The ids' lock is taken before the groups', never behind it.
        drop(groups);
        self.dedup.written(&snapshot.slices, &checkpoints.store);
        self.retire(leaving);
        Ok(true)
    }

    /// True if a checkpoint is due by journal size, age, or segments that wait for one.
    pub(crate) fn wants_checkpoint(&self, now: Now) -> bool {
        let grown = self.journal.published().saturating_sub(self.counts.journal_at_checkpoint.load(Ordering::Relaxed));
        let lanes_grown = self.lanes_durable().saturating_sub(self.counts.lanes_at_checkpoint.load(Ordering::Relaxed));
        let age = now.boot_ms.saturating_sub(self.counts.checkpoint_ms.load(Ordering::Relaxed));
        let changed = self.changed.load(Ordering::Relaxed);
        // On a full disk the journal gets its own segments back by checkpoints alone. One that merely awaits its next
        // segment, as after its first roll, is not starved.
        let short = self.evacuation.short_of_disk.load(Ordering::Relaxed);
        let starved = changed && short && self.journal_pool.lock().len() == 0;
        starved
            || self.dedup.grown.load(Ordering::Relaxed)
            || grown >= self.settings.checkpoint_bytes
            || lanes_grown >= self.settings.recovered_lane_bytes()
            || ((changed || self.evacuation.waiting() > 0) && age >= self.settings.checkpoint_interval_ms)
            || (changed && self.recycling_wanted.load(Ordering::Relaxed))
            || (changed && self.reclaimable() >= self.settings.reclaim_waiting_max)
            || self.evacuation.waiting() >= self.settings.reclaim_waiting_max
    }

    /// Bytes of all lanes that are on stable storage, counted from the open on.
    fn lanes_durable(&self) -> u64 {
        self.lanes.all().map(|(_, log)| log.durable()).sum()
    }

    /// Bytes that the checkpoint's file takes.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        self.counts.checkpoint_bytes.load(Ordering::Relaxed)
    }

    /// Lives that are gone are forgotten by every group, and for those to come.
    fn forget_lives(&self, groups: &BTreeMap<u32, Arc<GroupCell>>, gone: &[(LaneId, u64)]) {
        groups.values().for_each(|cell| self.forget(cell, gone));
        self.to_come.lock().acks.retain(|life, _| !gone.contains(life));
    }

    fn forget(&self, cell: &GroupCell, gone: &[(LaneId, u64)]) {
        let mut work = cell.state.lock();
        let _held = self.hold();
        for (lane, base) in gone {
            if let Some(own) = work.group.lanes.get_mut(*lane) {
                own.forget(*base);
            }
        }
    }

    /// Takes the values out of the snapshot: what changed may be much.
    fn write(&self, checkpoints: &mut Checkpoints, meta: &Meta, snapshot: &mut Snapshot) -> Result<()> {
        let saved = &checkpoints.saved;
        let mut puts = Vec::new();
        let mut now_saved = BTreeMap::new();
        for (key, value) in std::mem::take(&mut snapshot.values) {
            let check = crc32fast::hash(&value);
            now_saved.insert(key, check);
            if saved.get(&key) != Some(&check) {
                puts.push((key, value));
            }
        }
        let is_kept = |key: &Key| snapshot.kept.contains(key) || snapshot.kept_bits.contains(&(key.kind, key.a, key.b));
        for (key, check) in saved.iter().filter(|(key, _)| is_kept(key)) {
            now_saved.entry(*key).or_insert(*check);
        }
        let deletes = saved.keys().filter(|key| !now_saved.contains_key(key)).copied().collect();
        let outcome = checkpoints.store.commit(&meta.encode(), Changes { puts, deletes });
        match outcome {
            Ok(_) => {
                checkpoints.saved = now_saved;
                Ok(())
            }
            Err(error) if checkpoints.store.is_broken() => {
                Err(self.poisoned_by(Error::io(Store::FILE, "write", error)))
            }
            Err(error) => {
                Err(Error::Full { log: "the checkpoint".to_owned(), waited_ms: 0, cause: Some(Arc::new(error)) })
            }
        }
    }
}
