//! lanelog
mod checkpoint;
mod delivery;
mod engine;
mod error;
mod format;
mod log;
mod queue;
#[cfg(any(test, feature = "sim"))]
mod sim;
mod storage;
mod sync;
mod types;
pub use engine::groups::Start;
pub use engine::inspect::{Inspection, TaskRecord, TaskState, inspect};
pub use engine::receipt::Receipt;
pub use engine::reclaim::Pin;
pub use engine::stats::{DeadLetter, GroupLaneStats, GroupStats, LaneStats, Stats};
pub use error::{Damage, DamageKind, Error, Result};
pub use format::journal::DeadCause;
pub use queue::{
    CloseReport, Consumer, ConsumerOptions, Delivery, OnDamage, OnVolatile, Options, Pending, Producer, Queue, Reserve,
    Task,
};
pub use types::{Durability, LANES_MAX, LaneId, LaneSet, QueueId, Seq, TaskId, Timestamp};
