//! Which transactions are true: the decisions of the journal held against the records that they name, and the records
//! against their decisions. Reads only; what is not true becomes padding when the picture is mended.
//!
//! # A record that names a decision
//!
//! | the decision | the record |
//! |---|---|
//! | lies before the place where the checkpoint's replay begins: folded into it, after all it names was durable | counts |
//! | stands in the journal, and every record that it names is there | counts |
//! | stands in the journal, and one that it names is not there | is void, and so is all else of the transaction |
//! | stood where the journal is damaged below its last mark | counts; that acks may be missing is reported |
//! | is not there, or padding: it was never durable, or an earlier recovery found it void | is void |
//!
//! # A record that a decision names
//!
//! | the record's life | the record |
//! |---|---|
//! | scanned, and the record verifies | is there |
//! | scanned, damaged at that place below the last mark, or cut there | is there: damage costs that record alone |
//! | scanned, and torn, a hole, padding, or behind the end | is not |
//! | sealed | is there: see below |
//! | scanned, and may have been given up by a newer checkpoint that can't be read | is there: it was settled by everybody |
//! | not found; the checkpoint lists nothing durable of it, or does not know it | is not |
//! | not found; attached before the checkpoint and not listed | is there: it was settled by everybody, and went |
//! | not found or not readable, and listed | is there: damage |
//! | whatever became of it, where an older checkpoint is used than there was, and somebody settled it | is there: a newer one may have let it go |
//!
//! A life is listed as sealed, or has a footer, only after every decision that it has a share in was durable with all
//! that it names (a checkpoint and `write_footers` see to that), or was made padding (mending pads everything before it
//! seals anything). So what lies in sealed lives is decided, and only what a scan found is ever void: recovering again,
//! after a crash at whatever point, comes to the same result.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::journal::{self, Named};
use crate::format::meta::ListedLife;
use crate::log::Place;
use crate::log::scan::{Flaw, Part};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, LogId};

use super::heard::Heard;
use super::lives::{FoundLife, FoundLog};
use super::replay::{Met, Told, each_record, read_life};

#[cfg(test)]
mod tests;

/// What is known beside the lives that were found.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    /// Where the checkpoint's replay begins; `None` without a checkpoint.
    pub from: Option<Place>,
    pub listed: &'a [ListedLife],
    /// Lives that are there and can't be read.
    pub unread: &'a [ListedLife],
    /// Highest base of each log at the checkpoint.
    pub last_bases: &'a BTreeMap<u16, u64>,
    /// What the checkpoint says of groups, where there was a newer one, which can't be used.
    pub older: Option<&'a Told>,
}

/// What the journal says of a decision's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Folded,
    True,
    Void,
    Damaged,
    Nothing,
}

/// A decision as it stands in the journal.
struct Decision {
    bytes: u32,
    named: Vec<Named>,
    is_true: bool,
}

/// The decisions behind the checkpoint, and what of the journal's sealed lives does not verify.
#[derive(Default)]
struct Decisions {
    by_place: BTreeMap<Place, Decision>,
    unverified: Vec<(Place, u32)>,
}

/// Marks what belongs to no true transaction as void, in lanes and journal. Errors: `Io` if the journal can't be read.
pub(super) fn decide(logs: &mut BTreeMap<u16, FoundLog>, basis: Basis<'_>) -> Result<()> {
    let mut decisions = Decisions::default();
    if let Some(journal) = logs.get(&LogId::JOURNAL.0) {
        decisions.read(journal, basis.from.unwrap_or_default())?;
    }
    let heard = match (basis.from, basis.older) {
        (None, _) => Heard::unknown(),
        (Some(_), None) => Heard::default(),
        (Some(Place { base, offset }), Some(told)) => {
            let named = decisions.by_place.values().flat_map(|decision| &decision.named);
            Heard::of(logs, named, (base, offset), told)?
        }
    };
    decisions.judge(logs, basis, &heard);
    let mut void: Vec<(u16, u64, Part)> = Vec::new();
    for (log, life) in logs.iter().flat_map(|(log, found)| found.lives.iter().map(move |life| (*log, life))) {
        let parts = life.scan.iter().flat_map(|scan| &scan.parts);
        let is_void = |part: &&Part| match decisions.said(part, life, logs, basis) {
            Said::Folded | Said::True | Said::Damaged => false,
            Said::Void => true,
            Said::Nothing => !on(Bug::UndecidedKept),
        };
        void.extend(parts.filter(is_void).map(|part| (log, life.header.base, *part)));
    }
    for (log, base, Part { offset, bytes, indices, tasks, .. }) in void {
        make_void(logs, (log, base), Flaw::Void { offset, bytes, lost: Some(indices) }, tasks);
    }
    for (place, decision) in decisions.by_place.iter().filter(|(_, decision)| !decision.is_true) {
        let flaw = Flaw::Void { offset: place.offset, bytes: decision.bytes, lost: None };
        make_void(logs, (LogId::JOURNAL.0, place.base), flaw, 0);
    }
    Ok(())
}

fn make_void(logs: &mut BTreeMap<u16, FoundLog>, (log, base): (u16, u64), flaw: Flaw, tasks: u32) {
    let lives = logs.get_mut(&log).into_iter().flat_map(|found| &mut found.lives);
    for life in lives.filter(|life| life.header.base == base) {
        life.tasks = life.tasks.saturating_sub(tasks);
        if let Some(scan) = &mut life.scan {
            scan.tasks = scan.tasks.saturating_sub(tasks);
            scan.flaws.push(flaw);
        }
    }
}

