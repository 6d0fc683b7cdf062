//! Dedup ids: pages, fingerprints, and the order in a task's fields.

use super::super::dedup::{
    Once, PAGE_BYTES, PAGE_ENTRIES, UNTIL_SETTLED, decode_order, decode_page, decode_pages, encode_order, encode_pages,
    fingerprint,
};
use super::super::fields::{DedupTrait, Traits, encode_headers, set_dedup_order};
use super::{each_flip, each_harm};
use crate::types::{LaneId, QueueId, Seq, Timestamp};

pub(super) fn entries(count: u64) -> Vec<(u128, Once)> {
    let once = |n: u64| Once {
        lane: LaneId(3),
        seq: Seq(100 + n),
        ends: if n.is_multiple_of(2) { UNTIL_SETTLED } else { Timestamp(n) },
    };
    (1..=count).map(|n| (u128::from(n) << 64 | 5, once(n))).collect()
}

#[test]
fn pages_come_back_and_each_can_be_read_alone() {
    for count in [0, 1, 14, 15, 16, 30, 31] {
        let all = entries(count);
        let pages = encode_pages(&all);
        assert_eq!(pages.len(), all.len().div_ceil(PAGE_ENTRIES) * PAGE_BYTES);
        assert_eq!(decode_pages(&pages), Some(all.clone()));
        for (page, chunk) in pages.chunks(PAGE_BYTES).zip(all.chunks(PAGE_ENTRIES)) {
            assert_eq!(decode_page(page).as_deref(), Some(chunk));
        }
    }
}

#[test]
fn a_page_is_as_its_table_says() {
    let page = encode_pages(&[(7 << 64 | 9, Once { lane: LaneId(3), seq: Seq(5), ends: Timestamp(6) })]);
    let expected = [&1_u32.to_le_bytes()[..], &[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(page[4..24], expected);
    assert_eq!(page[24..41], [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert!(page[41..].iter().all(|byte| *byte == 0));
    assert_eq!(page[..4], super::naive_crc(0, &page[4..]).to_le_bytes());
}

#[test]
fn every_flipped_bit_of_a_page_is_noticed_and_hostile_pages_are_survived() {
    let page = encode_pages(&entries(3));
    each_flip(&page, |bit, changed| assert_eq!(decode_page(changed), None, "bit {bit}"));
    each_harm(&page, |changed| drop(decode_pages(changed)));
}

#[test]
fn slices_that_differ_have_checks_that_differ() {
    let (one, other) = (encode_pages(&entries(1)), encode_pages(&entries(2)));
    assert_ne!(crc32fast::hash(&one), crc32fast::hash(&other), "a checkpoint tells by them what changed");
}

#[test]
fn pages_in_the_wrong_order_and_pages_that_are_not_full_are_refused() {
    let pages = encode_pages(&entries(30));
    let (first, second) = pages.split_at(PAGE_BYTES);
    assert_eq!(decode_pages(&[second, first].concat()), None);
    assert_eq!(decode_pages(&[&encode_pages(&entries(3)), second].concat()), None);
    assert_eq!(decode_page(&[0; PAGE_BYTES]), None);
}

#[test]
fn a_fingerprint_stays_and_is_the_queues_own() {
    let id = fingerprint(QueueId(1), b"order 17");
    assert_eq!(id, fingerprint(QueueId(1), b"order 17"));
    assert_eq!(id, 0x0EE6_23E6_5B24_5300_F8B3_58B9_FD9D_E6CB, "on disk: it must never change");
    assert_ne!(id, fingerprint(QueueId(2), b"order 17"));
    assert_ne!(id, fingerprint(QueueId(1), b"order 18"));
}

#[test]
fn the_order_is_stored_in_the_fields_of_a_task_once_it_is_known() {
    let dedup = DedupTrait { fingerprint: 7, ends: Timestamp(8), order: 0 };
    let traits = Traits { run_at: Some(Timestamp(1)), dedup: Some(dedup), max_attempts: Some(2), ..Traits::default() };
    let mut fields = Vec::new();
    traits.encode(&mut fields);
    encode_headers(&mut fields, &[("trace", b"abc")]).unwrap();
    set_dedup_order(&mut fields, 99);
    assert_eq!(Traits::decode(&fields), Traits { dedup: Some(DedupTrait { order: 99, ..dedup }), ..traits });
    assert_eq!(decode_order(&encode_order(99)), Some(99));
    assert_eq!(decode_order(&encode_order(u64::MAX)), None);
    each_harm(&fields, |changed| set_dedup_order(&mut changed.to_vec(), 5));
}
