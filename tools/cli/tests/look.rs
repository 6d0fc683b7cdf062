//! `stats`, `verify` and `dump`: what they print, beside a running process too, and that they change nothing.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

mod support;

use std::os::unix::fs::FileExt;

use support::{Place, numbers, place, say};

#[test]
fn stats_counts_per_lane_and_group() {
    let place = place();
    place.lanelog("enqueue --lanes 3 --lane 2", numbers(1..=5)).ends_with(0);
    place.lanelog("run --max-attempts 1 -- test $1 != b", "a\nb\n").ends_with(1);
    place.lanelog("enqueue", "waits\n").ends_with(0);
    let stats = place.lanelog("stats --json", "").ends_with(0).json();
    let lanes: Vec<_> = stats["lanes"].as_array().unwrap().iter().map(|lane| (&lane["lane"], &lane["tasks"])).collect();
    assert_eq!(lanes, [(&0.into(), &3.into()), (&2.into(), &5.into())]);
    for lane in stats["lanes"].as_array().unwrap() {
        assert_eq!(lane["published"], lane["durable"]);
        assert!(lane["segments"].as_u64() > Some(0) && lane["disk_bytes"].as_u64() > Some(0));
    }
    let group = &stats["groups"][0];
    assert_eq!(group["name"], "default");
    let of = |lane: usize, what: &str| group["lanes"][lane][what].as_u64().unwrap();
    let counts = |lane| ["depth", "in_flight", "delayed", "acked", "dead"].map(|what| of(lane, what));
    assert_eq!((counts(0), counts(1)), ([1, 0, 0, 1, 1], [0, 0, 0, 5, 0]));
    assert!(group["lanes"][0]["oldest_ms"].is_u64() && group["lanes"][1]["oldest_ms"].is_null());
    let text = place.lanelog("stats", "").ends_with(0).text();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = text.lines().find(|line| line.starts_with("default")).unwrap();
    assert_eq!(words(line)[..7], ["default", "0", "1", "0", "0", "1", "1"]);
}

#[test]
fn dump_shows_every_record_with_its_state() {
    let place = place();
    place.lanelog("enqueue --lanes 2 --lane 1", b"text\n\xff\xfe\n").ends_with(0);
    place.lanelog("run -- true", "").ends_with(0);
    place.lanelog("enqueue", "new\n").ends_with(0);
    let records = place.records();
    let shown: Vec<_> = records.iter().map(|r| (r["lane"].as_u64().unwrap(), r["state"].as_str().unwrap())).collect();
    assert_eq!(shown, [(0, "waiting"), (1, "acked"), (1, "acked")]);
    assert_eq!((&records[1]["payload"], &records[2]["payload_hex"]), (&"text".into(), &"fffe".into()));
    for record in &records {
        assert!(record["id"].as_str().unwrap().parse::<lanelog::TaskId>().is_ok());
        assert!(record["sequence"].is_u64() && record["offset"].is_u64() && record["enqueued_ms"].is_u64());
    }
    assert_eq!(place.lanelog("dump --lane 1", "").ends_with(0).lines().len(), 2);
    assert!(place.lanelog("dump --lane 0", "").text().ends_with("[default: waiting] new\n"));
}

#[test]
fn a_flipped_bit_is_named_by_verify_and_the_other_tasks_are_run() {
    let place = place();
    place.lanelog("enqueue --lanes 2 --lane 1", numbers(1..=10)).ends_with(0);
    assert_eq!(place.lanelog("verify", "").ends_with(0).text(), "clean\n");
    assert_eq!(
        place.lanelog("verify --json", "").ends_with(0).json(),
        serde_json::json!({"clean": true, "damage": []})
    );
    let victim = place.records()[3].clone();
    flip(&place, victim["file"].as_str().unwrap(), victim["offset"].as_u64().unwrap() + 32);
    let sequence = victim["sequence"].as_u64().unwrap();
    let before = contents(&place);
    let text = place.lanelog("verify", "").ends_with(2).text();
    assert!(text.contains(&format!("lane 1, sequence {sequence}: ")) && text.ends_with("damaged: 1 place\n"), "{text}");
    let json = place.lanelog("verify --json", "").ends_with(2).json();
    assert_eq!(json["clean"], false);
    let damage = &json["damage"][0];
    assert_eq!((&damage["kind"], &damage["lane"], &damage["file"]), (&"corrupt".into(), &1.into(), &victim["file"]));
    assert_eq!((&damage["first_sequence"], &damage["last_sequence"]), (&sequence.into(), &sequence.into()));
    assert!(contents(&place) == before, "looking changes nothing");
    // The rest is served, and the end says that something is missing.
    let said = place.lanelog("work --until-empty -- echo $1", "").ends_with(2);
    assert_eq!(said.lines(), ["1", "2", "3", "5", "6", "7", "8", "9", "10"]);
    assert!(said.err.contains(&format!("lane 1, sequence {sequence}")), "{}", said.err);
}

#[test]
fn looking_works_beside_a_running_process_and_a_second_opener_is_told_who_it_is() {
    let place = place();
    let mut run = place.start(&format!("run --concurrency 2 -- {}", place.gate()));
    run.write("a\nb\nc\n");
    place.wait_at_gate(2);
    let stats = place.lanelog("stats --json", "").ends_with(0).json();
    assert_eq!(stats["groups"][0]["lanes"][0]["depth"], 3);
    assert_eq!(place.lanelog("verify", "").ends_with(0).text(), "clean\n");
    assert_eq!(place.states(), ["attempted", "attempted", "waiting"]);
    for second in ["enqueue", "run -- true", "work --print"] {
        let said = place.lanelog(second, "").ends_with(2);
        assert!(said.err.contains(&format!("in use by process {};", run.pid())), "{}", said.err);
        assert_eq!(said.err.lines().count(), 1);
    }
    place.open_gate();
    run.end().ends_with(0);
    assert_eq!(place.states(), ["acked", "acked", "acked"]);
    place.lanelog("enqueue", "").ends_with(0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = place();
    place.lanelog("enqueue --durability process", numbers(1..=50_000)).ends_with(0);
    let mut dump = place.start("dump");
    assert!(dump.line().ends_with(" 1"));
    drop(dump.out.take());
    assert_eq!(dump.end().ends_with(128 + 13).err, "");
}

fn contents(place: &Place) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(place.path("queue")).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "the test plays the failing disk")]
fn flip(place: &Place, file: &str, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(place.path("queue").join(file)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

#[test]
fn every_subcommand_has_an_example_that_it_would_take() {
    for name in ["run", "work", "enqueue", "stats", "verify", "dump"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lanelog"));
        command.args([name, "--help"]);
        let said = say(command, b"").ends_with(0);
        let (_, examples) = said.text().split_once("Example").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(examples.contains(&format!("lanelog {name} --queue jobs")), "{examples}");
        assert_eq!(said.err, "");
    }
}
