//! What the kernel counted: CPU time, memory, faults, and what reached the block device.
//!
//! The device's counters are those of the whole device that the directory lies on, journal of the file system included,
//! so nothing else should write to it meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// CPU time of this process and the others named, in nanoseconds.
    pub cpu_ns: u64,
    /// Page faults of this process.
    pub faults: u64,
}

impl Counters {
    /// As they are now.
    pub fn read(processes: &[u32]) -> Counters {
        let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let own = u64::try_from(own.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(own.tv_nsec).unwrap_or(0);
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let others: u64 = processes.iter().map(|pid| stat(&pid.to_string(), &[13, 14]) * tick_ns).sum();
        Counters { cpu_ns: own + others, faults: stat("self", &[9, 11]) }
    }
}

/// The sum of these fields of `/proc/PID/stat`, counted from 0; 0 if there is no such process.
fn stat(pid: &str, fields: &[usize]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, which may contain anything, is in parentheses; the field behind it is the third.
    let rest: Vec<_> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |index: &usize| rest.get(index - 2).and_then(|text| text.parse::<u64>().ok());
    fields.iter().filter_map(field).sum()
}

/// Anonymous memory of these processes and this one, in bytes.
pub fn anonymous_bytes(processes: &[u32]) -> u64 {
    let of = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    of("self") + processes.iter().map(|pid| of(&pid.to_string())).sum::<u64>()
}

/// Looks at the anonymous memory every few milliseconds until told to end.
pub struct Peak {
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Peak {
    /// Nothing yet.
    pub fn new() -> Self {
        Peak { bytes: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }

    /// The loop, for a thread of its own.
    pub fn watch(&self, processes: &[u32]) {
        while !self.ended.load(Ordering::Relaxed) {
            self.bytes.fetch_max(anonymous_bytes(processes), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the loop; the most that it saw.
    pub fn end(&self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The block device under a directory.
pub struct Device {
    stat: PathBuf,
    directory: fs::File,
}

/// Its counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Since the machine started.
    pub bytes: u64,
    /// Flushes of its cache that were asked of it.
    pub flushes: u64,
}

impl Device {
    /// None where the directory is not on a block device of its own, or the machine doesn't show it.
    pub fn of(dir: &Path) -> Option<Device> {
        let device = fs::metadata(dir).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // Flushes are counted for the whole disk alone.
        let block = if block.join("partition").exists() { block.parent()?.to_path_buf() } else { block };
        Some(Device { stat: block.join("stat"), directory: fs::File::open(dir).ok()? })
    }

    /// Its counters once all that the file system has is on it.
    ///
    /// # Errors
    /// The file system can't be synced.
    pub fn settled(&self) -> anyhow::Result<Written> {
        rustix::fs::syncfs(&self.directory).context("syncfs")?;
        Ok(self.read())
    }

    /// Its counters now.
    pub fn read(&self) -> Written {
        let text = fs::read_to_string(&self.stat).unwrap_or_default();
        let field = |index| text.split_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Written { bytes: field(6) * 512, flushes: field(15) }
    }
}

/// What a directory takes on disk, in bytes.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
