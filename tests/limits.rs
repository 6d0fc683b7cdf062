//! Promise: what the system has no room for is refused with its reason, and the queue goes on: nothing that was accepted
//! is lost, what is there can be drained, the process lives, and tasks are taken again when there is room.
//!
//! Limits are a process's own, so each scene is played by a child.
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

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use child::{Said, asked, fill, play, say, scene, scene_under, settle, text, work};
use lanelog::{Options, Queue, Reserve, Task, inspect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Place, place};

/// Not a test by itself: the process that plays a scene.
#[test]
fn child_process() {
    let Some((scene, path)) = asked() else { return };
    match scene.as_str() {
        "small files" => small_files(&path),
        "smaller files at open" => smaller_files_at_open(&path),
        "few files" => few_files(&path),
        "few files at open" => few_files_at_open(&path),
        "little memory" => little_memory(&path),
        "little memory at open" => little_memory_at_open(&path),
        "directory of others" => directory_of_others(&path),
        "full disk" => full_disk(&path),
        "full disk in a checkpoint" => full_disk_in_a_checkpoint(&path),
        "what is left" => what_is_left(&path),
        "read-only disk" => read_only_disk(&path),
        other => panic!("no scene {other}"),
    }
}

/// Changes this process's soft limit and gives the one before.
fn limit(resource: Resource, soft: Option<u64>) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    setrlimit(resource, Rlimit { current: soft, maximum }).unwrap();
    current
}

/// There is room, then none: what is there is drained all the same. Then there is room again.
fn fill_drain_and_go_on(queue: &Queue, batch: usize, make_room: impl FnOnce()) {
    let next = fill(queue, 0, batch);
    work(queue, next..next + 2);
    drain_but_five(queue);
    say("checkpoint", 0, queue.checkpoint());
    make_room();
    work(queue, next + 2..next + 32);
}

fn drain_but_five(queue: &Queue) {
    loop {
        let depth = usize::try_from(queue.stats().groups[0].lanes[0].depth).unwrap();
        if depth <= 5 || settle(queue, (depth - 5).min(500)) == 0 {
            return;
        }
    }
}

/// The first refusal names the cause, what follows is done, and the directory tells the same.
fn was_refused_for(said: &Said, cause: &str, place: &Place) {
    assert_eq!(said.answers("enqueue"), ["Full", "done"].into(), "{:?}", said.first_error("enqueue"));
    assert!(said.first_error("enqueue").contains(cause), "{}", said.first_error("enqueue"));
    for what in ["reserve", "ack", "checkpoint"] {
        assert_eq!(said.answers(what), ["done"].into(), "{what}: {}", said.first_error(what));
    }
    let left = said.holds(&place.path, cause);
    assert!((10..40).contains(&left), "{left} left");
}

fn options() -> Options {
    // Nothing becomes ready while a limit holds, so there is nothing to wait for.
    Options::new().append_wait(std::time::Duration::from_secs(60))
}

// ---- the size of a file ----

fn small_files(path: &Path) {
    let queue = options().open(path).unwrap();
    // The checkpoint and the first segments are smaller, a lane's second segment is not.
    let before = limit(Resource::Fsize, Some(1_500_000));
    fill_drain_and_go_on(&queue, 100, || _ = limit(Resource::Fsize, before));
    say("close", 0, queue.close());
}

#[test]
fn file_size_limit_refuses_tasks_and_sends_no_signal() {
    let place = place();
    let said = play(&mut scene("small files", &place.path));
    was_refused_for(&said, "File too large", &place);
}

fn smaller_files_at_open(path: &Path) {
    work(&options().open(path).unwrap(), 0..20);
    let before = limit(Resource::Fsize, Some(0));
    say("open", 0, Queue::open(path));
    say("look", 0, inspect(path));
    limit(Resource::Fsize, Some(600_000));
    say("open", 0, Queue::open(path));
    limit(Resource::Fsize, before);
}

#[test]
fn queue_that_cannot_be_written_for_a_file_size_limit_is_not_opened_and_loses_nothing() {
    let place = place();
    let said = play(&mut scene("smaller files at open", &place.path));
    assert!(said.first_error("open").contains("File too large"), "{}", said.first_error("open"));
    assert_eq!(said.answers("look"), ["done"].into());
    said.holds(&place.path, "reopened");
}

// ---- open files ----

fn few_files(path: &Path) {
    let queue = options().segment_bytes(4096).open(path).unwrap();
    work(&queue, 0..10);
    let before = limit(Resource::Nofile, Some(24));
    fill_drain_and_go_on(&queue, 3, || _ = limit(Resource::Nofile, before));
    say("close", 0, queue.close());
}

#[test]
fn too_many_open_files_refuse_tasks_and_nothing_else() {
    let place = place();
    let said = play(&mut scene("few files", &place.path));
    was_refused_for(&said, "Too many open files", &place);
}

