//! What the search for lives found wrong, in words for the caller.

use crate::error::{Damage, DamageKind};
use crate::format::meta::ListedLife;
use crate::format::segment::{PRELUDE_BYTES, file_name};
use crate::log::Place;
use crate::log::scan::{Flaw, Scan};
use crate::types::Seq;

use super::draft::Draft;
use super::lives::{FoundLife, Search};

impl Search<'_> {
    /// A life between the last and this one is not there. True if the log ends before it.
    pub(super) fn broken_chain(&mut self, draft: &Draft, durable: Place) -> bool {
        let header = &draft.candidate.header;
        // A mark here speaks of the life before, and proves that it was there.
        let proven = durable.base >= header.predecessor;
        self.damage.push(Damage {
            kind: if proven { DamageKind::Missing } else { DamageKind::Torn },
            file: file_name(header.file),
            offset: 0,
            bytes: if proven { 0 } else { draft.candidate.file_bytes },
            lane: header.log.lane(),
            lost: proven.then_some((Seq(header.predecessor), Seq(header.base - 1))),
            what: if proven {
                "a segment before this one is missing; tasks in it may be lost".to_owned()
            } else {
                "a segment before this one did not survive, so this one was never acknowledged as durable".to_owned()
            },
        });
        !proven
    }

    /// The log ends inside a life, and there are later ones.
    pub(super) fn cut_behind(&mut self, life: &FoundLife) {
        self.damage.push(Damage {
            kind: DamageKind::Torn,
            file: life.name(),
            offset: u64::from(life.end),
            bytes: life.file_bytes.saturating_sub(u64::from(life.end)),
            lane: life.header.log.lane(),
            lost: None,
            what: "the log ends here; the segments behind this one were never acknowledged as durable".to_owned(),
        });
    }

    pub(super) fn report(&mut self, life: &FoundLife, scan: &Scan) {
        let is_lane = life.header.log.lane().is_some();
        let mut add = |kind, offset: u32, bytes: u32, lost: Option<(u32, u32)>, what: &str| {
            self.damage.push(Damage {
                kind,
                file: life.name(),
                offset: u64::from(offset),
                bytes: u64::from(bytes),
                lane: life.header.log.lane(),
                lost: lost.filter(|_| is_lane).map(|(first, last)| (life.seq(first), life.seq(last))),
                what: what.to_owned(),
            });
        };
        let corrupt =
            if is_lane { "durable bytes do not verify" } else { "journal entries do not verify: acks may be missing" };
        let torn = match scan.is_doubted {
            true => {
                "does not verify; a newer checkpoint, which can't be read, may have let it go before it was written"
            }
            false => "written after the last mark and incomplete",
        };
        for flaw in &scan.flaws {
            match *flaw {
                Flaw::Corrupt { offset, bytes, lost } => add(DamageKind::Corrupt, offset, bytes, lost, corrupt),
                Flaw::Torn { offset, bytes, lost } => {
                    add(DamageKind::Torn, offset, bytes, lost, torn);
                }
                // What was never true is no loss.
                Flaw::Hole { .. } | Flaw::Void { .. } => {}
            }
        }
        if scan.is_torn() {
            add(
                DamageKind::Torn,
                scan.end,
                scan.cut,
                None,
                "bytes behind the end of the log, never acknowledged as durable",
            );
        }
    }

    pub(super) fn missing(&mut self, life: &ListedLife, what: &str) {
        self.lost_file(life, DamageKind::Missing, what);
    }

    pub(super) fn damaged_prelude(&mut self, life: &ListedLife, what: &str) {
        self.damage.push(Damage {
            kind: DamageKind::Corrupt,
            file: file_name(life.file),
            offset: 0,
            bytes: PRELUDE_BYTES as u64,
            lane: life.log.lane(),
            lost: None,
            what: what.to_owned(),
        });
    }

    pub(super) fn lost_file(&mut self, life: &ListedLife, kind: DamageKind, what: &str) {
        let last = Seq(life.base + u64::from(life.records.saturating_sub(1)));
        let lost = life.log.lane().is_some() && life.records > 0;
        self.damage.push(Damage {
            kind,
            file: file_name(life.file),
            offset: 0,
            bytes: u64::from(life.offset),
            lane: life.log.lane(),
            lost: lost.then_some((Seq(life.base), last)),
            what: what.to_owned(),
        });
    }
}
