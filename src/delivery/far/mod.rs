//! Tasks whose time is far: a bit each in memory, and what is needed to find them in time outside of it.
//!
//! # The protocol
//!
//! One queue by time for each lane of a group, an external merge of sorted runs (Knuth, *The Art of Computer Programming*,
//! vol. 3, 5.4) that never ends: what is read off its front are the tasks to be loaded, and new runs come in at any time.
//!
//! 1. *Meet.* A task that was never handed out, and is due later than twice [`FarRules::near_ms`] from now, gets no slot. A
//!    bit says that it waits here; its life counts it as open, like every task that has a slot; and an entry (its time,
//!    sequence, offset) goes to what is *gathered* in memory.
//! 2. *Spill.* When a run's worth is gathered it is sorted and written to the scratch file. Of a run one page of entries
//!    to come stays in memory. If it can't be written, what is gathered stays in memory and the next run's worth tries
//!    again: then memory follows the number of these tasks, and nothing else changes.
//! 3. *Load.* When the first entry is due within `near_ms`, all that are due within twice that are taken off the front. One
//!    whose bit is gone (it was cancelled, parked, purged) is dropped. The record of any other is read, and from here on the
//!    task waits like every other delayed one: a slot, and a timer on the wheel; or it is due at once.
//! 4. *Walk again.* If a page can't be read back, or does not verify, its run is given up: a cursor walks over the records
//!    that the run spoke of, and those whose bit is set are gathered anew. What is gathered twice is loaded once,
//!    because the bit is gone then. Nothing more of this lane is written until its queue was empty once.
//!
//! Nothing here is stored: after a reopen the cursor meets every task again. So the scratch file is never synced, no
//! recovery looks at it, and losing all of it with the process loses nothing.
//!
//! # Clocks
//!
//! Runs are sorted by a clock that goes with the boot clock and never back, and that the wall clock takes along when it
//! jumps ahead: so no jump back makes a delay longer, and a jump ahead makes what is due by then be loaded at the next look.
//! Whether a task is due is decided as it is loaded, by its own time and the wall clock, or by how long it was to wait when
//! it was met. One that is still far then, because the clock of keys went ahead of the wall clock, which jumped and came
//! back, is gathered again.
//!
//! # What it takes
//!
//! A bit for each task, a page for each run of 64 Ki of them (half a bit a task), and 2 MiB for what is gathered in each lane
//! that has any. So there is nothing to be won by merging runs: their pages take less than the bits. On disk 28 bytes a task,
//! given back run by run. And of each lane at most [`FarRules::loaded_max`] slots that wait for their time, and as many
//! without a key that wait for somebody who takes them, however many tasks are due at the same moment.

mod load;
mod run;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::format::far::FarEntry;
use crate::types::{Now, Seq};

use super::bits::Bits;
use super::meet::fire_ms;
use run::Run;
pub(crate) use run::Scratch;

/// What is far, and how it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FarRules {
    /// A task that is due this soon has a slot; one that is met and due later than twice that has none.
    pub near_ms: u64,
    /// Entries of a run.
    pub run_entries: usize,
    /// Entries of a page of it.
    pub page_entries: usize,
    /// While so many tasks of a lane have slots nothing is loaded ahead of its time; while so many are due nothing at all.
    pub loaded_max: u64,
}

impl FarRules {
    /// Half a minute; runs of 64 Ki entries in pages of 4 KiB; 3 MiB of slots.
    pub(crate) const USUAL: FarRules =
        FarRules { near_ms: 30_000, run_entries: 64 << 10, page_entries: 146, loaded_max: 16 << 10 };

    /// Due this far ahead or further a task is far.
    pub(super) fn far_ms(&self) -> u64 {
        self.near_ms.saturating_mul(2)
    }
}

/// The far tasks of one lane.
pub(crate) struct Far {
    rules: FarRules,
    /// By base of the life and record index: the tasks that wait here. An entry without its bit means nothing.
    bits: Bits,
    /// How many bits are set.
    count: u64,
    /// How far the wall clock was ahead of the boot clock at most, since this queue was empty.
    ahead_ms: i64,
    /// The nearest first.
    gathered: BinaryHeap<Reverse<FarEntry>>,
    /// A run is written when so many are gathered; `None`: no more.
    spill_at: Option<usize>,
    runs: BTreeMap<u64, Run>,
    /// The first key of every run, and the run.
    heads: BinaryHeap<Reverse<(u64, u64)>>,
    /// Of runs that were given up: the first and the last task of each.
    given_up: Vec<(Seq, Seq)>,
}

impl Far {
    pub(super) fn new(rules: FarRules, now: Now) -> Self {
        Far {
            rules,
            bits: Bits::default(),
            count: 0,
            ahead_ms: ahead_ms(now),
            gathered: BinaryHeap::new(),
            spill_at: Some(rules.run_entries),
            runs: BTreeMap::new(),
            heads: BinaryHeap::new(),
            given_up: Vec::new(),
        }
    }

    /// How many tasks wait.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// True if that task waits here.
    pub(super) fn contains(&self, base: u64, index: u32) -> bool {
        self.bits.contains(base, index)
    }

