//! The reading half: checkpoint, lives, journal; what the queue is, as far as the disk tells. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::checkpoint::{Key, Store};
use crate::delivery::GroupState;
use crate::delivery::state::Locate;
use crate::error::{Damage, DamageKind, Error, Result};
use crate::format::meta::{GROUP_IDS_END, ListedLife, Meta, Paused};
use crate::format::segment::{SEGMENT_BYTES_MAX, SEQUENCES_END, file_name, parse_file_name};
use crate::log::Place;
use crate::sabotage::{Bug, on};
use crate::storage::{Storage, UNFINISHED};
use crate::types::{LaneId, LogId, QueueId, Seq};

use super::blobs::{Base, Loaded, OTHER_ROOT, checkpoint_damage, load_blobs};
use super::decide::{Basis, decide};
use super::ids::FoundIds;
use super::lives::{self, FoundLife, FoundLives, FoundLog, Search, Strays};
use super::replay::{Records, Told, replay};

/// The group that every queue is born with.
pub(crate) const DEFAULT_GROUP: &str = "default";
/// When a damaged checkpoint was passed over, sequences and epochs skip this far: what it knew to be handed
/// out is at most a few ceilings above what the older one knows.
const FALLBACK_SEQUENCES: u64 = 1 << 48;
const FALLBACK_EPOCHS: u64 = 1 << 20;
/// Likewise the numbers of groups, where no checkpoint says which were used.
const FALLBACK_GROUPS: u32 = 1 << 16;

/// A queue as the disk shows it.
pub(crate) struct Picture {
    pub queue: QueueId,
    /// The checkpoint that was used, if any was usable.
    pub meta: Option<Meta>,
    pub store: Option<Store>,
    /// `meta` is an older checkpoint's, and takes the place of the newest, which can't be used, before anything is changed.
    pub replaces: bool,
    /// Checksums of the blobs in `store`.
    pub saved: BTreeMap<Key, u32>,
    pub groups: BTreeMap<u32, GroupState>,
    /// What groups that are made later find settled.
    pub to_come: GroupState,
    /// The number of the next group.
    pub next_group: u32,
    pub paused: Paused,
    pub ids: FoundIds,
    pub logs: BTreeMap<u16, FoundLog>,
    pub last_bases: BTreeMap<u16, u64>,
    pub damage: Vec<Damage>,
    /// Files that are no life, to be removed once no checkpoint that lists them is of use any more.
    pub strays: Strays,
    /// Lives that can't be read now: kept as they are listed.
    pub unread: Vec<ListedLife>,
    pub highest_file: u32,
    /// First sequence and epoch that were certainly never used.
    pub next_base: u64,
    pub next_epoch: u64,
    /// Nothing was written since a clean close.
    pub clean: bool,
}

/// Reads the directory. `Ok(None)` if there is no queue in it yet.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Picture>> {
    let Holds { lives: has_lives, store: has_store } = refuse_foreign(storage, path)?;
    if !has_lives && !has_store {
        return Ok(None);
    }
    let mut damage = Vec::new();
    let base = match has_store {
        true => load_checkpoint(storage, &mut damage)?,
        false => None,
    };
    match base {
        Some(base) => read_on(storage, base, damage).map(Some),
        None if has_lives => read_without(storage, damage).map(Some),
        // A creation that was cut before its first checkpoint was durable.
        None => Ok(None),
    }
}

/// What a directory that may be a queue holds.
pub(crate) struct Holds {
    lives: bool,
    store: bool,
}

/// Looks whether the directory is a queue, or empty and may become one; what else is in it is refused.
pub(crate) fn refuse_foreign(storage: &dyn Storage, path: &Path) -> Result<Holds> {
    let names = storage.list().map_err(|error| Error::io(".", "list", error))?;
    let lives = names.iter().any(|name| parse_file_name(name).is_some());
    let store = names.iter().any(|name| name == Store::FILE);
    if names.iter().any(|name| name == UNFINISHED) {
        let why =
            format!("it is a snapshot that was never finished ({UNFINISHED} is in it); remove it and take another");
        return Err(Error::NotAQueue { path: path.to_owned(), why });
    }
    let foreign = names.iter().find(|name| *name != crate::storage::LOCK_FILE);
    match foreign.filter(|_| !lives && !store) {
        None => Ok(Holds { lives, store }),
        Some(name) => {
            let why = format!("the directory holds {name:?} and no checkpoint");
            Err(Error::NotAQueue { path: path.to_owned(), why })
        }
    }
}

