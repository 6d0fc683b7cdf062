//! Flipped bits, unreadable sectors and hostile bytes.

use super::*;
use crate::checkpoint::BlobRef;
use crate::error::DamageKind;
use crate::format::checkpoint::{BLOBS_AT, COPY_BYTES, Root, RootCopy, SLOT_BYTES, UNIT_BYTES, encode_entries};

/// Two checkpoints; the newer one lies in slot B.
fn two() -> (Arc<Disk>, Twin, Twin) {
    let (disk, mut store) = fresh();
    let first = Twin::default().after(b"first", &put(1, b"one"));
    store.commit(b"first", put(1, b"one")).unwrap();
    let second = first.after(b"second", &put(2, b"two"));
    store.commit(b"second", put(2, b"two")).unwrap();
    (disk, first, second)
}

fn slot_at(slot: u64) -> u64 {
    slot * SLOT_BYTES as u64
}

#[test]
fn any_flipped_bit_in_a_root_is_told_and_costs_nothing() {
    let (disk, first, second) = two();
    let root_bits = 8 * (40 + 6 + 32 + 4);
    for (slot, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let bits = if slot == 0 { root_bits - 8 } else { root_bits };
        let at = slot_at(slot) + copy * COPY_BYTES as u64;
        for bit in 0..bits {
            disk.flip(8 * at + bit);
            let damage = load(&disk).unwrap().damage;
            assert_eq!(damage.len(), 1, "slot {slot}, copy {copy}, bit {bit}");
            assert_eq!((damage[0].offset, damage[0].kind, damage[0].is_lost), (at, DamageKind::Corrupt, false));
            assert_eq!((&newest(&disk).1, &older(&disk).1), (&second, &first), "slot {slot}, copy {copy}, bit {bit}");
            disk.flip(8 * at + bit);
        }
    }
}

#[test]
fn root_of_which_no_copy_verifies_is_told_as_torn_and_the_other_root_stays() {
    for slot in 0..2 {
        let (disk, first, second) = two();
        for copy in 0..2 {
            disk.overwrite(slot_at(slot) + copy * COPY_BYTES as u64 + 30, &[0xee; 9]);
        }
        let loaded = load(&disk).unwrap();
        assert_eq!(loaded.damage.len(), 1);
        assert_eq!((loaded.damage[0].kind, loaded.damage[0].is_lost), (DamageKind::Torn, true));
        assert!(loaded.older.is_none());
        assert_eq!(newest(&disk).1, if slot == 0 { second } else { first });
    }
}

#[test]
fn crash_between_the_copies_of_a_root_leaves_the_newer_and_is_no_damage() {
    let (disk, _, second) = two();
    let old = disk.live()[SLOT_BYTES + COPY_BYTES..2 * SLOT_BYTES].to_vec();
    let (mut store, _) = newest(&disk);
    let third = second.after(b"third", &put(3, b"three"));
    store.commit(b"third", put(3, b"three")).unwrap();
    let fourth = third.after(b"fourth", &put(4, b"four"));
    store.commit(b"fourth", put(4, b"four")).unwrap();
    disk.overwrite(slot_at(1) + COPY_BYTES as u64, &old);
    let loaded = load(&disk).unwrap();
    assert_eq!(loaded.damage, []);
    assert_eq!((newest(&disk).1, older(&disk).1), (fourth, third));
}

#[test]
fn any_flipped_bit_in_a_blob_or_an_index_chunk_is_noticed_and_never_takes_both_roots() {
    let (disk, first, second) = two();
    let in_use: Vec<u64> =
        disk.live().iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at as u64).collect();
    for at in in_use.into_iter().filter(|at| *at >= BLOBS_AT) {
        disk.flip(8 * at + at % 8);
        let loaded = load(&disk).unwrap();
        let roots: Vec<_> = [loaded.newest, loaded.older].into_iter().flatten().collect();
        let whole: Vec<Twin> = roots.iter().filter_map(|(store, meta)| Twin::of(store, meta)).collect();
        assert!(whole.iter().all(|twin| *twin == first || *twin == second), "byte {at}");
        assert!(!whole.is_empty(), "byte {at}: what both share stands twice");
        let is_bad = |store: &Store, key| store.get(key).map_or(true, |value| value.bad_copy.is_some());
        let seen = roots.iter().any(|(store, _)| store.keys().any(|key| is_bad(store, key)));
        assert!(seen || !loaded.damage.is_empty(), "byte {at}: it is noticed");
        disk.flip(8 * at + at % 8);
    }
}

