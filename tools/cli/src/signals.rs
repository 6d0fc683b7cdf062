//! SIGINT and SIGTERM ask for an orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

/// Why the work should end before it is done.
#[derive(Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Stop {
    /// From here on the signals set the flag instead of ending the process.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), number)
                .context("can't watch for signals")?;
        }
        // A write beyond the file size limit must be an error, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context("can't watch for signals")?;
        Ok(stop)
    }

    /// Ends the work because nothing can be written any more.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// True once the work should end.
    pub fn is_asked(&self) -> bool {
        self.signal().is_some() || self.broken.load(Ordering::SeqCst)
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<u8> {
        u8::try_from(self.signal.load(Ordering::SeqCst)).ok().filter(|signal| *signal > 0)
    }
}
