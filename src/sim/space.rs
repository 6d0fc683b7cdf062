//! The disk follows what is in work: what a queue may take once most of it is settled, and once all of it is.

use super::actor::{dead_of, later};
use super::model::{Model, Verdict, Violation, ensure};
use super::oracle::Owed;
use crate::engine::Engine;
use crate::engine::settle::Settle;
use crate::format::segment::{FOOTER_TRAILER_BYTES, PRELUDE_BYTES};
use crate::log::Segment;
use crate::types::{LaneId, Now, Seq};

/// Of what is on loan every so many-th task is kept at first.
const KEPT: u64 = 4;
/// More than a record takes beside its payload: header, optional fields, the gap behind it.
const RECORD_BYTES: u64 = 32 + 160;

/// Settles most of what is on loan, then the rest, and looks what is still held after each.
pub(super) fn check_space(engine: &Engine, model: &Model, mut owed: Owed, now: Now) -> Verdict {
    let late = later(now);
    for (name, receipts) in &mut owed {
        let most = receipts.extract_if(.., |receipt| receipt.task.seq.0 % KEPT > 0).collect::<Vec<_>>();
        let cell = engine.group(name).map_err(wrong)?;
        engine.settle(&cell, most.into_iter(), Settle::Ack, late).map_err(wrong)?;
    }
    most_is_settled(engine, model, late)?;
    all_is_settled(engine, owed, late)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn wrong(error: crate::error::Error) -> Violation {
    Violation(format!("a recovered queue can't be drained: {error}"))
}

/// No sealed segment takes more than twice what lives in it, but for the newest of a lane, and for what is in work.
fn most_is_settled(engine: &Engine, model: &Model, now: Now) -> Verdict {
    engine.write_footers(now.wall).map_err(wrong)?;
    while engine.evacuate(now).map_err(wrong)? {}
    for _ in 0..2 {
        engine.checkpoint(now, false).map_err(wrong)?;
    }
    if !engine.damage().is_empty() || engine.settings().pad_commits {
        // What can't be read stays where it is, and so does what lies between padding.
        return Ok(());
    }
    for (lane, log) in engine.lanes().all() {
        let segments = log.segments();
        for segment in segments.iter().rev().skip(1).filter(|segment| !is_in_work(engine, lane, segment)) {
            let tasks = model.tasks.iter().filter(|(seq, task)| task.lane == lane && is_live(engine, segment, **seq));
            let live: u64 = tasks.map(|(_, task)| u64::from(task.payload.bytes) + RECORD_BYTES).sum();
            let most = 2 * (live + (PRELUDE_BYTES + FOOTER_TRAILER_BYTES) as u64);
            let bytes = segment.file_bytes();
            ensure!(bytes <= most, "lane {lane} keeps {bytes} bytes in {}, of which {live} live", segment.file_name());
        }
    }
    Ok(())
}

/// A cursor stands in it, or it can't be closed yet.
fn is_in_work(engine: &Engine, lane: LaneId, segment: &Segment) -> bool {
    let stands =
        |work: &crate::delivery::Group| work.lanes.get(lane).is_some_and(|own| own.cursor.stands_in(segment.base()));
    segment.wants_footer() || engine.groups().iter().any(|cell| stands(&cell.state.lock().group))
}

/// Some group has not settled it.
fn is_live(engine: &Engine, segment: &Segment, seq: Seq) -> bool {
    let (Some(index), Some(lane)) = (segment.index(seq), segment.log().lane()) else { return false };
    engine.groups().iter().any(|cell| {
        let group = &cell.state.lock().group;
        group.is_owed(lane, segment.base(), index) || group.dead.contains_key(&(lane, seq))
    })
}

/// Once everything is settled, disk space comes back: nothing but what is set aside for the next tasks is held.
fn all_is_settled(engine: &Engine, owed: Owed, late: Now) -> Verdict {
    for (name, receipts) in owed {
        let cell = engine.group(&name).map_err(wrong)?;
        engine.settle(&cell, receipts.into_iter(), Settle::Ack, late).map_err(wrong)?;
        if !dead_of(engine, &cell).is_empty() {
            return Ok(());
        }
    }
    for _ in 0..2 {
        engine.checkpoint(late, false).map_err(wrong)?;
    }
    for (lane, log) in engine.lanes().all() {
        let sealed = log.segments().iter().filter(|segment| segment.sealed().is_some()).count();
        // The cursor leaves the newest life only when there is one behind it.
        ensure!(sealed <= 1, "everything is settled, and lane {lane} keeps {sealed} sealed segments");
    }
    Ok(())
}
