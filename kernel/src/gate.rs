//! Whether writes are still accepted, and if not, why. One value, shared by everything that writes.
//!
//! ```text
//! Open ──failed sync or write──▶ Stopped (reads go on; only reopening helps)
//!   └────────close────────────▶ Closed
//! ```
//! A stopped gate never opens again: after a failed sync nothing that the disk says about earlier bytes counts.

use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};

const OPEN: u32 = 0;
const STOPPED: u32 = 1;
const CLOSED: u32 = 2;

/// The latch.
#[derive(Default)]
pub(crate) struct Gate {
    state: AtomicU32,
    why: Mutex<Option<String>>,
}

impl Gate {
    /// Passes while writes are accepted.
    ///
    /// # Errors
    /// [`Error::Stopped`] with the first reason, or [`Error::Closed`].
    pub fn check(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(()),
            STOPPED => Err(Error::Stopped(self.why.lock().clone().unwrap_or_default())),
            _ => Err(Error::Closed),
        }
    }

    /// Passes unless closed: reads go on after a failed sync.
    pub fn check_read(&self) -> Result<()> {
        if self.state.load(Ordering::Acquire) == CLOSED { Err(Error::Closed) } else { Ok(()) }
    }

    /// Stops writes for this opening. The first reason stays.
    pub fn stop(&self, why: &str) {
        let mut reason = self.why.lock();
        if reason.is_none() {
            tracing::error!(why, "writes stopped; close and reopen the database");
            *reason = Some(why.to_string());
        }
        drop(reason);
        let _ = self.state.compare_exchange(OPEN, STOPPED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Closes for reads and writes. True the first time.
    pub fn close(&self) -> bool {
        self.state.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }

    /// What whoever waits for a task is told that has ended without an answer: [`Error::Stopped`] with the first reason, or
    /// [`Error::Closed`].
    pub fn why_unanswered(&self) -> Error {
        self.stopped().map_or(Error::Closed, Error::Stopped)
    }

    /// Why writes stopped, if they did.
    pub fn stopped(&self) -> Option<String> {
        self.why.lock().clone()
    }
}
