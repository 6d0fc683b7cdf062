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
        Ok(Box::new(Taking { consumer: self.queue.consumer_of("default", options)?, kept: Vec::new() }))
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
    kept: Vec<lanelog::Delivery>,
}

impl Consumer for Taking {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let mut taken = self.consumer.reserve(Reserve::new().tasks(tasks).wait(wait).lanes(LaneSet::ALL))?;
        let count = taken.len();
        if count == 1
            && let Some(one) = taken.pop()
        {
            match see(one.payload()) {
                Settle::Ack => one.ack()?,
                Settle::Keep => self.kept.push(one),
            }
            return Ok(count);
        }
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
