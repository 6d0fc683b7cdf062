//! A file that ends before what is proven of it does: somebody cut it, or its file system lost the end.
//!
//! What is still there is served as it is; what is gone is reported, with the sequences as far as they are known. Such
//! a life is never written again: it stays sealed where it once ended, so that every open reports it.

use crate::error::{Damage, DamageKind};
use crate::format::segment::PRELUDE_BYTES;
use crate::log::scan::{self, Flaw};

use super::lives::FoundLife;

/// What is to be reported of `life`, if its file ends before its records do.
pub(super) fn report(life: &FoundLife) -> Option<Damage> {
    let bytes = u64::from(life.end).checked_sub(life.file_bytes).filter(|bytes| *bytes > 0)?;
    let lane = life.header.log.lane();
    let last = life.records.checked_sub(1);
    let lost = last.zip(first_lost(life)).filter(|(last, first)| first <= last);
    let means = if lane.is_some() { "the tasks there can't be read" } else { "acks may be missing" };
    Some(Damage {
        kind: DamageKind::Unreadable,
        file: life.name(),
        offset: life.file_bytes,
        bytes,
        lane,
        lost: lost.filter(|_| lane.is_some()).map(|(last, first)| (life.seq(first), life.seq(last))),
        what: format!(
            "the file was cut: it has {} bytes where {} are known to be durable; {means}",
            life.file_bytes, life.end
        ),
    })
}

/// Index of the first record that is not wholly there, found by walking over those that are.
fn first_lost(life: &FoundLife) -> Option<u32> {
    let there = u32::try_from(life.file_bytes).ok()?;
    let mut bytes = vec![0; there as usize];
    life.file.read_at(0, &mut bytes).ok()?;
    let start = u32::try_from(PRELUDE_BYTES).ok()?;
    let scan = scan::walk(life.header.life(), &bytes, start, 0, there);
    let across = scan.flaws.last().and_then(Flaw::lost).filter(|(_, last)| last + 1 == scan.records);
    Some(across.map_or(scan.records, |(first, _)| first))
}
