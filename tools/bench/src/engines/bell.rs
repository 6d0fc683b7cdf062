//! How a consumer of an engine without waiting of its own learns that something came.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rung by producers after each send; costs an atomic while nobody waits.
#[derive(Default)]
pub struct Bell {
    waiting: AtomicU64,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// Wakes whoever waits. To be called after what they look for is there.
    pub fn ring(&self) {
        // SeqCst: partner of the one in `wait_until`; either this sees the waiter, or the waiter what came.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.rung.notify_all();
        }
    }

    /// Asks until it gets something, or the time is over.
    ///
    /// # Errors
    /// What `ask` gave.
    pub fn wait_until<T>(
        &self,
        wait: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        if let Some(found) = ask()? {
            return Ok(Some(found));
        }
        let end = Instant::now() + wait;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            match ask() {
                Ok(None) => {}
                other => break other,
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Ok(None);
            }
            drop(self.rung.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner));
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found
    }
}
