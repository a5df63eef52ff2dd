//! Fills the target: the tables of a state, what is in memory beside them, and the manifest that lists both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::target::Target;
use super::{BackupProgress, CheckpointInfo, Original, Tell};
use crate::check::mark;
use crate::compaction::retain::Readers;
use crate::compaction::rewrite::{self, Plan, Workshop};
use crate::env::IoErrorKind;
use crate::error::Result;
use crate::manifest::{Change, FileNumbers};
use crate::record::remove_quietly;
use crate::table::{BuildOptions, BuildReason, TableCopy, TableMeta};
use crate::tree::{KeyspaceState, Merge, Source, State, TableHandle, Tables};
use crate::types::{FileNo, KeyspaceId, RangeTombstones, Seq};

/// Whether the copy may share files with the original.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// By hard links, where the file systems allow it.
    Links,
    /// Every byte is its own.
    Nothing,
}

/// A copy being made.
pub(super) struct Copying<'a> {
    target: &'a Target<'a>,
    tables: &'a Tables,
    sharing: Sharing,
    /// Tables that stand in the target whole, and the bytes that were written for each.
    taken: BTreeMap<FileNo, u64>,
    /// The tables made of what was in memory.
    made: BTreeMap<KeyspaceId, Vec<TableMeta>>,
    numbers: Arc<FileNumbers>,
    progress: BackupProgress,
    tell: Tell<'a>,
}

impl<'a> Copying<'a> {
    /// Begins to fill `target` with what `tables` opens.
    pub fn begin(target: &'a Target<'a>, tables: &'a Tables, sharing: Sharing, tell: Tell<'a>) -> Self {
        let numbers = Arc::new(FileNumbers::new(FileNo::ZERO));
        let (taken, made, progress) = Default::default();
        Self { target, tables, sharing, taken, made, numbers, progress, tell }
    }

    /// From here on it is `state` that is to be copied. Of what was taken so far, the rest is removed again.
    pub async fn expect(&mut self, state: &State) {
        let mut kept = BTreeMap::new();
        self.progress = BackupProgress::default();
        for keyspace in state.keyspaces.values() {
            self.expect_bytes(keyspace.memory_bytes());
            for meta in keyspace.tables().map(|table| table.meta()) {
                self.expect_bytes(meta.bytes);
                if let Some(written) = self.taken.remove(&meta.no) {
                    kept.insert(meta.no, written);
                    self.progress.bytes_done = self.progress.bytes_done.saturating_add(meta.bytes);
                }
            }
        }
        for no in std::mem::replace(&mut self.taken, kept).into_keys() {
            remove_quietly(self.target.env.disk(), &self.target.table(no)).await;
        }
        (self.tell)(&self.progress);
    }

    fn expect_bytes(&mut self, bytes: u64) {
        self.progress.bytes_total = self.progress.bytes_total.saturating_add(bytes);
    }

    /// Takes each table of `state` that is not there yet.
    ///
    /// # Errors
    /// `Corrupt` naming the original's file; `Stale` if another process has removed it: the tables taken so far are
    /// whole, and with a newer state it can go on; `Closed`; what the disks answer.
    pub async fn take_tables(&mut self, state: &State) -> Result<()> {
        let handles = || state.keyspaces.values().flat_map(|keyspace| keyspace.tables());
        for table in handles() {
            if !self.taken.contains_key(&table.meta().no) {
                let written = self.take(table).await?;
                self.taken.insert(table.meta().no, written);
            }
        }
        Ok(())
    }

