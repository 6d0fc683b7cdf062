//! Ids and positions: what must not be mixed has a type of its own.
//!
//! Nothing here knows bytes on disk, clocks or locks.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

mod backoff;
mod number;
mod retention;

pub(crate) use backoff::Curve;
pub use backoff::{Backoff, parse_span};
pub(crate) use number::{millis, mix, nanos};
pub use retention::{Beyond, Retention};

/// The most lanes a queue can have.
pub const LANES_MAX: usize = 256;

/// A queue's random identity, fixed when its directory is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub(crate) u64);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueId({self})")
    }
}

/// A priority class with its own segment set; lane 0 is the most urgent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct LaneId(pub u8);

impl LaneId {
    /// The lane's index, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task's place in the order of its lane. Sequences of a lane increase; they are not dense.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Its record index in the life that begins at `base`: 0 if it lies before, and the highest there is if it lies too far
    /// behind to have one.
    pub(crate) fn index_in(self, base: u64) -> u32 {
        u32::try_from(self.0.saturating_sub(base)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task's name: queue, lane, sequence. Opaque to callers; it never means another task.
///
/// The text form is `QQQQQQQQQQQQQQQQ-LL-SSSSSSSSSSSSSSSS` in hexadecimal, 36 characters, and is stable:
///
/// ```
/// let id: lanelog::TaskId = "00c0ffee00c0ffee-02-0000000000000007".parse()?;
/// assert_eq!(id.to_string(), "00c0ffee00c0ffee-02-0000000000000007");
/// # Ok::<(), lanelog::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(crate) queue: QueueId,
    pub(crate) lane: LaneId,
    pub(crate) seq: Seq,
}

impl TaskId {
    /// The queue the task belongs to.
    #[must_use]
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// The lane the task was enqueued in.
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// The task's sequence in its lane.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02x}-{:016x}", self.queue, self.lane.0, self.seq.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadId { text: text.chars().take(64).collect() };
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit()));
            part.and_then(|p| u64::from_str_radix(p, 16).ok()).ok_or_else(bad)
        };
        let (queue, lane, seq) = (hex(16)?, hex(2)?, hex(16)?);
        if parts.next().is_some() {
            return Err(bad());
        }
        let lane = LaneId(u8::try_from(lane).map_err(|_| bad())?);
        Ok(TaskId { queue: QueueId(queue), lane, seq: Seq(seq) })
    }
}

/// When an operation counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Durability {
    /// Acknowledged after stable storage has it: survives power loss.
    #[default]
    Power,
    /// Acknowledged when the kernel has it: survives the death of the process; synced at the latest every
    /// sync interval.
    Process,
}

/// Which log a segment belongs to: a lane's, or the journal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LogId(pub u16);

impl LogId {
    pub(crate) const JOURNAL: LogId = LogId(0x100);

    pub(crate) fn lane(self) -> Option<LaneId> {
        u8::try_from(self.0).ok().map(LaneId)
    }
}

impl From<LaneId> for LogId {
    fn from(lane: LaneId) -> Self {
        LogId(u16::from(lane.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lane() {
            Some(lane) => write!(f, "lane {lane}"),
            None => f.write_str("journal"),
        }
    }
}

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub u64);

/// The moment a step of the engine happens at; the caller reads the clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Now {
    /// Milliseconds since boot, suspended time included (CLOCK_BOOTTIME); leases run on it.
    pub boot_ms: u64,
    /// Wall time; stored delays run on it.
    pub wall: Timestamp,
}

/// The first word of every extent of a segment, claimed and published atomically.
///
/// ```text
///  63            32 31                      3 2   0
/// +----------------+-------------------------+-----+
/// | check          | extent bytes, 8-aligned |state|
/// +----------------+-------------------------+-----+
/// ```
///
/// The region moves its readable mark over extents by this word alone; what the check covers is
/// `format::record`'s business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExtentWord(pub u64);

/// What an extent's first word says of the extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExtentState {
    /// All-zero state bits: nothing was ever claimed here.
    Empty,
    /// Claimed and being filled; after a crash, a hole of known size.
    Claimed,
    /// Final: its bytes never change again.
    Published,
    /// Final, and holds nothing.
    Padding,
    /// State bits that no writer sets.
    Unknown,
}

