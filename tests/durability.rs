//! Promise: `Power` is acknowledged after stable storage has it, `Process` when the kernel has it; what was
//! acknowledged survives the death of the process.
//!
//! Killing a process proves what it published. That a sync happened before the answer is proven by the crash tests
//! on the simulated disk.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper fails the test that called it; the test waits with a limit"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lanelog::{Durability, Error, LaneId, Options, Queue, Reserve, Task};
use support::{drain, place, small, texts};

const CHILD: &str = "LANELOG_TEST_CHILD";

/// Not a test by itself: the process that the others kill. Enqueues, says so, and goes on until it dies.
#[test]
fn child_process_to_be_killed() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let (what, path) = spec.split_once(':').unwrap();
    let queue = small().checkpoint_bytes(4096).open(path).unwrap();
    let consumer = queue.consumer();
    let durability = if what == "power" { Durability::Power } else { Durability::Process };
    for number in 0_u64.. {
        let text = format!("task {number}");
        let lane = LaneId(u8::try_from(number % 3).unwrap());
        queue.enqueue(Task::new(&text).lane(lane).durability(durability)).unwrap();
        println!("enqueued {text}");
        if number % 4 == 3 {
            let delivery = consumer.reserve(Reserve::new()).unwrap().pop().unwrap();
            let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
            println!("acking {text}");
            delivery.ack().unwrap();
            println!("acked {text}");
        }
    }
}

fn spawn(what: &str, path: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process_to_be_killed", "--nocapture"])
        .env(CHILD, format!("{what}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the child said before it died.
#[derive(Default)]
struct Said {
    enqueued: Vec<String>,
    acked: Vec<String>,
    /// An ack that was asked for and not answered: in doubt.
    acking: Option<String>,
}

/// Kills the child after it said that `answers` operations were done.
fn kill_after(what: &str, path: &std::path::Path, answers: usize) -> Said {
    let mut child = spawn(what, path);
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = Said::default();
    for line in stdout.lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("enqueued ") {
            said.enqueued.push(text.to_owned());
        }
        if let Some(text) = line.strip_prefix("acking ") {
            said.acking = Some(text.to_owned());
        }
        if let Some(text) = line.strip_prefix("acked ") {
            said.acked.push(text.to_owned());
            said.acking = None;
        }
        if said.enqueued.len() + said.acked.len() == answers {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

#[test]
fn acknowledged_tasks_survive_kill_9_and_acked_ones_do_not_come_back() {
    for (what, answers) in [("power", 25), ("power", 180), ("process", 60), ("process", 700), ("process", 1500)] {
        let place = place();
        let said = kill_after(what, &place.path, answers);
        let queue = Queue::open(&place.path).expect("a killed holder blocks nobody");
        let left = drain(&queue);
        let left_texts = texts(&left);
        assert_eq!(left.len(), left_texts.len(), "{what}: nothing twice");
        for text in &said.enqueued {
            let settled = said.acked.contains(text) || said.acking.as_ref() == Some(text);
            assert!(settled || left_texts.contains(text), "{what}: {text} is lost");
        }
        for text in &said.acked {
            assert!(!left_texts.contains(text), "{what}: {text} was acked and comes again");
        }
        assert_eq!(queue.damage(), [], "{what}");
    }
}

#[test]
fn watermarks_tell_what_is_published_and_what_is_durable() {
    let place = place();
    let queue = small().sync_interval(Duration::from_secs(3600)).open(&place.path).unwrap();
    queue.enqueue(Task::new("to the kernel").durability(Durability::Process)).unwrap();
    let before = queue.watermarks(LaneId(0)).unwrap();
    assert!(before.published > before.durable, "{before:?}");
    queue.sync().unwrap();
    let after = queue.watermarks(LaneId(0)).unwrap();
    assert!(after.published == after.durable && after.durable >= before.published, "{before:?}, {after:?}");
    let stats = queue.stats().lanes[0].clone();
    assert_eq!((stats.published, stats.durable), (after.published, after.durable));
    assert_eq!(queue.watermarks(LaneId(2)).unwrap().published, 0, "a lane that nobody used");
    assert!(matches!(queue.watermarks(LaneId(3)), Err(Error::NoSuchLane { .. })));
}

#[test]
fn padded_commits_end_at_a_physical_block_and_cost_no_task() {
    let place = place();
    let options = small().segment_bytes(1 << 16).pad_commits(true);
    let queue = options.open(&place.path).unwrap();
    for number in 0..30 {
        queue.enqueue(Task::new(&format!("{number}"))).unwrap();
        // The last block of a segment has a footer to leave room for.
        let durable = queue.watermarks(LaneId(0)).unwrap().durable;
        assert!(durable.is_multiple_of(4096) || durable % (1 << 16) > (1 << 16) - 4096, "{durable}");
    }
    drop(queue);
    let queue = options.open(&place.path).unwrap();
    assert_eq!((drain(&queue).len(), queue.damage()), (30, Vec::new()));
}

#[test]
fn process_data_is_synced_within_the_interval_without_anybody_asking() {
    let place = place();
    let queue = small().sync_interval(Duration::from_millis(10)).open(&place.path).unwrap();
    queue.enqueue(Task::new("soon").durability(Durability::Process)).unwrap();
    let began = Instant::now();
    while queue.stats().lanes[0].durable == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "never synced");
        std::thread::yield_now();
    }
}

#[test]
fn submitted_tasks_have_ids_at_once_and_become_durable_together() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let pending: Vec<_> = (0..50).map(|n| queue.submit(Task::new(&format!("{n}"))).unwrap()).collect();
    let ids: std::collections::BTreeSet<_> = pending.iter().map(|pending| pending.id().to_string()).collect();
    assert_eq!(ids.len(), 50);
    let commits = queue.stats().commits;
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(queue.stats().commits <= commits + 5, "fifty tasks did not take fifty syncs");
}

#[test]
fn dropping_the_queue_without_a_close_loses_nothing() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..500 {
        queue.enqueue(Task::new(&format!("{number}")).durability(Durability::Process)).unwrap();
    }
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(drain(&queue).len(), 500);
}

#[test]
fn payloads_of_zeros_are_tasks_like_any_other_after_a_death() {
    for (bytes, options) in [(300 << 10, Options::new()), (3 << 20, Options::new()), (700, small())] {
        let place = place();
        let queue = options.open(&place.path).unwrap();
        queue.enqueue(Task::new("first")).unwrap();
        queue.enqueue(Task::new(&vec![0; bytes])).unwrap();
        for number in 0..20 {
            queue.enqueue(Task::new(&format!("{number}"))).unwrap();
        }
        let dead = support::as_a_death_leaves_it(&place);
        let queue = Queue::open(&dead).unwrap();
        assert_eq!((drain(&queue).len(), queue.damage()), (22, Vec::new()), "{bytes} bytes of zeros");
    }
}
