#![no_main]

use lanelog_fuzz::{Bound, within};

const BOUND: Bound = Bound { per_byte: 64, beside: 64 << 10 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| within(&BOUND, bytes, lanelog::doors::decode_segment));
