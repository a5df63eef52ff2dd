//! Repair against an oracle that knows every value a key ever had: whatever is damaged, what comes back is never
//! wrong, nothing good is missing where nothing is lost, a strict repair gives only what is newest, and the original
//! stays as it was.

#![expect(clippy::disallowed_methods, reason = "the number of cases comes from whoever runs the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::flaky::Flaky;
use crate::support::settings;
use holdfast::env::{Env, IoErrorKind};
use holdfast::record::{HEADER_REGION, SECTOR, SectorUse};
use holdfast::types::file_name::{self, FileKind};
use holdfast::wal::{SegmentHeader, SegmentState};
use holdfast::{
    Compression, Db, Durability, KeyspaceOptions, Options, RepairOptions, RepairReport, Scan, Structure,
    WriteBatch, repair,
};
use holdfast_sim::{SimDisk, World};

type Key = (String, Vec<u8>);
type Contents = BTreeMap<Key, Vec<u8>>;

/// What happened to every key: each value it had, and the newest.
#[derive(Clone, Default)]
struct Oracle {
    had: BTreeMap<Key, Vec<Vec<u8>>>,
    now: Contents,
}

impl Oracle {
    fn put(&mut self, keyspace: &str, key: &[u8], value: &[u8]) {
        let key = (keyspace.to_string(), key.to_vec());
        self.had.entry(key.clone()).or_default().push(value.to_vec());
        self.now.insert(key, value.to_vec());
    }
}

fn options() -> Options {
    Options { memory_limit_bytes: 8 << 20, ..settings::options() }
}

fn small() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 256,
        table_bytes: 16 << 10,
        level1_bytes: 16 << 10,
        level0_tables: 2,
        level_ratio: 2,
        compression: vec![Compression::None, Compression::Lz4],
        ..KeyspaceOptions::default()
    }
}

/// Fills a database of two keyspaces and leaves it closed, or as a kill would.
async fn build(env: Arc<dyn Env>, seed: u64, close: bool) -> Oracle {
    let mut draw = Draw(seed);
    let mut oracle = Oracle::default();
    // Every third keeps all in the log, which takes several segments then.
    let is_long = seed % 3 == 2;
    let memtable_bytes = if is_long { 1 << 20 } else { options().memtable_bytes };
    let log_bytes_max = if is_long { 8 << 20 } else { options().log_bytes_max };
    let db = Db::open_in(env, "/db", Options { memtable_bytes, log_bytes_max, ..options() }).await.unwrap();
    let spaces = [
        db.create_keyspace("left", small()).await.unwrap(),
        db.create_keyspace("right", small()).await.unwrap(),
    ];
    let commits = 60 + draw.below(60);
    for commit in 0..commits {
        let mut batch = WriteBatch::default();
        for _ in 0..1 + draw.below(12) {
            let space = &spaces[draw.below(2) as usize];
            let key = format!("key{:03}", draw.below(250)).into_bytes();
            if draw.below(6) == 0 {
                batch.delete(space.id(), &key).unwrap();
            } else {
                let value = format!("{commit}-{}", "x".repeat(draw.below(150) as usize)).into_bytes();
                batch.put(space.id(), &key, &value).unwrap();
            }
        }
        batch.normalise();
        for op in batch.iter() {
            let name = spaces.iter().find(|space| space.id() == op.keyspace).unwrap().name();
            match op.kind {
                holdfast::types::OpKind::Put => oracle.put(name, op.key, op.value),
                _ => drop(oracle.now.remove(&(name.to_string(), op.key.to_vec()))),
            }
        }
        db.write(batch, Durability::Sync).await.unwrap();
        if draw.below(10) == 0 {
            let space = &spaces[draw.below(2) as usize];
            let from = draw.below(240);
            let (start, end) = (format!("key{from:03}"), format!("key{:03}", from + draw.below(10) + 1));
            space.delete_range(&start, &end).await.unwrap();
            oracle.now.retain(|(name, key), _| {
                name != space.name() || key[..] < *start.as_bytes() || key[..] >= *end.as_bytes()
            });
        }
        if draw.below(12) == 0 && !is_long {
            db.flush().await.unwrap();
        }
    }
    if close {
        db.close().await.unwrap();
    }
    oracle
}

