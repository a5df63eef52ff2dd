//! Repair of a manifest that tells of keyspaces made late, dropped and made again, harmed sector by sector: what an
//! edit said that cannot be read any more is never taken for something that never was. Each acknowledged row is there
//! or marked, nothing dropped comes back unmarked, and "complete" is said only of what is.

#![expect(clippy::disallowed_methods, reason = "the number of cases comes from whoever runs the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::settings;
use holdfast::env::Env;
use holdfast::record::{HEADER_REGION, SECTOR};
use holdfast::types::file_name::{self, FileKind};
use holdfast::{
    Db, Keyspace, KeyspaceOptions, Options, RepairOptions, RepairReport, Scan, Structure, repair,
};
use holdfast_sim::{SimDisk, World};

/// Name of a keyspace, and key.
type Key = (String, Vec<u8>);
type Contents = BTreeMap<Key, Vec<u8>>;

/// What was acknowledged: each value that a key ever had, the newest, and the keyspaces that there are.
#[derive(Clone, Default)]
struct Oracle {
    had: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    now: Contents,
    names: BTreeSet<String>,
}

fn options() -> Options {
    Options { memory_limit_bytes: 8 << 20, ..settings::options() }
}

/// A database under way, with its oracle.
struct Run {
    db: Db,
    oracle: Oracle,
    open: BTreeMap<String, Keyspace>,
    values: u64,
    /// Bytes behind some values: with them the log needs more segments, and memtables are flushed.
    padding: usize,
}

impl Run {
    async fn open(env: Arc<dyn Env>, oracle: Oracle) -> Self {
        let db = Db::open_in(env, "/db", options()).await.unwrap();
        let mut run = Self { db, oracle, open: BTreeMap::new(), values: 0, padding: 0 };
        for info in run.db.keyspaces().unwrap() {
            run.oracle.names.insert(info.name.clone());
            let space = run.db.keyspace(&info.name).unwrap();
            run.open.insert(info.name, space);
        }
        run
    }

    async fn create(&mut self, name: &str) {
        let space = self.db.create_keyspace(name, KeyspaceOptions::default()).await.unwrap();
        self.oracle.names.insert(name.to_string());
        self.open.insert(name.to_string(), space);
    }

    async fn drop(&mut self, name: &str) {
        let space = self.open.remove(name).unwrap();
        self.db.drop_keyspace(&space).await.unwrap();
        self.oracle.names.remove(name);
        self.oracle.now.retain(|(of, _), _| of != name);
    }

    /// Each value is written once, so a value tells when, and in which keyspace of a name.
    async fn put(&mut self, name: &str, key: &str) {
        self.values += 1;
        let padding = if self.values.is_multiple_of(5) { self.padding } else { 0 };
        let value = format!("{name}-{}-{}", self.values, "x".repeat(padding)).into_bytes();
        self.open[name].put(key, &value).await.unwrap();
        let key = key.as_bytes().to_vec();
        self.oracle.had.entry(key.clone()).or_default().insert(value.clone());
        self.oracle.now.insert((name.to_string(), key), value);
    }

    async fn delete(&mut self, name: &str, key: &str) {
        self.open[name].delete(key).await.unwrap();
        self.oracle.now.remove(&(name.to_string(), key.as_bytes().to_vec()));
    }
}

/// Keyspaces come and go, with rows in them, and the end is a kill or a close.
async fn build(env: Arc<dyn Env>, seed: u64) -> Oracle {
    let mut draw = Draw(seed);
    let mut run = Run::open(env, Oracle::default()).await;
    run.padding = if seed % 4 == 3 { 6000 } else { 0 };
    let names = ["a", "b", "c"];
    for _ in 0..4 + draw.below(14) {
        let name = names[draw.below(3) as usize];
        match draw.below(10) {
            0 => run.db.flush().await.unwrap(),
            1 | 2 if run.open.contains_key(name) => run.drop(name).await,
            3 | 4 if run.open.contains_key(name) => {
                run.drop(name).await;
                run.create(name).await;
            }
            5 => run.put("default", "d").await,
            _ if !run.open.contains_key(name) => run.create(name).await,
            _ => {}
        }
        for name in names {
            if run.open.contains_key(name) && draw.below(2) == 0 {
                for _ in 0..draw.below(6) {
                    let key = format!("key{}", draw.below(8));
                    match draw.below(5) {
                        0 => run.delete(name, &key).await,
                        _ => run.put(name, &key).await,
                    }
                }
            }
        }
    }
    match seed % 3 {
        0 => run.db.close().await.unwrap(),
        // The newest edit makes a keyspace, and rows follow.
        1 => {
            run.db.wait_idle().await.unwrap();
            if run.open.contains_key("a") {
                run.drop("a").await;
            }
            run.create("a").await;
            run.put("a", "key1").await;
        }
        _ => {}
    }
    run.oracle
}

