//! What a queue must show after a restart, held against what was promised.
//!
//! The check looks from outside: it opens the queue as the next process would, takes everything that every group is still
//! owed, and compares. What it finds then is what the callers know from there on: whatever survived is durable, for
//! recovery promises so; whatever did not is gone and may never come back.

use std::collections::{BTreeMap, BTreeSet};

use super::actor::{PULSE, ask, dead_of, later};
use super::files::damage_is_where_it_was_done;
use super::model::{Held, Mine, Model, Side, Sure, Transaction, Verdict, Violation, WORN_OUT, ensure};
use super::once::{IDS, Survival, fingerprint};
use super::operation::How;
use super::schedule::Setting;
use crate::engine::Engine;
use crate::engine::deliver::Handed;
use crate::engine::pause::Pausable;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::Damage;
use crate::types::{LaneId, LaneSet, Now, Seq};

/// What may have happened to the queue before it was opened.
#[derive(Clone, Default, Debug)]
pub(super) struct Before {
    /// The power was lost since what was only promised at `Process`.
    pub power_lost: bool,
    /// A write failed half way.
    pub write_failed: bool,
    /// An open could not read what it wanted, said so, and went on with less: acks and attempts may be forgotten.
    pub degraded: bool,
    /// A file that was damaged on purpose.
    pub hurt: Option<Harm>,
    pub setting: Setting,
    /// The wall time at which everything is taken; the check sets it.
    pub late_ms: u64,
}

impl Before {
    fn forgets(&self) -> bool {
        self.degraded || self.hurt.as_ref().is_some_and(|harm| harm.forgets)
    }
}

/// Damage that was done on purpose, and what it may cost.
#[derive(Clone, Debug)]
pub(super) struct Harm {
    pub file: String,
    /// Tasks that may be lost, if they are reported.
    pub lost_most: usize,
    /// Acks, attempts and dead letters may be forgotten.
    pub forgets: bool,
}

/// What each group has on loan after a check.
pub(super) type Owed = Vec<(String, Vec<Receipt>)>;

/// What one group showed.
struct Shown {
    handed: Vec<Handed>,
    /// Dead letters before anything was asked for, with their attempts; and after.
    buried: BTreeMap<Seq, u32>,
    dead: BTreeSet<Seq>,
}

impl Shown {
    fn contains(&self, seq: Seq) -> bool {
        self.dead.contains(&seq) || self.handed.iter().any(|one| one.receipt.task.seq == seq)
    }
}

/// Checks everything that `engine`, just opened, shows, and takes it over.
pub(super) fn check(model: &mut Model, engine: &Engine, before: &Before, now: Now) -> Verdict<Owed> {
    model.sides.iter_mut().chain(&mut model.gone).for_each(Side::restart);
    groups_are_there(model, engine, before)?;
    pauses_are_as_told(model, engine, before, now)?;
    retention_is_as_told(model, engine, before)?;
    model.ids.wall_most = model.ids.wall_most.max(now.wall.0);
    let gave = ids_give(engine, now)?;
    let late = later(now);
    let before = &Before { late_ms: late.wall.0, ..before.clone() };
    let mut shown = Vec::new();
    for side in &model.sides {
        shown.push(show(model, engine, side, late)?);
    }
    let damage = engine.damage();
    damage_is_where_it_was_done(&mut model.files, &damage, before)?;
    for (side, shown) in model.sides.iter_mut().zip(&shown).filter(|_| before.forgets()) {
        let handed = shown.handed.iter().map(|one| one.receipt.task.seq);
        handed.chain(shown.dead.iter().copied()).for_each(|seq| side.may_be_back(seq));
    }
    for (side, shown) in model.sides.iter().zip(&shown) {
        in_order(model, side, shown)?;
        nothing_comes_that_should_not(model, side, shown, before)?;
        nothing_is_missing(model, side, shown, before, &damage)?;
        dead_letters_are_right(side, shown, model, before)?;
        batches_are_whole(model, side, shown, before)?;
    }
    transactions_are_whole(model, &shown, before)?;
    let is_shown = |seq: Seq| shown.iter().any(|shown| shown.contains(seq));
    let (power_lost, forgets, hurt) = (before.power_lost, before.forgets(), before.hurt.is_some());
    model.ids_survive(&Survival { shown: &is_shown, power_lost, forgets, hurt });
    take_over(model, &shown, before);
    // What is dead now may come back before anybody looks again, and its id may be free all the same.
    model.observe_ids(before.setting);
    for (id, gave) in gave {
        model.id_gave(id, now.wall, before.setting, gave)?;
    }
    let owed = model.sides.iter().zip(shown);
    Ok(owed.map(|(side, shown)| (side.name.clone(), shown.handed.iter().map(|one| one.receipt).collect())).collect())
}