    /// A task waits for `rest_ms` from now. The caller counts its bit as it sets it.
    fn gather(&mut self, seq: Seq, offset: u32, rest_ms: u64, now: Now, scratch: Option<&dyn Scratch>) {
        let key = self.clock(now).saturating_add(rest_ms);
        self.gather_entry(FarEntry { key, fire_ms: fire_ms(rest_ms, now), seq, offset }, scratch);
    }

    fn gather_entry(&mut self, entry: FarEntry, scratch: Option<&dyn Scratch>) {
        self.gathered.push(Reverse(entry));
        if self.spill_at.is_some_and(|at| self.gathered.len() >= at)
            && let Some(scratch) = scratch
        {
            self.spill(scratch);
        }
    }

    /// Sets a task's bit; true if it was not set.
    fn mark(&mut self, base: u64, index: u32) -> bool {
        let is_new = self.bits.set(base, index);
        self.count += u64::from(is_new);
        is_new
    }

    /// Takes the bits of a life from `first` to `last` away. Gives how many were set.
    pub(super) fn unmark(&mut self, base: u64, first: u32, last: u32) -> u32 {
        let taken = self.bits.take_out(base, first, last);
        self.count -= u64::from(taken);
        taken
    }

    /// The clock that keys are on; it never goes back.
    fn clock(&mut self, now: Now) -> u64 {
        self.ahead_ms = self.ahead_ms.max(ahead_ms(now));
        now.boot_ms.saturating_add_signed(self.ahead_ms)
    }

    /// The key of the first entry.
    fn head(&self) -> Option<u64> {
        let gathered = self.gathered.peek().map(|Reverse(entry)| entry.key);
        let written = self.heads.peek().map(|Reverse((key, _))| *key);
        gathered.into_iter().chain(written).min()
    }

    /// Takes the first entry off, if its key is at most `until`.
    fn pop(&mut self, until: u64, scratch: Option<&dyn Scratch>) -> Option<FarEntry> {
        let key = self.head().filter(|key| *key <= until)?;
        if self.gathered.peek().is_some_and(|Reverse(entry)| entry.key == key) {
            return self.gathered.pop().map(|Reverse(entry)| entry);
        }
        let Reverse((_, number)) = self.heads.pop()?;
        let run = self.runs.get_mut(&number)?;
        let entry = run.pop();
        match scratch.map_or(Ok(None), |scratch| run.refill(scratch)) {
            Ok(Some(key)) => self.heads.push(Reverse((key, number))),
            Ok(None) => self.end_run(number, scratch),
            Err(_) => {
                self.given_up.push(run.span());
                self.spill_at = None;
                self.end_run(number, scratch);
            }
        }
        entry
    }

    fn end_run(&mut self, number: u64, scratch: Option<&dyn Scratch>) {
        if let (Some(run), Some(scratch)) = (self.runs.remove(&number), scratch) {
            scratch.give_back(run.place());
        }
    }

    /// Writes as many whole runs as are gathered, the farthest entries first.
    fn spill(&mut self, scratch: &dyn Scratch) {
        let size = self.rules.run_entries.max(1);
        // The farthest first.
        let mut entries = std::mem::take(&mut self.gathered).into_sorted_vec();
        let mut written = 0;
        while let Some(part) = entries.get_mut(written..written + size) {
            part.reverse();
            let plain: Vec<FarEntry> = part.iter().map(|Reverse(entry)| *entry).collect();
            let Ok(run) = Run::write(scratch, &plain, self.rules.page_entries) else { break };
            self.heads.extend(run.head().map(|key| Reverse((key, run.number()))));
            self.runs.insert(run.number(), run);
            written += size;
        }
        let left = entries.split_off(written);
        self.spill_at = Some(left.len().saturating_add(size));
        self.gathered = BinaryHeap::from(left);
    }

    /// Gives back everything that lies outside of memory.
    fn end(&mut self, scratch: Option<&dyn Scratch>) {
        for number in self.runs.keys().copied().collect::<Vec<_>>() {
            self.end_run(number, scratch);
        }
    }

    /// When there is something to load, on the clock of keys; `loaded` and `due` are the slots of the lane that wait for
    /// their time, and for somebody who takes them.
    fn next(&self, loaded: u64, due: u64) -> Option<u64> {
        if !self.given_up.is_empty() {
            return Some(0);
        }
        let key = self.head()?;
        let max = self.rules.loaded_max;
        if loaded + due < max { Some(key.saturating_sub(self.rules.near_ms)) } else { (due < max).then_some(key) }
    }

    /// The same on the boot clock, as long as the wall clock does not jump.
    pub(super) fn next_ms(&self, loaded: u64, due: u64) -> Option<u64> {
        let at = self.next(loaded, due).filter(|_| self.count > 0)?;
        Some(at.saturating_add_signed(self.ahead_ms.saturating_neg()))
    }

    /// True if there is something to do now.
    pub(super) fn wants(&self, loaded: u64, due: u64, now: Now) -> bool {
        let clock = now.boot_ms.saturating_add_signed(self.ahead_ms.max(ahead_ms(now)));
        self.count == 0 || self.next(loaded, due).is_some_and(|at| at <= clock)
    }

    /// Runs, and entries in memory.
    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.runs.len(), self.gathered.len() + self.runs.values().map(Run::in_memory).sum::<usize>())
    }
}

/// How far the wall clock is ahead of the boot clock.
fn ahead_ms(now: Now) -> i64 {
    let ms = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    ms(now.wall.0).saturating_sub(ms(now.boot_ms))
}
