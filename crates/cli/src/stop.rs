//! Signals: the first asks training to stop after its step, a second one leaves at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::Result;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    code: Arc<AtomicUsize>,
}

impl Stop {
    /// Begins to listen for an interrupt (Ctrl-C) and for termination.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen() -> Result<Self> {
        let stop = Self::default();
        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
            // Order matters: this one acts only when the flag was set by an earlier signal.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&stop.asked))?;
            flag::register_usize(signal, Arc::clone(&stop.code), code as usize)?;
            flag::register(signal, Arc::clone(&stop.asked))?;
        }
        Ok(stop)
    }

    /// The exit code that the signal asks for: 130 or 143.
    pub fn code(&self) -> Option<u8> {
        self.asked.load(Ordering::Relaxed).then(|| self.code.load(Ordering::Relaxed) as u8)
    }
}
