//! Limits of a device: how many calls it serves in a second.
//!
//! A bucket of `burst` calls that refills at the given rate. While it is empty, calls wait their turn in the order in
//! which they were made, and the wait is added to what they take. Calls that the page cache serves are not counted.

/// At most so many device calls in a simulated second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IopsLimit {
    /// Calls a second in the long run; at least 1.
    pub calls_per_second: u32,
    /// Calls that pass at once after idleness; at least 1.
    pub burst: u32,
}

/// The state of a limit: the instant at which the bucket would be full again.
#[derive(Default)]
pub(crate) struct Iops {
    limit: Option<IopsLimit>,
    full_at: u64,
}

impl Iops {
    /// Sets the limit, with a full bucket; `None` lifts it for calls to come.
    pub(crate) fn set(&mut self, limit: Option<IopsLimit>) {
        if let Some(limit) = limit {
            assert!(
                limit.calls_per_second > 0,
                "IopsLimit: calls_per_second is at least 1; None lifts the limit"
            );
            assert!(limit.burst > 0, "IopsLimit: burst is at least 1, or no call ever passes");
        }
        *self = Self { limit, full_at: 0 };
    }

    /// How long a call at `now` waits for its turn, in nanoseconds.
    pub(crate) fn wait(&mut self, now: u64) -> u64 {
        let Some(limit) = self.limit else {
            return 0;
        };
        let interval = 1_000_000_000 / u64::from(limit.calls_per_second);
        let full_at = self.full_at.max(now);
        self.full_at = full_at + interval;
        (full_at + interval).saturating_sub(now).saturating_sub(interval * u64::from(limit.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_calls_come_at_the_rate() {
        let mut iops = Iops::default();
        assert_eq!(iops.wait(0), 0, "without a limit nobody waits");
        iops.set(Some(IopsLimit { calls_per_second: 1000, burst: 3 }));
        let waits: Vec<u64> = (0..6).map(|_| iops.wait(5_000_000)).collect();
        assert_eq!(waits, [0, 0, 0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(iops.wait(7_000_000), 2_000_000, "the queue moves on");
        let later: Vec<u64> = (0..4).map(|_| iops.wait(1_000_000_000)).collect();
        assert_eq!(later, [0, 0, 0, 1_000_000], "no more than a burst is saved up");
    }
}
