#![no_main]

use lanelog_fuzz::{Bound, within};

/// A simulated disk with its checkpoint and segments, some copies of each, and what is known of the tasks.
const BOUND: Bound = Bound { per_byte: 64 << 10, beside: 64 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| within(&BOUND, bytes, lanelog::doors::run_operations));
