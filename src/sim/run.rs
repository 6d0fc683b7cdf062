//! Runs a schedule from an empty directory to its last check.
//!
//! A stretch of work ends in a crash; recoveries crash in turn; the one that ends is checked and thrown away, and a copy
//! of its disk, taken the moment it was open, goes on. So every check also asks whether what a recovery serves would
//! survive the next power loss.

use super::actor::{Actor, Flow, open};
use super::disk::{Call, Failing, Loss, SimDisk, Which};
use super::files::damage_is_where_it_was_done;
use super::model::{Model, Verdict, Violation, ensure};
use super::operation::{Crash, Fault, How, Hurt, Op};
use super::oracle::{Before, Harm, check};
use super::schedule::{Room, Schedule, Setting, Stretch};
use super::space::check_space;
use crate::checkpoint::Store;
use crate::engine::Engine;
use crate::error::{Damage, DamageKind, Error};
use crate::format::segment::parse_file_name;
use crate::types::{Now, Timestamp};

/// What was done, over all schedules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Schedules run.
    pub schedules: u64,
    /// Restarts, of either kind.
    pub crashes: u64,
    /// Calls of the disk that failed, and damage done at rest.
    pub faults: u64,
    /// Opens that had something to recover.
    pub recoveries: u64,
    /// Tasks accepted.
    pub tasks: u64,
}

impl Counts {
    /// Adds what somebody else counted.
    pub fn add(&mut self, other: &Counts) {
        self.schedules += other.schedules;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.recoveries += other.recoveries;
        self.tasks += other.tasks;
    }
}

/// One run.
struct Run<'a> {
    schedule: &'a Schedule,
    model: Model,
    now: Now,
    counts: &'a mut Counts,
    /// What happened, for a reader; if anybody asked for it.
    trace: Option<&'a mut Vec<String>>,
}

/// Runs a schedule; a panic of the engine is a violation too.
pub(crate) fn run(schedule: &Schedule, counts: &mut Counts, trace: Option<&mut Vec<String>>) -> Verdict {
    counts.schedules += 1;
    quietly(|| {
        let now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
        let mut run = Run { schedule, model: Model::new(), now, counts, trace };
        let verdict = run.all();
        run.counts.tasks += run.model.tasks.len() as u64;
        verdict
    })
}

/// What `run` gives, with a panic as a violation.
pub(super) fn quietly<T>(run: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation(format!("a panic: {}", text.unwrap_or_default())))
    })
}

