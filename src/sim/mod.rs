//! A disk that crashes, for tests: memory in place of files, with everything a real disk may do to them.
//!
//! The room implements the storage traits and nothing else; the engine above it is the one that ships. It is
//! never in a normal build (feature `sim`). Absent: real files, threads, time; all choices come from one seed.

#![cfg_attr(not(test), allow(dead_code, unused_imports, reason = "what the crash tests use, the feature builds"))]

mod disk;
mod rng;

#[cfg(test)]
mod tests;

pub(crate) use disk::{Loss, SimDisk};
pub(crate) use rng::Rng;
