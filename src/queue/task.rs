//! A task as a producer hands it in.

use std::time::Duration;

use crate::engine::append::TaskDraft;
use crate::error::{Error, Result};
use crate::format::dedup::{ID_BYTES_MAX, UNTIL_SETTLED, fingerprint};
use crate::format::fields::{DedupTrait, FIELDS_BYTES_MAX, KEY_BYTES_MAX, Traits, encode_headers};
use crate::types::{Backoff, Durability, LaneId, Timestamp, millis};

use super::core::Core;

/// A task to be enqueued. Borrows its payload and headers; making one allocates nothing unless it has headers or asks
/// for something that a plain task does not have.
///
/// ```
/// use lanelog::{Backoff, Durability, LaneId, Task};
/// use std::time::Duration;
///
/// let task = Task::new("resize cat.jpg").lane(LaneId(1)).header("tenant", "acme").durability(Durability::Process);
/// let later = Task::new("remind").delay(Duration::from_secs(3600)).ttl(Duration::from_secs(7200));
/// let dear = Task::new("pay").key("account 7").max_attempts(10).backoff(Backoff::fixed(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct Task<'a> {
    pub(super) payload: &'a [u8],
    pub(super) lane: LaneId,
    pub(super) durability: Durability,
    pub(super) wait: Option<Duration>,
    headers: Vec<(&'a str, &'a [u8])>,
    asks: Option<Box<Asks<'a>>>,
}

/// What a task asks for beside being done.
#[derive(Clone, Debug, Default)]
struct Asks<'a> {
    run: Option<Run>,
    ttl: Option<Duration>,
    key: Option<&'a [u8]>,
    max_attempts: Option<u32>,
    backoff: Option<Backoff>,
    time_limit: Option<Duration>,
    dedup_id: Option<&'a [u8]>,
    dedup: Lifetime,
}

/// How long a dedup id counts.
#[derive(Clone, Copy, Debug, Default)]
enum Lifetime {
    /// For the queue's window.
    #[default]
    Window,
    For(Duration),
    UntilSettled,
}

/// When a task may run at the earliest.
#[derive(Clone, Copy, Debug)]
enum Run {
    After(Duration),
    At(Timestamp),
}

/// The optional fields of a task as they lie in its record.
#[derive(Default)]
pub(super) struct Fields {
    bytes: Vec<u8>,
    special: bool,
}

impl Fields {
    /// The task as the engine takes it.
    #[inline]
    pub(super) fn draft<'a>(&'a self, payload: &'a [u8], durability: Durability) -> TaskDraft<'a> {
        TaskDraft { fields: &self.bytes, special: self.special, payload, durability }
    }
}

impl<'a> Task<'a> {
    /// A task for lane 0 at `Power`. An empty payload is a task like any other.
    pub fn new<P: AsRef<[u8]> + ?Sized>(payload: &'a P) -> Self {
        Task {
            payload: payload.as_ref(),
            lane: LaneId(0),
            durability: Durability::Power,
            wait: None,
            headers: Vec::new(),
            asks: None,
        }
    }

    /// The lane it goes to; 0 is the most urgent.
    #[must_use]
    pub fn lane(mut self, lane: LaneId) -> Self {
        self.lane = lane;
        self
    }

