//! commitlog: an append-only log that never syncs and has no consumers: whoever reads it keeps its own position.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail};
use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use super::bell::Bell;
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Commitlog;

impl Engine for Commitlog {
    fn name(&self) -> &'static str {
        "commitlog"
    }

    fn version(&self) -> String {
        env!("VERSION_COMMITLOG").to_owned()
    }

    fn settings(&self, _durability: Durability) -> String {
        "a log per lane behind a mutex, segments of 1 GB (default), nothing is ever removed, an ack writes the position \
         to a small file beside the log"
            .to_owned()
    }

    fn can(&self, durability: Durability, needs: &[Need]) -> Result<(), String> {
        if durability == Durability::Power {
            return Err("it never syncs: its flush is a write".to_owned());
        }
        for need in needs {
            match need {
                Need::Lanes | Need::Producers => {}
                Need::Keep => return Err("a position settles all before it".to_owned()),
                Need::Outstanding => return Err("an append is over when it returns".to_owned()),
                Need::Consumers => return Err("one reader has the position".to_owned()),
                Need::Reopen => return Err("a kill between a message and its index entry spoils the log".to_owned()),
            }
        }
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let open = |lane: u16| Lane::open(&setup.dir.join(lane.to_string()), setup.payload_bytes);
        let lanes = (0..setup.lanes).map(open).collect::<Result<_, _>>()?;
        Ok(Box::new(Opened { lanes, bell: Bell::default() }))
    }
}

struct Opened {
    lanes: Vec<Lane>,
    bell: Bell,
}

struct Lane {
    log: Mutex<CommitLog>,
    reading: Mutex<Reading>,
}

/// Where the reader is. What it fetched ahead ends with it, and what it acked is in the file.
struct Reading {
    position: File,
    /// The offset of the next message to take.
    next: u64,
    /// Messages from there on, encoded, of which so many bytes were taken.
    ahead: Vec<u8>,
    taken_bytes: usize,
    message_bytes: usize,
}

impl Lane {
    fn open(dir: &Path, payload_bytes: usize) -> anyhow::Result<Lane> {
        let mut options = LogOptions::new(dir);
        // The bound is for an append, and so for a batch.
        options.message_max_bytes(BATCH_BYTES_MAX);
        let log = Mutex::new(CommitLog::new(options)?);
        let position =
            File::options().read(true).write(true).create(true).truncate(false).open(dir.join("position"))?;
        let mut bytes = [0; 8];
        let known = position.read_at(&mut bytes, 0)? == bytes.len();
        let next = if known { u64::from_le_bytes(bytes) } else { 0 };
        let message_bytes = payload_bytes + HEADER_BYTES;
        Ok(Lane {
            log,
            reading: Mutex::new(Reading { position, next, ahead: Vec::new(), taken_bytes: 0, message_bytes }),
        })
    }

    fn log(&self) -> MutexGuard<'_, CommitLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows and acks at most so many; gives their number.
    fn take(&self, tasks: usize, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = &mut *reading;
        if reading.taken_bytes == reading.ahead.len() {
            // One byte more, since a limit that is met exactly is taken as exceeded.
            let limit = ReadLimit::max_bytes((tasks * reading.message_bytes).max(AHEAD_BYTES) + 1);
            reading.ahead = self.log().read(reading.next, limit).map_err(|error| anyhow!("{error}"))?.into_bytes();
            reading.taken_bytes = 0;
        }
        let mut count = 0;
        for message in Encoded(reading.ahead.get(reading.taken_bytes..).unwrap_or_default()).iter().take(tasks) {
            see(message.payload());
            count += 1;
            reading.taken_bytes += HEADER_BYTES + usize::try_from(message.size())?;
            reading.next = message.offset() + 1;
        }
        if count > 0 {
            reading.position.write_all_at(&reading.next.to_le_bytes(), 0)?;
        }
        Ok(count)
    }
}

/// What one append may have: well below a segment.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// What is read at once where so much is there.
const AHEAD_BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 20;

/// Messages that were read, but for those already taken.
struct Encoded<'a>(&'a [u8]);

impl MessageSet for Encoded<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self, batch: MessageBuf::default() }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { store: self }))
    }
}

struct Sending<'a> {
    store: &'a Opened,
    batch: MessageBuf,
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let Some(lane) = self.store.lanes.get(usize::from(lane)) else { bail!("no lane {lane}") };
        self.batch.clear();
        for task in tasks {
            self.batch.push(task).map_err(|error| anyhow!("{error:?}"))?;
        }
        lane.log().append(&mut self.batch)?;
        self.store.bell.ring();
        Ok(())
    }
}

struct Taking<'a> {
    store: &'a Opened,
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let taken = self.store.bell.wait_until(wait, || {
            let mut count = 0;
            for lane in &self.store.lanes {
                if count == tasks {
                    break;
                }
                count += lane.take(tasks - count, see)?;
            }
            Ok((count > 0).then_some(count))
        })?;
        Ok(taken.unwrap_or(0))
    }
}
