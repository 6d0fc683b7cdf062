//! Single steps of the engine, for benchmarks: on a disk in memory, so that what they cost is the engine's own.

use std::path::Path;
use std::sync::Arc;

use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::deliver::Handed;
use crate::engine::groups::GroupCell;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::{Attempt, Engine};
use crate::error::Result;
use crate::format::meta::StoredOptions;
use crate::format::record::{self, HEADER_BYTES, Kind, Life, Record};
use crate::sim::{Loss, SimDisk};
use crate::types::{Durability, LaneId, LaneSet, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const LANE: LaneId = LaneId(0);
const SEGMENT_BYTES: u64 = 16 << 20;
const LIFE: Life = Life { salt: 0x5EED_0000_1234_5678, base: 1 << 40 };

/// An engine with one lane and one group.
pub struct Steps {
    disk: SimDisk,
    engine: Engine,
    group: Arc<GroupCell>,
}

/// Tasks on loan.
pub struct Loans(Vec<Handed>);

impl Loans {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Steps {
    /// A new, empty one.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn new() -> Result<Self> {
        Self::open(SimDisk::new(1))
    }

    fn open(disk: SimDisk) -> Result<Self> {
        let options = StoredOptions { segment_bytes: SEGMENT_BYTES, task_bytes_max: 1 << 20, ..StoredOptions::tiny(1) };
        let given = Given { resolve: &|_| Ok(options.clone()), fail_on_damage: false };
        let engine = recovery::open(Arc::new(disk.clone()), Path::new("steps"), &given, NOW)?;
        let group = engine.group("default")?;
        let steps = Steps { disk, engine, group };
        steps.make_ready()?;
        Ok(steps)
    }

    /// Makes every segment ready that is wanted: no step of a producer.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn make_ready(&self) -> Result<()> {
        while self.engine.prepare()? {}
        Ok(())
    }

    /// Claims, fills and publishes a task. False if a segment must be made ready first.
    ///
    /// # Errors
    /// The payload is too large.
    pub fn append(&self, payload: &[u8]) -> Result<bool> {
        let task = TaskDraft::plain(payload, Durability::Process);
        Ok(matches!(self.engine.append(LANE, &task, NOW.wall)?, Attempt::Done(_)))
    }

    /// Hands out up to so many tasks.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn reserve(&self, tasks: usize) -> Result<Loans> {
        let ask = Ask { tasks, bytes: u64::MAX, lanes: LaneSet::ALL, lease_ms: 60_000, consumer: 1 };
        Ok(Loans(self.engine.reserve(&self.group, &ask, NOW, |handed| handed)?))
    }

    /// Acks them, in one entry of the journal. Gives how many it took.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn ack(&self, loans: &Loans) -> Result<usize> {
        let receipts = loans.0.iter().map(|handed| handed.receipt);
        Ok(self.engine.settle(&self.group, receipts, Settle::Ack, NOW)?.answers.len())
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint(NOW, false)
    }

    /// Dies, and recovers.
    ///
    /// # Errors
    /// None on a disk in memory.
    pub fn recover(self) -> Result<Self> {
        let disk = self.disk.restart(Loss::Process);
        drop(self);
        Self::open(disk)
    }
}

/// A record as it stands in a segment.
pub fn encode_record(payload: &[u8]) -> Option<Vec<u8>> {
    let record = Record { index: 7, kind: Kind::Task, flags: 0, time: NOW.wall, fields: &[], payload };
    let header = record::seal(LIFE, 4096, &record)?;
    let mut extent = Vec::with_capacity((HEADER_BYTES + payload.len()).next_multiple_of(8));
    extent.extend_from_slice(&header);
    extent.extend_from_slice(payload);
    extent.resize(extent.len().next_multiple_of(8), 0);
    Some(extent)
}

/// The bytes of the payload of a record that verifies.
pub fn decode_record_of(extent: &[u8]) -> Option<usize> {
    match record::read(LIFE, 4096, extent) {
        record::Found::Record(header) => record::verify(LIFE, &header, extent).map(|body| body.payload.len()),
        _ => None,
    }
}
