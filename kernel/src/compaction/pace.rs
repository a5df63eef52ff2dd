//! How fast background work may go.
//!
//! Every background loop reports what it handled; [`Pace::spend`] hands that to [`Env::slice`], which yields and
//! meters, and keeps to `background_bytes_per_s` by sleeping off what was spent too early. The limit is lifted while
//! writers wait for compaction, or it would slow them twice.

use std::sync::Arc;

use crate::env::{Env, Nanos};
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Notify, either};

/// Entries handled between two slices, at most.
pub(crate) const SLICE_ENTRIES: u32 = 256;

/// A shared limit on background bytes a second.
pub(crate) struct Pace {
    env: Arc<dyn Env>,
    bytes_per_s: u64,
    /// Writers are slowed down for compaction's sake: go as fast as the disk does.
    pub urgent: AtomicBool,
    /// Set when the database closes or is dropped: jobs end at their next slice.
    stop: AtomicBool,
    /// Cuts sleeps short then. One may be long: it pays for a value of a gibibyte at once.
    stopped: Notify,
    /// The instant at which everything spent so far is paid.
    paid_at: Mutex<Nanos>,
}

impl Pace {
    /// `bytes_per_s` of 0 is no limit.
    pub fn new(env: Arc<dyn Env>, bytes_per_s: u64) -> Self {
        let paid_at = Mutex::new(env.now());
        let (urgent, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { env, bytes_per_s, urgent, stop, stopped: Notify::new(), paid_at }
    }

    /// Ends every job at its next slice, and whoever sleeps now.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.stopped.notify_all();
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Reports `bytes` handled; yields, and sleeps if that was too fast.
    ///
    /// # Errors
    /// [`Error::Closed`] if the database is closing: the job is to be abandoned.
    pub async fn spend(&self, bytes: u64) -> Result<()> {
        self.env.slice(bytes).await;
        self.go_on()?;
        if self.bytes_per_s == 0 || self.urgent.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = self.env.now();
        let cost_ns = u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s))
            .unwrap_or(u64::MAX);
        let wake_at = {
            let mut paid_at = self.paid_at.lock();
            *paid_at = (*paid_at).max(now).after(cost_ns);
            *paid_at
        };
        // Short debts are carried on, so that the timer is not asked for microseconds.
        if wake_at.since(now) > 1_000_000 {
            // Made before the question: whoever stops this wakes those who listen, and leaves no permit.
            let stopped = self.stopped.notified();
            self.go_on()?;
            either(stopped, self.env.sleep_until(wake_at)).await;
            self.go_on()?;
        }
        Ok(())
    }
}
