//! Every format that was ever released is opened by every later build: one small queue of each is kept in `tests/formats`.
//!
//! A directory has its version in every file that is read by an open: in the first sector of each segment of lanes and
//! journal (footer, marks and records are of the life that the sector begins), and in each root of the checkpoint's file, whose
//! blobs are the root's. `LOCK`, the mark of an unfinished snapshot and the scratch file hold nothing that outlives a process.
//!
//! # When the format changes
//!
//! Never change a directory that is here, nor what is expected of it: a queue that was written by an older build stays as it
//! is. Raise `FORMAT_VERSION`, raise [`NEWEST`], let [`make`] use what is new, and make another directory:
//!
//! ```sh
//! cargo test --test formats -- --ignored make_the_newest_directory
//! ```
//!
//! Read what it wrote into the `.txt` files before you commit them: that is what every build from then on must find. A build
//! that can't go on with an older version has to say so (`Error::Version`), and this test then says that instead.
//!
//! # What is kept
//!
//! `clean`, after a close, and `killed`, as the death of the process left it: each in one file, without its runs of zeros
//! ([`pack`]).
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanelog::{
    Beyond, Delivery, Durability, LaneId, Options, Queue, Reserve, Retention, Start, Task, TaskId, TaskState,
    Timestamp, inspect,
};
use support::place;

/// The format of this build.
const NEWEST: u32 = 1;
/// All that were released.
const RELEASED: [u32; 1] = [1];

/// Far enough that no build that reads this meets it: the year 2286.
const FAR: Timestamp = Timestamp(9_999_999_999_000);

/// The lane that is full of what is done, but for one task.
const SPARSE: LaneId = LaneId(2);
/// The lane that is paused.
const PAUSED: LaneId = LaneId(1);

#[test]
fn every_released_format_opens_and_shows_what_was_in_it() {
    for version in RELEASED {
        for variant in ["clean", "killed"] {
            let place = place();
            unpack(&kept(version, variant, "queue"), &place.path);
            let expected = std::fs::read_to_string(kept(version, variant, "txt")).unwrap();
            assert_eq!(describe(&place.path), expected, "format {version}, {variant}");
            assert_eq!(inspect(&place.path).unwrap().verify(), [], "format {version}, {variant}");
            assert!(holds_moved(&place.path), "what lived of a segment lies in a smaller file of its own");
            goes_on(&place.path);
            assert_eq!(inspect(&place.path).unwrap().verify(), [], "format {version}, {variant}, gone on with");
        }
    }
}

/// Opens the queue and does with it what its callers would.
fn goes_on(path: &Path) {
    // Before it is open: a look beside an open queue may find a file gone.
    let known = by_payload(path);
    let queue = Queue::open(path).unwrap();
    assert_eq!(queue.damage(), []);
    assert_eq!(queue.groups(), ["default", "audit"]);
    assert_eq!(queue.retention("audit").unwrap(), Retention::new().tasks(1_000).beyond(Beyond::Drop));
    assert_eq!(queue.stats().paused_lanes, [PAUSED]);
    let again = queue.enqueue(Task::new("again").dedup_id("order 17")).unwrap();
    assert_eq!(again, known["first of order 17"], "a dedup id counts");
    let reasons: Vec<String> = queue.dead_letters("default").unwrap().into_iter().map(|one| one.reason).collect();
    assert_eq!(reasons, ["no such file"]);
    let parked: Vec<TaskId> = queue.parked("default").unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(parked, [known["parked"]]);

    queue.resume_lane(PAUSED).unwrap();
    let loaned = queue.peek("default", LaneId(0), 100).unwrap();
    let loaned = loaned.iter().find(|record| record.id == known["on loan"]).unwrap();
    assert_eq!(loaned.states[0].1, TaskState::Attempted { attempts: 1 });
    let comes = [
        "waits",
        "on loan",
        "stays",
        "first of order 17",
        "key a 1",
        "key a 2",
        "by transaction, lane 0",
        "by transaction, lane 1",
        "in lane 1",
    ];
    let mut drained = drain(&queue, "default");
    let is_first = |text: &str| drained.iter().position(|other| other == text).unwrap();
    assert!(is_first("key a 1") < is_first("key a 2"));
    drained.sort_unstable();
    assert_eq!(drained, sorted(&comes));
    let others = ["acked", "acked with the transaction", "rejected", "nacked", "parked"];
    let mut drained = drain(&queue, "audit");
    drained.retain(|text| text != "stays");
    drained.sort_unstable();
    assert_eq!(drained, sorted(&[&comes[..2], &comes[3..], &others].concat()));

    queue.enqueue(Task::new("new").lane(SPARSE)).unwrap();
    queue.checkpoint().unwrap();
    assert_eq!(drain(&queue, "default"), ["new"]);
    let delayed = known["delayed"];
    assert!(queue.cancel(delayed).unwrap() && !queue.cancel(known["cancelled"]).unwrap());
    assert_eq!(queue.damage(), []);
    queue.close().unwrap();
}

