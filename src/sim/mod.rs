//! The simulator: a disk that crashes, a workload, and an oracle that knows what was promised.
//!
//! The engine under it is the one that ships, from the same sources; only the disk and the clock are not real. It is never
//! in a normal build (feature `sim`). Absent: real files, threads, time; all choices come from seeds, so that every run can
//! be had again.
//!
//! - `disk`: files in memory, with everything a real disk may do to them.
//! - `operation`, `schedule`: what happens in a run.
//! - `model`: what callers were told; `actor` takes the steps and notes it; `oracle` holds a restart against it.
//! - `run`: a schedule from an empty directory to its last check; `shrink`: the smallest one that still shows the same;
//!   `search`: from seeds to failures.
//! - `exhaust`, `mishaps`, `flips`: small spaces, walked whole: crashes, failing calls, flipped bits.

#![expect(clippy::indexing_slicing, reason = "a bug of the simulator may end it")]

mod actor;
mod disk;
mod exhaust;
mod files;
mod flips;
mod lost;
mod mishaps;
mod model;
mod once;
mod operation;
mod oracle;
mod rng;
mod run;
mod schedule;
mod search;
mod shrink;
mod space;

#[cfg(test)]
mod tests;

pub(crate) use disk::Loss;
pub(crate) use disk::SimDisk;
pub use exhaust::{Walked, exhaust, workloads};
pub use flips::{Flipped, Reference};
pub use mishaps::fail_each_call;
#[cfg(test)]
pub(crate) use rng::Rng;
pub use run::Counts;
pub use search::{Failure, run_seeds, run_tape, shrink_seed};