impl Decisions {
    /// Finds the decisions from `from` on.
    fn read(&mut self, journal: &FoundLog, from: Place) -> Result<()> {
        for life in journal.lives.iter().filter(|life| life.header.base >= from.base) {
            let base = life.header.base;
            let start = if base == from.base { from.offset } else { 0 };
            each_record(life, &read_life(life)?, start, |met| match met {
                Met::Entry { at, bytes, payload } => {
                    if let Some(named) = journal::decision(payload) {
                        let decision = Decision { bytes, named: named.collect(), is_true: true };
                        self.by_place.insert(Place { base, offset: at }, decision);
                    }
                }
                Met::Unverified { at, bytes } => self.unverified.push((Place { base, offset: at }, bytes)),
            });
        }
        Ok(())
    }

    /// Holds each decision against the records that it names. In a sealed life it is final.
    fn judge(&mut self, logs: &BTreeMap<u16, FoundLog>, basis: Basis<'_>, heard: &Heard) {
        for (place, decision) in &mut self.by_place {
            let is_final = life_at(logs, LogId::JOURNAL, place.base).is_some_and(|life| life.scan.is_none());
            let all_there =
                || decision.named.iter().all(|named| is_there(named, logs, basis) || heard.is_settled(named));
            decision.is_true = is_final || on(Bug::HalfTransaction) || all_there();
        }
    }

    fn said(&self, part: &Part, of: &FoundLife, logs: &BTreeMap<u16, FoundLog>, basis: Basis<'_>) -> Said {
        let place = part.decision;
        if basis.from.is_some_and(|from| place < from) {
            return Said::Folded;
        }
        if let Some(decision) = self.by_place.get(&place) {
            let names = |named: &Named| {
                LogId::from(named.lane) == of.header.log
                    && named.base == of.header.base
                    && named.first == of.seq(part.indices.0)
            };
            let is_true = decision.is_true && decision.named.iter().any(names);
            return if is_true { Said::True } else { Said::Void };
        }
        let is_damaged = match life_at(logs, LogId::JOURNAL, place.base) {
            Some(life) => self.is_damaged(life, place),
            None => is_journal_missing(place.base, logs, basis),
        };
        if is_damaged { Said::Damaged } else { Said::Nothing }
    }

    /// True if the journal was durable at `place` and does not verify there any more.
    fn is_damaged(&self, life: &FoundLife, place: Place) -> bool {
        let is_cut = place.offset < life.end && u64::from(place.offset) >= life.file_bytes;
        is_cut
            || match &life.scan {
                Some(scan) => {
                    let corrupt = scan.flaws.iter().filter(|flaw| matches!(flaw, Flaw::Corrupt { .. }));
                    corrupt.into_iter().any(|flaw| flaw.covers(place.offset))
                }
                None => self.unverified.iter().any(|(from, bytes)| {
                    from.base == place.base && (from.offset..from.offset.saturating_add(*bytes)).contains(&place.offset)
                }),
            }
    }
}

/// True if a life of the journal that is not found was there once: it is listed, or the log went on behind it.
fn is_journal_missing(base: u64, logs: &BTreeMap<u16, FoundLog>, basis: Basis<'_>) -> bool {
    let was_durable = |life: &ListedLife| life.sealed || life.offset > 0;
    let known = basis.listed.iter().filter(|life| was_durable(life)).chain(basis.unread);
    let went_on = logs.get(&LogId::JOURNAL.0).is_some_and(|log| log.lives.iter().any(|life| life.header.base > base));
    basis.from.is_none() || went_on || known.into_iter().any(|life| life.log == LogId::JOURNAL && life.base == base)
}

/// Whether records that a decision names are there, or were and need not be any more.
fn is_there(named: &Named, logs: &BTreeMap<u16, FoundLog>, basis: Basis<'_>) -> bool {
    match life_at(logs, LogId::from(named.lane), named.base) {
        Some(life) => are_kept(named, life),
        None => is_gone_for_good(named.lane, named.base, basis),
    }
}

fn are_kept(named: &Named, life: &FoundLife) -> bool {
    let first = named.first.0.checked_sub(named.base).and_then(|index| u32::try_from(index).ok());
    let Some((first, more)) = first.zip(named.count.checked_sub(1)) else { return false };
    let Some(last) = first.checked_add(more) else { return false };
    let Some(scan) = &life.scan else { return true };
    if scan.is_doubted {
        return true;
    }
    let touches = |(from, to): (u32, u32)| from <= last && first <= to;
    let damaged = |flaw: &Flaw| matches!(flaw, Flaw::Corrupt { lost, .. } if lost.is_none_or(touches));
    if scan.flaws.iter().any(damaged) {
        return true;
    }
    let torn = scan.flaws.iter().filter_map(Flaw::lost).any(touches);
    last < scan.records && !torn && !scan.gaps.iter().copied().any(touches)
}

/// True if a life that is not found was durable, and went because nobody needed it, or by damage.
fn is_gone_for_good(lane: LaneId, base: u64, basis: Basis<'_>) -> bool {
    let log = LogId::from(lane);
    let is_it = |life: &&ListedLife| life.log == log && life.base == base;
    if basis.unread.iter().any(|life| is_it(&life)) {
        return true;
    }
    match basis.listed.iter().find(is_it) {
        Some(listed) => listed.sealed || listed.offset > 0,
        None => basis.last_bases.get(&log.0).is_some_and(|last| base <= *last),
    }
}

fn life_at(logs: &BTreeMap<u16, FoundLog>, log: LogId, base: u64) -> Option<&FoundLife> {
    let lives = &logs.get(&log.0)?.lives;
    lives.binary_search_by_key(&base, |life| life.header.base).ok().and_then(|at| lives.get(at))
}
