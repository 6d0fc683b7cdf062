//! From a directory to a running engine.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Store;
use crate::delivery::fences::FENCES_PER_RANGE;
use crate::delivery::loans::Loans;
use crate::delivery::{Group, GroupState};
use crate::error::{DamageKind, Error, Result};
use crate::format::meta::{Meta, Paused, StoredOptions};
use crate::format::segment::block_for;
use crate::log::{Lanes, Log, Place, Pool, Sealed, Segment};
use crate::sabotage::{Bug, on};
use crate::storage::{Prepare, Region, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::sync::{Line, Mutex, OnceLock, RwLock, WaitWord};
use crate::types::{LaneId, LogId, Now, QueueId, Seq};

use super::ids::FoundIds;
use super::lives::{FoundLife, FoundLog, Strays};
use super::mend::mend;
use super::read::{Picture, default_group, read};
use crate::engine::arrivals::Arrivals;
use crate::engine::bounds::Bounds;
use crate::engine::checkpoint::{CEILING_STEP, Checkpoints};
use crate::engine::damage::DamageList;
use crate::engine::dedup::Dedup;
use crate::engine::evacuate::Evacuation;
use crate::engine::groups::GroupCell;
use crate::engine::pause::Pauses;
use crate::engine::prepare::Needed;
use crate::engine::scratch::ScratchFile;
use crate::engine::settings::{Limits, Settings};
use crate::engine::{Blocks, Counts, Engine};

/// What the caller asks of an open: options laid over the stored ones, and what damage means.
pub(crate) struct Given<'a> {
    /// Gives the options of this open from those that are stored, or from the defaults for a new queue.
    pub resolve: &'a dyn Fn(Option<&StoredOptions>) -> Result<StoredOptions>,
    pub fail_on_damage: bool,
}

/// Opens the queue in `storage`, making it if there is none, and mends what a crash left.
///
/// Errors: `NotAQueue`, `Version` and `Damaged` (if asked to fail on it) before anything is written;
/// `InvalidOption`; `Io` and `Full` where the disk refuses.
pub(crate) fn open(storage: Arc<dyn Storage>, path: &Path, given: &Given<'_>, now: Now) -> Result<Engine> {
    let picture = match read(&*storage, path)? {
        Some(picture) => picture,
        None => new_picture(&*storage),
    };
    let serious = picture.damage.iter().filter(|damage| damage.kind != DamageKind::Torn);
    if let Some(first) = serious.clone().next().filter(|_| given.fail_on_damage) {
        return Err(Error::Damaged { first: Box::new(first.clone()), count: serious.count() });
    }
    let stored = (given.resolve)(picture.meta.as_ref().map(|meta| &meta.options))?;
    check_lanes(&picture, &stored)?;
    assemble(storage, picture, stored, now)
}

fn new_picture(storage: &dyn Storage) -> Picture {
    Picture {
        queue: QueueId(storage.random() | 1),
        meta: None,
        store: None,
        replaces: false,
        saved: BTreeMap::new(),
        groups: BTreeMap::from([(0, default_group())]),
        to_come: GroupState::default(),
        next_group: 1,
        paused: Paused::default(),
        ids: FoundIds::default(),
        logs: BTreeMap::new(),
        last_bases: BTreeMap::new(),
        damage: Vec::new(),
        strays: Strays::default(),
        unread: Vec::new(),
        highest_file: 0,
        next_base: 1,
        next_epoch: 1,
        clean: false,
    }
}

fn check_lanes(picture: &Picture, stored: &StoredOptions) -> Result<()> {
    let holds_tasks = |found: &FoundLog| found.lives.iter().any(|life| life.tasks > 0);
    let used = picture.logs.iter().filter(|(log, found)| LogId(**log).lane().is_some() && holds_tasks(found));
    let highest = used.filter_map(|(log, _)| LogId(*log).lane()).max();
    match highest {
        Some(lane) if lane.index() >= usize::from(stored.lanes) => {
            let why = format!("lane {lane} still holds tasks, so the queue needs at least {} lanes", lane.index() + 1);
            Err(Error::InvalidOption { option: "lanes", why })
        }
        _ => Ok(()),
    }
}

