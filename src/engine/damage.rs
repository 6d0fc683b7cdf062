//! What was found damaged in this open, each place once.

use std::collections::BTreeSet;

use crate::error::{Damage, DamageKind};
use crate::log::Segment;

use super::Engine;

/// The places found so far.
#[derive(Default)]
pub(crate) struct DamageList {
    found: Vec<Damage>,
    /// File, offset and kind of each, so that several groups report it once.
    places: BTreeSet<(String, u64, u8)>,
}

impl DamageList {
    pub(crate) fn new(found: Vec<Damage>) -> Self {
        let mut list = DamageList::default();
        for damage in found {
            list.add(damage);
        }
        list
    }

    /// True if it is new.
    pub(crate) fn add(&mut self, damage: Damage) -> bool {
        let new = self.places.insert((damage.file.clone(), damage.offset, damage.kind as u8));
        if new {
            self.found.push(damage);
        }
        new
    }

    pub(crate) fn found(&self) -> &[Damage] {
        &self.found
    }
}

impl Engine {
    /// Everything found damaged so far.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        self.damage.lock().found().to_vec()
    }

    /// Reports damage met while reading a segment; `lost` are record indices.
    pub(super) fn report(
        &self,
        segment: &Segment,
        kind: DamageKind,
        place: (u32, u32),
        lost: Option<(u32, u32)>,
        what: String,
    ) {
        let (offset, bytes) = place;
        let damage = Damage {
            kind,
            file: segment.file_name(),
            offset: u64::from(offset),
            bytes: u64::from(bytes),
            lane: segment.log().lane(),
            lost: lost.map(|(first, last)| (segment.seq(first), segment.seq(last))),
            what,
        };
        let is_new = self.damage.lock().add(damage);
        let count = lost.map(|(first, last)| last - first + 1);
        match (kind, count) {
            // They may be read after a reopen, so no checkpoint may forget them. Without a count it is the whole life.
            (DamageKind::Unreadable, count) if is_new || segment.parked() == 0 => {
                segment.park(count.unwrap_or(u32::MAX));
            }
            (DamageKind::Unreadable, _) => {}
            (_, Some(count)) if is_new => segment.count_damaged(count),
            _ => {}
        }
    }
}
