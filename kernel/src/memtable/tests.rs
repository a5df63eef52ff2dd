//! The memtable against an ordered map of versions, and under several threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use quickcheck::{Arbitrary, Gen};

use super::Memtable;
use crate::types::RangeTombstones;
use crate::types::{OpKind, RangeTombstone, Seq};

/// A key that is often new, often equal to another, often an extension of one by zeros, around the prefix's length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Vec<u8>);

impl Arbitrary for Key {
    fn arbitrary(random: &mut Gen) -> Self {
        let len = usize::arbitrary(random) % 12;
        let byte = |random: &mut Gen| *random.choose(&[0u8, 0, 1, 0xff]).unwrap();
        Self((0..len).map(|_| byte(random)).collect())
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Key))
    }
}

type Model = BTreeMap<(Vec<u8>, Reverse<Seq>), Option<Vec<u8>>>;

fn fill(batches: &[Vec<(Key, Option<u8>)>]) -> (Arc<Memtable>, Model) {
    let memtable = Memtable::new(batches.len() as u64);
    let mut model = Model::new();
    for (batch, seq) in batches.iter().zip(1..) {
        let seq = Seq::new(seq);
        let mut batch: BTreeMap<_, _> = batch.iter().cloned().collect();
        if seq.get().is_multiple_of(3) {
            // One by one, and so in any order.
            for (key, value) in batch.iter().rev() {
                let (kind, value) = op(value);
                memtable.insert(&key.0, seq, kind, value);
            }
        } else {
            memtable.insert_sorted(
                batch.iter().map(|(key, value)| {
                    let (kind, value) = op(value);
                    (&key.0[..], kind, value)
                }),
                seq,
            );
        }
        while let Some((key, value)) = batch.pop_first() {
            model.insert((key.0, Reverse(seq)), value.map(|byte| vec![byte]));
        }
    }
    (memtable, model)
}

fn op(value: &Option<u8>) -> (OpKind, &[u8]) {
    match value {
        Some(byte) => (OpKind::Put, std::slice::from_ref(byte)),
        None => (OpKind::Delete, &[]),
    }
}

/// An entry of the model, by reference.
type Modelled<'a> = (&'a (Vec<u8>, Reverse<Seq>), &'a Option<Vec<u8>>);

fn same(entry: (&[u8], Seq, OpKind, &[u8]), model: Modelled<'_>) -> bool {
    let ((key, Reverse(seq)), value) = model;
    let kind = if value.is_some() { OpKind::Put } else { OpKind::Delete };
    entry == (&key[..], *seq, kind, value.as_deref().unwrap_or_default())
}

quickcheck::quickcheck! {
    fn iterates_as_the_model_does(batches: Vec<Vec<(Key, Option<u8>)>>) -> bool {
        let (memtable, model) = fill(&batches);
        let mut iter = memtable.iter();
        iter.seek_first();
        for expected in &model {
            assert!(same((iter.key(), iter.seq(), iter.kind(), iter.value()), expected));
            assert!(iter.pinned_value() == iter.value());
            iter.next();
        }
        assert!(!iter.valid());
        iter.seek_last();
        for expected in model.iter().rev() {
            assert!(same((iter.key(), iter.seq(), iter.kind(), iter.value()), expected));
            iter.prev();
        }
        !iter.valid() && memtable.entries() == model.len() as u64
    }

    fn answers_as_the_model_does(batches: Vec<Vec<(Key, Option<u8>)>>, asked: Vec<(Key, u8)>) -> bool {
        let (memtable, model) = fill(&batches);
        asked.into_iter().all(|(Key(key), read)| {
            let read = Seq::new(u64::from(read) % (batches.len() as u64 + 2));
            let first = model.range((key.clone(), Reverse(read))..).next();
            let got = memtable.get(&key, read);
            let expected = first.filter(|((found, _), _)| *found == key);
            assert_eq!(got.is_some(), expected.is_some());
            if let (Some((seq, kind, value)), Some(expected)) = (&got, expected) {
                assert!(same((&key, *seq, *kind, value), expected));
            }
            let newest = model.range((key.clone(), Reverse(Seq::MAX))..).next().filter(|((k, _), _)| *k == key);
            assert_eq!(memtable.newest_seq(&key), newest.map(|((_, Reverse(seq)), _)| *seq));

            let mut iter = memtable.iter();
            iter.seek(&key, read);
            assert_eq!(iter.valid(), first.is_some());
            assert!(first.is_none_or(|e| same((iter.key(), iter.seq(), iter.kind(), iter.value()), e)));
            let before = model.range(..(key.clone(), Reverse(Seq::MAX))).next_back();
            iter.seek_before(&key);
            assert_eq!(iter.valid(), before.is_some());
            before.is_none_or(|e| same((iter.key(), iter.seq(), iter.kind(), iter.value()), e))
        })
    }

    fn ranges_cover_as_a_plain_list_does(ranges: Vec<(Key, Key)>, asked: Vec<(Key, u8)>, ask_early: bool) -> bool {
        let memtable = Memtable::new(0);
        let mut list = Vec::new();
        for ((Key(start), Key(end)), seq) in ranges.into_iter().zip(1..) {
            if start < end {
                let range = RangeTombstone { start: start.into(), end: end.into(), seq: Seq::new(seq / 2) };
                memtable.add_range_tombstone(range.clone());
                list.push(range);
            }
            if ask_early && seq % 7 == 0 {
                memtable.range_tombstones();
            }
        }
        assert_eq!(memtable.entries(), list.len() as u64);
        let sets = memtable.range_tombstones();
        assert!(sets.windows(2).all(|pair| pair[0].len() > 2 * pair[1].len()));
        let all = sets.iter().flat_map(|set| set.list().to_vec()).collect();
        assert_eq!(RangeTombstones::new(all), RangeTombstones::new(list.clone()));
        asked.into_iter().all(|(Key(key), read)| {
            let read = Seq::new(read.into());
            let expected = list.iter().filter(|r| r.seq <= read && r.contains(&key)).map(|r| r.seq).max();
            memtable.newest_range_tombstone(&key, read) == expected
                && sets.iter().filter_map(|set| set.newest_covering(&key, read)).max() == expected
        })
    }
}

