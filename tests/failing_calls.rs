//! Promise: whichever call of the system fails, it is a typed error and the process lives; nothing that was accepted is
//! lost, nothing refused appears, and once the cause is gone a reopen serves everything.
//!
//! A filter of system calls makes every call of a kind fail from some moment on; strace makes the N-th fail alone.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper fails the test that called it"
)]

#[path = "support/child.rs"]
mod child;
#[path = "support/failing.rs"]
mod failing;
mod support;

use std::path::Path;
use std::process::Command;

use child::{Said, asked, play, say, scene, scene_under, text, work};
use failing::{Failing, Only, fail};
use lanelog::{Durability, LaneId, Options, Queue, SyncPath, Task};
use support::place;

/// A kind of call that fails, and what becomes of the open and of a queue that is open already.
struct Case {
    name: &'static str,
    failing: &'static [Failing],
    open: Outcome,
    run: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Nothing is noticed.
    Works,
    /// Refused for want of something, and what needs none of it goes on.
    Refused,
    /// Not opened.
    NotOpened,
    /// What waited is in doubt, and everything is refused from then on.
    Poisoned,
    /// One of the two before: it depends on what the janitor is at.
    RefusedOrPoisoned,
}
use Outcome::{NotOpened, Poisoned, Refused, RefusedOrPoisoned, Works};

const fn all(call: libc::c_long, errno: i32) -> Failing {
    Failing { call, only: Only::All, errno }
}

const MAP_SHARED: Failing = Failing {
    call: libc::SYS_mmap,
    only: Only::Bits { argument: 3, bits: libc::MAP_SHARED as u32 },
    errno: libc::ENOMEM,
};

/// A file that is to be written past the page cache: nothing else changes a file's flags.
const PAST_THE_CACHE: Failing = Failing {
    call: libc::SYS_fcntl,
    only: Only::With { argument: 1, either: [libc::F_SETFL as u32; 2] },
    errno: libc::EINVAL,
};

