//! The checkpoint file: two root slots, then blobs.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 524,288 | root slot A |
//! | 524,288 | 524,288 | root slot B |
//! | 1,048,576 | | units of 512 bytes; a blob takes as many in a row as it needs, zero-padded |
//!
//! A slot holds its root twice, at 0 and at 262,144, so that one flipped bit costs nothing and can be told from a root
//! that was being written when the power went: that one differs from the other copy in more than a byte, or neither
//! verifies.
//!
//! A root:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `LANEROOT` |
//! | 8 | 4 | format version |
//! | 12 | 4 | bytes of the whole root |
//! | 16 | 8 | queue id |
//! | 24 | 8 | generation: from 1 to 2^62, the higher is the newer |
//! | 32 | 4 | m: bytes of meta |
//! | 36 | 4 | n: count of index chunks |
//! | 40 | m | meta, see `meta` |
//! | 40 + m | 32n | index chunks in order of their first keys: an entry each, with the first key of the chunk |
//! | last | 4 | CRC-32 of everything before |
//!
//! Valid if and only if magic, version and CRC are right, the generation is in its bounds, the length is exactly what
//! m and n make it, and the first keys increase. Usable if and only if, beyond that, every index chunk is valid, its
//! keys lie between its own first key and the next chunk's, and all blobs lie inside the file and apart.
//!
//! An entry, in roots and in index chunks: key and copies (kind 1, copies 1, zero 2, a 4, b 8, c 4), then first unit 4,
//! bytes 4, CRC-32 of those bytes 4. An index chunk is a blob of one or more entries in the order of their keys, and
//! nothing else; it stands twice. Each copy of a blob begins a unit of its own, the second behind the first. A copy is
//! valid if and only if its entry's CRC is right; a blob is if one of its copies is.

use crate::checkpoint::{BlobRef, Key};
use crate::types::QueueId;

use super::FORMAT_VERSION;
use super::wire::{Reader, Writer};

/// Bytes for one copy of a root: enough for the index of more than 300,000 blobs.
pub(crate) const COPY_BYTES: usize = 256 << 10;
/// Bytes of one root slot.
pub(crate) const SLOT_BYTES: usize = 2 * COPY_BYTES;
/// Where blobs begin.
pub(crate) const BLOBS_AT: u64 = 2 * SLOT_BYTES as u64;
/// Bytes of a unit.
pub(crate) const UNIT_BYTES: u64 = 512;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 32;
pub(super) const ROOT_MAGIC: u64 = u64::from_le_bytes(*b"LANEROOT");
pub(super) const ROOT_HEAD_BYTES: usize = 40;
const CHECK_BYTES: usize = 4;
/// Far above what a queue can reach, and far enough below the end that counting on never overflows.
const GENERATION_MAX: u64 = 1 << 62;

/// A root as each of its copies holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Root {
    pub queue: QueueId,
    pub generation: u64,
    pub meta: Vec<u8>,
    pub chunks: Vec<(Key, BlobRef)>,
}

/// What one copy of a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RootCopy {
    Blank,
    Valid(Root),
    Version(u32),
    Invalid,
}

impl Root {
    /// The root's bytes, or `None` if they don't fit a copy.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let bytes = ROOT_HEAD_BYTES + self.meta.len() + ENTRY_BYTES * self.chunks.len() + CHECK_BYTES;
        if bytes > COPY_BYTES {
            return None;
        }
        let mut out = Writer::default();
        out.u64(ROOT_MAGIC).u32(FORMAT_VERSION).u32(u32::try_from(bytes).ok()?);
        out.u64(self.queue.0).u64(self.generation);
        out.u32(u32::try_from(self.meta.len()).ok()?).u32(u32::try_from(self.chunks.len()).ok()?);
        out.raw(&self.meta);
        for (key, blob) in &self.chunks {
            put_entry(&mut out, *key, *blob);
        }
        let mut root = out.into_bytes();
        let check = crc32fast::hash(&root);
        root.extend_from_slice(&check.to_le_bytes());
        Some(root)
    }

    /// How long a root says it is, if these first bytes of a copy look like those of one. Nothing is verified.
    pub(crate) fn claims_bytes(head: &[u8]) -> Option<u32> {
        let mut head = Reader::new(head);
        let is_root = head.u64()? == ROOT_MAGIC;
        head.skip(4)?;
        head.u32().filter(|_| is_root)
    }

    /// What stands in one copy.
    pub(crate) fn decode(copy: &[u8]) -> RootCopy {
        if all_zero(copy) {
            return RootCopy::Blank;
        }
        Self::decode_checked(copy).unwrap_or(RootCopy::Invalid)
    }

    fn decode_checked(copy: &[u8]) -> Option<RootCopy> {
        let mut head = Reader::new(copy);
        if head.u64()? != ROOT_MAGIC {
            return None;
        }
        let (version, bytes) = (head.u32()?, head.u32()?);
        let (checked, check) = copy.get(..usize::try_from(bytes).ok()?)?.split_last_chunk::<CHECK_BYTES>()?;
        if crc32fast::hash(checked) != u32::from_le_bytes(*check) {
            return None;
        }
        if version != FORMAT_VERSION {
            return Some(RootCopy::Version(version));
        }
        let mut from = Reader::new(checked);
        from.skip(16)?;
        let (queue, generation) = (QueueId(from.u64()?), from.u64()?);
        let (meta_bytes, count) = (from.u32()?, from.u32()?);
        let meta = from.bytes(usize::try_from(meta_bytes).ok()?)?.to_vec();
        let entries = from.bytes(usize::try_from(count).ok()?.checked_mul(ENTRY_BYTES)?)?;
        if from.left() > 0 || !(1..=GENERATION_MAX).contains(&generation) {
            return None;
        }
        Some(RootCopy::Valid(Root { queue, generation, meta, chunks: decode_entries(entries)? }))
    }
}

/// True if there is nothing but zeros.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    // In pieces, each without an early end: that is what compilers make fast, and most slots are blank to the end.
    bytes.chunks(4096).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Encodes entries, for an index chunk.
pub(crate) fn encode_entries(entries: impl Iterator<Item = (Key, BlobRef)>) -> Vec<u8> {
    let mut out = Writer::default();
    for (key, blob) in entries {
        put_entry(&mut out, key, blob);
    }
    out.into_bytes()
}

/// Decodes entries; `None` if they are not whole or not in order.
pub(crate) fn decode_entries(bytes: &[u8]) -> Option<Vec<(Key, BlobRef)>> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let entries: Vec<_> = bytes.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>()?;
    entries.is_sorted_by(|(a, _), (b, _)| a < b).then_some(entries)
}

fn put_entry(out: &mut Writer, key: Key, blob: BlobRef) {
    out.u8(key.kind).u8(blob.copies).u16(0).u32(key.a).u64(key.b).u32(key.c);
    out.u32(blob.unit).u32(blob.bytes).u32(blob.check);
}

fn entry(bytes: &[u8]) -> Option<(Key, BlobRef)> {
    let mut from = Reader::new(bytes);
    let (kind, copies) = (from.u8()?, from.u8()?);
    from.skip(2)?;
    let key = Key { kind, a: from.u32()?, b: from.u64()?, c: from.u32()? };
    let blob = BlobRef { unit: from.u32()?, copies, bytes: from.u32()?, check: from.u32()? };
    matches!(copies, 1 | 2).then_some((key, blob))
}
