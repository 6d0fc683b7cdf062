//! The table, walked: every state of the decision with every state of two records that it names, each above and below the
//! last mark of its log; what is served then, again after the next crash, and after a crash at any step of recovery.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::transaction::Plan;
use crate::engine::{Attempt, Engine};
use crate::error::{DamageKind, Error};
use crate::format::journal::Named;
use crate::format::meta::{ListedLife, StoredOptions};
use crate::format::record::{self, Found, Life};
use crate::log::{Log, Place, Stalled};
use crate::sim::{Loss, SimDisk};
use crate::storage::Storage;
use crate::types::{Durability, LaneId, LaneSet, LogId, Now, Timestamp};

use super::{Basis, are_kept, is_gone_for_good, is_journal_missing};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };

/// What became of an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Whole,
    /// One of its payload's bits flipped.
    Flipped,
    /// Zeros.
    Missing,
    /// Claimed and never published.
    Hole,
    Padding,
}

/// An extent, and whether its log was marked as durable behind it.
type State = (Fate, bool);

const FATES: [Fate; 5] = [Fate::Whole, Fate::Flipped, Fate::Missing, Fate::Hole, Fate::Padding];

fn states() -> impl Iterator<Item = State> {
    FATES.into_iter().flat_map(|fate| [(fate, false), (fate, true)])
}

/// What stands for a record's share in the table: it verifies, it is damaged below the last mark, or it is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Means {
    There,
    Damaged,
    Nothing,
}

fn means(state: State) -> Means {
    match state {
        (Fate::Whole, _) => Means::There,
        (Fate::Flipped | Fate::Missing | Fate::Hole, true) => Means::Damaged,
        (Fate::Flipped | Fate::Missing | Fate::Hole, false) | (Fate::Padding, _) => Means::Nothing,
    }
}

/// What is served, by the words of the table.
fn expected(decision: State, records: [State; 2]) -> Vec<&'static str> {
    let names = ["one", "two"].into_iter().zip(records);
    let verify = names.filter(|(_, state)| means(*state) == Means::There).map(|(name, _)| name);
    let all_there = records.iter().all(|state| means(*state) != Means::Nothing);
    match means(decision) {
        Means::There if all_there => verify.collect(),
        Means::Damaged => ["acked"].into_iter().chain(verify).collect(),
        Means::There | Means::Nothing => vec!["acked"],
    }
}

fn open(disk: &SimDisk) -> Result<Engine, Error> {
    let given = Given { resolve: &|_| Ok(StoredOptions::tiny(3)), fail_on_damage: false };
    recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, NOW)
}

fn ready<T>(engine: &Engine, step: impl Fn() -> Result<Attempt<T>, Error>) -> T {
    loop {
        match step().unwrap() {
            Attempt::Done(done) => return done,
            Attempt::NotReady => while engine.prepare().unwrap() {},
        }
    }
}

fn served(engine: &Engine) -> Vec<String> {
    let cell = engine.group("default").unwrap();
    let ask = Ask { tasks: 9, bytes: u64::MAX, lanes: LaneSet::ALL, lease_ms: 1_000, consumer: 0 };
    engine.reserve(&cell, &ask, NOW, |one| String::from_utf8(one.body.payload().to_vec()).unwrap()).unwrap()
}

/// A queue whose process died right behind a transaction, and where its extents lie: acks a task of lane 0, and puts
/// one into each of lanes 1 and 2.
struct Scene {
    disk: SimDisk,
    /// The decision's and the records': file, life, place.
    extents: [(String, Life, Place); 3],
}

