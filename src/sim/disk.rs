//! The simulated disk.
//!
//! # The model
//!
//! A file is two copies: the *cache*, which the engine maps, reads and writes, and the *stable* bytes. A sector
//! of 512 bytes in which they differ is unsynced: at a power loss it survives or not, each by itself. A sync copies
//! the cache's sectors to the stable bytes. A sync that fails copies a random part of them and marks all as
//! clean: the cache goes on showing the new bytes, a later sync skips them and succeeds, and only writing them
//! again makes them dirty. At random moments single sectors are written back by themselves, so that an older value
//! than the last may be what survives.
//!
//! Creating and removing names and cutting files are volatile until the directory is synced (a length, until the
//! file is); at a power loss each survives or not, in any order. A file's bytes at its creation are durable
//! when `create` returns, as the trait promises, if the name survives.
//!
//! Everything stops at an operation that was chosen: it and all later ones fail and change nothing. What the
//! cache held at that instant is kept, because an engine that goes on for a while may still store into its
//! maps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::rng::Rng;
use crate::storage::memory::HeapMemory;
use crate::storage::{File, Medium, Prepare, Region, Storage};
use crate::sync::Mutex;

const SECTOR_BYTES: usize = 512;

/// What a restart forgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The process died: the cache stays.
    Process,
    /// The power went: of what was not synced, any part stays.
    Power,
}

/// A handle to the disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    files: BTreeMap<String, Arc<SimFile>>,
    /// Directory as stable storage has it: name → file.
    stable_names: BTreeMap<String, Arc<SimFile>>,
    operations: u64,
    crash_at: Option<u64>,
    fail_at: Option<(u64, i32)>,
    /// The cache of every file at the instant of the crash.
    at_crash: Option<BTreeMap<String, Image>>,
    /// Free bytes; creating and growing take from it.
    space: Option<u64>,
    /// Files that answer every open with an error of the medium.
    unreadable: BTreeSet<String>,
}

/// One file, without its name.
struct SimFile {
    data: Mutex<Data>,
    /// The disk it lies on; weak, because the disk owns it.
    disk: Mutex<Weak<Mutex<State>>>,
}

struct Data {
    cache: Arc<HeapMemory>,
    bytes: usize,
    stable: Vec<u8>,
    /// Sectors that a failed sync marked clean, with the cache's bytes at that time.
    lost: BTreeMap<usize, Vec<u8>>,
}

/// Cache, stable bytes and lost sectors of a file at one instant.
#[derive(Clone)]
struct Image {
    cache: Vec<u8>,
    stable: Vec<u8>,
    lost: BTreeMap<usize, Vec<u8>>,
}

impl SimDisk {
    /// An empty disk whose every choice follows from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self::over(Rng::new(seed), BTreeMap::new())
    }

    fn over(rng: Rng, images: BTreeMap<String, Image>) -> Self {
        let files: BTreeMap<String, Arc<SimFile>> =
            images.into_iter().map(|(name, image)| (name, Arc::new(SimFile::over(image)))).collect();
        let state = State {
            rng,
            stable_names: files.clone(),
            files,
            operations: 0,
            crash_at: None,
            fail_at: None,
            at_crash: None,
            space: None,
            unreadable: BTreeSet::new(),
        };
        let disk = SimDisk { state: Arc::new(Mutex::new(state)) };
        for file in disk.state.lock().files.values() {
            *file.disk.lock() = Arc::downgrade(&disk.state);
        }
        disk
    }

    /// Operations so far that changed or synced something.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Stops everything just before operation number `operation`, counted from 0.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.state.lock().crash_at = Some(operation);
    }

    /// Makes operation number `operation` fail with an error of the system.
    pub(crate) fn fail_at(&self, operation: u64, errno: i32) {
        self.state.lock().fail_at = Some((operation, errno));
    }

    /// Limits what creating and growing files may take from now on.
    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space = bytes;
    }

    /// True once the chosen operation was reached.
    pub(crate) fn has_crashed(&self) -> bool {
        self.state.lock().at_crash.is_some()
    }

    /// The disk as the next process finds it. The old handles go on with memory of their own.
    pub(crate) fn restart(&self, loss: Loss) -> SimDisk {
        let mut state = self.state.lock();
        let images = match state.at_crash.take() {
            Some(images) => images,
            None => state.images(),
        };
        let mut rng = Rng::new(state.rng.next());
        let found = match loss {
            Loss::Process => images,
            Loss::Power => state.survivors(&images, &mut rng),
        };
        drop(state);
        Self::over(rng, found)
    }

    /// Flips one bit at rest, in cache and on stable storage alike.
    pub(crate) fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        if let Some(file) = self.state.lock().files.get(name) {
            let mut data = file.data.lock();
            let mut bytes = data.cache.to_bytes();
            if let Some(value) = bytes.get_mut(byte) {
                *value ^= 1 << bit;
                data.cache.write(byte, &[*value]);
                let value = *value;
                if let Some(stable) = data.stable.get_mut(byte) {
                    *stable = value;
                }
            }
        }
    }

    /// Names and lengths.
    pub(crate) fn files(&self) -> Vec<(String, usize)> {
        self.state.lock().files.iter().map(|(name, file)| (name.clone(), file.data.lock().bytes)).collect()
    }

    /// Removes a file behind the engine's back.
    pub(crate) fn lose_file(&self, name: &str) {
        let mut state = self.state.lock();
        state.files.remove(name);
        state.stable_names.remove(name);
    }

    /// Lets every open of a file fail with EIO, until the next restart.
    pub(crate) fn make_unreadable(&self, name: &str) {
        self.state.lock().unreadable.insert(name.to_owned());
    }

    /// One operation: whether it may happen, and what the kernel does by the way.
    fn operate(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let number = state.operations;
        state.operations += 1;
        if state.at_crash.is_none() && state.crash_at.is_some_and(|at| number >= at) {
            state.at_crash = Some(state.images());
        }
        if state.at_crash.is_some() {
            return Err(io::Error::other("the simulated machine stopped"));
        }
        state.write_back();
        if let Some((_, errno)) = state.fail_at.filter(|(at, _)| *at == number) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }
}