/// The rows, and the names of the keyspaces.
async fn contents(env: Arc<dyn Env>, dir: &str) -> Result<(Contents, BTreeSet<String>), holdfast::Error> {
    let db = Db::open_in(env, dir, options()).await?;
    let mut contents = Contents::new();
    let mut names = BTreeSet::new();
    for info in db.keyspaces().unwrap() {
        let space = db.keyspace(&info.name).unwrap();
        for (key, value) in space.scan(Scan::all()).await.unwrap().collect().await.unwrap() {
            contents.insert((info.name.clone(), key), value);
        }
        names.insert(info.name);
    }
    db.close().await.unwrap();
    Ok((contents, names))
}

fn judge(case: &str, oracle: &Oracle, report: &RepairReport, found: &Contents) {
    let marked = |(name, key): &Key| {
        report.uncertain.iter().any(|range| range.keyspace == *name && range.keys.contains(key))
    };
    for (key, value) in found {
        let had = oracle.had.get(&key.1).is_some_and(|values| values.contains(value));
        assert!(had, "{case}: {key:?} never had this value\n{report:#?}");
        if oracle.now.get(key) != Some(value) {
            assert!(marked(key), "{case}: {key:?} came back, or is old, and nothing says so\n{report:#?}");
        }
    }
    let made: BTreeSet<String> = report.keyspaces.iter().map(|keyspace| keyspace.name.clone()).collect();
    for (key, value) in &oracle.now {
        let anywhere = found.iter().any(|(at, found)| at.1 == key.1 && found == value);
        let is_lost = || {
            report.lost.iter().any(|extent| {
                extent.keyspace.is_none() && extent.keys.as_ref().is_some_and(|keys| keys.contains(&key.1))
            })
        };
        let is_told = marked(key) || !made.contains(&key.0) && (anywhere || is_lost());
        assert!(
            found.get(key) == Some(value) || is_told,
            "{case}: {key:?} is missing, and nothing says so\n{report:#?}"
        );
    }
    if report.is_complete() {
        assert_eq!(found, &oracle.now, "{case}: it is said to be complete\n{report:#?}");
        assert_eq!(made, oracle.names, "{case}: it is said to be complete\n{report:#?}");
    }
}

/// The manifest's name, and how many of its sectors are written.
fn manifest(disk: &SimDisk) -> (String, usize) {
    let names = disk.list("/db").into_iter().map(|entry| entry.name);
    let is_manifest =
        |name: &String| file_name::parse(name).is_some_and(|(kind, _)| kind == FileKind::Manifest);
    let name = names.filter(is_manifest).max().unwrap();
    let bytes = disk.read_file(Path::new("/db").join(&name));
    (name, bytes.iter().rposition(|byte| *byte != 0).unwrap() / SECTOR + 1)
}

/// What is done to the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Bit(usize),
    Zeros { from: usize, sectors: usize },
}

fn harm(disk: &SimDisk, name: &str, harm: Harm, draw: &mut Draw) {
    let path = Path::new("/db").join(name);
    match harm {
        Harm::Bit(sector) => {
            let byte = sector * SECTOR + draw.below(100) as usize;
            disk.flip_bit(&path, byte as u64, draw.below(8) as u32);
        }
        Harm::Zeros { from, sectors } => {
            let mut bytes = disk.read_file(&path);
            bytes[from * SECTOR..(from + sectors) * SECTOR].fill(0);
            disk.write_file(&path, &bytes);
        }
    }
}

