//! Producers: tasks one by one and as batches, and those who stand still between claim and publish.

use super::super::model::{Asks, Payload, Side, Task, Violation};
use super::super::operation::Op;
use super::room::told;
use super::{Actor, Step};
use crate::delivery::Amount;
use crate::engine::append::TaskDraft;
use crate::format::fields::Traits;
use crate::log::Stalled;
use crate::types::{Durability, LaneId, Seq, Timestamp};

/// A producer that stands still between claim and publish.
pub(super) struct Stall {
    pub lane: LaneId,
    pub claim: Stalled,
    /// What it will publish, if it goes on.
    payload: Option<Payload>,
    /// How many groups there ever were as it claimed.
    pub groups: u32,
    /// Its lane was purged since.
    pub purged: bool,
    /// Every group that began before it is gone.
    pub nobodys: bool,
}

impl Actor<'_> {
    pub(super) fn enqueue(&mut self, lane: LaneId, bytes: u16, power: bool) -> Step {
        let payload = self.model.payload(bytes);
        let body = payload.to_vec();
        let durability = durability(power);
        let draft = TaskDraft::plain(&body, durability);
        let appended = self.ready(|engine, now| told(engine.append(lane, &draft, now.wall)))?;
        let asked = Amount { tasks: 1, bytes: u64::from(bytes) };
        let Some(appended) = self.within_room(lane, asked, appended)? else { return Ok(()) };
        self.model.accept(appended.first, lane, payload, 0, power)?;
        self.ends.entry(lane).or_default().insert(appended.end, appended.first);
        if power { self.commit(Some(lane)) } else { Ok(()) }
    }

    /// A task with traits.
    pub(super) fn special(&mut self, op: Op) -> Step {
        let Op::Special { lane, bytes, power, delay_ms, ttl_ms, attempts } = op else { return Ok(()) };
        let (lane, wall) = (LaneId(lane), self.now.wall.0);
        let asks = Asks {
            run_at: (delay_ms > 0).then(|| wall + u64::from(delay_ms)),
            expires: (ttl_ms > 0).then(|| wall + u64::from(ttl_ms)),
            attempts_max: (attempts > 0).then_some(u32::from(attempts)),
        };
        let (run_at, expires) = (asks.run_at.map(Timestamp), asks.expires.map(Timestamp));
        let traits = Traits { run_at, expires, max_attempts: asks.attempts_max, ..Traits::default() };
        self.enqueue_with(lane, bytes, power, &traits, |task| task.asks = asks)
    }

    /// Enqueues a task with these traits, which `tell` notes of it.
    pub(super) fn enqueue_with(
        &mut self,
        lane: LaneId,
        bytes: u16,
        power: bool,
        traits: &Traits<'_>,
        tell: impl FnOnce(&mut Task),
    ) -> Step {
        let mut fields = Vec::new();
        traits.encode(&mut fields);
        let payload = self.model.payload(bytes);
        let body = payload.to_vec();
        let plain = TaskDraft::plain(&body, durability(power));
        let draft = TaskDraft { special: !traits.is_plain(), fields: &fields, ..plain };
        let appended = self.ready(|engine, now| told(engine.append(lane, &draft, now.wall)))?;
        let asked = Amount { tasks: 1, bytes: u64::from(bytes) };
        let Some(appended) = self.within_room(lane, asked, appended)? else { return Ok(()) };
        self.model.accept(appended.first, lane, payload, 0, power)?;
        self.model.tasks.entry(appended.first).and_modify(tell);
        self.ends.entry(lane).or_default().insert(appended.end, appended.first);
        if power { self.commit(Some(lane)) } else { Ok(()) }
    }

    pub(super) fn batch(&mut self, lane: LaneId, tasks: u8, bytes: u16, power: bool, wait: bool) -> Step {
        let payloads: Vec<_> = (0..u16::from(tasks)).map(|task| self.model.payload(bytes / (task + 1))).collect();
        let bodies: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_vec()).collect();
        let durability = durability(power);
        let drafts: Vec<_> = bodies.iter().map(|payload| TaskDraft::plain(payload, durability)).collect();
        let appended = self.ready(|engine, now| told(engine.append_batch(lane, &drafts, now.wall)))?;
        let asked = Amount { tasks: u64::from(tasks), bytes: payloads.iter().map(|one| u64::from(one.bytes)).sum() };
        let Some(appended) = self.within_room(lane, asked, appended)? else { return Ok(()) };
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
        if self.setting.room.is_bounded() {
            // It claims past the engine, which counts what it lets in.
            return Ok(());
        }
        let payload = self.model.payload(bytes);
        let Some(log) = self.lane_log(lane) else { return Ok(()) };
        // Without room it stands still a little earlier, which nobody can tell.
        if let Ok(claim) = Stalled::in_log(log, &payload.to_vec(), filled) {
            let groups = self.model.groups;
            self.stalls.push(Stall {
                lane,
                claim,
                payload: filled.then_some(payload),
                groups,
                purged: false,
                nobodys: false,
            });
        }
        Ok(())
    }

    pub(super) fn go_on(&mut self) -> Step {
        for Stall { lane, claim, payload, groups, purged, nobodys } in std::mem::take(&mut self.stalls) {
            let Some(log) = self.engine.lanes().log(lane) else { continue };
            match payload {
                Some(payload) => {
                    let seq = claim.seq();
                    let published = claim.publish(&payload.to_vec(), self.now.wall);
                    let end = published.map_err(|_| Violation("a map failed by itself".to_owned()))?;
                    self.model.accept(seq, lane, payload, 0, false)?;
                    // A group that began meanwhile, behind the newest task, begins behind this one.
                    let later = |side: &&mut Side| side.newest && side.ordinal > groups;
                    self.model.sides.iter_mut().chain(&mut self.model.gone).filter(later).for_each(|side| {
                        side.mine.remove(&seq);
                    });
                    let later = |side: &&mut Side| nobodys && side.ordinal > groups;
                    let mine = self.model.sides.iter_mut().filter(later).filter_map(|side| side.mine.get_mut(&seq));
                    mine.for_each(|mine| mine.must = false);
                    if purged {
                        let mine = self.model.sides.iter_mut().filter_map(|side| side.mine.get_mut(&seq));
                        mine.for_each(|mine| mine.must = false);
                    }
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
