//! Settings, checked before anything is touched. A refusal names the option, its value and its range.

use crate::error::{Error, Result};
use crate::types::{Seq, WriteBatch};

/// How blocks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Stored as they are.
    None,
    /// LZ4 block format: about 1 GB/s in, 7 GB/s out.
    #[default]
    Lz4,
    /// Zstandard at level 1: about 0.6 GB/s in, 4 GB/s out, a little smaller.
    Zstd,
}

/// Settings of one opening of a database. None of them changes what is on disk already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Create the database if the directory does not exist or is empty. Default true. A directory with foreign
    /// files in it is refused either way.
    pub create_if_missing: bool,
    /// Refuse to open unless commit `at_least` is there: what guards against a disk swapped for an older copy of
    /// itself or wiped, which no disk can know by itself. 0 to 2^56 - 1, the greatest number that a commit can have;
    /// default 0, which demands nothing.
    pub at_least: u64,
    /// Memory for memtables, block cache, filters, indexes, what open transactions have written and read, and pinned
    /// blocks together, in bytes. 8 MiB to 1 TiB, default 128 MiB. Over it writers slow down, then get [`Error::Busy`].
    /// What a flush, compaction or backup has under its hands comes on top: a few MiB each, and where a single value
    /// is larger than that, up to ten times the largest.
    pub memory_limit_bytes: u64,
    /// A keyspace's memtable is frozen and flushed at this size in bytes. 4 KiB to 1 GiB and at most a quarter of
    /// `memory_limit_bytes`; default 16 MiB. Sooner where that is over a quarter of the free disk space.
    pub memtable_bytes: u64,
    /// Largest log segment in bytes; the first of an opening is small and each successor twice as large.
    /// 64 KiB to 1 GiB, default 64 MiB.
    pub log_segment_bytes_max: u64,
    /// The log as a whole is kept near this many bytes by flushing the keyspace that pins its oldest segment.
    /// At least twice `log_segment_bytes_max`, default 256 MiB.
    pub log_bytes_max: u64,
    /// Keep the versions of this many latest commits readable by [`Db::at`](crate::Db::at). Commits are counted, not
    /// their numbers, which leap ahead when a crash has taken commits that a reader may have seen. 0 to 2^40, default 0.
    pub retain_commits: u64,
    /// Compaction, flush and backup write at most this many bytes a second; 0 is no limit, the default. Else at
    /// least 64 KiB. The limit is lifted while writers are being slowed down for compaction's sake.
    pub background_bytes_per_s: u64,
    /// Number of compactions that may run at once, 1 to 64, default 1.
    pub compactions_max: u32,
    /// Table files kept open at once, 16 to 1,048,576, default 512.
    pub open_files_max: u64,
    /// Largest transaction in bytes, 64 KiB to 4 GiB, default 64 MiB; it is buffered in memory. Keys and values that
    /// it wrote count, and at [`Isolation::Serializable`] what it read: each key with 80 bytes beside its own, each
    /// range with 160. All open transactions together may hold half of `memory_limit_bytes`.
    pub transaction_bytes_max: u64,
    /// Memory for the keys of recent commits, against which transactions are validated. A transaction that began
    /// before the oldest remembered commit conflicts. 64 KiB to 64 GiB, default 16 MiB.
    pub conflict_window_bytes: u64,
    /// Real bytes kept aside so that compaction can free space on a full disk. 0 to 1 GiB, default 1 MiB.
    pub reserve_bytes: u64,
    /// The log is sealed after this many microseconds without a commit. 100 to 60,000,000, default 10,000.
    pub seal_idle_us: u64,
    /// `Buffered` commits reach the operating system at the latest after this many microseconds. 100 to
    /// 60,000,000, default 10,000.
    pub buffered_flush_us: u64,
    /// Bypass the page cache for the log where the file system can. Default true.
    pub direct_log: bool,
    /// Check every block's key order each time one is read from disk, beside its checksum. Default false.
    pub paranoid_checks: bool,
    /// Operations slower than this many microseconds are reported by a `tracing` event: look-ups, openings of walks
    /// and of tables, commits, stalls, syncs of log and manifest, flushes, compactions and openings, as
    /// [`events`](crate::events) lists them. 0 reports none and reads no clock for it; else 1 to 3,600,000,000, which
    /// is an hour. Default 100,000.
    pub slow_operation_us: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create_if_missing: true,
            at_least: 0,
            memory_limit_bytes: 128 << 20,
            memtable_bytes: 16 << 20,
            log_segment_bytes_max: 64 << 20,
            log_bytes_max: 256 << 20,
            retain_commits: 0,
            background_bytes_per_s: 0,
            compactions_max: 1,
            open_files_max: 512,
            transaction_bytes_max: 64 << 20,
            conflict_window_bytes: 16 << 20,
            reserve_bytes: 1 << 20,
            seal_idle_us: 10_000,
            buffered_flush_us: 10_000,
            direct_log: true,
            paranoid_checks: false,
            slow_operation_us: 100_000,
        }
    }
}