impl State {
    fn images(&self) -> BTreeMap<String, Image> {
        self.files.iter().map(|(name, file)| (name.clone(), file.image())).collect()
    }

    /// Now and then the kernel writes a sector by itself.
    fn write_back(&mut self) {
        if !self.rng.once_in(4) || self.files.is_empty() {
            return;
        }
        let pick = usize::try_from(self.rng.below(self.files.len() as u64)).unwrap_or(0);
        if let Some(file) = self.files.values().nth(pick) {
            let mut data = file.data.lock();
            let sectors = data.unsynced();
            for sector in sectors {
                if self.rng.once_in(2) {
                    data.settle(sector);
                }
            }
        }
    }

    fn survivors(&self, images: &BTreeMap<String, Image>, rng: &mut Rng) -> BTreeMap<String, Image> {
        let mut names: BTreeMap<String, Image> = BTreeMap::new();
        // A name is certain if both directories have it with the same file; else a coin decides.
        for (name, image) in images {
            let certain = self
                .stable_names
                .get(name)
                .is_some_and(|file| self.files.get(name).is_some_and(|now| Arc::ptr_eq(file, now)));
            if certain || rng.once_in(2) {
                names.insert(name.clone(), image.clone());
            }
        }
        for (name, file) in &self.stable_names {
            if !self.files.contains_key(name) && rng.once_in(2) {
                names.insert(name.clone(), file.image());
            }
        }
        let mode = rng.below(4);
        names.into_iter().map(|(name, image)| (name, image.after_power_loss(mode, rng))).collect()
    }
}

impl Image {
    fn after_power_loss(self, mode: u64, rng: &mut Rng) -> Image {
        // The longer of the two lengths, or the stable one: a length that was not synced may not survive.
        let mut bytes = self.stable.clone();
        if self.cache.len() > bytes.len() && rng.once_in(2) {
            bytes.resize(self.cache.len(), 0);
        }
        if self.cache.len() < bytes.len() && rng.once_in(2) {
            bytes.truncate(self.cache.len());
        }
        for (sector, (from, to)) in self.cache.chunks(SECTOR_BYTES).zip(bytes.chunks_mut(SECTOR_BYTES)).enumerate() {
            let survives = match mode {
                0 => false,
                1 => true,
                _ => rng.once_in(2),
            };
            // What a failed sync lost stays lost, unless it was changed since.
            let lost = self.lost.get(&sector).is_some_and(|then| then == from);
            if survives && !lost && from.len() == to.len() {
                to.copy_from_slice(from);
            }
        }
        Image { cache: bytes.clone(), stable: bytes, lost: BTreeMap::new() }
    }
}

impl SimFile {
    fn over(image: Image) -> Self {
        let data = Data {
            bytes: image.cache.len(),
            cache: Arc::new(HeapMemory::from_bytes(&image.cache)),
            stable: image.stable,
            lost: image.lost,
        };
        SimFile { data: Mutex::new(data), disk: Mutex::default() }
    }

    fn image(&self) -> Image {
        let data = self.data.lock();
        let mut cache = data.cache.to_bytes();
        cache.truncate(data.bytes);
        Image { cache, stable: data.stable.clone(), lost: data.lost.clone() }
    }

    fn operate(&self) -> io::Result<()> {
        self.disk().map_or(Ok(()), |disk| disk.operate())
    }

    fn disk(&self) -> Option<SimDisk> {
        self.disk.lock().upgrade().map(|state| SimDisk { state })
    }
}

