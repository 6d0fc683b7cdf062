//! What is done to tasks by hand: redrive, drop, park, kick, cancel, purge.
//!
//! Each call changes the groups that it concerns and claims *one* journal record for all of it while it holds their
//! locks (in the order of their ids), so that a crash leaves all of it or none; a call over so many tasks that their
//! entries don't fit one record makes several, each of which is whole by itself.

use crate::delivery::{Keeps, Sought};
use crate::error::{Error, Result};
use crate::format::fields::Traits;
use crate::format::journal::{self, DeadCause, Run};
use crate::format::record::Header;
use crate::log::{Log, Place, Source, body_of};
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, Now, TaskId, Timestamp};

use super::Engine;
use super::bounds::owed_before;
use super::groups::{GroupCell, GroupWork};
use super::stats::DeadLetter;

/// Which dead letters are meant: all that fit every condition given.
///
/// ```
/// use lanelog::{DeadCause, DeadFilter, LaneId};
///
/// let all = DeadFilter::new();
/// let some = DeadFilter::new().lane(LaneId(1)).cause(DeadCause::MaxAttempts).reason("timeout").limit(100);
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    lane: Option<LaneId>,
    cause: Option<DeadCause>,
    reason: Option<String>,
    before: Option<Timestamp>,
    ids: Option<Vec<TaskId>>,
    limit: Option<usize>,
}

impl DeadFilter {
    /// Every dead letter.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of this lane.
    #[must_use]
    pub fn lane(mut self, lane: LaneId) -> Self {
        self.lane = Some(lane);
        self
    }

    /// Those that died of this.
    #[must_use]
    pub fn cause(mut self, cause: DeadCause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Those whose reason contains this.
    #[must_use]
    pub fn reason(mut self, part: impl Into<String>) -> Self {
        self.reason = Some(part.into());
        self
    }

    /// Those that died before this moment.
    #[must_use]
    pub fn died_before(mut self, at: Timestamp) -> Self {
        self.before = Some(at);
        self
    }

    /// These tasks.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = TaskId>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// At most so many, in the order of lanes and sequences.
    #[must_use]
    pub fn limit(mut self, tasks: usize) -> Self {
        self.limit = Some(tasks);
        self
    }

    fn fits(&self, letter: &DeadLetter) -> bool {
        self.lane.is_none_or(|lane| lane == letter.id.lane())
            && self.cause.is_none_or(|cause| cause == letter.cause)
            && self.reason.as_ref().is_none_or(|part| letter.reason.contains(part.as_str()))
            && self.before.is_none_or(|before| letter.at < before)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
    }
}

/// What is done to each of several dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// Due again, all its attempts before it.
    Redrive,
    /// Due again as it was.
    Kick,
    Drop,
}

/// A task's record, and what delivery is told of it.
pub(super) struct Found {
    pub source: Source,
    pub header: Header,
    pub spot: Sought,
}

/// How much was done, and the position of the journal behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Moved {
    pub tasks: u64,
    pub end: Option<u64>,
}

impl Engine {
    /// Dead letters of a group, or what it has parked, that fit the filter.
    pub(crate) fn dead_that_fit(&self, cell: &GroupCell, filter: &DeadFilter, parked: Shelf) -> Vec<DeadLetter> {
        let shelf = match parked {
            Shelf::Dead => self.dead_letters(cell),
            Shelf::Parked => self.parked(cell),
        };
        shelf.into_iter().filter(|letter| filter.fits(letter)).take(filter.limit.unwrap_or(usize::MAX)).collect()
    }

    /// Moves these dead letters, or parked tasks. One that is none any more, or that can't be read now, stays as it is.
    pub(crate) fn move_dead(&self, cell: &GroupCell, ids: &[TaskId], how: Move, now: Now) -> Result<Moved> {
        self.check_poison()?;
        // Found before the lock is taken: that may read from a cold file.
        let spots: Vec<Sought> = ids.iter().filter_map(|id| self.spot(*id).transpose()).collect::<Result<_>>()?;
        let mut work = self.lock_group(cell)?;
        let work = &mut *work;
        let mut moved = Moved::default();
        for spot in &spots {
            moved.tasks += u64::from(match how {
                Move::Redrive => work.group.revive(spot, Keeps::Nothing, now, &mut work.changes),
                Move::Kick => work.group.revive(spot, Keeps::Attempts, now, &mut work.changes),
                Move::Drop => work.group.drop_dead(spot, &mut work.changes),
            });
        }
        moved.end = self.write_together(std::iter::once(work), now)?;
        self.arrivals.wake_all();
        Ok(moved)
    }

