//! Loss of power: workers on a recorded block device under ext4, and crash images from its log.
//!
//! The queue lives through a few lives that are killed, so that the power also goes while a recovery runs. Then images are
//! made from every stretch between two flushes, each mounted, recovered, checked and drained.

use anyhow::Result;
use clap::Args;

use crate::block::{Disk, means};
use crate::child::{Enough, Stop};
use crate::outcome::{Outcome, side_by_side};
use crate::recording::Recorder;
use crate::rng::Rng;

#[derive(Args, Clone, Debug)]
pub struct PowerArgs {
    /// Crash images to make and check.
    #[arg(long, default_value_t = 1_000)]
    pub images: u64,
    /// Seed of all choices; a fresh one if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Recordings that are worked on beside one another; part of what the seed decides.
    #[arg(long, default_value_t = 3)]
    pub tracks: u64,
    /// Negative control: the worker's syncs do nothing, and losses must be seen.
    #[arg(long)]
    pub syncs_off: bool,
}

/// Images from one recording.
const IMAGES_EACH: usize = 100;

pub fn run(args: &PowerArgs, seed: u64, stop: &Stop) -> Result<Outcome> {
    means(true)?;
    side_by_side(args.tracks, seed, args.images, |seed, images| track(args, images, seed, stop))
}

fn track(args: &PowerArgs, all_images: u64, seed: u64, stop: &Stop) -> Result<Outcome> {
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome::new(seed);
    outcome.losses_expected = args.syncs_off;
    let images = Disk::in_memory()?;
    let mut life = 0;
    let mut left = usize::try_from(all_images)?;
    while left > 0 {
        stop.check()?;
        let mut recorder = Recorder::new(&mut rng, life)?;
        // Without syncs nothing would be there at all, which would be no loss.
        if args.syncs_off || rng.chance(1, 2) {
            recorder.prepare(&mut rng, stop)?;
        }
        recorder.syncs_off = args.syncs_off;
        recorder.record();
        for _ in 0..1 + rng.below(4) {
            recorder.live(Enough::Reports(100 + rng.below(600)), &mut rng, stop)?;
        }
        let mut recorded = recorder.end()?;
        let count = left.min(IMAGES_EACH);
        left -= count;
        outcome.count("runs", 1);
        outcome.count("flushes", recorded.cutter.flushes() as u64);
        let points = recorded.cutter.points(0, count, &mut rng);
        if !recorded.check(&points, &images, &mut rng, stop, &mut outcome)? {
            break;
        }
        life = recorded.life;
    }
    Ok(outcome)
}
