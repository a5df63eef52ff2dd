//! Settings under which a few hundred commits make tables of several levels, and change log segments.

use holdfast::{KeyspaceOptions, Options};

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
