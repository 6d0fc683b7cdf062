//! From the bytes of a file to the stores over its roots. Nothing is written.
//!
//! A root is used if and only if it verifies, every index chunk that it lists verifies and lists what the root says
//! it does, and all that root and chunks refer to lies inside the file, each in a place of its own. Blobs are
//! verified when they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::store::{Store, Unproven, read_blob, slot_offset, units_of};
use super::units::FreeUnits;
use super::{BlobRef, Key};
use crate::error::DamageKind;
use crate::format::checkpoint::{COPY_BYTES, Root, RootCopy, SLOT_BYTES, all_zero, decode_entries};
use crate::storage::File;

/// What the file holds.
pub(crate) struct Loaded {
    /// The usable root with the highest generation, and its meta bytes.
    pub newest: Option<(Store, Vec<u8>)>,
    /// The other root, if it is usable too.
    pub older: Option<(Store, Vec<u8>)>,
    /// Slots of which something is neither blank nor usable.
    pub damage: Vec<BadSlot>,
    /// A version that this build does not know.
    pub version: Option<u32>,
}

/// A slot with something wrong in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadSlot {
    pub offset: u64,
    pub bytes: u64,
    /// *Torn* is what a crash leaves of a root that was being written, or damage that can't be told from it.
    pub kind: DamageKind,
    /// Neither copy of the root can be used.
    pub is_lost: bool,
    pub what: &'static str,
}

/// A root whose index reads well.
struct Usable {
    slot: usize,
    bad: BadSlot,
    root: Root,
    index: BTreeMap<Key, BlobRef>,
}

impl Store {
    /// Looks at both slots. Writes nothing.
    ///
    /// A slot that can't be read counts as damaged as long as the other is usable; if none is, nothing may be
    /// concluded from what could not be read, and the error is returned.
    pub(crate) fn load(file: &Arc<dyn File>) -> io::Result<Loaded> {
        let bytes = file.len()?;
        let mut loaded = Loaded { newest: None, older: None, damage: Vec::new(), version: None };
        let (mut usable, mut unreadable, mut highest) = (Vec::new(), None, 0);
        for slot in 0..2 {
            let bad = |what| BadSlot {
                offset: slot_offset(slot),
                bytes: bytes.saturating_sub(slot_offset(slot)).min(SLOT_BYTES as u64),
                kind: DamageKind::Corrupt,
                is_lost: true,
                what,
            };
            let (copy, flaw) = match read_slot(&**file, slot, bytes) {
                Ok(read) => read,
                Err(error) => {
                    unreadable = Some(error);
                    (RootCopy::Blank, Some(bad("a checkpoint's root can't be read")))
                }
            };
            loaded.damage.extend(flaw);
            match copy {
                RootCopy::Blank | RootCopy::Invalid => {}
                RootCopy::Version(version) => loaded.version = Some(version),
                RootCopy::Valid(root) => {
                    highest = highest.max(root.generation);
                    match read_index(&**file, &root, units_of(bytes)) {
                        Ok(Some((index, bad_copies))) => {
                            let what = "one of two copies of a checkpoint's index does not verify";
                            let bad_copy = |(offset, bytes)| BadSlot { offset, bytes, is_lost: false, ..bad(what) };
                            loaded.damage.extend(bad_copies.into_iter().map(bad_copy));
                            usable.push(Usable { slot, bad: bad(""), root, index });
                        }
                        // It was durable before the root was written.
                        Ok(None) => loaded.damage.push(bad("a checkpoint's index does not verify")),
                        Err(error) => {
                            loaded.damage.push(bad("a checkpoint's index can't be read"));
                            unreadable = Some(error);
                        }
                    }
                }
            }
        }
        usable.sort_by_key(|usable| usable.root.generation);
        let newest = usable.pop();
        let older = usable.pop().and_then(|older| match newest.as_ref().is_none_or(|newest| agree(newest, &older)) {
            true => Some(older),
            false => {
                loaded.damage.push(BadSlot { what: "a checkpoint lies over a newer one", ..older.bad });
                None
            }
        });
        if let (None, Some(error)) = (&newest, unreadable) {
            return Err(error);
        }
        let below = older.as_ref().map(Usable::references);
        loaded.newest = newest.map(|newest| newest.into_store(Arc::clone(file), bytes, below.as_deref(), highest));
        // The older, if it must be used, trusts itself alone, and writes over the newer one's slot.
        loaded.older = older.map(|older| older.into_store(Arc::clone(file), bytes, None, highest));
        Ok(loaded)
    }
}

