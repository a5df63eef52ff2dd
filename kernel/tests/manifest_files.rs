//! The manifest in files: what was acknowledged is loaded, whatever fails and whenever the power goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::draw::Draw;
use crate::support::memory::{Fail, Memory, run};
use holdfast::env::{Env, IoErrorKind, SharedDir};
use holdfast::manifest::{
    Change, Edit, FileNumbers, Found, Loaded, ManifestWriter, Version, begin_creation, load,
};
use holdfast::record::SECTOR;
use holdfast::types::{FileId, FileNo, KeyspaceId, Seq, file_name};
use holdfast::{Error, KeyspaceOptions};

const DIR: &str = "db";
const DATABASE: u64 = 42;

fn create(world: &Arc<Memory>) -> ManifestWriter {
    let env: Arc<dyn Env> = world.clone();
    run(begin_creation(&*env, Path::new(DIR), DATABASE)).unwrap();
    let numbers = Arc::new(FileNumbers::new(FileNo::new(1)));
    let mut writer =
        run(ManifestWriter::create(env, SharedDir::new(DIR), DATABASE, numbers, Version::default())).unwrap();
    run(writer.install_current()).unwrap();
    writer
}

fn loaded(world: &Arc<Memory>) -> Result<Loaded, Error> {
    match run(load(&**world, Path::new(DIR)))? {
        Found::Database(loaded) => Ok(loaded),
        other => panic!("{other:?}"),
    }
}

/// Edit number `n`: mostly small, sometimes of many sectors, and no two versions alike.
fn edit(n: u64, draw: &mut Draw) -> Edit {
    let mut changes = vec![Change::SeqReserved { until: Seq::new(n) }];
    for at in 0..if draw.below(8) == 0 { draw.below(300) } else { draw.below(3) } {
        changes
            .push(Change::AddLogSegment { no: FileNo::new(1_000_000 + n * 1000 + at), id: FileId::new(at) });
    }
    if draw.below(6) == 0 {
        let id = KeyspaceId::new(n as u32);
        let name = "x".repeat(draw.below(70_000) as usize) + &n.to_string();
        changes.push(Change::CreateKeyspace { id, name, options: KeyspaceOptions::default() });
        changes.push(Change::DropKeyspace { id });
    }
    changes.into()
}

fn manifest_path(world: &Arc<Memory>) -> PathBuf {
    let names = world.names();
    let mut manifests = names.iter().filter(|name| name.ends_with(".manifest"));
    let path = Path::new(DIR).join(manifests.next().unwrap());
    assert_eq!(manifests.next(), None, "one manifest at a time: {names:?}");
    path
}

