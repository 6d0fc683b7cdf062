//! Nobody sleeps on when what he waits for is durable and nobody else comes by.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::Turnstile;
use crate::engine::append::TaskDraft;
use crate::engine::recovery::{self, Given};
use crate::engine::{Attempt, Engine};
use crate::format::meta::StoredOptions;
use crate::log::Log;
use crate::sim::SimDisk;
use crate::storage::{File, Medium, Prepare, Region, Storage};
use crate::types::{Durability, LaneId, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };

/// A disk whose syncs can be made to last.
struct Slow {
    disk: SimDisk,
    gate: Arc<Gate>,
}

/// What holds the syncs up. Once it is open for good nothing shuts it any more: whoever would shut it may be late.
#[derive(Default)]
struct Gate {
    shut: AtomicBool,
    open_for_good: AtomicBool,
}

impl Gate {
    fn wait(&self) {
        until(|| self.open_for_good.load(Ordering::SeqCst) || !self.shut.load(Ordering::SeqCst));
    }
}

struct SlowFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Slow {
    fn wrap(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile { file: file?, gate: Arc::clone(&self.gate) }))
    }
}

impl Storage for Slow {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, len: u64, prepare: Prepare) -> io::Result<Arc<dyn File>> {
        self.wrap(self.disk.create(name, len, prepare))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.wrap(self.disk.open(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }

    fn medium(&self) -> Medium {
        self.disk.medium()
    }
}

impl File for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        self.gate.wait();
        self.file.sync_range(range)
    }

    fn map(&self) -> io::Result<Region> {
        self.file.map()
    }
}

fn engine(seed: u64, gate: &Arc<Gate>) -> Engine {
    let stored = StoredOptions::tiny(1);
    let given = Given { resolve: &|_| Ok(stored.clone()), fail_on_damage: false };
    let disk = Slow { disk: SimDisk::new(seed), gate: Arc::clone(gate) };
    recovery::open(Arc::new(disk), Path::new("sim"), &given, NOW).unwrap()
}

/// Publishes a task; gives the position that its waiter waits for.
fn append(engine: &Engine) -> u64 {
    let task = TaskDraft::plain(b"task", Durability::Power);
    loop {
        match engine.append(LaneId(0), &task, NOW.wall).unwrap() {
            Attempt::Done(appended) => return appended.end,
            Attempt::NotReady => while engine.prepare().unwrap() {},
        }
    }
}

/// What the threads of one run share.
struct Stage {
    engine: Engine,
    turnstile: Turnstile,
    /// The first commit may end.
    open: AtomicBool,
    /// One of the sleepers led the third commit; the run shows nothing.
    spoiled: AtomicBool,
    gate: Arc<Gate>,
}

impl Stage {
    fn log(&self) -> &Log {
        self.engine.lanes().log(LaneId(0)).unwrap()
    }

    fn waiters(&self, word: u64) -> u32 {
        self.turnstile.word(word).sleepers.waiters()
    }
}

/// Waits for something that comes on any machine, however slow; a watchdog makes a thread that hangs a failure.
#[expect(clippy::disallowed_methods, reason = "a watchdog measures real time")]
fn until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(120), "what the test waits for never comes");
        std::thread::yield_now();
    }
}

/// State of a thread of this process as the kernel sees it: `S` sleeps.
fn sleeps(thread: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

/// Waiters that a commit should have covered, and did not because a producer stood between claim and publish.
const SLEEPERS: u32 = 3;

/// One run; `None` if the threads did not meet as they should, else how many sleepers came back.
///
/// 1. A leads commit 0. Three others publish and wait for commit 1.
/// 2. A goes on with commit 1, which covers none of them: it ends at a producer that stands still.
/// 3. Commit 1 wakes two of the three. A, with its next task, leads commit 2 before they get there; they wait for it.
/// 4. Commit 2 covers everybody, and nobody comes after.
#[expect(clippy::disallowed_methods, reason = "a test's threads need no names")]
fn run(seed: u64) -> Option<u32> {
    let gate = Arc::new(Gate::default());
    let stage = Arc::new(Stage {
        engine: engine(seed, &gate),
        turnstile: Turnstile::default(),
        open: AtomicBool::new(false),
        spoiled: AtomicBool::new(false),
        gate,
    });
    let first = append(&stage.engine);
    let leader = Arc::clone(&stage);
    let leader = std::thread::spawn(move || leads(&leader, first));
    until(|| stage.log().durable() >= first);
    let (ids, id_of) = mpsc::channel();
    let (done, came) = mpsc::channel();
    for _ in 0..SLEEPERS {
        let (stage, ids, done) = (Arc::clone(&stage), ids.clone(), done.clone());
        std::thread::spawn(move || {
            ids.send(u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()).unwrap();
            let end = append(&stage.engine);
            let passed = stage.turnstile.pass(stage.log(), end, || {
                stage.spoiled.store(true, Ordering::SeqCst);
                stage.engine.commit(stage.log(), NOW.wall)
            });
            let _nobody_listens = done.send(passed);
        });
    }
    let threads: Vec<u32> = (0..SLEEPERS).map(|_| id_of.recv().unwrap()).collect();
    until(|| stage.waiters(1) == SLEEPERS && threads.iter().all(|thread| sleeps(*thread)));
    stage.open.store(true, Ordering::SeqCst);
    // Those two now sleep on the word of the commit that runs: its sync lasts until then.
    until(|| {
        let asleep = stage.waiters(2) + stage.waiters(3) == SLEEPERS && threads.iter().all(|thread| sleeps(*thread));
        stage.spoiled.load(Ordering::SeqCst) || (stage.turnstile.number.load(Ordering::SeqCst) == 2 && asleep)
    });
    stage.gate.open_for_good.store(true, Ordering::SeqCst);
    leader.join().unwrap();
    // A watchdog, not a measure: what is durable comes at once.
    let back = (0..SLEEPERS).map_while(|_| came.recv_timeout(Duration::from_secs(5)).ok()).count();
    (0..2).for_each(|word| stage.turnstile.word(word).sleepers.wake_all());
    (!stage.spoiled.load(Ordering::SeqCst)).then(|| u32::try_from(back).unwrap())
}

/// What A does.
fn leads(stage: &Stage, first: u64) {
    let commits = AtomicU32::new(0);
    stage
        .turnstile
        .pass(stage.log(), first, || {
            if commits.fetch_add(1, Ordering::SeqCst) == 0 {
                let durable = stage.engine.commit(stage.log(), NOW.wall);
                until(|| stage.open.load(Ordering::SeqCst));
                return durable;
            }
            // Commit 1: somebody stands between claim and publish before the sleepers.
            Ok(stage.log().durable())
        })
        .unwrap();
    let second = append(&stage.engine);
    stage.gate.shut.store(true, Ordering::SeqCst);
    stage.turnstile.pass(stage.log(), second, || stage.engine.commit(stage.log(), NOW.wall)).unwrap();
}

#[test]
fn waiter_whom_its_commit_did_not_cover_is_woken_by_the_one_that_did() {
    let mut shown = 0;
    for seed in 0..200 {
        if let Some(back) = run(seed) {
            shown += 1;
            assert_eq!(back, SLEEPERS, "seed {seed}: everything is durable and somebody sleeps on");
            if shown == 3 {
                return;
            }
        }
    }
    panic!("the threads never met as they should");
}
