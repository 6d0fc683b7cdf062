//! The registry: what the handler finds while ranges come and go. That the handler works is shown in `tests/io_errors.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Block, Health, SLOTS, process_id};

fn registry() -> &'static Block {
    Box::leak(Box::new(Block::new()))
}

/// A health that names a number; never looked at.
fn health(number: usize) -> *mut Health {
    std::ptr::without_provenance_mut(number)
}

#[test]
fn a_range_is_found_by_each_of_its_addresses_until_it_is_given_up() {
    let registry = registry();
    let slot = registry.take(4096..8192, health(8));
    for (at, found) in [(4095, false), (4096, true), (8191, true), (8192, false), (0, false)] {
        assert_eq!(registry.find(at, process_id()).is_some(), found, "{at}");
    }
    slot.give_up();
    assert_eq!(registry.find(4096, process_id()), None);
    let again = registry.take(4096..8192, health(16));
    assert!(std::ptr::eq(slot, again), "the slot is used again");
    assert_eq!(registry.find(4096, process_id()), Some(health(16).cast_const()));
}

#[test]
fn there_is_room_for_any_number_of_ranges() {
    let registry = registry();
    let page = |number: usize| (number + 1) * 4096;
    for number in 0..SLOTS * 3 + 1 {
        registry.take(page(number)..page(number) + 4096, health(page(number)));
    }
    for number in 0..SLOTS * 3 + 1 {
        assert_eq!(registry.find(page(number) + 7, process_id()), Some(health(page(number)).cast_const()));
    }
}

#[test]
fn a_forked_child_does_not_take_the_ranges_of_its_parent_for_its_own() {
    let registry = registry();
    registry.take(4096..8192, health(8));
    assert_eq!(registry.find(4096, process_id() + 1), None);
}

#[test]
fn a_slot_that_is_changing_is_passed_over() {
    let registry = registry();
    let slot = registry.take(4096..8192, health(8));
    let version = slot.version.load(Ordering::Relaxed);
    slot.version.store(version + 1, Ordering::Relaxed);
    assert_eq!(registry.find(4096, process_id()), None);
    slot.version.store(version, Ordering::Relaxed);
    assert!(registry.find(4096, process_id()).is_some());
}

#[test]
fn while_others_come_and_go_a_standing_range_is_found_and_halves_are_never_mixed() {
    const ROUNDS: usize = 20_000;
    let registry = registry();
    let page = |number: usize| number * 4096;
    registry.take(page(1)..page(2), health(page(1)));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let come_and_go = |first: usize, second: usize| {
            move || {
                for _ in 0..ROUNDS {
                    registry.take(page(first)..page(first + 1), health(page(first))).give_up();
                    registry.take(page(second)..page(second + 1), health(page(second))).give_up();
                }
            }
        };
        let writers = [scope.spawn(come_and_go(4, 40)), scope.spawn(come_and_go(8, 80))];
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(registry.find(page(1), process_id()), Some(health(page(1)).cast_const()));
                // Between the two ranges of each writer: the start of one with the end of the other would hold it.
                assert_eq!(registry.find(page(20), process_id()), None);
                for number in [4, 40, 8, 80] {
                    let found = registry.find(page(number), process_id());
                    assert!(found.is_none_or(|found| found == health(page(number)).cast_const()));
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}
