//! Enqueues with dedup ids.

use super::super::model::{Sure, ensure};
use super::super::once::{IDS, fingerprint};
use super::super::operation::Op;
use super::produce::durability;
use super::{Actor, Step};
use crate::engine::Attempt;
use crate::engine::append::TaskDraft;
use crate::engine::dedup::Accepted;
use crate::error::Error;
use crate::format::dedup::UNTIL_SETTLED;
use crate::format::fields::{DedupTrait, Traits};
use crate::types::{LaneId, LogId, Seq, Timestamp};

impl Actor<'_> {
    /// A task with an id, or a batch in which ids come twice and some tasks have none.
    pub(super) fn once(&mut self, op: Op) -> Step {
        let Op::Once { lane, tasks, bytes, id, window_ms, power, wait } = op else { return Ok(()) };
        let (lane, wall) = (LaneId(lane), self.now.wall);
        let ids: Vec<Option<u8>> = (0..tasks.max(1)).map(|at| (at % 3 != 1).then_some((id + at / 3) % IDS)).collect();
        let ends = if window_ms == 0 { UNTIL_SETTLED } else { Timestamp(wall.0 + u64::from(window_ms)) };
        let payloads: Vec<_> = (1..=u16::from(tasks.max(1))).map(|task| self.model.payload(bytes / task)).collect();
        let bodies: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_vec()).collect();
        let fields: Vec<Vec<u8>> = ids.iter().map(|id| fields_of(*id, ends)).collect();
        let drafts = bodies.iter().zip(&fields).map(|(body, fields)| {
            let plain = TaskDraft::plain(body, durability(power));
            TaskDraft { fields, special: !fields.is_empty(), ..plain }
        });
        let drafts: Vec<_> = drafts.collect();
        let disk = self.disk;
        let told = self.ready(|engine, now| match engine.append_once(lane, &drafts, now) {
            Ok(Attempt::Done(accepted)) => Ok(Attempt::Done(Ok(accepted))),
            Ok(Attempt::NotReady) => Ok(Attempt::NotReady),
            Err(full @ (Error::OverBound { .. } | Error::DedupFull { .. })) => Ok(Attempt::Done(Err(full))),
            // Whether the id counts can't be read now: nothing was done.
            Err(unread @ Error::Io { .. }) if disk.faults() > 0 => Ok(Attempt::Done(Err(unread))),
            Err(other) => Err(other),
        })?;
        let counting = self.model.ids_counting(wall, self.setting);
        let max = usize::try_from(self.engine.settings().dedup_ids_max).unwrap_or(usize::MAX);
        let accepted = match told {
            Ok(accepted) => accepted,
            Err(full @ Error::DedupFull { .. }) => {
                let asked = ids.iter().flatten().count();
                // An id whose task can't be looked at now counts until it can.
                let is_full = counting.1 + asked > max || disk.faults() > 0;
                ensure!(is_full, "at most {} ids count, {asked} are new: {full}", counting.1);
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let fresh = self.take_accepted(lane, &ids, &payloads, ends, power, &accepted)?;
        ensure!(fresh == 0 || counting.0 + fresh <= max, "{} ids count, {fresh} more were accepted", counting.0);
        if wait { self.wait_for(&accepted, power) } else { Ok(()) }
    }

    /// Notes what each task became. Gives the number of ids that are new.
    fn take_accepted(
        &mut self,
        lane: LaneId,
        ids: &[Option<u8>],
        payloads: &[super::super::model::Payload],
        ends: Timestamp,
        power: bool,
        accepted: &Accepted,
    ) -> Step<usize> {
        let is_new = |model: &super::Model, seq: &Seq| !model.tasks.contains_key(seq);
        let new = accepted.tasks.iter().filter(|(_, seq)| is_new(self.model, seq)).count();
        // One record is no batch.
        self.model.batches += u32::from(new > 1);
        let batch = if new > 1 { self.model.batches } else { 0 };
        let (mut fresh, mut at) = (0, 0);
        for ((id, payload), (there, seq)) in ids.iter().zip(payloads).zip(&accepted.tasks) {
            let is_hit = !is_new(self.model, seq);
            if let Some(id) = id {
                self.model.id_gave(*id, self.now.wall, self.setting, is_hit.then_some((*there, *seq)))?;
            }
            if is_hit {
                ensure!(id.is_some(), "a task without an id is one that was there: {seq}");
                continue;
            }
            ensure!(*there == lane, "a task for lane {lane} is in lane {there}");
            self.model.accept(*seq, lane, *payload, batch, power)?;
            if let Some(id) = id {
                self.model.id_taken(*id, lane, *seq, ends);
                fresh += 1;
            }
            let end = accepted.ends.last().map_or(0, |(_, end)| *end);
            // As for any batch: a log position per task keeps them apart.
            at += 1;
            self.ends.entry(lane).or_default().insert(end - (new - at) as u64, *seq);
        }
        Ok(fresh)
    }

    /// Waits as a caller does: for everything that the engine says is to be waited for. Then all of the tasks are durable.
    pub(super) fn wait_for(&mut self, accepted: &Accepted, power: bool) -> Step {
        if !power {
            return Ok(());
        }
        for (log, _) in &accepted.ends {
            self.commit(log.lane())?;
        }
        let is_durable = |(log, end): &(LogId, u64)| self.engine.log_of(*log).is_some_and(|log| log.durable() >= *end);
        if accepted.ends.iter().all(is_durable) {
            for (_, seq) in &accepted.tasks {
                if let Some(task) = self.model.tasks.get_mut(seq) {
                    task.kept = Sure::Power;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn fields_of(id: Option<u8>, ends: Timestamp) -> Vec<u8> {
    let mut fields = Vec::new();
    let dedup = id.map(|id| DedupTrait { fingerprint: fingerprint(id), ends, order: 0 });
    Traits { dedup, ..Traits::default() }.encode(&mut fields);
    fields
}