    /// Sets a task aside that is on loan to nobody. Gives nothing moved if it is on loan, settled or set aside already.
    pub(crate) fn park_by_hand(&self, cell: &GroupCell, id: TaskId, reason: &str, now: Now) -> Result<Moved> {
        self.check_poison()?;
        // What is not accepted yet must not become due before it is.
        let Some(spot) = self.spot(id)?.filter(|spot| !spot.pending) else { return Ok(Moved::default()) };
        let mut work = self.lock_group(cell)?;
        let work = &mut *work;
        let tasks = u64::from(work.group.park_task(&spot, reason, now, &mut work.changes));
        Ok(Moved { tasks, end: self.write_together(std::iter::once(work), now)? })
    }

    /// Settles a task for every group, whatever it is there, and for those to come. Counts the groups in which it was not
    /// settled before.
    pub(crate) fn cancel(&self, id: TaskId, now: Now) -> Result<Moved> {
        self.check_poison()?;
        let Some(spot) = self.spot(id)? else { return Ok(Moved::default()) };
        // No group begins meanwhile that would be left out.
        let cells = self.groups.read();
        let mut works: Vec<_> = cells.values().map(|cell| cell.state.lock()).collect();
        let mut tasks = 0;
        for work in works.iter_mut().filter(|work| !work.removed) {
            tasks += u64::from(work.group.cancel(&spot));
            self.note_settled(work);
        }
        self.to_come.lock().set_acked(spot.key(), spot.base);
        let mut payload = Vec::new();
        journal::put_cancelled(&mut payload, &[Run { lane: spot.lane, first: spot.seq, count: 1 }]);
        let end = self.append_journal(&payload, now.wall);
        self.changed.store(true, Ordering::Relaxed);
        self.arrivals.wake_all();
        Ok(Moved { tasks, end: Some(end.map_err(Error::in_doubt)?) })
    }

    /// Settles everything that a lane holds now, for every group, dead letters included.
    pub(crate) fn purge(&self, lane: LaneId, now: Now) -> Result<Moved> {
        self.check_poison()?;
        // No group begins meanwhile that would be left out.
        let cells = self.groups.read();
        let mut works: Vec<_> = cells.values().map(|cell| cell.state.lock()).collect();
        let Some((_, seq)) = self.next_seqs().into_iter().find(|(other, _)| *other == lane) else {
            return Ok(Moved::default());
        };
        for work in &mut works {
            let work = &mut **work;
            let owed = self.lanes.log(lane).filter(|_| self.bounds.is_some());
            let owed = owed.map(|log| owed_before(lane, log, &work.group, seq)).unwrap_or_default();
            work.group.purge(lane, seq, |seq| self.base_of(lane, seq), &mut work.changes);
            work.group.settle_amount(lane, owed);
        }
        let end = self.write_together(works.iter_mut().map(|work| &mut **work), now);
        // Leases of the lane ended, which may leave keys and room to others.
        self.arrivals.wake_all();
        Ok(Moved { tasks: 0, end: end? })
    }

    /// Where a task's record is. `None` if it is not there (any more).
    ///
    /// Errors: as [`Engine::find`].
    pub(super) fn spot(&self, id: TaskId) -> Result<Option<Sought>> {
        Ok(self.find(id)?.map(|found| found.spot))
    }

    /// A task's record. `None` if it is not there (any more).
    ///
    /// Errors: `BadId` for another queue's; `Io` if its segment can't be read.
    pub(super) fn find(&self, id: TaskId) -> Result<Option<Found>> {
        if id.queue != self.queue {
            return Err(Error::BadId { text: id.to_string() });
        }
        let Some(log) = self.lanes.log(id.lane) else { return Ok(None) };
        let found = log.find(id.seq).map_err(|error| {
            let file = log.segment_of(id.seq).map_or_else(String::new, |segment| segment.file_name());
            Error::io(file, "read", error)
        })?;
        Ok(found.map(|(source, header)| {
            let spot = self.sought(id, log, &source, &header);
            Found { source, header, spot }
        }))
    }

    fn sought(&self, id: TaskId, log: &Log, source: &Source, header: &Header) -> Sought {
        let fields = if header.is_special() { body_of(source, header).unwrap_or_default().0 } else { Vec::new() };
        let (lane, seq, base) = (id.lane, id.seq, source.segment.base());
        let end = source.segment.position(header.offset + header.bytes);
        let is_undecided = || {
            let decision = Traits::decode(&fields).decision;
            decision.is_some_and(|(base, offset)| self.undecided.contains(Place { base, offset }))
        };
        let pending = header.is_power() && (end > log.durable() || is_undecided());
        Sought { lane, seq, base, offset: header.offset, bytes: header.payload_bytes, pending, fields }
    }

    /// Writes the changes of several groups, whose locks are held, as one record. If that fails they are in doubt.
    fn write_together<'a>(&self, works: impl Iterator<Item = &'a mut GroupWork>, now: Now) -> Result<Option<u64>> {
        self.write_all_changes(works, now.wall).map_err(Error::in_doubt)
    }
}

/// Which of the two that a group keeps aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shelf {
    Dead,
    Parked,
}