quickcheck::quickcheck! {
    fn a_power_loss_at_any_call_keeps_each_acknowledged_edit(seed: u64) -> bool {
        let mut draw = Draw(seed);
        let world = Memory::new(512);
        let mut writer = create(&world);
        for n in 1..2 + draw.below(60) {
            run(writer.append(edit(n, &mut draw))).unwrap();
            if draw.below(10) == 0 {
                assert_eq!(loaded(&world.power_loss(&mut draw)).unwrap().version, **writer.version());
            }
        }
        let last = writer.version().clone();
        assert_eq!(loaded(&world.power_loss(&mut draw)).unwrap().version, *last);
        // An edit that dies midway is there whole or not at all, and hides nothing before it.
        let operation = ["write", "sync"][draw.below(2) as usize];
        let through = draw.below(6) as usize * SECTOR;
        world.fail(Some(Fail { operation, suffix: ".manifest", skip: 0, times: 1, kind: IoErrorKind::Medium, through }));
        let next = edit(100, &mut draw);
        let failed = run(writer.append(next.clone()));
        world.fail(None);
        if matches!(failed, Ok(_) | Err(Error::Io(_))) {
            // The fault hit the making of a new file, or the seal: the edit is in the file in use, or did not happen.
            return loaded(&world.power_loss(&mut draw)).unwrap().version == **writer.version();
        }
        assert!(matches!(failed, Err(Error::Stopped(_) | Error::Io(_))), "{failed:?}");
        assert!(matches!(run(writer.append(edit(101, &mut draw))), Err(Error::Stopped(_))));
        assert_eq!(*writer.version(), last, "memory holds what is durable");
        let found = loaded(&world.power_loss(&mut draw)).unwrap();
        let seq = found.version.seq_reserved;
        (found.version == *last && seq < Seq::new(100)) || seq == Seq::new(100)
    }

    fn a_full_disk_refuses_edits_and_lets_them_pass_later(seed: u64) -> bool {
        let mut draw = Draw(seed);
        let world = Memory::new(512);
        let mut writer = create(&world);
        let mut refused = 0;
        for n in 1..30 {
            if draw.below(3) == 0 {
                let (operation, suffix) = [
                    ("write", ".manifest"), ("sync_data", ".manifest"), ("zero", ".manifest"),
                    ("write", "CURRENT.tmp"), ("open", ".manifest"), ("rename", "CURRENT"),
                ][draw.below(6) as usize];
                let through = draw.below(4) as usize * SECTOR;
                let times = 1 + draw.below(3);
                world.fail(Some(Fail { operation, suffix, skip: draw.below(2), times, kind: IoErrorKind::Full, through }));
            }
            let before = writer.version().clone();
            match run(writer.append(edit(n, &mut draw))) {
                Ok(version) => {
                    assert_eq!(version.seq_reserved, Seq::new(n));
                    assert!(writer.is_settled());
                }
                Err(Error::DiskFull(_)) => {
                    // Moving to a new file takes a number; nothing else may have changed.
                    let next_file_no = writer.version().next_file_no;
                    assert_eq!(**writer.version(), Version { next_file_no, ..Version::clone(&before) });
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
            if draw.below(3) > 0 {
                continue;
            }
            let found = loaded(&world.power_loss(&mut draw)).unwrap();
            if writer.is_settled() {
                assert_eq!(found.version, **writer.version());
            } else {
                assert!(found.version.seq_reserved >= writer.version().seq_reserved);
            }
        }
        world.fail(None);
        run(writer.settle()).unwrap();
        run(writer.append(edit(60, &mut draw))).unwrap();
        assert!(refused < 30);
        loaded(&world.power_loss(&mut draw)).unwrap().version == **writer.version()
    }

    fn any_harm_is_refused_naming_the_file(seed: u64) -> bool {
        let mut draw = Draw(seed);
        let world = Memory::new(512);
        let mut writer = create(&world);
        for n in 1..2 + draw.below(20) {
            run(writer.append(edit(n, &mut draw))).unwrap();
        }
        let manifest = manifest_path(&world);
        let current = Path::new(DIR).join(file_name::CURRENT);
        let file = if draw.below(4) == 0 { &current } else { &manifest };
        match draw.below(4) {
            0 => world.remove(file),
            1 => world.harm(file, |bytes| bytes.truncate(draw.below(bytes.len() as u64) as usize)),
            _ => world.harm(file, |bytes| {
                let near = if draw.below(2) == 0 { bytes.len() as u64 } else { 20_000.min(bytes.len() as u64) };
                bytes[draw.below(near) as usize] ^= 1 << draw.below(8);
            }),
        }
        match loaded(&world) {
            Err(Error::Corrupt { file: named, .. }) => named == *file,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_manifest_that_grew_is_replaced_and_the_old_one_removed() {
    let world = Memory::new(512);
    let mut writer = create(&world);
    let mut draw = Draw(3);
    let first = writer.file();
    for n in 1..4000 {
        run(writer.append(vec![Change::SeqReserved { until: Seq::new(n) }].into())).unwrap();
        if n % 500 == 0 {
            assert_eq!(loaded(&world.power_loss(&mut draw)).unwrap().version, **writer.version());
        }
    }
    assert_ne!(writer.file(), first);
    let path = file_name::path(Path::new(DIR), file_name::FileKind::Manifest, writer.file().0);
    assert_eq!(manifest_path(&world), path);
    assert!(writer.version().next_file_no > writer.file().0);
}

#[test]
fn a_creation_is_nothing_then_unfinished_then_a_database() {
    let world = Memory::new(512);
    let found = |world: &Arc<Memory>| run(load(&**world, Path::new(DIR)));
    assert!(matches!(found(&world), Ok(Found::Nothing)));
    run(begin_creation(&*world, Path::new(DIR), 7)).unwrap();
    assert!(matches!(found(&world), Ok(Found::Unfinished { database: 7 })));
    let env: Arc<dyn Env> = world.clone();
    let numbers = Arc::new(FileNumbers::new(FileNo::new(5)));
    let mut writer =
        run(ManifestWriter::create(env, SharedDir::new(DIR), 7, numbers, Version::default())).unwrap();
    assert!(matches!(found(&world), Ok(Found::Unfinished { database: 7 })));
    run(writer.install_current()).unwrap();
    assert_eq!(loaded(&world).unwrap().no, FileNo::new(5));
    world.remove(&Path::new(DIR).join(file_name::CURRENT));
    let lost = found(&world).unwrap_err();
    assert!(lost.to_string().contains("0000000005.manifest"), "{lost}");
}

#[test]
fn a_manifest_of_another_time_is_refused() {
    let world = Memory::new(512);
    let mut writer = create(&world);
    let old_path = manifest_path(&world);
    let old = world.bytes(&old_path);
    let numbers = Arc::new(FileNumbers::new(FileNo::new(9)));
    let version = Version::clone(writer.version());
    let mut next =
        run(ManifestWriter::create(world.clone(), SharedDir::new(DIR), DATABASE, numbers, version)).unwrap();
    run(next.install_current()).unwrap();
    let path = file_name::path(Path::new(DIR), file_name::FileKind::Manifest, next.file().0);
    world.harm(&path, |bytes| *bytes = old);
    assert!(matches!(loaded(&world), Err(Error::Corrupt { file, .. }) if file == path));
    assert!(matches!(
        run(writer.append(vec![Change::DropKeyspace { id: KeyspaceId::new(1) }].into())),
        Err(Error::Invalid(_))
    ));
}
