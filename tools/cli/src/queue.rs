//! Opening a queue from the command line, and the counts that an exit status depends on.

use anyhow::{Context, Result, bail};
use lanelog::{Damage, DamageKind, GroupLaneStats, Options, Queue};

use crate::args::Place;
use crate::output;

/// Opens the queue, making it if need be, and says what is wrong with it.
pub fn open(place: &Place, options: Options) -> Result<Queue> {
    let options = place.rules.apply(options).sigbus_guard(true);
    let options = match place.lanes {
        Some(lanes) => options.lanes(lanes),
        None => options,
    };
    let queue = options.open(&place.queue)?;
    for warning in queue.warnings() {
        output::tell(&format!("warning: {warning}"));
    }
    warn_of(&queue.damage());
    Ok(queue)
}

/// Opens the queue for input that goes to `lane`; refused if there is no such lane.
pub fn open_with_lane(place: &Place, lane: u8, options: Options) -> Result<Queue> {
    let needed = usize::from(lane) + 1;
    let refuse = |lanes: usize| {
        format!("there is no lane {lane}: the queue has {lanes}, numbered from 0; give --lanes {needed} to have more")
    };
    if let Some(lanes) = place.lanes.filter(|lanes| (1..needed).contains(lanes)) {
        bail!(refuse(lanes));
    }
    let queue = open(place, options)?;
    let lanes = queue.lanes();
    if lanes < needed {
        queue.close().context("closing the queue failed")?;
        bail!(refuse(lanes));
    }
    Ok(queue)
}

/// What the group `default` has still to do, and what it gave up on.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Tasks that are not settled for good.
    pub left: u64,
    /// Of these: on loan, or waiting for their delay.
    pub coming: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Counts {
    /// Of this moment.
    pub fn of(queue: &Queue) -> Counts {
        let stats = queue.stats();
        let lanes = stats.groups.iter().filter(|group| group.name == "default").flat_map(|group| &group.lanes);
        let add = |sum: Counts, lane: &GroupLaneStats| Counts {
            left: sum.left + lane.depth,
            coming: sum.coming + lane.in_flight + lane.delayed,
            dead: sum.dead + lane.dead,
        };
        lanes.fold(Counts::default(), add)
    }
}

/// Whether waiting for another task makes sense, asked by whoever just found none and holds none.
#[derive(Default)]
pub struct Emptiness {
    stuck: bool,
}

impl Emptiness {
    /// True if no task is left. Fails if some are, none is on its way, and a look between two such moments found
    /// none either: then their segment can't be read.
    pub fn is_reached(&mut self, queue: &Queue) -> Result<bool> {
        let counts = Counts::of(queue);
        let stats = queue.stats();
        let paused = !stats.paused_lanes.is_empty() || stats.groups.iter().any(|group| group.paused);
        if paused && counts.left > 0 && counts.coming == 0 {
            bail!("{} tasks are left in what is paused; lanelog resume lets them go on", counts.left);
        }
        let stuck = counts.left > 0 && counts.coming == 0;
        if stuck && self.stuck {
            bail!("{} tasks can't be read; lanelog verify says where, and they wait for a reopen", counts.left);
        }
        self.stuck = stuck;
        Ok(counts.left == 0)
    }
}

/// One line for each damaged place.
pub fn warn_of(damage: &[Damage]) {
    for found in damage {
        output::tell(&format!("warning: {found}"));
    }
}

/// Places whose tasks were accepted and can't be run any more.
pub fn places_lost(damage: &[Damage]) -> usize {
    damage.iter().filter(|found| found.kind != DamageKind::Torn && found.lost.is_some()).count()
}
