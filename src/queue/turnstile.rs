//! Leader commit: whoever waits and finds no commit running makes one, for all who gathered.
//!
//! While a commit runs, those it covers sleep on one word and those who came too late on the other. When it
//! ends, everybody on the first word wakes, and one of the second, to lead the next commit; the words change
//! roles. So one system call wakes a whole group, nobody wakes for nothing, no timer makes groups, and no
//! hand-off to another thread is on the path of a single producer.
//!
//! Nobody is forgotten: whoever wakes and needs no commit passes the wake-up on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::sync::WaitWord;

#[cfg(test)]
mod tests;

/// How many commits one leader makes in a row while others gather. It is on a core already; a new leader would have
/// to get one first, with the device idle. More than a few would make its own caller wait for strangers.
const ROUNDS_MAX: usize = 4;

/// Commits whose waiters are kept apart: the one that runs, the next, and two whose waiters are still being woken.
const WORDS: usize = 4;
/// How many a waker wakes.
const FAN_OUT: u32 = 2;

/// Where the waiters of one log meet.
#[derive(Default)]
pub(super) struct Turnstile {
    running: AtomicBool,
    /// Number of the commit that runs, or of the next one.
    number: AtomicU64,
    words: [WaitWord; WORDS],
}

impl Turnstile {
    /// Returns when the log is durable up to `end`; `commit` makes one commit of it.
    pub(super) fn pass(&self, log: &Log, end: u64, commit: impl Fn() -> Result<u64>) -> Result<()> {
        let mut slept = None;
        while log.durable() < end {
            if let Some(leading) = self.lead() {
                if log.durable() >= end {
                    break;
                }
                let mut outcome = commit();
                for _ in 1..ROUNDS_MAX {
                    if outcome.is_err() || log.durable() < end || !leading.others_wait() {
                        break;
                    }
                    leading.next();
                    outcome = commit();
                }
                drop(leading);
                if outcome.map_err(in_doubt)? < end {
                    // Somebody stands between claim and publish before us, and may want this core for it.
                    std::thread::yield_now();
                }
                continue;
            }
            let number = self.number.load(Ordering::SeqCst);
            // The hint may be from before this commit took its prefix: then the wait is one commit longer.
            let covered = end <= log.syncing();
            let word = self.word(if covered { number } else { number + 1 });
            let enrolled = word.enrol();
            let unchanged = self.running.load(Ordering::SeqCst) && self.number.load(Ordering::SeqCst) == number;
            if unchanged && log.durable() < end {
                enrolled.sleep(None);
                drop(enrolled);
                slept = Some(word);
                if log.durable() >= end {
                    word.wake(FAN_OUT);
                }
            }
        }
        if let Some(word) = slept
            && !self.running.load(Ordering::SeqCst)
        {
            word.wake(1);
        }
        Ok(())
    }

    fn lead(&self) -> Option<Leading<'_>> {
        let free = self.running.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst);
        // Lazily: a `Leading` that was made is given up when it is dropped.
        free.is_ok().then(|| Leading { of: self })
    }

    /// Starts the waking of everybody whom commit `number` covered: two here, and each who wakes wakes two more, so
    /// that the device need not wait for all those system calls. Whoever such a chain missed two commits ago is
    /// woken now; there is hardly ever anybody.
    fn wake_covered(&self, number: u64) {
        self.word(number).wake(FAN_OUT);
        self.word(number.wrapping_add(2)).wake_all();
    }

    fn word(&self, number: u64) -> &WaitWord {
        let [a, b, c, d] = &self.words;
        match number % WORDS as u64 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }
}

/// The right to commit. Given up, however the commit ended, by waking who must be woken.
struct Leading<'a> {
    of: &'a Turnstile,
}

impl Leading<'_> {
    /// True if somebody came too late for the commit that just ended.
    fn others_wait(&self) -> bool {
        self.of.word(self.of.number.load(Ordering::SeqCst) + 1).has_waiters()
    }

    /// Ends one commit and begins the next.
    fn next(&self) {
        let number = self.of.number.fetch_add(1, Ordering::SeqCst);
        self.of.wake_covered(number);
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let number = self.of.number.fetch_add(1, Ordering::SeqCst);
        self.of.running.store(false, Ordering::SeqCst);
        // First a leader for those who gathered meanwhile, so that the device is busy while the others wake.
        self.of.word(number + 1).wake(1);
        self.of.wake_covered(number);
    }
}

/// Whoever was waiting when a commit failed can't know whether its bytes made it.
fn in_doubt(error: Error) -> Error {
    match error {
        Error::Poisoned { cause } => Error::InDoubt { task: None, cause },
        Error::InDoubt { .. } => error,
        other => Error::InDoubt { task: None, cause: Arc::new(other) },
    }
}
