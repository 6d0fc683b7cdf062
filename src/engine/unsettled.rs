//! How far the tasks of each lane are settled: what lies below needs no sync of its own.
//!
//! A `Process` task is synced within an interval so that a power loss takes it only if it is young. One that every group
//! settled meanwhile will not be missed: with it its acks are lost, or they are dropped for a record that did not survive.
//! So a lane from which tasks are acked as fast as they come is written to the disk by nobody, and its segments are used
//! again as they are, dirty and resident.
//!
//! Nothing is said of less than the truth: what is below the durable mark is durable, or was given back because nobody needs
//! it, and the mark moves with a commit alone, which covers everything before it, settled or not. What a crash now would have
//! a recovery read again lies in the lives that are there; so they are what is counted, and not how far the mark is behind.

use std::collections::BTreeMap;

use crate::log::Log;
use crate::types::LaneId;

use super::Engine;

/// Segments of a lane that may wait for a sync because all in them is settled, and are there all the same: more of them are
/// written after all, for a recovery reads and writes them again.
const SETTLED_SEGMENTS_MAX: u64 = 4;

/// What one thread, which has lanes synced, remembers between its looks.
#[derive(Default)]
pub(crate) struct Looks {
    lanes: BTreeMap<LaneId, LaneLook>,
}

/// A lane at the last looks.
#[derive(Default)]
struct LaneLook {
    /// Log position behind what was published when the interval began.
    published: u64,
    /// The same at the last look.
    seen: u64,
    /// Of each group, by its id.
    groups: BTreeMap<u32, GroupLook>,
}

/// A group in a lane. Both only grow.
#[derive(Clone, Copy, Default)]
struct GroupLook {
    /// A place that the cursor had reached: life, index of the next record, log position.
    reached: (u64, u32, u64),
    /// Log position below which everything is settled.
    settled: u64,
}

impl Engine {
    /// Looks at the lane. Gives how many bytes wait for their sync: those that were there at the last look and are not
    /// settled, and all.
    pub(crate) fn look_at(&self, looks: &mut Looks, lane: LaneId, log: &Log) -> (u64, u64) {
        let (published, durable) = (log.published(), log.durable());
        let look = looks.lanes.entry(lane).or_default();
        let settled = self.settled_to(look, lane);
        let seen = std::mem::replace(&mut look.seen, published);
        (seen.saturating_sub(settled.max(durable)), log.waiting_bytes())
    }

    /// True if the lane is to be synced now that an interval is over: something that was published when it began is not
    /// settled, or nothing came since, or too much waits. To be asked once in an interval.
    pub(crate) fn is_sync_due(&self, looks: &mut Looks, lane: LaneId, log: &Log) -> bool {
        let look = looks.lanes.entry(lane).or_default();
        let (published, durable) = (log.published(), log.durable());
        let settled = self.settled_to(look, lane);
        look.seen = published;
        let before = std::mem::replace(&mut look.published, published);
        settled.max(durable) < before || published == before || log.waiting_bytes() > self.settled_unsynced_max()
    }

    /// Bytes of a lane that may wait for their sync though all are settled.
    pub(crate) fn settled_unsynced_max(&self) -> u64 {
        self.settings.segment_bytes.saturating_mul(SETTLED_SEGMENTS_MAX).min(self.settings.unsynced_max)
    }

    /// Log position below which nothing of the lane is left to do in any group, as far as looks tell; 0 without groups.
    fn settled_to(&self, look: &mut LaneLook, lane: LaneId) -> u64 {
        let groups = self.groups();
        look.groups.retain(|id, _| groups.iter().any(|cell| cell.id == *id));
        let mut least = None;
        for cell in groups {
            let own = look.groups.entry(cell.id).or_default();
            let work = cell.state.lock();
            let (base, index, position) = own.reached;
            if position > own.settled && work.group.has_settled_before(lane, base, index) {
                own.settled = position;
            }
            if own.settled == position
                && let Some(reached) = work.group.reached(lane)
            {
                own.reached = reached;
            }
            drop(work);
            least = Some(least.map_or(own.settled, |least: u64| least.min(own.settled)));
        }
        least.unwrap_or(0)
    }
}
