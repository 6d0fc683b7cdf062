//! Promise: whatever lies in the directory in place of the queue's files, opening it is a clear error, or works with the
//! damage reported: no panic, no hang, no memory beyond reason, and nothing outside is touched.
//!
//! Each directory is opened by a child that may take little memory, under a watchdog; and it is one that this process never
//! had open, for a process that is being made holds the locks of its parent.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper fails the test that called it"
)]

#[path = "support/child.rs"]
mod child;
#[path = "support/nobody.rs"]
mod nobody;
mod support;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use child::{Answer, asked, play, say, scene, text};
use lanelog::{Queue, Start, Task, inspect};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use support::{Place, copy, drain, place, small, texts};

const TASKS: usize = 12;

/// Not a test by itself: the process that plays a scene.
#[test]
fn child_process() {
    let Some((scene, path)) = asked() else { return };
    match scene.as_str() {
        "open" => open_with_little_memory(&path),
        "umask" => open_whatever_the_umask(&path),
        other => panic!("no scene {other}"),
    }
}

/// Looks, opens, serves and closes; says how many tasks were served, and how many places are damaged.
fn open_with_little_memory(path: &Path) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let now = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let Rlimit { maximum, .. } = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(now + (128 << 20)), maximum }).unwrap();
    say("look", 0, inspect(path).map(|look| look.verify()));
    let Some(queue) = say("open", 0, Queue::open(path)) else { return };
    let served = drain(&queue);
    let whole: BTreeSet<String> = (0..TASKS).map(text).collect();
    assert!(texts(&served).is_subset(&whole), "nothing damaged is handed out");
    assert_eq!(texts(&served).len(), served.len(), "nothing twice");
    served.iter().for_each(|_| _ = say("serve", 0, Ok(())));
    queue.damage().iter().for_each(|_| _ = say("damage", 0, Ok(())));
    say("sync", 0, queue.sync());
    say("enqueue", 0, queue.enqueue(Task::new("goes on")));
    say("close", 0, queue.close());
}

/// A closed queue with a backlog in several segments, and the names of a file of each kind.
struct Victim {
    place: Place,
    /// What it is, and its name.
    files: Vec<(&'static str, OsString)>,
}

fn victim() -> Victim {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for task in 0..TASKS {
        queue.enqueue(Task::new(&text(task))).unwrap();
    }
    queue.create_group("other", Start::Oldest).unwrap();
    queue.close().unwrap();
    let mut lane = BTreeSet::new();
    inspect(&place.path).unwrap().for_each_task(|task| _ = lane.insert(OsString::from(task.file)));
    let segments = std::fs::read_dir(&place.path).unwrap().map(|entry| entry.unwrap().path());
    let segments = segments.filter(|path| path.extension() == Some(OsStr::new("seg")));
    let is_blank = |path: &PathBuf| std::fs::read(path).unwrap().iter().all(|byte| *byte == 0);
    let (ready, lives): (Vec<PathBuf>, Vec<PathBuf>) = segments.partition(is_blank);
    let journal = lives.iter().map(|path| path.file_name().unwrap()).find(|name| !lane.contains(*name)).unwrap();
    let files = vec![
        ("segment", lane.iter().nth(1).unwrap().clone()),
        ("last segment", lane.iter().last().unwrap().clone()),
        ("journal", journal.to_owned()),
        ("ready segment", ready[0].file_name().unwrap().to_owned()),
        ("checkpoint", OsString::from("checkpoint")),
        ("lock", OsString::from("LOCK")),
    ];
    Victim { place, files }
}

/// Puts something at a path where nothing is any more; the first path lies outside the queue and is a file.
type Put = fn(outside: &Path, path: &Path);

/// What can be put in place of a file.
const PUTS: &[(&str, Put)] = &[
    ("link to a file outside", |outside, path| symlink(outside, path).unwrap()),
    ("link to nothing", |outside, path| symlink(outside.with_extension("absent"), path).unwrap()),
    ("link to a directory", |outside, path| symlink(outside.parent().unwrap(), path).unwrap()),
    ("link to itself", |_, path| symlink(path.file_name().unwrap(), path).unwrap()),
    ("directory", |_, path| std::fs::create_dir(path).unwrap()),
    ("directory with something in it", |_, path| std::fs::create_dir_all(path.join("thesis")).unwrap()),
    ("pipe", |_, path| node(path, FileType::Fifo, 0)),
    ("socket", |_, path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ("zero device", |_, path| node(path, FileType::CharacterDevice, rustix::fs::makedev(1, 5))),
    ("terminal", |_, path| node(path, FileType::CharacterDevice, rustix::fs::makedev(5, 0))),
    ("no bytes", |_, path| std::fs::write(path, "").unwrap()),
    ("one byte", |_, path| std::fs::write(path, [7]).unwrap()),
    ("511 bytes", |_, path| std::fs::write(path, [0xa5; 511]).unwrap()),
    ("513 bytes", |_, path| std::fs::write(path, [0xa5; 513]).unwrap()),
    ("513 zeros", |_, path| std::fs::write(path, [0; 513]).unwrap()),
    ("two million bytes", |_, path| std::fs::write(path, vec![0xa5; 2_000_000]).unwrap()),
    ("16 TiB of nothing", |_, path| sparse(path, (16 << 40) - 4096)),
];

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
}

/// A file that is as long as it says and has no bytes, or as long as the file system lets it be.
fn sparse(path: &Path, bytes: u64) {
    let file = open(path);
    let longest = [bytes, 1 << 43, 1 << 40].into_iter().find(|bytes| file.set_len(*bytes).is_ok());
    assert!(longest.is_some(), "no file of a TiB");
}

#[expect(clippy::disallowed_methods, reason = "the test plays a hostile neighbour")]
fn open(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}

/// True where devices and files of others can be made.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped in part: devices and files of other users are root's to make");
    }
    root
}

