//! How much may wait.

/// How much may wait: see [`Options::lane_bound`] and [`Options::queue_bound`].
///
/// What *waits* in a lane are the accepted tasks that the group which has most of them left has not settled for good:
/// neither acked nor dead, whether they were handed out or not. With one group these are all that are not settled; with
/// several, no group ever has more than the bound allows. What waits in the queue is the sum over its lanes. Bytes are
/// those of payloads.
///
/// An enqueue that would exceed a bound waits for room as long as [`Options::append_wait`] or [`Task::wait`] says, and is
/// then refused with [`Error::OverBound`]; a batch counts as a whole. Nothing that was accepted is ever dropped to make
/// room, and settles always work. A bound below what waits already takes nothing away. After a power loss that undid acks
/// at `Process` more may wait than a bound allows.
///
/// [`Options::lane_bound`]: crate::Options::lane_bound
/// [`Options::queue_bound`]: crate::Options::queue_bound
/// [`Options::append_wait`]: crate::Options::append_wait
/// [`Task::wait`]: crate::Task::wait
/// [`Error::OverBound`]: crate::Error::OverBound
///
/// ```
/// use lanelog::{Bound, LaneId, Options};
///
/// let options = Options::new()
///     .lanes(2)
///     .queue_bound(Bound::new().bytes(1 << 30))
///     .lane_bound(LaneId(1), Bound::new().tasks(100_000));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bound {
    pub(super) tasks_max: u64,
    pub(super) bytes_max: u64,
}

impl Bound {
    /// No bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many tasks; 0 is any number.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks_max = tasks;
        self
    }

    /// At most this many payload bytes; 0 is any number.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }
}
