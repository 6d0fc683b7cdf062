//! What the promise tests share.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper fails the test that called it")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lanelog::{Consumer, Delivery, Options, Queue, Reserve};

/// A directory that goes when the test ends, and where the queue lies in it.
pub struct Place {
    _dir: tempfile::TempDir,
    pub path: PathBuf,
}

pub fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    Place { _dir: dir, path }
}

/// Small segments, so that a few tasks roll.
pub fn small() -> Options {
    Options::new().segment_bytes(4096).lanes(3)
}

/// The machine's wall clock, in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "stored times are the machine's wall clock")]
pub fn wall() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Returns when this time is over.
#[expect(clippy::disallowed_methods, reason = "the queue's clock is the machine's")]
pub fn wait_over(span: Duration) {
    let began = std::time::Instant::now();
    while began.elapsed() <= span {
        std::thread::yield_now();
    }
}

/// One task, which must be there within reason.
pub fn one(consumer: &Consumer) -> Delivery {
    let mut taken = consumer.reserve(Reserve::new().wait(Duration::from_secs(20))).unwrap();
    taken.pop().expect("a task within 20 s")
}

/// True if nothing can be had now.
pub fn nothing(consumer: &Consumer) -> bool {
    consumer.reserve(Reserve::new()).unwrap().is_empty()
}

/// Takes and acks everything there is now; gives the payloads in order.
pub fn drain(queue: &Queue) -> Vec<Vec<u8>> {
    let consumer = queue.consumer();
    let mut payloads = Vec::new();
    let mut looked = false;
    loop {
        let taken = consumer.reserve(Reserve::new().tasks(100)).unwrap();
        if taken.is_empty() {
            if looked {
                return payloads;
            }
            // A mark that the queue is just appending holds up what is behind it, and a sync waits for it.
            looked = true;
            let _failed = queue.sync();
            continue;
        }
        payloads.extend(taken.iter().map(|delivery| delivery.payload().to_vec()));
        for answer in consumer.ack_batch(taken).unwrap() {
            answer.unwrap();
        }
    }
}

pub fn texts(payloads: &[Vec<u8>]) -> BTreeSet<String> {
    payloads.iter().map(|payload| String::from_utf8(payload.clone()).unwrap()).collect()
}

/// A copy of a queue's directory as the death of its process would leave it now, while the process goes on.
pub fn as_a_death_leaves_it(place: &Place) -> PathBuf {
    copy(&place.path, "copy")
}

/// A copy of a directory beside it, as it was at one instant: files are read one after the other, so what a thread of
/// the queue's changes between two of them (a checkpoint that replaces another) would make a state that never was.
/// Hence read until twice the same was read.
pub fn copy(path: &std::path::Path, extension: &str) -> PathBuf {
    let copy = path.with_extension(extension);
    std::fs::create_dir(&copy).unwrap();
    let mut files = contents(path);
    loop {
        let again = contents(path);
        if files.is_some() && files == again {
            break;
        }
        files = again;
    }
    for (name, content) in files.unwrap() {
        std::fs::write(copy.join(name), content).unwrap();
    }
    copy
}

/// Each file of a directory, by name; none if one went while they were read.
fn contents(path: &std::path::Path) -> Option<BTreeMap<OsString, Vec<u8>>> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| std::fs::read(path.join(&name)).ok().map(|content| (name, content))).collect()
}