const fn faulting_in(errno: i32) -> Failing {
    let either = [libc::MADV_POPULATE_READ as u32, libc::MADV_POPULATE_WRITE as u32];
    Failing { call: libc::SYS_madvise, only: Only::With { argument: 2, either }, errno }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "msync EIO", failing: &[all(libc::SYS_msync, libc::EIO)], open: NotOpened, run: Poisoned },
    Case { name: "fdatasync EIO", failing: &[all(libc::SYS_fdatasync, libc::EIO)], open: NotOpened, run: Poisoned },
    Case { name: "fsync EIO", failing: &[all(libc::SYS_fsync, libc::EIO)], open: NotOpened, run: RefusedOrPoisoned },
    Case { name: "fsync ENOSPC", failing: &[all(libc::SYS_fsync, libc::ENOSPC)], open: NotOpened, run: RefusedOrPoisoned },
    Case { name: "pwrite EIO", failing: &[all(libc::SYS_pwrite64, libc::EIO)], open: NotOpened, run: Poisoned },
    Case { name: "pwrite ENOSPC", failing: &[all(libc::SYS_pwrite64, libc::ENOSPC)], open: NotOpened, run: Refused },
    Case { name: "pwrite EDQUOT", failing: &[all(libc::SYS_pwrite64, libc::EDQUOT)], open: NotOpened, run: Refused },
    Case { name: "openat EMFILE", failing: &[all(libc::SYS_openat, libc::EMFILE)], open: NotOpened, run: Refused },
    Case { name: "openat ENFILE", failing: &[all(libc::SYS_openat, libc::ENFILE)], open: NotOpened, run: Refused },
    Case { name: "openat EROFS", failing: &[all(libc::SYS_openat, libc::EROFS)], open: NotOpened, run: Refused },
    Case { name: "mmap ENOMEM", failing: &[MAP_SHARED], open: NotOpened, run: Refused },
    Case { name: "populate EFAULT", failing: &[faulting_in(libc::EFAULT)], open: NotOpened, run: Refused },
    Case { name: "populate EINVAL", failing: &[faulting_in(libc::EINVAL)], open: Works, run: Works },
    Case { name: "ftruncate EIO", failing: &[all(libc::SYS_ftruncate, libc::EIO)], open: NotOpened, run: Works },
    Case { name: "fallocate EOPNOTSUPP", failing: &[all(libc::SYS_fallocate, libc::EOPNOTSUPP)], open: Works, run: Works },
    Case { name: "fallocate ENOSPC", failing: &[all(libc::SYS_fallocate, libc::ENOSPC)], open: NotOpened, run: Refused },
    Case { name: "no way past the page cache", failing: &[PAST_THE_CACHE], open: Works, run: Works },
    Case { name: "unlinkat EPERM", failing: &[all(libc::SYS_unlinkat, libc::EPERM)], open: Works, run: Works },
    Case { name: "pread EIO", failing: &[all(libc::SYS_pread64, libc::EIO)], open: NotOpened, run: Works },
    Case { name: "flock ENOLCK", failing: &[all(libc::SYS_flock, libc::ENOLCK)], open: NotOpened, run: Works },
    Case { name: "fstatfs EIO", failing: &[all(libc::SYS_fstatfs, libc::EIO)], open: NotOpened, run: Works },
    Case { name: "getdents EIO", failing: &[all(libc::SYS_getdents64, libc::EIO)], open: NotOpened, run: Works },
    Case { name: "getrandom EAGAIN", failing: &[all(libc::SYS_getrandom, libc::EAGAIN)], open: Works, run: Works },
    Case { name: "io_uring EPERM", failing: &[all(libc::SYS_io_uring_setup, libc::EPERM), all(libc::SYS_io_uring_enter, libc::EPERM)], open: Works, run: Works },
    Case { name: "clone EAGAIN", failing: &[all(libc::SYS_clone, libc::EAGAIN), all(libc::SYS_clone3, libc::EAGAIN)], open: NotOpened, run: Works },
];

/// Not a test by itself: the process that plays a scene.
#[test]
fn child_process() {
    let Some((scene, path)) = asked() else { return };
    match scene.split_once(' ').unwrap_or((scene.as_str(), "")) {
        ("open", case) => at_open(&path, CASES.iter().find(|one| one.name == case).unwrap()),
        ("run", case) => while_open(&path, CASES.iter().find(|one| one.name == case).unwrap()),
        ("live", _) => live(&path),
        ("several", _) => several(&path),
        ("new", _) => new_queue(&path),
        (other, _) => panic!("no scene {other}"),
    }
}

/// Nothing is synced that nobody waits for, and segments are small, so that a few tasks need a new one.
fn options() -> Options {
    Options::new().segment_bytes(4096).sync_interval(std::time::Duration::from_secs(3600))
}

fn at_open(path: &Path, case: &Case) {
    // Dropped, not closed: the open recovers, from a checkpoint and the journal behind it.
    let queue = options().open(path).unwrap();
    work(&queue, 0..10);
    queue.checkpoint().unwrap();
    work(&queue, 10..20);
    drop(queue);
    fail(case.failing);
    if let Some(queue) = say("open", 0, options().open(path)) {
        work(&queue, 20..40);
    }
}

fn while_open(path: &Path, case: &Case) {
    let queue = options().open(path).unwrap();
    work(&queue, 0..6);
    fail(case.failing);
    work(&queue, 6..40);
    say("checkpoint", 0, queue.checkpoint());
    say("sync", 0, queue.sync());
    let at_process = queue.enqueue(Task::new(&text(99)).durability(Durability::Process));
    say("process", 99, at_process.clone());
    say("enqueue", 99, at_process);
    assert_eq!(queue.stats().lanes.len(), 1, "looking goes on");
    say("close", 0, queue.close());
}

