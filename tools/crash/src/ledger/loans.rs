//! Deliveries and settles of a worker that lives.

use crate::report::{ATTEMPTS_MAX, Answer, Got, How, LANES, Until};

use super::{Effect, Ledger, Open, Sure};

impl Ledger {
    /// A reserve was answered. Everything that it says can be checked at once, for a group hands a task to one consumer
    /// at a time, and how a lease ends is said before it ends.
    pub(super) fn reserved(&mut self, op: u64, answer: Answer, got: &[Got]) {
        let Some(Open::Reserve { group, tasks, fronts }) = self.open.remove(&op) else { return };
        if answer == Answer::InDoubt {
            // The attempts may have been counted.
            self.open.insert(op, Open::Reserve { group, tasks, fronts });
            return;
        }
        if got.len() > tasks as usize {
            self.violations.push(format!("{} tasks were handed out where {tasks} were asked for", got.len()));
        }
        let mut last = fronts;
        for one in got {
            self.counts.deliveries += 1;
            if let Err(what) = self.delivered(group, one, &mut last) {
                self.violations.push(what);
            }
        }
        if self.unreadable {
            return;
        }
        for (front, last) in self.fronts.get_mut(group).into_iter().flatten().zip(last) {
            *front = (*front).max(last);
        }
    }

    fn delivered(&mut self, group: usize, got: &Got, last: &mut [u64; LANES as usize]) -> Result<(), String> {
        let Got { lane, seq, tag, attempt } = *got;
        let Some(tag) = tag else {
            return Err(format!(
                "lane {lane}, sequence {seq}: the payload that was delivered is not what was enqueued"
            ));
        };
        let name = self.name(tag, lane, seq);
        let unit = self.units.get(&tag.unit).ok_or_else(|| format!("{name} was delivered, and nobody enqueued it"))?;
        if unit.refused || unit.lane != lane || usize::from(tag.count) != unit.tasks.len() {
            return Err(format!("{name} was delivered: refused ({}), lane {}", unit.refused, unit.lane));
        }
        let until = unit.until;
        self.place(tag.unit, seq.saturating_sub(u64::from(tag.index)));
        // A task for ever is deliverable once it is on stable storage, so its delivery is an answer too.
        self.accept(tag.unit, until.into());

        let releasing = self.side(group, lane, seq).is_some_and(|side| side.settling == Some(How::Release));
        let Some(side) = self.side(group, lane, seq) else { return Err(format!("{name}: no such task")) };
        let before = *side;
        side.held = true;
        side.turn += 1;
        (side.settling, side.abandoned, side.met) = (None, false, true);
        side.attempts = attempt;
        side.attempts_high = side.attempts_high.max(attempt);

        if before.acked.sure >= Sure::Process {
            return Err(format!("{name} was acked, and was delivered again"));
        }
        if before.dead.sure >= Sure::Process {
            return Err(format!("{name} was a dead letter, and was delivered again"));
        }
        if before.held && before.settling.is_none() && !before.abandoned {
            return Err(format!("{name} was delivered to two consumers of a group at once"));
        }
        let counts = attempt == before.attempts + 1 || (releasing && attempt == before.attempts);
        if !counts || attempt > ATTEMPTS_MAX {
            return Err(format!("{name} came as attempt {attempt}, and {} were counted before", before.attempts));
        }
        let newest = last.get_mut(usize::from(lane)).ok_or_else(|| format!("{name}: no such lane"))?;
        if !before.met {
            if seq <= *newest {
                return Err(format!("{name} came for the first time after sequence {newest} of its lane"));
            }
            *newest = seq;
        }
        Ok(())
    }

    pub(super) fn settling(&mut self, op: u64, group: usize, how: How, until: Until, tasks: &[(u8, u64)]) {
        let since = self.said;
        let mut named = Vec::new();
        for &(lane, seq) in tasks {
            let Some(side) = self.side(group, lane, seq) else { continue };
            let doubt = |effect: &mut Effect| {
                if effect.sure == Sure::No {
                    *effect = Effect { sure: Sure::Maybe, since };
                }
            };
            match how {
                How::Ack => doubt(&mut side.acked),
                How::Reject => doubt(&mut side.dead),
                How::Nack if side.attempts >= ATTEMPTS_MAX => doubt(&mut side.dead),
                How::Abandon => side.abandoned = true,
                How::Nack | How::Release | How::Extend => {}
            }
            if !matches!(how, How::Extend | How::Abandon) {
                side.settling = Some(how);
            }
            named.push((lane, seq, side.turn));
        }
        self.open.insert(op, Open::Settle { group, how, until, tasks: named, since });
    }

    pub(super) fn settled(&mut self, op: u64, answers: &[Answer]) {
        let Some(Open::Settle { group, how, until, tasks, since }) = self.open.remove(&op) else { return };
        for (&(lane, seq, turn), answer) in tasks.iter().zip(answers) {
            match answer {
                Answer::Done => self.settle_done(group, (lane, seq, turn), how, until),
                Answer::InDoubt => {}
                Answer::Refused | Answer::LeaseLost => self.settle_undone(group, (lane, seq, turn), how, *answer),
            }
        }
        let answered = answers.contains(&Answer::Done) && !matches!(how, How::Extend | How::Abandon);
        if answered && until == Until::Ever {
            self.journal_proven = self.journal_proven.max(since);
        }
    }

    fn settle_done(&mut self, group: usize, (lane, seq, turn): (u8, u64, u32), how: How, until: Until) {
        let told = Effect { sure: until.into(), since: self.said };
        self.counts.acked += u64::from(how == How::Ack);
        let Some(side) = self.side(group, lane, seq) else { return };
        match how {
            How::Ack => side.acked = told,
            How::Reject => side.dead = told,
            How::Nack if side.turn == turn && side.attempts >= ATTEMPTS_MAX => side.dead = told,
            _ => {}
        }
        if side.turn != turn || matches!(how, How::Extend | How::Abandon) {
            return;
        }
        (side.held, side.settling) = (false, None);
        match how {
            How::Release => side.attempts = side.attempts.saturating_sub(1),
            How::Nack if until == Until::Ever => side.attempts_low = side.attempts,
            _ => {}
        }
        if how == How::Release && until == Until::Ever {
            side.attempts_high = side.attempts;
        }
    }

    /// A settle that did nothing.
    fn settle_undone(&mut self, group: usize, (lane, seq, turn): (u8, u64, u32), how: How, answer: Answer) {
        let Some(side) = self.side(group, lane, seq) else { return };
        for effect in [&mut side.acked, &mut side.dead] {
            if effect.sure == Sure::Maybe {
                effect.sure = Sure::No;
            }
        }
        let lost_early = answer == Answer::LeaseLost && side.turn == turn && !side.abandoned;
        if side.turn == turn {
            side.settling = None;
            side.abandoned &= how != How::Abandon || answer != Answer::Refused;
        }
        if lost_early {
            self.violations.push(format!("lane {lane}, sequence {seq}: a lease that had not run out was lost"));
        }
    }
}
