//! The memtable: insertions that meet, readers that see whole entries, chunks that neither overlap nor leak.

use std::sync::Arc;

use holdfast::loom_exports::{Memtable, MemtableIter};
use holdfast::types::{OpKind, RangeTombstone, Seq};
use holdfast_loom_tests::model;
use loom::thread;

/// The first two entries of a memtable with this number stand at both levels that loom builds have, the third does not.
const TALL: u64 = 1;
/// The first six entries of a memtable with this number stand at the lowest level only.
const LOW: u64 = 11;

fn put(memtable: &Memtable, key: &[u8], seq: u64, value: &[u8]) {
    memtable.insert(key, Seq::new(seq), OpKind::Put, value);
}

fn spawn_put(
    memtable: &Arc<Memtable>,
    key: &'static [u8],
    seq: u64,
    value: &'static [u8],
) -> thread::JoinHandle<()> {
    let memtable = memtable.clone();
    thread::spawn(move || put(&memtable, key, seq, value))
}

fn contents(mut iter: MemtableIter) -> Vec<(Vec<u8>, u64)> {
    let mut found = Vec::new();
    iter.seek_first();
    while iter.valid() {
        assert_eq!(iter.kind(), OpKind::Put);
        found.push((iter.key().to_vec(), iter.seq().get()));
        iter.next();
    }
    found
}

/// Two insert side by side, a third asks for what one of them inserts.
fn insert_insert_get() {
    let memtable = Memtable::new(TALL);
    let inserting = spawn_put(&memtable, b"a", 1, b"va");
    let getting = {
        let memtable = memtable.clone();
        thread::spawn(move || {
            if let Some((seq, kind, found)) = memtable.get(b"a", Seq::MAX) {
                assert!(seq.get() == 1 && kind == OpKind::Put && found == b"va");
            }
        })
    };
    put(&memtable, b"b", 2, b"vb");
    inserting.join().unwrap();
    getting.join().unwrap();
    assert_eq!(contents(memtable.iter()), [(b"a".to_vec(), 1), (b"b".to_vec(), 2)]);
    assert!(
        memtable.get(b"a", Seq::MAX).unwrap().2 == b"va" && memtable.get(b"b", Seq::MAX).unwrap().2 == b"vb"
    );
}

model!(
    two_insert_and_one_gets,
    insert_insert_get,
    catches SkiplistLinkRelaxed: "Causality violation",
    catches SkiplistFollowRelaxed: "Causality violation"
);

/// Versions of one key and a neighbour appear while someone iterates.
fn insert_iterate() {
    let memtable = Memtable::new(TALL);
    put(&memtable, b"k", 1, b"1");
    let all = [(b"k".to_vec(), 2), (b"k".to_vec(), 1), (b"l".to_vec(), 2)];
    let iterating = {
        let (memtable, all) = (memtable.clone(), all.clone());
        thread::spawn(move || {
            let found = contents(memtable.iter());
            // In order, nothing invented, and what was there before is met.
            assert!(found.is_sorted_by_key(|entry| all.iter().position(|known| known == entry).unwrap()));
            assert!(found.contains(&all[1]));
        })
    };
    let entries = [(&b"k"[..], OpKind::Put, &b"2"[..]), (&b"l"[..], OpKind::Put, &b"2"[..])];
    memtable.insert_sorted(entries.into_iter(), Seq::new(2));
    iterating.join().unwrap();
    assert_eq!(contents(memtable.iter()), all);
}

model!(
    one_inserts_and_one_iterates,
    insert_iterate,
    catches SkiplistLinkRelaxed: "Causality violation",
    catches SkiplistFollowRelaxed: "Causality violation"
);

/// How many fillers fit into the first chunk, and by how much the next one makes the memtable grow.
fn fillers_that_fit(filler: &'static [u8]) -> (u64, u64) {
    let memtable = Memtable::new(LOW);
    put(&memtable, b"f", 1, filler);
    let held = memtable.bytes();
    let mut fit = 1;
    loop {
        put(&memtable, b"f", fit + 1, filler);
        if memtable.bytes() > held {
            return (fit, memtable.bytes() - held);
        }
        fit += 1;
    }
}

/// The first chunk is full for both, so both make a new one and one of them is in vain.
fn arena_growth() {
    static FILLER: [u8; 100] = [7; 100];
    let (fit, growth) = fillers_that_fit(&FILLER);
    let memtable = Memtable::new(LOW);
    for seq in 1..=fit {
        put(&memtable, b"f", seq, &FILLER);
    }
    let held = memtable.bytes();
    let inserting = spawn_put(&memtable, b"a", fit + 1, &FILLER);
    put(&memtable, b"b", fit + 2, &FILLER);
    inserting.join().unwrap();
    // What lost the race was freed: loom tracks it.
    assert_eq!(memtable.bytes(), held + growth);
    for (key, seq) in [(b"a", fit + 1), (b"b", fit + 2), (b"f", fit)] {
        let (found, _, value) = memtable.get(key, Seq::MAX).unwrap();
        assert!(found.get() == seq && value == FILLER);
    }
}

model!(
    the_arena_grows_under_two,
    arena_growth,
    catches ArenaChunkRelaxed: "Causality violation"
);

model!(large_entries_get_chunks_of_their_own, || {
    static LARGE: [u8; 5000] = [9; 5000];
    let memtable = Memtable::new(LOW);
    let inserting = spawn_put(&memtable, b"a", 1, &LARGE);
    put(&memtable, b"b", 2, &LARGE);
    inserting.join().unwrap();
    assert!(
        memtable.get(b"a", Seq::MAX).unwrap().2 == LARGE && memtable.get(b"b", Seq::MAX).unwrap().2 == LARGE
    );
});

fn delete(memtable: &Memtable, key: u8, seq: u64) {
    let (start, end) = ([key], [key + 1]);
    memtable.add_range_tombstone(RangeTombstone {
        start: start[..].into(),
        end: end[..].into(),
        seq: Seq::new(seq),
    });
}

/// The commits of all deleted ranges that a reader is given now.
fn deleted(memtable: &Memtable) -> Vec<u64> {
    let sets = memtable.range_tombstones();
    let mut seqs: Vec<u64> = sets.iter().flat_map(|set| set.list()).map(|range| range.seq.get()).collect();
    seqs.sort_unstable();
    seqs
}

/// One adds a range and asks for all, while another builds a set of what was there before.
fn add_and_build() {
    let memtable = Memtable::new(LOW);
    delete(&memtable, 1, 1);
    let building = {
        let memtable = memtable.clone();
        thread::spawn(move || {
            let found = deleted(&memtable);
            assert!(found == [1] || found == [1, 2], "{found:?}");
        })
    };
    delete(&memtable, 2, 2);
    assert_eq!(deleted(&memtable), [1, 2]);
    assert_eq!(memtable.newest_range_tombstone(&[2], Seq::MAX), Some(Seq::new(2)));
    building.join().unwrap();
    assert_eq!(deleted(&memtable), [1, 2]);
}

model!(
    two_build_sets_of_deleted_ranges,
    add_and_build,
    catches RangeSetsExchangedBlindly: "range end index"
);
