//! Files whose checksums hold and whose numbers no kernel writes: opening refuses or works, and never panics.
//!
//! A checksum is no signature: rot that happens to pass, a tool, or an adversary can put any number there. Each number
//! of the manifest and of every header is set to its edges; then the database is looked at, verified, opened, written, compacted, repaired.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Env, SharedDir};
use holdfast::manifest::{FileNumbers, Found, Keyspace, ManifestWriter, Version, load};
use holdfast::table::TableMeta;
use holdfast::types::{FileId, FileNo, Lsn, Timestamp};
use holdfast::wal::KnownDurable;
use holdfast::{Db, FileVerdict, KeyspaceOptions, Options, RepairOptions, Result, Scan, Seq};
use holdfast_sim::Process;

const DIR: &str = "/db";

fn options() -> Options {
    Options {
        memtable_bytes: 16 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

async fn make(env: Arc<dyn Env>) -> Result<()> {
    let db = Db::open_in(env, DIR, options()).await?;
    let keyspace = db.default_keyspace()?;
    for round in 0..2u64 {
        for n in 0..20u64 {
            keyspace.put(format!("{n:03}"), format!("{round}").repeat(30)).await?;
        }
        keyspace.delete_range("005", "007").await?;
        db.flush().await?;
    }
    keyspace.put("in the log", "only").await.map(drop)
}

/// Puts a manifest into force that says what `change` makes of the one there is.
async fn forge(env: Arc<dyn Env>, change: impl FnOnce(&mut Version)) -> Result<()> {
    let Found::Database(loaded) = load(&*env, Path::new(DIR)).await? else { panic!("there is a database") };
    let mut version = loaded.version;
    change(&mut version);
    let numbers = Arc::new(FileNumbers::new(FileNo::new(1000)));
    let mut writer =
        ManifestWriter::create(env, SharedDir::new(DIR), loaded.database, numbers, version).await?;
    writer.install_current().await
}

/// Everything that a user may do with the directory. What any of it answers is not the question.
async fn use_in_every_way(env: Arc<dyn Env>) {
    if let Ok(db) = Db::open_read_only_in(Arc::clone(&env), DIR, options()).await {
        for info in db.keyspaces() {
            let _ = (info.table_bytes(), info.approximate_count());
        }
        if let Ok(keyspace) = db.default_keyspace() {
            keyspace.approximate_size::<&str>(..).await.ok();
            keyspace.approximate_count("003".."015").await.ok();
            let past = [db.at(Seq::ZERO), db.at(db.last_seq()), Ok(db.snapshot())];
            for past in past.into_iter().flatten() {
                past.get(&keyspace, "007").await.ok();
            }
            if let Ok(mut cursor) = keyspace.scan(Scan::all()).await {
                cursor.collect().await.ok();
            }
        }
        db.backup("/backup").await.ok();
    }
    holdfast::verify(Arc::clone(&env), DIR, |_| ()).await.ok();
    for _ in 0..2 {
        if let Ok(db) = Db::open_in(Arc::clone(&env), DIR, options()).await {
            work(&db).await.ok();
            db.metrics();
            db.close().await.ok();
        }
    }
    holdfast::repair(env, DIR, "/repaired", RepairOptions::default(), &mut |_| ()).await.ok();
}

async fn work(db: &Db) -> Result<()> {
    for info in db.keyspaces()? {
        let _ = (info.table_bytes(), info.approximate_count());
    }
    let keyspace = db.default_keyspace()?;
    keyspace.approximate_size::<&str>(..).await.ok();
    keyspace.approximate_count::<&str>(..).await.ok();
    keyspace.scan(Scan::all()).await?.collect().await.ok();
    for n in 0..30u64 {
        keyspace.put(format!("{n:03}"), "new").await?;
    }
    db.create_keyspace("another", KeyspaceOptions::default()).await.ok();
    db.at(db.last_seq()).ok();
    db.flush().await.ok();
    db.compact().await.ok();
    db.backup("/whole").await.ok();
    db.checkpoint("/checkpoint").await.map(drop)
}

fn first(version: &mut Version) -> &mut Keyspace {
    Arc::make_mut(version.keyspaces.values_mut().next().unwrap())
}

fn tables(version: &mut Version, change: impl Fn(&mut TableMeta)) {
    first(version).levels.iter_mut().flatten().for_each(|table| change(Arc::make_mut(table)));
}

type Forgery = (&'static str, fn(&mut Version, u64));

const FORGERIES: &[Forgery] = &[
    ("log start", |version, n| version.log_start = Lsn::new(n)),
    ("flushed", |version, n| first(version).flushed = Lsn::new(n)),
    ("known durable", |version, n| {
        version.known_durable = Some(KnownDurable { epoch: version.epoch, lsn: Lsn::new(n) });
    }),
    ("known epoch", |version, n| {
        version.known_durable = Some(KnownDurable { epoch: n as u32, lsn: Lsn::new(512) });
    }),
    ("epoch", |version, n| version.epoch = n as u32),
    ("next file number", |version, n| version.next_file_no = FileNo::new(n)),
    ("log segment's number", |version, n| {
        version.log_segments.insert(FileNo::new(n), FileId::new(5));
    }),
    ("next keyspace", |version, n| version.next_keyspace_id = n as u32),
    ("sequence reserved", |version, n| version.seq_reserved = Seq::new(n)),
    ("last sequence", |version, n| version.last_seq = Seq::new(n)),
    ("both sequences", |version, n| (version.last_seq, version.seq_reserved) = (Seq::new(n), Seq::new(n))),
    ("retained", |version, n| version.retained_from = Seq::new(n)),
    ("timestamp", |version, n| version.last_timestamp = Timestamp::new(n)),
    ("table's length", |version, n| tables(version, |table| table.bytes = n)),
    ("length of tables that are missing", |version, n| {
        tables(version, |table| {
            (table.no, table.id) = (FileNo::new(table.no.get() + 500), FileId::new(table.no.get()));
            table.bytes = n;
        });
    }),
    ("table's number", |version, n| {
        tables(version, |table| table.no = FileNo::new(n.wrapping_sub(table.no.get())));
    }),
    ("table's newest", |version, n| tables(version, |table| table.max_seq = Seq::new(n))),
    ("table's oldest", |version, n| tables(version, |table| table.min_seq = Seq::new(n))),
    ("table's entries", |version, n| tables(version, |table| table.entries = n)),
    ("table's deletes", |version, n| tables(version, |table| table.deletes = n)),
    ("table's range tombstones", |version, n| tables(version, |table| table.range_tombstones = n)),
    ("deletes of both kinds", |version, n| {
        tables(version, |table| (table.deletes, table.range_tombstones) = (n, n));
    }),
    ("deletes in a deeper level", |version, n| {
        tables(version, |table| (table.deletes, table.range_tombstones, table.entries) = (n, n, n));
        let last = first(version).levels[0].pop().unwrap();
        first(version).levels[3].push(last);
    }),
    ("table's raw bytes", |version, n| tables(version, |table| table.raw_bytes = n)),
];

const EDGES: [u64; 10] = [
    0,
    1,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 511,
    1 << 63,
    Seq::LIMIT.get(),
    Seq::LIMIT.get() + 1,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
];

/// Makes a database, forges something in it, and uses it. False if anything panicked.
fn survives<F, Fut>(forge: F) -> bool
where
    F: FnOnce(Process) -> Fut + Send + std::panic::UnwindSafe + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let trial = std::panic::catch_unwind(|| {
        holdfast_sim::run(5, move |world| async move {
            let process = world.process("db");
            process.run(make(process.env())).await.unwrap().unwrap();
            process.kill();
            process.restart();
            forge(process.clone()).await;
            process.kill();
            process.restart();
            process.run(use_in_every_way(process.env())).await.unwrap();
        });
    });
    trial.is_ok()
}

#[test]
fn no_number_of_a_manifest_makes_the_kernel_panic() {
    let mut panics = Vec::new();
    for (what, forgery) in FORGERIES {
        for edge in EDGES {
            let passed = survives(move |process| async move {
                let forged = forge(process.env(), move |version| forgery(version, edge));
                // What the writer of manifests refuses to write cannot be brought about in this way.
                process.run(forged).await.unwrap().ok();
            });
            if !passed {
                panics.push(format!("{what} = {edge:#x}"));
            }
        }
    }
    assert!(panics.is_empty(), "the panics stand above: {panics:#?}");
}

/// Magic, version, identity, length of the fields, fields, checksum, as FORMAT.md has it: sets the field with this
/// index to a number. False if there is none.
fn set_field(sector: &mut [u8], index: usize, number: u64) -> bool {
    let len = u32::from_le_bytes(sector[20..24].try_into().unwrap()) as usize;
    let at = 24 + index * 12;
    if at >= 24 + len {
        return false;
    }
    assert_eq!(sector[at + 2..at + 4], [8, 0], "every field is a number");
    sector[at + 4..at + 12].copy_from_slice(&number.to_le_bytes());
    let sum = holdfast::codec::checksum(&[&sector[12..20], &[0; 8], &sector[..508]]);
    sector[508..512].copy_from_slice(&sum.to_le_bytes());
    true
}

#[test]
fn no_number_of_a_header_makes_the_kernel_panic() {
    let (mut panics, mut set) = (Vec::new(), 0);
    for suffix in ["CURRENT", ".manifest", ".log"] {
        for index in 0..7 {
            for edge in EDGES {
                let (done, count) = std::sync::mpsc::channel();
                let passed = survives(move |process| async move {
                    let disk = process.disk();
                    for name in disk.list(DIR).into_iter().map(|entry| entry.name) {
                        let path = format!("{DIR}/{name}");
                        let mut bytes = disk.read_file(&path);
                        if name.ends_with(suffix)
                            && bytes[..8] != [0; 8]
                            && set_field(&mut bytes, index, edge)
                        {
                            disk.write_file(&path, &bytes);
                            disk.sync_everything();
                            done.send(()).unwrap();
                        }
                    }
                });
                set += count.iter().count();
                if !passed {
                    panics.push(format!("field {index} of {suffix} = {edge:#x}"));
                }
            }
        }
    }
    assert!(panics.is_empty(), "the panics stand above: {panics:#?}");
    assert!(set > 10 * EDGES.len(), "{set} numbers were set");
}

/// Opens, writes and closes three times beside a stray file; gives the greatest number that a file of ours has then.
fn greatest_number_beside(stray: u64, is_kept: bool) -> u64 {
    holdfast_sim::run(6, move |world| async move {
        let process = world.process("db");
        process.run(make(process.env())).await.unwrap().unwrap();
        process.kill();
        process.restart();
        let disk = process.disk();
        let name = format!("{stray:010}.table");
        disk.write_file(format!("{DIR}/{name}"), b"");
        let report = process.run(holdfast::verify(process.env(), DIR, |_| ())).await.unwrap().unwrap();
        let verdict = report.files.iter().find(|file| file.name == name).unwrap().verdict;
        assert_eq!(verdict == FileVerdict::Foreign, is_kept, "{stray}: {verdict:?}");
        for round in 0..3u64 {
            let env = process.env();
            let life = process.run(async move {
                let db = Db::open_in(env, DIR, options()).await?;
                work(&db).await?;
                db.default_keyspace()?.put("round", round.to_be_bytes()).await?;
                db.close().await
            });
            life.await.unwrap().unwrap();
            for copy in ["/whole", "/checkpoint"] {
                disk.list(copy).iter().for_each(|entry| disk.remove_file(format!("{copy}/{}", entry.name)));
            }
            assert_eq!(disk.exists(format!("{DIR}/{name}")), is_kept, "{stray}");
        }
        let names = disk.list(DIR).into_iter().map(|entry| entry.name).filter(|there| *there != name);
        names.filter_map(|name| name.split_once('.')?.0.parse().ok()).max().unwrap()
    })
    .result
}

#[test]
fn a_stray_file_with_a_number_out_of_reach_is_foreign() {
    for stray in [u64::MAX, u64::MAX - 9, 1 << 63, 1 << 40] {
        assert!(greatest_number_beside(stray, true) < 1000, "{stray} moved the counter");
    }
    // One that a database may have given is an orphan: removed, and not given again.
    assert!(greatest_number_beside(1000, false) > 1000);
}

#[test]
fn an_exhausted_counter_is_told_in_plain_numbers() {
    for next in [u64::MAX, (1 << 63) + 1] {
        let told = holdfast_sim::run(7, move |world| async move {
            let process = world.process("db");
            process.run(make(process.env())).await.unwrap().unwrap();
            process.kill();
            process.restart();
            let forged = forge(process.env(), move |version| version.next_file_no = FileNo::new(next));
            let refused = process.run(forged).await.unwrap().err();
            let opened = process.run(Db::open_in(process.env(), DIR, options())).await.unwrap();
            refused.or(opened.err()).unwrap().to_string()
        })
        .result;
        assert!(told.contains("9223372036854775808") && told.contains(&next.to_string()), "{told}");
        assert!(!told.contains("FileNo"), "{told}");
    }
}
