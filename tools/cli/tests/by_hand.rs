//! By hand: pausing, dead letters, peeking, purging, single tasks; and what `enqueue` lets a task carry.

mod support;

use support::place;

#[test]
fn a_paused_lane_runs_nothing_until_it_is_resumed() {
    let place = place();
    place.lanelog("enqueue", "a\nb\n").ends_with(0);
    place.lanelog("pause --lane 0", "").ends_with(0);
    let said = place.lanelog("work --until-empty -- echo {}", "").ends_with(2);
    assert!(said.err.contains("2 tasks are left in what is paused"), "{}", said.err);
    place.lanelog("resume --lane 0", "").ends_with(0);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\nb\n");
}

#[test]
fn dead_letters_are_listed_redriven_and_dropped() {
    let place = place();
    place.lanelog("run --max-attempts 1 -- false", "a\nb\nc\n").ends_with(1);
    let listed = place.lanelog("dead list", "").ends_with(0);
    assert_eq!(listed.text().lines().count(), 3);
    assert_eq!(place.lanelog("dead redrive --limit 1", "").ends_with(0).text(), "redrove 1\n");
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\n");
    assert_eq!(place.lanelog("dead drop --reason status", "").ends_with(0).text(), "dropped 2\n");
    assert_eq!(place.lanelog("dead list", "").ends_with(0).text(), "");
}

#[test]
fn dead_letters_go_to_another_lane_with_new_ids() {
    let place = place();
    place.lanelog("run --lanes 2 --max-attempts 1 -- false", "a\nb\n").ends_with(1);
    assert_eq!(place.lanelog("dead redrive --limit 1 --to-lane 1", "").ends_with(0).text(), "redrove 1\n");
    assert_eq!(place.lanelog("peek --lane 1", "").ends_with(0).text().lines().count(), 1);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\n");
    assert!(place.lanelog("dead redrive --to-lane 7", "").ends_with(2).err.contains("lane 7"));
    assert!(place.lanelog("dead drop --to-lane 1", "").ends_with(2).err.contains("--to-lane"));
}

#[test]
fn peek_shows_the_next_tasks_and_takes_none() {
    let place = place();
    place.lanelog("enqueue", "a\nb\nc\n").ends_with(0);
    let seen = place.lanelog("peek --tasks 2", "").ends_with(0);
    assert_eq!(seen.text().lines().count(), 2);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\nb\nc\n");
    assert_eq!(place.lanelog("peek", "").ends_with(0).text(), "");
}

#[test]
fn a_delayed_task_says_why_it_waits_and_can_be_cancelled() {
    let place = place();
    place.lanelog("enqueue --delay 1h --key k --ttl 2h", "later\n").ends_with(0);
    let id = place.records()[0]["id"].as_str().unwrap().to_owned();
    let why = place.lanelog(&format!("explain {id}"), "").ends_with(0);
    assert!(why.text().contains("delayed until"), "{}", why.text());
    place.lanelog(&format!("cancel {id}"), "").ends_with(0);
    place.lanelog(&format!("cancel {id}"), "").ends_with(1);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "");
}

#[test]
fn purge_leaves_nothing() {
    let place = place();
    place.lanelog("enqueue", "a\nb\n").ends_with(0);
    place.lanelog("purge", "").ends_with(0);
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "");
}

#[test]
fn what_can_not_be_is_refused_in_one_line() {
    let place = place();
    place.lanelog("enqueue", "a\n").ends_with(0);
    let calls = [
        ("enqueue --delay soon", "as in 10m"),
        ("run --retry often -- true", "exponential:1s..5m"),
        ("cancel nonsense", "is not a task id"),
        ("purge --lane 9", "there is no lane 9"),
    ];
    place.refuses(&calls, "");
}

#[test]
fn a_parked_task_is_not_run_until_it_is_kicked() {
    let place = place();
    place.lanelog("enqueue", "a\nb\n").ends_with(0);
    let id = place.records()[0]["id"].as_str().unwrap().to_owned();
    place.lanelog(&format!("park {id} --reason later"), "").ends_with(0);
    place.lanelog(&format!("park {id}"), "").ends_with(1);
    assert!(place.lanelog("dump", "").ends_with(0).text().contains("later"));
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "b\n");
    assert_eq!(place.lanelog("kick --reason sooner", "").ends_with(0).text(), "kicked 0\n");
    assert_eq!(place.lanelog("kick", "").ends_with(0).text(), "kicked 1\n");
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\n");
}
