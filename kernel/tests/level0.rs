//! Compaction of level-0 tables that leave gaps between them.

use holdfast::{Db, KeyspaceOptions, Options, Scan};

/// Tables of one key each, whose keys lie between those of the deeper levels: an output that reaches from one to the
/// other must not lie across a table that overlaps neither.
#[test]
fn tables_between_two_level0_tables_are_compacted_with_them() {
    holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let env = process.env();
        let run = process.run(async move {
            let db = Db::open_in(env, "/db", Options { reserve_bytes: 0, ..Options::default() }).await?;
            let small = KeyspaceOptions {
                block_bytes: 256,
                table_bytes: 16 << 10,
                level1_bytes: 16 << 10,
                level_ratio: 2,
                level0_tables: 2,
                ..KeyspaceOptions::default()
            };
            let keyspace = db.create_keyspace("gaps", small).await?;
            for round in 0..6u64 {
                for n in 0..60u64 {
                    // Far apart, so that single-key tables stand around each other's gaps.
                    keyspace.put(format!("{:03}", n * 37 % 60), vec![round as u8; 900]).await?;
                    db.flush().await?;
                }
            }
            db.wait_idle().await?;
            let level0 = db.keyspaces()?.iter().map(|keyspace| keyspace.levels[0].tables).max();
            assert!(level0.unwrap() < 2, "nothing was given up: {level0:?}");
            let all = keyspace.scan(Scan::all()).await?.collect().await?;
            assert!(all.len() == 60 && all.iter().all(|(_, value)| value[..] == [5; 900]));
            db.close().await
        });
        run.await.unwrap().unwrap();
    });
}
