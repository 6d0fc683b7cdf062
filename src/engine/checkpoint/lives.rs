//! The lives that a checkpoint lists: those that there are at one instant.
//!
//! A life that is attached later has a higher base than its log had then, and a recovery finds it by that. Of it nothing is
//! gathered: whatever a group knows of it is in the journal behind the place where replay begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checkpoint::Key;
use crate::format::meta::{ListedLife, kind};
use crate::log::{Counted, Log, Place, Segment};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, LogId};

use super::super::Engine;
use super::gather::Snapshot;

/// What there is of every log.
pub(super) struct LivesAt {
    /// Each log's highest base, read before its lives.
    last_bases: BTreeMap<u16, u64>,
    /// Lives of lanes that were sealed; the groups then strike out what they still need. Not one that is sealed since: of what
    /// was appended to it meanwhile no dedup id is known.
    sealed: Vec<SealedLife>,
    lanes: Vec<(LaneId, LogAt)>,
    journal: LogAt,
}

struct LogAt {
    segments: Vec<Arc<Segment>>,
    durable: Place,
    counted: Counted,
}

/// A sealed life of a lane and the first sequence behind its records.
#[derive(Clone, Copy)]
pub(super) struct SealedLife {
    pub lane: LaneId,
    pub base: u64,
    pub end: u64,
}

impl Engine {
    /// What there is now. Looks at nothing but pointers and counts: it is waited for.
    pub(super) fn lives_now(&self) -> LivesAt {
        let (mut last_bases, mut sealed) = (self.last_bases.clone(), Vec::new());
        let mut look = |log: &Log| {
            let last = log.last_base();
            last_bases.insert(log.id().0, last);
            let (durable, counted) = log.durable_place();
            let segments = log.segments();
            // A life that was attached between the two looks does not go: a recovery would miss it in the chain.
            let earlier = segments.iter().filter(|segment| segment.base() <= last);
            sealed.extend(earlier.filter_map(|segment| {
                let (lane, base, records) = (log.id().lane()?, segment.base(), segment.sealed()?.records);
                Some(SealedLife { lane, base, end: base + u64::from(records) })
            }));
            LogAt { segments, durable, counted }
        };
        let lanes = self.lanes.all().map(|(lane, log)| (lane, look(log))).collect();
        let journal = look(&self.journal);
        LivesAt { last_bases, sealed, lanes, journal }
    }

    /// Lists every life that stays; returns each log's highest base.
    pub(super) fn list_lives(
        &self,
        lives: &LivesAt,
        journal_from: Place,
        snapshot: &mut Snapshot,
    ) -> Vec<(LogId, u64)> {
        for (lane, log) in &lives.lanes {
            let gone: BTreeSet<u64> = snapshot.gone.iter().filter(|(l, _)| l == lane).map(|(_, base)| *base).collect();
            log.list(|base| !gone.contains(&base), snapshot);
        }
        // The older root, once this one is written, is today's newest: its journal stays.
        lives.journal.list(|base| base >= journal_from.base, snapshot);
        for life in &self.unread {
            snapshot.values.insert(life_key(life), life.encode());
        }
        lives.last_bases.iter().map(|(log, base)| (LogId(*log), *base)).collect()
    }
}

impl LivesAt {
    /// Lives of lanes that are sealed and may go.
    pub(super) fn candidates(&self) -> Vec<SealedLife> {
        if !on(Bug::SealedSinceGoes) {
            return self.sealed.clone();
        }
        let each = self.lanes.iter().flat_map(|(lane, log)| log.segments.iter().map(move |segment| (*lane, segment)));
        let sealed = |(lane, segment): (LaneId, &Arc<Segment>)| {
            let (base, records) = (segment.base(), segment.sealed()?.records);
            Some(SealedLife { lane, base, end: base + u64::from(records) })
        };
        each.filter_map(sealed).collect()
    }

    /// True if a life of the lane may be among them.
    pub(super) fn may_have(&self, lane: LaneId, base: u64) -> bool {
        self.last_bases.get(&LogId::from(lane).0).is_some_and(|last| base <= *last)
    }
}

impl LogAt {
    /// Lists the lives that `keep` wants.
    fn list(&self, keep: impl Fn(u64) -> bool, snapshot: &mut Snapshot) {
        for segment in self.segments.iter().filter(|segment| keep(segment.base())) {
            let listed = list_life(segment, self.durable, self.counted);
            snapshot.values.insert(life_key(&listed), listed.encode());
        }
    }
}

fn life_key(life: &ListedLife) -> Key {
    Key { kind: kind::LIFE, a: life.file, b: 0, c: 0 }
}

/// A life as a checkpoint lists it.
fn list_life(segment: &Segment, durable: Place, counted: Counted) -> ListedLife {
    let header = segment.header();
    let left_at = segment.sealed().map_or(0, |sealed| sealed.end);
    let mut listed = ListedLife { has_ids: segment.has_ids(), left_at, ..ListedLife::unproven(header) };
    let wholly_durable =
        |end: u32| durable.base > header.base || (durable.base == header.base && durable.offset >= end);
    match segment.sealed().filter(|sealed| wholly_durable(sealed.end)) {
        Some(sealed) => {
            (listed.offset, listed.left_at) = (sealed.end, 0);
            listed.records = sealed.records;
            listed.tasks = segment.tasks();
            listed.sealed = true;
            listed.seek = segment.seek_table(sealed.records);
        }
        None if counted.place.base == header.base => {
            listed.offset = counted.place.offset;
            listed.records = counted.records;
            listed.tasks = counted.tasks;
        }
        None => {}
    }
    listed
}