#[test]
fn damaged_blob_is_named_by_place_and_size() {
    let (disk, mut store) = fresh();
    store.commit(b"", put(2, &[7; 1000])).unwrap();
    disk.flip(8 * (BLOBS_AT + 999));
    let found = store.get(key(2));
    assert!(matches!(found, Err(BlobError::Damaged { offset: BLOBS_AT, bytes: 1000 })), "{found:?}");
}

#[test]
fn blob_that_stands_twice_is_read_from_the_copy_that_verifies_and_the_other_is_named() {
    for (flipped, bad_copy) in [(999, BLOBS_AT), (1024 + 999, BLOBS_AT + 1024)] {
        let (disk, mut store) = fresh();
        store.commit(b"", put(1, &[7; 1000])).unwrap();
        disk.flip(8 * (BLOBS_AT + flipped));
        let value = store.get(key(1)).unwrap();
        assert_eq!(value.bytes, [7; 1000]);
        assert_eq!(value.bad_copy, Some(bad_copy));
    }
}

#[test]
fn going_on_from_the_older_root_overwrites_the_damaged_newer_one_above_both_generations() {
    let (disk, first, _) = two();
    let (mut store, found) = older(&disk);
    assert_eq!(found, first);
    let third = first.after(b"third", &put(3, b"three"));
    store.commit(b"third", put(3, b"three")).unwrap();
    assert_eq!(store.generation, 3);
    assert_eq!(newest(&disk).1, third);
    assert_eq!(older(&disk).1, first);
}

#[test]
fn going_on_from_the_older_root_survives_a_power_loss_at_any_step() {
    for calls in 0..20 {
        for seed in 0..40 {
            let (disk, first, second) = two();
            let (mut store, _) = older(&disk);
            let third = first.after(b"third", &put(3, b"three"));
            disk.cut_power_after(calls);
            let done = store.commit(b"third", put(3, b"three")).is_ok();
            let disk = disk.after_power_loss(&mut Random(seed));
            let loaded = load(&disk).unwrap();
            let roots = [loaded.newest, loaded.older].into_iter().flatten();
            let found = roots.filter_map(|(store, meta)| Twin::of(&store, &meta)).next().unwrap();
            assert!(found == third || (!done && (found == first || found == second)), "{calls} calls, seed {seed}");
        }
    }
}

#[test]
fn unreadable_slot_leaves_the_other_root_and_two_are_an_error() {
    let (disk, first, _) = two();
    disk.make_unreadable(slot_at(1)..slot_at(2));
    assert_eq!(newest(&disk).1, first);
    assert_eq!(load(&disk).unwrap().damage.len(), 1);
    disk.make_unreadable(0..slot_at(1));
    assert!(load(&disk).is_err(), "nothing is concluded from what could not be read");
}

