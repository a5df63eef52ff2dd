//! Several things at once that have an order: seeds, crash points, candidates.
//!
//! They are begun in their order. With `first` none is begun behind one that hits, and whatever was begun is waited for, so
//! each before the first hit is done, and which one that is does not depend on how many lanes there are.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives the numbers below `count` to `hits` on so many threads. Gives the lowest that hit.
pub(crate) fn run(
    count: u64,
    lanes: usize,
    first: bool,
    is_over: impl Fn() -> bool + Sync,
    hits: impl Fn(u64) -> bool + Sync,
) -> Option<u64> {
    let (next, lowest) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let lane = || {
        while !is_over() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_behind = first && number > lowest.load(Ordering::Relaxed);
            if number >= count || is_behind {
                return;
            }
            if hits(number) {
                lowest.fetch_min(number, Ordering::Relaxed);
            }
        }
    };
    let others = lanes.saturating_sub(1).min(usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX));
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(lane);
        }
        lane();
    });
    Some(lowest.into_inner()).filter(|lowest| *lowest != u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Condvar, Mutex};

    use super::*;

    #[test]
    fn everything_before_the_first_hit_is_done() {
        let (tried, has_hit) = (Mutex::new(BTreeSet::new()), (Mutex::new(false), Condvar::new()));
        // The lower of the two that hit ends only when the higher one has.
        let lowest = run(
            100,
            2,
            true,
            || false,
            |number| {
                tried.lock().expect("nobody panics").insert(number);
                let mut higher_has = has_hit.0.lock().expect("nobody panics");
                match number {
                    50 => drop(has_hit.1.wait_while(higher_has, |has| !*has)),
                    51 => {
                        *higher_has = true;
                        has_hit.1.notify_all();
                    }
                    _ => {}
                }
                number == 50 || number == 51
            },
        );
        assert_eq!(lowest, Some(50));
        let tried = tried.into_inner().expect("nobody panics");
        assert!(tried.iter().take(52).copied().eq(0..=51), "{tried:?}");
        assert!(tried.len() < 60, "{tried:?}");
    }

    #[test]
    fn without_first_each_is_done_once() {
        let tried = Mutex::new(Vec::new());
        let lowest = run(
            100,
            3,
            false,
            || false,
            |number| {
                tried.lock().expect("nobody panics").push(number);
                number > 40
            },
        );
        let mut tried = tried.into_inner().expect("nobody panics");
        tried.sort_unstable();
        assert!(tried.into_iter().eq(0..100));
        assert_eq!((lowest, run(0, 3, true, || false, |_| true)), (Some(41), None));
    }
}
