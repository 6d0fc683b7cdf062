//! Waiting for another thread: a word that threads sleep on until it changes.

use std::time::Duration;

use super::atomic::{AtomicU32, Ordering, fence};
use crate::sabotage::{Bug, on};

#[cfg(not(all(test, loom)))]
use kernel::Futex;

#[cfg(all(test, loom))]
use super::model::Futex;

/// A number that threads wait on until it changes: one system call wakes any number of them.
///
/// The order that makes no wake-up get lost: a waiter *enrols* (which counts it), takes the number, checks
/// its condition, and sleeps only while the number is still the same. A notifier changes the condition, and then
/// looks whether anybody is enrolled. One of the two sees the other (both sides are sequentially consistent).
#[derive(Default, Debug)]
pub(crate) struct WaitWord {
    word: Futex,
    enrolled: AtomicU32,
}

/// A waiter that is counted. Its condition is checked while this is held.
pub(crate) struct Enrolled<'a> {
    of: &'a WaitWord,
    ticket: u32,
}

impl WaitWord {
    /// Counts the caller as a waiter and takes the number.
    pub(crate) fn enrol(&self) -> Enrolled<'_> {
        self.enrolled.fetch_add(1, Ordering::SeqCst);
        // Pairs with the fence in `wake`: the condition that is checked from here on is read after the count is seen.
        fence(Ordering::SeqCst);
        Enrolled { of: self, ticket: self.word.number() }
    }

    /// Wakes up to `count` waiters, if there are any; without one it costs a fence and a load.
    pub(crate) fn wake(&self, count: u32) {
        // Pairs with the read-modify-write in `enrol`: what was stored before this is seen by whoever enrols
        // after, and whoever enrolled before is seen here.
        if !on(Bug::WakeWithoutFence) {
            fence(Ordering::SeqCst);
        }
        if self.enrolled.load(Ordering::SeqCst) > 0 {
            self.word.change_and_wake(count);
        }
    }

    /// How many are enrolled.
    pub(crate) fn waiters(&self) -> u32 {
        self.enrolled.load(Ordering::SeqCst)
    }

    /// Wakes every waiter.
    pub(crate) fn wake_all(&self) {
        self.wake(i32::MAX.unsigned_abs());
    }
}

impl Enrolled<'_> {
    /// Sleeps while nobody woke since the enrolment, at most `limit`. May return early for no reason.
    pub(crate) fn sleep(&self, limit: Option<Duration>) {
        super::linger();
        self.of.word.sleep_while(self.ticket, limit);
    }
}

impl Drop for Enrolled<'_> {
    fn drop(&mut self) {
        self.of.enrolled.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The kernel's futex.
#[cfg(not(all(test, loom)))]
mod kernel {
    use std::time::Duration;

    use rustix::thread::futex::{self, Flags, Timespec};

    use crate::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default, Debug)]
    pub(super) struct Futex(AtomicU32);

    impl Futex {
        pub(super) fn number(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }

        /// Changes the number and wakes up to `count` threads that sleep on the one before.
        pub(super) fn change_and_wake(&self, count: u32) {
            self.0.fetch_add(1, Ordering::SeqCst);
            let _woken = futex::wake(&self.0, Flags::PRIVATE, count);
        }

        /// Sleeps while the number is `ticket`.
        pub(super) fn sleep_while(&self, ticket: u32, limit: Option<Duration>) {
            let limit = limit.map(|limit| Timespec {
                tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(limit.subsec_nanos()),
            });
            // Interrupted, late or refused: the caller checks its condition again in any case.
            let _woken = futex::wait(&self.0, Flags::PRIVATE, ticket, limit.as_ref());
        }
    }
}
