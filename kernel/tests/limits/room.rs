//! Opening on a full disk: it writes anew what the log holds, and where that finds no room it leaves things as they were.

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, Error, Options, Scan};

use super::noise;
use crate::support::scene::{DIR, simulate, within};

const VALUES: u64 = 60;

fn options() -> Options {
    Options { memtable_bytes: 2 << 20, reserve_bytes: 256 << 10, ..Options::default() }
}

async fn open(env: Arc<dyn Env>) -> Result<Db, Error> {
    Db::open_in(env, DIR, options()).await
}

#[test]
fn an_opening_that_finds_no_room_leaves_none_of_its_work_and_says_what_it_needs() {
    simulate(9, |_, process| async move {
        // 600 KB in each of two keyspaces, in the log alone.
        within(&process, |env| async move {
            let db = open(env).await.unwrap();
            for name in ["one", "two"] {
                let keyspace = db.create_keyspace(name, Default::default()).await.unwrap();
                for number in 0..VALUES {
                    keyspace.put(number.to_be_bytes(), noise(10_000, number + 1)).await.unwrap();
                }
            }
        })
        .await;
        process.kill();
        process.restart();
        let disk = process.disk();
        let used = |disk: &holdfast_sim::SimDisk| {
            let files = disk.list(DIR).into_iter().filter(|entry| entry.name != "RESERVE");
            files.map(|entry| disk.metadata(format!("{DIR}/{}", entry.name)).unwrap().len).sum::<u64>()
        };
        disk.set_capacity(u64::MAX >> 1, 1000);
        let taken = (u64::MAX >> 1) - disk.free_space().bytes;
        // Room for one of the two tables.
        disk.set_capacity(taken + (700 << 10), 1000);
        let before = used(&disk);
        for _ in 0..4 {
            let refused = within(&process, |env| async move { open(env).await.map(drop) }).await.unwrap_err();
            let words = refused.to_string();
            assert!(matches!(refused, Error::DiskFull(_)), "{words}");
            assert!(words.contains("opening writes anew what the log holds, about 2 MiB"), "{words}");
            assert_eq!(used(&disk), before, "nothing is left of the attempt");
        }
        // What a process was at when the disk was full is in the way, until an opening needs the room.
        disk.set_capacity(taken + (1800 << 10), 1000);
        disk.write_file(format!("{DIR}/0000000099.table"), &noise(1500 << 10, 99));
        within(&process, |env| async move {
            let db = open(env).await.unwrap();
            for name in ["one", "two"] {
                let keyspace = db.keyspace(name).unwrap();
                let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                let expected =
                    (0..VALUES).map(|number| (number.to_be_bytes().to_vec(), noise(10_000, number + 1)));
                assert!(all.into_iter().eq(expected));
            }
            db.close().await.unwrap();
        })
        .await;
        assert!(!disk.exists(format!("{DIR}/0000000099.table")));
    });
}
