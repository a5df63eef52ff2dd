//! The new directory: sorted tables of what was found, one merge of them per keyspace, then the switch.
//!
//! A range of which something newer may be missing is, for a strict repair, the same as a range deleted at the greatest
//! `Seq` that may be missing: older versions in it are hidden, newer ones are not. So the merge needs no rule of its
//! own. Nobody reads the past of a repaired database, so of each key only the newest version is kept, and deletes have
//! nothing left to hide.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::structure::{Plan, Structure};
use super::tables::as_tombstone;
use super::{KeyExtent, LostExtent, Mark, RepairOptions, RepairReport, RepairedKeyspace, UncertainRange};
use crate::cache::{BlockCache, Budget};
use crate::compaction::pace::{Pace, SLICE_ENTRIES};
use crate::compaction::retain::Readers;
use crate::compaction::rewrite::{self, Workshop};
use crate::env::{Env, SharedDir};
use crate::error::{Error, Result};
use crate::manifest::{Change, Edit, FileNumbers, ManifestWriter, Version};
use crate::memtable::Memtable;
use crate::options::{Compression, KeyspaceOptions, LEVELS};
use crate::record::remove_quietly;
use crate::table::{BuildOptions, BuildReason, TableBuilder, TableMeta, TableReader};
use crate::tree::{Merge, Source};
use crate::types::file_name::{self, FileKind};
use crate::types::{FileId, FileNo, KeyspaceId, Op, OpKind, RangeTombstone, RangeTombstones, Seq, Timestamp};

/// Tables merged at once.
pub(super) const FAN_IN: usize = 64;
/// Entries of the log are collected up to this size.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Blocks that are kept while merging.
const CACHE_BYTES: u64 = 8 << 20;
/// `Seq`s left out where commits may be lost that someone saw: those that one opening reserves ahead.
const SEQ_MARGIN: u64 = 1 << 20;
/// A commit takes at least so many bytes of log.
const COMMIT_BYTES_MIN: u64 = 24;

/// Whose entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    Keyspace(KeyspaceId),
    /// A table of which nothing tells the keyspace gets one to itself.
    Stray(FileNo),
}

/// Everything found so far.
pub(super) struct Assembly {
    env: Arc<dyn Env>,
    dir: Arc<SharedDir>,
    numbers: FileNumbers,
    pace: Pace,
    cache: Arc<BlockCache>,
    parts: BTreeMap<Owner, Vec<TableMeta>>,
    memories: BTreeMap<Owner, Arc<Memtable>>,
    marks: Vec<Mark>,
    lost: Vec<LostExtent>,
    tables: u64,
    log_segments: u64,
    batches: u64,
    last_seq: Seq,
    last_timestamp: Timestamp,
}

/// A table under way, which takes entries only in order.
pub(super) struct SortedOutput {
    owner: Owner,
    builder: TableBuilder,
    last: Option<(Vec<u8>, Seq)>,
}

impl SortedOutput {
    /// False if the entry does not follow the last one; it is left out then.
    pub async fn add(&mut self, key: &[u8], seq: Seq, kind: OpKind, value: &[u8]) -> Result<bool> {
        let follows =
            |(last, at): &(Vec<u8>, Seq)| (&last[..], std::cmp::Reverse(*at)) < (key, std::cmp::Reverse(seq));
        if !self.last.as_ref().is_none_or(follows) {
            return Ok(false);
        }
        self.builder.add(key, seq, kind, value).await?;
        self.last = Some((key.to_vec(), seq));
        Ok(true)
    }

    pub fn add_range_tombstone(&mut self, tombstone: RangeTombstone) {
        self.builder.add_range_tombstone(tombstone);
    }

    pub async fn abandon(self) {
        self.builder.abandon().await;
    }
}

impl Assembly {
    pub fn new(env: Arc<dyn Env>, target: &Path, plan: &Plan) -> Self {
        let budget = Arc::new(Budget::new(2 * CACHE_BYTES));
        Self {
            pace: Pace::new(env.clone(), 0),
            env,
            dir: SharedDir::new(target),
            numbers: FileNumbers::new(FileNo::new(1)),
            cache: Arc::new(BlockCache::new(CACHE_BYTES, budget)),
            parts: BTreeMap::new(),
            memories: BTreeMap::new(),
            marks: Vec::new(),
            lost: plan.lost.clone(),
            tables: 0,
            log_segments: 0,
            batches: 0,
            last_seq: plan.version.last_seq,
            last_timestamp: plan.version.last_timestamp,
        }
    }

