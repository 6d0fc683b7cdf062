//! The process that is killed: opens the queue, tells what recovery found, then works on it until it dies.
//!
//! It knows nothing of what it did in an earlier life; who watches it does.

mod consume;
mod produce;
mod tell;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lanelog::{Backoff, Error, Options, Queue, Start, TaskState, inspect};

use crate::kernel;
use crate::payload::Tag;
use crate::report::{ATTEMPTS_MAX, Answer, GROUPS, LANES, Record, Said, State};
use crate::rng::Rng;

use tell::Teller;

/// What a worker is told.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// The queue's directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// The number of this life: its units and calls are numbered from it.
    #[arg(long)]
    pub life: u64,
    /// Seed of its choices.
    #[arg(long)]
    pub seed: u64,
    /// What to do once recovery is through.
    #[arg(long, value_enum)]
    pub then: Then,
    /// Calls after which it closes the queue; 0 is never.
    #[arg(long, default_value_t = 0)]
    pub calls: u64,
    /// Bytes of a segment.
    #[arg(long)]
    pub segment_bytes: u64,
    /// A file with the number of events that the block device has logged.
    #[arg(long)]
    pub events: Option<PathBuf>,
    /// Every sync succeeds and does nothing.
    #[arg(long)]
    pub syncs_off: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Enqueue, consume, checkpoint, until it is killed.
    Work,
    /// Deliver and ack everything, enqueue a task in each lane, and end.
    Drain,
}

/// Open (group, task) pairs above which producers wait.
const BACKLOG_MAX: u64 = 300;

/// What the threads of a worker share.
pub struct Shop {
    pub queue: Queue,
    pub tell: Teller,
    /// Open (group, task) pairs, and whether the work is over.
    backlog: Mutex<u64>,
    room: Condvar,
    over: AtomicBool,
    calls: AtomicU64,
    calls_max: u64,
    units: AtomicU64,
}

/// The life of a worker. Its exit status is nobody's business: what it said counts.
pub fn run(args: &WorkerArgs) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if args.syncs_off {
        kernel::turn_syncs_off().context("can't turn syncs off")?;
    }
    let tell = Teller::new(args.events.as_deref(), args.life)?;
    let mut rng = Rng::new(args.seed);
    tell.say(Said::Began);
    let recovered = recover(args, &tell, &mut rng);
    let queue = match recovered {
        Ok((queue, backlog)) => (queue, backlog),
        // A disk that fails while recovery runs is no broken promise; the next life tries again.
        Err(error) => {
            tell.say(Said::Poisoned(format!("{error:#}")));
            return Ok(());
        }
    };
    let shop = Shop {
        queue: queue.0,
        tell,
        backlog: Mutex::new(queue.1),
        room: Condvar::new(),
        over: AtomicBool::new(false),
        calls: AtomicU64::new(0),
        calls_max: args.calls,
        units: AtomicU64::new(args.life << 32),
    };
    match args.then {
        Then::Work => work(&shop, &mut rng),
        Then::Drain => consume::drain(&shop),
    }
    if !shop.is_poisoned() {
        shop.tell.say(Said::Closing);
        if let Err(error) = shop.queue.clone().close() {
            shop.tell.say(Said::Poisoned(error.to_string()));
        }
        shop.tell.say(Said::Closed);
    }
    Ok(())
}

/// Recovers, looks at the result while nobody has it open, and opens it again: so what is told does not move, and the
/// second recovery has to find what the first one left. Some lives are opened once more without a look between.
fn recover(args: &WorkerArgs, tell: &Teller, rng: &mut Rng) -> Result<(Queue, u64)> {
    let options = options(args, rng);
    let queue = options.open(&args.dir)?;
    for damage in queue.damage() {
        tell.say(Said::Damage(damage.to_string()));
    }
    for group in GROUPS {
        if !queue.groups().iter().any(|known| known == group) {
            queue.create_group(group, Start::Oldest)?;
        }
    }
    drop(queue);
    let picture = inspect(&args.dir)?;
    let mut backlog = 0;
    picture.for_each_task(|task| {
        let state = |group: &str| {
            let found = task.states.iter().find(|(name, _)| name == group);
            found.map_or(State::NoGroup, |(_, state)| state_of(state))
        };
        let states = GROUPS.map(state);
        backlog += states.iter().filter(|state| matches!(state, State::Open(_))).count() as u64;
        let (lane, seq, tag) = (task.id.lane().0, task.id.seq().0, Tag::read(&task.payload));
        tell.say(Said::Found(Record { lane, seq, tag, states }));
    });
    let queue = options.open(&args.dir)?;
    for damage in queue.damage() {
        tell.say(Said::Damage(format!("at the second open: {damage}")));
    }
    // Only now: what the picture says is promised from here on, and both opens have taken part in it.
    tell.say(Said::Pictured);
    Ok((queue, backlog))
}

