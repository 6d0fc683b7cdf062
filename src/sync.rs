//! The one place that names atomics, lock and wait primitives, so that a model checker's can stand in for them.
//!
//! With `--cfg loom` the library's own tests run over loom's: `models.rs` files beside the code state what must hold, and
//! loom tries every order of steps that its memory model allows.

use std::time::Duration;

use atomic::{AtomicU32, Ordering, fence};
use futex::Futex;
pub(crate) use primitives::OnceLock;
use primitives::{MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// Atomics, the standard library's or loom's.
pub(crate) mod atomic {
    #[cfg(all(test, loom))]
    pub(crate) use loom::sync::atomic::*;
    #[cfg(not(all(test, loom)))]
    pub(crate) use std::sync::atomic::*;
}

/// Locks, likewise.
mod primitives {
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    #[cfg(not(tsan))]
    pub(crate) use std::sync::OnceLock;
    pub(super) use std::sync::PoisonError;
    #[cfg(not(any(all(test, loom), tsan)))]
    pub(super) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    #[cfg(tsan)]
    pub(crate) use super::seen::OnceLock;
    #[cfg(tsan)]
    pub(super) use super::seen::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
}

/// Lets another thread run, which may be the one that is waited for.
pub(crate) fn yield_now() {
    #[cfg(all(test, loom))]
    loom::thread::yield_now();
    #[cfg(not(all(test, loom)))]
    std::thread::yield_now();
}

/// Mistakes that a model plants, one at a time, to show that it would see them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// An extent's final word is stored without release order.
    RelaxedPublish,
    /// The readable mark moves without release order.
    RelaxedMark,
    /// A commit acknowledges what is published after its sync, not what it synced.
    LateAck,
    /// A notifier looks for waiters without a fence behind what it changed.
    WakeWithoutFence,
    /// Who was woken and needs no commit any more goes without waking anybody.
    KeptWakeUp,
    /// A commit ends without waking a leader for those who gathered.
    NoSuccessor,
}

/// True inside a model that plants this mistake; false in whatever ships.
#[cfg(not(any(all(test, loom), tsan)))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
#[cfg(all(test, loom))]
pub(crate) use model::planted;
#[cfg(tsan)]
pub(crate) use seen::planted;

/// A mutex without lock poisoning: what a panic must not leave half done is guarded where it is done.
#[derive(Debug)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(primitives::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

/// A reader-writer lock without lock poisoning.
#[derive(Debug)]
pub(crate) struct RwLock<T>(primitives::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(primitives::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

/// A number that threads wait on until it changes: one system call wakes any number of them.
///
/// The order that makes no wake-up get lost: a waiter *enrols* (which counts it), takes the number, checks
/// its condition, and sleeps only while the number is still the same. A notifier changes the condition, and then
/// looks whether anybody is enrolled. One of the two sees the other (both sides are sequentially consistent).
#[derive(Default, Debug)]
pub(crate) struct WaitWord {
    word: Futex,
    enrolled: AtomicU32,
}

/// A waiter that is counted. Its condition is checked while this is held.
pub(crate) struct Enrolled<'a> {
    of: &'a WaitWord,
    ticket: u32,
}

impl WaitWord {
    /// Counts the caller as a waiter and takes the number.
    pub(crate) fn enrol(&self) -> Enrolled<'_> {
        self.enrolled.fetch_add(1, Ordering::SeqCst);
        // Pairs with the fence in `wake`: the condition that is checked from here on is read after the count is seen.
        fence(Ordering::SeqCst);
        Enrolled { of: self, ticket: self.word.number() }
    }

    /// Wakes up to `count` waiters, if there are any; without one it costs a fence and a load.
    pub(crate) fn wake(&self, count: u32) {
        // Pairs with the read-modify-write in `enrol`: what was stored before this is seen by whoever enrols
        // after, and whoever enrolled before is seen here.
        if !planted(Bug::WakeWithoutFence) {
            fence(Ordering::SeqCst);
        }
        if self.enrolled.load(Ordering::SeqCst) > 0 {
            self.word.change_and_wake(count);
        }
    }

    /// How many are enrolled.
    pub(crate) fn waiters(&self) -> u32 {
        self.enrolled.load(Ordering::SeqCst)
    }

    /// Wakes every waiter.
    pub(crate) fn wake_all(&self) {
        self.wake(i32::MAX.unsigned_abs());
    }
}