/// One database; every sector of its manifest is harmed in turn, and every two that stand together.
async fn case(world: World, seed: u64, counts: [u64; 5]) -> [u64; 5] {
    let [mut in_force, mut newest, mut lost, mut made_up, mut undone] = counts;
    let mut draw = Draw(seed ^ 99);
    let process = world.process("db");
    let oracle = process.run(build(process.env(), seed)).await.unwrap();
    process.kill();
    let disk = process.disk();
    let image = disk.snapshot();
    let (name, sectors) = manifest(&disk);
    for sector in HEADER_REGION / SECTOR..sectors {
        let pair = Harm::Zeros { from: sector, sectors: 2 };
        for what in [Harm::Bit(sector), Harm::Zeros { from: sector, sectors: 1 }, pair] {
            process.kill();
            disk.restore(&image);
            harm(&disk, &name, what, &mut draw);
            let harmed = disk.snapshot();
            process.restart();
            let opened = process.run(contents(process.env(), "/db")).await.unwrap();
            process.kill();
            disk.restore(&harmed);
            process.restart();
            let (report, found) = process.run(repaired(process.env())).await.unwrap();
            let case = format!("seed {seed}, {what:?} of {sectors} sectors");
            match opened {
                // The newest edit is gone with all that vouched for it, and nothing was written that needs it.
                Ok((opened, names)) if opened != oracle.now || names != oracle.names => {
                    let is_end = matches!(what, Harm::Zeros { from, sectors: n } if from + n >= sectors);
                    assert!(is_end, "{case}: an opening takes this for whole");
                    if report.is_complete() {
                        assert_eq!(found, opened, "{case}\n{report:#?}");
                    }
                    undone += 1;
                }
                _ => judge(&case, &oracle, &report, &found),
            }
            match report.structure {
                Structure::InForce => in_force += 1,
                Structure::Newest => newest += 1,
                Structure::Lost => lost += 1,
            }
            made_up += u64::from(report.keyspaces.iter().any(|keyspace| keyspace.name_is_made_up));
        }
    }
    [in_force, newest, lost, made_up, undone]
}

#[test]
fn what_a_lost_edit_said_of_keyspaces_is_never_taken_for_nothing() {
    let mut counts = [0; 5];
    let seeds = std::env::var("HOLDFAST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let only = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        counts = holdfast_sim::run(seed, move |world| case(world, seed, counts)).result;
    }
    let [in_force, newest, lost, made_up, undone] = counts;
    println!("in force {in_force}, newest {newest}, lost {lost}; made up {made_up}, undone {undone}");
    assert!(only.is_some() || counts.iter().all(|count| *count > 0), "every way was taken: {counts:?}");
}

/// Found by chance: the drop is lost with its seal, and the only table that went with it holds another key than the log.
#[test]
fn seed_437_of_a_lost_drop() {
    holdfast_sim::run(437, |world| case(world, 437, [0; 5]));
}

/// What a repair says, and makes.
async fn repaired(env: Arc<dyn Env>) -> (RepairReport, Contents) {
    let report = repair(env.clone(), "/db", "/new", RepairOptions::default(), &mut |_| {}).await.unwrap();
    let (found, _) = contents(env, "/new").await.unwrap();
    (report, found)
}

/// The edit that made a keyspace is lost, with its seal: its rows are kept under a made-up name.
#[test]
fn rows_of_a_keyspace_whose_making_is_lost_are_kept() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let disk = process.disk();
        let harmed = disk.clone();
        let (oracle, name, zeros) = process
            .run(async move {
                let mut run = Run::open(env, Oracle::default()).await;
                run.put("default", "d").await;
                run.db.wait_idle().await.unwrap();
                let before = manifest(&harmed).1;
                run.create("orders").await;
                for n in 0..20 {
                    run.put("orders", &format!("order{n}")).await;
                }
                // The edit, its seal, and whatever came after.
                let (name, after) = manifest(&harmed);
                (run.oracle.clone(), name, Harm::Zeros { from: before, sectors: after - before })
            })
            .await
            .unwrap();
        process.kill();
        harm(&disk, &name, zeros, &mut Draw(0));
        process.restart();
        let (report, found) = process.run(repaired(process.env())).await.unwrap();
        judge("the edit and its seal", &oracle, &report, &found);
        assert_eq!(found.len(), 21, "{report:#?}");
        assert!(found.keys().filter(|(name, _)| name == "keyspace-1").count() == 20, "{found:?}");
        let blames = report.lost.iter().any(|extent| extent.file.ends_with(&name));
        assert!(blames && !report.is_complete(), "{report:#?}");
    });
}

