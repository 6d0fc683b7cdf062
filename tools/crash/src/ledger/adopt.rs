//! Recovery has spoken: its picture is the truth from here on.

use std::collections::BTreeMap;

use crate::report::{GROUPS, Record, State};

use super::{Effect, Ledger, Side, Sure};

impl Ledger {
    /// Takes the picture as what is so. Every doubt is answered: what is not there never was, or is acked and gone, and
    /// must not appear again. What is there is served, and so must survive whatever comes.
    pub fn adopt(&mut self, picture: &[Record]) {
        // A reserve in doubt may have handed out what lies before a front that others told of, and a power loss may have
        // taken the attempt: then nobody can say whether it comes for the first time.
        let doubt = [0, 1].map(|group| self.asked(group) > 0);
        self.open.clear();
        let mut found: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        for record in picture {
            if let Some(tag) = record.tag {
                found.entry(tag.unit).or_default().push(record);
            }
        }
        self.units.retain(|number, _| found.contains_key(number));
        let units = &self.units;
        self.places.retain(|_, (number, _)| units.contains_key(number));
        let since = self.said;
        for (number, records) in &found {
            let present: Vec<u16> = records.iter().filter_map(|record| Some(record.tag?.index)).collect();
            let tasks = self.units.get_mut(number).into_iter().flat_map(|unit| (0..).zip(&mut unit.tasks));
            for side in tasks.filter(|(index, _)| !present.contains(index)).flat_map(|(_, sides)| sides) {
                // Others of its batch are there, so it was, and all settled it: it was left behind as those moved.
                *side = after(side, State::Acked, since);
            }
        }
        for (number, records) in found {
            for record in records {
                let Some(tag) = record.tag else { continue };
                if self.units.get(&number).is_some_and(|unit| unit.first.is_none()) {
                    self.place(number, record.seq.saturating_sub(u64::from(tag.index)));
                }
                let fronts = self.fronts.map(|lanes| lanes.get(usize::from(record.lane)).copied().unwrap_or_default());
                let Some(unit) = self.units.get_mut(&number) else { continue };
                unit.accepted = Effect { sure: Sure::Power, since };
                let sides = unit.tasks.get_mut(usize::from(tag.index)).into_iter().flatten();
                for ((side, state), (doubt, front)) in sides.zip(record.states).zip(doubt.into_iter().zip(fronts)) {
                    *side = after(side, state, since);
                    side.met |= doubt && record.seq <= front;
                }
            }
        }
        debug_assert_eq!(GROUPS.len(), 2, "a record has a state for each group");
    }
}

/// What a group was told of a task, once recovery found it in `state`. Leases end with the process.
fn after(side: &Side, state: State, since: u64) -> Side {
    let sure = Effect { sure: Sure::Power, since };
    let attempts = match state {
        State::Open(attempts) | State::Dead(attempts) => attempts,
        State::Acked | State::NoGroup => side.attempts,
    };
    Side {
        met: side.met || attempts > 0,
        turn: side.turn,
        attempts,
        attempts_high: attempts,
        attempts_low: attempts,
        acked: if state == State::Acked { sure } else { Effect::default() },
        dead: if matches!(state, State::Dead(_)) { sure } else { Effect::default() },
        ..Side::default()
    }
}