/// The child lived, and either it was told why the queue can't be opened, or what it lacks is reported. Gives whether it
/// was opened.
fn told_or_served(path: &Path, what: &str) -> bool {
    let said = play(&mut scene("open", path));
    assert!(said.status.success(), "{what}: {}", said.status);
    let count = |name: &str| said.lines.iter().filter(|line| line.what == name && line.answer == Answer::Done).count();
    if count("open") == 0 {
        let told = said.first_error("open");
        assert!(!told.is_empty(), "{what}: it said nothing");
        return false;
    }
    let (served, damage) = (count("serve"), count("damage"));
    assert!(served == TASKS || damage > 0, "{what}: {served} served, and nothing is reported");
    assert_eq!(said.answers("sync"), ["done"].into(), "{what}: {}", said.first_error("sync"));
    assert_eq!(said.answers("close"), ["done"].into(), "{what}: {}", said.first_error("close"));
    true
}

#[test]
fn whatever_lies_in_place_of_a_file_is_told_or_reported_and_nothing_outside_is_touched() {
    let victim = victim();
    let has_devices = is_root();
    for (kind, name) in &victim.files {
        for (number, (put_name, put)) in PUTS.iter().enumerate() {
            if !has_devices && ["zero device", "terminal"].contains(put_name) {
                continue;
            }
            let what = format!("{put_name} in place of {kind}");
            let path = copy(&victim.place.path, &format!("{kind}-{number}"));
            let outside = path.with_extension("outside");
            std::fs::write(&outside, "years of work").unwrap();
            std::fs::remove_file(path.join(name)).unwrap();
            put(&outside, &path.join(name));
            let is_open = told_or_served(&path, &what);
            assert_eq!(std::fs::read(&outside).unwrap(), b"years of work", "{what}");
            assert!(!outside.with_extension("absent").exists(), "{what}: a link to nothing made something");
            // One segment is not the queue.
            assert!(
                is_open || !["segment", "last segment", "journal"].contains(kind) || put_name.contains("TiB"),
                "{what}"
            );
            if !is_open {
                is_whole_again(&victim, &path, name, &what);
            }
        }
    }
}

/// What could not be opened was not changed: with the file put back everything is there.
fn is_whole_again(victim: &Victim, path: &Path, name: &OsStr, what: &str) {
    let wrong = path.join(name);
    if std::fs::symlink_metadata(&wrong).unwrap().is_dir() {
        std::fs::remove_dir_all(&wrong).unwrap();
    } else {
        std::fs::remove_file(&wrong).unwrap();
    }
    std::fs::copy(victim.place.path.join(name), &wrong).unwrap();
    let queue = Queue::open(path).unwrap_or_else(|error| panic!("{what}, put back: {error}"));
    assert_eq!(drain(&queue).len(), TASKS, "{what}, put back");
    assert_eq!(queue.damage(), [], "{what}, put back");
}

