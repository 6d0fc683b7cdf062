//! Promise: a worker process that is stopped for longer than its heartbeats allow, and then goes on, neither loses a task nor
//! settles one that is no longer its own.
//!
//! The queue lives in this process; each worker is a child that gets tasks over a pipe, writes every effect into a file of
//! its own, and says that it is done, and that it lives. One of them gets SIGSTOP with tasks in hand, and SIGCONT when all
//! the work is done.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper fails the test that called it"
)]
#![expect(clippy::disallowed_methods, reason = "a child beats while it works, and its host listens while others do")]

#[path = "support/child.rs"]
mod child;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lanelog::{Durability, Error, Options, Queue, Receipt, Reserve, Worker, WorkerOptions};
use rustix::process::{Pid, Signal, kill_process};
use support::{drain, place};

const TASKS: usize = 10_000;
const BEAT: Duration = Duration::from_millis(100);
/// How many tasks a child has at a time.
const HELD: usize = 50;

// ---- the child ----

#[test]
fn child_process() {
    let Some((name, path)) = child::asked() else { return };
    let beat = thread::spawn(|| {
        loop {
            println!("beat");
            thread::sleep(BEAT / 4);
        }
    });
    let mut effects = std::fs::OpenOptions::new().append(true).create(true).open(effects_of(&path, &name)).unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (task, _receipt) = line.split_once(' ').unwrap();
        writeln!(effects, "{task}").unwrap();
        thread::sleep(Duration::from_micros(200));
        println!("done {line}");
    }
    drop(beat);
}

fn effects_of(queue: &Path, name: &str) -> PathBuf {
    queue.with_extension(name)
}

// ---- its host ----

/// What became of the work, over all hosts.
#[derive(Default)]
struct Account {
    /// How often each task's ack was accepted, and refused.
    accepted: Vec<AtomicUsize>,
    refused: Vec<AtomicUsize>,
    all_done: AtomicBool,
}

impl Account {
    fn is_complete(&self) -> bool {
        self.accepted.iter().all(|count| count.load(Ordering::SeqCst) > 0)
    }
}

struct Host<'a> {
    name: &'static str,
    queue: &'a Queue,
    account: &'a Account,
    child: Child,
    stdin: ChildStdin,
    said: std::io::Lines<BufReader<ChildStdout>>,
    in_hand: usize,
}

impl<'a> Host<'a> {
    fn begin(name: &'static str, path: &Path, queue: &'a Queue, account: &'a Account) -> Self {
        let mut command = child::scene(name, path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = BufReader::new(stdout).lines();
        Host { name, queue, account, child, stdin, said, in_hand: 0 }
    }

    fn register(&self) -> Worker {
        let options = WorkerOptions::new().heartbeat(BEAT).missed_heartbeats(3).durability(Durability::Process);
        self.queue.worker_with(self.name, options).unwrap()
    }

    /// Gives the child tasks and takes what it says, until all work is done, or `stop` says so with tasks in hand.
    fn serve(&mut self, worker: &mut Worker, stop: impl Fn(usize) -> bool) {
        let mut settled = 0;
        while !self.account.all_done.load(Ordering::SeqCst) {
            if self.in_hand <= HELD / 2 {
                if stop(settled) && self.in_hand == HELD / 2 {
                    return;
                }
                self.hand_out(worker);
            }
            settled += usize::from(self.listen(worker));
        }
    }

    fn hand_out(&mut self, worker: &mut Worker) {
        let more = match worker.reserve(Reserve::new().tasks(HELD - self.in_hand)) {
            Ok(more) => more,
            // The machine was too slow for its heartbeats: it goes on as a new one.
            Err(Error::WorkerLost { .. }) => return worker.register_again().unwrap(),
            Err(error) => unreachable!("{error}"),
        };
        for delivery in more {
            let task = String::from_utf8(delivery.payload().to_vec()).unwrap();
            writeln!(self.stdin, "{task} {}", delivery.detach()).unwrap();
            self.in_hand += 1;
        }
    }

    /// Takes one thing that the child says. True if it settled a task.
    fn listen(&mut self, worker: &mut Worker) -> bool {
        let line = self.said.next().unwrap().unwrap();
        if line == "beat" {
            if matches!(worker.heartbeat(), Err(Error::WorkerLost { .. })) {
                worker.register_again().unwrap();
            }
            return false;
        }
        let Some((task, receipt)) = line.strip_prefix("done ").and_then(|line| line.split_once(' ')) else {
            return false;
        };
        let (task, receipt): (usize, Receipt) = (task.parse().unwrap(), receipt.parse().unwrap());
        self.in_hand -= 1;
        let mut settle = self.queue.transaction().durability(Durability::Process);
        settle.ack(receipt);
        match settle.commit() {
            Ok(_) => {
                self.account.accepted[task].fetch_add(1, Ordering::SeqCst);
                if self.account.is_complete() {
                    self.account.all_done.store(true, Ordering::SeqCst);
                }
                true
            }
            Err(Error::LeaseLost { .. }) => {
                self.account.refused[task].fetch_add(1, Ordering::SeqCst);
                false
            }
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Lets the child finish what it has, whatever becomes of it, and go.
    fn end(mut self, worker: &mut Worker) {
        while self.in_hand > 0 {
            self.listen(worker);
        }
        drop(self.stdin);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

#[test]
fn a_worker_process_that_is_stopped_and_goes_on_can_settle_nothing_and_loses_nothing() {
    let place = place();
    let queue = Options::new().lease(Duration::from_secs(3600)).open(&place.path).unwrap();
    let producer = queue.producer().durability(Durability::Process);
    for number in 0..TASKS {
        producer.enqueue(&number.to_string()).unwrap();
    }
    let counts = || (0..TASKS).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
    let account = Account { accepted: counts(), refused: counts(), ..Account::default() };
    let refused = || account.refused.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>();
    thread::scope(|scope| {
        let mut host = Host::begin("stopped", &place.path, &queue, &account);
        let mut worker = host.register();
        host.serve(&mut worker, |settled| settled >= 2000);
        host.signal(Signal::STOP);
        // Nobody says any more that it lives; its host finds out when it asks for something.
        let in_hand = host.in_hand;
        assert_eq!(in_hand, HELD / 2);
        for name in ["first", "second"] {
            let (queue, account, path) = (&queue, &account, &place.path);
            scope.spawn(move || {
                let mut host = Host::begin(name, path, queue, account);
                let mut worker = host.register();
                host.serve(&mut worker, |_| false);
                host.end(&mut worker);
            });
        }
        while !account.all_done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(worker.heartbeat(), Err(Error::WorkerLost { .. })), "it is dead");
        let before = refused();
        host.signal(Signal::CONT);
        host.end(&mut worker);
        assert_eq!(refused() - before, in_hand, "each of its late acks is refused");
    });
    // The record of effects: each of a task is followed by one ack, and one of those was accepted.
    let mut effects: BTreeMap<usize, usize> = BTreeMap::new();
    for name in ["first", "second", "stopped"] {
        let written = std::fs::read_to_string(effects_of(&place.path, name)).unwrap();
        written.lines().for_each(|task| *effects.entry(task.parse().unwrap()).or_default() += 1);
    }
    assert_eq!(effects.len(), TASKS, "none was lost");
    for (task, ran) in effects {
        let [accepted, refused] =
            [&account.accepted, &account.refused].map(|counts| counts[task].load(Ordering::SeqCst));
        assert_eq!((accepted, ran), (1, 1 + refused), "task {task}");
    }
    assert!(drain(&queue).is_empty());
}
