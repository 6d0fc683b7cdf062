//! What the models share: running one, planting a mistake in it, and a futex that loom sees.

#![expect(clippy::unwrap_used, reason = "a helper fails the model that called it")]

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use loom::sync::{Condvar, Mutex, MutexGuard};

use super::atomic::{AtomicU32, Ordering};
use crate::sabotage::{Bug, plant};

/// Names the mistake that a test plants in its second run.
const PLANT: &str = "LANELOG_PLANT";

/// Tries every order in which the threads of `run` can go on; with so many preemptions at most in each, or all.
pub(crate) fn explore(what: &str, preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let bound = preemptions.map_or_else(|| "all there are".to_owned(), |most| format!("{most} preemptions at most"));
    println!("{what}: {} orders, {bound}", orders.load(Ordering::Relaxed));
}

/// Plants a mistake and fails unless the model ends with `message`. In a process of its own, because what the model
/// ends with may be no panic that can be caught: a destructor runs into it as well.
pub(crate) fn catches(bug: Bug, message: &str, preemptions: Option<usize>, run: fn()) {
    if std::env::var(PLANT).is_ok_and(|name| name == format!("{bug:?}")) {
        plant(bug);
        return explore("not caught", preemptions, run);
    }
    // The harness names the thread of a test after it.
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args([&name, "--exact", "--nocapture", "--test-threads=2"]).env(PLANT, format!("{bug:?}"));
    let output = again.env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("running 1 test"), "{name} found itself: {said}");
    assert!(!output.status.success() && said.contains(message), "{bug:?} was not seen: {said}");
}

/// What `futex(2)` promises: the number is looked at and the sleeper queued in one step, and whoever is woken
/// was asleep before. Nobody wakes for no reason, and no limit ever passes: code that needs either is wrong.
#[derive(Default, Debug)]
pub(super) struct Futex {
    number: AtomicU32,
    queue: Mutex<Queue>,
    woken: Condvar,
}

#[derive(Default, Debug)]
struct Queue {
    asleep: VecDeque<u64>,
    next: u64,
}

impl Futex {
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::SeqCst)
    }

    pub(super) fn change_and_wake(&self, count: u32) {
        self.number.fetch_add(1, Ordering::SeqCst);
        let mut queue = self.queue();
        let count = (count as usize).min(queue.asleep.len());
        queue.asleep.drain(..count);
        self.woken.notify_all();
    }

    pub(super) fn sleep_while(&self, ticket: u32, _limit: Option<Duration>) {
        let mut queue = self.queue();
        if self.number() != ticket {
            return;
        }
        let me = queue.next;
        queue.next += 1;
        queue.asleep.push_back(me);
        while queue.asleep.contains(&me) {
            queue = self.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
