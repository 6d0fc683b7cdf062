//! What a group keeps of what it has left to do.

use std::time::Duration;

use super::millis;

/// How much a group may have left to do, and what becomes of the oldest tasks beyond that: so that one that nobody reads
/// does not fill the disk unseen. Without a bound, which is the default, nothing is ever beyond.
///
/// ```
/// use lanelog::{Beyond, Retention};
/// use std::time::Duration;
///
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let retention = Retention::new().tasks(1_000_000).age(week).beyond(Beyond::Drop);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// 0 is without limit, here and below.
    pub(crate) tasks: u64,
    pub(crate) bytes: u64,
    pub(crate) age_ms: u64,
    pub(crate) beyond: Beyond,
}

/// What becomes of the oldest tasks of a group beyond its [`Retention`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Beyond {
    /// Nothing: that there is more is told by the stats.
    #[default]
    Report,
    /// They are settled for the group, and counted.
    Drop,
    /// They become dead letters of the group. Those keep their segments until they are dropped.
    DeadLetter,
}

impl Retention {
    /// Without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most tasks that the group has left to do, over all lanes: waiting, delayed and on loan, dead letters excepted.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks = tasks;
        self
    }

    /// The most bytes that these take on disk. Of a segment of which a part is settled that part of its bytes counts, task
    /// for task alike.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long ago a task may have been enqueued that the group has left to do, at least 1 ms.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age_ms = millis(age).max(1);
        self
    }

    /// What becomes of the oldest tasks beyond the bounds.
    #[must_use]
    pub fn beyond(mut self, beyond: Beyond) -> Self {
        self.beyond = beyond;
        self
    }

    /// True if any bound is set.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.tasks > 0 || self.bytes > 0 || self.age_ms > 0
    }

    /// The bounds as they were given: tasks, bytes, and the age in milliseconds; 0 where there is none.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64, u64) {
        (self.tasks, self.bytes, self.age_ms)
    }

    /// What becomes of the oldest tasks beyond the bounds.
    #[must_use]
    pub fn policy(&self) -> Beyond {
        self.beyond
    }

    /// True if it may ever let go of a task.
    pub(crate) fn lets_go(&self) -> bool {
        self.is_bounded() && self.beyond != Beyond::Report
    }
}

impl Beyond {
    pub(crate) fn code(self) -> u8 {
        match self {
            Beyond::Report => 0,
            Beyond::Drop => 1,
            Beyond::DeadLetter => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Beyond::Report),
            1 => Some(Beyond::Drop),
            2 => Some(Beyond::DeadLetter),
            _ => None,
        }
    }
}
