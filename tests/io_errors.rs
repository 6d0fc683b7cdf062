//! Promise: an I/O error under the map is an error of the call that met it, and acknowledges nothing; the rest is served.
//!
//! A file that is cut under its map stands for a device that fails: the kernel answers both with SIGBUS. What may be
//! killed by that runs in a process of its own.
#![expect(unsafe_code, reason = "the tests raise and catch the signal that the guard is about")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::fn_to_numeric_cast_any,
    reason = "a helper fails the test that called it"
)]

mod support;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanelog::{ConsumerOptions, DamageKind, Durability, Error, Options, Queue, Reserve, Start, Task, TaskId, inspect};
use support::{drain, place, small, texts};

const CHILD: &str = "LANELOG_IO_CHILD";
const PAGE_BYTES: u64 = 4096;

/// Held while a process is made, and by whoever opens a queue twice: until it runs its own program, a new process
/// holds the directory's lock as well.
static MAKING: Mutex<()> = Mutex::new(());

/// Runs one of the scenes below in a process of its own.
fn play(scene: &str, path: &Path) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process", "--nocapture"]).env(CHILD, format!("{scene}:{}", path.display()));
    let spawned = {
        let _making = no_process_is_made();
        command.spawn()
    };
    spawned.unwrap().wait().unwrap()
}

fn no_process_is_made() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not a test by itself: the process that plays a scene and exits with 0 if it went as it should.
#[test]
fn child_process() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let (scene, path) = spec.split_once(':').unwrap();
    let path = PathBuf::from(path);
    match scene {
        "unguarded" => enqueue_into_a_cut_segment(&unguarded(), &path, Durability::Power),
        "enqueue at power" => enqueue_into_a_cut_segment(&guarded(), &path, Durability::Power),
        "enqueue at process" => enqueue_into_a_cut_segment(&guarded(), &path, Durability::Process),
        "batch" => batch_into_a_cut_segment(&path),
        "commit" => commit_of_a_cut_segment(&path),
        "settle" => settle_from_a_cut_segment(&path),
        "journal" => settle_into_a_cut_journal(&path),
        "many maps" => a_fault_in_the_last_of_many_maps(&path),
        "first read" => first_read_of_a_cut_segment(&path),
        "second read" => second_read_of_a_cut_segment(&path),
        "redelivery" => redelivery_from_a_cut_segment(&path),
        "chain to function" => chain_to_a_function(&path),
        "chain to std" => a_fault_of_somebody_elses(&path),
        "chain to default" => under(libc::SIG_DFL, || a_fault_of_somebody_elses(&path)),
        "chain to ignored" => under(libc::SIG_IGN, || a_fault_of_somebody_elses(&path)),
        "sent, default" => under(libc::SIG_DFL, || a_signal_that_was_sent(&path)),
        "sent, ignored" => under(libc::SIG_IGN, || a_signal_that_was_sent(&path)),
        other => panic!("no scene {other}"),
    }
}

/// Nothing is committed that nobody waits for, so that a scene meets its own error first.
fn unguarded() -> Options {
    Options::new().sync_interval(Duration::from_secs(3600))
}

fn guarded() -> Options {
    unguarded().sigbus_guard(true)
}

/// A thousand bytes, so that four tasks take a page.
fn text(number: usize) -> String {
    format!("task {number:<995}")
}

fn enqueue(queue: &Queue, numbers: std::ops::Range<usize>) -> Vec<TaskId> {
    numbers.map(|number| queue.enqueue(Task::new(&text(number))).unwrap()).collect()
}

/// The file and the offset of a task.
fn place_of(path: &Path, id: TaskId) -> (PathBuf, u64) {
    let mut found = None;
    inspect(path).unwrap().for_each_task(|task| {
        if task.id == id {
            found = Some((path.join(&task.file), task.offset));
        }
    });
    found.expect("the task is there")
}

#[expect(clippy::disallowed_methods, reason = "the test plays the failing disk")]
fn cut(file: &Path, bytes: u64) {
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

fn segment_files(path: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|kind| kind == "seg")).collect()
}

