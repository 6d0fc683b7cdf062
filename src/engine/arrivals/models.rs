//! Models of consumers who wake one another: nobody sleeps on while there is a task for him.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::Arrivals;
use crate::sabotage::Bug;
use crate::sync::Mutex;
use crate::sync::model::{catches, explore};

/// Tasks that are handed out in order: a bit for each that is published, and how many were taken.
#[derive(Default)]
struct Stage {
    published: AtomicU64,
    taken: Mutex<u32>,
    arrivals: Arrivals,
}

impl Stage {
    fn publish(&self, task: u32) {
        // Relaxed: that a sleeper is not missed is the word's business.
        self.published.fetch_or(1 << task, Ordering::Relaxed);
        self.arrivals.wake_one();
    }

    fn is_next_there(&self, taken: u32) -> bool {
        self.published.load(Ordering::Relaxed) >> taken & 1 == 1
    }

    /// As a consumer reserves one, and waits for it.
    fn take(&self) {
        loop {
            let mut taken = self.taken.lock();
            if self.is_next_there(*taken) {
                *taken += 1;
                drop(taken);
                self.arrivals.pass_on(|| self.is_next_there(*self.taken.lock()));
                return;
            }
            drop(taken);
            let enrolled = self.arrivals.enrol(true);
            if self.is_next_there(*self.taken.lock()) {
                continue;
            }
            enrolled.sleep(None);
        }
    }
}

/// Two consumers for two tasks, of which the later one may be there first.
fn two_for_two() {
    let stage = Arc::new(Stage::default());
    let consumers = [(); 2].map(|()| {
        let stage = Arc::clone(&stage);
        thread::spawn(move || stage.take())
    });
    stage.publish(1);
    stage.publish(0);
    consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
}

#[test]
fn model_of_two_consumers_for_two_tasks() {
    explore("two consumers for two tasks", Some(3), two_for_two);
}

#[test]
fn model_catches_who_wakes_nobody() {
    catches(Bug::ConsumerNotWoken, "deadlock", Some(3), two_for_two);
}
