//! Dedup ids: an enqueue with one that was accepted before gives the first task, and adds nothing.
//!
//! An id counts from the enqueue that was accepted with it until its *end*: a wall time, or the moment at which the task
//! is settled in every group. The index of all ids that count is behind one lock, which enqueues with an id take, transactions
//! with one ([`transaction`]), and the checkpoint for as long as it copies; nobody else. An enqueue holds it from its look to its place in the log, so of
//! several with one id exactly one is the first.
//!
//! # What is on disk, at each instant
//!
//! The records carry the ids: fingerprint, end, and the enqueue's *order*, a number that only grows. The checkpoint has
//! the index as it was at its instant, and the order that the next enqueue got. So the ids of a recovered queue are those
//! of the checkpoint, and over them those of the records whose order is not below its.
//!
//! | after | a crash leaves |
//! |---|---|
//! | the look | nothing |
//! | the claim, the fill | what it leaves of any task; where the task did not survive its id did not either |
//! | the publish | the task and its id, or neither |
//! | the note in the index | the same: nothing on disk is changed by it |
//! | a checkpoint, before its root is durable | the older one, and all records that it does not know |
//! | its root | the ids that it holds. Where the record of one did not survive it is dropped |
//! | a life is let go | the checkpoint that let it go holds its ids, so that a window outlives its task |
//!
//! The checkpoint takes the index before the groups, at the instant at which it notes how far lives are durable. So whatever
//! is missing there because it was over when the checkpoint looked, is over by what the same checkpoint says of the groups;
//! every id that is there is of a task in a life that it lists; and a record with an order that it does not know lies behind
//! what it lists as durable, in a life that an open reads. Where such a life was sealed since, its footer says whether it has
//! ids.
//!
//! # Clocks
//!
//! An end is stored as a wall time and compared with the wall clock of the moment. A clock that jumps back makes ids count
//! longer, never shorter; one that jumps ahead ends them. So no clock has to be remembered over a reopen. An id whose
//! time was over, before the clock jumped back to when it was not, may count again or not: it depends on whether anybody
//! looked meanwhile.
//!
//! # Memory
//!
//! The newest ids are in a tree, 64 Ki of them at most; older ones in slices ([`slice`]), of which memory has a filter and
//! a fence for each page, 2 bytes an id, and the checkpoint the pages. A look that passes a filter reads one page of 512
//! bytes, which has a check of its own; where it can't be read or does not verify, that enqueue is refused, for nothing is
//! known then.

mod index;
mod keep;
mod slice;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::checkpoint::{Key, Store};
use crate::delivery::Standing;
use crate::error::{Damage, DamageKind, Error, Result};
use crate::format::dedup::{Once, UNTIL_SETTLED};
use crate::format::fields::{DedupTrait, Traits, set_dedup_order};
use crate::format::journal::DeadCause;
use crate::format::meta::kind;
use crate::log::{Appended, Ends, Place};
use crate::sabotage::{Bug, on};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::types::{LaneId, LogId, Now, Seq, TaskId};

use super::append::TaskDraft;
use super::hand::Found;
use super::recovery::FoundIds;
use super::{Attempt, Engine};
pub(super) use index::TakenIds;
use index::{Full, Index, SLICE_IDS};
use slice::BadPage;

/// Ids of an open queue.
pub(crate) struct Dedup {
    pub index: Mutex<Index>,
    pub hits: AtomicU64,
    /// A slice is full that no checkpoint has.
    pub grown: AtomicBool,
}

/// What became of tasks of which some have dedup ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Accepted {
    /// Each task, or the one that was accepted before it with the same id.
    pub tasks: Vec<(LaneId, Seq)>,
    /// Log positions that are to be durable for all of them to be.
    pub ends: Ends,
    /// How many were there before.
    pub hits: u64,
}

/// What is to be done with one task.
enum Part {
    /// It was accepted before, and is durable once these logs are up to there.
    First(Once, Ends),
    /// It is the n-th of those that are appended now, or the same as that.
    New(usize),
}

