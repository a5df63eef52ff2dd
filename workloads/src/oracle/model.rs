//! Every read against an ordered map of versions, and every opening against what was promised.
//!
//! ```text
//! commits of an opening, in the order of their numbers -> versions of each key
//!   reads: the newest version not above the view, under the transaction's own writes
//!   commits: nothing that was read or written was written by a commit between view and number
//!   next opening: all that had to survive is there, nothing that never was, and of each commit all or nothing
//! ```
//! A commit whose outcome nobody was told may be in effect at any free number, or not at all. The oracle tries: of the
//! places that real time allows it looks for one for each such commit that makes every read of the opening, and what the
//! next opening finds, come out right. Where several places do, states between them are not judged.
//!
//! What a read should have seen is exact, so no isolation anomaly passes; its name is a matter of how it was broken.

mod commits;
mod hints;
mod places;
mod reads;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use super::isolation::Resolved;
use super::{Violation, Wrong};
use crate::history::{Cell, Durable, Ending, History, Milestone, Operation, SURVEYOR, Transaction, TxnNo};
use versions::Versions;

/// What the faults of a run excuse, and what its options mean for the judge.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The disk lied about what was durable: in this opening, counted from 0, and in later ones the newest commits of those
    /// before may be gone, though not others.
    pub suffix_may_be_lost_from: Option<usize>,
    /// A sync failed, and the system forgot what it had: what was to outlive the process only may be gone with it.
    pub flushed_may_be_lost: bool,
    /// The disk was full or failed, so that a commit may have been numbered and never happened.
    pub numbers_may_be_skipped: bool,
    /// Some openings reserve few numbers: behind a crash they leap by any distance, and else by a great one.
    pub numbers_leap_little: bool,
    /// The window of remembered commits is narrow: a transaction may conflict with what is forgotten.
    pub narrow_window: bool,
}

impl Rules {
    /// True if what was durable before may be gone in this opening.
    fn may_be_lost_in(self, opening: usize) -> bool {
        self.suffix_may_be_lost_from.is_some_and(|first| opening >= first)
    }
}

/// Violations beyond these say nothing new.
const VIOLATIONS_MAX: usize = 4;

/// What the model makes of a history.
#[derive(Clone, Debug)]
pub struct Judgment {
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What became of the commits that nobody was told of, or that a crash took, for other judges.
    pub resolved: Resolved,
    /// More commits were left untold in one opening than can be placed by trying: nothing is known from there on.
    pub is_undecided: bool,
}

/// Judges a whole history.
///
/// The cost is near that of replaying it on a map, times the places tried for commits of unknown outcome.
pub fn judge(history: &History, rules: Rules) -> Judgment {
    let mut judge = Judge::new(history, rules);
    for opening in 0..judge.openings.len() {
        judge.opening(opening);
        if !judge.violations.is_empty() || judge.is_undecided {
            break;
        }
    }
    judge.violations.truncate(VIOLATIONS_MAX);
    let Judge { violations, resolved, is_undecided, .. } = judge;
    Judgment { violations, resolved, is_undecided }
}

/// How an opening ended, by what survives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Closed,
    Killed,
    PowerLost,
}

/// One opening, as the milestones tell it.
struct Opening {
    /// The last commit that it found.
    base: u64,
    /// Its worst end, those of attempts at the next opening included.
    end: Option<End>,
    /// Everything up to here was told to be durable.
    synced: u64,
    /// Its transactions, in the order in which they began.
    transactions: Vec<TxnNo>,
    /// How many keyspaces it found.
    keyspaces: usize,
    /// Behind it the disk was replaced by one that has the commits up to here.
    replaced_with: Option<u64>,
}

