//! Repair of a log that lost what nothing in it vouches for: zeros, or what stood there before, up to where a segment
//! is said to end. What an opening refuses is told; what nobody harmed is whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::settings;
use holdfast::env::Env;
use holdfast::record::{HEADER_REGION, SECTOR};
use holdfast::types::Seq;
use holdfast::types::file_name::{self, FileKind};
use holdfast::wal::{SegmentHeader, SegmentState};
use holdfast::{Db, Error, Options, RepairOptions, RepairReport, Scan, repair};
use holdfast_sim::{Process, SimDisk};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;
/// Name and bytes of every log segment.
type Logs = BTreeMap<String, Vec<u8>>;
/// Harms a segment of this name, given how all of them were at times before; false if there is nothing to harm.
type HarmSegment = fn(&mut Vec<u8>, &str, &[Logs]) -> bool;

/// What a database goes through, one put after another into the one keyspace.
#[derive(Clone, Copy)]
struct Scene {
    direct: bool,
    memtable_bytes: u64,
    keys: u64,
    puts: u64,
    value_bytes: usize,
    /// After how many puts there is a flush; 0 for none.
    flush_at: u64,
    /// How long it stays open afterwards.
    rest_ns: u64,
}

const LONG_LOG: Scene = Scene {
    direct: false,
    memtable_bytes: 8 << 20,
    keys: 300,
    puts: 400,
    value_bytes: 300,
    flush_at: 0,
    rest_ns: 0,
};

impl Scene {
    fn options(&self) -> Options {
        Options {
            memory_limit_bytes: 64 << 20,
            memtable_bytes: self.memtable_bytes,
            log_bytes_max: 64 << 20,
            direct_log: self.direct,
            ..settings::options()
        }
    }

    /// What every key is in the end, and the log segments as they were on the way.
    async fn play(self, process: &Process, seed: u64) -> (Contents, Vec<Logs>) {
        let (env, disk) = (process.env(), process.disk());
        let played = process.run(async move {
            let mut draw = Draw(seed);
            let db = Db::open_in(env.clone(), "/db", self.options()).await.unwrap();
            let space = db.default_keyspace().unwrap();
            let (mut now, mut before) = (Contents::new(), Vec::new());
            for put in 0..self.puts {
                let key = format!("key{:04}", draw.below(self.keys)).into_bytes();
                let mut value = format!("{put}-").into_bytes();
                value.resize_with(self.value_bytes, || draw.next() as u8);
                space.put(&key, &value).await.unwrap();
                now.insert(key, value);
                if put + 1 == self.flush_at {
                    db.flush().await.unwrap();
                    db.wait_idle().await.unwrap();
                }
                if put % 50 == 49 {
                    before.push(logs(&disk));
                }
            }
            let later = env.now().after(self.rest_ns);
            env.sleep_until(later).await;
            (now, before)
        });
        let played = played.await.unwrap();
        process.kill();
        played
    }
}

fn logs(disk: &SimDisk) -> Logs {
    let names = disk.list("/db").into_iter().map(|entry| entry.name);
    let is_log = |name: &String| file_name::parse(name).is_some_and(|(kind, _)| kind == FileKind::Log);
    names.filter(is_log).map(|name| (name.clone(), disk.read_file(format!("/db/{name}")))).collect()
}

async fn contents(env: Arc<dyn Env>, dir: &str, options: Options) -> holdfast::Result<Contents> {
    let db = Db::open_in(env, dir, options).await?;
    let all = db.default_keyspace()?.scan(Scan::all()).await?.collect().await?;
    db.close().await?;
    Ok(all.into_iter().collect())
}

async fn repaired(process: &Process, strict: bool) -> (RepairReport, Contents) {
    let env = process.env();
    let target = if strict { "/strict" } else { "/lenient" };
    let done = process.run(async move {
        let options = RepairOptions { strict };
        let report = repair(env.clone(), "/db", target, options, &mut |_| {}).await.unwrap();
        let found = contents(env, target, LONG_LOG.options()).await.unwrap();
        (report, found)
    });
    done.await.unwrap()
}

