//! Groups: creating them, finding them, and writing their changes to the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delivery::fences::FENCES_PER_RANGE;
use crate::delivery::{Change, Group, GroupState, Runs};
use crate::error::{Error, Result};
use crate::format::journal::{self, Of, Run};
use crate::format::meta::GROUP_IDS_END;
use crate::format::record::Kind;
use crate::log::{Draft, Log, NotAppended};
use crate::sabotage::{Bug, on};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, LogId, Now, Retention, Seq, Timestamp};

use super::prepare::Needed;
use super::{Attempt, Engine};

/// Where a new group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the oldest task that the queue still holds, but behind what was purged, and without what was cancelled.
    Oldest,
    /// Behind the newest task: the group sees what is enqueued from now on.
    Newest,
}

/// The longest name of a group, in bytes.
pub(crate) const GROUP_NAME_BYTES_MAX: usize = 64;
/// The most groups a queue can have.
pub(crate) const GROUPS_MAX: usize = 1024;

/// A group and its lock.
pub(crate) struct GroupCell {
    pub id: u32,
    pub name: String,
    pub state: Mutex<GroupWork>,
}

/// What the group's lock protects: its state, and buffers that spare an allocation per call.
pub(crate) struct GroupWork {
    pub group: Group,
    pub changes: Runs,
    /// The group was removed: nothing is the group's any more, and what is said of it goes nowhere.
    pub removed: bool,
    scratch: Vec<u8>,
    runs: Vec<Run>,
}

impl GroupCell {
    pub(crate) fn new(group: Group) -> Self {
        let (id, name) = (group.id, group.name.clone());
        let work = GroupWork { group, changes: Runs::default(), removed: false, scratch: Vec::new(), runs: Vec::new() };
        GroupCell { id, name, state: Mutex::new(work) }
    }
}

impl Engine {
    /// The group of that name.
    pub(crate) fn group(&self, name: &str) -> Result<Arc<GroupCell>> {
        let groups = self.groups.read();
        let found = groups.values().find(|cell| cell.name == name);
        found.cloned().ok_or_else(|| Error::NoSuchGroup { name: name.to_owned() })
    }

    pub(crate) fn group_by_id(&self, id: u32) -> Option<Arc<GroupCell>> {
        self.groups.read().get(&id).cloned()
    }

    /// All groups, oldest first.
    pub(crate) fn groups(&self) -> Vec<Arc<GroupCell>> {
        self.groups.read().values().cloned().collect()
    }

    /// Makes a group. It exists for others at once and over a crash once the journal is durable up to the
    /// returned position; the caller waits for that before it says so.
    ///
    /// Its start is fixed while the list of groups is held, which reclaim needs to take a segment: so no
    /// segment that the new group has to see goes meanwhile.
    pub(crate) fn create_group(&self, name: &str, start: Start, retention: Retention, now: Now) -> Result<u64> {
        self.check_poison()?;
        check_name(name)?;
        let mut groups = self.groups.write();
        if groups.values().any(|cell| cell.name == name) {
            return Err(Error::GroupExists { name: name.to_owned() });
        }
        if groups.len() >= GROUPS_MAX {
            let why = format!("a queue has at most {GROUPS_MAX} groups");
            return Err(Error::InvalidOption { option: "group", why });
        }
        let id = self.next_group.load(Ordering::Relaxed);
        if id >= GROUP_IDS_END {
            let why = format!("a queue has at most {GROUP_IDS_END} groups in its life");
            return Err(Error::InvalidOption { option: "group", why });
        }
        self.join_bounds(|find_room| {
            let starts: Vec<(LaneId, Seq)> = match start {
                Start::Oldest => purged_before(&groups),
                Start::Newest if on(Bug::StartForgotten) => Vec::new(),
                Start::Newest => self.next_seqs(),
            };
            let mut payload = Vec::new();
            journal::put_group_created(&mut payload, id, name, &starts);
            if retention != Retention::default() {
                journal::put_group_retains(&mut payload, id, &retention);
            }
            let end = self.append_journal(&payload, now.wall)?;
            let starts = starts.into_iter().collect();
            let state = GroupState { retention, ..self.to_come.lock().heir(name, starts) };
            let group = Group::open(id, state, &self.settings.priority, now);
            let group = group.keyed(self.queue.0, self.settings.sticky).spilling(self.scratch.clone());
            let group = group.lending_from(self.loans.clone());
            // Without a range it asks for one at its first reserve.
            let group = match self.take_sequences(FENCES_PER_RANGE) {
                Some(first) => group.fenced(first),
                None => group,
            };
            find_room(&group);
            self.next_group.store(id + 1, Ordering::Relaxed);
            self.arrivals.set_groups(groups.len() + 1);
            groups.insert(id, Arc::new(GroupCell::new(group)));
            Ok(end)
        })
    }

