//! What a group remembers of tasks that were handed out and are not settled for good.
//!
//! Of most there is one thing to say, how many attempts began: bits by record index, beside the acks of the life
//! ([`super::attempts`]). One that was given back with a reason or a time, or began more often than bits tell, has a note, and
//! what that says counts, whatever the bits are. So what a checkpoint writes and what an open reads follow the tasks that
//! failed, not those that are on loan or were when a process died.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::meta::NOTES_PER_BLOB;
use crate::types::{LaneId, Seq, Timestamp};

use super::attempts::TOLD_BY_BITS;
use super::group::{Group, Slot, Tried};
use super::state::{Change, TaskKey};

/// What is known of a task that was handed out and is not settled for good.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Note {
    /// Attempts that began, at least one.
    pub attempts: u32,
    /// When it is due again, and how long the delay was; `None` is at once.
    pub due: Option<(Timestamp, u64)>,
    /// Why the last attempt failed, if anybody said.
    pub reason: String,
}

impl Note {
    /// What bits say, if they say anything.
    pub(super) fn told_by_bits(attempts: u32) -> Option<Note> {
        (attempts > 0).then(|| Note { attempts, ..Note::default() })
    }
}

/// The notes of a group.
pub(crate) struct Notes {
    notes: BTreeMap<TaskKey, Note>,
    pub dirty: Dirty,
}

impl Notes {
    pub(super) fn new(notes: BTreeMap<TaskKey, Note>) -> Self {
        Notes { dirty: Dirty::everything(notes.keys()), notes }
    }

    pub(crate) fn all(&self) -> &BTreeMap<TaskKey, Note> {
        &self.notes
    }

    /// Attempts that began of a task with a slot.
    #[inline]
    pub(super) fn attempts(&self, task: &Slot) -> u32 {
        match task.tried {
            Tried::Times(times) => u32::from(times),
            Tried::Noted => self.get(&task.task_key()).map_or(1, |note| note.attempts),
        }
    }

    #[inline]
    pub(super) fn get(&self, key: &TaskKey) -> Option<&Note> {
        if self.notes.is_empty() { None } else { self.notes.get(key) }
    }

    pub(super) fn set(&mut self, key: TaskKey, note: Note) {
        self.dirty.touch(key.1);
        self.notes.insert(key, note);
    }

    /// Another attempt of a task is the last that began; it waits for nothing.
    pub(super) fn count(&mut self, key: TaskKey, attempts: u32) {
        self.dirty.touch(key.1);
        let note = self.notes.entry(key).or_default();
        (note.attempts, note.due) = (attempts, None);
    }

    pub(super) fn remove(&mut self, key: &TaskKey) -> Option<Note> {
        let note = self.notes.remove(key)?;
        self.dirty.touch(key.1);
        Some(note)
    }

    /// Nothing of the lane before `seq` is the group's any more.
    pub(super) fn forget_before(&mut self, lane: LaneId, seq: Seq) {
        let before: Vec<TaskKey> = self.notes.range((lane, Seq(0))..(lane, seq)).map(|(key, _)| *key).collect();
        for key in before {
            self.remove(&key);
        }
    }
}

/// Which blobs of notes, or of dead letters, are not in the newest checkpoint as they are here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dirty {
    everything: bool,
    blobs: BTreeSet<u64>,
}

impl Dirty {
    /// What a recovery found, the tasks of `keys`, may differ from what the checkpoint holds, of whatever task.
    pub(super) fn everything<'a>(keys: impl Iterator<Item = &'a TaskKey>) -> Self {
        Dirty { everything: true, blobs: keys.map(|key| blob_of(key.1)).collect() }
    }

    pub(super) fn touch(&mut self, seq: Seq) {
        self.blobs.insert(blob_of(seq));
    }

    pub(crate) fn take(&mut self) -> Dirty {
        std::mem::take(self)
    }

    /// Puts back what a failed checkpoint took.
    pub(crate) fn put_back(&mut self, taken: Dirty) {
        self.everything |= taken.everything;
        self.blobs.extend(taken.blobs);
    }

    pub(crate) fn has(&self, blob: u64) -> bool {
        self.everything || self.blobs.contains(&blob)
    }

    /// The blobs that there may be something to write for.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = u64> {
        self.blobs.iter().copied()
    }
}

/// The blob that what is said of a task lies in.
fn blob_of(seq: Seq) -> u64 {
    seq.0 / NOTES_PER_BLOB
}

impl Group {
    /// Attempts of a task that has no slot.
    pub(super) fn attempts_of(&self, key: TaskKey, base: u64, index: u32) -> u32 {
        let told = || self.lanes.get(key.0).map_or(0, |own| own.attempts(base, index));
        self.notes.get(&key).map_or_else(told, |note| note.attempts)
    }

    /// The task in the slot begins another attempt. Gives its number; [`Group::note_begun`] is told of it.
    #[inline]
    pub(super) fn begin_attempt(&mut self, slot: u32) -> u32 {
        let Some(task) = self.slots.slot_mut(slot) else { return 1 };
        match task.tried {
            Tried::Times(times) if u32::from(times) < TOLD_BY_BITS => {
                task.tried = Tried::Times(times + 1);
                u32::from(times) + 1
            }
            _ => {
                let attempts = self.notes.attempts(task) + 1;
                task.tried = Tried::Noted;
                self.notes.count(task.task_key(), attempts);
                attempts
            }
        }
    }

    /// Attempts began that are among these changes: a bit for each task without a note.
    pub(super) fn note_begun(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Reserved { attempt, run } = change
                && *attempt <= TOLD_BY_BITS
                && let Some(own) = self.lanes.get_mut(run.lane)
            {
                if *attempt == 1 || self.notes.all().is_empty() {
                    own.begin(*attempt, run.first, run.count);
                    continue;
                }
                let each = (run.first.0..).take(run.count as usize).map(Seq);
                for seq in each.filter(|seq| self.notes.get(&(run.lane, *seq)).is_none()) {
                    own.begin(*attempt, seq, 1);
                }
            }
        }
    }

    /// The last attempt of the task in the slot never began. Gives how many did.
    pub(super) fn unbegin(&mut self, slot: u32) -> u32 {
        let Some(task) = self.slots.slot_mut(slot) else { return 0 };
        let attempts = self.notes.attempts(task).saturating_sub(1);
        let (key, base, index) = (task.task_key(), task.base(), task.index);
        if attempts > 0 && task.tried == Tried::Noted {
            self.notes.count(key, attempts);
        } else {
            task.tried = Tried::times(attempts);
            self.attempts_stand(key, base, index, attempts);
        }
        attempts
    }

    /// So many attempts of a task began, and more is not to be said of it.
    pub(super) fn attempts_stand(&mut self, key: TaskKey, base: u64, index: u32, attempts: u32) {
        self.notes.remove(&key);
        self.in_lane(key.0, |own| own.set_attempts(base, index, attempts));
    }

    /// The task in the slot has this note.
    pub(super) fn note(&mut self, slot: u32, note: Note) {
        if let Some(task) = self.slots.slot_mut(slot) {
            task.tried = Tried::Noted;
            self.notes.set(task.task_key(), note);
        }
    }

    /// What was said of the last attempt of the task in a slot.
    pub(super) fn reason_of(&self, slot: u32) -> String {
        let task = self.slots.slot(slot).filter(|task| task.tried == Tried::Noted);
        let note = task.and_then(|task| self.notes.get(&task.task_key()));
        note.map(|note| note.reason.clone()).unwrap_or_default()
    }
}
