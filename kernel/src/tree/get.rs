//! The newest visible version of one key.
//!
//! Sources are asked newest first; the first entry or deleted range that the reader may see decides, because of the
//! order that [`state`](super::state) keeps. Within one source an entry and a range tombstone are compared by `Seq`:
//! the tombstone hides the entry if its `Seq` is greater.
//!
//! Cost: one probe of each memtable, one filter probe of each level-0 table and of one table a level below, and
//! one block for the table that holds the key.

use super::state::KeyspaceState;
use super::tables::{TableHandle, Tables};
use crate::error::Result;
use crate::types::{OpKind, Seq, Value};
use std::sync::Arc;

/// What one source says about a key.
enum Answer {
    Unknown,
    Gone,
    Here(Value),
}

fn judge(entry: Option<(Seq, OpKind, Value)>, deleted_at: Option<Seq>) -> Answer {
    match (entry, deleted_at) {
        (None, None) => Answer::Unknown,
        (None, Some(_)) => Answer::Gone,
        (Some((seq, ..)), Some(deleted_at)) if deleted_at > seq => Answer::Gone,
        (Some((_, OpKind::Put, value)), _) => Answer::Here(value),
        (Some(_), _) => Answer::Gone,
    }
}

/// The value of `key` as of `seq`; `None` if it has none.
///
/// # Errors
/// Corruption or a failed read of a table that may hold the key; other keys are not affected.
pub(crate) async fn get(
    keyspace: &KeyspaceState,
    tables: &Tables,
    key: &[u8],
    seq: Seq,
) -> Result<Option<Value>> {
    for memory in keyspace.memories() {
        let deleted_at = memory.table.newest_range_tombstone(key, seq);
        match judge(memory.table.get(key, seq), deleted_at) {
            Answer::Unknown => {}
            Answer::Gone => return Ok(None),
            Answer::Here(value) => return Ok(Some(value)),
        }
    }
    for (level, handles) in keyspace.levels.iter().enumerate() {
        let candidates = if level == 0 { &handles[..] } else { one_table(handles, key) };
        for handle in candidates {
            if !handle.covers(key) || handle.meta().min_seq > seq {
                continue;
            }
            match ask(handle, tables, key, seq).await? {
                Answer::Unknown => {}
                Answer::Gone => return Ok(None),
                Answer::Here(value) => return Ok(Some(value)),
            }
        }
    }
    Ok(None)
}

/// The one table of a sorted run whose range may include `key`.
pub(crate) fn one_table<'a>(run: &'a [Arc<TableHandle>], key: &[u8]) -> &'a [Arc<TableHandle>] {
    let at = run.partition_point(|table| table.ends_before(key));
    run.get(at..at + 1).unwrap_or_default()
}

async fn ask(handle: &Arc<TableHandle>, tables: &Tables, key: &[u8], seq: Seq) -> Result<Answer> {
    let reader = tables.reader(handle).await?;
    let deleted_at = match handle.meta().range_tombstones {
        0 => None,
        _ => reader.range_tombstones().newest_covering(key, seq),
    };
    let found = reader.get(key, seq).await?;
    Ok(judge(found.map(|found| (found.seq, found.kind, found.value)), deleted_at))
}
