//! The one place that names lock and wait primitives, so that a model checker's can stand in for them.

use std::sync::atomic::{AtomicU32, Ordering};
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

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
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
#[derive(Default, Debug)]
pub(crate) struct WaitWord {
    word: AtomicU32,
    waiters: AtomicU32,
}

impl WaitWord {
    /// The current number, to be taken *before* the condition is checked.
    pub(crate) fn ticket(&self) -> u32 {
        // SeqCst: pairs with `change`; a waiter that read the old number before its check is woken.
        self.word.load(Ordering::SeqCst)
    }

    /// Sleeps while the number is still `ticket`, at most `limit`. May wake early for no reason.
    pub(crate) fn wait(&self, ticket: u32, limit: Option<Duration>) {
        use rustix::thread::futex;
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let limit = limit.map(|limit| futex::Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // An interrupted, refused or late wait is a wake like any other: the caller checks its condition again.
        let _woken = futex::wait(&self.word, futex::Flags::PRIVATE, ticket, limit.as_ref());
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Changes the number and wakes up to `count` sleepers. Free of system calls when nobody sleeps.
    pub(crate) fn change(&self, count: u32) {
        // SeqCst on both: either the sleeper's count is seen here, or the sleeper sees the new number.
        self.word.fetch_add(1, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _woken = rustix::thread::futex::wake(&self.word, rustix::thread::futex::Flags::PRIVATE, count);
        }
    }

    /// Changes the number and wakes everybody.
    pub(crate) fn change_all(&self) {
        self.change(i32::MAX.unsigned_abs());
    }

    /// True if somebody sleeps or is about to.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiters.load(Ordering::SeqCst) > 0
    }
}