fn sorted(texts: &[&str]) -> Vec<String> {
    let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    texts.sort_unstable();
    texts
}

/// Takes and acks all there is, key by key.
fn drain(queue: &Queue, group: &str) -> Vec<String> {
    let consumer = queue.consumer_of(group, lanelog::ConsumerOptions::new()).unwrap();
    let mut found = Vec::new();
    loop {
        let taken = consumer.reserve(Reserve::new().tasks(100)).unwrap();
        if taken.is_empty() {
            return found;
        }
        found.extend(taken.iter().map(text_of));
        for answer in consumer.ack_batch(taken).unwrap() {
            answer.unwrap();
        }
    }
}

fn text_of(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().to_vec()).unwrap()
}

/// No recovery cut a file of these, so a smaller one is what lived of another.
fn holds_moved(path: &Path) -> bool {
    let mut smaller = false;
    inspect(path).unwrap().for_each_task(|record| {
        let bytes = std::fs::metadata(path.join(&record.file)).unwrap().len();
        smaller |= record.payload == "stays" && bytes < 4096;
    });
    smaller
}

fn by_payload(path: &Path) -> BTreeMap<String, TaskId> {
    let mut found = BTreeMap::new();
    inspect(path).unwrap().for_each_task(|record| {
        found.insert(String::from_utf8_lossy(&record.payload).into_owned(), record.id);
    });
    found
}

/// Every task and what each group makes of it, and each group, in words that say nothing of the time of their making.
fn describe(path: &Path) -> String {
    let inspection = inspect(path).unwrap();
    let mut text = format!("queue {}\n", inspection.id());
    inspection.for_each_task(|record| {
        let payload = String::from_utf8_lossy(&record.payload).into_owned();
        if payload.starts_with("filler") {
            return;
        }
        write!(text, "{} {payload:?}", record.id).unwrap();
        if let Some(key) = &record.key {
            write!(text, ", key {:?}", String::from_utf8_lossy(key)).unwrap();
        }
        for (name, value) in &record.headers {
            write!(text, ", {name}: {:?}", String::from_utf8_lossy(value)).unwrap();
        }
        if let Some(at) = record.run_at {
            write!(text, ", not before {}", at.0).unwrap();
        }
        for (group, state) in &record.states {
            write!(text, "; {group}: {}", in_words(state)).unwrap();
        }
        text.push('\n');
    });
    for group in &inspection.stats().groups {
        let counts =
            group.lanes.iter().map(|lane| format!("lane {}: {} to do, {} acked", lane.lane, lane.depth, lane.acked));
        writeln!(text, "group {}: {}", group.name, counts.collect::<Vec<_>>().join("; ")).unwrap();
    }
    text
}