    pub fn count_table(&mut self) {
        self.tables = self.tables.saturating_add(1);
    }

    pub fn count_segment(&mut self) {
        self.log_segments = self.log_segments.saturating_add(1);
    }

    pub fn note_batch(&mut self, seq: Seq, timestamp: Timestamp) {
        self.batches = self.batches.saturating_add(1);
        self.last_seq = self.last_seq.max(seq);
        self.last_timestamp = self.last_timestamp.max(timestamp);
    }

    pub fn note_seq(&mut self, seq: Seq) {
        self.last_seq = self.last_seq.max(seq);
    }

    pub fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// True if every key of every keyspace is marked.
    pub fn is_all_uncertain(&self, plan: &Plan) -> bool {
        plan.marks.iter().chain(&self.marks).any(|mark| mark.owner.is_none())
    }

    pub fn lose(&mut self, extent: LostExtent) {
        self.lost.push(extent);
    }

    /// Begins a sorted table of entries of `owner`.
    pub async fn begin_output(&self, owner: Owner) -> Result<SortedOutput> {
        let (no, id) = (self.numbers.take(), FileId::new(self.env.random_u64()));
        let options = BuildOptions {
            block_bytes: KeyspaceOptions::default().block_bytes,
            compression: Compression::None,
            filter_bits_per_key: 0,
            reason: BuildReason::Repair,
            keyspace: match owner {
                Owner::Keyspace(id) => id,
                Owner::Stray(_) => KeyspaceId::new(u32::MAX),
            },
        };
        let builder = TableBuilder::create(&self.env, &self.dir, no, id, options).await?;
        Ok(SortedOutput { owner, builder, last: None })
    }

    pub async fn end_output(&mut self, output: SortedOutput) -> Result<()> {
        // Also an owner of whom nothing was found has a keyspace.
        let parts = self.parts.entry(output.owner).or_default();
        if output.builder.is_empty() {
            output.builder.abandon().await;
            return Ok(());
        }
        let meta = output.builder.finish().await?;
        self.last_seq = self.last_seq.max(meta.max_seq);
        parts.push(meta);
        Ok(())
    }

    /// Takes an operation of the log.
    pub fn apply(&mut self, op: Op<'_>, seq: Seq) {
        let memory = self.memories.entry(Owner::Keyspace(op.keyspace)).or_insert_with(|| Memtable::new(0));
        match op.kind {
            // A group that was written anew after a full disk stands in the log twice.
            OpKind::Put | OpKind::Delete if memory.newest_seq(op.key).is_none_or(|newest| newest < seq) => {
                memory.insert(op.key, seq, op.kind, op.value);
            }
            OpKind::Put | OpKind::Delete => {}
            OpKind::DeleteRange => {
                memory.add_range_tombstone(RangeTombstone { start: op.key.into(), end: op.value.into(), seq })
            }
        }
    }

    /// Writes memtables into tables if they are large together.
    pub async fn flush_full(&mut self) -> Result<()> {
        if self.memories.values().map(|memory| memory.bytes()).sum::<u64>() >= MEMTABLE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        for (owner, memory) in std::mem::take(&mut self.memories) {
            let mut output = self.begin_output(owner).await?;
            let mut entries = memory.iter();
            entries.seek_first();
            let (mut count, mut bytes) = (0, 0);
            while entries.valid() {
                output.add(entries.key(), entries.seq(), entries.kind(), entries.value()).await?;
                let len = entries.key().len().saturating_add(entries.value().len());
                (count, bytes) = (u32::saturating_add(count, 1), u64::saturating_add(bytes, len as u64));
                if count >= SLICE_ENTRIES {
                    self.pace.spend(bytes).await?;
                    (count, bytes) = (0, 0);
                }
                entries.next();
            }
            for tombstone in memory.range_tombstones().iter().flat_map(|set| set.list()) {
                output.add_range_tombstone(tombstone.clone());
            }
            self.end_output(output).await?;
        }
        Ok(())
    }

