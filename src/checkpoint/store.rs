//! Reading and committing checkpoints. The protocol is the room's opening comment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::units::{FreeUnits, units_for};
use super::{BlobRef, Key};
use crate::format::checkpoint::{BLOBS_AT, Root, SLOT_BYTES, Slot, UNIT_BYTES, decode_entries, encode_entries};
use crate::storage::File;
use crate::types::QueueId;

/// A chunk is split above this many entries, and joined with its neighbour when both fit in `ENTRIES_JOIN`.
const ENTRIES_MAX: usize = 120;
const ENTRIES_JOIN: usize = 80;
/// The file grows in steps of this many units, and keeps at least as many free ahead of the next commit.
const GROW_UNITS: u32 = 256;

/// The newest checkpoint and the room for the next one.
pub(crate) struct Store {
    file: Arc<dyn File>,
    queue: QueueId,
    generation: u64,
    /// Slot that the next commit writes: the one that does not hold the newest root.
    next_slot: usize,
    index: BTreeMap<Key, BlobRef>,
    chunks: Vec<(Key, BlobRef)>,
    free: FreeUnits,
    units: u32,
    /// What the older root needs and the newest does not: free after the next commit.
    waiting: Vec<BlobRef>,
    broken: bool,
}

/// What a commit changes.
#[derive(Default)]
pub(crate) struct Changes {
    pub puts: Vec<(Key, Vec<u8>)>,
    pub deletes: Vec<Key>,
}

/// Why a blob could not be had.
#[derive(Debug)]
pub(crate) enum BlobError {
    Absent,
    Damaged { offset: u64, bytes: u64 },
    Io(io::Error),
}

/// What the file holds.
pub(crate) struct Loaded {
    /// The usable root with the highest generation, and its meta bytes.
    pub newest: Option<(Store, Vec<u8>)>,
    /// The other root, if it is usable too.
    pub older: Option<(Store, Vec<u8>)>,
    /// Slots that are neither blank nor usable.
    pub damage: Vec<BadSlot>,
    /// A version that this build does not know.
    pub version: Option<u32>,
}