fn state_of(state: &TaskState) -> State {
    match state {
        TaskState::Attempted { attempts } | TaskState::Delayed { attempts, .. } => State::Open(*attempts),
        TaskState::Acked => State::Acked,
        TaskState::Dead { attempts, .. } => State::Dead(*attempts),
        _ => State::Open(0),
    }
}

/// Everything small, so that a few tasks roll segments, fill journals and make checkpoints due.
fn options(args: &WorkerArgs, rng: &mut Rng) -> Options {
    Options::new()
        .lanes(usize::from(LANES))
        .segment_bytes(args.segment_bytes)
        .max_attempts(ATTEMPTS_MAX)
        .lease(Duration::from_secs(600))
        .backoff(Backoff::exponential(Duration::ZERO, Duration::from_millis(2)))
        .sync_interval(Duration::from_millis(1 + rng.below(20)))
        .checkpoint_bytes(4_096 << rng.below(5))
        .checkpoint_interval(Duration::from_millis(10 + rng.below(200)))
        .sigbus_guard(rng.chance(1, 2))
}

fn work(shop: &Shop, rng: &mut Rng) {
    thread::scope(|scope| {
        for _ in 0..3 {
            let rng = rng.fork();
            scope.spawn(move || produce::produce(shop, rng));
        }
        for group in [0, 0, 1] {
            let rng = rng.fork();
            scope.spawn(move || consume::consume(shop, group, rng));
        }
        let rng = rng.fork();
        scope.spawn(move || keep_house(shop, rng));
    });
}

/// Checkpoints and syncs beside those of the queue's own threads, and a look at what can be looked at.
fn keep_house(shop: &Shop, mut rng: Rng) {
    while shop.go_on() {
        shop.pause(Duration::from_micros(200 + rng.below(20_000)));
        match rng.below(4) {
            0 => {
                if shop.ask(shop.queue.checkpoint()) == Answer::Done {
                    shop.tell.say(Said::Checkpointed);
                }
            }
            1 | 2 => {
                let op = shop.tell.number();
                shop.tell.say(Said::Sync { op });
                let answer = shop.ask(shop.queue.sync());
                shop.tell.say(Said::Synced { op, answer });
            }
            _ => {
                let _looked = (shop.queue.stats(), shop.queue.pins());
            }
        }
    }
}

impl Shop {
    /// False once the work is over, be it done or poisoned.
    pub fn go_on(&self) -> bool {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.calls_max > 0 && calls >= self.calls_max {
            self.stop();
        }
        !self.over.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.room.notify_all();
    }

    fn is_poisoned(&self) -> bool {
        self.calls_max == 0 && self.over.load(Ordering::SeqCst)
    }

    /// What the queue's answer means to who keeps the ledger. Errors that can't come of a crash are complained about.
    pub fn ask<T>(&self, outcome: Result<T, Error>) -> Answer {
        let Err(error) = outcome else { return Answer::Done };
        match &error {
            Error::LeaseLost { .. } => return Answer::LeaseLost,
            Error::Full { .. } => return Answer::Refused,
            Error::InDoubt { .. } | Error::Poisoned { .. } | Error::Io { .. } => {
                if !self.over.swap(true, Ordering::SeqCst) {
                    self.tell.say(Said::Poisoned(error.to_string()));
                }
                self.stop();
            }
            _ => self.tell.say(Said::Complaint(error.to_string())),
        }
        if error.is_refusal() { Answer::Refused } else { Answer::InDoubt }
    }

    /// Waits until fewer than the most tasks are open, or the work is over.
    pub fn wait_for_room(&self) {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |backlog: &mut u64| *backlog > BACKLOG_MAX && !self.over.load(Ordering::SeqCst);
        // Late is no harm: a worker is killed sooner or later.
        drop(self.room.wait_timeout_while(backlog, Duration::from_millis(50), full));
    }

    pub fn add_backlog(&self, pairs: u64) {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) += pairs;
    }

    pub fn take_backlog(&self, pairs: u64) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        *backlog = backlog.saturating_sub(pairs);
        self.room.notify_all();
    }

    /// A pause that the end of the work cuts short.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.over.load(Ordering::SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            backlog = self.room.wait_timeout(backlog, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn unit(&self) -> u64 {
        self.units.fetch_add(1, Ordering::Relaxed)
    }
}
