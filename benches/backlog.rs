//! What a backlog costs: to fill, beside an empty queue, in memory, at a reopen after `kill -9`, and to drain. Prints;
//! asserts nothing about time.
//!
//! `cargo bench --bench backlog -- [--dir DIR] [--bytes B] [TASKS ...]`: for each number of tasks, by default 1,000,000, one
//! queue of tasks of B bytes, by default 100, in DIR, by default the target directory. 100,000,000 tasks of 100 bytes take
//! 15 GB there. Each step is a process of its own, which ends by `kill -9`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reads the clock, starts processes, and stops where the machine refuses"
)]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lanelog::{Consumer, ConsumerOptions, Durability, Options, Producer, Queue, Reserve, Result, Task};

/// Tasks of one round of the comparison with an empty queue.
const ROUND: u64 = 50_000;
const ROUNDS: usize = 61;
/// Before them, so many that segments are made ahead and used again in both.
const WARM: usize = 24;
/// How long a queue is under full load before it is killed.
const LOAD: Duration = Duration::from_secs(4);
/// How much may wait for its sync where producers are held back.
const UNSYNCED: u64 = 32 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    if let Some(("--step", [step, dir, tasks, bytes])) = arguments.split_first().map(|(first, rest)| (&**first, rest)) {
        return run_step(step, Path::new(dir), number(tasks), number(bytes));
    }
    let (mut root, mut bytes, mut counts) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), 100, Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dir" => root = PathBuf::from(arguments.next().expect("a directory behind --dir")),
            "--bytes" => bytes = number(&arguments.next().expect("a number behind --bytes")),
            count => counts.push(number(count)),
        }
    }
    if counts.is_empty() {
        counts.push(1_000_000);
    }
    std::fs::create_dir_all(&root).expect("a directory to measure in");
    for tasks in counts {
        let dir = tempfile::tempdir_in(&root).expect("a directory to measure in");
        println!("-- {tasks} tasks of {bytes} bytes");
        let steps = [
            "fill",
            "reopen",
            "reopen",
            "reopen-cold",
            "flat",
            "load",
            "reopen",
            "held",
            "reopen",
            "load",
            "reopen",
            "drain-cold",
            "half",
            "reopen",
            "reopen",
            "again",
            "reopen",
            "reopen",
            "drain",
            "ids",
        ];
        for step in steps {
            run_in_child(step, dir.path(), tasks, bytes);
        }
    }
    Ok(())
}

fn number(text: &str) -> u64 {
    text.replace('_', "").parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// Runs a step in a process of its own, which kills itself in the end.
fn run_in_child(step: &str, dir: &Path, tasks: u64, bytes: u64) {
    if step.ends_with("-cold") {
        forget_pages(&dir.join("deep"));
    }
    let me = std::env::current_exe().expect("its own name");
    let mut child = Command::new(me);
    child.args(["--step", step]).arg(dir).args([tasks.to_string(), bytes.to_string()]);
    let status = child.status().expect("a process");
    assert_eq!(status.signal(), Some(9), "the step {step} did not come to its end");
}

/// The page cache keeps nothing of the directory's files.
fn forget_pages(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("the queue").flatten() {
        let file = std::fs::File::open(entry.path()).expect("its files");
        file.sync_all().expect("a sync");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    }
}

fn run_step(step: &str, dir: &Path, tasks: u64, bytes: u64) -> Result<()> {
    let deep = dir.join("deep");
    let bytes = usize::try_from(bytes).expect("bytes of a task");
    match step {
        "fill" => fill(&deep, tasks, bytes)?,
        "flat" => flat(&deep, &dir.join("empty"), bytes)?,
        "load" => load(&deep, bytes, Options::new())?,
        "held" => load(&deep, bytes, Options::new().unsynced_bytes_max(UNSYNCED))?,
        "ids" => ids(&deep, bytes)?,
        "half" => hand_out(&deep, tasks, "half", 2)?,
        "again" => hand_out(&deep, tasks, "again", u64::MAX)?,
        "drain-cold" => drain(&deep, tasks / 10)?,
        "drain" => drain(&deep, u64::MAX)?,
        _ => reopen(&deep, step)?,
    }
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("itself");
    Ok(())
}

/// A queue with what is measured through.
struct Opened {
    queue: Queue,
    producer: Producer,
    consumer: Consumer,
}

impl Opened {
    fn open(dir: &Path) -> Result<Opened> {
        Self::open_with(dir, Options::new())
    }

    fn open_with(dir: &Path, options: Options) -> Result<Opened> {
        let queue = options.lease(Duration::from_secs(86_400)).open(dir)?;
        let producer = queue.producer().durability(Durability::Process);
        let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process))?;
        Ok(Opened { queue, producer, consumer })
    }

    fn enqueue(&self, tasks: u64, bytes: usize) -> Result<Duration> {
        let payload = vec![7; bytes];
        let began = thread_cpu();
        for _ in 0..tasks {
            self.producer.enqueue(&payload)?;
        }
        Ok(thread_cpu() - began)
    }

    /// Reserves and acks up to so many, in batches of 1,000; gives how many there were.
    fn take(&self, tasks: u64) -> Result<(u64, Duration)> {
        let (mut taken, began) = (0, thread_cpu());
        while taken < tasks {
            let batch = self.consumer.reserve(Reserve::new().tasks(1000))?;
            if batch.is_empty() {
                break;
            }
            taken += batch.len() as u64;
            self.consumer.ack_batch(batch)?;
        }
        Ok((taken, thread_cpu() - began))
    }
}