fn load_checkpoint(storage: &dyn Storage, damage: &mut Vec<Damage>) -> Result<Option<Base>> {
    let file = storage.open(Store::FILE).map_err(|error| Error::io(Store::FILE, "open", error))?;
    let loaded = Store::load(&file).map_err(|error| Error::io(Store::FILE, "read", error))?;
    if let Some(found) = loaded.version {
        let supported = crate::format::FORMAT_VERSION;
        return Err(Error::Version { file: Store::FILE.to_owned(), found, supported });
    }
    for slot in &loaded.damage {
        let what =
            if slot.is_lost { slot.what.to_owned() + OTHER_ROOT } else { format!("{}; nothing is lost", slot.what) };
        damage.push(Damage { kind: slot.kind, ..checkpoint_damage(slot.offset, slot.bytes, what) });
    }
    // Which of two roots was the newer is not known when one of them is lost.
    let root_lost = loaded.damage.iter().any(|slot| slot.is_lost);
    let roots = [loaded.newest, loaded.older];
    let mut partial = None;
    for (at, root) in roots.into_iter().enumerate() {
        let Some((store, meta)) = root else { continue };
        let Loaded { base, is_whole, bad } = load_blobs(store, &meta, at > 0 || root_lost);
        damage.extend(bad);
        if is_whole {
            return Ok(base);
        }
        partial = partial.or(base);
    }
    Ok(partial)
}

/// What the loss of a root means.
/// Goes on from a checkpoint.
fn read_on(storage: &dyn Storage, base: Base, mut damage: Vec<Damage>) -> Result<Picture> {
    let Base { mut meta, store, saved, mut told, mut ids, listed, fallback, .. } = base;
    // Or an open that went on from an older one did not come to its end.
    let may_miss = fallback || meta.is_older;
    told.next_group = told.next_group.max(above_groups(&told.groups));
    let last_bases: BTreeMap<u16, u64> = meta.last_bases.iter().map(|(log, base)| (log.0, *base)).collect();
    let search = Search {
        storage,
        queue: Some(store.queue()),
        listed: &listed,
        last_bases: &last_bases,
        chain_may_miss: may_miss,
        journal_base: meta.journal_base,
        // Another root, which is lost, may have known other options.
        task_bytes_max: if may_miss { SEGMENT_BYTES_MAX } else { meta.options.task_bytes_max },
        damage: &mut damage,
        unread: Vec::new(),
        vanished: BTreeSet::new(),
    };
    let FoundLives { mut logs, highest_file, strays, unread } = lives::find(search)?;
    let from = Place { base: meta.journal_base, offset: meta.journal_offset };
    let (last, unread_now) = (&last_bases, &unread);
    decide(
        &mut logs,
        Basis {
            from: Some(from),
            listed: &listed,
            unread: unread_now,
            last_bases: last,
            older: may_miss.then_some(&told),
        },
    )?;
    let quiet = !may_miss && unread.is_empty() && logs.values().flat_map(|log| &log.lives).all(is_quiet);
    let records = Records::of(&logs, &listed, &unread);
    forget_lost(&mut told, &logs);
    ids.take_in(&logs, &listed, &unread);
    replay(&logs, &records, (meta.journal_base, meta.journal_offset), &mut told, &mut damage)?;
    if may_miss {
        damage.retain(|found| !is_settled_loss(found, &told.groups, &listed, meta.journal_base));
        damage.retain(|found| !is_in_settled(found, &told.groups, &logs));
    }
    forget_gone(&mut told, &logs, &unread);
    let Told { mut groups, next_group, to_come, paused } = told;
    mark_done(&mut groups, &logs, may_miss);
    if fallback {
        // Should this open not come to its end, or the next one need this root again, none of both gives out the same again.
        meta.ceiling = meta.ceiling.saturating_add(FALLBACK_SEQUENCES).min(SEQUENCES_END - 1);
        meta.epoch = meta.epoch.saturating_add(FALLBACK_EPOCHS).min(SEQUENCES_END - 1);
        (meta.is_older, meta.clean) = (true, false);
    }
    Ok(Picture {
        queue: store.queue(),
        next_base: if on(Bug::SequenceReused) { meta.next_base } else { meta.ceiling }
            .max(if on(Bug::SequenceReused) { 0 } else { above(&logs) }),
        next_epoch: meta.epoch.saturating_add(1),
        clean: meta.clean && quiet,
        replaces: fallback,
        meta: Some(meta),
        store: Some(store),
        saved,
        groups,
        to_come,
        next_group,
        paused,
        ids,
        last_bases: newest_bases(last_bases, &logs),
        logs,
        damage,
        strays,
        unread,
        highest_file,
    })
}

