//! What a table says is what was put in, by every way of asking.

use super::*;
use crate::error::Error;
use crate::types::Value;

/// Keys that nest, repeat and run long; some values larger than a block.
fn model(raw: &[(u16, u8, u16)]) -> Model {
    let entry = |(place, seq, len): &(u16, u8, u16)| {
        let mut key = vec![b'k'; (*place >> 12) as usize];
        key.extend_from_slice(&(*place % 300).to_be_bytes());
        if place % 17 == 0 {
            key.extend(std::iter::repeat_n(7, 3000));
        }
        let seq = Seq::new(if seq % 16 == 0 { Seq::LIMIT.get() - u64::from(*seq) } else { u64::from(*seq) });
        let len = if len % 50 == 0 { 70_000 + *len as usize } else { *len as usize % 200 };
        let kind = if len % 7 == 0 { OpKind::Delete } else { OpKind::Put };
        let value = if kind == OpKind::Put { vec![*place as u8; len] } else { Vec::new() };
        ((key, Reverse(seq)), (kind, value))
    };
    raw.iter().map(entry).collect()
}

fn pick(choice: u8) -> BuildOptions {
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd][choice as usize % 3];
    options([256, 700, 4096][choice as usize / 3 % 3], compression, [0, 10, 3][choice as usize / 9 % 3])
}

type Place = (Vec<u8>, Reverse<Seq>);
type Content = (OpKind, Vec<u8>);
type Entry = (Place, Content);

fn at(iter: &TableIter) -> Option<Entry> {
    let pinned: Value = iter.pinned_value();
    assert_eq!(&pinned[..], iter.value());
    let entry = iter.entry()?;
    Some(((entry.key.to_vec(), Reverse(entry.seq)), (entry.kind, pinned.detach())))
}

fn pair(entry: Option<(&Place, &Content)>) -> Option<Entry> {
    entry.map(|(k, v)| (k.clone(), v.clone()))
}

fn check_gets(table: &Arc<TableReader>, model: &Model, targets: &[(Vec<u8>, Seq)]) {
    for (key, seq) in targets {
        let found = run(table.get(key, *seq)).unwrap().map(|f| (f.seq, f.kind, f.value.detach()));
        let from = (key.clone(), Reverse(*seq));
        let expected = model.range(from..).next().filter(|((k, _), _)| k == key);
        assert_eq!(found, expected.map(|((_, s), (kind, value))| (s.0, *kind, value.clone())));
    }
}

fn check_cursor(table: &Arc<TableReader>, model: &Model, targets: &[(Vec<u8>, Seq)]) {
    let mut iter = table.iter(false);
    for (key, seq) in targets {
        let from = (key.clone(), Reverse(*seq));
        run(iter.seek(key, *seq)).unwrap();
        let expected = pair(model.range(from.clone()..).next());
        assert_eq!(at(&iter), expected);
        if expected.is_some() {
            run(iter.prev()).unwrap();
            assert_eq!(at(&iter), pair(model.range(..from).next_back()));
        }
        run(iter.seek_before(key)).unwrap();
        let before = pair(model.range(..(key.clone(), Reverse(Seq::MAX))).next_back());
        assert_eq!(at(&iter), before);
        if before.is_some() {
            run(iter.next()).unwrap();
            assert_eq!(at(&iter), pair(model.range((key.clone(), Reverse(Seq::MAX))..).next()));
        }
    }
}

fn check_walks(table: &Arc<TableReader>, model: &Model) {
    let mut iter = table.iter(true);
    let mut expected = model.iter();
    run(iter.seek_first()).unwrap();
    while let Some(entry) = at(&iter) {
        assert_eq!(Some(entry), pair(expected.next()));
        run(iter.next()).unwrap();
    }
    assert!(expected.next().is_none());
    let mut expected = model.iter().rev();
    run(iter.seek_last()).unwrap();
    while let Some(entry) = at(&iter) {
        assert_eq!(Some(entry), pair(expected.next()));
        run(iter.prev()).unwrap();
    }
    assert!(expected.next().is_none());
}

quickcheck::quickcheck! {
    fn a_table_is_the_map_it_was_made_from(raw: Vec<(u16, u8, u16)>, probes: Vec<(u16, u8, u16)>, cuts: Vec<(u8, u8, u8)>, choice: u8, cache_kib: u8) -> bool {
        let world = World::new(u64::from(cache_kib) << 10);
        let model = model(&raw);
        let tombstones: Vec<RangeTombstone> =
            cuts.iter().map(|(start, len, seq)| tombstone(&[*start], &[*start, *len], u64::from(*seq))).collect();
        if model.is_empty() && tombstones.is_empty() {
            return true;
        }
        let meta = world.build(7, pick(choice), &model, &tombstones).unwrap();
        let table = world.open(&meta).unwrap();
        assert_eq!(table.meta, meta);
        assert_eq!(meta.entries, model.len() as u64);
        assert_eq!(table.range_tombstones(), &crate::types::RangeTombstones::new(tombstones));
        let (_, unknown) = run(TableReader::open_unknown(&world.env, &world.cache, &World::path(7))).unwrap();
        assert_eq!(unknown, meta);

        let mut targets: Vec<(Vec<u8>, Seq)> = Vec::new();
        for (key, Reverse(seq)) in model.keys().chain(self::model(&probes).keys()) {
            targets.extend([*seq, seq.prev(), Seq::LIMIT].map(|seq| (key.clone(), seq)));
        }
        targets.extend([(vec![], Seq::LIMIT), (vec![255; 9], Seq::ZERO)]);
        check_gets(&table, &model, &targets);
        check_cursor(&table, &model, &targets);
        check_walks(&table, &model);

        let mut read = 0;
        let verified = run(table.verify(&mut |bytes| read += bytes)).unwrap();
        assert_eq!(verified.entries, meta.entries);
        assert!(read <= meta.bytes && read + 512 > meta.bytes, "verify read {read} of {}", meta.bytes);
        let mut offsets: Vec<u64> = Vec::new();
        for (key, _) in model.keys() {
            offsets.push(run(table.approximate_offset(key)).unwrap());
        }
        assert!(offsets.is_sorted() && offsets.iter().all(|offset| *offset < meta.bytes));

        // Nothing stays counted once everything is gone.
        let budget = Arc::clone(world.cache.budget());
        drop((table, world));
        budget.used() == 0
    }
}

