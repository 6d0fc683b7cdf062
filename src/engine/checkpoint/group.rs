//! What a checkpoint holds of one group.
//!
//! # A portion at a time
//!
//! Whoever reserves or acks waits while its group is locked, so a group is locked for a portion, let go, and locked again. What
//! is gathered is then not the group's state at one instant: each bitmap, dead letter and note is as it was at some instant
//! behind the place where replay begins, and entries set things absolutely, so a replay makes of it what was. The order is
//! what makes that true where an entry is read over, and that every entry is durable before the root is ([`super`], step 4):
//! a task that is seen here before an entry and there behind it would be neither what it was nor what it became.
//!
//! - Lives that are done with, then acks: a task that is acked there is not looked at any more by a replay, so nothing may be
//!   gathered of it that was true before its ack. Attempts, dead letters and notes come behind.
//! - Dead letters before notes: of one that comes back the note says what was said of the dead letter, and the entry does not.
//!   Either the dead letter is gathered, or the note behind it.

use std::ops::RangeInclusive;

use crate::checkpoint::Key;
use crate::delivery::record_bits::Chunked;
use crate::delivery::state::TaskKey;
use crate::delivery::{Dirty, Group};
use crate::format::meta::{self, ListedNote, NOTES_PER_BLOB, kind};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Seq};

use super::super::Engine;
use super::super::groups::GroupCell;
use super::gather::Snapshot;
use super::lives::{LivesAt, SealedLife};
use super::{Between, Checkpoints};

/// Lives that are asked what changed while a group is locked once, if none of their bitmaps is looked at whole.
const LIVES_AT_ONCE: usize = if cfg!(any(test, feature = "sim")) { 1 } else { 128 };
/// Places where there may be notes of a blob that are looked at: as many as there are lanes, for each blob.
const PLACES_AT_ONCE: usize = if cfg!(any(test, feature = "sim")) { 1 } else { 32 };
/// Lives a group is done with, per blob.
const DONE_PER_BLOB: usize = 2048;

/// One group, locked for a portion at a time.
pub(super) struct Portions<'a> {
    pub engine: &'a Engine,
    pub cell: &'a GroupCell,
    pub between: Between<'a>,
}

impl Portions<'_> {
    /// Locks the group for one portion, and lets those have it who wait for it.
    fn portion<T>(&mut self, look: impl FnOnce(&mut Group) -> T) -> T {
        let looked = {
            let mut work = self.cell.state.lock();
            let _held = self.engine.hold();
            look(&mut work.group)
        };
        (self.between)();
        looked
    }

    /// Everything of the group that there is to write; of the finished lives only those stay that it does not need.
    pub(super) fn snapshot_group(
        &mut self,
        checkpoints: &Checkpoints,
        lives: &LivesAt,
        finished: &mut Vec<SealedLife>,
        snapshot: &mut Snapshot,
    ) {
        let done = self.portion(|group| {
            finished.retain(|life| group.is_done(life.lane, life.base, life.end));
            let done = group.lanes.iter().flat_map(|(lane, own)| own.done.iter().map(move |base| (lane, *base)));
            done.collect::<Vec<_>>()
        });
        for (c, chunk) in (0..).zip(done.chunks(DONE_PER_BLOB)) {
            let value = meta::encode_done(chunk.iter().copied());
            snapshot.values.insert(Key { kind: kind::DONE, a: self.cell.id, b: 0, c }, value);
        }
        if on(Bug::NotesBeforeAcks) {
            self.snapshot_notes(checkpoints, snapshot);
        }
        let (mut next, from) = (Some((LaneId(0), 0)), snapshot.taken_bits.len());
        let id = self.cell.id;
        while let Some(life) = next {
            next = self.portion(|group| take_dirty_of_lives(group, id, life, lives, snapshot));
        }
        snapshot.put_bits(from, |taken| {
            self.portion(|group| {
                let each =
                    taken.iter().map(|(lane, key)| Some((*key, bits_of(group, *lane, *key)?.chunk_bytes(key.c))));
                each.flatten().collect()
            })
        });
        if !on(Bug::NotesBeforeAcks) {
            self.snapshot_notes(checkpoints, snapshot);
        }
    }

    /// Only blobs that changed: notes and dead letters may be many, and they stay for long.
    fn snapshot_notes(&mut self, checkpoints: &Checkpoints, snapshot: &mut Snapshot) {
        let dead = self.portion(|group| group.dead_dirty.take());
        self.put_notes(checkpoints, snapshot, kind::DEAD, dead, listed_dead);
        let notes = self.portion(|group| group.notes.dirty.take());
        self.put_notes(checkpoints, snapshot, kind::NOTES, notes, listed_notes);
    }

    /// Cuts notes of a kind, those of a group that changed, into blobs by sequence, and keeps the other blobs.
    fn put_notes(
        &mut self,
        checkpoints: &Checkpoints,
        snapshot: &mut Snapshot,
        kind: u8,
        changed: Dirty,
        list: fn(&Group, RangeInclusive<TaskKey>) -> Vec<ListedNote>,
    ) {
        let first = Key { kind, a: self.cell.id, b: 0, c: 0 };
        let last = Key { b: u64::MAX, c: u32::MAX, ..first };
        let saved = checkpoints.saved.range(first..=last).map(|(key, _)| *key);
        snapshot.kept.extend(saved.filter(|key| !changed.has(key.b)));
        let lanes: Vec<LaneId> = self.engine.lanes.all().map(|(lane, _)| lane).collect();
        let places = |blob: u64| {
            let (first, last) = (Seq(blob * NOTES_PER_BLOB), Seq(blob * NOTES_PER_BLOB + (NOTES_PER_BLOB - 1)));
            lanes.iter().map(move |lane| (*lane, first)..=(*lane, last))
        };
        let blobs: Vec<u64> = changed.blobs().collect();
        for some in blobs.chunks((PLACES_AT_ONCE / lanes.len().max(1)).max(1)) {
            let listed: Vec<(u64, Vec<ListedNote>)> = self.portion(|group| {
                let in_blob = |blob: u64| places(blob).flat_map(|place| list(group, place)).collect();
                some.iter().map(|blob| (*blob, in_blob(*blob))).collect()
            });
            for (b, mut notes) in listed.into_iter().filter(|(_, notes)| !notes.is_empty()) {
                notes.sort_unstable_by_key(|note| note.seq);
                snapshot.values.insert(Key { b, ..first }, meta::encode_notes(notes.iter()));
            }
        }
        snapshot.taken_notes.insert((kind, self.cell.id), changed);
    }
}

