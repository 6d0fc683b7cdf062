//! What a restart finds: files at one instant, and which of their unsynced parts a power loss keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use super::chunks::{Chunks, SECTOR_BYTES, Sector};

/// Cache, stable bytes and lost sectors of a file at one instant.
#[derive(Clone)]
pub(super) struct Image {
    pub cache: Chunks,
    pub stable: Chunks,
    pub lost: BTreeMap<usize, Sector>,
}

pub(super) type Images = BTreeMap<String, Image>;

/// Decides what survives: called once for each name, length and sector that is not certain, in a fixed order.
pub(super) type Survives<'a> = &'a mut dyn FnMut() -> bool;

impl State {
    pub(super) fn images(&self) -> Images {
        self.files.iter().map(|(name, file)| (name.clone(), file.image())).collect()
    }

    /// What a power loss leaves of `images`, the state of all files at its instant.
    pub(super) fn survivors(&self, images: &Images, survives: Survives<'_>) -> Images {
        let mut kept = Images::new();
        for (name, image) in images {
            // A name is certain if both directories have it with the same file.
            let then = self.stable_names.get(name);
            let certain = then.is_some_and(|file| self.files.get(name).is_some_and(|now| Arc::ptr_eq(file, now)));
            if certain || survives() {
                kept.insert(name.clone(), image.clone());
            } else if let Some(older) = then {
                kept.insert(name.clone(), older.image());
            }
        }
        for (name, file) in &self.stable_names {
            if !images.contains_key(name) && survives() {
                kept.insert(name.clone(), file.image());
            }
        }
        kept.into_iter().map(|(name, image)| (name, image.after_power_loss(survives))).collect()
    }
}

impl Image {
    pub(super) fn used_sectors(&self) -> Vec<usize> {
        let sectors = self.cache.bytes().div_ceil(SECTOR_BYTES);
        let mut used = Vec::new();
        self.cache.differing(&Chunks::zeros(self.cache.bytes()), 0..sectors, &mut used);
        used
    }

    fn after_power_loss(self, survives: Survives<'_>) -> Image {
        let mut stable = self.stable;
        // A length that was not synced survives or not.
        if self.cache.bytes() != stable.bytes() && survives() {
            stable.resize(self.cache.bytes());
        }
        let sectors = stable.bytes().min(self.cache.bytes()).div_ceil(SECTOR_BYTES);
        let mut unsynced = Vec::new();
        self.cache.differing(&stable, 0..sectors, &mut unsynced);
        for sector in unsynced {
            // What a failed sync lost stays lost, unless it was changed since.
            let lost = self.lost.get(&sector).is_some_and(|then| then[..] == *self.cache.sector(sector));
            if !lost && survives() {
                let from = sector * SECTOR_BYTES;
                let inside = SECTOR_BYTES.min(stable.bytes() - from);
                stable.write(from, &self.cache.sector(sector)[..inside]);
            }
        }
        Image { cache: stable.clone(), stable, lost: BTreeMap::new() }
    }
}
