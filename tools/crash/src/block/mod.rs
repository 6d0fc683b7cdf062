//! Block devices of our own, and file systems on them. Everything here cleans up after itself when it is dropped.

mod device;
mod images;
mod mounts;

pub use device::Device;
pub use images::Cutter;
pub use mounts::{DISK_BYTES, Disk, Mount, means};
