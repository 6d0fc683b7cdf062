//! Pausing: nothing of a paused lane or group is handed out until it is resumed. Settles go on.

use crate::delivery::Ask;
use crate::error::{Error, Result};
use crate::format::journal;
pub(crate) use crate::format::journal::Pausable;
use crate::format::meta::Paused;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::types::{LaneId, LaneSet, Timestamp};

use super::Engine;
use super::groups::GroupCell;

/// What is paused in this open.
pub(super) struct Pauses {
    /// Spares the hot path the lock: false if nothing is paused. Relaxed, for whoever changes it takes the group's lock
    /// after, and whoever relies on it before.
    any: AtomicBool,
    state: Mutex<Paused>,
}

impl Pauses {
    pub(super) fn new(paused: Paused) -> Self {
        Pauses { any: AtomicBool::new(!paused.is_empty()), state: Mutex::new(paused) }
    }
}

impl Engine {
    /// Hands out nothing of it any more: nothing at all once this returns. On disk once the journal is durable up to the
    /// returned position; the caller waits for that before it says so. Pausing what is paused changes nothing.
    ///
    /// Errors: `NoSuchLane`, `Poisoned`; `Full` if the journal could not grow, and nothing changed then.
    pub(crate) fn pause(&self, what: Pausable, time: Timestamp) -> Result<u64> {
        let end = self.change_pauses(what, time, Paused::pause, journal::put_paused)?;
        // A reserve that began before has the group's lock, and ends before this does.
        for cell in self.groups() {
            drop(cell.state.lock());
        }
        Ok(end)
    }

    /// Hands out what was paused again, and wakes who waits for it. Position and errors as for [`Engine::pause`].
    pub(crate) fn resume(&self, what: Pausable, time: Timestamp) -> Result<u64> {
        let end = self.change_pauses(what, time, Paused::resume, journal::put_resumed)?;
        self.arrivals.wake_all();
        Ok(end)
    }

    /// The entry is claimed under the lock of what it changes: see the room's doc for why.
    fn change_pauses(
        &self,
        what: Pausable,
        time: Timestamp,
        change: fn(&mut Paused, Pausable),
        put: fn(&mut Vec<u8>, Pausable),
    ) -> Result<u64> {
        self.check_poison()?;
        if let Pausable::Lane(lane) = what
            && lane.index() >= self.lanes.count()
        {
            return Err(Error::NoSuchLane { lane, lanes: self.lanes.count() });
        }
        let mut payload = Vec::new();
        put(&mut payload, what);
        let mut state = self.pauses.state.lock();
        let end = self.append_journal(&payload, time)?;
        change(&mut state, what);
        self.pauses.any.store(!state.is_empty(), Ordering::Relaxed);
        drop(state);
        self.changed.store(true, Ordering::Relaxed);
        Ok(end)
    }

    /// Forgets a pause of a group that is gone.
    pub(super) fn forget_pause(&self, group: u32) {
        let mut state = self.pauses.state.lock();
        state.resume(Pausable::Group(group));
        self.pauses.any.store(!state.is_empty(), Ordering::Relaxed);
    }

    /// What is paused now.
    pub(crate) fn paused(&self) -> Paused {
        self.pauses.state.lock().clone()
    }

    /// Of `lanes` those that the group may take from. Under the group's lock.
    #[inline]
    pub(super) fn unpaused(&self, cell: &GroupCell, lanes: &LaneSet) -> LaneSet {
        if !self.pauses.any.load(Ordering::Relaxed) {
            return *lanes;
        }
        let paused = self.pauses.state.lock();
        if paused.groups.contains(&cell.id) {
            return LaneSet::EMPTY;
        }
        let held: LaneSet = paused.lanes.iter().copied().collect::<LaneSet>();
        lanes.without(&held)
    }

    /// What is asked for without what is paused. Under the group's lock.
    #[inline]
    pub(super) fn without_paused(&self, cell: &GroupCell, ask: &Ask) -> Ask {
        Ask { lanes: self.unpaused(cell, &ask.lanes), ..*ask }
    }

    /// The paused lanes, in order.
    pub(super) fn paused_lanes(&self) -> Vec<LaneId> {
        self.pauses.state.lock().lanes.iter().copied().collect()
    }

    /// True if the group is paused.
    pub(super) fn is_paused(&self, group: u32) -> bool {
        self.pauses.state.lock().groups.contains(&group)
    }
}