/// A slot that holds no usable root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadSlot {
    pub offset: u64,
    pub bytes: u64,
    pub what: &'static str,
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
            broken: false,
        })
    }

    /// Looks at both slots. Writes nothing.
    pub(crate) fn load(file: &Arc<dyn File>) -> io::Result<Loaded> {
        let bytes = file.len()?;
        let mut loaded = Loaded { newest: None, older: None, damage: Vec::new(), version: None };
        let (mut usable, mut highest) = (Vec::new(), 0);
        for slot in 0..2 {
            let offset = slot as u64 * SLOT_BYTES as u64;
            let there = bytes.saturating_sub(offset).min(SLOT_BYTES as u64);
            let mut buffer = vec![0; usize::try_from(there).unwrap_or(0)];
            file.read_at(offset, &mut buffer)?;
            let mut bad = |what| loaded.damage.push(BadSlot { offset, bytes: there, what });
            match Root::decode(&buffer) {
                Slot::Blank => {}
                Slot::Version(version) => loaded.version = Some(version),
                Slot::Invalid => bad("a checkpoint's root does not verify"),
                Slot::Valid(root) => {
                    highest = highest.max(root.generation);
                    match read_index(&**file, &root, units_of(bytes)) {
                        Some(index) => usable.push((slot, root, index)),
                        None => bad("a checkpoint's index does not verify"),
                    }
                }
            }
        }
        usable.sort_by_key(|(_, root, _)| root.generation);
        let refs: Vec<Vec<BlobRef>> = usable.iter().map(|(_, root, index)| references(root, index)).collect();
        let mut stores = usable.into_iter().enumerate().map(|(at, (slot, root, index))| {
            // The newest leaves alone what the older needs; the older, if it must be used, trusts itself alone.
            let older = at.checked_sub(1).and_then(|at| refs.get(at));
            Store::over(Arc::clone(file), bytes, slot, root, index, older, highest)
        });
        let (first, second) = (stores.next(), stores.next());
        (loaded.newest, loaded.older) = if second.is_some() { (second, first) } else { (first, None) };
        Ok(loaded)
    }

    fn over(
        file: Arc<dyn File>,
        bytes: u64,
        slot: usize,
        root: Root,
        index: BTreeMap<Key, BlobRef>,
        older: Option<&Vec<BlobRef>>,
        highest: u64,
    ) -> (Store, Vec<u8>) {
        let own = references(&root, &index);
        let own_units: BTreeSet<u32> = own.iter().map(|blob| blob.unit).collect();
        let not_own = |blob: &&BlobRef| !own_units.contains(&blob.unit);
        let waiting: Vec<BlobRef> = older.into_iter().flatten().filter(not_own).copied().collect();
        let units = units_of(bytes);
        let store = Store {
            file,
            queue: root.queue,
            generation: root.generation.max(highest),
            next_slot: 1 - slot.min(1),
            index,
            chunks: root.chunks,
            free: FreeUnits::without(units, own.iter().chain(&waiting)),
            units,
            waiting,
            broken: false,
        };
        (store, root.meta)
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
    pub(crate) fn get(&self, key: Key) -> Result<Vec<u8>, BlobError> {
        let blob = self.index.get(&key).ok_or(BlobError::Absent)?;
        let bytes = read_blob(&*self.file, *blob).map_err(BlobError::Io)?;
        let damaged = BlobError::Damaged { offset: offset_of(blob.unit), bytes: u64::from(blob.bytes) };
        bytes.ok_or(damaged)
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        offset_of(self.units)
    }

    /// Makes the next checkpoint: `changes` over the newest one, with `meta`. Durable when it returns.
    ///
    /// An error leaves the newest checkpoint as it is; see [`Store::is_broken`] for whether to go on.
    pub(crate) fn commit(&mut self, meta: &[u8], changes: Changes) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier checkpoint failed half way"));
        }
        let before = (self.index.clone(), self.chunks.clone(), self.free.clone());
        let root = match self.write_blobs(meta, changes) {
            Ok((root, dropped)) => (root, dropped),
            Err(error) => {
                (self.index, self.chunks) = (before.0, before.1);
                // The file may have grown meanwhile: what it grew by is free as well.
                let taken: Vec<BlobRef> = self.live().chain(self.waiting.iter().copied()).collect();
                self.free = FreeUnits::without(self.units, taken.iter());
                return Err(error);
            }
        };
        let (root, dropped) = root;
        self.broken = true;
        self.file.sync()?;
        self.file.write_at(self.next_slot as u64 * SLOT_BYTES as u64, &root)?;
        self.file.sync()?;
        self.broken = false;
        self.generation += 1;
        self.next_slot = 1 - self.next_slot;
        for blob in std::mem::replace(&mut self.waiting, dropped) {
            self.free.give(blob.unit, units_for(blob.bytes));
        }
        if self.free.total() < u64::from(GROW_UNITS) {
            // Ahead of need, so that a full disk does not stop the next checkpoint. If it fails, that one tries.
            let _ahead = self.grow(GROW_UNITS);
        }
        Ok(())
    }

    /// Step 1. Gives the new root and the blobs that it no longer refers to.
    fn write_blobs(&mut self, meta: &[u8], changes: Changes) -> io::Result<(Vec<u8>, Vec<BlobRef>)> {
        let mut dropped = Vec::new();
        let mut touched = Vec::new();
        for key in changes.deletes {
            dropped.extend(self.index.remove(&key));
            touched.push(key);
        }
        for (key, bytes) in changes.puts {
            let blob = self.write_blob(&bytes)?;
            dropped.extend(self.index.insert(key, blob));
            touched.push(key);
        }
        self.rewrite_chunks(&touched, &mut dropped)?;
        let root = Root {
            queue: self.queue,
            generation: self.generation + 1,
            meta: meta.to_vec(),
            chunks: self.chunks.clone(),
        };
        let root = root.encode().ok_or_else(|| io::Error::other("the checkpoint's root outgrew its slot"))?;
        Ok((root, dropped))
    }

    fn write_blob(&mut self, bytes: &[u8]) -> io::Result<BlobRef> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a blob of more than 4 GiB"))?;
        let units = units_for(length);
        let unit = match self.free.take(units) {
            Some(unit) => unit,
            None => {
                self.grow(units.max(GROW_UNITS))?;
                self.free.take(units).ok_or_else(|| io::Error::other("no room after growing"))?
            }
        };
        let mut padded = bytes.to_vec();
        padded.resize(units as usize * usize::try_from(UNIT_BYTES).unwrap_or(0), 0);
        self.file.write_at(offset_of(unit), &padded)?;
        Ok(BlobRef { unit, bytes: length, check: crc32fast::hash(bytes) })
    }

    /// Writes anew every index chunk that lists a touched key.
    fn rewrite_chunks(&mut self, touched: &[Key], dropped: &mut Vec<BlobRef>) -> io::Result<()> {
        let mut dirty: Vec<bool> = vec![false; self.chunks.len()];
        let mut any_new = false;
        for key in touched {
            let at = self.chunks.partition_point(|(first, _)| first <= key).saturating_sub(1);
            match dirty.get_mut(at) {
                Some(dirty) => *dirty = true,
                None => any_new = true,
            }
        }
        if !any_new && !dirty.contains(&true) {
            return Ok(());
        }
        let old = std::mem::take(&mut self.chunks);
        let mut pending: Vec<(Key, BlobRef)> = Vec::new();
        for (at, (_, blob)) in old.iter().enumerate() {
            let from = if at == 0 { None } else { old.get(at).map(|(first, _)| *first) };
            let to = old.get(at + 1).map(|(first, _)| *first);
            let entries = self.entries_between(from, to);
            let is_dirty = dirty.get(at).copied().unwrap_or(false);
            if !is_dirty && (pending.is_empty() || pending.len() + entries.len() > ENTRIES_JOIN) {
                self.flush_chunk(&mut pending)?;
                self.chunks.extend(entries.first().map(|(first, _)| (*first, *blob)));
                continue;
            }
            dropped.push(*blob);
            if pending.len() + entries.len() > ENTRIES_JOIN {
                self.flush_chunk(&mut pending)?;
            }
            pending.extend(entries);
        }
        if old.is_empty() {
            pending = self.entries_between(None, None);
        }
        self.flush_chunk(&mut pending)
    }

    fn entries_between(&self, from: Option<Key>, to: Option<Key>) -> Vec<(Key, BlobRef)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let range = (from.map_or(Unbounded, Included), to.map_or(Unbounded, Excluded));
        self.index.range(range).map(|(key, blob)| (*key, *blob)).collect()
    }

    fn flush_chunk(&mut self, pending: &mut Vec<(Key, BlobRef)>) -> io::Result<()> {
        let entries = std::mem::take(pending);
        let parts = entries.len().div_ceil(ENTRIES_MAX).max(1);
        for part in entries.chunks(entries.len().div_ceil(parts).max(1)) {
            let Some((first, _)) = part.first() else { continue };
            let blob = self.write_blob(&encode_entries(part.iter().copied()))?;
            self.chunks.push((*first, blob));
        }
        Ok(())
    }

    fn grow(&mut self, units: u32) -> io::Result<()> {
        let zeros = [0; 4096];
        let from = offset_of(self.units);
        let to = offset_of(self.units.checked_add(units).ok_or_else(|| io::Error::other("the file is too large"))?);
        let mut at = from;
        while at < to {
            let take = usize::try_from(to - at).unwrap_or(zeros.len()).min(zeros.len());
            self.file.write_at(at, zeros.get(..take).unwrap_or_default())?;
            at += take as u64;
        }
        self.free.give(self.units, units);
        self.units += units;
        Ok(())
    }

    fn live(&self) -> impl Iterator<Item = BlobRef> {
        self.index.values().copied().chain(self.chunks.iter().map(|(_, blob)| *blob))
    }
}

