//! What the database says of itself.

use super::Db;
use crate::cache::{BlockCache, Purpose};
use crate::error::Result;
use crate::metrics::{MetricValue, Metrics};
use crate::options::{KeyspaceOptions, LEVELS};
use crate::tree::{KeyspaceState, State};
use crate::types::{KeyspaceId, Seq};

/// One level of a keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LevelInfo {
    /// Number of tables.
    pub tables: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Entries in them: versions, deletes included.
    pub entries: u64,
    /// Deletes among them.
    pub deletes: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Bytes of keys and values, before compression, of versions that are older than another in the same table. They go
    /// once no snapshot, transaction or retained past needs them and a compaction comes by.
    pub superseded_bytes: u64,
}

/// One keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyspaceInfo {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// The options in force.
    pub options: KeyspaceOptions,
    /// Entries in memtables.
    pub memtable_entries: u64,
    /// Bytes of its memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub frozen_memtables: u64,
    /// Its levels, 0 to 6.
    pub levels: [LevelInfo; LEVELS],
}

impl KeyspaceInfo {
    pub(super) fn of(keyspace: &KeyspaceState) -> Self {
        let mut levels = [LevelInfo::default(); LEVELS];
        for (info, tables) in levels.iter_mut().zip(&keyspace.levels) {
            for meta in tables.iter().map(|table| table.meta()) {
                // The manifest's word, which nobody has compared with the table's yet: it may be any number.
                info.tables += 1;
                info.bytes = info.bytes.saturating_add(meta.bytes);
                info.entries = info.entries.saturating_add(meta.entries);
                info.deletes = info.deletes.saturating_add(meta.deletes);
                info.range_tombstones = info.range_tombstones.saturating_add(meta.range_tombstones);
                info.superseded_bytes = info.superseded_bytes.saturating_add(meta.superseded_bytes);
            }
        }
        Self {
            id: keyspace.id,
            name: keyspace.name.to_string(),
            options: (*keyspace.options).clone(),
            memtable_entries: keyspace.memories().map(|memory| memory.table.entries()).sum(),
            memtable_bytes: keyspace.memories().map(|memory| memory.table.bytes()).sum(),
            frozen_memtables: keyspace.frozen.len() as u64,
            levels,
        }
    }

    /// Bytes of its tables.
    pub fn table_bytes(&self) -> u64 {
        self.levels.iter().fold(0, |sum, level| sum.saturating_add(level.bytes))
    }

    /// Number of entries, old versions and deletes included: an upper bound of the number of keys, without a scan.
    pub fn approximate_count(&self) -> u64 {
        let puts = self.levels.iter().map(|level| level.entries.saturating_sub(level.deletes));
        puts.fold(self.memtable_entries, u64::saturating_add)
    }
}

impl Db {
    /// All keyspaces, by number.
    ///
    /// # Errors
    /// `Closed`.
    pub fn keyspaces(&self) -> Result<Vec<KeyspaceInfo>> {
        self.engine().gate.check_read()?;
        Ok(self
            .engine()
            .published
            .load()
            .keyspaces
            .values()
            .map(|keyspace| KeyspaceInfo::of(keyspace))
            .collect())
    }

    /// The oldest commit that a snapshot, a transaction or the retention still holds, and how many readers there are.
    pub fn oldest_reader(&self) -> (Option<Seq>, u64) {
        (self.engine().snapshots.oldest(), self.engine().snapshots.count())
    }

    /// Why writes have stopped, if they have.
    pub fn stopped(&self) -> Option<String> {
        self.engine().gate.stopped()
    }

    /// The identity that the database was given when it was created: random, and kept for life. A copy of the
    /// directory has the same.
    pub fn database_id(&self) -> u64 {
        self.engine().database_id
    }

