//! Far tasks in a group: put away as they are met, loaded as their time nears, taken out by hand.

use crate::format::far::FarEntry;
use crate::format::record::Header;
use crate::log::{Cursor, Lanes, Log, Segment, Source, Step};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Now, Seq};

use super::super::group::{Group, Slot, Tried};
use super::super::keys::Spot;
use super::super::lane::GroupLane;
use super::super::meet::{Asked, rest_ms};
use super::super::reserve::{Lost, Take, read_task};
use super::Far;

impl GroupLane {
    /// True if the task waits for a time that is far, and has no slot.
    pub(crate) fn is_far(&self, base: u64, index: u32) -> bool {
        self.far.as_ref().is_some_and(|far| far.contains(base, index))
    }

    /// A far task, if it is one, waits no more: it is loaded, settled or set aside.
    pub(crate) fn unfar(&mut self, base: u64, index: u32) {
        self.take_far_out(base, index, index, Fate::Held);
    }

    /// Nobody settles the far tasks before `seq` any more.
    pub(crate) fn void_far(&mut self, seq: Seq) {
        let lives = self.far.as_ref().map(|far| far.bits.lives_before(seq)).unwrap_or_default();
        for (base, last) in lives {
            self.take_far_out(base, 0, last, Fate::Void);
        }
    }

    fn take_far_out(&mut self, base: u64, first: u32, last: u32, fate: Fate) {
        let taken = self.far.as_mut().map_or(0, |far| far.unmark(base, first, last));
        self.delayed -= u64::from(taken);
        (0..taken).filter(|_| fate == Fate::Void).for_each(|_| self.close(base, None));
    }

    fn next_far(&self, base: u64, index: u32) -> Option<(u64, u32)> {
        self.far.as_ref()?.bits.next(base, index)
    }

    /// Delayed tasks that have slots.
    fn loaded(&self) -> u64 {
        self.delayed.saturating_sub(self.far.as_ref().map_or(0, |far| far.count()))
    }

    /// When there is something to load, on the boot clock.
    fn far_next_ms(&self) -> Option<u64> {
        self.far.as_ref()?.next_ms(self.loaded(), self.due.len() as u64)
    }

    fn far_wants(&self, now: Now) -> bool {
        self.far.as_ref().is_some_and(|far| far.wants(self.loaded(), self.due.len() as u64, now))
    }
}

/// What becomes of far tasks whose records can't be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Nobody can ever settle them.
    Void,
    /// They stay open and wait for a reopen, like every task there that has no slot.
    Held,
}

impl Group {
    /// Step 1: a task that the cursor meets waits for `rest_ms`, which is far.
    pub(in super::super) fn put_far(&mut self, spot: Spot, rest_ms: u64, take: &Take<'_, '_>) {
        let scratch = self.scratch.as_deref();
        let Some(own) = self.lanes.get_mut(take.lane) else { return };
        let far = own.far.get_or_insert_with(|| Box::new(Far::new(take.rules.far, take.now)));
        if far.mark(spot.base, spot.index) {
            own.delayed += 1;
        }
        far.gather(spot.seq(), spot.offset, rest_ms, take.now, scratch);
        self.far_lanes.insert(take.lane);
        if on(Bug::DelayedForgotten) {
            own.close(spot.base, None);
        }
    }

    /// When there is something to load, on the boot clock.
    pub(in super::super) fn far_next_ms(&self) -> Option<u64> {
        if self.far_lanes.is_empty() {
            return None;
        }
        self.far_lanes.iter().filter_map(|lane| self.lanes.get(lane)?.far_next_ms()).min()
    }

    /// True if there is something to load now. It may be before what [`Group::next_due_ms`] said: the wall clock may have
    /// jumped.
    pub(crate) fn far_wants(&self, now: Now) -> bool {
        !self.far_lanes.is_empty()
            && self.far_lanes.iter().any(|lane| self.lanes.get(lane).is_some_and(|own| own.far_wants(now)))
    }

    /// The group is gone: gives back what it has in the scratch file.
    pub(crate) fn end_far(&mut self) {
        let scratch = self.scratch.clone();
        for (_, own) in self.lanes.iter_mut() {
            if let Some(far) = &mut own.far {
                far.end(scratch.as_deref());
            }
        }
    }

    /// Step 3, for all lanes.
    pub(crate) fn load_far(&mut self, logs: &Lanes, now: Now, lost: &mut Vec<Lost>) {
        if self.far_lanes.is_empty() {
            return;
        }
        let lanes = self.far_lanes;
        for lane in lanes.iter() {
            if let Some(log) = logs.log(lane) {
                self.load_lane(lane, log, now, lost);
            }
        }
    }

    /// Step 3: loads what is near, as far as there is room for it. True if any of it is due at once.
    pub(in super::super) fn load_lane(&mut self, lane: LaneId, log: &Log, now: Now, lost: &mut Vec<Lost>) -> bool {
        let mut any_due = false;
        if !self.lanes.get(lane).is_some_and(|own| own.far_wants(now)) {
            return false;
        }
        loop {
            let scratch = self.scratch.as_deref();
            let Some(own) = self.lanes.get_mut(lane) else { return any_due };
            let (loaded, due) = (own.loaded(), own.due.len() as u64);
            let Some(far) = &mut own.far else { return any_due };
            if far.count() == 0 {
                far.end(scratch);
                own.far = None;
                self.far_lanes.remove(lane);
                return any_due;
            }
            if let Some((first, last)) = far.given_up.pop() {
                self.walk_again(lane, log, (first, last), now, lost);
                continue;
            }
            let (clock, max) = (far.clock(now), far.rules.loaded_max);
            let reach = if loaded + due < max { clock.saturating_add(far.rules.far_ms()) } else { clock };
            let entry = if due < max { far.pop(reach, scratch) } else { None };
            let Some(entry) = entry else { return any_due };
            any_due |= self.load(lane, entry, log, now, lost);
        }
    }

