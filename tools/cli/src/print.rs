//! `lanelog work --print`: tasks to standard output, in batches, each acked once it is written.

use std::time::Duration;

use anyhow::Result;
use lanelog::{ConsumerOptions, Delivery, Durability, Reserve};

use crate::args::Work;
use crate::output::{self, Sink};
use crate::queue::{self, Emptiness};
use crate::signals::Stop;
use crate::work::{self, Session};

/// Tasks and bytes of a batch.
const BATCH_TASKS: usize = 1024;
const BATCH_BYTES: u64 = 4 << 20;
/// How long a wait lasts before it looks for a signal.
const LOOK: Duration = Duration::from_millis(50);
/// The reader of standard output may take its time, and nobody else works on this queue meanwhile.
const LEASE: Duration = Duration::from_secs(365 * 24 * 3600);

/// `lanelog work --print`.
pub fn print(args: &Work) -> Result<u8> {
    let stop = Stop::on_signals()?;
    let session = Session::new(queue::open(&args.place, work::options(&args.running))?, stop);
    let sink = Sink::standard()?;
    let outcome = print_all(args, &session, &sink);
    session.finish(outcome)
}

fn print_all(args: &Work, session: &Session, sink: &Sink) -> Result<()> {
    // Nobody syncs what reads our output, so an ack that outlives a power loss could outlive the task. One that a power
    // loss may undo errs on the side of printing twice.
    let options = ConsumerOptions::new().durability(Durability::Process);
    let consumer = session.queue.consumer_of("default", options)?;
    let ask = Reserve::new().tasks(BATCH_TASKS).bytes(BATCH_BYTES).lease(LEASE);
    let end = if args.null { 0 } else { b'\n' };
    let (mut emptiness, mut wait) = (Emptiness::default(), Duration::ZERO);
    let mut text = Vec::new();
    while !session.stop.is_asked() {
        let batch = consumer.reserve(ask.wait(wait))?;
        if batch.is_empty() {
            if args.until_empty && emptiness.is_reached(&session.queue)? {
                break;
            }
            wait = LOOK;
            continue;
        }
        wait = Duration::ZERO;
        text.clear();
        for delivery in &batch {
            text.extend_from_slice(delivery.payload());
            text.push(end);
        }
        let written = session.tally.beside_bar(|| sink.alone(|out, _| std::io::Write::write_all(out, &text)));
        if written.is_err() {
            // Not failed attempts: given back as they were.
            let _receipts: Vec<_> = batch.into_iter().map(Delivery::detach).collect();
            consumer.close()?;
            return output::written(written);
        }
        let answers = consumer.ack_batch(batch)?;
        session.tally.add_acked(answers.iter().filter(|answer| answer.is_ok()).count() as u64);
    }
    Ok(())
}
