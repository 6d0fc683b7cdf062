//! What of a group outlives the process, and how the journal changes it.
//!
//! A checkpoint holds this state; replaying the journal's entries on top of it, in order, gives the state at
//! the end of the journal. Every entry sets something absolutely, so an entry that the checkpoint already
//! contains changes nothing (the last word on a task is the last entry on it).

use std::collections::{BTreeMap, BTreeSet};

use crate::format::journal::{DeadCause, Entry, Run};
use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Retention, Seq, Timestamp};

use super::attempts::{Attempts, TOLD_BY_BITS};
use super::notes::Note;
use super::record_bits::RecordBits;

/// A task's place in a group: lane and sequence.
pub(crate) type TaskKey = (LaneId, Seq);

/// A task that the group gave up on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeadNote {
    pub attempts: u32,
    pub cause: DeadCause,
    pub at: Timestamp,
    /// Bytes of its payload.
    pub bytes: u32,
    pub reason: String,
}

/// A group as a checkpoint holds it.
#[derive(Default)]
pub(crate) struct GroupState {
    pub name: String,
    /// First sequence that the group sees, per lane; lanes that are absent begin at 0.
    pub starts: BTreeMap<LaneId, Seq>,
    /// Acks of each life, by lane and base.
    pub acks: BTreeMap<(LaneId, u64), RecordBits>,
    /// Lives in which the group has nothing left to do.
    pub done: BTreeSet<(LaneId, u64)>,
    /// Attempts that began, by lane and base; of a task with a note, that counts.
    pub attempts: BTreeMap<(LaneId, u64), Attempts>,
    pub notes: BTreeMap<TaskKey, Note>,
    pub dead: BTreeMap<TaskKey, DeadNote>,
    /// Tasks acked in lives that are gone, per lane.
    pub acked_gone: BTreeMap<LaneId, u64>,
    /// How much it may have left to do.
    pub retention: Retention,
}

/// A change that must outlive the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// An attempt with this number began.
    Reserved {
        attempt: u32,
        run: Run,
    },
    Acked {
        run: Run,
    },
    /// An attempt was taken back; `attempts` is the count that stands.
    Released {
        attempts: u32,
        run: Run,
    },
    Retry {
        key: TaskKey,
        note: Note,
    },
    Dead {
        key: TaskKey,
        dead: DeadNote,
    },
    /// Nothing of the lane before this sequence is the group's any more.
    Started {
        key: TaskKey,
    },
}

/// Where the records of a lane are, as far as recovery knows.
pub(crate) trait Locate {
    /// The base of the retained life whose records `seq` is among, and the first sequence behind those.
    fn life_of(&self, lane: LaneId, seq: Seq) -> Option<(u64, u64)>;
    /// True if that record did not survive as one.
    fn is_void(&self, seq: Seq) -> bool;
}

impl GroupState {
    /// Applies one journal entry that names this group. What concerns records that did not survive is dropped.
    pub(crate) fn apply(&mut self, entry: &Entry<'_>, records: &impl Locate) {
        match entry {
            Entry::Reserved { attempt, runs, .. } => self.each(runs.clone(), records, |state, key, base| {
                state.count(key, base, *attempt);
            }),
            Entry::Acked { runs, .. } | Entry::Cancelled { runs } => {
                self.each(runs.clone(), records, |state, key, base| {
                    state.notes.remove(&key);
                    state.dead.remove(&key);
                    state.set_acked(key, base);
                })
            }
            Entry::Released { attempts, runs, .. } => self.each(runs.clone(), records, |state, key, base| {
                let dead = state.dead.remove(&key);
                if *attempts == 0 {
                    state.notes.remove(&key);
                } else if let Some(dead) = dead {
                    state.notes.entry(key).or_default().reason = dead.reason;
                }
                state.count(key, base, *attempts);
            }),
            Entry::Retry { lane, seq, attempts, due, delay_ms, reason, .. } => {
                let note = Note { attempts: *attempts, due: Some((*due, *delay_ms)), reason: (*reason).to_owned() };
                self.one((*lane, *seq), records, |state, key| drop(state.notes.insert(key, note)));
            }
            Entry::Dead { lane, seq, attempts, cause, at, bytes, reason, .. } => {
                let (attempts, cause, at, bytes) = (*attempts, *cause, *at, *bytes);
                let dead = DeadNote { attempts, cause, at, bytes, reason: (*reason).to_owned() };
                self.one((*lane, *seq), records, |state, key| {
                    state.notes.remove(&key);
                    state.dead.insert(key, dead);
                });
            }
            Entry::Started { lane, seq, .. } => self.start(*lane, *seq),
            Entry::Retains { retention, .. } => self.retention = *retention,
            Entry::GroupCreated { .. }
            | Entry::GroupRemoved { .. }
            | Entry::Paused(_)
            | Entry::Resumed(_)
            | Entry::Decision { .. }
            | Entry::Room => {}
        }
    }