impl Enrolled<'_> {
    /// Sleeps while nobody woke since the enrolment, at most `limit`. May return early for no reason.
    pub(crate) fn sleep(&self, limit: Option<Duration>) {
        self.of.word.sleep_while(self.ticket, limit);
    }
}

impl Drop for Enrolled<'_> {
    fn drop(&mut self) {
        self.of.enrolled.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The kernel's futex.
#[cfg(not(all(test, loom)))]
mod futex {
    use std::time::Duration;

    use rustix::thread::futex::{self, Flags, Timespec};

    use super::atomic::{AtomicU32, Ordering};

    #[derive(Default, Debug)]
    pub(super) struct Futex(AtomicU32);

    impl Futex {
        pub(super) fn number(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }

        /// Changes the number and wakes up to `count` threads that sleep on the one before.
        pub(super) fn change_and_wake(&self, count: u32) {
            self.0.fetch_add(1, Ordering::SeqCst);
            let _woken = futex::wake(&self.0, Flags::PRIVATE, count);
        }

        /// Sleeps while the number is `ticket`.
        pub(super) fn sleep_while(&self, ticket: u32, limit: Option<Duration>) {
            let limit = limit.map(|limit| Timespec {
                tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(limit.subsec_nanos()),
            });
            // Interrupted, late or refused: the caller checks its condition again in any case.
            let _woken = futex::wait(&self.0, Flags::PRIVATE, ticket, limit.as_ref());
        }
    }
}

/// A model's: what `futex(2)` promises, by a lock and a condition.
#[cfg(all(test, loom))]
use model::futex;

/// Locks whose order ThreadSanitizer sees (`--cfg tsan`, see `.ci/tsan`). The standard library's slow paths are compiled
/// without it, so whoever had to wait for a lock would seem to have taken it in no order; a word of our own beside the
/// lock tells of it. The lock itself is the standard library's.
#[cfg(tsan)]
mod seen {
    use std::ops::{Deref, DerefMut};
    use std::sync::LockResult;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug)]
    pub(super) struct Mutex<T>(std::sync::Mutex<T>, AtomicU32);

    #[derive(Debug)]
    pub(super) struct RwLock<T>(std::sync::RwLock<T>, AtomicU32);

    /// A guard. Fields are dropped in their order, so the word is written while the lock is still held.
    pub(crate) struct Seen<'a, G>(#[expect(dead_code, reason = "it is there to be dropped")] Wrote<'a>, G);
    struct Wrote<'a>(&'a AtomicU32);

    pub(crate) type MutexGuard<'a, T> = Seen<'a, std::sync::MutexGuard<'a, T>>;
    pub(crate) type RwLockReadGuard<'a, T> = Seen<'a, std::sync::RwLockReadGuard<'a, T>>;
    pub(crate) type RwLockWriteGuard<'a, T> = Seen<'a, std::sync::RwLockWriteGuard<'a, T>>;

    /// A cell that is set once; read only by whoever sees the word that was stored behind it.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        cell: std::sync::OnceLock<T>,
        is_set: AtomicU32,
        setting: Mutex<()>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            OnceLock { cell: std::sync::OnceLock::new(), is_set: AtomicU32::new(0), setting: Mutex::new(()) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            // Acquire: pairs with the release in `set` and `get_or_init`.
            (self.is_set.load(Ordering::Acquire) == 1).then(|| self.cell.get()).flatten()
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let _one_at_a_time = self.setting.lock();
            let outcome = self.cell.set(value);
            self.is_set.store(1, Ordering::Release);
            outcome
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let _one_at_a_time = self.setting.lock();
            let value = self.cell.get_or_init(make);
            self.is_set.store(1, Ordering::Release);
            value
        }
    }

    /// The mistake that the environment names at build time, to show that it would be seen.
    pub(crate) fn planted(bug: super::Bug) -> bool {
        option_env!("LANELOG_PLANT").is_some_and(|name| name == format!("{bug:?}"))
    }

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Mutex(std::sync::Mutex::new(value), AtomicU32::new(0))
        }

        pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Ok(taken(&self.1, self.0.lock()))
        }
    }

    impl<T> RwLock<T> {
        pub(super) fn new(value: T) -> Self {
            RwLock(std::sync::RwLock::new(value), AtomicU32::new(0))
        }

        pub(super) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
            Ok(taken(&self.1, self.0.read()))
        }

        pub(super) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
            Ok(taken(&self.1, self.0.write()))
        }
    }

    fn taken<G>(word: &AtomicU32, guard: LockResult<G>) -> Seen<'_, G> {
        // Acquire: pairs with the release of whoever held the lock before.
        word.load(Ordering::Acquire);
        Seen(Wrote(word), guard.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    impl Drop for Wrote<'_> {
        fn drop(&mut self) {
            // A read-modify-write, so that of several readers none hides another.
            self.0.fetch_add(1, Ordering::Release);
        }
    }

    impl<G: Deref> Deref for Seen<'_, G> {
        type Target = G::Target;

        fn deref(&self) -> &G::Target {
            &self.1
        }
    }

    impl<G: DerefMut> DerefMut for Seen<'_, G> {
        fn deref_mut(&mut self) -> &mut G::Target {
            &mut self.1
        }
    }
}