fn in_doubt(error: &Error, file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    matches!(error, Error::InDoubt { cause, .. } if matches!(&**cause, Error::Io { file, .. } if file == name))
}

/// Every task of 0..count is delivered whole, or there is damage.
fn served_or_reported(path: &Path, count: usize) -> usize {
    let queue = Queue::open(path).unwrap();
    let served = texts(&drain(&queue));
    let all: BTreeSet<String> = (0..count).map(text).collect();
    assert!(served.is_subset(&all), "nothing damaged is handed out");
    assert!(served.len() == count || !queue.damage().is_empty(), "{} of {count} and no report", served.len());
    served.len()
}

fn enqueue_into_a_cut_segment(options: &Options, path: &Path, durability: Durability) {
    let queue = options.open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[9]);
    cut(&file, PAGE_BYTES);
    let error = queue.enqueue(Task::new(&text(10)).durability(durability)).unwrap_err();
    assert!(in_doubt(&error, &file), "{error}");
    assert!(matches!(&error, Error::InDoubt { task: Some(id), .. } if id.seq() > ids[9].seq()), "{error}");
    let error = queue.enqueue(Task::new("more")).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(queue.consumer().reserve(Reserve::new()).is_err());
    assert_eq!(queue.stats().lanes.len(), 1, "looking goes on");
}

fn batch_into_a_cut_segment(path: &Path) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[9]);
    cut(&file, PAGE_BYTES);
    let texts: Vec<String> = (10..20).map(text).collect();
    let tasks: Vec<Task<'_>> = texts.iter().map(|text| Task::new(text).durability(Durability::Process)).collect();
    let error = queue.enqueue_batch(&tasks).unwrap_err();
    assert!(in_doubt(&error, &file), "{error}");
}

fn commit_of_a_cut_segment(path: &Path) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..1);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[0]);
    let pending: Vec<_> = (1..10).map(|number| queue.submit(Task::new(&text(number))).unwrap()).collect();
    cut(&file, PAGE_BYTES);
    for pending in pending {
        let error = pending.wait().unwrap_err();
        assert!(in_doubt(&error, &file), "{error}");
    }
    assert!(matches!(queue.sync(), Err(Error::Poisoned { .. } | Error::InDoubt { .. })));
}

#[test]
fn enqueue_commit_and_batch_into_a_segment_that_fails_acknowledge_nothing_and_the_process_lives() {
    for scene in ["enqueue at power", "enqueue at process", "batch", "commit"] {
        let place = place();
        let status = play(scene, &place.path);
        assert!(status.success(), "{scene}: {status}");
        let served = served_or_reported(&place.path, 10);
        assert!(served < 10, "{scene}: more than the file still holds");
    }
}

#[test]
fn without_the_guard_the_signal_ends_the_process() {
    let place = place();
    assert_eq!(play("unguarded", &place.path).signal(), Some(libc::SIGBUS), "so the other scenes do raise it");
    served_or_reported(&place.path, 10);
}

fn a_fault_in_the_last_of_many_maps(path: &Path) {
    let queue = guarded().segment_bytes(PAGE_BYTES).open(path).unwrap();
    // Three tasks fill a segment, so the last one stands alone in its, with room behind it.
    let ids = enqueue(&queue, 0..301);
    assert!(queue.stats().lanes[0].segments > 64, "more than one block of ranges");
    let (file, offset) = place_of(path, ids[300]);
    assert_eq!(offset, 512, "the first behind the prelude");
    cut(&file, 0);
    let error = queue.enqueue(Task::new(&text(301)).durability(Durability::Process)).unwrap_err();
    assert!(in_doubt(&error, &file), "{error}");
}

#[test]
fn any_number_of_segments_can_be_mapped_under_the_guard() {
    let status = play("many maps", &place().path);
    assert!(status.success(), "{status}");
}

// ---- settling ----

