//! Files of the lanes' lives, and what may be told of them.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Verdict, ensure};
use super::oracle::Before;
use crate::checkpoint::Store;
use crate::engine::Engine;
use crate::error::{Damage, DamageKind};

/// What the simulator knows of them.
#[derive(Clone, Default)]
pub(super) struct Files {
    /// Which life each had as the machine stopped, by its base.
    pub lives: BTreeMap<String, u64>,
    /// Those that an open with an older checkpoint told of, though nobody harmed them.
    pub told: BTreeSet<String>,
}

impl Files {
    /// Notes the lives of the moment.
    pub(super) fn note(&mut self, engine: &Engine) {
        let segments = engine.lanes().all().flat_map(|(_, log)| log.segments());
        self.lives = segments.map(|segment| (segment.file_name(), segment.base())).collect();
    }
}

/// Damage is reported where it was done and nowhere else. What a crash tears is no damage.
///
/// An older checkpoint lists segments that the newest one let go. Such a segment may be missing; or its file is the next
/// life's, of which some records survived, and not the first sector. Then it is told of until it goes. That nothing is lost
/// by it, `nothing_is_missing` sees to.
pub(super) fn damage_is_where_it_was_done(files: &mut Files, damage: &[Damage], before: &Before) -> Verdict {
    let hurt = before.hurt.as_ref().map(|harm| harm.file.as_str());
    for one in damage {
        let torn = one.kind == DamageKind::Torn && (before.power_lost || before.write_failed);
        let let_go = before.degraded && (one.file == Store::FILE || one.kind == DamageKind::Missing);
        let is_next = |life: &u64| one.lost.is_some_and(|(_, last)| last.0 < *life);
        if before.degraded && one.kind == DamageKind::Corrupt && files.lives.get(&one.file).is_some_and(is_next) {
            files.told.insert(one.file.clone());
        }
        let known = torn || let_go || files.told.contains(&one.file);
        ensure!(known || hurt == Some(one.file.as_str()), "damage where none was done: {one:?}");
    }
    Ok(())
}