#[test]
fn file_of_another_user_is_told_or_reported() {
    if !is_root() {
        return;
    }
    let victim = victim();
    for (kind, name) in &victim.files {
        let path = copy(&victim.place.path, kind);
        std::os::unix::fs::chown(path.join(name), Some(nobody::NOBODY), None).unwrap();
        told_or_served(&path, &format!("{kind} of another user"));
        assert_eq!(std::fs::metadata(path.join(name)).unwrap().uid(), nobody::NOBODY, "{kind}");
    }
}

#[test]
fn file_that_grew_beyond_all_reason_is_told_or_reported() {
    let victim = victim();
    for (kind, name) in &victim.files {
        for bytes in [(16 << 40) - 4096, 1 << 40, 5 << 30] {
            let path = copy(&victim.place.path, &format!("{kind}-{bytes}"));
            sparse(&path.join(name), bytes);
            told_or_served(&path, &format!("{kind} that grew to {bytes} bytes"));
        }
    }
}

/// Names that are almost a queue's, and names that are nobody's.
fn junk() -> impl Iterator<Item = OsString> {
    let almost = [
        "1.seg",
        "-0000001.seg",
        "0000000g.seg",
        "0000000A.seg",
        "000000001.seg",
        "00000001.seg.bak",
        "00000001.SEG",
        ".seg",
        "checkpoint~",
        "Checkpoint",
        "lock",
        "LOCK.old",
        ".hidden",
        " ",
        "\n",
        "a\nb",
        "*",
        "thesis.tex",
    ];
    let strange = [vec![0xff, 0xfe], vec![b'x'; 255], vec![0xc3], "🦀".as_bytes().to_vec()];
    let many = (0..4_000).map(|number| OsString::from(format!("junk {number}")));
    almost.into_iter().map(OsString::from).chain(strange.map(OsString::from_vec)).chain(many)
}

#[test]
fn thousands_of_absurd_names_cost_nothing_and_stay() {
    let victim = victim();
    let path = &copy(&victim.place.path, "junk");
    for name in junk() {
        std::fs::write(path.join(name), "junk").unwrap();
    }
    assert!(told_or_served(path, "junk"));
    for name in junk() {
        assert_eq!(std::fs::read(path.join(&name)).unwrap(), b"junk", "{}", name.display());
    }
}

#[test]
fn segment_names_that_no_queue_reaches_cost_nothing() {
    for name in ["ffffffff.seg", "fffffffe.seg", "7fffffff.seg", "00000000.seg"] {
        let victim = victim();
        let path = copy(&victim.place.path, "copy");
        std::fs::write(path.join(name), "junk").unwrap();
        told_or_served(&path, name);
    }
}

// ---- rights ----

fn open_whatever_the_umask(path: &Path) {
    if rustix::process::geteuid().is_root() {
        nobody::become_nobody();
    }
    for (number, mask) in [0o000, 0o022, 0o077, 0o177, 0o777].into_iter().enumerate() {
        umask(Mode::from_raw_mode(mask));
        let path = path.join(format!("{mask:o}")).join("deep").join("queue");
        for _ in 0..2 {
            let Some(queue) = say("open", number, small().open(&path)) else { return };
            queue.enqueue(Task::new("secret")).unwrap();
            queue.close().unwrap();
        }
        let rights = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(rights(&path), 0o700, "umask {mask:o}");
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            assert_eq!(rights(&entry), 0o600, "umask {mask:o}: {}", entry.display());
        }
    }
}

#[test]
fn new_files_are_their_owners_alone_and_usable_whatever_the_umask() {
    let place = place();
    std::fs::create_dir(&place.path).unwrap();
    if rustix::process::geteuid().is_root() {
        for path in [place.path.parent().unwrap(), &place.path] {
            std::os::unix::fs::chown(path, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
        }
    }
    let said = play(&mut scene("umask", &place.path));
    assert_eq!(said.answers("open"), ["done"].into(), "{}", said.first_error("open"));
    assert!(said.status.success(), "{}", said.status);
}
