//! raft-engine: one log that the entries of many Raft groups share.
//!
//! The entries of a group must be written one after the other, and only writes of different groups share a sync: so each
//! producer writes to groups of its own. A compaction costs by the entries that its group has above a thousand: so a
//! producer begins a new group before that. An entry's value is its index, the number of its send, and the payload.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, Config, LogBatch, MessageExt, ReadableSize};

use super::bell::Bell;
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct RaftEngine;

impl Engine for RaftEngine {
    fn name(&self) -> &'static str {
        "raft-engine"
    }

    fn version(&self) -> String {
        env!("VERSION_RAFT_ENGINE").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        let sync = durability == Durability::Power;
        format!(
            "sync={sync}, no compression and purge from 2 GiB as in its example, groups of {GROUP_ENTRIES_MAX} tasks of \
             one producer and lane, acks compact a group, those out of order are keys of it"
        )
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        if needs.contains(&Need::Outstanding) {
            return Err("a write waits for its sync".to_owned());
        }
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let config = Config {
            dir: setup.dir.to_str().context("a directory that is no UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            purge_threshold: ReadableSize::gb(2),
            ..Config::default()
        };
        let log = Arc::new(raft_engine::Engine::open(config)?);
        let queue = Mutex::new(Queue::recover(&log)?);
        let life = 1 + log.get(LIVES, b"").and_then(|life| life.try_into().ok()).map_or(0, u16::from_le_bytes);
        let mut batch = LogBatch::default();
        batch.put(LIVES, Vec::new(), life.to_le_bytes().to_vec())?;
        log.write(&mut batch, true)?;
        Ok(Box::new(Opened {
            _purging: Purging::start(Arc::clone(&log))?,
            queue,
            log,
            sync: setup.durability == Durability::Power,
            life,
            producers: AtomicU16::new(0),
            sends: AtomicU64::new(0),
            bell: Bell::default(),
        }))
    }
}

struct Opened {
    _purging: Purging,
    log: Arc<raft_engine::Engine>,
    sync: bool,
    /// How often the store was opened. No group is written to in two lives.
    life: u16,
    producers: AtomicU16,
    sends: AtomicU64,
    queue: Mutex<Queue>,
    bell: Bell,
}

impl Opened {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ack(&self, batch: &mut LogBatch, acked: &mut [Span]) -> anyhow::Result<()> {
        acked.sort_unstable();
        let floors = self.queue().compose(batch, acked)?;
        self.log.write(batch, self.sync)?;
        self.queue().acked(acked, &floors);
        Ok(())
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        let number = self.producers.fetch_add(1, Ordering::Relaxed);
        let (batch, entries) = (LogBatch::default(), Vec::new());
        Ok(Box::new(Sending { store: self, number, groups: 0, writing: HashMap::new(), batch, entries }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { store: self, batch: LogBatch::default(), entries: Vec::new(), kept: Vec::new() }))
    }
}

struct Sending<'a> {
    store: &'a Opened,
    number: u16,
    /// How many groups it began.
    groups: u32,
    /// The group it writes to in each lane, and the next index there.
    writing: HashMap<u8, (u64, u64)>,
    batch: LogBatch,
    entries: Vec<BytesValue>,
}

impl Sending<'_> {
    /// The group for so many tasks, and the index of the first.
    fn group(&mut self, lane: u8, tasks: usize) -> anyhow::Result<(u64, u64)> {
        let tasks = u64::try_from(tasks)?;
        let begun = self.writing.get(&lane).copied();
        if let Some((group, next)) = begun
            && next + tasks <= GROUP_ENTRIES_MAX
        {
            return Ok((group, next));
        }
        if let Some((full, _)) = begun {
            self.store.queue().closed(full);
        }
        let group = group_of(self.store.life, lane, self.number, self.groups);
        self.groups += 1;
        Ok((group, 1))
    }
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let (group, first) = self.group(lane, tasks.len())?;
        let send = self.store.sends.fetch_add(1, Ordering::Relaxed);
        let mut next = first;
        self.entries.resize_with(tasks.len(), BytesValue::default);
        for (entry, task) in self.entries.iter_mut().zip(tasks) {
            entry.value.clear();
            entry.value.extend_from_slice(&next.to_le_bytes());
            entry.value.extend_from_slice(&send.to_le_bytes());
            entry.value.extend_from_slice(task);
            next += 1;
        }
        self.batch.add_entries::<Tasks>(group, &self.entries)?;
        self.store.queue().clean(&mut self.batch);
        self.store.log.write(&mut self.batch, self.store.sync)?;
        self.writing.insert(lane, (group, next));
        self.store.queue().push(Span { group, first, end: next });
        self.store.bell.ring();
        Ok(())
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut queue = self.store.queue();
        self.writing.values().for_each(|(group, _)| queue.closed(*group));
    }
}