/// Takes what changed of some lives of a group, from one on. Gives the first that is still to be asked.
fn take_dirty_of_lives(
    group: &mut Group,
    id: u32,
    (first_lane, first_base): (LaneId, u64),
    lives: &LivesAt,
    snapshot: &mut Snapshot,
) -> Option<(LaneId, u64)> {
    let mut left = LIVES_AT_ONCE;
    for (lane, own) in group.lanes.iter_mut().filter(|(lane, _)| *lane >= first_lane) {
        let first = if lane == first_lane { first_base } else { 0 };
        for (base, life) in own.lives.range_mut(first..).filter(|(base, _)| lives.may_have(lane, **base)) {
            if left == 0 {
                return Some((lane, *base));
            }
            let key = |kind| Key { kind, a: id, b: *base, c: 0 };
            let took_long = snapshot.take_dirty(lane, key(kind::ACKS), &mut life.acks)
                | snapshot.take_dirty(lane, key(kind::BEGUN), &mut life.attempts);
            left = if took_long { 0 } else { left - 1 };
        }
    }
    None
}

/// The bitmap that a key is of.
pub(super) fn bits_of(group: &mut Group, lane: LaneId, key: Key) -> Option<&mut dyn Chunked> {
    let life = group.lanes.get_mut(lane)?.lives.get_mut(&key.b)?;
    Some(if key.kind == kind::ACKS { &mut life.acks } else { &mut life.attempts })
}

fn listed_notes(group: &Group, place: RangeInclusive<TaskKey>) -> Vec<ListedNote> {
    let listed = group.notes.all().range(place).map(|((lane, seq), note)| ListedNote {
        lane: *lane,
        seq: *seq,
        attempts: note.attempts,
        time: note.due.map(|(due, _)| due),
        detail: note.due.map_or(0, |(_, delay_ms)| delay_ms),
        reason: note.reason.clone(),
    });
    listed.collect()
}

fn listed_dead(group: &Group, place: RangeInclusive<TaskKey>) -> Vec<ListedNote> {
    let listed = group.dead.range(place).map(|((lane, seq), dead)| ListedNote {
        lane: *lane,
        seq: *seq,
        attempts: dead.attempts,
        time: Some(dead.at),
        detail: u64::from(dead.bytes) << 8 | u64::from(dead.cause.code()),
        reason: dead.reason.clone(),
    });
    listed.collect()
}