fn assemble(storage: Arc<dyn Storage>, mut picture: Picture, stored: StoredOptions, now: Now) -> Result<Engine> {
    let resume = picture.clean;
    if !resume {
        mend(&*storage, &mut picture)?;
    }
    let store = match picture.store.take() {
        Some(store) => store,
        None => create_store(&*storage, picture.queue)?,
    };
    let journal_from = picture.meta.as_ref().map_or(Place::default(), journal_from);
    let mut logs = std::mem::take(&mut picture.logs);
    let journal_found = logs.remove(&LogId::JOURNAL.0).unwrap_or_default();
    let journal = make_log(LogId::JOURNAL, journal_found, &picture.last_bases, resume);
    let undecided = Arc::default();
    let lanes = Lanes::new(usize::from(stored.lanes));
    for (log, found) in logs {
        let Some(lane) = LogId(log).lane() else { continue };
        let made = make_log(LogId(log), found, &picture.last_bases, resume).minding(&undecided);
        lanes.start(lane, || made);
    }
    let settings = Settings::from_stored(&stored);
    let scratch = Arc::new(ScratchFile::new(Arc::clone(&storage)));
    let loans = Loans::up_to(settings.queue_in_flight_max);
    let groups = open_groups(&mut picture, &settings, &scratch, loans.as_ref(), now);
    let bounds = count_waiting(settings.limits.clone(), &lanes, &groups);
    let engine = Engine {
        evacuation: Evacuation::open(&lanes),
        queue: picture.queue,
        epoch: picture.next_epoch,
        settings,
        stored,
        lanes,
        last_bases: picture.last_bases,
        journal: Arc::new(journal),
        groups: RwLock::new(groups),
        to_come: Mutex::new(picture.to_come),
        next_group: AtomicU32::new(picture.next_group),
        pauses: Pauses::new(picture.paused),
        dedup: Dedup::open(picture.ids, &store),
        loans,
        bounds,
        deciding: RwLock::new(()),
        undecided,
        pool: Mutex::new(Pool::default()),
        journal_pool: Mutex::new(Pool::default()),
        blocks: Mutex::new(Blocks { next: picture.next_base, ceiling: picture.next_base + CEILING_STEP }),
        first_base: Seq(picture.next_base),
        large_wanted: AtomicU64::new(0),
        recycling_wanted: AtomicBool::new(false),
        retired: Mutex::new(Vec::new()),
        strays: Mutex::new(picture.strays),
        scratch,
        unread: picture.unread,
        next_file: AtomicU32::new(picture.highest_file + 1),
        checkpoints: Mutex::new(Checkpoints { store, saved: picture.saved, journal_from }),
        poison: OnceLock::new(),
        damage: Mutex::new(DamageList::new(picture.damage)),
        counts: Counts::default(),
        nanos: || 0,
        changed: Line::new(AtomicBool::new(true)),
        arrivals: Arrivals::default(),
        room: WaitWord::default(),
        housework: WaitWord::default(),
        storage,
    };
    engine.arrivals.set_groups(engine.groups.read().len());
    // The first checkpoint makes the epoch, the ceiling and everything that recovery decided durable. Nothing
    // was handed out before it, and only after it the files that it does not list may go.
    engine.checkpoint(now, false)?;
    if engine.journal_pool.lock().len() == 0 {
        engine.prepare_one(Needed::Journal)?;
    }
    Ok(engine)
}

/// Where the replay of a root's journal begins.
fn journal_from(meta: &Meta) -> Place {
    Place { base: meta.journal_base, offset: meta.journal_offset }
}

/// The groups as they go on, one in any case, each with a range of fences of its own.
fn open_groups(
    picture: &mut Picture,
    settings: &Settings,
    scratch: &Arc<ScratchFile>,
    loans: Option<&Arc<Loans>>,
    now: Now,
) -> BTreeMap<u32, Arc<GroupCell>> {
    if picture.groups.is_empty() {
        // Damage took what said which there were. Without a reader nothing counts as acked.
        picture.groups.insert(picture.next_group, default_group());
        picture.next_group += 1;
    }
    // The ceiling that the first checkpoint makes durable is above the groups' fences too.
    let fences = picture.next_base;
    let behind = fences.saturating_add(FENCES_PER_RANGE.saturating_mul(picture.groups.len() as u64));
    picture.next_base = if on(Bug::SequenceReused) { fences } else { behind };
    let fences = if on(Bug::FenceReused) { 1 } else { fences };
    let queue = picture.queue;
    let open_group = |((id, state), number)| {
        let first = fences.saturating_add(FENCES_PER_RANGE.saturating_mul(number));
        let group = Group::open(id, state, &settings.priority, now).spilling(scratch.clone());
        let group = group.lending_from(loans.cloned());
        (id, Arc::new(GroupCell::new(group.fenced(first).keyed(queue.0, settings.sticky))))
    };
    std::mem::take(&mut picture.groups).into_iter().zip(0..).map(open_group).collect()
}

