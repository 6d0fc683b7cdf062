//! What holds disk space back: payloads that somebody borrows, and for each group and lane the oldest task that it has not
//! settled.
//!
//! Segments are counted, not walked over. Records are read up to the oldest task alone: what is settled before it lies in
//! runs, which the seek tables skip.

use crate::delivery::{GroupState, Standing};
use crate::format::fields::Traits;
use crate::log::{Cursor, Log, Segment, Step, body_of};
use crate::types::{LaneId, Now, Seq, TaskId};

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
                open: cells.iter().map(|cell| open_of(cell, lane, segment)).collect(),
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
            let header = match cursor.step(log, u64::MAX) {
                Step::Task(header) => header,
                Step::Entered if cell.state.lock().group.is_done_with(lane, cursor.base()) => {
                    cursor.skip_life();
                    continue;
                }
                Step::Entered | Step::Damaged { .. } | Step::Unreadable { .. } => continue,
                Step::End => return None,
            };
            let (base, seq) = (cursor.base(), Seq(cursor.base() + u64::from(header.index)));
            let next = {
                let work = cell.state.lock();
                let own = work.group.lanes.get(lane);
                own.map_or(header.index, |own| own.next_unacked(base, header.index))
            };
            if next > header.index {
                cursor.skip_to(next);
                continue;
            }
            let id = TaskId { queue: self.queue, lane, seq };
            let fields = cursor.source().and_then(|source| Some(body_of(source, &header)?.0)).unwrap_or_default();
            let traits = Traits::decode(&fields);
            if traits.origin.is_some_and(|origin| origin.group != cell.id) {
                continue;
            }
            let Ok(Some(spot)) = self.spot(id) else { continue };
            let standing = cell.state.lock().group.standing(&spot);
            if standing == Standing::Settled {
                continue;
            }
            let state = TaskState::of_standing(&standing, traits.run_at, now.wall);
            return Some(Oldest { id, age_ms: now.wall.0.saturating_sub(header.time.0), state });
        }
    }
}

fn open_of(cell: &GroupCell, lane: LaneId, segment: &Segment) -> u64 {
    let work = cell.state.lock();
    let group = &work.group;
    if group.is_done_with(lane, segment.base()) {
        return 0;
    }
    let own = group.lanes.get(lane).and_then(|own| own.lives.get(&segment.base()));
    let start = group.starts().get(&lane).map_or(0, |seq| seq.0);
    unsettled(segment, own.map_or(0, |life| life.acks.count()), start)
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