#[test]
fn unknown_version_is_told_and_not_taken_for_damage() {
    let (disk, ..) = two();
    let mut root = disk.live()[SLOT_BYTES..SLOT_BYTES + COPY_BYTES].to_vec();
    root[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let bytes = u32::from_le_bytes(root[12..16].try_into().unwrap()) as usize;
    let check = crc32fast::hash(&root[..bytes - 4]);
    root[bytes - 4..bytes].copy_from_slice(&check.to_le_bytes());
    disk.overwrite(slot_at(1), &root);
    disk.overwrite(slot_at(1) + COPY_BYTES as u64, &root);
    let loaded = load(&disk).unwrap();
    assert_eq!(loaded.version, Some(9));
    assert!(loaded.damage.is_empty());
}

/// A disk whose slot A holds a root that verifies, over index chunks that verify, and says what it is told.
fn forged(generation: u64, firsts: &[Key], chunks: &[Vec<(Key, BlobRef)>]) -> Arc<Disk> {
    let disk = Disk::zeroed(Store::FILE_BYTES_MIN);
    let mut listed = Vec::new();
    for (at, (first, entries)) in firsts.iter().zip(chunks).enumerate() {
        let bytes = encode_entries(entries.iter().copied());
        let unit = u32::try_from(100 + 10 * at).unwrap();
        disk.overwrite(BLOBS_AT + u64::from(unit) * UNIT_BYTES, &bytes);
        let blob =
            BlobRef { unit, copies: 1, bytes: u32::try_from(bytes.len()).unwrap(), check: crc32fast::hash(&bytes) };
        listed.push((*first, blob));
    }
    let root = Root { queue: QUEUE, generation, meta: Vec::new(), chunks: listed };
    disk.overwrite(0, &root.encode().unwrap());
    disk
}

fn blob(unit: u32, bytes: u32) -> BlobRef {
    BlobRef { unit, copies: 1, bytes, check: 0 }
}

#[test]
fn roots_that_verify_and_contradict_themselves_are_refused() {
    let (a, b) = (Key { kind: 1, a: 0, b: 0, c: 0 }, Key { kind: 2, a: 0, b: 0, c: 0 });
    let one = |blob| vec![(a, blob)];
    let whole = load(&forged(1, &[a, b], &[one(blob(0, 600)), vec![(b, blob(2, 1))]])).unwrap();
    assert!(whole.newest.is_some(), "the forger's tools are right");
    let cases = [
        ("a blob beyond the file", forged(1, &[a], &[one(blob(1 << 20, 1))])),
        ("a blob that ends beyond the file", forged(1, &[a], &[one(blob(500, u32::MAX))])),
        ("a place that overflows", forged(1, &[a], &[one(blob(u32::MAX, u32::MAX))])),
        ("two blobs in one place", forged(1, &[a], &[vec![(a, blob(0, 600)), (b, blob(1, 9))]])),
        ("a blob over an index chunk", forged(1, &[a], &[one(blob(100, 5))])),
        ("an index chunk without entries", forged(1, &[a], &[Vec::new()])),
        ("an index chunk under another first key", forged(1, &[b], &[one(blob(0, 1))])),
        (
            "index chunks that overlap in keys",
            forged(1, &[a, b], &[vec![(a, blob(0, 1)), (b, blob(1, 1))], vec![(b, blob(2, 1))]]),
        ),
        ("generation zero", forged(0, &[a], &[one(blob(0, 1))])),
        ("a generation without a successor", forged(u64::MAX, &[a], &[one(blob(0, 1))])),
    ];
    for (what, disk) in cases {
        let loaded = load(&disk).unwrap();
        assert!(loaded.newest.is_none(), "{what}");
        assert_eq!(loaded.damage.len(), 1, "{what}");
    }
}

#[test]
fn root_that_reaches_beyond_its_checked_bytes_is_refused() {
    let mut slot = Root { queue: QUEUE, generation: 1, meta: vec![1; 8], chunks: Vec::new() }.encode().unwrap();
    slot[32..36].copy_from_slice(&20_u32.to_le_bytes());
    let end = slot.len() - 4;
    let check = crc32fast::hash(&slot[..end]);
    slot[end..].copy_from_slice(&check.to_le_bytes());
    slot.resize(COPY_BYTES, 0xee);
    assert_eq!(Root::decode(&slot), RootCopy::Invalid);
}

#[test]
fn two_roots_that_claim_the_same_place_are_not_both_used() {
    let a = Key { kind: 1, a: 0, b: 0, c: 0 };
    let disk = forged(1, &[a], &[vec![(a, blob(0, 2000))]]);
    let bytes = encode_entries([(a, blob(1, 3))].into_iter());
    disk.overwrite(BLOBS_AT + 200 * UNIT_BYTES, &bytes);
    let chunk = BlobRef { unit: 200, copies: 1, bytes: 32, check: crc32fast::hash(&bytes) };
    let root = Root { queue: QUEUE, generation: 2, meta: Vec::new(), chunks: vec![(a, chunk)] };
    disk.overwrite(slot_at(1), &root.encode().unwrap());
    let loaded = load(&disk).unwrap();
    assert_eq!(loaded.newest.unwrap().0.generation, 2);
    assert!(loaded.older.is_none());
    assert_eq!(loaded.damage[0].offset, 0);
}

#[test]
fn hostile_bytes_are_survived_whatever_they_say() {
    let (disk, ..) = two();
    let whole = disk.live();
    for seed in 0..1000 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for copy in 0..4 {
            let at = copy * COPY_BYTES;
            for _ in 0..random.below(4) {
                let field = at + usize::try_from(random.below(82)).unwrap();
                bytes[field] = random.bytes(1)[0];
            }
            // A forger computes checksums too.
            let count = u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
            if (4..=COPY_BYTES).contains(&count) {
                let check = crc32fast::hash(&bytes[at..at + count - 4]);
                bytes[at + count - 4..at + count].copy_from_slice(&check.to_le_bytes());
            }
        }
        bytes.truncate(usize::try_from(random.below(2 * bytes.len() as u64)).unwrap().max(1));
        let disk = Disk::holding(bytes);
        let Ok(loaded) = load(&disk) else { continue };
        for (mut store, meta) in [loaded.newest, loaded.older].into_iter().flatten() {
            Twin::of(&store, &meta);
            let _outcome = store.commit(b"on", put(5, b"five"));
        }
    }
}
