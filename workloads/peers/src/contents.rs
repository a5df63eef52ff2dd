//! What a store must hold after a run, and the check that it does: outside the timed part, and in full.
//!
//! The timed part looks at lengths only, or it would measure the check. So afterwards everything is walked over once,
//! and a sample is looked up and walked over again by the very calls that were timed: each key must be the right one,
//! in its right place, with the bytes that follow from it.

use crate::store::{Failure, KEY_LEN, Store};
use crate::{key, mix, value};

/// Keys looked up, and as many that are not there.
const GETS: usize = 10_000;
/// Ranges walked over, for each of [`LIMITS`].
const RANGES: usize = 500;
/// Lengths of a range.
pub const LIMITS: [usize; 2] = [10, 100];

/// All keys of a store, ascending. A value follows from its key.
pub struct Contents {
    keys: Vec<[u8; KEY_LEN]>,
}

impl Contents {
    /// Of the records with these numbers, each given once.
    pub fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut keys: Vec<_> = numbers.map(key).collect();
        keys.sort_unstable();
        Self { keys }
    }

    /// Compares what the store gives with what it must.
    ///
    /// # Errors
    /// The first difference, or what the store says.
    pub fn check(&self, store: &dyn Store) -> Result<(), Failure> {
        let count = self.keys.len();
        self.walk(store, 0, count + 1)?;
        for turn in 0..GETS {
            self.look_up(store, self.place(turn, 1))?;
        }
        for limit in LIMITS {
            for turn in 0..RANGES {
                self.walk(store, self.place(turn, limit), limit)?;
            }
        }
        Ok(())
    }

    fn place(&self, turn: usize, salt: usize) -> usize {
        mix((turn as u64) << 8 | salt as u64) as usize % self.keys.len()
    }

    fn look_up(&self, store: &dyn Store, at: usize) -> Result<(), Failure> {
        let key = self.keys[at];
        let mut is_right = false;
        let is_there = store.get(&key, &mut |found| is_right = found == value_of(&key))?;
        if !is_there || !is_right {
            let what = if is_there { "has another value" } else { "is gone" };
            return Err(format!("{}: record {} {what}", store.name(), number_of(&key)).into());
        }
        let mut absent = key;
        absent[KEY_LEN - 1] ^= 1;
        if self.keys.binary_search(&absent).is_err() && store.get(&absent, &mut |_| {})? {
            return Err(format!("{}: a key that was never written has a value", store.name()).into());
        }
        Ok(())
    }

    fn walk(&self, store: &dyn Store, from: usize, limit: usize) -> Result<(), Failure> {
        let start = if from == 0 { [0; KEY_LEN] } else { self.keys[from] };
        let mut expected = self.keys[from..].iter().take(limit);
        let mut wrong = None;
        let mut seen = 0_usize;
        store.range(&start, limit, &mut |key, found| {
            let what = match expected.next() {
                Some(right) if right != key => Some("another key than the next one"),
                Some(right) if value_of(right) != found => Some("another value than was written"),
                Some(_) => None,
                None => Some("more than there is"),
            };
            if let Some(what) = what {
                wrong.get_or_insert(format!("gives {what}, as entry {seen}"));
            }
            seen += 1;
        })?;
        if wrong.is_none() && expected.next().is_some() {
            wrong = Some(format!("ends after {seen} entries, too early"));
        }
        match wrong {
            Some(wrong) => {
                Err(format!("{}: a range of {limit} from key {from} of all {wrong}", store.name()).into())
            }
            None => Ok(()),
        }
    }
}

fn number_of(key: &[u8; KEY_LEN]) -> u64 {
    key[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn value_of(key: &[u8; KEY_LEN]) -> Vec<u8> {
    value(number_of(key))
}