    /// When it counts as accepted, and from when on it is delivered: at `Power` not before it is durable.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long its enqueue waits for a ready segment, and for room under a [`Bound`](crate::Bound), instead of
    /// [`Options::append_wait`](crate::Options::append_wait); zero is not at all. In a batch the longest of its tasks' counts.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Adds a header: a name of 1 to 255 bytes, a value of any; all headers together take at most 65,535 bytes.
    #[must_use]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// Not to be delivered before this long from its enqueue on; years if you like. The id is known at once and stays.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.asks().run = Some(Run::After(delay));
        self
    }

    /// Not to be delivered before this wall time. One that is over is no delay.
    #[must_use]
    pub fn run_at(mut self, at: Timestamp) -> Self {
        self.asks().run = Some(Run::At(at));
        self
    }

    /// How long, from its enqueue on, somebody wants it done. If it is not handed out by then it expires: it is counted and
    /// gone, or a dead letter ([`Options::expired_to_dead_letters`](crate::Options::expired_to_dead_letters)). What is on loan
    /// by then may be finished. Must be longer than the delay.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.asks().ttl = Some(ttl);
        self
    }

    /// Its key, 1 to 255 bytes. In each group tasks with the same key are delivered one at a time, and in each lane in their
    /// order; the next one only after the one before is settled for good: acked, a dead letter, or expired. One that waits
    /// for its retry keeps its key; one that is delayed does not take it before its time. Tasks with other keys, and those
    /// without, don't wait. For a key that stays with one worker see [`Options::sticky`](crate::Options::sticky).
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.asks().key = Some(key.as_ref());
        self
    }

    /// Attempts after which it becomes a dead letter, instead of the queue's; 0 is without limit.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.asks().max_attempts = Some(attempts);
        self
    }

    /// How long it waits between attempts, instead of the queue's backoff.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.asks().backoff = Some(backoff);
        self
    }

    /// The longest time of one attempt: its lease ends then at the latest, whatever extends it.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.asks().time_limit = Some(limit);
        self
    }

    /// Its dedup id, 1 to 255 bytes: as long as it counts, an enqueue with the same one, into whatever lane, gives this
    /// task's id and adds nothing. It counts from the enqueue that was accepted on, for the queue's window
    /// ([`Options::dedup_window`](crate::Options::dedup_window), 5 minutes unless told) whatever becomes of the task; or as
    /// [`dedup_for`](Task::dedup_for) or [`dedup_until_settled`](Task::dedup_until_settled) says.
    ///
    /// Exact over a crash: an id whose task survived counts, and one whose task did not survive is free. An enqueue that
    /// gives an earlier task waits until that one has the durability asked for now; if that fails, so does it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let queue = lanelog::Options::new().open(dir.path().join("queue"))?;
    /// use lanelog::Task;
    ///
    /// let first = queue.enqueue(Task::new("charge card").dedup_id("order 17"))?;
    /// let again = queue.enqueue(Task::new("charge card").dedup_id("order 17"))?;
    /// assert_eq!(first, again);
    /// # queue.close()?;
    /// # Ok::<(), lanelog::Error>(())
    /// ```
    ///
    /// What is remembered is a fingerprint of 128 bits: of a million ids two have the same with a probability of
    /// 1 in 10^27.
    #[must_use]
    pub fn dedup_id<I: AsRef<[u8]> + ?Sized>(mut self, id: &'a I) -> Self {
        self.asks().dedup_id = Some(id.as_ref());
        self
    }

    /// How long the dedup id counts, whatever becomes of the task; at least 1 ms.
    #[must_use]
    pub fn dedup_for(mut self, time: Duration) -> Self {
        self.asks().dedup = Lifetime::For(time);
        self
    }

    /// The dedup id counts until every group settled this task: acked it, or made a dead letter of it; or it expired, or
    /// was cancelled or purged. A parked task is not settled. Once it is over, the id may count again or not where a dead
    /// letter comes back.
    #[must_use]
    pub fn dedup_until_settled(mut self) -> Self {
        self.asks().dedup = Lifetime::UntilSettled;
        self
    }

    /// True if it may turn out to be there already.
    #[inline]
    pub(super) fn has_dedup_id(&self) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.dedup_id.is_some())
    }

    fn asks(&mut self) -> &mut Asks<'a> {
        self.asks.get_or_insert_default()
    }

    /// The optional fields as they lie in the record. `now` reads the clock: only a task that asks for something needs it,
    /// and then to the millisecond, or it would come early.
    #[inline]
    pub(super) fn fields(&self, core: &Core, now: impl Fn() -> Timestamp) -> Result<Fields> {
        let mut fields = Fields::default();
        if let Some(asks) = &self.asks {
            let now = now();
            let traits = Traits { dedup: asks.dedup(core, now)?, ..asks.traits(now)? };
            fields.special = !traits.is_plain();
            traits.encode(&mut fields.bytes);
        }
        if self.headers.is_empty() {
            return Ok(fields);
        }
        if let Some((name, _)) = self.headers.iter().find(|(name, _)| name.is_empty() || name.len() > 255) {
            let why = format!("a header's name has 1 to 255 bytes, this one has {}", name.len());
            return Err(Error::InvalidOption { option: "header", why });
        }
        encode_headers(&mut fields.bytes, &self.headers)
            .map_err(|bytes| Error::HeadersTooLarge { bytes: bytes as u64, max: FIELDS_BYTES_MAX as u64 })?;
        Ok(fields)
    }
}

impl Asks<'_> {
    /// Its dedup id, without the order, which the engine gives it.
    fn dedup(&self, core: &Core, now: Timestamp) -> Result<Option<DedupTrait>> {
        let refuse = |option: &'static str, why: String| Err(Error::InvalidOption { option, why });
        let Some(id) = self.dedup_id else {
            return match self.dedup {
                Lifetime::Window => Ok(None),
                _ => refuse("dedup_id", "the task says how long its dedup id counts, and has none".to_owned()),
            };
        };
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return refuse("dedup_id", format!("a dedup id has 1 to {ID_BYTES_MAX} bytes, this one has {}", id.len()));
        }
        let within = |ms: u64| Timestamp(now.0.saturating_add(ms).min(UNTIL_SETTLED.0 - 1));
        let ends = match self.dedup {
            Lifetime::Window => within(core.engine.settings().dedup_window_ms),
            Lifetime::For(time) if millis(time) == 0 => {
                return refuse("dedup_for", "a dedup id counts for at least 1 ms".to_owned());
            }
            Lifetime::For(time) => within(millis(time)),
            Lifetime::UntilSettled => UNTIL_SETTLED,
        };
        Ok(Some(DedupTrait { fingerprint: fingerprint(core.engine.queue(), id), ends, order: 0 }))
    }

    fn traits(&self, now: Timestamp) -> Result<Traits<'_>> {
        let refuse = |option: &'static str, why: String| Err(Error::InvalidOption { option, why });
        if let Some(key) = self.key.filter(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return refuse("key", format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len()));
        }
        let run_at = match self.run {
            Some(Run::After(delay)) => Some(after(now, delay)),
            Some(Run::At(at)) => Some(at),
            None => None,
        };
        let run_at = run_at.filter(|at| *at > now);
        let expires = self.ttl.map(|ttl| after(now, ttl));
        if expires.is_some_and(|expires| expires <= run_at.unwrap_or(now)) {
            return refuse("ttl", "the time to live ends before the task may run".to_owned());
        }
        let time_limit_ms = self.time_limit.map(millis);
        if time_limit_ms == Some(0) {
            return refuse("time_limit", "an attempt takes at least 1 ms".to_owned());
        }
        let Asks { key, max_attempts, backoff, .. } = *self;
        Ok(Traits { run_at, expires, key, max_attempts, backoff, time_limit_ms, ..Traits::default() })
    }
}

fn after(now: Timestamp, span: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(millis(span)))
}
