//! Every single bit of every file of a small queue, flipped one at a time: detected or harmless, never a panic, never a
//! wrong payload, nothing lost but the damaged record.
//!
//! Most of a queue's bytes nobody reads: what lies behind the ends of segments, blank parts of the checkpoint. The engine
//! is deterministic, so a bit in a sector that a whole open and drain never looks at can't change anything; those are
//! counted apart, and all others are flipped.

use super::actor::{Actor, Flow, open};
use super::disk::{Loss, SimDisk};
use super::model::{Model, Verdict, Violation};
use super::operation::{How, Op};
use super::oracle::{Before, Harm, check};
use super::run::{is_lane_segment, quietly};
use super::schedule::{Keyed, Setting};
use super::search::Failure;
use crate::types::{Now, Timestamp};

const SETTING: Setting =
    Setting { lanes: 2, segment_bytes: 4096, attempts_max: 0, pad_commits: false, bulky: false, keyed: Keyed::No };
const SECTOR_BITS: u64 = 8 * 512;

/// What came of flipping bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flipped {
    /// Bits that were flipped, each with an open and a drain.
    pub bits: u64,
    /// Of these: reported as damage.
    pub reported: u64,
    /// Of these: with a task lost, which was reported.
    pub lost: u64,
    /// Bits in sectors that nothing ever looks at.
    pub unread: u64,
}

/// The reference queue at rest: killed, or closed.
pub struct Reference {
    disk: SimDisk,
    clean: bool,
    now: Now,
    sectors: Vec<(String, usize)>,
    unread: u64,
}

impl Reference {
    /// Makes the queue; `clean`: closed, else killed with everything durable and marked.
    ///
    /// # Errors
    /// If it can't even be made.
    pub fn new(clean: bool) -> Result<Self, Failure> {
        let built = play(clean).map_err(|Violation(violation)| Failure { seed: 0, violation, report: String::new() });
        let (disk, _, now) = built?;
        let watched = disk.restart(Loss::Process);
        watched.watch();
        let mut reference = Reference { disk, clean, now, sectors: Vec::new(), unread: 0 };
        let failure = |Violation(violation)| Failure { seed: 0, violation, report: String::new() };
        reference.look(&watched, None).map_err(failure)?;
        for (name, bytes) in reference.disk.files() {
            let seen = watched.seen(&name);
            let all = bytes.div_ceil(512) as u64;
            reference.unread += (all - seen.len() as u64) * SECTOR_BITS;
            reference.sectors.extend(seen.into_iter().map(|sector| (name.clone(), sector)));
        }
        Ok(reference)
    }

    /// How many sectors anything looks at.
    #[must_use]
    pub fn sectors(&self) -> usize {
        self.sectors.len()
    }

    /// Bits that nothing looks at.
    #[must_use]
    pub fn unread_bits(&self) -> u64 {
        self.unread
    }

    /// Flips each bit of a sector in turn.
    ///
    /// # Errors
    /// The first bit that broke a promise.
    pub fn flip_sector(&self, number: usize, flipped: &mut Flipped) -> Result<(), Failure> {
        let Some((name, sector)) = self.sectors.get(number) else { return Ok(()) };
        let is_lane = is_lane_segment(&self.disk, name);
        for bit in 0..SECTOR_BITS {
            let byte = sector * 512 + usize::try_from(bit / 8).unwrap_or(0);
            let disk = self.disk.restart(Loss::Process);
            disk.flip_bit(name, byte, u8::try_from(bit % 8).unwrap_or(0));
            let harm = Harm { file: name.clone(), lost_most: usize::from(is_lane), forgets: !is_lane };
            let outcome = quietly(|| self.look(&disk, Some(harm)));
            let (reported, lost) = outcome.map_err(|Violation(violation)| {
                let report = format!("file {name}, byte {byte}, bit {}, closed: {}", bit % 8, self.clean);
                Failure { seed: 0, violation, report }
            })?;
            flipped.bits += 1;
            flipped.reported += u64::from(reported);
            flipped.lost += u64::from(lost);
        }
        Ok(())
    }

    /// Opens, drains and checks. Whether damage was reported, and a task lost.
    fn look(&self, disk: &SimDisk, hurt: Option<Harm>) -> Verdict<(bool, bool)> {
        let (_, mut model, _) = play(self.clean)?;
        let engine = open(disk, SETTING, self.now)
            .map_err(|error| Violation(format!("a queue with one flipped bit does not open: {error}")))?;
        check(&mut model, &engine, &Before { hurt, ..Before::default() }, self.now)?;
        let damage = engine.damage();
        Ok((!damage.is_empty(), damage.iter().any(|one| one.lane.is_some() && one.lost.is_some())))
    }
}

/// A small queue with a bit of everything in it.
fn play(clean: bool) -> Verdict<(SimDisk, Model, Now)> {
    let settle = |how, count| Op::Settle { group: 0, pick: 1, count, how, power: true };
    let ops = [
        Op::Enqueue { lane: 0, bytes: 30, power: true },
        Op::Batch { lane: 0, tasks: 3, bytes: 60, power: true, wait: true },
        Op::Enqueue { lane: 1, bytes: 200, power: false },
        Op::CreateGroup { newest: false, power: true },
        Op::Reserve { group: 0, tasks: 4, lane: None, lease_ms: 500, consumer: 0 },
        settle(How::Ack, 1),
        settle(How::Nack { delay_ms: 15 }, 1),
        settle(How::Reject, 1),
        Op::SyncAll,
        Op::Checkpoint,
        Op::Enqueue { lane: 0, bytes: 0, power: true },
        Op::Reserve { group: 0, tasks: 2, lane: None, lease_ms: 500, consumer: 0 },
        settle(How::Ack, 1),
        Op::SyncAll,
        Op::MarkIdle,
    ];
    let disk = SimDisk::new(11);
    disk.keep_still();
    let mut now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
    let mut model = Model::new();
    let engine = open(&disk, SETTING, now).map_err(|error| Violation(error.to_string()))?;
    let mut actor = Actor::new(engine, SETTING, &disk, &mut model, &mut now);
    for op in ops.into_iter().chain(clean.then_some(Op::Reopen)) {
        let expected = if op == Op::Reopen { Flow::Reopen } else { Flow::Go };
        if actor.step(op)? != expected {
            return Err(Violation(format!("{op} did not go on")));
        }
    }
    drop(actor);
    Ok((disk.restart(Loss::Process), model, now))
}
