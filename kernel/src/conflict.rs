//! Optimistic validation: what a transaction read and wrote against what has been committed since it began.
//!
//! [`RecentWrites`] remembers the batches of recent commits, newest last. A transaction that read at `Seq` *r*
//! conflicts if a remembered commit with `Seq` > *r* wrote a key that it read or wrote, wrote into a range that it
//! read or deleted, or deleted a range that holds a key it read or wrote. (Backward validation, Kung and Robinson
//! 1981; ranges as in FoundationDB's resolvers.)
//!
//! Batches are indexed only when a transaction first needs them: a load of blind writes costs one push a commit.
//! Deleted ranges stand in sets made for searching, each more than twice as large as the next, so that a check costs
//! O(log² n) however many they are (see `memtable::ranges`, which does the same for many threads).
//!
//! Commits are forgotten from the oldest on, once every live transaction began at or after them, or when the window
//! outgrows its bytes; a transaction older than the window conflicts, for nobody can tell any more.
//!
//! Invariants: `floor` ≤ every remembered `Seq`; everything committed after `floor` is remembered.

mod deleted;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use deleted::DeletedRanges;

use crate::types::{KeyspaceId, OpKind, RangeTombstone, Seq, WriteBatch};

/// A range with owned bounds.
pub(crate) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What a serializable transaction has read of one keyspace.
#[derive(Default, Clone, Debug)]
pub(crate) struct KeyspaceReads {
    /// Keys asked for, found or not.
    pub points: std::collections::BTreeSet<Vec<u8>>,
    /// Ranges walked, each as far as it was walked.
    pub ranges: Vec<Range>,
}

/// What a serializable transaction has read.
#[derive(Default, Clone, Debug)]
pub(crate) struct ReadSet {
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceReads>,
}

/// Why a transaction may not commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Clash {
    Key { keyspace: KeyspaceId, key: Vec<u8>, by: Seq },
    Range { keyspace: KeyspaceId, by: Seq },
    WindowExceeded { oldest: Seq },
}

struct Recent {
    seq: Seq,
    batch: Arc<WriteBatch>,
    bytes: u64,
}

#[derive(Default)]
struct KeyspaceIndex {
    /// Newest commit that wrote each key.
    points: BTreeMap<Box<[u8]>, Seq>,
    deleted: DeletedRanges,
}

/// The window of remembered commits.
pub(crate) struct RecentWrites {
    window: VecDeque<Recent>,
    /// How many of `window`, from the front, stand in `index`.
    indexed: usize,
    index: BTreeMap<KeyspaceId, KeyspaceIndex>,
    /// Entries put into the index since it was last swept.
    added_since_sweep: usize,
    entries_after_sweep: usize,
    floor: Seq,
    bytes: u64,
    bytes_max: u64,
}

/// Fixed cost of remembering one operation, beside its key.
const OPERATION_BYTES: u64 = 64;

impl RecentWrites {
    /// Remembers nothing at or before `floor`, and at most `bytes_max` bytes.
    pub fn new(floor: Seq, bytes_max: u64) -> Self {
        Self {
            window: VecDeque::new(),
            indexed: 0,
            index: BTreeMap::new(),
            added_since_sweep: 0,
            entries_after_sweep: 0,
            floor,
            bytes: 0,
            bytes_max,
        }
    }

    /// Remembers a commit; `seq` is greater than every one before.
    pub fn record(&mut self, seq: Seq, batch: Arc<WriteBatch>) {
        debug_assert!(self.window.back().is_none_or(|last| last.seq < seq) && seq > self.floor);
        let bytes = batch.byte_size() as u64 + OPERATION_BYTES * batch.len() as u64;
        self.bytes += bytes;
        self.window.push_back(Recent { seq, batch, bytes });
        while self.bytes > self.bytes_max && self.window.len() > 1 {
            self.forget_first();
        }
    }

    /// Takes back the commits after `seq`, the last that was published: their log write failed and they never happened.
    pub fn retract_after(&mut self, seq: Seq) {
        while let Some(last) = self.window.pop_back_if(|last| last.seq > seq) {
            self.bytes -= last.bytes;
        }
        if self.indexed > self.window.len() || self.floor > seq {
            // The index holds newest sequences only, so it cannot be unpicked; it is made anew when needed.
            self.index.clear();
            self.indexed = 0;
            self.added_since_sweep = 0;
            self.entries_after_sweep = 0;
        }
        // A group that outgrew the window pushed some of its own commits out. They count as little as the others, and
        // nothing after `seq` was published: whoever reads at `seq` has missed nothing.
        self.floor = self.floor.min(seq);
    }

