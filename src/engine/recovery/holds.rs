//! What a life holds: by the checkpoint that lists it as sealed, by its footer, or by a scan. Reads only.

use std::io;

use super::cut;
use super::draft::{Draft, bytes_of};
use super::lives::{Candidate, FoundLife, Search};
use crate::error::{Error, Result};
use crate::format::meta::ListedLife;
use crate::format::segment::{LifeHeader, PRELUDE_BYTES, seek_pairs};
use crate::log::scan::{self, Scan};
use crate::log::{Place, map_failed};
use crate::sabotage::{Bug, on};
use crate::storage::Region;

/// What is known of a life before it is scanned.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The furthest place of its log that is proven durable.
    pub durable: Place,
    /// How far it is durable by itself, where what proves later lives says nothing of it.
    pub own: Option<u32>,
    /// Where it was left for the next one.
    pub end: Option<u32>,
}

impl Search<'_> {
    /// Turns a draft into a life, by what is known of it.
    pub(super) fn settle(&mut self, draft: Draft, known: Known) -> Result<FoundLife> {
        let Draft { candidate, footer, bytes: region } = draft;
        let bytes = bytes_of(region.as_ref());
        let Candidate { header, file, file_bytes, listed } = candidate;
        let is_listed = listed.is_some();
        let mut life = FoundLife {
            header,
            file,
            file_bytes,
            scan: None,
            end: 0,
            records: 0,
            tasks: 0,
            seek: Vec::new(),
            voids: Vec::new(),
            listed: is_listed,
            has_ids: listed.as_ref().is_some_and(|listed| listed.has_ids),
            ids: Vec::new(),
        };
        match (listed, footer) {
            (Some(listed), _) if listed.sealed => {
                (life.end, life.records, life.tasks) = (listed.offset, listed.records, listed.tasks);
                life.seek = seek_pairs(&listed.seek);
            }
            (_, Some(footer)) => {
                (life.end, life.records, life.tasks) = (footer.end, footer.records, footer.tasks);
                life.seek = seek_pairs(&footer.seek);
                life.has_ids |= footer.has_ids;
                read_sealed(&mut life).map_err(|error| Error::io(life.name(), "read", error))?;
            }
            (listed, None) => {
                let mut scan = scan_life(&life.header, bytes, listed.as_ref(), known);
                // Asked after the look: zeros in a failed map must not be taken for the end of the log, and cut.
                if region.as_ref().is_some_and(Region::has_failed) {
                    return Err(Error::io(life.name(), "read through the map", map_failed()));
                }
                (life.end, life.records, life.tasks) = (scan.end, scan.records, scan.tasks);
                life.seek.clone_from(&scan.seek);
                life.has_ids |= !scan.ids.is_empty();
                life.ids.clone_from(&scan.ids);
                if let Some(own) = known.own {
                    scan.doubt(own);
                }
                if u64::from(scan.durable) > life.file_bytes {
                    life.end = scan.durable;
                } else if life.file_bytes < PRELUDE_BYTES as u64 {
                    // Somebody cut it inside its first sector: that there was a life is all that is left to say.
                    life.end = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
                } else {
                    self.report(&life, &scan);
                    life.scan = Some(scan);
                }
            }
        }
        self.damage.extend(cut::report(&life));
        Ok(life)
    }
}

fn scan_life(header: &LifeHeader, bytes: &[u8], listed: Option<&ListedLife>, known: Known) -> Scan {
    let Known { durable, end, .. } = known;
    let start = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
    let (from, records, tasks) =
        listed.filter(|l| l.offset >= start).map_or((start, 0, 0), |l| (l.offset, l.records, l.tasks));
    let known = match durable.base.cmp(&header.base) {
        // Wholly durable; where the next life is gone only the records themselves tell where it ended.
        std::cmp::Ordering::Greater => end.unwrap_or_else(|| scan::last_end(header.life(), bytes, from)),
        std::cmp::Ordering::Equal => durable.offset,
        std::cmp::Ordering::Less => 0,
    };
    // A successor tells where this life ended: nothing behind that was ever claimed.
    let bytes = end.and_then(|end| bytes.get(..end as usize)).unwrap_or(bytes);
    let mut scan = scan::walk(header.life(), bytes, from, records, known);
    scan.tasks += tasks;
    scan
}

/// Looks for what a footer does not say, in a life that was sealed since the checkpoint: indices at which there is no task
/// (a recovery that did not come to its end sealed it, and what it made padding the journal may still name), and dedup ids.
fn read_sealed(life: &mut FoundLife) -> io::Result<()> {
    let wants_voids = life.tasks < life.records || life.header.cold;
    let wants_ids = life.has_ids && !on(Bug::SealedIdsForgotten);
    if life.header.log.lane().is_none() || !(wants_voids || wants_ids) {
        return Ok(());
    }
    let end = u64::from(life.end).min(life.file_bytes);
    let mut bytes = vec![0; usize::try_from(end).unwrap_or(0)];
    life.file.read_at(0, &mut bytes)?;
    let start = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
    if wants_voids {
        life.voids = scan::voids(life.header.life(), &bytes, start, life.records);
    }
    if life.header.cold {
        // No checkpoint says what of it was settled before it was moved: all that is not there.
        let gone = life.voids.iter().map(|(first, last)| last - first + 1).sum();
        life.tasks = life.records.saturating_sub(gone);
    }
    if wants_ids {
        life.ids = scan::ids(life.header.life(), &bytes, start);
    }
    Ok(())
}
