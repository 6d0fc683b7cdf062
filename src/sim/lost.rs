//! Tasks that a restart did not show, and that an older checkpoint may bring back.
//!
//! A recovery that cut the log before a task may have left its bytes where they are. Where a later open can't read the root
//! that knows of the cut, the older one finds the task again, whole, and the journal behind that root says of it what it said
//! before: that it is parked, or dead, or how often it was handed out.

use std::collections::BTreeMap;

use super::model::{Mine, Side, Sure};
use crate::types::Seq;

/// What a group was told of tasks that it had not settled for good, and that a restart did not show.
#[derive(Clone, Default)]
pub(super) struct Lost(BTreeMap<Seq, Mine>);

impl Lost {
    /// A restart did not show the task.
    pub(super) fn note(&mut self, seq: Seq, told: &Mine, power_lost: bool) {
        if !told.acked.must_be(power_lost) {
            self.0.insert(seq, *told);
        }
    }
}

impl Side {
    /// An open that may have gone on from an older checkpoint shows the task.
    pub(super) fn may_be_back(&mut self, seq: Seq) {
        let mine = self.mine.entry(seq).or_default();
        if let Some(told) = self.lost.0.remove(&seq) {
            mine.dead = mine.dead.max(told.dead.min(Sure::Maybe));
            mine.attempts_most = mine.attempts_most.max(told.attempts_most.saturating_add(told.taken_back));
        }
    }
}