/// Which of the three logs are marked as durable behind it.
fn scene(marked: [bool; 3]) -> Scene {
    let disk = SimDisk::new(5);
    disk.keep_still();
    let engine = open(&disk).unwrap();
    ready(&engine, || engine.append(LaneId(0), &TaskDraft::plain(b"acked", Durability::Process), NOW.wall));
    let cell = engine.group("default").unwrap();
    let ask = Ask { tasks: 1, bytes: u64::MAX, lanes: LaneSet::ALL, lease_ms: 1_000, consumer: 0 };
    let receipts = engine.reserve(&cell, &ask, NOW, |one| one.receipt).unwrap();
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    let journal = Arc::clone(engine.journal());
    let decision = journal.next_place();
    let task = |lane, payload| (LaneId(lane), TaskDraft::plain(payload, Durability::Process));
    let tasks = [task(1, b"one".as_slice()), task(2, b"two".as_slice())];
    let settles = [(receipts[0], Settle::Ack)];
    let plan = Plan { tasks: &tasks, settles: &settles, letter: None, durability: Durability::Process };
    let decided = ready(&engine, || engine.transact(&plan, NOW));
    let logs = [&journal, engine.lanes().log(LaneId(1)).unwrap(), engine.lanes().log(LaneId(2)).unwrap()];
    for (log, _) in logs.iter().zip(marked).filter(|(_, marked)| *marked) {
        engine.commit(log, NOW.wall).unwrap();
    }
    engine.mark_idle(NOW.wall).unwrap();
    let first = |seq: usize| Place { base: decided.tasks[seq].0, offset: 512 };
    let extents = [(logs[0], decision), (logs[1], first(0)), (logs[2], first(1))];
    let found = |(log, place): (&Arc<Log>, Place)| {
        let segment = log.segment_from(place.base).unwrap();
        (segment.file_name(), segment.life(), place)
    };
    Scene { extents: extents.map(found), disk: disk.restart(Loss::Process) }
}

/// Gives an extent its fate.
fn befall(disk: &SimDisk, (file, life, place): &(String, Life, Place), fate: Fate) {
    let file = disk.open(file).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    let at = place.offset as usize;
    let found = record::read(*life, place.offset, &bytes[at..]);
    let Found::Record(header) = found else { panic!("a record at {place:?}, not {found:?}") };
    let write = |at: u32, bytes: &[u8]| file.write_at(u64::from(at), bytes).unwrap();
    match fate {
        Fate::Whole => {}
        Fate::Flipped => write(place.offset + 33, &[bytes[at + 33] ^ 4]),
        Fate::Missing => write(place.offset, &vec![0; header.bytes as usize]),
        Fate::Hole => write(place.offset, &record::claim_word(*life, place.offset, header.bytes).0.to_le_bytes()),
        Fate::Padding => write(place.offset, &record::padding_word(*life, place.offset, header.bytes).0.to_le_bytes()),
    }
}

/// The scene's disk with these fates.
fn befallen(decision: State, records: [State; 2]) -> SimDisk {
    let states = [decision, records[0], records[1]];
    let scene = scene(states.map(|(_, marked)| marked));
    for (extent, (fate, _)) in scene.extents.iter().zip(states) {
        befall(&scene.disk, extent, fate);
    }
    // From here on a power loss takes only what recovery writes.
    for name in scene.disk.list().unwrap() {
        scene.disk.open(&name).unwrap().sync().unwrap();
    }
    scene.disk
}

#[test]
fn transaction_is_whole_or_void_for_every_fate_of_its_parts() {
    for decision in states() {
        for records in states().flat_map(|one| states().map(move |two| [one, two])) {
            let what = format!("decision {decision:?}, records {records:?}");
            let disk = befallen(decision, records);
            let expected = expected(decision, records);
            let engine = open(&disk).unwrap();
            assert_eq!(served(&engine), expected, "{what}");
            let damaged = [decision, records[0], records[1]].iter().any(|state| means(*state) == Means::Damaged);
            let reported = engine.damage().iter().any(|damage| damage.kind == DamageKind::Corrupt);
            assert_eq!(damaged, reported, "{what}: {:?}", engine.damage());
            // What it serves survives the worst, whatever becomes of the newest checkpoint.
            let next = disk.restart(Loss::Power);
            assert_eq!(served(&open(&next).unwrap()), expected, "{what}, once more");
        }
    }
}

