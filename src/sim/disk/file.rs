//! A file: what the engine sees of it, what stable storage has, and what a failed sync lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::chunks::{Chunks, SECTOR_BYTES, Sector};
use super::image::Image;
use super::{Call, SimDisk, State};
use crate::sim::rng::Rng;
use crate::storage::memory::HeapMemory;
use crate::storage::{File, Region, Storage};
use crate::sync::Mutex;

/// One file, without its name.
pub(super) struct SimFile {
    pub(super) data: Mutex<Data>,
    /// The disk it lies on; weak, because the disk owns it.
    pub(super) disk: Weak<Mutex<State>>,
}

pub(super) struct Data {
    cache: Cache,
    stable: Chunks,
    /// Sectors that a failed sync marked clean, with the cache's bytes at that time.
    lost: BTreeMap<usize, Sector>,
    /// Sectors that somebody may have read, if that is watched.
    seen: Option<BTreeSet<usize>>,
}

/// What the engine sees.
enum Cache {
    Chunks(Chunks),
    /// Somebody mapped it, and may store into it at any time.
    Mapped {
        bytes: usize,
        memory: Arc<HeapMemory>,
    },
}

impl SimFile {
    pub(super) fn over(image: Image, disk: Weak<Mutex<State>>) -> Self {
        let Image { cache, stable, lost } = image;
        SimFile { data: Mutex::new(Data { cache: Cache::Chunks(cache), stable, lost, seen: None }), disk }
    }

    pub(super) fn image(&self) -> Image {
        let data = self.data.lock();
        Image { cache: data.cached(), stable: data.stable.clone(), lost: data.lost.clone() }
    }

    fn call(&self, call: Call) -> io::Result<()> {
        self.disk().map_or(Ok(()), |disk| disk.call(call))
    }

    fn disk(&self) -> Option<SimDisk> {
        self.disk.upgrade().map(|state| SimDisk { state })
    }
}

impl Data {
    pub(super) fn bytes(&self) -> usize {
        match &self.cache {
            Cache::Chunks(chunks) => chunks.bytes(),
            Cache::Mapped { bytes, .. } => *bytes,
        }
    }

