//! Every small workload, every crash, every set of sectors that may survive it.
//!
//! Three operations are enough for most bugs of this kind (CrashMonkey and ACE, Mohan and others, OSDI 2018), so the space
//! of those is walked whole instead of drawn from: each row of up to three operations of [`ALPHABET`], each place before an
//! operation of the disk (and the end), and each answer to the question what of the unsynced names, lengths and sectors
//! survives. The disk writes nothing back by itself here, so that the sets are all there is.

use super::actor::{Actor, Flow, open};
use super::disk::SimDisk;
use super::model::{Model, Verdict, Violation};
use super::operation::{How, Op};
use super::oracle::{Before, check};
use super::run::quietly;
use super::schedule::Setting;
use super::search::Failure;
use crate::types::{Now, Timestamp};

/// What a workload is made of.
const ALPHABET: [Op; 15] = [
    Op::Enqueue { lane: 0, bytes: 9, power: true },
    Op::Enqueue { lane: 0, bytes: 700, power: false },
    Op::Enqueue { lane: 1, bytes: 9, power: false },
    Op::Batch { lane: 0, tasks: 3, bytes: 400, power: true, wait: false },
    Op::Stall { lane: 0, bytes: 20, filled: true },
    Op::Reserve { group: 0, tasks: 2, lane: None, lease_ms: 500, consumer: 0 },
    Op::Settle { group: 0, pick: 1, count: 2, how: How::Ack, power: true },
    Op::AckAndReserve { group: 0, pick: 0, power: false },
    Op::CreateGroup { newest: false, power: true },
    Op::Settle { group: 0, pick: 1, count: 1, how: How::Reject, power: false },
    Op::Transaction {
        lane: 0,
        tasks: 2,
        bytes: 40,
        group: 0,
        pick: 1,
        settles: 1,
        how: How::Ack,
        power: true,
        id: None,
        stands: None,
    },
    Op::SyncAll,
    Op::MarkIdle,
    Op::Footers,
    Op::Checkpoint,
];
/// Operations in the longest workload.
const STEPS_MAX: u32 = 3;
/// Of what is unsynced at a crash so many parts are kept or dropped one by one; more are counted as cut short.
const PARTS_MAX: usize = 12;

const SETTING: Setting = Setting::plain(4096);

/// What a walk over the space did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// Rows of operations.
    pub workloads: u64,
    /// Places to crash at, over all of them.
    pub crashes: u64,
    /// Restarts: each with another set of what survived.
    pub cases: u64,
    /// Crashes with more unsynced parts than are taken one by one; of those only the first sets were tried.
    pub cut_short: u64,
}

/// How many workloads there are.
#[must_use]
pub fn workloads() -> u64 {
    (0..=STEPS_MAX).map(|steps| (ALPHABET.len() as u64).pow(steps)).sum()
}

/// The workload of a number below [`workloads`].
fn workload(mut number: u64) -> Vec<Op> {
    let letters = ALPHABET.len() as u64;
    let mut steps = 0;
    while number >= letters.pow(steps) {
        number -= letters.pow(steps);
        steps += 1;
    }
    let digit = |at: u32| ALPHABET[usize::try_from(number / letters.pow(at) % letters).unwrap_or(0)];
    (0..steps).map(digit).collect()
}

/// Crashes one workload everywhere, and restarts with everything that may be left.
///
/// # Errors
/// The first case that breaks a promise.
pub fn exhaust(number: u64, walked: &mut Walked) -> Result<(), Failure> {
    let ops = workload(number);
    walked.workloads += 1;
    let mut crash_at = 0;
    loop {
        let mut kept = Vec::new();
        let outcome = quietly(|| crash_everywhere(&ops, crash_at, walked, &mut kept));
        match outcome {
            Ok(true) => crash_at += 1,
            Ok(false) => return Ok(()),
            Err(Violation(violation)) => {
                let words: Vec<String> = ops.iter().map(ToString::to_string).collect();
                let report = format!(
                    "workload {number}:\n{}\ncrash before operation {crash_at} of the disk; kept of what was unsynced: {kept:?}",
                    words.join("\n")
                );
                return Err(Failure { seed: number, violation, report });
            }
        }
    }
}

/// One crash of a workload, with each set of survivors. False if the workload ends before it.
fn crash_everywhere(ops: &[Op], crash_at: u64, walked: &mut Walked, kept: &mut Vec<bool>) -> Verdict<bool> {
    let (disk, ..) = play(ops, crash_at)?;
    let reached = disk.has_crashed_by_itself();
    walked.crashes += 1;
    // Answers to the questions in the order in which they are asked, counted up like digits of a number.
    let mut answers: Vec<bool> = Vec::new();
    loop {
        let mut asked = 0;
        let mut survives = || {
            if asked == answers.len() {
                answers.push(false);
            }
            asked += 1;
            answers[asked - 1]
        };
        let next = disk.restart_keeping(&mut survives);
        answers.truncate(asked);
        kept.clone_from(&answers);
        walked.cases += 1;
        // The model is taken over by a check, so each case has its own.
        let (_, mut model, now) = play(ops, crash_at)?;
        let engine = open(&next, SETTING, now).map_err(|error| Violation(format!("it does not open: {error}")))?;
        check(&mut model, &engine, &Before { power_lost: true, ..Before::default() }, now)?;
        if answers.len() > PARTS_MAX && answers.iter().take(PARTS_MAX).all(|answer| *answer) {
            walked.cut_short += 1;
            break;
        }
        let limit = answers.len().min(PARTS_MAX);
        answers.truncate(limit);
        while answers.last() == Some(&true) {
            answers.pop();
        }
        match answers.last_mut() {
            Some(last) => *last = true,
            None => break,
        }
    }
    Ok(reached)
}

/// The workload up to the crash: the disk as it stopped, and what was promised by then.
fn play(ops: &[Op], crash_at: u64) -> Verdict<(SimDisk, Model, Now)> {
    let disk = SimDisk::new(7);
    disk.keep_still();
    disk.crash_at(crash_at);
    let mut now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
    let mut model = Model::new();
    if let Ok(engine) = open(&disk, SETTING, now)
        && !disk.has_crashed()
    {
        let mut actor = Actor::new(engine, SETTING, &disk, &mut model, &mut now);
        for op in ops {
            if actor.step(*op)? != Flow::Go {
                break;
            }
        }
        disk.crash();
    }
    Ok((disk, model, now))
}
