//! Doors for the fuzzers: bytes in, through every decoder and through recovery, or as the choices of a whole run. Not part
//! of the API; feature `sim` and the library's own tests alone have them.
//!
//! Each takes bytes as they are, and then again as a forger who knows the salts and computes checksums would have
//! them, because what a checksum keeps out is not what a decoder has to survive. Nothing comes back: a door that
//! panics, loops or takes more memory than its input deserves has found something.
//!
//! One door is for benchmarks ([`Steps`]): single steps of the engine, which callers can't take.
//!
//! Absent: results of the fuzzers' doors, and anything that ships.

mod checkpoint;
mod directory;
mod journal;
mod operations;
mod record;
mod segment;
mod steps;
#[cfg(test)]
mod tests;

pub use checkpoint::decode_checkpoint;
pub use directory::recover_directory;
pub use journal::decode_journal;
pub use operations::run_operations;
pub use record::decode_record;
pub use segment::decode_segment;
pub use steps::{Loans, Steps, decode_record_of, encode_record};
