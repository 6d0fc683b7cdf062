#![no_main]

use lanelog_fuzz::{Bound, within};

/// A checkpoint file begins with a megabyte of slots, and the simulated disk keeps and copies it.
const BOUND: Bound = Bound { per_byte: 64, beside: 8 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| within(&BOUND, bytes, lanelog::doors::decode_checkpoint));
