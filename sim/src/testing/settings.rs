//! Options of the database that a seed draws, for an application that takes them from the world.
//!
//! Tiny memtables, segments and tables make a few hundred operations flush, compact and roll the log; with the
//! production options hardly anything but the log moves.

use holdfast::{Compression, KeyspaceOptions, Options};
use serde::{Deserialize, Serialize};

use crate::stream::Stream;

/// See the module's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The production options, unchanged; the fields below then say nothing.
    pub production: bool,
    /// `memtable_bytes`, in KiB.
    pub memtable_kib: u64,
    /// `log_segment_bytes_max`, in KiB.
    pub segment_kib: u64,
    /// `table_bytes`, in KiB.
    pub table_kib: u64,
    /// `block_bytes`.
    pub block_bytes: u32,
    /// `level0_tables`.
    pub level0_tables: u32,
    /// LZ4 below level 0 and Zstandard below that, or none.
    pub compress: bool,
    /// `direct_log`.
    pub direct: bool,
}

impl Settings {
    /// What a plan is shrunk towards.
    pub const PRODUCTION: Self = Self {
        production: true,
        memtable_kib: 16,
        segment_kib: 64,
        table_kib: 16,
        block_bytes: 4096,
        level0_tables: 4,
        compress: false,
        direct: true,
    };

    /// Draws some.
    pub(super) fn draw(stream: &mut Stream) -> Self {
        Self {
            production: stream.one_in(8),
            memtable_kib: stream.of(&[4, 4, 4, 8, 16, 64]),
            segment_kib: stream.of(&[64, 64, 128]),
            table_kib: stream.of(&[16, 16, 32]),
            block_bytes: stream.of(&[256, 1024, 4096]),
            level0_tables: stream.of(&[1, 2, 4]),
            compress: stream.one_in(3),
            direct: stream.one_in(2),
        }
    }

    /// As the kernel takes them.
    pub fn options(&self) -> Options {
        if self.production {
            return Options::default();
        }
        Options {
            memory_limit_bytes: 32 << 20,
            memtable_bytes: self.memtable_kib.saturating_mul(1024),
            log_segment_bytes_max: self.segment_kib.saturating_mul(1024),
            log_bytes_max: self.segment_kib.saturating_mul(2048),
            reserve_bytes: 64 << 10,
            open_files_max: 16,
            direct_log: self.direct,
            ..Options::default()
        }
    }

    /// As the kernel takes them.
    pub fn keyspace_options(&self) -> KeyspaceOptions {
        if self.production {
            return KeyspaceOptions::default();
        }
        let compression = match self.compress {
            true => vec![Compression::None, Compression::Lz4, Compression::Zstd],
            false => vec![Compression::None],
        };
        KeyspaceOptions {
            block_bytes: self.block_bytes,
            table_bytes: self.table_kib.saturating_mul(1024),
            compression,
            level0_tables: self.level0_tables,
            level1_bytes: 16 << 10,
            ..KeyspaceOptions::default()
        }
    }
}
