//! Locks whose order ThreadSanitizer sees (`--cfg tsan`, see `.ci/tsan`). The standard library's slow paths are compiled
//! without it, so whoever had to wait for a lock would seem to have taken it in no order; a word of our own beside the
//! lock tells of it. The lock itself is the standard library's.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LockResult, TryLockError, TryLockResult};

#[derive(Debug)]
pub(super) struct Mutex<T>(std::sync::Mutex<T>, AtomicU32);

#[derive(Debug)]
pub(super) struct RwLock<T>(std::sync::RwLock<T>, AtomicU32);

/// A guard. Fields are dropped in their order, so the word is written while the lock is still held.
pub(crate) struct Seen<'a, G>(#[expect(dead_code, reason = "it is there to be dropped")] Wrote<'a>, G);
struct Wrote<'a>(&'a AtomicU32);

pub(crate) type MutexGuard<'a, T> = Seen<'a, std::sync::MutexGuard<'a, T>>;
pub(crate) type RwLockReadGuard<'a, T> = Seen<'a, std::sync::RwLockReadGuard<'a, T>>;
pub(crate) type RwLockWriteGuard<'a, T> = Seen<'a, std::sync::RwLockWriteGuard<'a, T>>;

/// A cell that is set once; read only by whoever sees the word that was stored behind it.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    cell: std::sync::OnceLock<T>,
    is_set: AtomicU32,
    setting: Mutex<()>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock { cell: std::sync::OnceLock::new(), is_set: AtomicU32::new(0), setting: Mutex::new(()) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: pairs with the release in `set` and `get_or_init`.
        (self.is_set.load(Ordering::Acquire) == 1).then(|| self.cell.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _one_at_a_time = self.setting.lock();
        let outcome = self.cell.set(value);
        self.is_set.store(1, Ordering::Release);
        outcome
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let _one_at_a_time = self.setting.lock();
        let value = self.cell.get_or_init(make);
        self.is_set.store(1, Ordering::Release);
        value
    }
}

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value), AtomicU32::new(0))
    }

    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(taken(&self.1, self.0.lock()))
    }

    pub(super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(guard)) => Ok(taken(&self.1, Err(guard))),
            Ok(guard) => Ok(taken(&self.1, Ok(guard))),
        }
    }
}

impl<T> RwLock<T> {
    pub(super) fn new(value: T) -> Self {
        RwLock(std::sync::RwLock::new(value), AtomicU32::new(0))
    }

    pub(super) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        Ok(taken(&self.1, self.0.read()))
    }

    pub(super) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        Ok(taken(&self.1, self.0.write()))
    }
}

fn taken<G>(word: &AtomicU32, guard: LockResult<G>) -> Seen<'_, G> {
    // Acquire: pairs with the release of whoever held the lock before.
    word.load(Ordering::Acquire);
    Seen(Wrote(word), guard.unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Drop for Wrote<'_> {
    fn drop(&mut self) {
        // A read-modify-write, so that of several readers none hides another.
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl<G: Deref> Deref for Seen<'_, G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.1
    }
}

impl<G: DerefMut> DerefMut for Seen<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.1
    }
}
