//! Which versions of a key are still needed: the one rule by which flush and compaction forget.
//!
//! Readers are the registered snapshots and transactions, everyone to come (who reads at or after the horizon,
//! the visible `Seq` when the job began), and the retention window (every `Seq` from `retained_from` on).
//! They cut the `Seq`s into stripes; two versions in one stripe look the same to all readers except for the newer.
//!
//! ```text
//! readers at      4        9            horizon 12, nothing retained
//! stripes   [1..4] [5..9] [10..12] 13 14 15 …      each Seq after the horizon is a stripe of its own
//! versions   2 3     7      11  12    14
//! kept         3     7          12    14
//! ```
//! A delete in the oldest stripe is itself forgotten once nothing older of its key lies below the job; a range
//! tombstone likewise for its whole range.

use crate::types::Seq;

/// Who still reads what, as of the beginning of a job.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    /// `Seq`s of registered readers and the horizon, ascending, without duplicates.
    stripes: Vec<Seq>,
    /// Every `Seq` from here on is a stripe of its own.
    individual_from: Seq,
}

impl Readers {
    /// `registered` in any order; `horizon` is the visible `Seq`; every version from `kept_from` on stays.
    pub fn new(mut registered: Vec<Seq>, horizon: Seq, kept_from: Seq) -> Self {
        // A version at `kept_from` or before it is all the same to whoever reads at `kept_from`.
        let kept_from = kept_from.min(horizon);
        registered.push(kept_from);
        registered.retain(|seq| *seq <= kept_from);
        registered.sort_unstable();
        registered.dedup();
        Self { stripes: registered, individual_from: kept_from.next() }
    }

    /// Every version from here on stays; older ones stay for registered readers only.
    pub fn kept_from(&self) -> Seq {
        self.individual_from.prev()
    }

    /// The stripe of a `Seq`: versions with equal stripes are told apart by nobody. Stripe 0 is the oldest.
    pub fn stripe(&self, seq: Seq) -> u64 {
        if seq >= self.individual_from {
            return self.stripes.len() as u64 + (seq.get() - self.individual_from.get());
        }
        self.stripes.partition_point(|reader| *reader < seq) as u64
    }

    /// The greatest `Seq` of the stripe that `seq` lies in.
    pub fn stripe_end(&self, seq: Seq) -> Seq {
        if seq >= self.individual_from {
            return seq;
        }
        let at = self.stripes.partition_point(|reader| *reader < seq);
        self.stripes.get(at).copied().unwrap_or(seq)
    }

    /// True if every reader sees what was committed at `seq`.
    pub fn all_see(&self, seq: Seq) -> bool {
        self.stripe(seq) == 0
    }
}

/// Judges the versions of one key, newest first.
#[derive(Default)]
pub(crate) struct KeyJudge {
    last_stripe: Option<u64>,
}

/// What to do with a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Keep,
    /// A newer version or deleted range of the same stripe stands above it.
    Superseded,
    /// A delete below which nothing is left to hide.
    NothingToHide,
}

impl KeyJudge {
    /// `deleted_at` is the newest range tombstone of the job over this key that is in the same stripe as `seq`, if
    /// any; `bottom` says that no older entry of the key lies below the job.
    pub fn judge(
        &mut self,
        readers: &Readers,
        seq: Seq,
        is_delete: bool,
        deleted_at: Option<Seq>,
        bottom: bool,
    ) -> Verdict {
        let stripe = readers.stripe(seq);
        if self.last_stripe == Some(stripe) {
            return Verdict::Superseded;
        }
        debug_assert!(self.last_stripe.is_none_or(|last| last > stripe), "versions are judged newest first");
        if deleted_at.is_some_and(|deleted_at| deleted_at > seq && readers.stripe(deleted_at) == stripe) {
            // The tombstone stays, or hides nothing any more; older versions of this stripe are judged by it too.
            return Verdict::Superseded;
        }
        self.last_stripe = Some(stripe);
        if is_delete && bottom && stripe == 0 { Verdict::NothingToHide } else { Verdict::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader at `at` sees among `versions` (newest first): `Some(seq)` of a put, `None` if deleted or absent.
    fn seen(versions: &[(Seq, bool)], at: Seq) -> Option<Seq> {
        versions.iter().find(|(seq, _)| *seq <= at).and_then(|(seq, delete)| (!delete).then_some(*seq))
    }

    quickcheck::quickcheck! {
        fn no_reader_sees_a_difference(versions: Vec<(u8, bool)>, readers: Vec<u8>, horizon: u8, retain: u8) -> bool {
            let horizon = Seq::new(u64::from(horizon % 64));
            let mut versions: Vec<(Seq, bool)> =
                versions.iter().map(|(seq, delete)| (Seq::new(u64::from(*seq % 80) + 1), *delete)).collect();
            versions.sort_by_key(|version| std::cmp::Reverse(version.0));
            versions.dedup_by_key(|version| version.0);
            let registered: Vec<Seq> =
                readers.iter().map(|seq| Seq::new(u64::from(*seq % 64).min(horizon.get()))).collect();
            let retain = u64::from(retain % 8);
            let rule = Readers::new(registered.clone(), horizon, Seq::new(horizon.get().saturating_sub(retain)));
            let mut judge = KeyJudge::default();
            let kept: Vec<(Seq, bool)> = versions
                .iter()
                .filter(|(seq, delete)| judge.judge(&rule, *seq, *delete, None, true) == Verdict::Keep)
                .copied()
                .collect();
            let retained = (horizon.get().saturating_sub(retain)..=horizon.get()).map(Seq::new);
            let to_come = (horizon.get()..100).map(Seq::new);
            registered.into_iter().chain(retained).chain(to_come).all(|at| seen(&kept, at) == seen(&versions, at))
        }
    }

    #[test]
    fn the_picture_holds() {
        let readers = Readers::new(vec![Seq::new(9), Seq::new(4)], Seq::new(12), Seq::new(12));
        let mut judge = KeyJudge::default();
        let kept: Vec<u64> = [14, 12, 11, 7, 3, 2]
            .into_iter()
            .filter(|seq| judge.judge(&readers, Seq::new(*seq), false, None, false) == Verdict::Keep)
            .collect();
        assert_eq!(kept, [14, 12, 7, 3]);
    }
}
