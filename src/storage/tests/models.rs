//! Models of claim, publish and mark: the region's own code, over every order that loom's memory model allows.
//!
//! What must hold: whoever sees the readable mark moved over an extent sees every byte of that extent, whoever moved
//! the mark; and the mark stands before an extent that is not published.

use std::sync::Arc;

use loom::thread;

use super::super::memory::HeapMemory;
use super::super::{Frontier, Region};
use crate::sabotage::Bug;
use crate::sync::Mutex;
use crate::sync::model::{catches, explore};
use crate::types::{ExtentState, ExtentWord};

const BYTES: usize = 16;
/// Two extents, and nothing else.
const REGION_BYTES: usize = 2 * BYTES;

fn word(state: ExtentState) -> ExtentWord {
    ExtentWord::new(16, state, 7)
}

fn frontier() -> Frontier {
    Arc::new(HeapMemory::from_bytes(&[0; REGION_BYTES])).region().resume(0)
}

/// Claims an extent, fills and publishes it.
fn produce(frontier: &Mutex<Frontier>) {
    let claim = frontier.lock().claim(word(ExtentState::Claimed), REGION_BYTES);
    let mut claim = claim.expect("there is room for both");
    let fill = 1 + u8::try_from(claim.start() / BYTES).unwrap();
    claim.write(8, &[fill; 8]);
    claim.publish(word(ExtentState::Published)).unwrap();
}

/// Reads everything below the mark; gives the mark.
fn check(region: &Region, mark: usize) {
    for (number, extent) in (1..).zip(region.slice(0..mark).unwrap().chunks(BYTES)) {
        let (first, body) = extent.split_first_chunk::<8>().unwrap();
        assert_eq!(ExtentWord(u64::from_le_bytes(*first)), word(ExtentState::Published), "the word is final");
        assert_eq!(body, [number; 8], "the bytes are there");
    }
}

/// Two producers; a reader moves the mark itself.
fn producers_and_a_reader() {
    let frontier = frontier();
    let region = Arc::clone(frontier.region());
    let frontier = Arc::new(Mutex::new(frontier));
    let producers = [0, 1].map(|_| {
        let frontier = Arc::clone(&frontier);
        thread::spawn(move || produce(&frontier))
    });
    for _ in 0..2 {
        let mark = region.advance();
        check(&region, mark);
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(region.advance(), REGION_BYTES, "both are published");
}

/// One thread produces, another moves the mark, and a third reads what is below it and moves nothing.
fn mark_moved_for_another() {
    let frontier = frontier();
    let (region, seen) = (Arc::clone(frontier.region()), Arc::clone(frontier.region()));
    let frontier = Mutex::new(frontier);
    let producer = thread::spawn(move || produce(&frontier));
    let reader = thread::spawn(move || {
        let before = seen.readable();
        check(&seen, before);
        let after = seen.readable();
        assert!(after >= before, "the mark only grows");
        check(&seen, after);
        if std::env::var("DEBUGM").is_ok() {
            println!("{before} {after}");
        }
    });
    region.advance();
    region.advance();
    producer.join().unwrap();
    reader.join().unwrap();
}

#[test]
fn model_of_published_bytes_that_a_reader_sees() {
    explore("two producers, a reader", None, producers_and_a_reader);
}

#[test]
fn model_of_a_mark_that_another_thread_moved() {
    explore("a producer, a mover, a reader", None, mark_moved_for_another);
}

#[test]
fn model_catches_a_publish_without_release() {
    catches(Bug::RelaxedPublish, "Causality violation", Some(3), producers_and_a_reader);
}

#[test]
fn model_catches_a_mark_without_release() {
    catches(Bug::RelaxedMark, "Causality violation", Some(3), mark_moved_for_another);
}