impl Dedup {
    /// The ids that a recovery found.
    pub(super) fn open(found: FoundIds, store: &Store) -> Self {
        let mut index = Index::new(SLICE_IDS);
        index.order = found.order;
        let found = if on(Bug::DedupForgotten) { FoundIds::default() } else { found };
        for (number, entries) in &found.slices {
            let place = store.place_of(ids_key(*number)).filter(|_| !found.changed.contains(number));
            index.load(*number, entries, place);
        }
        index.loaded();
        for newer in found.newer {
            let once = Once { lane: newer.lane, seq: newer.seq, ends: newer.id.ends };
            index.insert(newer.id.fingerprint, once);
        }
        Dedup { index: Mutex::new(index), hits: AtomicU64::new(0), grown: AtomicBool::new(false) }
    }

    /// A checkpoint that has these slices did not become durable.
    pub(super) fn not_written(&self, numbers: &[u32]) {
        self.index.lock().not_written(numbers.iter().copied());
    }

    /// A checkpoint that has these slices is durable.
    pub(super) fn written(&self, numbers: &[u32], store: &Store) {
        let mut index = self.index.lock();
        for number in numbers {
            if let Some(place) = store.place_of(ids_key(*number)) {
                index.written(*number, place);
            }
        }
    }
}

/// The checkpoint's key of a slice.
pub(super) fn ids_key(number: u32) -> Key {
    Key { kind: kind::IDS, a: number, b: 0, c: 0 }
}

impl Engine {
    /// Publishes those of the tasks whose dedup id does not count yet, and all that have none, as one atomic unit; of the
    /// others gives the first task. All of it is accepted when this returns `Done`.
    ///
    /// Errors: as for [`Engine::append_batch`]; `DedupFull`; `Io` and `Damaged` where a page of the index can't be used:
    /// nothing was written then.
    pub(crate) fn append_once(&self, lane: LaneId, tasks: &[TaskDraft<'_>], now: Now) -> Result<Attempt<Accepted>> {
        self.writable_lane(lane)?;
        for task in tasks {
            self.check_task(task, 0)?;
        }
        let mut index = self.dedup.index.lock();
        let (parts, new) = self.look(&index, tasks, now)?;
        let fresh: Vec<DedupTrait> = new.iter().filter_map(|at| id_of(tasks.get(*at)?)).collect();
        self.make_room(&mut index, fresh.len(), now)?;
        let appended = match self.append_new(lane, tasks, &new, &mut index.order, now)? {
            Attempt::Done(appended) => appended,
            Attempt::NotReady => return Ok(Attempt::NotReady),
        };
        let mut accepted = Accepted::default();
        for part in parts {
            accepted.tasks.push(match part {
                Part::New(number) => (lane, nth(appended, number)),
                Part::First(once, ends) => {
                    accepted.ends.extend(ends);
                    (once.lane, once.seq)
                }
            });
        }
        for (number, id) in new.iter().map(|at| tasks.get(*at).and_then(id_of)).enumerate() {
            self.remember(&mut index, lane, nth(appended, number), id);
        }
        accepted.hits = (tasks.len() - new.len()) as u64;
        accepted.ends.extend(appended.map(|appended| (LogId::from(lane), appended.end)));
        self.dedup.hits.fetch_add(accepted.hits, Ordering::Relaxed);
        Ok(Attempt::Done(accepted))
    }

    /// From here on the id, if it is one, counts for that task.
    fn remember(&self, index: &mut Index, lane: LaneId, seq: Seq, id: Option<DedupTrait>) {
        let Some(DedupTrait { fingerprint, ends, .. }) = id else { return };
        if let Some(segment) = self.lanes.log(lane).and_then(|log| log.segment_of(seq)) {
            segment.note_ids(true);
        }
        if index.insert(fingerprint, Once { lane, seq, ends }) {
            self.dedup.grown.store(true, Ordering::Relaxed);
        }
    }

    /// The task that an id counts for, if it counts.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn first_of(&self, fingerprint: u128, now: Now) -> Result<Option<(LaneId, Seq)>> {
        let index = self.dedup.index.lock();
        let once = self.counting(&index, fingerprint, now)?;
        Ok(once.map(|once| (once.lane, once.seq)))
    }

