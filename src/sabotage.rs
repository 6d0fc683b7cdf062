//! Deliberate bugs, at the places where engines of this kind really go wrong. One at a time can be turned on: in a build
//! with the feature `sabotage` by the simulator, which has to catch each of `Bug::SIMULATED`, or it proves nothing; in
//! the models those of order, which no run on one thread shows. In any other build `on` is a constant, and nothing of
//! this is left.

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
    /// Likewise behind attempts.
    CheckpointWithoutBegun,
    /// Or behind attempts that are not the first.
    CheckpointOfFirstAttempts,
    /// A checkpoint that was gathered in portions is durable before the journal.
    PortionsWithoutJournal,
    /// Notes are gathered before acks.
    NotesBeforeAcks,
    /// A life goes that was sealed after the instant of a checkpoint's dedup ids.
    SealedSinceGoes,
    /// Where an older checkpoint is used, what is durable proves all before it, which a newer one may have given up.
    ProvenByLaterLives,
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
    /// Where several logs are synced at once nobody asks how each sync ended.
    SyncOfManyTrusted,
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
    /// A dead letter that goes to another lane ends before its transaction is true.
    LetterLost,
    /// A lease that ran out can be settled.
    LeaseAfterExpiry,
    /// A lease that begins again has the fence of the one before.
    TokenKept,
    /// An open gives out the fences of the one before.
    FenceReused,
    /// The file that a cold life was made of goes with the next checkpoint, which the older root does not know.
    MovedTooEarly,
    /// A life is moved that one group has settled, and another has not.
    MovedForOneGroup,
    /// A cold life is listed that was never synced.
    MovedNotSynced,
    /// A task that was moved is looked for where it was.
    PlaceTrusted,
    /// A snapshot copies the lanes before the checkpoint that it goes with.
    SnapshotLanesFirst,
    /// A snapshot copies what is claimed, published or not.
    SnapshotPastWatermark,
    /// A snapshot takes footers that were written behind what it copied of the journal.
    SnapshotFooterLate,
    /// A snapshot is whole before its bytes are durable.
    SnapshotUnsynced,
    /// A snapshot that is not whole looks as one that is.
    SnapshotUnmarked,
    /// A key is free as soon as the lease on its task ended, settled or not.
    KeyFreedEarly,
    /// A task that is passed over behind its key is not noted.
    WaitingForgotten,
    /// A task whose time is far runs as soon as it is loaded.
    DelayedEarly,
    /// A life in which only far tasks are left counts as done, so that a reopen forgets them.
    DelayedForgotten,
    /// A worker that is dead or replaced keeps its leases.
    StaleWorkerAcks,
    /// A bucket has a new owner while its tasks are on loan to the one before.
    BucketHandedEarly,
    /// What acks a task and takes the next one notes only the next one.
    AckForgottenForNext,
    /// A payload is handed out without a look at its checksum.
    BodyNotVerified,
    /// A lane that a group never read counts as done.
    DoneWithoutReader,
    /// A group from the newest task on forgets where it began.
    StartForgotten,
    /// A group from the oldest task on begins without what was cancelled before.
    CancelForgotten,
    /// A checkpoint does not keep what was cancelled for groups to come.
    CancelNotKept,
    /// That a dead letter came back is not journaled.
    RevivalForgotten,
    /// That a group was removed is not journaled.
    RemovalForgotten,
    /// A group gets the number of one that was removed.
    GroupNumberReused,
    /// That a task was let go of is not journaled.
    LettingGoForgotten,
    /// A task on loan is let go of.
    LoanLetGo,
    /// What is paused is forgotten by the next checkpoint.
    PauseForgotten,
    /// What an earlier open accepted counts towards no bound.
    BacklogForgotten,
    /// What a group lends counts towards no bound of the whole queue.
    LoansUncounted,
    /// A lease that is ended by hand counts as one still.
    LoanKeptByHand,
    /// A lane that waited for its longest time goes on waiting.
    LaneForgotten,
    /// A decision counts although a record that it names did not survive.
    HalfTransaction,
    /// A checkpoint holds decisions before what they name is durable.
    DecisionFoldedEarly,
    /// Records of a transaction count although its decision did not survive.
    UndecidedKept,
    /// Tasks at `Power` are handed out before the rest of their transaction is durable.
    DeliveredUndecided,
    /// What is void is written over in more than one piece.
    VoidInPieces,
    /// An open knows no dedup ids.
    DedupForgotten,
    /// A dedup hit is acknowledged before the first task has the durability asked for.
    HitBeforeDurable,
    /// A dedup hit does not wait for the rest of the first task's transaction.
    HitOnHalf,
    /// A dedup id counts although its task did not survive.
    IdOfLostRecord,
    /// Dedup ids of lives that were sealed since the checkpoint are not looked for.
    SealedIdsForgotten,
    /// A dedup id that counts until its task is settled is free as soon as one group settled it.
    IdFreedEarly,

    /// An extent's final word is stored without release order.
    RelaxedPublish,
    /// The readable mark moves without release order.
    RelaxedMark,
    /// A commit acknowledges what is published after its sync, not what it synced.
    LateAck,
    /// A notifier looks for waiters without a fence behind what it changed.
    WakeWithoutFence,
    /// Who was woken and needs no commit any more goes without waking anybody.
    KeptWakeUp,
    /// Who takes a task and sees another one does not wake the next consumer.
    ConsumerNotWoken,
    /// A commit ends without waking a leader for those who gathered.
    NoSuccessor,
}

