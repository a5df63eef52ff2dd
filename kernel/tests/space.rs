//! Space on the disk: what an idle or closed database keeps, and how it behaves on a small disk.

#![expect(clippy::disallowed_methods, reason = "the test waits for background work of a real machine")]

use std::path::Path;

use holdfast::env::linux::block_on;
use holdfast::{Db, Durability, Keyspace, Options, Scan, WriteBatch};

/// A directory that goes away with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-space-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        Self(path)
    }

    /// Bytes of the files whose names end so.
    fn bytes_of(&self, ending: &str) -> u64 {
        let files = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let ours = files.filter(|entry| entry.file_name().to_string_lossy().ends_with(ending));
        ours.map(|entry| entry.metadata().map_or(0, |metadata| metadata.len())).sum()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(dir: &Path) -> (Db, Keyspace) {
    let db = block_on(Db::open(dir, Options::default())).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    (db, keyspace)
}

/// Writes `count` values of 10,000 bytes.
fn load(db: &Db, keyspace: &Keyspace, count: u32) {
    for number in 0..count {
        let mut batch = WriteBatch::new();
        batch.put(keyspace.id(), &number.to_be_bytes(), &vec![number as u8; 10_000]).unwrap();
        block_on(db.write(batch, Durability::Flush)).unwrap();
    }
}

#[test]
fn compaction_and_closing_give_the_space_of_the_log_back() {
    let dir = Directory::new("log");
    let (db, keyspace) = open(&dir.0);
    load(&db, &keyspace, 3000);
    assert!(dir.bytes_of(".log") > 20 << 20, "segments grow under load");
    block_on(db.compact()).unwrap();
    // Released segments are removed in the background.
    let small = |dir: &Directory| dir.bytes_of(".log") < 4 << 20;
    for _ in 0..200 {
        if small(&dir) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(small(&dir), "{} bytes of log are left after a compaction", dir.bytes_of(".log"));

    // The log goes on behind a shrink, and a process that dies then loses nothing.
    load(&db, &keyspace, 500);
    block_on(keyspace.put(b"last", b"value")).unwrap();
    drop((db, keyspace));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (db, keyspace) = open(&dir.0);
    assert_eq!(block_on(keyspace.get(b"last")).unwrap().as_deref(), Some(&b"value"[..]));
    load(&db, &keyspace, 3000);
    drop(keyspace);
    block_on(db.close()).unwrap();
    // A small spare that was being made meanwhile may stay until the next opening.
    assert!(dir.bytes_of(".log") <= 4 << 20, "{} bytes of log are left after closing", dir.bytes_of(".log"));
    let (db, keyspace) = open(&dir.0);
    let count = block_on(async { keyspace.scan(Scan::all()).await.unwrap().count().await.unwrap() });
    assert_eq!(count, 3001);
    drop(keyspace);
    block_on(db.close()).unwrap();
}
