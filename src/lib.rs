//! lanelog is an embedded, crash-safe, log-structured task queue: a durable work queue without a broker.
//!
//! A task is appended to a memory-mapped segment file with a checksum. Consumers reserve tasks under a lease, work,
//! and ack; what was not acked when a worker died goes to the next one. Acks are state (bitmaps, a journal,
//! checkpoints), not records in the log, so what a task costs does not depend on how many wait. After a crash the
//! next open recovers by itself.
//!
//! # A tour
//!
//! - A [`Queue`] is one directory, open in one process at a time. [`Options`] say how it is opened; those that matter
//!   later are stored with it.
//! - A *lane* ([`LaneId`]) is a priority class with its own files. Lane 0 is the most urgent, and goes first, or gets a
//!   larger share: [`Priority`] says how lanes are chosen.
//! - [`Queue::enqueue`] takes a [`Task`] and returns its [`TaskId`] once it has the [`Durability`] it asked for.
//!   [`Queue::submit`] returns a [`Pending`] at once, so that one thread keeps many tasks in flight; they share
//!   syncs. [`Queue::enqueue_batch`] is one atomic unit. A [`Producer`] fixes lane and durability once.
//! - A *group* is a named set of competing [`Consumer`]s over all lanes. The group `default` is born with the queue;
//!   [`Queue::create_group`] makes more, from the oldest task or the newest on ([`Start`]).
//! - [`Consumer::reserve`] takes tasks on loan, as a [`Reserve`] says: how many, from which lanes, for how long it may
//!   wait. A [`Delivery`] borrows its payload from the log, verified and not copied.
//! - A delivery is settled by [`ack`](Delivery::ack), [`nack`](Delivery::nack), [`release`](Delivery::release) or
//!   [`reject`](Delivery::reject); a [`Receipt`] does the same from elsewhere in the process ([`Queue::ack`]). A task
//!   that used up its attempts becomes a [`DeadLetter`].
//! - A [`Bound`] limits what waits in a lane or in the queue; an enqueue then waits for room. [`Queue::pause_lane`] and
//!   [`Queue::pause_group`] stop the handing out, over any crash.
//! - Tasks with the same [key](Task::key) are delivered one at a time, in order. A [`Worker`] is a consumer with a name and a
//!   heartbeat: a dead one's tasks move on at once. In [sticky mode](Options::sticky) a key's tasks go to one worker. Every
//!   lease has a [fence](Delivery::fence) to pass downstream.
//! - A [`Transaction`] does any number of enqueues and settles, in any lanes and groups, wholly or not at all: "ack this
//!   and enqueue the next steps" ([`Queue::transaction`]).
//! - [`Queue::stats`], [`Queue::damage`] and [`Queue::pins`] look at an open queue. [`inspect()`] looks at a
//!   directory without opening it: it takes no lock and changes nothing.
//!
//! # Example
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("jobs");
//! use lanelog::{LaneId, Options, Queue, Reserve, Task};
//!
//! let queue = Options::new().lanes(2).max_attempts(5).open(&path)?;
//! queue.enqueue(Task::new("resize cat.jpg").lane(LaneId(1)))?; // on stable storage when this returns
//! queue.enqueue(Task::new("send the receipt").header("tenant", "acme"))?;
//!
//! let consumer = queue.consumer();
//! let urgent = consumer.reserve(Reserve::new())?.pop().expect("there are two");
//! assert_eq!(urgent.payload().as_ref(), b"send the receipt"); // lane 0 goes first
//! urgent.ack()?; // never forgotten from here on
//!
//! // The worker dies: whoever opens the queue next gets what was not acked, with its attempt raised.
//! let lost = consumer.reserve(Reserve::new())?.pop().expect("there is one");
//! let _receipt = lost.detach();
//! drop((consumer, queue));
//!
//! let queue = Queue::open(&path)?;
//! let again = queue.consumer().reserve(Reserve::new())?.pop().expect("it comes again");
//! assert_eq!((again.payload().as_ref(), again.attempt()), (b"resize cat.jpg".as_ref(), 2));
//! again.ack()?;
//! queue.close()?;
//! # Ok::<(), lanelog::Error>(())
//! ```
//!
//! # What always holds
//!
//! 1. A task acknowledged at [`Durability::Power`] is delivered after any crash, unless it was acked or its bytes were
//!    damaged, which is reported.
//! 2. A task is never on loan to two consumers of one group at once.
//! 3. A task acked at `Power` is never delivered again. A refused one is never delivered. One in doubt
//!    ([`Error::InDoubt`]) is delivered whole or never.
//! 4. Recovery is idempotent: crash in it, recover again, and the outcome is the same.
//! 5. A segment goes only after a durable checkpoint no longer needs it.
//! 6. A failed sync is final. It poisons the queue: enqueue, reserve and settle are refused with the cause
//!    ([`Error::Poisoned`]), looking goes on, and only a reopen clears it.
//! 7. No file, however hostile, makes the engine panic, loop, read out of bounds or take more memory than the file's
//!    size.
//! 8. A full disk refuses tasks before it accepts them, and can always be drained.
//! 9. The engine has no thread, clock or randomness of its own: same inputs, same behaviour. That is what the crash
//!    tests rest on.
//! 10. The cost per task does not grow with the backlog.
//!
//! # Blocking
//!
//! A call waits for what its doc says and nothing else: at `Power` for a sync, which one of the waiting threads makes
//! for all of them; for a ready segment or for room under a
//! [`Bound`], at most [`Options::append_wait`]; for a task, at most [`Reserve::wait`]. Two
//! threads per open queue keep house: `lanelog-janitor` and `lanelog-commit`; a third, `lanelog-keeper`, is there once a
//! lease is to be kept alive.
//!
//! # Where to read on
//!
//! `README.md` has the promises with their tests, the command and the limits; `ARCHITECTURE.md` is the map of this
//! code, from the layers to every hard corner. The on-disk format is specified beside its encoders, in `src/format/`.

