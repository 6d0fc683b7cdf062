//! Standard input to tasks.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use lanelog::{LaneId, Options, Pending, Queue, Task, TaskId};

use crate::args::{Enqueue, Input, Place};
use crate::signals::Stop;
use crate::tally::Tally;

/// Tasks that may wait for their commit together.
const PENDING_MAX: usize = 4096;

/// Opens the queue, making it if need be.
pub fn open(place: &Place, options: Options) -> Result<Queue> {
    let options = match place.lanes {
        Some(lanes) => options.lanes(lanes),
        None => options,
    };
    let queue = options.open(&place.queue)?;
    for warning in queue.warnings() {
        eprintln!("lanelog: warning: {warning}");
    }
    for damage in queue.damage() {
        eprintln!("lanelog: warning: {damage}");
    }
    Ok(queue)
}

/// `lanelog enqueue`.
pub fn enqueue(args: &Enqueue) -> Result<u8> {
    let stop = Stop::on_signals()?;
    let queue = open(&args.place, Options::new())?;
    let tally = Tally::new(0);
    feed(&queue, std::io::stdin().lock(), &args.input, args.durability.into(), &stop, &tally)?;
    let enqueued = tally.enqueued.load(Ordering::Relaxed);
    queue.close().context("the tasks are enqueued, but closing the queue failed")?;
    tally.summarize(enqueued);
    Ok(stop.signal().map_or(0, |signal| 128 + signal))
}

/// Enqueues every item of `input`. An item that can be read is accepted durably before more input is waited for.
pub fn feed(
    queue: &Queue,
    input: impl Read,
    how: &Input,
    durability: lanelog::Durability,
    stop: &Stop,
    tally: &Tally,
) -> Result<()> {
    let end = if how.null { 0 } else { b'\n' };
    let mut input = BufReader::with_capacity(256 << 10, input);
    let mut item = Vec::new();
    let mut pending: Vec<Pending<TaskId>> = Vec::new();
    while !stop.is_asked() {
        item.clear();
        let read = input.read_until(end, &mut item).context("standard input can't be read")?;
        if read == 0 {
            break;
        }
        if item.last() == Some(&end) {
            item.pop();
        }
        let task = Task::new(&item).lane(LaneId(how.lane)).durability(durability);
        let submitted = queue.submit(task);
        pending.push(submitted.with_context(|| format!("after {} tasks", tally.enqueued.load(Ordering::Relaxed)))?);
        if pending.len() >= PENDING_MAX || !input.buffer().contains(&end) {
            settle(&mut pending, tally)?;
        }
    }
    settle(&mut pending, tally)
}

fn settle(pending: &mut Vec<Pending<TaskId>>, tally: &Tally) -> Result<()> {
    let count = pending.len() as u64;
    // The last one first: one commit covers all before it.
    while let Some(last) = pending.pop() {
        last.wait()?;
    }
    tally.add_enqueued(count);
    Ok(())
}
