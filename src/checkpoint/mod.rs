//! The checkpoint file: a small root in one of two slots, over copy-on-write blobs. It costs what changed.
//!
//! The room knows keys and bytes, not what they mean; it has no clock, no lock and no policy.
//!
//! # The protocol of a commit (generation N + 1 over N)
//!
//! 1. Blobs that changed, and the index chunks that list them, are written to units that neither root refers
//!    to. A crash here leaves both roots, N - 1 and N, and everything they refer to, untouched.
//! 2. The file is synced: everything that the new root will refer to is durable.
//! 3. The new root is written over N - 1's slot. A crash here leaves N; the torn slot does not verify.
//! 4. The file is synced. N + 1 is the newest, N the older, and both are usable.
//!
//! So units that N dropped (N - 1 referred to them, N does not) are free only once N + 1 is durable, when N - 1
//! is no root any more: they wait one generation in `waiting`. An error in 1 before anything but free units was
//! written leaves the store as it was; an error from 2 on leaves it *broken*: which root is on disk is unknown,
//! so nothing more is committed through it.

mod store;
mod units;

#[cfg(test)]
mod tests;

pub(crate) use store::{BlobError, Changes, Store};

/// A blob's name: a kind, and three numbers whose meaning is the kind's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub kind: u8,
    pub a: u32,
    pub b: u64,
    pub c: u32,
}

/// Where a blob lies: first unit, length, checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlobRef {
    pub unit: u32,
    pub bytes: u32,
    pub check: u32,
}
