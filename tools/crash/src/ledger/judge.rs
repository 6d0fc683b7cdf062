//! Holding what recovery found against what was promised.

use std::collections::BTreeMap;

use crate::report::{ATTEMPTS_MAX, GROUPS, How, LANES, Record, State};

use super::{Effect, Ledger, Open, Side, Sure, Unit};

/// What a crash takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loss {
    /// The process. What it told the kernel stays.
    #[default]
    Process,
    /// The power. What was not synced may be lost, any part of it.
    Power,
}

/// What the picture has of a unit.
#[derive(Default)]
struct Seen {
    present: Vec<u16>,
    first: Option<u64>,
}

impl Ledger {
    /// Every promise that `picture` breaks, in words: what was promised, and what was seen. Changes nothing.
    pub fn judge(&self, picture: &[Record], damage: &[String], loss: Loss) -> Vec<String> {
        let mut broken = Vec::new();
        for what in damage {
            // A torn end is what a power loss leaves. Nothing else is ever damaged here.
            if loss == Loss::Process || !what.starts_with("torn") {
                broken.push(format!("nothing was damaged, and recovery reports: {what}"));
            }
        }
        let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
        let mut begun = [0_u32; GROUPS.len()];
        for record in picture {
            if let Err(what) = self.judge_record(record, loss, &mut seen, &mut begun) {
                broken.push(what);
            }
        }
        for ((group, begun), name) in (0..).zip(begun).zip(GROUPS) {
            let asked = self.asked(group);
            if begun > asked {
                let what = format!(
                    "{begun} attempts of group {name} were counted that nobody was told of; {asked} were asked for"
                );
                broken.push(what);
            }
        }
        let durable = self.durable_fronts();
        for (number, unit) in &self.units {
            broken.extend(self.judge_unit(*number, unit, seen.get(number), loss, &durable));
        }
        broken
    }

    fn judge_record(
        &self,
        record: &Record,
        loss: Loss,
        seen: &mut BTreeMap<u64, Seen>,
        begun: &mut [u32; GROUPS.len()],
    ) -> Result<(), String> {
        let Record { lane, seq, tag, states } = *record;
        let tag = tag.ok_or_else(|| format!("lane {lane}, sequence {seq}: the payload is not what was enqueued"))?;
        let name = self.name(tag, lane, seq);
        let unit = self.units.get(&tag.unit);
        let unit = unit.ok_or_else(|| format!("{name} is there: nobody enqueued it, or it was lost before"))?;
        if unit.refused {
            return Err(format!("{name} is there, though its enqueue was refused"));
        }
        let first = seq.saturating_sub(u64::from(tag.index));
        let sides = unit.tasks.get(usize::from(tag.index)).filter(|_| usize::from(tag.count) == unit.tasks.len());
        let sides = sides.filter(|_| lane == unit.lane);
        let sides =
            sides.ok_or_else(|| format!("{name} is there, in another lane or batch than it was enqueued in"))?;
        let entry = seen.entry(tag.unit).or_default();
        let known = unit.first.or(entry.first);
        let taken = self.places.get(&(lane, seq)).is_some_and(|(owner, _)| *owner != tag.unit);
        if known.is_some_and(|known| known != first) || first <= unit.floor || taken {
            return Err(format!("{name}: sequences up to {} were given out, and its first is {known:?}", unit.floor));
        }
        entry.first = Some(first);
        if entry.present.contains(&tag.index) {
            return Err(format!("{name} is there twice"));
        }
        entry.present.push(tag.index);
        for (((side, state), begun), (group, group_name)) in sides.iter().zip(states).zip(begun).zip((0..).zip(GROUPS))
        {
            let one = Judged { side, asked: self.asked(group) > 0, loss, proven: self.journal_proven };
            match one.state(state) {
                Ok(more) => *begun += u32::from(more),
                Err(what) => return Err(format!("{name}, group {group_name}: {what}")),
            }
        }
        Ok(())
    }

