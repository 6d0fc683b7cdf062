//! Maps of real files: the same bytes as the file, synced through the handle that mapped them.

use std::io::ErrorKind;

use super::super::DiskStorage;
use super::{Place, meddle};
use crate::storage::{File, Frontier, Medium, Prepare, Storage};
use crate::types::{ExtentState, ExtentWord};

const BYTES: u64 = 1 << 16;

fn word(bytes: u32, state: ExtentState) -> ExtentWord {
    ExtentWord::new(bytes, state, 7)
}

/// Publishes an extent of `bytes` bytes that are all `byte` behind its first word.
fn publish(frontier: &mut Frontier, bytes: u32, byte: u8) {
    let mut claim = frontier.claim(word(bytes, ExtentState::Claimed), usize::MAX).unwrap();
    claim.write(8, &vec![byte; bytes as usize - 8]);
    claim.publish(word(bytes, ExtentState::Published)).expect("the map is whole");
    frontier.region().advance();
}

fn read(file: &dyn File, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    file.read_at(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn map_and_file_are_the_same_bytes() {
    for prepare in [Prepare::Small, Prepare::Large, Prepare::Rare] {
        let place = Place::new();
        let disk = place.open();
        let file = disk.create("f", BYTES, prepare).unwrap();
        let mut frontier = file.map().unwrap().begin(&[1; 512]);
        assert_eq!(frontier.region().bytes() as u64, BYTES);
        publish(&mut frontier, 4096, 9);
        assert_eq!(read(&*file, 0, 512), [1; 512], "{prepare:?}");
        assert_eq!(read(&*file, 520, 4088), [9; 4088]);
        assert_eq!(read(&*disk.open("f").unwrap(), 520, 8), [9; 8], "through another handle too");
        file.write_at(BYTES - 8, &[5; 8]).unwrap();
        let region = file.map().unwrap().trust(usize::MAX);
        let end = region.bytes();
        assert_eq!(region.slice(end - 8..end), Some(&[5; 8][..]), "and what is written is in the map");
    }
}

#[test]
fn bytes_of_a_map_outlive_it() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", BYTES, Prepare::Small).unwrap();
    let mut frontier = file.map().unwrap().begin(&[1; 512]);
    publish(&mut frontier, 64, 3);
    file.sync_range(0..576).unwrap();
    drop((frontier, file, disk));
    let again = place.open();
    let region = again.open("f").unwrap().map().unwrap().trust(576);
    assert_eq!(region.slice(520..576), Some(&[3; 56][..]));
}

#[test]
fn range_is_synced_whether_the_file_is_mapped_or_not() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", BYTES, Prepare::Small).unwrap();
    let inside = [0..1, 0..BYTES, 4095..4097, 100..100, BYTES - 1..BYTES, BYTES..BYTES];
    let beyond = [0..BYTES + 1, BYTES - 1..u64::MAX, u64::MAX..u64::MAX];
    let sync_all = |what: &str| {
        for range in &inside {
            assert!(file.sync_range(range.clone()).is_ok(), "{what}, {range:?}");
        }
        for range in &beyond {
            let error = file.sync_range(range.clone()).expect_err("there is no such range");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{what}, {range:?}");
        }
    };
    sync_all("before it was mapped");
    let mut frontier = file.map().unwrap().begin(&[1; 512]);
    publish(&mut frontier, 8192, 4);
    sync_all("mapped");
    let later = file.map().unwrap();
    drop(frontier);
    sync_all("mapped a second time, the first map gone");
    drop(later);
    sync_all("no longer mapped");
    assert_eq!(read(&*file, 520, 8), [4; 8]);
}

#[test]
fn dirty_page_is_clean_after_its_range_was_synced() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", BYTES, Prepare::Small).unwrap();
    let mut frontier = file.map().unwrap().begin(&[1; 512]);
    publish(&mut frontier, 40_000, 4);
    let dirty = || dirty_kib(&place.of("f").to_string_lossy());
    let before = dirty();
    file.sync_range(0..8192).unwrap();
    let between = dirty();
    file.sync_range(0..BYTES).unwrap();
    // Memory is always dirty, and a kernel may tell nothing of it; then there is nothing to compare.
    if let (Medium::Local, Some(before), Some(between), Some(after)) = (disk.medium(), before, between, dirty())
        && before > 0
    {
        assert!(between < before, "{before} KiB were dirty, then {between}");
        assert_eq!(after, 0);
    }
}

/// KiB of a mapped file that the process dirtied and that were not written back, as the kernel counts them.
fn dirty_kib(path: &str) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let of_file = maps.lines().skip_while(|line| !line.ends_with(path));
    let mut fields = of_file.filter(|line| line.contains("_Dirty:")).take(2);
    let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    Some(kib(fields.next()?)? + kib(fields.next()?)?)
}

#[test]
fn pages_are_read_in_and_what_is_gone_is_an_error_and_no_signal() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", BYTES, Prepare::Small).unwrap();
    let region = file.map().unwrap();
    let end = region.bytes();
    for range in [0..end, 1..2, end - 1..end, 0..0, end..end + 10, 0..usize::MAX] {
        assert!(region.check_readable(&*file, range.clone()).is_ok(), "{range:?}");
    }
    assert!(region.populate_write(0..usize::MAX).is_ok());
    // Behind the engine's back: nobody in the process cuts a mapped file.
    meddle(&place.of("f")).set_len(4096).unwrap();
    assert!(region.check_readable(&*file, 0..4096).is_ok(), "what is left");
    assert!(region.check_readable(&*file, 0..end).is_err(), "what is gone");
    assert!(region.check_readable(&*file, end - 1..end).is_err());
    assert!(region.populate_write(0..usize::MAX).is_err());
    assert!(
        file.sync_range(0..4096).is_ok() && file.sync_range(0..BYTES).is_err(),
        "nothing was synced of what is gone"
    );
}

#[test]
fn map_of_who_only_looks_changes_no_file() {
    let place = Place::new();
    drop(place.open().create("f", BYTES, Prepare::Small).unwrap());
    let looking = DiskStorage::open_read_only(&place.path).unwrap();
    let file = looking.open("f").unwrap();
    let frontier = file.map().unwrap().begin(&[1; 512]);
    assert_eq!(frontier.region().slice(0..512), Some(&[1; 512][..]));
    assert_eq!(read(&*file, 0, 512), [0; 512]);
}

#[test]
fn file_of_nothing_has_no_map() {
    let place = Place::new();
    let file = place.open().create("f", 0, Prepare::Small).unwrap();
    assert!(file.map().is_err() || file.map().unwrap().bytes() == 0);
}
