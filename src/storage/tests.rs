//! The region's contract, over ordinary memory.

mod memory;
#[cfg(loom)]
mod models;
mod region;