fn judge(case: &str, now: &Contents, report: &RepairReport, found: &Contents, strict: bool) {
    let is_marked = |key: &[u8]| report.uncertain.iter().any(|range| range.keys.contains(key));
    for (key, value) in found {
        let is_newest = now.get(key) == Some(value);
        assert!(
            is_newest || !strict && is_marked(key),
            "{case}, strict {strict}: {key:?} is old\n{report:#?}"
        );
    }
    let is_told = |key: &Vec<u8>| found.contains_key(key) || is_marked(key);
    assert!(
        now.keys().all(is_told),
        "{case}, strict {strict}: a key is missing and nothing says so\n{report:#?}"
    );
    let may_hold_commits = |(first, last): (Seq, Seq)| Seq::ZERO < first && first <= last;
    assert!(
        report.lost.iter().all(|extent| extent.seqs.is_none_or(may_hold_commits)),
        "{case}: commits that are none\n{report:#?}"
    );
    assert!(
        found == now || !report.is_complete(),
        "{case}, strict {strict}: said to be complete\n{report:#?}"
    );
}

/// Harms each log segment in turn. What an opening refuses must be told; gives how often that was.
fn harm_each(scene: Scene, harm: HarmSegment) -> usize {
    let ran = holdfast_sim::run(1, move |world| async move {
        let process = world.process("db");
        let (now, before) = scene.play(&process, 1).await;
        let disk = process.disk();
        let image = disk.snapshot();
        let mut refused = 0;
        for (name, mut bytes) in logs(&disk) {
            disk.restore(&image);
            if !harm(&mut bytes, &name, &before) {
                continue;
            }
            disk.write_file(format!("/db/{name}"), &bytes);
            let harmed = disk.snapshot();
            process.restart();
            let opened = process.run(contents(process.env(), "/db", scene.options())).await.unwrap();
            process.kill();
            disk.restore(&harmed);
            process.restart();
            for strict in [false, true] {
                let (report, found) = repaired(&process, strict).await;
                match &opened {
                    Ok(opened) if *opened != now => assert_eq!(&found, opened, "{name}: nothing can tell"),
                    _ => judge(&name, &now, &report, &found, strict),
                }
                assert_eq!(report.is_complete(), opened.is_ok(), "{name}: {opened:?}\n{report:#?}");
            }
            refused += usize::from(opened.is_err());
            process.kill();
        }
        refused
    });
    ran.result
}

/// What a segment's header says.
fn header(bytes: &[u8]) -> SegmentHeader {
    SegmentHeader::decode(&bytes[..HEADER_REGION]).unwrap()
}

fn base(bytes: &[u8]) -> u64 {
    header(bytes).sector_use().map_or(0, |(of, _)| of.base.get())
}

#[test]
fn a_zeroed_last_group_before_a_named_end_is_told_as_lost() {
    for direct in [false, true] {
        let refused = harm_each(Scene { direct, ..LONG_LOG }, |bytes, _, _| {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let is_first_of_group = |at: &usize| bytes[*at + 18] & 1 != 0;
            let start = (HEADER_REGION..last + 1).step_by(SECTOR).rev().find(is_first_of_group);
            start.is_some_and(|start| {
                bytes[start..].fill(0);
                true
            })
        });
        assert!(refused >= 3, "{refused}");
    }
}

#[test]
fn a_segment_that_is_zeros_behind_its_header_is_told_as_lost() {
    // The end of the last segment is open: only the position that the manifest needs vouches for what was in it.
    let flushed = Scene { puts: 40, flush_at: 20, ..LONG_LOG };
    for (scene, at_least) in [(LONG_LOG, 3), (flushed, 1)] {
        let refused = harm_each(scene, |bytes, _, _| {
            bytes[HEADER_REGION..].fill(0);
            true
        });
        assert!(refused >= at_least, "{refused}");
    }
}

/// Whoever recycles a file leaves groups in it that are whole, of an earlier use.
#[test]
fn a_segment_with_the_groups_of_an_earlier_use_is_told_as_lost() {
    let scene = Scene { memtable_bytes: 64 << 10, puts: 1500, ..LONG_LOG };
    let refused = harm_each(scene, |bytes, name, before| {
        let earlier = before.iter().filter_map(|logs| logs.get(name)).rfind(|old| base(old) < base(bytes));
        earlier.is_some_and(|earlier| {
            bytes[HEADER_REGION..].copy_from_slice(&earlier[HEADER_REGION..]);
            true
        })
    });
    assert!(refused >= 1, "{refused}");
}

