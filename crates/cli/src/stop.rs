//! Signals: the first stops training after the current step, a second one ends the process at once.
//! SIGUSR1 is one of them because launchers of several processes pass it on, and because job
//! schedulers can send it before the time of a job is over.
//! Before training starts no handler is installed, so the first signal ends the process.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1};
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
    /// Installs handlers for SIGINT (Ctrl-C), SIGTERM, SIGUSR1 and, unless it is ignored as under
    /// `nohup`, SIGHUP.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn listen(&self) -> Result<()> {
        self.install(true)
    }

    /// Does the same, but a second signal does not end the process.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    #[cfg(feature = "mpi")]
    pub fn listen_to_all(&self) -> Result<()> {
        self.install(false)
    }

    fn install(&self, second_ends: bool) -> Result<()> {
        #[cfg(unix)]
        let others = [Some((SIGUSR1, 138)), (!ignores_hangup()).then_some((SIGHUP, 129))];
        #[cfg(not(unix))]
        let others = [None];
        let others = others.into_iter().flatten();
        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)].into_iter().chain(others) {
            if second_ends {
                // Must be registered first: it acts only if an earlier signal has set the flag.
                flag::register_conditional_shutdown(signal, code, Arc::clone(&self.asked))?;
            }
            flag::register_usize(signal, Arc::clone(&self.code), code as usize)?;
            flag::register(signal, Arc::clone(&self.asked))?;
        }
        Ok(())
    }

    /// Returns the exit code for a signal that has come since the last call.
    #[cfg(feature = "mpi")]
    pub fn take(&self) -> Option<u8> {
        self.asked.swap(false, Ordering::Relaxed).then(|| self.code.load(Ordering::Relaxed) as u8)
    }

    /// Returns `Break` if a signal has come.
    pub fn asked(&self) -> ControlFlow<()> {
        match self.code() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }

    /// Returns the exit code for the received signal, 128 + its number (129, 130, 138 or 143), or
    /// nothing if there was no signal.
    pub fn code(&self) -> Option<u8> {
        self.asked.load(Ordering::Relaxed).then(|| self.code.load(Ordering::Relaxed) as u8)
    }
}

/// Returns whether SIGHUP is ignored in this process, from the mask `SigIgn` in
/// `/proc/self/status`. If that cannot be read, returns true, so that no handler is installed and
/// the signal keeps its present action.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & 1 << (SIGHUP - 1) != 0)
}