    /// So many attempts of a task of the life that begins at `base` began, and it waits for nothing.
    fn count(&mut self, key: TaskKey, base: u64, attempts: u32) {
        if attempts <= TOLD_BY_BITS && !self.notes.contains_key(&key) {
            self.attempts.entry((key.0, base)).or_default().set(key.1.index_in(base), attempts);
            return;
        }
        let note = self.notes.entry(key).or_default();
        (note.attempts, note.due) = (attempts, None);
    }

    /// Settles a task of the life that begins at `base`.
    pub(crate) fn set_acked(&mut self, (lane, seq): TaskKey, base: u64) {
        let index = seq.index_in(base);
        self.acks.entry((lane, base)).or_default().set(index);
    }

    /// A group that begins now, where this is what those to come find settled. It sees nothing before `starts`.
    pub(crate) fn heir(&self, name: &str, starts: BTreeMap<LaneId, Seq>) -> GroupState {
        let from = |lane: &LaneId, base: u64| starts.get(lane).map_or(0, |start| start.index_in(base));
        let settled = self.acks.iter().filter(|_| !on(Bug::CancelForgotten));
        let copies = settled.map(|((lane, base), acks)| ((*lane, *base), acks.copy_from(from(lane, *base))));
        let acks = copies.filter(|(_, acks)| acks.count() > 0).collect();
        GroupState { name: name.to_owned(), starts, acks, ..GroupState::default() }
    }

    /// The group has nothing to do with what comes before `seq`.
    fn start(&mut self, lane: LaneId, seq: Seq) {
        let start = self.starts.entry(lane).or_default();
        *start = (*start).max(seq);
        self.notes.retain(|key, _| key.0 != lane || key.1 >= seq);
        self.dead.retain(|key, _| key.0 != lane || key.1 >= seq);
    }

    /// How many tasks of a life were handed out, and neither settled nor given back with a note.
    pub(crate) fn begun_in(&self, lane: LaneId, base: u64) -> u64 {
        let Some(attempts) = self.attempts.get(&(lane, base)) else { return 0 };
        let is_so = |index: &u32| {
            let key = (lane, Seq(base + u64::from(*index)));
            !self.is_acked(key, base) && !self.notes.contains_key(&key) && !self.dead.contains_key(&key)
        };
        attempts.begun().filter(is_so).count() as u64
    }

    /// What is known of a task that was handed out.
    pub(crate) fn note_of(&self, key: &TaskKey, base: u64) -> Option<Note> {
        let attempts = || self.attempts.get(&(key.0, base)).map_or(0, |own| own.of(key.1.index_in(base)));
        self.notes.get(key).cloned().or_else(|| Note::told_by_bits(attempts()))
    }

    fn each(
        &mut self,
        runs: impl Iterator<Item = Run>,
        records: &impl Locate,
        mut apply: impl FnMut(&mut Self, TaskKey, u64),
    ) {
        for run in runs {
            // A run lies in one life; but a hostile one may be long, so it ends with the life's records.
            let Some((base, end)) = records.life_of(run.lane, run.first) else { continue };
            let start = self.starts.get(&run.lane).copied().unwrap_or_default();
            if self.done.contains(&(run.lane, base)) {
                continue;
            }
            let last = run.first.0.saturating_add(u64::from(run.count)).min(end);
            for seq in (run.first.max(start).0..last).map(Seq) {
                let is_acked =
                    || self.acks.get(&(run.lane, base)).is_some_and(|acks| acks.contains(seq.index_in(base)));
                // A record that is lost takes nothing along of what is said of its neighbours.
                if !records.is_void(seq) && !is_acked() {
                    apply(self, (run.lane, seq), base);
                }
            }
        }
    }

