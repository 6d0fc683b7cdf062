//! Promise: a file that is gone, doubled, under another name or from another queue, and a copy of a directory that was in
//! use, are told or reported with the tasks they cost; every other task is served, and nothing foreign is.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lanelog::{DamageKind, Durability, LaneId, Options, Queue, Reserve, Start, Task};
use support::{copy, drain, place, small, texts};

const TASKS: usize = 8;

fn text(queue: &str, task: usize) -> String {
    format!("{queue} task {task:<900}")
}

/// A closed queue of two groups with a backlog over a few segments of two lanes.
fn make(path: &Path, name: &str) {
    let queue = small().lanes(2).open(path).unwrap();
    for task in 0..TASKS {
        let lane = LaneId(u8::from(task == 0));
        queue.enqueue(Task::new(&text(name, task)).lane(lane)).unwrap();
    }
    queue.create_group("other", Start::Oldest).unwrap();
    queue.close().unwrap();
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What is served of the queue `a` in a directory that somebody rearranged is whole and its own, and what is not is
/// reported; a refusal says why.
fn told_or_reported(path: &Path, what: &str) {
    // Without a checkpoint it is not known how many lanes there are.
    let queue = match Options::new().lanes(2).open(path) {
        Ok(queue) => queue,
        Err(error) => {
            assert!(error.to_string().contains(".seg") || error.to_string().contains("checkpoint"), "{what}: {error}");
            return;
        }
    };
    let served = drain(&queue);
    let known = texts(&served);
    assert_eq!(known.len(), served.len(), "{what}: nothing twice");
    let whole: BTreeSet<String> = (0..TASKS).map(|task| text("a", task)).collect();
    assert!(known.is_subset(&whole), "{what}: nothing foreign");
    let damage = queue.damage();
    let reported: u64 = damage.iter().filter_map(|damage| damage.lost).map(|(first, last)| last.0 - first.0 + 1).sum();
    let missing = u64::try_from(TASKS - known.len()).unwrap();
    // What only the checkpoint knew of is unknown without it.
    let is_blind = damage.iter().any(|damage| damage.file == "checkpoint" && damage.kind == DamageKind::Missing);
    assert!(reported >= missing || is_blind, "{what}: {missing} are missing, {reported} are reported: {damage:?}");
    queue.enqueue(Task::new("goes on")).unwrap();
    assert_eq!(drain(&queue), [b"goes on"], "{what}");
}

#[test]
fn file_that_is_gone_or_has_another_name_is_reported_with_its_tasks() {
    let place = place();
    make(&place.path, "a");
    for file in files(&place.path) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        for (number, new_name) in [None, Some("00abcdef.seg"), Some("aside")].into_iter().enumerate() {
            let path = copy(&place.path, &format!("{name}-{number}"));
            match new_name {
                None => std::fs::remove_file(path.join(&name)).unwrap(),
                Some(new_name) => std::fs::rename(path.join(&name), path.join(new_name)).unwrap(),
            }
            told_or_reported(&path, &format!("{name} to {new_name:?}"));
        }
    }
}

#[test]
fn file_over_another_of_its_queue_costs_that_one_alone() {
    let place = place();
    make(&place.path, "a");
    let names: Vec<PathBuf> = files(&place.path).iter().map(|file| file.file_name().unwrap().into()).collect();
    for (number, from) in names.iter().enumerate() {
        for (other, to) in names.iter().enumerate().filter(|(other, _)| *other != number) {
            let path = copy(&place.path, &format!("{number}-over-{other}"));
            std::fs::copy(place.path.join(from), path.join(to)).unwrap();
            told_or_reported(&path, &format!("{} over {}", from.display(), to.display()));
            if number < other {
                let path = copy(&place.path, &format!("{number}-for-{other}"));
                std::fs::copy(place.path.join(from), path.join(to)).unwrap();
                std::fs::copy(place.path.join(to), path.join(from)).unwrap();
                told_or_reported(&path, &format!("{} for {}", from.display(), to.display()));
            }
        }
    }
}

