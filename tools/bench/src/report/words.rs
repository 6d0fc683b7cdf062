//! What the page says in words: how to read it, and what each workload is.

use clap::ValueEnum;

use super::html::escape;
use crate::job::Workload;
use crate::row::Row;

/// What holds for all charts.
pub fn how_to_read(rows: &[Row]) -> String {
    let (fewest, most) = rounds(rows);
    let rounds = match (fewest, most) {
        (_, 1) => "one round".to_owned(),
        _ if fewest == most => format!("{most} rounds"),
        _ => format!("{fewest} to {most} rounds"),
    };
    format!(
        "<ul class=\"read\">\
         <li>A <b>rate</b> comes from a closed loop: each producer sends its next task when the call before has returned. \
         A bar is the median of {rounds}; the <span class=\"sample\"><i class=\"whisker\"></i></span> thin line goes from \
         the slowest round to the fastest.</li>\
         <li><b>Power</b>: a task whose call has returned survives a power loss. <b>Process</b>: it survives \
         <code>kill -9</code> of every process that took part.</li>\
         <li>The <span class=\"sample limit\"><i class=\"fill\"></i></span> <b>limit</b> is what the machine itself does. \
         Where it is far beyond every engine, its bar fades out, and only the number tells.</li>\
         <li><b>×</b> holds a figure against lanelog's of the same measurement: above 1 it is better than lanelog, be it a \
         higher rate or a shorter latency.</li>\
         <li>What a <b>latency</b> is differs, and is said at each workload. In a curve, the scales \
         are logarithmic: each step to the right leaves a tenth of the calls. The dot at the edge is the worst of all \
         rounds; the faint line to it only says whose it is.</li>\
         <li>An engine that can't do what was asked is named below the chart, with the reason, and has no bar.</li></ul>",
    )
}

/// What a workload does, and what its latency is.
pub fn of_workload(name: &str) -> String {
    let (does, latency) = find(name);
    let latency = if latency.is_empty() { String::new() } else { format!(" <b>Latency</b>: {}", escape(latency)) };
    format!("<p class=\"about\">{}{latency}</p>", escape(does))
}

/// What a workload does, and its latency; nothing is known of names that only a later version has.
pub fn find(name: &str) -> (&'static str, &'static str) {
    let workload = Workload::value_variants().iter().find(|workload| workload.name() == name);
    workload.map_or(("", ""), |&workload| of(workload))
}

/// Whether it's the machine's alone, which no engine takes part in.
pub fn is_of_machine(name: &str) -> bool {
    let alone = [Workload::CopyCrc, Workload::MemoryCopy, Workload::PageCacheWrite];
    alone.iter().any(|workload| workload.name() == name)
}

fn of(workload: Workload) -> (&'static str, &'static str) {
    const CALL: &str = "of a call that enqueues.";
    const ARRIVAL: &str = "from the enqueue to the consumer.";
    match workload {
        Workload::Append => ("Producers enqueue as fast as they can; nobody takes.", CALL),
        Workload::Flow => ("Producers enqueue, consumers take and ack at once, all as fast as they can.", CALL),
        Workload::Lanes => ("Like flow, over eight lanes.", CALL),
        Workload::IdleLanes => ("Like flow, over one lane of eight.", CALL),
        Workload::Handoff => ("One task at a time, with pauses in which the consumer goes to sleep.", ARRIVAL),
        Workload::PingPong => ("One task at a time, the next when the one before is done.", ARRIVAL),
        Workload::OpenLoop => (
            "Tasks at a fixed rate, taken and acked at once.",
            "from when a task was due to the end of its enqueue, so that a stall counts for every task that it held up.",
        ),
        Workload::BacklogBuild => ("Enqueues a backlog, which nobody takes meanwhile.", ""),
        Workload::BacklogDrain => ("Takes and acks a backlog.", ""),
        Workload::Stragglers => ("Like flow, but every hundredth task is never acked.", CALL),
        Workload::Reopen => ("Opens a store whose process was killed with a backlog in it.", "to the first task."),
        Workload::CopyCrc => ("Copies and checksums payloads into memory that is mapped and resident.", ""),
        Workload::MemoryCopy => ("Copies memory that no cache holds.", ""),
        Workload::PageCacheWrite => ("Writes to the page cache.", ""),
    }
}

/// The fewest and the most rounds behind a figure.
fn rounds(rows: &[Row]) -> (usize, usize) {
    let rounds = rows.iter().filter(|row| row.cant.is_none()).map(|row| row.rounds);
    (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0))
}
