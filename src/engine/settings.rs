//! The queue's options once they are checked: only valid values exist here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::delivery::far::FarRules;
use crate::delivery::scheduler::WEIGHT_MAX;
use crate::delivery::{Amount, DeadBounds, Priority, Rules};
use crate::format::meta::{StoredOptions, option};
use crate::format::record::HEADER_BYTES;
pub(crate) use crate::format::segment::SEGMENT_BYTES_MAX;
use crate::format::segment::{PRELUDE_BYTES, record_limit};
use crate::types::{LaneId, millis};

/// The smallest segment a queue can have.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// A lane's first segment; the next ones double up to the set size.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// The journal's first segment.
const FIRST_JOURNAL_BYTES: u64 = 256 << 10;
/// The journal's largest segment: it is folded into a checkpoint long before more is needed.
const JOURNAL_SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// How long a dedup id counts and how many may, unless told.
const DEDUP_WINDOW_MS: u64 = 5 * 60 * 1000;
const DEDUP_IDS_MAX: u64 = 1_000_000;

/// At most one byte is moved for each that is appended or acked, unless told.
const EVACUATION_PERCENT: u32 = 100;

/// What the running engine goes by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub lanes: usize,
    pub segment_bytes: u64,
    pub task_bytes_max: u64,
    pub lease_ms: u64,
    pub rules: Rules,
    /// The most tasks on loan at once in all groups together; 0 is without limit.
    pub queue_in_flight_max: u64,
    pub priority: Priority,
    pub limits: Limits,
    /// A key's tasks go to the worker that its bucket belongs to.
    pub sticky: bool,
    /// How long a dedup id counts, and how many may.
    pub dedup_window_ms: u64,
    pub dedup_ids_max: u64,
    /// A checkpoint is due when the journal grew by this much since the last.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due when something changed and the last is this old.
    pub checkpoint_interval_ms: u64,
    /// `Process` data is synced at the latest this long after it was written.
    pub sync_interval_ms: u64,
    /// Segments that wait for a checkpoint before they can be reclaimed, until one is due.
    pub reclaim_waiting_max: usize,
    /// Bytes of live tasks that may be moved out of sparse segments for each 100 that are appended or acked.
    pub evacuation_percent: u32,
    /// Commits end at a physical block, so that no later one writes over durable bytes.
    pub pad_commits: bool,
    /// Bytes of lanes that may wait for their sync where a further segment is asked for.
    pub unsynced_max: u64,
}

fn in_flight_of(stored: &StoredOptions, lane: u8) -> Option<(LaneId, u64)> {
    let max = stored.further(option::LANE_IN_FLIGHT_MAX + u16::from(lane)).filter(|max| *max > 0)?;
    Some((LaneId(lane), max))
}

/// A recovery scans what the lanes hold behind the checkpoint, and that is faster than replaying the journal.
const LANE_BYTES_PER_JOURNAL_BYTE: u64 = 2;

impl Settings {
    /// Bytes of lanes after which a checkpoint is due, or a sync: a recovery reads them again, and writes them again.
    pub(crate) fn recovered_lane_bytes(&self) -> u64 {
        self.checkpoint_bytes.saturating_mul(LANE_BYTES_PER_JOURNAL_BYTE)
    }

    pub(crate) fn from_stored(stored: &StoredOptions) -> Self {
        Settings {
            lanes: usize::from(stored.lanes),
            segment_bytes: stored.segment_bytes,
            task_bytes_max: stored.task_bytes_max.min(room(stored.segment_bytes)),
            lease_ms: stored.lease_ms,
            rules: Rules {
                max_attempts: stored.max_attempts,
                backoff: stored.backoff,
                expired_are_dead: stored.further(option::EXPIRED_ARE_DEAD) == Some(1),
                dead: DeadBounds {
                    tasks: stored.further(option::DEAD_TASKS_MAX).unwrap_or(0),
                    bytes: stored.further(option::DEAD_BYTES_MAX).unwrap_or(0),
                    age_ms: stored.further(option::DEAD_AGE_MAX_MS).unwrap_or(0),
                },
                in_flight_max: stored.further(option::IN_FLIGHT_MAX).unwrap_or(0),
                lanes_in_flight_max: (0..=u8::MAX).filter_map(|lane| in_flight_of(stored, lane)).collect(),
                far: FarRules::USUAL,
            },
            queue_in_flight_max: stored.further(option::QUEUE_IN_FLIGHT_MAX).unwrap_or(0),
            priority: stored_priority(stored),
            limits: Limits::of_stored(stored),
            sticky: stored.further(option::STICKY) == Some(1),
            dedup_window_ms: stored.further(option::DEDUP_WINDOW_MS).unwrap_or(DEDUP_WINDOW_MS),
            dedup_ids_max: stored.further(option::DEDUP_IDS_MAX).unwrap_or(DEDUP_IDS_MAX),
            checkpoint_bytes: stored.checkpoint_bytes,
            checkpoint_interval_ms: stored.checkpoint_interval_ms,
            sync_interval_ms: stored.sync_interval_ms,
            reclaim_waiting_max: 4,
            evacuation_percent: stored
                .further(option::EVACUATION_PERCENT)
                .map_or(EVACUATION_PERCENT, |percent| u32::try_from(percent).unwrap_or(u32::MAX)),
            pad_commits: false,
            unsynced_max: u64::MAX,
        }
    }

