//! Sequences that no commit has: what was reserved for commits that a reader may have seen, and a crash has taken; and
//! what was given to commits that failed, for no sequence is given twice.
//!
//! ```text
//! commits      … 6 7 8              1009 1010            after 8, until 1008: an opening found 8 to be the newest
//! the last 4         7 8            1009 1010            and 1008 to be reserved, so it went on with 1009
//! ```
//! Whoever counts commits back from one must leap over them. They are pruned with the versions before them, so there are
//! at most as many as unclean ends and refused groups within what is retained. Of more than [`GAPS_MAX`] the oldest two
//! become one, as if there were no commits between them: that retains a little more, and never less than was asked for.

use std::collections::BTreeMap;

use super::Seq;

/// More gaps are not told apart.
pub const GAPS_MAX: usize = 4096;

/// Gaps in the order of commits, apart from each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeqGaps {
    /// For each, the newest commit before it, and the last sequence in it.
    gaps: BTreeMap<Seq, Seq>,
}

impl SeqGaps {
    /// No commit after `after` is numbered up to `until`. The same gap may be told again, longer.
    ///
    /// # Errors
    /// What is wrong with it: it is empty, or lies before the end of another.
    pub fn note(&mut self, after: Seq, until: Seq) -> Result<(), String> {
        if until <= after {
            return Err(format!("a gap from {after} to {until} is none"));
        }
        let newest = self.gaps.last_key_value().map(|(newest, end)| (*newest, *end));
        match newest {
            Some((newest, end)) if newest == after && until < end => {
                return Err(format!("the gap after {after} reaches to {end}, not to {until}"));
            }
            Some((newest, end)) if newest != after && after < end => {
                return Err(format!(
                    "a gap after {after} lies before the end {end} of the one after {newest}"
                ));
            }
            _ => {}
        }
        self.gaps.insert(after, until);
        if self.gaps.len() > GAPS_MAX
            && let Some((after, _)) = self.gaps.pop_first()
            && let Some(second) = self.gaps.first_entry()
        {
            let until = *second.get();
            second.remove();
            self.gaps.insert(after, until);
        }
        Ok(())
    }

    /// True if everything up to `until` was told: a gap that ends there is known, or one behind it.
    pub fn reaches(&self, until: Seq) -> bool {
        self.gaps.last_key_value().is_some_and(|(_, end)| *end >= until)
    }

    /// Forgets those that end at or before `seq`.
    pub fn forget_through(&mut self, seq: Seq) {
        self.gaps.retain(|_, until| *until > seq);
    }

    /// The sequence at which one reads everything but the last `commits` commits of those up to `from`; 0 if there
    /// are fewer. Costs one step for each gap on the way.
    pub fn back(&self, from: Seq, commits: u64) -> Seq {
        let (mut at, mut left) = (from, commits);
        for (after, until) in self.gaps.range(..from).rev() {
            // Whoever stands in the gap itself sees what stands before it.
            let behind = at.get().saturating_sub(until.get());
            if left < behind {
                break;
            }
            left = left.saturating_sub(behind);
            at = at.min(*after);
        }
        Seq::new(at.get().saturating_sub(left))
    }

    /// Each gap: the newest commit before it, and the last sequence in it.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.gaps.iter().map(|(after, until)| (*after, *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        /// Counting commits one by one gives the same.
        fn back_counts_commits(stretches: Vec<(u8, u8)>, commits: u8) -> bool {
            let (mut gaps, mut exist, mut last) = (SeqGaps::default(), vec![0], 0u64);
            for (given, lost) in stretches {
                for _ in 0..given % 8 {
                    last += 1;
                    exist.push(last);
                }
                let newest = *exist.last().unwrap();
                if lost > 0 {
                    last = last.max(newest) + u64::from(lost);
                    gaps.note(Seq::new(newest), Seq::new(last)).unwrap();
                }
            }
            let newest = *exist.last().unwrap();
            let expected = exist[exist.len().saturating_sub(1 + usize::from(commits))];
            gaps.back(Seq::new(newest), commits.into()) == Seq::new(expected)
        }
    }

    #[test]
    fn of_too_many_the_oldest_are_told_apart_no_more_and_nothing_less_is_retained() {
        let (mut gaps, mut exist) = (SeqGaps::default(), Vec::new());
        let count = GAPS_MAX as u64 + 500;
        for n in 0..count {
            exist.push(3 * n + 1);
            gaps.note(Seq::new(3 * n + 1), Seq::new(3 * n + 3)).unwrap();
        }
        exist.push(3 * count + 1);
        assert_eq!(gaps.iter().count(), GAPS_MAX);
        assert_eq!(gaps.iter().next().unwrap(), (Seq::new(1), Seq::new(3 * 501)));
        for back in 0..=exist.len() {
            let exact = exist[(exist.len() - 1).saturating_sub(back)];
            let told = gaps.back(Seq::new(3 * count + 1), back as u64).get();
            assert!(told <= exact, "{back} back: {told}, not {exact}");
            assert!(told == exact || back > GAPS_MAX - 2, "{back} back: {told}, not {exact}");
        }
    }

    #[test]
    fn a_gap_is_known_from_its_end_on() {
        let mut gaps = SeqGaps::default();
        assert!(!gaps.reaches(Seq::new(1)));
        gaps.note(Seq::new(3), Seq::new(5)).unwrap();
        gaps.note(Seq::new(8), Seq::new(12)).unwrap();
        assert!(gaps.reaches(Seq::new(5)) && gaps.reaches(Seq::new(12)));
        assert!(!gaps.reaches(Seq::new(13)), "the same gap may be told again, longer");
    }

    #[test]
    fn what_is_no_gap_is_refused() {
        let mut gaps = SeqGaps::default();
        let mut note = |after, until| gaps.note(Seq::new(after), Seq::new(until));
        assert!(note(5, 5).is_err());
        assert_eq!(note(5, 9), Ok(()));
        assert_eq!(note(5, 12), Ok(()));
        assert!(note(5, 11).is_err() && note(11, 20).is_err() && note(3, 20).is_err());
        assert_eq!(note(12, 20), Ok(()));
        gaps.forget_through(Seq::new(12));
        assert_eq!(gaps.iter().collect::<Vec<_>>(), [(Seq::new(12), Seq::new(20))]);
    }
}
