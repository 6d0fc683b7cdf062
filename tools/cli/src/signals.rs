//! SIGINT and SIGTERM ask for an orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

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
        let watch = || -> std::io::Result<()> {
            // A second interrupt is from somebody who won't wait for running commands. Not so for SIGTERM, which
            // timeout(1) sends twice. What is registered first is asked first: is this the second?
            let interrupted = Arc::new(AtomicBool::new(false));
            flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&interrupted))?;
            flag::register(SIGINT, interrupted)?;
            for signal in [SIGINT, SIGTERM] {
                let number = usize::try_from(signal).unwrap_or_default();
                flag::register_usize(signal, Arc::clone(&stop.signal), number)?;
            }
            // A write beyond the file size limit must be an error, not the end of the process.
            flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            Ok(())
        };
        watch().context("can't watch for signals")?;
        Ok(stop)
    }

    /// Ends the work because it can't go on.
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
