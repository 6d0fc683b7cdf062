//! The figures that the README names, measured in one run. Prints; asserts nothing about time.
//!
//! `cargo bench --bench figures [-- [--dir DIR] [--tasks N] [bulk] [reopen] [power] [dedup] [keys] [stragglers]]`: DIR is where
//! the queues are made, by default the target directory, which lies on a disk more often than the system's temporary
//! directory does. N is for `stragglers`: 1,000,000 unless told.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark reads the clock, starts threads, and stops where the machine refuses"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lanelog::{ConsumerOptions, Durability, Options, Queue, Reserve, Result, Task};

/// What can be asked for by name.
const SECTIONS: [&str; 6] = ["bulk", "reopen", "power", "dedup", "keys", "stragglers"];

fn main() -> Result<()> {
    let (mut root, mut wanted) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), Vec::new());
    let mut tasks = 1_000_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo passes to every benchmark.
            "--bench" => {}
            "--dir" => root = PathBuf::from(arguments.next().expect("a directory behind --dir")),
            "--tasks" => tasks = arguments.next().and_then(|n| n.parse().ok()).expect("a number behind --tasks"),
            name if SECTIONS.contains(&name) => wanted.push(name.to_owned()),
            other => panic!("{other:?} is neither --dir, --tasks nor one of {SECTIONS:?}"),
        }
    }
    std::fs::create_dir_all(&root).expect("a directory to measure in");
    let dir = tempfile::tempdir_in(&root).expect("a directory to measure in");
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    if is_wanted("bulk") {
        bulk(dir.path(), 1_000_000)?;
    }
    if is_wanted("reopen") {
        reopen(dir.path())?;
    }
    if is_wanted("power") {
        power(dir.path())?;
    }
    if is_wanted("dedup") {
        dedup(dir.path(), 200_000)?;
    }
    if is_wanted("keys") {
        keys(dir.path(), 1_000_000, 200_000)?;
    }
    if is_wanted("stragglers") {
        stragglers(dir.path(), tasks)?;
    }
    Ok(())
}

/// A million tasks of 100 bytes in, and out in batches of 1,000, at `Process`; three rounds in one queue.
fn bulk(dir: &Path, tasks: usize) -> Result<()> {
    let queue = Options::new().open(dir.join("bulk"))?;
    let producer = queue.producer().durability(Durability::Process);
    let options = ConsumerOptions::new().durability(Durability::Process);
    let consumer = queue.consumer_of("default", options)?;
    let payload = [7; 100];
    for round in 1..=3 {
        let began = Lap::start();
        for _ in 0..tasks {
            producer.enqueue(&payload)?;
        }
        let filled = began.end();
        let began = Lap::start();
        let mut taken = 0;
        while taken < tasks {
            let batch = consumer.reserve(Reserve::new().tasks(1000))?;
            taken += batch.len();
            consumer.ack_batch(batch)?;
        }
        println!(
            "Process, 100 bytes, round {round}: {tasks} enqueued in {filled}, drained and acked in {}",
            began.end()
        );
    }
    Ok(())
}

/// Wall time, and what of it this thread was running: the machine may have been busy with others.
struct Lap {
    wall: Instant,
    cpu: Duration,
}

impl Lap {
    fn start() -> Lap {
        Lap { wall: Instant::now(), cpu: thread_cpu() }
    }

