//! Rules that are stored with the queue: which lane goes first, how much may wait, what expired.

mod support;

use std::time::{Duration, Instant};

use support::place;

#[test]
fn lanes_get_their_shares_as_the_queue_was_told() {
    let place = place();
    place.lanelog("enqueue --lanes 2 --lane 0 --priority weighted:2,1", "a\na\na\na\n").ends_with(0);
    place.lanelog("enqueue --lane 1", "b\nb\n").ends_with(0);
    assert_eq!(place.lanelog("work --until-empty --print", "").ends_with(0).text(), "a\na\nb\na\na\nb\n");
}

#[test]
fn input_waits_for_room_while_work_makes_some_and_fails_where_nobody_does() {
    let place = place();
    let said = place.lanelog("enqueue --max-waiting 3", "a\nb\nc\nd\n").ends_with(2);
    assert!(said.err.contains("item 4 (3 accepted before it)") && said.err.contains("bound"), "{}", said.err);
    assert_eq!(place.lanelog("run -- echo {}", "e\nf\ng\nh\ni\n").ends_with(0).text(), "a\nb\nc\ne\nf\ng\nh\ni\n");
    place.lanelog("enqueue --max-waiting 0", "a\nb\nc\nd\n").ends_with(0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the command's clock is the machine's")]
fn what_expired_is_a_dead_letter_where_the_queue_was_told_so() {
    let place = place();
    place.lanelog("enqueue --expired dead --ttl 1ms", "late\n").ends_with(0);
    let enqueued = Instant::now();
    while enqueued.elapsed() <= Duration::from_millis(1) {
        std::thread::yield_now();
    }
    place.lanelog("work --until-empty -- echo {}", "").ends_with(1);
    assert_eq!(place.lanelog("dead list", "").ends_with(0).text().lines().count(), 1);
}

#[test]
fn rules_that_can_not_be_are_refused_in_one_line() {
    let place = place();
    let calls = [
        ("enqueue --priority fair", "weighted:6,3,1"),
        ("enqueue --priority weighted:0", "weight"),
        ("enqueue --lanes 1 --priority weighted:1,2", "weight"),
        ("enqueue --priority aging:0s", "longest"),
        ("enqueue --expired keep", "drop"),
    ];
    place.refuses(&calls, "a\n");
}
