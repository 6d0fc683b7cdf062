//! Looking at a queue without opening it: no lock, nothing written.
//!
//! The reading half of recovery gives the picture; walking every record of it gives the tasks and their states.
//! Beside a process that has the queue open, the picture is of some recent moment, and the end of a log may look
//! torn.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::delivery::group::count_dead_in;
use crate::delivery::{Amount, GroupState};
use crate::error::{Damage, DamageKind, Error, Result};
use crate::format::fields::Traits;
use crate::format::record::{self, Found, Header, Kind};
use crate::format::segment::PRELUDE_BYTES;
use crate::log::scan::{self, Flaw};
use crate::storage::Storage;
use crate::storage::disk::{DiskStorage, clock};
use crate::types::{LaneId, LogId, QueueId, Seq, TaskId, Timestamp};

use super::pins::Oldest;
use super::recovery::lives::FoundLife;
use super::recovery::read::{Picture, read};
use super::retention::without_dead;
use super::space::{Written, part};
use super::stats::{GroupLaneStats, GroupStats, LaneStats, Stats};
use super::task::{TaskRecord, TaskState};

/// A queue that was looked at.
pub struct Inspection {
    pub(super) picture: Picture,
    ready: (usize, u64),
    disk_bytes: u64,
    checkpoint_bytes: u64,
    looked_at: Timestamp,
    /// Some process has the queue open: what was handed out and is not due again is on loan there.
    is_open: bool,
}

/// Looks at the queue in `path`: reads checkpoint, journal and the ends of the logs; takes no lock, changes nothing.
///
/// # Errors
/// [`Error::NotAQueue`] if there is none, [`Error::Version`], [`Error::Io`].
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let path = path.as_ref();
    let storage = DiskStorage::open_read_only(path)?;
    look(&storage, path, clock::now().wall, storage.holder().is_some())
}

/// Looks at the queue in `storage`; `is_open` says whether somebody has it open at `now`.
pub(crate) fn look(storage: &dyn Storage, path: &Path, now: Timestamp, is_open: bool) -> Result<Inspection> {
    let picture = read(storage, path)?;
    let none = || Error::NotAQueue { path: path.to_owned(), why: "there is no queue in it yet".to_owned() };
    let picture = picture.ok_or_else(none)?;
    let size_of = |name: &str| storage.open(name).and_then(|file| file.len()).unwrap_or(0);
    let names = storage.list().map_err(|error| Error::io(".", "list", error))?;
    let disk_bytes = names.iter().map(|name| size_of(name)).sum();
    let stray = |number: u32| size_of(&crate::format::segment::file_name(number));
    let ready = (picture.strays.files().count(), picture.strays.files().map(stray).sum());
    let checkpoint_bytes = size_of(crate::checkpoint::Store::FILE);
    Ok(Inspection { picture, ready, disk_bytes, checkpoint_bytes, looked_at: now, is_open })
}

