//! What happened to the files: a list of mutations, read from the fuzzer's bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | which mutation |
//! | 1 | file, by its place in the order of names |
//! | 2, 2 | spot: which of the file's sectors that hold something, the one behind them, or the end; byte in it |
//! | … | what the mutation needs |
//!
//! Sectors of zeros are passed over, because most of a queue's files is room.

use super::disk::Files;
use crate::format::segment::file_name;
use crate::format::wire::Reader;

const SECTOR_BYTES: usize = 512;
const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
/// More mutations than this are another directory, not a damaged one.
const MUTATIONS_MAX: usize = 64;
/// Files don't grow beyond this by mutations.
const FILE_BYTES_MAX: usize = 2 << 20;

/// Whose bytes an overwrite puts there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Noise, which no fuzzer can bend until a checksum is right.
    Noise,
    /// The fuzzer's.
    Chosen,
}

/// Applies all mutations that `bytes` tell.
pub(super) fn apply(files: &mut Files, bytes: &[u8], content: Content) {
    let mut from = Reader::new(bytes);
    for _ in 0..MUTATIONS_MAX {
        if files.is_empty() || apply_one(files, &mut from, content).is_none() {
            return;
        }
    }
}

/// `None` where the input ends.
fn apply_one(files: &mut Files, from: &mut Reader<'_>, content: Content) -> Option<()> {
    let (what, name) = (from.u8()?, pick(files, from.u8()?)?);
    match what % 11 {
        0 => {
            let (at, bit) = (spot(files.get(&name)?, from)?, from.u8()?);
            if let Some(byte) = files.get_mut(&name)?.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        1 => {
            let (at, count) = (spot(files.get(&name)?, from)?, usize::from(from.u8()?));
            let bytes = written(from, count, content)?;
            overwrite(files.get_mut(&name)?, at, &bytes);
        }
        2 => {
            let at = spot(files.get(&name)?, from)?;
            files.get_mut(&name)?.truncate(at);
        }
        3 => {
            let (count, byte) = (usize::from(from.u16()?), from.u8()?);
            let file = files.get_mut(&name)?;
            file.resize((file.len() + count).min(FILE_BYTES_MAX), byte);
        }
        4 => {
            let (other, count) = (pick(files, from.u8()?)?, usize::from(from.u16()?) % 2048);
            let (at, to) = (spot(files.get(&name)?, from)?, spot(files.get(&other)?, from)?);
            let file = files.get(&name)?;
            let chunk = file.get(at..(at + count).min(file.len())).unwrap_or_default().to_vec();
            overwrite(files.get_mut(&other)?, to, &chunk);
        }
        5 => {
            let other = pick(files, from.u8()?)?;
            let (one, two) = (files.remove(&name)?, files.remove(&other).unwrap_or_default());
            files.extend([(name, two), (other, one)]);
        }
        6 => {
            let file = files.remove(&name)?;
            files.insert(file_name(number(from)?), file);
        }
        7 => drop(files.remove(&name)),
        8 => {
            let file = files.get(&name)?.clone();
            files.insert(file_name(number(from)?), file);
        }
        9 => {
            let (at, count) = (spot(files.get(&name)?, from)?, usize::from(from.u16()?) % 2048);
            let file = files.get_mut(&name)?;
            let end = (at + count).min(file.len());
            file.get_mut(at..end).unwrap_or_default().fill(0);
        }
        _ => {
            let (at, which) = (spot(files.get(&name)?, from)? & !3, usize::from(from.u8()?));
            let numbers = [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 62, (1 << 62) - 1];
            let number = numbers.get(which % numbers.len()).copied().unwrap_or_default().to_le_bytes();
            let width = if which < 128 { 4 } else { 8 };
            overwrite(files.get_mut(&name)?, at, number.get(..width).unwrap_or_default());
        }
    }
    Some(())
}

/// The name of the file of that number.
fn pick(files: &Files, number: u8) -> Option<String> {
    files.keys().nth(usize::from(number) % files.len().max(1)).cloned()
}

/// A place in the file, mostly where something stands.
fn spot(file: &[u8], from: &mut Reader<'_>) -> Option<usize> {
    let (sector, byte) = (usize::from(from.u16()?), usize::from(from.u16()?));
    let held = |(_, bytes): &(usize, &[u8])| ZEROS.get(..bytes.len()) != Some(*bytes);
    let mut sectors: Vec<usize> = file.chunks(SECTOR_BYTES).enumerate().filter(held).map(|(at, _)| at).collect();
    sectors.push(sectors.last().map_or(0, |last| last + 1));
    sectors.push((file.len() / SECTOR_BYTES).saturating_sub(1));
    let sector = sectors.get(sector % sectors.len()).copied()?;
    Some((sector * SECTOR_BYTES + byte % SECTOR_BYTES).min(file.len()))
}

/// What an overwrite of `count` bytes writes.
fn written(from: &mut Reader<'_>, count: usize, content: Content) -> Option<Vec<u8>> {
    match content {
        Content::Chosen => from.bytes(count.min(from.left())).map(<[u8]>::to_vec),
        Content::Noise => {
            let mut state = u64::from(from.u16()?);
            let mut noise = Vec::with_capacity(count + 8);
            while noise.len() < count {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                noise.extend_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
            }
            noise.truncate(count);
            Some(noise)
        }
    }
}

/// Writes what fits.
fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    file.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = *byte);
}

/// A file number: mostly a small one.
fn number(from: &mut Reader<'_>) -> Option<u32> {
    let number = from.u8()?;
    Some(if number < 200 { u32::from(number) % 24 } else { u32::MAX >> (number % 32) })
}