struct Taking<'a> {
    store: &'a Opened,
    batch: LogBatch,
    entries: Vec<BytesValue>,
    kept: Vec<Span>,
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let most = u64::try_from(tasks)?;
        let Some(taken) = self.store.bell.wait_until(wait, || Ok(self.store.queue().pop(most)))? else {
            return Ok(0);
        };
        let (mut count, mut acked) = (0, Vec::with_capacity(taken.len()));
        for Span { group, first, end } in taken {
            self.entries.clear();
            count += self.store.log.fetch_entries_to::<Tasks>(group, first, end, None, &mut self.entries)?;
            for (first, entry) in (first..end).zip(&self.entries) {
                let (_, task) = entry.value.split_at_checked(HEAD_BYTES).context("an entry without its head")?;
                let one = Span { group, first, end: first + 1 };
                match see(task) {
                    Settle::Ack => join(&mut acked, one),
                    Settle::Keep => self.kept.push(one),
                }
            }
        }
        self.store.ack(&mut self.batch, &mut acked)?;
        Ok(count)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut queue = self.store.queue();
        for span in self.kept.drain(..).rev() {
            queue.lane(span.group).push_front(span);
        }
    }
}

/// Entries of one group, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    group: u64,
    first: u64,
    end: u64,
}

/// Adds a span, to the last one where it goes on there.
fn join(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.group == span.group && last.end == span.first => last.end = span.end,
        _ => spans.push(span),
    }
}

/// What waits, in the order it was accepted in, and what is acked.
struct Queue {
    lanes: BTreeMap<u8, VecDeque<Span>>,
    groups: HashMap<u64, Acks>,
    /// Groups that are written no more, and empty.
    over: Vec<u64>,
}

/// The acks of one group, as they are in the log.
struct Acks {
    /// The log is compacted to here.
    floor: u64,
    /// Acked and above the floor. Each is a key of the group.
    beyond: BTreeSet<u64>,
    /// Behind the last entry.
    end: u64,
    /// No more entries come.
    closed: bool,
}

impl Queue {
    /// What earlier lives left. Only where several producers wrote to a lane are entries read, for their order.
    fn recover(log: &raft_engine::Engine) -> anyhow::Result<Queue> {
        let mut queue = Queue { lanes: BTreeMap::new(), groups: HashMap::new(), over: Vec::new() };
        let mut groups: Vec<_> = log.raft_groups().into_iter().filter(|id| *id != LIVES).collect();
        groups.sort_unstable();
        for together in groups.chunk_by(|one, other| one >> LANE_BITS_AT == other >> LANE_BITS_AT) {
            let producer = |group: Option<&u64>| group.map(|group| group >> PRODUCER_BITS_AT);
            let one_producer = producer(together.first()) == producer(together.last());
            let mut waiting = Vec::new();
            for &group in together {
                let (Some(floor), Some(last)) = (log.first_index(group), log.last_index(group)) else {
                    queue.over.push(group);
                    continue;
                };
                let mut beyond = BTreeSet::new();
                log.scan_raw_messages(group, None, None, false, |key, _| {
                    beyond.extend(<[u8; 8]>::try_from(key).map(u64::from_be_bytes));
                    true
                })?;
                for first in (floor..=last).filter(|index| !beyond.contains(index)) {
                    let send = if one_producer { 0 } else { send_of(log, group, first)? };
                    waiting.push((send, Span { group, first, end: first + 1 }));
                }
                queue.groups.insert(group, Acks { floor, beyond, end: last + 1, closed: true });
            }
            waiting.sort_unstable();
            let mut spans = Vec::new();
            waiting.into_iter().for_each(|(_, span)| join(&mut spans, span));
            spans.into_iter().for_each(|span| queue.lane(span.group).push_back(span));
        }
        Ok(queue)
    }

    fn lane(&mut self, group: u64) -> &mut VecDeque<Span> {
        self.lanes.entry(lane_of(group)).or_default()
    }

    fn push(&mut self, span: Span) {
        let begun = Acks { floor: span.first, beyond: BTreeSet::new(), end: span.first, closed: false };
        self.groups.entry(span.group).or_insert(begun).end = span.end;
        self.lane(span.group).push_back(span);
    }

    /// No more is written to this group.
    fn closed(&mut self, group: u64) {
        if let Some(acks) = self.groups.get_mut(&group) {
            acks.closed = true;
            self.end_if_over(group);
        }
    }

    fn end_if_over(&mut self, group: u64) {
        if self.groups.get(&group).is_some_and(|acks| acks.closed && acks.floor_with(&[]) == acks.end) {
            self.groups.remove(&group);
            self.over.push(group);
        }
    }

