//! Signals: the first asks training to stop after its step, a second one leaves at once. Until there is something to keep nobody
//! listens, and the first one leaves at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::Result;
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
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
    /// Begins to listen for an interrupt (Ctrl-C), for termination and, unless it is to be ignored as under `nohup`, for the end of
    /// the terminal.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen(&self) -> Result<()> {
        #[cfg(unix)]
        let hangup = (!ignores_hangup()).then_some((SIGHUP, 129));
        #[cfg(not(unix))]
        let hangup = None;
        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)].into_iter().chain(hangup) {
            // Order matters: this one acts only when the flag was set by an earlier signal.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&self.asked))?;
            flag::register_usize(signal, Arc::clone(&self.code), code as usize)?;
            flag::register(signal, Arc::clone(&self.asked))?;
        }
        Ok(())
    }

    /// The exit code that the signal asks for: 129, 130 or 143.
    pub fn code(&self) -> Option<u8> {
        self.asked.load(Ordering::Relaxed).then(|| self.code.load(Ordering::Relaxed) as u8)
    }
}

/// Whether this process was started so that the end of its terminal does not end it, as far as the system says it: where it does not,
/// the signal keeps its meaning.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & 1 << (SIGHUP - 1) != 0)
}
