//! lanelog itself, by its library.

use std::collections::VecDeque;
use std::time::Duration;

use lanelog::{ConsumerOptions, LaneId, LaneSet, Options, Pending, Queue, Reserve, Task, TaskId};

use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Lanelog;

impl Engine for Lanelog {
    fn name(&self) -> &'static str {
        "lanelog"
    }

    fn version(&self) -> String {
        env!("VERSION_LANELOG").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        format!("defaults, each call at {durability:?}, leases of 10 minutes")
    }

    fn can(&self, _durability: Durability, _needs: &[Need]) -> Result<(), String> {
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let queue = Options::new().lanes(usize::from(setup.lanes)).lease(LEASE).open(&setup.dir)?;
        let durability = match setup.durability {
            Durability::Process => lanelog::Durability::Process,
            Durability::Power => lanelog::Durability::Power,
        };
        Ok(Box::new(Opened { queue, durability }))
    }
}

/// No run takes longer, so nothing comes twice but what a death gave back.
const LEASE: Duration = Duration::from_mins(10);

struct Opened {
    queue: Queue,
    durability: lanelog::Durability,
}

impl Opened {
    fn task<'a>(&self, lane: u8, payload: &'a [u8]) -> Task<'a> {
        Task::new(payload).lane(LaneId(lane)).durability(self.durability)
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self, pending: VecDeque::new() }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        let options = ConsumerOptions::new().durability(self.durability);
        Ok(Box::new(Taking { consumer: self.queue.consumer_of("default", options)?, done: None, kept: Vec::new() }))
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.queue.close()?;
        Ok(())
    }
}

struct Sending<'a> {
    store: &'a Opened,
    pending: VecDeque<Pending<TaskId>>,
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        if let [one] = tasks {
            self.store.queue.enqueue(self.store.task(lane, one))?;
        } else {
            let tasks: Vec<_> = tasks.iter().map(|payload| self.store.task(lane, payload)).collect();
            self.store.queue.enqueue_batch(&tasks)?;
        }
        Ok(())
    }

    fn submit(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        self.pending.push_back(self.store.queue.submit(self.store.task(lane, task))?);
        Ok(())
    }

    fn confirm(&mut self, outstanding_max: usize) -> anyhow::Result<()> {
        while self.pending.len() > outstanding_max {
            if let Some(oldest) = self.pending.pop_front() {
                oldest.wait()?;
            }
        }
        Ok(())
    }
}

struct Taking {
    consumer: lanelog::Consumer,
    /// Acked with the next call.
    done: Option<lanelog::Delivery>,
    kept: Vec<lanelog::Delivery>,
}

impl Drop for Taking {
    fn drop(&mut self) {
        // A task that was seen and not acked would come again, and be told as one too many.
        let _told = self.done.take().map(lanelog::Delivery::ack);
    }
}

impl Consumer for Taking {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let ask = Reserve::new().tasks(tasks).wait(wait).lanes(LaneSet::ALL);
        if tasks == 1 {
            let one = match self.done.take() {
                Some(done) => {
                    let next = self.consumer.ack_and_reserve_one(done, ask);
                    next.acked?;
                    next.task?
                }
                None => self.consumer.reserve_one(ask)?,
            };
            let Some(one) = one else { return Ok(0) };
            match see(one.payload()) {
                Settle::Ack => self.done = Some(one),
                Settle::Keep => self.kept.push(one),
            }
            return Ok(1);
        }
        let taken = self.consumer.reserve(ask)?;
        let count = taken.len();
        let mut done = Vec::with_capacity(count);
        for delivery in taken {
            match see(delivery.payload()) {
                Settle::Ack => done.push(delivery),
                Settle::Keep => self.kept.push(delivery),
            }
        }
        for answer in self.consumer.ack_batch(done)? {
            answer?;
        }
        Ok(count)
    }
}
