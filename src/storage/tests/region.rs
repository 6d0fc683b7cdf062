//! Claims, the mark, and what can be seen of a region.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::memory::HeapMemory;
use super::super::{Claim, File, Frontier, MapFailed, Region};
use crate::sim::{Rng, SimDisk};
use crate::storage::{Prepare, Storage};
use crate::types::{ExtentState, ExtentWord};

const PRELUDE: usize = 64;

fn frontier(bytes: usize) -> Frontier {
    Arc::new(HeapMemory::from_bytes(&vec![0xEE; bytes])).region().begin(&[1; PRELUDE])
}

fn word(bytes: usize, state: ExtentState) -> ExtentWord {
    ExtentWord::new(u32::try_from(bytes).unwrap(), state, 0xABCD)
}

fn claim(frontier: &mut Frontier, bytes: usize) -> Claim {
    frontier.claim(word(bytes, ExtentState::Claimed), usize::MAX).expect("there is room")
}

/// Fills a claim with one byte and publishes it.
fn publish(claim: Claim, byte: u8) {
    try_publish(claim, byte).expect("the map is whole");
}

fn try_publish(mut claim: Claim, byte: u8) -> Result<(), MapFailed> {
    let bytes = claim.bytes();
    claim.write(8, &vec![byte; bytes - 8]);
    claim.publish(word(bytes, ExtentState::Published))
}

/// Every order of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = orders(last).into_iter();
    let insert = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, last);
            longer
        })
    };
    shorter.flat_map(insert).collect()
}

#[test]
fn mark_moves_over_the_row_of_published_extents_whatever_their_order() {
    const BYTES: [usize; 5] = [8, 32, 16, 104, 40];
    for order in orders(5) {
        let mut frontier = frontier(4096);
        let mut claims: Vec<_> = BYTES.iter().map(|bytes| Some(claim(&mut frontier, *bytes))).collect();
        let region = Arc::clone(frontier.region());
        assert_eq!((region.advance(), region.readable()), (PRELUDE, PRELUDE));
        let mut published = [false; 5];
        for at in &order {
            publish(claims[*at].take().unwrap(), 9);
            published[*at] = true;
            let row: usize = BYTES.iter().zip(published).take_while(|(_, is)| *is).map(|(bytes, _)| bytes).sum();
            assert_eq!(region.advance(), PRELUDE + row, "{order:?}");
            assert_eq!(region.readable(), PRELUDE + row);
        }
        assert_eq!(region.readable(), frontier.end());
    }
}

#[test]
fn padding_is_final_and_a_claim_is_not() {
    let mut frontier = frontier(4096);
    let (first, second) = (claim(&mut frontier, 24), claim(&mut frontier, 24));
    first.publish(word(24, ExtentState::Padding)).expect("the map is whole");
    assert_eq!(frontier.region().advance(), PRELUDE + 24);
    drop(second);
    let third = claim(&mut frontier, 24);
    publish(third, 1);
    assert_eq!(frontier.region().advance(), PRELUDE + 24, "a claim that was dropped stops the mark for good");
}

#[test]
fn claims_follow_one_another_up_to_the_limit() {
    let mut frontier = frontier(256);
    let region = Arc::clone(frontier.region());
    assert_eq!((frontier.end(), region.claimed(), region.bytes()), (PRELUDE, PRELUDE, 256));
    assert!(frontier.claim(word(64, ExtentState::Claimed), 64 + 56).is_none(), "beyond the limit");
    assert!(frontier.claim(word(200, ExtentState::Claimed), usize::MAX).is_none(), "beyond the region");
    assert!(frontier.claim(word(0, ExtentState::Claimed), usize::MAX).is_none(), "nothing");
    assert_eq!((frontier.end(), region.claimed()), (PRELUDE, PRELUDE), "what is refused moves nothing");
    let exact = frontier.claim(word(56, ExtentState::Claimed), 64 + 56).expect("up to the limit");
    assert_eq!((exact.start(), exact.bytes(), frontier.end(), region.claimed()), (64, 56, 120, 120));
    let rest = frontier.claim(word(136, ExtentState::Claimed), usize::MAX).expect("up to the region's end");
    assert_eq!((rest.start(), frontier.end()), (120, 256));
    assert!(frontier.claim(word(8, ExtentState::Claimed), usize::MAX).is_none());
}

