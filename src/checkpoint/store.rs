//! The newest checkpoint: reading its blobs, and committing the next one. The protocol and its step numbers are the
//! room's opening comment.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::index::{Piece, recut};
use super::units::{FreeUnits, units_for};
use super::{BlobRef, Key, TWICE_KIND_MAX, TWICE_KINDS};
use crate::format::checkpoint::{BLOBS_AT, COPY_BYTES, Root, SLOT_BYTES, UNIT_BYTES, encode_entries};
use crate::sabotage::{Bug, on};
use crate::storage::{File, is_want_of_room};
use crate::types::QueueId;

/// The file grows in steps of this many units at least, and keeps at least as many free ahead of the next commit.
const GROW_UNITS: u32 = 256;
/// Larger writes of zeros would leave large folios in the page cache, and then every small one costs a whole one.
const ZERO_BYTES: usize = 4 << 10;

/// The newest checkpoint and the room for the next one.
pub(crate) struct Store {
    pub(super) file: Arc<dyn File>,
    pub(super) queue: QueueId,
    /// The highest generation that was seen or written; the next commit's is one above.
    pub(super) generation: u64,
    /// Slot that the next commit writes: the one that does not hold the newest root.
    pub(super) next_slot: usize,
    pub(super) index: BTreeMap<Key, BlobRef>,
    /// Index chunks by their first keys; together they list exactly `index`.
    pub(super) chunks: Vec<(Key, BlobRef)>,
    /// Units that neither `index`, `chunks` nor `waiting` takes.
    pub(super) free: FreeUnits,
    pub(super) units: u32,
    /// What the older root needs and the newest does not: free after the next commit.
    pub(super) waiting: Vec<BlobRef>,
    /// `None` once a commit succeeded.
    pub(super) unproven: Option<Unproven>,
    pub(super) broken: bool,
}

/// What was read at load and may be in the page cache alone.
pub(super) struct Unproven {
    pub slot: usize,
    /// The newest root's bytes, kept because a second look may find what an eviction brought back.
    pub root: Vec<u8>,
    pub blobs: Vec<BlobRef>,
}

/// What a commit changes: deletes first, then puts in their order.
#[derive(Default)]
pub(crate) struct Changes {
    pub puts: Vec<(Key, Vec<u8>)>,
    pub deletes: Vec<Key>,
}

/// What a commit cost: blobs, index chunks and root, as written for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CommitStats {
    pub bytes_written: u64,
    pub syncs: u32,
}

/// A blob's bytes as they are valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Value {
    pub bytes: Vec<u8>,
    /// Offset of a copy that is not valid, where another one is.
    pub bad_copy: Option<u64>,
}

/// Why a blob could not be had.
#[derive(Debug)]
pub(crate) enum BlobError {
    Absent,
    Damaged { offset: u64, bytes: u64 },
    Io(io::Error),
}

/// The next checkpoint, with a place for everything and nothing written.
#[derive(Default)]
struct Plan {
    /// Blobs and index chunks to write, each in units taken from `free`.
    writes: Vec<(BlobRef, Vec<u8>)>,
    changes: BTreeMap<Key, Option<BlobRef>>,
    chunks: Vec<(Key, BlobRef)>,
    /// What the newest root refers to and the next will not.
    dropped: Vec<BlobRef>,
    root: Vec<u8>,
}

impl Store {
    pub(crate) const FILE: &'static str = "checkpoint";
    /// Length of a new file: the slots and room for the first commits.
    pub(crate) const FILE_BYTES_MIN: u64 = BLOBS_AT + 2 * GROW_UNITS as u64 * UNIT_BYTES;

    /// A store without a checkpoint, over a fresh file of zeros.
    pub(crate) fn empty(file: Arc<dyn File>, queue: QueueId) -> io::Result<Store> {
        let units = units_of(file.len()?);
        Ok(Store {
            file,
            queue,
            generation: 0,
            next_slot: 0,
            index: BTreeMap::new(),
            chunks: Vec::new(),
            free: FreeUnits::without(units, std::iter::empty()),
            units,
            waiting: Vec::new(),
            unproven: None,
            broken: false,
        })
    }

    pub(crate) fn queue(&self) -> QueueId {
        self.queue
    }

