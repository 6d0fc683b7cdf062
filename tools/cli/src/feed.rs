//! Standard input to tasks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use lanelog::{Durability, LaneId, Options, Pending, Queue, Task, TaskId};

use crate::args::{self, Enqueue};
use crate::input::{Endless, Input, Items, Piece};
use crate::queue;
use crate::signals::Stop;
use crate::tally::Tally;

/// Tasks that may wait for their commit together.
const PENDING_MAX: usize = 4096;
/// How long a wait for room lasts before it looks for a signal.
const LOOK: Duration = Duration::from_millis(50);
/// So often, 5 s in all, for a segment that is not ready.
const LOOKS_FOR_A_SEGMENT: u32 = 100;

/// `lanelog enqueue`.
pub fn enqueue(args: &Enqueue) -> Result<u8> {
    let stop = Stop::on_signals()?;
    let queue = queue::open_with_lane(&args.place, args.input.lane, Options::new())?;
    let tally = Tally::new(0);
    let dedup =
        args.dedup_id.as_deref().map(|id| Dedup { id, time: args.dedup_for, until_settled: args.dedup_until_settled });
    let durability = args.durability.into();
    let feeder =
        Feeder { queue: &queue, how: &args.input, dedup, durability, waits: None, pending: Vec::new(), tally: &tally };
    let fed = feeder.feed(&stop);
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

/// Enqueues every item of standard input, beside workers that make room where the queue is full.
pub fn feed(queue: &Queue, how: &args::Input, stop: &Stop, tally: &Tally) -> Result<()> {
    let durability = Durability::Power;
    Feeder { queue, how, dedup: None, durability, waits: Some(stop), pending: Vec::new(), tally }.feed(stop)
}

struct Feeder<'a> {
    queue: &'a Queue,
    how: &'a args::Input,
    dedup: Option<Dedup<'a>>,
    durability: Durability,
    /// Waits for room under a bound until this is asked for; `None`: as long as the queue says.
    waits: Option<&'a Stop>,
    pending: Vec<Pending<TaskId>>,
    tally: &'a Tally,
}

impl Feeder<'_> {
    /// An item that can be read is accepted before more input is waited for.
    fn feed(mut self, stop: &Stop) -> Result<()> {
        let fed = self.take_all(&Input::standard(stop)?, if self.how.null { 0 } else { b'\n' });
        // However it ended, what was submitted counts.
        let settled = self.settle().map_err(Error::from);
        let accepted = self.tally.enqueued.load(Ordering::Relaxed);
        fed.and(settled).with_context(|| format!("input ends at item {} ({accepted} accepted before it)", accepted + 1))
    }

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
                    if let Err(refusal) = items.cut(&bytes, |item| self.submit(item)) {
                        return refusal.ends_with(bytes_max);
                    }
                }
                Piece::Later => {}
                Piece::End => break,
                // An item that was read in part is not one.
                Piece::Stopped => return Ok(()),
            }
        }
        let last = items.rest().map_or(Ok(()), |last| self.submit(&last));
        last.or_else(|refusal| refusal.ends_with(bytes_max))
    }

    fn submit(&mut self, item: &[u8]) -> Result<(), Refusal> {
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
        let submitted = self.submitted(task)?;
        self.pending.push(submitted);
        if self.pending.len() >= PENDING_MAX {
            self.settle()?;
        }
        Ok(())
    }

    fn submitted(&mut self, task: Task<'_>) -> Result<Pending<TaskId>, Refusal> {
        use lanelog::Error::{Full, OverBound};
        // What waits for its commit is handed to nobody, and so makes no room.
        if !self.pending.is_empty() {
            match self.queue.submit(task.clone().wait(Duration::ZERO)) {
                Err(OverBound { .. } | Full { .. }) => self.settle()?,
                submitted => return Ok(submitted?),
            }
        }
        let Some(stop) = self.waits else { return Ok(self.queue.submit(task)?) };
        let mut looks_left = LOOKS_FOR_A_SEGMENT;
        loop {
            match self.queue.submit(task.clone().wait(LOOK)) {
                Err(OverBound { .. }) if stop.is_asked() => return Err(Refusal::Stopped),
                Err(OverBound { .. }) => {}
                Err(Full { .. }) if looks_left > 0 => looks_left -= 1,
                submitted => return Ok(submitted?),
            }
        }
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
    /// There was no room yet as the work should end.
    Stopped,
    Queue(lanelog::Error),
}

impl From<lanelog::Error> for Refusal {
    fn from(error: lanelog::Error) -> Self {
        Refusal::Queue(error)
    }
}

impl From<Endless> for Refusal {
    fn from(_: Endless) -> Self {
        Refusal::Endless
    }
}

impl Refusal {
    /// How the input ends by that.
    fn ends_with(self, bytes_max: u64) -> Result<()> {
        match self {
            Refusal::Stopped => Ok(()),
            Refusal::Endless | Refusal::Queue(lanelog::Error::TaskTooLarge { .. }) => {
                let room = bytes_max.saturating_sub(32);
                bail!("it is longer than {room} bytes, the most a task can be; enqueue the names of files instead")
            }
            Refusal::Queue(error) => Err(error.into()),
        }
    }
}