/// Rows that the log still has come back, and the missing table is all that shows it: of a keyspace without a table
/// nothing shows it.
#[test]
fn a_keyspace_whose_drop_is_lost_without_a_trace_is_uncertain() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let disk = process.disk();
        let harmed = disk.clone();
        let (oracle, name, zeros) = process
            .run(async move {
                let mut run = Run::open(env, Oracle::default()).await;
                for name in ["a", "b", "c"] {
                    run.create(name).await;
                }
                run.put("c", "key5").await;
                run.db.flush().await.unwrap();
                for name in ["a", "b", "c"] {
                    run.put(name, "key0").await;
                }
                run.db.wait_idle().await.unwrap();
                let before = manifest(&harmed).1;
                run.drop("b").await;
                run.drop("c").await;
                run.db.wait_idle().await.unwrap();
                // Whoever removes the table waits for nobody.
                while harmed.list("/db").iter().any(|entry| entry.name.ends_with(".table")) {
                    run.put("a", "key1").await;
                }
                let (name, after) = manifest(&harmed);
                (run.oracle.clone(), name, Harm::Zeros { from: before, sectors: after - before })
            })
            .await
            .unwrap();
        process.kill();
        harm(&disk, &name, zeros, &mut Draw(0));
        process.restart();
        let (report, found) = process.run(repaired(process.env())).await.unwrap();
        judge("both drops", &oracle, &report, &found);
        let blames = report.lost.iter().any(|extent| extent.file.ends_with(&name));
        assert!(blames && !report.is_complete(), "{report:#?}");
    });
}

/// A name belongs to the keyspace that had it last, whatever older manifests and edits say.
#[test]
fn a_name_that_was_used_twice_goes_to_the_newer_keyspace() {
    for (is_harmed, structure) in [(false, Structure::Newest), (true, Structure::Lost)] {
        let seen = holdfast_sim::run(1, move |world| async move {
            let process = world.process("db");
            let env = process.env();
            process
                .run(async move {
                    let mut run = Run::open(env, Oracle::default()).await;
                    run.create("a").await;
                    run.put("a", "first").await;
                    run.db.close().await.unwrap();
                })
                .await
                .unwrap();
            let disk = process.disk();
            let (old_name, _) = manifest(&disk);
            let old = disk.read_file(Path::new("/db").join(&old_name));
            let env = process.env();
            process
                .run(async move {
                    let mut run = Run::open(env, Oracle::default()).await;
                    run.drop("a").await;
                    run.create("a").await;
                    run.put("a", "second").await;
                    run.db.flush().await.unwrap();
                    run.put("a", "third").await;
                })
                .await
                .unwrap();
            process.kill();
            let (name, sectors) = manifest(&disk);
            assert_ne!(name, old_name);
            if is_harmed {
                // The flush: its table is there, and nothing that can be read names it.
                let last = Harm::Zeros { from: sectors - 2, sectors: 1 };
                harm(&disk, &name, last, &mut Draw(0));
            }
            disk.write_file(Path::new("/db").join(&old_name), &old);
            disk.remove_file("/db/CURRENT");
            process.restart();
            process.run(repaired(process.env())).await.unwrap()
        });
        let (report, found) = seen.result;
        assert_eq!(report.structure, structure, "{report:#?}");
        let rows: Vec<_> = found.keys().filter(|(name, _)| name == "a").map(|(_, key)| &key[..]).collect();
        assert_eq!(rows, [b"second".as_slice(), b"third"], "{found:?}\n{report:#?}");
        if structure == Structure::Newest {
            assert!(report.keyspaces.iter().all(|keyspace| !keyspace.name_is_made_up), "{report:#?}");
        }
    }
}
