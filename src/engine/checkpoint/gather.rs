//! What a checkpoint holds: gathered while groups are locked one after the other, and put back where it did not become
//! durable.
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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::checkpoint::Key;
use crate::delivery::record_bits::Chunked;
use crate::delivery::state::TaskKey;
use crate::delivery::{Dirty, Group};
use crate::format::dedup::encode_order;
use crate::format::meta::{self, BEGUN_SHIFT, ListedGroup, ListedNote, NOTES_PER_BLOB, kind};
use crate::sabotage::{Bug, on};
use crate::sync::atomic::Ordering;
use crate::sync::yield_now;
use crate::types::{LaneId, LogId, Seq};

use super::super::Engine;
use super::super::dedup::{TakenIds, ids_key};
use super::super::groups::GroupCell;
use super::Checkpoints;
use super::lives::{LivesAt, SealedLife};

/// Lives that are asked what changed while a group is locked once, if none of their bitmaps is looked at whole.
const LIVES_AT_ONCE: usize = 128;
/// Chunks that are copied, 4 KiB each; and those that are unpacked for it, in some 100 µs where every other bit is set.
const CHUNKS_AT_ONCE: usize = 32;
const PACKED_CHUNKS_AT_ONCE: usize = 2;
/// Places where there may be notes of a blob that are looked at: as many as there are lanes, for each blob.
const PLACES_AT_ONCE: usize = 32;
/// Lives a group is done with, per blob.
const DONE_PER_BLOB: usize = 2048;

/// What a checkpoint writes, gathered while groups are locked one after the other.
#[derive(Default)]
pub(super) struct Snapshot {
    pub values: BTreeMap<Key, Vec<u8>>,
    /// Keys that keep what is saved for them.
    pub kept: BTreeSet<Key>,
    /// Bitmaps of which every chunk does that is not among the values: kind, group, and base of the life.
    pub kept_bits: BTreeSet<(u8, u32, u64)>,
    /// Lives that every group is done with.
    pub gone: Vec<(LaneId, u64)>,
    /// Dirty marks that were taken, to be put back on failure: of chunks of bits, and of blobs of notes and dead letters.
    taken_bits: Vec<(LaneId, Key)>,
    taken_notes: BTreeMap<(u8, u32), Dirty>,
    /// Slices of dedup ids that it has as they are.
    pub slices: Vec<u32>,
}

impl Snapshot {
    /// Of lives that go no group's bits are kept.
    fn forget_bits_of_gone(&mut self) {
        let gone: BTreeSet<u64> = self.gone.iter().map(|(_, base)| *base).collect();
        let goes = |kind: u8, base: u64| matches!(kind, kind::ACKS | kind::BEGUN) && gone.contains(&base);
        self.kept_bits.retain(|(kind, _, base)| !goes(*kind, *base));
        self.values.retain(|key, _| !goes(key.kind, key.b));
    }

    /// Of a bitmap what changed is written, and what did not is kept: `first` is the key of its first chunk.
    fn take_dirty(&mut self, lane: LaneId, first: Key, bits: &mut dyn Chunked) -> TookLong {
        self.kept_bits.insert((first.kind, first.a, first.b));
        let taken = bits.take_dirty();
        let looked = taken.is_empty() && bits.rest();
        self.taken_bits.extend(taken.into_iter().map(|chunk| (lane, Key { c: chunk, ..first })));
        looked
    }

    /// What was taken of a group is written.
    fn put_bits(&mut self, from: usize, mut bytes_of: impl FnMut(&[(LaneId, Key)]) -> Vec<(Key, Vec<u8>)>) {
        let taken = self.taken_bits.get(from..).unwrap_or_default();
        // What is left out is taken for written.
        let is_left_out = |key: &Key| match key.kind {
            kind::ACKS => on(Bug::CheckpointWithoutAcks),
            kind::BEGUN if is_further(key) && on(Bug::CheckpointOfFirstAttempts) => true,
            kind::BEGUN => on(Bug::CheckpointWithoutBegun),
            _ => false,
        };
        let taken = taken.iter().filter(|(_, key)| !is_left_out(key)).copied();
        let (packed, flat): (Vec<_>, Vec<_>) = taken.partition(|(_, key)| is_further(key));
        for some in flat.chunks(CHUNKS_AT_ONCE).chain(packed.chunks(PACKED_CHUNKS_AT_ONCE)) {
            self.values.extend(bytes_of(some));
        }
    }
}

/// True if the rest can wait until somebody else had the lock.
type TookLong = bool;