async fn contents(env: Arc<dyn Env>, dir: &str) -> Contents {
    let db = Db::open_in(env.clone(), dir, options()).await.unwrap();
    let mut contents = Contents::new();
    for info in db.keyspaces().unwrap() {
        let space = db.keyspace(&info.name).unwrap();
        for (key, value) in space.scan(Scan::all()).await.unwrap().collect().await.unwrap() {
            contents.insert((info.name.clone(), key), value);
        }
    }
    // The new database takes commits.
    db.default_keyspace().unwrap().put("written", "afterwards").await.unwrap();
    db.close().await.unwrap();
    contents
}

fn files(disk: &SimDisk, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list(dir).into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), disk.read_file(Path::new(dir).join(name)))).collect()
}

/// What to harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Current,
    Manifest,
    Log,
    /// What stands just before the end of a segment that its successor names.
    LogTail,
    Table,
}

/// Harms one file of that kind, or exchanges two; gives their names.
fn harm(disk: &SimDisk, target: Target, draw: &mut Draw) -> Vec<String> {
    if target == Target::LogTail {
        return harm_tail(disk, draw);
    }
    let fits = |name: &str| match (target, file_name::parse(name)) {
        (Target::Current, None) => name == file_name::CURRENT,
        (Target::Manifest, Some((kind, _))) => kind == FileKind::Manifest,
        (Target::Log, Some((kind, _))) => kind == FileKind::Log,
        (Target::Table, Some((kind, _))) => kind == FileKind::Table,
        _ => false,
    };
    let here = files(disk, "/db");
    let names: Vec<&String> = here.keys().filter(|name| fits(name)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let name = names[draw.below(names.len() as u64) as usize].clone();
    let path = format!("/db/{name}");
    let mut bytes = here[&name].clone();
    if bytes.is_empty() {
        return vec![name];
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
    match draw.below(8) {
        0 => disk.remove_file(&path),
        1 => disk.write_file(&path, &[]),
        2 => {
            bytes.truncate(draw.below(used) as usize);
            disk.write_file(&path, &bytes);
        }
        3 => {
            let start = draw.below(used) as usize / 512 * 512;
            let mut end = (start + 512 * (1 + draw.below(8) as usize)).min(bytes.len());
            if target == Target::Log {
                // Zeros that reach into the last group are what a power loss leaves: no disk can tell.
                end = end.min(last_group(&bytes[..used as usize]));
            }
            bytes[start.min(end)..end].fill(0);
            disk.write_file(&path, &bytes);
        }
        4 => {
            let start = draw.below(used) as usize / 512 * 512;
            let end = (start + 512).min(bytes.len());
            bytes[start..end].iter_mut().for_each(|byte| *byte = draw.below(256) as u8);
            disk.write_file(&path, &bytes);
        }
        5 if names.len() > 1 => {
            let other = names[draw.below(names.len() as u64) as usize].clone();
            disk.write_file(&path, &here[&other]);
            disk.write_file(format!("/db/{other}"), &bytes);
            return vec![name, other];
        }
        _ => {
            let at = draw.below(used);
            disk.flip_bit(&path, at, draw.below(8) as u32);
        }
    }
    vec![name]
}

/// Where the last group begins.
fn last_group(bytes: &[u8]) -> usize {
    let mut sectors = (HEADER_REGION..bytes.len()).step_by(SECTOR).rev();
    let is_first = |at: &usize| bytes.get(*at + 18).is_some_and(|flags| flags & 1 != 0);
    sectors.find(is_first).unwrap_or(HEADER_REGION)
}

/// Zeros some sectors up to a named end, or all of them.
fn harm_tail(disk: &SimDisk, draw: &mut Draw) -> Vec<String> {
    let here = files(disk, "/db");
    let header = |bytes: &[u8]| SegmentHeader::decode(bytes.get(..HEADER_REGION)?).ok();
    let headers = here.iter().filter_map(|(name, bytes)| Some((name, header(bytes)?)));
    let used: Vec<_> =
        headers.filter_map(|(name, header)| Some((name, header, header.sector_use()?.0))).collect();
    let named = used.iter().filter_map(|(_, header, _)| match header.state {
        SegmentState::InUse { predecessor, .. } => predecessor,
        SegmentState::Unused => None,
    });
    let ends: Vec<_> = named
        .filter_map(|named| {
            let is_it = |of: &SectorUse| (of.id, of.epoch) == (named.id, named.epoch) && of.base < named.end;
            let (name, _, of) = used.iter().find(|(.., of)| is_it(of))?;
            Some((*name, HEADER_REGION + named.end.since(of.base) as usize))
        })
        .collect();
    if ends.is_empty() {
        return Vec::new();
    }
    let (name, end) = ends[draw.below(ends.len() as u64) as usize];
    let mut bytes = here[name].clone();
    let sectors = if draw.below(8) == 0 { end / SECTOR } else { 1 + draw.below(8) as usize };
    // An earlier harm may have cut it.
    let end = end.min(bytes.len());
    let start = end.saturating_sub(sectors * SECTOR).max(HEADER_REGION).min(end);
    bytes[start..end].fill(0);
    disk.write_file(format!("/db/{name}"), &bytes);
    vec![name.clone()]
}

async fn repaired(env: Arc<dyn Env>, target: &str, strict: bool) -> (RepairReport, Contents) {
    let report = repair(env.clone(), "/db", target, RepairOptions { strict }, &mut |_| {}).await.unwrap();
    let contents = contents(env, target).await;
    (report, contents)
}

fn judge(case: &str, oracle: &Oracle, report: &RepairReport, found: &Contents, strict: bool) {
    let names_are_lost = report.keyspaces.iter().any(|keyspace| keyspace.name_is_made_up);
    let uncertain = |(name, key): &Key| {
        report.uncertain.iter().any(|range| range.keyspace == *name && range.keys.contains(key))
    };
    if names_are_lost {
        // Ids are given in the order of creation, and the keyspace `default` is first.
        assert!(!report.is_complete(), "{case}: {report:#?}");
    }
    let renamed = |(name, key): &Key| -> Key {
        let name = match name.as_str() {
            "keyspace-1" => "left",
            "keyspace-2" => "right",
            name => name,
        };
        (name.to_string(), key.clone())
    };
    for (key, value) in found {
        let known = renamed(key);
        if key.0.starts_with("table-") {
            let had = oracle.had.iter().any(|((_, k), values)| *k == key.1 && values.contains(value));
            assert!(had, "{case}: {key:?} never had this value\n{report:#?}");
            continue;
        }
        let had = oracle.had.get(&known).is_some_and(|values| values.contains(value));
        assert!(had, "{case}: {key:?} never had this value\n{report:#?}");
        if strict || !uncertain(key) {
            assert_eq!(
                oracle.now.get(&known),
                Some(value),
                "{case} strict {strict}: {key:?} is not the newest\n{report:#?}"
            );
        }
    }
    // What is known by a made-up name is there, too.
    let as_made = |(name, key): &Key| -> Key {
        let is_made = report.keyspaces.iter().any(|keyspace| keyspace.name == *name);
        let name = match name.as_str() {
            "left" if !is_made => "keyspace-1",
            "right" if !is_made => "keyspace-2",
            name => name,
        };
        (name.to_string(), key.clone())
    };
    for (key, value) in &oracle.now {
        let key = &as_made(key);
        if !uncertain(key) && report.structure != Structure::Lost {
            assert_eq!(
                found.get(key),
                Some(value),
                "{case} strict {strict}: {key:?} is missing\n{report:#?}"
            );
        }
    }
    if report.is_complete() {
        assert_eq!(found, &oracle.now, "{case}");
    }
}

/// One database, several harms to it.
async fn case(world: World, seed: u64) -> [u64; 5] {
    let mut draw = Draw(seed ^ 77);
    let process = world.process("db");
    let oracle = process.run(build(process.env(), seed, seed.is_multiple_of(2))).await.unwrap();
    process.kill();
    let disk = process.disk();
    let image = disk.snapshot();
    let mut counts = [0; 5];
    for round in 0..12u64 {
        process.kill();
        disk.restore(&image);
        process.restart();
        let (mut harmed, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..[0, 1, 1, 1, 2, 3][draw.below(6) as usize] {
            let all = [
                Target::Current,
                Target::Manifest,
                Target::Log,
                Target::LogTail,
                Target::Table,
                Target::Table,
            ];
            targets.push(all[draw.below(6) as usize]);
            harmed.extend(targets.last().map(|target| harm(&disk, *target, &mut draw)).unwrap_or_default());
        }
        let case = format!("seed {seed} round {round}: harmed {harmed:?}");
        let before = files(&disk, "/db");
        for strict in [false, true] {
            let target = if strict { "/strict" } else { "/lenient" };
            let env = process.env();
            let (report, found) = process.run(repaired(env, target, strict)).await.unwrap();
            judge(&case, &oracle, &report, &found, strict);
            assert!(files(&disk, "/db") == before, "{case}: the original was touched");
            if harmed.is_empty() {
                assert!(report.is_complete(), "{case}: {report:#?}");
            }
            let names_a_harmed_file = report.lost.iter().any(|extent| {
                let name = extent.file.file_name().unwrap_or_default().to_string_lossy();
                harmed.iter().any(|harmed| **harmed == *name) || name == "*.manifest"
            });
            assert!(report.is_complete() || names_a_harmed_file, "{case}: {report:#?}");
            counts[report.structure as usize] += 1;
            counts[3] += u64::from(!report.is_complete());
            counts[4] += u64::from(targets == [Target::LogTail] && !report.is_complete());
        }
    }
    counts
}

#[test]
fn what_comes_back_is_true_whatever_is_damaged() {
    let mut sum = [0; 5];
    let seeds = std::env::var("HOLDFAST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        println!("seed {seed}");
        let counts = holdfast_sim::run(seed, move |world| case(world, seed)).result;
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [in_force, newest, lost, incomplete, tails] = sum;
    println!("in force {in_force}, newest {newest}, lost {lost}; incomplete {incomplete}, by a tail {tails}");
    assert!(sum.iter().all(|count| *count > 0), "every way to know the files was taken: {sum:?}");
}

#[test]
fn what_cannot_be_repaired_is_refused() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let ask = |source: &'static str, target: &'static str| {
            let env = env.clone();
            async move { repair(env, source, target, RepairOptions::default(), &mut |_| {}).await.map(drop) }
        };
        process.disk().create_dir_all("/empty");
        process.disk().create_dir_all("/full");
        process.disk().write_file("/full/something", b"else");
        let (a, b) = (ask("/none", "/new"), ask("/empty", "/new"));
        let nothing = process.run(async move { (a.await, b.await) }).await.unwrap();
        assert!(matches!(
            nothing,
            (Err(holdfast::Error::NotFound { .. }), Err(holdfast::Error::NotFound { .. }))
        ));
        assert!(!process.disk().exists("/new"), "nothing is made before there is something to repair");
        let opened = env.clone();
        let db =
            process.run(async move { Db::open_in(opened, "/db", options()).await.unwrap() }).await.unwrap();
        let locked = process.run(ask("/db", "/new")).await.unwrap();
        assert!(matches!(locked, Err(holdfast::Error::Locked(_))), "{locked:?}");
        process.run(async move { db.close().await.unwrap() }).await.unwrap();
        for target in ["/full", "/db"] {
            let refused = process.run(ask("/db", target)).await.unwrap();
            assert!(matches!(refused, Err(holdfast::Error::Invalid(_))), "{refused:?}");
        }
        process.run(ask("/db", "/new")).await.unwrap().unwrap();
    });
}

/// A lock that was refused for another reason than its holder says nothing of a writer.
#[test]
fn a_source_of_which_nothing_tells_whether_it_has_a_writer_is_left_alone() {
    use IoErrorKind::{Medium, Other, Permission, TooManyFiles, Transient, Unsupported};
    for (kind, passes) in [
        (TooManyFiles, false),
        (Medium, false),
        (Transient, false),
        (Other, false),
        (Permission, true),
        (Unsupported, true),
    ] {
        holdfast_sim::run(1, move |world| async move {
            let process = world.process("db");
            let (env, reads) = Flaky::over(process.env(), "db");
            let repaired = process
                .run(async move {
                    let db = Db::open_in(env.clone(), "/db", options()).await.unwrap();
                    db.default_keyspace().unwrap().put("key", "value").await.unwrap();
                    db.close().await.unwrap();
                    *reads.lock_refused.lock().unwrap() = Some(kind);
                    repair(env, "/db", "/new", RepairOptions::default(), &mut |_| {}).await
                })
                .await
                .unwrap();
            assert_eq!(repaired.is_ok(), passes, "{kind:?}: {repaired:?}");
            assert_eq!(process.disk().exists("/new"), passes, "{kind:?}: nothing is made of it");
        });
    }
}
