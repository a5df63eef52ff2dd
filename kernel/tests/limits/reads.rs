//! A read that fails ends that read alone and names the place; everything else goes on.

use std::sync::atomic::Ordering;

use holdfast::env::IoErrorKind;
use holdfast::{Db, Error, Keyspace, Scan};
use holdfast_sim::{FaultClass, Process, Trigger};

use super::{noise, open};
use crate::support::flaky::Flaky;
use crate::support::scene::{DIR, simulate, within};

#[test]
fn a_read_error_that_passes_is_not_noticed() {
    simulate(6, |_, process| async move {
        within(&process, |env| async move {
            let (db, keyspace) = open(env.clone()).await.unwrap();
            for number in 0..50u64 {
                keyspace.put(number.to_be_bytes(), [number as u8; 1000]).await.unwrap();
            }
            db.compact().await.unwrap();
            db.close().await.unwrap();
            for suffix in [".table", ".manifest", ".log", "CURRENT"] {
                let (flaky, reads) = Flaky::over(env.clone(), suffix);
                reads.failing.store(1, Ordering::Relaxed);
                let (db, keyspace) = open(flaky).await.unwrap_or_else(|error| panic!("{suffix}: {error}"));
                for number in 0..50u64 {
                    reads.failing.store(1, Ordering::Relaxed);
                    let value = keyspace.get(number.to_be_bytes()).await.unwrap();
                    assert!(value.is_some_and(|value| value[..] == [number as u8; 1000]));
                }
                assert!(reads.failed.load(Ordering::Relaxed) > 0, "{suffix} was read");
                // One that does not pass is an answer, and after it the same read works.
                if suffix == ".table" {
                    db.compact().await.unwrap();
                    db.close().await.unwrap();
                    let (flaky, reads) = Flaky::over(env.clone(), suffix);
                    let (db, keyspace) = open(flaky).await.unwrap();
                    reads.failing.store(u32::MAX, Ordering::Relaxed);
                    let error = keyspace.get(7u64.to_be_bytes()).await.unwrap_err();
                    assert!(matches!(&error, Error::Io(io) if io.kind == IoErrorKind::Transient), "{error}");
                    assert!(error.is_retriable() && error.to_string().contains(".table"), "{error}");
                    reads.failing.store(0, Ordering::Relaxed);
                    assert!(keyspace.get(7u64.to_be_bytes()).await.unwrap().is_some());
                    db.close().await.unwrap();
                } else {
                    db.close().await.unwrap();
                }
            }
        })
        .await;
    });
}

/// Tables of disjoint ranges in the deepest level, nothing cached.
async fn ranges(process: &Process) -> (Db, Keyspace) {
    within(process, |env| async move {
        let (db, keyspace) = open(env.clone()).await.unwrap();
        for number in 0..100u64 {
            keyspace.put(number.to_be_bytes(), noise(1000, number + 1)).await.unwrap();
        }
        db.compact().await.unwrap();
        db.close().await.unwrap();
        open(env).await.unwrap()
    })
    .await
}

/// Which of the hundred keys can be read; what the others say.
async fn readable(keyspace: &Keyspace) -> (Vec<u64>, Vec<Error>) {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for number in 0..100u64 {
        match keyspace.get(number.to_be_bytes()).await {
            Ok(value) => {
                assert!(value.is_some_and(|value| value[..] == noise(1000, number + 1)), "key {number}");
                good.push(number);
            }
            Err(error) => errors.push(error),
        }
    }
    (good, errors)
}

#[test]
fn a_read_error_ends_one_read_and_names_the_place() {
    simulate(7, |_, process| async move {
        let (db, keyspace) = ranges(&process).await;
        let disk = process.disk();
        let tables: Vec<String> =
            disk.list(DIR).into_iter().map(|e| e.name).filter(|name| name.ends_with(".table")).collect();
        assert!(tables.len() > 3, "{tables:?}");
        let bad = tables[tables.len() / 2].clone();
        disk.inject_on(FaultClass::ReadError, &bad, Trigger::From(1));
        let reading = keyspace.clone();
        let (good, errors) = within(&process, move |_| async move { readable(&reading).await }).await;
        assert!(good.len() > 50 && !errors.is_empty(), "{} good, {} errors", good.len(), errors.len());
        for error in errors {
            assert!(matches!(&error, Error::Io(io) if io.offset.is_some()), "{error}");
            assert!(error.to_string().contains(&bad) && error.to_string().contains("at byte"), "{error}");
        }
        disk.clear_faults();
        within(&process, move |_| async move {
            assert_eq!(readable(&keyspace).await.0.len(), 100, "it was the disk, and the disk is well again");
            keyspace.put("new", "value").await.unwrap();
            db.compact().await.unwrap();
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn damage_in_one_table_ends_only_its_range() {
    simulate(8, |_, process| async move {
        let (db, keyspace) = ranges(&process).await;
        let disk = process.disk();
        let tables: Vec<String> =
            disk.list(DIR).into_iter().map(|e| e.name).filter(|name| name.ends_with(".table")).collect();
        let bad = tables[tables.len() / 2].clone();
        let path = format!("{DIR}/{bad}");
        disk.flip_bit(&path, 2000, 3);
        within(&process, move |_| async move {
            let (good, errors) = readable(&keyspace).await;
            assert!(good.len() > 50 && !errors.is_empty(), "{} good, {} errors", good.len(), errors.len());
            for error in errors {
                assert!(matches!(&error, Error::Corrupt { .. }), "{error}");
                assert!(error.to_string().contains(&bad) && error.to_string().contains("repair"), "{error}");
            }
            // Writes everywhere, and background work beside the damage, go on.
            for round in 0..3u64 {
                for number in (0..100u64).chain(200..300) {
                    let beside = [&number.to_be_bytes()[..], &[round as u8]].concat();
                    keyspace.put(beside, [3; 1000]).await.unwrap();
                }
                db.flush().await.unwrap();
            }
            let compacted = db.compact().await;
            assert!(
                matches!(&compacted, Err(Error::Corrupt { file, .. }) if file.ends_with(&bad)),
                "{compacted:?}"
            );
            let again = readable(&keyspace).await.0;
            assert_eq!(again, good, "as many keys as before");
            let mut beyond = keyspace.scan(Scan::range(200u64.to_be_bytes()..)).await.unwrap();
            assert_eq!(beyond.collect().await.unwrap().len(), 300);
            let whole = match keyspace.scan(Scan::all()).await {
                Ok(mut cursor) => cursor.collect().await.map(drop),
                Err(error) => Err(error),
            };
            assert!(matches!(whole, Err(Error::Corrupt { .. })), "a walk over the damage says so");
            let report = db.verify().await.unwrap();
            assert!(!report.is_good() && format!("{report:?}").contains(&bad));
            db.close().await.unwrap();
        })
        .await;
    });
}