impl Engine {
    /// Gathers everything that there is to write; gives each log's highest base too.
    pub(super) fn snapshot_all(
        &self,
        checkpoints: &Checkpoints,
        groups: &BTreeMap<u32, Arc<GroupCell>>,
        ids: TakenIds,
        lives: &LivesAt,
    ) -> (Snapshot, Vec<(LogId, u64)>) {
        let mut snapshot = Snapshot::default();
        snapshot_ids(ids, &mut snapshot);
        let mut finished = lives.sealed.clone();
        for cell in groups.values() {
            self.snapshot_group(cell, checkpoints, lives, &mut finished, &mut snapshot);
        }
        snapshot.gone = finished.into_iter().map(|life| (life.lane, life.base)).collect();
        snapshot.forget_bits_of_gone();
        for cell in groups.values() {
            self.snapshot_counts(cell, &mut snapshot);
        }
        self.snapshot_others(groups, &mut snapshot);
        self.snapshot_cancelled(lives, &mut snapshot);
        let last_bases = self.list_lives(lives, checkpoints.journal_from, &mut snapshot);
        (snapshot, last_bases)
    }

    fn snapshot_group(
        &self,
        cell: &GroupCell,
        checkpoints: &Checkpoints,
        lives: &LivesAt,
        finished: &mut Vec<SealedLife>,
        snapshot: &mut Snapshot,
    ) {
        let done = self.for_a_portion(cell, |group| {
            finished.retain(|life| group.is_done(life.lane, life.base, life.end));
            let done = group.lanes.iter().flat_map(|(lane, own)| own.done.iter().map(move |base| (lane, *base)));
            done.collect::<Vec<_>>()
        });
        for (c, chunk) in (0..).zip(done.chunks(DONE_PER_BLOB)) {
            let value = meta::encode_done(chunk.iter().copied());
            snapshot.values.insert(Key { kind: kind::DONE, a: cell.id, b: 0, c }, value);
        }
        let (mut next, from) = (Some((LaneId(0), 0)), snapshot.taken_bits.len());
        while let Some(life) = next {
            next = self.for_a_portion(cell, |group| take_dirty_of_lives(group, cell.id, life, lives, snapshot));
        }
        snapshot.put_bits(from, |taken| {
            self.for_a_portion(cell, |group| {
                let each =
                    taken.iter().map(|(lane, key)| Some((*key, bits_of(group, *lane, *key)?.chunk_bytes(key.c))));
                each.flatten().collect()
            })
        });
        self.snapshot_notes(cell, checkpoints, snapshot);
    }

    /// Locks a group for one portion, and lets those have it who wait for it.
    fn for_a_portion<T>(&self, cell: &GroupCell, look: impl FnOnce(&mut Group) -> T) -> T {
        let looked = {
            let mut work = cell.state.lock();
            let _held = self.hold();
            look(&mut work.group)
        };
        yield_now();
        looked
    }

    /// Only blobs that changed: notes and dead letters may be many, and they stay for long.
    fn snapshot_notes(&self, cell: &GroupCell, checkpoints: &Checkpoints, snapshot: &mut Snapshot) {
        let dead = self.for_a_portion(cell, |group| group.dead_dirty.take());
        self.put_notes(cell, checkpoints, snapshot, kind::DEAD, dead, listed_dead);
        let notes = self.for_a_portion(cell, |group| group.notes.dirty.take());
        self.put_notes(cell, checkpoints, snapshot, kind::NOTES, notes, listed_notes);
    }

    /// Cuts notes of a kind, those of a group that changed, into blobs by sequence, and keeps the other blobs.
    fn put_notes(
        &self,
        cell: &GroupCell,
        checkpoints: &Checkpoints,
        snapshot: &mut Snapshot,
        kind: u8,
        changed: Dirty,
        list: fn(&Group, RangeInclusive<TaskKey>) -> Vec<ListedNote>,
    ) {
        let first = Key { kind, a: cell.id, b: 0, c: 0 };
        let last = Key { b: u64::MAX, c: u32::MAX, ..first };
        let saved = checkpoints.saved.range(first..=last).map(|(key, _)| *key);
        snapshot.kept.extend(saved.filter(|key| !changed.has(key.b)));
        let lanes: Vec<LaneId> = self.lanes.all().map(|(lane, _)| lane).collect();
        let places = |blob: u64| {
            let (first, last) = (Seq(blob * NOTES_PER_BLOB), Seq(blob * NOTES_PER_BLOB + (NOTES_PER_BLOB - 1)));
            lanes.iter().map(move |lane| (*lane, first)..=(*lane, last))
        };
        let blobs: Vec<u64> = changed.blobs().collect();
        for some in blobs.chunks((PLACES_AT_ONCE / lanes.len().max(1)).max(1)) {
            let listed: Vec<(u64, Vec<ListedNote>)> = self.for_a_portion(cell, |group| {
                let in_blob = |blob: u64| places(blob).flat_map(|place| list(group, place)).collect();
                some.iter().map(|blob| (*blob, in_blob(*blob))).collect()
            });
            for (b, mut notes) in listed.into_iter().filter(|(_, notes)| !notes.is_empty()) {
                notes.sort_unstable_by_key(|note| note.seq);
                snapshot.values.insert(Key { b, ..first }, meta::encode_notes(notes.iter()));
            }
        }
        snapshot.taken_notes.insert((kind, cell.id), changed);
    }