    /// Takes one table and gives the bytes that had to be written for it.
    async fn take(&mut self, table: &TableHandle) -> Result<u64> {
        let (target, meta) = (self.target, table.meta());
        let (from, to) = (self.tables.path(meta.no), target.table(meta.no));
        if self.sharing == Sharing::Links {
            match target.env.disk().hard_link(&from, &to).await {
                Ok(()) => {
                    self.advance(meta.bytes);
                    target.env.slice(4096).await;
                    return Ok(0);
                }
                // Another file system, one without links, or a file with too many.
                Err(error)
                    if matches!(
                        error.kind,
                        IoErrorKind::Unsupported | IoErrorKind::Permission | IoErrorKind::Other
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        mark!("checkpoint_copied");
        let source = self.tables.file(table).await?;
        let mut copy = TableCopy::begin(&**target.env, source, from, to, meta).await?;
        while let Some(bytes) = copy.step().await? {
            self.advance(bytes);
            target.pace.spend(bytes).await?;
        }
        Ok(meta.bytes)
    }

    /// Writes what is in memory of `state`, up to `seq`; versions from `retained_from` on are kept. Its tables get
    /// numbers from `next_file_no` on.
    ///
    /// # Errors
    /// `Closed`; what the disk answers.
    pub async fn write_memories(
        &mut self,
        state: &State,
        seq: Seq,
        retained_from: Seq,
        next_file_no: FileNo,
    ) -> Result<()> {
        self.numbers = Arc::new(FileNumbers::new(next_file_no));
        let readers = Readers::new(Vec::new(), seq, retained_from);
        for keyspace in state.keyspaces.values() {
            let made = self.write_memory(keyspace, seq, &readers).await?;
            self.made.insert(keyspace.id, made);
        }
        Ok(())
    }

    /// Puts the target into force, once everything is there.
    pub async fn finish(mut self, original: &Original<'_>) -> Result<CheckpointInfo> {
        let seq = original.seq;
        let mut changes = Vec::new();
        let mut info = CheckpointInfo { seq, tables: 0, bytes: 0, bytes_written: self.taken.values().sum() };
        for keyspace in original.state.keyspaces.values() {
            changes.push(Change::CreateKeyspace {
                id: keyspace.id,
                name: keyspace.name.to_string(),
                options: (*keyspace.options).clone(),
            });
            let mut list = |level, table: Arc<TableMeta>| {
                info.tables += 1;
                info.bytes = info.bytes.saturating_add(table.bytes);
                changes.push(Change::AddTable { keyspace: keyspace.id, level, table });
            };
            for (level, tables) in (0u8..).zip(&keyspace.levels) {
                tables.iter().for_each(|table| list(level, table.meta().clone()));
            }
            let made = self.made.remove(&keyspace.id).unwrap_or_default();
            let made_bytes: u64 = made.iter().map(|table| table.bytes).sum();
            made.into_iter().for_each(|table| list(0, Arc::new(table)));
            info.bytes_written += made_bytes;
        }
        changes.extend([
            Change::NextFileNo(self.numbers.next()),
            Change::NextKeyspaceId(original.next_keyspace_id),
            Change::LastSeq(seq),
            Change::SeqReserved { until: seq },
            Change::RetainedFrom(original.retained_from),
            Change::LastTimestamp(original.last_timestamp),
        ]);
        // A copy of what stands before a gap goes on in it: what a reader of the original saw is not in question here.
        let gaps = original.seq_gaps.iter().filter(|(_, until)| *until <= seq);
        changes.extend(gaps.map(|(after, until)| Change::SeqGap { after, until }));
        changes.push(Change::CleanClose);
        self.target.put_into_force(self.numbers.clone(), changes).await?;
        self.progress = BackupProgress { bytes_done: info.bytes, bytes_total: info.bytes };
        (self.tell)(&self.progress);
        Ok(info)
    }

    /// Writes what is in memory, up to `seq`, into a table of level 0.
    async fn write_memory(
        &mut self,
        keyspace: &KeyspaceState,
        seq: Seq,
        readers: &Readers,
    ) -> Result<Vec<TableMeta>> {
        let sets: Vec<_> = keyspace.memories().flat_map(|memory| memory.table.range_tombstones()).collect();
        let tombstones = sets.iter().flat_map(|set| set.list()).filter(|deleted| deleted.seq <= seq).cloned();
        let plan = Plan {
            build: BuildOptions::at_level(keyspace.id, &keyspace.options, 0, BuildReason::Flush),
            table_bytes: None,
            readers,
            tombstones: RangeTombstones::new(tombstones.collect()),
            anything_below: &|_, _| true,
            cut_at: &[],
            cut_before: &mut rewrite::never_cut,
        };
        let sources = keyspace.memories().map(|memory| Source::Memtable(memory.table.iter_until(seq)));
        let merge = Merge::new(sources.collect());
        let numbers = self.numbers.clone();
        let next_file_no = || numbers.take();
        let Target { env, dir, pace, .. } = self.target;
        let workshop = Workshop { env, dir, next_file_no: &next_file_no, pace };
        let made = rewrite::rewrite(&workshop, plan, merge).await?.tables;
        self.advance(made.iter().map(|table| table.bytes).sum());
        Ok(made)
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.bytes_done = self.progress.bytes_done.saturating_add(bytes);
        self.progress.bytes_total = self.progress.bytes_total.max(self.progress.bytes_done);
        (self.tell)(&self.progress);
    }
}
