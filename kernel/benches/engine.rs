//! How fast the whole kernel is on this machine's disk: durable commits, batches, look-ups, walks.
//!
//! `cargo bench -p holdfast-db --bench engine [-- durable|load|get|scan]`, with HOLDFAST_BENCH_KEYS keys (500,000). It
//! measures only ourselves and asserts nothing about time.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock and ends at the first error"
)]

use std::time::Instant;

use holdfast::env::linux::block_on;
use holdfast::{Db, Durability, Keyspace, Options, Scan, WriteBatch};

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

fn load(db: &Db, keyspace: &Keyspace, keys: u64) {
    let began = Instant::now();
    for chunk in 0..keys / 1000 {
        let mut batch = WriteBatch::new();
        for n in 0..1000 {
            batch.put(keyspace.id(), &key(chunk * 1000 + n), &VALUE).unwrap();
        }
        block_on(db.write(batch, Durability::Buffered)).unwrap();
    }
    report("load, batches of 1000", keys, began);
    let began = Instant::now();
    block_on(db.compact()).unwrap();
    report("compact", keys, began);
}

fn gets(keyspace: &Keyspace, keys: u64) {
    for round in 0..2 {
        let began = Instant::now();
        block_on(async {
            for n in 0..keys {
                let n = n.wrapping_mul(7_919) % keys;
                assert!(keyspace.get(key(n)).await.unwrap().is_some());
            }
        });
        report(if round == 0 { "get, first round" } else { "get, cached" }, keys, began);
    }
    let began = Instant::now();
    block_on(async {
        for n in 0..keys {
            assert!(keyspace.get(key(n + (1 << 40))).await.unwrap().is_none());
        }
    });
    report("get, absent", keys, began);
}

fn scan_all(keyspace: &Keyspace) {
    let began = Instant::now();
    let count = block_on(async { keyspace.scan(Scan::all()).await.unwrap().count().await.unwrap() });
    report("scan, everything", count, began);
}

fn scans_of(keyspace: &Keyspace, rounds: u64, limit: u64) {
    let began = Instant::now();
    block_on(async {
        for n in 0..rounds {
            let start = key(n.wrapping_mul(7_919));
            let mut cursor = keyspace.scan(Scan::range(start..).limit(limit)).await.unwrap();
            while cursor.next().await.unwrap().is_some() {}
        }
    });
    report(&format!("scan of {limit}"), rounds, began);
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let keys = std::env::var("HOLDFAST_BENCH_KEYS").map_or(500_000, |keys| keys.parse().unwrap());
    let wanted = |name: &str| name.contains(&filter);
    let dir = std::env::temp_dir().join(format!("holdfast-bench-{}", std::process::id()));
    let options = Options { memory_limit_bytes: 512 << 20, memtable_bytes: 64 << 20, ..Options::default() };
    let db = block_on(Db::open(&dir, options)).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    if wanted("durable") {
        for writers in [1, 2, 8] {
            durable(&db, &keyspace, writers);
        }
    }
    if ["load", "get", "scan"].into_iter().any(wanted) {
        load(&db, &keyspace, keys);
    }
    if wanted("get") {
        gets(&keyspace, keys);
    }
    if wanted("scan") {
        scan_all(&keyspace);
        scans_of(&keyspace, keys / 2, 10);
        scans_of(&keyspace, keys / 10, 100);
    }
    block_on(db.close()).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
