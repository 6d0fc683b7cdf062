//! RocksDB: a log-structured merge tree; concurrent writes share a write and a sync of its log.

use std::ops::Range;

use rocksdb::{DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions};

use super::keyed::{self, Keys, Run, position};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct RocksDb;

impl Engine for RocksDb {
    fn name(&self) -> &'static str {
        "rocksdb"
    }

    fn version(&self) -> String {
        // Behind the plus is what the crate bundles.
        let bundled = env!("VERSION_LIBROCKSDB_SYS").rsplit('+').next();
        bundled.unwrap_or_default().to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        let sync = durability == Durability::Power;
        let mib = WRITE_BUFFER_BYTES >> 20;
        format!("WAL, sync={sync}, recycled logs, SingleDelete, no compression, 4 write buffers of {mib} MiB")
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(4);
        // The blocks of a log that is written over are allocated: its sync has no metadata to write.
        options.set_recycle_log_file_num(4);
        let db = DB::open(&options, setup.dir.join("rocksdb"))?;
        let mut write = WriteOptions::default();
        write.set_sync(setup.durability == Durability::Power);
        keyed::store(Opened { db, write }, setup.lanes)
    }
}

const WRITE_BUFFER_BYTES: usize = 64 << 20;

struct Opened {
    db: DB,
    write: WriteOptions,
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let run = Run { lane, positions: tickets.begin(u64::try_from(tasks.len())?) };
        if let [task] = tasks {
            self.db.put_opt(run.byte_keys().start, task, &self.write)?;
        } else {
            let bytes: usize = tasks.iter().map(|task| task.len() + ENTRY_BYTES).sum();
            let mut batch = WriteBatch::with_capacity_bytes(bytes);
            for (key, task) in run.keys().zip(tasks) {
                batch.put(key.to_be_bytes(), task);
            }
            self.db.write_opt(batch, &self.write)?;
        }
        Ok(run.positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        if run.is_single() {
            if let Some(payload) = self.db.get_pinned(run.byte_keys().start)? {
                see(run.positions.start, &payload);
            }
            return Ok(());
        }
        let mut entries = self.db.raw_iterator_opt(within(run));
        entries.seek_to_first();
        while let Some((key, payload)) = entries.item() {
            see(position(keyed::parse(key)?), payload);
            entries.next();
        }
        Ok(entries.status()?)
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        let mut batch = WriteBatch::default();
        for key in runs.iter().flat_map(Run::keys) {
            // Each key is put once between two deletions, as this one demands.
            batch.single_delete(key.to_be_bytes());
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let mut entries = self.db.raw_iterator_opt(within(&keyed::whole(lane)));
        entries.seek_to_first();
        let first = entries.key().map(keyed::parse).transpose()?;
        entries.seek_to_last();
        let last = entries.key().map(keyed::parse).transpose()?;
        entries.status()?;
        Ok(first.zip(last).map(|(first, last)| (position(first), position(last))))
    }

    fn close(self) -> anyhow::Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

/// The bounds keep an iterator off the tombstones of what was taken before.
fn within(run: &Run) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(run.byte_keys().start);
    options.set_iterate_upper_bound(run.byte_keys().end);
    options
}

/// Of a put in a batch, beside the payload: tag, two lengths and the key.
const ENTRY_BYTES: usize = 16;
