//! Tasks that the cursor passed over: a bit each, until they are found again.
//!
//! A task is passed over while its key is not free ([`super::keys`]). It has no slot then, and what a checkpoint told of it
//! stays among the notes. Its life counts it as open, so that the life is not done before the task is.

use crate::format::record::Header;
use crate::log::{Cursor, Log, Source, Step};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Seq};

use super::bits::Bits;
use super::group::{Group, Tried};
use super::keys::{KeyHash, Keys, Spot};
use super::lane::GroupLane;
use super::meet::Asked;
use super::reserve::{Candidate, Granted, Lost, Take};
use super::sticky::Sticky;

/// What a group passed over in one lane.
pub(crate) struct Passed {
    bits: Bits,
    /// Where the last walk ended: the next one begins there or near by, as a rule.
    walker: Cursor,
}

impl Default for Passed {
    fn default() -> Self {
        Passed { bits: Bits::default(), walker: Cursor::from_base(0) }
    }
}

/// A task that was passed over, found again.
pub(super) struct Found {
    pub source: Source,
    pub header: Header,
    pub asked: Asked,
    pub spot: Spot,
    /// Behind it.
    pub rest: Spot,
}

/// What a task that is passed over waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// Its key alone: who asked may be handed it then.
    Own,
    /// A reserve of the worker that its bucket belongs to.
    Another,
}

/// What a walk does with a task that it comes by.
pub(super) enum Pick {
    This,
    Not,
}

impl Passed {
    /// Lets go of a life's map, so that it can be given back.
    pub(super) fn leave(&mut self, base: u64) {
        if self.walker.base() == base {
            self.walker = Cursor::from_base(base);
        }
    }

    /// Checks again before the next walk that what it reads can be read.
    pub(super) fn distrust(&mut self) {
        self.walker.distrust();
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bits.bytes() + size_of::<Self>()
    }
}

impl GroupLane {
    /// True if the task was passed over.
    pub(super) fn is_passed_over(&self, base: u64, index: u32) -> bool {
        self.passed.bits.next(base, index) == Some((base, index))
    }

    /// A task that was passed over, if it was, is settled or set aside by hand.
    pub(super) fn unpass(&mut self, base: u64, index: u32) {
        self.passed.bits.clear(base, index);
    }

    /// Nobody settles what was passed over before `seq` any more.
    pub(super) fn void_passed(&mut self, seq: Seq) {
        for (base, last) in self.passed.bits.lives_before(seq) {
            self.take_out(base, 0, last, true);
        }
    }

    /// Takes passed-over records of a life out; `void`: nobody can ever settle them.
    fn take_out(&mut self, base: u64, first: u32, last: u32, void: bool) {
        let taken = self.passed.bits.take_out(base, first, last);
        (0..taken).filter(|_| void).for_each(|_| self.close(base, None));
    }
}

impl Group {
    /// Leaves a task of the lane for later, because its key is not free or it is another worker's: a bit, and no slot.
    pub(super) fn pass_over(&mut self, key: KeyHash, lane: LaneId, spot: Spot, whose: Whose) {
        if on(Bug::WaitingForgotten) {
            return;
        }
        self.in_lane(lane, |lane| lane.passed.bits.set(spot.base, spot.index));
        match (whose, &mut self.sticky) {
            (Whose::Another, Some(sticky)) => sticky.wait(key, lane, spot),
            _ => self.keys.wait(key, lane, spot),
        }
    }

    /// Takes a task's slot away again, because its key is not free.
    pub(super) fn shelve(&mut self, slot: u32, whose: Whose) {
        let Some(task) = self.slots.remove_slot(slot) else { return };
        if task.tried == Tried::Noted {
            let attempts = self.notes.attempts(&task);
            self.notes.count(task.task_key(), attempts);
        }
        if let Some(key) = task.key() {
            self.pass_over(key, task.lane, task.spot(), whose);
        }
    }

