//! One file on a disk that loses what was not synced, sector by sector, and fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::{File, Region};

const SECTOR_BYTES: usize = 512;

/// A seeded source of numbers (splitmix64).
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

pub(super) struct Disk(Mutex<State>);

#[derive(Clone, Default)]
struct State {
    /// What a reader sees.
    live: Vec<u8>,
    /// What stable storage has.
    durable: Vec<u8>,
    /// By sector: every content that was written and not synced, oldest first.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Writes and syncs still to succeed before the power goes; `None`: it stays.
    calls_left: Option<u64>,
    /// How many syncs succeed before one fails; `None`: all do.
    syncs_left: Option<u64>,
    bytes_max: Option<usize>,
    unwritable: bool,
    unreadable: Vec<Range<u64>>,
    /// Offset and length of each write since the record was last taken.
    writes: Vec<(u64, usize)>,
}

impl Disk {
    pub(super) fn zeroed(bytes: u64) -> Arc<Disk> {
        Disk::holding(vec![0; usize::try_from(bytes).unwrap()])
    }

    pub(super) fn holding(bytes: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk(Mutex::new(State { live: bytes.clone(), durable: bytes, ..State::default() })))
    }

    pub(super) fn live(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    pub(super) fn overwrite(&self, offset: u64, bytes: &[u8]) {
        let (mut state, at) = (self.state(), usize::try_from(offset).unwrap());
        state.live[at..at + bytes.len()].copy_from_slice(bytes);
        state.durable[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn flip(&self, bit: u64) {
        let (mut state, at) = (self.state(), usize::try_from(bit / 8).unwrap());
        state.live[at] ^= 1 << (bit % 8);
    }

    pub(super) fn cut_power_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    pub(super) fn fail_sync_after(&self, syncs: u64) {
        self.state().syncs_left = Some(syncs);
    }

    pub(super) fn refuse_writes(&self) {
        self.state().unwritable = true;
    }

    pub(super) fn limit(&self, bytes: Option<u64>) {
        self.state().bytes_max = bytes.map(|bytes| usize::try_from(bytes).unwrap());
    }

    pub(super) fn make_unreadable(&self, range: Range<u64>) {
        self.state().unreadable.push(range);
    }

    pub(super) fn take_writes(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.state().writes)
    }

    /// The disk after a power loss: each unsynced sector holds any of the contents it ever had since its sync.
    pub(super) fn after_power_loss(&self, random: &mut Random) -> Arc<Disk> {
        let state = self.state();
        let mut bytes = state.durable.clone();
        if random.below(2) == 0 {
            bytes.resize(state.live.len().max(bytes.len()), 0);
        }
        for (sector, contents) in &state.unsynced {
            let pick = usize::try_from(random.below(contents.len() as u64 + 1)).unwrap();
            let at = sector * SECTOR_BYTES;
            if let (Some(content), true) = (contents.get(pick), at < bytes.len()) {
                let end = bytes.len().min(at + content.len());
                bytes[at..end].copy_from_slice(&content[..end - at]);
            }
        }
        Disk::holding(bytes)
    }

    /// The same file after its process was killed: the page cache is what it was.
    pub(super) fn after_kill(&self) -> Arc<Disk> {
        let state = self.state().clone();
        Arc::new(Disk(Mutex::new(State { calls_left: None, syncs_left: None, ..state })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn spend_call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
        }
        self.live[at..end].copy_from_slice(bytes);
        for sector in at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = sector * SECTOR_BYTES;
            let to = self.live.len().min(from + SECTOR_BYTES);
            self.unsynced.entry(sector).or_default().push(self.live[from..to].to_vec());
        }
    }
}

impl File for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().live.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let end = offset + buf.len() as u64;
        if state.unreadable.iter().any(|range| range.start < end && offset < range.end) {
            return Err(io::Error::other("unreadable sector"));
        }
        let at = usize::try_from(offset).unwrap();
        let there = state.live.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(there);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let at = usize::try_from(offset).unwrap();
        if state.unwritable {
            return Err(io::Error::other("the device refuses writes"));
        }
        if state.bytes_max.is_some_and(|max| at + bytes.len() > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let powered = state.spend_call();
        // The call that the power cut meets may still have reached the disk, in part.
        state.write(at, bytes);
        state.writes.push((offset, bytes.len()));
        powered
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.state().live.truncate(usize::try_from(len).unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend_call()?;
        if state.syncs_left == Some(0) {
            // As after a failed fsync: what was dirty counts as clean, stays readable, and is never written.
            state.syncs_left = None;
            state.unsynced.clear();
            return Err(io::Error::other("the sync failed"));
        }
        state.syncs_left = state.syncs_left.map(|left| left - 1);
        let unsynced = std::mem::take(&mut state.unsynced);
        let bytes = state.live.len();
        state.durable.resize(bytes, 0);
        for (sector, contents) in unsynced {
            let at = sector * SECTOR_BYTES;
            let last = contents.last().unwrap();
            state.durable[at..at + last.len()].copy_from_slice(last);
        }
        Ok(())
    }

    fn sync_range(&self, _range: Range<u64>) -> io::Result<()> {
        self.sync()
    }

    fn map(&self) -> io::Result<Region> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