impl Usable {
    /// Everything that the root refers to.
    fn references(&self) -> Vec<BlobRef> {
        references(&self.root, &self.index)
    }

    /// The store that goes on from this root, above generation `highest`, and the root's meta bytes. `older` is
    /// what the other root refers to, if it is usable and older.
    fn into_store(
        self,
        file: Arc<dyn File>,
        file_bytes: u64,
        older: Option<&[BlobRef]>,
        highest: u64,
    ) -> (Store, Vec<u8>) {
        let own = self.references();
        let waiting = without(older.unwrap_or_default(), &own);
        let units = units_of(file_bytes);
        let unproven = Unproven {
            slot: self.slot,
            root: self.root.encode().unwrap_or_default(),
            blobs: without(&own, older.unwrap_or_default()),
        };
        let store = Store {
            file,
            queue: self.root.queue,
            generation: self.root.generation.max(highest),
            next_slot: 1 - self.slot.min(1),
            index: self.index,
            chunks: self.root.chunks,
            free: FreeUnits::without(units, own.iter().chain(&waiting)),
            units,
            waiting,
            unproven: Some(unproven),
            broken: false,
        };
        (store, self.root.meta)
    }
}

/// A slot's two copies as one, and what is wrong with them.
///
/// | first, second | taken | said |
/// |---|---|---|
/// | both verify and are the same | either | nothing |
/// | both verify and differ | the newer: its blobs were durable before it was begun | nothing: a crash between them |
/// | one verifies, the other is blank | the one | nothing: a crash between them |
/// | one verifies, the other differs in one byte | the one | corrupt |
/// | one verifies, the other differs in more | the one | torn |
/// | one verifies, the other can't be read | the one | unreadable |
/// | none verifies | none | torn |
fn read_slot(file: &dyn File, slot: usize, file_bytes: u64) -> io::Result<(RootCopy, Option<BadSlot>)> {
    let at = slot_offset(slot);
    let (first, second) = (read_copy(file, at, file_bytes), read_copy(file, at + COPY_BYTES as u64, file_bytes));
    let flaw = |place: usize, kind, is_lost, what| {
        let (offset, bytes) = (at + (place * COPY_BYTES) as u64, COPY_BYTES as u64);
        Some(BadSlot { offset, bytes, kind, is_lost, what })
    };
    let decoded = |read: &io::Result<Vec<u8>>| read.as_ref().map_or(RootCopy::Invalid, |bytes| Root::decode(bytes));
    let (valid, bad, place) = match (decoded(&first), decoded(&second)) {
        (RootCopy::Version(version), _) | (_, RootCopy::Version(version)) => {
            return Ok((RootCopy::Version(version), None));
        }
        (RootCopy::Valid(a), RootCopy::Valid(b)) => {
            let newer = if b.generation > a.generation { b } else { a };
            return Ok((RootCopy::Valid(newer), None));
        }
        (RootCopy::Valid(root), RootCopy::Blank) | (RootCopy::Blank, RootCopy::Valid(root)) => {
            return Ok((RootCopy::Valid(root), None));
        }
        (RootCopy::Valid(root), RootCopy::Invalid) => (root, second, 1),
        (RootCopy::Invalid, RootCopy::Valid(root)) => (root, first, 0),
        (RootCopy::Blank, RootCopy::Blank) => return Ok((RootCopy::Blank, None)),
        (RootCopy::Blank | RootCopy::Invalid, RootCopy::Blank | RootCopy::Invalid) => {
            // Nothing may be concluded from what could not be read.
            first?;
            second?;
            let what = "a checkpoint's root was being written, or both of its copies are damaged";
            return Ok((RootCopy::Invalid, flaw(0, DamageKind::Torn, true, what)));
        }
    };
    let (kind, what) = match bad {
        Err(_) => (DamageKind::Unreadable, "one of two copies of a checkpoint's root can't be read"),
        Ok(bytes) if differ_in_one_byte(&valid, &bytes) => {
            (DamageKind::Corrupt, "one of two copies of a checkpoint's root does not verify")
        }
        Ok(_) => (DamageKind::Torn, "one of two copies of a checkpoint's root was being written, or is damaged"),
    };
    Ok((RootCopy::Valid(valid), flaw(place, kind, false, what)))
}

