//! The main job: workers that take a task, run the command, write its output, and only then ack.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use lanelog::{Consumer, Delivery, Error, Options, Queue, Receipt, Reserve, TaskId};

use crate::args::{Run, Running, Work};
use crate::child::{Ended, Template};
use crate::feed;
use crate::signals::Stop;
use crate::tally::Tally;

/// How long a worker waits for a task before it looks whether there is an end to come.
const LOOK: Duration = Duration::from_millis(50);

/// `lanelog run`.
pub fn run(args: &Run) -> Result<u8> {
    let template = Template::new(&args.running.command)?;
    let stop = Stop::on_signals()?;
    let queue = feed::open(&args.place, options(&args.running))?;
    let tally = Tally::new(depth(&queue));
    let crew = Crew::new(&queue, &template, &args.running, &stop, &tally);
    let fed = std::thread::scope(|scope| {
        let crew = &crew;
        let workers: Vec<_> = (0..args.running.concurrency).map(|_| scope.spawn(|| crew.work())).collect();
        scope.spawn(|| crew.keep_leases());
        // Input is read on a thread of its own that a signal does not wait for.
        let fed = feed_beside(&queue, args, &stop, &tally, &workers);
        crew.no_more_input.store(true, Ordering::SeqCst);
        let outcome = join(workers);
        crew.end_keeping();
        outcome.and(fed)
    });
    crew.finish(fed)
}

/// `lanelog work`.
pub fn work(args: &Work) -> Result<u8> {
    let template = Template::new(&args.running.command)?;
    let stop = Stop::on_signals()?;
    let queue = feed::open(&args.place, options(&args.running))?;
    let tally = Tally::new(depth(&queue));
    let crew = Crew::new(&queue, &template, &args.running, &stop, &tally);
    crew.no_more_input.store(args.until_empty, Ordering::SeqCst);
    let outcome = std::thread::scope(|scope| {
        let crew = &crew;
        let workers: Vec<_> = (0..args.running.concurrency).map(|_| scope.spawn(|| crew.work())).collect();
        scope.spawn(|| crew.keep_leases());
        let outcome = join(workers);
        crew.end_keeping();
        outcome
    });
    crew.finish(outcome)
}

fn options(running: &Running) -> Options {
    Options::new().max_attempts(running.max_attempts).lease(Duration::from_secs(running.lease))
}

/// Feeds the queue until the input ends. A read of standard input can't be interrupted, so it happens on a thread
/// that is left behind when a signal asks for the end.
fn feed_beside(
    queue: &Queue,
    args: &Run,
    stop: &Stop,
    tally: &Tally,
    workers: &[std::thread::ScopedJoinHandle<'_, Result<()>>],
) -> Result<()> {
    let (send, lines) = std::sync::mpsc::sync_channel::<std::io::Result<Vec<u8>>>(16);
    let asked = stop.clone();
    let reader = std::thread::Builder::new().name("lanelog-input".to_owned());
    reader
        .spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buffer = vec![0; 64 << 10];
            while !asked.is_asked() {
                let read = std::io::Read::read(&mut stdin, &mut buffer);
                let piece = read.map(|count| buffer.get(..count).unwrap_or_default().to_vec());
                let last = !matches!(&piece, Ok(bytes) if !bytes.is_empty());
                if send.send(piece).is_err() || last {
                    return;
                }
            }
        })
        .context("can't start a thread")?;
    let pieces = Pieces { lines, rest: Vec::new(), at: 0, stop, workers };
    feed::feed(queue, pieces, &args.input, lanelog::Durability::Power, stop, tally)
}

/// What the input thread read, as a reader that ends when the work must end.
struct Pieces<'a, 'b> {
    lines: std::sync::mpsc::Receiver<std::io::Result<Vec<u8>>>,
    rest: Vec<u8>,
    at: usize,
    stop: &'a Stop,
    workers: &'a [std::thread::ScopedJoinHandle<'b, Result<()>>],
}

impl std::io::Read for Pieces<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.rest.len() {
            if self.stop.is_asked() || self.workers.iter().all(|worker| worker.is_finished()) {
                return Ok(0);
            }
            match self.lines.recv_timeout(LOOK) {
                Ok(piece) => (self.rest, self.at) = (piece?, 0),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => continue,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(0),
            }
            if self.rest.is_empty() {
                return Ok(0);
            }
        }
        let left = self.rest.get(self.at..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        buffer.iter_mut().zip(left).for_each(|(to, from)| *to = *from);
        self.at += count;
        Ok(count)
    }
}

fn join(workers: Vec<std::thread::ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    let mut outcome = Ok(());
    for worker in workers {
        let ended = worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked; this is a bug")));
        outcome = outcome.and(ended);
    }
    outcome
}

/// Tasks of the default group that are not settled for good.
fn depth(queue: &Queue) -> u64 {
    let stats = queue.stats();
    let default = stats.groups.iter().find(|group| group.name == "default");
    default.map_or(0, |group| group.lanes.iter().map(|lane| lane.depth).sum())
}