/// Versions before the gap may be old, through the last commit before what follows it.
#[test]
fn a_segment_that_says_it_was_never_used_leaves_a_gap_where_it_was() {
    let refused = harm_each(LONG_LOG, |bytes, _, _| {
        let unused = SegmentHeader { state: SegmentState::Unused, ..header(bytes) };
        bytes.fill(0);
        bytes[..SECTOR].copy_from_slice(&unused.encode());
        true
    });
    assert!(refused >= 3, "{refused}");
}

/// The log begins behind all that a segment held, which is not in the directory any more or waits to be used again.
#[test]
fn a_segment_that_was_let_go_is_no_loss() {
    for seed in 0..40u64 {
        let scene = Scene {
            memtable_bytes: 200 << 10,
            keys: 1000,
            puts: 12 + seed,
            value_bytes: 9_000 + 97 * seed as usize,
            rest_ns: seed % 5 * 3_000_000,
            ..LONG_LOG
        };
        holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            let (now, _) = scene.play(&process, seed).await;
            process.restart();
            for strict in [false, true] {
                let (report, found) = repaired(&process, strict).await;
                assert!(report.is_complete(), "seed {seed}: nothing was harmed\n{report:#?}");
                assert!(found == now, "seed {seed}: nothing was harmed, but rows differ");
            }
        });
    }
}

/// The manifest names a segment before anything is written to it, so what it does not name shows that its end is lost.
/// Zeros the last sectors of the manifest that hold anything.
fn zero_end_of_manifest(disk: &SimDisk, sectors: usize) {
    let names = disk.list("/db").into_iter().map(|entry| entry.name);
    let name = names.filter(|name| name.ends_with(".manifest")).max().unwrap();
    let mut bytes = disk.read_file(format!("/db/{name}"));
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / SECTOR * SECTOR + SECTOR;
    bytes[end - sectors * SECTOR..end].fill(0);
    disk.write_file(format!("/db/{name}"), &bytes);
}

#[test]
fn an_opening_refuses_what_a_segment_without_a_name_belies() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let (now, _) = LONG_LOG.play(&process, 1).await;
        let disk = process.disk();
        let image = disk.snapshot();
        let mut named = 0;
        for sectors in 1..8 {
            for read_only in [true, false] {
                disk.restore(&image);
                zero_end_of_manifest(&disk, sectors);
                process.restart();
                let env = process.env();
                let opened = process.run(async move {
                    let report = holdfast::verify(env.clone(), "/db", |_| ()).await?;
                    let rows = if read_only {
                        let view = Db::open_read_only_in(env, "/db", LONG_LOG.options()).await?;
                        view.keyspace("default")?.scan(Scan::all()).await?.collect().await?
                    } else {
                        let db = Db::open_in(env, "/db", LONG_LOG.options()).await?;
                        db.default_keyspace()?.scan(Scan::all()).await?.collect().await?
                    };
                    assert!(
                        report.is_good(),
                        "an opening goes on where verification finds {:?}",
                        report.problems
                    );
                    Ok::<_, Error>(rows)
                });
                match opened.await.unwrap() {
                    Ok(rows) => {
                        let rows: Contents =
                            rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                        assert_eq!(rows, now, "{sectors} sectors");
                    }
                    Err(Error::Corrupt { what, .. }) => named += u64::from(what.contains("does not name it")),
                    Err(other) => panic!("{sectors} sectors: {other}"),
                }
                process.kill();
            }
        }
        assert!(named > 0, "a segment in use is named in one of these sectors");
    });
}

#[test]
fn a_segment_that_no_edit_names_any_more_is_salvaged() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let (now, _) = LONG_LOG.play(&process, 1).await;
        let disk = process.disk();
        let image = disk.snapshot();
        let mut told = 0;
        for sectors in 1..8 {
            disk.restore(&image);
            zero_end_of_manifest(&disk, sectors);
            process.restart();
            for strict in [false, true] {
                let (report, found) = repaired(&process, strict).await;
                judge(&format!("{sectors} sectors"), &now, &report, &found, strict);
                assert!(strict || found == now, "{sectors} sectors: rows are missing\n{report:#?}");
                told += usize::from(!report.is_complete());
            }
            process.kill();
        }
        assert!(told > 0, "a segment in use is named in one of these sectors");
    });
}