#[test]
fn claim_word_is_in_memory_before_the_claim_is_filled() {
    let memory = Arc::new(HeapMemory::from_bytes(&[0; 256]));
    let mut frontier = memory.region().begin(&[1; PRELUDE]);
    let claimed = word(40, ExtentState::Claimed);
    let _held = frontier.claim(claimed, usize::MAX).unwrap();
    assert_eq!(memory.to_bytes()[PRELUDE..PRELUDE + 8], claimed.0.to_le_bytes());
}

#[test]
fn nothing_above_the_mark_can_be_seen() {
    let mut frontier = frontier(512);
    publish(claim(&mut frontier, 32), 3);
    let _held = claim(&mut frontier, 64);
    let region = Arc::clone(frontier.region());
    assert!(region.slice(PRELUDE..PRELUDE + 32).is_none(), "published, and the mark did not move yet");
    let mark = region.advance();
    for end in 0..520 {
        for start in (0..520).step_by(13) {
            let expected = (start <= end && end <= mark).then_some(end.saturating_sub(start));
            assert_eq!(region.slice(start..end).map(<[u8]>::len), expected, "{start}..{end}");
            assert_eq!(region.view(start..end).map(|view| view.as_ref().len()), expected, "{start}..{end}");
        }
    }
    assert!(region.slice(0..usize::MAX).is_none() && region.slice(usize::MAX..usize::MAX).is_none());
}

#[test]
fn view_shows_its_bytes_for_as_long_as_it_is_held() {
    let mut frontier = frontier(512);
    publish(claim(&mut frontier, 40), 0x42);
    let region = Arc::clone(frontier.region());
    region.advance();
    let view = region.view(PRELUDE + 8..PRELUDE + 40).unwrap();
    assert_eq!(Arc::strong_count(&region), 3, "frontier, region, view");
    drop((frontier, region));
    assert_eq!(view.as_ref(), [0x42; 32]);
}

#[test]
fn life_that_begins_forgets_the_one_before() {
    let memory = Arc::new(HeapMemory::from_bytes(&[0xEE; 512]));
    let mut first = memory.region().begin(&[1; PRELUDE]);
    publish(claim(&mut first, 400), 7);
    first.region().advance();
    let region = Arc::clone(first.region());
    drop(first);
    let region = Arc::into_inner(region).expect("nobody else holds it");
    assert_eq!(region.readable(), PRELUDE + 400);
    let mut second = region.begin(&[2; 16]);
    let region = Arc::clone(second.region());
    assert_eq!((region.readable(), region.claimed(), second.end(), region.advance()), (16, 16, 16, 16));
    assert_eq!((region.slice(0..16), region.slice(0..17)), (Some(&[2; 16][..]), None));
    publish(claim(&mut second, 24), 9);
    assert_eq!(region.advance(), 40);
}

#[test]
fn map_that_failed_says_so_at_every_publish_and_in_every_later_life() {
    let mut first = frontier(512);
    let before = claim(&mut first, 32);
    publish(claim(&mut first, 32), 1);
    assert!(!first.region().has_failed());
    first.region().mark_failed();
    assert!(first.region().has_failed());
    assert_eq!(try_publish(before, 2), Err(MapFailed), "whoever claimed before is told too");
    let padding = claim(&mut first, 24).publish(word(24, ExtentState::Padding));
    assert_eq!(padding, Err(MapFailed));
    assert_eq!(first.region().advance(), PRELUDE + 88, "what is published is final all the same");
    let region = Arc::clone(first.region());
    drop(first);
    let mut second = Arc::into_inner(region).expect("nobody else holds it").begin(&[2; 16]);
    assert!(second.region().has_failed());
    assert_eq!(try_publish(claim(&mut second, 24), 3), Err(MapFailed));
    let region = Arc::clone(second.region());
    drop(second);
    assert!(Arc::into_inner(region).unwrap().trust(40).has_failed());
}