/// What the models share.
#[cfg(all(test, loom))]
#[expect(clippy::unwrap_used, reason = "a helper fails the model that called it")]
pub(crate) mod model {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Bug;

    thread_local! {
        /// Loom runs all threads of a model on the one that began it.
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

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
        let bound =
            preemptions.map_or_else(|| "all there are".to_owned(), |most| format!("{most} preemptions at most"));
        println!("{what}: {} orders, {bound}", orders.load(Ordering::Relaxed));
    }

    /// Plants a mistake and fails unless the model ends with `message`. In a process of its own, because what the model
    /// ends with may be no panic that can be caught: a destructor runs into it as well.
    pub(crate) fn catches(bug: Bug, message: &str, preemptions: Option<usize>, run: fn()) {
        if std::env::var(PLANT).is_ok_and(|name| name == format!("{bug:?}")) {
            PLANTED.set(Some(bug));
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

    /// Names the mistake that a test plants in its second run.
    const PLANT: &str = "LANELOG_PLANT";

    pub(super) mod futex {
        use std::collections::VecDeque;
        use std::sync::PoisonError;
        use std::time::Duration;

        use loom::sync::{Condvar, Mutex, MutexGuard};

        use super::super::atomic::{AtomicU32, Ordering};

        /// What `futex(2)` promises: the number is looked at and the sleeper queued in one step, and whoever is woken
        /// was asleep before. Nobody wakes for no reason, and no limit ever passes: code that needs either is wrong.
        #[derive(Default, Debug)]
        pub(in super::super) struct Futex {
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
            pub(in super::super) fn number(&self) -> u32 {
                self.number.load(Ordering::SeqCst)
            }

            pub(in super::super) fn change_and_wake(&self, count: u32) {
                self.number.fetch_add(1, Ordering::SeqCst);
                let mut queue = self.queue();
                let count = (count as usize).min(queue.asleep.len());
                queue.asleep.drain(..count);
                self.woken.notify_all();
            }

            pub(in super::super) fn sleep_while(&self, ticket: u32, _limit: Option<Duration>) {
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
    }
}
