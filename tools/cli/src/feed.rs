//! Standard input to tasks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use lanelog::{Durability, LaneId, Options, Pending, Queue, Task, TaskId};

use crate::args::{self, Enqueue};
use crate::input::{Endless, Input, Items, Piece};
use crate::queue;
use crate::signals::Stop;
use crate::tally::Tally;

/// Tasks that may wait for their commit together.
const PENDING_MAX: usize = 4096;

/// `lanelog enqueue`.
pub fn enqueue(args: &Enqueue) -> Result<u8> {
    let stop = Stop::on_signals()?;
    let queue = queue::open_with_lane(&args.place, args.input.lane, Options::new())?;
    let tally = Tally::new(0);
    let dedup =
        args.dedup_id.as_deref().map(|id| Dedup { id, time: args.dedup_for, until_settled: args.dedup_until_settled });
    let fed = feed_with(&queue, &args.input, dedup, args.durability.into(), &stop, &tally);
    let hits = queue.stats().dedup_hits;
    let closed = queue.close();
    tally.say_enqueued(hits);
    fed?;
    closed.context("the tasks are enqueued, but closing the queue failed")?;
    Ok(stop.signal().map_or(0, |signal| 128 + signal))
}

/// What the items' dedup ids are, and how long they count.
#[derive(Clone, Copy)]
struct Dedup<'a> {
    id: &'a str,
    time: Option<Duration>,
    until_settled: bool,
}

/// Enqueues every item of standard input. An item that can be read is accepted before more input is waited for.
pub fn feed(queue: &Queue, how: &args::Input, durability: Durability, stop: &Stop, tally: &Tally) -> Result<()> {
    feed_with(queue, how, None, durability, stop, tally)
}

fn feed_with(
    queue: &Queue,
    how: &args::Input,
    dedup: Option<Dedup<'_>>,
    durability: Durability,
    stop: &Stop,
    tally: &Tally,
) -> Result<()> {
    let mut feeder = Feeder { queue, how, dedup, durability, pending: Vec::new(), tally };
    let fed = feeder.take_all(&Input::standard(stop)?, if how.null { 0 } else { b'\n' });
    // However it ended, what was submitted counts.
    let settled = feeder.settle().map_err(Error::from);
    let accepted = tally.enqueued.load(Ordering::Relaxed);
    fed.and(settled).with_context(|| format!("input ends at item {} ({accepted} accepted before it)", accepted + 1))
}

struct Feeder<'a> {
    queue: &'a Queue,
    how: &'a args::Input,
    dedup: Option<Dedup<'a>>,
    durability: Durability,
    pending: Vec<Pending<TaskId>>,
    tally: &'a Tally,
}

impl Feeder<'_> {
    fn take_all(&mut self, input: &Input, end: u8) -> Result<()> {
        let bytes_max = self.queue.task_bytes_max();
        let mut items = Items::new(end, usize::try_from(bytes_max).unwrap_or(usize::MAX));
        loop {
            let mut piece = input.poll();
            if let Ok(Piece::Later) = piece {
                self.settle()?;
                piece = input.wait();
            }
            match piece.context("standard input can't be read")? {
                Piece::Bytes(bytes) => {
                    let cut = items.cut(&bytes, |item| self.submit(item).map_err(Refusal::Queue));
                    cut.map_err(|refusal| refusal.explain(bytes_max))?;
                }
                Piece::Later => {}
                Piece::End => break,
                // An item that was read in part is not one.
                Piece::Stopped => return Ok(()),
            }
        }
        match items.rest() {
            Some(last) => self.submit(&last).map_err(|error| Refusal::Queue(error).explain(bytes_max)),
            None => Ok(()),
        }
    }

    fn submit(&mut self, item: &[u8]) -> Result<(), lanelog::Error> {
        let mut task = Task::new(item).lane(LaneId(self.how.lane)).durability(self.durability);
        if let Some(delay) = self.how.delay {
            task = task.delay(delay);
        }
        if let Some(ttl) = self.how.ttl {
            task = task.ttl(ttl);
        }
        if let Some(key) = &self.how.key {
            task = task.key(key);
        }
        let id = self.dedup.map(|dedup| dedup.id_of(item));
        if let (Some(id), Some(dedup)) = (&id, self.dedup) {
            task = task.dedup_id(id);
            task = dedup.time.map_or(task.clone(), |time| task.dedup_for(time));
            task = if dedup.until_settled { task.dedup_until_settled() } else { task };
        }
        self.pending.push(self.queue.submit(task)?);
        if self.pending.len() >= PENDING_MAX { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<(), lanelog::Error> {
        let count = self.pending.len() as u64;
        // The last one first: one commit covers all before it.
        while let Some(last) = self.pending.pop() {
            last.wait()?;
        }
        self.tally.add_enqueued(count);
        Ok(())
    }
}

impl Dedup<'_> {
    fn id_of(self, item: &[u8]) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.id.split("{}").map(str::as_bytes).collect();
        parts.join(item)
    }
}

/// Why an item did not become a task.
enum Refusal {
    Endless,
    Queue(lanelog::Error),
}

impl From<Endless> for Refusal {
    fn from(_: Endless) -> Self {
        Refusal::Endless
    }
}

impl Refusal {
    fn explain(self, bytes_max: u64) -> Error {
        match self {
            Refusal::Endless | Refusal::Queue(lanelog::Error::TaskTooLarge { .. }) => {
                let room = bytes_max.saturating_sub(32);
                anyhow!("it is longer than {room} bytes, the most a task can be; enqueue the names of files instead")
            }
            Refusal::Queue(error) => error.into(),
        }
    }
}
