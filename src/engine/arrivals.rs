//! Waking those who wait for tasks: one for what came, and each wakes the next.
//!
//! With many consumers asleep, to wake all of them for each task is most of what the task costs, and all but one find
//! nothing. So what comes wakes *one*, and whoever took something and sees that more is there wakes the next, before it goes
//! to work. That is enough: a task that may be taken is seen by its waking consumer, or by whoever takes the one before
//! it, for between a task that may be taken and a consumer that sees it stands at most somebody who stands still between
//! claim and publish, and the one who ends that wakes one too.
//!
//! It is enough among equals alone. *Plain* sleepers take whatever comes, from any lane. The others (some lanes only, or a
//! worker's keys only) might be woken in vain while one who could take the task sleeps on; so they sleep on a word of their
//! own, and all of them wake each time. Where there are several groups, each wants every task, and everybody wakes.
//! And what makes many tasks deliverable at once, or concerns other things than tasks, wakes everybody.

use crate::sabotage::{Bug, on};
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Enrolled, WaitWord};

#[cfg(test)]
#[cfg(loom)]
mod models;

/// Those who wait for tasks.
#[derive(Default, Debug)]
pub(crate) struct Arrivals {
    plain: WaitWord,
    choosy: WaitWord,
    /// There is more than one group.
    several_groups: AtomicBool,
}

impl Arrivals {
    /// Counts the caller as one who waits; `plain` if it takes whatever comes.
    pub(crate) fn enrol(&self, plain: bool) -> Enrolled<'_> {
        if plain { self.plain.enrol() } else { self.choosy.enrol() }
    }

    /// Something came: a plain one wakes, and all who are not. Without sleepers this costs a fence and two loads.
    #[inline]
    pub(crate) fn wake_one(&self) {
        // Pairs with the read-modify-write in `WaitWord::enrol`, for both words.
        fence(Ordering::SeqCst);
        if self.plain.waiters() > 0 {
            if self.several_groups.load(Ordering::SeqCst) { self.plain.wake_all() } else { self.plain.wake(1) }
        }
        if self.choosy.waiters() > 0 {
            self.choosy.wake_all();
        }
    }

    /// Somebody took something, or leaves without: if there is more for a plain one, the next wakes.
    #[inline]
    pub(crate) fn pass_on(&self, is_more: impl FnOnce() -> bool) {
        if self.plain.waiters() > 0 && !on(Bug::ConsumerNotWoken) && is_more() {
            self.plain.wake(1);
        }
    }

    pub(crate) fn wake_all(&self) {
        self.plain.wake_all();
        self.choosy.wake_all();
    }

    /// How many groups there are from now on. Before one that is new can be waited for, and after one that is gone
    /// can't any more.
    pub(crate) fn set_groups(&self, groups: usize) {
        self.several_groups.store(groups > 1, Ordering::SeqCst);
    }
}