#[test]
fn versions_that_span_partitions_are_all_found() {
    let world = World::new(1 << 20);
    let mut model = Model::new();
    for seq in 1..3000 {
        model.insert((b"hot".to_vec(), Reverse(Seq::new(seq))), (OpKind::Put, vec![seq as u8; 60]));
    }
    model.insert((b"cold".to_vec(), Reverse(Seq::new(5))), (OpKind::Put, b"c".to_vec()));
    model.insert((b"hotter".to_vec(), Reverse(Seq::new(5))), (OpKind::Put, b"h".to_vec()));
    let meta = world.build(1, options(256, Compression::None, 10), &model, &[]).unwrap();
    let table = world.open(&meta).unwrap();
    assert!(table.properties.partitions > 3);
    let targets: Vec<_> = (0..3001).map(|seq| (b"hot".to_vec(), Seq::new(seq))).collect();
    check_gets(&table, &model, &targets);
    check_cursor(&table, &model, &targets[..100]);
}

#[test]
fn a_hit_reads_nothing_and_a_giant_value_is_not_copied() {
    let world = World::new(1 << 20);
    let mut model = sample(300).0;
    let giant = vec![3; 5 << 20];
    model.insert((b"giant".to_vec(), Reverse(Seq::new(1))), (OpKind::Put, giant.clone()));
    let meta = world.build(1, options(4096, Compression::None, 10), &model, &[]).unwrap();
    let table = world.open(&meta).unwrap();
    let targets: Vec<_> =
        model.keys().filter(|(key, _)| key != b"giant").map(|(k, s)| (k.clone(), s.0)).collect();
    check_gets(&table, &model, &targets);
    let reads = || world.memory.faults().reads.load(std::sync::atomic::Ordering::Relaxed);
    let before = reads();
    check_gets(&table, &model, &targets);
    assert_eq!(reads(), before);
    let budget = world.cache.budget();
    let value = run(table.get(b"giant", Seq::LIMIT)).unwrap().unwrap().value;
    assert!(value == giant && world.cache.stats().bypassed == 1);
    let pinned = budget.used_by(crate::cache::Purpose::Pinned);
    assert!((giant.len() as u64..giant.len() as u64 + 16_384).contains(&pinned), "{pinned} bytes are pinned");
    drop(value);
    assert_eq!(budget.used_by(crate::cache::Purpose::Pinned), 0);
    run(table.verify(&mut |_| ())).unwrap();
}

#[test]
fn a_table_of_only_range_tombstones() {
    let world = World::new(1 << 20);
    let meta = world
        .build(1, options(4096, Compression::Lz4, 10), &Model::new(), &[tombstone(b"b", b"d", 4)])
        .unwrap();
    assert_eq!(
        (&meta.smallest[..], &meta.largest[..], meta.largest_is_exclusive),
        (&b"b"[..], &b"d"[..], true)
    );
    assert_eq!((meta.min_seq, meta.max_seq), (Seq::new(4), Seq::new(4)));
    let table = world.open(&meta).unwrap();
    assert!(run(table.get(b"c", Seq::LIMIT)).unwrap().is_none());
    check_cursor(&table, &Model::new(), &[(b"c".to_vec(), Seq::LIMIT)]);
    run(table.verify(&mut |_| ())).unwrap();
}

#[test]
fn short_and_transient_reads_and_writes_are_gone_through() {
    let world = World::new(0);
    let (model, tombstones) = sample(200);
    let faults = world.memory.faults();
    faults.short_by.store(1000, std::sync::atomic::Ordering::Relaxed);
    let meta = world.build(1, options(4096, Compression::Zstd, 10), &model, &tombstones).unwrap();
    let table = world.open(&meta).unwrap();
    check_walks(&table, &model);
    faults.short_by.store(0, std::sync::atomic::Ordering::Relaxed);
    faults.transient_reads.store(2, std::sync::atomic::Ordering::Relaxed);
    run(table.verify(&mut |_| ())).unwrap();
    faults.transient_reads.store(3, std::sync::atomic::Ordering::Relaxed);
    let error = run(table.verify(&mut |_| ())).unwrap_err();
    assert!(matches!(&error, Error::Io(error) if error.offset.is_some()), "{error}");
}

#[test]
fn a_full_disk_leaves_no_file() {
    let world = World::new(0);
    let (model, tombstones) = sample(300);
    let full_at = &world.memory.faults().full_at;
    full_at.store(3000, std::sync::atomic::Ordering::Relaxed);
    let error = world.build(1, options(4096, Compression::None, 10), &model, &tombstones).unwrap_err();
    assert!(matches!(error, Error::DiskFull(_)), "{error}");
    assert!(world.memory.contents(&World::path(1)).is_none());
}
