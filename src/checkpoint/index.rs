//! How entries are cut into index chunks. Pure: which chunks stay as they are, and what the others will list.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use super::{BlobRef, Key};
use crate::format::checkpoint::ENTRY_BYTES;

/// A chunk is split above this many entries.
pub(super) const ENTRIES_MAX: usize = 120;
/// Neighbours are joined where both fit in this many entries, when one of them changes. Far enough below
/// `ENTRIES_MAX` that a join is not split again by the next few puts; and any two neighbours hold more than
/// this, which bounds the root.
pub(super) const ENTRIES_JOIN: usize = 80;

/// One line of the root to be.
pub(super) enum Piece {
    /// The chunk stays where it is.
    Kept(Key, BlobRef),
    /// A chunk of these entries is to be written. Never empty.
    New(Vec<(Key, BlobRef)>),
}

/// What the next root lists, and the chunks that it no longer does.
#[derive(Default)]
pub(super) struct Recut {
    pub pieces: Vec<Piece>,
    pub dropped: Vec<BlobRef>,
}

/// Cuts anew every chunk whose entries change. `changes` has the new place of a key, or `None` for one that goes.
pub(super) fn recut(
    chunks: &[(Key, BlobRef)],
    index: &BTreeMap<Key, BlobRef>,
    changes: &BTreeMap<Key, Option<BlobRef>>,
) -> Recut {
    let mut cut = Recut::default();
    if chunks.is_empty() {
        let entries: Vec<_> = changes.iter().filter_map(|(key, blob)| Some((*key, (*blob)?))).collect();
        cut.flush(&entries);
        return cut;
    }
    let mut pending: Vec<(Key, BlobRef)> = Vec::new();
    for (at, (first, blob)) in chunks.iter().enumerate() {
        let range = range_of(chunks, at);
        let is_changed = changes.range(range).next().is_some();
        let is_joined = !pending.is_empty() && pending.len() + entries_in(blob) <= ENTRIES_JOIN;
        if !is_changed && !is_joined {
            cut.flush(&std::mem::take(&mut pending));
            cut.pieces.push(Piece::Kept(*first, *blob));
            continue;
        }
        cut.dropped.push(*blob);
        let entries = merged(index.range(range), changes.range(range));
        if pending.is_empty() {
            pending = cut.take_small_neighbour(entries.len(), at, chunks, index);
        }
        if pending.len() + entries.len() > ENTRIES_JOIN {
            cut.flush(&std::mem::take(&mut pending));
        }
        pending.extend(entries);
    }
    cut.flush(&pending);
    cut
}

/// How many entries a chunk lists, told by its length.
pub(super) fn entries_in(chunk: &BlobRef) -> usize {
    usize::try_from(chunk.bytes).unwrap_or(usize::MAX) / ENTRY_BYTES
}

impl Recut {
    /// Lists `entries` in chunks of even size.
    fn flush(&mut self, entries: &[(Key, BlobRef)]) {
        let parts = entries.len().div_ceil(ENTRIES_MAX).max(1);
        let part = entries.len().div_ceil(parts).max(1);
        self.pieces.extend(entries.chunks(part).map(|part| Piece::New(part.to_vec())));
    }

    /// The entries of the unchanged chunk just before chunk `at`, if `count` more fit in with them.
    fn take_small_neighbour(
        &mut self,
        count: usize,
        at: usize,
        chunks: &[(Key, BlobRef)],
        index: &BTreeMap<Key, BlobRef>,
    ) -> Vec<(Key, BlobRef)> {
        let fits = |blob: &BlobRef| entries_in(blob) + count <= ENTRIES_JOIN;
        match self.pieces.pop_if(|piece| matches!(piece, Piece::Kept(_, blob) if fits(blob))) {
            Some(Piece::Kept(_, blob)) => {
                self.dropped.push(blob);
                let range = range_of(chunks, at.saturating_sub(1));
                index.range(range).map(|(key, blob)| (*key, *blob)).collect()
            }
            Some(Piece::New(_)) | None => Vec::new(),
        }
    }
}

/// The keys that belong to chunk `at`: from its first to the next one's. The first chunk takes what is below it.
fn range_of(chunks: &[(Key, BlobRef)], at: usize) -> (Bound<Key>, Bound<Key>) {
    let first = |at: usize| chunks.get(at).map(|(first, _)| *first);
    let from = if at == 0 { Unbounded } else { first(at).map_or(Unbounded, Included) };
    (from, first(at + 1).map_or(Unbounded, Excluded))
}

fn merged<'a>(
    old: impl Iterator<Item = (&'a Key, &'a BlobRef)>,
    changes: impl Iterator<Item = (&'a Key, &'a Option<BlobRef>)>,
) -> Vec<(Key, BlobRef)> {
    let mut entries: BTreeMap<Key, BlobRef> = old.map(|(key, blob)| (*key, *blob)).collect();
    for (key, blob) in changes {
        match blob {
            Some(blob) => entries.insert(*key, *blob),
            None => entries.remove(key),
        };
    }
    entries.into_iter().collect()
}
