//! Over what a closed, killed or damaged database left, with nobody writing.

use std::path::Path;
use std::sync::atomic::Ordering;

use holdfast::{Db, Durability, Error, Options, ReadOnlyDb, Result, Seq};

use super::{DIR, check, commit, create, existing, leave_thirty, look};
use crate::support::settings::{forty_tables, options};
use crate::support::unwritable::Unwritable;

#[test]
fn closed_or_killed_it_shows_everything_and_writes_nothing() {
    for close in [true, false] {
        holdfast_sim::run(21, move |world| async move {
            let process = world.process("db");
            let env = process.env();
            let filled = process.run(async move {
                let db = create(env).await?;
                for n in 1..=250 {
                    commit(&db, n, Durability::Sync).await?;
                }
                if close { db.close().await } else { Ok(()) }
            });
            filled.await.unwrap().unwrap();
            process.restart();
            let before = process.disk().snapshot().hash();
            let env = process.env();
            let looked = process.run(async move {
                let (env, refused) = Unwritable::over(env);
                let view = Db::open_read_only_in(env, DIR, existing()).await?;
                assert_eq!(check(&view).await?, 250);
                assert_eq!(refused.load(Ordering::Relaxed), 0, "nothing was tried that writes");
                assert_eq!(view.refresh().await?, Seq::new(250));
                let names: Vec<String> = view.keyspaces().into_iter().map(|keyspace| keyspace.name).collect();
                assert_eq!(names, ["default", "left", "right"]);
                assert_eq!(view.metrics().number("holdfast_last_sequence"), 250);
                assert_eq!(view.default_keyspace()?.get("none").await?, None);
                assert!(matches!(view.keyspace("no"), Err(Error::Invalid(_))));
                check(&view).await
            });
            assert_eq!(looked.await.unwrap().unwrap(), 250);
            assert_eq!(process.disk().snapshot().hash(), before, "not a byte was written");
            let demanding = look(&process, Options { at_least: 251, ..existing() }).await;
            assert!(matches!(demanding.map(drop), Err(Error::Invalid(what)) if what.contains("at_least")));
        });
    }
}

#[test]
fn rot_at_the_tail_is_corruption_and_a_torn_group_is_not() {
    holdfast_sim::run(25, |world| async move {
        let process = world.process("db");
        leave_thirty(&process).await;
        let disk = process.disk();
        let logs: Vec<String> =
            disk.list(DIR).into_iter().map(|e| e.name).filter(|n| n.ends_with(".log")).collect();
        // The last sector that is not zeros, in the segment in use.
        let (path, at) = logs
            .iter()
            .map(|name| format!("{DIR}/{name}"))
            .filter_map(|path| {
                let bytes = disk.read_file(&path);
                let last = bytes.chunks(512).rposition(|sector| sector.iter().any(|byte| *byte != 0))?;
                (last >= 8).then_some((path, last as u64 * 512))
            })
            .next_back()
            .unwrap();
        let whole = disk.read_file(&path);
        let sector = &whole[at as usize..at as usize + 512];
        disk.flip_bit(&path, at + 100, 1);
        match look(&process, existing()).await.map(drop) {
            Err(Error::Corrupt { file, offset, .. }) => {
                assert_eq!((file.as_path(), offset), (Path::new(&path), at));
            }
            other => panic!("a rotten sector must be named, not taken for unwritten: {other:?}"),
        }
        // The newest unsealed group wholly gone: what one disk cannot know.
        disk.corrupt(&path, at, 512, |bytes| bytes.fill(0));
        let view = look(&process, existing()).await.unwrap();
        assert!(view.last_seq() >= Seq::new(29), "{}", view.last_seq());
        drop(view);
        disk.corrupt(&path, at, 512, |bytes| bytes.copy_from_slice(sector));
        let view = look(&process, existing()).await.unwrap();
        assert_eq!(view.last_seq(), Seq::new(30));
    });
}

