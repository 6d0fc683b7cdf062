//! The checkpoint file: a small root in one of two slots, over copy-on-write blobs. It costs what changed.
//!
//! The room knows keys and bytes, not what they mean; it has no clock, no lock and no policy. Which of two usable
//! roots to go on from, and what damage means, is the caller's to judge.
//!
//! # The protocol of a commit (generation N + 1 over N)
//!
//! 1. Room is found for every blob that changed and for the index chunks that list them, in units that neither
//!    root refers to; where there is too little, the file grows by zeros. A crash here leaves both roots, N - 1 and
//!    N, and everything they refer to, untouched. A full disk is met here and nowhere later: the commit is refused
//!    and the store is as it was.
//! 2. What was loaded and is *unproven* is written again with its own bytes, once after a load. A restart after
//!    a failed sync reads from the page cache what stable storage never got, and a later sync passes over it. Then the
//!    file is synced: the root that was loaded may have replaced its slot's older one in the page cache alone, and what
//!    only that one refers to is written over in 3.
//! 3. The blobs and chunks of step 1 are written. A crash in 2 or 3 leaves N: what 2 writes is there already or
//!    is part of a root that was never durable, and then the root below it is whole.
//! 4. The file is synced: everything that the new root will refer to is durable, and so is N's own root.
//! 5. The new root is written over N - 1's slot. A crash here leaves N; the torn slot does not verify.
//! 6. The file is synced. N + 1 is the newest, N the older, and both are usable.
//!
//! So units that N dropped (N - 1 referred to them, N does not) are free only once N + 1 is durable, when N - 1
//! is no root any more: they wait one generation in `waiting`. An error from 2 on leaves the store *broken*: which
//! root is on disk is unknown, so nothing more is committed through it.
//!
//! A blob without which no root is of use stands twice ([`TWICE_KIND_MAX`]), as each root does: one flipped bit in what
//! both roots share must not cost both.
//!
//! Unproven after a load is what the newest root refers to and the older does not, and the newest root itself: the
//! older was synced before the newest was begun. With one usable root, all of it is unproven.

mod index;
mod load;
mod store;
mod units;

#[cfg(test)]
mod tests;

pub(crate) use store::{BlobError, Changes, Store, Value};

/// A blob's name: a kind, and three numbers whose meaning is the kind's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub kind: u8,
    pub a: u32,
    pub b: u64,
    pub c: u32,
}

/// Where a blob lies: first unit, how often it stands there in a row, length, checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlobRef {
    pub unit: u32,
    /// 1 or 2.
    pub copies: u8,
    pub bytes: u32,
    pub check: u32,
}

/// Blobs of kinds up to this one are stored twice, and so are the index chunks: what both roots refer to has no other
/// copy, and without one of these no root is of use.
pub(crate) const TWICE_KIND_MAX: u8 = 2;
/// So are those of these kinds: small, and nobody would notice that one is gone.
pub(crate) const TWICE_KINDS: [u8; 2] = [7, 8];

impl BlobRef {
    /// Units that all copies take.
    fn units(&self) -> u32 {
        units::units_for(self.bytes).saturating_mul(u32::from(self.copies))
    }
}
