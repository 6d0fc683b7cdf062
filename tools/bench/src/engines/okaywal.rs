//! okaywal: a write-ahead log. Tasks and acks are entries of it; where each task lies is kept in memory, to read it back.
//!
//! A segment of the log is recycled once its checkpoint returns, and that of a queue is due when all its tasks are acked.
//! So the checkpoint thread waits for that.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{bail, ensure};
use okaywal::{Configuration, Entry, EntryId, LogManager, LogPosition, ReadChunkResult, SegmentReader, WriteAheadLog};

use super::bell::Bell;
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Okaywal;

impl Engine for Okaywal {
    fn name(&self) -> &'static str {
        "okaywal"
    }

    fn version(&self) -> String {
        env!("VERSION_OKAYWAL").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        let more = if durability == Durability::Process { ", always syncs, which is more than was asked" } else { "" };
        format!("segments of {} MiB, acks are entries of the log{more}", SEGMENT_BYTES >> 20)
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        if needs.contains(&Need::Outstanding) {
            return Err("a commit waits for its sync".to_owned());
        }
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let shared = Arc::new(Shared::default());
        let log = Configuration::default_for(&setup.dir)
            .preallocate_bytes(SEGMENT_BYTES)
            .checkpoint_after_bytes(u64::from(SEGMENT_BYTES / 4 * 3))
            .buffer_bytes(BUFFER_BYTES)
            .open(Manager(Arc::clone(&shared)))?;
        Ok(Box::new(Opened { log, shared, bell: Bell::default() }))
    }
}

/// The defaults are a MiB and 16 KiB.
const SEGMENT_BYTES: u32 = 4 << 20;
const BUFFER_BYTES: usize = 128 << 10;

struct Opened {
    log: WriteAheadLog,
    shared: Arc<Shared>,
    bell: Bell,
}

/// What the store and the log's checkpoint thread have in common.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A segment may be due, or the store closes.
    changed: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.queue().closing = true;
        self.changed.notify_all();
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// What waits in each lane, in the order of the log.
    lanes: BTreeMap<u8, BTreeMap<Id, LogPosition>>,
    /// How many tasks of each entry are not acked.
    unacked: BTreeMap<u64, usize>,
    closing: bool,
}

/// A task: its entry, and its number therein.
type Id = (u64, u32);

impl Queue {
    fn take(&mut self, most: usize) -> Option<Vec<Taken>> {
        let mut taken = Vec::new();
        for (&lane, waiting) in &mut self.lanes {
            while taken.len() < most
                && let Some((id, position)) = waiting.pop_first()
            {
                taken.push(Taken { lane, id, position });
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    fn acked(&mut self, (entry, _): Id) {
        if let Some(left) = self.unacked.get_mut(&entry) {
            *left -= 1;
            if *left == 0 {
                self.unacked.remove(&entry);
            }
        }
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self, positions: Vec::new() }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { store: self, payload: Vec::new(), kept: Vec::new() }))
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.shared.stop();
        match self.log.clone().shutdown().map_err(|error| error.kind()) {
            // The thread that waited for acks: it ends by this error, or already has.
            Ok(()) | Err(io::ErrorKind::Interrupted | io::ErrorKind::BrokenPipe) => Ok(()),
            Err(other) => bail!("the checkpoint thread ended with {other}"),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

struct Sending<'a> {
    store: &'a Opened,
    positions: Vec<LogPosition>,
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let count = u32::try_from(tasks.len())?;
        let mut entry = self.store.log.begin_entry()?;
        let EntryId(id) = entry.id();
        // Before it is in the log: its segment may be due as soon as it is.
        self.store.shared.queue().unacked.insert(id, tasks.len());
        let [first, second, third, fourth] = count.to_le_bytes();
        entry.write_chunk(&[TASKS, lane, first, second, third, fourth])?;
        self.positions.clear();
        for task in tasks {
            self.positions.push(entry.write_chunk(task)?.position);
        }
        entry.commit()?;
        let waiting = (0..count).map(|number| (id, number)).zip(self.positions.drain(..));
        self.store.shared.queue().lanes.entry(lane).or_default().extend(waiting);
        self.store.bell.ring();
        Ok(())
    }
}

struct Taken {
    lane: u8,
    id: Id,
    position: LogPosition,
}

struct Taking<'a> {
    store: &'a Opened,
    payload: Vec<u8>,
    kept: Vec<Taken>,
}