fn in_words(state: &TaskState) -> String {
    match state {
        TaskState::Waiting => "waiting".to_owned(),
        TaskState::Attempted { attempts } => format!("attempted {attempts} times"),
        TaskState::Delayed { attempts, .. } => format!("delayed after {attempts} attempts"),
        TaskState::Acked => "acked".to_owned(),
        TaskState::Leased { attempts } => format!("on loan for the {attempts}. time"),
        TaskState::Parked { reason, .. } => format!("parked: {reason}"),
        TaskState::Dead { attempts, cause, reason, .. } => {
            format!("dead after {attempts} attempts, {cause:?}: {reason}")
        }
        other => format!("{other:?}"),
    }
}

fn kept(version: u32, variant: &str, extension: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/v{version}"));
    directory.join(variant).with_extension(extension)
}

// ---- making ----

#[test]
#[ignore = "makes the directory of a format that is new, once"]
fn make_the_newest_directory() {
    let directory = kept(NEWEST, "x", "queue").parent().unwrap().to_owned();
    assert!(!directory.exists(), "{} is there, and is never changed", directory.display());
    let place = place();
    let queue = make(&place.path);
    let killed = support::as_a_death_leaves_it(&place);
    queue.close().unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    for (variant, path) in [("clean", &place.path), ("killed", &killed)] {
        std::fs::write(kept(NEWEST, variant, "txt"), describe(path)).unwrap();
        std::fs::write(kept(NEWEST, variant, "queue"), pack(path)).unwrap();
    }
}

/// A queue with something of everything that is kept on disk. Half of it is in the checkpoint, half in the journal alone.
fn make(path: &Path) -> Queue {
    let queue = options().open(path).unwrap();
    make_sparse(&queue);
    queue.create_group("audit", Start::Newest).unwrap();
    queue.set_retention("audit", Retention::new().tasks(1_000).beyond(Beyond::Drop)).unwrap();
    let send = |task: Task<'_>| queue.enqueue(task).unwrap();
    for text in ["acked", "rejected", "nacked"] {
        send(Task::new(text));
    }
    let mut taken = queue.consumer().reserve(Reserve::new().tasks(3)).unwrap().into_iter();
    taken.next().unwrap().ack().unwrap();
    taken.next().unwrap().reject("no such file").unwrap();
    taken.next().unwrap().nack(Some(Duration::from_secs(200 * 365 * 24 * 3600)), "busy").unwrap();
    let parked = send(Task::new("parked"));
    assert!(queue.park("default", parked, "not today").unwrap());
    send(Task::new("delayed").run_at(FAR));
    send(Task::new("first of order 17").dedup_id("order 17").dedup_until_settled());
    queue.checkpoint().unwrap();

    send(Task::new("waits").header("tenant", "acme"));
    send(Task::new("on loan"));
    let consumer = queue.consumer();
    let on_loan: Vec<Delivery> =
        consumer.reserve(Reserve::new().lanes([LaneId(0)].into_iter().collect()).tasks(10)).unwrap();
    for delivery in on_loan {
        match text_of(&delivery).as_str() {
            "on loan" => drop(delivery.detach()),
            _ => delivery.release().unwrap(),
        }
    }
    send(Task::new("key a 1").key("a"));
    send(Task::new("key a 2").key("a"));
    let cancelled = send(Task::new("cancelled"));
    assert!(queue.cancel(cancelled).unwrap());
    send(Task::new("acked with the transaction").lane(PAUSED));
    let lease = consumer.reserve(Reserve::new().lanes([PAUSED].into_iter().collect())).unwrap().pop().unwrap();
    let mut transaction = queue.transaction();
    transaction.enqueue(Task::new("by transaction, lane 0")).unwrap();
    transaction.enqueue(Task::new("by transaction, lane 1").lane(PAUSED)).unwrap();
    transaction.ack(lease);
    transaction.commit().unwrap();
    send(Task::new("in lane 1").lane(PAUSED));
    queue.pause_lane(PAUSED).unwrap();
    queue.sync().unwrap();
    queue
}

fn options() -> Options {
    // Nothing is written by itself while the directory is copied.
    Options::new()
        .segment_bytes(4096)
        .lanes(3)
        .lease(Duration::from_secs(3600))
        .checkpoint_interval(Duration::from_secs(3600))
}

