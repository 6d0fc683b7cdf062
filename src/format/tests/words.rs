//! First words of extents that are being filled or hold nothing: they belong to one life and one offset.

use super::super::record::{Found, Life, claim_word, padding_word, read};
use super::{LIFE, each_flip};
use crate::types::ExtentWord;

const LENGTHS: [u32; 6] = [8, 32, 48, 4096, 1 << 20, 1 << 30];
const OFFSETS: [u32; 4] = [512, 520, 1 << 16, (1 << 30) - 8];

/// Each kind of word with what it is read as in its place.
fn words(offset: u32, bytes: u32) -> [(ExtentWord, Found); 2] {
    [
        (claim_word(LIFE, offset, bytes), Found::Hole { bytes }),
        (padding_word(LIFE, offset, bytes), Found::Padding { bytes }),
    ]
}

#[test]
fn word_of_an_unfinished_extent_says_its_length() {
    for offset in OFFSETS {
        for bytes in LENGTHS {
            for (word, expected) in words(offset, bytes) {
                assert_eq!(read(LIFE, offset, &word.0.to_le_bytes()), expected, "alone at the end");
                let mut behind = word.0.to_le_bytes().to_vec();
                behind.resize(200, 0xEE);
                assert_eq!(read(LIFE, offset, &behind), expected, "whatever stands behind it");
            }
        }
    }
}

#[test]
fn word_of_another_life_or_offset_is_invalid() {
    for bytes in LENGTHS {
        for (word, _) in words(512, bytes) {
            let word = word.0.to_le_bytes();
            for bit in 0..64 {
                let other = Life { salt: LIFE.salt ^ (1 << bit), ..LIFE };
                assert_eq!(read(other, 512, &word), Found::Invalid, "bit {bit} of the salt");
            }
            for offset in (0..1 << 16).step_by(8).filter(|offset| *offset != 512) {
                assert_eq!(read(LIFE, offset, &word), Found::Invalid, "at {offset}");
            }
        }
    }
}

#[test]
fn any_flipped_bit_of_a_word_makes_it_invalid() {
    for offset in OFFSETS {
        for bytes in LENGTHS {
            for (word, _) in words(offset, bytes) {
                each_flip(&word.0.to_le_bytes(), |bit, changed| {
                    assert_eq!(read(LIFE, offset, changed), Found::Invalid, "bit {bit}, {bytes} bytes at {offset}");
                });
            }
        }
    }
}

#[test]
fn word_that_names_no_possible_length_is_invalid() {
    for bytes in [0, (1 << 30) + 8, !7] {
        for (word, _) in words(512, bytes) {
            assert_eq!(read(LIFE, 512, &word.0.to_le_bytes()), Found::Invalid, "{bytes} bytes");
        }
    }
}

#[test]
fn word_keeps_length_state_and_check_apart() {
    use crate::types::ExtentState::{Claimed, Empty, Padding, Published, Unknown};
    for (state, bits, is_final) in
        [(Empty, 0, false), (Claimed, 1, false), (Published, 2, true), (Padding, 3, true), (Unknown, 0, false)]
    {
        for bytes in LENGTHS {
            let word = ExtentWord::new(bytes, state, 0xFFFF_FFFF);
            assert_eq!((word.bytes(), word.low() & 7, word.check()), (bytes, bits, 0xFFFF_FFFF));
            assert_eq!(word.is_final(), is_final);
            assert_eq!(ExtentWord::new(bytes, state, 0).check(), 0);
        }
    }
    for bits in 4..8 {
        assert_eq!(ExtentWord(bits).state(), Unknown);
    }
}
