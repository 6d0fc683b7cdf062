//! What fails for good: kept, counted, shown by `dump`, and told by the exit status of the run in which it died.

mod support;

use support::{numbers, place, say};

#[test]
fn a_task_that_fails_every_attempt_is_a_dead_letter_and_the_exit_status_says_so() {
    let place = place();
    let said = place.lanelog("run --concurrency 2 --max-attempts 2 -- test $1 != 2", numbers(1..=3)).ends_with(1);
    assert!(said.err.contains("enqueued 3, acked 2, retried 1, dead 1 "), "{}", said.err);
    let records = place.records();
    assert_eq!(place.states(), ["acked", "dead", "acked"]);
    let dead = &records[1]["groups"]["default"];
    assert_eq!(
        (&records[1]["payload"], &dead["attempts"], &dead["reason"]),
        (&"2".into(), &2.into(), &"exit status 1".into())
    );
    assert!(place.lanelog("dump", "").text().contains("dead after 2: exit status 1"));
    // Only those of this run count.
    place.lanelog("run -- true", "4\n").ends_with(0);
    assert_eq!(place.lanelog("stats --json", "").json()["groups"][0]["lanes"][0]["dead"], 1);
}

#[test]
fn a_task_that_kills_its_worker_is_a_dead_letter_after_its_attempts() {
    let place = place();
    place.lanelog("enqueue", "fatal\n").ends_with(0);
    for _ in 0..2 {
        place.lanelog("run --max-attempts 2 -- kill -9 $PPID", "").ends_with(128 + 9);
    }
    // Nothing fails in this run, and yet it is here that the task is given up on.
    let said = place.lanelog("run --max-attempts 2 -- kill -9 $PPID", "").ends_with(1);
    assert!(said.err.contains("acked 0, retried 0, dead 1 "), "{}", said.err);
    assert_eq!(place.states(), ["dead"]);
}

#[test]
fn a_killed_command_is_a_failure_that_names_the_signal() {
    let place = place();
    place.lanelog("run --max-attempts 1 -- kill -15 $$", "x\n").ends_with(1);
    assert_eq!(place.records()[0]["groups"]["default"]["reason"], "killed by signal 15");
}

#[test]
fn what_can_never_be_an_argument_is_a_dead_letter_at_once_and_as_input_it_is_no_trouble() {
    let place = place();
    let long = "x".repeat(200_000);
    for item in ["a\0b", &long] {
        let mut command = place.command("run");
        command.args(["--", "echo", "{}"]);
        let said = say(command, format!("{item}\n").as_bytes()).ends_with(1);
        assert!(said.err.contains("retried 0, dead 1 "), "{}", said.err);
        assert_eq!(place.lanelog("run -- wc -c", item).ends_with(0).text().trim(), item.len().to_string());
    }
    assert_eq!(place.states(), ["dead", "acked", "dead", "acked"]);
}

#[test]
fn a_failing_task_is_waited_for_while_others_are_idle() {
    let place = place();
    // Three workers have nothing to do while the fourth fails; one of them must still be there for the retry.
    let script = "test -e second || { touch second; exit 1; }";
    let said = place.lanelog(&format!("run --concurrency 4 -- {script}"), "x\n").ends_with(0);
    assert!(said.err.contains("acked 1, retried 1, dead 0, left 0"), "{}", said.err);
}
