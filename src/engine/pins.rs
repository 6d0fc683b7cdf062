//! What holds disk space back: payloads that somebody borrows, and for each group and lane the oldest task that it has not
//! settled.
//!
//! Segments are counted, not walked over. Records are read up to the oldest task alone: what is settled before it lies in
//! runs, which the seek tables skip.

use crate::delivery::GroupState;
use crate::format::fields::Traits;
use crate::log::{Cursor, Log, Segment};
use crate::types::{LaneId, Now, TaskId};

use super::Engine;
use super::groups::GroupCell;
use super::inspect::Inspection;
use super::reclaim::Pin;
use super::recovery::lives::FoundLife;
use super::recovery::open::lanes_of;
use super::stats::unsettled;
use super::task::TaskState;

/// What holds disk space back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pins {
    /// Segments of which somebody holds payloads.
    pub held: Vec<Pin>,
    /// What each group has not settled, lane by lane; those in which it settled everything are left out.
    pub groups: Vec<GroupPin>,
}

/// What a group holds back in a lane: every segment in which a task is not settled, dead letters and parked ones too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupPin {
    /// The group's name.
    pub group: String,
    /// The lane.
    pub lane: LaneId,
    /// The oldest task that is not settled. `None` where no such record can be read.
    pub oldest: Option<Oldest>,
    /// Segments that it keeps, alone or with other groups, and their bytes on disk.
    pub segments: usize,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Of these: the bytes of the segments that no other group keeps.
    pub alone_bytes: u64,
}

/// The oldest task of a lane that a group has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oldest {
    /// The task.
    pub id: TaskId,
    /// How long ago it was enqueued, in milliseconds.
    pub age_ms: u64,
    /// What the group makes of it.
    pub state: TaskState,
}

/// A segment and which groups keep it: base, bytes, and for each group what it has not settled.
struct Kept {
    base: u64,
    bytes: u64,
    open: Vec<u64>,
}

/// What the group at `at` keeps of a lane, if anything; `oldest` looks from the life with that base on.
fn pin_of(
    (at, group): (usize, &str),
    lane: LaneId,
    kept: &[Kept],
    oldest: impl FnOnce(u64) -> Option<Oldest>,
) -> Option<GroupPin> {
    let is_own = |kept: &&Kept| kept.open.get(at).is_some_and(|open| *open > 0);
    let is_alone = |kept: &&Kept| kept.open.iter().filter(|open| **open > 0).count() == 1;
    let own = || kept.iter().filter(is_own);
    let first = own().next()?.base;
    Some(GroupPin {
        group: group.to_owned(),
        lane,
        oldest: oldest(first),
        segments: own().count(),
        bytes: own().map(|kept| kept.bytes).sum(),
        alone_bytes: own().filter(is_alone).map(|kept| kept.bytes).sum(),
    })
}

impl Engine {
    /// What holds disk space back now.
    pub(crate) fn pins(&self, now: Now) -> Pins {
        let (held, cells) = (self.held(), self.groups());
        let mut groups = Vec::new();
        for (lane, log) in self.lanes.all() {
            let segments = log.segments();
            let kept = |segment: &std::sync::Arc<Segment>| Kept {
                base: segment.base(),
                bytes: segment.file_bytes(),
                open: cells.iter().map(|cell| unsettled(&cell.state.lock().group, lane, segment)).collect(),
            };
            let kept: Vec<Kept> = segments.iter().map(kept).collect();
            let pins = cells.iter().enumerate().filter_map(|(at, cell)| {
                pin_of((at, &cell.name), lane, &kept, |base| self.oldest_of(cell, lane, log, base, now))
            });
            groups.extend(pins);
        }
        Pins { held, groups }
    }

    /// The first task from the life with that base on that the group has not settled.
    fn oldest_of(&self, cell: &GroupCell, lane: LaneId, log: &Log, base: u64, now: Now) -> Option<Oldest> {
        let mut cursor = Cursor::from_base(base);
        loop {
            // The cursor is behind one that can't be read.
            let Ok(next) = self.next_unsettled(cell, lane, log, &mut cursor) else { continue };
            let (id, found, standing) = next?;
            let traits = Traits::decode(&found.spot.fields);
            if traits.origin.is_none_or(|origin| origin.group == cell.id) {
                let state = TaskState::of_standing(&standing, traits.run_at, now.wall);
                let age_ms = now.wall.0.saturating_sub(found.header.time.0);
                return Some(Oldest { id, age_ms, state });
            }
        }
    }
}

impl Inspection {
    /// What each group holds back, lane by lane. What another process that has the queue open has on loan is
    /// [`TaskState::Attempted`].
    #[must_use]
    pub fn group_pins(&self) -> Vec<GroupPin> {
        let groups: Vec<(u32, &GroupState)> = self.picture.groups.iter().map(|(id, group)| (*id, group)).collect();
        let mut pins = Vec::new();
        for (lane, found) in lanes_of(&self.picture) {
            let kept = |life: &FoundLife| Kept {
                base: life.header.base,
                bytes: life.file_bytes,
                open: groups.iter().map(|(_, group)| group.left_in(lane, life.header.base, life.tasks)).collect(),
            };
            let kept: Vec<Kept> = found.lives.iter().map(kept).collect();
            pins.extend(groups.iter().enumerate().filter_map(|(at, (id, group))| {
                let lives = |base: u64| found.lives.iter().filter(move |life| life.header.base >= base);
                let oldest = |base| lives(base).find_map(|life| self.oldest_in(*id, group, lane, life));
                pin_of((at, &group.name), lane, &kept, oldest)
            }));
        }
        pins
    }
}