/// Counts what waits for the groups that were found, where that is bounded.
fn count_waiting(limits: Limits, lanes: &Lanes, groups: &BTreeMap<u32, Arc<GroupCell>>) -> Option<Bounds> {
    let works: Vec<_> = groups.values().map(|cell| cell.state.lock()).collect();
    let groups: Vec<(u32, &Group)> = works.iter().map(|work| (work.group.id, &work.group)).collect();
    Bounds::new(limits, |lane| lanes.log(lane).map(AsRef::as_ref), &groups)
}

fn create_store(storage: &dyn Storage, queue: QueueId) -> Result<Store> {
    let fail = |call: &'static str| move |error| Error::io(Store::FILE, call, error);
    let names = storage.list().map_err(|error| Error::io(".", "list", error))?;
    if names.iter().any(|name| name == Store::FILE) {
        // Either a creation that was cut, or a file of which no slot is usable; its lives are read already.
        storage.remove(Store::FILE).map_err(fail("remove"))?;
    }
    let file = storage.create(Store::FILE, Store::FILE_BYTES_MIN, Prepare::Small).map_err(fail("create"))?;
    storage.sync_dir().map_err(|error| Error::io(".", "sync", error))?;
    Store::empty(file, queue).map_err(fail("create"))
}

/// The running log over the lives that were found.
fn make_log(id: LogId, found: FoundLog, last_bases: &BTreeMap<u16, u64>, resume: bool) -> Log {
    let last_base = last_bases.get(&id.0).copied().unwrap_or(0);
    let mut start = 0;
    let (mut sealed, mut open) = (Vec::new(), None);
    for life in found.lives {
        let is_open = life.scan.is_some() && resume;
        let log_position = start;
        start += life.header.size.max(life.file_bytes);
        // A file whose room can't be had is not gone on with: it stays, sealed where it ended.
        match is_open.then(|| room_behind(&life)) {
            Some(Ok(region)) => open = Some((life, region, log_position)),
            Some(Err(_)) | None => sealed.push(Arc::new(found_segment(life, log_position))),
        }
    }
    let log = Log::new(id, sealed, last_base);
    if let Some((life, region, log_position)) = open {
        go_on(&log, life, region, log_position);
    }
    log
}

/// The map of a life that is to be gone on with, its free room faulted in: an append must not meet an I/O error there.
fn room_behind(life: &FoundLife) -> io::Result<Region> {
    if life.file_bytes < life.header.size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let region = life.file.map()?;
    region.check_readable(&*life.file, life.end as usize..region.bytes())?;
    Ok(region)
}

fn found_segment(life: FoundLife, start: u64) -> Segment {
    let sealed = Sealed { end: life.end, records: life.records };
    let segment = Segment::found(life.header, life.file, start, life.file_bytes, sealed, life.tasks, life.seek);
    segment.note_ids(life.has_ids);
    segment
}

/// Goes on in a life that a clean close left open.
fn go_on(log: &Log, life: FoundLife, region: Region, start: u64) {
    let frontier = region.resume(life.end as usize);
    let segment = Segment::active(life.header, life.file, Arc::clone(frontier.region()), start).resuming(life.records);
    segment.set_tasks(life.tasks);
    segment.note_ids(life.has_ids);
    for (index, offset) in life.seek {
        segment.note_record(index, offset);
    }
    debug_assert!(life.records <= block_for(segment.header().size), "indices stay inside the block");
    log.resume(&Arc::new(segment), frontier, life.records);
}

/// The lanes that a picture knows, for looking without opening.
pub(crate) fn lanes_of(picture: &Picture) -> impl Iterator<Item = (LaneId, &FoundLog)> {
    picture.logs.iter().filter_map(|(log, found)| Some((LogId(*log).lane()?, found)))
}