    /// Everything that is counted, as of now. Names and units are stable; see [`Metrics`].
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        self.push_recorded(&mut metrics);
        metrics.push(
            "holdfast_commits_waiting",
            "Commits, and controls of the log, that no leader has taken yet.",
            MetricValue::Gauge(self.engine().committer.waiting()),
        );
        push_identity(self.database_id(), &mut metrics);
        let state = self.engine().published.load();
        push_levels(&state, &mut metrics);
        self.push_write_amplification(&mut metrics);
        push_shape(&state, &mut metrics);
        self.push_memory(&mut metrics);
        metrics
    }

    fn push_recorded(&self, metrics: &mut Metrics) {
        use MetricValue::{Counter, Histogram};
        let recorder = &self.engine().recorder;
        for (name, help, histogram) in [
            ("holdfast_commit_ns", "From the call of a commit to its acknowledgement.", &recorder.commit),
            (
                "holdfast_sync_ns",
                "One durable append to the log, for a whole group of commits.",
                &recorder.sync,
            ),
            ("holdfast_get_ns", "One look-up of a key.", &recorder.get),
            (
                "holdfast_stall_ns",
                "How long a writer was held back for flush and compaction.",
                &recorder.stall,
            ),
        ] {
            metrics.push(name, help, Histogram(histogram.summary()));
        }
        for (name, help, counter) in [
            ("holdfast_commits_total", "Commits acknowledged.", &recorder.commits),
            ("holdfast_conflicts_total", "Commits refused because another was first.", &recorder.conflicts),
            ("holdfast_commit_groups_total", "Groups of commits written to the log.", &recorder.groups),
            (
                "holdfast_user_bytes_written_total",
                "Bytes of keys and values committed.",
                &recorder.user_bytes_written,
            ),
            (
                "holdfast_user_bytes_read_total",
                "Bytes of keys and values found by look-ups.",
                &recorder.user_bytes_read,
            ),
            (
                "holdfast_log_bytes_written_total",
                "Bytes of log used by commits.",
                &recorder.log_bytes_written,
            ),
            ("holdfast_flushes_total", "Memtables written into tables.", &recorder.flushes),
            ("holdfast_flush_bytes_written_total", "Bytes of those tables.", &recorder.flush_bytes_written),
            ("holdfast_compactions_total", "Compactions finished.", &recorder.compactions),
            (
                "holdfast_compaction_bytes_read_total",
                "Bytes of their inputs.",
                &recorder.compaction_bytes_read,
            ),
            (
                "holdfast_compaction_bytes_written_total",
                "Bytes of their outputs.",
                &recorder.compaction_bytes_written,
            ),
            (
                "holdfast_versions_dropped_total",
                "Versions that no reader needed any more.",
                &recorder.versions_dropped,
            ),
        ] {
            metrics.push(name, help, Counter(counter.get()));
        }
    }

    fn push_write_amplification(&self, metrics: &mut Metrics) {
        let recorder = &self.engine().recorder;
        let written = recorder.log_bytes_written.get()
            + recorder.flush_bytes_written.get()
            + recorder.compaction_bytes_written.get();
        metrics.push(
            "holdfast_write_amplification_ratio",
            "Bytes written to log and tables for each byte committed, since the opening.",
            ratio(written, recorder.user_bytes_written.get()),
        );
    }

    fn push_memory(&self, metrics: &mut Metrics) {
        use MetricValue::Gauge;
        let engine = self.engine();
        push_cache(&engine.cache, metrics);
        metrics.push(
            "holdfast_memory_used_bytes",
            "Memory in use for all purposes together.",
            Gauge(engine.budget.used()),
        );
        metrics.push(
            "holdfast_memory_limit_bytes",
            "Option memory_limit_bytes.",
            Gauge(engine.budget.limit()),
        );
        for (purpose, name) in [
            (Purpose::Memtable, "memtable"),
            (Purpose::Cache, "cache"),
            (Purpose::TableMeta, "table_meta"),
            (Purpose::Transaction, "transaction"),
            (Purpose::Pinned, "pinned"),
        ] {
            let help = "Memory in use, by purpose.";
            let bytes = engine.budget.used_by(purpose);
            metrics.push_labelled(
                "holdfast_memory_bytes",
                help,
                vec![("purpose", name.to_string())],
                Gauge(bytes),
            );
        }
        let (oldest, readers) = self.oldest_reader();
        let visible = engine.published.visible();
        metrics.push("holdfast_last_sequence", "The newest visible commit.", Gauge(visible.get()));
        metrics.push("holdfast_readers", "Open snapshots and transactions.", Gauge(readers));
        metrics.push(
            "holdfast_oldest_reader_age_commits",
            "Commits since the oldest open snapshot or transaction began; their versions are kept for it.",
            Gauge(oldest.map_or(0, |oldest| visible.get() - oldest.get())),
        );
    }
}

