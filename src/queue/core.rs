//! What every handle of an open queue shares: the engine, the turnstiles of its logs, the threads.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::{Attempt, Engine};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::storage::Medium;
use crate::storage::disk::clock;
use crate::storage::disk::fork::ForkGuard;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Line, Mutex, WaitWord};
use crate::types::{Durability, LANES_MAX, LogId, nanos};

use super::keeper::Keeper;
use super::options::OnVolatile;
use super::turnstile::Turnstile;

/// The shared state behind all handles.
pub(super) struct Core {
    pub engine: Engine,
    /// One per lane, and the journal's.
    turnstiles: Box<[Turnstile]>,
    journal_turnstile: Turnstile,
    pub append_wait: Duration,
    spin: Duration,
    /// How many consumers spin now, and how many may: one core is left to whoever they wait for.
    spinning: Line<AtomicU64>,
    spinning_max: u64,
    on_volatile: OnVolatile,
    fork: ForkGuard,
    pub closed: AtomicBool,
    /// Woken when a segment became ready, or could not be made.
    pub ready: WaitWord,
    /// Why the last segment could not be made ready, and how often that happened.
    pub failure: Mutex<Option<Error>>,
    pub failures: AtomicU64,
    /// Woken to make the committer look up.
    pub commit_word: WaitWord,
    /// Woken to end the mover.
    pub mover_word: WaitWord,
    pub threads: Mutex<Vec<JoinHandle<()>>>,
    pub consumers: AtomicU64,
    pub keeper: Keeper,
}

