//! What a range holds, about: exact in memory, to a block in tables.

use std::ops::Bound;
use std::path::PathBuf;

use holdfast::env::linux::block_on;
use holdfast::{Compression, Db, Durability, Keyspace, KeyspaceOptions, Options, WriteBatch};

const BLOCK_BYTES: u32 = 1024;
const VALUE_BYTES: u64 = 100;
const KEY_BYTES: u64 = 4;

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(name: &str) -> (Directory, Db, Keyspace) {
    let dir = Directory(std::env::temp_dir().join(format!("holdfast-ranges-{name}-{}", std::process::id())));
    drop(std::fs::remove_dir_all(&dir.0));
    let db = block_on(Db::open(&dir.0, Options::default())).unwrap();
    let options = KeyspaceOptions {
        block_bytes: BLOCK_BYTES,
        compression: vec![Compression::None],
        ..KeyspaceOptions::default()
    };
    let keyspace = block_on(db.create_keyspace("measured", options)).unwrap();
    (dir, db, keyspace)
}

fn fill(db: &Db, keyspace: &Keyspace, keys: std::ops::Range<u32>) {
    let mut batch = WriteBatch::new();
    for key in keys {
        batch.put(keyspace.id(), &key.to_be_bytes(), &[7; VALUE_BYTES as usize]).unwrap();
    }
    block_on(db.write(batch, Durability::Flush)).unwrap();
}

fn size(keyspace: &Keyspace, start: u32, end: u32) -> u64 {
    block_on(keyspace.approximate_size(start.to_be_bytes()..end.to_be_bytes())).unwrap()
}

fn count(keyspace: &Keyspace, start: u32, end: u32) -> u64 {
    block_on(keyspace.approximate_count(start.to_be_bytes()..end.to_be_bytes())).unwrap()
}

#[test]
fn memory_is_counted_exactly() {
    let (_dir, db, keyspace) = open("memory");
    fill(&db, &keyspace, 0..5000);
    let entry_bytes = KEY_BYTES + VALUE_BYTES;
    for (start, end) in
        [(0u32, 5000u32), (17, 18), (100, 4100), (4990, 9000), (6000, 7000), (30, 30), (40, 20)]
    {
        let held = u64::from(end.min(5000).saturating_sub(start.min(5000)));
        assert_eq!(count(&keyspace, start, end), held, "{start}..{end}");
        assert_eq!(size(&keyspace, start, end), held * entry_bytes, "{start}..{end}");
    }
    let bounds = (Bound::Excluded(9u32.to_be_bytes()), Bound::Included(12u32.to_be_bytes()));
    assert_eq!(block_on(keyspace.approximate_count(bounds)).unwrap(), 3);
    assert_eq!(block_on(keyspace.approximate_count::<[u8; 4]>(..)).unwrap(), 5000);
    block_on(db.close()).unwrap();
}

#[test]
fn tables_are_counted_to_a_block_at_each_bound() {
    let (_dir, db, keyspace) = open("tables");
    fill(&db, &keyspace, 0..20_000);
    block_on(db.compact()).unwrap();
    let info = db.keyspaces().unwrap().into_iter().find(|info| info.name == "measured").unwrap();
    let tables: u64 = info.levels.iter().map(|level| level.tables).sum();
    assert_eq!(info.memtable_entries, 0);

    // Without bounds every table counts whole.
    assert_eq!(block_on(keyspace.approximate_size::<[u8; 4]>(..)).unwrap(), info.table_bytes());
    assert_eq!(block_on(keyspace.approximate_count::<[u8; 4]>(..)).unwrap(), 20_000);

    // Index and filter blocks are a small part of a table; the rest is one data block at each bound of each table.
    let slack = 2 * tables * u64::from(BLOCK_BYTES);
    for (start, end) in [(0u32, 10_000u32), (5000, 15_000), (19_000, 30_000), (777, 1777), (12_345, 12_346)] {
        let held = u64::from(end.min(20_000) - start);
        let (size, count) = (size(&keyspace, start, end), count(&keyspace, start, end));
        let least = held * VALUE_BYTES;
        let most = held * (KEY_BYTES + VALUE_BYTES + 30);
        assert!(size + slack >= least && size <= most + slack, "{size} bytes in {start}..{end}");
        let slack = 2 * tables * u64::from(BLOCK_BYTES) / VALUE_BYTES + held / 10;
        assert!(count + slack >= held && count <= held + slack, "{count} entries in {start}..{end}");
    }
    assert_eq!((size(&keyspace, 30_000, 40_000), count(&keyspace, 30_000, 40_000)), (0, 0));

    // What is overwritten counts twice until it is compacted.
    fill(&db, &keyspace, 0..1000);
    assert_eq!(block_on(keyspace.approximate_count::<[u8; 4]>(..)).unwrap(), 21_000);
    block_on(db.compact()).unwrap();
    assert_eq!(block_on(keyspace.approximate_count::<[u8; 4]>(..)).unwrap(), 20_000);
    let id = format!("{:016x}", db.database_id());
    assert!(db.metrics().to_prometheus().contains(&id), "the identity is among the metrics");
    block_on(db.close()).unwrap();
}

#[test]
fn a_flush_ends_under_steady_writers() {
    let (_dir, db, keyspace) = open("flush");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fill(&db, &keyspace, 0..200);
            }
        });
        for _ in 0..5 {
            block_on(db.flush()).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(block_on(keyspace.approximate_count::<[u8; 4]>(..)).unwrap() % 200, 0);
    block_on(db.close()).unwrap();
}