fn fill(dir: &Path, tasks: u64, bytes: usize) -> Result<()> {
    let opened = Opened::open(dir)?;
    let (began, quiet) = (Instant::now(), anonymous_kib());
    let cpu = opened.enqueue(tasks, bytes)?;
    println!(
        "fill: {:.1?}, {:.0} ns of CPU a task; {} KiB of anonymous memory, {quiet} before",
        began.elapsed(),
        nanos(cpu, tasks),
        anonymous_kib()
    );
    at_rest(&opened.queue)
}

/// Everything is durable, and said to be.
fn at_rest(queue: &Queue) -> Result<()> {
    queue.sync()?;
    std::thread::sleep(Duration::from_secs(1));
    let checkpoint = queue.stats().checkpoint_bytes;
    println!(
        "stats: {} bytes in segments, {checkpoint} in the checkpoint; checkpoints {}",
        disk_bytes(queue),
        holds(queue)
    );
    Ok(())
}

fn unsynced(queue: &Queue) -> u64 {
    queue.stats().lanes.iter().map(|lane| lane.published - lane.durable).sum()
}

fn disk_bytes(queue: &Queue) -> u64 {
    queue.stats().lanes.iter().map(|lane| lane.disk_bytes).sum()
}

/// The same work in a queue with the backlog and in one without, in turns.
fn flat(deep: &Path, empty: &Path, bytes: usize) -> Result<()> {
    let (deep, empty) = (Opened::open(deep)?, Opened::open(empty)?);
    let (mut enqueues, mut takes) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM {
        let each = [&deep, &empty].map(|opened| -> Result<(f64, f64)> {
            let enqueued = opened.enqueue(ROUND, bytes)?;
            let (taken, took) = opened.take(ROUND)?;
            Ok((nanos(enqueued, ROUND), nanos(took, taken)))
        });
        let [(deep_in, deep_out), (empty_in, empty_out)] =
            [each[0].as_ref(), each[1].as_ref()].map(|one| *one.expect("done"));
        if round >= WARM {
            enqueues.push((deep_in / empty_in, deep_in, empty_in));
            takes.push((deep_out / empty_out, deep_out, empty_out));
        }
    }
    for (what, mut rounds) in [("enqueue", enqueues), ("reserve and ack", takes)] {
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, deep, empty) = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
        let spread = rounds.first().zip(rounds.last()).map(|(first, last)| (first.0, last.0)).unwrap_or_default();
        println!(
            "flat: {what}: {deep:.0} ns of CPU a task behind the backlog, {empty:.0} in an empty queue: {ratio:.2} \
             ({:.2} to {:.2})",
            spread.0, spread.1
        );
    }
    at_rest(&deep.queue)
}

fn reopen(dir: &Path, step: &str) -> Result<()> {
    let began = Instant::now();
    let queue = Queue::open(dir)?;
    let opened = began.elapsed();
    let first = queue.consumer().reserve(Reserve::new())?;
    let delivered = began.elapsed();
    println!(
        "{step}: open {opened:.1?}, first delivery after {delivered:.1?}, {} KiB of anonymous memory",
        anonymous_kib()
    );
    assert_eq!(first.len(), 1, "there is a task");
    Ok(())
}

