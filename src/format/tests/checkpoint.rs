//! Roots and entries of the checkpoint file.

use super::super::checkpoint::{COPY_BYTES, ENTRY_BYTES, Root, RootCopy, decode_entries, encode_entries};
use super::{each_flip, each_harm, with_check};
use crate::checkpoint::{BlobRef, Key};
use crate::types::QueueId;

const HEAD_BYTES: usize = 40;

fn key(b: u64) -> Key {
    Key { kind: 3, a: 7, b, c: 1 }
}

fn blob(unit: u32) -> BlobRef {
    BlobRef { unit, copies: 1, bytes: 1000 + unit, check: 0xABCD_0000 | unit }
}

fn root(meta: usize, chunks: u32) -> Root {
    Root {
        queue: QueueId(0xFEED),
        generation: 5,
        meta: super::pattern(meta),
        chunks: (0..chunks).map(|at| (key(u64::from(at)), blob(at))).collect(),
    }
}

fn in_copy(mut root: Vec<u8>) -> Vec<u8> {
    root.resize(COPY_BYTES, 0);
    root
}

/// A root of which one field was changed before it was checked again, in its copy.
fn forged(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = root(8, 2).encode().unwrap();
    bytes[at..at + value.len()].copy_from_slice(value);
    in_copy(with_check(bytes))
}

#[test]
fn root_comes_back_from_its_copy_whatever_an_older_one_left_behind_it() {
    for (meta, chunks) in [(0, 0), (1, 0), (0, 1), (112, 7), (1000, 1000)] {
        let root = root(meta, chunks);
        let bytes = root.encode().unwrap();
        assert_eq!(Root::decode(&bytes), RootCopy::Valid(root.clone()), "cut to its length");
        let mut copy = vec![0xEE; COPY_BYTES];
        copy[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(Root::decode(&copy), RootCopy::Valid(root), "{meta} bytes of meta, {chunks} chunks");
    }
}

#[test]
fn root_fills_its_copy_to_the_last_byte_and_not_beyond() {
    let room = COPY_BYTES - HEAD_BYTES - 4;
    let full = root(room, 0);
    let bytes = full.encode().unwrap();
    assert_eq!((bytes.len(), Root::decode(&bytes)), (COPY_BYTES, RootCopy::Valid(full)));
    assert_eq!(root(room + 1, 0).encode(), None);
    let chunks = u32::try_from(room / ENTRY_BYTES).unwrap();
    assert!(root(0, chunks).encode().is_some() && root(0, chunks + 1).encode().is_none());
}

#[test]
fn any_flipped_bit_of_a_root_is_noticed() {
    each_flip(&root(20, 3).encode().unwrap(), |bit, bytes| {
        assert_eq!(Root::decode(bytes), RootCopy::Invalid, "bit {bit}");
    });
}

#[test]
fn copy_without_a_root_is_blank_and_a_broken_one_invalid() {
    assert_eq!(Root::decode(&[0; COPY_BYTES]), RootCopy::Blank);
    assert_eq!(Root::decode(&[]), RootCopy::Blank);
    let bytes = root(20, 3).encode().unwrap();
    for end in 1..bytes.len() {
        assert_eq!(Root::decode(&bytes[..end]), RootCopy::Invalid, "cut at {end}");
    }
    each_harm(&bytes, |harmed| assert!(harmed == bytes || !matches!(Root::decode(harmed), RootCopy::Valid(_))));
}

#[test]
fn root_of_another_version_is_told_only_if_it_verifies() {
    assert_eq!(Root::decode(&forged(8, &2_u32.to_le_bytes())), RootCopy::Version(2));
    let mut torn = forged(8, &2_u32.to_le_bytes());
    torn[41] ^= 1;
    assert_eq!(Root::decode(&torn), RootCopy::Invalid);
}

#[test]
fn root_that_verifies_and_lies_is_refused() {
    let bytes = u32::try_from(root(8, 2).encode().unwrap().len()).unwrap();
    assert!(matches!(Root::decode(&forged(16, &[1])), RootCopy::Valid(_)), "the forger's tools are right");
    let cases: [(&str, usize, Vec<u8>); 10] = [
        ("another magic", 0, b"LANEROOF".to_vec()),
        ("generation zero", 24, 0_u64.to_le_bytes().to_vec()),
        ("a generation beyond the last", 24, ((1_u64 << 62) + 1).to_le_bytes().to_vec()),
        ("more meta than there is", 32, 9_u32.to_le_bytes().to_vec()),
        ("meta beyond everything", 32, u32::MAX.to_le_bytes().to_vec()),
        ("less meta than there is", 32, 7_u32.to_le_bytes().to_vec()),
        ("more chunks than there are", 36, 3_u32.to_le_bytes().to_vec()),
        ("fewer chunks than there are", 36, 1_u32.to_le_bytes().to_vec()),
        ("chunks that overflow", 36, u32::MAX.to_le_bytes().to_vec()),
        ("a key that is not above the one before", 40 + 8 + 32 + 8, 0_u64.to_le_bytes().to_vec()),
    ];
    for (what, at, value) in cases {
        assert_eq!(Root::decode(&forged(at, &value)), RootCopy::Invalid, "{what}");
    }
    for length in [0, 3, 4, 39, bytes - 1, bytes + 1, 262_144, 262_145, u32::MAX] {
        let mut copy = in_copy(root(8, 2).encode().unwrap());
        copy[12..16].copy_from_slice(&length.to_le_bytes());
        if let Some(end) = usize::try_from(length).ok().filter(|end| (4..=COPY_BYTES).contains(end)) {
            let check = crc32fast::hash(&copy[..end - 4]);
            copy[end - 4..end].copy_from_slice(&check.to_le_bytes());
        }
        assert_eq!(Root::decode(&copy), RootCopy::Invalid, "{length} bytes instead of {bytes}");
    }
}

#[test]
fn last_generation_is_a_generation() {
    for generation in [1, 1 << 62] {
        let root = Root { generation, ..root(0, 0) };
        assert_eq!(Root::decode(&root.encode().unwrap()), RootCopy::Valid(root));
    }
}

#[test]
fn entries_come_back_if_they_are_whole_and_in_order() {
    let entries: Vec<_> = (0..5).map(|at| (key(u64::from(at) * 1000), blob(at))).collect();
    let bytes = encode_entries(entries.iter().copied());
    assert_eq!(decode_entries(&bytes), Some(entries.clone()));
    assert_eq!(decode_entries(&[]), Some(Vec::new()));
    for end in (0..bytes.len()).filter(|end| !end.is_multiple_of(ENTRY_BYTES)) {
        assert_eq!(decode_entries(&bytes[..end]), None, "cut at {end}");
    }
    let swapped = encode_entries([entries[1], entries[0]].into_iter());
    let doubled = encode_entries([entries[0], entries[0]].into_iter());
    assert_eq!((decode_entries(&swapped), decode_entries(&doubled)), (None, None));
}

#[test]
fn keys_are_ordered_by_kind_then_numbers() {
    let key = |kind, a, b, c| Key { kind, a, b, c };
    let ordered = [key(1, 9, 9, 9), key(2, 0, 9, 9), key(2, 1, 0, 9), key(2, 1, 1, 0), key(2, 1, 1, 1)];
    let bytes = encode_entries(ordered.into_iter().zip((0..).map(blob)));
    let keys = decode_entries(&bytes).map(|entries| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
    assert_eq!(keys.as_deref(), Some(&ordered[..]));
}
