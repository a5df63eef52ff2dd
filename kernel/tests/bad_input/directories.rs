//! Directories that are no database, from a newer format, locked, older than demanded, or without a file.

use std::path::Path;

use holdfast::codec::checksum;
use holdfast::{Db, Error, Options, Scan};
use holdfast_sim::{Process, World};

use super::{made, make, refused, says};
use crate::support::scene::{DIR, assert_same, image, simulate, small_options, within};

#[test]
fn a_directory_without_a_database() {
    simulate(1, |_, process| async move {
        let existing = Options { create_if_missing: false, ..small_options() };
        let disk = process.disk();

        let error = refused(&process, DIR, existing.clone()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &[DIR, "does not exist", "create_if_missing"]);

        disk.create_dir_all(DIR);
        let error = refused(&process, DIR, existing.clone()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &[DIR, "empty", "create_if_missing"]);

        let error = refused(&process, "/no/such", small_options()).await;
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        says(&error, &["/no/such", "parent", "create it"]);

        disk.write_file("/db/thesis.txt", b"mine");
        for options in [existing, small_options()] {
            let error = refused(&process, DIR, options).await;
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            says(&error, &[DIR, "thesis.txt", "new directory"]);
        }

        disk.create_dir_all("/other");
        disk.write_file("/other/thesis.tmp", b"years of work");
        let error = refused(&process, "/other", small_options()).await;
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &["/other", "thesis.tmp", "new directory"]);

        disk.write_file("/file", b"mine");
        let error = refused(&process, "/file", small_options()).await;
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &["/file", "not a directory"]);
    });
}

#[test]
fn a_foreign_file_beside_a_database_is_left_alone() {
    simulate(2, |_, process| async move {
        made(&process).await;
        let foreign = ["notes.txt", "thesis.tmp", "CURRENT.tmp.tmp", "1.table", "18446744073709551606.table"];
        for name in foreign {
            process.disk().write_file(format!("/db/{name}"), b"mine");
        }
        process.disk().write_file("/db/CURRENT.tmp", b"ours, left by a crash");
        process.disk().create_dir_all("/db/pictures");
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await.unwrap();
            assert_eq!(
                db.keyspace("second")
                    .unwrap()
                    .scan(Scan::all())
                    .await
                    .unwrap()
                    .collect()
                    .await
                    .unwrap()
                    .len(),
                50
            );
            db.compact().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
        for name in foreign {
            assert_eq!(process.disk().read_file(format!("/db/{name}")), b"mine");
        }
        assert!(!process.disk().exists("/db/CURRENT.tmp"));
        assert!(process.disk().exists("/db/pictures"));
    });
}