    fn judge_unit(
        &self,
        number: u64,
        unit: &Unit,
        seen: Option<&Seen>,
        loss: Loss,
        durable: &[u64; LANES as usize],
    ) -> Option<String> {
        let present = seen.map_or(0, |seen| seen.present.len());
        if present == unit.tasks.len() {
            return None;
        }
        // What every group settled may be gone: with its segment, or left behind as others moved.
        let gone = |side: &Side| side.acked.sure >= Sure::Maybe;
        let is_there = |index: u16| seen.is_some_and(|seen| seen.present.contains(&index));
        let mut absent = (0..).zip(&unit.tasks).filter(|(index, _)| !is_there(*index)).flat_map(|(_, sides)| sides);
        if absent.all(gone) {
            return None;
        }
        if present > 0 {
            return Some(format!("unit {number} is a batch of {} of which {present} are there", unit.tasks.len()));
        }
        let before = durable.get(usize::from(unit.lane)).copied().unwrap_or_default();
        let promised = match loss {
            Loss::Process => unit.accepted.sure >= Sure::Process,
            Loss::Power => {
                unit.accepted.sure == Sure::Power
                    || (unit.accepted.sure == Sure::Process && unit.first.is_some_and(|first| first < before))
            }
        };
        promised.then(|| {
            let (lane, first) = (unit.lane, unit.first);
            let sure = unit.accepted.sure;
            format!("LOST: unit {number}, lane {lane}, sequence {first:?}, was accepted ({sure:?}) and is not there ({loss:?} loss)")
        })
    }

    /// How many tasks reserves asked for that were not answered.
    pub(super) fn asked(&self, group: usize) -> u32 {
        let tasks = |open: &Open| match open {
            Open::Reserve { group: of, tasks, .. } if *of == group => *tasks,
            _ => 0,
        };
        self.open.values().map(tasks).sum()
    }

    /// The highest sequence of each lane that is on stable storage: what lies before it in the lane is so too.
    fn durable_fronts(&self) -> [u64; LANES as usize] {
        let mut fronts = [0; LANES as usize];
        for unit in self.units.values().filter(|unit| unit.accepted.sure == Sure::Power) {
            if let (Some(front), Some(first)) = (fronts.get_mut(usize::from(unit.lane)), unit.first) {
                *front = first.max(*front);
            }
        }
        fronts
    }
}

/// One group's view of one task, under judgement.
struct Judged<'a> {
    side: &'a Side,
    /// Reserves of the group are in doubt.
    asked: bool,
    loss: Loss,
    proven: u64,
}

impl Judged<'_> {
    /// Whether one more attempt was counted than anybody was told of; or what is wrong.
    fn state(&self, state: State) -> Result<bool, String> {
        let Side { acked, dead, .. } = self.side;
        let attempts = match state {
            State::NoGroup => return Err("the group is gone".to_owned()),
            State::Acked if acked.sure == Sure::No => return Err("nobody acked it, and it counts as acked".to_owned()),
            State::Acked => return Ok(false),
            State::Open(_) | State::Dead(_) if self.holds(*acked) => {
                return Err(format!("ACK LOST: it was acked ({:?}), and is {state:?}", acked.sure));
            }
            State::Dead(attempts) if dead.sure == Sure::No && attempts < ATTEMPTS_MAX => {
                return Err(format!("it is a dead letter after {attempts} attempts, and nobody rejected it"));
            }
            State::Open(_) if self.holds(*dead) => return Err(format!("it was a dead letter, and is {state:?}")),
            State::Open(attempts) | State::Dead(attempts) => attempts,
        };
        self.attempts(attempts)
    }

    fn holds(&self, effect: Effect) -> bool {
        match (self.loss, effect.sure) {
            (_, Sure::Power) | (Loss::Process, Sure::Process) => true,
            (Loss::Power, Sure::Process) => effect.since < self.proven,
            (_, Sure::No | Sure::Maybe) => false,
        }
    }

    fn attempts(&self, attempts: u32) -> Result<bool, String> {
        let Side { held, settling, abandoned, attempts: told, attempts_low, attempts_high, .. } = *self.side;
        let can_begin = self.asked && (!held || settling.is_some() || abandoned);
        let releasing = u32::from(settling == Some(How::Release));
        let (low, high) = match self.loss {
            Loss::Process => (told.saturating_sub(releasing), told),
            Loss::Power => (attempts_low.min(told.saturating_sub(releasing)), attempts_high),
        };
        if attempts < low || attempts > high + u32::from(can_begin) {
            return Err(format!("{attempts} attempts are counted; it was {low} to {high} ({:?} loss)", self.loss));
        }
        Ok(attempts > high)
    }
}
