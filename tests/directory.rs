//! Promise: one process per directory; a second opener learns who has it; what is not a queue is left alone.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::os::unix::fs::PermissionsExt;

use lanelog::{Error, Queue, Task, inspect};
use support::{drain, place, small};

#[test]
fn a_second_opener_is_told_the_process_that_has_the_queue() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let refused = Queue::open(&place.path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{refused}");
    queue.enqueue(Task::new("goes on")).unwrap();
    assert_eq!(inspect(&place.path).unwrap().stats().lanes.len(), 1, "looking needs no lock");
    assert_eq!(Queue::open_read_only(&place.path).unwrap().id(), queue.id());
}

#[test]
fn held_payloads_keep_the_directory_locked() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("held")).unwrap();
    let delivery = support::one(&queue.consumer());
    let payload = delivery.share_payload();
    delivery.ack().unwrap();
    drop(queue);
    assert!(matches!(Queue::open(&place.path).map(drop), Err(Error::Locked { .. })));
    drop(payload);
    Queue::open(&place.path).unwrap();
}

#[test]
fn files_are_private_to_their_owner() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("secret")).unwrap();
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&place.path).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_refused_and_untouched() {
    let place = place();
    std::fs::create_dir(&place.path).unwrap();
    std::fs::write(place.path.join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(Queue::open(&place.path).map(drop), Err(Error::NotAQueue { .. })));
    assert_eq!(std::fs::read(place.path.join("thesis.tex")).unwrap(), b"years of work");
    assert_eq!(std::fs::read_dir(&place.path).unwrap().count(), 1, "nothing was left there");
    let file = place.path.join("thesis.tex");
    assert!(matches!(Queue::open(&file).map(drop), Err(Error::NotAQueue { .. })));
    assert!(matches!(inspect(place.path.join("absent")).map(drop), Err(Error::NotAQueue { .. })));
}

#[test]
fn links_in_place_of_segments_are_not_followed() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("x")).unwrap();
    queue.close().unwrap();
    let mut name = String::new();
    inspect(&place.path).unwrap().for_each_task(|task| name.clone_from(&task.file));
    let (segment, elsewhere) = (place.path.join(&name), place.path.with_file_name("elsewhere"));
    std::fs::rename(&segment, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &segment).unwrap();
    let before = std::fs::read(&elsewhere).unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert!(drain(&queue).is_empty());
    assert_eq!(queue.damage().len(), 1, "{:?}", queue.damage());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), before);
}

#[test]
fn another_version_is_refused_and_untouched() {
    use std::os::unix::fs::FileExt;
    let place = place();
    small().open(&place.path).unwrap().close().unwrap();
    let path = place.path.join("checkpoint");
    let mut bytes = std::fs::read(&path).unwrap();
    // Version 9 in both copies of both roots, with checksums that fit.
    for slot in [0, 262_144, 524_288, 786_432] {
        let length = u32::from_le_bytes(bytes[slot + 12..slot + 16].try_into().unwrap()) as usize;
        if length == 0 {
            continue;
        }
        bytes[slot + 8..slot + 12].copy_from_slice(&9_u32.to_le_bytes());
        let check = crc32fast::hash(&bytes[slot..slot + length - 4]);
        bytes[slot + length - 4..slot + length].copy_from_slice(&check.to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let refused = Queue::open(&place.path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Version { found: 9, supported: 1, .. }), "{refused}");
    let mut after = vec![0; bytes.len()];
    read_only(&path).read_exact_at(&mut after, 0).unwrap();
    assert!(after == bytes);
}

#[expect(clippy::disallowed_methods, reason = "the test looks behind the library's back")]
fn read_only(path: &std::path::Path) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}
