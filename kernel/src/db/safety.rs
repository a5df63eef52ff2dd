//! Copies and checks of a database that is in use.

use std::path::Path;

use super::Db;
use crate::checkpoint::{self, BackupProgress, CheckpointInfo};
use crate::error::Result;
use crate::verify::{self, VerifyProgress, VerifyReport};

impl Db {
    /// Makes a second database in `target`, a directory that is empty or missing, which holds every commit up to one and
    /// none after, while writes go on. Tables are shared by hard links where the file system allows it, so it costs
    /// little time and room; it is durable when this returns.
    ///
    /// The checkpoint is a database of its own: it can be opened, written and removed, and the original too. Only damage
    /// to the shared bytes of a table hits both.
    ///
    /// Dropping the future, or a crash, leaves a directory that says that it is unfinished and is refused by every
    /// opening; remove it.
    ///
    /// # Errors
    /// - `Invalid`: the directory is not empty, lies in the original, or is being filled by another copy, of which
    ///   nothing is touched;
    /// - `DiskFull`, `TooManyFiles`, `Io`: what was made so far is removed;
    /// - `Stopped`: writes have stopped, or it is unknown whether the last step was done; `Closed`.
    pub async fn checkpoint(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        checkpoint::checkpoint(self.engine(), target.as_ref()).await
    }

    /// Makes a second database in `target`, a directory that is empty or missing, which holds every commit up to one and
    /// none after, and shares no byte with this one; writes go on meanwhile. Sequences, versions within `retain_commits`
    /// and keyspaces with their options are the same in it; the identity ([`Db::database_id`]) is its own.
    ///
    /// Each table is read once and every byte of it checked before it is written: checksums, places, and that it is the
    /// very table that the manifest names. What only stands in memory is written as tables. The backup is durable when
    /// this returns. It takes a buffer's worth of memory, and keeps to `background_bytes_per_s`.
    ///
    /// Dropping the future, or a crash, leaves a directory that says that it is unfinished and is refused by every
    /// opening; remove it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { holdfast::env::linux::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("holdfast-backup-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let db = holdfast::Db::open(dir.join("db"), holdfast::Options::default()).await?;
    /// db.default_keyspace()?.put("ada", "100").await?;
    /// let info = db.backup(dir.join("monday")).await?;
    /// assert_eq!(info.seq, db.last_seq());
    /// let monday = holdfast::Db::open(dir.join("monday"), holdfast::Options::default()).await?;
    /// assert!(monday.default_keyspace()?.get("ada").await?.is_some());
    /// # monday.close().await?;
    /// # db.close().await?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// In each case but `Stopped` what was made so far is removed.
    /// - `Corrupt`: damage in a table, naming its file and the offset;
    /// - `Invalid`: the directory is not empty, lies in the original, or is being filled by another copy, of which
    ///   nothing is touched;
    /// - `DiskFull`, `TooManyFiles`, `Io`: the disk's word;
    /// - `Stopped`: writes have stopped, or it is unknown whether the last step was done; `Closed`.
    pub async fn backup(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        self.backup_with(target, |_| ()).await
    }

    /// [`Db::backup`] that tells how far it is, after each piece.
    ///
    /// # Errors
    /// As [`Db::backup`].
    pub async fn backup_with(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(&BackupProgress) + Send,
    ) -> Result<CheckpointInfo> {
        checkpoint::backup(self.engine(), target.as_ref(), &mut progress).await
    }

    /// Checks every file of this database while it is in use; see [`verify`](crate::verify()). The tables that are in
    /// force when it begins stay until it ends.
    ///
    /// # Errors
    /// `Closed`; otherwise as [`verify`](crate::verify()).
    pub async fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(|_| ()).await
    }

    /// [`Db::verify`] that tells how far it is.
    ///
    /// # Errors
    /// As [`Db::verify`].
    pub async fn verify_with(&self, progress: impl FnMut(&VerifyProgress) + Send) -> Result<VerifyReport> {
        let engine = self.engine();
        engine.gate.check_read()?;
        let pinned = engine.published.load();
        let report = verify::verify(engine.env.clone(), &**engine.dir, progress).await;
        drop(pinned);
        report
    }
}
