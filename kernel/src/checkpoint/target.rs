//! The directory in which a copy is made: empty, then refused by every opening, then in force or empty again.
//!
//! Two may want the same directory, each of which found it empty. So whoever makes a copy first makes the file `COPYING`
//! there, which only one can, and looks again:
//!
//! ```text
//! COPYING and nothing else     it is ours: CURRENT "a checkpoint being made", then COPYING is removed
//! COPYING and something more   another copy came before: COPYING is removed, for we made it, and nothing else
//! COPYING made by another      nothing is removed
//! ```
//! From `CURRENT` on every look finds the directory taken. An opening that would create a database there takes `LOCK`
//! before it looks, so one of the two sees the other's file and gives way.
//!
//! Invariant: nothing is removed, and nothing put into force, unless `COPYING` was made here, or `CURRENT` says that what
//! stands there is this very copy. A hard link to `CURRENT` would do without `COPYING`, but not every file system has
//! links, and a backup goes to all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CheckpointInfo;
use crate::check::mark;
use crate::compaction::pace::Pace;
use crate::env::{Env, IoErrorKind, Nanos, NewEntries, OpenOptions, SharedDir, make_directory};
use crate::error::{Error, Result};
use crate::manifest::{self, Change, Edit, FileNumbers, ManifestWriter, Version};
use crate::record::remove_quietly;
use crate::types::FileNo;
use crate::types::file_name::{self, COPYING, CURRENT, CURRENT_TMP, FileKind};

/// A directory that a copy is made in.
pub(super) struct Target<'a> {
    pub env: &'a Arc<dyn Env>,
    /// How fast it may go.
    pub pace: &'a Pace,
    pub dir: Arc<SharedDir>,
    /// Everything that is made in it.
    entries: NewEntries,
    /// The identity of the database that is being made.
    database: u64,
    began: Nanos,
}

impl<'a> Target<'a> {
    /// Takes an empty or new directory `dir` outside of `source` for a copy. From here on, and until
    /// [`Target::put_into_force`], every opening of it is refused, and every other copy.
    ///
    /// # Errors
    /// `Invalid` if it is not empty, if it lies in the original, or if somebody else makes a copy there; what the disk
    /// answers. Then nothing of this call is left in it, unless the disk refuses that too.
    pub async fn claim(env: &'a Arc<dyn Env>, pace: &'a Pace, source: &Path, dir: &Path) -> Result<Self> {
        let began = env.now();
        let disk = env.disk();
        // By where they lead: a path has many spellings.
        if disk.resolve(dir).await?.starts_with(disk.resolve(source).await?) {
            return Err(Error::Invalid(format!(
                "a copy is made in a directory of its own, but {} lies in the original, {}",
                dir.display(),
                source.display()
            )));
        }
        let shared = SharedDir::new(dir);
        let entries = shared.begin_entries();
        let target = Self { env, pace, dir: shared, entries, database: env.random_u64(), began };
        match target.refuse_if_used("").await {
            Err(Error::Io(error)) if error.kind == IoErrorKind::NotFound => {}
            looked => looked?,
        }
        make_directory(disk, dir).await?;
        match disk.open(&dir.join(COPYING), OpenOptions::create()).await {
            Ok(_) => {}
            Err(error) if error.kind == IoErrorKind::AlreadyExists => {
                return Err(Error::Invalid(format!(
                    "another checkpoint or backup is being made in {}; give each a directory of its own",
                    dir.display()
                )));
            }
            Err(error) => return Err(error.into()),
        }
        target.begin().await?;
        Ok(target)
    }

    /// Refuses a directory that holds anything but the file `besides`.
    async fn refuse_if_used(&self, besides: &str) -> Result<()> {
        let entries = self.env.disk().list(&self.dir).await?;
        match entries.iter().find(|entry| entry.name != besides) {
            None => Ok(()),
            Some(found) => Err(Error::Invalid(format!(
                "a copy is made in an empty or a new directory, but {} holds {:?}",
                self.dir.display(),
                found.name
            ))),
        }
    }

    /// Says in `CURRENT` what is being made. `COPYING` was made by this very call, so nobody else gets this far.
    async fn begin(&self) -> Result<()> {
        let (env, disk) = (&**self.env, self.env.disk());
        if let Err(used) = self.refuse_if_used(COPYING).await {
            remove_quietly(disk, &self.dir.join(COPYING)).await;
            return Err(used);
        }
        let begun = match manifest::begin_checkpoint(env, &self.dir, self.database).await {
            Ok(()) => disk.remove(&self.dir.join(COPYING)).await.map_err(Error::from),
            refused => refused,
        };
        if begun.is_err() {
            for name in [CURRENT_TMP, CURRENT, COPYING] {
                remove_quietly(disk, &self.dir.join(name)).await;
            }
        }
        begun
    }

    /// Path of a table in it.
    pub fn table(&self, no: FileNo) -> PathBuf {
        file_name::path(&self.dir, FileKind::Table, no)
    }

    /// Makes it the database that `changes` describe, all of whose tables are durable in it.
    ///
    /// # Errors
    /// `Invalid` if something else stands there by now; what the disk answers. `Stopped`: it may be in force.
    pub async fn put_into_force(&self, numbers: Arc<FileNumbers>, changes: Vec<Change>) -> Result<()> {
        if !self.is_ours().await? {
            return Err(Error::Invalid(format!(
                "somebody else has changed {} while a copy was made in it; make the copy anew",
                self.dir.display()
            )));
        }
        self.dir.sync(self.env.disk(), self.entries).await?;
        let listed = Version::default().apply(&Edit::from(changes));
        let listed = listed.map_err(|refused| Error::Invalid(refused.to_string()))?;
        let env = self.env.clone();
        let mut writer =
            ManifestWriter::create(env, self.dir.clone(), self.database, numbers, listed).await?;
        writer.install_current().await
    }

    /// Ends the work: says that it was done, or gives up what was made.
    pub async fn settle(self, what: &'static str, made: Result<CheckpointInfo>) -> Result<CheckpointInfo> {
        match made {
            Ok(info) => {
                let elapsed_us = self.env.now().since(self.began) / 1000;
                tracing::info!(target = %self.dir.display(), seq = info.seq.get(), elapsed_us, "{what} made");
                Ok(info)
            }
            // The last step may have been done: what stands there may be whole.
            Err(error @ Error::Stopped(_)) => Err(error),
            Err(error) => {
                mark!("checkpoint_abandoned");
                self.remove_everything().await;
                Err(error)
            }
        }
    }

    async fn is_ours(&self) -> Result<bool> {
        manifest::is_unfinished_checkpoint(&**self.env, &self.dir, self.database).await
    }

    /// Gives up. As long as `CURRENT` speaks of this copy nobody else makes any of the files that a copy consists of.
    async fn remove_everything(&self) {
        let disk = self.env.disk();
        if !matches!(self.is_ours().await, Ok(true)) {
            tracing::warn!(target = %self.dir.display(), "nothing is removed: it is not known to be this copy");
            return;
        }
        let Ok(entries) = disk.list(&self.dir).await else { return };
        let made = |name: &str| name == CURRENT_TMP || file_name::parse(name).is_some();
        for entry in entries.iter().filter(|entry| made(&entry.name)) {
            remove_quietly(disk, &self.dir.join(&entry.name)).await;
        }
        // Without it the rest would look like a damaged database, so it goes last, and only if the rest is gone for
        // certain.
        if self.dir.sync(disk, self.dir.begin_entries()).await.is_ok() {
            remove_quietly(disk, &self.dir.join(CURRENT)).await;
        }
    }
}
