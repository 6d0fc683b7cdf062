//! `snapshot`: a copy that is worked from, and calls that are refused.

mod support;

use std::process::Command;

use support::{Said, numbers, place, say};

fn lanelog(args: &[&str], place: &support::Place) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanelog"));
    command.args(args).current_dir(place.path(""));
    say(command, b"")
}

#[test]
fn a_copy_is_worked_from_and_the_queue_goes_on() {
    let place = place();
    place.lanelog("enqueue --lanes 2 --lane 1", numbers(1..=50)).ends_with(0);
    place.lanelog("run --max-attempts 1 -- test $1 -gt 20", "1\n").ends_with(1);
    let states = place.states();
    place.lanelog("snapshot --to backup", "").ends_with(0);
    assert_eq!(lanelog(&["verify", "--queue", "backup"], &place).ends_with(0).text(), "clean\n");
    place.lanelog("enqueue", "later\n").ends_with(0);
    let copied = lanelog(&["dump", "--queue", "backup", "--json"], &place).ends_with(0);
    assert_eq!(copied.lines().len(), states.len());
    lanelog(&["enqueue", "--queue", "backup"], &place).ends_with(0);
    let redriven = lanelog(&["dead", "redrive", "--queue", "backup"], &place).ends_with(0);
    assert_ne!(redriven.text(), "redrove 0\n");
    let printed = lanelog(&["work", "--queue", "backup", "--until-empty", "--print"], &place).ends_with(0);
    assert!(printed.lines().contains(&"7".to_owned()) && !printed.lines().contains(&"later".to_owned()));
    assert_eq!(place.lanelog("work --until-empty --print", "").ends_with(0).text(), "later\n");
}

#[test]
fn a_call_that_can_not_be_is_one_line_and_makes_nothing() {
    let place = place();
    let refused = |said: Said, part: &str| {
        let said = said.ends_with(2);
        assert!(said.err.lines().count() == 1 && said.err.contains(part), "{}", said.err);
    };
    refused(place.lanelog("snapshot --to backup", ""), "there is no such directory");
    refused(place.lanelog("snapshot", ""), "--to <DIR>");
    place.lanelog("enqueue", "task\n").ends_with(0);
    refused(place.lanelog("snapshot --to queue/inside", ""), "own directory");
    assert!(!place.path("queue/inside").exists() && !place.path("backup").exists());
    std::fs::create_dir(place.path("full")).unwrap();
    std::fs::write(place.path("full/letter"), "").unwrap();
    refused(place.lanelog("snapshot --to full", ""), "\"letter\"");
    let worker = place.start(&format!("run -- {}", place.gate()));
    place.wait_at_gate(1);
    refused(place.lanelog("snapshot --to backup", ""), "is in use");
    refused(place.lanelog("snapshot --to other", ""), "Queue::snapshot");
    assert!(!place.path("backup").exists() && !place.path("other").exists());
    place.open_gate();
    worker.end().ends_with(0);
}