    /// Merges everything, writes the manifest and makes the directory a database.
    pub async fn finish(mut self, plan: &Plan, options: RepairOptions) -> Result<RepairReport> {
        self.flush().await?;
        for id in plan.keyspaces.keys() {
            self.parts.entry(Owner::Keyspace(*id)).or_default();
        }
        let mut changes = Vec::new();
        let mut keyspaces = Vec::new();
        let mut uncertain = Vec::new();
        let ids = self.ids(plan);
        for (owner, (id, name, name_is_made_up)) in &ids {
            let keyspace_options = match owner {
                Owner::Keyspace(id) => plan.options_of(*id),
                Owner::Stray(_) => KeyspaceOptions::default(),
            };
            let marks = self.marks_of(plan, *owner);
            let made = self.merge(*owner, *id, &keyspace_options, &marks, options.strict).await?;
            keyspaces.push(RepairedKeyspace {
                name: name.clone(),
                name_is_made_up: *name_is_made_up,
                keys: made.iter().map(|table| table.entries).sum(),
                bytes: made.iter().map(|table| table.bytes).sum(),
            });
            let ranges = marks.into_iter();
            uncertain.extend(ranges.map(|(keys, through)| UncertainRange {
                keyspace: name.clone(),
                keys,
                through,
            }));
            changes.push(Change::CreateKeyspace { id: *id, name: name.clone(), options: keyspace_options });
            let level = (LEVELS - 1) as u8;
            changes.extend(made.into_iter().map(|table| Change::AddTable {
                keyspace: *id,
                level,
                table: Arc::new(table),
            }));
        }
        self.switch(plan, changes).await?;
        Ok(RepairReport {
            structure: plan.structure,
            keyspaces,
            lost: self.lost,
            uncertain,
            tables: self.tables,
            log_segments: self.log_segments,
            batches: self.batches,
            last_seq: self.last_seq,
        })
    }

    /// Number and name of each keyspace in the new database.
    fn ids(&self, plan: &Plan) -> BTreeMap<Owner, (KeyspaceId, String, bool)> {
        let mut next = plan.version.next_keyspace_id;
        let mut names: Vec<String> = plan.keyspaces.values().map(|(name, _)| name.clone()).collect();
        let mut ids = BTreeMap::new();
        for owner in self.parts.keys() {
            let id = match owner {
                Owner::Keyspace(id) => *id,
                Owner::Stray(_) => KeyspaceId::new(next),
            };
            next = next.max(id.get().saturating_add(1));
            let (mut name, is_made_up) = name_of(plan, *owner);
            while is_made_up && names.contains(&name) {
                name.push('\'');
            }
            names.push(name.clone());
            ids.insert(*owner, (id, name, is_made_up));
        }
        ids
    }

    fn marks_of(&self, plan: &Plan, owner: Owner) -> Vec<(KeyExtent, Seq)> {
        let all = plan.marks.iter().chain(&self.marks);
        let ours = all.filter(|mark| mark.owner.is_none_or(|of| of == owner));
        let mut marks: Vec<_> = ours.map(|mark| (mark.keys.clone(), mark.through)).collect();
        marks.sort_unstable();
        marks.dedup();
        // One that covers everything for good says all.
        if let Some(all) = marks.iter().find(|(keys, seq)| *keys == KeyExtent::all() && *seq == Seq::LIMIT) {
            marks = vec![all.clone()];
        }
        marks
    }

    async fn merge(
        &mut self,
        owner: Owner,
        id: KeyspaceId,
        options: &KeyspaceOptions,
        marks: &[(KeyExtent, Seq)],
        strict: bool,
    ) -> Result<Vec<TableMeta>> {
        let mut parts = self.parts.get(&owner).cloned().unwrap_or_default();
        let mut build = BuildOptions {
            block_bytes: options.block_bytes,
            compression: Compression::None,
            filter_bits_per_key: 0,
            reason: BuildReason::Repair,
            keyspace: id,
        };
        while parts.len() > FAN_IN {
            let some: Vec<TableMeta> = parts.drain(..FAN_IN).collect();
            parts.extend(self.rewrite(&some, build, None, RangeTombstones::default()).await?);
        }
        build.compression = options.compression_at(LEVELS - 1);
        build.filter_bits_per_key = options.filter_bits_per_key;
        let hidden = match strict {
            true => marks.iter().filter_map(|(keys, through)| as_tombstone(keys, *through)).collect(),
            false => Vec::new(),
        };
        self.rewrite(&parts, build, Some(options.table_bytes), RangeTombstones::new(hidden)).await
    }

