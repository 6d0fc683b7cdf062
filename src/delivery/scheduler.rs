//! Which lane comes next. A room of its own, so that further policies change nothing else.

use crate::types::{LaneId, LaneSet};

/// How the next lane is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub(crate) enum Policy {
    /// The most urgent lane that has something, always. A lane waits for as long as more urgent ones have work:
    /// nothing bounds that.
    #[default]
    Strict,
}

/// A policy and what it remembers.
pub(crate) struct Scheduler {
    policy: Policy,
}

impl Scheduler {
    pub(crate) fn new(policy: Policy) -> Self {
        Scheduler { policy }
    }

    /// The lane to take from, of those that may have something.
    pub(crate) fn pick(&mut self, available: &LaneSet) -> Option<LaneId> {
        match self.policy {
            Policy::Strict => available.first(),
        }
    }

    /// Tells how many tasks the lane that was picked gave.
    pub(crate) fn served(&mut self, _lane: LaneId, _tasks: u32) {
        match self.policy {
            Policy::Strict => {}
        }
    }
}