/// What the system says for the first of the calls that fail.
fn reason(case: &Case) -> String {
    match case.failing[0].errno {
        libc::EFAULT => "a page can't be had".to_owned(),
        errno => format!("(os error {errno})"),
    }
}

#[test]
fn call_that_fails_at_every_open_is_told_and_costs_nothing() {
    for case in CASES {
        let (name, place) = (case.name, place());
        let said = play(&mut scene(&format!("open {name}"), &place.path));
        match case.open {
            NotOpened => {
                let told = said.first_error("open");
                assert!(said.answers("open").is_subset(&["Io", "Full"].into()), "{name}: {told}");
                assert!(told.contains(&reason(case)), "{name}: {told}");
            }
            _ => assert_eq!(said.answers("open"), ["done"].into(), "{name}: {}", said.first_error("open")),
        }
        said.holds(&place.path, name);
    }
}

#[test]
fn call_that_fails_from_some_moment_on_is_told_and_costs_nothing() {
    for case in CASES {
        let (name, place) = (case.name, place());
        let said = play(&mut scene(&format!("run {name}"), &place.path));
        let told = said.first_error("enqueue");
        let answers = |what| said.answers(what).into_iter().collect::<Vec<_>>().join(" ");
        let is_poisoned = answers("sync") != "done";
        if is_poisoned {
            assert!(matches!(case.run, Poisoned | RefusedOrPoisoned), "{name}: {told}");
            assert!(answers("enqueue").ends_with("Poisoned done"), "{name}: {told}");
            assert_eq!(answers("process"), "Poisoned", "{name}: for good, and at either durability");
            assert!(matches!(&*answers("close"), "InDoubt" | "Poisoned"), "{name}");
        } else {
            let allowed = if case.run == Works { "done" } else { "Full done" };
            assert!(matches!(case.run, Works | Refused | RefusedOrPoisoned), "{name}");
            assert_eq!(answers("enqueue"), allowed, "{name}: {told}");
            for what in ["reserve", "ack"] {
                assert_eq!(answers(what), "done", "{name}: {what}: {}", said.first_error(what));
            }
            for what in ["checkpoint", "close"] {
                assert!(allowed.contains(&answers(what)), "{name}: {what}: {}", said.first_error(what));
            }
        }
        assert!(case.run == Works || told.contains(&reason(case)), "{name}: {told}");
        said.holds(&place.path, name);
    }
}

/// Everything that a queue does with its files, twice: the second open recovers, and the third one goes on.
fn live(path: &Path) {
    for round in 0..3 {
        let Some(queue) = say("open", round, options().open(path)) else { continue };
        work(&queue, round * 6..round * 6 + 6);
        say("checkpoint", round, queue.checkpoint());
        if round == 1 {
            say("close", round, queue.close());
        }
    }
}

/// Calls that change or sync, and how often the scene makes each at least.
const COUNTED: &[(&str, usize)] = &[
    ("msync", 10),
    ("fdatasync", 8),
    ("fsync", 10),
    ("pwrite64", 10),
    ("ftruncate", 2),
    ("unlinkat", 1),
    ("flock", 1),
];

#[test]
fn call_that_fails_once_is_told_whichever_it_is_and_costs_nothing() {
    if !has_strace() {
        return;
    }
    for (call, at_least) in COUNTED {
        // Each of the first ones; of many like one another every so many.
        let numbers = (1..30).chain((30..).step_by(37));
        let met = numbers.take_while(|number| fails_once(call, *number)).last().unwrap_or(0);
        assert!(met >= *at_least, "{call} is made {met} times only");
    }
}

fn has_strace() -> bool {
    let probe = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"];
    let has = Command::new("strace").args(probe).status().is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: there is no strace here, or it may not trace");
    }
    has
}

