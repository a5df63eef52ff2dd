//! The wall clock of a process: simulated time, set wrong by jumps and running wrong by a drift.
//!
//! A drift is constant in parts per million until it is set again, and setting it does not move the clock: what has
//! drifted so far stays. Integers only; a reading is rounded towards the clock without drift.

/// Wall-clock time at which every run starts: 2026-01-01 UTC, in microseconds.
pub const WALL_START_US: u64 = 1_767_225_600_000_000;

/// See the module's header.
#[derive(Clone, Copy, Default)]
pub(crate) struct WallClock {
    offset_us: i64,
    drift_ppm: i32,
    drifts_since: u64,
}

impl WallClock {
    /// What it shows at an instant of simulated time, in microseconds.
    pub(crate) fn read(&self, now: u64) -> u64 {
        let offset = self.offset_us.saturating_add(self.drifted_us(now));
        (WALL_START_US + now / 1000).saturating_add_signed(offset)
    }

    /// Sets how far it is off, besides what it drifts from now on.
    pub(crate) fn set_offset_us(&mut self, now: u64, offset_us: i64) {
        self.offset_us = offset_us;
        self.drifts_since = now;
    }

    pub(crate) fn jump(&mut self, jump_us: i64) {
        self.offset_us = self.offset_us.saturating_add(jump_us);
    }

    /// Sets how many microseconds it gains in a second from now on.
    pub(crate) fn set_drift_ppm(&mut self, now: u64, drift_ppm: i32) {
        self.offset_us = self.offset_us.saturating_add(self.drifted_us(now));
        self.drift_ppm = drift_ppm;
        self.drifts_since = now;
    }

    fn drifted_us(&self, now: u64) -> i64 {
        let passed = i128::from(now.saturating_sub(self.drifts_since));
        let drifted = passed * i128::from(self.drift_ppm) / 1_000_000_000;
        i64::try_from(drifted)
            .expect("2^64 nanoseconds drift by less than 2^63 microseconds at 2^31 parts in a million")
    }
}
