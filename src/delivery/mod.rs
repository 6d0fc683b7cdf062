//! Who gets what next: groups, leases, fences, acks, timers, keys, workers, the choice of the lane.
//!
//! Pure state. The room reads logs through cursors and changes nothing but itself; what must outlive the
//! process comes out as [`Change`]s, which the engine writes to the journal while it still holds the group.
//! Absent: clocks (times come in), files, locks, threads, randomness. Groups share one number and no more ([`loans`]).

mod attempts;
mod bits;
pub(crate) mod far;
pub(crate) mod fences;
pub(crate) mod group;
pub(crate) mod hand;
pub(crate) mod keys;
pub(crate) mod lane;
mod leases;
pub(crate) mod loans;
mod meet;
pub(crate) mod notes;
mod passed;
pub(crate) mod record_bits;
mod reserve;
pub(crate) mod retention;
pub(crate) mod scheduler;
pub(crate) mod slab;
pub(crate) mod state;
pub(crate) mod sticky;
pub(crate) mod wheel;
pub(crate) mod workers;

#[cfg(test)]
mod tests;

pub(crate) use group::{Group, Rules, Ticket};
pub(crate) use hand::{DeadBounds, Keeps, Sought, Standing};
pub(crate) use lane::Amount;
pub(crate) use notes::{Dirty, Note};
pub(crate) use reserve::{Ask, Grant, Granted, Lost};
pub use scheduler::Priority;
pub(crate) use state::{Change, DeadNote, GroupState, Runs};