#[test]
fn file_of_another_queue_is_never_taken_for_one_of_this() {
    let (ours, theirs) = (place(), place());
    make(&ours.path, "a");
    make(&theirs.path, "b");
    for (number, from) in files(&theirs.path).iter().enumerate() {
        let from_name = from.file_name().unwrap().to_str().unwrap();
        let mut targets: Vec<PathBuf> = files(&ours.path).iter().map(|file| file.file_name().unwrap().into()).collect();
        targets.push("00abcdef.seg".into());
        for (other, to) in targets.iter().enumerate() {
            if from_name == "checkpoint" && to == Path::new("checkpoint") {
                continue;
            }
            let path = copy(&ours.path, &format!("foreign-{number}-{other}"));
            std::fs::copy(from, path.join(to)).unwrap();
            told_or_reported(&path, &format!("foreign {from_name} over {}", to.display()));
        }
    }
}

/// The checkpoint says which queue it is: with that of another one nothing here is this queue's, and all of it stays.
#[test]
fn checkpoint_of_another_queue_leaves_everything_as_it_is() {
    let (ours, theirs) = (place(), place());
    make(&ours.path, "a");
    make(&theirs.path, "b");
    let path = copy(&ours.path, "exchanged");
    std::fs::copy(theirs.path.join("checkpoint"), path.join("checkpoint")).unwrap();
    if let Ok(queue) = Queue::open(&path) {
        assert!(drain(&queue).is_empty(), "nothing of ours under their name");
        assert!(!queue.damage().is_empty(), "theirs is missing");
        queue.close().unwrap();
    }
    std::fs::copy(ours.path.join("checkpoint"), path.join("checkpoint")).unwrap();
    told_or_reported(&path, "the checkpoint came back");
    let queue = Queue::open(copy(&path, "again")).unwrap();
    assert_eq!(queue.damage(), [], "what was not taken for theirs is not lost");
}

// ---- a copy of a directory in use ----

/// Stops the thread beside this one, whatever ends this one.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies file by file, as `cp -r` does, while the files change.
fn copy_in_use(path: &Path, number: usize) -> PathBuf {
    let copy = path.with_extension(format!("live-{number}"));
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name();
        // A file may go meanwhile.
        let _gone = std::fs::copy(path.join(&name), copy.join(&name));
    }
    copy
}

#[test]
fn copy_of_a_queue_in_use_serves_what_was_accepted_before_or_reports_it() {
    let place = place();
    let queue = small().checkpoint_bytes(4096).open(&place.path).unwrap();
    // These nobody acks.
    let kept: BTreeSet<String> = (0..20).map(|task| text("kept", task)).collect();
    for task in &kept {
        queue.enqueue(Task::new(task).lane(LaneId(2))).unwrap();
    }
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&over);
        let worker = scope.spawn(|| {
            let consumer = queue.consumer();
            for task in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                queue.enqueue(Task::new(&text("busy", task)).durability(Durability::Process)).unwrap();
                for delivery in consumer.reserve(Reserve::new().lanes([LaneId(0)].into_iter().collect())).unwrap() {
                    delivery.ack().unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let copies = (1..=40).map(|number| {
            while done.load(Ordering::Relaxed) < number * 10 {
                assert!(!worker.is_finished(), "the queue is in use");
                std::thread::yield_now();
            }
            copy_in_use(&place.path, number)
        });
        for copy in copies {
            let queue = Queue::open(&copy).unwrap();
            let served = drain(&queue);
            let known = texts(&served);
            assert_eq!(known.len(), served.len(), "nothing twice");
            assert!(known.iter().all(|text| text.starts_with("kept task ") || text.starts_with("busy task ")));
            assert!(kept.is_subset(&known) || !queue.damage().is_empty(), "lost without a word");
        }
    });
}
