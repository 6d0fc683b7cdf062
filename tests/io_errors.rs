//! Promise: an I/O error under the map is an error of the call that met it, and acknowledges nothing; the rest is served.
//!
//! A file that is cut under its map stands for a device that fails: the kernel answers both with SIGBUS. What may be
//! killed by that runs in a process of its own.
#![expect(unsafe_code, reason = "the tests raise and catch the signal that the guard is about")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use lanelog::{DamageKind, Delivery, Durability, Error, Options, Queue, Reserve, Task, TaskId, inspect};
use support::{Place, drain, place, small, texts};

const CHILD: &str = "LANELOG_IO_CHILD";
const PAGE_BYTES: u64 = 4096;

/// Runs one of the scenes below in a process of its own.
fn play(scene: &str, path: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD, format!("{scene}:{}", path.display()))
        .status()
        .unwrap()
}

/// Not a test by itself: the process that plays a scene and exits with 0 if it went as it should.
#[test]
fn child_process() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let (scene, path) = spec.split_once(':').unwrap();
    let path = PathBuf::from(path);
    match scene {
        "enqueue at power" => enqueue_into_a_cut_segment(&path, Durability::Power),
        "enqueue at process" => enqueue_into_a_cut_segment(&path, Durability::Process),
        "batch" => batch_into_a_cut_segment(&path),
        "commit" => commit_of_a_cut_segment(&path),
        "settle" => settle_from_a_cut_segment(&path),
        "journal" => settle_into_a_cut_journal(&path),
        "hand out" => hand_out_from_a_cut_segment(&path),
        "evicted" => reserve_from_a_segment_cut_while_it_is_read(&path),
        "redelivery" => redelivery_from_a_cut_segment(&path),
        "chain to function" => chain_to_a_function(&path),
        "chain to default" => chain_to(&path, libc::SIG_DFL),
        "chain to ignore" => chain_to(&path, libc::SIG_IGN),
        "sent and ignored" => sent_and_ignored(&path),
        "many maps" => a_fault_in_the_last_of_many_maps(&path),
        other => panic!("no scene {other}"),
    }
}

fn guarded() -> Options {
    Options::new().sigbus_guard(true)
}

/// A thousand bytes, so that four tasks take a page.
fn text(number: usize) -> String {
    format!("task {number:<995}")
}

fn enqueue(queue: &Queue, numbers: std::ops::Range<usize>) -> Vec<TaskId> {
    numbers.map(|number| queue.enqueue(Task::new(&text(number))).unwrap()).collect()
}

/// The file and the offset of a task.
fn place_of(path: &Path, id: TaskId) -> (PathBuf, u64) {
    let mut found = None;
    inspect(path).unwrap().for_each_task(|task| {
        if task.id == id {
            found = Some((path.join(&task.file), task.offset));
        }
    });
    found.expect("the task is there")
}

#[expect(clippy::disallowed_methods, reason = "the test plays the failing disk")]
fn cut(file: &Path, bytes: u64) {
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

fn in_doubt(error: &Error, file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    matches!(error, Error::InDoubt { cause, .. } if matches!(&**cause, Error::Io { file, .. } if file == name))
}

/// Every task of 0..count is delivered whole, or there is damage.
fn served_or_reported(path: &Path, count: usize) -> usize {
    let queue = Queue::open(path).unwrap();
    let served = texts(&drain(&queue));
    let all: BTreeSet<String> = (0..count).map(text).collect();
    assert!(served.is_subset(&all), "nothing damaged is handed out");
    assert!(served.len() == count || !queue.damage().is_empty(), "{} of {count} and no report", served.len());
    served.len()
}

fn enqueue_into_a_cut_segment(path: &Path, durability: Durability) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[9]);
    cut(&file, PAGE_BYTES);
    let error = queue.enqueue(Task::new(&text(10)).durability(durability)).unwrap_err();
    assert!(in_doubt(&error, &file), "{error}");
    assert!(matches!(&error, Error::InDoubt { task: Some(id), .. } if id.seq() > ids[9].seq()), "{error}");
    let error = queue.enqueue(Task::new("more")).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(queue.consumer().reserve(Reserve::new()).is_err());
    assert_eq!(queue.stats().lanes.len(), 1, "looking goes on");
}

fn batch_into_a_cut_segment(path: &Path) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[9]);
    cut(&file, PAGE_BYTES);
    let texts: Vec<String> = (10..20).map(text).collect();
    let tasks: Vec<Task<'_>> = texts.iter().map(|text| Task::new(text).durability(Durability::Process)).collect();
    let error = queue.enqueue_batch(&tasks).unwrap_err();
    assert!(in_doubt(&error, &file), "{error}");
}

fn commit_of_a_cut_segment(path: &Path) {
    let queue = guarded().sync_interval(std::time::Duration::from_secs(3600)).open(path).unwrap();
    let ids = enqueue(&queue, 0..1);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[0]);
    let pending: Vec<_> = (1..10).map(|number| queue.submit(Task::new(&text(number))).unwrap()).collect();
    cut(&file, PAGE_BYTES);
    for pending in pending {
        let error = pending.wait().unwrap_err();
        assert!(in_doubt(&error, &file), "{error}");
    }
    assert!(matches!(queue.sync(), Err(Error::Poisoned { .. } | Error::InDoubt { .. })));
}

#[test]
fn enqueue_commit_and_batch_into_a_segment_that_fails_acknowledge_nothing_and_the_process_lives() {
    for scene in ["enqueue at power", "enqueue at process", "batch", "commit"] {
        let place = place();
        let status = play(scene, &place.path);
        assert!(status.success(), "{scene}: {status}");
        let served = served_or_reported(&place.path, 10);
        assert!(served < 10, "{scene}: more than the file still holds");
    }
}
fn settle_from_a_cut_segment(_: &Path) {}
fn settle_into_a_cut_journal(_: &Path) {}
fn hand_out_from_a_cut_segment(_: &Path) {}
fn reserve_from_a_segment_cut_while_it_is_read(_: &Path) {}
fn redelivery_from_a_cut_segment(_: &Path) {}
fn a_fault_in_the_last_of_many_maps(_: &Path) {}
fn chain_to_a_function(_: &Path) {}
fn chain_to(_: &Path, _: usize) {}
fn sent_and_ignored(_: &Path) {}