/// The same header sector, valid in all but the format version, which is a later one.
fn of_a_later_version(bytes: &mut [u8], identity_at: usize, covered: usize) {
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let sum = checksum(&[&bytes[identity_at..identity_at + 8], &0u64.to_le_bytes(), &bytes[..covered]]);
    bytes[covered..covered + 4].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_newer_format_is_named_file_by_file() {
    simulate(3, |_, process| async move {
        made(&process).await;
        let disk = process.disk();
        let whole = disk.snapshot();
        let names: Vec<String> = disk.list(DIR).into_iter().map(|entry| entry.name).collect();
        let mut kinds = std::collections::BTreeSet::new();
        for name in names {
            let kind = name.rsplit('.').next().unwrap().to_string();
            if !["CURRENT", "manifest", "log", "table"].contains(&kind.as_str())
                || !kinds.insert(kind.clone())
            {
                continue;
            }
            let path = Path::new(DIR).join(&name);
            if kind == "table" {
                let fields = disk.read_file(&path)[12..16].try_into().unwrap();
                let covered = 24 + u32::from_le_bytes(fields) as usize;
                disk.corrupt(&path, 0, covered + 4, |bytes| of_a_later_version(bytes, 16, covered));
                let before = image(&disk);
                let error = within(&process, |env| async move {
                    let view = Db::open_read_only_in(env, DIR, small_options()).await?;
                    for keyspace in ["default", "second"] {
                        view.keyspace(keyspace)?.scan(Scan::all()).await?.collect().await?;
                    }
                    Ok(())
                })
                .await
                .unwrap_err();
                assert_same(&before, &image(&disk), "a look");
                assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
                says(&error, &[&name, "99", "newer version"]);
            } else {
                disk.corrupt(&path, 0, 512, |bytes| of_a_later_version(bytes, 12, 508));
                let error = refused(&process, DIR, small_options()).await;
                assert!(matches!(error, Error::NewerFormat { .. }), "{name}: {error}");
                says(&error, &[&name, "99", "newer version"]);
            }
            process.restart();
            disk.restore(&whole);
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    });
}

#[test]
fn a_missing_file_is_named() {
    simulate(4, |_, process| async move {
        made(&process).await;
        let disk = process.disk();
        let whole = disk.snapshot();
        let mut refusals = 0;
        for entry in disk.list(DIR) {
            let path = Path::new(DIR).join(&entry.name);
            disk.remove_file(&path);
            if ["LOCK", "RESERVE"].contains(&entry.name.as_str()) {
                // Nothing is told by them, and nothing lost with them.
                within(&process, |env| async move {
                    let db = Db::open_in(env, DIR, small_options()).await.unwrap();
                    db.close().await.unwrap();
                })
                .await;
            } else if is_needed(&process, &entry.name).await {
                let error = refused(&process, DIR, small_options()).await;
                assert!(matches!(error, Error::Corrupt { .. }), "{}: {error}", entry.name);
                says(&error, &[&entry.name, "missing", "holdfast repair"]);
                refusals += 1;
            }
            process.restart();
            disk.restore(&whole);
        }
        assert!(refusals >= 4, "only {refusals} files were needed");
    });
}

/// A file that was let go but not yet removed when the process died is needed by nobody.
async fn is_needed(process: &Process, name: &str) -> bool {
    if !name.ends_with(".log") {
        return true;
    }
    let report = within(process, |env| async move { holdfast::verify(env, DIR, |_| ()).await }).await;
    report.is_err() || report.is_ok_and(|report| !report.is_good())
}

#[test]
fn a_database_in_use_is_locked_and_usable_once_it_is_not() {
    simulate(5, |world: World, process| async move {
        let held = within(&process, make).await.unwrap();
        let other = world.process_on("other", "db");
        world.sleep(1_000_000_000).await;
        let before = image(&process.disk());
        let error = within(&other, |env| Db::open_in(env, DIR, small_options())).await.err().unwrap();
        assert!(matches!(&error, Error::Locked(dir) if dir == Path::new(DIR)), "{error}");
        says(&error, &[DIR, "locked", "read-only"]);
        assert_same(&before, &image(&process.disk()), "locked");
        within(&process, |_| async move { held.close().await }).await.unwrap();
        within(&other, |env| async move { Db::open_in(env, DIR, small_options()).await?.close().await })
            .await
            .unwrap();
    });
}

#[test]
fn fewer_commits_than_demanded() {
    simulate(6, |_, process| async move {
        let demanding = |at_least| Options { at_least, ..small_options() };
        // Wiped: no directory, an empty one. Neither may be made into a new database in silence.
        for _ in 0..2 {
            let error = refused(&process, DIR, demanding(7)).await;
            says(&error, &[DIR, "at_least", "7"]);
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            process.disk().create_dir_all(DIR);
        }
        // An older copy of itself.
        let db = within(&process, make).await.unwrap();
        let newest = db.last_seq().get();
        process.kill();
        drop(db);
        process.restart();
        let error = refused(&process, DIR, demanding(newest + 1)).await;
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        says(&error, &["at_least", &newest.to_string(), &(newest + 1).to_string(), "older copy"]);
        let reached = within(&process, move |env| async move {
            let db = Db::open_in(env, DIR, demanding(newest)).await?;
            let reached = db.last_seq().get();
            db.close().await?;
            Ok::<_, Error>(reached)
        });
        assert_eq!(reached.await.unwrap(), newest);
    });
}