#[test]
fn values_and_iterators_outlive_the_memtable() {
    let memtable = Memtable::new(7);
    let large = vec![9; 300 << 10];
    memtable.insert(b"k", Seq::new(1), OpKind::Put, &large);
    memtable.insert(b"l", Seq::new(2), OpKind::Put, b"small");
    let (_, _, value) = memtable.get(b"k", Seq::MAX).unwrap();
    let mut iter = memtable.iter();
    iter.seek_last();
    drop(memtable);
    assert!(value == large);
    assert_eq!(iter.value(), b"small");
}

#[test]
fn many_ranges_added_and_read_by_turns() {
    let memtable = Memtable::new(0);
    let ranges = if cfg!(miri) { 20u64 } else { 200 };
    for seq in 1..ranges {
        let key = seq.to_be_bytes();
        memtable.add_range_tombstone(RangeTombstone {
            start: key[..].into(),
            end: [&key[..], &[0]].concat().into(),
            seq: Seq::new(seq),
        });
        assert_eq!(memtable.newest_range_tombstone(&key, Seq::MAX), Some(Seq::new(seq)));
        assert_eq!(memtable.newest_range_tombstone(&1u64.to_be_bytes(), Seq::MAX), Some(Seq::new(1)));
    }
    assert!(memtable.bytes() > (ranges - 1) * (400 + 17));
    // Reading after each has built each into a few sets, not into all that came later.
    assert!(memtable.range_tombstones().len() <= 8);
}

/// Inserters and readers at once: whatever a reader sees is in order, and what an inserter finished is there.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test of the structure under real threads")]
fn threads_insert_and_read_at_once() {
    let (threads, each) = if cfg!(miri) { (3u64, 20u64) } else { (4, 3_000) };
    let memtable = Memtable::new(1);
    let inserters: Vec<_> = (0..threads)
        .map(|thread| {
            let memtable = memtable.clone();
            std::thread::spawn(move || {
                for step in 0..each {
                    let seq = Seq::new(1 + step * threads + thread);
                    // Few keys, so that threads meet; ascending batches and single entries by turns.
                    let key = |n: u64| (n % 997).to_be_bytes();
                    let (a, b) = (key(seq.get() * 31), key(seq.get() * 31 + 400));
                    let mut keys = [&a[..], &b[..]];
                    keys.sort_unstable();
                    memtable.insert_sorted(keys.into_iter().map(|k| (k, OpKind::Put, k)), seq);
                    assert!(
                        keys.iter()
                            .all(|k| memtable.get(k, seq).is_some_and(|(s, _, v)| s == seq && v == *k))
                    );
                }
            })
        })
        .collect();
    let reader = {
        let memtable = memtable.clone();
        std::thread::spawn(move || {
            let mut seen = 0;
            while seen < threads * each * 2 {
                let mut iter = memtable.iter();
                let mut before: Option<(Vec<u8>, Reverse<Seq>)> = None;
                let mut met = 0;
                iter.seek_first();
                while iter.valid() {
                    let now = (iter.key().to_vec(), Reverse(iter.seq()));
                    assert!(iter.value() == iter.key() && before.is_none_or(|before| before < now));
                    before = Some(now);
                    met += 1;
                    iter.next();
                }
                assert!(met >= seen, "an entry went away");
                seen = met;
            }
        })
    };
    for thread in inserters {
        thread.join().unwrap();
    }
    reader.join().unwrap();
    assert_eq!(memtable.entries(), threads * each * 2);
}
