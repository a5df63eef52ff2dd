//! What the system refuses background work for a time, other than room on the disk: descriptors, memory, a device that
//! asks to be tried again.
//!
//! Such a refusal is told once when it begins and once when it is over, however often it is met in between, and each
//! try waits twice as long as the one before it, up to a second. Nobody waits without end for work that is refused:
//! see [`Refusals::lasting`]. A full disk has its own rules, since writers ask about it too (`engine`).

use std::collections::BTreeMap;

use super::RETRY_NS;
use crate::env::Nanos;
use crate::error::Error;
use crate::sync::Mutex;

/// The longest pause between two tries.
const PAUSE_NS_MAX: u64 = 1_000_000_000;
/// Whoever waits for work is told of its refusal when it has lasted so long: at least one try at the longest pause.
const LASTING_NS: u64 = 2_000_000_000;

/// The jobs that are refused now.
#[derive(Default)]
pub(crate) struct Refusals {
    jobs: Mutex<BTreeMap<&'static str, Refusal>>,
}

struct Refusal {
    /// What was said last.
    error: Error,
    since: Nanos,
    pause_ns: u64,
}

impl Refusals {
    /// A job was refused; gives how long it should wait before it tries again.
    pub fn note(&self, job: &'static str, error: &Error, now: Nanos) -> u64 {
        let mut jobs = self.jobs.lock();
        if let Some(refusal) = jobs.get_mut(job) {
            refusal.error = error.clone();
            refusal.pause_ns = refusal.pause_ns.saturating_mul(2).min(PAUSE_NS_MAX);
            return refusal.pause_ns;
        }
        jobs.insert(job, Refusal { error: error.clone(), since: now, pause_ns: RETRY_NS });
        drop(jobs);
        tracing::warn!(job, %error, "background work must wait; trying again until it can go on");
        RETRY_NS
    }

    /// A job succeeded, or found nothing to do.
    pub fn note_over(&self, job: &'static str) {
        if self.jobs.lock().remove(job).is_some() {
            tracing::info!(job, "background work goes on");
        }
    }

    /// The refusal of one of `jobs` that has lasted all the time that somebody has waited for it, who began at `began`,
    /// if that is too long.
    pub fn lasting(&self, jobs: &[&str], began: Nanos, now: Nanos) -> Option<Error> {
        let refused = self.jobs.lock();
        let mut lasting = jobs.iter().filter_map(|job| refused.get(job));
        let found = lasting.find(|refusal| now.since(refusal.since.max(began)) >= LASTING_NS);
        found.map(|refusal| refusal.error.clone())
    }
}