impl Inspection {
    /// The queue's identity.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.picture.queue
    }

    /// Damage that recovery would report. [`Inspection::verify`] reads everything.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.picture.damage
    }

    /// Reads every record of every lane and of the journal, and gives all damage. A torn end, as a crash leaves it, is
    /// among it with [`DamageKind::Torn`].
    #[must_use]
    pub fn verify(&self) -> Vec<Damage> {
        let mut damage = self.picture.damage.clone();
        for (log, found) in &self.picture.logs {
            for life in &found.lives {
                self.walk(life, &mut |_, _, _| {}, &mut |found| {
                    if !damage.iter().any(|known| known.file == found.file && known.offset == found.offset) {
                        damage.push(found);
                    }
                });
                debug_assert_eq!(life.header.log, LogId(*log), "a life lies in its log");
            }
        }
        damage
    }

    /// Every task record in the order of lanes and sequences; damaged ones are left out.
    pub fn for_each_task(&self, mut visit: impl FnMut(TaskRecord)) {
        for (lane, found) in super::recovery::open::lanes_of(&self.picture) {
            for life in &found.lives {
                self.walk(
                    life,
                    &mut |header, fields, payload| visit(self.task(lane, life, header, fields, payload)),
                    &mut |_| {},
                );
            }
        }
    }

    /// Counts, as far as they can be had without opening. What another process that has the queue open handed out counts
    /// as in flight until it is settled.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { queue: Some(self.picture.queue), ..Stats::default() };
        (stats.ready_segments, stats.ready_bytes) = self.ready;
        stats.checkpoint_bytes = self.checkpoint_bytes;
        stats.disk_bytes = self.disk_bytes;
        // Lanes whose tasks are all settled and gone still have their counts.
        let used = self.picture.last_bases.keys().filter_map(|log| LogId(*log).lane());
        let mut lanes: BTreeMap<LaneId, &[FoundLife]> = used.map(|lane| (lane, [].as_slice())).collect();
        let found = super::recovery::open::lanes_of(&self.picture);
        lanes.extend(found.map(|(lane, found)| (lane, found.lives.as_slice())));
        for (lane, lives) in &lanes {
            stats.lanes.push(lane_stats(*lane, lives, self.written(*lane, lives)));
        }
        let journal = self.picture.logs.get(&LogId::JOURNAL.0);
        stats.journal_bytes = journal.map_or(0, |found| found.lives.iter().map(|life| life.file_bytes).sum());
        stats.dedup_ids = self.picture.ids.count() as u64;
        stats.paused_lanes = self.picture.paused.lanes.iter().copied().collect();
        for (id, group) in &self.picture.groups {
            let paused = self.picture.paused.groups.contains(id);
            let own = lanes.iter().map(|(lane, lives)| self.group_lane(group, *lane, lives)).collect();
            let (name, retention) = (group.name.clone(), group.retention);
            let left = lanes.iter().map(|(lane, lives)| self.left_in(group, *lane, lives));
            let left = left.fold(Amount::default(), |mut all, left| {
                all.add_all(left);
                all
            });
            let left = without_dead(left, group.dead.len() as u64);
            let rest = GroupStats::default();
            stats.groups.push(GroupStats { name, paused, lanes: own, retention, left, ..rest });
        }
        stats
    }

    fn group_lane(&self, group: &GroupState, lane: LaneId, lives: &[FoundLife]) -> GroupLaneStats {
        let mut stats = GroupLaneStats { lane, ..GroupLaneStats::default() };
        (stats.dead, stats.parked) = count_dead_in(&group.dead, lane);
        stats.acked = group.acked_gone.get(&lane).copied().unwrap_or(0);
        for life in lives {
            let acked = group.acks.get(&(lane, life.header.base)).map_or(0, |acks| acks.count());
            stats.acked += u64::from(acked);
            let open = group.left_in(lane, life.header.base, life.tasks);
            stats.depth += open;
            if open > 0 && stats.oldest_ms.is_none() {
                stats.oldest_ms = Some(self.looked_at.0.saturating_sub(life.header.created.0));
            }
        }
        stats.depth = stats.depth.saturating_sub(stats.dead + stats.parked);
        for note in group.notes.iter().filter(|((l, _), _)| *l == lane).map(|(_, note)| note) {
            match note.due {
                Some((due, _)) => stats.delayed += u64::from(due > self.looked_at),
                None => stats.in_flight += u64::from(self.is_open),
            }
        }
        if self.is_open {
            stats.in_flight += lives.iter().map(|life| group.begun_in(lane, life.header.base)).sum::<u64>();
        }
        stats
    }

    /// What a group has not settled of a lane, dead letters included.
    fn left_in(&self, group: &GroupState, lane: LaneId, lives: &[FoundLife]) -> Amount {
        let mut left = Amount::default();
        for life in lives {
            let open = group.left_in(lane, life.header.base, life.tasks);
            left.tasks += open;
            left.bytes += part(u64::from(life.end), open, self.tasks_held(lane, life));
        }
        left
    }

    /// What is written of a lane; of each life that lives which the group needs that needs most of it.
    fn written(&self, lane: LaneId, lives: &[FoundLife]) -> Written {
        let open = |life: &FoundLife| {
            let each = self.picture.groups.values().map(|group| group.left_in(lane, life.header.base, life.tasks));
            each.max().unwrap_or(0)
        };
        let mut all = Written::default();
        for life in lives {
            let used = u64::from(life.end).saturating_sub(PRELUDE_BYTES as u64);
            all.count(used, open(life), self.tasks_held(lane, life));
        }
        all
    }

    /// How many tasks a life's file has: those that were left behind as others moved are in none.
    fn tasks_held(&self, lane: LaneId, life: &FoundLife) -> u64 {
        let left_behind =
            || self.picture.to_come.acks.get(&(lane, life.header.base)).map_or(0, |settled| settled.count());
        u64::from(if life.header.cold { life.tasks.saturating_sub(left_behind()) } else { life.tasks })
    }

    /// The first task of a life that a group has not settled.
    pub(super) fn oldest_in(&self, id: u32, group: &GroupState, lane: LaneId, life: &FoundLife) -> Option<Oldest> {
        let mut oldest = None;
        let mut visit = |header: &Header, fields: &[u8], _: &[u8]| {
            let is_for = || Traits::decode(fields).origin.is_none_or(|origin| origin.group == id);
            if oldest.is_some() || !is_for() {
                return;
            }
            let seq = life.seq(header.index);
            let state = self.state(group, lane, seq, life.header.base);
            if state != TaskState::Acked {
                let age_ms = self.looked_at.0.saturating_sub(header.time.0);
                oldest = Some(Oldest { id: TaskId { queue: self.picture.queue, lane, seq }, age_ms, state });
            }
        };
        if group.left_in(lane, life.header.base, life.tasks) > 0 {
            self.walk(life, &mut visit, &mut |_| {});
        }
        oldest
    }

    fn task(&self, lane: LaneId, life: &FoundLife, header: &Header, fields: &[u8], payload: &[u8]) -> TaskRecord {
        let seq = life.seq(header.index);
        let state = |group: &GroupState| (group.name.clone(), self.state(group, lane, seq, life.header.base));
        let id = TaskId { queue: self.picture.queue, lane, seq };
        let is_for = |group: u32| Traits::decode(fields).origin.is_none_or(|origin| origin.group == group);
        let groups = self.picture.groups.iter().filter(|(group, _)| is_for(**group));
        let states = groups.map(|(_, group)| state(group)).collect();
        TaskRecord::of(id, life.name(), header, fields, Bytes::copy_from_slice(payload), states)
    }

    fn state(&self, group: &GroupState, lane: LaneId, seq: Seq, base: u64) -> TaskState {
        let key = (lane, seq);
        if let Some(dead) = group.dead.get(&key) {
            return TaskState::of_dead(dead);
        }
        if group.is_acked(key, base) {
            return TaskState::Acked;
        }
        match group.note_of(&key, base) {
            None => TaskState::Waiting,
            Some(note) => match note.due {
                Some((due, _)) if due > self.looked_at => TaskState::Delayed { attempts: note.attempts, due },
                _ => TaskState::Attempted { attempts: note.attempts },
            },
        }
    }

    /// Every record of a life, verified.
    fn walk(&self, life: &FoundLife, visit: &mut Visit<'_>, damage: &mut dyn FnMut(Damage)) {
        // What a file that was cut still has; that it was cut is in the picture's damage.
        let there = u32::try_from(life.file_bytes).unwrap_or(u32::MAX).min(life.end);
        let mut bytes = vec![0; there as usize];
        let place = |offset: u32, bytes: u32, lost: Option<(u32, u32)>, kind, what: &str| Damage {
            kind,
            file: life.name(),
            offset: u64::from(offset),
            bytes: u64::from(bytes),
            lane: life.header.log.lane(),
            lost: lost.map(|(first, last)| (life.seq(first), life.seq(last))),
            what: what.to_owned(),
        };
        if let Err(error) = life.file.read_at(0, &mut bytes) {
            let what = format!("the segment could not be read: {error}");
            damage(place(0, life.end, None, DamageKind::Unreadable, &what));
            return;
        }
        let (salted, is_lane) = (life.header.life(), life.header.log.lane().is_some());
        let flaws = || life.scan.iter().flat_map(|scan| &scan.flaws);
        let is_void = |at: u32| flaws().any(|flaw| matches!(flaw, Flaw::Void { .. }) && flaw.covers(at));
        let mut at = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
        let mut index = 0;
        while let Some(rest) = bytes.get(at as usize..).filter(|rest| !rest.is_empty()) {
            match record::read(salted, at, rest) {
                Found::Record(header) if header.step() > there - at => break,
                Found::Record(header) => {
                    match record::verify(salted, &header, rest) {
                        // Of a transaction that is not true nothing is a task.
                        Some(_) if is_void(at) => {}
                        Some(body) if header.kind == Kind::Task => visit(&header, body.fields, body.payload),
                        None if header.kind != Kind::Batch => {
                            let lost =
                                Some((header.index, header.index)).filter(|_| is_lane && header.kind == Kind::Task);
                            let what = "the record's checksum does not match";
                            damage(place(at, header.bytes, lost, DamageKind::Corrupt, what));
                        }
                        _ => {}
                    }
                    index = if header.kind == Kind::Task { header.index + 1 } else { index };
                    at += header.step();
                }
                Found::Padding { bytes } | Found::Hole { bytes } => at += bytes,
                Found::Empty | Found::Invalid => {
                    let next = scan::resync(salted, at, rest);
                    let (to, until) = next.map_or((there, life.records), |header| (header.offset, header.index));
                    let lost = (is_lane && until > index).then(|| (index, until - 1));
                    let what = "record headers do not verify";
                    damage(place(at, to - at, lost, DamageKind::Corrupt, what));
                    (at, index) = (to, until.max(index));
                }
            }
        }
    }
}

/// What a walk shows of each task: header, optional fields, payload.
type Visit<'a> = dyn FnMut(&Header, &[u8], &[u8]) + 'a;

fn lane_stats(lane: LaneId, lives: &[FoundLife], written: Written) -> LaneStats {
    let (mut published, mut durable) = (0, 0);
    for life in lives {
        let proven = life.scan.as_ref().map_or(life.end, |scan| scan.durable.min(scan.end));
        durable = if proven > 0 { published + u64::from(proven) } else { durable };
        published += u64::from(life.end);
    }
    LaneStats {
        lane,
        published,
        durable,
        segments: lives.len(),
        disk_bytes: lives.iter().map(|life| life.file_bytes).sum(),
        tasks: lives.iter().map(|life| u64::from(life.tasks)).sum(),
        live_bytes: written.live,
        dead_bytes: written.dead,
        waiting: None,
    }
}
