//! A ring of fixed slots in a mapped file: one writer, one reader. A slot is a length, a checksum and the payload.
#![expect(unsafe_code, reason = "the one place of the harness where memory is shared through a mapped file")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};

use crate::engine::Settle;

/// Length and checksum, little-endian.
const HEADER_BYTES: usize = 8;

/// The ring. Slots `read..written` belong to the reader, all others to the writer.
pub struct Ring {
    /// Only grows, by the writer. On lines of their own, as is `read`.
    written: Line,
    /// Only grows, by the reader; never above `written`.
    read: Line,
    start: *mut u8,
    slots: u64,
    slot_bytes: usize,
    payload_bytes: usize,
    _map: memmap2::MmapMut,
}

#[repr(align(128))]
struct Line(AtomicU64);

// SAFETY: a slot is touched by the writer or by the reader, never by both: `written` and `read`, which are atomics, hand
// it over (see `publish` and `read`).
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// In a new file of so many bytes, each page of which is written and resident afterwards.
    pub fn create(path: &Path, bytes: usize, payload_bytes: usize) -> anyhow::Result<Ring> {
        let slot_bytes = (HEADER_BYTES + payload_bytes).next_multiple_of(8);
        let slots = bytes / slot_bytes;
        ensure!(slots > 128, "payloads of {payload_bytes} bytes are too large for this ring");
        std::fs::write(path, vec![1_u8; bytes]).with_context(|| path.display().to_string())?;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        // SAFETY: the file is this harness's own, in a directory that nothing else uses, and is not cut while mapped.
        let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }?;
        map.chunks_mut(4096).filter_map(|page| page.first_mut()).for_each(|byte| *byte = 0);
        let (written, read) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
        Ok(Ring { written, read, start: map.as_mut_ptr(), slots: slots as u64, slot_bytes, payload_bytes, _map: map })
    }

    /// Whether so many slots are free.
    pub fn has_room(&self, tasks: usize) -> bool {
        // Acquire: partner of `read`'s Release; what the reader looked at, it is done with.
        let used = self.written.0.load(Ordering::Relaxed) - self.read.0.load(Ordering::Acquire);
        used + tasks as u64 <= self.slots
    }

    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.read.0.load(Ordering::Relaxed) >= self.written.0.load(Ordering::SeqCst)
    }

    /// Writes these and publishes them at once. Only one thread may, and only with room for them, unless nobody reads.
    pub fn publish(&self, tasks: &[&[u8]]) {
        let mut written = self.written.0.load(Ordering::Relaxed);
        for task in tasks {
            let task = task.get(..self.payload_bytes).unwrap_or(task);
            let checksum = crc32fast::hash(task);
            let length = u32::try_from(task.len()).unwrap_or(0);
            let slot = self.slot(written);
            // SAFETY: `slot` has room for the header and `payload_bytes`, and is the writer's alone until `written` says
            // otherwise; the source is another allocation.
            unsafe {
                slot.cast::<u32>().write_unaligned(length.to_le());
                slot.add(4).cast::<u32>().write_unaligned(checksum.to_le());
                std::ptr::copy_nonoverlapping(task.as_ptr(), slot.add(HEADER_BYTES), task.len());
            }
            written += 1;
        }
        // SeqCst, which is a Release too: partner of the loads in `read` and `is_empty`.
        self.written.0.store(written, Ordering::SeqCst);
    }

    /// Shows at most so many payloads, checked, and gives their slots back. Only one thread may.
    pub fn read(&self, tasks: usize, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let read = self.read.0.load(Ordering::Relaxed);
        let written = self.written.0.load(Ordering::Acquire);
        let end = written.min(read + tasks as u64);
        for index in read..end {
            let slot = self.slot(index);
            // SAFETY: the slot was published (the Acquire above), and is the reader's until `read` passes it.
            let (length, checksum) =
                unsafe { (slot.cast::<u32>().read_unaligned(), slot.add(4).cast::<u32>().read_unaligned()) };
            let length = usize::try_from(u32::from_le(length))?.min(self.payload_bytes);
            // SAFETY: likewise, and the length is within the slot.
            let payload = unsafe { std::slice::from_raw_parts(slot.add(HEADER_BYTES), length) };
            ensure!(crc32fast::hash(payload) == u32::from_le(checksum), "slot {index} does not match its checksum");
            see(payload);
        }
        self.read.0.store(end, Ordering::Release);
        Ok(usize::try_from(end - read)?)
    }

    fn slot(&self, index: u64) -> *mut u8 {
        let slot = usize::try_from(index % self.slots).unwrap_or(0);
        // SAFETY: `slot < slots`, and `slots * slot_bytes` are within the map, which lives as long as this.
        unsafe { self.start.add(slot * self.slot_bytes) }
    }
}
