//! Dead letters that go to another lane: each one a new task for the group that had given up on it.
//!
//! The new task and the end of the dead letter are one transaction (`transaction.rs`): after any crash there is the letter
//! or the task. The task carries where it came from among its fields, so that other groups pass it over.

use crate::delivery::Sought;
use crate::error::{Error, Result};
use crate::format::fields::{FIELDS_BYTES_MAX, Origin, Traits, encode_headers, headers};
use crate::log::body_of;
use crate::types::{Durability, LaneId, Now, TaskId, Timestamp};

use super::append::TaskDraft;
use super::groups::GroupCell;
use super::hand::Found;
use super::transaction::{Decided, Plan};
use super::{Attempt, Engine};

/// A dead letter that a transaction ends.
#[derive(Clone, Copy)]
pub(crate) struct Letter<'a> {
    pub group: u32,
    pub spot: &'a Sought,
}

impl Engine {
    /// Makes a new task of a dead letter. `None` if it is none any more, or its record can't be read; nothing is done then.
    ///
    /// Errors: as for [`Engine::transact`], `TaskTooLarge` among them, for the new task's record is a little larger, and
    /// `HeadersTooLarge` likewise.
    pub(crate) fn redrive_to(
        &self,
        cell: &GroupCell,
        id: TaskId,
        lane: LaneId,
        now: Now,
    ) -> Result<Attempt<Option<Decided>>> {
        self.check_poison()?;
        let Some(Found { source, header, spot }) = self.find(id)? else { return Ok(Attempt::Done(None)) };
        let Some((fields, payload)) = body_of(&source, &header) else { return Ok(Attempt::Done(None)) };
        let origin = Origin { group: cell.id, lane: id.lane, seq: id.seq };
        let fields = fields_of(&fields, origin, now.wall)?;
        let task = TaskDraft { fields: &fields, payload: &payload, special: true, durability: Durability::Power };
        let letter = Some(Letter { group: cell.id, spot: &spot });
        let plan = Plan { tasks: &[(lane, task)], settles: &[], letter, durability: Durability::Power };
        match self.transact(&plan, now) {
            Ok(Attempt::Done(decided)) => Ok(Attempt::Done(Some(decided))),
            Ok(Attempt::NotReady) => Ok(Attempt::NotReady),
            Err(Error::LeaseLost { .. }) => Ok(Attempt::Done(None)),
            Err(error) => Err(error),
        }
    }
}

/// The fields of the new task: what the dead one asked for, but for what is over.
fn fields_of(dead: &[u8], origin: Origin, now: Timestamp) -> Result<Vec<u8>> {
    let old = Traits::decode(dead);
    let expires = old.expires.filter(|expires| *expires > now);
    let traits = Traits { origin: Some(origin), expires, run_at: None, dedup: None, decision: None, ..old };
    let mut fields = Vec::new();
    traits.encode(&mut fields);
    let headers: Vec<(&str, &[u8])> = headers(dead).collect();
    let too_large = |bytes: usize| Error::HeadersTooLarge { bytes: bytes as u64, max: FIELDS_BYTES_MAX as u64 };
    encode_headers(&mut fields, &headers).map_err(too_large)?;
    Ok(fields)
}
