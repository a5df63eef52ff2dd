//! Hybrid logical time: wall-clock microseconds that never go backwards.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks" (2014), reduced to one node: the greater of the wall clock
//! and the last given time plus one.

use crate::types::Timestamp;

/// Gives each commit a timestamp greater than every one before.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: Timestamp,
}

impl HybridClock {
    /// Starts after `last`, the greatest timestamp recovered.
    pub fn after(last: Timestamp) -> Self {
        Self { last }
    }

    /// The next timestamp, at least `wall`.
    pub fn tick(&mut self, wall: Timestamp) -> Timestamp {
        self.last = wall.max(self.last.next());
        self.last
    }

    /// The last timestamp given.
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn never_backwards(walls: Vec<u64>) -> bool {
            let mut clock = HybridClock::default();
            let mut before = clock.last();
            walls.into_iter().all(|wall| {
                let now = clock.tick(Timestamp::new(wall % (1 << 50)));
                let grew = now > before;
                before = now;
                grew
            })
        }
    }
}
