//! Standard output and standard error: whole pieces, no panic when nobody reads, no line of one task in another's.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Exit status when the reader of our output went away: what a shell shows for an end by SIGPIPE.
pub const CLOSED: u8 = 128 + 13;

/// Nobody reads our output any more.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// One line on standard error. If that can't be written there is nobody to tell.
pub fn tell(text: &str) {
    let line = format!("lanelog: {}\n", text.replace('\n', "\\n"));
    let _unheard = io::stderr().lock().write_all(line.as_bytes());
}

/// What a write to standard output came to.
pub fn written(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        other => other.context("standard output can't be written"),
    }
}

/// Where the output of tasks goes. Not buffered: what a write returns from, no kill can lose.
pub struct Sink {
    streams: Mutex<(File, File)>,
}

impl Sink {
    /// Over the standard output and error of this process.
    pub fn standard() -> Result<Sink> {
        let out = io::stdout().as_fd().try_clone_to_owned().context("standard output can't be used")?;
        let err = io::stderr().as_fd().try_clone_to_owned().context("standard error can't be used")?;
        Ok(Sink { streams: Mutex::new((out.into(), err.into())) })
    }

    /// Calls `write` with standard output and standard error, while nobody else writes.
    pub fn alone<T>(&self, write: impl FnOnce(&mut File, &mut File) -> T) -> T {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, err) = &mut *streams;
        write(out, err)
    }
}
