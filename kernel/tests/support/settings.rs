//! Settings under which a few hundred commits make tables of several levels, and change log segments.

use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Db, KeyspaceOptions, Options, Result};

use super::scene::DIR;

/// Memtables of 16 KiB, segments of 64 KiB, no reserve.
pub fn options() -> Options {
    Options {
        memtable_bytes: 16 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

/// Blocks of 256 bytes, tables and first level of 16 KiB.
pub fn tiny() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 256,
        table_bytes: 16 << 10,
        level1_bytes: 16 << 10,
        level_ratio: 2,
        level0_tables: 2,
        ..KeyspaceOptions::default()
    }
}

/// A database whose keyspace `many` has forty tables of one key each, and compacts none of them by itself.
pub async fn forty_tables(env: Arc<dyn Env>, options: Options) -> Result<Db> {
    let db = Db::open_in(env, DIR, options).await?;
    let lazy = KeyspaceOptions { level0_tables: 64, ..tiny() };
    let keyspace = db.create_keyspace("many", lazy).await?;
    for n in 0..40u64 {
        keyspace.put(format!("{n:03}"), n.to_le_bytes()).await?;
        db.flush().await?;
    }
    Ok(db)
}
