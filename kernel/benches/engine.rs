//! How fast the whole kernel is on this machine's disk: durable commits, batches, look-ups, walks.
//!
//! `cargo bench -p holdfast-db --bench engine [-- FILTER]`. It measures only ourselves and asserts nothing about time.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock and ends at the first error"
)]

use std::time::Instant;

use holdfast::env::linux::block_on;
use holdfast::{Db, Durability, Keyspace, Options, Scan, WriteBatch};

const KEYS: u64 = 500_000;
const VALUE: [u8; 100] = [7; 100];

fn key(n: u64) -> [u8; 16] {
    // A fixed permutation: multiplication by an odd number.
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn report(what: &str, count: u64, began: Instant) {
    let took = began.elapsed();
    println!(
        "{what:32} {:>12.0} /s   {:>9.2} µs each",
        count as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / count as f64
    );
}

fn durable(db: &Db, keyspace: &Keyspace, writers: u64) {
    let each = 20_000 / writers;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let keyspace = keyspace.clone();
            scope.spawn(move || {
                block_on(async {
                    for n in 0..each {
                        keyspace.put(key(writer << 32 | n), VALUE).await.unwrap();
                    }
                });
            });
        }
    });
    report(&format!("durable puts, {writers} writers"), each * writers, began);
    let _ = db;
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let dir = std::env::temp_dir().join(format!("holdfast-bench-{}", std::process::id()));
    let options = Options { memory_limit_bytes: 512 << 20, memtable_bytes: 64 << 20, ..Options::default() };
    let db = block_on(Db::open(&dir, options)).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    if "durable".contains(&filter) {
        for writers in [1, 2, 8] {
            durable(&db, &keyspace, writers);
        }
    }
    if "load".contains(&filter) || "read".contains(&filter) {
        let began = Instant::now();
        for chunk in 0..KEYS / 1000 {
            let mut batch = WriteBatch::new();
            for n in 0..1000 {
                batch.put(keyspace.id(), &key(chunk * 1000 + n), &VALUE).unwrap();
            }
            block_on(db.write(batch, Durability::Buffered)).unwrap();
        }
        report("load, batches of 1000", KEYS, began);
        let began = Instant::now();
        block_on(db.compact()).unwrap();
        report("compact", KEYS, began);
    }
    if "read".contains(&filter) {
        for round in 0..2 {
            let began = Instant::now();
            block_on(async {
                for n in 0..KEYS {
                    let n = n.wrapping_mul(7_919) % KEYS;
                    assert!(keyspace.get(key(n)).await.unwrap().is_some());
                }
            });
            report(if round == 0 { "get, first round" } else { "get, cached" }, KEYS, began);
        }
        let began = Instant::now();
        block_on(async {
            for n in 0..KEYS {
                assert!(keyspace.get(key(n + (1 << 40))).await.unwrap().is_none());
            }
        });
        report("get, absent", KEYS, began);
        let began = Instant::now();
        let count = block_on(async { keyspace.scan(Scan::all()).await.unwrap().count().await.unwrap() });
        report("scan, everything", count, began);
        let began = Instant::now();
        block_on(async {
            for n in 0..KEYS / 20 {
                let start = key(n.wrapping_mul(7_919)).to_vec();
                let mut cursor = keyspace.scan(Scan::range(start..).limit(10)).await.unwrap();
                while cursor.next().await.unwrap().is_some() {}
            }
        });
        report("scan of 10", KEYS / 20, began);
    }
    block_on(db.close()).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
