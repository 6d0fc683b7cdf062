//! SQLite, by rusqlite: a B-tree with a write-ahead log, one writer at a time.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::keyed::{self, Keys, Run};
use super::tickets::Tickets;
use crate::engine::{Durability, Engine, Need, Setup, Store};

pub struct Sqlite;

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn version(&self) -> String {
        rusqlite::version().to_owned()
    }

    fn settings(&self, durability: Durability) -> String {
        format!(
            "WAL, synchronous={}, locking_mode=EXCLUSIVE, one connection that the threads share, a table for each lane",
            synchronous(durability)
        )
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        keyed::can(needs)
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let connection = Connection::open(setup.dir.join("queue.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous(setup.durability))?;
        let mut lanes = Vec::new();
        for lane in 0..setup.lanes {
            connection.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS lane{lane} (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)"
            ))?;
            lanes.push(Statements::of(lane));
        }
        connection.set_prepared_statement_cache_capacity(lanes.len() * 4 + 2);
        keyed::store(Opened { connection: Mutex::new(connection), lanes }, setup.lanes)
    }
}

/// OFF leaves out syncs alone: each commit has written the log to the kernel.
fn synchronous(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "OFF",
        Durability::Power => "FULL",
    }
}

/// The connection prepares each once, and finds it again by its text.
struct Statements {
    insert: String,
    select: String,
    delete: String,
    bounds: String,
}

impl Statements {
    fn of(lane: u16) -> Self {
        Statements {
            insert: format!("INSERT INTO lane{lane} (position, payload) VALUES (?1, ?2)"),
            select: format!("SELECT position, payload FROM lane{lane} WHERE position >= ?1 AND position < ?2"),
            delete: format!("DELETE FROM lane{lane} WHERE position >= ?1 AND position < ?2"),
            // Asked for both at once, it would look at all.
            bounds: format!("SELECT (SELECT min(position) FROM lane{lane}), (SELECT max(position) FROM lane{lane})"),
        }
    }
}

struct Opened {
    connection: Mutex<Connection>,
    lanes: Vec<Statements>,
}

impl Opened {
    fn lane(&self, lane: u8) -> anyhow::Result<&Statements> {
        self.lanes.get(usize::from(lane)).ok_or_else(|| anyhow::anyhow!("no lane {lane}"))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs these statements as one transaction. A failure voids the run, so nothing is rolled back.
fn batch<T>(connection: &Connection, statements: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = statements()?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(done)
}

impl Keys for Opened {
    fn insert(&self, lane: u8, tickets: &Tickets, tasks: &[&[u8]]) -> anyhow::Result<Range<u64>> {
        let statements = self.lane(lane)?;
        let connection = self.connection();
        let positions = tickets.begin(u64::try_from(tasks.len())?);
        let mut insert = connection.prepare_cached(&statements.insert)?;
        let mut insert_all = || {
            for (position, task) in positions.clone().zip(tasks) {
                insert.execute(params![i64::try_from(position)?, task])?;
            }
            Ok(())
        };
        // A statement alone is a transaction of its own.
        if tasks.len() == 1 {
            insert_all()?
        } else {
            batch(&connection, insert_all)?
        }
        Ok(positions)
    }

    fn read(&self, run: &Run, see: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(&self.lane(run.lane)?.select)?;
        let mut rows = select.query(params![i64::try_from(run.positions.start)?, i64::try_from(run.positions.end)?])?;
        while let Some(row) = rows.next()? {
            see(u64::try_from(row.get::<_, i64>(0)?)?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn remove(&self, runs: &[Run]) -> anyhow::Result<()> {
        let connection = self.connection();
        let delete_all = || {
            for run in runs {
                let mut delete = connection.prepare_cached(&self.lane(run.lane)?.delete)?;
                delete.execute(params![i64::try_from(run.positions.start)?, i64::try_from(run.positions.end)?])?;
            }
            Ok(())
        };
        if runs.len() == 1 { delete_all() } else { batch(&connection, delete_all) }
    }

    fn bounds(&self, lane: u8) -> anyhow::Result<Option<(u64, u64)>> {
        let connection = self.connection();
        let bounds: (Option<i64>, Option<i64>) =
            connection.query_row(&self.lane(lane)?.bounds, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(first), Some(last)) = bounds else {
            return Ok(None);
        };
        Ok(Some((first.try_into()?, last.try_into()?)))
    }

    fn close(self) -> anyhow::Result<()> {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, e)| e)?;
        Ok(())
    }
}
