//! Every structure on disk: it comes back as it was written, damage is noticed, hostile bytes are survived, and the
//! byte tables in the docs say where things are.

mod checkpoint;
mod dedup;
mod far;
mod fields;
mod journal;
mod meta;
mod record;
mod seeds;
mod segment;
mod spec;
mod words;

use super::record::{Body, Found, HEADER_BYTES, Header, Kind, Life, Record, read, seal, verify};
use crate::types::Timestamp;

const LIFE: Life = Life { salt: 0xD1CE_5A17_0BAD_F00D, base: 7_000_000 };

/// A record as it lies in its segment: header, fields, payload, zeros up to a multiple of 8.
fn sealed(life: Life, offset: u32, record: &Record<'_>) -> Vec<u8> {
    let mut bytes = seal(life, offset, record).expect("lengths that fit").to_vec();
    bytes.extend_from_slice(record.fields);
    bytes.extend_from_slice(record.payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn task<'a>(index: u32, fields: &'a [u8], payload: &'a [u8]) -> Record<'a> {
    Record { index, kind: Kind::Task, flags: 0, time: Timestamp(1_700_000_000_000), fields, payload }
}

/// The record that wholly verifies at `offset`.
fn valid(life: Life, offset: u32, bytes: &[u8]) -> Option<(Header, Body<'_>)> {
    let Found::Record(header) = read(life, offset, bytes) else { return None };
    Some((header, verify(life, &header, bytes)?))
}

/// `count` bytes, each different from its neighbours.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at * 7 % 251).unwrap() | 1).collect()
}

/// Every single-bit change of `bytes`: the bit's number, and the changed bytes.
fn each_flip(bytes: &[u8], mut look: impl FnMut(usize, &[u8])) {
    let mut changed = bytes.to_vec();
    for bit in 0..8 * bytes.len() {
        changed[bit / 8] ^= 1 << (bit % 8);
        look(bit, &changed);
        changed[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Every single-byte change of `bytes` to a few values, and every truncation: what a decoder must survive.
fn each_harm(bytes: &[u8], mut look: impl FnMut(&[u8])) {
    for end in 0..bytes.len() {
        look(&bytes[..end]);
    }
    let mut changed = bytes.to_vec();
    for at in 0..bytes.len() {
        let was = changed[at];
        for value in [0, 1, 0x7F, 0x80, 0xFF, was ^ 1, was ^ 0x80, was.wrapping_add(1), was.wrapping_sub(1)] {
            changed[at] = value;
            look(&changed);
        }
        changed[at] = was;
    }
}

/// Writes the CRC-32 of everything before into the last four bytes, as a forger would.
fn with_check(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let check = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// CRC-32 from an initial state, bit by bit: the twin of the library's.
fn naive_crc(initial: u32, bytes: &[u8]) -> u32 {
    let mut state = !initial;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = (state >> 1) ^ (0xEDB8_8320 & (state & 1).wrapping_neg());
        }
    }
    !state
}

/// The head check written into a header, as a forger who knows the salt would.
fn forged(life: Life, offset: u32, mut header: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let seed = u32::try_from(life.salt >> 32).unwrap() ^ offset.wrapping_mul(0x9E37_79B1);
    header[4..8].fill(0);
    let check = naive_crc(seed, &header);
    header[4..8].copy_from_slice(&check.to_le_bytes());
    header
}