    /// Merges `parts` and removes them. With `table_bytes` it is the last merge, under which nothing lies.
    async fn rewrite(
        &self,
        parts: &[TableMeta],
        build: BuildOptions,
        table_bytes: Option<u64>,
        hidden: RangeTombstones,
    ) -> Result<Vec<TableMeta>> {
        let mut readers = Vec::new();
        for meta in parts {
            readers.push(TableReader::open(&self.env, &self.cache, &self.dir, meta, false).await?);
        }
        let tombstones = readers.iter().map(|reader| reader.range_tombstones()).chain([&hidden]);
        let take_number = || self.numbers.take();
        let workshop =
            Workshop { env: &self.env, dir: &self.dir, next_file_no: &take_number, pace: &self.pace };
        let plan = rewrite::Plan {
            build,
            table_bytes,
            readers: &Readers::new(Vec::new(), Seq::LIMIT, Seq::LIMIT),
            tombstones: rewrite::gather(tombstones),
            anything_below: &|_, _| table_bytes.is_none(),
            cut_at: &[],
            cut_before: &mut rewrite::never_cut,
        };
        let sources = readers.iter().map(|reader| Source::Table(Box::new(reader.iter(false)))).collect();
        let made = rewrite::rewrite(&workshop, plan, Merge::new(sources)).await?;
        for meta in parts {
            remove_quietly(self.env.disk(), &file_name::path(&self.dir, FileKind::Table, meta.no)).await;
        }
        Ok(made.tables)
    }

    async fn switch(&mut self, plan: &Plan, mut changes: Vec<Change>) -> Result<()> {
        let old = &plan.version;
        self.last_seq = self.last_seq.max(old.last_seq);
        let mut reserved = self.last_seq.max(old.seq_reserved).get();
        if !self.lost.is_empty() {
            // The length of a missing table is the manifest's word, and that may be any number.
            let bytes = self.lost.iter().fold(0, |bytes: u64, extent| bytes.saturating_add(extent.len));
            reserved = reserved.saturating_add(SEQ_MARGIN).saturating_add(bytes / COMMIT_BYTES_MIN);
        }
        if plan.structure == Structure::Lost {
            self.last_timestamp = self.last_timestamp.max(self.env.wall_now());
        }
        changes.push(Change::NextKeyspaceId(old.next_keyspace_id.max(last_keyspace(&changes))));
        changes.push(Change::LastSeq(self.last_seq));
        changes.push(Change::SeqReserved { until: Seq::new(reserved).min(Seq::LIMIT) });
        changes.push(Change::RetainedFrom(self.last_seq));
        changes.push(Change::LastTimestamp(self.last_timestamp));
        changes.push(Change::NextFileNo(self.numbers.next()));
        let version = Version::default()
            .apply(&Edit::from(changes))
            .map_err(|refused| Error::Invalid(refused.to_string()))?;
        let numbers = Arc::new(FileNumbers::new(self.numbers.next()));
        let (env, database) = (self.env.clone(), self.env.random_u64());
        let mut writer = ManifestWriter::create(env, self.dir.clone(), database, numbers, version).await?;
        writer.install_current().await
    }
}

fn last_keyspace(changes: &[Change]) -> u32 {
    let created = changes.iter().filter_map(|change| match change {
        Change::CreateKeyspace { id, .. } => Some(id.get().saturating_add(1)),
        _ => None,
    });
    created.max().unwrap_or(0)
}

/// The name of a keyspace in the new database, and whether it is made up.
pub(super) fn name_of(plan: &Plan, owner: Owner) -> (String, bool) {
    match owner {
        Owner::Keyspace(id) => plan.name_of(id),
        Owner::Stray(no) => (format!("table-{no}"), true),
    }
}