    fn one(&mut self, key: TaskKey, records: &impl Locate, apply: impl FnOnce(&mut Self, TaskKey)) {
        if let Some((base, _)) = records.life_of(key.0, key.1)
            && !records.is_void(key.1)
            && !self.is_acked(key, base)
        {
            apply(self, key);
        }
    }

    /// True if the group acked the task, or is done with its life, or begins behind it.
    pub(crate) fn is_acked(&self, key: TaskKey, base: u64) -> bool {
        let (lane, seq) = key;
        let index = seq.index_in(base);
        self.starts.get(&lane).is_some_and(|start| seq < *start)
            || self.done.contains(&(lane, base))
            || self.acks.get(&(lane, base)).is_some_and(|acks| acks.contains(index))
    }

    /// What the group has not settled of a life that begins at `base` and has so many tasks, dead letters included.
    pub(crate) fn left_in(&self, lane: LaneId, base: u64, tasks: u32) -> u64 {
        if self.done.contains(&(lane, base)) {
            return 0;
        }
        let acked = self.acks.get(&(lane, base)).map_or(0, RecordBits::count);
        let before = self.starts.get(&lane).map_or(0, |start| start.index_in(base));
        u64::from(tasks.saturating_sub(acked).saturating_sub(before))
    }

    /// True if the group has nothing to do in a life with so many records, of which so many are tasks.
    pub(crate) fn has_settled(&self, lane: LaneId, base: u64, records: u32, tasks: u32) -> bool {
        let begins_behind = |acks: Option<&RecordBits>| {
            let first = self.starts.get(&lane).map_or(0, |start| start.index_in(base));
            acks.map_or(first, |acks| acks.next_unacked(first)) >= records
        };
        let acks = self.acks.get(&(lane, base));
        self.done.contains(&(lane, base)) || acks.map_or(0, RecordBits::count) >= tasks || begins_behind(acks)
    }
}

/// Gathers sequences into runs, so that a batch in order is one run.
#[derive(Default)]
pub(crate) struct Runs {
    changes: Vec<Change>,
}

impl Runs {
    pub(crate) fn reserved(&mut self, lane: LaneId, seq: Seq, attempt: u32) {
        if on(Bug::AttemptsForgotten) {
            return;
        }
        if let Some(Change::Reserved { attempt: last, run }) = self.changes.last_mut()
            && *last == attempt
            && grow(run, lane, seq)
        {
            return;
        }
        self.changes.push(Change::Reserved { attempt, run: Run { lane, first: seq, count: 1 } });
    }

    pub(crate) fn acked(&mut self, lane: LaneId, seq: Seq) {
        if let Some(Change::Acked { run }) = self.changes.last_mut()
            && grow(run, lane, seq)
        {
            return;
        }
        self.changes.push(Change::Acked { run: Run { lane, first: seq, count: 1 } });
    }

    pub(crate) fn released(&mut self, lane: LaneId, seq: Seq, attempts: u32) {
        if on(Bug::ReleaseForgotten) {
            return;
        }
        if let Some(Change::Released { attempts: last, run }) = self.changes.last_mut()
            && *last == attempts
            && grow(run, lane, seq)
        {
            return;
        }
        self.changes.push(Change::Released { attempts, run: Run { lane, first: seq, count: 1 } });
    }

    pub(crate) fn push(&mut self, change: Change) {
        if on(Bug::DeathForgotten) && matches!(change, Change::Dead { .. }) {
            return;
        }
        self.changes.push(change);
    }

    pub(crate) fn as_slice(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.changes.clear();
    }
}

/// Extends `run` by `seq` if that is the next one. Runs never cross lives: bases leave a gap of at least the
/// prelude's records, because a life's block is larger than what fits its file.
fn grow(run: &mut Run, lane: LaneId, seq: Seq) -> bool {
    let next = run.first.0 + u64::from(run.count);
    let grows = run.lane == lane && seq.0 == next && run.count < u32::MAX;
    run.count += u32::from(grows);
    grows
}
