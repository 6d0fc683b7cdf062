//! Lives on a recorded block device, and what is left of them after a power loss at any of its events.
//!
//! A crash image at event `c` is the device with everything that was written before the last flush up to `c`, and any
//! part of what was written after that. Of the reports, those that say at most `c` are known at that moment: an answer
//! among them was given, an intent among them may have had any effect, and of a call without one nothing can be there.

use anyhow::Result;

use crate::block::{Cutter, DISK_BYTES, Device, Disk, Mount};
use crate::child::{Enough, Stop, Worker, plain};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::report::{Report, Said};
use crate::rng::Rng;
use crate::worker::{Then, WorkerArgs};

/// A device with a file system on it, and what those who worked there said.
pub struct Recorder {
    pub device: Device,
    // Dropped in this order: what is mounted, then what it is mounted from, then what serves that.
    pub mount: Option<Mount>,
    disk: Option<Disk>,
    pub reports: Vec<Report>,
    segment_bytes: u64,
    life: u64,
    pub syncs_off: bool,
}

impl Recorder {
    /// A new file system. What happens until [`record`](Self::record) is not in the log.
    pub fn new(rng: &mut Rng, life: u64) -> Result<Recorder> {
        let device = Device::start(DISK_BYTES)?;
        let disk = Disk::over(&device.file())?;
        disk.make_file_system()?;
        let mount = disk.mount()?;
        let segment_bytes = rng.pick(4_096, &[16 << 10, 64 << 10]);
        let (mount, disk) = (Some(mount), Some(disk));
        Ok(Recorder { device, mount, disk, reports: Vec::new(), segment_bytes, life, syncs_off: false })
    }

    /// The arguments of the next life.
    pub fn next(&mut self, rng: &mut Rng) -> WorkerArgs {
        self.life += 1;
        let dir = self.mount.as_ref().map(Mount::path).unwrap_or_default().join("queue");
        let mut args = plain(&dir, self.life, rng.next(), self.segment_bytes, Then::Work);
        args.events = Some(self.device.counter());
        args.syncs_off = self.syncs_off;
        args
    }

    /// A life that closes its queue before the log begins, so that the base has a queue in it.
    pub fn prepare(&mut self, rng: &mut Rng, stop: &Stop) -> Result<()> {
        let mut args = self.next(rng);
        (args.calls, args.syncs_off) = (60, false);
        let mut worker = Worker::start(&args, stop)?;
        worker.hear(Enough::End, |report| self.reports.push(report))?;
        worker.end(|report| self.reports.push(report)).map(drop)
    }

    pub fn record(&self) {
        self.device.record();
    }

    /// A life that is killed after so much.
    pub fn live(&mut self, enough: Enough, rng: &mut Rng, stop: &Stop) -> Result<()> {
        let args = self.next(rng);
        let mut worker = Worker::start(&args, stop)?;
        worker.hear(enough, |report| self.reports.push(report))?;
        worker.kill(|report| self.reports.push(report))
    }

    /// Ends the log, and takes everything down.
    pub fn end(mut self) -> Result<Recorded> {
        let cutter = Cutter::new(self.device.recorded());
        if let Some(mount) = self.mount.take() {
            mount.unmount()?;
        }
        self.disk = None;
        // Whose count of events is lower said it before, whatever thread of it was first to reach the pipe.
        self.reports.sort_by_key(|report| report.at);
        let (reports, segment_bytes) = (std::mem::take(&mut self.reports), self.segment_bytes);
        Ok(Recorded { cutter, reports, segment_bytes, life: self.life })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.mount = None;
        self.disk = None;
    }
}

/// A log, and the reports beside it.
pub struct Recorded {
    pub cutter: Cutter,
    reports: Vec<Report>,
    segment_bytes: u64,
    pub life: u64,
}

impl Recorded {
    /// Makes an image at each of the points, recovers it, and checks. False once a promise turned out broken.
    pub fn check(
        &mut self,
        points: &[usize],
        disk: &Disk,
        rng: &mut Rng,
        stop: &Stop,
        out: &mut Outcome,
    ) -> Result<bool> {
        let mut ledger = Ledger::default();
        let mut said = std::mem::take(&mut self.reports).into_iter().peekable();
        for point in points {
            while let Some(report) = said.next_if(|report| report.at <= *point as u64) {
                ledger.feed(&report);
            }
            let image = self.cutter.cut(*point, rng);
            let mut fork = ledger.clone();
            fork.power_lost();
            fork.counts = Default::default();
            self.recover(&image, disk, &mut fork, rng, stop)?;
            out.count("images", 1);
            out.add(&fork.counts);
            if !fork.violations.is_empty() {
                let context = format!("seed {}, power loss at event {point} of {}", out.seed, self.cutter.events());
                let kept = if out.losses_expected { None } else { Some(Disk::keep(&image, &point.to_string())?) };
                out.broken(std::mem::take(&mut fork.violations), &context, kept.as_deref());
                if !out.losses_expected {
                    return Ok(false);
                }
            }
        }
        // The rest of the log is not lost to any image, and what its lives said is checked all the same.
        said.for_each(|report| ledger.feed(&report));
        out.add(&ledger.counts);
        let broken = std::mem::take(&mut ledger.violations);
        let sound = broken.is_empty() || out.losses_expected;
        let seed = out.seed;
        out.broken(broken, &format!("seed {seed}, before any power loss"), None);
        Ok(sound)
    }

    /// Recovers an image, and delivers everything that it holds.
    fn recover(&mut self, image: &[u8], disk: &Disk, ledger: &mut Ledger, rng: &mut Rng, stop: &Stop) -> Result<()> {
        disk.fill(image)?;
        let mount = disk.mount()?;
        let mut life = |then, enough: Enough| -> Result<bool> {
            self.life += 1;
            let args = plain(&mount.path().join("queue"), self.life, rng.next(), self.segment_bytes, then);
            let mut worker = Worker::start(&args, stop)?;
            let mut drained = false;
            let mut feed = |report: Report| {
                drained |= report.said == Said::Drained;
                if let Said::Poisoned(why) = &report.said {
                    ledger.violations.push(format!("an image can't be used: {why}"));
                }
                ledger.feed(&report);
            };
            worker.hear(enough, &mut feed)?;
            match enough {
                Enough::End => drop(worker.end(&mut feed)?),
                _ => worker.kill(&mut feed)?,
            }
            Ok(drained)
        };
        // Now and then the process dies too, amid recovery as likely as not.
        let mut more = Rng::new(image.iter().step_by(4_099).fold(0, |sum, byte| sum * 31 % 65_521 + u64::from(*byte)));
        if more.chance(1, 5) {
            life(Then::Work, Enough::Time(std::time::Duration::from_micros(more.below(15_000))))?;
        }
        if !life(Then::Drain, Enough::End)? {
            ledger.violations.push("an image could not be drained".to_owned());
        }
        mount.unmount()
    }
}
