//! How many bytes of a segment somebody still needs. Sizes within one segment are taken to be even.

use crate::format::segment::PRELUDE_BYTES;
use crate::log::{Log, Segment};
use crate::types::LaneId;

use super::Engine;

/// Bytes of a lane's segments that are written: of tasks that some group has not settled, and the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Written {
    pub live: u64,
    pub dead: u64,
}

impl Written {
    /// Takes in a segment that holds so many tasks, of which so many live.
    pub(super) fn count(&mut self, used: u64, live: u64, held: u64) {
        let live = part(used, live, held);
        self.live += live;
        self.dead += used - live;
    }
}

impl Engine {
    pub(super) fn written(&self, lane: LaneId, log: &Log) -> Written {
        let mut all = Written::default();
        for segment in &log.segments() {
            let records =
                segment.sealed().map_or_else(|| log.next_seq().index_in(segment.base()), |sealed| sealed.records);
            let (mut settled, _) = self.settled_bits(lane, segment, records);
            if let Some(last) = settled.last_mut().filter(|_| records % 64 > 0) {
                *last &= (1 << (records % 64)) - 1;
            }
            let settled: u32 = settled.iter().map(|word| word.count_ones()).sum();
            let live = segment.readable_tasks().saturating_sub(settled);
            let used = used_bytes(log, segment).saturating_sub(PRELUDE_BYTES as u64);
            all.count(used, u64::from(live), self.tasks_held(lane, segment));
        }
        all
    }

    /// How many tasks a segment's file has: those that were left behind as others moved are in none.
    pub(super) fn tasks_held(&self, lane: LaneId, segment: &Segment) -> u64 {
        let tasks = segment.tasks();
        let left_behind = || self.to_come.lock().acks.get(&(lane, segment.base())).map_or(0, |settled| settled.count());
        u64::from(if segment.is_cold() { tasks.saturating_sub(left_behind()) } else { tasks })
    }
}

/// Bytes that are in use of a segment.
pub(super) fn used_bytes(log: &Log, segment: &Segment) -> u64 {
    let active = || log.published().saturating_sub(segment.position(0));
    segment.sealed().map_or_else(active, |sealed| u64::from(sealed.end)).min(segment.file_bytes())
}

/// So many of `of` of `bytes`.
pub(super) fn part(bytes: u64, count: u64, of: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(count.min(of)) / u128::from(of.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}
