//! Positions of a queue that is kept as sorted keys: given out to producers, and visible to consumers in order.
//!
//! A consumer that walks the keys upwards must not pass a key that is given out and not yet written: it would never come
//! back to it. So what is visible ends before the lowest position that a producer still writes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The positions of one lane.
#[derive(Default)]
pub struct Tickets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Behind the last position given out.
    next: u64,
    /// The first position of each range that is being written.
    writing: BTreeSet<u64>,
    /// Behind the last position that a consumer took.
    taken: u64,
}

impl Tickets {
    /// Goes on behind what an earlier life of the store left: positions `first..next` are there and were not taken.
    pub fn resumed(first: u64, next: u64) -> Self {
        Tickets { state: Mutex::new(State { next, writing: BTreeSet::new(), taken: first }) }
    }

    /// Positions for a producer to write at. They must be `written` afterwards.
    pub fn begin(&self, count: u64) -> Range<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.next;
        state.next += count;
        state.writing.insert(first);
        first..state.next
    }

    /// These positions are written, and durable.
    pub fn written(&self, range: &Range<u64>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).writing.remove(&range.start);
    }

    /// The next positions for a consumer, at most so many; empty if nothing waits.
    pub fn take(&self, most: u64) -> Range<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let visible = state.writing.first().copied().unwrap_or(state.next);
        let first = state.taken;
        state.taken = visible.min(first + most).max(first);
        first..state.taken
    }
}

#[cfg(test)]
mod tests {
    use super::Tickets;

    #[test]
    fn consumer_never_passes_what_is_still_written() {
        let tickets = Tickets::default();
        let (first, second) = (tickets.begin(2), tickets.begin(3));
        tickets.written(&second);
        assert_eq!(tickets.take(9), 0..0);
        tickets.written(&first);
        assert_eq!((tickets.take(4), tickets.take(4), tickets.take(4)), (0..4, 4..5, 5..5));
    }
}
