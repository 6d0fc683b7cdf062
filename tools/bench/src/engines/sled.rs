//! sled: a lock-free tree over a log.

use std::ops::Range;

use sled::{Batch, Config, Db, Mode};

use super::keyed::{self, Keys, Run, position};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct Sled;

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn version(&self) -> String {
        env!("VERSION_SLED").to_owned()
    }

    fn settings(&self, _durability: Durability) -> String {
        "flush() after each batch, Mode::HighThroughput, no compression, no periodic flush".to_owned()
    }

    fn can(&self, durability: Durability, needs: &[Need]) -> Result<(), String> {
        if durability == Durability::Power {
            return Err("its flush() ends in sync_file_range, which leaves the device's cache unflushed".to_owned());
        }
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let config = Config::new().path(setup.dir.join("sled")).mode(Mode::HighThroughput).flush_every_ms(None);
        keyed::store(Opened { db: config.open()? }, setup.lanes)
    }
}

struct Opened {
    db: Db,
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let run = Run { lane, positions: tickets.begin(u64::try_from(tasks.len())?) };
        if let [task] = tasks {
            self.db.insert(run.byte_keys().start, *task)?;
        } else {
            let mut batch = Batch::default();
            for (key, task) in run.keys().zip(tasks) {
                batch.insert(&key.to_be_bytes(), *task);
            }
            self.db.apply_batch(batch)?;
        }
        self.db.flush()?;
        Ok(run.positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        for entry in self.db.range(run.byte_keys()) {
            let (key, payload) = entry?;
            see(position(keyed::parse(&key)?), &payload);
        }
        Ok(())
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for key in runs.iter().flat_map(Run::keys) {
            batch.remove(&key.to_be_bytes());
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let entries = self.db.range(keyed::whole(lane).byte_keys()).keys();
        keyed::ends(entries.map(|key| keyed::parse(&key?)))
    }

    fn close(self) -> anyhow::Result<()> {
        self.db.flush()?;
        Ok(())
    }
}
