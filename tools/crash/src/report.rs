//! What a worker tells the process that watches it: one line for each thing, in one write to a pipe.
//!
//! The pipe outlives the worker, so what it said before it was killed is read to the last whole line. Of every call the
//! worker says the *intent* before it makes it, and the *answer* after it got it. So at any instant
//!
//! - an answer that was read is known: the call returned before it was written;
//! - an intent without its answer is in doubt: the call may not have begun, be halfway, or have returned;
//! - what has no intent was never asked for.
//!
//! If one answer comes before another intent, the first call returned before the second began. The opposite is not
//! known: a thread may be slow to say what it got.
//!
//! Each line begins with how many events the recorded block device had logged: of an intent, read before the call; of an
//! answer, read after it. A power loss after event `c` therefore finds every call answered whose answer says at most
//! `c`, and nothing of a call whose intent says more.

mod line;

use crate::payload::Tag;

/// Groups of the queue under test: the one that is always there, and another.
pub const GROUPS: [&str; 2] = ["default", "other"];
/// Lanes of the queue under test.
pub const LANES: u8 = 3;
/// Attempts after which a task is a dead letter there.
pub const ATTEMPTS_MAX: u32 = 4;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Events of the block device, or 0 without one.
    pub at: u64,
    pub said: Said,
}

/// How long an acknowledgement is promised to hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// Over the death of the process.
    PowerLoss,
    /// Over a power loss too.
    Ever,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// It may have taken effect or not.
    InDoubt,
    /// It did nothing.
    Refused,
    /// The lease is not the caller's any more, so it did nothing.
    LeaseLost,
}

/// How a consumer ends a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Ack,
    Nack,
    Release,
    Reject,
    /// Keeps the lease for longer.
    Extend,
    /// Lets the lease run out at once, as a worker that hangs does.
    Abandon,
}

/// A task on loan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Got {
    pub lane: u8,
    pub seq: u64,
    /// `None` if the payload is not what was enqueued.
    pub tag: Option<Tag>,
    pub attempt: u32,
}

/// What a group makes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// To be delivered; so many attempts began.
    Open(u32),
    Acked,
    Dead(u32),
    /// The group does not know it.
    NoGroup,
}

/// A record as recovery found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub lane: u8,
    pub seq: u64,
    pub tag: Option<Tag>,
    pub states: [State; 2],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A new process works on the directory.
    Began,
    /// Recovery is through; what it found damaged.
    Damage(String),
    /// Recovery is through; one of the records that there are.
    Found(Record),
    /// That were all of them.
    Pictured,
    Enqueue {
        op: u64,
        unit: u64,
        lane: u8,
        count: u16,
        until: Until,
    },
    Enqueued {
        op: u64,
        answer: Answer,
        first: u64,
    },
    Reserve {
        op: u64,
        group: usize,
        tasks: u32,
    },
    Reserved {
        op: u64,
        answer: Answer,
        got: Vec<Got>,
    },
    Settle {
        op: u64,
        group: usize,
        how: How,
        until: Until,
        tasks: Vec<(u8, u64)>,
    },
    Settled {
        op: u64,
        answers: Vec<Answer>,
    },
    Sync {
        op: u64,
    },
    Synced {
        op: u64,
        answer: Answer,
    },
    /// A checkpoint was written.
    Checkpointed,
    /// Every task of every group was delivered that can be.
    Drained,
    /// The queue is being closed; it was.
    Closing,
    Closed,
    /// A failed sync ended the work.
    Poisoned(String),
    /// The worker saw what must not be.
    Complaint(String),
}

impl Said {
    /// True of what is said before the work begins.
    pub fn is_of_recovery(&self) -> bool {
        matches!(self, Said::Began | Said::Damage(_) | Said::Found(_) | Said::Pictured)
    }
}
