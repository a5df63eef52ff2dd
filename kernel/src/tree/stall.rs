//! The stall condition: when writers must slow down, and when they must wait.
//!
//! [`pressure`] judges a state, purely; [`Throttle`] carries the verdict from whoever changed the state to the
//! writers, who pay one atomic load while there is none.
//!
//! | cause | slow | stop |
//! |---|---|---|
//! | tables in level 0 | 3 × `level0_tables` | 5 ×, and more where damaged tables hold some there |
//! | frozen memtables of one keyspace | 2 | 4 |
//! | memtable memory | 3/8 of `memory_limit_bytes` | 1/2 |
//! | memory for everything but the block cache, which gives way | 3/4 of `memory_limit_bytes` | all of it |
//!
//! Slowing is linear: from 50 µs a commit at the first mark to 2 ms just before the second.

use super::state::{KeyspaceState, State};
use crate::cache::Budget;
use crate::sync::Notify;
use crate::sync::atomic::{AtomicU64, Ordering};

const DELAY_US_MIN: u64 = 50;
const DELAY_US_MAX: u64 = 2000;
const FROZEN_SLOW: u64 = 2;
const FROZEN_STOP: u64 = 4;
const STOP: u64 = u64::MAX;

/// How many tables in a row can be such that each is more than twice as large as all before it: sums of bytes that
/// triple end at 2^64.
const GATHERED_MAX: u64 = 41;

/// What a state asks of writers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pressure {
    None,
    /// Wait this long before each commit, in microseconds.
    Slow(u64),
    /// Wait until it changes.
    Stop,
}

/// Judges a state, and what is held of the one budget.
pub(crate) fn pressure(state: &State, budget: &Budget) -> Pressure {
    let level0 = state.keyspaces.values().map(|keyspace| {
        let trigger = u64::from(keyspace.options.level0_tables);
        let level0 = between(keyspace.levels[0].len() as u64, 3 * trigger, 5 * trigger);
        let stops = level0 == Pressure::Stop
            && keyspace.levels[0].len() as u64 >= 5 * trigger + held_by_damage_max(keyspace);
        if level0 == Pressure::Stop && !stops { Pressure::Slow(DELAY_US_MAX) } else { level0 }
    });
    level0.fold(memory_pressure(state, budget), max)
}

/// How many tables of level 0 may be there because of damaged ones while no compaction is due. Writers that stopped for
/// these would stop for ever; beyond them there is always a job that makes level 0 shorter.
fn held_by_damage_max(keyspace: &KeyspaceState) -> u64 {
    if !keyspace.tables().any(|table| table.is_quarantined()) {
        return 0;
    }
    let damaged = keyspace.levels[0].iter().filter(|table| table.is_quarantined()).count() as u64;
    // Damaged tables part level 0 into rows of neighbours; each counts with one of them.
    (damaged + 1) * (u64::from(keyspace.options.level0_tables) + 10 + GATHERED_MAX)
}

/// The same without what compaction alone can ease: for a disk that has no room for a compaction. More tables in level
/// 0 cost reads, not memory, and the disk itself bounds them.
pub(crate) fn memory_pressure(state: &State, budget: &Budget) -> Pressure {
    let mut worst = Pressure::None;
    let mut memtable_bytes = 0;
    for keyspace in state.keyspaces.values() {
        worst = max(worst, between(keyspace.frozen.len() as u64, FROZEN_SLOW, FROZEN_STOP));
        memtable_bytes += keyspace.memory_bytes();
    }
    let limit = budget.limit();
    worst = max(worst, between(memtable_bytes, limit / 8 * 3, limit / 2));
    max(worst, between(budget.held(), limit / 4 * 3, limit))
}

fn between(value: u64, slow: u64, stop: u64) -> Pressure {
    if value < slow {
        return Pressure::None;
    }
    if value >= stop {
        return Pressure::Stop;
    }
    let part = (u128::from(value - slow) * u128::from(DELAY_US_MAX - DELAY_US_MIN)) / u128::from(stop - slow);
    Pressure::Slow(DELAY_US_MIN + part as u64)
}

fn max(a: Pressure, b: Pressure) -> Pressure {
    match (a, b) {
        (Pressure::Stop, _) | (_, Pressure::Stop) => Pressure::Stop,
        (Pressure::Slow(a), Pressure::Slow(b)) => Pressure::Slow(a.max(b)),
        (Pressure::Slow(a), Pressure::None) | (Pressure::None, Pressure::Slow(a)) => Pressure::Slow(a),
        (Pressure::None, Pressure::None) => Pressure::None,
    }
}

/// The verdict as writers read it.
pub(crate) struct Throttle {
    /// 0, a delay in microseconds, or [`STOP`].
    verdict: AtomicU64,
    /// Wakes stopped writers.
    pub eased: Notify,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { verdict: AtomicU64::new(0), eased: Notify::new() }
    }
}

impl Throttle {
    /// Publishes a verdict.
    pub fn set(&self, pressure: Pressure) {
        let verdict = match pressure {
            Pressure::None => 0,
            Pressure::Slow(delay_us) => delay_us,
            Pressure::Stop => STOP,
        };
        let before = self.verdict.swap(verdict, Ordering::AcqRel);
        if before == STOP && verdict != STOP {
            self.eased.notify_all();
        }
        if std::mem::discriminant(&judgement(before)) != std::mem::discriminant(&pressure) {
            match pressure {
                Pressure::None => tracing::info!("writers go on"),
                Pressure::Slow(delay_us) => tracing::info!(delay_us, "writers are slowed down"),
                Pressure::Stop => tracing::warn!("writers must wait"),
            }
        }
    }

    /// The verdict of now.
    pub fn get(&self) -> Pressure {
        judgement(self.verdict.load(Ordering::Acquire))
    }
}

/// What a verdict says.
fn judgement(verdict: u64) -> Pressure {
    match verdict {
        0 => Pressure::None,
        STOP => Pressure::Stop,
        delay_us => Pressure::Slow(delay_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slows_before_it_stops() {
        assert_eq!(between(2, 3, 5), Pressure::None);
        assert_eq!(between(3, 3, 5), Pressure::Slow(50));
        assert_eq!(between(4, 3, 5), Pressure::Slow(1025));
        assert_eq!(between(5, 3, 5), Pressure::Stop);
    }
}