    /// What is paused, and that numbers of groups that were removed are not used again.
    fn snapshot_others(&self, groups: &BTreeMap<u32, Arc<GroupCell>>, snapshot: &mut Snapshot) {
        let paused = self.paused();
        if !paused.is_empty() && !on(Bug::PauseForgotten) {
            snapshot.values.insert(Key { kind: kind::PAUSED, a: 0, b: 0, c: 0 }, paused.encode());
        }
        let (next, last) = (self.next_group.load(Ordering::Relaxed), groups.keys().next_back());
        if last.is_none_or(|last| last + 1 != next) && !on(Bug::GroupNumberReused) {
            let key = Key { kind: kind::NEXT_GROUP, a: 0, b: 0, c: 0 };
            snapshot.values.insert(key, meta::encode_next_group(next));
        }
    }

    /// What groups to come find settled in lives that stay. Bits are only ever added, so it doesn't matter when this looks.
    fn snapshot_cancelled(&self, lives: &LivesAt, snapshot: &mut Snapshot) {
        let from = snapshot.taken_bits.len();
        let acks = &mut self.to_come.lock().acks;
        for ((lane, base), acks) in acks.iter_mut().filter(|_| !on(Bug::CancelNotKept)) {
            if !snapshot.gone.contains(&(*lane, *base)) && lives.may_have(*lane, *base) {
                snapshot.take_dirty(*lane, Key { kind: kind::CANCELLED, a: 0, b: *base, c: 0 }, acks);
            }
        }
        snapshot.put_bits(from, |taken| {
            let each = taken.iter().map(|(lane, key)| Some((*key, acks.get(&(*lane, key.b))?.chunk_bytes(key.c))));
            each.flatten().collect()
        });
    }

    /// Notes again what a checkpoint took that did not become durable.
    pub(super) fn put_back(&self, groups: &BTreeMap<u32, Arc<GroupCell>>, snapshot: &Snapshot) {
        groups.values().for_each(|cell| put_back(cell, snapshot));
        let mut to_come = self.to_come.lock();
        for (lane, key) in snapshot.taken_bits.iter().filter(|(_, key)| key.kind == kind::CANCELLED) {
            if let Some(acks) = to_come.acks.get_mut(&(*lane, key.b)) {
                acks.mark_dirty(key.c);
            }
        }
    }

    /// Group names, starts and counts; after it is known which lives go.
    fn snapshot_counts(&self, cell: &GroupCell, snapshot: &mut Snapshot) {
        let work = cell.state.lock();
        let _held = self.hold();
        let group = &work.group;
        let acked_gone = group.lanes.iter().map(|(lane, own)| {
            let going = snapshot.gone.iter().filter(|(l, _)| *l == lane);
            let going: u64 = going.filter_map(|(_, base)| own.lives.get(base)).map(|l| u64::from(l.acks.count())).sum();
            (lane, own.acked_gone + going)
        });
        let listed = ListedGroup {
            name: group.name.clone(),
            starts: group.starts().iter().map(|(lane, seq)| (*lane, *seq)).collect(),
            acked_gone: acked_gone.filter(|(_, count)| *count > 0).collect(),
            retention: group.retention,
        };
        snapshot.values.insert(Key { kind: kind::GROUP, a: cell.id, b: 0, c: 0 }, listed.encode());
    }
}

/// All dedup ids that count.
fn snapshot_ids(ids: TakenIds, snapshot: &mut Snapshot) {
    if ids.order > 0 {
        let key = Key { kind: kind::IDS_ORDER, a: 0, b: 0, c: 0 };
        snapshot.values.insert(key, encode_order(ids.order));
    }
    snapshot.kept.extend(ids.as_they_are.iter().map(|number| ids_key(*number)));
    for (number, pages) in ids.into_pages() {
        snapshot.values.insert(ids_key(number), pages);
        snapshot.slices.push(number);
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

/// True if the chunk is of attempts that are not the first.
fn is_further(key: &Key) -> bool {
    key.kind == kind::BEGUN && key.c >> BEGUN_SHIFT > 0
}

/// The bitmap that a key is of.
fn bits_of(group: &mut Group, lane: LaneId, key: Key) -> Option<&mut dyn Chunked> {
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

fn put_back(cell: &GroupCell, snapshot: &Snapshot) {
    let mut work = cell.state.lock();
    let own = |key: &Key| key.kind != kind::CANCELLED && key.a == cell.id;
    for (lane, key) in snapshot.taken_bits.iter().filter(|(_, key)| own(key)) {
        if let Some(bits) = bits_of(&mut work.group, *lane, *key) {
            bits.mark_dirty(key.c);
        }
    }
    let taken = |kind| snapshot.taken_notes.get(&(kind, cell.id)).cloned().unwrap_or_default();
    work.group.notes.dirty.put_back(taken(kind::NOTES));
    work.group.dead_dirty.put_back(taken(kind::DEAD));
}
