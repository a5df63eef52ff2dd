//! What the program does about signals.
//!
//! ```text
//! SIGINT, SIGTERM, SIGHUP   what was begun is removed, then the process ends by the signal as it always would
//! SIGXFSZ                   the write that would pass the limit on the size of files (`ulimit -f`) fails, as any may
//! ```
//! One of the first three that was ignored when the process started stays ignored: so `nohup` and background jobs of a
//! shell without job control want it. All others do what they always do. SIGQUIT is not among those that are handled,
//! for who sends it wants to see the process as it stands.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// Has a write that passes the limit on the size of files fail, instead of ending the process. Called once, by `main`.
pub fn fail_writes_past_the_limit() {
    // With any handler in place the write fails; that this one has run is of no interest. Should the system refuse it,
    // the signal ends the process as it would have without.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// The signals that ask the process to end.
pub(crate) fn that_end() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// The set of ignored signals in a process's status: bit 0 is signal 1. None, if it does not say.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(
            ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n"),
            0x1001
        );
        assert_eq!(ignored(""), 0);
    }
}
