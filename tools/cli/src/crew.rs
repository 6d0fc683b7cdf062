//! The workers: each takes a task, runs the command, writes its output, and only then acks.
//!
//! Only a worker that is free takes a task, so that nothing is on loan that does not run. Of those that are free one
//! keeps watch over the queue and the others wait for its place, so that a thousand idle workers cost as much as one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lanelog::{Consumer, Delivery, Error, Reserve};

use crate::args::Running;
use crate::child::{Ended, Output, Template};
use crate::leases::Leases;
use crate::output::{self, Sink};
use crate::queue::Emptiness;
use crate::work::Session;

/// How long a wait lasts before it looks for a signal.
const LOOK: Duration = Duration::from_millis(50);

/// Everything that the workers share.
pub struct Crew<'a> {
    session: &'a Session,
    template: &'a Template,
    running: &'a Running,
    consumer: Consumer,
    leases: Leases,
    sink: Sink,
    until_empty: AtomicBool,
    told_no_room: AtomicBool,
    /// Held by the one free worker that looks for a task.
    watch: Mutex<Emptiness>,
    busy: Mutex<Busy>,
    /// Notified when a task ended.
    ended: Condvar,
}

#[derive(Default)]
struct Busy {
    now: usize,
    ended_count: u64,
}

impl<'a> Crew<'a> {
    /// Nobody works yet.
    pub fn new(session: &'a Session, template: &'a Template, running: &'a Running) -> Result<Self> {
        Ok(Crew {
            session,
            template,
            running,
            consumer: session.queue.consumer(),
            leases: Leases::default(),
            sink: Sink::standard()?,
            until_empty: AtomicBool::new(false),
            told_no_room: AtomicBool::new(false),
            watch: Mutex::default(),
            busy: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    /// From here on the work ends when nothing is left, not only when a signal asks for it.
    pub fn end_when_empty(&self) {
        self.until_empty.store(true, Ordering::SeqCst);
    }

    /// Works on threads of its own while `beside` runs on this one, and until the end.
    pub fn work(&self, beside: impl FnOnce() -> Result<()>) -> Result<()> {
        let lease = Duration::from_secs(self.running.lease);
        std::thread::scope(|scope| {
            let keeper = Builder::new().spawn_scoped(scope, || self.leases.keep(&self.session.queue, lease)).map(drop);
            let mut workers = Vec::new();
            let started = keeper.and_then(|()| {
                (0..self.running.concurrency).try_for_each(|_| {
                    workers.push(Builder::new().spawn_scoped(scope, || self.serve())?);
                    Ok(())
                })
            });
            let beside = match started.context("can't start the threads; lower --concurrency") {
                Ok(()) => beside(),
                Err(error) => {
                    self.session.stop.break_off();
                    Err(error)
                }
            };
            let outcome = join(workers);
            self.leases.end();
            outcome.and(beside)
        })
    }

    /// One worker. Its failure ends the work of all.
    fn serve(&self) -> Result<()> {
        let outcome = self.serve_all();
        if outcome.is_err() {
            self.session.stop.break_off();
        }
        outcome
    }

    fn serve_all(&self) -> Result<()> {
        while let Some(delivery) = self.next()? {
            let done = self.do_one(delivery);
            let mut busy = lock(&self.busy);
            busy.now -= 1;
            busy.ended_count += 1;
            drop(busy);
            self.ended.notify_all();
            done?;
        }
        Ok(())
    }

    /// The next task, or `None` if the work is to end.
    fn next(&self) -> Result<Option<Delivery>> {
        let mut emptiness = lock(&self.watch);
        while !self.session.stop.is_asked() {
            let ended_count = lock(&self.busy).ended_count;
            let until_empty = self.until_empty.load(Ordering::SeqCst);
            // Without input to come, only an end of a task or a timer makes another one: see below.
            let wait = if until_empty { Duration::ZERO } else { LOOK };
            if let Some(delivery) = self.consumer.reserve(Reserve::new().wait(wait))?.pop() {
                if self.session.stop.is_asked() {
                    delivery.release()?;
                    break;
                }
                lock(&self.busy).now += 1;
                return Ok(Some(delivery));
            }
            if until_empty {
                let busy = lock(&self.busy);
                // What runs may fail and be there to be done again, so nobody leaves before the last.
                if busy.now == 0 && emptiness.is_reached(&self.session.queue)? {
                    break;
                }
                if busy.ended_count == ended_count {
                    let _ended = self.ended.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        Ok(None)
    }

    fn do_one(&self, delivery: Delivery) -> Result<()> {
        // Until it is settled: standard output may be slower than the lease.
        let _held = self.leases.hold(delivery.receipt(), delivery.id());
        loop {
            match self.template.run(delivery.payload()) {
                Ended::Well(output) => return self.succeed(delivery, output),
                Ended::Badly(output, reason) => return self.fail(delivery, output, &reason),
                Ended::Unfit(reason) => {
                    let rejected = delivery.reject(reason);
                    return self.settled(rejected, || self.session.tally.add_dead());
                }
                Ended::NoRoom(error) if self.wait_for_room(&error) => {}
                Ended::NoRoom(_) => return Ok(delivery.release()?),
                Ended::NotStarted(error) => {
                    delivery.release()?;
                    return Err(error).context("the command can't be started; its tasks stay in the queue");
                }
            }
        }
    }

    fn succeed(&self, delivery: Delivery, output: Output) -> Result<()> {
        let fault = [&output.out, &output.err].into_iter().find_map(|spool| spool.fault());
        if let Some(reason) = fault.map(|fault| format!("its output can't be kept: {fault}")) {
            return self.fail(delivery, output, &reason);
        }
        // Written before the ack, so that no kill loses the output of an acked task.
        let Some(delivery) = self.write(delivery, output)? else { return Ok(()) };
        self.settled(delivery.ack(), || self.session.tally.add_acked(1))
    }

    fn fail(&self, delivery: Delivery, output: Output, reason: &str) -> Result<()> {
        let last = self.running.max_attempts > 0 && delivery.attempt() >= self.running.max_attempts;
        let Some(delivery) = self.write(delivery, output)? else { return Ok(()) };
        self.settled(delivery.nack(None, reason), || match last {
            true => self.session.tally.add_dead(),
            false => {
                self.session.tally.retried.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Writes what one task printed, whole. If that can't be, the task is released and the work ends.
    fn write(&self, delivery: Delivery, output: Output) -> Result<Option<Delivery>> {
        let written = self.session.tally.beside_bar(|| {
            self.sink.alone(|out, err| {
                output::written(output.out.write_to(out))?;
                output.err.write_to(err).context("standard error can't be written")
            })
        });
        if written.is_err() {
            delivery.release()?;
            return written.map(|()| None);
        }
        Ok(Some(delivery))
    }

    /// A lost lease is not the end: somebody else has the task.
    fn settled(&self, outcome: Result<(), Error>, count: impl FnOnce()) -> Result<()> {
        match outcome {
            Ok(()) => count(),
            Err(Error::LeaseLost { .. }) => {
                self.session.tally.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for another command to end, or a while. False if the work is to end.
    fn wait_for_room(&self, error: &std::io::Error) -> bool {
        if !self.told_no_room.swap(true, Ordering::SeqCst) {
            let text = format!("warning: the system can't run more commands now ({error}); waiting for it");
            self.session.tally.beside_bar(|| output::tell(&text));
        }
        let busy = lock(&self.busy);
        let _ended = self.ended.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner);
        !self.session.stop.is_asked()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(workers: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    let mut outcome = Ok(());
    for worker in workers {
        let ended = worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked; this is a bug")));
        outcome = outcome.and(ended);
    }
    outcome
}