    /// For each lane a sequence above every task there is and at most that of the next one.
    pub(super) fn next_seqs(&self) -> Vec<(LaneId, Seq)> {
        let mut next: BTreeMap<LaneId, Seq> = self.lanes.all().map(|(lane, log)| (lane, log.next_seq())).collect();
        // Tasks that this open can't read are there all the same; everything it attaches begins above them.
        for lane in self.unread.iter().filter_map(|life| life.log.lane()) {
            let from = next.entry(lane).or_default();
            *from = (*from).max(self.first_base);
        }
        next.into_iter().collect()
    }

    /// Writes what changed in a group to the journal, in order, and forgets it. Returns the log position
    /// behind the last entry, or `None` if nothing had changed.
    ///
    /// Called with the group's lock held: see the room's doc for why.
    pub(super) fn write_changes(&self, work: &mut GroupWork, time: Timestamp) -> Result<Option<u64>> {
        let bounds = &self.settings.rules.dead;
        if work.group.exceeds(bounds, time) {
            work.group.bound_dead(bounds, time, |lane, seq| self.base_of(lane, seq), &mut work.changes);
        }
        self.note_settled(work);
        if work.changes.is_empty() {
            return Ok(None);
        }
        let mut scratch = std::mem::take(&mut work.scratch);
        scratch.clear();
        let gathered = self.gather(work, &mut scratch, time);
        let written = gathered.and_then(|end| Ok(self.flush(&mut scratch, time)?.or(end)));
        work.scratch = scratch;
        let end = written?;
        work.changes.clear();
        self.changed.store(true, Ordering::Relaxed);
        Ok(end)
    }

    /// Writes what changed in several groups, whose locks are held in the order of their ids, as one record.
    pub(super) fn write_all_changes<'a>(
        &self,
        works: impl Iterator<Item = &'a mut GroupWork>,
        time: Timestamp,
    ) -> Result<Option<u64>> {
        let mut scratch = Vec::new();
        let (mut end, mut outcome) = (None, Ok(()));
        for work in works {
            if outcome.is_ok() {
                outcome = self.gather(work, &mut scratch, time).map(|written| end = written.or(end));
            }
            self.note_settled(work);
            work.changes.clear();
        }
        outcome?;
        end = self.flush(&mut scratch, time)?.or(end);
        self.changed.store(true, Ordering::Relaxed);
        Ok(end)
    }

    /// Appends the group's changes to `out` as entries; what makes it too long for one record is written under way. Gives
    /// the log position behind that.
    fn gather(&self, work: &mut GroupWork, out: &mut Vec<u8>, time: Timestamp) -> Result<Option<u64>> {
        let GroupWork { group, changes, runs, .. } = work;
        let mut end = None;
        let mut rest = changes.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let (taken, after) = rest.split_at(same_entry(rest).min(RUNS_PER_ENTRY_MAX));
            put(out, group.id, first, taken, runs);
            rest = after;
            if out.len() >= self.settings.entry_bytes_max() / 2 {
                end = self.flush(out, time)?;
            }
        }
        Ok(end)
    }

    /// Writes entries as one record, if there are any.
    fn flush(&self, entries: &mut Vec<u8>, time: Timestamp) -> Result<Option<u64>> {
        if entries.is_empty() {
            return Ok(None);
        }
        let end = self.append_journal(entries, time)?;
        entries.clear();
        Ok(Some(end))
    }

    /// The base of the life that holds `seq`, if it is retained.
    pub(super) fn base_of(&self, lane: LaneId, seq: Seq) -> Option<u64> {
        Some(self.lanes.log(lane)?.segment_of(seq)?.base())
    }

    /// Encodes what changed in a group behind what is in `out`, and forgets it: for a record that says more than that.
    pub(super) fn take_changes(&self, work: &mut GroupWork, out: &mut Vec<u8>) {
        self.note_settled(work);
        let id = work.group.id;
        let GroupWork { changes, runs, .. } = work;
        let mut rest = changes.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let (taken, after) = rest.split_at(same_entry(rest).min(RUNS_PER_ENTRY_MAX));
            put(out, id, first, taken, runs);
            rest = after;
        }
        changes.clear();
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Publishes one journal record. The journal has segments of its own set aside, so this works when the
    /// lanes are full; with none left it makes one here and now.
    pub(super) fn append_journal(&self, payload: &[u8], time: Timestamp) -> Result<u64> {
        let draft = Draft { kind: Kind::Entry, flags: 0, fields: &[], payload };
        self.in_journal(|journal| journal.append(&draft, time), time).map(|appended| appended.end)
    }

    /// Repeats a claim in the journal until there is room.
    pub(super) fn in_journal<'a, T>(
        &'a self,
        claim: impl Fn(&'a Log) -> std::result::Result<T, NotAppended>,
        time: Timestamp,
    ) -> Result<T> {
        loop {
            match claim(&self.journal) {
                Ok(claimed) => return Ok(claimed),
                Err(NotAppended::NeedsRoll { bytes, seen_base }) => {
                    if !self.roll(&self.journal, bytes, seen_base, time) {
                        self.counts.stalls.fetch_add(1, Ordering::Relaxed);
                        self.prepare_one(Needed::Journal)?;
                    }
                }
                Err(NotAppended::TooLarge) => {
                    return Err(Error::TaskTooLarge { bytes: u64::from(u32::MAX), max: u64::from(u32::MAX) });
                }
                Err(NotAppended::Failed { first, file }) => return Err(self.map_failed(LogId::JOURNAL, first, file)),
            }
        }
    }
}

