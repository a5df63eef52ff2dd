//! Flush: a frozen memtable becomes a table of level 0.
//!
//! Invariants:
//! - the oldest frozen memtable of a keyspace goes first, so that level 0 keeps its order;
//! - *log before table*: the caller has made every log byte below the memtable's end durable before the edit is
//!   applied, so no table ever holds an entry that a crash takes out of the log.

use std::sync::Arc;

use crate::compaction::retain::Readers;
use crate::compaction::rewrite::{self, Made, Plan, Workshop};
use crate::error::Result;
use crate::manifest::Change;
use crate::table::{BuildOptions, BuildReason, TableMeta};
use crate::tree::{KeyspaceState, Memory, Merge, Source};

/// Writes `memory` into at most one table; versions that no reader needs are left out.
///
/// # Errors
/// A failed write, a full disk, `Closed` at shutdown. The half-made table is removed and the memtable stays.
pub(crate) async fn run(
    workshop: &Workshop<'_>,
    keyspace: &KeyspaceState,
    memory: &Memory,
    readers: &Readers,
) -> Result<Made> {
    let plan = Plan {
        build: BuildOptions::at_level(keyspace.id, &keyspace.options, 0, BuildReason::Flush),
        table_bytes: None,
        readers,
        tombstones: rewrite::gather(memory.table.range_tombstones().iter().map(|set| &**set)),
        // A delete hides what lies in the levels, whatever those hold by the time the flush is done.
        anything_below: &|_, _| true,
        cut_at: &[],
        cut_before: &mut rewrite::never_cut,
    };
    let merge = Merge::new(vec![Source::Memtable(memory.table.iter())]);
    rewrite::rewrite(workshop, plan, merge).await
}

/// The manifest changes that list the table and say which part of the log it makes needless.
pub(crate) fn changes(keyspace: &KeyspaceState, memory: &Memory, made: &Made) -> Vec<Change> {
    let add = |table: &TableMeta| Change::AddTable {
        keyspace: keyspace.id,
        level: 0,
        table: Arc::new(table.clone()),
    };
    let mut changes: Vec<Change> = made.tables.iter().map(add).collect();
    changes.push(Change::KeyspaceFlushed { keyspace: keyspace.id, lsn: memory.end_lsn() });
    changes
}
