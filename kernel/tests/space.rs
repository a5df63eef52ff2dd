//! Space on the disk: what an idle or closed database keeps, and how it behaves on a small disk.

#![expect(clippy::disallowed_methods, reason = "the test waits for background work of a real machine")]

use std::path::Path;

use holdfast::env::linux::block_on;
use holdfast::{Db, Durability, Keyspace, Options, Scan, WriteBatch};

use crate::support::scene::{DIR, simulate, small_options, within};
use crate::support::settings::tiny;

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

/// Bytes of old versions in the tables of keyspace `k`.
fn superseded_bytes(db: &Db) -> u64 {
    let all = db.keyspaces().unwrap();
    let levels = all.iter().find(|keyspace| keyspace.name == "k").unwrap().levels;
    levels.iter().map(|level| level.superseded_bytes).sum()
}

#[test]
fn old_versions_go_when_the_reader_they_were_kept_for_is_gone() {
    simulate(31, |_, process| async move {
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, Options { retain_commits: 0, ..small_options() }).await.unwrap();
            let keyspace = db.create_keyspace("k", tiny()).await.unwrap();
            let put_all = async |count: u64, value: u8| {
                for n in 0..count {
                    keyspace.put(n.to_be_bytes(), [value; 500]).await.unwrap();
                }
                db.compact().await.unwrap();
            };
            put_all(40, 1).await;
            assert_eq!(superseded_bytes(&db), 0);
            // A table that is full of what nobody reads any more is worth a rewrite.
            let snapshot = db.snapshot();
            put_all(40, 2).await;
            assert_eq!(superseded_bytes(&db), 40 * 508);
            let old = snapshot.get(&keyspace, 7u64.to_be_bytes()).await.unwrap();
            assert_eq!(old.as_deref(), Some(&[1; 500][..]));
            drop(snapshot);
            db.wait_idle().await.unwrap();
            assert_eq!(superseded_bytes(&db), 0);
            // A single old version is not, until somebody asks for it.
            let snapshot = db.snapshot();
            put_all(1, 3).await;
            drop(snapshot);
            db.wait_idle().await.unwrap();
            assert_eq!(superseded_bytes(&db), 508);
            db.compact().await.unwrap();
            assert_eq!(superseded_bytes(&db), 0);
            assert!(db.verify().await.unwrap().is_good());
            db.close().await.unwrap();
        })
        .await;
    });
}
