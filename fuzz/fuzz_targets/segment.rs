#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lanelog::doors::decode_segment(bytes));