/// Segments full of what is done, but for one task, which is moved.
fn make_sparse(queue: &Queue) {
    let filler = "filler ".repeat(12);
    for number in 0..120 {
        let text = if number == 20 { "stays" } else { filler.as_str() };
        queue.enqueue(Task::new(text).lane(SPARSE).durability(Durability::Process)).unwrap();
    }
    let consumer = queue.consumer();
    let taken = consumer.reserve(Reserve::new().tasks(200)).unwrap();
    let (stays, done): (Vec<_>, Vec<_>) = taken.into_iter().partition(|delivery| text_of(delivery) == "stays");
    consumer.ack_batch(done).unwrap().into_iter().for_each(|answer| answer.unwrap());
    stays.into_iter().for_each(|delivery| delivery.release().unwrap());
    queue.sync().unwrap();
    let began = support::wall();
    while queue.stats().evacuated_segments == 0 {
        assert!(support::wall() < began + 60_000, "what lives is moved");
        support::wait_over(Duration::from_millis(20));
    }
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
}

// ---- packing ----

/// Zeros of at least so many bytes are left out.
const PIECE: usize = 32;

/// A directory in one file. For each of its files: the bytes of the name and the name, the length, and the number of pieces;
/// for each piece its offset, its length and its bytes. Numbers are u32, little-endian. What is in no piece is zeros.
fn pack(path: &Path) -> Vec<u8> {
    let mut packed = Vec::new();
    let number = |packed: &mut Vec<u8>, number: usize| packed.extend(u32::try_from(number).unwrap().to_le_bytes());
    let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let bytes = if name == "LOCK" { Vec::new() } else { std::fs::read(path.join(&name)).unwrap() };
        let mut pieces: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, piece) in bytes.chunks(PIECE).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
            match pieces.last_mut().filter(|(from, before)| from + before.len() == at * PIECE) {
                Some((_, before)) => before.extend(piece),
                None => pieces.push((at * PIECE, piece.to_vec())),
            }
        }
        let name = name.to_str().unwrap();
        number(&mut packed, name.len());
        packed.extend(name.as_bytes());
        number(&mut packed, bytes.len());
        number(&mut packed, pieces.len());
        for (at, piece) in pieces {
            number(&mut packed, at);
            number(&mut packed, piece.len());
            packed.extend(piece);
        }
    }
    packed
}

/// What [`pack`] made, as a directory again.
fn unpack(packed: &Path, path: &Path) {
    let packed = std::fs::read(packed).unwrap();
    let mut rest = packed.as_slice();
    let bytes = |rest: &mut &[u8], count: usize| {
        let (bytes, after) = rest.split_at(count);
        *rest = after;
        bytes.to_vec()
    };
    let number = |rest: &mut &[u8]| u32::from_le_bytes(bytes(rest, 4).try_into().unwrap()) as usize;
    std::fs::create_dir(path).unwrap();
    while !rest.is_empty() {
        let count = number(&mut rest);
        let name = String::from_utf8(bytes(&mut rest, count)).unwrap();
        let mut whole = vec![0; number(&mut rest)];
        for _ in 0..number(&mut rest) {
            let (at, count) = (number(&mut rest), number(&mut rest));
            whole[at..at + count].copy_from_slice(&bytes(&mut rest, count));
        }
        std::fs::write(path.join(&name), whole).unwrap();
    }
}

#[test]
fn a_directory_comes_back_as_it_was_packed() {
    let place = place();
    drop(make(&place.path));
    let packed = place.path.with_extension("queue");
    std::fs::write(&packed, pack(&place.path)).unwrap();
    let again = place.path.with_extension("again");
    unpack(&packed, &again);
    for entry in std::fs::read_dir(&place.path).unwrap() {
        let name = entry.unwrap().file_name();
        let same = std::fs::read(place.path.join(&name)).unwrap() == std::fs::read(again.join(&name)).unwrap();
        assert!(same || name == "LOCK", "{name:?}");
    }
    assert_eq!(describe(&again), describe(&place.path));
}
