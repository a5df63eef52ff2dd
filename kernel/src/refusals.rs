//! What the system refuses background work for a time, other than room on the disk: descriptors, memory, a device that
//! asks to be tried again.
//!
//! Such a refusal is told once when it begins and once when it is over, however often it is met in between, and each
//! try waits twice as long as the one before it, up to a second. Nobody waits without end for work that is refused:
//! see [`Refusals::lasting`]. A full disk has its own rules: there waiting is over at once (`engine`).

use std::collections::BTreeMap;

use crate::env::Nanos;
use crate::error::Error;
use crate::sync::Mutex;

/// The first pause between two tries.
const PAUSE_NS_MIN: u64 = 50_000_000;
/// The longest.
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
    /// When it was said last. Since then a try may be doing well.
    last: Nanos,
    pause_ns: u64,
}

impl Refusals {
    /// A job was refused; gives how long it should wait before it tries again.
    pub fn note(&self, job: &'static str, error: &Error, now: Nanos) -> u64 {
        let mut jobs = self.jobs.lock();
        if let Some(refusal) = jobs.get_mut(job) {
            refusal.error = error.clone();
            refusal.last = now;
            refusal.pause_ns = refusal.pause_ns.saturating_mul(2).min(PAUSE_NS_MAX);
            return refusal.pause_ns;
        }
        jobs.insert(job, Refusal { error: error.clone(), since: now, last: now, pause_ns: PAUSE_NS_MIN });
        drop(jobs);
        tracing::warn!(job, %error, "background work must wait; trying again until it can go on");
        PAUSE_NS_MIN
    }

    /// A job succeeded, or found nothing to do.
    pub fn note_over(&self, job: &'static str) {
        if self.jobs.lock().remove(job).is_some() {
            tracing::info!(job, "background work goes on");
        }
    }

    /// The refusal of one of `jobs` that was met again and again while somebody has waited for it, who began at `began`, if
    /// that is too long.
    pub fn lasting(&self, jobs: &[&str], began: Nanos) -> Option<Error> {
        let refused = self.jobs.lock();
        let mut lasting = jobs.iter().filter_map(|job| refused.get(job));
        let found = lasting.find(|refusal| refusal.last.since(refusal.since.max(began)) >= LASTING_NS);
        found.map(|refusal| refusal.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lasts_from_the_first_time_it_was_met_to_the_last() {
        let refusals = Refusals::default();
        let at = |ms: u64| Nanos(ms * 1_000_000);
        let busy = Error::Busy("no task".into());
        refusals.note("flush", &busy, at(100));
        // The next try goes on for an hour, for all that anybody knows.
        assert!(refusals.lasting(&["flush"], at(0)).is_none());
        for ms in [200, 1000, 2000] {
            refusals.note("flush", &busy, at(ms));
            assert!(refusals.lasting(&["flush"], at(0)).is_none());
        }
        refusals.note("flush", &busy, at(2100));
        assert!(refusals.lasting(&["flush"], at(0)).is_some());
        assert!(refusals.lasting(&["compaction"], at(0)).is_none());
        assert!(refusals.lasting(&["flush"], at(150)).is_none(), "who came later has not waited so long");
        refusals.note_over("flush");
        assert!(refusals.lasting(&["flush"], at(0)).is_none());
    }
}
