//! Models of append and commit: the log's own code, over every order that loom's memory model allows.
//!
//! What must hold: whoever sees the durable watermark above a record finds that record, whole, on stable storage; a
//! commit covers what was published before it began, unless a claim before that is open; and no watermark goes back.

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use loom::thread;

use super::{NOW, PRELUDE};
use crate::format::record::{self, Found, Kind, Life};
use crate::log::append::{Appended, Birth, Draft, Log};
use crate::log::ready::Ready;
use crate::sabotage::Bug;
use crate::storage::memory::HeapMemory;
use crate::storage::{File, Region};
use crate::sync::atomic::Ordering;
use crate::sync::model::{catches, explore};
use crate::types::{LogId, QueueId};

/// Room for a few records behind the prelude.
const BYTES: usize = 1024;
const SALT: u64 = 5;
const BASE: u64 = 1;

/// A file whose stable bytes are those that a sync found in memory. No lock of loom's: what is on a platter needs no
/// order.
struct Device {
    memory: Arc<HeapMemory>,
    stable: std::sync::Mutex<Vec<u8>>,
}

impl Device {
    fn stable(&self) -> Vec<u8> {
        self.stable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl File for Device {
    fn len(&self) -> io::Result<u64> {
        Ok(BYTES as u64)
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        unreachable!("nothing is cold")
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        unreachable!("the map is written")
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        unreachable!("nothing is cut")
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_range(0..BYTES as u64)
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let now = self.memory.to_bytes();
        let mut stable = self.stable.lock().unwrap_or_else(PoisonError::into_inner);
        stable[range.clone()].copy_from_slice(&now[range]);
        Ok(())
    }

    fn map(&self) -> io::Result<Region> {
        Ok(self.memory.region())
    }
}

struct Stage {
    log: Log,
    device: Arc<Device>,
}

impl Stage {
    /// A log with a life.
    fn new() -> Arc<Self> {
        let stage = Stage::empty();
        stage.roll();
        stage
    }

    /// A log that has none yet.
    fn empty() -> Arc<Self> {
        let memory = Arc::new(HeapMemory::from_bytes(&[0; BYTES]));
        let device = Arc::new(Device { memory, stable: std::sync::Mutex::new(vec![0; BYTES]) });
        Arc::new(Stage { log: Log::new(LogId(0), Vec::new(), 0), device })
    }

    fn roll(&self) {
        let file: Arc<dyn File> = Arc::<Device>::clone(&self.device);
        let region = file.map().unwrap();
        let birth = Birth { queue: QueueId(1), base: BASE, salt: SALT, created: NOW };
        assert!(self.log.roll(Ready { number: 1, bytes: BYTES as u64, file, region }, 0, &birth).is_none());
    }

    fn append(&self) -> Appended {
        let draft = Draft { kind: Kind::Task, flags: 0, fields: &[], payload: b"payload" };
        self.log.append(&draft, NOW).expect("there is room")
    }

    /// Appends and waits for its commit; a commit may end at somebody who is still filling.
    fn append_durably(&self) {
        let appended = self.append();
        let mut before = 0;
        loop {
            let durable = self.log.commit(NOW, false).expect("the device is well");
            assert!(durable >= before, "the watermark only grows");
            before = durable;
            self.check();
            if durable >= appended.end {
                return;
            }
            crate::sync::yield_now();
        }
    }

    /// Everything below the durable watermark is on stable storage, record by record. Gives the watermark.
    fn check(&self) -> u64 {
        let durable = self.log.durable();
        let stable = self.device.stable();
        let life = Life { salt: SALT, base: BASE };
        let mut at = PRELUDE;
        while u64::from(at) < durable {
            let extent = &stable[at as usize..];
            let Found::Record(header) = record::read(life, at, extent) else {
                panic!("durable up to {durable}, and no record is stable at {at}")
            };
            assert!(record::verify(life, &header, extent).is_some(), "a durable record at {at} is whole");
            at += header.bytes;
        }
        durable
    }
}

/// Two producers that wait for their own commits; whoever looks meanwhile finds what the watermark says.
fn two_that_commit() {
    let stage = Stage::new();
    let others = [0, 1].map(|_| {
        let stage = Arc::clone(&stage);
        thread::spawn(move || stage.append_durably())
    });
    let before = stage.check();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert!(stage.check() >= before, "the watermark only grows");
    assert!(!stage.log.has_unsynced(), "both are durable");
}

/// One thread commits while another appends.
fn commit_beside_an_append() {
    let stage = Stage::new();
    let first = stage.append();
    let committer = {
        let stage = Arc::clone(&stage);
        thread::spawn(move || {
            let durable = stage.log.commit(NOW, false).expect("the device is well");
            assert!(durable >= first.end, "what was published before the commit began is covered");
            stage.check();
        })
    };
    let second = stage.append();
    committer.join().unwrap();
    let durable = stage.log.commit(NOW, false).expect("the device is well");
    assert!(durable >= second.end, "and so is what came meanwhile, by the next");
    stage.check();
}

/// A checkpoint looks where replay will begin while the first life is attached: what is appended after the look lies there
/// or behind it.
fn look_beside_the_first_life() {
    let stage = Stage::empty();
    let looked = Arc::new(loom::sync::atomic::AtomicBool::new(false));
    let looker = {
        let (stage, looked) = (Arc::clone(&stage), Arc::clone(&looked));
        thread::spawn(move || {
            let place = stage.log.next_place();
            looked.store(true, Ordering::Release);
            place
        })
    };
    stage.roll();
    let before = looked.load(Ordering::Acquire);
    let seq = stage.append().first;
    let place = looker.join().unwrap();
    assert!(!before || place.base <= seq.0, "an entry behind the look at {place:?} is passed over: {seq}");
}

#[test]
fn model_of_a_look_where_replay_begins_beside_the_first_life() {
    explore("a look at the head, the first life", None, look_beside_the_first_life);
}

#[test]
fn model_of_a_commit_beside_an_append() {
    explore("an append, a commit", None, commit_beside_an_append);
}

#[test]
fn model_of_two_producers_that_wait_for_their_commits() {
    explore("two producers that commit, an observer", Some(4), two_that_commit);
}

#[test]
fn model_catches_a_commit_that_acknowledges_more_than_it_synced() {
    catches(Bug::LateAck, "and no record is stable at", Some(2), two_that_commit);
}
