//! The options that a storm runs its database with, in a form that a plan can hold.
//!
//! Tiny memtables and tables make a thousand operations flush, compact and roll the log many times over. A tenth of all
//! storms keep the production options, in which hardly anything but the log moves.

use holdfast::{Compression, KeyspaceOptions, Options};
use serde::{Deserialize, Serialize};

use super::Workload;
use crate::Random;

/// Options of the database and of its keyspaces, as far as storms vary them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The production options, unchanged; the fields below then say nothing.
    pub production: bool,
    /// `memtable_bytes`, in KiB.
    pub memtable_kib: u64,
    /// `table_bytes`, in KiB.
    pub table_kib: u64,
    /// `block_bytes`.
    pub block_bytes: u32,
    /// `log_segment_bytes_max`, in KiB.
    pub segment_kib: u64,
    /// `level0_tables`.
    pub level0_tables: u32,
    /// `level_ratio`.
    pub level_ratio: u32,
    /// LZ4 below level 0 and Zstandard below that, or none.
    pub compress: bool,
    /// `filter_bits_per_key`.
    pub filter_bits: u32,
    /// `retain_commits`.
    pub retain: u64,
    /// `conflict_window_bytes` at its least.
    pub narrow_window: bool,
    /// `memory_limit_bytes` at its least, of which the cache gets hardly anything.
    pub scarce_memory: bool,
    /// `direct_log`.
    pub direct: bool,
    /// `paranoid_checks`.
    pub paranoid: bool,
    /// `compactions_max`.
    pub compactions: u32,
    /// `transaction_bytes_max` so large that two transactions can be too much for the memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub large_transactions: bool,
}

/// A value takes up at most one part in so many of a transaction, so that no step outgrows its limit.
const VALUE_PART: u64 = 8;

impl Settings {
    /// The plainest: what a plan is shrunk towards.
    pub const PLAIN: Self = Self {
        production: false,
        memtable_kib: 16,
        table_kib: 16,
        block_bytes: 4096,
        segment_kib: 64,
        level0_tables: 4,
        level_ratio: 10,
        compress: false,
        filter_bits: 10,
        retain: 0,
        narrow_window: false,
        scarce_memory: false,
        direct: true,
        paranoid: false,
        compactions: 1,
        large_transactions: false,
    };

    /// Draws some for a workload.
    pub fn draw(workload: Workload, random: &mut Random) -> Self {
        let drawn = Self::draw_any(random);
        match workload {
            // With more memory nothing that it holds would matter.
            Workload::Hoard => Self {
                production: false,
                scarce_memory: true,
                large_transactions: true,
                memtable_kib: *random.of(&[64, 2048, 2048]),
                ..drawn
            },
            _ => drawn,
        }
    }

    fn draw_any(random: &mut Random) -> Self {
        Self {
            production: random.one_in(10),
            memtable_kib: *random.of(&[4, 4, 4, 4, 8, 8, 16, 16, 64, 64, 2048]),
            table_kib: *random.of(&[16, 16, 32]),
            block_bytes: *random.of(&[256, 256, 1024, 4096]),
            segment_kib: *random.of(&[64, 64, 128]),
            level0_tables: *random.of(&[1, 2, 4]),
            level_ratio: *random.of(&[2, 2, 4, 10]),
            compress: random.one_in(3),
            filter_bits: *random.of(&[0, 10, 10]),
            retain: *random.of(&[0, 0, 5, 50, 10_000]),
            narrow_window: random.one_in(6),
            scarce_memory: random.one_in(4),
            direct: random.one_in(2),
            paranoid: random.one_in(2),
            compactions: *random.of(&[1, 1, 2, 3]),
            large_transactions: random.one_in(8),
        }
    }

    /// As the kernel takes them.
    pub fn options(&self) -> Options {
        if self.production {
            return Options::default();
        }
        Options {
            memory_limit_bytes: if self.scarce_memory { 8 << 20 } else { 32 << 20 },
            memtable_bytes: self.memtable_kib.saturating_mul(1024),
            log_segment_bytes_max: self.segment_kib.saturating_mul(1024),
            log_bytes_max: self.segment_kib.saturating_mul(2048),
            retain_commits: self.retain,
            compactions_max: self.compactions,
            open_files_max: 16,
            transaction_bytes_max: if self.large_transactions { 8 << 20 } else { 1 << 20 },
            conflict_window_bytes: if self.narrow_window { 64 << 10 } else { 16 << 20 },
            reserve_bytes: 64 << 10,
            direct_log: self.direct,
            paranoid_checks: self.paranoid,
            ..Options::default()
        }
    }

    /// For a look from beside, which needs memory for all of the log that is in no table yet.
    pub fn beside(&self) -> Options {
        let options = self.options();
        Options { memory_limit_bytes: options.memory_limit_bytes.max(128 << 20), ..options }
    }

    /// The longest value that is written; a longer one is cut to this.
    pub fn value_bytes_max(&self) -> u32 {
        u32::try_from(self.options().transaction_bytes_max / VALUE_PART).unwrap_or(u32::MAX)
    }

    /// How many latest commits can be read for certain.
    pub fn retained(&self) -> u64 {
        self.options().retain_commits
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
            filter_bits_per_key: self.filter_bits,
            compression,
            level0_tables: self.level0_tables,
            level1_bytes: 16 << 10,
            level_ratio: self.level_ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_drawn_the_kernel_takes() {
        let mut random = Random::new(1);
        for round in 0..500 {
            let workload = Workload::ALL[round % Workload::ALL.len()];
            let settings = Settings::draw(workload, &mut random);
            settings.options().validate().expect("valid options");
            settings.keyspace_options().validate().expect("valid keyspace options");
        }
        Settings::PLAIN.options().validate().expect("valid options");
    }
}
