//! The directory in which a copy is made: empty, then refused by every opening, then in force or empty again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CheckpointInfo;
use crate::check::mark;
use crate::compaction::pace::Pace;
use crate::env::{Env, IoErrorKind, Nanos};
use crate::error::{Error, Result};
use crate::manifest::{self, Change, Edit, FileNumbers, ManifestWriter, Version};
use crate::record::remove_quietly;
use crate::types::FileNo;
use crate::types::file_name::{self, CURRENT, FileKind};

/// A directory that a copy is made in.
pub(super) struct Target<'a> {
    pub env: &'a Arc<dyn Env>,
    /// How fast it may go.
    pub pace: &'a Pace,
    pub dir: PathBuf,
    /// The identity of the database that is being made.
    database: u64,
    began: Nanos,
}

impl<'a> Target<'a> {
    /// Makes sure that there is an empty directory `dir` outside of `source`, whose name is durable.
    ///
    /// # Errors
    /// `Invalid` if it is not empty, or lies in the original; what the disk answers. Nothing was written into it then.
    pub async fn prepare(env: &'a Arc<dyn Env>, pace: &'a Pace, source: &Path, dir: &Path) -> Result<Self> {
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
        match disk.list(dir).await {
            Ok(entries) => {
                if let Some(found) = entries.first() {
                    return Err(Error::Invalid(format!(
                        "a copy is made in an empty or a new directory, but {} holds {:?}",
                        dir.display(),
                        found.name
                    )));
                }
            }
            Err(error) if error.kind == IoErrorKind::NotFound => disk.create_dir(dir).await?,
            Err(error) => return Err(error.into()),
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new("."))).await?;
        Ok(Self { env, pace, dir: dir.to_path_buf(), database: env.random_u64(), began })
    }

    /// From here on, and until [`Target::put_into_force`], every opening of the directory is refused.
    pub async fn begin(&self) -> Result<()> {
        manifest::begin_checkpoint(&**self.env, &self.dir, self.database).await
    }

    /// Path of a table in it.
    pub fn table(&self, no: FileNo) -> PathBuf {
        file_name::path(&self.dir, FileKind::Table, no)
    }

    /// Makes it the database that `changes` describe, all of whose tables are durable in it.
    pub async fn put_into_force(&self, numbers: Arc<FileNumbers>, changes: Vec<Change>) -> Result<()> {
        self.env.disk().sync_dir(&self.dir).await?;
        let listed = Version::default().apply(&Edit::from(changes));
        let listed = listed.map_err(|refused| Error::Invalid(refused.to_string()))?;
        let env = self.env.clone();
        let mut writer = ManifestWriter::create(env, &self.dir, self.database, numbers, listed).await?;
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

    /// Gives up: the directory was empty before, so everything in it is ours.
    async fn remove_everything(&self) {
        let disk = self.env.disk();
        let Ok(entries) = disk.list(&self.dir).await else { return };
        for entry in entries.iter().filter(|entry| entry.name != CURRENT) {
            remove_quietly(disk, &self.dir.join(&entry.name)).await;
        }
        // Without it the rest would look like a damaged database, so it goes last, and only if the rest is gone for
        // certain.
        if disk.sync_dir(&self.dir).await.is_ok() {
            remove_quietly(disk, &self.dir.join(CURRENT)).await;
        }
    }
}
