//! The engine on the simulated disk: a small workload, a crash at every operation, and an oracle; flipped bits,
//! lost files, a full disk.

mod contained;
mod crash;
mod far;
mod far_day;
mod faults;
mod flaky;
mod hostile;
mod races;
mod snapshot;
mod unsettled;
mod world;