fn settle_from_a_cut_segment(path: &Path) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    queue.checkpoint().unwrap();
    let (file, _) = place_of(path, ids[9]);
    let consumer = queue.consumer();
    let mut taken = consumer.reserve(Reserve::new().tasks(9)).unwrap();
    cut(&file, PAGE_BYTES);
    let last = taken.pop().unwrap();
    assert!(last.payload().iter().all(|byte| *byte == 0), "the worker reads zeros, and lives");
    let refused = |outcome: Result<(), Error>| {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, Error::Io { file: name, .. } if file.ends_with(name)), "{error}");
    };
    refused(last.extend(Duration::from_secs(60)));
    refused(last.ack());
    refused(taken.pop().unwrap().nack(None, "no"));
    refused(taken.pop().unwrap().release());
    refused(taken.pop().unwrap().reject("no"));
    let answers = consumer.ack_batch(taken).unwrap();
    answers.into_iter().for_each(refused);
    // What was not handed out yet is not handed out any more, and it is said why.
    assert!(consumer.reserve(Reserve::new()).unwrap().is_empty());
    let damage = queue.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].kind, damage[0].lane), (DamageKind::Unreadable, Some(ids[0].lane())));
    assert!(file.ends_with(&damage[0].file));
}

fn settle_into_a_cut_journal(path: &Path) {
    let queue = guarded().open(path).unwrap();
    let ids = enqueue(&queue, 0..10);
    let delivery = queue.consumer().reserve(Reserve::new()).unwrap().pop().unwrap();
    let (lane_file, _) = place_of(path, ids[0]);
    // Of the files that were attached the one that is not the lane's is the journal's.
    let is_attached = |file: &PathBuf| std::fs::read(file).unwrap().starts_with(b"LANESEG1");
    let journal = segment_files(path).into_iter().find(|file| *file != lane_file && is_attached(file));
    let journal = journal.expect("a journal");
    cut(&journal, 0);
    let error = delivery.ack().unwrap_err();
    assert!(in_doubt(&error, &journal), "{error}");
    assert!(matches!(queue.consumer().reserve(Reserve::new()), Err(Error::Poisoned { .. })));
}

#[test]
fn settles_from_a_segment_that_fails_are_refused_and_its_tasks_come_again_after_a_reopen() {
    let place = place();
    let status = play("settle", &place.path);
    assert!(status.success(), "{status}");
    let served = served_or_reported(&place.path, 10);
    assert!(served > 0, "what the file still holds was not acked");
}

#[test]
fn settle_into_a_journal_that_fails_is_in_doubt() {
    let place = place();
    let status = play("journal", &place.path);
    assert!(status.success(), "{status}");
    assert!(served_or_reported(&place.path, 10) >= 9, "at most the ack in doubt counted");
}

// ---- reading, without the guard ----

/// Thirty tasks, three to a segment, closed and opened again; and the file of the fifth segment.
fn at_rest(path: &Path) -> (Queue, PathBuf) {
    let queue = small().open(path).unwrap();
    let ids = enqueue(&queue, 0..30);
    queue.create_group("other", Start::Oldest).unwrap();
    queue.close().unwrap();
    let (file, _) = place_of(path, ids[13]);
    (small().open(path).unwrap(), file)
}

/// Everything but the segment's three tasks is served, and the segment is reported.
fn rest_is_served(queue: &Queue, file: &Path) {
    let left = texts(&drain(queue));
    assert_eq!(left.len(), 27);
    let damage = queue.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].kind, DamageKind::Unreadable, "{damage:?}");
    assert!(file.ends_with(&damage[0].file), "{damage:?}");
    let (first, last) = damage[0].lost.expect("which tasks");
    assert_eq!(last.0 - first.0 + 1, 3, "{damage:?}");
    let lane = &queue.stats().groups[0].lanes[0];
    assert_eq!(lane.depth, 0, "nothing that can be had waits");
}

fn first_read_of_a_cut_segment(path: &Path) {
    let (queue, file) = at_rest(path);
    cut(&file, 0);
    rest_is_served(&queue, &file);
}

