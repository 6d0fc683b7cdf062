//! Producers: tasks one by one and as batches, and those who stand still between claim and publish.

use super::super::model::{Payload, Side, Violation};
use super::{Actor, Step};
use crate::engine::append::TaskDraft;
use crate::log::Stalled;
use crate::types::{Durability, LaneId, Seq};

/// A producer that stands still between claim and publish.
pub(super) struct Stall {
    pub lane: LaneId,
    pub claim: Stalled,
    /// What it will publish, if it goes on.
    payload: Option<Payload>,
    /// How many groups there ever were as it claimed.
    groups: u32,
}

impl Actor<'_> {
    pub(super) fn enqueue(&mut self, lane: LaneId, bytes: u16, power: bool) -> Step {
        let payload = self.model.payload(bytes);
        let body = payload.to_vec();
        let durability = durability(power);
        let appended = self.ready(|engine, now| engine.append(lane, &TaskDraft::plain(&body, durability), now.wall))?;
        self.model.accept(appended.first, lane, payload, 0, power)?;
        self.ends.entry(lane).or_default().insert(appended.end, appended.first);
        if power { self.commit(Some(lane)) } else { Ok(()) }
    }

    pub(super) fn batch(&mut self, lane: LaneId, tasks: u8, bytes: u16, power: bool, wait: bool) -> Step {
        let payloads: Vec<_> = (0..u16::from(tasks)).map(|task| self.model.payload(bytes / (task + 1))).collect();
        let bodies: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_vec()).collect();
        let durability = durability(power);
        let drafts: Vec<_> = bodies.iter().map(|payload| TaskDraft::plain(payload, durability)).collect();
        let appended = self.ready(|engine, now| engine.append_batch(lane, &drafts, now.wall))?;
        self.model.batches += 1;
        let ends = self.ends.entry(lane).or_default();
        for (at, (seq, payload)) in (0..).zip((appended.first.0..).map(Seq).zip(payloads)) {
            self.model.accept(seq, lane, payload, self.model.batches, power)?;
            // All of them are durable with the end of the extent; a log position per task keeps them apart.
            ends.insert(appended.end - u64::from(tasks) + 1 + at, seq);
        }
        if wait { self.commit(Some(lane)) } else { Ok(()) }
    }

    pub(super) fn stall(&mut self, lane: LaneId, bytes: u16, filled: bool) -> Step {
        let payload = self.model.payload(bytes);
        let Some(log) = self.lane_log(lane) else { return Ok(()) };
        // Without room it stands still a little earlier, which nobody can tell.
        if let Ok(claim) = Stalled::in_log(log, &payload.to_vec(), filled) {
            let groups = self.model.groups;
            self.stalls.push(Stall { lane, claim, payload: filled.then_some(payload), groups });
        }
        Ok(())
    }

    pub(super) fn go_on(&mut self) -> Step {
        for Stall { lane, claim, payload, groups } in std::mem::take(&mut self.stalls) {
            let Some(log) = self.engine.lanes().log(lane) else { continue };
            match payload {
                Some(payload) => {
                    let seq = claim.seq();
                    let published = claim.publish(&payload.to_vec(), self.now.wall);
                    let end = published.map_err(|_| Violation("a map failed by itself".to_owned()))?;
                    self.model.accept(seq, lane, payload, 0, false)?;
                    // A group that began meanwhile, behind the newest task, begins behind this one.
                    let later = |side: &&mut Side| side.newest_of.is_some_and(|number| number > groups);
                    self.model.sides.iter_mut().filter(later).for_each(|side| {
                        side.mine.remove(&seq);
                    });
                    self.ends.entry(lane).or_default().insert(end, seq);
                }
                None => claim.give_up(log),
            }
        }
        Ok(())
    }
}

pub(super) fn durability(power: bool) -> Durability {
    if power { Durability::Power } else { Durability::Process }
}
