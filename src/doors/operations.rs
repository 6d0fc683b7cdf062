//! The door of operations: bytes as the choices of a schedule, which must keep every promise.

use crate::sim::run_tape;

/// Runs a schedule on the simulated disk: a workload, crashes, failing calls, damage at rest.
///
/// # Panics
/// If a promise is broken; the message is what a reader needs to follow it.
#[expect(clippy::panic, reason = "a fuzzer learns of a finding by a panic")]
pub fn run_operations(bytes: &[u8]) {
    if let Err(broken) = run_tape(bytes) {
        panic!("{broken}");
    }
}
