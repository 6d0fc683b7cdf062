//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::engine::Durability;
use crate::job::Workload;

/// Measures lanelog and its peers at the same work and the same durability, in one run, interleaved.
///
/// Each measurement runs in a process and an empty directory of its own. An engine that can't do it at the durability
/// asked for is shown as such. Every task that was acknowledged must come, once and with its content, or the figure is
/// void. Results go to standard output, progress to standard error.
#[derive(Parser, Debug)]
#[command(name = "lanelog-bench", version)]
pub struct Args {
    /// Two minutes: a few workloads, lanelog and three peers
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_enum)]
    pub workload: Vec<Workload>,
    /// Only these engines; `limit` is the machine itself
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// At these durabilities, in place of each workload's own; likewise with the lists below
    #[arg(long, value_delimiter = ',', value_enum)]
    pub durability: Vec<Durability>,
    /// Bytes of a task, 20 to 1048576
    #[arg(long, value_delimiter = ',', value_parser = payload)]
    pub payload: Vec<usize>,
    /// Threads that send, 1 to 256
    #[arg(long, value_delimiter = ',', value_parser = threads)]
    pub producers: Vec<usize>,
    /// Threads that take, 1 to 256
    #[arg(long, value_delimiter = ',', value_parser = threads)]
    pub consumers: Vec<usize>,
    /// Tasks of a call, 1 to 64
    #[arg(long, value_delimiter = ',', value_parser = batch)]
    pub batch: Vec<usize>,
    /// Tasks of a producer that may be accepted and not yet durable, 1 to 65536
    #[arg(long, value_delimiter = ',', value_parser = outstanding)]
    pub outstanding: Vec<usize>,
    /// How long each round is timed [default: 2; with --quick 0.5]
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Rounds of each engine, in turn [default: 5; with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
    /// Tasks a second of open loops [default: half of what the engine's flow reaches]
    #[arg(long, value_parser = seconds)]
    pub rate: Option<f64>,
    /// The most payload that a round enqueues, in MiB [default: 4096; of backlogs 1024, with --quick 1024]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub mib_max: Option<u64>,
    /// Where stores are made: on the disk that is to be measured
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// One JSON object a line on standard output; the table goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Also writes a page with charts
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Measures nothing: shows what earlier runs printed with --json
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,
    /// Lists the engines that were built in, with versions, settings, and what they can't
    #[arg(long)]
    pub list: bool,
}

impl Args {
    /// Of a round.
    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.5 } else { 2.0 })
    }

    /// Of each measurement.
    pub fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// Bytes of payload of a round.
    pub fn bytes_max(&self, workload: Workload) -> u64 {
        let backlog = matches!(workload, Workload::BacklogBuild | Workload::BacklogDrain | Workload::Reopen);
        let is_flow = !matches!(workload, Workload::Append) && !backlog;
        match self.mib_max {
            Some(mib) => mib << 20,
            // A flow takes no room that grows.
            None if is_flow => u64::MAX,
            None if self.quick || backlog => 1 << 30,
            None => 4 << 30,
        }
    }
}

fn within(text: &str, from: usize, to: usize) -> Result<usize, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    (from..=to).contains(&number).then_some(number).ok_or_else(|| format!("{number} is not within {from} to {to}"))
}

fn payload(text: &str) -> Result<usize, String> {
    within(text, crate::payload::STAMP_BYTES, 1 << 20)
}

fn threads(text: &str) -> Result<usize, String> {
    within(text, 1, 256)
}

fn batch(text: &str) -> Result<usize, String> {
    within(text, 1, crate::payload::PATTERNS)
}

fn outstanding(text: &str) -> Result<usize, String> {
    within(text, 1, 1 << 16)
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    (number > 0.0 && number <= 1e12).then_some(number).ok_or_else(|| format!("{text} is not above 0"))
}
