//! The logs of all lanes, each made when it is first used.

use std::sync::Arc;

use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{LANES_MAX, LaneId, LaneSet};

use super::append::Log;

/// One slot per lane of the queue.
pub(crate) struct Lanes {
    logs: Box<[OnceLock<Arc<Log>>]>,
    /// A bit for every lane that has a log, so that a look at all of them touches four words.
    started: [AtomicU64; LANES_MAX / 64],
}

impl Lanes {
    pub(crate) fn new(count: usize) -> Self {
        Lanes { logs: (0..count).map(|_| OnceLock::new()).collect(), started: Default::default() }
    }

    /// How many lanes the queue has.
    pub(crate) fn count(&self) -> usize {
        self.logs.len()
    }

    /// The lane's log, if the lane exists and was used.
    pub(crate) fn log(&self, lane: LaneId) -> Option<&Arc<Log>> {
        self.logs.get(lane.index())?.get()
    }

    /// The lane's log, made by `make` if this is its first use. `None` if there is no such lane.
    pub(crate) fn start(&self, lane: LaneId, make: impl FnOnce() -> Log) -> Option<&Arc<Log>> {
        let slot = self.logs.get(lane.index())?;
        let log = slot.get_or_init(|| Arc::new(make()));
        if let Some(word) = self.started.get(lane.index() / 64) {
            let bit = 1 << (lane.index() % 64);
            if word.load(Ordering::Relaxed) & bit == 0 {
                // Release: pairs with the acquire in `started`; who sees the bit sees the log.
                word.fetch_or(bit, Ordering::Release);
            }
        }
        Some(log)
    }

    /// The lanes that have a log.
    pub(crate) fn started(&self) -> LaneSet {
        LaneSet::from_words(std::array::from_fn(|at| {
            self.started.get(at).map_or(0, |word| word.load(Ordering::Acquire))
        }))
    }

    /// All logs there are, most urgent lane first.
    pub(crate) fn all(&self) -> impl Iterator<Item = (LaneId, &Arc<Log>)> {
        self.started().iter().filter_map(|lane| Some((lane, self.log(lane)?)))
    }
}