impl Options {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first option out of range, its value and the range.
    pub fn validate(&self) -> Result<()> {
        in_range("at_least", self.at_least, 0, Seq::LIMIT.get())?;
        in_range("memory_limit_bytes", self.memory_limit_bytes, 8 << 20, 1 << 40)?;
        in_range("memtable_bytes", self.memtable_bytes, 4 << 10, 1 << 30)?;
        if self.memtable_bytes > self.memory_limit_bytes / 4 {
            return Err(Error::Invalid(format!(
                "option memtable_bytes is {}, but at most a quarter of memory_limit_bytes ({}) is allowed",
                self.memtable_bytes, self.memory_limit_bytes
            )));
        }
        in_range("log_segment_bytes_max", self.log_segment_bytes_max, 64 << 10, 1 << 30)?;
        if self.log_bytes_max / 2 < self.log_segment_bytes_max {
            return Err(Error::Invalid(format!(
                "option log_bytes_max is {}, but must be at least twice log_segment_bytes_max ({})",
                self.log_bytes_max, self.log_segment_bytes_max
            )));
        }
        in_range("retain_commits", self.retain_commits, 0, 1 << 40)?;
        if self.background_bytes_per_s != 0 {
            in_range("background_bytes_per_s", self.background_bytes_per_s, 64 << 10, u64::MAX)?;
        }
        in_range("compactions_max", u64::from(self.compactions_max), 1, 64)?;
        in_range("open_files_max", self.open_files_max, 16, 1 << 20)?;
        in_range("transaction_bytes_max", self.transaction_bytes_max, 64 << 10, 4 << 30)?;
        in_range("conflict_window_bytes", self.conflict_window_bytes, 64 << 10, 64 << 30)?;
        in_range("reserve_bytes", self.reserve_bytes, 0, 1 << 30)?;
        in_range("seal_idle_us", self.seal_idle_us, 100, 60_000_000)?;
        in_range("buffered_flush_us", self.buffered_flush_us, 100, 60_000_000)?;
        in_range("slow_operation_us", self.slow_operation_us, 0, 3_600_000_000)
    }

    /// Refuses a put that an opening with these options takes in no batch, not even alone. A loader asks before it
    /// writes anything, so that nothing is half done.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the limit: of keys, of values, or `transaction_bytes_max`.
    pub fn check_put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = WriteBatch::put_byte_size(key, value)? as u64;
        let limit = self.transaction_bytes_max;
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "key and value need {bytes} bytes in a batch, over the limit of {limit} (option transaction_bytes_max)"
        )))
    }
}

/// Settings of one keyspace, kept in the manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyspaceOptions {
    /// Target size of a data block before compression, in bytes. 256 B to 1 MiB, default 4 KiB.
    pub block_bytes: u32,
    /// Target size of a table in bytes. 16 KiB to 1 GiB, default 32 MiB.
    pub table_bytes: u64,
    /// Bits a key of each table's filter; 0 has none. 0 to 32, default 10 (1 % false positives).
    pub filter_bits_per_key: u32,
    /// Compression by level, the last entry standing for all deeper ones. 1 to 8 entries; default none at levels 0
    /// and 1, then LZ4.
    pub compression: Vec<Compression>,
    /// Tables in level 0 that start a compaction. 1 to 64, default 4. Writers slow down at three times and stop at
    /// five times as many.
    pub level0_tables: u32,
    /// Target size of level 1 in bytes. 16 KiB to 1 TiB, default 64 MiB.
    pub level1_bytes: u64,
    /// How many times larger each deeper level is. 2 to 32, default 10.
    pub level_ratio: u32,
}

/// Number of levels, 0 to 6.
pub const LEVELS: usize = 7;

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            block_bytes: 4 << 10,
            table_bytes: 32 << 20,
            filter_bits_per_key: 10,
            compression: vec![Compression::None, Compression::None, Compression::Lz4],
            level0_tables: 4,
            level1_bytes: 64 << 20,
            level_ratio: 10,
        }
    }
}

