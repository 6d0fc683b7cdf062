//! The region's contract, over ordinary memory.

mod memory;
mod region;