fn second_read_of_a_cut_segment(path: &Path) {
    let (queue, file) = at_rest(path);
    // Another group has read the segment, so it is mapped and was found readable.
    let other = queue.consumer_of("other", ConsumerOptions::new()).unwrap();
    assert_eq!(other.reserve(Reserve::new().tasks(30)).unwrap().len(), 30);
    cut(&file, 0);
    rest_is_served(&queue, &file);
}

fn redelivery_from_a_cut_segment(path: &Path) {
    let (queue, file) = at_rest(path);
    let consumer = queue.consumer();
    for delivery in consumer.reserve(Reserve::new().tasks(30)).unwrap() {
        delivery.release().unwrap();
    }
    cut(&file, 0);
    assert_eq!(texts(&drain(&queue)).len(), 27);
    let damage = queue.damage();
    assert!(!damage.is_empty() && damage.iter().all(|d| d.kind == DamageKind::Unreadable), "{damage:?}");
    assert!(damage.iter().all(|d| file.ends_with(&d.file)), "{damage:?}");
    assert_eq!(queue.stats().groups[0].lanes[0].depth, 0);
    // They are not settled, so their segment is kept, whatever is checkpointed meanwhile.
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
    assert!(file.exists());
}

#[test]
fn cold_segment_that_fails_costs_its_own_tasks_and_no_signal_without_the_guard() {
    for scene in ["first read", "second read", "redelivery"] {
        let place = place();
        let status = play(scene, &place.path);
        assert!(status.success(), "{scene}: {status}");
        served_or_reported(&place.path, 0);
    }
}

#[test]
fn segment_that_was_unreadable_is_kept_and_read_again_after_a_reopen() {
    let _alone = no_process_is_made();
    let place = place();
    let (queue, file) = at_rest(&place.path);
    let bytes = std::fs::read(&file).unwrap();
    cut(&file, 0);
    rest_is_served(&queue, &file);
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
    queue.close().unwrap();
    // The device came back.
    std::fs::write(&file, bytes).unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(texts(&drain(&queue)), (12..15).map(text).collect());
    assert_eq!(queue.damage(), []);
}

#[test]
fn file_that_was_cut_at_rest_is_reported_with_the_tasks_it_cost_and_the_rest_is_served() {
    let _alone = no_process_is_made();
    // Each task takes 1,032 bytes behind a prelude of 512.
    for (bytes, kept) in
        [(0, 0), (100, 0), (512, 0), (600, 0), (512 + 1032, 1), (512 + 1032 + 500, 1), (512 + 3 * 1032 - 8, 2)]
    {
        let place = place();
        let (queue, file) = at_rest(&place.path);
        queue.close().unwrap();
        cut(&file, bytes);
        for round in ["verify", "first open", "second open"] {
            let at = format!("{bytes} bytes, {round}");
            let damage = match round {
                "verify" => inspect(&place.path).unwrap().verify(),
                _ => {
                    let queue = Queue::open(&place.path).unwrap();
                    let consumer = queue.consumer();
                    let taken = consumer.reserve(Reserve::new().tasks(30)).unwrap();
                    assert_eq!(taken.len(), 27 + kept, "{at}");
                    let whole: BTreeSet<String> = (0..30).map(text).collect();
                    assert!(texts(&taken.iter().map(|d| d.payload().to_vec()).collect::<Vec<_>>()).is_subset(&whole));
                    taken.into_iter().for_each(|delivery| delivery.release().unwrap());
                    let damage = queue.damage();
                    queue.close().unwrap();
                    damage
                }
            };
            assert!(damage.iter().all(|d| file.ends_with(&d.file)), "{at}: {damage:?}");
            let others = damage.iter().filter(|d| d.kind != DamageKind::Unreadable).count();
            assert_eq!(
                others,
                usize::from(bytes == 0),
                "{at}: the first sector, of which one copy is enough: {damage:?}"
            );
            let damage: Vec<_> = damage.into_iter().filter(|d| d.kind == DamageKind::Unreadable).collect();
            assert_eq!(damage.len(), 1, "{at}: {damage:?}");
            let (first, last) = damage[0].lost.unwrap_or_else(|| panic!("{at}: {damage:?}"));
            assert_eq!(last.0 - first.0 + 1, 3 - kept as u64, "{at}: {damage:?}");
        }
    }
}

