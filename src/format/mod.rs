//! Bytes and values: every structure on disk, its layout and its checks. No I/O, no clock, no `unsafe`.
//!
//! The on-disk specification lives here and nowhere else: each structure is a byte table beside its encoder and
//! ends in "valid if and only if …". Everything is little-endian. All-zero bytes are never valid. Lengths read
//! from disk are hostile: checked, compared, then sliced.

pub(crate) mod checkpoint;
pub(crate) mod dedup;
pub(crate) mod far;
pub(crate) mod fields;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod forge;
pub(crate) mod journal;
pub(crate) mod meta;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

/// Version of every file; one that is unknown is refused and left untouched.
pub(crate) const FORMAT_VERSION: u32 = 1;