impl Run<'_> {
    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    fn all(&mut self) -> Verdict {
        let mut disk = SimDisk::new(self.schedule.disk_seed);
        for (number, stretch) in self.schedule.stretches.iter().enumerate() {
            self.note(|| format!("stretch {number}, faults {:?}", stretch.fault));
            arm(&disk, stretch.fault);
            if let Some(at) = stretch.crash.at {
                disk.crash_at(disk.operations() + at);
            }
            let degraded = self.work(&disk, stretch)?;
            self.counts.faults += disk.faults();
            let before = Before { degraded, write_failed: disk.faults() > 0, ..self.before() };
            disk = self.recover(&disk, stretch, before)?;
        }
        // The copy that goes on shows the same, for everything was durable as it was taken.
        let before_open = disk.restart(Loss::Process);
        let engine = self.open_well(&disk)?;
        let kept = disk.restart(Loss::Process);
        let before = Before { power_lost: true, ..self.before() };
        let owed = check(&mut self.model, &engine, &before, self.now)?;
        check_space(&engine, &self.model, owed, self.now)?;
        match self.schedule.hurt {
            Some(hurt) if self.schedule.hurt_unsealed => {
                let (older, disk) = self.work_at_rest(&kept)?;
                self.hurt(&older, &disk, hurt)
            }
            Some(hurt) => self.hurt(&before_open, &kept, hurt),
            None => Ok(()),
        }
    }

    fn before(&self) -> Before {
        Before { setting: self.schedule.setting, ..Before::default() }
    }

    fn open_well(&mut self, disk: &SimDisk) -> Verdict<Engine> {
        self.counts.recoveries += 1;
        open(disk, self.schedule.setting.lending_all(), self.now)
            .map_err(|error| Violation(format!("a queue on a disk without fault does not open: {error}")))
    }

    /// The stretch's steps, as far as they go. True if an open went on with less than there is.
    fn work(&mut self, disk: &SimDisk, stretch: &Stretch) -> Verdict<bool> {
        let setting = self.schedule.setting;
        let mut ops = stretch.ops.iter().enumerate();
        loop {
            let engine = match open(disk, setting, self.now) {
                Ok(engine) if is_degraded(disk, &engine) => return Ok(true),
                Ok(engine) if !disk.has_crashed() => engine,
                Ok(_) => return Ok(false),
                Err(error) => {
                    self.note(|| format!("  open: {error}"));
                    return fail_open(disk, &error).map(|()| disk.look_faults() > 0);
                }
            };
            let mut actor = Actor::new(engine, setting, disk, &mut self.model, &mut self.now);
            let reopens = loop {
                let Some((at, op)) = ops.next() else { break false };
                let flow = actor.step(*op);
                if let Some(trace) = &mut self.trace {
                    trace.push(format!("  {at:3}. {op} → {flow:?}"));
                }
                match flow? {
                    Flow::Go => {}
                    Flow::Stop => break false,
                    Flow::Reopen => break true,
                }
            };
            if reopens {
                drop(actor);
                self.model.sides.iter_mut().for_each(super::model::Side::restart);
            } else {
                // Everything stops here, producers between claim and publish included: the disk is as it is now.
                disk.crash();
                actor.model.files.note(&actor.engine);
                return Ok(false);
            }
        }
    }

    /// Crashes, opens again with crashes inside, checks, and gives the disk that goes on.
    fn recover(&mut self, disk: &SimDisk, stretch: &Stretch, mut before: Before) -> Verdict<SimDisk> {
        let mut disk = self.crash(disk, stretch.crash, &mut before);
        if stretch.hindrance.is_some() {
            arm(&disk, stretch.hindrance);
            let outcome = open(&disk, self.schedule.setting, self.now);
            self.note(|| {
                format!(
                    "  recovery under {:?}: {:?}, {} faults",
                    stretch.hindrance,
                    outcome.as_ref().map(Engine::damage),
                    disk.faults()
                )
            });
            match outcome {
                Ok(engine) => {
                    before.degraded |= is_degraded(&disk, &engine);
                    before.write_failed |= disk.faults() > 0;
                    // What could not be read just now is told of. What a crash cut is no damage for such an open either.
                    let mut read: Vec<Damage> = engine.damage();
                    read.retain(|one| one.kind != DamageKind::Unreadable);
                    damage_is_where_it_was_done(&mut self.model.files, &read, &before)?;
                }
                Err(error) => {
                    fail_open(&disk, &error)?;
                    before.degraded |= disk.look_faults() > 0;
                }
            }
            before.write_failed |= disk.faults() > 0;
            self.counts.faults += disk.faults();
            disk = self.crash(&disk, Crash { at: None, loss: Loss::Process }, &mut before);
        }
        for inner in &stretch.recoveries {
            disk.crash_at(disk.operations() + inner.at.unwrap_or(0));
            // A sector that can't be read may be so for several opens.
            arm(&disk, stretch.hindrance.filter(|fault| matches!(fault, Fault::ReadsFail { .. })));
            if let Err(error) = open(&disk, self.schedule.setting, self.now).map(drop) {
                fail_open(&disk, &error)?;
            }
            before.degraded |= disk.look_faults() > 0;
            self.counts.faults += disk.faults();
            disk = self.crash(&disk, *inner, &mut before);
        }
        let engine = self.open_well(&disk)?;
        // Whatever it says now has to survive the worst.
        let next = disk.restart(Loss::Power);
        check(&mut self.model, &engine, &before, self.now)?;
        Ok(next)
    }

    fn crash(&mut self, disk: &SimDisk, crash: Crash, before: &mut Before) -> SimDisk {
        self.counts.crashes += 1;
        before.power_lost |= crash.loss == Loss::Power;
        self.note(|| format!("  crash: {crash:?}, operation {}, files {:08x}", disk.operations(), disk.fingerprint()));
        disk.restart(crash.loss)
    }

    /// Works a little, makes all of it durable and marked, and is killed. Gives the disk as it was before the last
    /// checkpoint, and as it is then.
    fn work_at_rest(&mut self, disk: &SimDisk) -> Verdict<(SimDisk, SimDisk)> {
        let older = disk.restart(Loss::Process);
        let engine = self.open_well(disk)?;
        let setting = self.schedule.setting.lending_all();
        let mut actor = Actor::new(engine, setting, disk, &mut self.model, &mut self.now);
        let lane = setting.lanes - 1;
        let reserve = Op::Reserve { group: 0, tasks: 3, lane: None, lease_ms: 500, consumer: 0 };
        let ack = Op::Settle { group: 0, pick: 1, count: 2, how: How::Ack, power: true };
        let enqueue = Op::Enqueue { lane: 0, bytes: 40, power: true };
        let batch = Op::Batch { lane, tasks: 4, bytes: 90, power: true, wait: true };
        for op in [enqueue, batch, enqueue, enqueue, reserve, ack, enqueue, Op::SyncAll, Op::MarkIdle] {
            ensure!(actor.step(op)? == Flow::Go, "{op} does not go on");
        }
        drop(actor);
        self.counts.crashes += 1;
        Ok((older, disk.restart(Loss::Process)))
    }

    /// Damages the directory at rest and looks what that costs.
    fn hurt(&mut self, before_open: &SimDisk, disk: &SimDisk, hurt: Hurt) -> Verdict {
        let Some(harm) = harm(before_open, disk, hurt, self.schedule.hurt_unsealed) else { return Ok(()) };
        self.note(|| format!("at rest: {hurt:?} of {}", harm.file));
        self.counts.faults += 1;
        let engine = self.open_well(disk)?;
        let before = Before { hurt: Some(harm), ..self.before() };
        check(&mut self.model, &engine, &before, self.now)?;
        let mut model = std::mem::take(&mut self.model);
        let mut now = self.now;
        // The check took and acked some of what waits.
        let setting = Setting { room: Room::ANY, ..self.schedule.setting };
        let mut actor = Actor::new(engine, setting, disk, &mut model, &mut now);
        let op = Op::Enqueue { lane: 0, bytes: 9, power: true };
        let flow = actor.step(op);
        ensure!(flow? == Flow::Go, "a damaged queue takes no task");
        self.model = model;
        Ok(())
    }
}