#[test]
fn crash_at_any_step_of_recovery_does_not_change_what_is_decided() {
    let others = [(Fate::Whole, false), (Fate::Whole, true)];
    for decision in states() {
        for records in states().flat_map(|one| others.map(|two| [one, two])) {
            let what = format!("decision {decision:?}, records {records:?}");
            let expected = expected(decision, records);
            for crash_at in 0.. {
                let disk = befallen(decision, records);
                disk.crash_at(disk.operations() + crash_at);
                let whole = open(&disk).is_ok() && !disk.has_crashed();
                for loss in [Loss::Power, Loss::Process] {
                    let engine = open(&disk.restart(loss)).unwrap();
                    assert_eq!(served(&engine), expected, "{what}, crash {crash_at}, {loss:?}");
                }
                if whole {
                    break;
                }
            }
        }
    }
}

/// A queue of which lane 1 was left for its next life and made durable by others, behind a transaction over lanes 1 and 2
/// that nobody synced. `stands`: somebody stands still in lane 2, in front of it.
fn left_behind(stands: bool) -> (SimDisk, Engine, Option<Stalled>) {
    let disk = SimDisk::new(9);
    disk.keep_still();
    let engine = open(&disk).unwrap();
    let append = |lane, payload: &[u8]| {
        ready(&engine, || engine.append(LaneId(lane), &TaskDraft::plain(payload, Durability::Process), NOW.wall));
    };
    append(2, b"before");
    engine.sync_all(NOW.wall).unwrap();
    let stall = stands.then(|| Stalled::in_log(engine.lanes().log(LaneId(2)).unwrap(), b"slow", true).unwrap());
    let task = |lane, payload| (LaneId(lane), TaskDraft::plain(payload, Durability::Process));
    let tasks = [task(1, b"one".as_slice()), task(2, b"two".as_slice())];
    ready(&engine, || {
        engine.transact(&Plan { tasks: &tasks, settles: &[], letter: None, durability: Durability::Process }, NOW)
    });
    for _ in 0..6 {
        append(1, &[b'.'; 900]);
    }
    let lane = engine.lanes().log(LaneId(1)).unwrap();
    engine.commit(lane, NOW.wall).unwrap();
    assert!(lane.segments().len() > 1, "the life that has a share in it is sealed and durable");
    (disk, engine, stall)
}

/// Whether the transaction's tasks are there after a power loss that takes everything unsynced.
fn after_power_loss(disk: &SimDisk) -> [bool; 2] {
    let served = served(&open(&disk.restart_keeping(&mut || false)).unwrap());
    ["one", "two"].map(|name| served.iter().any(|text| text == name))
}

#[test]
fn footer_makes_durable_what_its_life_has_a_share_in() {
    let (disk, engine, _) = left_behind(false);
    assert_eq!(after_power_loss(&disk), [false, false], "a lane that others synced does not make half of it true");
    engine.write_footers(NOW.wall).unwrap();
    assert_eq!(after_power_loss(&disk), [true, true]);
}

#[test]
fn footer_waits_while_somebody_stands_still_in_front_of_a_decided_record() {
    let (disk, engine, stall) = left_behind(true);
    engine.write_footers(NOW.wall).unwrap();
    assert_eq!(after_power_loss(&disk), [false, false]);
    stall.unwrap().give_up(engine.lanes().log(LaneId(2)).unwrap());
    engine.write_footers(NOW.wall).unwrap();
    assert_eq!(after_power_loss(&disk), [true, true]);
}

#[test]
fn checkpoint_is_put_off_while_somebody_stands_still_in_front_of_a_decided_record() {
    let (disk, engine, stall) = left_behind(true);
    assert!(!engine.try_checkpoint(NOW, false).unwrap());
    assert_eq!(after_power_loss(&disk), [false, false]);
    stall.unwrap().give_up(engine.lanes().log(LaneId(2)).unwrap());
    assert!(engine.try_checkpoint(NOW, false).unwrap());
    assert_eq!(after_power_loss(&disk), [true, true]);
}