/// What was known before a snapshot, and after: others went on while it was made.
pub(super) struct Meanwhile<'a> {
    pub known: &'a Model,
    pub now: &'a Model,
    /// All that were begun, durable by now or not.
    pub transactions: Vec<Transaction>,
}

/// Checks what `engine`, opened over a snapshot, shows: what was told before is so, and what was told meanwhile is so or not,
/// each by itself and wholly.
pub(super) fn check_meanwhile(told: Meanwhile<'_>, engine: &Engine, before: &Before, now: Now) -> Verdict {
    let wrong = |error: crate::error::Error| Violation(format!("a snapshot refuses: {error}"));
    let mut files = told.known.files.clone();
    damage_is_where_it_was_done(&mut files, &engine.damage(), before)?;
    let paused = engine.paused();
    let groups = paused.groups.into_iter().map(Pausable::Group);
    for what in paused.lanes.into_iter().map(Pausable::Lane).chain(groups) {
        engine.resume(what, now.wall).map_err(wrong)?;
    }
    let late = later(now);
    let before = &Before { late_ms: late.wall.0, ..before.clone() };
    let mut after = told.now.without_loans();
    after.transactions = told.transactions;
    // That a task is dead in the copy tells nothing of a transaction that rejected it: it may have been dead, or set aside,
    // and have come back since.
    after.transactions.iter_mut().for_each(|transaction| transaction.settled.retain(|(_, how)| *how != How::Reject));
    // What was accepted meanwhile is there or not.
    let is_new = |seq: &Seq| !told.known.tasks.contains_key(seq);
    after.tasks.iter_mut().filter(|(seq, _)| is_new(seq)).for_each(|(_, task)| task.kept = Sure::Maybe);
    after
        .sides
        .retain(|side| told.known.sides.iter().any(|known| known.ordinal == side.ordinal && known.born.must_be(false)));
    let mut all = Vec::new();
    for side in &after.sides {
        let shown = show(&after, engine, side, late)?;
        in_order(&after, side, &shown)?;
        batches_are_whole(&after, side, &shown, before)?;
        if let Some(known) = told.known.sides.iter().find(|known| known.ordinal == side.ordinal) {
            told_before_is_so(told.known, &after, (known, side), &shown, before)?;
        }
        all.push(shown);
    }
    damage_is_where_it_was_done(&mut files, &engine.damage(), before)?;
    transactions_are_whole(&after, &all, before)
}

/// Of one group, as it was known before and after.
fn told_before_is_so(
    model: &Model,
    after: &Model,
    (known, side): (&Side, &Side),
    shown: &Shown,
    before: &Before,
) -> Verdict {
    for one in &shown.handed {
        let task = one.receipt.task;
        let Some(accepted) = after.tasks.get(&task.seq) else {
            return Err(Violation(format!("task {} was never accepted", task.seq)));
        };
        let is_same = task.lane == accepted.lane && one.body.payload() == accepted.payload.to_vec();
        ensure!(is_same, "task {} is not as it was accepted", task.seq);
        let acked = known.mine.get(&task.seq).is_some_and(|mine| mine.acked.must_be(false));
        ensure!(!acked, "task {} was settled for {} before, and comes", task.seq, side.name);
    }
    for (seq, _) in known.mine.iter().filter(|(_, mine)| mine.must && mine.acked == Sure::No) {
        let Some(task) = model.tasks.get(seq) else { continue };
        let is_owed = side.mine.get(seq).is_some_and(|mine| mine.must && mine.acked == Sure::No);
        let is_there = !is_owed || !task.kept.must_be(false) || task.is_expired(before.late_ms) || shown.contains(*seq);
        ensure!(is_there, "task {seq} was accepted before, and is lost for {}: {task:?}", side.name);
    }
    Ok(())
}