pub(super) fn arm(disk: &SimDisk, fault: Option<Fault>) {
    match fault {
        Some(Fault::Fails { call, choice, onwards }) => {
            fail_from(disk, call, choice, if onwards { Which::Onwards } else { Which::This });
        }
        Some(Fault::SyncFails { call, choice }) => {
            fail_from(disk, call, choice, Which::Next { call: Call::Sync, skipped: 0, times: 1 });
        }
        Some(Fault::ReadsFail { skipped, times }) => {
            fail_from(disk, 0, 0, Which::Next { call: Call::Read, skipped, times })
        }
        Some(Fault::Space { bytes }) => disk.set_space(Some(u64::from(bytes))),
        None => {}
    }
}

fn fail_from(disk: &SimDisk, call: u64, choice: u8, which: Which) {
    disk.set_failing(Some(Failing { at: disk.calls() + call, choice: usize::from(choice), which }));
}

/// An open may fail where the machine stopped, or where the disk failed; then with an error that says so.
pub(super) fn fail_open(disk: &SimDisk, error: &Error) -> Verdict {
    let typed = matches!(error, Error::Io { .. } | Error::Full { .. } | Error::InDoubt { .. });
    let known = disk.has_crashed() || (disk.faults() > 0 && typed);
    ensure!(known, "a queue does not open: {error:?}");
    Ok(())
}

/// True if an open could not read everything, and says that it goes on with less than there is.
fn is_degraded(disk: &SimDisk, engine: &Engine) -> bool {
    disk.look_faults() > 0 && engine.damage().iter().any(|damage| damage.kind != DamageKind::Torn)
}

/// Damages a file. `None` if there is none to damage. What changed since `older`, the disk as it was before the last open,
/// is not the only copy of anything: the older checkpoint and its journal know the same.
fn harm(older: &SimDisk, disk: &SimDisk, hurt: Hurt, unsealed: bool) -> Option<Harm> {
    let pick = |names: &[String], number: u32| names.get(number as usize % names.len().max(1)).cloned();
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    let lanes: Vec<String> = names.iter().filter(|name| is_lane_segment(disk, name)).cloned().collect();
    let bytes_of = |file: &str| disk.files().into_iter().find(|(name, _)| name == file).map_or(0, |(_, bytes)| bytes);
    match hurt {
        Hurt::Flip { file, bit } => {
            let file = pick(&names, file)?;
            let used = disk.used_sectors(&file);
            let sector = used.get(bit as usize / 4096 % used.len().max(1))?;
            let unhurt = disk.sector(&file, *sector);
            disk.flip_bit(&file, sector * 512 + bit as usize / 8 % 512, u8::try_from(bit % 8).ok()?);
            let is_lane = lanes.contains(&file);
            let is_new = older.sector(&file, *sector) != unhurt;
            // What was settled since the last checkpoint stands in the journal alone.
            let forgets = if file == Store::FILE { !is_new } else { !is_lane && unsealed };
            Some(Harm { file, lost_most: usize::from(is_lane), forgets })
        }
        Hurt::Cut { file, bytes } => {
            let file = pick(&lanes, file)?;
            disk.cut_file(&file, bytes as usize % bytes_of(&file).max(1));
            Some(Harm { file, lost_most: usize::MAX, forgets: false })
        }
        Hurt::Remove { file } => {
            let file = pick(&lanes, file)?;
            disk.lose_file(&file);
            Some(Harm { file, lost_most: usize::MAX, forgets: false })
        }
        Hurt::Double { file } => {
            let file = pick(&lanes, file)?;
            let to = crate::format::segment::file_name(1_000_000);
            disk.double_file(&file, &to);
            Some(Harm { file: to, lost_most: 0, forgets: false })
        }
    }
}

pub(super) fn is_lane_segment(disk: &SimDisk, name: &str) -> bool {
    use crate::format::segment::{LifeHeader, PRELUDE_BYTES};
    use crate::storage::Storage;
    let mut prelude = [0; PRELUDE_BYTES];
    parse_file_name(name).is_some()
        && disk.open(name).and_then(|file| file.read_at(0, &mut prelude)).is_ok()
        && LifeHeader::decode(&prelude).is_ok_and(|header| header.log.lane().is_some())
}