fn few_files_at_open(path: &Path) {
    let queue = options().segment_bytes(4096).open(path).unwrap();
    // Nothing is acked: a segment in which everything is settled would be let go, and its file's place be free.
    for task in 0..40 {
        say("enqueue", task, queue.enqueue(Task::new(&text(task))));
    }
    drop(queue);
    for most in 3..40 {
        let before = limit(Resource::Nofile, Some(most));
        say("open", 0, Queue::open(path));
        limit(Resource::Nofile, before);
    }
}

#[test]
fn queue_that_has_more_files_than_may_be_open_is_not_opened_and_loses_nothing() {
    let place = place();
    let said = play(&mut scene("few files at open", &place.path));
    assert_eq!(said.answers("open"), ["Io", "Full", "done"].into(), "{}", said.first_error("open"));
    assert!(said.first_error("open").contains("Too many open files"), "{}", said.first_error("open"));
    said.holds(&place.path, "reopened");
}

// ---- memory ----

fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

fn little_memory(path: &Path) {
    let queue = options().open(path).unwrap();
    // What the allocator takes now and then still fits; a lane's fourth segment of 8 MiB does not.
    let before = limit(Resource::As, Some(address_space() + (7 << 20)));
    fill_drain_and_go_on(&queue, 100, || _ = limit(Resource::As, before));
    say("close", 0, queue.close());
}

#[test]
fn no_memory_to_map_a_segment_refuses_tasks_and_nothing_else() {
    let place = place();
    let said = play(&mut scene("little memory", &place.path));
    was_refused_for(&said, "Cannot allocate memory", &place);
}

fn little_memory_at_open(path: &Path) {
    let queue = options().open(path).unwrap();
    let payload = vec![7; 900 << 10];
    // Past 36 MiB a lane's newest segment has 8 MiB at least, even if it took each smaller size three times because
    // that was what was ready; the limit leaves less.
    for _ in 0..40 {
        queue.enqueue(Task::new(&payload)).unwrap();
    }
    drop(queue);
    let before = limit(Resource::As, Some(address_space() + (6 << 20)));
    say("open", 0, Queue::open(path));
    limit(Resource::As, before);
    let queue = say("open", 0, Queue::open(path)).unwrap();
    assert_eq!(queue.consumer().reserve(Reserve::new().tasks(50)).unwrap().len(), 40);
    assert_eq!(queue.damage(), []);
}

#[test]
fn queue_that_finds_no_memory_at_open_is_not_opened_and_loses_nothing() {
    let place = place();
    let said = play(&mut scene("little memory at open", &place.path));
    assert!(said.status.success(), "{}", said.status);
    assert_eq!(said.answers("open"), ["Io", "done"].into(), "{}", said.first_error("open"));
    assert!(said.first_error("open").contains("Cannot allocate memory"), "{}", said.first_error("open"));
}

// ---- rights ----

fn directory_of_others(path: &Path) {
    nobody::become_nobody();
    let queue = options().segment_bytes(4096).open(path).unwrap();
    work(&queue, 0..10);
    let rights = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    rights(0o500);
    fill_drain_and_go_on(&queue, 3, || rights(0o700));
    drop(queue);
    rights(0o500);
    let queue = say("open", 0, Queue::open(path));
    assert!(queue.is_none() || std::fs::read_dir(path).is_ok());
    rights(0o700);
}

#[test]
fn directory_that_became_read_only_refuses_tasks_and_is_drained() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else for a while");
        return;
    }
    let place = place();
    let dir = place.path.parent().unwrap();
    std::os::unix::fs::chown(dir, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
    let said = play(&mut scene("directory of others", &place.path));
    assert!(said.first_error("open").contains("Permission denied"), "{}", said.first_error("open"));
    std::os::unix::fs::chown(dir, Some(0), Some(0)).unwrap();
    for entry in std::fs::read_dir(&place.path).unwrap() {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(0), Some(0)).unwrap();
    }
    was_refused_for(&said, "Permission denied", &place);
}

// ---- a disk ----

/// An ext4 file system of its own of 16 MiB, which the scenes mount; `None` (with the reason told) where that can't be
/// done. Mounted in a mount namespace, which goes with the scene's process, whatever ends it.
fn disk() -> Option<(Place, Vec<String>)> {
    let place = place();
    let (image, mount) = (place.path.with_extension("image"), place.path.with_extension("disk"));
    std::fs::create_dir(&mount).unwrap();
    let script = "mount -o loop \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let names = [image.display().to_string(), mount.display().to_string()];
    let mut wrapper: Vec<String> = ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).into();
    wrapper.extend(names.clone());
    let runs = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let made = runs(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", &names[0], "16M"]))
        && runs(Command::new(&wrapper[0]).args(&wrapper[1..]).arg("true"));
    if !made {
        eprintln!("skipped: a file system on a loop device needs root, mkfs.ext4, unshare and the device");
        return None;
    }
    Some((place, wrapper))
}

