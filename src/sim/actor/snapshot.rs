//! Snapshots into a disk of their own, which may fail or stop, while others go on; and what opens there.

use std::path::Path;
use std::sync::Arc;

use super::super::disk::{Loss, SimDisk};
use super::super::model::{Model, Transaction, Verdict, Violation, ensure};
use super::super::operation::Op;
use super::super::oracle::{Before, Meanwhile, check, check_meanwhile};
use super::super::rng::Rng;
use super::super::run::{arm, fail_open};
use super::{Actor, Flow, Halt, Step, open};
use crate::engine::recovery::read::read;
use crate::engine::snapshot::Stage;
use crate::error::Error;

/// What others did while the copy was made.
#[derive(Default)]
struct Others {
    steps: u8,
    transactions: Vec<Transaction>,
    halt: Option<Halt>,
}

impl Actor<'_> {
    pub(super) fn snapshot(&mut self, op: Op) -> Step {
        let Op::Snapshot { seed, meanwhile, fault, stops } = op else { return Ok(()) };
        let copy = SimDisk::new(u64::from(seed));
        arm(&copy, fault);
        if let Some(at) = stops {
            copy.crash_at(u64::from(at));
        }
        let known = self.model.without_loans();
        let (engine, began, faults) = (Arc::clone(&self.engine), *self.now, self.disk.faults());
        let (mut rng, mut others) = (Rng::new(u64::from(seed)), Others::default());
        let outcome = engine.snapshot(&copy, Path::new("copy"), began, &mut |stage| match stage {
            // Who stands still here does so for good.
            Stage::Waiting => Err(Error::Closed),
            Stage::Copying => self.others_go_on(&mut rng, meanwhile, &mut others),
        });
        let checked = self.check_copy(&copy, outcome.is_ok(), &known, &others);
        checked.map_err(|Violation(text)| Violation(format!("in the copy: {text}")))?;
        if let Some(halt) = others.halt {
            return Err(halt);
        }
        if self.disk.has_crashed() {
            return Err(Halt::Flow(Flow::Stop));
        }
        let is_fine = self.disk.faults() == faults;
        ensure!(!is_fine || !self.is_poisoned(), "a failing copy poisoned the queue: {outcome:?}");
        match outcome {
            Ok(()) | Err(Error::Closed) => Ok(()),
            Err(Error::Io { .. } | Error::Full { .. }) if !is_fine && !self.is_poisoned() => Ok(()),
            Err(error) if !is_fine => Err(self.failed(&error)),
            Err(error) => Ok(fail_open(&copy, &error)?),
        }
    }

    fn is_poisoned(&self) -> bool {
        self.engine.check_poison().is_err()
    }

    /// A few steps of others between two files of the copy.
    fn others_go_on(&mut self, rng: &mut Rng, most: u8, others: &mut Others) -> Result<(), Error> {
        // What the snapshot itself made durable may be handed out from here on.
        self.observe();
        for _ in 0..rng.below(8) {
            if others.steps >= most {
                break;
            }
            others.steps += 1;
            self.pass_time();
            let done = self.act(Op::draw_meanwhile(rng, self.setting));
            let is_new = |one: &&Transaction| others.transactions.iter().all(|other| other.number != one.number);
            let new: Vec<Transaction> = self.model.transactions.iter().filter(is_new).cloned().collect();
            others.transactions.extend(new);
            match done {
                Ok(()) | Err(Halt::Flow(Flow::Go)) => self.observe(),
                Err(halt) => {
                    others.halt = Some(halt);
                    return Err(Error::Closed);
                }
            }
        }
        Ok(())
    }

    /// What is on the copy's disk after the worst is no queue, or all that was known as it began.
    fn check_copy(&self, copy: &SimDisk, is_whole: bool, known: &Model, others: &Others) -> Verdict {
        for loss in [Loss::Process, Loss::Power] {
            let disk = copy.restart(loss);
            match read(&disk, Path::new("copy")) {
                Ok(Some(_)) => self.check_whole(&disk, known, others)?,
                Ok(None) | Err(Error::NotAQueue { .. }) => ensure!(!is_whole, "a snapshot that was made is none"),
                Err(error) => return Err(Violation(format!("it can't be read: {error}"))),
            }
        }
        Ok(())
    }

    fn check_whole(&self, disk: &SimDisk, known: &Model, others: &Others) -> Verdict {
        let opened = open(disk, self.setting.lending_all(), *self.now);
        let engine = opened.map_err(|error| Violation(format!("it does not open: {error}")))?;
        let write_failed = self.disk.faults() > 0;
        let before = Before { write_failed, setting: self.setting, ..Before::default() };
        if others.steps == 0 {
            return check(&mut known.clone(), &engine, &before, *self.now).map(drop);
        }
        let transactions = others.transactions.clone();
        let meanwhile = Meanwhile { known, now: self.model, transactions };
        check_meanwhile(meanwhile, &engine, &before, *self.now)
    }
}
