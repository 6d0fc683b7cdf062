//! Which lane comes next. A room of its own, so that further policies change nothing else.
//!
//! A scheduler is told which lanes *may* have something, and learns what they had: [`Scheduler::pick`] gives a turn, and
//! [`Scheduler::served`] or [`Scheduler::found_empty`] says what came of it. It remembers turns over reserves, so that a
//! consumer who takes tasks one by one gets the same shares as one who takes batches.

use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
use crate::sabotage::{Bug, on};
use crate::types::{LANES_MAX, LaneId, LaneSet, millis, parse_span};

/// How the next lane is chosen. Every group goes by it for itself, over the reserves that ask for all lanes; one that
/// names some gets the same order among those.
///
/// ```
/// use lanelog::{Options, Priority};
/// use std::time::Duration;
///
/// let shares = Options::new().lanes(3).priority(Priority::Weighted(vec![6, 3, 1]));
/// let aging = Options::new().lanes(3).priority("aging:1m".parse()?);
/// assert_eq!(Priority::Aging { longest_wait: Duration::from_secs(60) }, "aging:1m".parse()?);
/// # Ok::<_, lanelog::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Priority {
    /// The most urgent lane that has something, always. A lane waits for as long as more urgent ones have work: nothing
    /// bounds that.
    #[default]
    Strict,
    /// Shares: the weight of each lane from lane 0 on, 1 to 1000; a lane that none is given for has weight 1.
    ///
    /// *Deficit round robin* (Shreedhar and Varghese 1995) with a cost of 1 for each task: lanes take turns in the order of
    /// their numbers, and in its turn a lane gives as many tasks as its weight. With `w` the weight of a lane and `W`
    /// the sum over all lanes of the queue: while the lane has work, of any `W` tasks handed out in a row at least `w` are
    /// its own, and it waits for at most `W - w` tasks of others. What a lane has no work for goes to the others at once;
    /// nothing is saved up.
    Weighted(Vec<u16>),
    /// As [`Priority::Strict`], but a lane that was neither served nor found empty for `longest_wait` (1 ms to 10 years)
    /// goes first with one task, the longest waiting lane before others. Right after an open all begin to wait.
    ///
    /// In a queue of `L` lanes, a lane that has work is served with the `L`th task at the latest that is handed out once
    /// its `longest_wait` is over: so at least one task of it for each `longest_wait`, if that many are taken. All others
    /// follow the strict order.
    Aging {
        /// How long a lane may wait for its turn.
        longest_wait: Duration,
    },
}

impl FromStr for Priority {
    type Err = Error;

    /// `strict`, `weighted:6,3,1` or `aging:30s`; times as in `250ms`, `1s`, `5m`, `2h`, `1d`. Whether weights and times are
    /// in bounds is looked at by the open.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || match text.split_once(':') {
            None if text == "strict" => Some(Priority::Strict),
            Some(("weighted", weights)) => {
                let weights = weights.split(',').map(|weight| weight.parse().ok());
                Some(Priority::Weighted(weights.collect::<Option<_>>()?))
            }
            Some(("aging", wait)) => Some(Priority::Aging { longest_wait: parse_span(wait)? }),
            _ => None,
        };
        parse().ok_or_else(|| Error::InvalidOption {
            option: "priority",
            why: format!("{text:?} is none of strict, weighted:6,3,1 and aging:30s"),
        })
    }
}

/// The largest weight of a lane.
pub(crate) const WEIGHT_MAX: u16 = 1000;

/// A lane's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub lane: LaneId,
    /// The most tasks it may give in this turn.
    pub tasks_max: usize,
}

/// A policy and what it remembers.
pub(crate) struct Scheduler(Memory);

enum Memory {
    Strict,
    Weighted {
        weights: Vec<u16>,
        /// Whose turn it is, and how many tasks are left of it: 0 is the next lane's turn.
        lane: LaneId,
        left: usize,
    },
    Aging {
        longest_wait_ms: u64,
        /// Since when each lane waits for its turn, on the boot clock.
        waits: Box<[u64; LANES_MAX]>,
    },
}

impl Scheduler {
    /// All lanes wait from `now_ms` on, on the boot clock.
    pub(crate) fn new(priority: &Priority, now_ms: u64) -> Self {
        Scheduler(match priority {
            Priority::Strict => Memory::Strict,
            Priority::Weighted(weights) => {
                Memory::Weighted { weights: weights.clone(), lane: LaneId(u8::MAX), left: 0 }
            }
            Priority::Aging { longest_wait } => {
                Memory::Aging { longest_wait_ms: millis(*longest_wait), waits: Box::new([now_ms; LANES_MAX]) }
            }
        })
    }

    /// The lane to take from at `now_ms` on the boot clock, of those that may have something. The same turn again until
    /// it is told what came of it.
    pub(crate) fn pick(&mut self, available: &LaneSet, now_ms: u64) -> Option<Turn> {
        let first = available.first()?;
        match &mut self.0 {
            Memory::Strict => Some(Turn { lane: first, tasks_max: usize::MAX }),
            Memory::Weighted { weights, lane, left } => {
                if *left == 0 || !available.contains(*lane) {
                    *lane = available.iter().find(|next| *next > *lane).unwrap_or(first);
                    *left = usize::from(weights.get(lane.index()).copied().unwrap_or(1).max(1));
                }
                Some(Turn { lane: *lane, tasks_max: *left })
            }
            Memory::Aging { longest_wait_ms, waits } => {
                let mut overdue: Option<(u64, LaneId)> = None;
                for lane in available.iter() {
                    let since = waits.get(lane.index()).copied().unwrap_or(now_ms);
                    let is_over = now_ms.saturating_sub(since) > *longest_wait_ms;
                    if is_over && overdue.is_none_or(|(longest, _)| since < longest) && !on(Bug::LaneForgotten) {
                        overdue = Some((since, lane));
                    }
                }
                let one = overdue.map(|(_, lane)| Turn { lane, tasks_max: 1 });
                one.or(Some(Turn { lane: first, tasks_max: usize::MAX }))
            }
        }
    }

    /// The lane that was picked gave so many tasks at `now_ms`, and may have more.
    pub(crate) fn served(&mut self, lane: LaneId, tasks: usize, now_ms: u64) {
        match &mut self.0 {
            Memory::Strict => {}
            Memory::Weighted { lane: current, left, .. } => {
                if *current == lane {
                    *left = left.saturating_sub(tasks);
                }
            }
            Memory::Aging { waits, .. } => {
                if tasks > 0
                    && let Some(wait) = waits.get_mut(lane.index())
                {
                    *wait = now_ms;
                }
            }
        }
    }

    /// The lane that was picked has nothing left at `now_ms`.
    pub(crate) fn found_empty(&mut self, lane: LaneId, now_ms: u64) {
        match &mut self.0 {
            Memory::Strict => {}
            Memory::Weighted { lane: current, left, .. } => {
                if *current == lane {
                    *left = 0;
                }
            }
            Memory::Aging { waits, .. } => {
                if let Some(wait) = waits.get_mut(lane.index()) {
                    *wait = now_ms;
                }
            }
        }
    }
}
