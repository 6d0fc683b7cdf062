//! Lives of which little is left: what evacuation is for, and what steps drawn one by one seldom come to.

use crate::types::{LaneId, LaneSet};

use super::super::operation::How;
use super::{Actor, Step};

impl Actor<'_> {
    /// Fills more than a small segment of the lane, takes all that there is, and acks it, but for two tasks: one stays on
    /// loan, of the other it is said how it ends.
    pub(super) fn thin(&mut self, lane: LaneId, at: usize, how: How, power: bool) -> Step {
        for _ in 0..4 {
            self.batch(lane, 4, 700, power, false)?;
        }
        if power {
            self.commit(Some(lane))?;
            self.observe();
        }
        while self.reserve(at, 40, LaneSet::ALL, u16::MAX, 0)? > 0 {}
        self.settle(at, 3, 1, how)?;
        self.settle(at, 1, usize::MAX / 2, How::Ack)?;
        if power { self.commit(None) } else { Ok(()) }
    }
}
