//! From batches in the log back to memtables: what recovery and a read-only opening have in common.
//! Pure but for the reading of the log.
//!
//! Invariants:
//! - An entry that stands in a table already (its group lies below the keyspace's flushed position) is left out.
//! - A batch over a keyspace that was dropped since loses that part; one over a keyspace that never was is damage.
//! - Sequences and timestamps never go back, whatever is left out. Where sequences leap, the commits between were refused.

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

use crate::codec::{BadBytes, Reader};
use crate::env::Env;
use crate::error::Result;
use crate::manifest::Version;
use crate::memtable::Memtable;
use crate::tree::Memory;
use crate::types::{BatchView, FileId, FileNo, KeyspaceId, OpKind, RangeTombstone, Seq, SeqGaps, Timestamp};
use crate::wal::{self, BatchSink, LogPlace, ReplayRequest, Replayed};

/// How far commits had got.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Progress {
    pub last_seq: Seq,
    pub last_timestamp: Timestamp,
    /// Versions below may be gone.
    pub retained_from: Seq,
}

/// Gives `sink` what the log holds beyond the tables of `version`; the log is read with direct I/O if `direct`.
///
/// # Errors
/// As [`wal::replay`].
pub(crate) async fn replay_log(
    env: &Arc<dyn Env>,
    dir: &Path,
    version: &Version,
    direct: bool,
    sink: &mut dyn BatchSink,
) -> Result<Replayed> {
    let segments: Vec<(FileNo, FileId)> = version.log_segments.iter().map(|(no, id)| (*no, *id)).collect();
    let request = ReplayRequest {
        dir,
        segments: &segments,
        first_needed: version.log_start,
        flushed: version.flushed(),
        known_durable: version.known_durable,
        direct,
    };
    wal::replay(env, &request, sink).await
}

/// Takes batches out of the log into memtables.
pub(crate) struct Reapplier<'a> {
    version: &'a Version,
    pub memories: BTreeMap<KeyspaceId, Arc<Memory>>,
    pub progress: Progress,
    /// Sequences that no commit has: those that `version` tells of, and those at which the numbers in the log leap.
    pub seq_gaps: SeqGaps,
    /// The leaps among them, in their order.
    pub leaps: Vec<(Seq, Seq)>,
}

impl<'a> Reapplier<'a> {
    /// Begins with what the tables of `version` hold.
    pub fn new(version: &'a Version) -> Self {
        let tables =
            version.keyspaces.values().flat_map(|keyspace| keyspace.tables()).map(|(_, table)| table);
        let in_tables = tables.map(|table| table.max_seq).max().unwrap_or(Seq::ZERO);
        let progress = Progress {
            last_seq: version.last_seq.max(in_tables),
            last_timestamp: version.last_timestamp,
            retained_from: version.retained_from,
        };
        let seq_gaps = version.seq_gaps.clone();
        Self { version, memories: BTreeMap::new(), progress, seq_gaps, leaps: Vec::new() }
    }

    /// Takes one batch, as it stands in the log.
    ///
    /// # Errors
    /// `Corrupt` if it is none, or names a keyspace that never was.
    pub fn batch(&mut self, place: &LogPlace<'_>, body: &[u8]) -> Result<()> {
        let mut reader = Reader::new(body);
        let bad = |bad: BadBytes| place.corrupt(bad.to_string());
        let seq = Seq::new(reader.u64("sequence of a batch").map_err(bad)?);
        let timestamp = Timestamp::new(reader.u64("timestamp of a batch").map_err(bad)?);
        let view = BatchView::decode(reader.rest()).map_err(bad)?;
        if seq == Seq::ZERO || seq > Seq::LIMIT {
            return Err(place.corrupt(format!("sequence {seq} is out of range")));
        }
        self.note_leap(seq);
        self.apply(place, seq, &view)?;
        self.progress.last_seq = self.progress.last_seq.max(seq);
        self.progress.last_timestamp = self.progress.last_timestamp.max(timestamp);
        Ok(())
    }

    /// Commits between the last and `seq` were refused. What a manifest that no kernel wrote says against it wins.
    fn note_leap(&mut self, seq: Seq) {
        let (after, until) = (self.progress.last_seq, seq.prev());
        if until > after && self.seq_gaps.note(after, until).is_ok() {
            self.leaps.push((after, until));
        }
    }

    fn apply(&mut self, place: &LogPlace<'_>, seq: Seq, view: &BatchView<'_>) -> Result<()> {
        for op in view.iter() {
            let Some(keyspace) = self.version.keyspaces.get(&op.keyspace) else {
                if op.keyspace.get() < self.version.next_keyspace_id {
                    continue; // Dropped since; its entries went with it.
                }
                return Err(place.corrupt(format!("a batch names keyspace {}, which never was", op.keyspace)));
            };
            if place.lsn < keyspace.flushed {
                continue;
            }
            let memory = self.memories.entry(op.keyspace).or_insert_with(|| Memory::new(Memtable::new(0)));
            memory.note_group(place.lsn, place.lsn.advance(1));
            match op.kind {
                OpKind::Put | OpKind::Delete => {
                    // A group that was written anew after a full disk may have been flushed or replayed before.
                    if memory.table.newest_seq(op.key).is_none_or(|newest| newest < seq) {
                        memory.table.insert(op.key, seq, op.kind, op.value);
                    }
                }
                OpKind::DeleteRange => memory.table.add_range_tombstone(RangeTombstone {
                    start: op.key.into(),
                    end: op.value.into(),
                    seq,
                }),
            }
        }
        Ok(())
    }

    /// Bytes of all memtables.
    pub fn bytes(&self) -> u64 {
        self.memories.values().map(|memory| memory.table.bytes()).sum()
    }
}
