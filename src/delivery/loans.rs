//! What all groups of a queue have on loan together, where that is bounded.
//!
//! The groups share one number. A task counts from just before it is lent until whatever ends its lease, so there are never
//! more on loan than the bound, and nothing is taken ahead: whoever finds no room may sleep until a lease ends. Each group
//! notes that one of its own did, for whoever wakes those who wait. Where no bound is set there is no number.

use std::sync::Arc;

use crate::sabotage::{Bug, on};
use crate::sync::atomic::{AtomicU64, Ordering};

/// How many tasks are on loan in the whole queue, and how many may be. Relaxed: nobody reads anything by this number but
/// the number; who sleeps for want of room enrolled before it looked ([`crate::sync::WaitWord`]).
pub(crate) struct Loans {
    max: u64,
    out: AtomicU64,
}

/// What one group has to do with it.
#[derive(Default)]
pub(super) struct Share {
    loans: Option<Arc<Loans>>,
    /// One of its leases ended since the last look.
    made_room: bool,
}

impl Loans {
    /// None is on loan, and `max` may be; 0 is without limit.
    pub(crate) fn up_to(max: u64) -> Option<Arc<Loans>> {
        (max > 0).then(|| Arc::new(Loans { max, out: AtomicU64::new(0) }))
    }

    fn left(&self) -> u64 {
        self.max.saturating_sub(self.out.load(Ordering::Relaxed))
    }

    fn take(&self) -> bool {
        let fits = |out: u64| (out < self.max).then_some(out + 1);
        self.out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

impl Share {
    pub(super) fn of(loans: Option<Arc<Loans>>) -> Self {
        Share { loans: loans.filter(|_| !on(Bug::LoansUncounted)), made_room: false }
    }

    /// How many more tasks may be on loan in the queue.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.loans.as_ref().map_or(usize::MAX, |loans| usize::try_from(loans.left()).unwrap_or(usize::MAX))
    }

    /// Counts a task that is about to be lent. False if no more may be.
    #[inline]
    pub(super) fn take(&self) -> bool {
        self.loans.as_ref().is_none_or(|loans| loans.take())
    }

    /// A lease ended.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if let Some(loans) = &self.loans {
            let before = loans.out.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "only what was lent comes back");
            self.made_room = true;
        }
    }

    /// True if a lease ended since the last call, so that any group may have room.
    pub(super) fn take_made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }
}
