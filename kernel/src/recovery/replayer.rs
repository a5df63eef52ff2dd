//! What recovery does with the log: batches go into memtables, and memtables that are full into tables on the way.

use std::sync::Arc;

use super::Opening;
use crate::check::mark;
use crate::compaction::retain::Readers;
use crate::compaction::rewrite::Workshop;
use crate::env::BoxFuture;
use crate::error::Result;
use crate::flush;
use crate::manifest::{Change, Version};
use crate::reapply::{Progress, Reapplier};
use crate::tree::{KeyspaceState, State};
use crate::types::KeyspaceId;
use crate::types::file_name::{self, FileKind};
use crate::wal::{BatchSink, LogPlace};

/// Takes batches out of the log into memtables, and flushes those that are full.
pub(super) struct Replayer<'a> {
    opening: &'a Opening,
    state: State,
    pub(super) log: Reapplier<'a>,
    made: Vec<Change>,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(opening: &'a Opening, version: &'a Version) -> Self {
        Self {
            opening,
            state: State::default().following(version, None, &opening.graveyard),
            log: Reapplier::new(version),
            made: Vec::new(),
        }
    }

    /// What is to be written down, and how far commits had got.
    pub(super) fn finish(self) -> (Vec<Change>, Progress) {
        let leaps = self.log.leaps.into_iter().map(|(after, until)| Change::SeqGap { after, until });
        (self.made.into_iter().chain(leaps).collect(), self.log.progress)
    }

    async fn flush(&mut self, id: KeyspaceId) -> Result<()> {
        let Some(memory) = self.log.memories.get(&id).cloned() else { return Ok(()) };
        let Some(keyspace) = self.state.keyspace(id).cloned() else {
            self.log.memories.remove(&id);
            return Ok(());
        };
        let keyspace: Arc<KeyspaceState> = keyspace;
        let progress = &mut self.log.progress;
        let last = progress.last_seq;
        let kept_from = self.log.seq_gaps.back(last, self.opening.options.retain_commits);
        let kept_from = kept_from.max(progress.retained_from);
        progress.retained_from = kept_from;
        let readers = Readers::new(Vec::new(), last, kept_from);
        let next_file_no = || self.opening.numbers.take();
        let workshop = Workshop {
            env: &self.opening.env,
            dir: &self.opening.dir,
            next_file_no: &next_file_no,
            pace: &self.opening.pace,
        };
        let made = flush::run(&workshop, &keyspace, &memory, &readers).await?;
        self.log.memories.remove(&id);
        for table in made.tables {
            self.made.push(Change::AddTable { keyspace: id, level: 0, table: Arc::new(table) });
        }
        Ok(())
    }

    /// About how many bytes on disk what was read of the log takes: tables made, and memtables that are to be some.
    pub(super) fn room(&self) -> u64 {
        let made = self.made.iter().map(|change| match change {
            Change::AddTable { table, .. } => table.bytes,
            _ => 0,
        });
        made.sum::<u64>().saturating_add(self.log.bytes())
    }

    /// Removes the tables made so far. What cannot be removed is an orphan of the next opening.
    pub(super) async fn remove_made(&self) {
        for change in &self.made {
            if let Change::AddTable { table, .. } = change {
                let path = file_name::path(&self.opening.dir, FileKind::Table, table.no);
                drop(self.opening.disk().remove(&path).await);
            }
        }
    }

    pub(super) async fn flush_all(&mut self) -> Result<()> {
        let ids: Vec<KeyspaceId> = self.log.memories.keys().copied().collect();
        for id in ids {
            self.flush(id).await?;
        }
        Ok(())
    }

    async fn flush_full(&mut self) -> Result<()> {
        let limit = self.opening.options.memtable_bytes;
        let all = self.opening.options.memory_limit_bytes / 4;
        let total = self.log.bytes();
        self.log.memories.values().for_each(|memory| memory.table.count_in(&self.opening.budget));
        let full: Vec<KeyspaceId> = self
            .log
            .memories
            .iter()
            .filter(|(_, memory)| memory.table.bytes() >= limit || total >= all)
            .map(|(id, _)| *id)
            .collect();
        for id in full {
            mark!("recovery_flushed_midway");
            self.flush(id).await?;
        }
        Ok(())
    }
}

impl BatchSink for Replayer<'_> {
    fn batch(&mut self, place: LogPlace<'_>, body: &[u8]) -> Result<()> {
        self.log.batch(&place, body)
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.flush_full())
    }
}
