//! Repair where the manifest lost its newest edits without a trace, and the log has gone on since: segments that those
//! edits let go are in use again, or others stand there without a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::settings;
use holdfast::env::Env;
use holdfast::record::SECTOR;
use holdfast::{Db, Error, RepairOptions, RepairReport, Result, Scan, repair};
use holdfast_sim::{FaultClass, Process, SimDisk, Trigger};

/// By keyspace.
type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

async fn contents(db: &Db) -> Result<Contents> {
    let mut all = Contents::new();
    for info in db.keyspaces()? {
        let rows = db.keyspace(&info.name)?.scan(Scan::all()).await?.collect().await?;
        all.insert(info.name, rows.into_iter().collect());
    }
    Ok(all)
}

/// Fills and flushes keyspaces until the log has recycled its segments, and then drops one, makes one, or neither.
async fn play(env: Arc<dyn Env>, seed: u64) -> Contents {
    let mut draw = Draw(seed);
    let db = Db::open_in(env, "/db", settings::options()).await.unwrap();
    db.create_keyspace("other", settings::tiny()).await.unwrap();
    for round in 0..2 + draw.below(8) {
        for _ in 0..draw.below(60) {
            let name = if draw.below(2) == 0 { "default" } else { "other" };
            let key = format!("key{:03}", draw.below(100)).into_bytes();
            let value: Vec<u8> = (0..500 + draw.below(2500)).map(|_| draw.next() as u8).collect();
            db.keyspace(name).unwrap().put(&key, &value).await.unwrap();
        }
        if round % 2 == 0 {
            db.flush().await.unwrap();
            db.wait_idle().await.unwrap();
        }
    }
    match seed % 3 {
        0 => db.drop_keyspace(&db.keyspace("other").unwrap()).await.unwrap(),
        1 => drop(db.create_keyspace("third", settings::tiny()).await.unwrap()),
        _ => {}
    }
    if seed.is_multiple_of(2) {
        db.default_keyspace().unwrap().put("last", "value").await.unwrap();
    }
    contents(&db).await.unwrap()
}

/// Zeros the last sectors of the manifest that hold anything, and gives how many there are left.
fn zero_end_of_manifest(disk: &SimDisk, sectors: usize) -> usize {
    let names = disk.list("/db").into_iter().map(|entry| entry.name);
    let name = names.filter(|name| name.ends_with(".manifest")).max().unwrap();
    let mut bytes = disk.read_file(format!("/db/{name}"));
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / SECTOR + 1;
    let start = end.saturating_sub(sectors);
    bytes[start * SECTOR..end * SECTOR].fill(0);
    disk.write_file(format!("/db/{name}"), &bytes);
    start
}

async fn repaired(process: &Process, strict: bool) -> (RepairReport, Contents) {
    let env = process.env();
    let target = if strict { "/strict" } else { "/lenient" };
    let done = process.run(async move {
        let report = repair(env.clone(), "/db", target, RepairOptions { strict }, &mut |_| {}).await.unwrap();
        let db = Db::open_in(env, target, settings::options()).await.unwrap();
        let found = contents(&db).await.unwrap();
        db.close().await.unwrap();
        (report, found)
    });
    done.await.unwrap()
}

fn judge(case: &str, now: &Contents, report: &RepairReport, found: &Contents, strict: bool) {
    let loses_edits = report.lost.iter().any(|extent| extent.what.contains("newest edits"));
    let is_marked = |name: &String, key: &[u8]| {
        report.uncertain.iter().any(|range| range.keyspace == *name && range.keys.contains(key))
    };
    for (name, rows) in found {
        for (key, value) in rows {
            let is_newest = now.get(name).and_then(|rows| rows.get(key)) == Some(value);
            assert!(
                is_newest || !strict && is_marked(name, key),
                "{case}, strict {strict}: {name} has {key:?}, which is old or was dropped, and nothing says so\n{report:#?}"
            );
        }
    }
    for (name, rows) in now {
        let Some(found) = found.get(name) else {
            assert!(
                loses_edits,
                "{case}, strict {strict}: {name} is missing, and nothing says so\n{report:#?}"
            );
            continue;
        };
        let is_told = |key: &Vec<u8>| found.contains_key(key) || is_marked(name, key);
        assert!(rows.keys().all(is_told), "{case}, strict {strict}: rows of {name} are missing\n{report:#?}");
    }
    assert!(found == now || !report.is_complete(), "{case}, strict {strict}: said to be complete");
}

#[test]
fn whatever_edits_are_lost_a_gap_in_the_log_makes_all_uncertain() {
    let (mut gaps, mut unnamed) = (0, 0);
    for seed in 0..48 {
        let ran = holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            let now = process.run(play(process.env(), seed)).await.unwrap();
            process.kill();
            let disk = process.disk();
            let image = disk.snapshot();
            let mut refused = Vec::new();
            for sectors in (1..40).step_by(3) {
                disk.restore(&image);
                let left = zero_end_of_manifest(&disk, sectors);
                let harmed = disk.snapshot();
                process.restart();
                let env = process.env();
                let opened = process.run(async move {
                    let db = Db::open_in(env, "/db", settings::options()).await?;
                    contents(&db).await
                });
                let opened = opened.await.unwrap();
                process.kill();
                if let Err(Error::Corrupt { what, file, .. }) = opened {
                    disk.restore(&harmed);
                    process.restart();
                    let is_unreadable = [false, what.contains("does not name it")];
                    for (strict, unreadable) in [false, true].into_iter().zip(is_unreadable) {
                        if unreadable {
                            // Its header can be read once, and nothing else: it may have held anything.
                            let name = file.file_name().unwrap().to_str().unwrap();
                            disk.inject_on(FaultClass::ReadError, name, Trigger::From(3));
                        }
                        let (report, found) = repaired(&process, strict).await;
                        disk.clear_faults();
                        // Nothing can be compared by names that are made up.
                        if report.keyspaces.iter().any(|keyspace| keyspace.name_is_made_up) {
                            continue;
                        }
                        let case = format!("seed {seed}, {sectors} sectors, {what}");
                        judge(&case, &now, &report, &found, strict);
                    }
                    process.kill();
                    refused.push(what);
                }
                if left < 10 {
                    break;
                }
            }
            refused
        });
        gaps += ran.result.iter().filter(|what| what.contains("gap in the log")).count();
        unnamed += ran.result.iter().filter(|what| what.contains("does not name it")).count();
    }
    assert!(gaps > 0 && unnamed > 0, "{gaps} gaps, {unnamed} segments without a name: the scene is too tame");
}