impl Bug {
    /// Those that a simulated run shows.
    #[cfg(feature = "sabotage")]
    pub const SIMULATED: [Bug; 80] = [
        Bug::NoDirectorySync,
        Bug::AckBeforeSync,
        Bug::OneLaneSynced,
        Bug::CheckpointOverNewest,
        Bug::RootBeforeBlobs,
        Bug::RootNotSynced,
        Bug::UnitsFreedEarly,
        Bug::CheckpointWithoutAcks,
        Bug::CheckpointWithoutBegun,
        Bug::CheckpointOfFirstAttempts,
        Bug::PortionsWithoutJournal,
        Bug::NotesBeforeAcks,
        Bug::SealedSinceGoes,
        Bug::ProvenByLaterLives,
        Bug::JournalDroppedEarly,
        Bug::NoSalt,
        Bug::SequenceReused,
        Bug::SegmentRemovedEarly,
        Bug::AckOfLostRecord,
        Bug::TruncateAtCorruption,
        Bug::HoleEndsLog,
        Bug::FailedSyncRetried,
        Bug::OverlappingSync,
        Bug::SyncOfManyTrusted,
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
        Bug::LetterLost,
        Bug::LeaseAfterExpiry,
        Bug::TokenKept,
        Bug::FenceReused,
        Bug::SnapshotLanesFirst,
        Bug::SnapshotPastWatermark,
        Bug::SnapshotFooterLate,
        Bug::SnapshotUnsynced,
        Bug::SnapshotUnmarked,
        Bug::KeyFreedEarly,
        Bug::WaitingForgotten,
        Bug::DelayedEarly,
        Bug::DelayedForgotten,
        Bug::MovedTooEarly,
        Bug::MovedForOneGroup,
        Bug::MovedNotSynced,
        Bug::PlaceTrusted,
        Bug::StaleWorkerAcks,
        Bug::BucketHandedEarly,
        Bug::AckForgottenForNext,
        Bug::BodyNotVerified,
        Bug::DoneWithoutReader,
        Bug::StartForgotten,
        Bug::CancelForgotten,
        Bug::CancelNotKept,
        Bug::RevivalForgotten,
        Bug::RemovalForgotten,
        Bug::GroupNumberReused,
        Bug::LettingGoForgotten,
        Bug::LoanLetGo,
        Bug::PauseForgotten,
        Bug::BacklogForgotten,
        Bug::LoansUncounted,
        Bug::LoanKeptByHand,
        Bug::LaneForgotten,
        Bug::HalfTransaction,
        Bug::DecisionFoldedEarly,
        Bug::UndecidedKept,
        Bug::DeliveredUndecided,
        Bug::VoidInPieces,
        Bug::DedupForgotten,
        Bug::HitBeforeDurable,
        Bug::HitOnHalf,
        Bug::IdOfLostRecord,
        Bug::SealedIdsForgotten,
        Bug::IdFreedEarly,
    ];
}

/// By the command.
#[cfg(feature = "sabotage")]
#[cfg_attr(any(all(test, loom), tsan), expect(dead_code, reason = "models and sanitizers name their bug otherwise"))]
mod chosen {
    use super::Bug;
    use std::sync::atomic::{AtomicU8, Ordering};

    const NONE: u8 = u8::MAX;
    static ACTIVE: AtomicU8 = AtomicU8::new(NONE);

    /// Turns one bug on, for the whole process, or all off.
    pub fn set_active(bug: Option<Bug>) {
        ACTIVE.store(bug.map_or(NONE, |bug| bug as u8), Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn on(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u8
    }
}

/// By a model, for itself: loom runs all its threads on the one that began it.
#[cfg(all(test, loom))]
mod planted {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn plant(bug: Bug) {
        PLANTED.set(Some(bug));
    }

    pub(crate) fn on(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

/// By the environment at build time, under ThreadSanitizer.
#[cfg(tsan)]
mod built_in {
    use super::Bug;

    pub(crate) fn on(bug: Bug) -> bool {
        option_env!("LANELOG_PLANT").is_some_and(|name| name == format!("{bug:?}"))
    }
}

#[cfg(tsan)]
pub(crate) use built_in::on;
#[cfg(all(feature = "sabotage", not(any(all(test, loom), tsan))))]
pub(crate) use chosen::on;
#[cfg(feature = "sabotage")]
pub use chosen::set_active;
#[cfg(all(test, loom))]
pub(crate) use planted::{on, plant};

/// No bug is turned on.
#[cfg(not(any(feature = "sabotage", all(test, loom), tsan)))]
#[inline(always)]
pub(crate) const fn on(_: Bug) -> bool {
    false
}
