//! The scratch file: bytes that the process alone needs, in places of one size.
//!
//! It is made when first something is to be written, and its name goes at once: whatever ends the process, the space is
//! given back with it, and no listing, look or recovery ever meets it. Only a process that dies between the two leaves a
//! name, which the next open sweeps. Nothing is ever synced, nothing mapped: a failed read or write is told to the caller,
//! who has other means ([`crate::delivery::far`]), and poisons nothing.
//!
//! Its lock is taken last, under a group's.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::delivery::far::Scratch;
use crate::storage::{File, Prepare, Storage};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Its name, as long as it has one.
pub(crate) const SCRATCH_FILE: &str = "scratch";
/// What it begins with; it grows as it is written.
const FIRST_BYTES: u64 = 4 << 10;

/// Makes the file when it is first needed.
pub(crate) struct ScratchFile {
    storage: Arc<dyn Storage>,
    numbers: AtomicU64,
    places: Mutex<Places>,
}

/// What of the file is in use.
#[derive(Default)]
struct Places {
    file: Option<Arc<dyn File>>,
    /// Of each place: what was written first.
    bytes: u64,
    /// Places so far, and those of them that are free. The last one is never free.
    count: u64,
    free: BTreeSet<u64>,
}

impl ScratchFile {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        ScratchFile { storage, numbers: AtomicU64::new(1), places: Mutex::new(Places::default()) }
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let places = self.places.lock();
        places.count * places.bytes
    }

    /// Removes the name that an earlier process left.
    pub(crate) fn sweep(storage: &dyn Storage) {
        // What can't be removed now is found again at the next open.
        let _later = storage.remove(SCRATCH_FILE);
    }

    fn make(&self) -> io::Result<Arc<dyn File>> {
        let create = || self.storage.create(SCRATCH_FILE, FIRST_BYTES, Prepare::Rare);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::sweep(&*self.storage);
                create()?
            }
            made => made?,
        };
        Self::sweep(&*self.storage);
        Ok(file)
    }
}

impl Scratch for ScratchFile {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut places = self.places.lock();
        let file = match &places.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(places.file.insert(self.make()?)),
        };
        if places.count == 0 {
            places.bytes = bytes.len() as u64;
        }
        if places.bytes != bytes.len() as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // The lowest first, so that the file can be cut as its end gets free.
        let place = places.free.first().copied().unwrap_or(places.count);
        file.write_at(place * places.bytes, bytes)?;
        if !places.free.remove(&place) {
            places.count += 1;
        }
        Ok(place)
    }

    fn read(&self, place: u64, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (file, at) = {
            let places = self.places.lock();
            (places.file.clone(), place * places.bytes + offset)
        };
        file.ok_or(io::ErrorKind::NotFound)?.read_at(at, buf)
    }

    fn give_back(&self, place: u64) {
        let mut places = self.places.lock();
        places.free.insert(place);
        let before = places.count;
        while places.count > 0 && places.free.last() == Some(&(places.count - 1)) {
            places.free.pop_last();
            places.count -= 1;
        }
        if places.count < before
            && let Some(file) = &places.file
        {
            // The space is wanted back; if it can't be had, the next run is written over it.
            let _stays = file.truncate(places.count * places.bytes);
        }
    }
}
