//! Promise: what was acknowledged survives the death of the process at any moment, and what was acked stays acked.
//!
//! A file of its own: a child that was just forked holds the locks of its parent's queues until it runs its program.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use lanelog::{Durability, LaneId, Queue, Reserve, Task};
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