#[test]
fn queue_whose_free_room_was_cut_goes_on_elsewhere_and_loses_nothing() {
    let _alone = no_process_is_made();
    for clean in [true, false] {
        let place = place();
        let queue = Queue::open(&place.path).unwrap();
        let ids = enqueue(&queue, 0..10);
        let (file, _) = place_of(&place.path, ids[0]);
        if clean {
            queue.close().unwrap();
        } else {
            drop(queue);
        }
        cut(&file, 5 * PAGE_BYTES);
        let queue = Queue::open(&place.path).unwrap();
        enqueue(&queue, 10..40);
        assert_eq!(texts(&drain(&queue)), (0..40).map(text).collect(), "clean {clean}");
        assert_eq!(queue.damage(), [], "clean {clean}");
    }
}

// ---- the handler before ----

/// Maps a file, cuts it, and gives the address where it was.
fn a_page_that_is_gone(dir: &Path) -> *const u8 {
    let file = dir.with_extension("not-ours");
    std::fs::write(&file, [1; PAGE_BYTES as usize]).unwrap();
    let opened = std::os::fd::OwnedFd::from(open(&file));
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&opened);
    let (bytes, protection) = (PAGE_BYTES as usize, libc::PROT_READ);
    // SAFETY: a map of its own at an address that the kernel picks.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, descriptor, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    cut(&file, 0);
    page.cast()
}

#[expect(clippy::disallowed_methods, reason = "a file that is not the queue's")]
fn open(file: &Path) -> std::fs::File {
    std::fs::File::open(file).unwrap()
}

static EXPECTED: AtomicUsize = AtomicUsize::new(0);
const CALLED: i32 = 42;

extern "C" fn called(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo, as the guard passes it on.
    let address = unsafe { (*info).si_addr() }.addr();
    let right = signal == libc::SIGBUS && address == EXPECTED.load(Ordering::Relaxed);
    // SAFETY: ends the process, here and now.
    unsafe { libc::_exit(if right { CALLED } else { CALLED + 1 }) }
}

fn chain_to_a_function(path: &Path) {
    // SAFETY: the struct is numbers; zero is no flags and no mask.
    let mut own: libc::sigaction = unsafe { std::mem::zeroed() };
    own.sa_sigaction = (called as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)) as usize;
    own.sa_flags = libc::SA_SIGINFO;
    // SAFETY: a whole action, whose handler only ends the process.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &raw const own, std::ptr::null_mut()) }, 0);
    a_fault_of_somebody_elses(path);
}

/// The engine's own fault is mended; the next one is not its.
fn a_fault_of_somebody_elses(path: &Path) {
    enqueue_into_a_cut_segment(&guarded(), path, Durability::Power);
    let page = a_page_that_is_gone(path);
    EXPECTED.store(page.addr(), Ordering::Relaxed);
    // SAFETY: it is mapped; that the load does not come back is what is tested.
    let read = unsafe { page.read_volatile() };
    panic!("a page that is gone was read: {read}");
}

fn a_signal_that_was_sent(path: &Path) {
    let queue = guarded().open(path).unwrap();
    // SAFETY: a signal to this thread.
    unsafe { libc::raise(libc::SIGBUS) };
    enqueue(&queue, 0..3);
}

fn under(action: libc::sighandler_t, scene: impl FnOnce()) {
    // SAFETY: one of the two actions that are no function.
    assert_ne!(unsafe { libc::signal(libc::SIGBUS, action) }, libc::SIG_ERR);
    scene();
}

#[test]
fn fault_outside_the_engine_goes_to_the_handler_that_was_there_before() {
    let status = play("chain to function", &place().path);
    assert_eq!(status.code(), Some(CALLED), "{status}");
    for scene in ["chain to std", "chain to default", "chain to ignored", "sent, default"] {
        let status = play(scene, &place().path);
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{scene}: {status}");
    }
    let status = play("sent, ignored", &place().path);
    assert!(status.success(), "{status}");
}