/// A checkpoint may hold bits of records that were not durable and did not survive. They are acks of nothing, and would be
/// counted as if a task of the life were done.
fn forget_lost(told: &mut Told, logs: &BTreeMap<u16, FoundLog>) {
    for life in logs.values().flat_map(|log| &log.lives) {
        let Some(lane) = life.header.log.lane() else { continue };
        let key = (lane, life.header.base);
        for group in told.each() {
            let mut forget = |first, last| {
                group.acks.get_mut(&key).into_iter().for_each(|acks| acks.forget(first, last));
                group.attempts.get_mut(&key).into_iter().for_each(|attempts| attempts.forget(first, last));
            };
            forget(life.records, u32::MAX);
            life.lost().for_each(|(first, last)| forget(first, last));
        }
    }
}

/// What groups know of lives that are not there any more, and of records that did not survive.
fn forget_gone(told: &mut Told, logs: &BTreeMap<u16, FoundLog>, unread: &[ListedLife]) {
    let found = logs.values().flat_map(|log| &log.lives).map(|life| life.header.base);
    let bases: BTreeSet<u64> = found.chain(unread.iter().map(|life| life.base)).collect();
    let kept = Records::of(logs, &[], unread);
    for group in told.each() {
        group.acks.retain(|(_, base), _| bases.contains(base));
        group.attempts.retain(|(_, base), _| bases.contains(base));
        group.done.retain(|(_, base)| bases.contains(base));
        let is_there = |lane: LaneId, seq: Seq| kept.life_of(lane, seq).is_some() && !kept.is_void(seq);
        group.notes.retain(|(lane, seq), _| is_there(*lane, *seq));
        group.dead.retain(|(lane, seq), _| is_there(*lane, *seq));
    }
}

/// Sealed lives of which nothing is left to do are not walked over again. One that a newer checkpoint gave up may be in
/// part overwritten by the next life of its file, where an older one is used again: nobody must look at it.
fn mark_done(groups: &mut BTreeMap<u32, GroupState>, logs: &BTreeMap<u16, FoundLog>, may_miss: bool) {
    for life in logs.values().flat_map(|log| &log.lives).filter(|life| may_miss || life.scan.is_none()) {
        let Some(lane) = life.header.log.lane() else { continue };
        for group in groups.values_mut() {
            if group.has_settled(lane, life.header.base, life.records, life.tasks) {
                group.done.insert((lane, life.header.base));
            }
        }
    }
}

