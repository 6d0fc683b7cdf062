//! Both ways sync the same and say the same; where the kernel refuses the ring, all of it goes by calls.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::*;
use crate::storage::disk::DiskStorage;
use crate::storage::{File, Prepare, Region, Storage};

const BYTES: u64 = 1 << 16;

/// A file that is none: a pipe, which can't be synced.
struct Pipe(OwnedFd);

impl File for Pipe {
    fn len(&self) -> io::Result<u64> {
        Ok(BYTES)
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        Err(Errno::SPIPE.into())
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(Errno::SPIPE.into())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(Errno::INVAL.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn sync_range(&self, _range: Range<u64>) -> io::Result<()> {
        self.sync()
    }

    fn map(&self) -> io::Result<Region> {
        Err(Errno::NODEV.into())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

fn nanos() -> u64 {
    0
}

fn pipe() -> Unsynced {
    Unsynced { file: Arc::new(Pipe(OwnedFd::from(std::io::pipe().unwrap().0))), range: 0..BYTES }
}

/// So many files of a directory, each with bytes that wait for a sync.
fn files(disk: &DiskStorage, count: usize) -> Vec<Unsynced> {
    let file = |number: usize| {
        let file = disk.create(&format!("{number}"), BYTES, Prepare::Small).unwrap();
        file.write_at(4096, &[7; 8192]).unwrap();
        Unsynced { file, range: 5000..12_288 }
    };
    (0..count).map(file).collect()
}

#[test]
fn each_sync_has_its_own_outcome_in_either_way() {
    for path in [SyncPath::Calls, SyncPath::Ring, SyncPath::Faster] {
        let place = tempfile::tempdir().unwrap();
        let disk = DiskStorage::open(place.path()).unwrap();
        let syncs = Syncs::new(path, nanos);
        // More than the ring has entries.
        let mut wanted = files(&disk, ENTRIES as usize + 6);
        let outcomes = syncs.sync(&wanted);
        assert!(outcomes.len() == wanted.len() && outcomes.iter().all(Result::is_ok), "{path:?}: {outcomes:?}");
        wanted[3].file.truncate(8192).unwrap();
        wanted[66] = pipe();
        for _ in 0..3 {
            let failed =
                syncs.sync(&wanted).into_iter().enumerate().filter_map(|(at, outcome)| Some((at, outcome.err()?)));
            let failed: Vec<_> = failed.map(|(at, error)| (at, error.kind())).collect();
            let expected = [(3, io::ErrorKind::UnexpectedEof), (66, io::ErrorKind::InvalidInput)];
            assert_eq!(failed, expected, "{path:?}, {:?}", syncs.chosen());
        }
        assert!(syncs.sync(&[]).is_empty());
    }
}

#[test]
fn a_ring_that_is_taken_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(place.path()).unwrap();
    let syncs = Syncs::new(SyncPath::Ring, nanos);
    let wanted = files(&disk, 3);
    assert!(syncs.sync(&wanted).iter().all(Result::is_ok));
    let _taken = syncs.ring.get_or_init(|| unreachable!("it is there")).lock();
    assert!(syncs.by_ring(&wanted).is_none());
    assert!(syncs.sync(&wanted).iter().all(Result::is_ok), "by calls");
}

#[test]
fn without_a_ring_all_goes_by_calls_and_it_is_said_why() {
    let place = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(place.path()).unwrap();
    let wanted = files(&disk, 3);
    for path in [SyncPath::Ring, SyncPath::Faster] {
        let syncs = Syncs::new(path, nanos);
        let _refused = syncs.ring.set(Mutex::new(None));
        syncs.trial.lock().refused = Some(io::Error::from(Errno::PERM).to_string());
        assert!(syncs.sync(&wanted).iter().all(Result::is_ok));
        let SyncChoice { path, why } = syncs.chosen();
        assert_eq!(path, SyncPath::Calls);
        assert!(why.contains("io_uring") && why.contains("not permitted"), "{why}");
    }
}

#[test]
fn both_ways_are_tried_in_turn_and_the_faster_one_stays() {
    for (calls, ring, faster) in [(300, 200, SyncPath::Ring), (200, 300, SyncPath::Calls), (5, 5, SyncPath::Calls)] {
        let syncs = Syncs::new(SyncPath::Faster, nanos);
        let mut taken = Vec::new();
        for _ in 0..2 * TRIALS {
            assert_eq!(syncs.chosen().path, SyncPath::Faster);
            let next = syncs.next();
            taken.push(next);
            let is_by_ring = next == SyncPath::Ring;
            syncs.trial.lock().note(is_by_ring, if is_by_ring { ring } else { calls } * 1000);
        }
        assert_eq!(taken[..4], [SyncPath::Calls, SyncPath::Ring, SyncPath::Calls, SyncPath::Ring]);
        assert_eq!((syncs.next(), syncs.chosen().path), (faster, faster));
        let why = syncs.chosen().why;
        assert!(why.contains(&format!("{calls} µs by calls and {ring} µs by the ring")), "{why}");
        // What comes later changes nothing.
        syncs.trial.lock().note(true, 1);
        assert_eq!(syncs.next(), faster);
    }
}

#[test]
fn one_file_goes_by_its_own_call() {
    let place = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(place.path()).unwrap();
    let syncs = Syncs::new(SyncPath::Ring, nanos);
    assert!(syncs.sync(&files(&disk, 1)).iter().all(Result::is_ok));
    assert!(syncs.ring.get().is_none(), "no ring was made for it");
}
