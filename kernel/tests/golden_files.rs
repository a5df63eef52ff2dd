//! Golden files: databases as released versions wrote them, which every later version reads, for ever.
//!
//! ```text
//! kernel/tests/golden/NAME/       the files of a database, as they were
//! kernel/tests/golden/NAME.txt    everything that is in it, as text
//! ```
//!
//! `closed` was closed; `killed` lost power with commits in the log that no table has, and with a segment half made. Both
//! together have every kind of file, of block and of codec; [`the_files_have_every_part_of_the_formats`] says which.
//!
//! When a format changes, its version is raised, and today's writer is asked for files of a new name:
//! `HOLDFAST_WRITE_GOLDEN=NAME cargo test -p holdfast-db --test disk golden_files`. It never writes over files that exist, and
//! nothing else does: what a released version wrote stays what it wrote.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::{
    Compression, DEFAULT_KEYSPACE, Db, KeyspaceInfo, KeyspaceOptions, Options, ReadOnlyDb, Result, Scan,
    TransactionOptions, escaped,
};
use holdfast_sim::{Process, SimDisk};

const DIR: &str = "/db";
/// The seed under which the files were made: it decides the identities.
const SEED: u64 = 20;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn options() -> Options {
    Options {
        memtable_bytes: 1 << 20,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 1 << 20,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn small(compression: Compression, filter_bits_per_key: u32) -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 512,
        table_bytes: 16 << 10,
        level0_tables: 9,
        compression: vec![compression],
        filter_bits_per_key,
        ..KeyspaceOptions::default()
    }
}

const KEYSPACES: [(&str, Compression, u32); 3] =
    [("plain", Compression::None, 10), ("lz4 ü", Compression::Lz4, 16), ("zstd", Compression::Zstd, 0)];

/// A first opening: every kind of operation, tables at two levels.
async fn first_opening(db: &Db) -> Result<()> {
    let gone = db.create_keyspace("gone", KeyspaceOptions::default()).await?;
    gone.put("k", "v").await?;
    for (name, compression, filter_bits) in KEYSPACES {
        let keyspace = db.create_keyspace(name, small(compression, filter_bits)).await?;
        for n in 0..120u64 {
            keyspace.put(format!("user{:05}", n * 37 % 1000), format!("{n} ").repeat(6)).await?;
        }
        keyspace.put("", "the empty key").await?;
        keyspace.put(b"\0\xff\xfe", b"").await?;
    }
    db.drop_keyspace(&gone).await?;
    db.flush().await?;
    db.compact().await?;
    for (name, ..) in KEYSPACES {
        let keyspace = db.keyspace(name)?;
        keyspace.delete_range("user00100", "user00200").await?;
        keyspace.delete("user00037").await?;
        keyspace.put("user00150", "above the deleted range").await?;
        keyspace.delete_range("user00900", "v").await?;
    }
    // Level 0: the range deletes stay in its tables, since there is nothing to compact yet.
    db.flush().await
}

/// A second opening: what stands in the log only.
async fn second_opening(db: &Db) -> Result<()> {
    let (plain, zstd) = (db.keyspace("plain")?, db.keyspace("zstd")?);
    let mut txn = db.begin(TransactionOptions::default());
    txn.put(&plain, "transaction", "both")?;
    txn.put(&zstd, "transaction", "or neither")?;
    txn.delete(&plain, "user00000")?;
    txn.delete_range(&zstd, "user00300", "user00400")?;
    txn.commit().await?;
    db.keyspace(DEFAULT_KEYSPACE)?.put("large", "0123456789abcdef".repeat(300)).await?;
    zstd.put("user00150", "newer").await.map(drop)
}

/// Makes the database on a fresh disk of the simulator.
async fn make(process: &Process, close: bool) {
    let env = process.env();
    let first = process.run(async move {
        let db = Db::open_in(env, DIR, options()).await?;
        first_opening(&db).await
    });
    first.await.unwrap().unwrap();
    process.kill();
    process.restart();
    let env = process.env();
    let second = process.run(async move {
        let db = Db::open_in(env, DIR, options()).await?;
        second_opening(&db).await?;
        if close { db.close().await } else { Ok(()) }
    });
    second.await.unwrap().unwrap();
    process.power_loss();
    process.restart();
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(DIR).into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), disk.read_file(format!("{DIR}/{name}")))).collect()
}