/// Everything that the workers share.
struct Crew<'a> {
    queue: &'a Queue,
    template: &'a Template,
    running: &'a Running,
    stop: &'a Stop,
    tally: &'a Tally,
    no_more_input: AtomicBool,
    /// Leases of tasks whose command runs, to be extended.
    running_leases: Mutex<Keeping>,
    ended: Condvar,
    /// Held while the output of one task is written.
    output: Mutex<()>,
}

#[derive(Default)]
struct Keeping {
    leases: BTreeMap<TaskId, Receipt>,
    over: bool,
}

impl<'a> Crew<'a> {
    fn new(queue: &'a Queue, template: &'a Template, running: &'a Running, stop: &'a Stop, tally: &'a Tally) -> Self {
        Crew {
            queue,
            template,
            running,
            stop,
            tally,
            no_more_input: AtomicBool::new(false),
            running_leases: Mutex::default(),
            ended: Condvar::new(),
            output: Mutex::new(()),
        }
    }

    /// One worker: a task at a time, so that only what runs is on loan.
    fn work(&self) -> Result<()> {
        let consumer = self.queue.consumer();
        let outcome = self.work_with(&consumer);
        if outcome.is_err() {
            self.stop.break_off();
        }
        outcome
    }

    fn work_with(&self, consumer: &Consumer) -> Result<()> {
        while !self.stop.is_asked() {
            let taken = consumer.reserve(Reserve::new().wait(LOOK))?;
            for delivery in taken {
                if self.stop.is_asked() {
                    delivery.release()?;
                } else {
                    self.do_one(delivery)?;
                }
                continue;
            }
            if self.no_more_input.load(Ordering::SeqCst) && depth(self.queue) == 0 {
                break;
            }
        }
        Ok(())
    }

    fn do_one(&self, delivery: Delivery) -> Result<()> {
        let id = delivery.id();
        self.keeping().leases.insert(id, delivery.receipt());
        let ended = self.template.run(delivery.payload());
        self.keeping().leases.remove(&id);
        match ended {
            Ended::Well(output) => {
                // Written before the ack, so that no kill loses the output of an acked task.
                if let Err(error) = self.write(&output) {
                    delivery.release()?;
                    return Err(error);
                }
                let acked = delivery.ack();
                self.settled(acked, |tally| tally.end_one(&tally.acked))
            }
            Ended::Badly(output, reason) => {
                if let Err(error) = self.write(&output) {
                    delivery.release()?;
                    return Err(error);
                }
                self.failed(delivery, &reason)
            }
            Ended::NotStarted(reason) => self.failed(delivery, &reason),
            Ended::NotAnArgument => {
                let rejected = delivery.reject("the task contains a NUL byte and can't be an argument");
                self.settled(rejected, |tally| tally.end_one(&tally.dead))
            }
        }
    }

    fn failed(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let last = self.running.max_attempts > 0 && delivery.attempt() >= self.running.max_attempts;
        let nacked = delivery.nack(None, reason);
        self.settled(nacked, |tally| match last {
            true => tally.end_one(&tally.dead),
            false => {
                tally.retried.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// A lost lease is not the end: somebody else has the task.
    fn settled(&self, outcome: Result<(), Error>, count: impl FnOnce(&Tally)) -> Result<()> {
        match outcome {
            Ok(()) => count(self.tally),
            Err(Error::LeaseLost { .. }) => {
                self.tally.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes what one task printed, whole.
    fn write(&self, output: &Output) -> Result<()> {
        let _alone = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        self.tally.beside_bar(|| {
            let mut stdout = std::io::stdout().lock();
            stdout
                .write_all(&output.stdout)
                .and_then(|()| stdout.flush())
                .context("standard output can't be written")?;
            let mut stderr = std::io::stderr().lock();
            stderr.write_all(&output.stderr).and_then(|()| stderr.flush()).context("standard error can't be written")
        })
    }

    fn keeping(&self) -> std::sync::MutexGuard<'_, Keeping> {
        self.running_leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extends the leases of running tasks, three times in each lease.
    fn keep_leases(&self) {
        let lease = Duration::from_secs(self.running.lease);
        let mut keeping = self.keeping();
        while !keeping.over {
            let waited = self.ended.wait_timeout(keeping, lease / 3);
            keeping = waited.unwrap_or_else(PoisonError::into_inner).0;
            for receipt in keeping.leases.values() {
                // One that is lost is found lost when it is settled.
                let _lost = self.queue.extend(receipt, lease);
            }
        }
    }

    fn end_keeping(&self) {
        self.keeping().over = true;
        self.ended.notify_all();
    }

    /// Closes the queue and says how it went.
    fn finish(&self, outcome: Result<()>) -> Result<u8> {
        let left = depth(self.queue);
        let closed = self.queue.clone().close();
        self.tally.summarize(left);
        outcome?;
        closed.context("the work is done, but closing the queue failed")?;
        if let Some(signal) = self.stop.signal() {
            return Ok(128 + signal);
        }
        Ok(u8::from(self.tally.dead.load(Ordering::Relaxed) > 0))
    }
}