/// What each dedup id gives.
fn ids_give(engine: &Engine, now: Now) -> Verdict<BTreeMap<u8, Option<(LaneId, Seq)>>> {
    let wrong = |error: crate::error::Error| Violation(format!("a recovered queue does not know its ids: {error}"));
    (0..IDS).map(|id| Ok((id, engine.first_of(fingerprint(id), now).map_err(wrong)?))).collect()
}

fn groups_are_there(model: &mut Model, engine: &Engine, before: &Before) -> Verdict {
    let removed = std::mem::take(&mut model.gone);
    let mut sides: Vec<Side> = std::mem::take(&mut model.sides).into_iter().chain(removed).collect();
    sides.sort_by_key(|side| side.ordinal);
    let known: BTreeSet<u32> = sides.iter().filter_map(|side| side.number).collect();
    for mut side in sides {
        let there = engine.group(&side.name).ok().map(|cell| cell.id);
        // Of one whose call failed nobody knows the number.
        let is_it = there.filter(|id| side.number.map_or(!known.contains(id), |number| number == *id));
        let Side { name, born, gone, .. } = &side;
        match is_it {
            Some(_) => {
                let stays_gone = gone.must_be(before.power_lost) && !before.forgets();
                ensure!(!stays_gone, "group {name} was removed and is back");
                (side.number, side.born, side.gone) = (is_it, Sure::Power, Sure::No);
                model.sides.push(side);
            }
            None => {
                let stays = born.must_be(before.power_lost);
                ensure!(!stays || gone.may_be(), "group {name} is gone");
                // Where its beginning was forgotten too its number is free.
                model.numbers_gone.extend(side.number.filter(|_| stays));
            }
        }
    }
    Ok(())
}

/// What was paused is, and hands out nothing. Then all of it is resumed here, to see what is behind it; the disk that goes
/// on is as it was before.
fn pauses_are_as_told(model: &mut Model, engine: &Engine, before: &Before, now: Now) -> Verdict {
    let wrong = |error: crate::error::Error| Violation(format!("a recovered queue refuses: {error}"));
    let paused = engine.paused();
    for lane in (0..=u8::MAX).map(LaneId).take(engine.lanes().count()) {
        let is_paused = paused.lanes.contains(&lane);
        let held = model.lanes_held.get(&lane).copied().unwrap_or_default();
        let may_be = held.may_be(is_paused, before.power_lost) || before.forgets();
        ensure!(may_be, "lane {lane} is paused: {is_paused}, and {held:?}");
        model.lanes_held.insert(lane, Held::surely(is_paused));
    }
    let lanes: LaneSet = paused.lanes.iter().copied().collect();
    for side in &mut model.sides {
        let cell = engine.group(&side.name).map_err(wrong)?;
        let is_paused = paused.groups.contains(&cell.id);
        let may_be = side.held.may_be(is_paused, before.power_lost) || before.forgets();
        ensure!(may_be, "group {} is paused: {is_paused}, and {:?}", side.name, side.held);
        side.held = Held::surely(is_paused);
        let held = if is_paused { LaneSet::ALL } else { lanes };
        let handed = engine.reserve(&cell, &ask(16, held, 1, 0), now, |one| one.receipt.task).map_err(wrong)?;
        ensure!(handed.is_empty(), "{handed:?} is handed out of what is paused for {}", side.name);
    }
    let groups = paused.groups.into_iter().map(Pausable::Group);
    for what in paused.lanes.into_iter().map(Pausable::Lane).chain(groups) {
        engine.resume(what, now.wall).map_err(wrong)?;
    }
    Ok(())
}

