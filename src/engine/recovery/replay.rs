//! Replay: what the journal says since the checkpoint, applied to the groups. What it says of records that did not
//! survive is dropped.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::delivery::GroupState;
use crate::delivery::state::Locate;
use crate::error::{Damage, DamageKind, Error, Result};
use crate::format::journal::{self, Entry, Named};
use crate::format::meta::{GROUP_IDS_END, ListedLife, Paused};
use crate::format::record::{self, Found, Kind};
use crate::format::segment::{PRELUDE_BYTES, SEGMENT_BYTES_MAX, block_for};
use crate::log::scan::Flaw;
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, LogId, Seq};

use super::lives::{FoundLife, FoundLog};

/// Which records survived, for dropping what the journal says of others.
pub(super) struct Records {
    /// By lane: base → record count.
    lives: BTreeMap<u8, BTreeMap<u64, u32>>,
    /// Sequences that did not survive as records: first → last.
    voids: BTreeMap<u64, u64>,
}

impl Locate for Records {
    fn life_of(&self, lane: LaneId, seq: Seq) -> Option<(u64, u64)> {
        let lives = self.lives.get(&lane.0)?;
        let (base, records) = lives.range(..=seq.0).next_back()?;
        let next = lives.range((Bound::Excluded(seq.0), Bound::Unbounded)).next().map_or(u64::MAX, |(next, _)| *next);
        let end = if on(Bug::AckOfLostRecord) { next } else { base.saturating_add(u64::from(*records)).min(next) };
        (seq.0 < end).then_some((*base, end))
    }

    fn is_void(&self, seq: Seq) -> bool {
        self.voids.range(..=seq.0).next_back().is_some_and(|(_, last)| seq.0 <= *last) && !on(Bug::AckOfLostRecord)
    }
}

impl Records {
    /// All that there may ever have been of the lives that were found, and of those of these records.
    pub(super) fn named<'a>(logs: &BTreeMap<u16, FoundLog>, named: impl Iterator<Item = &'a Named>) -> Self {
        let mut lives: BTreeMap<u8, BTreeMap<u64, u32>> = BTreeMap::new();
        let mut add = |lane: LaneId, base| lives.entry(lane.0).or_default().insert(base, block_for(SEGMENT_BYTES_MAX));
        for life in logs.values().flat_map(|log| &log.lives) {
            life.header.log.lane().map(|lane| add(lane, life.header.base));
        }
        for one in named {
            add(one.lane, one.base);
        }
        Records { lives, voids: BTreeMap::new() }
    }

    pub(super) fn of(logs: &BTreeMap<u16, FoundLog>, listed: &[ListedLife], unread: &[ListedLife]) -> Self {
        let mut lives: BTreeMap<u8, BTreeMap<u64, u32>> = BTreeMap::new();
        // Of lives that can't be read it is not known which records survived, and those that are gone may be gone
        // because everything in them was acked: what the journal says of either is taken up.
        for life in listed.iter().chain(unread) {
            let Some(lane) = life.log.lane() else { continue };
            lives.entry(lane.0).or_default().insert(life.base, block_for(SEGMENT_BYTES_MAX));
        }
        let mut voids = BTreeMap::new();
        for life in logs.values().flat_map(|log| &log.lives) {
            let Some(lane) = life.header.log.lane() else { continue };
            lives.entry(lane.0).or_default().insert(life.header.base, life.records);
            for (first, last) in life.lost() {
                // One that is damaged or torn may lie in a batch that is void.
                let end = voids.entry(life.seq(first).0).or_default();
                *end = life.seq(last).0.max(*end);
            }
        }
        Records { lives, voids: merged(&voids) }
    }
}

/// The same without ranges that lie in others.
fn merged(ranges: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let mut merged: BTreeMap<u64, u64> = BTreeMap::new();
    for (first, last) in ranges {
        match merged.last_entry().filter(|range| *range.get() >= *first) {
            Some(mut range) => *range.get_mut() = (*last).max(*range.get()),
            None => drop(merged.insert(*first, *last)),
        }
    }
    merged
}

/// What is known of groups.
#[derive(Default)]
pub(super) struct Told {
    pub groups: BTreeMap<u32, GroupState>,
    /// The number of the next one: above every number that a group ever had.
    pub next_group: u32,
    /// What groups to come find settled.
    pub to_come: GroupState,
    pub paused: Paused,
}

impl Told {
    /// The groups there are, and what those to come find.
    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut GroupState> {
        told_all(&mut self.groups, &mut self.to_come)
    }
}

fn told_all<'a>(
    groups: &'a mut BTreeMap<u32, GroupState>,
    to_come: &'a mut GroupState,
) -> impl Iterator<Item = &'a mut GroupState> {
    groups.values_mut().chain(std::iter::once(to_come))
}

