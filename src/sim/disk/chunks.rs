//! Bytes of a file that is mostly zeros: chunks that copies share until one of them is written.

use std::sync::Arc;

pub(super) const SECTOR_BYTES: usize = 512;
const CHUNK_BYTES: usize = 4096;
const SECTORS_PER_CHUNK: usize = CHUNK_BYTES / SECTOR_BYTES;

pub(super) type Sector = [u8; SECTOR_BYTES];
type Chunk = [u8; CHUNK_BYTES];

static ZEROS: Chunk = [0; CHUNK_BYTES];

/// A file's bytes. Behind the end everything is zero, so that growing shows zeros.
#[derive(Clone, Default)]
pub(super) struct Chunks {
    bytes: usize,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Chunks {
    pub(super) fn zeros(bytes: usize) -> Self {
        Chunks { bytes, chunks: vec![None; bytes.div_ceil(CHUNK_BYTES)] }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut chunks = Self::zeros(bytes.len());
        chunks.write(0, bytes);
        chunks
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        self.chunks.resize(bytes.div_ceil(CHUNK_BYTES), None);
        self.bytes = bytes;
        let inside = bytes % CHUNK_BYTES;
        if inside > 0
            && let Some(Some(last)) = self.chunks.last_mut()
        {
            Arc::make_mut(last)[inside..].fill(0);
        }
    }

    /// Reads what lies inside the file; the rest of `buf` stays as it is.
    pub(super) fn read(&self, offset: usize, buf: &mut [u8]) {
        let end = (offset + buf.len()).min(self.bytes);
        let mut at = offset;
        while at < end {
            let inside = at % CHUNK_BYTES;
            let take = (CHUNK_BYTES - inside).min(end - at);
            buf[at - offset..at - offset + take].copy_from_slice(&self.chunk(at / CHUNK_BYTES)[inside..inside + take]);
            at += take;
        }
    }

    /// Writes, growing where needed.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes {
            self.resize(end);
        }
        let mut at = offset;
        while at < end {
            let inside = at % CHUNK_BYTES;
            let take = (CHUNK_BYTES - inside).min(end - at);
            let from = &bytes[at - offset..at - offset + take];
            let slot = &mut self.chunks[at / CHUNK_BYTES];
            if slot.is_some() || *from != ZEROS[..take] {
                let chunk = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(ZEROS)));
                chunk[inside..inside + take].copy_from_slice(from);
            }
            at += take;
        }
    }

    pub(super) fn sector(&self, sector: usize) -> &[u8] {
        let from = sector % SECTORS_PER_CHUNK * SECTOR_BYTES;
        &self.chunk(sector / SECTORS_PER_CHUNK)[from..from + SECTOR_BYTES]
    }

    /// Sectors in `range` in which `self` and `other` differ, over the longer of the two.
    pub(super) fn differing(&self, other: &Chunks, range: std::ops::Range<usize>, into: &mut Vec<usize>) {
        let chunks = range.start / SECTORS_PER_CHUNK..range.end.div_ceil(SECTORS_PER_CHUNK);
        for at in chunks.start..chunks.end.min(self.chunks.len().max(other.chunks.len())) {
            let same =
                match (self.chunks.get(at).and_then(Option::as_ref), other.chunks.get(at).and_then(Option::as_ref)) {
                    (None, None) => true,
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    _ => false,
                };
            if !same {
                let sectors = at * SECTORS_PER_CHUNK..(at + 1) * SECTORS_PER_CHUNK;
                let differs = |sector: &usize| range.contains(sector) && self.sector(*sector) != other.sector(*sector);
                into.extend(sectors.filter(differs));
            }
        }
    }

    /// Takes over these sectors of a file of the same length, whole chunks by sharing them.
    pub(super) fn adopt(&mut self, other: &Chunks, sectors: std::ops::Range<usize>) {
        let end = sectors.end.min(self.bytes.div_ceil(SECTOR_BYTES));
        let is_last = end * SECTOR_BYTES >= self.bytes;
        let mut at = sectors.start;
        while at < end {
            let chunk = at / SECTORS_PER_CHUNK;
            let behind = (chunk + 1) * SECTORS_PER_CHUNK;
            if at.is_multiple_of(SECTORS_PER_CHUNK) && (behind <= end || is_last) {
                self.chunks[chunk].clone_from(&other.chunks[chunk]);
                at = behind;
            } else {
                let from = at * SECTOR_BYTES;
                let inside = SECTOR_BYTES.min(self.bytes - from);
                self.write(from, &other.sector(at)[..inside]);
                at += 1;
            }
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        self.read(0, &mut bytes);
        bytes
    }

    fn chunk(&self, at: usize) -> &Chunk {
        self.chunks.get(at).and_then(Option::as_ref).map_or(&ZEROS, |chunk| chunk)
    }
}