    fn end(self) -> String {
        format!("{:.0?} ({:.0?} of CPU)", self.wall.elapsed(), thread_cpu() - self.cpu)
    }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time to reopen, and to the first delivery, after the queue was dropped without a close.
fn reopen(dir: &Path) -> Result<()> {
    for tasks in [10_000, 1_000_000] {
        let path = dir.join(format!("reopen-{tasks}"));
        let queue = Options::new().open(&path)?;
        let producer = queue.producer().durability(Durability::Process);
        for _ in 0..tasks {
            producer.enqueue(&[7; 100])?;
        }
        queue.sync()?;
        // At rest: the committer writes a last mark in every log.
        std::thread::sleep(Duration::from_millis(500));
        drop((producer, queue));
        let began = Instant::now();
        let queue = Queue::open(&path)?;
        let opened = began.elapsed();
        let first = queue.consumer().reserve(Reserve::new())?;
        println!("reopen with {tasks} tasks after a death: {opened:.1?}, first delivery after {:.1?}", began.elapsed());
        drop(first);
    }
    Ok(())
}

/// Durable appends of 512 bytes: one thread against a bare fdatasync, and 64 threads against one.
fn power(dir: &Path) -> Result<()> {
    const ROUNDS: usize = 3;
    let queue = Options::new().open(dir.join("power"))?;
    let payload = [7; 512];
    queue.enqueue(Task::new(&payload))?;
    for round in 1..=ROUNDS {
        let bare = bare_syncs(&dir.join("bare"), 2000);
        let mut times = Vec::new();
        let began = Instant::now();
        while times.len() < 5000 {
            let one = Instant::now();
            queue.enqueue(Task::new(&payload))?;
            times.push(one.elapsed());
        }
        let alone = 5000.0 / began.elapsed().as_secs_f64();
        times.sort_unstable();
        let median = times[times.len() / 2];
        let commits = queue.stats().commits;
        let many = many_threads(&queue, 64, Duration::from_secs(2));
        let commits = (queue.stats().commits - commits) as f64 / 2.0;
        println!(
            "Power, 512 bytes, round {round}: one thread median {median:.0?} ({:.2} of a bare fdatasync's {bare:.0?}), \
             {alone:.0}/s; 64 threads {many:.0}/s ({:.1} times one, {:.0} in a commit)",
            median.as_secs_f64() / bare.as_secs_f64(),
            many / alone,
            many / commits
        );
    }
    Ok(())
}

/// Median of writing 512 bytes over written blocks and fdatasync.
fn bare_syncs(path: &Path, count: usize) -> Duration {
    let mut file = std::fs::File::create(path).expect("a file to sync");
    for _ in 0..count {
        file.write_all(&[0; 512]).expect("zeros");
    }
    file.sync_all().expect("a sync");
    let mut times = Vec::new();
    for at in 0..count {
        let began = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 512], at as u64 * 512).expect("a write");
        file.sync_data().expect("a sync");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[count / 2]
}

fn many_threads(queue: &Queue, threads: usize, time: Duration) -> f64 {
    let began = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while began.elapsed() < time {
                        queue.enqueue(Task::new(&[7; 512])).expect("accepted");
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    done as f64 / began.elapsed().as_secs_f64()
}

/// Enqueues with dedup ids of their own, and then the same again: what each costs, and what an id takes.
fn dedup(dir: &Path, tasks: usize) -> Result<()> {
    let path = dir.join("dedup");
    let queue = Options::new().dedup_ids_max(tasks as u64).open(&path)?;
    let enqueue = |queue: &Queue| -> Result<()> {
        for n in 0..tasks {
            let task = Task::new(&[7; 100]).durability(Durability::Process);
            queue.enqueue(task.dedup_id(&n.to_le_bytes()).dedup_for(Duration::from_secs(86_400)))?;
        }
        Ok(())
    };
    for what in ["new", "there before"] {
        let began = Lap::start();
        enqueue(&queue)?;
        println!("dedup: {tasks} ids, {what}: {}", began.end());
    }
    queue.checkpoint()?;
    let stats = queue.stats();
    let bytes = |bytes: u64| bytes / stats.dedup_ids.max(1);
    println!(
        "dedup: {} ids, {} hits; bytes an id: {} in memory, {} in the checkpoint's file",
        stats.dedup_ids,
        stats.dedup_hits,
        bytes(stats.dedup_bytes),
        bytes(stats.checkpoint_bytes)
    );
    drop(queue);
    let began = Lap::start();
    let queue = Queue::open(&path)?;
    println!("dedup: reopened in {}, {} ids", began.end(), queue.stats().dedup_ids);
    queue.close().map(drop)
}

/// What a backlog behind one blocked key takes in memory, and what it costs the tasks of other keys.
fn keys(dir: &Path, blocked: usize, others: usize) -> Result<()> {
    let queue = Options::new().open(dir.join("keys"))?;
    let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process))?;
    let enqueue = |key: &[u8]| queue.enqueue(Task::new(&[7; 100]).key(key).durability(Durability::Process));
    let drain_others = || -> Result<Duration> {
        for n in 0..others {
            enqueue(&(n % 1000).to_le_bytes())?;
        }
        let began = thread_cpu();
        let mut taken = 0;
        while taken < others {
            let batch = consumer.reserve(Reserve::new().tasks(100))?;
            taken += batch.len();
            consumer.ack_batch(batch)?;
        }
        Ok(thread_cpu() - began)
    };
    let median = || -> Result<Duration> {
        let mut rounds = (0..5).map(|_| drain_others()).collect::<Result<Vec<_>>>()?;
        rounds.sort_unstable();
        Ok(rounds[rounds.len() / 2])
    };
    let free = median()?;
    for _ in 0..=blocked {
        enqueue(b"blocked")?;
    }
    let holder = consumer.reserve(Reserve::new())?;
    let before = anonymous_bytes();
    let met = Lap::start();
    let none = consumer.reserve(Reserve::new())?;
    let (met, after) = (met.end(), anonymous_bytes());
    let behind = median()?;
    println!(
        "keys: {blocked} tasks behind a blocked key: passed over in {met}, {} KiB of memory more; {others} tasks of other \
         keys take {behind:.0?} of CPU, {:.2} of what they took before",
        after.saturating_sub(before) / 1024,
        behind.as_secs_f64() / free.as_secs_f64()
    );
    assert!(none.is_empty() && holder.len() == 1, "the key is one task's");
    Ok(())
}