impl ExtentWord {
    const CLAIMED: u32 = 1;
    const PUBLISHED: u32 = 2;
    const PADDING: u32 = 3;

    /// Packs `bytes` (a multiple of 8, below 2^32), `state` and `check`.
    pub(crate) fn new(bytes: u32, state: ExtentState, check: u32) -> Self {
        ExtentWord((u64::from(check) << 32) | u64::from(Self::low_of(bytes, state)))
    }

    /// The low half alone: extent bytes and state. What checks are computed over.
    pub(crate) fn low_of(bytes: u32, state: ExtentState) -> u32 {
        debug_assert_eq!(bytes & 7, 0, "an extent is a multiple of 8 bytes");
        let state = match state {
            ExtentState::Empty | ExtentState::Unknown => 0,
            ExtentState::Claimed => Self::CLAIMED,
            ExtentState::Published => Self::PUBLISHED,
            ExtentState::Padding => Self::PADDING,
        };
        bytes | state
    }

    /// Bytes of the whole extent, this word included.
    pub(crate) fn bytes(self) -> u32 {
        self.low() & !7
    }

    pub(crate) fn state(self) -> ExtentState {
        match self.low() & 7 {
            0 => ExtentState::Empty,
            Self::CLAIMED => ExtentState::Claimed,
            Self::PUBLISHED => ExtentState::Published,
            Self::PADDING => ExtentState::Padding,
            _ => ExtentState::Unknown,
        }
    }

    /// True once the extent's bytes are final.
    pub(crate) fn is_final(self) -> bool {
        matches!(self.state(), ExtentState::Published | ExtentState::Padding)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half of the word is meant")]
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn check(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A set of lanes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneSet([u64; LANES_MAX / 64]);

impl LaneSet {
    /// No lane.
    pub const EMPTY: LaneSet = LaneSet([0; LANES_MAX / 64]);
    /// Every lane there can be.
    pub const ALL: LaneSet = LaneSet([u64::MAX; LANES_MAX / 64]);

    pub(crate) fn from_words(words: [u64; LANES_MAX / 64]) -> Self {
        LaneSet(words)
    }

    /// Puts `lane` in.
    pub fn insert(&mut self, lane: LaneId) {
        if let Some(word) = self.0.get_mut(lane.index() / 64) {
            *word |= 1 << (lane.index() % 64);
        }
    }

    /// Takes `lane` out.
    pub fn remove(&mut self, lane: LaneId) {
        if let Some(word) = self.0.get_mut(lane.index() / 64) {
            *word &= !(1 << (lane.index() % 64));
        }
    }

    /// True if `lane` is in.
    #[must_use]
    pub fn contains(&self, lane: LaneId) -> bool {
        self.0.get(lane.index() / 64).is_some_and(|word| word >> (lane.index() % 64) & 1 == 1)
    }

    /// True if no lane is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The lanes that are in both sets.
    #[must_use]
    pub fn and(&self, other: &LaneSet) -> LaneSet {
        let mut both = *self;
        for (word, mask) in both.0.iter_mut().zip(other.0) {
            *word &= mask;
        }
        both
    }

    /// The lanes that are in this set and not in the other.
    pub(crate) fn without(&self, other: &LaneSet) -> LaneSet {
        let mut left = *self;
        for (word, mask) in left.0.iter_mut().zip(other.0) {
            *word &= !mask;
        }
        left
    }

    /// The most urgent lane of the set.
    #[must_use]
    pub fn first(&self) -> Option<LaneId> {
        self.iter().next()
    }

    /// The lanes of the set, most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = LaneId> + use<> {
        let mut words = self.0;
        std::iter::from_fn(move || {
            let (at, word) = words.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
            let bit = word.trailing_zeros();
            *word &= *word - 1;
            u8::try_from(at * 64 + bit as usize).ok().map(LaneId)
        })
    }
}

impl FromIterator<LaneId> for LaneSet {
    fn from_iter<I: IntoIterator<Item = LaneId>>(lanes: I) -> Self {
        let mut set = LaneSet::EMPTY;
        for lane in lanes {
            set.insert(lane);
        }
        set
    }
}
