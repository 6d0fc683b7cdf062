//! Pages of runs.

use super::super::far::{FarEntry, page_bytes, put_page, read_page};
use crate::types::Seq;

fn entries(count: u64) -> Vec<FarEntry> {
    let entry = |number: u64| FarEntry { key: number * 3, fire_ms: number << 40, seq: Seq(!number), offset: 64 };
    (0..count).map(entry).collect()
}

#[test]
fn a_page_comes_back_as_it_was_written_and_for_what_it_was_written() {
    for count in 1..=5 {
        let entries = entries(count);
        let bytes = put_page(Vec::new(), 7, 2, 5, &entries);
        assert_eq!(bytes.len(), page_bytes(5));
        assert_eq!(read_page(&bytes, 7, 2), Some(entries));
        assert_eq!((read_page(&bytes, 8, 2), read_page(&bytes, 7, 3)), (None, None), "another run's, another page");
    }
    let two = put_page(put_page(Vec::new(), 7, 0, 3, &entries(3)), 7, 1, 3, &entries(2));
    assert_eq!(read_page(&two[page_bytes(3)..], 7, 1), Some(entries(2)), "pages lie one behind the other");
    assert_eq!(page_bytes(146), 4096);
}

#[test]
fn a_page_with_a_flipped_bit_or_cut_short_is_none_and_so_are_zeros() {
    let bytes = put_page(Vec::new(), 7, 2, 5, &entries(5));
    for bit in 0..bytes.len() * 8 {
        let mut hurt = bytes.clone();
        hurt[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_page(&hurt, 7, 2), None, "bit {bit}");
    }
    for end in 0..bytes.len() {
        assert_eq!(read_page(&bytes[..end], 7, 2), None, "{end} bytes");
    }
    assert_eq!(read_page(&[0; 4096], 0, 0), None);
}

#[test]
fn page_is_as_its_table_says() {
    let one = FarEntry { key: 1, fire_ms: 2, seq: Seq(3), offset: 4 };
    let bytes = put_page(Vec::new(), 9, 0, 2, &[one]);
    let rest: Vec<u8> = [&1_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &2_u64.to_le_bytes(), &3_u64.to_le_bytes()]
        .concat()
        .into_iter()
        .chain(4_u32.to_le_bytes())
        .collect();
    let check = super::naive_crc(0, &[&9_u64.to_le_bytes()[..], &0_u32.to_le_bytes(), &rest].concat());
    assert_eq!(bytes[..4], check.to_le_bytes());
    assert_eq!(bytes[4..36], rest[..]);
    assert!(bytes[36..].iter().all(|byte| *byte == 0));
}