/// Names of the golden databases.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn golden_files(name: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(golden().join(name)).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<(String, Vec<u8>)> = entries.map(read).collect();
    files.sort();
    files
}

fn golden_text(name: &str) -> String {
    std::fs::read_to_string(golden().join(format!("{name}.txt"))).unwrap()
}

fn load(process: &Process, name: &str) {
    let disk = process.disk();
    disk.create_dir_all(DIR);
    for (file, bytes) in golden_files(name) {
        disk.write_file(format!("{DIR}/{file}"), &bytes);
    }
    disk.sync_everything();
}

/// One line for the last commit, for each keyspace with its options, and for each entry.
struct Dump(String);

impl Dump {
    fn new(last_seq: holdfast::Seq) -> Self {
        Self(format!("commits {last_seq}\n"))
    }

    fn keyspace(&mut self, info: &KeyspaceInfo) {
        let KeyspaceOptions {
            block_bytes,
            table_bytes,
            filter_bits_per_key,
            compression,
            level0_tables,
            level1_bytes,
            level_ratio,
        } = &info.options;
        let (id, name) = (info.id, &info.name);
        writeln!(
            self.0,
            "keyspace {id} {name:?} blocks {block_bytes} tables {table_bytes} filter {filter_bits_per_key} \
             compression {compression:?} level 0 {level0_tables} level 1 {level1_bytes} ratio {level_ratio}"
        )
        .unwrap();
    }

    async fn entries(&mut self, mut forward: holdfast::Cursor, mut backward: holdfast::Cursor) -> Result<()> {
        let entries = forward.collect().await?;
        let mut reversed = backward.collect().await?;
        reversed.reverse();
        assert_eq!(entries, reversed);
        for (key, value) in &entries {
            writeln!(self.0, "  {} = {}", escaped::escape(key), escaped::escape(value)).unwrap();
        }
        Ok(())
    }
}

async fn dump(db: &Db) -> Result<String> {
    let mut dump = Dump::new(db.last_seq());
    for info in db.keyspaces()? {
        dump.keyspace(&info);
        let keyspace = db.keyspace(&info.name)?;
        dump.entries(keyspace.scan(Scan::all()).await?, keyspace.scan(Scan::all().reverse()).await?).await?;
    }
    Ok(dump.0)
}

async fn dump_read_only(db: &ReadOnlyDb) -> Result<String> {
    let mut dump = Dump::new(db.last_seq());
    for info in db.keyspaces() {
        dump.keyspace(&info);
        let keyspace = db.keyspace(&info.name)?;
        dump.entries(keyspace.scan(Scan::all()).await?, keyspace.scan(Scan::all().reverse()).await?).await?;
    }
    Ok(dump.0)
}

/// Line by line, so that a difference is short.
fn assert_same(found: &str, expected: &str, what: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{what}, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
}

/// Opens it in every way: looks, verifies, opens, writes, and opens again.
async fn read_in_every_way(env: Arc<dyn Env>, dir: PathBuf, name: String) -> Result<()> {
    let expected = golden_text(&name);
    let looked = Db::open_read_only_in(Arc::clone(&env), &dir, options()).await?;
    assert_same(&dump_read_only(&looked).await?, &expected, &name);
    drop(looked);
    let report = holdfast::verify(Arc::clone(&env), &dir, |_| ()).await?;
    assert!(report.is_good() && report.is_sound(), "{name}: {:?}", report.problems);
    let db = Db::open_in(Arc::clone(&env), &dir, options()).await?;
    assert_same(&dump(&db).await?, &expected, &name);
    // Everything is rewritten, and means the same.
    db.compact().await?;
    assert_same(&dump(&db).await?, &expected, &name);
    db.default_keyspace()?.put("written by a later version", "yes").await?;
    let after = dump(&db).await?;
    db.close().await?;
    let db = Db::open_in(env, &dir, options()).await?;
    assert_same(&dump(&db).await?, &after, &name);
    db.close().await
}

#[test]
fn golden_databases_are_read_in_the_simulated_world() {
    for name in names() {
        holdfast_sim::run(3, move |world| async move {
            let process = world.process("db");
            load(&process, &name);
            let env = process.env();
            let all = process.run(read_in_every_way(env, DIR.into(), name));
            all.await.unwrap().unwrap();
        });
    }
}

