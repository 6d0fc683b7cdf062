//! The engine on the simulated disk: a small workload, a crash at every operation, and an oracle; flipped bits,
//! lost files, a full disk.

mod crash;
mod faults;
mod world;