impl Data {
    fn cached(&self) -> Vec<u8> {
        let mut cache = self.cache.to_bytes();
        cache.truncate(self.bytes);
        cache
    }

    /// Sectors that a sync would write.
    fn unsynced(&self) -> Vec<usize> {
        let cache = self.cached();
        let sectors = cache.chunks(SECTOR_BYTES).enumerate();
        let differs = |(sector, bytes): &(usize, &[u8])| {
            let from = sector * SECTOR_BYTES;
            self.stable.get(from..from + bytes.len()) != Some(bytes)
                && self.lost.get(sector).is_none_or(|then| then != bytes)
        };
        sectors.filter(differs).map(|(sector, _)| sector).collect()
    }

    /// Copies one sector to stable storage.
    fn settle(&mut self, sector: usize) {
        let cache = self.cached();
        let from = sector * SECTOR_BYTES;
        let to = (from + SECTOR_BYTES).min(cache.len());
        if self.stable.len() < to {
            self.stable.resize(to, 0);
        }
        if let (Some(stable), Some(bytes)) = (self.stable.get_mut(from..to), cache.get(from..to)) {
            stable.copy_from_slice(bytes);
        }
        self.lost.remove(&sector);
    }

    fn sync(&mut self, sectors: &[usize]) {
        for sector in sectors {
            self.settle(*sector);
        }
        self.stable.resize(self.bytes, 0);
    }

    fn fail_sync(&mut self, sectors: &[usize], rng: &mut Rng) {
        let cache = self.cached();
        for sector in sectors {
            if rng.once_in(2) {
                self.settle(*sector);
            } else {
                let from = sector * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(cache.len());
                self.lost.insert(*sector, cache.get(from..to).unwrap_or_default().to_vec());
            }
        }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.data.lock().bytes as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let cache = self.data.lock().cached();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = from.checked_add(buf.len()).and_then(|to| cache.get(from..to));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operate()?;
        let mut data = self.data.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes.len());
        if to > data.bytes {
            if let Some(disk) = self.disk() {
                take_space(&mut disk.state.lock(), (to - data.bytes) as u64)?;
            }
            let mut grown = data.cached();
            grown.resize(to, 0);
            data.cache = Arc::new(HeapMemory::from_bytes(&grown));
            data.bytes = to;
        }
        data.cache.write(from, bytes);
        // Written again: dirty again, whatever a failed sync said.
        let sectors = from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES);
        data.lost.retain(|sector, _| !sectors.contains(sector));
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.operate()?;
        let mut data = self.data.lock();
        let mut bytes = data.cached();
        bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        data.bytes = bytes.len();
        data.cache = Arc::new(HeapMemory::from_bytes(&bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_range(0..u64::MAX)
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        let outcome = self.operate();
        let disk = self.disk();
        let crashed = disk.as_ref().is_some_and(SimDisk::has_crashed);
        let mut data = self.data.lock();
        let in_range = |sector: &usize| {
            let from = (sector * SECTOR_BYTES) as u64;
            from < range.end && from + SECTOR_BYTES as u64 > range.start
        };
        let sectors: Vec<usize> = data.unsynced().into_iter().filter(in_range).collect();
        match outcome {
            Ok(()) => data.sync(&sectors),
            Err(_) if crashed => {}
            Err(_) => {
                if let Some(disk) = disk {
                    data.fail_sync(&sectors, &mut disk.state.lock().rng);
                }
            }
        }
        outcome
    }

    fn map(&self) -> io::Result<Region> {
        Ok(self.data.lock().cache.region())
    }
}

fn take_space(state: &mut State, bytes: u64) -> io::Result<()> {
    if let Some(space) = &mut state.space {
        *space = space.checked_sub(bytes).ok_or_else(|| io::Error::from_raw_os_error(ENOSPC))?;
    }
    Ok(())
}

/// Input/output error.
const EIO: i32 = 5;
/// No space left on device.
pub(super) const ENOSPC: i32 = 28;

impl Storage for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64, _prepare: Prepare) -> io::Result<Arc<dyn File>> {
        self.operate()?;
        let mut state = self.state.lock();
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        take_space(&mut state, len)?;
        let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
        let file = Arc::new(SimFile::over(Image { cache: zeros.clone(), stable: zeros, lost: BTreeMap::new() }));
        *file.disk.lock() = Arc::downgrade(&self.state);
        state.files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let state = self.state.lock();
        if state.unreadable.contains(name) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state.files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.lock();
        let file = state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        if let Some(space) = &mut state.space {
            *space += file.data.lock().bytes as u64;
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.lock();
        state.stable_names = state.files.clone();
        Ok(())
    }

    fn random(&self) -> u64 {
        self.state.lock().rng.next()
    }

    fn medium(&self) -> Medium {
        Medium::Local
    }
}
