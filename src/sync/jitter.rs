//! Threads that stand still where they seldom do.
//!
//! Between two locks of one call another thread can do anything, and on a machine with few processors it hardly ever
//! does. With the feature `jitter` who is about to take a lock waits a moment now and then, for a few microseconds or
//! for longer than most calls take: what is wrong between two steps shows within seconds instead of weeks.

/// May stand still for a moment, in a build that is made for it.
#[cfg(not(feature = "jitter"))]
#[inline(always)]
pub(crate) const fn linger() {}

#[cfg(feature = "jitter")]
pub(crate) use on::linger;

#[cfg(feature = "jitter")]
mod on {
    use std::cell::Cell;
    use std::hash::{BuildHasher, RandomState};
    use std::time::Duration;

    /// Once in so many steps somebody gives way; once in so many he sleeps.
    const YIELDS: u64 = 16;
    const SLEEPS: u64 = 256;
    /// The longest sleep, in microseconds; most are much shorter.
    const LONGEST: u64 = 4_096;

    thread_local! {
        static RANDOM: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }

    #[expect(clippy::disallowed_methods, reason = "nothing is waited for here: standing still is the purpose")]
    pub(crate) fn linger() {
        // A thread that ends may still take locks, its own storage being gone.
        let drawn = RANDOM.try_with(|random| {
            // Marsaglia's xorshift64.
            let mut x = random.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            random.set(x);
            x
        });
        let Ok(drawn) = drawn else { return };
        if drawn.is_multiple_of(SLEEPS) {
            let longest = LONGEST >> ((drawn >> 16) % 12);
            std::thread::sleep(Duration::from_micros((drawn >> 32) % longest.max(2)));
        } else if drawn.is_multiple_of(YIELDS) {
            std::thread::yield_now();
        }
    }
}
