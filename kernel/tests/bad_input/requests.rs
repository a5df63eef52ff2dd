//! Requests for what is gone, not yet there, or closed.

use holdfast::{Db, Durability, Error, Options, Scan, Seq, WriteBatch};

use super::{make, says};
use crate::support::scene::{DIR, assert_same, image, simulate, small_keyspace, small_options, within};

#[test]
fn a_dropped_keyspace_and_a_foreign_one() {
    simulate(9, |world, process| async move {
        let other = world.process("other");
        let foreign = within(&other, make).await.unwrap();
        let db = within(&process, make).await.unwrap();
        within(&process, move |_| async move {
            let stranger = foreign.keyspace("second").unwrap();
            let gone = db.keyspace("second").unwrap();
            let mut before = db.begin(Default::default());
            before.put(&gone, "k", "v").unwrap();
            let mut cursor = gone.scan(Scan::all()).await.unwrap();
            db.drop_keyspace(&gone).await.unwrap();
            let seq = db.last_seq();

            let mut errors = vec![
                db.drop_keyspace(&gone).await.err(),
                gone.get("k").await.err(),
                gone.scan(Scan::all()).await.err(),
                gone.put("k", "v").await.err(),
                gone.delete("k").await.err(),
                gone.delete_range("a", "b").await.err(),
                gone.options().err(),
                gone.approximate_size::<&str>(..).await.err(),
                db.snapshot().get(&gone, "k").await.err(),
                db.snapshot().scan(&gone, Scan::all()).await.err(),
                db.begin(Default::default()).get(&gone, "k").await.err(),
                db.begin(Default::default()).scan(&gone, Scan::all()).await.err(),
            ];
            for error in errors.drain(..) {
                let error = error.expect("the keyspace is gone");
                assert!(matches!(error, Error::Invalid(_)), "{error}");
                says(&error, &["keyspace \"second\"", &gone.id().to_string(), "dropped"]);
            }
            let error = before.commit().await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            says(&error, &["keyspace", &gone.id().to_string()]);
            let mut txn = db.begin(Default::default());
            for error in [
                db.drop_keyspace(&stranger).await.err(),
                txn.put(&stranger, "k", "v").err(),
                txn.get(&stranger, "k").await.err(),
                db.snapshot().get(&stranger, "k").await.err(),
            ] {
                let error = error.expect("it belongs to another database");
                assert!(matches!(error, Error::Invalid(_)), "{error}");
                says(&error, &["second", "another opening"]);
            }
            // A batch of the other database's handles, though there is a keyspace of that number here.
            let here = db.default_keyspace().unwrap();
            let mut batch = WriteBatch::new();
            batch.delete(&foreign.default_keyspace().unwrap(), b"k").unwrap();
            let refused = batch.put(&here, b"k", b"v").unwrap_err();
            says(&refused.into(), &[&format!("keyspace number {} is of database", here.id())]);
            batch.put(here.id(), b"k", b"v").unwrap();
            assert_eq!(batch.len(), 2, "what was refused is not in it, and a bare number is of any database");
            let error = db.write(batch.clone(), Durability::Sync).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            let [there, here_id] = [&foreign, &db].map(|db| format!("{:016x}", db.database_id()));
            says(&error, &["batch", &there, &here_id]);
            batch.clear();
            batch.delete(&here, b"k").unwrap();
            assert_eq!(db.last_seq(), seq);
            db.write(batch, Durability::Sync).await.unwrap();
            // What was open when it was dropped goes on.
            let mut rest = 0;
            while cursor.next().await.unwrap().is_some() {
                rest += 1;
            }
            assert_eq!(rest, 50);
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn the_past_and_the_future() {
    simulate(10, |_, process| async move {
        within(&process, |env| async move {
            let options = Options { retain_commits: 5, ..small_options() };
            let db = Db::open_in(env, DIR, options).await.unwrap();
            let keyspace = db.default_keyspace().unwrap();
            for number in 1..=20u64 {
                keyspace.put("k", number.to_be_bytes()).await.unwrap();
            }
            db.compact().await.unwrap();
            let newest = db.last_seq();
            let Err(error) = db.at(newest.next()) else { panic!("the future is readable") };
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            says(&error, &[&newest.next().to_string(), &newest.to_string(), "future"]);
            let mut oldest_said = None;
            for seq in 0..=newest.get() {
                match db.at(Seq::new(seq)) {
                    Ok(past) => {
                        let value = past.get(&keyspace, "k").await.unwrap();
                        let number = seq - (newest.get() - 20);
                        assert!(value.is_some_and(|value| value == number.to_be_bytes()[..]), "at {seq}");
                        let oldest: Seq = oldest_said.expect("something is too old");
                        assert!(Seq::new(seq) >= oldest, "{seq} is older than {oldest}");
                    }
                    Err(Error::TooOld { asked, oldest }) => {
                        assert_eq!((asked, newest.get() - 5), (Seq::new(seq), oldest.get()));
                        says(&Error::TooOld { asked, oldest }, &[&oldest.to_string(), "retain_commits"]);
                        assert!(asked < oldest);
                        oldest_said = Some(oldest);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            db.close().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_closed_database_says_so() {
    simulate(11, |world, process| async move {
        let db = within(&process, make).await.unwrap();
        let left = within(&process, move |_| async move {
            let keyspace = db.default_keyspace().unwrap();
            let snapshot = db.snapshot();
            let mut txn = db.begin(Default::default());
            let reader = db.begin(Default::default());
            txn.put(&keyspace, "k", "v").unwrap();
            let mut cursor = keyspace.scan(Scan::all()).await.unwrap();
            let value = keyspace.get(3u64.to_be_bytes()).await.unwrap().expect("it was put");
            db.clone().close().await.unwrap();
            let mut batch = WriteBatch::new();
            batch.put(keyspace.id(), b"k", b"v").unwrap();
            for (what, error) in [
                ("get", keyspace.get("k").await.err()),
                ("scan", keyspace.scan(Scan::all()).await.err()),
                ("put", keyspace.put("k", "v").await.err()),
                ("delete", keyspace.delete("k").await.err()),
                ("delete_range", keyspace.delete_range("a", "b").await.err()),
                ("write", db.write(batch, Durability::Buffered).await.err()),
                ("write of nothing", db.write(WriteBatch::new(), Durability::Sync).await.err()),
                ("snapshot get", snapshot.get(&keyspace, "k").await.err()),
                ("snapshot scan", snapshot.scan(&keyspace, Scan::all()).await.err()),
                ("txn get", txn.get(&keyspace, "absent").await.err()),
                ("txn commit", txn.commit().await.err()),
                ("commit without writes", reader.commit().await.err()),
                ("keyspace", db.keyspace("second").err()),
                ("default_keyspace", db.default_keyspace().err()),
                ("keyspaces", db.keyspaces().err()),
                ("create_keyspace", db.create_keyspace("x", small_keyspace()).await.err()),
                ("drop_keyspace", db.drop_keyspace(&keyspace).await.err()),
                ("sync", db.sync().await.err()),
                ("flush", db.flush().await.err()),
                ("compact", db.compact().await.err()),
                ("wait_idle", db.wait_idle().await.err()),
                ("checkpoint", db.checkpoint("/copy").await.err()),
                ("backup", db.backup("/copy").await.err()),
                ("verify", db.verify().await.err()),
                ("close", db.clone().close().await.err()),
                ("approximate_size", keyspace.approximate_size::<&str>(..).await.err()),
            ] {
                let error = error.unwrap_or_else(|| panic!("{what} works on a closed database"));
                assert!(matches!(error, Error::Closed), "{what}: {error}");
                says(&error, &["closed", "open"]);
            }
            // A value is its own, and a cursor ends or goes on, but never lies.
            assert_eq!(value.len(), 100);
            while let Ok(Some(entry)) = cursor.next().await {
                assert_eq!(entry.value.len(), 100);
            }
            (db, keyspace)
        })
        .await;
        assert!(!process.disk().exists("/copy"));
        // Handles that are left over do not keep the directory.
        let before = image(&process.disk());
        world.sleep(1_000_000_000).await;
        assert_same(&before, &image(&process.disk()), "after closing");
        within(&process, |env| async move { Db::open_in(env, DIR, small_options()).await?.close().await })
            .await
            .unwrap();
        drop(left);
    });
}