    /// Forgets every commit at or before `seq`: no live transaction began earlier.
    pub fn forget_through(&mut self, seq: Seq) {
        while self.window.front().is_some_and(|first| first.seq <= seq) {
            self.forget_first();
        }
        self.floor = self.floor.max(seq);
        if self.window.is_empty() {
            self.index.clear();
            self.added_since_sweep = 0;
            self.entries_after_sweep = 0;
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.window.pop_front() {
            self.bytes -= first.bytes;
            self.floor = self.floor.max(first.seq);
            self.indexed = self.indexed.saturating_sub(1);
        }
    }

    /// Checks a transaction that read at `read_seq`: its writes always, its reads if it gives them.
    pub fn validate(
        &mut self,
        read_seq: Seq,
        writes: &WriteBatch,
        reads: Option<&ReadSet>,
    ) -> Result<(), Clash> {
        if self.window.back().is_none_or(|last| last.seq <= read_seq) && read_seq >= self.floor {
            return Ok(());
        }
        if read_seq < self.floor {
            return Err(Clash::WindowExceeded { oldest: self.floor });
        }
        self.bring_up_to_date();
        for op in writes.iter() {
            match op.kind {
                OpKind::Put | OpKind::Delete => self.check_point(op.keyspace, op.key, read_seq)?,
                OpKind::DeleteRange => {
                    let range = (Bound::Included(op.key), Bound::Excluded(op.value));
                    self.check_range(op.keyspace, range, read_seq)?;
                }
            }
        }
        for (&keyspace, reads) in reads.iter().flat_map(|reads| &reads.keyspaces) {
            for key in &reads.points {
                self.check_point(keyspace, key, read_seq)?;
            }
            for (start, end) in &reads.ranges {
                let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
                self.check_range(keyspace, range, read_seq)?;
            }
        }
        Ok(())
    }

    fn bring_up_to_date(&mut self) {
        for recent in self.window.iter().skip(self.indexed) {
            for op in recent.batch.iter() {
                let index = self.index.entry(op.keyspace).or_default();
                self.added_since_sweep += 1;
                match op.kind {
                    OpKind::Put | OpKind::Delete => drop(index.points.insert(op.key.into(), recent.seq)),
                    OpKind::DeleteRange => index.deleted.add(RangeTombstone {
                        start: op.key.into(),
                        end: op.value.into(),
                        seq: recent.seq,
                    }),
                }
            }
        }
        self.index.values_mut().for_each(|index| index.deleted.build());
        self.indexed = self.window.len();
        if self.added_since_sweep > self.entries_after_sweep.max(1024) {
            self.sweep();
        }
    }

    /// Drops what was forgotten from the index. Done when it has doubled, so each entry pays once.
    fn sweep(&mut self) {
        let floor = self.floor;
        self.entries_after_sweep = 0;
        for index in self.index.values_mut() {
            index.points.retain(|_, by| *by > floor);
            index.deleted.forget_through(floor);
            self.entries_after_sweep += index.points.len() + index.deleted.len();
        }
        self.added_since_sweep = 0;
    }

    fn check_point(&self, keyspace: KeyspaceId, key: &[u8], read_seq: Seq) -> Result<(), Clash> {
        let Some(index) = self.index.get(&keyspace) else { return Ok(()) };
        if let Some(&by) = index.points.get(key).filter(|by| **by > read_seq) {
            return Err(Clash::Key { keyspace, key: key.to_vec(), by });
        }
        match index.deleted.newest_over(key).filter(|by| *by > read_seq) {
            Some(by) => Err(Clash::Key { keyspace, key: key.to_vec(), by }),
            None => Ok(()),
        }
    }

    fn check_range(
        &self,
        keyspace: KeyspaceId,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        read_seq: Seq,
    ) -> Result<(), Clash> {
        let Some(index) = self.index.get(&keyspace) else { return Ok(()) };
        if is_empty(range) {
            return Ok(());
        }
        if let Some((_, &by)) = index.points.range::<[u8], _>(range).find(|(_, by)| **by > read_seq) {
            return Err(Clash::Range { keyspace, by });
        }
        match index.deleted.newest_touching(range).filter(|by| *by > read_seq) {
            Some(by) => Err(Clash::Range { keyspace, by }),
            None => Ok(()),
        }
    }
}

fn is_empty(range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end))
        | (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYSPACE: KeyspaceId = KeyspaceId::new(1);

    #[derive(Clone, Debug)]
    struct Written {
        kind: u8,
        a: u8,
        b: u8,
    }

    impl quickcheck::Arbitrary for Written {
        fn arbitrary(g: &mut quickcheck::Gen) -> Self {
            Self { kind: u8::arbitrary(g) % 3, a: u8::arbitrary(g) % 16, b: u8::arbitrary(g) % 16 }
        }
    }

    impl Written {
        fn batch(&self) -> WriteBatch {
            let mut batch = WriteBatch::new();
            match self.kind {
                0 => batch.put(KEYSPACE, &[self.a], b"v").unwrap(),
                1 => batch.delete(KEYSPACE, &[self.a]).unwrap(),
                _ => batch.delete_range(KEYSPACE, &[self.a.min(self.b)], &[self.a.max(self.b) + 1]).unwrap(),
            }
            batch.normalise();
            batch
        }

        fn keys(&self) -> std::ops::RangeInclusive<u8> {
            if self.kind < 2 { self.a..=self.a } else { self.a.min(self.b)..=self.a.max(self.b) }
        }
    }

    fn put(key: &[u8], bytes: usize) -> Arc<WriteBatch> {
        let mut batch = WriteBatch::new();
        batch.put(KEYSPACE, key, &vec![0; bytes]).unwrap();
        Arc::new(batch)
    }

    #[test]
    fn a_lost_group_that_outgrew_the_window_leaves_nothing_behind() {
        let mut recent = RecentWrites::new(Seq::new(3), 1000);
        recent.record(Seq::new(4), put(b"published", 900));
        recent.record(Seq::new(5), put(b"lost", 900));
        let clash =
            |key: &[u8], by| Err(Clash::Key { keyspace: KEYSPACE, key: key.to_vec(), by: Seq::new(by) });
        assert_eq!(recent.validate(Seq::new(4), &put(b"lost", 1), None), clash(b"lost", 5), "it is indexed");
        recent.record(Seq::new(6), put(b"lost too", 900));
        recent.retract_after(Seq::new(4));
        assert_eq!(recent.validate(Seq::new(4), &put(b"lost", 1), None), Ok(()));
        let too_old = Err(Clash::WindowExceeded { oldest: Seq::new(4) });
        assert_eq!(recent.validate(Seq::new(3), &put(b"other", 1), None), too_old, "4 was pushed out too");
        recent.record(Seq::new(7), put(b"next", 1));
        assert_eq!(recent.validate(Seq::new(4), &put(b"lost", 1), None), Ok(()), "nobody wrote it");
        assert_eq!(recent.validate(Seq::new(4), &put(b"next", 1), None), clash(b"next", 7));
    }

    quickcheck::quickcheck! {
        fn agrees_with_keys_written_one_by_one(
            commits: Vec<Written>, own: Written, read: Written, read_at: u8, forget: u8, retract: u8
        ) -> bool {
            let mut recent = RecentWrites::new(Seq::ZERO, u64::MAX);
            for (at, written) in commits.iter().enumerate() {
                recent.record(Seq::new(at as u64 + 1), Arc::new(written.batch()));
                if at % 5 == 0 {
                    // Index now and then, so that retraction meets an index that is ahead.
                    let _ = recent.validate(Seq::ZERO, &own.batch(), None);
                }
            }
            let last = (commits.len() as u64).saturating_sub(u64::from(retract % 4));
            recent.retract_after(Seq::new(last));
            let forget = u64::from(forget) % (last + 1);
            recent.forget_through(Seq::new(forget));
            let read_at = u64::from(read_at) % (last + 1);
            let mut reads = ReadSet::default();
            let entry = reads.keyspaces.entry(KEYSPACE).or_default();
            if read.kind < 2 {
                entry.points.insert(vec![read.a]);
            } else {
                let (low, high) = (*read.keys().start(), *read.keys().end());
                entry.ranges.push((Bound::Included(vec![low]), Bound::Included(vec![high])));
            }
            let later = || commits.iter().take(last as usize).skip(read_at as usize);
            let expected = later().any(|written| {
                own.keys().chain(read.keys()).any(|key| written.keys().contains(&key))
            });
            match recent.validate(Seq::new(read_at), &own.batch(), Some(&reads)) {
                Ok(()) => read_at >= forget && !expected,
                Err(Clash::WindowExceeded { oldest }) => read_at < forget && oldest == Seq::new(forget),
                Err(_) => read_at >= forget && expected,
            }
        }
    }
}
