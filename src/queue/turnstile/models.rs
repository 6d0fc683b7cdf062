//! Models of waiting: the turnstile's and the wait word's own code, over every order that loom's memory model allows.
//!
//! What must hold: nobody sleeps on when what he waits for is there and nobody else comes by. Loom finds it as a
//! deadlock, because in a model no sleep ends for no reason.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::{Marks, Turnstile};
use crate::sabotage::Bug;
use crate::sync::WaitWord;
use crate::sync::model::{catches, explore};

/// A log of numbers: publishing counts one on, a commit makes durable what was published when it began.
#[derive(Default)]
struct Counted {
    published: AtomicU64,
    syncing: AtomicU64,
    durable: AtomicU64,
    /// Somebody stands between claim and publish before everybody else.
    slow: AtomicBool,
}

impl Marks for Counted {
    fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn syncing(&self) -> u64 {
        self.syncing.load(Ordering::SeqCst)
    }
}

impl Counted {
    /// As `Log::commit` orders its steps.
    fn commit(&self) -> u64 {
        let published = self.published.load(Ordering::Acquire);
        let target = if self.slow.load(Ordering::Acquire) { 0 } else { published };
        self.syncing.store(target, Ordering::SeqCst);
        self.durable.store(target, Ordering::Release);
        target
    }
}

#[derive(Default)]
struct Stage {
    log: Counted,
    turnstile: Turnstile,
}

impl Stage {
    fn publish_and_pass(&self) {
        let end = self.log.published.fetch_add(1, Ordering::AcqRel) + 1;
        self.turnstile.pass(&self.log, end, || Ok(self.log.commit())).unwrap();
        assert!(self.log.durable() >= end, "whoever passes is durable");
    }
}

fn passers<const OTHERS: usize>() {
    let stage = Arc::new(Stage::default());
    let others = [(); OTHERS].map(|()| {
        let stage = Arc::clone(&stage);
        thread::spawn(move || stage.publish_and_pass())
    });
    stage.publish_and_pass();
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// Waiters, and one who changes what they wait for and wakes them.
fn waiters<const WAITERS: usize>() {
    let stage = Arc::new((WaitWord::default(), AtomicU64::new(0)));
    let waiters = [(); WAITERS].map(|()| {
        let stage = Arc::clone(&stage);
        thread::spawn(move || {
            let (word, condition) = &*stage;
            loop {
                let enrolled = word.enrol();
                // Relaxed: the word alone has to see to it that nothing is missed.
                if condition.load(Ordering::Relaxed) > 0 {
                    return;
                }
                enrolled.sleep(None);
            }
        })
    });
    let (word, condition) = &*stage;
    condition.store(1, Ordering::Relaxed);
    word.wake_all();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// One waits for a commit while another, who claimed before it, takes its time to publish.
fn passer_behind_a_slow_one() {
    let stage = Arc::new(Stage::default());
    stage.log.slow.store(true, Ordering::SeqCst);
    let passer = {
        let stage = Arc::clone(&stage);
        thread::spawn(move || stage.publish_and_pass())
    };
    stage.log.slow.store(false, Ordering::Release);
    stage.publish_and_pass();
    passer.join().unwrap();
}

#[test]
fn model_of_two_waiters_and_a_notifier() {
    explore("two waiters, a notifier", Some(3), waiters::<2>);
}

#[test]
fn model_of_two_passers() {
    explore("two passers", Some(4), passers::<1>);
}

#[test]
fn model_of_three_passers() {
    explore("three passers", Some(2), passers::<2>);
}

#[test]
fn model_catches_a_wake_up_without_a_fence() {
    catches(Bug::WakeWithoutFence, "deadlock", Some(3), waiters::<1>);
}

#[test]
fn model_catches_a_commit_that_wakes_no_successor() {
    catches(Bug::NoSuccessor, "deadlock", Some(2), passers::<2>);
}

#[test]
fn model_catches_a_wake_up_that_is_not_passed_on() {
    catches(Bug::KeptWakeUp, "deadlock", Some(2), passers::<2>);
}

#[test]
fn model_of_a_passer_behind_a_slow_producer() {
    explore("a passer behind a slow producer", Some(3), passer_behind_a_slow_one);
}
