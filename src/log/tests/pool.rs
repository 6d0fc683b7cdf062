//! The choice of a ready segment, and the logs of all lanes.

use super::super::append::Log;
use super::super::lanes::Lanes;
use super::super::ready::{Pool, Ready};
use crate::format::segment::file_name;
use crate::sim::SimDisk;
use crate::storage::{Prepare, Storage};
use crate::types::{LaneId, LogId};

fn pool(sizes: &[u64]) -> Pool {
    let disk = SimDisk::new(1);
    let mut pool = Pool::default();
    for (number, bytes) in (0..).zip(sizes) {
        let file = disk.create(&file_name(number), *bytes, Prepare::Small).unwrap();
        let region = file.map().unwrap();
        pool.put(Ready { number, bytes: *bytes, file, region });
    }
    pool
}

#[test]
fn best_fitting_segment_is_taken() {
    let sizes = [512, 4096, 1024, 1024, 256];
    let cases = [
        ("the wanted size", 1024, 100, Some(1024)),
        ("else the next larger", 600, 100, Some(1024)),
        ("the next larger, not the largest", 2000, 100, Some(4096)),
        ("the smallest that is as large as wanted", 1, 1, Some(256)),
        ("without one as large, the largest", 5000, 100, Some(4096)),
        ("never one that is too small for the need", 256, 300, Some(512)),
        ("a need above the wanted size", 256, 2000, Some(4096)),
        ("nothing that is too small", 256, 5000, None),
    ];
    for (what, wanted, needed, expected) in cases {
        let mut pool = pool(&sizes);
        assert_eq!(pool.take(wanted, needed).map(|ready| ready.bytes), expected, "{what}");
        assert_eq!(pool.len(), sizes.len() - usize::from(expected.is_some()));
    }
    assert!(pool(&[]).take(1, 1).is_none());
}

#[test]
fn pool_counts_what_it_holds() {
    let mut pool = pool(&[512, 1024, 1024]);
    assert_eq!((pool.count(1024), pool.count(512), pool.count(256)), (2, 1, 0));
    assert_eq!((pool.len(), pool.bytes()), (3, 2560));
    assert!(pool.has_at_least(1024) && !pool.has_at_least(1025));
    let taken = pool.take(1024, 0).unwrap();
    assert_eq!((pool.count(1024), pool.bytes()), (1, 1536));
    pool.put(taken);
    assert_eq!(pool.count(1024), 2);
}

#[test]
fn lane_has_a_log_from_its_first_use_on() {
    let lanes = Lanes::new(256);
    assert_eq!((lanes.count(), lanes.all().count()), (256, 0));
    assert!(lanes.log(LaneId(3)).is_none() && lanes.started().is_empty());
    for lane in [LaneId(255), LaneId(3), LaneId(64)] {
        let mut made = 0;
        for _ in 0..2 {
            lanes.start(lane, || {
                made += 1;
                Log::new(LogId::from(lane), Vec::new(), 0)
            });
        }
        assert_eq!(made, 1, "once");
        assert_eq!(lanes.log(lane).unwrap().id(), LogId::from(lane));
    }
    let started: Vec<LaneId> = lanes.all().map(|(lane, _)| lane).collect();
    assert_eq!(started, [LaneId(3), LaneId(64), LaneId(255)], "most urgent first");
}

#[test]
fn lane_beyond_the_count_has_no_log() {
    let lanes = Lanes::new(2);
    assert!(lanes.start(LaneId(2), || panic!("made for nobody")).is_none());
    assert!(lanes.log(LaneId(2)).is_none() && lanes.log(LaneId(255)).is_none());
}

#[test]
fn smallest_goes_where_more_than_so_many_are_kept() {
    let mut pool = pool(&[8192, 4096, 16384]);
    assert_eq!(pool.smallest(), Some(4096));
    assert!(pool.take_smallest_beyond(3).is_none(), "three are kept");
    assert_eq!(pool.take_smallest_beyond(2).map(|ready| ready.bytes), Some(4096));
    assert_eq!((pool.len(), pool.smallest()), (2, Some(8192)));
}
