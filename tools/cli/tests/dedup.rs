//! `enqueue --dedup-id`: of items with the same id one is enqueued, in all runs.

mod support;

use support::place;

#[test]
fn an_id_that_counts_adds_nothing_in_this_run_or_another() {
    let place = place();
    let said = place.lanelog("enqueue --dedup-id nightly", "a\nb\n").ends_with(0);
    assert!(said.err.contains("enqueued 1, 1 were there before"), "{}", said.err);
    let said = place.lanelog("enqueue --dedup-id nightly", "c\n").ends_with(0);
    assert!(said.err.contains("enqueued 0, 1 were there before"), "{}", said.err);
    assert!(place.lanelog("stats", "").ends_with(0).text().contains("dedup ids: 1"));
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\n");
    place.lanelog("enqueue --dedup-id nightly", "d\n").ends_with(0);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "");
}

#[test]
fn braces_make_each_item_its_own_id_and_until_settled_it_is_free_with_its_task() {
    let place = place();
    let enqueue = |input: &str| drop(place.lanelog("enqueue --dedup-id x{} --dedup-until-settled", input).ends_with(0));
    enqueue("a\nb\na\n");
    let work = || place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text().to_owned();
    assert_eq!(work(), "a\nb\n");
    enqueue("a\n");
    assert_eq!(work(), "a\n");
}

#[test]
fn times_need_an_id_and_exclude_each_other() {
    let place = place();
    assert!(place.lanelog("enqueue --dedup-for 1h", "a\n").ends_with(2).err.contains("--dedup-id"));
    place.lanelog("enqueue --dedup-id a --dedup-for 1h --dedup-until-settled", "a\n").ends_with(2);
    place.lanelog("enqueue --dedup-id a --dedup-for 1h", "a\n").ends_with(0);
}