/// Applies the journal from `from` (base, offset) on. Errors: `Io` if it can't be read, for what it says would be
/// forgotten for good.
pub(super) fn replay(
    logs: &BTreeMap<u16, FoundLog>,
    records: &Records,
    from: (u64, u32),
    told: &mut Told,
    damage: &mut Vec<Damage>,
) -> Result<()> {
    let Some(journal) = logs.get(&LogId::JOURNAL.0) else { return Ok(()) };
    for life in journal.lives.iter().filter(|life| life.header.base >= from.0) {
        let start = if life.header.base == from.0 { from.1 } else { 0 };
        if let Err(error) = replay_life(life, &read_life(life)?, start, told, records) {
            damage.push(Damage {
                kind: DamageKind::Corrupt,
                file: life.name(),
                offset: u64::from(start),
                bytes: u64::from(life.end),
                lane: None,
                lost: None,
                what: format!("{error}; acks may be missing, so tasks may come again"),
            });
        }
    }
    // Of a group that did not survive nothing is paused.
    told.paused.groups.retain(|group| told.groups.contains_key(group));
    Ok(())
}

/// The bytes of a life of the journal, as far as they are there. Errors: `Io`.
pub(super) fn read_life(life: &FoundLife) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(life.file_bytes.min(u64::from(life.end))).unwrap_or(0)];
    life.file.read_at(0, &mut bytes).map_err(|error| Error::io(life.name(), "read", error))?;
    Ok(bytes)
}

/// What a walk over a life of the journal meets.
pub(super) enum Met<'a> {
    Entry {
        at: u32,
        bytes: u32,
        payload: &'a [u8],
    },
    /// Something that does not verify: up to the next header, or to the end.
    Unverified {
        at: u32,
        bytes: u32,
    },
}

/// Shows the records of a life in order; `bytes` are those of [`read_life`].
pub(super) fn each_record(life: &FoundLife, bytes: &[u8], start: u32, mut visit: impl FnMut(Met<'_>)) {
    let mut at = start.max(u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX));
    while let Some(rest) = bytes.get(at as usize..).filter(|rest| !rest.is_empty()) {
        match record::read(life.header.life(), at, rest) {
            Found::Record(header) => {
                if header.kind == Kind::Entry {
                    visit(match record::verify(life.header.life(), &header, rest) {
                        Some(body) => Met::Entry { at, bytes: header.bytes, payload: body.payload },
                        None => Met::Unverified { at, bytes: header.bytes },
                    });
                }
                at += header.step();
            }
            Found::Padding { bytes } | Found::Hole { bytes } => at += bytes,
            Found::Empty | Found::Invalid => {
                let next = crate::log::scan::resync(life.header.life(), at, rest).map(|header| header.offset);
                let to = next.unwrap_or(life.end.max(at));
                visit(Met::Unverified { at, bytes: to - at });
                at = match next {
                    Some(next) => next,
                    None => break,
                };
            }
        }
    }
}

/// Applies the entries of one life. What does not verify is an error only where no scan has spoken of it: the scan alone
/// knows whether it lies below the last mark, and is corrupt, or above it, and is torn. What is void says nothing.
fn replay_life(
    life: &FoundLife,
    bytes: &[u8],
    start: u32,
    told: &mut Told,
    records: &Records,
) -> std::result::Result<(), String> {
    let mut outcome = Ok(());
    let flaws = || life.scan.iter().flat_map(|scan| &scan.flaws);
    let is_known = |at: u32| flaws().any(|flaw| flaw.covers(at));
    let is_void = |at: u32| flaws().any(|flaw| matches!(flaw, Flaw::Void { offset, .. } if *offset == at));
    each_record(life, bytes, start, |met| match met {
        Met::Entry { at, .. } if is_void(at) => {}
        Met::Entry { payload, .. } => apply(payload, told, records).unwrap_or_else(|e| outcome = Err(e)),
        Met::Unverified { at, .. } if is_known(at) => {}
        Met::Unverified { at, .. } => outcome = Err(format!("bytes from {at} on do not verify")),
    });
    outcome
}

fn apply(payload: &[u8], told: &mut Told, records: &Records) -> std::result::Result<(), String> {
    let Told { groups, next_group, to_come, paused } = told;
    for entry in journal::entries(payload) {
        let entry = entry.map_err(|_| "an entry is malformed".to_owned())?;
        match &entry {
            Entry::GroupCreated { group, .. } if *group >= GROUP_IDS_END => {
                return Err("a group's number is out of bounds".to_owned());
            }
            Entry::GroupCreated { group, name, starts } => {
                *next_group = (*next_group).max(group + 1);
                let heir = to_come.heir(name, starts.clone().collect());
                let state = groups.entry(*group).or_default();
                (state.name, state.starts) = (heir.name, heir.starts);
                heir.acks.into_iter().for_each(|(life, acks)| _ = state.acks.entry(life).or_insert(acks));
            }
            Entry::GroupRemoved { group } => drop(groups.remove(group)),
            Entry::Paused(what) => paused.pause(*what),
            Entry::Resumed(what) => paused.resume(*what),
            Entry::Decision { .. } | Entry::Room => {}
            Entry::Cancelled { .. } => told_all(groups, to_come).for_each(|state| state.apply(&entry, records)),
            Entry::Reserved { group, .. }
            | Entry::Acked { group, .. }
            | Entry::Released { group, .. }
            | Entry::Retry { group, .. }
            | Entry::Dead { group, .. }
            | Entry::Started { group, .. }
            | Entry::Retains { group, .. } => {
                if let Some(state) = groups.get_mut(group) {
                    state.apply(&entry, records);
                }
            }
        }
    }
    Ok(())
}