/// What the process has in memory that no file stands behind.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
}

/// Tasks pass, and every thousandth is never acked: what the disk and the memory hold in the end.
fn stragglers(dir: &Path, tasks: usize) -> Result<()> {
    let options = Options::new().checkpoint_interval(Duration::from_secs(1)).lease(Duration::from_secs(86_400));
    let queue = options.open(dir.join("stragglers"))?;
    let producer = queue.producer().durability(Durability::Process);
    let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process))?;
    let (mut live, mut kept) = (0, 0);
    let began = Instant::now();
    for _ in (0..tasks).step_by(1000) {
        for _ in 0..1000 {
            producer.enqueue(&[7; 100])?;
        }
        let mut batch = consumer.reserve(Reserve::new().tasks(1000))?;
        if let Some(stays) = batch.pop() {
            live += stays.payload().len() as u64 + 32;
            kept += 1;
            // Still on loan, but its bytes are nobody's.
            let _receipt = stays.detach();
        }
        consumer.ack_batch(batch)?;
    }
    let passed = began.elapsed();
    let (mut most, mut stats) = (0, queue.stats());
    for round in 0.. {
        let before = stats.lanes.iter().map(|lane| lane.disk_bytes).sum::<u64>() + stats.superseded_bytes;
        most = before.max(most);
        std::thread::sleep(Duration::from_secs(3));
        stats = queue.stats();
        let now = stats.lanes.iter().map(|lane| lane.disk_bytes).sum::<u64>() + stats.superseded_bytes;
        if now == before && round > 1 {
            break;
        }
    }
    let lanes: u64 = stats.lanes.iter().map(|lane| lane.disk_bytes).sum();
    println!(
        "stragglers: {tasks} tasks passed in {passed:.1?}, {kept} are never acked: {live} bytes live; the lane's segments take \
         {lanes} ({} of them), at most {most} as the last passed; {} bytes were moved; {} KiB of anonymous memory",
        stats.lanes.iter().map(|lane| lane.segments).sum::<usize>(),
        stats.evacuated_bytes,
        anonymous_bytes() / 1024
    );
    drop((producer, consumer, queue));
    let began = Instant::now();
    let queue = Queue::open(dir.join("stragglers"))?;
    let opened = began.elapsed();
    let first = queue.consumer().reserve(Reserve::new())?;
    println!("stragglers: reopened in {opened:.1?}, first delivery after {:.1?}", began.elapsed());
    drop(first);
    Ok(())
}