// Rooms from the ground up; see ARCHITECTURE.md for who may use whom.
mod error;
#[doc(hidden)]
pub mod sabotage;
mod sync;
mod types;

mod format;
mod storage;

mod checkpoint;

mod log;

mod delivery;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod doors;

mod engine;

mod queue;

#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod sim;

// The queue and how it is opened.
pub use delivery::Priority;
pub use queue::{Bound, CloseReport, DeadLettersMax, OnDamage, OnVolatile, Options, Queue, Watermarks};

// Producing.
pub use queue::{Pending, Producer, Task};

// Both at once, wholly or not at all.
pub use queue::{Leased, Transaction};

// Consuming and settling.
pub use engine::groups::Start;
pub use engine::receipt::Receipt;
pub use queue::{Consumer, ConsumerOptions, Delivery, KeepAlive, Next, Reserve, Worker, WorkerOptions};

// Ids, positions and durability.
pub use types::{
    Backoff, Beyond, Durability, LANES_MAX, LaneId, LaneSet, QueueId, Retention, Seq, TaskId, Timestamp, parse_span,
};

// Looking.
pub use engine::hand::DeadFilter;
pub use engine::inspect::{Inspection, inspect};
pub use engine::lookup::Explanation;
pub use engine::pins::{GroupPin, Oldest, Pins};
pub use engine::reclaim::Pin;
pub use engine::stats::{DeadLetter, GroupLaneStats, GroupStats, LaneStats, Stats, WorkerStats};
pub use engine::task::{TaskRecord, TaskState};
pub use engine::times::Times;
pub use format::journal::DeadCause;
pub use storage::{SyncChoice, SyncPath};

// What went wrong.
pub use error::{Damage, DamageKind, Error, Result};

/// The examples of README.md are compiled like those of the docs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