    /// How many ids are remembered, how many enqueues they answered, and how many bytes of memory they take.
    pub(crate) fn dedup_counts(&self) -> (u64, u64, u64) {
        let index = self.dedup.index.lock();
        (index.count() as u64, self.dedup.hits.load(Ordering::Relaxed), index.bytes() as u64)
    }

    /// What is to be done with each task, and which of them are to be appended.
    fn look(&self, index: &Index, tasks: &[TaskDraft<'_>], now: Now) -> Result<(Vec<Part>, Vec<usize>)> {
        let (mut parts, mut new, mut within) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (at, task) in tasks.iter().enumerate() {
            let id = id_of(task);
            let before = id.and_then(|id| within.get(&id.fingerprint).copied());
            let first = match id {
                Some(id) if before.is_none() => match self.counting(index, id.fingerprint, now)? {
                    Some(once) => Some(Part::First(once, self.ends_of(&once)?)),
                    None => None,
                },
                _ => before.map(Part::New),
            };
            parts.push(first.unwrap_or_else(|| {
                within.extend(id.map(|id| (id.fingerprint, new.len())));
                new.push(at);
                Part::New(new.len() - 1)
            }));
        }
        Ok((parts, new))
    }

    /// Appends the new ones, each with its order.
    fn append_new(
        &self,
        lane: LaneId,
        tasks: &[TaskDraft<'_>],
        new: &[usize],
        order: &mut u64,
        now: Now,
    ) -> Result<Attempt<Option<Appended>>> {
        if new.is_empty() {
            return Ok(Attempt::Done(None));
        }
        let chosen: Vec<&TaskDraft<'_>> = new.iter().filter_map(|at| tasks.get(*at)).collect();
        let fields = in_order(chosen.iter().copied(), order);
        let drafts: Vec<TaskDraft<'_>> =
            chosen.iter().zip(&fields).map(|(task, fields)| TaskDraft { fields, ..**task }).collect();
        let Attempt::Done(appended) = self.append_batch(lane, &drafts, now.wall)? else {
            return Ok(Attempt::NotReady);
        };
        Ok(Attempt::Done(Some(appended)))
    }

    /// Refuses `fresh` more ids where there is no room for them. What is over goes before.
    fn make_room(&self, index: &mut Index, fresh: usize, now: Now) -> Result<()> {
        let max = self.settings.dedup_ids_max;
        let most = max.saturating_sub(fresh as u64);
        let is_full = |index: &Index| (index.count() + fresh) as u64 > max;
        if fresh == 0 || !is_full(index) {
            return Ok(());
        }
        let journal = self.journal.published();
        let in_vain = index.full.is_some_and(|full| full.journal == journal && now.wall < full.ends);
        if !in_vain {
            let cells = self.groups();
            let are_over = |entries: &[(u128, Once)]| self.are_over(&cells, entries, now.wall);
            let ends = index.forget(usize::try_from(most).unwrap_or(usize::MAX), now.wall, are_over);
            index.full = ends.map(|ends| Full { journal, ends });
        }
        if is_full(index) { Err(Error::DedupFull { ids: index.count() as u64, max }) } else { Ok(()) }
    }

    /// The entry of an id, if it counts.
    fn counting(&self, index: &Index, fingerprint: u128, now: Now) -> Result<Option<Once>> {
        let found = index.find(fingerprint).map_err(|bad| self.bad_page(bad))?;
        match found {
            Some(once) if !self.is_over(&once, now)? => Ok(Some(once)),
            _ => Ok(None),
        }
    }

    fn bad_page(&self, bad: BadPage) -> Error {
        let BadPage { offset, error } = bad;
        if let Some(error) = error {
            return Error::io(Store::FILE, "read dedup ids", error);
        }
        let what = "a page of dedup ids does not verify: whether its ids count is not known".to_owned();
        let (kind, file, bytes) = (DamageKind::Corrupt, Store::FILE.to_owned(), 512);
        let damage = Damage { kind, file, offset, bytes, lane: None, lost: None, what };
        self.damage.lock().add(damage.clone());
        Error::Damaged { first: Box::new(damage), count: 1 }
    }

    /// True if an id is free again.
    fn is_over(&self, once: &Once, now: Now) -> Result<bool> {
        if once.ends != UNTIL_SETTLED {
            return Ok(once.ends <= now.wall);
        }
        let cells = self.groups();
        if self.are_over(&cells, &[(0, *once)], now.wall).contains(&true) {
            return Ok(true);
        }
        if self.is_unread(once) {
            return Ok(false);
        }
        // Expired tasks are settled, whether a group has met them or not; what is on loan may be finished.
        let id = TaskId { queue: self.queue, lane: once.lane, seq: once.seq };
        // Behind a producer that stands still, or damaged: it stays as long as its life does.
        let Some(found) = self.find(id)? else { return Ok(false) };
        if Traits::decode(&found.spot.fields).expires.is_none_or(|expires| expires > now.wall) {
            return Ok(false);
        }
        let stays = |standing: Standing| match standing {
            Standing::Leased { .. } => true,
            Standing::Dead(dead) => dead.cause == DeadCause::Parked,
            _ => false,
        };
        Ok(!cells.iter().any(|cell| stays(cell.state.lock().group.standing(&found.spot))))
    }

    /// True if the task is in a life that can't be read in this open.
    fn is_unread(&self, once: &Once) -> bool {
        let holds = |base: u64, block: u32| once.seq.0.checked_sub(base).is_some_and(|index| index < u64::from(block));
        self.unread.iter().any(|life| life.log.lane() == Some(once.lane) && holds(life.base, life.block))
    }

    /// True if the task may be there and not be reached yet: what is not in a cold life any more was settled before it moved.
    fn is_pending(&self, once: &Once) -> bool {
        let segment = self.lanes.log(once.lane).and_then(|log| log.segment_of(once.seq));
        segment.is_some_and(|segment| !segment.is_cold())
    }

    /// Up to where logs are to be durable for the first task of a hit to be: its own, and all those of the transaction that
    /// it came with. None where its life is gone, or it from its life: what says that it is settled is durable. A task that
    /// can't be reached yet, behind a producer that stands still, is below everything that is claimed, and may be of any
    /// transaction.
    fn ends_of(&self, once: &Once) -> Result<Ends> {
        let (id, log) = (TaskId { queue: self.queue, lane: once.lane, seq: once.seq }, LogId::from(once.lane));
        if on(Bug::HitBeforeDurable) {
            return Ok(Ends::new());
        }
        let (end, others) = match self.find(id)? {
            Some(Found { source, header, spot }) => {
                let decision = Traits::decode(&spot.fields).decision.filter(|_| !on(Bug::HitOnHalf));
                let waits = |(base, offset)| self.undecided.waits_for(Place { base, offset }, header.is_power());
                (source.segment.position(header.offset + header.bytes), decision.map(waits).unwrap_or_default())
            }
            None if self.is_pending(once) => {
                (self.lanes.log(once.lane).map_or(0, |log| log.filled()), self.undecided.furthest())
            }
            None => return Ok(Ends::new()),
        };
        Ok(std::iter::once((log, end)).chain(others).collect())
    }
}

/// Fields of the tasks, each with an order of its own. Whatever becomes of them, nobody else gets these numbers.
fn in_order<'a>(tasks: impl Iterator<Item = &'a TaskDraft<'a>>, order: &mut u64) -> Vec<Vec<u8>> {
    let mut fields: Vec<Vec<u8>> = tasks.map(|task| task.fields.to_vec()).collect();
    for fields in &mut fields {
        set_dedup_order(fields, *order);
        *order = order.saturating_add(1);
    }
    fields
}

fn id_of(task: &TaskDraft<'_>) -> Option<DedupTrait> {
    task.special.then(|| Traits::decode(task.fields).dedup)?
}

fn nth(appended: Option<Appended>, number: usize) -> Seq {
    Seq(appended.map_or(0, |appended| appended.first.0) + number as u64)
}