/// Without any checkpoint every life counts, and every task is taken as unacked unless the journal that is
/// left says otherwise.
fn read_without(storage: &dyn Storage, mut damage: Vec<Damage>) -> Result<Picture> {
    let none = BTreeMap::new();
    let search = Search {
        storage,
        queue: None,
        listed: &[],
        last_bases: &none,
        chain_may_miss: true,
        journal_base: 0,
        task_bytes_max: SEGMENT_BYTES_MAX,
        damage: &mut damage,
        unread: Vec::new(),
        vanished: BTreeSet::new(),
    };
    let FoundLives { mut logs, highest_file, strays, unread } = lives::find(search)?;
    let queue = logs.values().flat_map(|log| &log.lives).map(|life| life.header.queue).next();
    damage.push(Damage {
        kind: DamageKind::Missing,
        file: Store::FILE.to_owned(),
        offset: 0,
        bytes: 0,
        lane: None,
        lost: None,
        what: "no checkpoint is usable: settled tasks may come again, and groups other than the default may be gone"
            .to_owned(),
    });
    let groups = BTreeMap::from([(0, default_group())]);
    let mut told = Told { groups, ..Told::default() };
    decide(&mut logs, Basis { from: None, listed: &[], unread: &unread, last_bases: &none, older: None })?;
    let records = Records::of(&logs, &[], &unread);
    let mut ids = FoundIds::default();
    ids.take_in(&logs, &[], &unread);
    told.next_group = above_groups(&told.groups);
    replay(&logs, &records, (0, 0), &mut told, &mut damage)?;
    Ok(Picture {
        queue: queue.unwrap_or(QueueId(storage.random())),
        meta: None,
        store: None,
        replaces: false,
        saved: BTreeMap::new(),
        groups: told.groups,
        to_come: told.to_come,
        next_group: told.next_group.saturating_add(FALLBACK_GROUPS).min(GROUP_IDS_END),
        paused: told.paused,
        ids,
        last_bases: newest_bases(BTreeMap::new(), &logs),
        next_base: above(&logs).saturating_add(FALLBACK_SEQUENCES),
        next_epoch: storage.random() >> 8,
        logs,
        damage,
        strays,
        unread,
        highest_file,
        clean: false,
    })
}

/// The group that every queue is born with.
pub(crate) fn default_group() -> GroupState {
    GroupState { name: DEFAULT_GROUP.to_owned(), ..GroupState::default() }
}

/// A number above those of these groups.
fn above_groups(groups: &BTreeMap<u32, GroupState>) -> u32 {
    groups.keys().next_back().map_or(0, |last| last.saturating_add(1))
}

/// A sequence above every block of the lives that are there.
fn above(logs: &BTreeMap<u16, FoundLog>) -> u64 {
    let lives = logs.values().flat_map(|log| &log.lives);
    lives.map(|life| life.header.base.saturating_add(u64::from(life.header.block))).max().unwrap_or(1)
}

fn newest_bases(mut known: BTreeMap<u16, u64>, logs: &BTreeMap<u16, FoundLog>) -> BTreeMap<u16, u64> {
    for (log, found) in logs {
        let base = known.entry(*log).or_default();
        *base = found.highest_base.max(*base);
    }
    known
}

/// True if the life is as the checkpoint left it: nothing was found behind what it lists.
fn is_quiet(life: &FoundLife) -> bool {
    life.listed
        && life.scan.as_ref().is_none_or(|scan| scan.end == scan.durable && scan.flaws.is_empty() && !scan.is_torn())
}

/// Damage in a life that everybody is done with: a newer checkpoint may have given it up, and its file may be in part the
/// next one's.
fn is_in_settled(damage: &Damage, groups: &BTreeMap<u32, GroupState>, logs: &BTreeMap<u16, FoundLog>) -> bool {
    let lives = damage.lane.and_then(|lane| logs.get(&LogId::from(lane).0)).into_iter().flat_map(|log| &log.lives);
    let found = lives.into_iter().find(|life| life.name() == damage.file);
    let by_all =
        |(life, lane): (&FoundLife, LaneId)| is_settled(groups, lane, life.header.base, life.records, life.tasks);
    found.zip(damage.lane).is_some_and(by_all)
}

/// A life that an older checkpoint lists and that is gone because nobody needs it: everybody was done with it, or it is
/// a part of the journal that not even that checkpoint would replay.
fn is_settled_loss(
    damage: &Damage,
    groups: &BTreeMap<u32, GroupState>,
    listed: &[ListedLife],
    journal_base: u64,
) -> bool {
    let is_missing = |life: &&ListedLife| damage.kind == DamageKind::Missing && damage.file == file_name(life.file);
    let Some(life) = listed.iter().find(is_missing) else { return false };
    let Some(lane) = life.log.lane() else { return life.base < journal_base };
    is_settled(groups, lane, life.base, life.records, life.tasks)
}

/// True if every group is done with a life.
fn is_settled(groups: &BTreeMap<u32, GroupState>, lane: LaneId, base: u64, records: u32, tasks: u32) -> bool {
    groups.values().all(|group| group.has_settled(lane, base, records, tasks))
}
