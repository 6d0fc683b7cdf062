//! redb: a copy-on-write B-tree in a file, one writer at a time.

use std::fs::File;
use std::io;
use std::ops::Range;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};

use super::keyed::{self, Keys, Run, position};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct Redb;

impl Engine for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn version(&self) -> String {
        env!("VERSION_REDB").to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        match durability {
            Durability::Process => "Durability::Immediate (None keeps commits in the process), over a backend that \
                                    writes to the file and leaves out its sync"
                .to_owned(),
            Durability::Power => "defaults: Durability::Immediate, one phase".to_owned(),
        }
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let path = setup.dir.join("queue.redb");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let backend = FileBackend::new(file)?;
        let database = match setup.durability {
            Durability::Process => Database::builder().create_with_backend(Unsynced(backend))?,
            Durability::Power => Database::builder().create_with_backend(backend)?,
        };
        let txn = database.begin_write()?;
        txn.open_table(TASKS)?;
        txn.commit()?;
        keyed::store(Opened { database }, setup.lanes)
    }
}

const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");

/// The file without its sync. redb has no level between `None`, which writes nothing, and `Immediate`, which syncs; what
/// has been written survives the process without that.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

struct Opened {
    database: Database,
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let txn = self.database.begin_write()?;
        let run = Run { lane, positions: tickets.begin(u64::try_from(tasks.len())?) };
        {
            let mut table = txn.open_table(TASKS)?;
            for (key, task) in run.keys().zip(tasks) {
                table.insert(key, task)?;
            }
        }
        txn.commit()?;
        Ok(run.positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        let table = self.database.begin_read()?.open_table(TASKS)?;
        for entry in table.range(run.keys())? {
            let (key, payload) = entry?;
            see(position(key.value()), payload.value());
        }
        Ok(())
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        let txn = self.database.begin_write()?;
        {
            let mut table = txn.open_table(TASKS)?;
            for run in runs {
                table.retain_in(run.keys(), |_, _| false)?;
            }
        }
        Ok(txn.commit()?)
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let table = self.database.begin_read()?.open_table(TASKS)?;
        let keys = table.range(keyed::whole(lane).keys())?.map(|entry| entry.map(|(key, _)| key.value()));
        Ok(keyed::ends(keys)?)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
