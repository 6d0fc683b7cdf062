//! The simulated disk.
//!
//! # The model
//!
//! A file is two copies: the *cache*, which the engine maps, reads and writes, and the *stable* bytes. A sector
//! of 512 bytes in which they differ is unsynced: at a power loss it survives or not, each by itself. A sync copies
//! the cache's sectors to the stable bytes. A sync that fails copies a random part of them and marks all as
//! clean: the cache goes on showing the new bytes, through restarts of the process too, a later sync skips them and
//! succeeds, and only writing them again makes them dirty. At random moments single sectors are written back by
//! themselves, so that an older value than the last may be what survives.
//!
//! Creating and removing names are volatile until the directory is synced, a file's length until the file is; at a
//! power loss each survives or not, in any order. A file's bytes at its creation are durable when `create` returns, as
//! the trait promises, if the name survives.
//!
//! Everything stops at an operation that was chosen: it and all later ones fail and change nothing. What the
//! cache held at that instant is kept, because an engine that goes on for a while may still store into its
//! maps.
//!
//! # What it counts
//!
//! *Operations* change or sync something: a crash comes before one of them, and a crash anywhere between two is the same
//! as before the second. *Calls* are all verbs, looking included: each may be made to fail, once or from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::rng::Rng;
use crate::storage::{File, Medium, Prepare, Storage};
use crate::sync::Mutex;

mod chunks;
mod failing;
mod file;
mod image;

use chunks::Chunks;
pub(crate) use failing::{Call, Failing, Which};
use failing::{EIO, ENOSPC};
use file::SimFile;
use image::{Image, Images};

/// What a restart forgets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

pub(super) struct State {
    rng: Rng,
    files: BTreeMap<String, Arc<SimFile>>,
    /// Directory as stable storage has it: name → file.
    stable_names: BTreeMap<String, Arc<SimFile>>,
    operations: u64,
    calls: u64,
    crash_at: Option<u64>,
    /// An operation by its number, with its error.
    fail_at: Option<(u64, i32)>,
    failing: Option<Failing>,
    faults: u64,
    look_faults: u64,
    /// The kernel writes nothing back by itself.
    still: bool,
    /// The cache of every file at the instant of the crash.
    at_crash: Option<Images>,
    /// Free bytes; creating and growing take from it.
    space: Option<u64>,
    /// Files that answer every open with an error of the medium.
    unreadable: BTreeSet<String>,
}

