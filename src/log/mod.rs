//! A lane's bytes as a log: claim, fill and publish; commit; rolling from segment to segment; reading.
//!
//! The room knows extents, watermarks and segment lives. It does not know groups, acks or leases, takes no
//! decision about damage (a scan reports, recovery decides), and has no clock, thread or randomness: times
//! and salts come in as arguments.
//!
//! # The protocol (numbers as in the way of a task)
//!
//! 1. *claim*: under the log's claim lock, for a few nanoseconds: the extent's word (length, tied to this
//!    life and offset) is stored at the frontier, then the frontier and the record index move.
//! 2. *fill*: with no lock held, header and payload are copied into the extent.
//! 3. *publish*: the final word is stored with release order, then the segment's failed flag is read: a publish into
//!    a failed map is an error. A panic in between publishes padding.
//! 4. *commit*: one at a time per log: a mark for what the last commit made durable goes in; the contiguous
//!    published prefix is taken; every file of that prefix is synced; only then, and if no map of them failed, the
//!    durable watermark moves.
//!
//! What is on disk between the steps: after 1 the claim word may or may not be (a hole of known size, or
//! the end of the log); after 2 any sectors of the fill; after 3 the same, and nothing is acknowledged at
//! `Power` yet; after 4 everything up to the watermark. A life's prelude is written when the segment is
//! attached, and made durable by the first commit that covers a record of it, for it lies in the same file.
//!
//! What belongs to a transaction is *held* between fill and publish ([`Held`]): several logs are claimed and filled before
//! the first of them is published. And what of it was asked for at `Power` is not read before the whole transaction is
//! durable ([`Undecided`]).

pub(crate) mod append;
mod commit;
pub(crate) mod cursor;
mod extent;
mod find;
mod held;
pub(crate) mod lanes;
pub(crate) mod ready;
pub(crate) mod scan;
pub(crate) mod segment;
mod undecided;
mod walk;

#[cfg(test)]
mod tests;

pub(crate) use append::{Appended, Birth, Counted, Draft, Log, NotAppended};
pub(crate) use commit::{Begun, Failed, Published};
pub(crate) use cursor::{Cursor, Source, Step};
#[cfg(any(test, feature = "sim"))]
pub(crate) use extent::Stalled;
pub(crate) use find::body_of;
pub(crate) use held::Held;
pub(crate) use lanes::Lanes;
pub(crate) use ready::{Pool, Ready};
pub(crate) use segment::{Place, Sealed, Segment, map_failed};
pub(crate) use undecided::{Ends, Undecided};
pub(crate) use walk::Met;
