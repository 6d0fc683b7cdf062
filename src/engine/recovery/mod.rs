//! Opening a directory after whatever happened to it.
//!
//! Recovery has two halves. *Reading* ([`read`]) takes the newest good checkpoint, finds the lives behind it,
//! scans what is not known durable, decides which transactions are true ([`decide`]), and replays the journal; it changes nothing, and `inspect`, `verify` and
//! `dump` use it as it is. *Mending* ([`mend`]) writes, in an order in which a crash at any point leaves a
//! directory that reads the same way again:
//!
//! 0. The checkpoint that was loaded is made durable, if it is not known to be: what follows relies on it. An older one is
//!    written over the newest, which can't be used, marked as older and with its ceilings raised: were the newest readable
//!    again behind a mend that was cut off, it would not understand what lies there.
//! 1. Every kept byte that is not proven durable is rewritten with itself, holes, torn records and what belongs to no
//!    true transaction as padding, and synced: after a failed sync the page cache may show bytes that stable storage never got, and only a
//!    rewrite makes them dirty again. Nothing is delivered before. Of what is proven, padding alone is written again, and
//!    zeros behind its word: an earlier recovery may have made it of something void, and its sync failed, or it crashed.
//! 2. The tail of each open life is cut, sealed by a footer, and synced. Nothing is ever appended behind a cut:
//!    a stale record of the same life could validate there, and its sequence would be given out twice.
//! 3. A checkpoint with a new epoch lists all of that; its ceiling is above every sequence handed out before.
//! 4. Files that it does not list are removed, in the background; those that the checkpoint before it lists once the
//!    next one is durable. Should this one be damaged, or unreadable for a moment, the one before is used again, and
//!    must not take them for lost.
//!
//! After a clean close there is nothing to rewrite, and lives that were open go on where they ended, if their room can
//! be faulted in. A file that was cut below what is proven of it is neither mended nor gone on with ([`cut`]).
//!
//! # What is decided how
//!
//! | checkpoint slots | decided |
//! |---|---|
//! | newest usable | it is used |
//! | newest damaged, older usable | the older is used: its journal is still there; sequences skip far ahead. A life of a lane proves itself or nothing: the newest may have given it up half synced, while later ones are durable |
//! | both unusable, lives there | every life is taken as unacked: tasks come again, none is lost |
//! | none, no lives | a new queue |
//! | another version | refused, untouched |

mod blobs;
mod cut;
mod decide;
mod draft;
mod heard;
mod holds;
mod ids;
pub(crate) mod lives;
pub(crate) mod mend;
pub(crate) mod open;
pub(crate) mod read;
mod replay;
mod report;
mod tail;

pub(crate) use ids::FoundIds;
pub(crate) use open::{Given, open};
pub(crate) use read::{DEFAULT_GROUP, refuse_foreign};
