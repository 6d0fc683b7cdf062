//! lanelog
mod checkpoint;
mod delivery;
mod engine;
mod error;
mod format;
mod log;
mod storage;
mod sync;
mod types;
pub use error::*;
pub use types::*;
