//! The main job: every item is a task, the command runs once for each, and nothing is lost or mixed.

mod support;

use std::process::Command;

use support::{numbers, place, say};

#[test]
fn the_main_job_gives_what_the_command_gives() {
    let place = place();
    let list = say(shell("find /usr/share -type f ! -name '*\n*' | sort | head -n 400"), b"").out;
    assert!(!list.is_empty(), "/usr/share has files");
    let direct = say(shell("xargs -d '\\n' sha256sum"), &list);
    let mut command = place.command("run --concurrency 4");
    command.args(["--", "sha256sum", "{}"]);
    let ours = say(command, &list).ends_with(0);
    assert_eq!(ours.sorted(), direct.sorted());
    assert!(ours.err.contains("acked 400, retried 0, dead 0, left 0"), "{}", ours.err);
    assert_eq!(ours.err.lines().count(), 1, "one line of summary: {}", ours.err);
}

#[test]
fn items_are_lines_or_nul_ended_and_nothing_in_them_is_changed() {
    type Bytes = &'static [u8];
    let cases: [(&str, Bytes, &[Bytes]); 8] = [
        ("", b"a\nb\n", &[b"a", b"b"]),
        ("", b"a\nno newline", &[b"a", b"no newline"]),
        ("", b"\na\n\n", &[b"", b"a", b""]),
        ("", b" spaces \ttabs\t\r\n", &[b" spaces \ttabs\t\r"]),
        ("", b"\xff\xfe\n", &[b"\xff\xfe"]),
        ("", b"", &[]),
        ("-0", b"two\nlines\0\0end", &[b"two\nlines", b"", b"end"]),
        ("-0", b"a\0", &[b"a"]),
    ];
    for (mode, input, items) in cases {
        let place = place();
        place.lanelog(&format!("enqueue {mode}"), input).ends_with(0);
        let printed = place.lanelog("work --until-empty --print -0", "").ends_with(0);
        let expected: Vec<u8> = items.iter().flat_map(|item| [item, b"\0".as_slice()].concat()).collect();
        assert_eq!(printed.out, expected, "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn braces_are_the_task_in_every_argument_and_without_braces_it_is_the_input() {
    let place = place();
    let mut command = place.command("run -0");
    command.args(["--", "printf", "<%s>", "{}", "in {} and {}", "{"]);
    assert_eq!(say(command, b"a b\n$HOME\0").ends_with(0).text(), "<a b\n$HOME><in a b\n$HOME and a b\n$HOME><{>");
    assert_eq!(place.lanelog("run -0 -- cat; echo .", b"no\nend\0").ends_with(0).text(), "no\nend.\n");
    let mut command = place.command("run");
    command.args(["--", "{}", "an argument"]);
    assert_eq!(say(command, b"echo\n").ends_with(0).text(), "an argument\n");
}

#[test]
fn a_command_that_does_not_read_its_input_is_no_failure() {
    let place = place();
    let large = vec![b'x'; 1 << 20];
    let said = place.lanelog("run --max-attempts 1 -- exit 0", large).ends_with(0);
    assert!(said.err.contains("acked 1, "), "{}", said.err);
}

#[test]
fn outputs_of_tasks_are_whole_and_never_mixed() {
    let place = place();
    // Small and many; and larger than what is held in memory, in two writes with a pause that invites others.
    let small = place.lanelog("run --concurrency 8 -- seq -f \"$1 %g\" 300", numbers(1..=40)).ends_with(0);
    let lines = small.lines();
    assert_eq!(lines.len(), 40 * 300);
    for chunk in lines.chunks(300) {
        let task = chunk[0].split_once(' ').unwrap().0;
        let expected: Vec<String> = (1..=300).map(|number| format!("{task} {number}")).collect();
        assert_eq!(chunk, expected);
    }
    let script = "head -c 1500000 /dev/zero | tr '\\0' $1; sleep 0.02; head -c 1500000 /dev/zero | tr '\\0' $1";
    let large = place.lanelog(&format!("run --concurrency 4 -- {script}"), numbers(1..=8)).ends_with(0);
    assert_eq!(large.out.len(), 8 * 3_000_000);
    assert!(large.out.chunks(3_000_000).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])));
}

#[test]
fn what_a_command_says_on_standard_error_is_passed_through_too() {
    let place = place();
    let said = place.lanelog("run --concurrency 4 -- echo out $1; echo err $1 >&2", numbers(1..=20)).ends_with(0);
    let expected = |word: &str| (1..=20).map(|number| format!("{word} {number}")).collect::<Vec<_>>();
    let mut err: Vec<&str> = said.err.lines().filter(|line| line.starts_with("err")).collect();
    err.sort_by_key(|line| line[4..].parse::<u32>().unwrap());
    let mut out = said.lines();
    out.sort_by_key(|line| line[4..].parse::<u32>().unwrap());
    assert_eq!((out, err), (expected("out"), expected("err").iter().map(String::as_str).collect()));
}

#[test]
fn work_starts_while_input_is_still_read() {
    let place = place();
    let mut run = place.start("run -- echo did $1");
    for text in ["one", "two"] {
        run.write(&format!("{text}\n"));
        assert_eq!(run.line(), format!("did {text}"));
    }
    run.write("three");
    assert_eq!(run.end().ends_with(0).text(), "did three\n");
}

#[test]
fn a_run_with_new_input_finishes_what_is_left_too() {
    let place = place();
    place.lanelog("enqueue", "old\n").ends_with(0);
    assert_eq!(place.lanelog("run -- echo $1", "new\n").ends_with(0).text(), "old\nnew\n");
    assert_eq!(place.lanelog("run -- echo $1", "").ends_with(0).text(), "");
}

#[test]
fn a_failing_task_is_retried_and_a_success_at_last_is_a_success() {
    let place = place();
    // What is in the way of task 2 is removed by its failure.
    std::fs::create_dir(place.path("made-2")).unwrap();
    let script = "echo try $1; mkdir made-$1 || ! rmdir made-$1";
    let said = place.lanelog(&format!("run --concurrency 3 -- {script}"), numbers(1..=3)).ends_with(0);
    assert_eq!(said.sorted(), ["try 1", "try 2", "try 2", "try 3"]);
    assert!(said.err.ends_with(" s\n") && said.err.contains("acked 3, retried 1, dead 0, left 0"), "{}", said.err);
}

#[test]
fn lanes_are_served_in_their_order() {
    for (count, how) in [(1000, "--print"), (20, "-- echo $1")] {
        let place = place();
        for lane in [2, 1, 0] {
            let input: String = (0..count).map(|number| format!("{lane} {number}\n")).collect();
            place.lanelog(&format!("enqueue --lanes 3 --lane {lane} --durability process"), input).ends_with(0);
        }
        let seen = place.lanelog(&format!("work --until-empty {how}"), "").ends_with(0).lines();
        let expected = (0..3).flat_map(|lane| (0..count).map(move |number| format!("{lane} {number}")));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}