    pub(super) fn watch(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    pub(super) fn seen(&self) -> Option<&BTreeSet<usize>> {
        self.seen.as_ref()
    }

    /// The cache at this instant.
    fn cached(&self) -> Chunks {
        match &self.cache {
            Cache::Chunks(chunks) => chunks.clone(),
            Cache::Mapped { bytes, memory } => Chunks::from_bytes(&memory.to_bytes()[..*bytes]),
        }
    }

    fn read(&self, offset: usize, buf: &mut [u8]) {
        match &self.cache {
            Cache::Chunks(chunks) => chunks.read(offset, buf),
            Cache::Mapped { memory, .. } => memory.read(offset, buf),
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if let Cache::Mapped { bytes: length, memory } = &self.cache {
            if end <= *length {
                memory.write(offset, bytes);
            } else {
                // Who mapped it keeps the old memory: the trait forbids to grow what is mapped.
                self.cache = Cache::Chunks(self.cached());
            }
        }
        if let Cache::Chunks(chunks) = &mut self.cache {
            chunks.write(offset, bytes);
        }
        // Written again: dirty again, whatever a failed sync said.
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if !self.lost.is_empty() {
            self.lost.retain(|sector, _| !sectors.contains(sector));
        }
    }

    pub(super) fn truncate(&mut self, bytes: usize) {
        let mut chunks = self.cached();
        if bytes < chunks.bytes() {
            chunks.resize(bytes);
        }
        self.cache = Cache::Chunks(chunks);
    }

    /// Changes a byte at rest, in the cache and on stable storage alike.
    pub(super) fn flip(&mut self, byte: usize, bit: u8) {
        let mut value = [0];
        self.read(byte, &mut value);
        let value = [value[0] ^ (1 << bit)];
        self.write(byte, &value);
        self.stable.write(byte, &value);
    }

    /// Cuts the file at rest.
    pub(super) fn cut(&mut self, bytes: usize) {
        self.truncate(bytes);
        self.stable.resize(bytes);
    }

    /// Sectors that a sync of `range` would write.
    pub(super) fn unsynced(&self, range: Range<u64>) -> Vec<usize> {
        let sectors = self.bytes().div_ceil(SECTOR_BYTES);
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let first = clamp(range.start) / SECTOR_BYTES;
        let end = clamp(range.end).min(sectors * SECTOR_BYTES).div_ceil(SECTOR_BYTES);
        let mut found = Vec::new();
        match &self.cache {
            Cache::Chunks(chunks) => chunks.differing(&self.stable, first..end, &mut found),
            Cache::Mapped { memory, .. } => {
                let differs = |sector: &usize| !memory.holds(sector * SECTOR_BYTES, self.stable.sector(*sector));
                found.extend((first..end).filter(differs));
            }
        }
        if !self.lost.is_empty() {
            found.retain(|sector| self.lost.get(sector).is_none_or(|then| *then != self.sector(*sector)));
        }
        found
    }

    fn sector(&self, sector: usize) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        let from = sector * SECTOR_BYTES;
        let inside = SECTOR_BYTES.min(self.bytes().saturating_sub(from));
        self.read(from, &mut bytes[..inside]);
        bytes
    }

    /// Copies one sector to stable storage.
    pub(super) fn settle(&mut self, sector: usize) {
        let bytes = self.sector(sector);
        let from = sector * SECTOR_BYTES;
        let inside = SECTOR_BYTES.min(self.bytes().saturating_sub(from));
        self.stable.write(from, &bytes[..inside]);
        self.lost.remove(&sector);
    }

    fn sync(&mut self, range: Range<u64>) {
        if let Cache::Chunks(chunks) = &self.cache
            && self.lost.is_empty()
        {
            let sector = |at: u64| usize::try_from(at.div_ceil(SECTOR_BYTES as u64)).unwrap_or(usize::MAX);
            let first = usize::try_from(range.start).unwrap_or(usize::MAX) / SECTOR_BYTES;
            self.stable.resize(chunks.bytes());
            return self.stable.adopt(chunks, first..sector(range.end));
        }
        for sector in self.unsynced(range) {
            self.settle(sector);
        }
        if self.stable.bytes() != self.bytes() {
            self.stable.resize(self.bytes());
        }
    }

    fn fail_sync(&mut self, range: Range<u64>, rng: &mut Rng) {
        for sector in self.unsynced(range) {
            if rng.once_in(2) {
                self.settle(sector);
            } else {
                self.lost.insert(sector, self.sector(sector));
            }
        }
    }

    fn look(&mut self, range: Range<usize>) {
        if let Some(seen) = &mut self.seen {
            seen.extend(range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES));
        }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.data.lock().bytes() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.call(Call::Read)?;
        let mut data = self.data.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.checked_add(buf.len()).filter(|to| *to <= data.bytes());
        data.look(from..to.ok_or(io::ErrorKind::UnexpectedEof)?);
        data.read(from, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.call(Call::Write);
        let Some(disk) = self.disk() else { return outcome };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.saturating_add(bytes.len());
        // The disk is asked before the file is locked: the disk locks files.
        if outcome.is_err() {
            // A write that fails may have written some of its sectors.
            let to = disk.part_of(from..end) / SECTOR_BYTES * SECTOR_BYTES;
            let mut data = self.data.lock();
            if from < to && to <= data.bytes() {
                data.write(from, &bytes[..to - from]);
            }
            return outcome;
        }
        let there = self.data.lock().bytes();
        disk.take_space(end.saturating_sub(there) as u64)?;
        self.data.lock().write(from, bytes);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.call(Call::Truncate)?;
        self.data.lock().truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_range(0..u64::MAX)
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        let outcome = self.call(Call::Sync);
        let Some(disk) = self.disk() else { return outcome };
        let (stopped, mut rng) = (disk.has_crashed(), disk.fork_rng());
        let mut data = self.data.lock();
        let outcome = match outcome {
            Ok(()) if range.end != u64::MAX && range.end > data.bytes() as u64 => {
                Err(io::Error::other("the file does not reach to the end of the range"))
            }
            outcome => outcome,
        };
        match &outcome {
            Ok(()) => data.sync(range),
            Err(_) if stopped => {}
            Err(_) => data.fail_sync(range, &mut rng),
        }
        outcome
    }

    fn map(&self) -> io::Result<Region> {
        self.call(Call::Map)?;
        let mut data = self.data.lock();
        let bytes = data.bytes();
        data.look(0..bytes);
        let memory = match &data.cache {
            Cache::Mapped { memory, .. } => Arc::clone(memory),
            Cache::Chunks(chunks) => {
                let memory = Arc::new(HeapMemory::from_bytes(&chunks.to_vec()));
                data.cache = Cache::Mapped { bytes, memory: Arc::clone(&memory) };
                memory
            }
        };
        Ok(memory.region())
    }

    fn share(&self, source: &dyn File) -> io::Result<bool> {
        self.call(Call::Write)?;
        // Some file systems can, and some can't.
        let Some(disk) = self.disk().filter(|disk| !disk.random().is_multiple_of(2)) else { return Ok(false) };
        let mut bytes = vec![0; usize::try_from(source.len()?).unwrap_or(0)];
        source.read_at(0, &mut bytes)?;
        disk.take_space(bytes.len() as u64)?;
        self.data.lock().write(0, &bytes);
        Ok(true)
    }
}