/// A scene while calls fail as strace's `when` says, and what strace tells of the calls of that name.
fn traced(scene: &str, path: &Path, trace: &Path, call: &str, when: &str) -> (Said, String) {
    let inject = format!("inject={call}:error=EIO:when={when}");
    let (only, trace_name) = (format!("trace={call}"), trace.display().to_string());
    let strace = ["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-o", &trace_name, "-e", &only, "-e", &inject, "--"];
    let said = play(&mut scene_under(&strace, scene, path));
    (said, std::fs::read_to_string(trace).unwrap())
}

/// The scene while one call fails; false if it made fewer than so many.
fn fails_once(call: &str, number: usize) -> bool {
    let place = place();
    let (said, trace) = traced("live", &place.path, &place.path.with_extension("trace"), call, &number.to_string());
    said.holds(&place.path, &format!("{call} {number}"));
    trace.contains("(INJECTED)")
}

/// A transaction over several lanes whose syncs fail.
fn several(path: &Path) {
    let queue = options().lanes(3).sync_path(SyncPath::Calls).open(path).unwrap();
    let step = |number: usize| {
        let mut step = queue.transaction();
        for lane in 0..3 {
            step.enqueue(Task::new(&text(10 * number + lane)).lane(LaneId(u8::try_from(lane).unwrap())))?;
        }
        step.commit()
    };
    step(0).unwrap();
    fail(&[all(libc::SYS_msync, libc::EIO)]);
    say("first", 0, step(1));
    say("second", 0, step(2));
    say("sync", 0, queue.sync());
}

#[test]
fn transaction_over_lanes_of_which_no_sync_succeeds_is_in_doubt_and_what_follows_is_refused() {
    let place = place();
    let said = play(&mut scene("several", &place.path));
    assert_eq!(said.answers("first"), ["InDoubt"].into(), "{}", said.first_error("first"));
    assert!(said.first_error("first").contains(&format!("(os error {})", libc::EIO)));
    assert_eq!(said.answers("second"), ["Poisoned"].into());
    assert_eq!(said.answers("sync"), ["Poisoned"].into());
    let found = support::texts(&support::drain(&Queue::open(&place.path).unwrap()));
    // The process lives on in the page cache: all of a transaction, or nothing.
    let whole = |number: usize| (0..3).filter(|lane| found.contains(&text(10 * number + lane))).count();
    assert_eq!((whole(0), whole(2)), (3, 0), "{found:?}");
    assert!(matches!(whole(1), 0 | 3), "{found:?}");
}

// ---- the names of directories ----

fn new_queue(path: &Path) {
    let queue = say("open", 0, options().open(path));
    println!("said made {} done", usize::from(path.join("LOCK").exists()));
    if let Some(queue) = queue {
        work(&queue, 0..2);
    }
}

#[test]
fn name_of_every_new_directory_is_durable_before_there_is_a_queue_in_it() {
    if !has_strace() {
        return;
    }
    let place = place();
    let trace = place.path.with_extension("trace");
    let path = place.path.join("a").join("b");
    for failing in 1..=3 {
        let (said, syncs) = traced("new", &path, &trace, "fsync", &failing.to_string());
        assert_eq!(said.answers("open"), ["Io"].into(), "sync {failing} of a name failed: {syncs}");
        assert!(said.lines.iter().any(|line| line.what == "made" && line.task == 0), "{failing}: nothing was made");
        std::fs::remove_dir_all(&place.path).unwrap();
    }
    // The names of the three, from above. That of the last one is synced even if somebody else made it, who may have
    // died before.
    let mut parents: Vec<String> = path.ancestors().skip(1).take(3).map(|dir| format!("<{}>", dir.display())).collect();
    parents.reverse();
    for made in [false, true] {
        let expected = if made { &parents[2..] } else { &parents };
        let (said, syncs) = traced("new", &path, &trace, "fsync", "99");
        assert_eq!(said.answers("enqueue"), ["done"].into());
        for (line, parent) in syncs.lines().zip(expected) {
            assert!(line.contains(parent.as_str()), "{parent} is not synced in its turn: {syncs}");
        }
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
}
