//! What is read around a measurement: the device before and after, CPU time and memory.

use std::path::PathBuf;

use crate::clock::now_ns;
use crate::engine::Store;
use crate::job::{Job, Outcome};
use crate::kernel::{self, Counters, Device, Written};
use crate::row::count;

/// The counters of a run, from the opened store on.
pub struct Meter {
    device: Option<Device>,
    written: Written,
    processes: Vec<u32>,
    base_bytes: u64,
    dir: PathBuf,
}

/// The counters of what is timed.
#[derive(Clone, Copy)]
pub struct Mark {
    /// By [`crate::clock`].
    pub at_ns: u64,
    counters: Counters,
    /// Tasks that were done by then.
    pub tasks: u64,
}

impl Meter {
    /// Anonymous memory that the harness itself has, to be read before a store is opened.
    pub fn base_bytes() -> u64 {
        kernel::anonymous_bytes(&[])
    }

    /// Begins, with the device at rest.
    pub fn start(job: &Job, store: &dyn Store, base_bytes: u64) -> anyhow::Result<Meter> {
        let device = Device::of(&job.dir);
        let written = device.as_ref().map(Device::settled).transpose()?.unwrap_or_default();
        Ok(Meter { device, written, processes: store.processes(), base_bytes, dir: job.dir.clone() })
    }

    /// Counters now.
    pub fn mark(&self, tasks: u64) -> Mark {
        Mark { at_ns: now_ns(), counters: Counters::read(&self.processes), tasks }
    }

    /// The processes besides this one.
    pub fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// What lies between the marks, and what the device got for `all` tasks since the start.
    pub fn outcome(&self, (from, to): (Mark, Mark), all: u64, peak_bytes: u64) -> anyhow::Result<Outcome> {
        let written = self.device.as_ref().map(Device::settled).transpose()?.unwrap_or_default();
        Ok(Outcome {
            tasks: to.tasks.saturating_sub(from.tasks),
            seconds: count(to.at_ns.saturating_sub(from.at_ns)) / 1e9,
            cpu_s: count(to.counters.cpu_ns.saturating_sub(from.counters.cpu_ns)) / 1e9,
            faults: to.counters.faults.saturating_sub(from.counters.faults),
            peak_anon_bytes: peak_bytes.saturating_sub(self.base_bytes),
            device_tasks: all,
            device_bytes: written.bytes.saturating_sub(self.written.bytes),
            syncs: written.flushes.saturating_sub(self.written.flushes),
            disk_bytes: kernel::disk_bytes(&self.dir),
            ..Outcome::default()
        })
    }
}