/// A sector that is half written becomes whole within the time that any write takes; the looks meanwhile say the same.
#[test]
fn what_heals_within_the_time_of_a_write_is_no_damage() {
    holdfast_sim::run(26, |world| async move {
        let process = world.process("db");
        leave_thirty(&process).await;
        let disk = process.disk();
        for (name, at) in [(".manifest", 4096 + 100), (".log", 4096 + 100), ("CURRENT", 20)] {
            let entries = disk.list(DIR).into_iter().map(|entry| format!("{DIR}/{}", entry.name));
            let path =
                entries.filter(|path| path.ends_with(name)).find(|path| disk.read_file(path).len() > at);
            let path = path.unwrap();
            disk.flip_bit(&path, at as u64, 1);
            let env = process.env();
            let looking =
                process.spawn("look", async move { Db::open_read_only_in(env, DIR, existing()).await });
            world.sleep(80_000_000).await;
            disk.flip_bit(&path, at as u64, 1);
            let view = looking.await.unwrap().unwrap_or_else(|error| panic!("{path} healed: {error}"));
            assert_eq!(view.last_seq(), Seq::new(30), "{path}");
            drop(view);
            // What does not heal is named.
            disk.flip_bit(&path, at as u64, 1);
            let named = look(&process, existing()).await.map(drop);
            assert!(
                matches!(&named, Err(Error::Corrupt { file, .. }) if *file == Path::new(&path)),
                "{named:?}"
            );
            disk.flip_bit(&path, at as u64, 1);
        }
    });
}

#[test]
fn a_missing_table_is_noticed_whether_it_would_be_opened_or_not() {
    holdfast_sim::run(30, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let made = process.run(async move {
            let db = forty_tables(env, options()).await?;
            db.close().await
        });
        made.await.unwrap().unwrap();
        let disk = process.disk();
        let names = disk.list(DIR).into_iter().map(|entry| entry.name);
        let tables: Vec<String> =
            names.filter(|name| name.ends_with(".table")).map(|name| format!("{DIR}/{name}")).collect();
        assert_eq!(tables.len(), 40);
        for path in tables {
            let bytes = disk.read_file(&path);
            disk.remove_file(&path);
            for limit in [16, 512] {
                let looked = look(&process, Options { open_files_max: limit, ..existing() }).await.map(drop);
                assert!(
                    matches!(&looked, Err(Error::Corrupt { file, .. }) if *file == Path::new(&path)),
                    "{path} is missing, and {limit} may be open: {looked:?}"
                );
            }
            disk.write_file(&path, &bytes);
        }
        look(&process, existing()).await.unwrap();
    });
}

#[test]
fn a_log_that_needs_too_much_memory_is_refused_by_name() {
    holdfast_sim::run(27, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let filled = process.run(async move {
            let large = Options { memtable_bytes: 32 << 20, ..Options::default() };
            let db = Db::open_in(env, DIR, large).await?;
            let keyspace = db.default_keyspace()?;
            for n in 0..48u64 {
                keyspace.put(n.to_be_bytes(), vec![n as u8; 128 << 10]).await?;
            }
            Ok::<_, Error>(())
        });
        filled.await.unwrap().unwrap();
        process.restart();
        let small = Options { memory_limit_bytes: 8 << 20, memtable_bytes: 1 << 20, ..existing() };
        let refused = look(&process, small).await.map(drop);
        assert!(
            matches!(&refused, Err(Error::Invalid(what)) if what.contains("memory_limit_bytes")),
            "{refused:?}"
        );
        let view = look(&process, Options { memory_limit_bytes: 32 << 20, ..existing() }).await.unwrap();
        assert_eq!(view.last_seq(), Seq::new(48));
    });
}

#[test]
fn what_is_no_database_is_not_made_one() {
    holdfast_sim::run(29, |world| async move {
        let process = world.process("db");
        let missing = |outcome: Result<ReadOnlyDb>| matches!(outcome, Err(Error::NotFound { .. }));
        assert!(missing(look(&process, options()).await));
        process.disk().create_dir_all(DIR);
        assert!(missing(look(&process, options()).await));
        process.disk().write_file("/db/notes.txt", b"mine");
        assert!(missing(look(&process, options()).await));
        assert_eq!(process.disk().list(DIR).len(), 1);
        let invalid = Options { memtable_bytes: 1, ..options() };
        assert!(matches!(look(&process, invalid).await.map(drop), Err(Error::Invalid(_))));
    });
}

#[test]
fn a_keyspace_of_another_look_is_refused_by_name() {
    holdfast_sim::run(31, |world| async move {
        let process = world.process("db");
        let env = process.env();
        process.run(async move { create(env).await?.close().await }).await.unwrap().unwrap();
        let (one, other) =
            (look(&process, existing()).await.unwrap(), look(&process, existing()).await.unwrap());
        let left = other.keyspace("left").unwrap();
        let refused = process.run(async move { one.snapshot().get(&left, "newest").await }).await.unwrap();
        assert!(matches!(refused, Err(Error::Invalid(what)) if what.contains("\"left\"")));
    });
}