    /// Gives the task of an entry a slot. True if it is due at once.
    fn load(&mut self, lane: LaneId, entry: FarEntry, log: &Log, now: Now, lost: &mut Vec<Lost>) -> bool {
        let Some(segment) = log.segment_of(entry.seq) else { return false };
        let (base, Some(index)) = (segment.base(), segment.index(entry.seq)) else { return false };
        let Some(own) = self.lanes.get_mut(lane).filter(|own| own.is_far(base, index)) else { return false };
        let (source, header) = match read_task(segment, entry.seq, entry.offset) {
            Ok(found) => found,
            Err(what) => {
                let fate = if matches!(what, Lost::Damaged { .. }) { Fate::Void } else { Fate::Held };
                own.take_far_out(base, index, index, fate);
                lost.push(what);
                return false;
            }
        };
        // One that does not verify is due: it is found damaged as it is handed out.
        let asked = Asked::read(&self.keys, self.id, &source, &header).unwrap_or_default();
        let run_at = asked.run_at.unwrap_or_default();
        let by_wall = if run_at <= now.wall { 0 } else { (run_at.0 - now.wall.0).saturating_add(1) };
        let rest_ms = by_wall.min(entry.fire_ms.saturating_sub(now.boot_ms));
        if let Some(far) = own.far.as_mut().filter(|far| rest_ms > far.rules.far_ms()) {
            let key = far.clock(now).saturating_add(rest_ms);
            far.gather_entry(FarEntry { key, ..entry }, self.scratch.as_deref());
            return false;
        }
        own.unfar(base, index);
        let spot = Spot { base, index, offset: entry.offset };
        let slot = self.slots.insert(Slot::new(lane, spot, header.payload_bytes, asked.own, Tried::Times(0)));
        if rest_ms == 0 || on(Bug::DelayedEarly) {
            self.make_due(slot);
            return true;
        }
        self.delay(slot, run_at, now.boot_ms.saturating_add(rest_ms));
        false
    }

    /// Step 4: gathers anew what a run spoke of that was given up, as if the cursor met it now.
    fn walk_again(&mut self, lane: LaneId, log: &Log, span: (Seq, Seq), now: Now, lost: &mut Vec<Lost>) {
        let (first, last) = span;
        let start = log.segment_of(first).map_or(first.0, |segment| segment.base());
        let mut cursor = Cursor::from_base(start);
        loop {
            let Some(own) = self.lanes.get_mut(lane) else { return };
            match cursor.step(log, u64::MAX) {
                Step::Entered if cursor.base() > last.0 => return,
                Step::Entered => match own.next_far(cursor.base(), 0) {
                    Some((base, index)) if base == cursor.base() => cursor.skip_to(index),
                    _ => cursor.skip_life(),
                },
                Step::Task(header) => {
                    let (base, index) = (cursor.base(), header.index);
                    let seq = Seq(base + u64::from(index));
                    if seq > last {
                        return;
                    }
                    if seq >= first && own.is_far(base, index) {
                        let Some(source) = cursor.source() else { return };
                        let rest_ms = self.rest_of(source, &header, now);
                        self.gather_again(lane, seq, header.offset, rest_ms, now);
                    }
                }
                Step::Damaged { segment, offset, bytes, lost: range } => {
                    out(own, &segment, range, Fate::Void);
                    lost.push(Lost::Damaged { segment, offset, bytes, lost: range });
                }
                Step::Unreadable { segment, offset, lost: range, error } => {
                    out(own, &segment, range.map(|(first, _)| (first, u32::MAX)), Fate::Held);
                    lost.push(Lost::Unreadable { segment, offset, lost: range, error });
                }
                Step::End => return,
            }
        }
    }

    /// How long a task waits that is met now.
    fn rest_of(&self, source: &Source, header: &Header, now: Now) -> u64 {
        let asked = Asked::read(&self.keys, self.id, source, header).unwrap_or_default();
        let run_at = asked.run_at.unwrap_or_default();
        rest_ms(run_at, run_at.0.saturating_sub(header.time.0), now)
    }

    fn gather_again(&mut self, lane: LaneId, seq: Seq, offset: u32, rest_ms: u64, now: Now) {
        let scratch = self.scratch.as_deref();
        if let Some(far) = self.lanes.get_mut(lane).and_then(|own| own.far.as_mut()) {
            far.gather(seq, offset, rest_ms, now, scratch);
        }
    }
}

/// Takes far tasks of a life out: those of a range, or all.
fn out(own: &mut GroupLane, segment: &Segment, range: Option<(u32, u32)>, fate: Fate) {
    match (range, fate) {
        (Some((first, last)), _) => own.take_far_out(segment.base(), first, last, fate),
        // Nothing that is a task was among what is damaged.
        (None, Fate::Void) => {}
        (None, Fate::Held) => own.take_far_out(segment.base(), 0, u32::MAX, fate),
    }
}
