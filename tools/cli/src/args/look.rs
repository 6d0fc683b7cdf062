//! Looking: `stats`, `verify`, `dump`, `peek`.

use std::path::PathBuf;

/// Arguments of `stats`.
#[derive(clap::Args)]
pub struct Stats {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// For each group and lane, also the oldest task that is not settled, and the bytes on disk that the group keeps
    #[arg(long)]
    pub pins: bool,
}

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Look {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dump`.
#[derive(clap::Args)]
pub struct Dump {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// Only this lane
    #[arg(long, value_name = "N")]
    pub lane: Option<u8>,
}

/// Arguments of `peek`.
#[derive(clap::Args)]
pub struct Peek {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// The lane
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lane: u8,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tasks: usize,
}
