//! Carries out a job: reads its inputs around the cache, writes the outputs, says what the manifest should change.

use std::sync::Arc;

use super::pick::{self, Job};
use super::retain::Readers;
use super::rewrite::{self, Made, Plan, Workshop};
use crate::check::mark;
use crate::error::Result;
use crate::manifest::Change;
use crate::table::{BuildOptions, BuildReason};
use crate::tree::{KeyspaceState, Level, LevelIter, Merge, Source, TableHandle, Tables};

/// An output is also cut when it overlaps more than this many times `table_bytes` of the level below it, so that its
/// own compaction later stays small.
const GRANDPARENT_TABLES: u64 = 10;

/// Merges the inputs of `job` into new tables of its output level.
///
/// # Errors
/// As [`rewrite::rewrite`]. Nothing changes until the caller applies [`changes`].
pub(crate) async fn run(
    workshop: &Workshop<'_>,
    tables: &Arc<Tables>,
    keyspace: &KeyspaceState,
    job: &Job,
    readers: &Readers,
) -> Result<Made> {
    let mut sources = Vec::new();
    let mut deleted = Vec::new();
    for handle in job.inputs() {
        let reader = tables.reader(handle).await?;
        if handle.meta().range_tombstones > 0 {
            deleted.push(reader.clone());
        }
        if job.level == 0 && job.upper.iter().any(|upper| Arc::ptr_eq(upper, handle)) {
            sources.push(Source::Table(Box::new(reader.iter(false))));
        }
    }
    if job.level > 0 {
        sources.push(run_source(&job.upper, tables));
    }
    if !job.lower.is_empty() {
        sources.push(run_source(&job.lower, tables));
    }
    let options = &keyspace.options;
    let below = &|start: &[u8], end: Option<&[u8]>| pick::anything_below(keyspace, job, start, end);
    let stays = job.output_level == 0;
    let mut grandparents = Grandparents::new(keyspace, job.output_level);
    let plan = Plan {
        build: BuildOptions::at_level(
            keyspace.id,
            &keyspace.options,
            job.output_level,
            BuildReason::Compaction,
        ),
        table_bytes: (!stays).then_some(options.table_bytes),
        readers,
        tombstones: rewrite::gather(deleted.iter().map(|reader| reader.range_tombstones())),
        anything_below: below,
        cut_at: &job.cuts,
        cut_before: &mut |key| !stays && grandparents.cut_before(key),
    };
    rewrite::rewrite(workshop, plan, Merge::new(sources)).await
}

fn run_source(run: &[Arc<TableHandle>], tables: &Arc<Tables>) -> Source {
    Source::Level(Box::new(LevelIter::new(Level::new(run.to_vec()), 0..run.len(), tables.clone(), false)))
}

/// The manifest changes that put `made` in place of the inputs.
pub(crate) fn changes(job: &Job, made: &Made) -> Vec<Change> {
    let mut changes = removals(job);
    for table in &made.tables {
        let table = Arc::new(table.clone());
        changes.push(Change::AddTable { keyspace: job.keyspace, level: job.output_level as u8, table });
    }
    changes
}

/// The changes of a job that only moves its one table a level down.
pub(crate) fn move_changes(job: &Job) -> Vec<Change> {
    let mut changes = removals(job);
    for table in &job.upper {
        let (keyspace, level) = (job.keyspace, job.output_level as u8);
        changes.push(Change::AddTable { keyspace, level, table: table.meta().clone() });
    }
    changes
}

fn removals(job: &Job) -> Vec<Change> {
    let of = |level: usize, inputs: &[Arc<TableHandle>]| {
        let remove = move |table: &Arc<TableHandle>| Change::RemoveTable {
            keyspace: job.keyspace,
            level: level as u8,
            no: table.meta().no,
        };
        inputs.iter().map(remove).collect::<Vec<_>>()
    };
    let mut changes = of(job.level, &job.upper);
    changes.extend(of(job.output_level, &job.lower));
    changes
}

/// Counts how much of the level below the output a table overlaps so far.
struct Grandparents<'a> {
    run: &'a [Arc<TableHandle>],
    limit: u64,
    at: usize,
    bytes: u64,
}

impl<'a> Grandparents<'a> {
    fn new(keyspace: &'a KeyspaceState, output_level: usize) -> Self {
        let run = keyspace.levels.get(output_level + 1).map_or(&[][..], |level| level);
        Self { run, limit: keyspace.options.table_bytes.saturating_mul(GRANDPARENT_TABLES), at: 0, bytes: 0 }
    }

    fn cut_before(&mut self, key: &[u8]) -> bool {
        while let Some(table) = self.run.get(self.at).filter(|table| table.ends_before(key)) {
            self.bytes += table.meta().bytes;
            self.at += 1;
        }
        let cut = self.bytes > self.limit;
        if cut {
            mark!("table_cut_for_the_level_below");
            self.bytes = 0;
        }
        cut
    }
}