/// What each group may have left to do is as somebody said.
fn retention_is_as_told(model: &mut Model, engine: &Engine, before: &Before) -> Verdict {
    for side in &mut model.sides {
        let cell = engine.group(&side.name).map_err(|error| Violation(error.to_string()))?;
        let retention = engine.retention(&cell);
        let told = if before.power_lost { &side.retains_powerless } else { &side.retains };
        ensure!(
            told.contains(&retention) || before.forgets(),
            "group {} retains {retention:?}, and {told:?}",
            side.name
        );
        (side.retains, side.retains_powerless) = (vec![retention], vec![retention]);
    }
    Ok(())
}

/// Takes everything that a group is owed, on loan for good; what has a key is acked, for else the next one of its key would
/// not come. The engine is thrown away after.
fn show(model: &Model, engine: &Engine, side: &Side, late: Now) -> Verdict<Shown> {
    let wrong = |error: crate::error::Error| Violation(format!("a recovered queue refuses: {error}"));
    let cell = engine.group(&side.name).map_err(wrong)?;
    let letters = engine.dead_letters(&cell).into_iter().chain(engine.parked(&cell));
    let buried = letters.map(|letter| (letter.id.seq(), letter.attempts)).collect();
    let worker = engine.enlist(&cell, "oracle", PULSE, late).map_err(wrong)?;
    let ask = ask(16, LaneSet::ALL, u64::MAX / 2, worker.consumer());
    let is_keyed = |one: &Handed| model.tasks.get(&one.receipt.task.seq).is_some_and(|task| task.key.is_some());
    let mut handed: Vec<Handed> = Vec::new();
    loop {
        let more = engine.reserve(&cell, &ask, late, |one| one).map_err(wrong)?;
        if more.is_empty() {
            break;
        }
        let keyed: Vec<Receipt> = more.iter().filter(|one| is_keyed(one)).map(|one| one.receipt).collect();
        if !keyed.is_empty() {
            engine.settle(&cell, keyed.into_iter(), Settle::Ack, late).map_err(wrong)?;
        }
        handed.extend(more);
    }
    let dead = dead_of(engine, &cell);
    Ok(Shown { handed, buried, dead })
}

/// Right after an open nothing is due before the rest, so each lane comes in the order of its sequences, key by key.
fn in_order(model: &Model, side: &Side, shown: &Shown) -> Verdict {
    let mut last: BTreeMap<(LaneId, Option<u8>), Seq> = BTreeMap::new();
    for one in &shown.handed {
        let task = one.receipt.task;
        let told = model.tasks.get(&task.seq);
        if told.is_some_and(|task| task.asks.run_at.is_some()) {
            continue;
        }
        let before = last.insert((task.lane, told.and_then(|task| task.key)), task.seq);
        ensure!(
            before.is_none_or(|b| b < task.seq),
            "order in lane {} for {}: {before:?}, then {task}",
            task.lane,
            side.name
        );
    }
    Ok(())
}

fn nothing_comes_that_should_not(model: &Model, side: &Side, shown: &Shown, before: &Before) -> Verdict {
    let forgets = before.forgets();
    for one in &shown.handed {
        let (seq, attempt) = (one.receipt.task.seq, one.receipt.attempt);
        let Some(task) = model.tasks.get(&seq) else {
            return Err(Violation(format!("task {seq} was never accepted")));
        };
        let Some(mine) = side.mine.get(&seq) else {
            return Err(Violation(format!("task {seq} is not for group {}, or is gone", side.name)));
        };
        let same = one.receipt.task.lane == task.lane && one.body.payload() == task.payload.to_vec();
        ensure!(same, "task {seq} is not as it was accepted");
        for settled in [mine.acked, mine.dead] {
            let stays = settled.must_be(before.power_lost);
            ensure!(!stays || forgets, "task {seq} is settled for {} and comes again: {mine:?}", side.name);
        }
        ensure!(!mine.over || forgets, "task {seq} was dead for {} and is alive again: {mine:?}", side.name);
        let most = mine.attempts_most + u32::from(side.reserve_failed);
        let most = if before.power_lost { most + mine.taken_back } else { most };
        ensure!(
            attempt <= most + 1 || forgets,
            "attempt {attempt} of task {seq} for {} is too high: {mine:?}",
            side.name
        );
        let exact = !before.power_lost && !forgets;
        ensure!(!exact || attempt > mine.attempts, "attempt {attempt} of task {seq} is too low: {mine:?}");
        let is_enough = forgets || attempt > mine.attempts_kept;
        ensure!(is_enough, "attempt {attempt} of task {seq} is lower than what was durable: {mine:?}");
    }
    Ok(())
}

