//! Decisions that are not durable yet, each with what it waits for.
//!
//! A transaction is durable once its decision is, and every record that it names; those lie in several logs. Whoever
//! commits a log asks here what that settled. Two things depend on it: a record asked for at `Power` is not handed out
//! before its whole transaction is durable, and a checkpoint holds no decision that is not.

use std::collections::BTreeMap;

use crate::sync::Mutex;
use crate::types::LogId;

use super::segment::Place;

/// Log positions that must be durable, the journal's among them.
pub(crate) type Ends = Vec<(LogId, u64)>;

/// The open decisions of a queue. Shared by its logs.
#[derive(Default)]
pub(crate) struct Undecided(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Decisions at `Power` by their places in the journal.
    power: BTreeMap<Place, Ends>,
    /// The furthest end in each log of all decisions there ever were.
    furthest: BTreeMap<u16, u64>,
}

impl Undecided {
    /// Notes a decision before it, or anything that it names, is published. One at `Process` keeps nobody from reading.
    pub(crate) fn note(&self, place: Place, ends: &Ends, is_power: bool) {
        let mut open = self.0.lock();
        for (log, end) in ends {
            let furthest = open.furthest.entry(log.0).or_default();
            *furthest = (*furthest).max(*end);
        }
        if is_power {
            open.power.insert(place, ends.clone());
        }
    }

    /// True while the decision at `place` waits for something to become durable.
    pub(crate) fn contains(&self, place: Place) -> bool {
        self.0.lock().power.contains_key(&place)
    }

    /// What must be durable for the decision at `place` to be, if it is not yet. Of one at `Process` nothing is kept but how far
    /// all of them reach: that is what is to be waited for then.
    pub(crate) fn waits_for(&self, place: Place, is_power: bool) -> Ends {
        if is_power { self.0.lock().power.get(&place).cloned().unwrap_or_default() } else { self.furthest() }
    }

    /// Forgets the decisions at `Power` of which everything is durable. True if there were any.
    pub(crate) fn settle(&self, durable: impl Fn(LogId) -> u64) -> bool {
        let mut open = self.0.lock();
        let before = open.power.len();
        open.power.retain(|_, ends| ends.iter().any(|(log, end)| durable(*log) < *end));
        open.power.len() < before
    }

    /// What must be durable for all decisions so far to be.
    pub(crate) fn furthest(&self) -> Ends {
        self.0.lock().furthest.iter().map(|(log, end)| (LogId(*log), *end)).collect()
    }
}
