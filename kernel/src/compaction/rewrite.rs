//! From merged entries to new tables: what flush and compaction have in common.
//!
//! Entries arrive in order with every version; [`retain`](super::retain) says which stay. Tables are cut between
//! keys, never between versions of one key, and range tombstones are cut with them:
//!
//! ```text
//! entries      a a b │ d e │ g h
//! tombstone      [b──┼─────┼─g)        [b,i) becomes [b,d) [d,g) [g,i)
//! tables       1     │ 2   │ 3         ranges [a,d) [d,g) [g,i): no key lies in two of them
//! ```
//! Invariant: outputs are synced, with their directory, before they are returned. Half-made tables are removed.

use std::sync::Arc;

use super::pace::{Pace, SLICE_ENTRIES};
use super::retain::{KeyJudge, Readers, Verdict};
use crate::check::mark;
use crate::env::{Env, SharedDir};
use crate::error::Result;
use crate::table::{BuildOptions, TableBuilder, TableMeta};
use crate::tree::Merge;
use crate::types::{EntryRef, FileId, FileNo, OpKind, RangeTombstone, RangeTombstones, file_name};

/// What a rewrite needs of its surroundings.
pub(crate) struct Workshop<'a> {
    pub env: &'a Arc<dyn Env>,
    pub dir: &'a SharedDir,
    /// Numbers never given before.
    pub next_file_no: &'a (dyn Fn() -> FileNo + Send + Sync),
    pub pace: &'a Pace,
}

/// Answers for a key range, whose end is the second key or, if that is missing, the end of all keys.
pub(crate) type AnythingBelow<'a> = dyn Fn(&[u8], Option<&[u8]>) -> bool + Send + Sync + 'a;

/// What is to be made.
pub(crate) struct Plan<'a> {
    pub build: BuildOptions,
    /// Cut at this size; `None` makes one table.
    pub table_bytes: Option<u64>,
    pub readers: &'a Readers,
    /// All range tombstones of the inputs.
    pub tombstones: RangeTombstones,
    /// True if an older entry of a key in `start..=end` may lie below the output.
    pub anything_below: &'a AnythingBelow<'a>,
    /// Keys at which the output is cut in any case, ascending.
    pub cut_at: &'a [Vec<u8>],
    /// True if the output should be cut before this key, beside the reason of size.
    pub cut_before: &'a mut (dyn FnMut(&[u8]) -> bool + Send),
}

/// What was made and what was forgotten.
#[derive(Default, Debug)]
pub(crate) struct Made {
    pub tables: Vec<TableMeta>,
    pub entries_in: u64,
    pub versions_dropped: u64,
    pub tombstones_dropped: u64,
}

/// Writes everything `merge` has to say into new tables.
///
/// # Errors
/// Corruption or a failed read of an input, a failed write or a full disk for an output, `Closed` at shutdown.
/// Outputs made so far are removed.
pub(crate) async fn rewrite(workshop: &Workshop<'_>, plan: Plan<'_>, mut merge: Merge) -> Result<Made> {
    // What nobody can tell apart is gone from here on, so that a table gets few tombstones over each of its keys.
    let tombstones = plan.tombstones.folded(|seq| plan.readers.stripe(seq));
    let mut rewriter = Rewriter {
        workshop,
        plan: Plan { tombstones, ..plan },
        builder: None,
        tombstones_begun: 0,
        crossing: Vec::new(),
        made: Made::default(),
    };
    let entries = workshop.dir.begin_entries();
    let result = match rewriter.run(&mut merge).await {
        Ok(()) if rewriter.made.tables.is_empty() => Ok(()),
        Ok(()) => workshop.dir.sync(workshop.env.disk(), entries).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Ok(rewriter.made),
        Err(error) => {
            mark!("table_abandoned");
            rewriter.abandon().await;
            Err(error)
        }
    }
}

struct Rewriter<'a, 'b> {
    workshop: &'a Workshop<'a>,
    plan: Plan<'b>,
    builder: Option<TableBuilder>,
    /// How many range tombstones begin before the current table ends, or earlier.
    tombstones_begun: usize,
    /// What is left of those that reach over the last cut.
    crossing: Vec<RangeTombstone>,
    made: Made,
}

