//! fjall: a log-structured merge tree with one journal.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::keyed::{self, Keys, Run, position};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct Fjall;

impl Engine for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn version(&self) -> String {
        env!("VERSION_FJALL").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        let persist = match durability {
            Durability::Process => "PersistMode::Buffer with each batch",
            Durability::Power => "PersistMode::SyncData after each batch, shared by those who wait for it",
        };
        format!("{persist}, no compression")
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let database = Database::builder(&setup.dir).open()?;
        let plain = || {
            let none = CompressionPolicy::all(CompressionType::None);
            KeyspaceCreateOptions::default().data_block_compression_policy(none)
        };
        let tasks = database.keyspace("tasks", plain)?;
        let syncs = (setup.durability == Durability::Power).then(Syncs::default);
        keyed::store(Opened { database, tasks, syncs }, setup.lanes)
    }
}

struct Opened {
    database: Database,
    tasks: Keyspace,
    syncs: Option<Syncs>,
}

impl Opened {
    /// Makes what this thread has written durable.
    fn persist(&self) -> anyhow::Result<()> {
        match &self.syncs {
            Some(syncs) => syncs.share(|| Ok(self.database.persist(PersistMode::SyncData)?)),
            // Each write has handed its bytes to the kernel.
            None => Ok(()),
        }
    }
}

/// Lets those who wait for one sync be served by the next: `persist` covers whatever was written before it, by whom ever.
#[derive(Default)]
struct Syncs {
    wanted: AtomicU64,
    /// Of those wanted, how many are synced.
    done: Mutex<u64>,
}

impl Syncs {
    fn share(&self, sync: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        // AcqRel: partner of the Acquire below; whoever reads this count syncs what was written before it grew.
        let mine = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *done < mine {
            let covered = self.wanted.load(Ordering::Acquire);
            sync()?;
            *done = covered;
        }
        Ok(())
    }
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let run = Run { lane, positions: tickets.begin(u64::try_from(tasks.len())?) };
        if let [task] = tasks {
            self.tasks.insert(run.byte_keys().start, *task)?;
        } else {
            let mut batch = self.database.batch();
            for (key, task) in run.keys().zip(tasks) {
                batch.insert(&self.tasks, key.to_be_bytes(), *task);
            }
            batch.commit()?;
        }
        self.persist()?;
        Ok(run.positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        if run.is_single() {
            if let Some(payload) = self.tasks.get(run.byte_keys().start)? {
                see(run.positions.start, &payload);
            }
            return Ok(());
        }
        for entry in self.tasks.range(run.byte_keys()) {
            let (key, payload) = entry.into_inner()?;
            see(position(keyed::parse(&key)?), &payload);
        }
        Ok(())
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        match runs {
            [run] if run.is_single() => self.tasks.remove(run.byte_keys().start)?,
            _ => {
                let mut batch = self.database.batch();
                for key in runs.iter().flat_map(Run::keys) {
                    batch.remove(&self.tasks, key.to_be_bytes());
                }
                batch.commit()?;
            }
        }
        self.persist()
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let entries = self.tasks.range(keyed::whole(lane).byte_keys());
        keyed::ends(entries.map(|entry| keyed::parse(&entry.key()?)))
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
