//! One process per directory, for as long as anything of it is held.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::DiskStorage;
use super::{Place, mode};
use crate::error::Error;
use crate::storage::{LOCK_FILE, Prepare, Storage};

/// The holder that a second opener is told of, or `None` if the directory is free.
fn holder(place: &Place) -> Option<Option<u32>> {
    match DiskStorage::open(&place.path) {
        Ok(_) => None,
        Err(Error::Locked { path, pid }) => {
            assert_eq!(path, place.path);
            Some(pid)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn second_opener_is_told_who_has_it() {
    let place = Place::new();
    let disk = place.open();
    for _ in 0..2 {
        assert_eq!(holder(&place), Some(Some(std::process::id())));
    }
    assert_eq!(mode(&place.of(LOCK_FILE)), 0o600);
    assert!(DiskStorage::open_read_only(&place.path).is_ok(), "who only looks needs no lock");
    drop(disk);
    assert_eq!(holder(&place), None);
}

#[test]
fn lock_goes_with_the_last_file_map_or_borrowed_bytes() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", 4096, Prepare::Small).unwrap();
    let region = Arc::new(file.map().unwrap().trust(64));
    let view = region.view(0..64).unwrap();
    drop(disk);
    assert!(holder(&place).is_some(), "a file is held");
    drop(file);
    assert!(holder(&place).is_some(), "a map is held");
    drop(region);
    assert!(holder(&place).is_some(), "bytes are borrowed");
    drop(view);
    assert!(holder(&place).is_none());
}

#[test]
fn lock_file_of_a_dead_process_blocks_nobody() {
    let place = Place::new();
    drop(place.open());
    std::fs::write(place.of(LOCK_FILE), b"999999\nand more than a process id").unwrap();
    let disk = place.open();
    assert_eq!(std::fs::read_to_string(place.of(LOCK_FILE)).unwrap(), format!("{}\n", std::process::id()));
    drop(disk);
}

#[test]
fn holder_that_can_not_be_read_is_still_a_holder() {
    let place = Place::new();
    let _disk = place.open();
    std::fs::write(place.of(LOCK_FILE), b"not a number").unwrap();
    assert_eq!(holder(&place), Some(None));
}

#[test]
fn who_looks_is_told_of_a_holder_that_lives() {
    let place = Place::new();
    let disk = place.open();
    let looking = DiskStorage::open_read_only(&place.path).unwrap();
    assert_eq!(looking.holder(), Some(std::process::id()));
    for text in ["", "not a number", "0", "-1", "2147483647", "99999999999"] {
        std::fs::write(place.of(LOCK_FILE), text).unwrap();
        assert_eq!(looking.holder(), None, "{text:?}");
    }
    drop(disk);
    std::fs::remove_file(place.of(LOCK_FILE)).unwrap();
    assert_eq!(looking.holder(), None);
}

#[test]
fn lock_that_is_no_regular_file_is_refused_and_nothing_behind_it_is_touched() {
    let place = Place::new();
    drop(place.open());
    std::fs::write(place.of("precious"), b"precious").unwrap();
    let refused = |place: &Place| matches!(DiskStorage::open(&place.path), Err(Error::Io { .. }));
    std::fs::remove_file(place.of(LOCK_FILE)).unwrap();
    symlink(place.of("precious"), place.of(LOCK_FILE)).unwrap();
    assert!(refused(&place), "a link");
    assert_eq!(std::fs::read(place.of("precious")).unwrap(), b"precious");
    std::fs::remove_file(place.of(LOCK_FILE)).unwrap();
    mknodat(CWD, place.of(LOCK_FILE), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(refused(&place), "a fifo");
    std::fs::remove_file(place.of(LOCK_FILE)).unwrap();
    std::fs::create_dir(place.of(LOCK_FILE)).unwrap();
    assert!(refused(&place), "a directory");
}
