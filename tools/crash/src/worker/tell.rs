//! The worker's end of the pipe.

use std::io::{self, Stdout, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kernel::SharedCounter;
use crate::report::{Report, Said};

pub struct Teller {
    out: Mutex<Stdout>,
    events: Option<SharedCounter>,
    numbers: AtomicU64,
}

impl Teller {
    pub fn new(events: Option<&Path>, life: u64) -> io::Result<Self> {
        let events = events.map(SharedCounter::open).transpose()?;
        Ok(Teller { out: Mutex::new(io::stdout()), events, numbers: AtomicU64::new(life << 32) })
    }

    /// The number of a call.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Says it, in one write. The device's events are counted before: before a call for its intent, after it for its
    /// answer.
    pub fn say(&self, said: Said) {
        let at = self.events.as_ref().map_or(0, SharedCounter::get);
        let line = format!("{}\n", Report { at, said });
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Standard output has a buffer that is cut at line ends, so a line leaves in one write. Who can't be heard any
        // more has nothing left to do.
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }
}
