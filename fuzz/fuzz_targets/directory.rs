#![no_main]

use lanelog_fuzz::{Bound, within};

/// The queue that is mutated, some copies of it, and the disk that it lies on with what it grows by.
const BOUND: Bound = Bound { per_byte: 64, beside: 16 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| within(&BOUND, bytes, lanelog::doors::recover_directory));