    /// True after a failure that left it unknown which root is on disk.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// All keys, sorted.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.index.keys().copied()
    }

    /// A blob's bytes, verified.
    pub(crate) fn get(&self, key: Key) -> Result<Value, BlobError> {
        let blob = self.index.get(&key).ok_or(BlobError::Absent)?;
        let value = read_blob(&*self.file, *blob).map_err(BlobError::Io)?;
        value.ok_or(BlobError::Damaged { offset: offset_of(blob.unit), bytes: u64::from(blob.bytes) })
    }

    /// Where a blob lies, for reading parts of it without this store. It stays there until the next commit but one after
    /// that which drops or replaces it.
    pub(crate) fn place_of(&self, key: Key) -> Option<(Arc<dyn File>, u64)> {
        let blob = self.index.get(&key)?;
        Some((Arc::clone(&self.file), offset_of(blob.unit)))
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        offset_of(self.units)
    }

    /// Makes the next checkpoint: `changes` over the newest one, with `meta`. Durable when it returns.
    ///
    /// An error leaves the newest checkpoint, here and on disk, as it is. Without room for the blobs (or if the root
    /// outgrows its slot) no root was touched and the store goes on; any other error breaks it, see
    /// [`Store::is_broken`].
    pub(crate) fn commit(&mut self, meta: &[u8], changes: Changes) -> io::Result<CommitStats> {
        if self.broken {
            return Err(io::Error::other("an earlier checkpoint failed half way"));
        }
        let mut plan = Plan::default();
        let written = self.plan(&mut plan, meta, changes).and_then(|()| self.write_blobs(&plan));
        let blob_bytes = written.inspect_err(|error| {
            for (blob, _) in &plan.writes {
                self.free.give(blob.unit, blob.units());
            }
            self.broken = !is_want_of_room(error);
        })?;
        // Until the last sync says otherwise.
        self.broken = true;
        let stats = self.write_root_behind(&plan, blob_bytes)?;
        self.broken = false;
        self.install(plan);
        self.grow_ahead(stats.bytes_written);
        Ok(stats)
    }

    /// Step 1.
    fn plan(&mut self, plan: &mut Plan, meta: &[u8], changes: Changes) -> io::Result<()> {
        let mut values: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
        let deletes = changes.deletes.into_iter().filter(|key| self.index.contains_key(key));
        values.extend(deletes.map(|key| (key, None)));
        values.extend(changes.puts.into_iter().map(|(key, value)| (key, Some(value))));
        plan.dropped.extend(values.keys().filter_map(|key| self.index.get(key)));

        let (mut keys, mut blobs) = (Vec::new(), Vec::new());
        for (key, value) in values {
            match value {
                Some(value) => {
                    keys.push(key);
                    let is_twice = key.kind <= TWICE_KIND_MAX || TWICE_KINDS.contains(&key.kind);
                    blobs.push((if is_twice { 2 } else { 1 }, value));
                }
                None => drop(plan.changes.insert(key, None)),
            }
        }
        let placed = self.place(plan, blobs)?;
        plan.changes.extend(keys.into_iter().zip(placed.into_iter().map(Some)));

        let cut = recut(&self.chunks, &self.index, &plan.changes);
        plan.dropped.extend(cut.dropped);
        let news = cut.pieces.iter().filter_map(|piece| match piece {
            Piece::New(entries) => Some((2, encode_entries(entries.iter().copied()))),
            Piece::Kept(..) => None,
        });
        let mut placed = self.place(plan, news.collect())?.into_iter();
        plan.chunks.extend(cut.pieces.into_iter().filter_map(|piece| match piece {
            Piece::Kept(first, blob) => Some((first, blob)),
            Piece::New(entries) => entries.first().map(|(first, _)| *first).zip(placed.next()),
        }));
        let generation = self.generation + 1;
        let root = Root { queue: self.queue, generation, meta: meta.to_vec(), chunks: plan.chunks.clone() };
        plan.root = root.encode().ok_or_else(|| too_large("the checkpoint's root outgrew its slot"))?;
        Ok(())
    }

    /// Finds a place for each blob (copies, bytes): one run for all of them if there is one, so that a commit writes in a
    /// row.
    fn place(&mut self, plan: &mut Plan, blobs: Vec<(u8, Vec<u8>)>) -> io::Result<Vec<BlobRef>> {
        let mut sized = Vec::with_capacity(blobs.len());
        for (copies, blob) in blobs {
            let bytes = u32::try_from(blob.len()).map_err(|_| too_large("a blob of more than 4 GiB"))?;
            sized.push((BlobRef { unit: 0, copies, bytes, check: crc32fast::hash(&blob) }, blob));
        }
        let all = sized.iter().try_fold(0_u32, |sum, (blob, _)| sum.checked_add(blob.units()));
        let mut left = all.ok_or_else(|| too_large("a checkpoint of more than 2 TiB"))?;
        let mut run = if left > 0 { self.free.take(left) } else { None };
        let mut placed = Vec::with_capacity(sized.len());
        for (sized, blob) in sized {
            let units = sized.units();
            let unit = match run {
                Some(unit) => unit,
                None => self.take_or_grow(units, left)?,
            };
            run = run.map(|unit| unit + units);
            left -= units;
            let place = BlobRef { unit, ..sized };
            placed.push(place);
            plan.writes.push((place, blob));
        }
        Ok(placed)
    }

    /// Takes `units` in a row; if the file must grow for them, then by what all that is still to come needs.
    fn take_or_grow(&mut self, units: u32, left: u32) -> io::Result<u32> {
        if let Some(unit) = self.free.take(units) {
            return Ok(unit);
        }
        self.grow(left.max(GROW_UNITS))?;
        self.free.take(units).ok_or_else(|| too_large("no room after growing"))
    }

    /// Steps 2 and 3, as far as they write: nothing that a root refers to gets other bytes than it has. Gives how many
    /// were written for blobs.
    fn write_blobs(&self, plan: &Plan) -> io::Result<u64> {
        self.prove()?;
        let mut bytes_written = 0;
        for (place, blob) in &plan.writes {
            bytes_written += self.write_blob(*place, blob)?;
        }
        Ok(bytes_written)
    }

    /// The rest, from the next sync on.
    fn write_root_behind(&self, plan: &Plan, blob_bytes: u64) -> io::Result<CommitStats> {
        if !on(Bug::RootBeforeBlobs) {
            self.file.sync()?;
        }
        let over_newest = on(Bug::CheckpointOverNewest) && self.generation > 0;
        self.write_root(if over_newest { 1 - self.next_slot } else { self.next_slot }, &plan.root)?;
        if !on(Bug::RootNotSynced) {
            self.file.sync()?;
        }
        let syncs = 2 + u32::from(self.unproven.is_some());
        Ok(CommitStats { bytes_written: blob_bytes + 2 * plan.root.len() as u64, syncs })
    }

    /// Step 2, before anything else is made durable that relies on what was loaded.
    pub(crate) fn make_durable(&mut self) -> io::Result<()> {
        self.prove()?;
        self.unproven = None;
        Ok(())
    }

    /// Step 2, unless it was taken before.
    fn prove(&self) -> io::Result<()> {
        let Some(unproven) = self.unproven.as_ref().filter(|_| !on(Bug::CheckpointTrusted)) else { return Ok(()) };
        for place in &unproven.blobs {
            let lost = || io::Error::new(io::ErrorKind::InvalidData, "a checkpoint's blob changed since it was loaded");
            let blob = read_blob(&*self.file, *place)?.ok_or_else(lost)?;
            self.write_blob(*place, &blob.bytes)?;
        }
        self.write_root(unproven.slot, &unproven.root)?;
        // Durable before anything is written where a root lies that it replaced in the cache alone. A sync that fails is
        // final, whatever it says it wants for.
        self.file.sync().map_err(io::Error::other)
    }

    /// Both copies.
    fn write_root(&self, slot: usize, root: &[u8]) -> io::Result<()> {
        self.file.write_at(slot_offset(slot), root)?;
        self.file.write_at(slot_offset(slot) + COPY_BYTES as u64, root)
    }

    /// Writes all copies, in whole units, so that no byte of an earlier blob stays behind this one.
    fn write_blob(&self, place: BlobRef, blob: &[u8]) -> io::Result<u64> {
        let bytes = u64::from(units_for(place.bytes)) * UNIT_BYTES;
        let mut padded = blob.to_vec();
        padded.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        let copies = padded.repeat(usize::from(place.copies));
        self.file.write_at(offset_of(place.unit), &copies)?;
        Ok(copies.len() as u64)
    }

    /// After step 6: the plan is the newest checkpoint.
    fn install(&mut self, plan: Plan) {
        for (key, blob) in plan.changes {
            match blob {
                Some(blob) => self.index.insert(key, blob),
                None => self.index.remove(&key),
            };
        }
        self.chunks = plan.chunks;
        self.generation += 1;
        self.next_slot = if on(Bug::CheckpointOverNewest) { self.next_slot } else { 1 - self.next_slot };
        self.unproven = None;
        if on(Bug::UnitsFreedEarly) {
            for blob in &plan.dropped {
                self.free.give(blob.unit, blob.units());
            }
            self.waiting.clear();
            return;
        }
        for blob in std::mem::replace(&mut self.waiting, plan.dropped) {
            self.free.give(blob.unit, blob.units());
        }
    }

    /// Makes room for twice of what was just written, so that a full disk does not stop the next checkpoint.
    fn grow_ahead(&mut self, bytes_written: u64) {
        let units = u32::try_from((2 * bytes_written).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(GROW_UNITS);
        let free = u32::try_from(self.free.total()).unwrap_or(u32::MAX);
        if let Some(missing) = units.checked_sub(free).filter(|missing| *missing > 0) {
            // Nothing was promised for it: if it fails, the next commit tries again, and only then it matters.
            let _ahead = self.grow(missing.max(GROW_UNITS));
        }
    }

    fn grow(&mut self, units: u32) -> io::Result<()> {
        let end = self.units.checked_add(units).ok_or_else(|| too_large("the checkpoint's file is too large"))?;
        let zeros = [0; ZERO_BYTES];
        let (mut at, to) = (self.file_bytes(), offset_of(end));
        while at < to {
            let take = usize::try_from(to - at).unwrap_or(zeros.len()).min(zeros.len());
            self.file.write_at(at, zeros.get(..take).unwrap_or_default())?;
            at += take as u64;
        }
        self.free.give(self.units, units);
        self.units = end;
        Ok(())
    }

    /// Entries of each index chunk.
    #[cfg(test)]
    pub(super) fn chunk_lengths(&self) -> Vec<usize> {
        self.chunks.iter().map(|(_, blob)| super::index::entries_in(blob)).collect()
    }

    /// Where everything lies that the newest root refers to.
    #[cfg(test)]
    pub(super) fn extents(&self) -> Vec<std::ops::Range<u64>> {
        let blobs = self.chunks.iter().map(|(_, blob)| blob).chain(self.index.values());
        blobs.map(|blob| offset_of(blob.unit)..offset_of(blob.unit + blob.units())).collect()
    }
}

