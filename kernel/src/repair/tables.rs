//! One table of the original: its whole blocks into a table of the new directory, the rest into the report.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::assemble::{Assembly, Owner, SortedOutput, name_of};
use super::structure::{Plan, TablePlan};
use super::{KeyExtent, LostExtent, Mark, Progress, RepairProgress, behind};
use crate::error::{Error, Result};
use crate::table::{Salvage, Salvaged};
use crate::types::{KEY_LEN_MAX, OpKind, RangeTombstone, Seq};

/// How many bytes of a table are walked before that is told.
const TELL_BYTES: u64 = 1 << 20;

/// Takes what is whole of `table`. Tells how far it is in it, not that it is done.
///
/// # Errors
/// Only what the target's disk answers, and an original that is newer than this version.
pub(super) async fn salvage(
    plan: &Plan,
    table: &TablePlan,
    assembly: &mut Assembly,
    progress: &mut Progress<'_>,
) -> Result<()> {
    assembly.count_table();
    let owner = table.keyspace.map_or(Owner::Stray(table.no), Owner::Keyspace);
    let mut lost = Lost { plan, table, owner, found: Vec::new() };
    let begun = match &table.path {
        Some(path) => Salvage::begin(&plan.env, &plan.budget, path, table.id).await,
        None => Err(Error::corrupt_at(&table.named, 0, "the file is missing")),
    };
    let mut walk = match begun {
        Ok(walk) => walk,
        Err(newer @ Error::NewerFormat { .. }) => return Err(newer),
        Err(error) => {
            lost.everything(error.to_string());
            return lost.tell(assembly);
        }
    };
    let mut output = assembly.begin_output(owner).await?;
    let result = copy(&mut walk, &mut output, &mut lost, progress).await;
    match result {
        Ok(()) => assembly.end_output(output).await?,
        Err(error) => {
            output.abandon().await;
            return Err(error);
        }
    }
    if !walk.tombstones_seen() && table.meta.as_ref().is_none_or(|meta| meta.range_tombstones > 0) {
        lost.note(0, 0, "the block of deleted ranges", lost.whole_range());
    }
    if let Some(meta) = &table.meta {
        assembly.note_seq(meta.max_seq);
    }
    lost.tell(assembly)
}

async fn copy(
    walk: &mut Salvage,
    output: &mut SortedOutput,
    lost: &mut Lost<'_>,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let mut told = 0;
    loop {
        let position = walk.position();
        if position.saturating_sub(told) >= TELL_BYTES {
            told = position;
            let bytes_done = progress.now.bytes_done.saturating_add(position);
            (progress.tell)(RepairProgress { bytes_done, ..progress.now });
        }
        let next = match walk.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(error) => {
                lost.everything(error.to_string());
                return Ok(());
            }
        };
        match next {
            Salvaged::Entries(entries) => {
                for entry in entries {
                    let usable = entry.key.len() <= KEY_LEN_MAX
                        && entry.seq <= Seq::LIMIT
                        && entry.kind != OpKind::DeleteRange;
                    if !usable || !output.add(&entry.key, entry.seq, entry.kind, &entry.value).await? {
                        lost.note(0, 0, "an entry out of order or over a limit", lost.whole_range());
                    }
                }
            }
            Salvaged::Searching => {}
            Salvaged::Tombstones(tombstones) => {
                for tombstone in tombstones.list() {
                    output.add_range_tombstone(tombstone.clone());
                }
            }
            Salvaged::Lost { offset, len, may_hold_entries, after, before } => {
                let keys = if may_hold_entries { lost.between(after, before) } else { None };
                let missing = lost.missing_behind(offset, len);
                lost.note(offset, len.max(missing), "blocks that cannot be read", keys);
            }
        }
    }
}

/// What is lost of one table.
struct Lost<'a> {
    plan: &'a Plan,
    table: &'a TablePlan,
    owner: Owner,
    found: Vec<LostExtent>,
}

impl Lost<'_> {
    fn whole_range(&self) -> Option<KeyExtent> {
        Some(match &self.table.meta {
            Some(meta) => KeyExtent { start: meta.smallest.clone(), end: Some(behind(&meta.largest)) },
            None => KeyExtent::all(),
        })
    }

    /// Keys behind `after` up to and with `before`, as far as the table reached. Versions of `before` newer than the
    /// first that was read may be lost; those of `after` that may be are older than what was read.
    fn between(&self, after: Option<Vec<u8>>, before: Option<Vec<u8>>) -> Option<KeyExtent> {
        let whole = self.whole_range()?;
        let start = after.map(|after| behind(&after)).unwrap_or_default().max(whole.start);
        let end = match (before.map(|before| behind(&before)), whole.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let is_empty = end.as_ref().is_some_and(|end| *end <= start);
        (!is_empty).then_some(KeyExtent { start, end })
    }

    /// Bytes that a file which was cut lacks.
    fn missing_behind(&self, offset: u64, len: u64) -> u64 {
        let should = self.table.meta.as_ref().map_or(0, |meta| meta.bytes);
        if offset.saturating_add(len) >= self.table.bytes { should.saturating_sub(offset) } else { 0 }
    }

    fn everything(&mut self, what: String) {
        let len = self.table.meta.as_ref().map_or(self.table.bytes, |meta| meta.bytes.max(self.table.bytes));
        self.note(0, len, &format!("the table: {what}"), self.whole_range());
    }

    fn note(&mut self, offset: u64, len: u64, what: &str, keys: Option<KeyExtent>) {
        let file = self.table.path.as_ref().unwrap_or(&self.table.named).clone();
        let seqs = self.table.meta.as_ref().map(|meta| (meta.min_seq, meta.max_seq));
        let keyspace = Some(name_of(self.plan, self.owner).0);
        let seqs = keys.as_ref().map(|_| seqs.unwrap_or((Seq::ZERO, Seq::LIMIT)));
        self.found.push(LostExtent { file, offset, len, what: what.to_string(), keyspace, keys, seqs });
    }

    fn tell(self, assembly: &mut Assembly) -> Result<()> {
        for extent in self.found {
            if let (Some(keys), Some((_, through))) = (&extent.keys, extent.seqs) {
                assembly.mark(Mark { owner: Some(self.owner), keys: keys.clone(), through });
            }
            assembly.lose(extent);
        }
        Ok(())
    }
}

/// A range tombstone that deletes what lies in `keys` and is older than `through`.
pub(super) fn as_tombstone(keys: &KeyExtent, through: Seq) -> Option<RangeTombstone> {
    // Longer than every key and made of the greatest byte: behind all of them.
    let end = keys.end.clone().unwrap_or_else(|| vec![0xff; KEY_LEN_MAX + 1]);
    (keys.start < end).then(|| RangeTombstone {
        start: keys.start.clone().into(),
        end: end.into(),
        seq: through,
    })
}
