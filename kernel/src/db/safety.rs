//! Copies and checks of a database that is in use.

use std::path::Path;

use super::Db;
use crate::checkpoint::{self, CheckpointInfo};
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
    /// - `Invalid`: the directory is not empty;
    /// - `DiskFull`, `TooManyFiles`, `Io`: what was made so far is removed;
    /// - `Stopped`: writes have stopped, or it is unknown whether the last step was done; `Closed`.
    pub async fn checkpoint(&self, target: impl AsRef<Path>) -> Result<CheckpointInfo> {
        checkpoint::make(&self.shared.engine, target.as_ref()).await
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
        let report = verify::verify(engine.env.clone(), &engine.dir, progress).await;
        drop(pinned);
        report
    }
}
