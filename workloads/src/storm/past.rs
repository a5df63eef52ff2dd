//! What can be read of the past: the newest commits, as many as are retained, whatever numbers lie between them.

use holdfast::{Error, Seq, Snapshot};

use super::opening::Opening;
use super::state::State;
use super::{Stopped, Storm};
use crate::history::{Ending, Milestone, Transaction};
use crate::oracle::Wrong;

impl Opening {
    /// A snapshot of so many numbers back, if it is kept.
    pub(super) fn past(&self, back: u16) -> Result<Option<Snapshot>, Stopped> {
        let retained = self.storm.settings.retained();
        let asked = self.db.last_seq().get().saturating_sub(u64::from(back));
        self.snapshot_at(asked, || self.db.last_seq().get().saturating_sub(asked) <= retained)
    }

    /// A snapshot of one of the acknowledged commits that have to be kept.
    pub(super) fn past_commit(&self, which: u16) -> Result<Option<Snapshot>, Stopped> {
        let kept = self.kept_commits();
        match usize::from(which).checked_rem(kept.len()) {
            Some(place) => self.snapshot_at(kept[place], || self.kept_commits().contains(&kept[place])),
            None => Ok(None),
        }
    }

    /// Asks for the oldest commit that has to be kept.
    pub(super) fn look_far_back(&self) -> Result<(), Stopped> {
        let Some(oldest) = self.kept_commits().pop() else { return Ok(()) };
        self.snapshot_at(oldest, || self.kept_commits().contains(&oldest)).map(drop)
    }

    fn kept_commits(&self) -> Vec<u64> {
        self.storm.kept_commits(self.db.last_seq().get())
    }

    /// `is_kept` is asked if it is refused, for others may have committed since it was chosen.
    fn snapshot_at(&self, asked: u64, is_kept: impl Fn() -> bool) -> Result<Option<Snapshot>, Stopped> {
        match self.db.at(Seq::new(asked)) {
            Ok(snapshot) if snapshot.seq().get() == asked => return Ok(Some(snapshot)),
            Ok(snapshot) => {
                let what = format!("asked for the state of commit {asked}, given that of {}", snapshot.seq());
                self.storm.wrong(Wrong::NonRepeatableRead, what);
            }
            Err(Error::TooOld { oldest, .. }) => {
                if is_kept() {
                    let retained = self.storm.settings.retained();
                    let what = format!(
                        "commit {asked} is too old, though it is among the {retained} newest; the oldest is {oldest}"
                    );
                    self.storm.wrong(Wrong::Unavailable, what);
                }
            }
            Err(error) => self.judge(&error, "reading the past")?,
        }
        Ok(None)
    }
}

impl Storm {
    /// The acknowledged commits up to `last` whose state can be read for certain, newest first.
    fn kept_commits(&self, last: u64) -> Vec<u64> {
        kept_commits(&self.state(), last, self.settings.retained())
    }
}

/// Those after which no more than `retained` can have come.
fn kept_commits(state: &State, last: u64, retained: u64) -> Vec<u64> {
    let history = state.history();
    let found = history.milestones.iter().filter_map(|(_, milestone)| match milestone {
        Milestone::Opened(found, _) => Some(*found),
        _ => None,
    });
    // By opening: the last number before its own.
    let begins: Vec<u64> = found.collect();
    // By opening: the newest commit that no later opening has lost.
    let mut lasting: Vec<u64> = begins.iter().copied().skip(1).chain([last]).collect();
    for opening in (1..lasting.len()).rev() {
        lasting[opening - 1] = lasting[opening - 1].min(lasting[opening]);
    }
    let commit_of = |transaction: &Transaction| match transaction.ending {
        Ending::Committed(seq) if transaction.writes() => Some((seq, transaction.opening)),
        _ => None,
    };
    let is_there =
        |(seq, opening): &(u64, u32)| lasting.get(*opening as usize).is_some_and(|lasting| seq <= lasting);
    let all = &history.transactions;
    let mut acknowledged: Vec<(u64, u32)> = all.iter().filter_map(commit_of).filter(is_there).collect();
    acknowledged.sort_unstable_by(|one, other| other.cmp(one));
    // What nobody was told of may be there too, behind any commit of its opening, as far as numbers are left for it.
    let may_be_there = |transaction: &&Transaction| {
        let has_no_effect = matches!(transaction.ending, Ending::Refused(_) | Ending::Conflict);
        transaction.committing.is_some() && commit_of(transaction).is_none() && !has_no_effect
    };
    let mut untold = vec![0u64; lasting.len()];
    for transaction in all.iter().filter(may_be_there) {
        if let Some(untold) = untold.get_mut(transaction.opening as usize) {
            *untold += 1;
        }
    }
    let (mut kept, mut newer) = (Vec::new(), vec![0u64; lasting.len()]);
    for (seq, opening) in acknowledged {
        let own = opening as usize;
        let hidden = |of: usize| {
            let behind = if of == own { seq } else { begins[of] };
            untold[of].min(lasting[of].saturating_sub(behind).saturating_sub(newer[of]))
        };
        if kept.len() as u64 + (own..lasting.len()).map(hidden).sum::<u64>() > retained {
            break;
        }
        kept.push(seq);
        newer[own] += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Cell, Durable, Operation, Promise, TxnNo};

    fn write(state: &mut State, opening: u32, ending: Option<Ending>) -> TxnNo {
        let txn = state.begin(0, opening, (Promise::Serializable, Durable::Buffered));
        let cell = Cell { keyspace: 0, key: b"key".as_slice().into() };
        state.did(txn, Operation::Delete { cell });
        state.commits(txn);
        if let Some(ending) = ending {
            state.ends(txn, ending);
        }
        txn
    }

    #[test]
    fn commits_are_kept_by_their_number_whatever_lies_between_them() {
        let mut state = State::new(1);
        state.passes(Milestone::Opened(0, Vec::new()));
        for seq in [1, 2, 40, 41] {
            write(&mut state, 0, Some(Ending::Committed(seq)));
        }
        write(&mut state, 0, Some(Ending::Refused("the disk is full".to_owned())));
        assert_eq!(kept_commits(&state, 41, 2), [41, 40, 2]);
        assert_eq!(kept_commits(&state, 41, 0), [41]);
        // One under way may come after any of them that has a number behind it which is nobody's.
        let open = write(&mut state, 0, None);
        assert_eq!(kept_commits(&state, 41, 1), [41, 40]);
        assert_eq!(kept_commits(&state, 41, 2), [41, 40]);
        assert_eq!(kept_commits(&state, 42, 1), [41]);
        state.ends(open, Ending::Conflict);
        assert_eq!(kept_commits(&state, 41, 2), [41, 40, 2]);
        // What a crash took is not counted, but what nobody was told of before it may be there.
        write(&mut state, 0, None);
        state.passes(Milestone::Opened(40, Vec::new()));
        write(&mut state, 1, Some(Ending::Committed(1000)));
        assert_eq!(kept_commits(&state, 1000, 3), [1000, 40, 2]);
    }
}