    /// Size of the segment that follows one of `newest` bytes in a lane.
    pub(crate) fn lane_segment_bytes(&self, newest: Option<u64>) -> u64 {
        grow(newest, FIRST_SEGMENT_BYTES, self.segment_bytes)
    }

    /// Size of the segment that follows one of `newest` bytes in the journal.
    pub(crate) fn journal_segment_bytes(&self, newest: Option<u64>) -> u64 {
        grow(newest, FIRST_JOURNAL_BYTES, self.segment_bytes.min(JOURNAL_SEGMENT_BYTES_MAX))
    }

    /// The most bytes of journal entries that one record carries: a small part of any journal segment.
    pub(crate) fn entry_bytes_max(&self) -> usize {
        let first = room(self.journal_segment_bytes(None));
        usize::try_from(first / 3).unwrap_or(usize::MAX).min(32 << 10)
    }

    /// The smallest segment size of this queue in which one extent of `bytes` fits.
    pub(crate) fn size_for(&self, bytes: u32) -> Option<u64> {
        let mut size = FIRST_SEGMENT_BYTES.min(self.segment_bytes);
        while room(size) < u64::from(bytes) {
            if size >= self.segment_bytes {
                return None;
            }
            size = (size * 2).min(self.segment_bytes);
        }
        Some(size)
    }
}

/// How much may wait: in the queue and in each lane.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    queue: Amount,
    lanes: Vec<Amount>,
}

impl Limits {
    fn of_stored(stored: &StoredOptions) -> Self {
        let max = |tag: u16| stored.further(tag).filter(|max| *max > 0).unwrap_or(u64::MAX);
        let amount = |tasks: u16, bytes: u16| Amount { tasks: max(tasks), bytes: max(bytes) };
        let lane = |lane: u16| amount(option::LANE_TASKS_MAX + lane, option::LANE_BYTES_MAX + lane);
        Limits {
            queue: amount(option::QUEUE_TASKS_MAX, option::QUEUE_BYTES_MAX),
            lanes: (0..stored.lanes.min(256)).map(lane).collect(),
        }
    }

    /// True if anything is bounded at all.
    pub(crate) fn is_set(&self) -> bool {
        let none = Amount { tasks: u64::MAX, bytes: u64::MAX };
        self.queue != none || self.lanes.iter().any(|lane| *lane != none)
    }

    /// The limits of a lane, or of the queue.
    pub(crate) fn of(&self, lane: Option<LaneId>) -> Amount {
        match lane {
            Some(lane) => self.lanes.get(lane.index()).copied().unwrap_or(self.queue),
            None => self.queue,
        }
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

const BY_WEIGHTS: u64 = 1;
const BY_AGE: u64 = 2;

/// The choice of lanes as it is stored; what another version or a hostile file says more is strict.
fn stored_priority(stored: &StoredOptions) -> Priority {
    match stored.further(option::PRIORITY) {
        Some(BY_WEIGHTS) => {
            let weight = |lane| stored.further(option::WEIGHT + lane).unwrap_or(1).clamp(1, u64::from(WEIGHT_MAX));
            let weights = (0..stored.lanes).map(weight).filter_map(|weight| u16::try_from(weight).ok());
            Priority::Weighted(weights.collect())
        }
        Some(BY_AGE) => {
            let wait_ms = stored.further(option::LONGEST_WAIT_MS).unwrap_or(u64::MAX);
            Priority::Aging { longest_wait: Duration::from_millis(wait_ms) }
        }
        _ => Priority::Strict,
    }
}

/// Writes the choice of lanes into options that are to be stored, instead of what they said of it.
pub(crate) fn store_priority(priority: &Priority, further: &mut BTreeMap<u16, u64>) {
    let of_priority = |tag: u16| {
        [option::PRIORITY, option::LONGEST_WAIT_MS].contains(&tag)
            || (option::WEIGHT..=option::WEIGHT + u16::from(u8::MAX)).contains(&tag)
    };
    further.retain(|tag, _| !of_priority(*tag));
    match priority {
        Priority::Strict => {}
        Priority::Weighted(weights) => {
            further.insert(option::PRIORITY, BY_WEIGHTS);
            further.extend((option::WEIGHT..).zip(weights.iter().map(|weight| u64::from(*weight))));
        }
        Priority::Aging { longest_wait } => {
            further.insert(option::PRIORITY, BY_AGE);
            let wait_ms = millis(*longest_wait);
            further.insert(option::LONGEST_WAIT_MS, wait_ms);
        }
    }
}

/// A recovered segment may be cut to any length, so the next size is the next step above it.
fn grow(newest: Option<u64>, first: u64, max: u64) -> u64 {
    let mut size = first;
    while newest.is_some_and(|newest| size <= newest) && size < max {
        size *= 2;
    }
    size.min(max)
}

/// Bytes that extents can take in a segment of `size` bytes.
pub(crate) fn room(size: u64) -> u64 {
    u64::from(record_limit(size)).saturating_sub(PRELUDE_BYTES as u64)
}

/// The smallest segment holds a mark and the largest journal entry with room to spare.
const _: () = assert!(SEGMENT_BYTES_MIN >= (PRELUDE_BYTES + 64 * HEADER_BYTES) as u64, "4 KiB segments work");
