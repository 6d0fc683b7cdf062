//! Transactions of which some tasks have dedup ids.
//!
//! Which ids count is looked up before anything of the transaction happens, its own settles included: a task whose id
//! counts is left out of it, and the first task stands in its place. The index is held from that look until the rest of the
//! transaction is published, so of several with one id exactly one is the first; and what is refused, or not known to have
//! happened, leaves no id in it. What a crash leaves is as for any task: the records of a transaction that is undone are
//! void, and so are their ids.

use crate::error::Result;
use crate::sync::atomic::Ordering;
use crate::types::Now;

use super::{Accepted, Engine, Part, TaskDraft, id_of, in_order};
use crate::engine::Attempt;
use crate::engine::transaction::{Decided, Plan};

impl Engine {
    /// Makes a transaction true; of tasks whose dedup id counts it gives the first ones, and adds nothing. Durable when all
    /// logs of the answer are, up to the ends it names.
    ///
    /// Errors: as for [`Engine::transact`]; `DedupFull`; `Io` and `Damaged` where a page of the index can't be used. Nothing
    /// was written then, but for `InDoubt`.
    pub(crate) fn transact_once(&self, plan: &Plan<'_>, now: Now) -> Result<Attempt<Accepted>> {
        let lanes = plan.tasks.iter().map(|(lane, _)| *lane);
        if plan.tasks.iter().all(|(_, task)| id_of(task).is_none()) {
            let Attempt::Done(Decided { tasks, ends }) = self.transact(plan, now)? else {
                return Ok(Attempt::NotReady);
            };
            return Ok(Attempt::Done(Accepted { tasks: lanes.zip(tasks).collect(), ends, hits: 0 }));
        }
        self.check_poison()?;
        let mut index = self.dedup.index.lock();
        let drafts: Vec<TaskDraft<'_>> = plan.tasks.iter().map(|(_, task)| *task).collect();
        let (parts, new) = self.look(&index, &drafts, now)?;
        let chosen: Vec<_> = new.iter().filter_map(|at| plan.tasks.get(*at)).collect();
        self.make_room(&mut index, chosen.iter().filter(|(_, task)| id_of(task).is_some()).count(), now)?;
        let fields = in_order(chosen.iter().map(|(_, task)| task), &mut index.order);
        let tasks: Vec<_> =
            chosen.iter().zip(&fields).map(|((lane, task), fields)| (*lane, TaskDraft { fields, ..*task })).collect();
        let Attempt::Done(decided) = self.transact(&Plan { tasks: &tasks, ..*plan }, now)? else {
            return Ok(Attempt::NotReady);
        };
        let mut accepted = Accepted { hits: (drafts.len() - new.len()) as u64, ..Accepted::default() };
        let nth = |number: usize| Some((tasks.get(number)?.0, *decided.tasks.get(number)?));
        for part in parts {
            match part {
                Part::New(number) => accepted.tasks.extend(nth(number)),
                Part::First(once, ends) => {
                    accepted.tasks.push((once.lane, once.seq));
                    accepted.ends.extend(ends);
                }
            }
        }
        accepted.ends.extend(decided.ends);
        for ((lane, task), seq) in tasks.iter().zip(&decided.tasks) {
            self.remember(&mut index, *lane, *seq, id_of(task));
        }
        self.dedup.hits.fetch_add(accepted.hits, Ordering::Relaxed);
        Ok(Attempt::Done(accepted))
    }

    /// Numbers for so many tasks that nobody else gets, for who stands still in the middle of a transaction.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn take_orders(&self, count: usize) -> u64 {
        let mut index = self.dedup.index.lock();
        let first = index.order;
        index.order = first.saturating_add(count as u64);
        first
    }
}
