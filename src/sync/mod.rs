//! The one place that names atomics, lock and wait primitives, so that others can stand in for them:
//!
//! - with `--cfg loom` the library's own tests run over loom's ([`model`]): `models.rs` files beside the code state what
//!   must hold, and loom tries every order of steps that its memory model allows;
//! - with `--cfg tsan` locks tell ThreadSanitizer of their order ([`seen`]);
//! - with the feature `jitter` threads stand still for a moment before they take a lock ([`jitter`]).

mod jitter;
mod line;
#[cfg(all(test, loom))]
pub(crate) mod model;
#[cfg(tsan)]
mod seen;
mod wait;

pub(crate) use jitter::linger;
pub(crate) use line::Line;
pub(crate) use primitives::MutexGuard;
pub(crate) use primitives::OnceLock;
use primitives::{PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError};
pub(crate) use wait::{Enrolled, WaitWord};

/// Atomics, the standard library's or loom's.
pub(crate) mod atomic {
    #[cfg(all(test, loom))]
    pub(crate) use loom::sync::atomic::*;
    #[cfg(not(all(test, loom)))]
    pub(crate) use std::sync::atomic::*;
}

/// Locks, likewise.
mod primitives {
    #[cfg(all(test, loom))]
    pub(crate) use loom::sync::MutexGuard;
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
    #[cfg(not(any(all(test, loom), tsan)))]
    pub(crate) use std::sync::MutexGuard;
    #[cfg(not(tsan))]
    pub(crate) use std::sync::OnceLock;
    #[cfg(not(any(all(test, loom), tsan)))]
    pub(super) use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(super) use std::sync::{PoisonError, TryLockError};

    #[cfg(tsan)]
    pub(crate) use super::seen::MutexGuard;
    #[cfg(tsan)]
    pub(crate) use super::seen::OnceLock;
    #[cfg(tsan)]
    pub(super) use super::seen::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
}

/// Lets another thread run, which may be the one that is waited for.
pub(crate) fn yield_now() {
    #[cfg(all(test, loom))]
    loom::thread::yield_now();
    #[cfg(not(all(test, loom)))]
    std::thread::yield_now();
}

/// A mutex without lock poisoning: what a panic must not leave half done is guarded where it is done.
#[derive(Debug)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(primitives::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        linger();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nobody has it now.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

/// A reader-writer lock without lock poisoning.
#[derive(Debug)]
pub(crate) struct RwLock<T>(primitives::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(primitives::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        linger();
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        linger();
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}
