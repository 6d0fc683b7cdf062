//! walrus: a log of topics, each with one durable read position. A read moves the position, so a task is acked as it is read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{bail, ensure};
use walrus_rust::{Entry, FsyncSchedule, ReadConsistency};

use super::bell::Bell;
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Walrus;

impl Engine for Walrus {
    fn name(&self) -> &'static str {
        "walrus"
    }

    fn version(&self) -> String {
        env!("VERSION_WALRUS_RUST").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        let schedule = match durability {
            Durability::Process => "NoFsync, batches as single appends (batches always sync)",
            Durability::Power => "SyncEach, the directory synced after each read (walrus leaves it out)",
        };
        format!(
            "{schedule}, StrictlyAtOnce: acked as read, before it is seen; a topic per lane; reads of less than \
             payload/{HEADER_BYTES} tasks (larger ones skip tasks)"
        )
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        if std::env::var_os("WALRUS_QUIET").is_none() {
            return Err("it prints a line at every step unless WALRUS_QUIET=1 is set".to_owned());
        }
        for need in needs {
            match need {
                Need::Lanes | Need::Producers | Need::Consumers => {}
                Need::Keep => return Err("a read settles all that it gives".to_owned()),
                Need::Outstanding => return Err("an append is over when it returns".to_owned()),
                Need::Reopen => {
                    return Err("it numbers blocks anew at each open, and then takes one for another".to_owned());
                }
            }
        }
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let read_tasks_max = setup.payload_bytes.saturating_sub(1) / HEADER_BYTES;
        ensure!(read_tasks_max > 0, "can't: batch reads lose tasks of at most {HEADER_BYTES} bytes");
        let link = Link::to(&setup.dir)?;
        let (schedule, dir) = match setup.durability {
            Durability::Process => (FsyncSchedule::NoFsync, None),
            Durability::Power => (FsyncSchedule::SyncEach, Some(File::open(&setup.dir)?)),
        };
        let log = walrus_rust::Walrus::with_consistency_and_schedule_for_key(
            &link.key,
            ReadConsistency::StrictlyAtOnce,
            schedule,
        )?;
        let lanes = (0..setup.lanes).map(|lane| Lane {
            topic: lane.to_string(),
            sending: Mutex::new(()),
            reading: Mutex::new(()),
        });
        Ok(Box::new(Opened {
            log,
            lanes: lanes.collect(),
            dir,
            entry_bytes: setup.payload_bytes + HEADER_BYTES,
            read_tasks_max,
            bell: Bell::default(),
            _link: link,
        }))
    }
}

/// In front of each payload in the log.
const HEADER_BYTES: usize = 64;

struct Opened {
    log: walrus_rust::Walrus,
    lanes: Vec<Lane>,
    /// At power: what a read renames in it is only then durable.
    dir: Option<File>,
    entry_bytes: usize,
    /// The limit of a batch read is of entries where they are read, and of payloads where they are counted. A read that
    /// stops within a block goes on behind it if the headers left room for one more payload, and what lies between is lost:
    /// 9,614 of 20,000 tasks of 1 KiB, read by 64. So the headers of one read must be less than a payload.
    read_tasks_max: usize,
    bell: Bell,
    _link: Link,
}

struct Lane {
    topic: String,
    /// An append that meets a batch is refused.
    sending: Mutex<()>,
    /// The positions of two reads could be written in the wrong order.
    reading: Mutex<()>,
}

impl Opened {
    fn read(&self, lane: &Lane, tasks: usize) -> anyhow::Result<Vec<Entry>> {
        let _reading = lane.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = tasks.min(self.read_tasks_max) * self.entry_bytes;
        let read = self.log.batch_read_for_topic(&lane.topic, bytes, true)?;
        if let Some(dir) = &self.dir
            && !read.is_empty()
        {
            dir.sync_all()?;
        }
        Ok(read)
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { store: self }))
    }
}

struct Sending<'a> {
    store: &'a Opened,
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let Some(lane) = self.store.lanes.get(usize::from(lane)) else { bail!("no lane {lane}") };
        let sending = lane.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.dir.is_none() || tasks.len() == 1 {
            // Not as a batch at process: that syncs in any case.
            for task in tasks {
                self.store.log.append_for_topic(&lane.topic, task)?;
            }
        } else {
            for batch in tasks.chunks(BATCH_TASKS_MAX) {
                self.store.log.batch_append_for_topic(&lane.topic, batch)?;
            }
        }
        drop(sending);
        self.store.bell.ring();
        Ok(())
    }
}

const BATCH_TASKS_MAX: usize = 2000;

struct Taking<'a> {
    store: &'a Opened,
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let read = self.store.bell.wait_until(wait, || {
            for lane in &self.store.lanes {
                let read = self.store.read(lane, tasks)?;
                if !read.is_empty() {
                    return Ok(Some(read));
                }
            }
            Ok(None)
        })?;
        let read = read.unwrap_or_default();
        for entry in &read {
            see(&entry.data);
        }
        Ok(read.len())
    }
}

/// walrus keeps its files in a directory below one that the environment names, or `wal_files`. This makes it the store's.
struct Link {
    key: String,
    path: PathBuf,
}

impl Link {
    fn to(dir: &Path) -> anyhow::Result<Link> {
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let key = format!("{}-{}", std::process::id(), LINKS.fetch_add(1, Ordering::Relaxed));
        let below = std::env::var_os("WALRUS_DATA_DIR").map_or_else(|| PathBuf::from("wal_files"), PathBuf::from);
        std::fs::create_dir_all(&below)?;
        let path = below.join(&key);
        std::os::unix::fs::symlink(dir.canonicalize()?, &path)?;
        Ok(Link { key, path })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.path);
        // Goes with the last of them.
        let _removed = self.path.parent().map(std::fs::remove_dir);
    }
}