    /// Has the batch remove what groups are over, and their keys.
    fn clean(&mut self, batch: &mut LogBatch) {
        self.over.drain(..).for_each(|group| batch.add_command(group, Command::Clean));
    }

    /// At most so many tasks, the most urgent lanes' first.
    fn pop(&mut self, most: u64) -> Option<Vec<Span>> {
        let (mut left, mut taken) = (most, Vec::new());
        for lane in self.lanes.values_mut() {
            while left > 0
                && let Some(span) = lane.front_mut()
            {
                let end = span.end.min(span.first + left);
                left -= end - span.first;
                join(&mut taken, Span { end, ..*span });
                span.first = end;
                if span.first == span.end {
                    lane.pop_front();
                }
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Puts into the batch what makes these durable: where a group's floor rises, a compaction, and the end of the keys
    /// it makes needless; for those above the floor, a key each. Gives the floors.
    fn compose(&mut self, batch: &mut LogBatch, acked: &[Span]) -> anyhow::Result<Vec<u64>> {
        self.clean(batch);
        let mut floors = Vec::new();
        for spans in acked.chunk_by(|one, other| one.group == other.group) {
            let Some(&Span { group, .. }) = spans.first() else { continue };
            let acks = self.groups.get(&group).context("an ack for a group that is over")?;
            let floor = acks.floor_with(spans);
            if floor > acks.floor {
                batch.add_command(group, Command::Compact { index: floor });
                for key in acks.beyond.range(..floor) {
                    batch.delete(group, key.to_be_bytes().to_vec());
                }
            }
            for index in spans.iter().flat_map(|span| span.first.max(floor)..span.end) {
                batch.put(group, index.to_be_bytes().to_vec(), Vec::new())?;
            }
            floors.push(floor);
        }
        Ok(floors)
    }

    /// Notes what was composed, once it is written: no floor rises over acks that are not.
    fn acked(&mut self, acked: &[Span], floors: &[u64]) {
        for (spans, floor) in acked.chunk_by(|one, other| one.group == other.group).zip(floors) {
            let Some(&Span { group, .. }) = spans.first() else { continue };
            let Some(acks) = self.groups.get_mut(&group) else { continue };
            acks.beyond.extend(spans.iter().flat_map(|span| span.first.max(*floor)..span.end));
            if *floor > acks.floor {
                acks.floor = *floor;
                acks.beyond = acks.beyond.split_off(floor);
            }
            self.end_if_over(group);
        }
    }
}

impl Acks {
    /// The floor with these acked as well.
    fn floor_with(&self, spans: &[Span]) -> u64 {
        let mut floor = self.floor;
        loop {
            if let Some(span) = spans.iter().find(|span| (span.first..span.end).contains(&floor)) {
                floor = span.end;
            } else if self.beyond.contains(&floor) {
                floor += 1;
            } else {
                return floor;
            }
        }
    }
}

/// The thread that gives disk space back, as often as TiKV has it.
struct Purging {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Purging {
    fn start(log: Arc<raft_engine::Engine>) -> std::io::Result<Purging> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("purge".to_owned()).spawn(move || {
            while stopped.recv_timeout(PURGE_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Groups that hold old files are listed, and an error is met again by the next write.
                let _laggards = log.purge_expired_files();
            }
        })?;
        Ok(Purging { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Purging {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Its share of the log must be gone before the directory can be opened again.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

const PURGE_EVERY: Duration = Duration::from_secs(10);

struct Tasks;

impl MessageExt for Tasks {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        word(entry, INDEX)
    }
}

fn word(entry: &BytesValue, at: Range<usize>) -> u64 {
    entry.value.get(at).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn send_of(log: &raft_engine::Engine, group: u64, index: u64) -> anyhow::Result<u64> {
    let entry = log.get_entry::<Tasks>(group, index)?.context("an index without its entry")?;
    Ok(word(&entry, SEND))
}

const INDEX: Range<usize> = 0..8;
const SEND: Range<usize> = 8..16;
const HEAD_BYTES: usize = 16;

/// Of each group; well below the capacity at which a compaction begins to copy all that is left.
const GROUP_ENTRIES_MAX: u64 = 960;
/// The group whose only key has the number of lives.
const LIVES: u64 = 0;

/// From the top: 16 bits of life, 8 of lane, 16 of producer, and 24 of how many groups the producer began before.
fn group_of(life: u16, lane: u8, producer: u16, begun: u32) -> u64 {
    u64::from(life) << 48 | u64::from(lane) << LANE_BITS_AT | u64::from(producer) << PRODUCER_BITS_AT | u64::from(begun)
}

fn lane_of(group: u64) -> u8 {
    let [_, _, lane, ..] = group.to_be_bytes();
    lane
}

const LANE_BITS_AT: u32 = 40;
const PRODUCER_BITS_AT: u32 = 24;