impl<'b> Rewriter<'_, 'b> {
    async fn run(&mut self, merge: &mut Merge) -> Result<()> {
        merge.seek_first().await?;
        let mut key = Vec::new();
        let mut judge: Option<KeyJudge> = None;
        let (mut entries, mut bytes) = (0, 0);
        while let Some(entry) = merge.entry() {
            if judge.is_none() || key != entry.key {
                key.clear();
                key.extend_from_slice(entry.key);
                while let Some(cut) = self.next_cut(Some(&key)) {
                    self.finish_table(Some(cut)).await?;
                }
                if self.is_full() || (self.plan.cut_before)(&key) {
                    self.finish_table(Some(&key)).await?;
                }
                judge = None;
            }
            self.take(entry, merge.value(), judge.get_or_insert_default()).await?;
            entries += 1;
            bytes += (key.len() + merge.value().len() + 16) as u64;
            if entries >= SLICE_ENTRIES || bytes >= 64 << 10 {
                self.workshop.pace.spend(bytes).await?;
                (entries, bytes) = (0, 0);
            }
            merge.advance().await?;
        }
        // Deleted ranges may reach beyond the last entry.
        while let Some(cut) = self.next_cut(None) {
            self.finish_table(Some(cut)).await?;
        }
        self.finish_table(None).await
    }

    /// The next of the cuts that are made in any case, if it does not stand after `key`; it counts as made.
    fn next_cut(&mut self, key: Option<&[u8]>) -> Option<&'b [u8]> {
        let cuts: &'b [Vec<u8>] = self.plan.cut_at;
        let (cut, later) = cuts.split_first()?;
        if key.is_some_and(|key| **cut > *key) {
            return None;
        }
        self.plan.cut_at = later;
        Some(cut)
    }

    /// Judges an entry and writes it if it stays.
    async fn take(&mut self, entry: EntryRef<'_>, value: &[u8], judge: &mut KeyJudge) -> Result<()> {
        let EntryRef { key, seq, kind } = entry;
        let readers = self.plan.readers;
        self.made.entries_in += 1;
        let deleted_at = match self.plan.tombstones.is_empty() {
            true => None,
            false => self.plan.tombstones.newest_covering(key, readers.stripe_end(seq)),
        };
        let is_delete = kind == OpKind::Delete;
        let bottom = is_delete && readers.all_see(seq) && !(self.plan.anything_below)(key, Some(key));
        match judge.judge(readers, seq, is_delete, deleted_at, bottom) {
            Verdict::Keep => self.builder().await?.add(key, seq, kind, value).await,
            Verdict::Superseded => {
                mark!("compaction_drops_version");
                self.made.versions_dropped += 1;
                Ok(())
            }
            Verdict::NothingToHide => {
                mark!("compaction_drops_tombstone");
                self.made.tombstones_dropped += 1;
                Ok(())
            }
        }
    }

    fn is_full(&self) -> bool {
        match (&self.builder, self.plan.table_bytes) {
            (Some(builder), Some(limit)) => builder.estimated_bytes() >= limit,
            _ => false,
        }
    }

    async fn builder(&mut self) -> Result<&mut TableBuilder> {
        if self.builder.is_none() {
            let Workshop { env, dir, next_file_no, .. } = *self.workshop;
            let id = FileId::new(env.random_u64());
            self.builder = Some(TableBuilder::create(env, dir, next_file_no(), id, self.plan.build).await?);
        }
        Ok(self.builder.as_mut().expect("made above"))
    }

    /// Ends the current table at `cut` (exclusive; `None` at the end of all), with its share of the range tombstones.
    async fn finish_table(&mut self, cut: Option<&[u8]>) -> Result<()> {
        let share = self.tombstones_before(cut);
        if self.builder.is_none() && share.is_empty() {
            return Ok(());
        }
        let builder = self.builder().await?;
        for tombstone in share {
            builder.add_range_tombstone(tombstone);
        }
        let builder = self.builder.take().expect("made above");
        let meta = builder.finish().await?;
        let bytes = meta.bytes;
        // Noted before anything else can fail, or nobody would remove it.
        self.made.tables.push(meta);
        self.workshop.pace.spend(bytes / 8).await
    }

    /// The range tombstones still needed between the last cut and `cut`, cut at both.
    fn tombstones_before(&mut self, cut: Option<&[u8]>) -> Vec<RangeTombstone> {
        let begin_later = &self.plan.tombstones.list()[self.tombstones_begun..];
        let begun = begin_later.partition_point(|tombstone| cut.is_none_or(|cut| *tombstone.start < *cut));
        let mut share = std::mem::take(&mut self.crossing);
        share.extend_from_slice(&begin_later[..begun]);
        self.tombstones_begun += begun;
        if let Some(cut) = cut.map(Arc::<[u8]>::from) {
            for tombstone in share.iter_mut().filter(|tombstone| tombstone.end > cut) {
                self.crossing.push(RangeTombstone { start: Arc::clone(&cut), ..tombstone.clone() });
                tombstone.end = Arc::clone(&cut);
            }
        }
        let before = share.len();
        share.retain(|tombstone| {
            let stripe = self.plan.readers.stripe(tombstone.seq);
            stripe > 0 || (self.plan.anything_below)(&tombstone.start, Some(&tombstone.end))
        });
        if share.len() < before {
            mark!("compaction_drops_tombstone");
            self.made.tombstones_dropped += (before - share.len()) as u64;
        }
        share
    }

    async fn abandon(&mut self) {
        if let Some(builder) = self.builder.take() {
            builder.abandon().await;
        }
        for table in self.made.tables.drain(..) {
            let path = file_name::path(self.workshop.dir, file_name::FileKind::Table, table.no);
            // What cannot be removed now is an orphan, and the next opening removes it.
            drop(self.workshop.env.disk().remove(&path).await);
        }
    }
}

/// Range tombstones of several tables or memtables as one.
pub(crate) fn gather<'a>(parts: impl Iterator<Item = &'a RangeTombstones>) -> RangeTombstones {
    RangeTombstones::new(parts.flat_map(|part| part.list()).cloned().collect())
}

/// A `cut_before` that never cuts.
pub(crate) fn never_cut(_: &[u8]) -> bool {
    false
}
