//! Dedup ids as the disk shows them: those of the checkpoint, and those of the records behind it. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::dedup::{Once, decode_order, decode_pages};
use crate::format::fields::DedupTrait;
use crate::format::meta::{ListedLife, kind};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Seq};

use super::lives::{FoundLife, FoundLog};

/// No slice's number reaches this: counting on from there never overflows.
const NUMBERS_END: u32 = 1 << 31;

/// The ids that count in a queue as the disk shows it.
#[derive(Default)]
pub(crate) struct FoundIds {
    /// The order of the next enqueue with an id.
    pub order: u64,
    /// Entries of slices by number, as the checkpoint has them; without what did not survive.
    pub slices: BTreeMap<u32, Vec<(u128, Once)>>,
    /// Slices that are not as the checkpoint has them.
    pub changed: BTreeSet<u32>,
    /// Those that the checkpoint does not know, in the order of their enqueues.
    pub newer: Vec<NewerId>,
}

/// An id that a record behind the checkpoint has.
pub(crate) struct NewerId {
    pub lane: LaneId,
    pub seq: Seq,
    pub id: DedupTrait,
}

/// What became of the records of a life.
enum Fate<'a> {
    Found(&'a FoundLife),
    /// It can't be read now: what was known of it stays.
    Unread,
    /// It is not there; so many of its records were durable. Of the others nobody knows, and an id that counts for a task
    /// that is lost would lose the next one too.
    Gone(u32),
}

impl FoundIds {
    /// Takes over a blob of the checkpoint. `None` if it is malformed; false if it is none of these.
    pub(super) fn load(&mut self, blob: u8, number: u32, value: &[u8]) -> Option<bool> {
        match blob {
            kind::IDS => {
                let entries = decode_pages(value).filter(|_| number < NUMBERS_END)?;
                self.slices.insert(number, entries);
            }
            kind::IDS_ORDER => self.order = decode_order(value)?,
            _ => return Some(false),
        }
        Some(true)
    }

    /// Takes over what the lives hold, once it is decided what of them counts. What did not survive is dropped.
    pub(super) fn take_in(&mut self, logs: &BTreeMap<u16, FoundLog>, listed: &[ListedLife], unread: &[ListedLife]) {
        let fates = Fates::of(logs, listed, unread);
        for (number, entries) in &mut self.slices {
            let before = entries.len();
            entries.retain(|(_, once)| fates.survived(once.lane, once.seq));
            if entries.len() < before {
                self.changed.insert(*number);
            }
        }
        for life in logs.values().flat_map(|log| &log.lives) {
            let Some(lane) = life.header.log.lane() else { continue };
            let own = life.ids.iter().map(|(index, id)| NewerId { lane, seq: life.seq(*index), id: *id });
            self.newer.extend(own.filter(|one| one.id.order >= self.order && fates.survived(lane, one.seq)));
        }
        self.newer.sort_by_key(|one| one.id.order);
        let next = self.newer.last().map_or(0, |one| one.id.order.saturating_add(1));
        self.order = self.order.max(next);
    }

    /// How many there are; one that was accepted twice counts twice.
    pub(crate) fn count(&self) -> usize {
        self.slices.values().map(Vec::len).sum::<usize>() + self.newer.len()
    }
}

/// By lane: base → the first sequence behind the life, and what became of it.
struct Fates<'a>(BTreeMap<LaneId, BTreeMap<u64, (u64, Fate<'a>)>>);

impl<'a> Fates<'a> {
    fn of(logs: &'a BTreeMap<u16, FoundLog>, listed: &[ListedLife], unread: &[ListedLife]) -> Self {
        let mut fates = Fates(BTreeMap::new());
        for life in listed {
            fates.put(life.log.lane(), life.base, life.block, Fate::Gone(life.records));
        }
        for life in unread {
            fates.put(life.log.lane(), life.base, life.block, Fate::Unread);
        }
        for life in logs.values().flat_map(|log| &log.lives) {
            fates.put(life.header.log.lane(), life.header.base, life.header.block, Fate::Found(life));
        }
        fates
    }

    fn put(&mut self, lane: Option<LaneId>, base: u64, block: u32, fate: Fate<'a>) {
        if let Some(lane) = lane {
            self.0.entry(lane).or_default().insert(base, (base.saturating_add(u64::from(block)), fate));
        }
    }

    /// False if the record is not there although nothing let go of it. Of a life that no checkpoint lists any more, and
    /// that was not found, everything was settled.
    fn survived(&self, lane: LaneId, seq: Seq) -> bool {
        if on(Bug::IdOfLostRecord) {
            return true;
        }
        let lives = self.0.get(&lane);
        let life = lives.and_then(|lives| lives.range(..=seq.0).next_back()).filter(|(_, (end, _))| seq.0 < *end);
        match life {
            None | Some((_, (_, Fate::Unread))) => true,
            Some((base, (_, Fate::Gone(durable)))) => seq.0 - base < u64::from(*durable),
            Some((base, (_, Fate::Found(life)))) => {
                let index = seq.index_in(*base);
                index < life.records && !life.lost().any(|(first, last)| (first..=last).contains(&index))
            }
        }
    }
}