/// At most this many runs in one entry: 24 bytes each stay far below the smallest segment's room.
const RUNS_PER_ENTRY_MAX: usize = 24;

/// How many changes at the front of `changes` go into one entry.
fn same_entry(changes: &[Change]) -> usize {
    let Some(first) = changes.first() else { return 0 };
    let same = |change: &Change| match (first, change) {
        (Change::Reserved { attempt: a, .. }, Change::Reserved { attempt: b, .. })
        | (Change::Released { attempts: a, .. }, Change::Released { attempts: b, .. }) => a == b,
        (Change::Acked { .. }, Change::Acked { .. }) => true,
        _ => false,
    };
    changes.iter().take_while(|change| same(change)).count().max(1)
}

fn put(out: &mut Vec<u8>, group: u32, first: &Change, taken: &[Change], runs: &mut Vec<Run>) {
    runs.clear();
    runs.extend(taken.iter().filter_map(|change| match change {
        Change::Reserved { run, .. } | Change::Acked { run } | Change::Released { run, .. } => Some(*run),
        Change::Retry { .. } | Change::Dead { .. } | Change::Started { .. } => None,
    }));
    match first {
        Change::Reserved { attempt, .. } => journal::put_reserved(out, group, *attempt, runs),
        Change::Acked { .. } => journal::put_acked(out, group, runs),
        Change::Released { attempts, .. } => journal::put_released(out, group, *attempts, runs),
        Change::Retry { key: (lane, seq), note } => {
            let (due, delay_ms) = note.due.unwrap_or_default();
            let of = Of { group, lane: *lane, seq: *seq, attempts: note.attempts };
            journal::put_retry(out, of, due, delay_ms, &note.reason);
        }
        Change::Started { key: (lane, seq) } => journal::put_started(out, group, *lane, *seq),
        Change::Dead { key: (lane, seq), dead } => {
            let of = Of { group, lane: *lane, seq: *seq, attempts: dead.attempts };
            journal::put_dead(out, of, dead.cause, dead.at, dead.bytes, &dead.reason);
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'.';
    if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX || !name.bytes().all(fits) {
        let why =
            format!("a group's name is 1 to {GROUP_NAME_BYTES_MAX} letters, digits, '_', '-' or '.', not {name:?}");
        return Err(Error::InvalidOption { option: "group", why });
    }
    Ok(())
}

impl<T> Attempt<T> {
    /// The value, or `None` where no segment was ready.
    pub(crate) fn done(self) -> Option<T> {
        match self {
            Attempt::Done(value) => Some(value),
            Attempt::NotReady => None,
        }
    }
}

/// Where each lane was purged for all groups, which those to come keep to: no group begins before that, and what all of them
/// begin behind is nobody's.
fn purged_before(groups: &BTreeMap<u32, Arc<GroupCell>>) -> Vec<(LaneId, Seq)> {
    let mut starts = groups.values().map(|cell| cell.state.lock().group.starts().clone());
    let mut least = starts.next().unwrap_or_default();
    for own in starts {
        least.retain(|lane, _| own.contains_key(lane));
        for (lane, seq) in &mut least {
            *seq = own.get(lane).map_or(*seq, |own| (*own).min(*seq));
        }
    }
    least.into_iter().collect()
}
