//! The writing half: rewrite, cut, seal, sync. The order is the room's opening comment.

use crate::checkpoint::{Changes, Store};
use crate::error::{Error, Result};
use crate::format::record;
use crate::format::segment::{Footer, PRELUDE_BYTES, seek_table};
use crate::log::scan::{Flaw, Scan};
use crate::sabotage::{Bug, on};
use crate::storage::Storage;

use super::lives::FoundLife;
use super::read::Picture;

/// How much is rewritten in one call.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes everything that the picture keeps durable, and every open life sealed. Lives without any record
/// become strays.
pub(crate) fn mend(storage: &dyn Storage, picture: &mut Picture) -> Result<()> {
    // What is kept of lives follows from the root that was loaded, and must not be durable without it: an older root may know
    // of a life between two of them that is settled and gone by this one. An older one is written over the newest, which can't
    // be used: were that one readable again behind a mend that did not come to its end, it would not understand what is there.
    if let Some(store) = &mut picture.store {
        let replaced = match picture.meta.as_ref().filter(|_| picture.replaces) {
            Some(meta) => store.commit(&meta.encode(), Changes::default()).map(drop),
            None => store.make_durable(),
        };
        replaced.map_err(|error| Error::io(Store::FILE, "rewrite", error))?;
    }
    // Where a newer checkpoint may have given lives up, the log goes on behind one of which nothing is left. Should this mend not
    // come to its end, the later one must not prove durable what is torn in it.
    let empty_too = picture.meta.as_ref().is_none_or(|meta| meta.is_older);
    if on(Bug::SealBeforeRewrite) {
        for life in picture.logs.values_mut().flat_map(|log| &mut log.lives) {
            seal(life, empty_too)?;
        }
    }
    for log in picture.logs.values_mut() {
        for life in &mut log.lives {
            rewrite(life)?;
        }
    }
    for log in picture.logs.values_mut() {
        for life in &mut log.lives {
            seal(life, empty_too)?;
        }
        let strays = &mut picture.strays;
        log.lives.retain(|life| {
            let keep = life.records > 0;
            if !keep {
                strays.push(life.header.file, life.listed);
            }
            keep
        });
    }
    storage.sync_dir().map_err(|error| Error::io(".", "sync", error))
}

/// Step 1: bytes that are not proven durable are written again as they are; holes and torn records as
/// padding.
fn rewrite(life: &FoundLife) -> Result<()> {
    let Some(scan) = &life.scan else { return Ok(()) };
    let prelude = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
    // A mark in this life, or a listing with an offset, proves its prelude too.
    let from = if scan.durable >= prelude { scan.durable.min(scan.end) } else { 0 };
    let end = if from == 0 { scan.end.max(prelude) } else { scan.end };
    let name = life.name();
    let mut at = from;
    while at < end && !on(Bug::CacheTrusted) {
        let take = (end - at).min(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX));
        let mut bytes = vec![0; take as usize];
        life.file.read_at(u64::from(at), &mut bytes).map_err(|error| Error::io(&name, "read", error))?;
        life.file.write_at(u64::from(at), &bytes).map_err(|error| Error::io(&name, "rewrite", error))?;
        at += take;
    }
    let padded_from = pad(life, scan)?;
    // Not the whole file: what lies behind the end is about to be cut, and may be a whole segment of dirty zeros.
    let range = u64::from(from.min(padded_from))..u64::from(end);
    life.file.sync_range(range).map_err(|error| Error::io(&name, "sync", error))?;
    blank(life, scan)
}

/// Zeros behind the words of padding, now that those are durable: whoever finds one damaged one day, and looks for
/// the next record, must not find those of a batch that never was.
fn blank(life: &FoundLife, scan: &Scan) -> Result<()> {
    let void = scan.flaws.iter().filter_map(|flaw| match *flaw {
        Flaw::Void { offset, bytes, .. } => Some((offset, bytes)),
        Flaw::Corrupt { .. } | Flaw::Torn { .. } | Flaw::Hole { .. } => None,
    });
    let (mut lowest, mut highest) = (scan.end, 0);
    for (offset, bytes) in void.chain(scan.padding.iter().copied()) {
        zero(life, offset + 8, offset + bytes)?;
        (lowest, highest) = (lowest.min(offset), highest.max(offset + bytes));
    }
    if lowest < highest {
        let range = u64::from(lowest)..u64::from(highest);
        life.file.sync_range(range).map_err(|error| Error::io(life.name(), "sync", error))?;
    }
    Ok(())
}

fn zero(life: &FoundLife, from: u32, to: u32) -> Result<()> {
    let mut at = from;
    while at < to {
        let take = (to - at).min(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX));
        let written = life.file.write_at(u64::from(at), &vec![0; take as usize]);
        written.map_err(|error| Error::io(life.name(), "rewrite", error))?;
        at += take;
    }
    Ok(())
}

/// What recovery does not keep becomes padding, and what is torn gets zeros behind its word: should the word be damaged one
/// day, a reader that looks for the next record must not find those of a batch that never was. What is padding becomes it
/// again: it may be what a recovery made of something void just before its sync failed, and be so in the cache alone. Gives
/// the lowest offset that it wrote.
fn pad(life: &FoundLife, scan: &Scan) -> Result<u32> {
    let mut lowest = scan.end;
    let again = scan.padding.iter().map(|(offset, bytes)| Flaw::Void { offset: *offset, bytes: *bytes, lost: None });
    for flaw in scan.flaws.iter().copied().chain(again) {
        // How much is overwritten: of a record that is void its first word alone, which one sector holds. So a crash leaves
        // it whole or void. In between it would be taken for damage below the last mark, and above it for the end of the
        // log, before tasks that others were told are durable.
        let (offset, bytes, zeroed) = match flaw {
            Flaw::Hole { offset, bytes } | Flaw::Torn { offset, bytes, .. } => (offset, bytes, bytes),
            Flaw::Void { offset, bytes, .. } if on(Bug::VoidInPieces) => (offset, bytes, bytes),
            Flaw::Void { offset, bytes, .. } => (offset, bytes, 8),
            // Durable once and damaged since: left as it is, reported whenever it is met.
            Flaw::Corrupt { .. } => continue,
        };
        zero(life, offset + 8, offset + zeroed)?;
        let word = record::padding_word(life.header.life(), offset, bytes);
        let written = life.file.write_at(u64::from(offset), &word.0.to_le_bytes());
        written.map_err(|error| Error::io(life.name(), "rewrite", error))?;
        lowest = lowest.min(offset);
    }
    Ok(lowest)
}

/// Step 2: the file is cut behind the last extent and gets a footer; one without any record if asked.
fn seal(life: &mut FoundLife, empty_too: bool) -> Result<()> {
    if life.scan.is_none() || (life.records == 0 && !empty_too) {
        return Ok(());
    }
    let name = life.name();
    let fail = |call: &'static str| {
        let name = name.clone();
        move |error| Error::io(name, call, error)
    };
    let footer = Footer {
        base: life.header.base,
        records: life.records,
        tasks: life.tasks,
        end: life.end,
        has_ids: life.has_ids,
        cold: false,
        seek: seek_table(&life.seek, life.records),
    };
    let bytes = footer.encode(life.header.life());
    life.file.truncate(u64::from(life.end)).map_err(fail("truncate"))?;
    life.file.write_at(u64::from(life.end), &bytes).map_err(fail("write the footer"))?;
    life.file.sync().map_err(fail("sync"))?;
    life.file_bytes = u64::from(life.end) + bytes.len() as u64;
    Ok(())
}