impl Core {
    pub(super) fn new(engine: Engine, append_wait: Duration, spin: Duration, on_volatile: OnVolatile) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let fork = ForkGuard::new().map_err(|error| Error::io(".", "map a page", error))?;
        let lanes = engine.lanes().count().min(LANES_MAX);
        Ok(Core {
            engine,
            turnstiles: (0..lanes).map(|_| Turnstile::default()).collect(),
            journal_turnstile: Turnstile::default(),
            append_wait,
            spin,
            spinning: Line::default(),
            spinning_max: cores as u64 - 1,
            on_volatile,
            fork,
            closed: AtomicBool::new(false),
            ready: WaitWord::default(),
            failure: Mutex::new(None),
            failures: AtomicU64::new(0),
            commit_word: WaitWord::default(),
            mover_word: WaitWord::default(),
            threads: Mutex::new(Vec::new()),
            consumers: AtomicU64::new(1),
            keeper: Keeper::default(),
        })
    }

    /// Refuses what a closed queue or a forked child must not do, and `Power` where it can't be had.
    #[inline]
    pub(super) fn check(&self, durability: Durability) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        if self.fork.is_child() {
            return Err(Error::Forked);
        }
        if durability == Durability::Power && self.on_volatile == OnVolatile::Refuse {
            return match self.engine.storage().medium() {
                Medium::Volatile(kind) | Medium::Foreign(kind) => Err(Error::NotDurable { kind }),
                Medium::Local | Medium::CopyOnWrite => Ok(()),
            };
        }
        Ok(())
    }

    /// Asks again and again for a short time, unless too many do so already. True as soon as the answer is.
    pub(super) fn spin(&self, until: u64, mut ask: impl FnMut() -> bool) -> bool {
        let spin_until = clock::nanos().saturating_add(nanos(self.spin)).min(until);
        let may_spin = self.spinning.fetch_add(1, Ordering::Relaxed) < self.spinning_max;
        let mut answer = false;
        while may_spin && !answer && clock::nanos() < spin_until {
            answer = ask();
            std::hint::spin_loop();
        }
        self.spinning.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// True in a child of the process that opened the queue.
    pub(super) fn is_forked(&self) -> bool {
        self.fork.is_child()
    }

    pub(super) fn turnstile(&self, log: &Log) -> &Turnstile {
        match log.id().lane() {
            Some(lane) => self.turnstiles.get(lane.index()).unwrap_or(&self.journal_turnstile),
            None => &self.journal_turnstile,
        }
    }

    /// Waits until everything of `log` below position `end` is on stable storage, committing if nobody does.
    pub(super) fn wait_durable(&self, log: &Log, end: u64) -> Result<()> {
        self.turnstile(log).pass(log, end, || self.engine.commit(log, clock::coarse_wall()))
    }

    /// Repeats an append until a segment is ready and the bounds on what waits allow it, at most for `wait` each, or
    /// unless told for `append_wait`.
    #[inline]
    pub(super) fn append<T>(&self, wait: Option<Duration>, step: impl Fn() -> Result<Attempt<T>>) -> Result<T> {
        let wait = wait.unwrap_or(self.append_wait);
        match self.with_segment(wait, &step) {
            Err(Error::OverBound { asked, max, .. }) if asked <= max => self.wait_for_room(wait, step),
            outcome => outcome,
        }
    }

    #[cold]
    fn wait_for_room<T>(&self, wait: Duration, step: impl Fn() -> Result<Attempt<T>>) -> Result<T> {
        let (began, limit) = (clock::nanos(), nanos(wait));
        loop {
            let enrolled = self.engine.room.enrol();
            let outcome = self.with_segment(wait, &step);
            let Err(Error::OverBound { lane, what, max, waiting, asked, .. }) = outcome else { return outcome };
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::Closed);
            }
            let waited = clock::nanos() - began;
            if waited >= limit {
                let waited_ms = waited / 1_000_000;
                return Err(Error::OverBound { lane, what, max, waiting, asked, waited_ms });
            }
            enrolled.sleep(Some(Duration::from_nanos(limit - waited)));
        }
    }

    /// Writes a checkpoint; where one is put off, it waits for what it is put off for.
    pub(super) fn checkpoint(&self, clean: bool) -> Result<()> {
        while !self.engine.try_checkpoint(clock::now(), clean)? {
            self.wait_for_all(&self.engine.told())?;
        }
        Ok(())
    }

    /// Waits until all these logs are durable up to there. What several of them lack is synced side by side.
    pub(super) fn wait_for_all(&self, ends: &[(LogId, u64)]) -> Result<()> {
        let logs: Vec<(&Log, u64)> =
            ends.iter().filter_map(|(id, end)| Some((self.engine.log_of(*id)?.as_ref(), *end))).collect();
        let behind: Vec<&Log> = logs.iter().filter(|(log, end)| log.durable() < *end).map(|(log, _)| *log).collect();
        if behind.len() > 1 {
            // A failure poisons: what it left in doubt is told below, of the log that it concerns.
            let _poisoned = self.engine.commit_together(behind.into_iter(), clock::coarse_wall());
        }
        // What is left: one log, one that somebody else commits, what somebody stood in front of, or what failed.
        logs.into_iter().try_for_each(|(log, end)| self.wait_durable(log, end))
    }

    /// Repeats a step that needs a ready segment until one is there, at most for `wait`.
    #[inline]
    fn with_segment<T>(&self, wait: Duration, step: impl Fn() -> Result<Attempt<T>>) -> Result<T> {
        match step()?.done() {
            Some(done) => Ok(done),
            None => self.wait_for_segment(wait, step),
        }
    }

    #[cold]
    fn wait_for_segment<T>(&self, wait: Duration, step: impl Fn() -> Result<Attempt<T>>) -> Result<T> {
        self.engine.counts().stalls.fetch_add(1, Ordering::Relaxed);
        let (began, limit) = (clock::nanos(), nanos(wait));
        let failures = self.failures.load(Ordering::SeqCst);
        loop {
            let enrolled = self.ready.enrol();
            self.engine.housework.wake_all();
            self.commit_word.wake_all();
            if let Some(done) = step()?.done() {
                return Ok(done);
            }
            let waited = clock::nanos() - began;
            let failed = self.failures.load(Ordering::SeqCst) != failures;
            if waited >= limit || failed || self.closed.load(Ordering::Relaxed) {
                return Err(self.full(waited / 1_000_000));
            }
            enrolled.sleep(Some(Duration::from_nanos(limit - waited)));
        }
    }

    fn full(&self, waited_ms: u64) -> Error {
        if self.closed.load(Ordering::Relaxed) {
            return Error::Closed;
        }
        let log = || "the lane".to_owned();
        match self.failure.lock().as_ref() {
            Some(Error::Full { cause, .. }) => Error::Full { log: log(), waited_ms, cause: cause.clone() },
            Some(Error::Io { source, .. }) => Error::Full { log: log(), waited_ms, cause: Some(Arc::clone(source)) },
            _ => Error::Full { log: log(), waited_ms, cause: None },
        }
    }
}