/// Everything that a root refers to.
fn references(root: &Root, index: &BTreeMap<Key, BlobRef>) -> Vec<BlobRef> {
    root.chunks.iter().map(|(_, blob)| *blob).chain(index.values().copied()).collect()
}

/// The index of a root, if all its chunks verify and everything lies inside the file, apart from everything else.
fn read_index(file: &dyn File, root: &Root, units: u32) -> Option<BTreeMap<Key, BlobRef>> {
    let inside = |blob: &BlobRef| blob.unit.checked_add(units_for(blob.bytes)).is_some_and(|end| end <= units);
    let mut index = BTreeMap::new();
    for (_, blob) in &root.chunks {
        if !inside(blob) {
            return None;
        }
        let bytes = read_blob(file, *blob).ok()??;
        index.extend(decode_entries(&bytes)?);
    }
    index.values().all(inside).then_some(index)
}

/// A blob's bytes; `None` if they don't verify.
fn read_blob(file: &dyn File, blob: BlobRef) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; blob.bytes as usize];
    file.read_at(offset_of(blob.unit), &mut bytes)?;
    Ok((crc32fast::hash(&bytes) == blob.check).then_some(bytes))
}

fn offset_of(unit: u32) -> u64 {
    BLOBS_AT + u64::from(unit) * UNIT_BYTES
}

fn units_of(file_bytes: u64) -> u32 {
    u32::try_from(file_bytes.saturating_sub(BLOBS_AT) / UNIT_BYTES).unwrap_or(u32::MAX)
}
