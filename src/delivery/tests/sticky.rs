//! Buckets and their owners.

use super::super::keys::{KeyHash, Spot};
use super::super::sticky::{BUCKETS, Sticky, bucket_of};
use super::super::workers::WorkerId;
use crate::types::{LaneId, Seq};

const LANE: LaneId = LaneId(0);

fn worker(number: u64) -> WorkerId {
    WorkerId::of_consumer(1 << 63 | number).unwrap()
}

fn key(bucket: usize) -> KeyHash {
    KeyHash((bucket as u64) << 56 | 77)
}

fn owners(sticky: &Sticky, workers: &[WorkerId]) -> Vec<Option<WorkerId>> {
    let owner = |bucket| workers.iter().copied().find(|worker| sticky.may(Some(*worker), key(bucket)));
    (0..BUCKETS).map(owner).collect()
}

#[test]
fn every_bucket_is_somebodys_and_only_a_share_of_them_moves() {
    let workers: Vec<WorkerId> = (1..=8).map(|number| worker(number * 1000)).collect();
    let mut sticky = Sticky::new();
    assert!(owners(&sticky, &workers).iter().all(Option::is_none), "without workers a bucket is nobody's");
    for count in 1..workers.len() {
        sticky.share(&workers[..count]);
        let before = owners(&sticky, &workers);
        sticky.share(&workers[..=count]);
        let after = owners(&sticky, &workers);
        let joined = workers[count];
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == Some(joined)), "all that moves goes to the one that joined");
        let fair = BUCKETS / (count + 1);
        assert!((fair / 2..=fair * 2).contains(&moved.count()), "about its share");
        sticky.share(&workers[..count]);
        assert_eq!(owners(&sticky, &workers), before, "and goes back when that one leaves");
    }
}

#[test]
fn a_bucket_on_loan_is_nobodys_until_its_loans_are_over() {
    let (first, second) = (worker(5), worker(6));
    let mut sticky = Sticky::new();
    sticky.share(&[first]);
    (0..BUCKETS).for_each(|bucket| sticky.lent(key(bucket)));
    sticky.lent(key(3));
    sticky.share(&[second]);
    assert_eq!(owners(&sticky, &[first, second]), [None; BUCKETS]);
    sticky.returned(key(3));
    assert!(!sticky.may(Some(second), key(3)), "one of two loans is over");
    sticky.returned(key(3));
    assert!(sticky.may(Some(second), key(3)) && !sticky.may(Some(first), key(3)) && !sticky.may(None, key(3)));
    // It comes back before they are over: nothing has moved.
    sticky.share(&[first]);
    assert!(sticky.may(Some(first), key(4)));
}

#[test]
fn what_is_due_or_was_passed_over_is_found_by_its_owner_alone() {
    let (mine, other) = (Some(worker(5)), Some(worker(6)));
    let mut sticky = Sticky::new();
    sticky.share(&[worker(5)]);
    let spot = |index| Spot { base: 1, index, offset: 64 * index };
    sticky.put_due(key(9), LANE, Seq(40), 2);
    sticky.put_due(key(200), LANE, Seq(30), 1);
    sticky.wait(key(9), LANE, spot(8));
    sticky.wait(key(9), LANE, spot(6));
    sticky.wait(key(17), LANE, spot(7));
    assert_eq!((sticky.first_due(mine, LANE), sticky.first_due(other, LANE)), (Some((Seq(30), 1)), None));
    sticky.take_due(mine, LANE, Seq(30));
    assert_eq!(sticky.first_due(mine, LANE), Some((Seq(40), 2)));
    assert_eq!((sticky.first_waiting(mine, LANE), sticky.first_waiting(None, LANE)), (Some(spot(6)), None));
    assert!(!sticky.has_any(mine, LaneId(1)) && sticky.has_any(mine, LANE));
    assert!(sticky.waits_before(key(9), LANE, spot(7)) && !sticky.waits_before(key(9), LANE, spot(6)));
    assert_eq!(bucket_of(key(255)), 255);
}
