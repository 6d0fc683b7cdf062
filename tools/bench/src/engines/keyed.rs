//! A queue as sorted keys, lane then position: what the peers that are key-value stores or tables have in common. Each
//! brings its [`Keys`]; positions, waiting and settling are done here, the same for all of them.

#![allow(dead_code, reason = "which of it is used depends on the engines that are built")]

use std::ops::Range;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::tickets::Tickets;
use crate::engine::{Consumer, Need, Producer, Settle, Store};

/// Neighbouring positions of one lane.
#[derive(Clone, Debug)]
pub struct Run {
    pub lane: u8,
    pub positions: Range<u64>,
}

impl Run {
    /// The keys of its positions.
    pub fn keys(&self) -> Range<u64> {
        key(self.lane, self.positions.start)..key(self.lane, self.positions.end)
    }

    /// The same bounds as bytes that sort as they do.
    pub fn byte_keys(&self) -> Range<[u8; 8]> {
        let keys = self.keys();
        keys.start.to_be_bytes()..keys.end.to_be_bytes()
    }

    /// Whether a lookup will do.
    pub fn is_single(&self) -> bool {
        self.positions.end - self.positions.start == 1
    }
}

/// Every position that the lane can have.
pub fn whole(lane: u8) -> Run {
    Run { lane, positions: 0..1 << POSITION_BITS }
}

/// Orders by lane, then by position, and stays positive in engines whose integers are signed.
pub fn key(lane: u8, position: u64) -> u64 {
    u64::from(lane) << POSITION_BITS | position
}

const POSITION_BITS: u32 = 55;

/// The position in a key.
pub fn position(key: u64) -> u64 {
    key & ((1 << POSITION_BITS) - 1)
}

/// A key that was kept as bytes.
pub fn parse(key: &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_be_bytes(key.try_into()?))
}

/// The lowest and the highest position among a lane's keys.
pub fn ends<E>(mut keys: impl DoubleEndedIterator<Item = Result<u64, E>>) -> Result<Option<(u64, u64)>, E> {
    let Some(first) = keys.next().transpose()? else {
        return Ok(None);
    };
    let last = keys.next_back().transpose()?.unwrap_or(first);
    Ok(Some((position(first), position(last))))
}

/// What an engine does with the keys. All that is written must have the durability of the run when a call returns.
pub trait Keys: Send + Sync {
    /// Writes these in one batch, at positions that it asks the lane's tickets for: an engine with one writer at a time
    /// while it is the writer, so that its keys only grow.
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>>;

    /// Shows what is at these positions, upwards.
    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()>;

    /// Deletes all these in one batch.
    fn remove(&self, runs: &[Run]) -> anyhow::Result<()>;

    /// The lowest and the highest position that the lane has.
    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>>;

    /// Closes in good order.
    fn close(self) -> anyhow::Result<()>;
}

/// None of these engines has a call that begins a durable write and is waited for later.
pub fn can(needs: &[Need]) -> Result<(), String> {
    if needs.contains(&Need::Outstanding) {
        return Err("no call that returns before its commit".to_owned());
    }
    Ok(())
}

/// The queue in an opened engine.
pub fn store<K: Keys + 'static>(keys: K, lanes: u16) -> anyhow::Result<Box<dyn Store>> {
    let mut all = Vec::new();
    for lane in (0..=u8::MAX).take(usize::from(lanes)) {
        let tickets = keys.bounds(lane)?.map(|(first, last)| Tickets::resumed(first, last + 1));
        all.push((lane, tickets.unwrap_or_default()));
    }
    Ok(Box::new(Queue { keys, lanes: all, bell: Bell::default() }))
}

struct Queue<K> {
    keys: K,
    lanes: Vec<(u8, Tickets)>,
    bell: Bell,
}

impl<K: Keys> Queue<K> {
    /// The most urgent positions, at most so many; nobody else gets them.
    fn claim(&self, tasks: usize, claimed: &mut Vec<Run>) -> Option<()> {
        let mut left = u64::try_from(tasks).unwrap_or(u64::MAX);
        for (lane, tickets) in &self.lanes {
            let positions = tickets.take(left);
            if !positions.is_empty() {
                left -= positions.end - positions.start;
                claimed.push(Run { lane: *lane, positions });
            }
            if left == 0 {
                break;
            }
        }
        (!claimed.is_empty()).then_some(())
    }
}

impl<K: Keys + 'static> Store for Queue<K> {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { queue: self }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { queue: self, claimed: Vec::new(), done: Vec::new() }))
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.keys.close()
    }
}

struct Sending<'a, K> {
    queue: &'a Queue<K>,
}

impl<K: Keys> Producer for Sending<'_, K> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let Some((_, tickets)) = self.queue.lanes.get(usize::from(lane)) else {
            anyhow::bail!("the store has no lane {lane}");
        };
        let written = self.queue.keys.insert(lane, tickets, tasks)?;
        tickets.written(&written);
        self.queue.bell.ring();
        Ok(())
    }
}

struct Taking<'a, K> {
    queue: &'a Queue<K>,
    claimed: Vec<Run>,
    done: Vec<Run>,
}

impl<K: Keys> Consumer for Taking<'_, K> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let Taking { queue, claimed, done } = self;
        let end = Instant::now() + wait;
        loop {
            claimed.clear();
            let left = end.saturating_duration_since(Instant::now());
            if queue.bell.wait_until(left, || Ok(queue.claim(tasks, claimed)))?.is_none() {
                return Ok(0);
            }
            let mut count = 0;
            done.clear();
            for run in claimed.iter() {
                queue.keys.read(run, &mut |position, payload| {
                    count += 1;
                    if see(payload) == Settle::Ack {
                        add(done, run.lane, position);
                    }
                })?;
            }
            if !done.is_empty() {
                queue.keys.remove(done)?;
            }
            // Where an earlier life had acked what came later, or died with a position not yet written, nothing is left.
            if count > 0 {
                return Ok(count);
            }
        }
    }
}

/// One position more that is done, behind those before it.
fn add(done: &mut Vec<Run>, lane: u8, position: u64) {
    match done.last_mut() {
        Some(run) if run.lane == lane && run.positions.end == position => run.positions.end += 1,
        _ => done.push(Run { lane, positions: position..position + 1 }),
    }
}
