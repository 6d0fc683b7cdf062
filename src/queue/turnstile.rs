//! Leader commit: whoever waits and finds no commit running makes one, for all who gathered.
//!
//! While a commit runs, those it covers sleep on one word and those who came too late on the other. When it ends,
//! everybody on the first word wakes, and one of the second, to lead the next commit; the words change roles. So one
//! system call wakes a whole group, no timer makes groups, and no hand-off to another thread is on the path of a single
//! producer.
//!
//! Nobody is forgotten. Whoever sleeps does so while a commit runs, on the word of that one or of the next. The end of a
//! commit wakes all of its word, so it is enough that the next one is led: by the one who is woken for it, or by whoever
//! else takes the lead; and whoever slept and leaves while nobody leads passes the wake-up on, to both words.

use crate::error::{Error, Result};
use crate::log::Log;
use crate::sabotage::{Bug, on};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{WaitWord, yield_now};

#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

/// How many commits one leader makes in a row while others gather. It is on a core already; a new leader would have
/// to get one first, with the device idle. More than a few would make its own caller wait for strangers.
const ROUNDS_MAX: usize = 4;

/// What a turnstile asks of its log.
pub(super) trait Marks {
    /// Everything below is on stable storage.
    fn durable(&self) -> u64;
    /// What the commit now running will make durable, if it succeeds; a hint.
    fn syncing(&self) -> u64;
}

impl Marks for Log {
    fn durable(&self) -> u64 {
        Log::durable(self)
    }

    fn syncing(&self) -> u64 {
        Log::syncing(self)
    }
}

/// Where the waiters of one log meet.
#[derive(Default)]
pub(super) struct Turnstile {
    running: AtomicBool,
    /// Number of the commit that runs, or of the next one.
    number: AtomicU64,
    /// Those who sleep until an even commit ends, and until an odd one.
    words: [Word; 2],
}

/// The sleepers of one commit.
#[derive(Default)]
struct Word {
    sleepers: WaitWord,
    /// The commit ended and somebody was woken to wake the others, while the leader goes on.
    deputy: AtomicBool,
}

impl Turnstile {
    /// Returns when the log is durable up to `end`; `commit` makes one commit of it.
    pub(super) fn pass(&self, log: &impl Marks, end: u64, commit: impl Fn() -> Result<u64>) -> Result<()> {
        let mut slept = false;
        let mut outcome = Ok(());
        while outcome.is_ok() && log.durable() < end {
            match self.lead() {
                Some(leading) => outcome = leading.commits(log, end, &commit),
                None => slept |= self.sleep(log, end),
            }
        }
        // A wake-up that was meant for a next leader may have come here, to somebody who needs no commit any more.
        if slept && !self.running.load(Ordering::SeqCst) && !on(Bug::KeptWakeUp) {
            self.words.iter().for_each(|word| word.sleepers.wake(1));
        }
        outcome
    }

    fn lead(&self) -> Option<Leading<'_>> {
        let free = self.running.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst);
        // Lazily: a `Leading` that was made is given up when it is dropped.
        free.is_ok().then(|| Leading { of: self })
    }

    /// Sleeps until the commit ends that covers `end`, as far as that can be told. True if it slept.
    fn sleep(&self, log: &impl Marks, end: u64) -> bool {
        let number = self.number.load(Ordering::SeqCst);
        // The hint may be from before this commit took its prefix: then the wait is one commit longer.
        let covered = end <= log.syncing();
        let word = self.word(if covered { number } else { number + 1 });
        let enrolled = word.sleepers.enrol();
        let unchanged = self.running.load(Ordering::SeqCst) && self.number.load(Ordering::SeqCst) == number;
        if !unchanged || log.durable() >= end {
            return false;
        }
        enrolled.sleep(None);
        drop(enrolled);
        if word.deputy.swap(false, Ordering::SeqCst) {
            word.sleepers.wake_all();
        }
        true
    }

    fn word(&self, number: u64) -> &Word {
        let [even, odd] = &self.words;
        if number.is_multiple_of(2) { even } else { odd }
    }
}

/// The right to commit. Given up, however the commit ended, by waking who must be woken.
struct Leading<'a> {
    of: &'a Turnstile,
}

impl Leading<'_> {
    /// Commits until the log is durable up to `end`, and on while others gather, a few times.
    fn commits(self, log: &impl Marks, end: u64, commit: &impl Fn() -> Result<u64>) -> Result<()> {
        if log.durable() >= end {
            return Ok(());
        }
        let mut durable = commit().map_err(in_doubt)?;
        for _ in 1..ROUNDS_MAX {
            if durable < end || !self.others_wait() {
                break;
            }
            self.next();
            // Whoever leads is covered; a failure is for those who gathered since.
            durable = commit().unwrap_or(durable);
        }
        drop(self);
        if durable < end {
            // Somebody stands between claim and publish before us, and may want this core for it.
            yield_now();
        }
        Ok(())
    }

    /// True if somebody came too late for the commit that just ended.
    fn others_wait(&self) -> bool {
        self.of.word(self.of.number.load(Ordering::SeqCst) + 1).sleepers.waiters() > 0
    }

    /// Ends one commit and begins the next: those whom it covered are woken by one of them, so that the device need
    /// not wait for that.
    fn next(&self) {
        let number = self.of.number.fetch_add(1, Ordering::SeqCst);
        let word = self.of.word(number);
        if word.sleepers.waiters() > 0 {
            word.deputy.store(true, Ordering::SeqCst);
            word.sleepers.wake(1);
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let number = self.of.number.fetch_add(1, Ordering::SeqCst);
        self.of.running.store(false, Ordering::SeqCst);
        // First a leader for those who gathered meanwhile, so that the device is busy while the others wake.
        if !on(Bug::NoSuccessor) {
            self.of.word(number + 1).sleepers.wake(1);
        }
        self.of.word(number).sleepers.wake_all();
    }
}

/// Whoever was waiting when a commit failed can't know whether its bytes made it.
fn in_doubt(error: Error) -> Error {
    match error {
        Error::Poisoned { cause } => Error::InDoubt { task: None, cause },
        other => other.in_doubt(),
    }
}
