//! Three threads (a fourth is in [`super::keeper`]): the janitor makes segments ready, ticks timers, writes checkpoints and lets go of what is
//! done; the committer syncs `Process` data at its interval, or when much of it waits, and marks logs that came to rest; the mover moves what
//! lives of sparse segments, which takes longer than timers may wait.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::unsettled::Looks;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::storage::disk::clock;
use crate::sync::atomic::Ordering;
use crate::types::{LaneId, LogId};

use super::core::Core;

/// The longest time between two rounds of the janitor when nobody wakes it.
const ROUND: Duration = Duration::from_millis(50);

/// How long the committer sleeps at most until it looks again how much waits for its sync, while anything does.
const LOOK: Duration = Duration::from_millis(12);
/// Likewise while nothing does.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Of so many lanes as much may wait for its sync as of one, because all in them is settled.
const LANES_COUNTED: u64 = 4;

/// How long the mover rests when there was nothing to move.
const MOVER_ROUND: Duration = Duration::from_millis(200);

/// Ends the threads when the last handle of the queue is dropped without a close.
pub(super) struct Guard(Weak<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade()
            && !core.closed.swap(true, Ordering::SeqCst)
        {
            stop(&core);
        }
    }
}

/// Starts them.
pub(super) fn start(core: &Arc<Core>) -> Result<Guard> {
    let guard = Guard(Arc::downgrade(core));
    spawn(core, "lanelog-janitor", janitor)?;
    spawn(core, "lanelog-commit", committer)?;
    if core.engine.settings().evacuation_percent > 0 {
        spawn(core, "lanelog-mover", mover)?;
    }
    Ok(guard)
}

/// Wakes whoever waits and joins them. `closed` is set by then.
pub(super) fn stop(core: &Core) {
    core.engine.housework.wake_all();
    core.commit_word.wake_all();
    core.mover_word.wake_all();
    core.keeper.word.wake_all();
    core.ready.wake_all();
    core.engine.room.wake_all();
    core.engine.arrivals.wake_all();
    let threads = std::mem::take(&mut *core.threads.lock());
    if core.is_forked() {
        // They run in the parent; here there is nobody to join.
        std::mem::forget(threads);
        return;
    }
    for thread in threads {
        // A thread that panicked has nothing more to do either; its work is repeated at the next open.
        let _panicked = thread.join();
    }
}

pub(super) fn spawn(core: &Arc<Core>, name: &str, run: fn(&Core)) -> Result<()> {
    let shared = Arc::clone(core);
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
    let thread = spawned.map_err(|error| Error::io(".", "start a thread", error))?;
    core.threads.lock().push(thread);
    Ok(())
}

fn janitor(core: &Core) {
    while !core.closed.load(Ordering::SeqCst) {
        let enrolled = core.engine.housework.enrol();
        let now = clock::now();
        // One segment a round: producers that outrun this must not keep the rest of the house from being kept.
        let more = match core.engine.prepare() {
            Ok(made) => made,
            Err(error) => {
                *core.failure.lock() = Some(error);
                core.failures.fetch_add(1, Ordering::SeqCst);
                core.ready.wake_all();
                false
            }
        };
        if more {
            core.ready.wake_all();
        }
        // A poisoned engine refuses; the callers learn it from their own calls.
        let next_ms = core.engine.tick(now).ok().flatten();
        core.engine.sweep_strays();
        core.engine.recycle();
        let _later = core.engine.write_footers(now.wall);
        if core.engine.wants_checkpoint(now) {
            // Without room the old checkpoint stands and the next round tries again.
            let _later = core.engine.checkpoint_if_free(now);
        }
        // What was recycled is ready too.
        core.ready.wake_all();
        if more {
            continue;
        }
        let rest = next_ms.map_or(ROUND, |due| Duration::from_millis(due.saturating_sub(now.boot_ms)).min(ROUND));
        enrolled.sleep(Some(rest.max(Duration::from_millis(1))));
    }
}

