//! Where a storm stands: all of it that outlives the process.
//!
//! ```text
//! clients -> Line -> witness -> State
//! ```
//! A line is one change. In the simulator the state itself outlives the process. On a real disk it dies with it, so
//! a witness is told each line before it takes effect: before the call that it announces begins, and before the client
//! goes on after an answer. From the lines that were told [`State::take_in`] makes the same state again. Counts are the
//! exception: they change in passing and are told now and then.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counts, VIOLATIONS_MAX};
use crate::history::{Change, Durable, Ending, History, Milestone, Operation, Promise, Transaction, TxnNo};
use crate::oracle::Violation;

/// One change of where a storm stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Of its history.
    History(Change),
    /// The database is being opened.
    Opens,
    /// This client begins its next step.
    Step(u32),
    /// A further directory is made.
    Copy,
    /// So much was counted.
    Counted(Counts),
    /// Something is wrong.
    Wrong(Violation),
}

/// Is told each line before it takes effect.
pub type Witness = Arc<dyn Fn(&Line) + Send + Sync>;

/// See the module's header.
#[derive(Clone, Default)]
pub(super) struct State {
    history: History,
    violations: Vec<Violation>,
    /// By client: its next step.
    next: Vec<usize>,
    /// Directories made so far.
    copies: u64,
    pub(super) counts: Counts,
    /// The newest commit that a client was told of in this opening.
    pub(super) newest_told: u64,
    /// The newest commit of which was told that it outlives a power loss, or that an opening found.
    pub(super) newest_lasting: u64,
    /// Commits of this opening that a full disk left unknown, and when that was told.
    unsettled: Vec<(u64, TxnNo)>,
    /// A full disk left a commit of this opening unknown.
    pub(super) has_unknown: bool,
    /// Batches of this opening whose futures were dropped: nobody can tell what became of them.
    pub(super) untold: u64,
    witness: Option<Witness>,
}

impl State {
    /// Nothing seen yet, by so many clients.
    pub(super) fn new(clients: usize) -> Self {
        Self { next: vec![0; clients], ..Self::default() }
    }

    /// Nobody is told any more.
    pub(super) fn dismiss_witness(&mut self) {
        self.witness = None;
    }

