//! Where the commits of an opening can stand of which nobody was told.
//!
//! Numbers within an opening are given one after another, and only a commit that is refused for the disk's sake leaves
//! a hole. So the numbers between those that were told belong to commits that were not, each of them to one, and what
//! real time and other clients' reads say narrows down to which.

use std::collections::BTreeSet;

use super::hints::Hint;
use super::{Judge, Opening};
use crate::history::{Ending, TxnNo};

/// More ways than these are not tried. With a handful of clients in flight there are far fewer.
const PLACES_MAX: usize = 4000;
/// More numbers than these are not given to a commit while looking for ways.
const STEPS_MAX: u64 = 1_000_000;

/// What is known of a commit that nobody was told of.
struct Bounds {
    /// Its number is above this.
    above: u64,
    /// And not above this, for somebody saw it.
    at_most: Option<u64>,
    /// Nor behind the first of these and up to the second.
    not_in: Vec<(u64, u64)>,
}

impl Bounds {
    fn allow(&self, number: u64) -> bool {
        number > self.above
            && self.at_most.is_none_or(|most| number <= most)
            && !self.not_in.iter().any(|(behind, until)| *behind < number && number <= *until)
    }
}

impl Judge<'_> {
    /// Every way to place the commits of unknown outcome: a number for each, or none. And whether these are all ways.
    pub(super) fn places(
        &self,
        number: usize,
        told: &[(u64, TxnNo)],
        unknown: &[TxnNo],
    ) -> (Vec<Vec<Option<u64>>>, bool) {
        if unknown.is_empty() {
            return (vec![Vec::new()], true);
        }
        let opening = &self.openings[number];
        let found = self.openings.get(number + 1).map_or(0, |next| next.base);
        let hints = self.hints(number, told, unknown);
        let bounded = unknown.iter().zip(hints).map(|(txn, hint)| self.bounds(opening, told, *txn, hint));
        let bounds: Vec<Bounds> = bounded.collect();
        let views = opening.transactions.iter().filter_map(|txn| self.of(*txn).view);
        let numbers: BTreeSet<u64> = told.iter().map(|(seq, _)| *seq).collect();
        let certain = views.chain(numbers.iter().copied()).chain([found]).filter(|seq| *seq > opening.base);
        let Some(greatest) = certain.max() else { return (vec![vec![None; unknown.len()]], true) };
        let holes =
            self.holes(opening) + if self.rules.numbers_may_be_skipped { unknown.len() as u64 } else { 0 };
        let mut search = Search { bounds: &bounds, places: Vec::new(), steps: 0 };
        let leaps_little = self.rules.numbers_leap_little;
        for first in firsts(opening.base, &numbers, greatest, unknown.len() as u64 + holes, leaps_little) {
            let free: Vec<u64> = (first..=greatest).filter(|seq| !numbers.contains(seq)).collect();
            search.fill(&free, &mut vec![None; unknown.len()], holes);
        }
        let is_all = !search.is_over();
        // A hole before the first number is a greater leap.
        let mut seen = BTreeSet::new();
        search.places.retain(|places| seen.insert(places.clone()));
        (search.places, is_all)
    }

    fn bounds(&self, opening: &Opening, told: &[(u64, TxnNo)], txn: TxnNo, hint: Hint) -> Bounds {
        let transaction = self.of(txn);
        let committing = transaction.committing.unwrap_or(transaction.began);
        let ended_before = |other: &TxnNo| self.of(*other).ended.is_some_and(|ended| ended < committing);
        let above = told.iter().filter(|(_, other)| ended_before(other)).map(|(seq, _)| *seq).max();
        let above = above.unwrap_or(opening.base).max(transaction.view.unwrap_or(0)).max(hint.above);
        Bounds { above, at_most: self.seen.get(&txn).copied(), not_in: hint.not_in }
    }

    /// Commits that were refused after they may have been numbered.
    fn holes(&self, opening: &Opening) -> u64 {
        let refused = |txn: &&TxnNo| {
            let transaction = self.of(**txn);
            transaction.committing.is_some() && matches!(transaction.ending, Ending::Refused(_))
        };
        opening.transactions.iter().filter(refused).count() as u64
    }
}

/// What the first number of the opening may be. After a crash numbers leap.
fn firsts(
    base: u64,
    numbers: &BTreeSet<u64>,
    greatest: u64,
    missing: u64,
    leaps_little: bool,
) -> impl Iterator<Item = u64> {
    let least = numbers.first().copied().unwrap_or(greatest + 1);
    let is_near = least - base - 1 <= missing;
    let near = is_near.then_some(base + 1);
    let leaps = (!is_near || leaps_little).then_some(0..=missing).into_iter().flatten();
    let leapt =
        leaps.map_while(move |before| least.checked_sub(before)).take_while(move |first| *first > base + 1);
    near.into_iter().chain(leapt)
}

struct Search<'a> {
    bounds: &'a [Bounds],
    places: Vec<Vec<Option<u64>>>,
    /// Numbers tried so far.
    steps: u64,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.places.len() >= PLACES_MAX || self.steps >= STEPS_MAX
    }

    /// Gives each free number to a commit, or leaves it as a hole if there may be one.
    fn fill(&mut self, free: &[u64], placed: &mut Vec<Option<u64>>, holes: u64) {
        self.steps += 1;
        if self.is_over() {
            return;
        }
        let unplaced = placed.iter().filter(|place| place.is_none()).count() as u64;
        if free.len() as u64 > unplaced + holes {
            return;
        }
        // What somebody saw is somewhere, and by its last possible number at the latest.
        let next = free.first().copied().unwrap_or(u64::MAX);
        let is_late = |(place, bounds): (&Option<u64>, &Bounds)| {
            place.is_none() && bounds.at_most.is_some_and(|most| most < next)
        };
        if placed.iter().zip(self.bounds).any(is_late) {
            return;
        }
        let Some((number, rest)) = free.split_first() else {
            self.places.push(placed.clone());
            return;
        };
        for at in 0..placed.len() {
            if placed[at].is_none() && self.bounds[at].allow(*number) {
                placed[at] = Some(*number);
                self.fill(rest, placed, holes);
                placed[at] = None;
            }
        }
        if holes > 0 {
            self.fill(rest, placed, holes - 1);
        }
    }
}