/// The bytes of a copy as far as they tell anything: of a blank one none.
fn read_copy(file: &dyn File, offset: u64, file_bytes: u64) -> io::Result<Vec<u8>> {
    let there = file_bytes.saturating_sub(offset).min(COPY_BYTES as u64);
    // A root is small and its slot is not: what claims to be one says how long it is.
    let mut head = [0; HEAD_BYTES];
    if there >= HEAD_BYTES as u64 {
        file.read_at(offset, &mut head)?;
        let claims = Root::claims_bytes(&head).filter(|bytes| u64::from(*bytes) <= there);
        let mut root = vec![0; claims.unwrap_or(0) as usize];
        file.read_at(offset, &mut root)?;
        if !matches!(Root::decode(&root), RootCopy::Blank | RootCopy::Invalid) {
            return Ok(root);
        }
        if head == [0; HEAD_BYTES] && is_blank(file, offset..offset + there)? {
            return Ok(Vec::new());
        }
    }
    let mut copy = vec![0; usize::try_from(there).unwrap_or(COPY_BYTES)];
    file.read_at(offset, &mut copy)?;
    Ok(copy)
}

const HEAD_BYTES: usize = 16;

/// True if there is nothing but zeros. A new queue's slot is, and its bytes need not be in memory all at once.
fn is_blank(file: &dyn File, range: Range<u64>) -> io::Result<bool> {
    let mut piece = vec![0; BLANK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let take = (range.end - at).min(BLANK_BYTES as u64);
        let piece = piece.get_mut(..usize::try_from(take).unwrap_or(0)).unwrap_or_default();
        file.read_at(at, piece)?;
        if !all_zero(piece) {
            return Ok(false);
        }
        at += take;
    }
    Ok(true)
}

/// How much of a slot that may be blank is read at a time.
const BLANK_BYTES: usize = 64 << 10;

fn differ_in_one_byte(root: &Root, copy: &[u8]) -> bool {
    let expected = root.encode().unwrap_or_default();
    expected.len() <= copy.len() && expected.iter().zip(copy).filter(|(a, b)| a != b).count() == 1
}

/// An index, and the places (offset, bytes) of copies of its chunks that don't verify.
type Index = (BTreeMap<Key, BlobRef>, Vec<(u64, u64)>);

/// The index of a root, if root and chunks keep the rules of the file's opening comment.
fn read_index(file: &dyn File, root: &Root, units: u32) -> io::Result<Option<Index>> {
    let chunks: Vec<BlobRef> = root.chunks.iter().map(|(_, blob)| *blob).collect();
    // Before anything is read: together the chunks are then no larger than the file.
    if !are_apart(&chunks, units) {
        return Ok(None);
    }
    let (mut index, mut bad_copies) = (BTreeMap::new(), Vec::new());
    for (at, (first, blob)) in root.chunks.iter().enumerate() {
        let Some(value) = read_blob(file, *blob)? else { return Ok(None) };
        bad_copies.extend(value.bad_copy.map(|offset| (offset, u64::from(blob.bytes))));
        let Some(entries) = decode_entries(&value.bytes) else { return Ok(None) };
        let starts_well = entries.first().is_some_and(|(key, _)| key == first);
        let next = root.chunks.get(at + 1).map(|(next, _)| *next);
        let ends_well = entries.last().is_some_and(|(last, _)| next.is_none_or(|next| *last < next));
        if !starts_well || !ends_well {
            return Ok(None);
        }
        index.extend(entries);
    }
    Ok(are_apart(&references(root, &index), units).then_some((index, bad_copies)))
}

fn references(root: &Root, index: &BTreeMap<Key, BlobRef>) -> Vec<BlobRef> {
    root.chunks.iter().map(|(_, blob)| *blob).chain(index.values().copied()).collect()
}

/// True if what the two refer to is either the same or apart.
fn agree(newest: &Usable, older: &Usable) -> bool {
    let mut all = newest.references();
    all.extend(without(&older.references(), &all));
    are_apart(&all, u32::MAX)
}

/// True if every blob has units of its own among the file's.
fn are_apart(blobs: &[BlobRef], units: u32) -> bool {
    let mut places: Vec<(u32, u32)> = blobs.iter().map(|blob| (blob.unit, blob.units())).collect();
    places.sort_unstable();
    let mut end = 0;
    for (unit, count) in places {
        let Some(next) = unit.checked_add(count).filter(|next| unit >= end && *next <= units) else { return false };
        end = next;
    }
    true
}

/// Those of `blobs` whose place is none of `others`'.
fn without(blobs: &[BlobRef], others: &[BlobRef]) -> Vec<BlobRef> {
    let place = |blob: &BlobRef| (blob.unit, blob.units());
    let others: BTreeSet<(u32, u32)> = others.iter().map(place).collect();
    blobs.iter().filter(|blob| !others.contains(&place(blob))).copied().collect()
}