    /// The next task of the lane whose key became free, if the one who asks may have it.
    #[inline]
    pub(super) fn next_ready(&mut self, take: &mut Take<'_, '_>, granted: &mut Granted) -> Option<Candidate> {
        let worker = take.ask.worker();
        while self.keys.has_ready(take.lane, |_| true) {
            let (key, from) = self.keys.next_ready(take.lane, |key| self.may_take(worker, key))?;
            let is_it = |asked: &Asked| if asked.key() == Some(key) { Pick::This } else { Pick::Not };
            let Some(found) = self.find_passed(take, from, |_, _, asked, _| is_it(asked)) else {
                self.keys.found_none(key, take.lane);
                continue;
            };
            if found.asked.key() == Some(key) {
                self.keys.found(key, take.lane, found.rest);
            }
            let Found { source, header, asked, spot, .. } = found;
            let attempts = self.lanes.get(take.lane).map_or(0, |own| own.attempts(spot.base, spot.index));
            if let Some(slot) = self.take_in(&header, spot, asked, attempts, take) {
                return Some((slot, granted.source(&source), header));
            }
        }
        None
    }

    /// Walks over what was passed over in the lane, from `from` on, to the first task that `pick` wants, and takes it out.
    /// One whose record does not verify any more is taken in any case: it is found damaged when it is handed out.
    pub(super) fn find_passed(
        &mut self,
        take: &mut Take<'_, '_>,
        from: Spot,
        mut pick: impl FnMut(&mut Keys, Option<&Sticky>, &Asked, Spot) -> Pick,
    ) -> Option<Found> {
        let mut at = from;
        loop {
            let own = self.lanes.get_mut(take.lane)?;
            let (base, index) = own.passed.bits.next(at.base, at.index)?;
            if base != at.base {
                at = Spot { base, index: 0, offset: 0 };
            }
            let Some((source, header)) = go_to(own, take.log, at, index, take.lost) else { continue };
            let spot = Spot { base, index, offset: header.offset };
            let rest = Spot { base, index: index + 1, offset: header.offset + header.bytes };
            at = rest;
            let seq = Seq(base + u64::from(index));
            if own.lives.get(&base).is_some_and(|life| life.acks.contains(index))
                || self.dead.contains_key(&(take.lane, seq))
            {
                // Settled without being handed out.
                own.passed.bits.clear(base, index);
                continue;
            }
            let asked = Asked::read(&self.keys, self.id, &source, &header).unwrap_or_default();
            if asked.key().is_none() || matches!(pick(&mut self.keys, self.sticky.as_ref(), &asked, spot), Pick::This) {
                own.passed.bits.clear(base, index);
                return Some(Found { source, header, asked, spot, rest });
            }
        }
    }
}

/// Moves the walker to the record with this index, whose bit is set. If it can't be had it is taken out: its segment holds
/// it for a reopen if it can't be read, and nobody holds it if it is damaged.
fn go_to(own: &mut GroupLane, log: &Log, at: Spot, index: u32, lost: &mut Vec<Lost>) -> Option<(Source, Header)> {
    let mut walker = std::mem::replace(&mut own.passed.walker, Cursor::from_base(0));
    let mut step = walker.go_to(log, at.base, at.index, at.offset);
    walker.skip_to(index);
    let found = loop {
        match step {
            Step::Task(header) if header.index == index && walker.base() == at.base => {
                break walker.source().cloned().map(|source| (source, header));
            }
            Step::Task(header) if header.index < index && walker.base() == at.base => {}
            Step::Entered if walker.base() == at.base => {}
            Step::Damaged { segment, offset, bytes, lost: range } => {
                if let Some((first, last)) = range.filter(|_| segment.base() == at.base) {
                    own.take_out(at.base, first, last, true);
                }
                lost.push(Lost::Damaged { segment, offset, bytes, lost: range });
            }
            Step::Unreadable { segment, offset, lost: range, error } => {
                // Those stay open: they wait for a reopen, like every task there that has no slot.
                own.take_out(at.base, index, u32::MAX, false);
                lost.push(Lost::Unreadable { segment, offset, lost: range, error });
                break None;
            }
            // It is not where it was: nothing of it is left that could be settled.
            Step::Task(_) | Step::Entered | Step::End => {
                own.take_out(at.base, index, index, true);
                break None;
            }
        }
        step = walker.step(log, u64::MAX);
    };
    let is_open = own.lives.get(&walker.base()).is_some_and(|life| life.open > 0);
    if is_open {
        own.passed.walker = walker;
    }
    found
}
