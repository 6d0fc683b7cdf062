//! What one lane has of a transaction: which tasks, and the extent that they are to lie in.

use crate::error::{Error, Result};
use crate::format::fields::{DECISION_BYTES, put_decision, set_decision};
use crate::format::journal::Named;
use crate::format::record::{self, Kind};
use crate::log::{Draft, Held, Log, NotAppended, Place};
use crate::types::{LaneId, Timestamp};

use super::Plan;
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::settings::room;

/// What a lane has of it.
pub(super) struct Share<'a> {
    pub lane: LaneId,
    /// Which of the tasks.
    pub tasks: Vec<usize>,
    /// Their fields, with room for the decision's place.
    fields: Vec<Vec<u8>>,
    pub held: Option<Held<'a>>,
    bytes: u32,
}

impl Engine {
    /// What each lane has of the tasks, checked.
    pub(super) fn shares<'a>(&self, plan: &Plan<'_>) -> Result<Vec<Share<'a>>> {
        let mut shares: Vec<Share<'a>> = Vec::new();
        for (at, (lane, task)) in plan.tasks.iter().enumerate() {
            self.check_part(*lane, task)?;
            let mut fields = Vec::with_capacity(task.fields.len() + DECISION_BYTES);
            fields.extend_from_slice(task.fields);
            put_decision(&mut fields);
            let found = shares.iter().position(|share| share.lane == *lane);
            let fresh = || Share { lane: *lane, tasks: Vec::new(), fields: Vec::new(), held: None, bytes: 0 };
            let slot = found.unwrap_or_else(|| {
                shares.push(fresh());
                shares.len() - 1
            });
            if let Some(share) = shares.get_mut(slot) {
                share.tasks.push(at);
                share.fields.push(fields);
            }
        }
        let max = room(self.settings.segment_bytes);
        for share in &mut shares {
            let bytes = share.extent_bytes(plan).unwrap_or(u64::MAX);
            let too_large = Error::TransactionTooLarge { bytes, max };
            share.bytes = u32::try_from(bytes).ok().filter(|_| bytes <= max).ok_or(too_large)?;
        }
        Ok(shares)
    }

    /// Claims room in every lane. False if a lane has none and no segment is ready; what was claimed is given up.
    pub(super) fn claim_lanes<'a>(&'a self, shares: &mut [Share<'a>], time: Timestamp) -> bool {
        // First room everywhere, so that whoever waits for a segment does not leave padding behind at every try.
        let logs = shares.iter().filter_map(|share| Some((self.lanes.log(share.lane)?, share.bytes)));
        for (log, bytes) in logs {
            while let Err(NotAppended::NeedsRoll { bytes, seen_base }) = log.has_room(bytes) {
                if !self.roll(log, bytes, seen_base, time) {
                    return false;
                }
            }
        }
        for share in shares {
            let Some(log) = self.lanes.log(share.lane) else { return false };
            share.held = loop {
                match log.hold(share.bytes, count(&share.tasks), Kind::Task) {
                    Ok(held) => break Some(held),
                    Err(NotAppended::NeedsRoll { bytes, seen_base }) if self.roll(log, bytes, seen_base, time) => {}
                    Err(_) => return false,
                }
            };
        }
        true
    }
}

impl Share<'_> {
    /// Copies the tasks into the extent, each with the place of the decision among its fields.
    pub(super) fn fill(&mut self, plan: &Plan<'_>, decision: Place, time: Timestamp) {
        for fields in &mut self.fields {
            set_decision(fields, (decision.base, decision.offset));
        }
        let Some(mut held) = self.held.take() else { return };
        held.fill(&self.drafts(plan), time);
        self.held = Some(held);
    }

    fn drafts<'b>(&'b self, plan: &Plan<'b>) -> Vec<Draft<'b>> {
        let tasks = self.tasks.iter().filter_map(|at| plan.tasks.get(*at));
        let with =
            |task: &TaskDraft<'b>, fields| TaskDraft { fields, special: true, durability: plan.durability, ..*task };
        tasks.zip(&self.fields).map(|((_, task), fields)| with(task, fields.as_slice()).draft()).collect()
    }

    /// Bytes of its extent: a record, or a batch.
    fn extent_bytes(&self, plan: &Plan<'_>) -> Option<u64> {
        match self.drafts(plan).as_slice() {
            [only] => record::extent_bytes(only.fields.len(), only.payload.len()).map(u64::from),
            several => Log::batch_bytes(several),
        }
    }

    pub(super) fn named(&self) -> Option<Named> {
        let held = self.held.as_ref()?;
        Some(Named { lane: self.lane, base: held.place().base, first: held.first(), count: held.records() })
    }
}

/// Tasks of a transaction are counted in 32 bits, as those of a segment are.
fn count(tasks: &[usize]) -> u32 {
    u32::try_from(tasks.len()).unwrap_or(u32::MAX)
}