/// What share one is of another.
fn ratio(part: u64, whole: u64) -> MetricValue {
    let thousandths = u128::from(part) * 1000 / u128::from(whole.max(1));
    MetricValue::Ratio(u64::try_from(thousandths).unwrap_or(u64::MAX))
}

/// Whose the figures are.
pub(super) fn push_identity(database_id: u64, metrics: &mut Metrics) {
    metrics.push_labelled(
        "holdfast_database",
        "Always 1; its label is the identity that the database was given when it was created.",
        vec![("id", format!("{database_id:016x}"))],
        MetricValue::Gauge(1),
    );
}

/// How far the shape of a state is from one sorted run.
pub(super) fn push_shape(state: &State, metrics: &mut Metrics) {
    let runs = state.keyspaces.values().map(|keyspace| {
        let runs = keyspace.levels.iter().skip(1).filter(|level| !level.is_empty()).count();
        (keyspace.levels[0].len() + runs + keyspace.frozen.len() + 1) as u64
    });
    metrics.push(
        "holdfast_read_amplification",
        "Memtables and sorted runs that a look-up may have to ask, in the worst keyspace.",
        MetricValue::Gauge(runs.max().unwrap_or(0)),
    );
    let infos = || state.keyspaces.values().map(|keyspace| KeyspaceInfo::of(keyspace));
    let all: u64 = infos().map(|info| info.table_bytes()).sum();
    let deepest: u64 = infos()
        .filter_map(|info| info.levels.iter().rev().find(|level| level.bytes > 0).map(|level| level.bytes))
        .sum();
    metrics.push(
        "holdfast_space_amplification_ratio",
        "Bytes of all tables for each byte of the deepest levels: an upper bound of what dead versions take.",
        ratio(all, deepest.max(1)),
    );
}

/// What stands in the levels and memtables of a state.
pub(super) fn push_levels(state: &State, metrics: &mut Metrics) {
    type Figure = fn(&LevelInfo) -> u64;
    let figures: [(&str, &str, Figure); 3] = [
        ("holdfast_level_bytes", "Bytes of the tables of a level.", |info| info.bytes),
        ("holdfast_level_tables", "Tables of a level, each a file.", |info| info.tables),
        ("holdfast_level_entries", "Versions in the tables of a level, deletes included.", |info| {
            info.entries
        }),
    ];
    for (name, help, figure) in figures {
        for keyspace in state.keyspaces.values() {
            let info = KeyspaceInfo::of(keyspace);
            for (level, info) in info.levels.iter().enumerate().filter(|(_, info)| info.tables > 0) {
                let labels = vec![("keyspace", keyspace.name.to_string()), ("level", level.to_string())];
                metrics.push_labelled(name, help, labels, MetricValue::Gauge(figure(info)));
            }
        }
    }
    for keyspace in state.keyspaces.values() {
        let labels = vec![("keyspace", keyspace.name.to_string())];
        let help = "Bytes of the memtables of a keyspace.";
        let bytes = KeyspaceInfo::of(keyspace).memtable_bytes;
        metrics.push_labelled("holdfast_memtable_bytes", help, labels, MetricValue::Gauge(bytes));
    }
}

/// What a block cache did and holds.
pub(super) fn push_cache(cache: &BlockCache, metrics: &mut Metrics) {
    use MetricValue::{Counter, Gauge};
    let cache = cache.stats();
    metrics.push("holdfast_cache_hits_total", "Blocks found in the cache.", Counter(cache.hits));
    metrics.push("holdfast_cache_misses_total", "Blocks read from disk.", Counter(cache.misses));
    metrics.push("holdfast_cache_bytes", "Bytes of blocks in the cache.", Gauge(cache.bytes));
}