    /// From now on the witness is told.
    pub(super) fn call_witness(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// Has what a line says, which was told before.
    ///
    /// # Errors
    /// In words: it changes what is not there.
    pub(super) fn take_in(&mut self, line: Line) -> Result<(), String> {
        let fits = match &line {
            Line::History(change) => change.fits(&self.history),
            Line::Step(client) => (*client as usize) < self.next.len(),
            Line::Opens | Line::Copy | Line::Counted(_) | Line::Wrong(_) => true,
        };
        if !fits {
            return Err(format!("{line:?} changes what is not there"));
        }
        self.apply(line);
        Ok(())
    }

    fn note(&mut self, line: Line) {
        if let Some(witness) = &self.witness {
            witness(&line);
        }
        self.apply(line);
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::History(change) => {
                if let Change::Passes(Milestone::Opened(last, _)) = &change {
                    // What the end of the last opening has taken is the model's business.
                    self.newest_told = *last;
                    self.newest_lasting = *last;
                    self.unsettled.clear();
                    self.has_unknown = false;
                    self.untold = 0;
                    self.counts.openings += 1;
                    self.counts.read_since_opening = 0;
                }
                self.history.apply(change);
            }
            Line::Opens => {}
            Line::Step(client) => self.next[client as usize] += 1,
            Line::Copy => self.copies += 1,
            Line::Counted(counts) => self.counts = counts,
            Line::Wrong(violation) => self.violations.push(violation),
        }
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The transaction of this number.
    pub(super) fn of(&self, txn: TxnNo) -> &Transaction {
        &self.history.transactions[txn as usize]
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Takes what was seen, and what was found wrong.
    pub(super) fn take(&mut self) -> (History, Vec<Violation>) {
        (std::mem::take(&mut self.history), std::mem::take(&mut self.violations))
    }

    /// The next step of a client.
    pub(super) fn next(&self, client: usize) -> usize {
        self.next[client]
    }

    /// A client begins its next step.
    pub(super) fn step(&mut self, client: u32) {
        self.note(Line::Step(client));
    }

    /// Clients have begun all their steps.
    pub(super) fn skip_to(&mut self, next: Vec<usize>) {
        self.next = next;
    }

    /// The database is being opened: nothing but whoever watches cares.
    pub(super) fn opens(&mut self) {
        self.note(Line::Opens);
    }

    /// A number for a further directory.
    pub(super) fn copy(&mut self) -> u64 {
        self.note(Line::Copy);
        self.copies
    }

    /// Tells what was counted.
    pub(super) fn tell_counts(&mut self) {
        self.note(Line::Counted(self.counts));
    }

    pub(super) fn wrong(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.note(Line::Wrong(violation));
        }
    }

    fn change(&mut self, change: Change) {
        self.note(Line::History(change));
    }

    /// A transaction begins.
    pub(super) fn begin(
        &mut self,
        client: u32,
        opening: u32,
        (promise, durable): (Promise, Durable),
    ) -> TxnNo {
        let number = self.history.transactions.len();
        self.change(Change::Begins { client, opening, promise, durable });
        TxnNo::try_from(number).expect("fewer than 2^32 transactions")
    }

    /// It reads the state of this commit, or of a later one.
    pub(super) fn views(&mut self, txn: TxnNo, view: u64) {
        self.change(Change::Views(txn, view));
    }

    /// It reads the state of this commit at the latest.
    pub(super) fn views_at_most(&mut self, txn: TxnNo, view: u64) {
        self.change(Change::ViewsAtMost(txn, view));
    }

    /// A read of it was given up.
    pub(super) fn blurs(&mut self, txn: TxnNo) {
        self.change(Change::Blurs(txn));
    }

    /// It did this.
    pub(super) fn did(&mut self, txn: TxnNo, operation: Operation) {
        self.change(Change::Did(txn, operation));
    }

    /// Its commit is asked for.
    pub(super) fn commits(&mut self, txn: TxnNo) {
        self.change(Change::Commits(txn));
    }

    /// Its client was told this at the end.
    pub(super) fn ends(&mut self, txn: TxnNo, ending: Ending) {
        self.change(Change::Ends(txn, ending));
    }

    /// Something happened beside transactions.
    pub(super) fn passes(&mut self, milestone: Milestone) {
        self.change(Change::Passes(milestone));
    }

    /// The keyspaces that are there for certain, by number: found by this opening or created since, and nobody has asked to
    /// drop them.
    pub(super) fn standing_keyspaces(&self) -> BTreeSet<u32> {
        let (mut standing, mut asked_to_drop) = (BTreeSet::new(), BTreeSet::new());
        for (_, milestone) in &self.history.milestones {
            match milestone {
                Milestone::Opened(_, found) => standing = found.iter().map(|(_, id)| *id).collect(),
                Milestone::Created(_, id) => drop(standing.insert(*id)),
                // One that was made is told of by two: its maker may be the later one.
                Milestone::Dropping(id) => drop(asked_to_drop.insert(*id)),
                _ => {}
            }
        }
        &standing - &asked_to_drop
    }

    /// A full disk left a commit unknown.
    pub(super) fn is_unsettled(&mut self, txn: TxnNo) {
        let now = self.history.tick();
        self.unsettled.push((now, txn));
        self.has_unknown = true;
    }

    /// A commit has succeeded: it settles that those told to be unknown before it was sent never happened.
    pub(super) fn settle_unknown(&mut self, by: TxnNo) {
        let sent = self.of(by).committing.unwrap_or(0);
        let (settled, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unsettled).into_iter().partition(|(told, _)| *told < sent);
        self.unsettled = open;
        for (_, txn) in settled {
            let what = "the disk was full, and a later commit settled that it never happened";
            self.ends(txn, Ending::Refused(what.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use crate::history::Cell;
    use crate::oracle::Wrong;

    /// Does one of the things that storms do.
    fn go_on(state: &mut State, random: &mut Random) {
        let transactions = state.history.transactions.len() as u64;
        if transactions == 0 || random.one_in(4) {
            state.begin(random.below(3) as u32, 0, (Promise::Serializable, Durable::Flush));
            return;
        }
        let txn = random.below(transactions) as TxnNo;
        let number = random.below(100);
        let cell = Cell { keyspace: 1, key: number.to_le_bytes().as_slice().into() };
        match random.below(14) {
            0 => state.views(txn, number),
            1 => state.views_at_most(txn, number),
            2 => state.blurs(txn),
            3..=5 => state.did(txn, Operation::Delete { cell }),
            6 => state.commits(txn),
            7 => state.ends(txn, Ending::Committed(number)),
            8 => state.passes(Milestone::Opened(number, vec![(0, 0)])),
            9 => state.passes(Milestone::Killed),
            10 => state.step(random.below(3) as u32),
            11 => drop(state.copy()),
            12 => state.wrong(Violation { wrong: Wrong::Phantom, what: number.to_string() }),
            _ => state.opens(),
        }
    }

    #[test]
    fn what_was_told_makes_the_same_state_and_goes_on_alike() {
        for seed in 0..50 {
            let told: Arc<holdfast::sync::Mutex<Vec<String>>> = Arc::default();
            let (writer, mut random) = (Arc::clone(&told), Random::new(seed));
            let mut state = State::new(3);
            state.call_witness(Arc::new(move |line| {
                writer.lock().push(serde_json::to_string(line).expect("plain data"));
            }));
            for _ in 0..200 {
                go_on(&mut state, &mut random);
            }
            state.tell_counts();
            let mut again = State::new(3);
            for text in told.lock().iter() {
                again.take_in(serde_json::from_str(text).expect("it comes back")).expect("it fits");
            }
            for step in 0..2 {
                let parts = |state: &State| {
                    let (history, wrong) = (state.history.clone(), state.violations.clone());
                    format!("{history:?} {wrong:?} {:?} {} {:?}", state.next, state.copies, state.counts)
                };
                assert_eq!(parts(&state), parts(&again), "seed {seed}, step {step}");
                let mut same = random.clone();
                go_on(&mut state, &mut random);
                go_on(&mut again, &mut same);
            }
        }
    }

    #[test]
    fn a_line_about_what_is_not_there_is_refused() {
        let mut state = State::new(1);
        for line in [Line::Step(1), Line::History(Change::Commits(0))] {
            assert!(state.take_in(line).is_err_and(|error| error.contains("not there")));
        }
    }
}
