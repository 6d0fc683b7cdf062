//! Workers: registering them, hearing of them, letting them go.

use crate::delivery::workers::{Pulse, WorkerId};
use crate::error::{Error, Result};
use crate::types::Now;

use super::Engine;
use super::groups::{GroupCell, GroupWork};

/// The longest name of a worker, in bytes.
pub(crate) const WORKER_NAME_BYTES_MAX: usize = 128;

impl Engine {
    /// Registers a worker under an identity of its own. If another one has the name its leases end at once, as if they had
    /// run out, and whatever it still says is refused.
    ///
    /// Errors: `InvalidOption` for a bad name; `GroupRemoved`; `Poisoned`; `Full` or `InDoubt` if the journal could not be written, in which
    /// case nobody was registered.
    pub(crate) fn enlist(&self, cell: &GroupCell, name: &str, pulse: Pulse, now: Now) -> Result<WorkerId> {
        self.check_poison()?;
        if name.is_empty() || name.len() > WORKER_NAME_BYTES_MAX {
            let why = format!("a worker's name has 1 to {WORKER_NAME_BYTES_MAX} bytes, this one has {}", name.len());
            return Err(Error::InvalidOption { option: "worker", why });
        }
        let mut work = self.lock_group(cell)?;
        let work = &mut *work;
        self.refill_fences(&mut work.group, 1)?;
        let rules = &self.settings.rules;
        work.group.tick(rules, now, &mut work.changes);
        work.group.replace_worker(name, rules, now, &mut work.changes);
        let written = self.write_or_drop(work, now);
        self.arrivals.wake_all();
        written?;
        let id = work.group.enlist(name, pulse, now);
        self.arrivals.wake_all();
        Ok(id)
    }

    /// A worker lives.
    ///
    /// Errors: `WorkerLost` if it missed too many heartbeats before, or another took its name; `GroupRemoved`; `Poisoned`.
    pub(crate) fn beat(&self, cell: &GroupCell, worker: WorkerId, now: Now) -> Result<()> {
        self.check_poison()?;
        self.beat_in(&mut *self.lock_group(cell)?, worker, now)
    }

    /// The same where the group's lock is held.
    pub(super) fn beat_in(&self, work: &mut GroupWork, worker: WorkerId, now: Now) -> Result<()> {
        // One that is dead by now is dead, although nobody looked at the clock since.
        work.group.tick(&self.settings.rules, now, &mut work.changes);
        let lives = work.group.beat(worker, now);
        if !work.changes.is_empty() {
            let written = self.write_or_drop(work, now);
            self.arrivals.wake_all();
            written?;
        }
        self.wake_if_woken(&mut work.group);
        if lives { Ok(()) } else { Err(Error::WorkerLost { name: format!("{:016x}", worker.consumer()) }) }
    }

    /// A worker goes; what it holds is released. Returns the journal position behind the entry.
    ///
    /// Errors: `Poisoned`; `Full` or `InDoubt` if the journal could not be written.
    pub(crate) fn dismiss(&self, cell: &GroupCell, worker: WorkerId, now: Now) -> Result<Option<u64>> {
        self.check_poison()?;
        let mut work = cell.state.lock();
        let work = &mut *work;
        work.group.tick(&self.settings.rules, now, &mut work.changes);
        work.group.dismiss(worker, &mut work.changes);
        let end = self.write_or_drop(work, now);
        self.arrivals.wake_all();
        end
    }

    /// Writes what changed; what could not be written took effect in this open all the same.
    fn write_or_drop(&self, work: &mut GroupWork, now: Now) -> Result<Option<u64>> {
        let end = self.write_changes(work, now.wall);
        if end.is_err() {
            work.changes.clear();
        }
        end
    }
}
