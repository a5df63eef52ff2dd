//! Handles over a database that another process may be writing.

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use super::status::{push_cache, push_identity, push_levels, push_shape};
use super::{Db, KeyspaceInfo, ReadOnlySnapshot, Scan, TypedReadOnlyKeyspace};
use crate::checkpoint::{self, BackupProgress, CheckpointInfo};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::metrics::{MetricValue, Metrics};
use crate::options::{KeyspaceOptions, Options};
use crate::read_only::{Looker, View};
use crate::sync::{RwLock, Semaphore};
use crate::tree::{Extent, KeyspaceState, State, extent};
use crate::txn::Cursor;
use crate::types::{KeyspaceId, Seq, Value};

/// What all handles over one read-only opening share.
pub(super) struct Shared {
    pub(super) looker: Looker,
    view: RwLock<Arc<View>>,
    /// One refresh at a time, so that no view is replaced by an older one.
    refreshing: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }
}

/// A view of a database that another process may have open for writing: it takes no lock and writes nothing, so it
/// also works in a read-only directory. Cloning gives another handle to the same view.
///
/// It shows the state of its opening, or of the last [`ReadOnlyDb::refresh`]: everything that was acknowledged before,
/// whole transactions, and nothing that happens later. Dropping it closes it.
///
/// Up to half of `memory_limit_bytes` holds what the log has beyond the tables, the rest caches blocks.
#[derive(Clone)]
pub struct ReadOnlyDb {
    shared: Arc<Shared>,
}

impl Db {
    /// Looks at the database in `dir`, whether or not another process writes it. Of the options those count that
    /// have to do with reading: `at_least`, `memory_limit_bytes`, `open_files_max`, `direct_log`, `paranoid_checks`, and
    /// `slow_operation_us` for the looks and for opening tables.
    ///
    /// # Errors
    /// - `NotFound`: no database there; nothing is ever created;
    /// - `Invalid`: an option out of range, an unfinished checkpoint, fewer commits than `at_least` demands, or a log
    ///   beyond the tables that needs more than half of `memory_limit_bytes`;
    /// - `Corrupt`: damage in log or manifest, naming file and offset;
    /// - `NewerFormat`: a newer version wrote it;
    /// - `Busy`: the writer changes its files faster than they can be read;
    /// - `TooManyFiles`, `Io`: the disk's word.
    pub async fn open_read_only_in(
        env: Arc<dyn Env>,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<ReadOnlyDb> {
        options.validate()?;
        let looker = Looker::new(env, dir.as_ref().to_path_buf(), options);
        let view = RwLock::new(Arc::new(looker.look(None).await?));
        Ok(ReadOnlyDb { shared: Arc::new(Shared { looker, view, refreshing: Arc::new(Semaphore::new(1)) }) })
    }

    /// [`Db::open_read_only_in`] on this machine's disks.
    ///
    /// # Errors
    /// As [`Db::open_read_only_in`].
    pub async fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<ReadOnlyDb> {
        Self::open_read_only_in(crate::env::linux::LinuxEnv::new(), dir, options).await
    }
}

impl ReadOnlyDb {
    /// Moves to the state of now and gives its newest commit. Cursors that are open stay where they were. Reads the
    /// whole log beyond the tables again.
    ///
    /// # Errors
    /// As [`Db::open_read_only_in`]; the view stays as it was. `Stale` if another database stands there now.
    pub async fn refresh(&self) -> Result<Seq> {
        let _one = self.shared.refreshing.acquire(1).await;
        let before = self.shared.view();
        let view = Arc::new(self.shared.looker.look(Some(&before)).await?);
        let seq = view.seq;
        let replaced = std::mem::replace(&mut *self.shared.view.write(), view);
        drop(replaced);
        Ok(seq)
    }

    /// The newest commit in view, held: it shows the same whatever is refreshed meanwhile.
    pub fn snapshot(&self) -> ReadOnlySnapshot {
        ReadOnlySnapshot::newest(self.shared.clone())
    }

    /// The view as of commit `seq`, among those that the writer still keeps (its option `retain_commits`) and those
    /// that no flush or compaction has gone over since. [`Snapshot`](super::Snapshot)s of the writer hold nothing for it.
    ///
    /// # Errors
    /// `TooOld`, naming the oldest that can be read; `Invalid` if `seq` is beyond the view.
    pub fn at(&self, seq: Seq) -> Result<ReadOnlySnapshot> {
        ReadOnlySnapshot::at(self.shared.clone(), seq)
    }

    /// Makes a database of its own of what is in view, in `target`, a directory that is empty or missing, as
    /// [`Db::backup`] does: bytes are copied and checked, and sequences, keyspaces with their options and every past
    /// version that the writer has kept are there. Nothing is locked or written in the original, and its writer goes on.
    ///
    /// What is in view is copied as long as its tables last. Should the writer delete one that was not open, the backup
    /// goes on with the state of now, as [`ReadOnlyDb::refresh`] would show it; this view stays where it is. So the
    /// backup is at [`ReadOnlyDb::last_seq`] or later, and its `seq` says where. As with a view, the last commit in it may
    /// be one that the writer was about to make durable, or was answered [`CommitUnknown`](Error::CommitUnknown) for.
    ///
    /// # Errors
    /// In each case but `Stopped` what was made so far is removed.
    /// - `Corrupt`: damage in a table, or by now in log or manifest, naming file and offset;
    /// - `Busy`: the writer deletes tables faster than they can be copied, or changes its files faster than they can be
    ///   read;
    /// - `Invalid`: the directory is not empty, lies in the original, or is being filled by another copy, of which
    ///   nothing is touched;
    /// - `DiskFull`, `TooManyFiles`, `Io`: the disk's word;
    /// - `Stale`: another database stands there now;
    /// - `Stopped`: it is unknown whether the last step was done.
    pub async fn backup(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        self.backup_with(target, |_| ()).await
    }

