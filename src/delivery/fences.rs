//! The numbers that leases of a group get, each once.
//!
//! A group has a range of them from the queue-wide counter of sequences, below its durable ceiling: no other group, no
//! other open and no recovery gives out a number of it. The counter only grows, and a group takes its ranges in order; so
//! of two leases of a task the later one has the greater fence.

/// How many numbers a range has.
pub(crate) const FENCES_PER_RANGE: u64 = 1 << 30;

/// What is left of a group's range.
#[derive(Default)]
pub(crate) struct Fences {
    next: u64,
    end: u64,
}

impl Fences {
    /// The range that begins at `first`.
    pub(crate) fn from(first: u64) -> Self {
        Fences { next: first, end: first.saturating_add(FENCES_PER_RANGE) }
    }

    /// The next one; there is one left.
    pub(crate) fn take(&mut self) -> u64 {
        debug_assert!(self.next < self.end, "no lease without a fence of its own");
        let fence = self.next;
        self.next += u64::from(self.next < self.end);
        fence
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.end - self.next).unwrap_or(usize::MAX)
    }

    /// True when it is time for another range, long before none is left.
    pub(crate) fn run_low(&self) -> bool {
        self.end - self.next < FENCES_PER_RANGE / 2
    }
}