fn nothing_is_missing(model: &Model, side: &Side, shown: &Shown, before: &Before, damage: &[Damage]) -> Verdict {
    let mut lost = 0;
    for (seq, mine) in side.mine.iter().filter(|(_, mine)| mine.must && mine.acked == Sure::No) {
        let Some(task) = model.tasks.get(seq) else { continue };
        if !task.kept.must_be(before.power_lost) || shown.contains(*seq) || task.is_expired(before.late_ms) {
            continue;
        }
        let reported = |one: &Damage| one.lost.is_some_and(|(first, last)| (first..=last).contains(seq));
        let is_reported = damage.iter().any(|one| one.lane == Some(task.lane) && reported(one));
        ensure!(before.hurt.is_some() && is_reported, "task {seq} is lost for {}: {task:?}, {mine:?}", side.name);
        lost += 1;
    }
    let most = before.hurt.as_ref().map_or(0, |harm| harm.lost_most);
    ensure!(lost <= most, "{lost} tasks are lost, and the damage may cost {most}");
    Ok(())
}

fn dead_letters_are_right(side: &Side, shown: &Shown, model: &Model, before: &Before) -> Verdict {
    let forgets = before.forgets() || before.hurt.is_some();
    for (seq, mine) in &side.mine {
        let kept = model.tasks.get(seq).is_some_and(|task| task.kept.must_be(before.power_lost));
        let stays = mine.dead.must_be(before.power_lost) && kept && !forgets;
        ensure!(!stays || shown.dead.contains(seq), "dead letter {seq} of {} is lost: {mine:?}", side.name);
    }
    for seq in &shown.dead {
        let Some(mine) = side.mine.get(seq) else {
            return Err(Violation(format!("task {seq} is a dead letter of {}, which never saw it", side.name)));
        };
        let task = model.tasks.get(seq);
        let began = mine.attempts_most.saturating_add(mine.taken_back + u32::from(side.reserve_failed));
        let max = task.map_or(before.setting.attempts_max, |task| task.attempts_max(before.setting.attempts_max));
        let worn_out = max > 0 && began >= max;
        let expired = task.is_some_and(|task| task.is_expired(before.late_ms));
        ensure!(mine.dead.may_be() || worn_out || expired, "task {seq} is dead for {}: {mine:?}", side.name);
        let came_back = mine.revived && !before.power_lost && !forgets;
        ensure!(
            !came_back || !shown.buried.contains_key(seq),
            "dead letter {seq} of {} came back and is dead",
            side.name
        );
        ensure!(
            !mine.acked.must_be(before.power_lost) || forgets,
            "task {seq} was acked and is dead for {}",
            side.name
        );
    }
    Ok(())
}

fn batches_are_whole(model: &Model, side: &Side, shown: &Shown, before: &Before) -> Verdict {
    if before.hurt.is_some() {
        // Of a batch that was durable only the damaged record is lost.
        return Ok(());
    }
    let mut batches: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for (seq, _) in side.mine.iter().filter(|(_, mine)| mine.must && mine.acked == Sure::No) {
        let Some(task) = model.tasks.get(seq).filter(|task| task.batch > 0) else { continue };
        let (there, count) = batches.entry(task.batch).or_default();
        *there += u32::from(shown.contains(*seq));
        *count += 1;
    }
    for (batch, (there, count)) in batches {
        ensure!(there == 0 || there == count, "{there} of {count} tasks of batch {batch} survived for {}", side.name);
    }
    Ok(())
}

