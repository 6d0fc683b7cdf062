//! Acks at the edges of words and chunks, and what a checkpoint carries of them.

use std::collections::BTreeSet;

use super::super::record_bits::{CHUNK_BITS, Chunked, RecordBits};
use super::Rng;

const EDGES: [u32; 9] = [0, 1, 63, 64, CHUNK_BITS - 64, CHUNK_BITS - 1, CHUNK_BITS, CHUNK_BITS + 1, 3 * CHUNK_BITS - 1];

fn acked(indices: impl IntoIterator<Item = u32>) -> RecordBits {
    let mut acks = RecordBits::new();
    for index in indices {
        acks.set(index);
    }
    acks
}

#[test]
fn bits_that_are_forgotten_are_as_if_they_had_never_been_set() {
    let mut acks = RecordBits::new();
    for index in [0, 5, 63, 64, 200] {
        acks.set(index);
    }
    acks.take_dirty();
    acks.forget(64, u32::MAX);
    acks.forget(5, 6);
    assert_eq!((acks.count(), acks.take_dirty()), (2, vec![0]));
    assert!(acks.contains(0) && acks.contains(63) && !acks.contains(5) && !acks.contains(64) && !acks.contains(200));
    acks.forget(5, u32::MAX - 1);
    assert!(acks.set(63) && acks.count() == 2, "it can be set again");
}

#[test]
fn bit_at_an_edge_touches_itself_alone() {
    for edge in EDGES {
        let mut acks = acked([edge]);
        assert!(acks.contains(edge) && !acks.contains(edge + 1), "{edge}");
        assert!(edge == 0 || !acks.contains(edge - 1), "{edge}");
        assert_eq!((acks.next_unacked(edge), acks.count()), (edge + 1, 1));
        assert_eq!(acks.take_dirty(), [edge / CHUNK_BITS]);
        assert!(!acks.set(edge), "the second ack of a task is none");
        assert!(acks.take_dirty().is_empty(), "and no change either");
    }
}

#[test]
fn indices_never_touched_are_unacked() {
    let acks = acked(0..130);
    assert_eq!(acks.next_unacked(0), 130);
    assert_eq!(acks.next_unacked(5_000), 5_000);
    assert_eq!(acks.next_unacked(u32::MAX), u32::MAX);
    assert!(!acks.contains(u32::MAX));
    assert_eq!(acked(0..128).next_unacked(3), 128, "right behind the last word");
    assert_eq!(acked((0..64).chain([70])).next_unacked(10), 64, "a start in one word hides nothing of the next");
}

#[test]
fn checkpoint_of_the_changed_chunks_follows_every_change() {
    for seed in 0..40 {
        let mut rng = Rng(seed);
        let (mut acks, mut twin) = (RecordBits::new(), BTreeSet::new());
        let mut chunks: Vec<Vec<u8>> = vec![Vec::new(); 4];
        for _ in 0..20 {
            for _ in 0..rng.below(200) {
                let index = u32::try_from(rng.below(u64::from(CHUNK_BITS) * 4)).unwrap();
                acks.set(index);
                twin.insert(index);
            }
            for chunk in acks.take_dirty() {
                if rng.below(4) == 0 {
                    acks.mark_dirty(chunk);
                } else {
                    chunks[chunk as usize] = acks.chunk_bytes(chunk);
                }
            }
        }
        for chunk in acks.take_dirty() {
            chunks[chunk as usize] = acks.chunk_bytes(chunk);
        }
        let mut copy = RecordBits::new();
        for (chunk, bytes) in (0..).zip(&chunks) {
            assert!(bytes.len() <= 3_968 && bytes.last() != Some(&0), "within its bound and trimmed, seed {seed}");
            copy.load_chunk(chunk, bytes);
        }
        assert_eq!(copy.count() as usize, twin.len(), "seed {seed}");
        assert!(twin.iter().all(|index| copy.contains(*index)), "seed {seed}");
        assert!(copy.take_dirty().is_empty(), "what a checkpoint has is not a change, seed {seed}");
    }
}

#[test]
fn chunk_loaded_twice_counts_once() {
    let acks = acked([3, 70, 800]);
    let mut copy = acked([70]);
    for _ in 0..2 {
        copy.load_chunk(0, &acks.chunk_bytes(0));
    }
    assert_eq!(copy.count(), 3);
}

#[test]
fn bytes_beyond_a_chunk_are_ignored() {
    let mut acks = RecordBits::new();
    acks.load_chunk(0, &[0xFF; 5_000]);
    assert_eq!((acks.count(), acks.next_unacked(0)), (CHUNK_BITS, CHUNK_BITS));
}

#[test]
fn chunk_beyond_every_index_is_ignored() {
    let mut acks = RecordBits::new();
    for chunk in [u32::MAX / CHUNK_BITS + 1, u32::MAX] {
        acks.load_chunk(chunk, &[1]);
        assert!(acks.chunk_bytes(chunk).is_empty());
    }
    assert_eq!(acks.count(), 0);
}

#[test]
fn packed_bits_are_what_a_set_would_hold() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let (mut bits, mut twin) = (RecordBits::new(), BTreeSet::new());
        let reach = 1 + rng.below(200_000);
        let index = |rng: &mut Rng| u32::try_from(rng.below(reach)).unwrap();
        for _ in 0..30 {
            let (first, last) = (index(&mut rng), index(&mut rng));
            match rng.below(4) {
                0 => {
                    bits.forget(first, last);
                    twin.retain(|index| !(first..=last).contains(index));
                }
                1 if first <= last && rng.below(2) == 0 => {
                    bits.set_run(first, last);
                    twin.extend(first..=last);
                }
                1 => (first..=last).for_each(|index| assert_eq!(bits.set(index), twin.insert(index))),
                2 => assert_eq!(bits.set(first), twin.insert(first)),
                _ => {
                    bits.take_dirty();
                    bits.rest();
                    assert!(!bits.rest(), "once is enough");
                }
            }
            let from = index(&mut rng);
            assert_eq!(bits.contains(from), twin.contains(&from), "seed {seed}");
            assert_eq!(bits.next_unacked(from), (from..).find(|index| !twin.contains(index)).unwrap());
            assert_eq!(bits.next_set(from), twin.range(from..).next().copied());
            assert_eq!(bits.count() as usize, twin.len());
            let word =
                (0..64).filter(|bit| twin.contains(&(from / 64 * 64 + bit))).fold(0, |word, bit| word | 1 << bit);
            assert_eq!(bits.words().get(from as usize / 64).copied().unwrap_or(0), word);
        }
        assert!(bits.set_from(0).eq(twin.iter().copied()), "seed {seed}");
        let mut copy = RecordBits::new();
        (0..8).for_each(|chunk| copy.load_chunk(chunk, &bits.chunk_bytes(chunk)));
        assert!(copy.set_from(0).eq(twin.iter().copied()), "seed {seed}");
    }
}

#[test]
fn long_runs_take_next_to_nothing_while_they_rest() {
    let mut bits = acked((0..450_000).filter(|index| index % 1000 != 7));
    assert!(!bits.rest(), "a checkpoint has not seen it yet");
    bits.take_dirty();
    let before = bits.bytes();
    assert!(bits.rest() && !bits.rest());
    assert!(before > 56_000 && bits.bytes() < 4_000, "{before} and {}", bits.bytes());
    assert!(!bits.set(8) && bits.bytes() < 4_000, "what changes nothing unpacks nothing");
    assert!(bits.set(7) && bits.bytes() > 56_000);
}
