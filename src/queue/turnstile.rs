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

/// Where the waiters of one log meet.
#[derive(Default)]
pub(super) struct Turnstile {
    running: AtomicBool,
    /// Number of the commit that runs, or of the next one.
    number: AtomicU64,
    words: [WaitWord; 2],
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
                let outcome = commit();
                drop(leading);
                outcome.map_err(in_doubt)?;
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
                slept = Some(word);
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
        free.is_ok().then_some(Leading { of: self })
    }

    fn word(&self, number: u64) -> &WaitWord {
        let [even, odd] = &self.words;
        if number.is_multiple_of(2) { even } else { odd }
    }
}

/// The right to commit. Given up, however the commit ended, by waking who must be woken.
struct Leading<'a> {
    of: &'a Turnstile,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let number = self.of.number.fetch_add(1, Ordering::SeqCst);
        self.of.running.store(false, Ordering::SeqCst);
        // First a leader for those who gathered meanwhile, so that the device is busy while the others wake.
        self.of.word(number + 1).wake(1);
        self.of.word(number).wake_all();
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