/// Enqueues, and reserves and acks, as fast as it can, for some seconds.
fn load(dir: &Path, bytes: usize, options: Options) -> Result<()> {
    let opened = Opened::open_with(dir, options)?;
    let (until, enqueued) = (Instant::now() + LOAD, AtomicU64::new(0));
    let (enqueued, taken) = std::thread::scope(|scope| {
        let producing = scope.spawn(|| -> Result<u64> {
            while Instant::now() < until {
                opened.enqueue(1000, bytes)?;
                enqueued.fetch_add(1000, Ordering::Relaxed);
            }
            Ok(enqueued.load(Ordering::Relaxed))
        });
        let mut taken = 0;
        while Instant::now() < until {
            // The backlog stays.
            let most = enqueued.load(Ordering::Relaxed) - taken;
            taken += if most >= 1000 { opened.take(most - most % 1000)?.0 } else { 0 };
        }
        Ok::<_, lanelog::Error>((producing.join().expect("no panic")?, taken))
    })?;
    println!(
        "load: {enqueued} enqueued and {taken} taken in {LOAD:?}, then killed with {} bytes unsynced; checkpoints {}",
        unsynced(&opened.queue),
        holds(&opened.queue)
    );
    Ok(())
}

/// Enqueues with dedup ids, some of which hold for a while and some until their task is settled, and takes half as much.
fn ids(dir: &Path, bytes: usize) -> Result<()> {
    let opened = Opened::open(dir)?;
    let (payload, began, until) = (vec![7; bytes], Instant::now(), Instant::now() + LOAD);
    let (mut enqueued, mut slowest) = (0_u64, Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                opened.take(500).expect("tasks");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        while Instant::now() < until {
            let id = enqueued.to_le_bytes();
            let task = Task::new(&payload).dedup_id(&id);
            let for_a_while = enqueued.is_multiple_of(2);
            let task = if for_a_while { task.dedup_for(Duration::from_secs(1)) } else { task.dedup_until_settled() };
            let one = Instant::now();
            opened.queue.enqueue(task.durability(Durability::Process))?;
            slowest = slowest.max(one.elapsed());
            enqueued += 1;
        }
        Ok::<_, lanelog::Error>(())
    })?;
    println!(
        "ids: {enqueued} enqueued with dedup ids in {:.1?}, the slowest in {slowest:.1?}; checkpoints {}",
        began.elapsed(),
        holds(&opened.queue)
    );
    Ok(())
}

/// How long checkpoints held locks.
fn holds(queue: &Queue) -> String {
    let stats = queue.stats();
    let mut text = format!("{}, locks held for {:.0?} at most:", stats.checkpoints, stats.checkpoint_holds.longest);
    for (bound, count) in stats.checkpoint_holds.counts.iter().filter(|(_, count)| *count > 0) {
        text += &if *bound == Duration::MAX { format!(" {count} longer") } else { format!(" {count} up to {bound:?}") };
    }
    text
}

/// Everything is handed out, and one of so many acked, at random; the rest stays on loan.
fn hand_out(dir: &Path, tasks: u64, step: &str, one_of: u64) -> Result<()> {
    let opened = Opened::open(dir)?;
    let (mut acked, mut kept, mut random) = (0_u64, 0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    let before = anonymous_kib();
    let began = Instant::now();
    while acked + kept < tasks {
        let batch = opened.consumer.reserve(Reserve::new().tasks(1000))?;
        if batch.is_empty() {
            break;
        }
        let (acks, stays): (Vec<_>, Vec<_>) = batch.into_iter().partition(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % one_of == 0
        });
        acked += acks.len() as u64;
        kept += stays.len() as u64;
        opened.consumer.ack_batch(acks)?;
        // Still on loan, but their bytes are nobody's.
        for one in stays {
            let _receipt = one.detach();
        }
    }
    let after = anonymous_kib();
    println!(
        "{step}: {acked} acked at random, {kept} on loan, in {:.1?}; {after} KiB of anonymous memory, {before} before: \
         {:.0} bytes for each on loan",
        began.elapsed(),
        (after.saturating_sub(before) * 1024) as f64 / kept as f64
    );
    at_rest(&opened.queue)
}

fn drain(dir: &Path, most: u64) -> Result<()> {
    let opened = Opened::open(dir)?;
    let began = Instant::now();
    let (taken, cpu) = opened.take(most)?;
    let took = began.elapsed();
    println!(
        "drain: {taken} in {took:.1?}, {:.2} million a second, {:.0} ns of CPU each; {} KiB of anonymous memory",
        taken as f64 / took.as_secs_f64() / 1e6,
        nanos(cpu, taken),
        anonymous_kib()
    );
    Ok(())
}

fn nanos(time: Duration, tasks: u64) -> f64 {
    time.as_secs_f64() * 1e9 / tasks as f64
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the process has in memory that no file stands behind.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}