impl KeyspaceOptions {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first option out of range, its value and the range.
    pub fn validate(&self) -> Result<()> {
        in_range("block_bytes", u64::from(self.block_bytes), 256, 1 << 20)?;
        in_range("table_bytes", self.table_bytes, 16 << 10, 1 << 30)?;
        in_range("filter_bits_per_key", u64::from(self.filter_bits_per_key), 0, 32)?;
        in_range("number of entries in compression", self.compression.len() as u64, 1, 8)?;
        in_range("level0_tables", u64::from(self.level0_tables), 1, 64)?;
        in_range("level1_bytes", self.level1_bytes, 16 << 10, 1 << 40)?;
        in_range("level_ratio", u64::from(self.level_ratio), 2, 32)
    }

    /// Compression of `level`.
    pub fn compression_at(&self, level: usize) -> Compression {
        self.compression.get(level).or(self.compression.last()).copied().unwrap_or(Compression::None)
    }
}

fn in_range(name: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!("option {name} is {value}, but must be between {low} and {high}")))
}

/// What a commit's acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Durability {
    /// Survives neither process death nor power loss until `buffered_flush_us` has passed or a stronger commit follows.
    /// It can be read at once; so that no later commit bears its number should it be lost, numbers leap by up to 2^20
    /// after an end without closing.
    Buffered,
    /// Survives the death of the process.
    Flush,
    /// Survives power loss.
    #[default]
    Sync,
}

/// What a transaction is protected from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// One consistent view; of two writers of one key, or of a deleted range, the first to commit wins.
    Snapshot,
    /// As if transactions ran one at a time: also every key and range read is checked, phantoms included.
    #[default]
    Serializable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_option_value_and_range() {
        Options::default().validate().unwrap();
        KeyspaceOptions::default().validate().unwrap();
        let bad = Options { memory_limit_bytes: 1, ..Options::default() }.validate().unwrap_err().to_string();
        assert!(
            bad.contains("memory_limit_bytes") && bad.contains(" 1,") && bad.contains("8388608"),
            "{bad}"
        );
        for (option, bad) in [
            ("slow_operation_us", Options { slow_operation_us: 3_600_000_001, ..Options::default() }),
            ("at_least", Options { at_least: 1 << 56, ..Options::default() }),
        ] {
            let (value, high) = match option {
                "at_least" => (bad.at_least, Seq::LIMIT.get()),
                _ => (bad.slow_operation_us, 3_600_000_000),
            };
            let refused = bad.validate().unwrap_err().to_string();
            assert!(
                refused.contains(&format!("option {option} is {value},"))
                    && refused.contains(&format!("between 0 and {high}")),
                "{refused}"
            );
        }
        Options { at_least: Seq::LIMIT.get(), slow_operation_us: 0, ..Options::default() }
            .validate()
            .unwrap();
        let bad = KeyspaceOptions { block_bytes: 3, ..KeyspaceOptions::default() }.validate().unwrap_err();
        assert!(bad.to_string().contains("block_bytes is 3"), "{bad}");
    }

    #[test]
    fn a_put_is_refused_exactly_if_its_batch_would_be() {
        let options = Options { transaction_bytes_max: 64 << 10, ..Options::default() };
        for (key_len, value_len, limit) in [
            (0, 0, None),
            (5, (64 << 10) - 37, None),
            (5, (64 << 10) - 36, Some("transaction_bytes_max")),
            (64 << 10, 0, Some("transaction_bytes_max")),
            ((64 << 10) + 1, 0, Some("65537 bytes, but at most 65536")),
            (5, (1 << 30) + 1, Some("1073741825 bytes, but at most 1073741824")),
        ] {
            let (key, value) = (vec![0; key_len], vec![0; value_len]);
            let refused = options.check_put(&key, &value).err().map(|error| error.to_string());
            match limit {
                Some(limit) => {
                    assert!(refused.as_ref().is_some_and(|said| said.contains(limit)), "{refused:?}")
                }
                None => assert_eq!(refused, None),
            }
            let mut batch = WriteBatch::new();
            let put = batch.put(crate::types::KeyspaceId::new(1), &key, &value);
            let fits = put.is_ok() && batch.byte_size() as u64 <= options.transaction_bytes_max;
            assert_eq!(refused.is_none(), fits, "{key_len} {value_len}");
        }
    }
}