/// A blob's bytes; `None` if no copy verifies. An error is that of a copy that can't be read where no other verifies.
pub(super) fn read_blob(file: &dyn File, blob: BlobRef) -> io::Result<Option<Value>> {
    let (mut good, mut bad_copy, mut failed) = (None, None, None);
    for copy in 0..u32::from(blob.copies) {
        let mut bytes = vec![0; usize::try_from(blob.bytes).unwrap_or(usize::MAX)];
        let offset = offset_of(blob.unit.saturating_add(copy * units_for(blob.bytes)));
        match file.read_at(offset, &mut bytes) {
            Ok(()) if crc32fast::hash(&bytes) == blob.check => good = Some(bytes),
            Ok(()) => bad_copy = Some(offset),
            Err(error) => (bad_copy, failed) = (Some(offset), Some(error)),
        }
    }
    match (good, failed) {
        (Some(bytes), _) => Ok(Some(Value { bytes, bad_copy })),
        (None, None) => Ok(None),
        (None, Some(error)) => Err(error),
    }
}

/// How many whole units a file of so many bytes has.
pub(super) fn units_of(file_bytes: u64) -> u32 {
    u32::try_from(file_bytes.saturating_sub(BLOBS_AT) / UNIT_BYTES).unwrap_or(u32::MAX)
}

fn offset_of(unit: u32) -> u64 {
    BLOBS_AT + u64::from(unit) * UNIT_BYTES
}

pub(super) fn slot_offset(slot: usize) -> u64 {
    slot as u64 * SLOT_BYTES as u64
}

fn too_large(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, what)
}
