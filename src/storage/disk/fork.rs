//! Whether this process is a fork of the one that opened the queue, for the price of a load.
#![expect(unsafe_code, reason = "one byte of a map of its own; the block names the fact it rests on")]

use std::io;

use memmap2::MmapMut;
use rustix::mm::{Advice, madvise};

/// A page that the kernel gives to a forked child as zeros.
pub(crate) struct ForkGuard {
    page: Option<MmapMut>,
    process: u32,
}

impl ForkGuard {
    pub(crate) fn new() -> io::Result<ForkGuard> {
        let mut page = MmapMut::map_anon(1)?;
        // Kernels before 4.14 can't; then the process id is asked for, which is a system call each time.
        // SAFETY: the range is the whole map, which is private and anonymous and lives in `page`.
        let wiped = unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }.is_ok();
        page.iter_mut().take(1).for_each(|byte| *byte = 1);
        Ok(ForkGuard { page: wiped.then_some(page), process: std::process::id() })
    }

    /// True in a child of the process that made the guard.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        match &self.page {
            // SAFETY: the pointer is to the first byte of a map that `self` keeps, and nobody writes it after
            // `new`; volatile because the kernel, not this program, changes it across a fork.
            Some(page) => unsafe { page.as_ptr().read_volatile() == 0 },
            None => std::process::id() != self.process,
        }
    }
}