    /// [`ReadOnlyDb::backup`] that tells how far it is, after each piece.
    ///
    /// # Errors
    /// As [`ReadOnlyDb::backup`].
    pub async fn backup_with(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(&BackupProgress) + Send,
    ) -> Result<CheckpointInfo> {
        let (looker, view) = (&self.shared.looker, self.shared.view());
        checkpoint::backup_beside(looker, view, target.as_ref(), &mut progress).await
    }

    /// The newest commit in view.
    pub fn last_seq(&self) -> Seq {
        self.shared.view().seq
    }

    /// All keyspaces in view, by number.
    pub fn keyspaces(&self) -> Vec<KeyspaceInfo> {
        let view = self.shared.view();
        view.state.keyspaces.values().map(|keyspace| KeyspaceInfo::of(keyspace)).collect()
    }

    /// The keyspace of this name.
    ///
    /// # Errors
    /// `Invalid` if there is none.
    pub fn keyspace(&self, name: &str) -> Result<ReadOnlyKeyspace> {
        let view = self.shared.view();
        match view.state.by_name(name) {
            Some(found) => {
                Ok(ReadOnlyKeyspace { shared: self.shared.clone(), id: found.id, name: found.name.clone() })
            }
            None => {
                let names: Vec<&str> = view.state.keyspaces.values().map(|k| &*k.name).collect();
                Err(Error::Invalid(format!("there is no keyspace {name:?}; there are: {}", names.join(", "))))
            }
        }
    }

    /// The keyspace that every database has, named `default`.
    ///
    /// # Errors
    /// `Invalid` if it was dropped, or a crash came before it was made.
    pub fn default_keyspace(&self) -> Result<ReadOnlyKeyspace> {
        self.keyspace(super::DEFAULT_KEYSPACE)
    }

    /// What can be counted from beside the writer: the database's identity, levels and shape, the log's share in
    /// memory, this process's cache, the newest commit. Names and units as in [`Db::metrics`].
    pub fn metrics(&self) -> Metrics {
        let view = self.shared.view();
        let mut metrics = Metrics::default();
        push_identity(view.database, &mut metrics);
        push_levels(&view.state, &mut metrics);
        push_shape(&view.state, &mut metrics);
        push_cache(self.shared.looker.tables.cache(), &mut metrics);
        let seq = MetricValue::Gauge(view.seq.get());
        metrics.push("holdfast_last_sequence", "The newest visible commit.", seq);
        metrics
    }
}

/// A keyspace of a [`ReadOnlyDb`]. It reads the view in force: between two refreshes all reads see one state.
#[derive(Clone)]
pub struct ReadOnlyKeyspace {
    shared: Arc<Shared>,
    id: KeyspaceId,
    name: Arc<str>,
}

impl ReadOnlyKeyspace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// The options in force.
    ///
    /// # Errors
    /// `Invalid` if the keyspace was dropped before the last refresh.
    pub fn options(&self) -> Result<KeyspaceOptions> {
        let view = self.shared.view();
        Ok((*self.in_view(&view.state)?.options).clone())
    }

    /// The value of `key`, `None` if it has none.
    ///
    /// # Errors
    /// `Corrupt` or `Io` naming file and offset; `Stale` if the writer deleted a table that was not open: refresh;
    /// `Invalid` if the keyspace was dropped before the last refresh.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        ReadOnlySnapshot::newest(self.shared.clone()).get(self, key).await
    }

    /// A walk over a range. It shows the view of its beginning, whatever is refreshed meanwhile.
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`], from the cursor too.
    pub async fn scan(&self, scan: Scan) -> Result<Cursor> {
        ReadOnlySnapshot::newest(self.shared.clone()).scan(self, scan).await
    }

    /// About how many bytes the keys of a range take up; what it counts, how it errs and what it costs is said at
    /// [`Keyspace::approximate_size`](super::Keyspace::approximate_size).
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`].
    pub async fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        Ok(self.extent(Scan::range(range)).await?.bytes)
    }

    /// About how many entries stand in a range; see
    /// [`Keyspace::approximate_count`](super::Keyspace::approximate_count).
    ///
    /// # Errors
    /// As [`ReadOnlyKeyspace::get`].
    pub async fn approximate_count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        Ok(self.extent(Scan::range(range)).await?.entries)
    }

    pub(super) async fn extent(&self, scan: Scan) -> Result<Extent> {
        let view = self.shared.view();
        extent(self.in_view(&view.state)?, &self.shared.looker.tables, &scan.into_walk().range).await
    }

    /// A view with typed keys and values.
    pub fn typed<K, V>(&self) -> TypedReadOnlyKeyspace<K, V> {
        TypedReadOnlyKeyspace::new(self.clone())
    }

    /// This keyspace as it is in a view of the database that `shared` looks at.
    pub(super) fn of<'a>(&self, shared: &Arc<Shared>, state: &'a State) -> Result<&'a Arc<KeyspaceState>> {
        if Arc::ptr_eq(&self.shared, shared) {
            return self.in_view(state);
        }
        Err(Error::Invalid(format!("keyspace {:?} belongs to another opening of a database", self.name)))
    }

    fn in_view<'a>(&self, state: &'a State) -> Result<&'a Arc<KeyspaceState>> {
        state.keyspace(self.id).ok_or_else(|| {
            let (name, id) = (&self.name, self.id);
            Error::Invalid(format!(
                "keyspace {name:?} (number {id}) is not in this view: it was dropped, or made later"
            ))
        })
    }
}
