//! LMDB, by heed: a copy-on-write B-tree in a memory map, one writer at a time.

use std::ops::Range;

use heed::byteorder::NativeEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions, IntegerComparator, PutFlags, WithTls};

use super::keyed::{self, Keys, Run};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct Lmdb;

impl Engine for Lmdb {
    fn name(&self) -> &'static str {
        "lmdb"
    }

    fn version(&self) -> String {
        let version = heed::lmdb_version();
        format!("{}.{}.{}", version.major, version.minor, version.patch)
    }

    fn settings(&self, durability: Durability) -> String {
        let flags = match durability {
            Durability::Process => "MDB_NOSYNC, MDB_WRITEMAP (the kernel keeps a dead process's map), MDB_NOMEMINIT",
            Durability::Power => "default flags: each commit is synced",
        };
        format!("{flags}; MDB_INTEGERKEY, MDB_APPEND, a database for each lane, map of {MAP_GIB} GiB")
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let env = open_env(setup)?;
        // A name costs each commit a page, and is of use only where there are several.
        let name = |lane| (setup.lanes > 1).then(|| format!("lane {lane}"));
        let lanes =
            (0..setup.lanes).map(|lane| open_lane(&env, name(lane).as_deref())).collect::<anyhow::Result<_>>()?;
        keyed::store(Opened { env, lanes }, setup.lanes)
    }
}

/// Address space, not memory or disk: the file is sparse.
const MAP_GIB: usize = 64;

#[expect(unsafe_code, reason = "LMDB maps its files")]
fn open_env(setup: &Setup) -> anyhow::Result<Env<WithTls>> {
    let mut options = EnvOpenOptions::new();
    let readers = setup.producers.saturating_add(setup.consumers).saturating_add(16);
    options.max_dbs(setup.lanes.into()).max_readers(u32::try_from(readers)?);
    if setup.durability == Durability::Process {
        let flags = EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::NO_MEM_INIT;
        // SAFETY: the kernel keeps what was written to the map, in the order in which it was. Only its own death could
        // leave half of a commit, and no store of this durability is opened after that.
        unsafe { options.flags(flags) };
    }
    let mut gib = MAP_GIB;
    loop {
        // SAFETY: the directory is the store's own, on a local file system; nobody else writes to its files.
        match unsafe { options.map_size(gib << 30).open(&setup.dir) } {
            Ok(env) => return Ok(env),
            // The address space is limited.
            Err(heed::Error::Io(e)) if e.kind() == std::io::ErrorKind::OutOfMemory && gib > 1 => gib /= 2,
            Err(e) => return Err(e.into()),
        }
    }
}

type Lane = heed::Database<'static, U64<NativeEndian>, Bytes, IntegerComparator>;

fn open_lane(env: &Env<WithTls>, name: Option<&str>) -> anyhow::Result<Lane> {
    let made = env.create_databases_and_commit(env.write_txn()?, |dbs, txn| {
        let mut options = dbs.database_options().types().key_comparator();
        if let Some(name) = name {
            options.name(name);
        }
        options.create(txn).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    made.commit().ok_or_else(|| anyhow::anyhow!("the database was not made"))
}

struct Opened {
    env: Env<WithTls>,
    lanes: Vec<Lane>,
}

impl Opened {
    fn lane(&self, lane: u8) -> anyhow::Result<&Lane> {
        self.lanes.get(usize::from(lane)).ok_or_else(|| anyhow::anyhow!("no lane {lane}"))
    }
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let lane = self.lane(lane)?;
        let mut txn = self.env.write_txn()?;
        let positions = tickets.begin(u64::try_from(tasks.len())?);
        for (position, task) in positions.clone().zip(tasks) {
            lane.put_with_flags(&mut txn, PutFlags::APPEND, &position, task)?;
        }
        txn.commit()?;
        Ok(positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        let lane = self.lane(run.lane)?;
        let txn = self.env.read_txn()?;
        if run.is_single() {
            if let Some(payload) = lane.get(&txn, &run.positions.start)? {
                see(run.positions.start, payload);
            }
            return Ok(());
        }
        for entry in lane.range(&txn, &run.positions)? {
            let (position, payload) = entry?;
            see(position, payload);
        }
        Ok(())
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        let mut txn = self.env.write_txn()?;
        for run in runs {
            let lane = self.lane(run.lane)?;
            if run.is_single() {
                lane.delete(&mut txn, &run.positions.start)?;
            } else {
                lane.delete_range(&mut txn, &run.positions)?;
            }
        }
        Ok(txn.commit()?)
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let (lane, txn) = (self.lane(lane)?, self.env.read_txn()?);
        let (first, last) = (lane.first(&txn)?, lane.last(&txn)?);
        Ok(first.zip(last).map(|((first, _), (last, _))| (first, last)))
    }

    fn close(self) -> anyhow::Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
