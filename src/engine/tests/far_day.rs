//! Ten million tasks delayed over a day: memory, speed, and how late each comes. Prints; asserts nothing about time.
//!
//! `cargo test --release --lib -- --ignored --nocapture tasks_delayed_over_a_day`; `LANELOG_FAR` is how many there are,
//! `LANELOG_FAR_DIR` where their queue is made (about 3 GB), by default the target directory.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::world::ask;
use crate::delivery::Ask;
use crate::engine::Engine;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::format::fields::Traits;
use crate::queue::{Options, Queue, Task};
use crate::storage::disk::DiskStorage;
use crate::types::{Durability, Now, Timestamp};

const DAY_MS: u64 = 24 * 3_600_000;
const PAYLOAD: [u8; 100] = [7; 100];

/// Bytes of anonymous memory that are resident.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn per_second(tasks: u64, time: Duration) -> f64 {
    tasks as f64 / time.as_secs_f64()
}

/// When the task of that number is due: spread over a day in no order.
fn due(number: u64, from: u64) -> u64 {
    from + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % DAY_MS
}

/// Enqueues so many tasks; those with a time at `due`.
fn enqueue(path: &Path, tasks: u64, from: Option<u64>) -> Duration {
    let queue = Options::new().open(path).unwrap();
    let began = Instant::now();
    for number in 0..tasks {
        let task = Task::new(&PAYLOAD).durability(Durability::Process);
        let task = match from {
            Some(from) => task.run_at(Timestamp(due(number, from))),
            None => task,
        };
        queue.enqueue(task).unwrap();
    }
    let took = began.elapsed();
    queue.close().unwrap();
    took
}

/// The queue, driven by a clock of our own.
struct Day {
    engine: Engine,
    now: Now,
    /// Bytes of anonymous memory at most.
    most: u64,
}

impl Day {
    fn open(path: &Path, now: Now) -> Day {
        let storage = Arc::new(DiskStorage::open(path).unwrap());
        let given = Given { resolve: &|stored| Ok(stored.cloned().unwrap()), fail_on_damage: true };
        Day { engine: recovery::open(storage, path, &given, now).unwrap(), now, most: anonymous() }
    }

    /// Hands out and acks what is due. Gives how many there were, and how late the last one was.
    fn take(&mut self) -> (u64, u64) {
        let cell = self.engine.group("default").unwrap();
        let (mut count, mut latest) = (0, 0);
        loop {
            let ask = Ask { lease_ms: 60_000, ..ask(64) };
            let handed = self.engine.reserve(&cell, &ask, self.now, |one| one).unwrap();
            if handed.is_empty() {
                return (count, latest);
            }
            for one in &handed {
                let due = Traits::decode(one.body.fields()).run_at.unwrap();
                assert!(due <= self.now.wall, "it comes early");
                latest = latest.max(self.now.wall.0 - due.0);
            }
            count += handed.len() as u64;
            let receipts: Vec<_> = handed.iter().map(|one| one.receipt).collect();
            self.engine.settle(&cell, receipts.into_iter(), Settle::Ack, self.now).unwrap();
        }
    }

    /// Goes on to when there is work next.
    fn go_on(&mut self) {
        let next = self.engine.tick(self.now).unwrap().unwrap_or(self.now.boot_ms);
        let step = next.saturating_sub(self.now.boot_ms).max(1);
        self.now.boot_ms += step;
        self.now.wall.0 += step;
    }

    fn keep_house(&mut self) {
        while self.engine.prepare().unwrap() {}
        self.engine.write_footers(self.now.wall).unwrap();
        if self.engine.wants_checkpoint(self.now) {
            self.engine.checkpoint(self.now, false).unwrap();
        }
        self.engine.recycle();
        self.most = self.most.max(anonymous());
    }
}

#[test]
#[ignore = "a measurement that takes minutes"]
fn tasks_delayed_over_a_day() {
    let tasks: u64 = std::env::var("LANELOG_FAR").map_or(10_000_000, |tasks| tasks.parse().unwrap());
    let root = std::env::var("LANELOG_FAR_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let dir = tempfile::tempdir_in(root).unwrap();

    let plain = dir.path().join("plain");
    let undelayed = enqueue(&plain, tasks, None);
    std::fs::remove_dir_all(&plain).unwrap();
    let path = dir.path().join("far");
    let start = crate::storage::disk::clock::now().wall;
    let from = start.0 + 3_600_000;
    let delayed = enqueue(&path, tasks, Some(from));
    println!(
        "{tasks} tasks of 100 bytes, Process, one thread: undelayed {:.0}/s, delayed over a day {:.0}/s ({:.2})",
        per_second(tasks, undelayed),
        per_second(tasks, delayed),
        undelayed.as_secs_f64() / delayed.as_secs_f64()
    );
    println!("RssAnon behind the enqueues: {}", mib(anonymous()));

    let mut day = Day::open(&path, Now { boot_ms: 1_000, wall: Timestamp(from - 60_000) });
    let began = Instant::now();
    assert_eq!(day.take(), (0, 0));
    let met = began.elapsed();
    let stats = day.engine.stats(day.now);
    assert_eq!(stats.groups[0].lanes[0].delayed, tasks);
    println!(
        "met and put away in {met:.1?} ({:.0}/s), RssAnon {}, scratch file {}",
        per_second(tasks, met),
        mib(anonymous()),
        mib(stats.scratch_bytes)
    );

    let (mut count, mut worst, mut house_ms, mut looks) = (0, 0, 0, 0_u64);
    let began = Instant::now();
    while count < tasks {
        day.go_on();
        let (more, latest) = day.take();
        count += more;
        worst = worst.max(latest);
        looks += 1;
        if day.now.boot_ms >= house_ms {
            day.keep_house();
            house_ms = day.now.boot_ms + 10_000;
        }
        assert!(day.now.wall.0 <= from + 2 * DAY_MS, "some never come: {count} did");
    }
    println!(
        "a day in {:.1?}: {count} handed out and acked at {looks} moments, the latest {worst} ms late",
        began.elapsed()
    );
    println!(
        "RssAnon at most {}, scratch file at the end {}",
        mib(day.most),
        mib(day.engine.stats(day.now).scratch_bytes)
    );
    drop(day);
    let reopened = Queue::open(&path).unwrap();
    assert_eq!(reopened.stats().groups[0].lanes[0].depth, 0);
}
