//! SIGINT and SIGTERM stop the taking of tasks, let running ones finish, and leave the rest in the queue.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

mod support;

use rustix::process::Signal;
use support::{numbers, place, send, until};

#[test]
fn running_tasks_finish_and_the_rest_stays() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = place();
        place.lanelog("enqueue --durability process", numbers(1..=1000)).ends_with(0);
        let run = place.start(&format!("work --until-empty --concurrency 2 -- {}; echo done $1", place.gate()));
        place.wait_at_gate(2);
        run.signal(signal);
        place.open_gate();
        let said = run.end().ends_with(code);
        let done = said.lines().len();
        let began = place.wait_at_gate(done).len();
        assert!((2..1000).contains(&done) && began == done, "{done} of {began} that began");
        assert!(said.err.contains(&format!("acked {done}, retried 0, dead 0, left {}", 1000 - done)), "{}", said.err);
        // No attempt of the rest was used up.
        let states = place.states();
        assert_eq!(states.iter().filter(|state| *state == "waiting").count(), 1000 - done, "{states:?}");
        let rest = place.lanelog("work --until-empty --print", "").ends_with(0);
        assert_eq!(rest.lines().len(), 1000 - done);
    }
}

#[test]
fn a_wait_for_input_ends_and_an_item_that_was_read_in_part_is_none() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = place();
        let mut run = place.start("run -- echo $1");
        run.write("whole\nin pa");
        assert_eq!(run.line(), "whole");
        run.signal(signal);
        run.end_with_open_input().ends_with(128 + signal.as_raw());
        assert_eq!(place.states(), ["acked"]);
    }
    let place = place();
    let mut enqueue = place.start("enqueue");
    enqueue.write("whole\nin pa");
    until("the first item is in the queue", || {
        let said = place.lanelog("stats --json", "");
        (said.code == 0 && said.json()["lanes"][0]["tasks"] == 1).then_some(())
    });
    enqueue.signal(Signal::INT);
    assert!(enqueue.end_with_open_input().ends_with(130).err.contains("enqueued 1 in "));
    assert_eq!(place.states(), ["waiting"]);
}

#[test]
fn work_without_an_end_waits_for_tasks_until_it_is_told_to_end() {
    for how in ["--print", "-- echo $1"] {
        let place = place();
        place.lanelog("enqueue", "one\n").ends_with(0);
        let mut work = place.start(&format!("work {how}"));
        assert_eq!(work.line(), "one");
        assert_eq!(work.child.try_wait().unwrap(), None, "waits");
        work.signal(Signal::TERM);
        assert!(work.end().ends_with(143).err.contains("left 0"));
    }
}

#[test]
fn a_second_interrupt_does_not_wait_for_what_runs() {
    let place = place();
    place.lanelog("enqueue", "stuck\n").ends_with(0);
    let mut work = place.start(&format!("work -- {}; echo done", place.gate()));
    let stuck = place.wait_at_gate(1);
    let status = until("it ends", || {
        work.signal(Signal::INT);
        work.child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(130));
    send(stuck[0], Signal::KILL);
    place.open_gate();
    assert_eq!(place.lanelog("work --until-empty -- echo again", "").ends_with(0).text(), "again\n");
}

#[test]
fn when_nobody_reads_the_output_any_more_the_rest_stays_in_the_queue() {
    for how in ["--print", "-- echo $1"] {
        let place = place();
        place.lanelog("enqueue --durability process", numbers(1..=20_000)).ends_with(0);
        let mut work = place.start(&format!("work --until-empty {how}"));
        assert_eq!(work.line(), "1");
        drop(work.out.take());
        let said = work.end().ends_with(128 + 13);
        let summary = said.err.strip_suffix('\n').unwrap();
        assert!(!summary.contains('\n') && summary.contains("retried 0, dead 0, left "), "{summary}");
        let left = said.err.split("left ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        assert!(left > 0, "{summary}");
        let rest = place.lanelog("work --until-empty --print", "").ends_with(0);
        assert_eq!(rest.lines().len(), left);
    }
}

#[test]
fn output_that_can_not_be_written_acks_nothing() {
    for how in ["--print", "-- echo $1"] {
        let place = place();
        place.lanelog("enqueue", "one\n").ends_with(0);
        let output = place.command(&format!("work --until-empty {how}")).stdout(full()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("left 1 ") && said.contains("standard output can't be written: No space left"), "{said}");
        // Not a failed attempt, either.
        assert_eq!(place.states(), ["waiting"]);
        assert_eq!(place.lanelog("work --until-empty --print", "").ends_with(0).text(), "one\n");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test plays the full disk")]
fn full() -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()
}