fn committer(core: &Core) {
    // What is not settled within half of the interval, counted from the look before, is synced within the whole of it.
    let half = Duration::from_millis(core.engine.settings().sync_interval_ms) / 2;
    let mut looks = Looks::default();
    let mut outcome = Ok(());
    while !core.closed.load(Ordering::SeqCst) {
        // After a failure nothing becomes durable any more, however much waits.
        let is_crowded = rest(core, half, &mut looks, outcome.is_ok());
        let busy = core.has_unsynced();
        // An error poisons the engine, and everybody learns it from there.
        outcome = if is_crowded { core.sync_published() } else { core.sync_unsettled(&mut looks) };
        // Producers may wait for that.
        core.ready.wake_all();
        if outcome.is_ok() && !busy {
            let _poisoned = core.engine.mark_idle(clock::coarse_wall());
        }
    }
}

/// Sleeps for so long, or until too much waits for its sync, which is true then.
fn rest(core: &Core, span: Duration, looks: &mut Looks, is_well: bool) -> bool {
    let settings = core.engine.settings();
    let most = settings.recovered_lane_bytes().min(settings.unsynced_max);
    let began = clock::nanos();
    loop {
        let enrolled = core.commit_word.enrol();
        let journal = core.engine.journal();
        let journal_waits = journal.published().saturating_sub(journal.durable());
        let (mut unsettled, mut all, mut most_of_a_lane) = (journal_waits, journal_waits, 0);
        for (lane, log) in core.engine.lanes().all().filter(|(_, log)| log.has_unsynced()) {
            let waits = core.engine.look_at(looks, lane, log);
            (unsettled, all, most_of_a_lane) = (unsettled + waits.0, all + waits.1, waits.1.max(most_of_a_lane));
        }
        let settled_max = core.engine.settled_unsynced_max();
        let all_max = settled_max.saturating_mul(LANES_COUNTED).min(settings.unsynced_max);
        let is_crowded = unsettled > most || most_of_a_lane > settled_max || all > all_max;
        let left = span.saturating_sub(Duration::from_nanos(clock::nanos().saturating_sub(began)));
        if left.is_zero() || (is_crowded && is_well) || core.closed.load(Ordering::SeqCst) {
            return is_crowded;
        }
        enrolled.sleep(Some(left.min(if all > 0 { LOOK } else { IDLE_LOOK })));
    }
}

fn mover(core: &Core) {
    while !core.closed.load(Ordering::SeqCst) {
        let enrolled = core.mover_word.enrol();
        // An error poisons the engine, and everybody learns it from there.
        let moved = core.engine.evacuate(clock::now()).unwrap_or(false);
        if !moved && !core.closed.load(Ordering::SeqCst) {
            enrolled.sleep(Some(MOVER_ROUND));
        }
    }
}

impl Core {
    /// Waits until everything that was accepted so far is durable, in every log.
    pub(super) fn sync_all(&self) -> Result<()> {
        self.sync_to(Log::filled, |_, _| true)
    }

    /// Waits until what is published without a gap is durable, in every log: a producer that stands still between
    /// claim and publish does not hold this up.
    fn sync_published(&self) -> Result<()> {
        self.sync_to(Log::published, |_, _| true)
    }

    /// The same, but for lanes whose tasks are settled as fast as they come. Once in half an interval.
    fn sync_unsettled(&self, looks: &mut Looks) -> Result<()> {
        self.sync_to(Log::published, |lane, log| self.engine.is_sync_due(looks, lane, log))
    }

    fn sync_to(&self, end: impl Fn(&Log) -> u64, mut is_due: impl FnMut(LaneId, &Log) -> bool) -> Result<()> {
        self.engine.check_poison()?;
        let lanes = self.engine.lanes().all().filter(|(lane, log)| log.has_unsynced() && is_due(*lane, log));
        let mut due: Vec<(LogId, u64)> = lanes.map(|(lane, log)| (LogId::from(lane), end(log))).collect();
        let journal = self.engine.journal();
        debug_assert_eq!(journal.id(), LogId::JOURNAL, "the journal is the journal");
        if journal.has_unsynced() {
            due.push((LogId::JOURNAL, end(journal)));
        }
        self.wait_for_all(&due)?;
        self.engine.check_poison()
    }

    fn has_unsynced(&self) -> bool {
        self.engine.logs().any(Log::has_unsynced)
    }
}