#[test]
fn golden_databases_are_read_from_a_real_disk() {
    for name in names() {
        // Where they stand nothing may be written: looking does not.
        let before = golden_files(&name);
        let looked = block_on(async {
            let db = Db::open_read_only(golden().join(&name), options()).await?;
            dump_read_only(&db).await
        });
        assert_same(&looked.unwrap(), &golden_text(&name), &name);
        assert!(golden_files(&name) == before, "looking at {name} has changed it");
        let copy = std::env::temp_dir().join(format!("holdfast-golden-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&copy).unwrap();
        for (file, bytes) in before {
            std::fs::write(copy.join(file), bytes).unwrap();
        }
        let env = LinuxEnv::new();
        block_on(read_in_every_way(env, copy.clone(), name)).unwrap();
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

/// Today's writer, given the same commits, makes what reads like the newest golden files; and writes new ones if told.
#[test]
fn the_same_commits_read_the_same_today() {
    #[expect(clippy::disallowed_methods, reason = "the test is told to write, not the kernel")]
    let write = std::env::var("HOLDFAST_WRITE_GOLDEN").ok();
    for (close, kind) in [(true, "closed"), (false, "killed")] {
        let write = write.clone();
        holdfast_sim::run(SEED, move |world| async move {
            let process = world.process("db");
            make(&process, close).await;
            let made = files(&process.disk());
            let env = process.env();
            let text = process.run(async move {
                let db = Db::open_read_only_in(env, DIR, options()).await?;
                dump_read_only(&db).await
            });
            let text = text.await.unwrap().unwrap();
            if let Some(prefix) = write {
                store(&golden().join(format!("{prefix}-{kind}")), &made, &text);
            }
            let newest = names().into_iter().rfind(|name| name.ends_with(kind)).unwrap();
            assert_same(without_numbers(&text), without_numbers(&golden_text(&newest)), &newest);
        });
    }
}

/// All but the first line: how far numbers leap behind a process that was killed is nobody's promise.
fn without_numbers(dump: &str) -> &str {
    dump.split_once('\n').unwrap().1
}

fn store(folder: &Path, files: &[(String, Vec<u8>)], text: &str) {
    assert!(!folder.exists(), "{} is there: golden files are never written over", folder.display());
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::fs::write(folder.with_extension("txt"), text).unwrap();
}

/// (role, codec) of each block of a table, read by the layout in FORMAT.md and not by the kernel.
fn blocks(table: &[u8]) -> BTreeSet<(u8, u8)> {
    let number = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 24 + number(12) + 4;
    let mut found = BTreeSet::new();
    while table[at] != 0 && at < table.len() - 512 {
        found.insert((table[at], table[at + 1]));
        at += 16 + number(at + 4);
    }
    found
}

#[test]
fn the_files_have_every_part_of_the_formats() {
    assert!(names().len() >= 2, "there are golden databases");
    let (mut magics, mut parts, mut log_sectors) = (BTreeSet::new(), BTreeSet::new(), 0);
    for name in names() {
        for (file, bytes) in golden_files(&name) {
            let magic = String::from_utf8_lossy(bytes.get(..8).unwrap_or_default()).into_owned();
            if magic.starts_with("HFTABLE") {
                parts.extend(blocks(&bytes));
                assert_eq!(&bytes[bytes.len() - 512..][..8], b"HFTFOOT\n", "{file}");
            }
            if magic.starts_with("HFLOG") {
                log_sectors += bytes[4096..].chunks(512).filter(|sector| sector[0] != 0).count();
            }
            magics.insert(magic);
        }
    }
    // Empty files, and one of zeros that the power loss cut off from its header.
    magics.retain(|magic| magic.starts_with("HF"));
    let expected = ["HFCURRNT", "HFLOG\0\0\0", "HFMANIF\0", "HFTABLE\n"];
    assert_eq!(magics.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let codecs: BTreeSet<u8> = parts.iter().filter(|part| part.0 == 1).map(|part| part.1).collect();
    assert_eq!(codecs, BTreeSet::from([0, 1, 2]), "data blocks of every codec");
    let roles: BTreeSet<u8> = parts.iter().map(|part| part.0).collect();
    assert_eq!(roles, (1..=6).collect(), "blocks of every role");
    assert!(log_sectors > 10, "commits in the log");
}