#[test]
fn record_of_a_life_that_may_have_been_given_up_is_there_for_its_decision() {
    let disk = befallen((Fate::Whole, true), [(Fate::Missing, false), (Fate::Whole, true)]);
    let picture = recovery::read::read(&disk, Path::new("sim")).unwrap().unwrap();
    let mut life =
        picture.logs.into_values().flat_map(|log| log.lives).find(|life| life.header.log == LogId(1)).unwrap();
    let mut scan = life.scan.take().unwrap();
    life.scan = Some(scan.clone());
    let named = Named { lane: LaneId(1), base: life.header.base, first: life.seq(0), count: 1 };
    assert!(!are_kept(&named, &life), "it was torn");
    scan.doubt(512);
    life.scan = Some(scan);
    assert!(are_kept(&named, &life), "everybody was done with it");
}

// ---- lives that are not found ----

/// A life as a checkpoint lists it.
fn listed(log: LogId, base: u64, offset: u32, sealed: bool) -> ListedLife {
    let (file, salt, block, records, tasks, seek) = (1, 1, 16, 0, 0, Vec::new());
    ListedLife {
        file,
        log,
        base,
        block,
        salt,
        offset,
        records,
        tasks,
        sealed,
        has_ids: false,
        cold: false,
        left_at: 0,
        seek,
    }
}

const FROM: Option<Place> = Some(Place { base: 100, offset: 512 });

#[test]
fn journal_that_is_not_found_was_there_if_a_checkpoint_or_a_later_life_says_so() {
    let (none, last_bases) = (BTreeMap::new(), BTreeMap::new());
    let missing = |from: Option<Place>, listed: &[ListedLife], unread: &[ListedLife]| {
        is_journal_missing(100, &none, Basis { from, listed, unread, last_bases: &last_bases, older: None })
    };
    let journal = |base, offset, sealed| [listed(LogId::JOURNAL, base, offset, sealed)];
    assert!(missing(None, &[], &[]), "without a checkpoint nobody knows");
    assert!(!missing(FROM, &[], &[]), "a checkpoint that does not list it came before it");
    assert!(missing(FROM, &journal(100, 512, false), &[]));
    assert!(missing(FROM, &journal(100, 0, true), &[]));
    assert!(!missing(FROM, &journal(100, 0, false), &[]), "nothing of it was durable");
    assert!(!missing(FROM, &journal(200, 512, true), &[]), "another one");
    assert!(!missing(FROM, &[listed(LogId(0), 100, 512, true)], &[]), "a lane's");
    assert!(missing(FROM, &[], &journal(100, 0, false)), "it is there and can't be read");
}

#[test]
fn lane_life_that_is_not_found_went_for_good_unless_nothing_of_it_was_durable() {
    let (lane, log) = (LaneId(1), LogId(1));
    let last_bases = BTreeMap::from([(log.0, 300)]);
    let gone = |base: u64, listed: &[ListedLife], unread: &[ListedLife]| {
        is_gone_for_good(lane, base, Basis { from: FROM, listed, unread, last_bases: &last_bases, older: None })
    };
    assert!(gone(300, &[], &[]), "attached before the checkpoint, and everybody was done with it");
    assert!(!gone(301, &[], &[]), "attached behind the checkpoint, and lost");
    assert!(gone(900, &[listed(log, 900, 0, true)], &[]));
    assert!(gone(900, &[listed(log, 900, 512, false)], &[]));
    assert!(!gone(900, &[listed(log, 900, 0, false)], &[]), "listed, and nothing of it was durable");
    assert!(!gone(900, &[listed(LogId(2), 900, 512, true)], &[]), "another lane's");
    assert!(gone(900, &[], &[listed(log, 900, 0, false)]), "it is there and can't be read");
}
