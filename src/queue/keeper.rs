//! The third thread, which is there once somebody asks for it: it keeps leases alive while handlers run.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::workers::WorkerId;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::{Error, Result};
use crate::storage::disk::clock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, WaitWord};
use crate::types::Durability;

use super::core::Core;
use super::threads;

/// Keeps a lease alive for as long as it is held: extends it, and is a heartbeat of the worker that has it.
///
/// It ends with the guard. A task's [`time_limit`](crate::Task::time_limit) is a limit to this too.
#[must_use = "the lease is kept for as long as the guard is held"]
pub struct KeepAlive {
    kept: Arc<Kept>,
    core: Arc<Core>,
}

impl KeepAlive {
    /// True once the lease is known to be lost: the task is or will be somebody else's. Stop the work, and drop its result or
    /// let the [fence](crate::Delivery::fence) refuse it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.kept.lost.load(Ordering::Relaxed)
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.core.keeper.kept.lock().retain(|other| !Arc::ptr_eq(other, &self.kept));
    }
}

/// What the thread works on.
#[derive(Default)]
pub(super) struct Keeper {
    kept: Mutex<Vec<Arc<Kept>>>,
    /// Woken when there is something more to keep.
    pub word: WaitWord,
    runs: AtomicBool,
}

/// One lease that is kept.
pub(super) struct Kept {
    pub cell: Arc<GroupCell>,
    pub receipt: Receipt,
    pub lease_ms: u64,
    /// Time between two extensions.
    pub every_ms: u64,
    pub worker: Option<WorkerId>,
    next_ms: AtomicU64,
    lost: AtomicBool,
}

impl Kept {
    pub(super) fn new(
        cell: Arc<GroupCell>,
        receipt: Receipt,
        lease_ms: u64,
        every_ms: u64,
        worker: Option<WorkerId>,
    ) -> Self {
        let every_ms = every_ms.min(lease_ms / 3).max(1);
        let (next_ms, lost) = (AtomicU64::new(0), AtomicBool::new(false));
        Kept { cell, receipt, lease_ms, every_ms, worker, next_ms, lost }
    }
}

/// Keeps a lease from now on; the first extension is made here.
pub(super) fn keep(core: &Arc<Core>, kept: Kept) -> Result<KeepAlive> {
    core.check(Durability::Process)?;
    let kept = Arc::new(kept);
    extend(core, &kept)?;
    kept.next_ms.store(clock::now().boot_ms.saturating_add(kept.every_ms), Ordering::Relaxed);
    core.keeper.kept.lock().push(Arc::clone(&kept));
    if !core.keeper.runs.swap(true, Ordering::SeqCst) {
        // Without the thread there is nothing to promise; the next one who asks tries again.
        threads::spawn(core, "lanelog-keeper", run).inspect_err(|_| {
            core.keeper.runs.store(false, Ordering::SeqCst);
            core.keeper.kept.lock().clear();
        })?;
    }
    core.keeper.word.wake_all();
    Ok(KeepAlive { kept, core: Arc::clone(core) })
}

fn run(core: &Core) {
    while !core.closed.load(Ordering::SeqCst) {
        let enrolled = core.keeper.word.enrol();
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        let next_ms = extend_due(core);
        let rest = next_ms.map(|next| next.saturating_sub(clock::now().boot_ms).max(1));
        enrolled.sleep(rest.map(Duration::from_millis));
    }
}

/// Extends what is due; gives when the next one is.
fn extend_due(core: &Core) -> Option<u64> {
    let kept: Vec<Arc<Kept>> = core.keeper.kept.lock().clone();
    let mut next = None;
    for one in kept.iter().filter(|one| !one.lost.load(Ordering::Relaxed)) {
        let now = clock::now().boot_ms;
        if one.next_ms.load(Ordering::Relaxed) <= now {
            // Any other error may pass, and if it doesn't the lease runs out and says so.
            if let Err(Error::LeaseLost { .. } | Error::WorkerLost { .. } | Error::GroupRemoved { .. }) =
                extend(core, one)
            {
                one.lost.store(true, Ordering::Relaxed);
                continue;
            }
            one.next_ms.store(now.saturating_add(one.every_ms), Ordering::Relaxed);
        }
        let due = one.next_ms.load(Ordering::Relaxed);
        next = Some(next.map_or(due, |next: u64| next.min(due)));
    }
    next
}

fn extend(core: &Core, kept: &Kept) -> Result<()> {
    if let Some(worker) = kept.worker {
        core.engine.beat(&kept.cell, worker, clock::now())?;
    }
    let how = Settle::Extend { lease_ms: kept.lease_ms };
    let settled = core.engine.settle(&kept.cell, std::iter::once(kept.receipt), how, clock::now())?;
    settled.answers.into_iter().collect()
}
