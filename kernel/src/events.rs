//! What the kernel tells through `tracing`, and which operations count as slow.
//!
//! Every change of state and every slow operation is an event at level `info` or above. The message is stable, and so
//! are the fields: `keyspace` is a name, `file` a path, `elapsed_us` how long it took, `error` and `why` sentences,
//! `job` one of `flush`, `compaction` and `log`. A torn tail is told by an opening that cuts it off; one that only reads
//! says nothing, since beside a live writer a write that is under way looks the same.
//!
//! | message | level | fields |
//! |---|---|---|
//! | `creating a database` | info | `dir`, `database_id` |
//! | `log replayed` | info | `batches`, `end`, `torn` |
//! | `the log's tail is torn: a write was under way` | warn | `file`, `offset` |
//! | `the manifest's tail is torn: an edit was under way` | warn | `file`, `offset` |
//! | `database open` | info | `dir`, `seq`, `elapsed_us` |
//! | `database closed` | info | `dir` |
//! | `the last handle was dropped without a close` | info | `dir` |
//! | `read-only view` | info | `dir`, `seq`, `elapsed_us` |
//! | `keyspace created` | info | `keyspace`, `id` |
//! | `keyspace dropped` | info | `keyspace`, `id` |
//! | `manifest switched` | info | `file`, `before` (none at an opening) |
//! | `memtable flushed` | info | `keyspace`, `bytes`, `elapsed_us` |
//! | `compacted` | info | `keyspace`, `reason`, `from`, `to`, `inputs`, `bytes`, `elapsed_us` |
//! | `freezing the keyspace that pins the oldest log segment` | info | `keyspace` |
//! | `writers are slowed down` | info | `delay_us` |
//! | `writers must wait` | warn | |
//! | `writers go on` | info | |
//! | `disk full; trying again until there is room` | warn | `job`, `error` |
//! | `giving the disk reserve free` | warn | `bytes` |
//! | `the disk has room again` | info | `job` |
//! | `background work must wait; trying again until it can go on` | warn | `job`, `error` |
//! | `background work goes on` | info | `job` |
//! | `disk reserve taken again` | info | `bytes` |
//! | `writes stopped; close and reopen the database` | error | `why` |
//! | `checkpoint made` | info | `target`, `seq`, `elapsed_us` |
//! | `verified` | info | `dir`, `bytes_checked`, `problems` |
//! | `slow operation` | warn or info | target [`SLOW_TARGET`]; see below |
//!
//! A **slow operation** took longer than [`Options::slow_operation_us`](crate::Options::slow_operation_us). Its fields
//! are `what`, where it happened as one of `keyspace`, `file` and `seq`, then `elapsed_us` and `limit_us`:
//!
//! | `what` | level | where | is |
//! |---|---|---|---|
//! | `get` | warn | `keyspace` | one look-up of a key |
//! | `scan` | warn | `keyspace` | the opening of a walk with the tables that it begins with; not its steps |
//! | `table opening` | warn | `file` | a table opened for whoever needed it first: a look-up, a walk, a compaction |
//! | `commit` | warn | `seq` | a group of commits, from its validation to its answers; named by its last commit |
//! | `stall` | warn | | a writer that had to wait for flush or compaction |
//! | `log sync` | warn | `file` | one durable append to the log, or a sync of it |
//! | `manifest sync` | warn | `file` | an edit of the manifest made durable, or a move to a new file |
//! | `flush` | info | `keyspace` | a memtable made a table |
//! | `compaction` | info | `keyspace` | one job of a compaction |
//! | `opening` | info | `file` | an opening of the directory `file` |
//! | `read-only view` | info | `file` | a look at the directory `file` from beside its writer |
//!
//! The last four take as long as there is work, so they inform; the others are somebody waiting, so they warn.
//!
//! Below `info` stand steps that go well every day (a memtable frozen, a log segment made), and the marks and phases
//! of [`check`](crate::check).

use std::path::Path;

use crate::env::{Env, Nanos};
use crate::types::Seq;

/// The `tracing` target of every slow operation.
pub const SLOW_TARGET: &str = "holdfast::slow";

/// What may be slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timed {
    Get,
    Scan,
    TableOpening,
    Commit,
    Stall,
    LogSync,
    ManifestSync,
    Flush,
    Compaction,
    Opening,
    ReadOnlyView,
}

impl Timed {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Scan => "scan",
            Self::TableOpening => "table opening",
            Self::Commit => "commit",
            Self::Stall => "stall",
            Self::LogSync => "log sync",
            Self::ManifestSync => "manifest sync",
            Self::Flush => "flush",
            Self::Compaction => "compaction",
            Self::Opening => "opening",
            Self::ReadOnlyView => "read-only view",
        }
    }

    /// True for what takes as long as there is work to do.
    fn grows_with_work(self) -> bool {
        matches!(self, Self::Flush | Self::Compaction | Self::Opening | Self::ReadOnlyView)
    }
}

/// Where it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where<'a> {
    Keyspace(&'a str),
    File(&'a Path),
    Seq(Seq),
    Database,
}

/// The option `slow_operation_us`, 0 for off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlowLimit {
    limit_us: u64,
}

impl SlowLimit {
    /// Reports what takes longer than `limit_us`; with 0 nothing.
    pub const fn new(limit_us: u64) -> Self {
        Self { limit_us }
    }

    /// The instant of now for [`SlowLimit::judge_since`]. No clock is read while nothing is reported.
    pub fn begin(self, env: &dyn Env) -> Option<Nanos> {
        (self.limit_us > 0).then(|| env.now())
    }

    /// Judges what began with [`SlowLimit::begin`] and ends now.
    pub fn judge_since(self, began: Option<Nanos>, env: &dyn Env, what: Timed, place: Where<'_>) {
        if let Some(began) = began {
            self.judge(env.now().since(began), what, place);
        }
    }

    /// Judges what took `elapsed_ns`: a comparison, unless it was slow.
    #[inline]
    pub fn judge(self, elapsed_ns: u64, what: Timed, place: Where<'_>) {
        let elapsed_us = elapsed_ns / 1000;
        if elapsed_us > self.limit_us && self.limit_us > 0 {
            self.report(elapsed_us, what, place);
        }
    }

    #[cold]
    fn report(self, elapsed_us: u64, what: Timed, place: Where<'_>) {
        let (mut keyspace, mut file, mut seq) = (None, None, None);
        match place {
            Where::Keyspace(name) => keyspace = Some(name),
            Where::File(path) => file = Some(tracing::field::display(path.display())),
            Where::Seq(last) => seq = Some(last.get()),
            Where::Database => {}
        }
        let (limit_us, name) = (self.limit_us, what.name());
        // The level of an event is a constant, so there are two.
        if what.grows_with_work() {
            tracing::info!(target: SLOW_TARGET, what = name, keyspace, file, seq, elapsed_us, limit_us, "slow operation");
        } else {
            tracing::warn!(target: SLOW_TARGET, what = name, keyspace, file, seq, elapsed_us, limit_us, "slow operation");
        }
    }
}
