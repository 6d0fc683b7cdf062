//! What becomes of a task that the cursor meets, or that is found again: handed out, delayed, or passed over.

use crate::format::fields::Traits;
use crate::format::record::{self, Header};
use crate::log::{Log, Source, Step};
use crate::types::{Now, Seq, Timestamp};

use super::group::{Group, Own, Slot, Tried};
use super::keys::{KeyHash, Keys, Spot};
use super::lane::GroupLane;
use super::passed::Whose;
use super::reserve::{Candidate, Granted, Lost, Take};

impl Group {
    /// Moves the cursor to the next task that the group has to deliver now.
    pub(super) fn walk(&mut self, take: &mut Take<'_, '_>, durable: u64, granted: &mut Granted) -> Option<Candidate> {
        loop {
            let lane = self.lanes.get_mut(take.lane)?;
            let before = lane.cursor.base();
            let step = lane.cursor.step(take.log, durable);
            let after = lane.cursor.base();
            if let Step::Unreadable { segment, lost, .. } = &step {
                lane.hold(segment.base(), lost.map_or(0, |(first, _)| first));
            }
            if after != before {
                pass_lives(lane, take.log, before, after);
            }
            match step {
                Step::End => return None,
                Step::Entered if lane.done.contains(&after) => lane.cursor.skip_life(),
                Step::Entered => {}
                Step::Damaged { segment, offset, bytes, lost } => {
                    take.lost.push(Lost::Damaged { segment, offset, bytes, lost });
                }
                Step::Unreadable { segment, offset, lost, error } => {
                    take.lost.push(Lost::Unreadable { segment, offset, lost, error });
                }
                Step::Task(header) => {
                    if let Some(slot) = self.meet(&header, take) {
                        let source = granted.source(self.lanes.get(take.lane)?.cursor.source()?);
                        return Some((slot, source, header));
                    }
                }
            }
        }
    }

    /// A task at the cursor: `None` if it is acked, dead, delayed, or passed over.
    fn meet(&mut self, header: &Header, take: &mut Take<'_, '_>) -> Option<u32> {
        let lane = self.lanes.get_mut(take.lane)?;
        let (base, index) = (lane.cursor.base(), header.index);
        let seq = Seq(base + u64::from(index));
        if seq < lane.start {
            return None;
        }
        let Some(attempts) = lane.open(base, index) else {
            // Acked tasks lie in runs, and the seek table may save walking over this one.
            let next = lane.next_unacked(base, index);
            lane.cursor.skip_to(next);
            return None;
        };
        let key = (take.lane, seq);
        if !self.dead.is_empty() && self.dead.contains_key(&key) {
            return None;
        }
        let source = lane.cursor.source().filter(|_| header.is_special());
        let asked = match source.map(|source| Asked::read(&self.keys, self.id, source, header)) {
            Some(Some(asked)) => asked,
            None => Asked::default(),
            Some(None) => {
                // Every look at the record says so again: that needs no journal.
                lane.settled.add(u64::from(header.payload_bytes));
                lane.close(base, Some(index));
                return None;
            }
        };
        self.take_in(header, Spot { base, index, offset: header.offset }, asked, attempts, take)
    }

    /// Gives a task a slot, one of which `attempts` began by its bits: `None` if it is delayed; or passed over, because its
    /// key is not free, and then it has none.
    pub(super) fn take_in(
        &mut self,
        header: &Header,
        spot: Spot,
        asked: Asked,
        attempts: u32,
        take: &mut Take<'_, '_>,
    ) -> Option<u32> {
        let key = (take.lane, spot.seq());
        let note = self.notes.get(&key);
        let tried = note.map_or(Tried::times(attempts), |_| Tried::Noted);
        let attempts = note.map_or(attempts, |note| note.attempts);
        let first = asked.run_at.filter(|_| attempts == 0).map(|at| (at, at.0.saturating_sub(header.time.0)));
        let due = note.map_or(first, |note| note.due).filter(|(due, _)| *due > take.now.wall);
        // One that was never handed out doesn't take its key before its time; one that waits for its retry has it.
        let takes_key = asked.key().filter(|_| due.is_none() || attempts > 0);
        if let Some(wanted) = takes_key {
            let whose = if self.may_take(take.ask.worker(), wanted) { Whose::Own } else { Whose::Another };
            if !self.keys.is_free(wanted, take.lane, spot) || (due.is_none() && whose == Whose::Another) {
                self.pass_over(wanted, take.lane, spot, whose);
                return None;
            }
        }
        if let Some((due, delay_ms)) = due.filter(|_| attempts == 0) {
            let rest_ms = rest_ms(due, delay_ms, take.now);
            if rest_ms > take.rules.far.far_ms() {
                self.put_far(spot, rest_ms, take);
                return None;
            }
        }
        let slot = self.slots.insert(Slot::new(take.lane, spot, header.payload_bytes, asked.own, tried));
        if let Some(key) = takes_key {
            self.keys.hold(key, slot);
        }
        match due {
            Some((due, delay_ms)) => {
                self.delay(slot, due, fire_ms(rest_ms(due, delay_ms, take.now), take.now));
                None
            }
            None => Some(slot),
        }
    }
}

/// What a task asks for of delivery.
#[derive(Default)]
pub(super) struct Asked {
    pub run_at: Option<Timestamp>,
    pub own: Option<Box<Own>>,
}

impl Asked {
    /// What a special record asks for; `None` if it is not for this group. What does not verify asks for nothing: it is
    /// found damaged when it is handed out.
    pub(super) fn read(keys: &Keys, group: u32, source: &Source, header: &Header) -> Option<Asked> {
        let Source { segment, region } = source;
        let start = header.offset as usize;
        let extent = region.slice(start..start + header.bytes as usize).unwrap_or_default();
        let Some(body) = record::verify(segment.life(), header, extent) else { return Some(Asked::default()) };
        let traits = Traits::decode(body.fields);
        if traits.origin.is_some_and(|origin| origin.group != group) {
            return None;
        }
        let key = traits.key.map(|key| keys.hash(key));
        Some(Asked { run_at: traits.run_at, own: Own::of(&traits, key) })
    }

    pub(super) fn key(&self) -> Option<KeyHash> {
        self.own.as_ref().and_then(|own| own.key)
    }
}

/// How long a task waits that is due in the future: a clock that jumped back must not make the delay longer than it was
/// asked for.
pub(super) fn rest_ms(due: Timestamp, delay_ms: u64, now: Now) -> u64 {
    due.0.saturating_sub(now.wall.0).min(delay_ms)
}

/// When a task is due that waits for so long, on the boot clock. The two clocks don't tick at the same moment: one more, or
/// it would come early by a part of one.
pub(super) fn fire_ms(rest_ms: u64, now: Now) -> u64 {
    now.boot_ms.saturating_add(rest_ms).saturating_add(1)
}

/// Notes that the cursor left every life from `from` up to `to`.
fn pass_lives(lane: &mut GroupLane, log: &Log, from: u64, to: u64) {
    let mut base = from;
    while base < to {
        let Some(segment) = log.segment_from(base).filter(|segment| segment.base() < to) else { return };
        if !lane.done.contains(&segment.base()) {
            lane.pass(segment.base());
        }
        base = segment.base() + 1;
    }
}