impl SimDisk {
    /// An empty disk whose every choice follows from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self::over(Rng::new(seed), Images::new(), false)
    }

    fn over(rng: Rng, images: Images, still: bool) -> Self {
        let state = Arc::new_cyclic(|own: &Weak<Mutex<State>>| {
            let file = |(name, image)| (name, Arc::new(SimFile::over(image, own.clone())));
            let files: BTreeMap<String, Arc<SimFile>> = images.into_iter().map(file).collect();
            Mutex::new(State {
                rng,
                stable_names: files.clone(),
                files,
                operations: 0,
                calls: 0,
                crash_at: None,
                fail_at: None,
                failing: None,
                faults: 0,
                look_faults: 0,
                still,
                at_crash: None,
                space: None,
                unreadable: BTreeSet::new(),
            })
        });
        SimDisk { state }
    }

    /// Operations so far that changed or synced something.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Calls so far, looking included.
    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Calls that failed because they were told to, or for want of space.
    pub(crate) fn faults(&self) -> u64 {
        self.state.lock().faults
    }

    /// Those of them that only wanted to look.
    pub(crate) fn look_faults(&self) -> u64 {
        self.state.lock().look_faults
    }

    /// Stops everything just before operation number `operation`, counted from 0.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.state.lock().crash_at = Some(operation);
    }

    /// Stops everything now.
    pub(crate) fn crash(&self) {
        let mut state = self.state.lock();
        if state.at_crash.is_none() {
            state.at_crash = Some(state.images());
        }
    }

    /// Makes operation number `operation` fail with an error of the system.
    #[cfg(test)]
    pub(crate) fn fail_at(&self, operation: u64, errno: i32) {
        self.state.lock().fail_at = Some((operation, errno));
    }

    /// Makes a call fail, or all from it on; `None` ends that.
    pub(crate) fn set_failing(&self, failing: Option<Failing>) {
        self.state.lock().failing = failing;
    }

    /// Limits what creating and growing files may take from now on.
    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space = bytes;
    }

    /// From now on nothing is written back but by a sync.
    pub(crate) fn keep_still(&self) {
        self.state.lock().still = true;
    }

    /// True once the chosen operation was reached.
    pub(crate) fn has_crashed(&self) -> bool {
        self.state.lock().at_crash.is_some()
    }

    /// True if the operation that was chosen was reached.
    pub(crate) fn has_crashed_by_itself(&self) -> bool {
        let state = self.state.lock();
        state.crash_at.is_some_and(|at| state.operations > at)
    }

    /// The disk as the next process finds it. The old handles go on with memory of their own.
    pub(crate) fn restart(&self, loss: Loss) -> SimDisk {
        let mut rng = Rng::new(self.state.lock().rng.next());
        if loss == Loss::Process {
            return self.restart_with(rng, None);
        }
        let mode = rng.below(4);
        let mut coins = rng.clone();
        let mut survives = || match mode {
            0 => false,
            1 => true,
            _ => coins.once_in(2),
        };
        self.restart_with(rng, Some(&mut survives))
    }

    /// As after a power loss that keeps exactly what `survives` says; the same question comes in the same place each time.
    pub(crate) fn restart_keeping(&self, survives: &mut dyn FnMut() -> bool) -> SimDisk {
        let rng = Rng::new(self.state.lock().rng.clone().next());
        self.restart_with(rng, Some(survives))
    }

    fn restart_with(&self, rng: Rng, survives: Option<&mut dyn FnMut() -> bool>) -> SimDisk {
        let state = self.state.lock();
        let images = state.at_crash.clone().unwrap_or_else(|| state.images());
        let found = match survives {
            None => images,
            Some(survives) => state.survivors(&images, survives),
        };
        let still = state.still;
        drop(state);
        Self::over(rng, found, still)
    }

    /// Flips one bit at rest, in cache and on stable storage alike.
    pub(crate) fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        if let Some(file) = self.state.lock().files.get(name) {
            let mut data = file.data.lock();
            if byte < data.bytes() {
                data.flip(byte, bit);
            }
        }
    }

    /// Cuts a file at rest.
    pub(crate) fn cut_file(&self, name: &str, bytes: usize) {
        if let Some(file) = self.state.lock().files.get(name) {
            file.data.lock().cut(bytes);
        }
    }

    /// Names and lengths.
    pub(crate) fn files(&self) -> Vec<(String, usize)> {
        self.state.lock().files.iter().map(|(name, file)| (name.clone(), file.data.lock().bytes())).collect()
    }

    /// The sectors of a file that hold anything.
    pub(crate) fn used_sectors(&self, name: &str) -> Vec<usize> {
        let state = self.state.lock();
        state.files.get(name).map(|file| file.image().used_sectors()).unwrap_or_default()
    }

    /// A checksum over all names and bytes, cached and stable.
    pub(crate) fn fingerprint(&self) -> u32 {
        let state = self.state.lock();
        let mut crc = crc32fast::Hasher::new();
        for (name, image) in state.images() {
            crc.update(name.as_bytes());
            crc.update(&image.cache.to_vec());
            crc.update(&image.stable.to_vec());
        }
        crc.finalize()
    }

    /// The bytes of one sector as everybody sees them.
    pub(crate) fn sector(&self, name: &str, sector: usize) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.files.get(name).map(|file| file.image().cache.sector(sector).to_vec())
    }

    /// Removes a file behind the engine's back.
    pub(crate) fn lose_file(&self, name: &str) {
        let mut state = self.state.lock();
        state.files.remove(name);
        state.stable_names.remove(name);
    }

    /// Copies a file under a second name behind the engine's back.
    pub(crate) fn double_file(&self, name: &str, to: &str) {
        let mut state = self.state.lock();
        if let Some(image) = state.files.get(name).map(|file| file.image()) {
            let copy = Arc::new(SimFile::over(image, Arc::downgrade(&self.state)));
            state.files.insert(to.to_owned(), Arc::clone(&copy));
            state.stable_names.insert(to.to_owned(), copy);
        }
    }

    /// Lets every open of a file fail with EIO, until the next restart.
    #[cfg(test)]
    pub(crate) fn make_unreadable(&self, name: &str) {
        self.state.lock().unreadable.insert(name.to_owned());
    }

    /// From now on it is noted which sectors of the files that are there are looked at.
    pub(crate) fn watch(&self) {
        self.state.lock().files.values().for_each(|file| file.data.lock().watch());
    }

    /// The sectors of a file that were looked at since [`SimDisk::watch`].
    pub(crate) fn seen(&self, name: &str) -> BTreeSet<usize> {
        let state = self.state.lock();
        state.files.get(name).and_then(|file| file.data.lock().seen().cloned()).unwrap_or_default()
    }

    /// The kernel writes some sectors by itself, as it may at any time.
    pub(crate) fn write_back(&self) {
        self.state.lock().write_back();
    }

    /// One call: whether it may happen, and what the kernel does by the way.
    fn call(&self, call: Call) -> io::Result<()> {
        let mut state = self.state.lock();
        let number = state.calls;
        state.calls += 1;
        if call.is_operation() {
            state.operate()?;
        }
        if let Some(errno) = Failing::strikes(&mut state.failing, number, call) {
            state.faults += 1;
            state.look_faults += u64::from(!call.is_operation());
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }

    /// Up to where a write that fails gets.
    fn part_of(&self, range: Range<usize>) -> usize {
        let mut state = self.state.lock();
        match state.at_crash {
            Some(_) => 0,
            None => range.start + usize::try_from(state.rng.below(range.len() as u64 + 1)).unwrap_or(0),
        }
    }

    /// A stream of choices of its own.
    fn fork_rng(&self) -> Rng {
        self.state.lock().rng.clone()
    }

    fn take_space(&self, bytes: u64) -> io::Result<()> {
        self.state.lock().take_space(bytes)
    }
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.at_crash.is_none() && self.crash_at.is_some_and(|at| number >= at) {
            self.at_crash = Some(self.images());
        }
        if self.at_crash.is_some() {
            return Err(io::Error::other("the simulated machine stopped"));
        }
        if self.rng.once_in(4) {
            self.write_back();
        }
        if let Some((_, errno)) = self.fail_at.filter(|(at, _)| *at == number) {
            self.faults += 1;
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }

    fn write_back(&mut self) {
        if self.still || self.files.is_empty() {
            return;
        }
        let pick = usize::try_from(self.rng.below(self.files.len() as u64)).unwrap_or(0);
        if let Some(file) = self.files.values().nth(pick) {
            let mut data = file.data.lock();
            for sector in data.unsynced(0..u64::MAX) {
                if self.rng.once_in(2) {
                    data.settle(sector);
                }
            }
        }
    }

    fn take_space(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(space) = &mut self.space {
            match space.checked_sub(bytes) {
                Some(left) => *space = left,
                None => {
                    self.faults += 1;
                    return Err(io::Error::from_raw_os_error(ENOSPC));
                }
            }
        }
        Ok(())
    }
}

impl Storage for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.call(Call::List)?;
        Ok(self.state.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64, _prepare: Prepare) -> io::Result<Arc<dyn File>> {
        self.call(Call::Create)?;
        let mut state = self.state.lock();
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.take_space(len)?;
        let zeros = Chunks::zeros(usize::try_from(len).unwrap_or(0));
        let image = Image { cache: zeros.clone(), stable: zeros, lost: BTreeMap::new() };
        let file = Arc::new(SimFile::over(image, Arc::downgrade(&self.state)));
        state.files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.call(Call::Open)?;
        let state = self.state.lock();
        if state.unreadable.contains(name) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state.files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::Remove)?;
        let mut state = self.state.lock();
        let file = state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        if let Some(space) = &mut state.space {
            *space += file.data.lock().bytes() as u64;
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call(Call::SyncDir)?;
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