/// Everything that tells whether a transaction is there tells the same.
fn transactions_are_whole(model: &Model, shown: &[Shown], before: &Before) -> Verdict {
    if before.hurt.is_some() || before.degraded {
        // Damage costs what it hits, and where not everything can be read acks are forgotten.
        return Ok(());
    }
    for transaction in &model.transactions {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (side, shown) in model.sides.iter().zip(shown) {
            for (seq, mine) in transaction.tasks.iter().filter_map(|seq| Some((*seq, side.mine.get(seq)?))) {
                if shown.contains(seq) {
                    there.push(format!("task {seq} of it"));
                } else if mine.must && mine.is_open() {
                    gone.push(format!("task {seq} of it"));
                }
            }
            let own = |mine: &&Mine| side.ordinal == transaction.side && mine.transaction == transaction.number;
            for (seq, how) in &transaction.settled {
                let expired = model.tasks.get(seq).is_some_and(|task| task.is_expired(before.late_ms));
                if expired || side.mine.get(seq).filter(own).is_none() {
                    continue;
                }
                let kept = model.tasks.get(seq).is_some_and(|task| task.kept.must_be(before.power_lost));
                let handed = shown.handed.iter().any(|one| one.receipt.task.seq == *seq);
                match how {
                    How::Ack if shown.contains(*seq) => gone.push(format!("its ack of {seq}")),
                    How::Ack if kept => there.push(format!("its ack of {seq}")),
                    How::Reject if handed => gone.push(format!("its rejection of {seq}")),
                    How::Reject if shown.buried.contains_key(seq) => there.push(format!("its rejection of {seq}")),
                    _ => {}
                }
            }
        }
        let number = transaction.number;
        ensure!(there.is_empty() || gone.is_empty(), "half of transaction {number}: there: {there:?}, gone: {gone:?}");
    }
    Ok(())
}

/// What survived is promised from here on; what did not is gone for everybody.
fn take_over(model: &mut Model, shown: &[Shown], before: &Before) {
    let late_ms = before.late_ms;
    model.transactions.clear();
    let mut survivors = BTreeSet::new();
    let mut lost = BTreeSet::new();
    for (side, shown) in model.sides.iter_mut().zip(shown) {
        let attempts: BTreeMap<Seq, u32> =
            shown.handed.iter().map(|one| (one.receipt.task.seq, one.receipt.attempt - 1)).collect();
        for (seq, mine) in &mut side.mine {
            let fresh = Mine { must: true, fence: mine.fence, ..Mine::default() };
            // It expired in the eyes of whoever looked; in the queue itself its time is not over.
            if mine.acked < Sure::Power && model.tasks.get(seq).is_some_and(|task| task.is_expired(late_ms)) {
                let dead = if shown.buried.contains_key(seq) { Sure::Power } else { Sure::No };
                *mine = Mine { must: false, dead, attempts_most: WORN_OUT, ..fresh };
                continue;
            }
            *mine = if let Some(attempts) = attempts.get(seq) {
                Mine { attempts: *attempts, attempts_most: *attempts, ..fresh }
            } else if let Some(attempts) = shown.buried.get(seq) {
                Mine { dead: Sure::Power, attempts: *attempts, attempts_most: *attempts, ..fresh }
            } else if shown.dead.contains(seq) {
                // Its attempts are used up: in the queue itself it is buried by the next reserve.
                Mine { attempts: 0, attempts_most: WORN_OUT, ..fresh }
            } else {
                if mine.must && mine.acked <= Sure::Maybe {
                    lost.insert(*seq);
                }
                side.lost.note(*seq, mine, before.power_lost);
                Mine { acked: Sure::Power, dead: Sure::No, transaction: 0, purged: false, ..*mine }
            };
        }
        side.reserve_failed = false;
        survivors.extend(attempts.into_keys());
        survivors.extend(&shown.dead);
    }
    // Whatever is there after an open is durable.
    for (seq, task) in &mut model.tasks {
        task.kept = Sure::Power;
        let sure = task.cancelled.must_be(before.power_lost) && !before.forgets();
        task.cancelled = match task.cancelled {
            Sure::No => Sure::No,
            _ if sure => Sure::Power,
            _ if survivors.contains(seq) => Sure::No,
            _ => Sure::Maybe,
        };
    }
    for seq in lost.difference(&survivors) {
        model.sides.iter_mut().for_each(|side| {
            side.mine.remove(seq);
        });
    }
}
