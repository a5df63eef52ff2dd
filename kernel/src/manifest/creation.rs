//! Whether a creation that `CURRENT` calls unfinished really was.
//!
//! A `CURRENT` that says "being created" allows an opening to begin anew and to remove what it finds. If that `CURRENT`
//! is an old one which came back (a write that the device lost, a file copied over), the files beside it are a database,
//! so it is believed only if they hold no more than a creation leaves behind:
//!
//! ```text
//! manifest   one edit, of epoch 1, naming no commit
//! log        zeros behind the header: the first commit comes after the switch
//! table      none
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;

use super::salvage::salvage;
use crate::check::mark;
use crate::env::{DirEntry, Env};
use crate::error::{Error, Result};
use crate::types::Seq;
use crate::types::file_name::{self, CURRENT, FileKind};
use crate::wal;

/// The epoch of a creation.
const FIRST_EPOCH: u32 = 1;

/// Refuses a directory whose files show that its creation was finished long ago.
///
/// # Errors
/// [`Error::Corrupt`] naming `CURRENT`; what the disk says.
pub(super) async fn refuse_if_finished(env: &dyn Env, dir: &Path) -> Result<()> {
    for entry in env.disk().list(dir).await? {
        if shows_a_database(env, dir, &entry).await? {
            mark!("creation_was_finished");
            let what = format!(
                "it says that the database is being created, but {} shows that there is one: this is an old CURRENT",
                entry.name
            );
            return Err(Error::corrupt_at(dir.join(CURRENT), 0, what));
        }
    }
    Ok(())
}

async fn shows_a_database(env: &dyn Env, dir: &Path, entry: &DirEntry) -> Result<bool> {
    match file_name::parse(&entry.name).filter(|_| !entry.is_dir) {
        None => Ok(false),
        Some((FileKind::Table, _)) => Ok(true),
        Some((FileKind::Log, _)) => wal::is_written(env, &dir.join(&entry.name)).await,
        Some((FileKind::Manifest, no)) => {
            let salvaged = salvage(env, dir, no).await?.unwrap_or_default();
            let is_later = salvaged.version.epoch > FIRST_EPOCH || salvaged.version.last_seq > Seq::ZERO;
            Ok(is_later || salvaged.edits > 1 || !salvaged.later.is_empty())
        }
    }
}