#[test]
fn sealed_file_is_trusted_up_to_its_end_and_not_beyond_its_length() {
    let region = || Arc::new(HeapMemory::from_bytes(&[5; 128])).region();
    assert!(region().slice(0..1).is_none(), "nothing is readable before it is trusted");
    for (end, readable) in [(0, 0), (40, 40), (128, 128), (200, 128), (usize::MAX, 128)] {
        let region = region().trust(end);
        assert_eq!((region.readable(), region.claimed(), region.advance()), (readable, readable, readable));
    }
    let frontier = region().resume(64);
    assert_eq!((frontier.end(), frontier.region().readable(), frontier.region().claimed()), (64, 64, 64));
}

#[test]
#[should_panic(expected = "a fill stays inside its extent")]
fn fill_that_touches_the_first_word_is_caught() {
    claim(&mut frontier(256), 32).write(7, &[1]);
}

#[test]
#[should_panic(expected = "a fill stays inside its extent")]
fn fill_that_leaves_its_extent_is_caught() {
    claim(&mut frontier(256), 32).write(8, &[1; 25]);
}

#[test]
#[should_panic(expected = "an extent is published as it was claimed")]
fn extent_of_another_length_is_not_published() {
    let _caught = claim(&mut frontier(256), 32).publish(word(24, ExtentState::Published));
}

#[test]
#[should_panic(expected = "an extent is published as it was claimed")]
fn word_that_is_not_final_is_not_published() {
    let _caught = claim(&mut frontier(256), 32).publish(word(32, ExtentState::Claimed));
}

#[test]
fn ordinary_memory_needs_no_fault() {
    // A file that can't be read at all: ordinary memory is never read through it.
    let file = SimDisk::new(0).create("f", 0, Prepare::Small).unwrap();
    let file: &dyn File = &*file;
    let region = Arc::new(HeapMemory::from_bytes(&[0; 64])).region();
    for range in [0..64, 0..0, 60..1000, 900..1000] {
        assert!(region.check_readable(file, range).is_ok());
    }
    assert!(region.populate_write(0..usize::MAX).is_ok());
}

/// Extents of a region in a row: (start, end) each, as far as the mark shows them.
fn walk(region: &Region, mut at: usize) -> usize {
    let end = region.advance();
    let bytes = region.slice(0..end).unwrap();
    while at < end {
        let word = ExtentWord(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
        let extent = &bytes[at + 8..at + word.bytes() as usize];
        assert!(extent.iter().all(|byte| *byte == extent[0]), "an extent below the mark is whole");
        at += word.bytes() as usize;
    }
    at
}

#[test]
fn reader_sees_whole_extents_only_while_four_fill_at_once() {
    let frontier = crate::sync::Mutex::new(frontier(1 << 20));
    let region = Arc::clone(frontier.lock().region());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let fillers: Vec<_> = (1..=4_u8)
            .map(|thread| {
                let frontier = &frontier;
                scope.spawn(move || {
                    let mut rng = Rng::new(thread.into());
                    loop {
                        let bytes = 16 + 8 * usize::try_from(rng.below(30)).unwrap();
                        let claimed = frontier.lock().claim(word(bytes, ExtentState::Claimed), usize::MAX);
                        let Some(claimed) = claimed else { return };
                        publish(claimed, thread);
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut at = PRELUDE;
            while !done.load(Ordering::Acquire) {
                at = walk(&region, at);
                std::thread::yield_now();
            }
        });
        fillers.into_iter().for_each(|filler| filler.join().unwrap());
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert_eq!(walk(&region, PRELUDE), frontier.lock().end(), "at the end everything is seen");
}
