//! Leases of tasks whose command runs: extended for as long as it takes.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanelog::{Queue, Receipt, TaskId};

/// The leases that are kept.
#[derive(Default)]
pub struct Leases {
    kept: Mutex<Kept>,
    over: Condvar,
}

#[derive(Default)]
struct Kept {
    leases: BTreeMap<TaskId, Receipt>,
    over: bool,
}

/// Keeps one lease until it is dropped.
pub struct Hold<'a> {
    leases: &'a Leases,
    task: TaskId,
}

impl Leases {
    /// Keeps a lease from here on.
    pub fn hold(&self, receipt: Receipt, task: TaskId) -> Hold<'_> {
        self.kept().leases.insert(task, receipt);
        Hold { leases: self, task }
    }

    /// Extends what is held, three times in each lease, until [`Leases::end`].
    pub fn keep(&self, queue: &Queue, lease: Duration) {
        let mut kept = self.kept();
        while !kept.over {
            kept = self.over.wait_timeout(kept, lease / 3).unwrap_or_else(PoisonError::into_inner).0;
            for receipt in kept.leases.values() {
                // One that is lost is found lost when it is settled.
                let _lost = queue.extend(receipt, lease);
            }
        }
    }

    /// Ends [`Leases::keep`].
    pub fn end(&self) {
        self.kept().over = true;
        self.over.notify_all();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.leases.kept().leases.remove(&self.task);
    }
}
