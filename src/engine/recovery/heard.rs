//! What an older checkpoint and the journal behind it say is settled, whatever became of the records.
//!
//! Where the newest checkpoint can't be used, a record that is not there may have been settled and given up by it, its file
//! perhaps another life's since. Whatever it gave up was settled by entries that were durable before it was; so they are in
//! the journal, behind the older one.

use std::collections::BTreeMap;

use crate::delivery::GroupState;
use crate::error::Result;
use crate::format::journal::Named;
use crate::types::Seq;

use super::lives::FoundLog;
use super::replay::{Records, Told, replay};

/// What was said, with no regard to what is void: of that no newer checkpoint ever knew.
#[derive(Default)]
pub(super) struct Heard {
    told: Told,
    /// Without a checkpoint nobody knows what was settled.
    nothing_is_known: bool,
}

impl Heard {
    /// Reads the journal from `from` (base, offset) on; `named` are records that it may speak of. Errors: `Io`.
    pub(super) fn of<'a>(
        logs: &BTreeMap<u16, FoundLog>,
        named: impl Iterator<Item = &'a Named>,
        from: (u64, u32),
        told: &Told,
    ) -> Result<Heard> {
        let mut heard = Told::default();
        for (id, state) in &told.groups {
            let (starts, done, acks) = (state.starts.clone(), state.done.clone(), state.acks.clone());
            heard.groups.insert(*id, GroupState { starts, done, acks, ..GroupState::default() });
        }
        // It may report what does not verify; so does the replay that counts.
        replay(logs, &Records::named(logs, named), from, &mut heard, &mut Vec::new())?;
        Ok(Heard { told: heard, nothing_is_known: false })
    }

    /// Where any record that is not there may have been settled.
    pub(super) fn unknown() -> Heard {
        Heard { nothing_is_known: true, ..Heard::default() }
    }

    /// True if each of these records was settled by somebody: then all of it was durable, or nobody is left who wants it. (One
    /// that was made for a single group is settled by no other.)
    pub(super) fn is_settled(&self, named: &Named) -> bool {
        let settled =
            |seq: u64| self.told.groups.values().any(|group| group.is_acked((named.lane, Seq(seq)), named.base));
        self.nothing_is_known || (named.first.0..named.first.0.saturating_add(u64::from(named.count))).all(settled)
    }
}
