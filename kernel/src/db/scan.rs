//! What to walk over: bounds, direction, limit.

use std::ops::{Bound, RangeBounds};

use crate::tree::{Direction, KeyRange};
use crate::txn::Walk;

/// A range of keys to walk over. Starts as everything, forward, without a limit.
///
/// ```
/// use holdfast::Scan;
/// let newest_ten = Scan::prefix(b"event/").reverse().limit(10);
/// let page_two = Scan::prefix(b"event/").after(b"event/00017").limit(100);
/// # let _ = (newest_ten, page_two);
/// ```
#[derive(Clone, Debug)]
pub struct Scan {
    range: KeyRange,
    reverse: bool,
    limit: Option<u64>,
}

impl Scan {
    /// Every key.
    pub fn all() -> Self {
        Self { range: KeyRange::ALL, reverse: false, limit: None }
    }

    /// The keys within bounds, as `b"a".to_vec()..b"c".to_vec()`. Bounds in the wrong order give nothing.
    pub fn range<K: AsRef<[u8]>>(bounds: impl RangeBounds<K>) -> Self {
        let own = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        let range = KeyRange { start: own(bounds.start_bound()), end: own(bounds.end_bound()) };
        Self { range, reverse: false, limit: None }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let start = prefix.as_ref().to_vec();
        // The least key above all of them: the prefix without its trailing 0xff, its last byte one greater.
        let mut end = start.clone();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let end = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        Self { range: KeyRange { start: Bound::Included(start), end }, reverse: false, limit: None }
    }

    /// From the greatest key to the least.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// At most this many entries.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Goes on behind `key`, in the direction of the walk (so call [`Scan::reverse`] first): for pagination, give the
    /// last key of the page before.
    #[must_use]
    pub fn after(mut self, key: impl AsRef<[u8]>) -> Self {
        let bound = Bound::Excluded(key.as_ref().to_vec());
        if self.reverse {
            self.range.end = bound;
        } else {
            self.range.start = bound;
        }
        self
    }

    pub(crate) fn into_walk(self) -> Walk {
        let direction = if self.reverse { Direction::Backward } else { Direction::Forward };
        let mut limit = self.limit;
        if self.range.is_empty() {
            limit = Some(0);
        }
        Walk { range: self.range, direction, limit }
    }
}

impl Default for Scan {
    fn default() -> Self {
        Self::all()
    }
}