fn play_on(disk: &(Place, Vec<String>), name: &str) -> Said {
    let (place, wrapper) = disk;
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let said = play(&mut scene_under(&wrapper, name, &place.path.with_extension("disk").join("queue")));
    assert!(said.status.success(), "{name}: {}", said.status);
    said
}

/// Takes every block that is left.
fn fill_the_disk(path: &Path) -> PathBuf {
    let filler = path.with_file_name("filler");
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(of(&filler))
        .stderr(Stdio::null())
        .status();
    assert!(!status.unwrap().success(), "there was no end of it");
    filler
}

fn of(file: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from("of=");
    argument.push(file);
    argument
}

fn full_disk(path: &Path) {
    let queue = options().open(path).unwrap();
    let next = fill(&queue, 0, 100);
    let filler = fill_the_disk(path);
    drain_but_five(&queue);
    say("checkpoint", 0, queue.checkpoint());
    std::fs::remove_file(filler).unwrap();
    work(&queue, next..next + 30);
}

fn what_is_left(path: &Path) {
    let queue = Queue::open(path).unwrap();
    assert_eq!(queue.damage(), []);
    while settle(&queue, 500) > 0 {}
}

#[test]
fn full_disk_refuses_tasks_and_is_drained() {
    let Some(disk) = disk() else { return };
    let said = play_on(&disk, "full disk");
    assert_eq!(said.answers("enqueue"), ["Full", "done"].into(), "{:?}", said.first_error("enqueue"));
    assert!(said.first_error("enqueue").contains("No space left"), "{}", said.first_error("enqueue"));
    for what in ["reserve", "ack", "checkpoint"] {
        assert_eq!(said.answers(what), ["done"].into(), "{what}: {}", said.first_error(what));
    }
    let left = play_on(&disk, "what is left");
    said.is_true_of(&left.tasks("ack", |_| true), "full disk");
}

/// More dead letters than the checkpoint has room set aside for.
fn full_disk_in_a_checkpoint(path: &Path) {
    let queue = options().open(path).unwrap();
    for task in 0..6_000 {
        let _synced_below = queue.submit(Task::new(&task.to_string())).unwrap();
    }
    queue.sync().unwrap();
    let filler = fill_the_disk(path);
    let reason = "r".repeat(200);
    let mut pending = Vec::new();
    for delivery in queue.consumer().reserve(Reserve::new().tasks(6_000)).unwrap() {
        match delivery.submit_reject(&reason) {
            Ok(rejected) => pending.push(rejected),
            Err(error) => {
                say::<()>("reject", 0, Err(error));
                break;
            }
        }
    }
    let dead = pending.len();
    pending.into_iter().for_each(|rejected| rejected.wait().unwrap());
    say("checkpoint", 0, queue.checkpoint());
    drop(queue);
    std::fs::remove_file(filler).unwrap();
    // What the checkpoint did not take the journal still has.
    for round in 1..3 {
        let queue = Queue::open(path).unwrap();
        assert_eq!(queue.damage(), []);
        let (kept, depth) = (queue.dead_letters("default").unwrap().len(), queue.stats().groups[0].lanes[0].depth);
        assert!((dead..=dead + 1).contains(&kept), "{dead} rejected, one more in doubt, and {kept} are known");
        assert_eq!(kept + usize::try_from(depth).unwrap(), 6_000);
        say("checkpoint", round, queue.checkpoint());
        queue.close().unwrap();
    }
}

#[test]
fn disk_that_is_full_for_a_checkpoint_keeps_the_older_one_and_forgets_nothing() {
    let Some(disk) = disk() else { return };
    let said = play_on(&disk, "full disk in a checkpoint");
    assert_eq!(said.answers("reject"), ["InDoubt"].into(), "the journal is full before");
    assert_eq!(said.answers("checkpoint"), ["Full", "done"].into(), "{}", said.first_error("checkpoint"));
    assert!(said.first_error("checkpoint").contains("No space left"), "{}", said.first_error("checkpoint"));
}

fn read_only_disk(path: &Path) {
    work(&options().open(path).unwrap(), 0..20);
    let disk = path.parent().unwrap();
    let remount = |how| assert!(Command::new("mount").args(["-o", how]).arg(disk).status().unwrap().success());
    remount("remount,ro");
    say("open", 0, Queue::open(path));
    let mut seen = 0;
    say("look", 0, inspect(path).map(|look| look.for_each_task(|_| seen += 1)));
    assert_eq!(seen, 20);
    remount("remount,rw");
}

#[test]
fn read_only_disk_is_looked_at_and_opened_again_when_it_is_writable() {
    let Some(disk) = disk() else { return };
    let said = play_on(&disk, "read-only disk");
    assert_eq!(said.answers("open"), ["Io"].into());
    assert!(said.first_error("open").contains("Read-only file system"), "{}", said.first_error("open"));
    assert_eq!(said.answers("look"), ["done"].into());
    let left = play_on(&disk, "what is left");
    said.is_true_of(&left.tasks("ack", |_| true), "read-only disk");
}
