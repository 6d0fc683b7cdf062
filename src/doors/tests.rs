//! What the fuzzers found, and the seeds of those targets whose inputs no encoder writes.

use std::path::Path;

use super::{decode_checkpoint, decode_journal, decode_record, decode_segment, recover_directory, run_operations};
use crate::sim::Rng;

/// One file, one byte in it: file by number, sector that holds something, byte.
fn spot(file: u8, sector: u16, byte: u16) -> Vec<u8> {
    [&[file][..], &sector.to_le_bytes(), &byte.to_le_bytes()].concat()
}

/// A mutation that needs a spot.
fn at(what: u8, (file, sector, byte): (u8, u16, u16), more: &[u8]) -> Vec<u8> {
    [&[what][..], &spot(file, sector, byte), more].concat()
}

/// Each mutation, and what a crash or a careless hand would do.
fn mutations() -> Vec<(&'static str, Vec<u8>)> {
    let last_file = 250;
    vec![
        ("nothing", Vec::new()),
        ("flip", at(0, (1, 1, 20), &[3])),
        ("overwrite", at(1, (1, 1, 40), &[9, 1, 2, 3, 4, 5, 6, 7, 8, 9])),
        ("cut", at(2, (2, 1, 30), &[])),
        ("grow", vec![3, 2, 0, 4, 0]),
        ("copy", [&[4, 1, 2, 255, 1][..], &[1, 0, 0, 0], &[1, 0, 0, 0]].concat()),
        ("swap", vec![5, 1, 2]),
        ("rename", vec![6, 2, 20]),
        ("remove", vec![7, last_file]),
        ("double", vec![8, 1, 21]),
        ("zero", at(9, (0, 0, 0), &[255, 1])),
        ("number", at(10, (1, 0, 24), &[2])),
        ("no-checkpoint", vec![7, last_file, 7, last_file]),
    ]
}

/// The four moments with the mutations in turn, as they are and forged.
fn directory_seeds() -> Vec<(String, Vec<u8>)> {
    let named = |(number, (name, mutation)): (usize, (&str, Vec<u8>))| {
        let moment = u8::try_from(number % 4).unwrap();
        let input = |mode: u8| [&[mode | moment][..], &mutation].concat();
        [(format!("seed-{name}"), input(0)), (format!("seed-forged-{name}"), input(0x80))]
    };
    let all: Vec<_> = (0..4).map(|moment| (format!("seed-moment-{moment}"), vec![moment])).collect();
    all.into_iter().chain(mutations().into_iter().enumerate().flat_map(named)).collect()
}

/// Tapes long enough for a few stretches. What a tape means follows from how schedules are drawn, so none is written by
/// hand.
fn operation_seeds() -> Vec<(String, Vec<u8>)> {
    let tape = |seed: u64| {
        let mut rng = Rng::new(seed);
        (0..100 + 20 * seed).map(|_| rng.next().to_le_bytes()[0]).collect()
    };
    (0..12).map(|seed| (format!("seed-{seed}"), tape(seed))).collect()
}

#[test]
fn seeds_of_directories_and_operations_are_what_this_test_writes() {
    hold("directory", directory_seeds());
    hold("operations", operation_seeds());
}

fn hold(target: &str, seeds: Vec<(String, Vec<u8>)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    for (name, bytes) in seeds {
        let path = folder.join(name);
        if std::env::var_os("LANELOG_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let there = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(there == bytes, "{}: the seed changed; see the head of src/format/tests/seeds.rs", path.display());
    }
}

type Door = fn(&[u8]);

/// It asked for an index that no life has, at a place that no segment has: a record that was moved may have any index of its
/// life, and the door reckoned by its place alone.
#[test]
fn moved_record_beyond_any_segment_passes_its_door() {
    let place = [0x0D, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x6B, 0x4E, 0xF0, 0xAD];
    let (offset, shape) = ([0x0B, 0x17, 0x5A, 0xCE], [0xBA, 0xBA, 0xBA, 0xBA, 0xBA, 0xBA, 0xBA, 0xD1]);
    let payload = [0xC0, 0xCF, 0x6A, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x41, 0, 0, 0, 0xF6, 0xB3, 0xCF, 0x14];
    decode_record(&[&place[..], &offset, &shape, &payload].concat());
}

#[test]
fn every_seed_passes_its_door() {
    let doors: [(&str, Door); 6] = [
        ("record", decode_record),
        ("segment", decode_segment),
        ("checkpoint", decode_checkpoint),
        ("journal", decode_journal),
        ("directory", recover_directory),
        ("operations", run_operations),
    ];
    for (target, door) in doors {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let seeds =
            entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")));
        let taken = seeds.map(|path| door(&std::fs::read(path).unwrap())).count();
        assert!(taken > 0, "{target} has seeds");
    }
}
