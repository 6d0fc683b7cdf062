//! What a forger would do: right checks on whatever the bytes say. For the fuzzers, because what a checksum keeps out is
//! not what a decoder has to survive.
//!
//! Each takes a whole file and changes checks alone: lengths, counts and places stay as hostile as they are. What is
//! not recognised stays as it is.

use crate::types::{ExtentState, ExtentWord};

use super::checkpoint::{BLOBS_AT, COPY_BYTES, ENTRY_BYTES, ROOT_HEAD_BYTES, ROOT_MAGIC, UNIT_BYTES};
use super::record::{self, HEADER_BYTES, Life};
use super::segment::{self, FOOTER_TRAILER_BYTES, LifeHeader, PRELUDE_BYTES};

/// Seals a segment file: its prelude, whatever looks like an extent behind it, its footer.
pub(crate) fn segment(file: &mut [u8]) {
    segment::forge_prelude(file.get_mut(..PRELUDE_BYTES).unwrap_or_default());
    let Ok(header) = LifeHeader::decode(file.get(..PRELUDE_BYTES).unwrap_or_default()) else { return };
    let life = header.life();
    let mut at = PRELUDE_BYTES;
    while let Some(rest) = file.get_mut(at..).filter(|rest| rest.len() >= 8) {
        at += u32::try_from(at).ok().and_then(|offset| extent(life, offset, rest)).unwrap_or(8);
    }
    let index_bytes = file.last_chunk::<FOOTER_TRAILER_BYTES>().and_then(segment::Footer::index_bytes);
    let footer_bytes = index_bytes.and_then(|bytes| usize::try_from(bytes).ok()).map(|b| b + FOOTER_TRAILER_BYTES);
    if let Some(from) = footer_bytes.and_then(|bytes| file.len().checked_sub(bytes)) {
        segment::forge_footer(life, file.get_mut(from..).unwrap_or_default());
    }
}

/// Seals what stands at the front of `rest`. Gives the bytes to the next extent, if there may be one.
fn extent(life: Life, offset: u32, rest: &mut [u8]) -> Option<usize> {
    let word = ExtentWord(u64::from_le_bytes(*rest.first_chunk::<8>()?));
    let bytes = word.bytes() as usize;
    let step = (bytes >= 8 && bytes <= rest.len()).then_some(bytes);
    match word.state() {
        ExtentState::Claimed | ExtentState::Padding if bytes >= 8 => {
            let sealed = match word.state() {
                ExtentState::Claimed => record::claim_word(life, offset, word.bytes()),
                _ => record::padding_word(life, offset, word.bytes()),
            };
            *rest.first_chunk_mut()? = sealed.0.to_le_bytes();
            step
        }
        ExtentState::Published => {
            let is_batch = record::forge(life, offset, rest)?;
            // What is inside of a batch is sealed as well.
            if is_batch { Some(HEADER_BYTES) } else { step }
        }
        _ => None,
    }
}

/// Seals a checkpoint file from the leaves up: blobs in index chunks, chunks in roots, roots.
pub(crate) fn checkpoint(file: &mut [u8]) {
    for at in (0..4).map(|copy| copy * COPY_BYTES) {
        let _sealed = root(file, at);
    }
}

fn root(file: &mut [u8], at: usize) -> Option<()> {
    if u64::from_le_bytes(*file.get(at..)?.first_chunk()?) != ROOT_MAGIC {
        return None;
    }
    let bytes = number(file, at + 12)?.min(COPY_BYTES);
    let end = at + bytes.checked_sub(4)?;
    let (meta_bytes, count) = (number(file, at + 32)?, number(file, at + 36)?);
    let first = at + ROOT_HEAD_BYTES + meta_bytes;
    let chunks = (0..count).map(|chunk| first + chunk * ENTRY_BYTES).take_while(|entry| entry + ENTRY_BYTES <= end);
    for chunk in chunks {
        if let Some((from, bytes)) = named_by(file, chunk) {
            (0..bytes / ENTRY_BYTES).for_each(|blob| seal_entry(file, from + blob * ENTRY_BYTES));
        }
        seal_entry(file, chunk);
    }
    let check = crc32fast::hash(file.get(at..end)?);
    *file.get_mut(end..)?.first_chunk_mut()? = check.to_le_bytes();
    Some(())
}

/// Writes the check of the blob that the entry at `at` names into the entry.
fn seal_entry(file: &mut [u8], at: usize) {
    let blob = named_by(file, at).and_then(|(from, bytes)| file.get(from..from + bytes));
    if let Some(check) = blob.map(crc32fast::hash)
        && let Some(slot) = file.get_mut(at + 28..).and_then(|rest| rest.first_chunk_mut())
    {
        *slot = check.to_le_bytes();
    }
}

/// Where the blob lies that an entry names, and its bytes; `None` if that is not inside the file.
fn named_by(file: &[u8], entry: usize) -> Option<(usize, usize)> {
    let (unit, bytes) = (number(file, entry + 20)?, number(file, entry + 24)?);
    let from = usize::try_from(BLOBS_AT + unit as u64 * UNIT_BYTES).ok()?;
    (from.checked_add(bytes)? <= file.len()).then_some((from, bytes))
}

fn number(file: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*file.get(at..)?.first_chunk()?)).ok()
}
