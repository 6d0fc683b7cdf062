//! The plainest disk: named bytes in memory, which never forget and never fail but for want of space.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::memory::HeapMemory;
use crate::storage::{File, Medium, Prepare, Region, Storage};
use crate::sync::Mutex;

/// Names and bytes.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes that creating and growing files may take: hostile sizes must not decide how much memory a run takes.
const SPACE_BYTES: u64 = 4 << 20;

pub(super) struct PlainDisk {
    state: Mutex<State>,
}

struct State {
    files: BTreeMap<String, Arc<PlainFile>>,
    space: u64,
    /// How often [`Storage::random`] was asked, spread: every run draws the same.
    random: u64,
}

struct PlainFile {
    memory: Mutex<(Arc<HeapMemory>, usize)>,
}

impl PlainDisk {
    pub(super) fn over(files: &Files) -> Self {
        let files = files.iter().map(|(name, bytes)| (name.clone(), Arc::new(PlainFile::over(bytes))));
        let state = State { files: files.collect(), space: SPACE_BYTES, random: 0 };
        PlainDisk { state: Mutex::new(state) }
    }

    /// Everything as it is now.
    pub(super) fn files(&self) -> Files {
        self.state.lock().files.iter().map(|(name, file)| (name.clone(), file.bytes())).collect()
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.space = state.space.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl PlainFile {
    fn over(bytes: &[u8]) -> Self {
        PlainFile { memory: Mutex::new((Arc::new(HeapMemory::from_bytes(bytes)), bytes.len())) }
    }

    fn bytes(&self) -> Vec<u8> {
        let (memory, length) = &*self.memory.lock();
        let mut bytes = memory.to_bytes();
        bytes.truncate(*length);
        bytes
    }

    /// Gives the file another length; maps that exist keep the old bytes.
    fn resize(&self, length: usize) {
        let mut bytes = self.bytes();
        bytes.resize(length, 0);
        *self.memory.lock() = (Arc::new(HeapMemory::from_bytes(&bytes)), length);
    }
}

impl Storage for PlainDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64, _prepare: Prepare) -> io::Result<Arc<dyn File>> {
        if self.state.lock().files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.take(len)?;
        let file = Arc::new(PlainFile::over(&vec![0; usize::try_from(len).unwrap_or(0)]));
        self.state.lock().files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.state.lock().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.state.lock().files.remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> u64 {
        let mut state = self.state.lock();
        // The step of splitmix64 is odd, so no salt comes twice.
        state.random = state.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.random ^ (state.random >> 29)
    }

    fn medium(&self) -> Medium {
        Medium::Local
    }
}

impl File for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.memory.lock().1 as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (memory, length) = &*self.memory.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from.checked_add(buf.len()).is_none_or(|to| to > *length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        memory.read(from, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes.len());
        if to > self.memory.lock().1 {
            if to as u64 > SPACE_BYTES {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.resize(to);
        }
        self.memory.lock().0.write(from, bytes);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let length = self.memory.lock().1;
        self.resize(length.min(usize::try_from(len).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        if range.end > self.memory.lock().1 as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Region> {
        Ok(self.memory.lock().0.region())
    }
}
