//! Deliberate bugs, at the places where engines of this kind really go wrong. One at a time can be turned on, in a build
//! with the feature `sabotage`; the simulator has to catch each, or it proves nothing. In any other build `on` is a
//! constant, and nothing of this is left.

/// A deliberate bug. Its name is what the command takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[doc(hidden)]
pub enum Bug {
    /// New names are not made durable.
    NoDirectorySync,
    /// A commit moves the watermark without a sync.
    AckBeforeSync,
    /// Of several lanes only the first is synced.
    OneLaneSynced,
    /// The root is written where the newest one lies.
    CheckpointOverNewest,
    /// The root is written before its blobs are durable.
    RootBeforeBlobs,
    /// The files a checkpoint gives up go before its root is durable.
    RootNotSynced,
    /// What the newest root dropped is written over while the older one needs it.
    UnitsFreedEarly,
    /// A checkpoint says that replay begins behind acks that it does not hold.
    CheckpointWithoutAcks,
    /// The journal that only the older checkpoint needs goes at once.
    JournalDroppedEarly,
    /// Checksums know nothing of the life they belong to, and segments are recycled.
    NoSalt,
    /// After a recovery sequences go on where the checkpoint saw them, not above the ceiling.
    SequenceReused,
    /// Finished segments go before the checkpoint that says so.
    SegmentRemovedEarly,
    /// What the journal says of records that did not survive is taken up.
    AckOfLostRecord,
    /// Damage below the durable watermark ends the log.
    TruncateAtCorruption,
    /// A claim that was never published ends the log.
    HoleEndsLog,
    /// A sync that fails is made again, and then believed.
    FailedSyncRetried,
    /// A failed sync does not keep the next commit from counting.
    OverlappingSync,
    /// Recovery believes the page cache: what it keeps is synced and not written again.
    CacheTrusted,
    /// What a checkpoint left unproven is not written again.
    CheckpointTrusted,
    /// Recovery says how a log ends before what it keeps is durable.
    SealBeforeRewrite,
    /// Claimed extents count as published.
    ReadableBeforePublished,
    /// A batch above the last mark is kept in part.
    BatchInPart,
    /// A mark speaks of what is claimed, not of what is durable.
    MarkTooFar,
    /// Tasks at `Power` are handed out before they are durable.
    DeliveredBeforeDurable,
    /// Attempts are not journaled.
    AttemptsForgotten,
    /// Releases are not journaled.
    ReleaseForgotten,
    /// Dead letters are not journaled.
    DeathForgotten,
    /// A lease that ran out can be settled.
    LeaseAfterExpiry,
    /// A lease that begins again has the token of the one before.
    TokenKept,
    /// Receipts of an earlier open are taken.
    EpochIgnored,
    /// A payload is handed out without a look at its checksum.
    BodyNotVerified,
    /// A lane that a group never read counts as done.
    DoneWithoutReader,
    /// A group from the newest task on forgets where it began.
    StartForgotten,
}

impl Bug {
    /// All of them.
    #[cfg(feature = "sabotage")]
    pub const ALL: [Bug; 33] = [
        Bug::NoDirectorySync,
        Bug::AckBeforeSync,
        Bug::OneLaneSynced,
        Bug::CheckpointOverNewest,
        Bug::RootBeforeBlobs,
        Bug::RootNotSynced,
        Bug::UnitsFreedEarly,
        Bug::CheckpointWithoutAcks,
        Bug::JournalDroppedEarly,
        Bug::NoSalt,
        Bug::SequenceReused,
        Bug::SegmentRemovedEarly,
        Bug::AckOfLostRecord,
        Bug::TruncateAtCorruption,
        Bug::HoleEndsLog,
        Bug::FailedSyncRetried,
        Bug::OverlappingSync,
        Bug::CacheTrusted,
        Bug::CheckpointTrusted,
        Bug::SealBeforeRewrite,
        Bug::ReadableBeforePublished,
        Bug::BatchInPart,
        Bug::MarkTooFar,
        Bug::DeliveredBeforeDurable,
        Bug::AttemptsForgotten,
        Bug::ReleaseForgotten,
        Bug::DeathForgotten,
        Bug::LeaseAfterExpiry,
        Bug::TokenKept,
        Bug::EpochIgnored,
        Bug::BodyNotVerified,
        Bug::DoneWithoutReader,
        Bug::StartForgotten,
    ];
}

#[cfg(feature = "sabotage")]
mod active {
    use super::Bug;
    use std::sync::atomic::{AtomicU8, Ordering};

    const NONE: u8 = u8::MAX;
    static ACTIVE: AtomicU8 = AtomicU8::new(NONE);

    /// Turns one bug on, for the whole process, or all off.
    pub fn set_active(bug: Option<Bug>) {
        ACTIVE.store(bug.map_or(NONE, |bug| bug as u8), Ordering::SeqCst);
    }

    /// True if this bug is turned on.
    #[inline]
    pub(crate) fn on(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(feature = "sabotage")]
pub(crate) use active::on;
#[cfg(feature = "sabotage")]
pub use active::set_active;

/// No bug is turned on.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub(crate) const fn on(_: Bug) -> bool {
    false
}
