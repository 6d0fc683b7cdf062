//! Errors are one line on standard error that says what to do; the exit status is 2.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

mod support;

use std::process::Command;

use support::{Said, place, say};

fn is_one_line(said: &Said) -> bool {
    said.err.starts_with("lanelog: ") && said.err.ends_with('\n') && said.err.lines().count() == 1
}

#[test]
fn wrong_arguments_are_one_line() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "no command given: try 'lanelog --help'"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["run"], "required arguments were not provided: --queue <DIR> <CMD>..."),
        (&["run", "--queue", "q"], "<CMD>"),
        (&["run", "--queue", "q", "true"], "unexpected argument 'true'"),
        (&["run", "--queue", "q", "--concurrency", "0", "--", "true"], "0 is not in 1..=1024"),
        (&["run", "--queue", "q", "--lease", "0", "--", "true"], "--lease"),
        (&["work", "--queue", "q"], "<CMD>"),
        (&["work", "--queue", "q", "--print", "--", "true"], "cannot be used with"),
        (&["work", "--queue", "q", "-0", "--", "true"], "without --print it has no meaning"),
        (&["enqueue", "--queue", "q", "--durability", "maybe"], "possible values: power, process"),
    ];
    for (args, part) in cases {
        let place = place();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanelog"));
        command.args(args).current_dir(place.path(""));
        let said = say(command, b"x\n").ends_with(2);
        assert!(is_one_line(&said) && said.err.contains(part), "{args:?}: {}", said.err);
        assert!(!place.path("q").exists(), "nothing is made for a wrong call: {args:?}");
    }
}

#[test]
fn a_command_that_is_not_there_is_refused_before_anything_is_enqueued() {
    let place = place();
    let mut command = place.command("run");
    command.args(["--", "no-such-command-here", "{}"]);
    let said = say(command, b"x\n").ends_with(2);
    assert!(is_one_line(&said) && said.err.contains("\"no-such-command-here\" was not found"), "{}", said.err);
    assert!(!place.path("queue").exists());
}

#[test]
fn a_command_that_goes_away_ends_the_run_and_uses_up_no_attempt() {
    let place = place();
    let script = place.path("command");
    std::fs::copy("/bin/sh", &script).unwrap();
    let mut command = place.command("run --max-attempts 1");
    command.arg("--").arg(&script).args(["-c", "rm command; echo did $1", "sh", "{}"]);
    let said = say(command, b"1\n2\n3\n").ends_with(2);
    assert_eq!(said.text(), "did 1\n");
    assert!(
        said.err.contains("acked 1, retried 0, dead 0, left 2") && said.err.contains("can't be started"),
        "{}",
        said.err
    );
    assert_eq!(place.states(), ["acked", "waiting", "waiting"]);
}

#[test]
fn what_is_no_queue_is_named_and_left_alone() {
    let place = place();
    std::fs::create_dir(place.path("queue")).unwrap();
    std::fs::write(place.path("queue/letter"), "mine").unwrap();
    for args in ["enqueue", "run -- true", "stats", "verify", "dump"] {
        let said = place.lanelog(args, "x\n").ends_with(2);
        assert!(is_one_line(&said) && said.err.contains("is not a lanelog queue: "), "{args}: {}", said.err);
    }
    assert_eq!(std::fs::read_to_string(place.path("queue/letter")).unwrap(), "mine");
    std::fs::remove_dir_all(place.path("queue")).unwrap();
    for args in ["stats", "verify", "dump"] {
        let said = place.lanelog(args, "").ends_with(2);
        assert!(is_one_line(&said) && said.err.contains("there is no such directory"), "{args}: {}", said.err);
        assert!(!place.path("queue").exists(), "looking makes nothing");
    }
    std::fs::write(place.path("queue"), "a file").unwrap();
    for args in ["enqueue", "verify"] {
        let said = place.lanelog(args, "").ends_with(2);
        assert!(is_one_line(&said), "{args}: {}", said.err);
    }
}

#[test]
fn a_lane_that_is_not_there_is_refused_with_what_to_give() {
    let place = place();
    for args in ["enqueue --lane 2", "enqueue --lane 2 --lanes 2", "run --lane 2 -- true"] {
        let said = place.lanelog(args, "x\n").ends_with(2);
        assert!(is_one_line(&said) && said.err.contains("give --lanes 3 to have more"), "{args}: {}", said.err);
    }
    place.lanelog("enqueue --lane 2 --lanes 3", "x\n").ends_with(0);
    place.lanelog("enqueue --lane 1", "x\n").ends_with(0);
    let said = place.lanelog("enqueue --lanes 2", "").ends_with(2);
    assert!(is_one_line(&said) && said.err.contains("lanes"), "fewer lanes than hold tasks: {}", said.err);
}

#[test]
fn an_item_that_is_too_long_is_named_and_those_before_it_count() {
    for (end, name) in [("\nlast\n", "with an end"), ("", "without an end")] {
        let place = place();
        let long = format!("one\ntwo\n{}{end}", "x".repeat(17 << 20));
        let said = place.lanelog("enqueue", &long).ends_with(2);
        assert!(said.err.contains("ends at item 3 (2 accepted before it): it is longer than"), "{name}: {}", said.err);
        assert_eq!(place.states(), ["waiting", "waiting"], "{name}");
        // The main job does what was accepted.
        let said = place.lanelog("run -- cat; echo", &long).ends_with(2);
        assert_eq!(said.lines(), ["one", "two", "one", "two"], "{name}");
    }
}

#[test]
fn input_that_can_not_be_read_is_told() {
    let place = place();
    let mut command = place.command("enqueue");
    command.stdin(directory());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("standard input can't be read: Is a directory"));
}

#[expect(clippy::disallowed_methods, reason = "a directory as standard input")]
fn directory() -> std::fs::File {
    std::fs::File::open("/").unwrap()
}
