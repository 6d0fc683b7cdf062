//! The main job, from opening the queue to the exit status.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lanelog::{Damage, Options, Queue};

use crate::args::{Run, Running, Work};
use crate::child::Template;
use crate::crew::Crew;
use crate::feed;
use crate::queue::{self, Counts};
use crate::signals::Stop;
use crate::tally::Tally;

/// `lanelog run`.
pub fn run(args: &Run) -> Result<u8> {
    let template = Template::new(&args.command)?;
    let stop = Stop::on_signals()?;
    let queue = queue::open_with_lane(&args.place, args.input.lane, options(&args.running))?;
    let session = Session::new(queue, stop);
    let crew = Crew::new(&session, &template, &args.running)?;
    let outcome = crew.work(|| {
        let fed = feed::feed(&session.queue, &args.input, &session.stop, &session.tally);
        crew.end_when_empty();
        fed
    });
    session.finish(outcome)
}

/// `lanelog work` with a command.
pub fn work(args: &Work) -> Result<u8> {
    if args.null {
        bail!("-0 is how --print ends tasks; without --print it has no meaning");
    }
    let template = Template::new(&args.command)?;
    let stop = Stop::on_signals()?;
    let session = Session::new(queue::open(&args.place, options(&args.running))?, stop);
    let crew = Crew::new(&session, &template, &args.running)?;
    let outcome = crew.work(|| {
        if args.until_empty {
            crew.end_when_empty();
        }
        Ok(())
    });
    session.finish(outcome)
}

/// The queue's options that the work is done by.
pub fn options(running: &Running) -> Options {
    let options = Options::new().max_attempts(running.max_attempts).lease(Duration::from_secs(running.lease));
    match running.retry {
        Some(backoff) => options.backoff(backoff),
        None => options,
    }
}

/// One run over an open queue.
pub struct Session {
    pub queue: Queue,
    pub stop: Stop,
    pub tally: Tally,
    /// Dead letters that were there before.
    dead_before: u64,
    damage_told: Vec<Damage>,
}

impl Session {
    /// Begins.
    pub fn new(queue: Queue, stop: Stop) -> Session {
        let Counts { left, dead, .. } = Counts::of(&queue);
        let damage_told = queue.damage();
        Session { queue, stop, tally: Tally::new(left), dead_before: dead, damage_told }
    }

    /// Closes the queue, says how it went, and gives the exit status.
    pub fn finish(self, outcome: Result<()>) -> Result<u8> {
        let mut counts = Counts::of(&self.queue);
        // Counted, not guessed: an expired lease or a kill may have been the last attempt too.
        counts.dead -= self.dead_before.min(counts.dead);
        let damage = self.queue.damage();
        let closed = self.queue.close();
        self.tally.summarize(counts);
        let news: Vec<Damage> = damage.iter().filter(|found| !self.damage_told.contains(found)).cloned().collect();
        queue::warn_of(&news);
        outcome?;
        closed.context("the work is done, but closing the queue failed")?;
        if let Some(signal) = self.stop.signal() {
            return Ok(128 + signal);
        }
        match queue::places_lost(&damage) {
            0 => Ok(u8::from(counts.dead > 0)),
            1 => bail!("the queue is damaged in one place, and tasks there can't be run; lanelog verify shows it"),
            places => bail!(
                "the queue is damaged in {places} places, and tasks there can't be run; lanelog verify shows them"
            ),
        }
    }
}
