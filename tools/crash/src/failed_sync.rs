//! A failed sync, a restart on what the page cache says, and then a loss of power.
//!
//! When writing a page back fails, the kernel tells the next sync and marks the page clean: it goes on showing bytes that
//! the device never got, and the sync after that succeeds. A process that restarts there reads its data, syncs
//! successfully, and loses them with the power ([`control`] shows that on a plain file, on this kernel). So recovery must
//! write again what it wants to keep.
//!
//! A round: a worker is busy; the device fails writes into some of the queue's files; a sync fails, and the queue is
//! poisoned; the device is mended, and a new life opens the queue on the page cache that lies. Everything that this life
//! tells to have found, and everything that it answers, must survive a power loss: images are made of it, and of the
//! time before.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::block::{Disk, Mount, means};
use crate::child::{Enough, Stop, Worker};
use crate::kernel;
use crate::outcome::Outcome;
use crate::recording::Recorder;
use crate::report::Said;
use crate::rng::Rng;

#[derive(Args, Clone, Debug)]
pub struct FailedSyncArgs {
    /// Syncs to fail.
    #[arg(long, default_value_t = 20)]
    pub rounds: u64,
    /// Crash images for each.
    #[arg(long, default_value_t = 8)]
    pub images: usize,
    /// Seed of all choices; a fresh one if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
}

pub fn run(args: &FailedSyncArgs, seed: u64, stop: &Stop) -> Result<Outcome> {
    means(true)?;
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome::new(seed);
    let images = Disk::in_memory()?;
    control(&mut rng)?;
    println!(
        "control: a plain file, reopened after a failed sync, read and synced with success, lost its bytes on the device"
    );
    let mut life = 0;
    while outcome.of("rounds") < args.rounds {
        stop.check()?;
        let mut recorder = Recorder::new(&mut rng, life)?;
        recorder.record();
        let failed = fail_a_sync(&mut recorder, &mut rng, stop)?;
        let mended_at = usize::try_from(recorder.device.events())?;
        for _ in 0..1 + rng.below(2) {
            // Short lives: soon a checkpoint has written anew what the failed sync lost.
            let most = rng.pick(20, &[300]);
            recorder.live(Enough::Reports(1 + rng.below(most)), &mut rng, stop)?;
        }
        let served_at = served_at(&recorder, mended_at)?;
        let mut recorded = recorder.end()?;
        life = recorded.life;
        outcome.count(if failed { "rounds" } else { "rounds_without" }, 1);
        if outcome.of("rounds_without") > 3 + args.rounds {
            bail!("the device failed writes, and no sync noticed, again and again: the harness proves nothing");
        }
        let quarter = args.images / 4;
        let mut points = recorded.cutter.points(0, quarter, &mut rng);
        points.extend(recorded.cutter.points(mended_at, quarter, &mut rng));
        points.extend(recorded.cutter.points(served_at, args.images - 2 * quarter, &mut rng));
        points.sort_unstable();
        if !recorded.check(&points, &images, &mut rng, stop, &mut outcome)? {
            break;
        }
    }
    Ok(outcome)
}

/// The event at which the first life on the mended device told what it serves, if it came so far.
fn served_at(recorder: &Recorder, mended_at: usize) -> Result<usize> {
    let served = recorder.reports.iter().filter(|report| report.said == Said::Pictured);
    let at = served.map(|report| usize::try_from(report.at)).collect::<Result<Vec<_>, _>>()?;
    Ok(at.into_iter().find(|at| *at > mended_at).unwrap_or(mended_at))
}

/// A life whose files fail under it. True if a sync of it failed for that.
fn fail_a_sync(recorder: &mut Recorder, rng: &mut Rng, stop: &Stop) -> Result<bool> {
    const LIMIT: Duration = Duration::from_secs(2);
    let args = recorder.next(rng);
    let mut worker = Worker::start(&args, stop)?;
    let reports = &mut recorder.reports;
    worker.hear(Enough::Reports(50 + rng.below(500)), |report| reports.push(report))?;
    let all = rng.chance(1, 2);
    let mut failing = Vec::new();
    for entry in fs::read_dir(&args.dir)? {
        // A file may go while they are listed.
        let Ok(file) = File::open(entry?.path()) else { continue };
        if all || rng.chance(1, 2) {
            failing.extend(kernel::extents(&file).context("can't ask where a file lies")?);
        }
    }
    recorder.device.fail(failing);
    let mut poisoned = false;
    let mut hear = |report: crate::report::Report| {
        poisoned |= matches!(report.said, Said::Poisoned(_));
        reports.push(report);
    };
    worker.hear(Enough::Time(LIMIT), &mut hear)?;
    worker.kill(&mut hear)?;
    let failed = recorder.device.failed() > 0;
    recorder.device.fail(Vec::new());
    Ok(poisoned && failed)
}

/// Shows on a plain file that the danger is real here: else a round would prove nothing.
fn control(rng: &mut Rng) -> Result<()> {
    let recorder = Recorder::new(rng, 0)?;
    let path = recorder.mount.as_ref().map(Mount::path).unwrap_or_default().join("plain");
    let write = |byte: u8| -> Result<File> {
        let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.write_all(&[byte; 4_096])?;
        Ok(file)
    };
    let file = write(b'A')?;
    file.sync_all()?;
    let place: Range<u64> = kernel::extents(&file)?.first().cloned().context("a written file lies nowhere")?;
    let on_device = || recorder.device.bytes(place.clone()).first().copied();
    if on_device() != Some(b'A') {
        bail!("control: a synced byte is not on the device, so the harness proves nothing");
    }
    let file = write(b'B')?;
    recorder.device.fail(vec![place.clone()]);
    if file.sync_data().is_ok() {
        bail!("control: a sync succeeded on a device that fails, so the harness proves nothing");
    }
    drop(file);
    recorder.device.fail(Vec::new());

    let (read, file) = (fs::read(&path)?, File::options().write(true).open(&path)?);
    let synced = file.sync_data();
    if read.first() != Some(&b'B') || synced.is_err() || on_device() != Some(b'A') {
        let on_device = on_device();
        bail!(
            "control: after a failed sync a reopened file read {:?}, synced with {synced:?}, and {on_device:?} is on the \
             device; this kernel does not lie, so the harness proves nothing",
            read.first()
        );
    }
    write(b'B')?.sync_data()?;
    if on_device() != Some(b'B') {
        bail!("control: written again and synced, the byte is not on the device");
    }
    Ok(())
}