struct Judge<'a> {
    history: &'a History,
    rules: Rules,
    openings: Vec<Opening>,
    versions: Versions,
    /// The number at which each transaction with writes is in effect.
    placed: BTreeMap<TxnNo, u64>,
    /// Stretches of numbers in which the order of commits is not known: first, and behind the last.
    blurred: Vec<(u64, u64)>,
    /// Keys of which it is not known what they are, from this number on until they are written again.
    open: BTreeMap<Cell, u64>,
    resolved: Resolved,
    /// Of each transaction that somebody saw, a number that its own is not above.
    seen: BTreeMap<TxnNo, u64>,
    violations: Vec<Violation>,
    /// There are too many ways to place commits to try all, and none of those tried is right.
    is_undecided: bool,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History, rules: Rules) -> Self {
        let mut judge = Self {
            history,
            rules,
            openings: Vec::new(),
            versions: Versions::default(),
            placed: BTreeMap::new(),
            blurred: Vec::new(),
            open: BTreeMap::new(),
            resolved: Resolved::default(),
            seen: BTreeMap::new(),
            violations: Vec::new(),
            is_undecided: false,
        };
        judge.read_milestones();
        for (number, transaction) in (0..).zip(&history.transactions) {
            if let Some(opening) = judge.openings.get_mut(transaction.opening as usize) {
                opening.transactions.push(number);
            }
        }
        judge.read_sightings();
        judge
    }

    fn read_milestones(&mut self) {
        let mut keyspaces: BTreeMap<u32, u8> = BTreeMap::new();
        let (mut creating, mut dropping) = (BTreeSet::new(), BTreeSet::new());
        let mut copies: BTreeMap<usize, u64> = BTreeMap::new();
        for (at, milestone) in &self.history.milestones {
            match milestone {
                Milestone::Synced(seq) => {
                    if let Some(opening) = self.openings.last_mut() {
                        opening.synced = opening.synced.max(*seq);
                    }
                }
                Milestone::Creating(slot) => drop(creating.insert(*slot)),
                Milestone::Created(slot, id) => drop(keyspaces.insert(*id, *slot)),
                Milestone::Dropping(id) => drop(dropping.insert(*id)),
                Milestone::Dropped(id) => drop(keyspaces.remove(id)),
                Milestone::Killed => self.note_end(End::Killed),
                Milestone::PowerLost => self.note_end(End::PowerLost),
                Milestone::Closed => self.note_end(End::Closed),
                Milestone::CopyKept(copy) => drop(copies.insert(*copy, self.lasting_at(*at))),
                Milestone::Replaced(copy) => {
                    let lasting = copy.and_then(|copy| copies.get(&copy).copied()).unwrap_or(0);
                    if let Some(opening) = self.openings.last_mut() {
                        opening.replaced_with = Some(lasting);
                    }
                }
                Milestone::Opened(last, found) => {
                    let found: BTreeMap<u32, u8> = found.iter().map(|(slot, id)| (*id, *slot)).collect();
                    if self.openings.is_empty() {
                        creating.insert(0);
                    }
                    let appeared = found
                        .iter()
                        .find(|(id, slot)| !keyspaces.contains_key(id) && !creating.contains(slot));
                    let vanished =
                        keyspaces.keys().find(|id| !found.contains_key(id) && !dropping.contains(id));
                    let is_other_disk = self.openings.last().is_some_and(|last| last.replaced_with.is_some());
                    let is_excused = self.rules.may_be_lost_in(self.openings.len()) || is_other_disk;
                    if !is_excused && (appeared.is_some() || vanished.is_some()) {
                        let what =
                            format!("an opening found the keyspaces {found:?} instead of {keyspaces:?}");
                        self.violations.push(Violation { wrong: Wrong::Structure, what });
                    }
                    keyspaces = found;
                    creating.clear();
                    dropping.clear();
                    self.openings.push(Opening {
                        base: *last,
                        end: None,
                        synced: 0,
                        transactions: Vec::new(),
                        keyspaces: keyspaces.len(),
                        replaced_with: None,
                    });
                }
            }
        }
    }

    /// The newest commit that a power loss at this time would have left.
    fn lasting_at(&self, time: u64) -> u64 {
        let Some(opening) = self.openings.last() else { return 0 };
        if let Some(lasting) = opening.replaced_with {
            return lasting;
        }
        let number = self.openings.len() - 1;
        let lasting = self.history.transactions.iter().filter_map(|transaction| {
            let is_told = transaction.opening as usize == number
                && transaction.ended.is_some_and(|ended| ended < time)
                && transaction.durable == Durable::Sync
                && transaction.writes();
            match transaction.ending {
                Ending::Committed(seq) if is_told => Some(seq),
                _ => None,
            }
        });
        lasting.max().unwrap_or(0).max(opening.base).max(opening.synced)
    }

    fn note_end(&mut self, end: End) {
        if let Some(opening) = self.openings.last_mut() {
            opening.end = opening.end.max(Some(end));
        }
    }

    fn of(&self, number: TxnNo) -> &'a Transaction {
        &self.history.transactions[number as usize]
    }

    fn violate(&mut self, wrong: Wrong, what: String) {
        self.violations.push(Violation { wrong, what });
    }

    /// Judges one opening, and what the next one found of it.
    fn opening(&mut self, number: usize) {
        let (base, found) = (self.openings[number].base, self.openings.get(number + 1).map(|next| next.base));
        if let Some(found) = found {
            self.demand_survivors(number, found);
            let is_open = |(first, end): &(u64, u64)| (*first..*end).contains(&found);
            if self.openings[number].replaced_with.is_some() && self.blurred.iter().any(is_open) {
                // An older state came back of which it was never known what it was.
                self.is_undecided = true;
                return;
            }
        }
        let (told, unknown) = self.commits_of(number);
        if let Some(twice) = told.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let what =
                format!("T{} and T{} were both told to be commit {}", twice[0].1, twice[1].1, twice[0].0);
            self.violate(Wrong::OrderViolated, what);
            return;
        }
        let (tried, is_all) = self.places(number, &told, &unknown);
        let first_free = tried.iter().flatten().flatten().min().copied().unwrap_or(0);
        let (mut fitting, mut complaint): (Vec<Vec<Option<u64>>>, Vec<Violation>) = (Vec::new(), Vec::new());
        for (at, places) in tried.into_iter().enumerate() {
            self.take_effect(base, &told, &unknown, &places);
            // Those with views below all places see the same, wherever the commits are.
            let mut wrong = self.reads_of(number, found, if at == 0 { 0 } else { first_free });
            if wrong.is_empty() {
                wrong.extend(self.commits_of_opening(number));
            }
            if wrong.is_empty() {
                fitting.push(places);
                if fitting.len() > 1 {
                    break;
                }
            } else if complaint.is_empty() {
                complaint = wrong;
            }
        }
        let Some(places) = fitting.first() else {
            if is_all && complaint.is_empty() {
                let seen: Vec<_> = unknown.iter().filter(|txn| self.seen.contains_key(txn)).collect();
                let what = format!(
                    "{seen:?} were seen and nobody was told of them, but no numbers are left for them"
                );
                self.violate(Wrong::OrderViolated, what);
            } else if is_all {
                self.violations.append(&mut complaint);
            }
            self.is_undecided = !is_all;
            return;
        };
        // What was tried last need not be what fits.
        self.take_effect(base, &told, &unknown, places);
        if fitting.len() > 1 {
            let end = found.unwrap_or(u64::MAX);
            // Where nobody read all that was left, what they wrote is as open.
            if !self.is_surveyed(number + 1) {
                self.leave_open(&unknown, end);
            }
            self.blurred.push((base + 1, end));
        }
        self.resolve(number, found);
        // What did not survive never was, as far as later openings go.
        if let Some(found) = found {
            self.versions.forget_after(found);
            self.placed.retain(|_, seq| *seq <= found);
        }
    }

    /// What these commits write is not known from here on.
    fn leave_open(&mut self, unknown: &[TxnNo], since: u64) {
        for txn in unknown {
            for operation in &self.of(*txn).operations {
                let cells = match operation {
                    Operation::Put { cell, .. } | Operation::Delete { cell } => vec![cell.clone()],
                    Operation::DeleteRange { keyspace, interval } => self.versions.keys(*keyspace, interval),
                    Operation::Get { .. } | Operation::Scan { .. } => Vec::new(),
                };
                self.open.extend(cells.into_iter().map(|cell| (cell, since)));
            }
        }
    }

    /// True if nobody knows what a key is at a view.
    fn is_open(&self, cell: &Cell, view: u64) -> bool {
        let is_older =
            |since: &u64| self.versions.at(cell, view).is_none_or(|(written, _)| written <= *since);
        self.open.get(cell).is_some_and(is_older)
    }

    /// Tells what became of an opening's commits. Where several places fit one that was not told, its place stays open.
    fn resolve(&mut self, number: usize, found: Option<u64>) {
        let is_open = self.blurred.last().is_some_and(|(first, _)| *first == self.openings[number].base + 1);
        for txn in &self.openings[number].transactions {
            let transaction = &self.history.transactions[*txn as usize];
            match (self.placed.get(txn), &transaction.ending) {
                (Some(seq), Ending::Unknown) if !is_open => self.resolved.takes_effect(*txn, *seq),
                (None, Ending::Unknown) if !is_open => self.resolved.has_no_effect(*txn),
                _ => {}
            }
            let place = self.placed.get(txn);
            if place.zip(found).is_some_and(|(seq, found)| *seq > found) {
                self.resolved.is_lost_after(*txn, transaction.opening);
            }
        }
    }

    /// What had to outlive the opening's end did.
    fn demand_survivors(&mut self, number: usize, found: u64) {
        let may_be_lost = self.rules.may_be_lost_in(number + 1);
        let opening = &self.openings[number];
        let mut end = opening.end.unwrap_or(End::Killed);
        if end == End::Killed && self.rules.flushed_may_be_lost {
            end = End::PowerLost;
        }
        let mut least = (opening.base.max(opening.synced), None);
        if let Some(lasting) = opening.replaced_with {
            if found < lasting && !may_be_lost {
                let what = format!(
                    "the disk was replaced by one on which commit {lasting} had to be, but the next opening's last commit \
                     is {found}"
                );
                self.violate(Wrong::LostWrite, what);
            }
            return;
        }
        for number in &opening.transactions {
            let transaction = self.of(*number);
            let Ending::Committed(seq) = transaction.ending else { continue };
            let survives = match end {
                End::Closed => true,
                End::Killed => transaction.durable >= Durable::Flush,
                End::PowerLost => transaction.durable == Durable::Sync,
            };
            if survives && transaction.writes() && seq > least.0 {
                least = (seq, Some(*number));
            }
        }
        if found < least.0 && !may_be_lost {
            let who = least.1.map_or("everything before a sync".to_owned(), |txn| {
                format!("T{txn} of client {}", self.of(txn).client)
            });
            let what = format!(
                "commit {} ({who}) had to survive ({end:?}), but the next opening's last commit is {found}",
                least.0
            );
            self.violate(Wrong::LostWrite, what);
        }
    }

    /// The commits with writes: those that were told, by number, and those of which nothing was.
    fn commits_of(&self, number: usize) -> (Vec<(u64, TxnNo)>, Vec<TxnNo>) {
        let (mut told, mut unknown) = (Vec::new(), Vec::new());
        for number in &self.openings[number].transactions {
            let transaction = self.of(*number);
            match transaction.ending {
                _ if !transaction.writes() => {}
                Ending::Committed(seq) => told.push((seq, *number)),
                Ending::Unknown => unknown.push(*number),
                Ending::Conflict | Ending::Refused(_) => {}
            }
        }
        told.sort_unstable();
        (told, unknown)
    }

    /// Lets the commits of an opening take effect, in order.
    fn take_effect(&mut self, base: u64, told: &[(u64, TxnNo)], unknown: &[TxnNo], places: &[Option<u64>]) {
        self.versions.forget_after(base);
        self.placed.retain(|_, seq| *seq <= base);
        let mut all = told.to_vec();
        all.extend(places.iter().zip(unknown).filter_map(|(place, txn)| Some(((*place)?, *txn))));
        all.sort_unstable();
        for (seq, number) in all {
            self.placed.insert(number, seq);
            self.versions.apply(seq, &self.of(number).operations);
        }
    }

    /// Notes of each transaction the smallest number that a read of it, in whichever opening, allows.
    fn read_sightings(&mut self) {
        let Self { history, openings, seen, .. } = self;
        let mut note = |by: &Transaction, view: u64, writer: TxnNo| {
            let Some(transaction) = history.transactions.get(writer as usize) else { return };
            let found = openings.get(transaction.opening as usize + 1).map_or(u64::MAX, |next| next.base);
            // Whoever saw it later saw what the end of its opening left.
            let at_most = if by.opening > transaction.opening { view.min(found) } else { view };
            let least = seen.entry(writer).or_insert(u64::MAX);
            *least = (*least).min(at_most);
        };
        for (number, transaction) in (0..).zip(&history.transactions) {
            let Some(view) = transaction.view_at_most.or(transaction.view) else { continue };
            for operation in &transaction.operations {
                match operation {
                    Operation::Get { found: Some(value), .. } if value.stamp.txn != number => {
                        note(transaction, view, value.stamp.txn);
                    }
                    Operation::Scan { found, .. } => {
                        let others = found.iter().filter(|(_, value)| value.stamp.txn != number);
                        others.for_each(|(_, value)| note(transaction, view, value.stamp.txn));
                    }
                    _ => {}
                }
            }
        }
    }

    /// True if the first look of an opening read every keyspace to its end.
    fn is_surveyed(&self, number: usize) -> bool {
        let Some(opening) = self.openings.get(number) else { return true };
        let survey = opening.transactions.first().map(|txn| self.of(*txn)).filter(|survey| is_survey(survey));
        let is_whole = |operation: &Operation| matches!(operation, Operation::Scan { complete: true, .. });
        survey.is_some_and(|survey| {
            survey.operations.len() == opening.keyspaces && survey.operations.iter().all(is_whole)
        })
    }
}

/// True if the transaction is the look at everything after an opening.
fn is_survey(transaction: &Transaction) -> bool {
    transaction.client == SURVEYOR
}
