//! The one place that names lock and wait primitives, so that a model checker's can stand in for them.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// A mutex without lock poisoning: what a panic must not leave half done is guarded where it is done.
#[derive(Default, Debug)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader-writer lock without lock poisoning.
#[derive(Default, Debug)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(std::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that threads wait on until it changes: one system call wakes any number of them.
///
/// The order that makes no wake-up get lost: a waiter *enrols* (which counts it), takes the number, checks
/// its condition, and sleeps only while the number is still the same. A notifier changes the condition, and then
/// looks whether anybody is enrolled. One of the two sees the other (both sides are sequentially consistent).
#[derive(Default, Debug)]
pub(crate) struct WaitWord {
    word: AtomicU32,
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
        Enrolled { of: self, ticket: self.word.load(Ordering::SeqCst) }
    }

    /// Wakes up to `count` waiters, if there are any; without one it costs a fence and a load.
    pub(crate) fn wake(&self, count: u32) {
        // Pairs with the read-modify-write in `enrol`: what was stored before this is seen by whoever enrols
        // after, and whoever enrolled before is seen here.
        fence(Ordering::SeqCst);
        if self.enrolled.load(Ordering::SeqCst) > 0 {
            self.word.fetch_add(1, Ordering::SeqCst);
            let _woken = rustix::thread::futex::wake(&self.word, rustix::thread::futex::Flags::PRIVATE, count);
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
        use rustix::thread::futex;
        let limit = limit.map(|limit| futex::Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // Interrupted, late or refused: the caller checks its condition again in any case.
        let _woken = futex::wait(&self.of.word, futex::Flags::PRIVATE, self.ticket, limit.as_ref());
    }
}

impl Drop for Enrolled<'_> {
    fn drop(&mut self) {
        self.of.enrolled.fetch_sub(1, Ordering::SeqCst);
    }
}
