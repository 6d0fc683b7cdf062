//! The few calls that no safe crate offers: a counter shared with another process, a filter over system calls, two
//! ioctls.
#![expect(unsafe_code, reason = "raw system calls; every block names the fact it rests on")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// A number in a file that two processes have mapped.
pub struct SharedCounter(MmapRaw);

impl SharedCounter {
    const BYTES: usize = 4096;

    /// Makes the file, with 0 in it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(Self::BYTES as u64)?;
        Self::map(&file)
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(&File::options().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(SharedCounter(MmapOptions::new().len(Self::BYTES).map_raw(file)?))
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the map starts at a page and is longer than a word; it lives as long as `self`; both processes touch
        // the word as this atomic alone.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast()) }
    }

    /// Pairs with the load in `get`: who reads the number sees what was done before it was set.
    pub fn set(&self, value: u64) {
        self.word().store(value, Ordering::Release);
    }

    pub fn get(&self) -> u64 {
        self.word().load(Ordering::Acquire)
    }
}

/// From here on every sync of this process returns success and does nothing. For the negative control: a harness that
/// sees no loss under it proves nothing.
pub fn turn_syncs_off() -> io::Result<()> {
    let syncs = [libc::SYS_msync, libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_sync_file_range, libc::SYS_syncfs];
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (at, call) in (0_u8..).zip(syncs) {
        // A jump counts the instructions that it passes over: on a match, all up to the last one.
        let to_success = u8::try_from(syncs.len()).unwrap_or(u8::MAX) - at;
        let number = u32::try_from(call).map_err(io::Error::other)?;
        program.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_success, 0, number));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO));
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the two calls take numbers, and a pointer to a program that lives until they return; the kernel checks it.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn statement(code: u32, jump_true: u8, jump_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: jump_true, jf: jump_false, k }
}

/// Cuts the file system that `directory` is on off its device at once, as a power loss does: what was not written back
/// is gone, the journal's tail too.
pub fn shut_down(directory: &Path) -> io::Result<()> {
    const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
    const NO_LOG_FLUSH: u32 = 2;
    let file = File::open(directory)?;
    let flags = NO_LOG_FLUSH;
    // SAFETY: the request reads one u32 through the pointer, which outlives the call.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where the bytes of a file lie on its device.
pub fn extents(file: &File) -> io::Result<Vec<Range<u64>>> {
    const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
    const EXTENTS_MAX: usize = 256;

    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved: [u64; 2],
        flags: u32,
        reserved_too: [u32; 3],
    }
    #[repr(C)]
    struct Map {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        extents: [Extent; EXTENTS_MAX],
    }

    let count = u32::try_from(EXTENTS_MAX).unwrap_or_default();
    let extents = [Extent::default(); EXTENTS_MAX];
    let mut map = Map { start: 0, length: u64::MAX, flags: 0, mapped: 0, count, reserved: 0, extents };
    // SAFETY: the struct has the layout of the kernel's fiemap with room for `count` extents, and outlives the call.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(map.extents.iter().take(map.mapped as usize).map(|e| e.physical..e.physical + e.length).collect())
}
