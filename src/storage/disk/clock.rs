//! The clocks.

use rustix::time::{ClockId, clock_gettime};

use crate::types::{Now, Timestamp};

/// This moment on both clocks that the engine knows.
pub(crate) fn now() -> Now {
    Now { boot_ms: millis(ClockId::Boottime), wall: Timestamp(millis(ClockId::Realtime)) }
}

/// This moment for acks, at two thirds of the price: leases are exact, and the wall time, by which nothing of a lease is
/// decided, may lag by a few milliseconds.
pub(crate) fn now_to_ack() -> Now {
    Now { boot_ms: millis(ClockId::Boottime), wall: coarse_wall() }
}

/// Wall time that may lag by a few milliseconds, for a fraction of the price: what a record's time is taken from.
pub(crate) fn coarse_wall() -> Timestamp {
    Timestamp(millis(ClockId::RealtimeCoarse))
}

/// Nanoseconds since boot, for bounded spinning and for measuring.
pub(crate) fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}
