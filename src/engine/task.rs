//! A task as it is shown to whoever looks: its record, and what every group makes of it.

use bytes::Bytes;

use crate::delivery::{DeadNote, Standing};
use crate::format::fields::{self, Traits};
use crate::format::journal::DeadCause;
use crate::format::record::Header;
use crate::types::{TaskId, Timestamp};

/// What a group makes of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// Never handed out.
    Waiting,
    /// Handed out before: due again, or on loan to a process that has the queue open.
    Attempted {
        /// Attempts that began.
        attempts: u32,
    },
    /// Due again at a time to come.
    Delayed {
        /// Attempts that began.
        attempts: u32,
        /// When it is due.
        due: Timestamp,
    },
    /// Done.
    Acked,
    /// On loan.
    Leased {
        /// Which attempt it is.
        attempts: u32,
    },
    /// Set aside by hand.
    Parked {
        /// Attempts that began.
        attempts: u32,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Given up on.
    Dead {
        /// Attempts that began.
        attempts: u32,
        /// Why.
        cause: DeadCause,
        /// What was said of the last attempt.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

impl TaskState {
    /// What an open queue knows of a task that may run from `run_at` on.
    pub(super) fn of_standing(standing: &Standing, run_at: Option<Timestamp>, now: Timestamp) -> Self {
        match standing {
            Standing::Ahead => match run_at.filter(|at| *at > now) {
                Some(due) => TaskState::Delayed { attempts: 0, due },
                None => TaskState::Waiting,
            },
            Standing::Leased { attempts, .. } => TaskState::Leased { attempts: *attempts },
            Standing::Due { attempts: 0 } => TaskState::Waiting,
            Standing::Due { attempts } => TaskState::Attempted { attempts: *attempts },
            Standing::Delayed { attempts, due } => TaskState::Delayed { attempts: *attempts, due: *due },
            Standing::Dead(dead) => TaskState::of_dead(dead),
            Standing::Settled => TaskState::Acked,
        }
    }

    /// What is said of a dead letter or a parked task.
    pub(super) fn of_dead(dead: &DeadNote) -> Self {
        let DeadNote { attempts, cause, at, reason, .. } = dead.clone();
        match cause {
            DeadCause::Parked => TaskState::Parked { attempts, reason, at },
            cause => TaskState::Dead { attempts, cause, reason, at },
        }
    }
}

/// One task record and what every group makes of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRecord {
    /// The task's id.
    pub id: TaskId,
    /// The file it lies in, relative to the queue's directory.
    pub file: String,
    /// Where it lies.
    pub offset: u64,
    /// Bytes of the record.
    pub bytes: u64,
    /// When it was enqueued.
    pub enqueued: Timestamp,
    /// The payload.
    pub payload: Bytes,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Not to be delivered before that.
    pub run_at: Option<Timestamp>,
    /// Not to be delivered from then on.
    pub expires: Option<Timestamp>,
    /// The dead letter of another lane that it was made from ([`Queue::redrive_to`](crate::Queue::redrive_to)).
    pub origin: Option<TaskId>,
    /// Every group's name and what it makes of the task, the oldest group first; of one that was made from a dead letter,
    /// that group's alone.
    pub states: Vec<(String, TaskState)>,
}

impl TaskRecord {
    pub(super) fn of(
        id: TaskId,
        file: String,
        header: &Header,
        fields: &[u8],
        payload: Bytes,
        states: Vec<(String, TaskState)>,
    ) -> Self {
        let Traits { key, run_at, expires, origin, .. } = Traits::decode(fields);
        TaskRecord {
            id,
            file,
            offset: u64::from(header.offset),
            bytes: u64::from(header.bytes),
            enqueued: header.time,
            payload,
            headers: fields::headers(fields).map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            key: key.map(<[u8]>::to_vec),
            run_at,
            expires,
            origin: origin.map(|origin| TaskId { queue: id.queue, lane: origin.lane, seq: origin.seq }),
            states,
        }
    }
}
