//! The proof of one lease.

use std::fmt;
use std::str::FromStr;

use crate::delivery::Ticket;
use crate::error::Error;
use crate::types::{LaneId, QueueId, Seq, TaskId};

/// Proof of one lease: settles or extends it, from anywhere in the process that has the queue open.
///
/// A receipt is stale once its lease ended, however that came: settled, expired, its worker dead, or the queue reopened.
/// What tells it apart is its *fence* ([`Receipt::fence`]), which no other lease ever had; a stale one is refused with
/// [`Error::LeaseLost`]. Its text form is 78 characters and can be parsed back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    pub(crate) task: TaskId,
    pub(crate) group: u32,
    pub(crate) attempt: u32,
    pub(crate) slot: u32,
    pub(crate) fence: u64,
}

impl Receipt {
    /// The task on loan.
    #[must_use]
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The lease's fencing token. Of two leases of a task in a group the later one has the greater number, over reopens
    /// and crashes too, and no two leases of a queue have the same.
    ///
    /// Pass it to whatever the work changes elsewhere: a store that remembers the greatest fence it saw for a thing, and
    /// refuses a smaller one, is safe from a consumer that lost its lease and doesn't know it yet (M. Kleppmann, *How to do
    /// distributed locking*, 2016).
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { slot: self.slot, fence: self.fence }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:02x}{:016x}", self.task.queue.0, self.task.lane.0, self.task.seq.0)?;
        write!(f, "-{:08x}-{:08x}-{:08x}-{:016x}", self.group, self.attempt, self.slot, self.fence)
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = Error::BadReceipt { why: "the text is not a receipt" };
        let digits: String = text.split('-').collect();
        let fits = text.len() == 78 && digits.len() == 74 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !fits {
            return Err(bad);
        }
        let number = |from: usize, to: usize| {
            digits.get(from..to).and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(bad.clone())
        };
        let narrow = |value: u64| u32::try_from(value).map_err(|_| bad.clone());
        let lane = u8::try_from(number(16, 18)?).map_err(|_| bad.clone())?;
        let task = TaskId { queue: QueueId(number(0, 16)?), lane: LaneId(lane), seq: Seq(number(18, 34)?) };
        let receipt = Receipt {
            task,
            group: narrow(number(34, 42)?)?,
            attempt: narrow(number(42, 50)?)?,
            slot: narrow(number(50, 58)?)?,
            fence: number(58, 74)?,
        };
        Ok(receipt)
    }
}
