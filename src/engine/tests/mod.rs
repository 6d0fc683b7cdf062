//! The engine on the simulated disk: a small workload, a crash at every operation, and an oracle.

mod crash;
mod world;
