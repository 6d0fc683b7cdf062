//! What a checkpoint holds: gathered while groups are locked one after the other, and put back where it did not become
//! durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checkpoint::Key;
use crate::delivery::Dirty;
use crate::delivery::record_bits::Chunked;
use crate::format::dedup::encode_order;
use crate::format::meta::{self, BEGUN_SHIFT, ListedGroup, kind};
use crate::sabotage::{Bug, on};
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, LogId};

use super::super::Engine;
use super::super::dedup::{TakenIds, ids_key};
use super::super::groups::GroupCell;
use super::group::{Portions, bits_of};
use super::lives::LivesAt;
use super::{Between, Checkpoints};

/// Chunks that are copied, 4 KiB each; and those that are unpacked for it, in some 100 µs where every other bit is set.
const CHUNKS_AT_ONCE: usize = if cfg!(any(test, feature = "sim")) { 1 } else { 32 };
const PACKED_CHUNKS_AT_ONCE: usize = 2;

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
    pub taken_bits: Vec<(LaneId, Key)>,
    pub taken_notes: BTreeMap<(u8, u32), Dirty>,
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
    pub(super) fn take_dirty(&mut self, lane: LaneId, first: Key, bits: &mut dyn Chunked) -> TookLong {
        self.kept_bits.insert((first.kind, first.a, first.b));
        let taken = bits.take_dirty();
        let looked = taken.is_empty() && bits.rest();
        self.taken_bits.extend(taken.into_iter().map(|chunk| (lane, Key { c: chunk, ..first })));
        looked
    }

    /// What was taken of a group is written.
    pub(super) fn put_bits(&mut self, from: usize, mut bytes_of: impl FnMut(&[(LaneId, Key)]) -> Vec<(Key, Vec<u8>)>) {
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
        between: Between<'_>,
    ) -> (Snapshot, Vec<(LogId, u64)>) {
        let mut snapshot = Snapshot::default();
        snapshot_ids(ids, &mut snapshot);
        let mut finished = lives.candidates();
        for cell in groups.values() {
            let mut portions = Portions { engine: self, cell, between: &mut *between };
            portions.snapshot_group(checkpoints, lives, &mut finished, &mut snapshot);
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

/// True if the chunk is of attempts that are not the first.
fn is_further(key: &Key) -> bool {
    key.kind == kind::BEGUN && key.c >> BEGUN_SHIFT > 0
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
