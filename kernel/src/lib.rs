//! Holdfast: a transactional storage kernel that runs unchanged on a real disk and inside a simulated world.
//!
//! A [`Db`] is a directory with any number of [`Keyspace`]s, independent ordered maps from bytes to bytes. Open it with
//! [`Db::open`] and [`Options`]; end it with [`Db::close`], or just let the process die: every commit that was
//! acknowledged at [`Durability::Sync`] or `Flush` is there again at the next opening, whole and in order.
//!
//! ```
//! use holdfast::{Db, Error, Options, Scan};
//!
//! # fn main() -> holdfast::Result<()> { holdfast::blocking::block_on(async {
//! # let dir = std::env::temp_dir().join(format!("holdfast-doc-guide-{}", std::process::id()));
//! let db = Db::open(&dir, Options::default()).await?;
//! let accounts = db.default_keyspace()?;
//! accounts.put("ada", "100").await?;
//! accounts.put("bob", "20").await?;
//!
//! // A transaction sees one moment, and is checked when it commits. Whoever lost a race runs it again.
//! loop {
//!     let mut txn = db.begin(Default::default());
//!     let balance = |value: Option<holdfast::Value>| {
//!         value.and_then(|value| std::str::from_utf8(&value).ok()?.parse::<u64>().ok()).unwrap_or(0)
//!     };
//!     let (ada, bob) = (balance(txn.get(&accounts, "ada").await?), balance(txn.get(&accounts, "bob").await?));
//!     txn.put(&accounts, "ada", (ada - 30).to_string())?;
//!     txn.put(&accounts, "bob", (bob + 30).to_string())?;
//!     match txn.commit().await {
//!         Err(Error::Conflict(_)) => continue,
//!         outcome => outcome?,
//!     };
//!     break;
//! }
//!
//! // Keys come in order, forward and backward.
//! let mut cursor = accounts.scan(Scan::prefix("b").reverse().limit(10)).await?;
//! while let Some(entry) = cursor.next().await? {
//!     assert_eq!((entry.key, &entry.value[..]), (&b"bob"[..], &b"50"[..]));
//! }
//! db.close().await?;
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok(()) }) }
//! ```
//!
//! # Writing
//!
//! - [`Keyspace::put`], [`delete`](Keyspace::delete), [`delete_range`](Keyspace::delete_range): a commit each.
//! - [`Db::write`] with a [`WriteBatch`]: many operations over several keyspaces, all or nothing, checked against nobody.
//! - [`Db::begin`] gives a [`Txn`]: one consistent view, own writes included, and a check when it commits. At
//!   [`Isolation::Serializable`], the default, it is as if transactions ran one at a time. On [`Error::Conflict`]
//!   nothing was written: run it again.
//!
//! # Reading
//!
//! [`Keyspace::get`] gives a [`Value`] that borrows the memory it was found in. [`Keyspace::scan`] walks what a
//! [`Scan`] asks for, either way, with a limit and from where a page ended. [`Db::snapshot`] shows one commit for as
//! long as it lives; [`Db::at`] one of the past, within [`Options::retain_commits`].
//!
//! [`Keyspace::typed`] puts types over both: keys are tuples whose bytes sort as their values do ([`key`]).
//!
//! # When things go wrong
//!
//! Each variant of [`Error`] is a different thing to do: run again, wait, fix the call, reopen, report. Damage is named
//! by file and offset and never returned as data. What each kind of fault may cost stands in the README.
//!
//! # Watching it
//!
//! [`Db::metrics`] counts; `tracing` events tell each change of state and each slow operation, as [`events`] lists them.
//!
//! # Without a runtime, and in another world
//!
//! Handles are cheap to clone and may be used from any thread. Futures are `Send` and belong to no runtime: run them
//! under any executor, or take [`blocking`], the same API with every call waiting. A commit that was polled and then
//! dropped still commits or fails whole.
//!
//! Everything the kernel asks of the outside goes through [`env::Env`], so that a simulator can stand in for the
//! machine ([`Db::open_in`]).
//!
//! # Reading the source
//!
//! The modules stand below in reading order, each opening with what it is, its invariants and its byte format.
//! `ARCHITECTURE.md` tells the way of a write and of a read through them; `FORMAT.md` collects the formats.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Holdfast runs on Linux only, for now: its production I/O is written against Linux system calls."
);

// In reading order, low to high: a module imports only what stands above it (`ci/import_table` checks).
pub mod codec;
pub mod check;
pub mod sync;
pub mod types;
pub mod env;
mod error;
mod options;
mod clock;
mod metrics;
pub mod events;
mod gate;
mod urgency;
mod refusals;
pub mod record;
mod cache;
pub mod table;
pub mod wal;
pub mod manifest;
mod memtable;
mod tree;
mod compaction;
mod flush;
mod conflict;
mod commit;
mod engine;
mod txn;
mod maintenance;
mod reapply;
mod recovery;
mod read_only;
mod checkpoint;
mod verify;
mod repair;
mod db;
pub mod blocking;

/// Every decoder as a function over arbitrary bytes, for the fuzzer and the tests. Not part of an ordinary build.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;

pub use checkpoint::{BackupProgress, CheckpointInfo};
pub use commit::OutcomeToken;
pub use db::{
    DEFAULT_KEYSPACE, Db, KEYSPACE_NAME_LEN_MAX, Keyspace, KeyspaceInfo, LevelInfo, ReadOnlyDb,
    ReadOnlyKeyspace, ReadOnlySnapshot, Scan, Snapshot, StoredValue, TransactionOptions, Txn, TypedCursor,
    TypedKeyspace, TypedReadOnlyKeyspace, TypedScan,
};
pub use error::{Conflict, Error, Result};
pub use metrics::{Metric, MetricValue, Metrics, Summary};
pub use options::{Compression, Durability, Isolation, KeyspaceOptions, LEVELS, Options};
pub use repair::{
    KeyExtent, LostExtent, RepairOptions, RepairProgress, RepairReport, RepairedKeyspace, Structure,
    UncertainRange, repair,
};
pub use txn::{Cursor, Entry};
pub use types::{
    BadOp, BatchKeyspace, KEY_LEN_MAX, KeyspaceId, Seq, VALUE_LEN_MAX, Value, WriteBatch, escaped, key,
};
pub use verify::{FileReport, FileVerdict, Problem, UnusedRegion, VerifyProgress, VerifyReport, verify};

/// Hand-synchronised structures, in reach of the models that `loom-tests` explores. Not part of an ordinary build.
#[cfg(loom)]
pub mod loom_exports {
    pub use crate::cache::{Block, BlockCache, BlockKey, Budget, Purpose};
    pub use crate::commit::queue::{Entry, Leadership, Pending, Queue, Rescue, Ticket, Turn};
    pub use crate::memtable::{Memtable, MemtableIter};
    pub use crate::tree::publish::{Published, ReadersNow, SnapshotGuard, SnapshotRegistry};
}

/// The README's example, compiled and run as a test of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