impl Taking<'_> {
    fn read(&mut self, position: LogPosition) -> anyhow::Result<()> {
        let mut chunk = self.store.log.read_at(position)?;
        self.payload.clear();
        self.payload.reserve(usize::try_from(chunk.chunk_length())?);
        chunk.read_to_end(&mut self.payload)?;
        ensure!(chunk.crc_is_valid()?, "a task was read back with another checksum");
        Ok(())
    }
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let Some(taken) = self.store.bell.wait_until(wait, || Ok(self.store.shared.queue().take(tasks)))? else {
            return Ok(0);
        };
        let count = taken.len();
        let (mut acks, mut acked) = (vec![ACKS], Vec::with_capacity(count));
        for task in taken {
            self.read(task.position)?;
            match see(&self.payload) {
                Settle::Keep => self.kept.push(task),
                Settle::Ack => {
                    acks.push(task.lane);
                    acks.extend_from_slice(&task.id.0.to_le_bytes());
                    acks.extend_from_slice(&task.id.1.to_le_bytes());
                    acked.push(task.id);
                }
            }
        }
        if !acked.is_empty() {
            let mut entry = self.store.log.begin_entry()?;
            entry.write_chunk(&acks)?;
            entry.commit()?;
            let mut queue = self.store.shared.queue();
            acked.into_iter().for_each(|id| queue.acked(id));
            drop(queue);
            self.store.shared.changed.notify_all();
        }
        Ok(count)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut queue = self.store.shared.queue();
        for Taken { lane, id, position } in self.kept.drain(..) {
            queue.lanes.entry(lane).or_default().insert(id, position);
        }
    }
}

/// An entry's first chunk begins with what it is. Behind this: the lane, and the number of the chunks that follow, each a
/// task.
const TASKS: u8 = 0;
/// Behind this: for each task its lane, entry and number.
const ACKS: u8 = 1;
const ACK_BYTES: usize = 13;

#[derive(Debug)]
struct Manager(Arc<Shared>);

impl LogManager for Manager {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let EntryId(id) = entry.id();
        let mut chunk = Vec::new();
        let Some(_) = next_chunk(entry, &mut chunk)? else { return Ok(()) };
        match *chunk.as_slice() {
            [TASKS, lane, first, second, third, fourth] => {
                let mut waiting = Vec::new();
                for number in 0..u32::from_le_bytes([first, second, third, fourth]) {
                    // An entry that a kill cut short was never committed.
                    let Some(position) = next_chunk(entry, &mut chunk)? else { return Ok(()) };
                    waiting.push(((id, number), position));
                }
                let mut queue = self.0.queue();
                queue.unacked.insert(id, waiting.len());
                queue.lanes.entry(lane).or_default().extend(waiting);
            }
            [ACKS, ref acks @ ..] => {
                let mut queue = self.0.queue();
                for (lane, id) in acks.chunks_exact(ACK_BYTES).filter_map(ack) {
                    if queue.lanes.get_mut(&lane).is_some_and(|waiting| waiting.remove(&id).is_some()) {
                        queue.acked(id);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, last: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        let mut queue = self.0.queue();
        while queue.unacked.first_key_value().is_some_and(|(entry, _)| *entry <= last.0) {
            if queue.closing {
                // Ends the thread. The segment is recovered when the log is opened again.
                return Err(io::ErrorKind::Interrupted.into());
            }
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Where the entry's next chunk is, if it is whole.
fn next_chunk(entry: &mut Entry<'_>, bytes: &mut Vec<u8>) -> io::Result<Option<LogPosition>> {
    let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? else { return Ok(None) };
    bytes.clear();
    chunk.read_to_end(bytes)?;
    Ok((chunk.bytes_remaining() == 0 && chunk.check_crc()?).then_some(chunk.log_position()))
}

fn ack(bytes: &[u8]) -> Option<(u8, Id)> {
    let (lane, id) = bytes.split_first()?;
    let (entry, id) = id.split_first_chunk()?;
    let (number, _) = id.split_first_chunk()?;
    Some((*lane, (u64::from_le_bytes(*entry), u32::from_le_bytes(*number))))
}
