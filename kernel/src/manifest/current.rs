//! `CURRENT`: which manifest is in force. Replaced by rename, in one step.
//!
//! ```text
//! one header sector, magic "HFCURRNT", version 1, identity = the database's; fields, all required, each a u64:
//! 1 state (0 being created, 1 in force, 2 a checkpoint being made)
//! 2 manifest's number   3 manifest's FileId   4 how far the manifest was durable     (2-4 only in force)
//! ```
//!
//! A database is created by a `CURRENT` that says "being created", then its files, then a `CURRENT` in force. So no
//! numbered file is ever without a `CURRENT`, and one that is has lost it. A checkpoint is made in the same way, but
//! what it holds before it is finished is half of somebody's data, not nothing: it is never opened.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;

use crate::codec::BadBytes;
use crate::env::{Buf, Env, IoError, IoErrorKind, OpenOptions, SharedDir};
use crate::error::{Error, Result};
use crate::record::{FileHeader, HeaderWriter, SECTOR, Unreadable, read_full, write_full};
use crate::types::{FileId, FileNo, Lsn, file_name};

const MAGIC: &[u8; 8] = b"HFCURRNT";
const VERSION: u32 = 1;
const STATE: u8 = 1;
const NO: u8 = 2;
const ID: u8 = 3;
const DURABLE: u8 = 4;
const KNOWN: &[u8] = &[STATE, NO, ID, DURABLE];

/// What `CURRENT` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Current {
    /// Random identity of the database.
    pub database: u64,
    /// Whether it may be opened, and how.
    pub state: CurrentState,
}

/// How far a directory has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CurrentState {
    /// A database that never held anything is being created.
    Creating,
    /// A checkpoint is being made.
    Copying,
    /// A database.
    InForce(InForce),
}

/// A manifest in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InForce {
    pub no: FileNo,
    pub id: FileId,
    /// Everything below was durable when it came into force.
    pub durable: Lsn,
}

/// Why `CURRENT` was not replaced.
pub(super) enum NotInstalled {
    /// The old one is in force, for certain.
    Unchanged(IoError),
    /// Either is: the rename was done, or may have been, and is perhaps not durable.
    Unknown(IoError),
}

impl Current {
    /// The manifest in force, if there is one.
    pub fn in_force(&self) -> Option<InForce> {
        match self.state {
            CurrentState::InForce(in_force) => Some(in_force),
            CurrentState::Creating | CurrentState::Copying => None,
        }
    }

    pub fn encode(&self) -> [u8; SECTOR] {
        let writer = HeaderWriter::new(MAGIC, VERSION, FileId::new(self.database));
        let state: u64 = match self.state {
            CurrentState::Creating => 0,
            CurrentState::InForce(_) => 1,
            CurrentState::Copying => 2,
        };
        let mut writer = writer.required(STATE, &state.to_le_bytes());
        if let CurrentState::InForce(manifest) = self.state {
            writer = writer
                .required(NO, &manifest.no.get().to_le_bytes())
                .required(ID, &manifest.id.get().to_le_bytes())
                .required(DURABLE, &manifest.durable.get().to_le_bytes());
        }
        writer.sector()
    }

    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, Unreadable> {
        if bytes.len() != SECTOR {
            return Err(BadBytes { what: "CURRENT: not 512 bytes", at: bytes.len() }.into());
        }
        let header = FileHeader::decode(bytes, MAGIC, VERSION, KNOWN)?;
        let state = match header.number(STATE, "CURRENT state")? {
            0 => CurrentState::Creating,
            2 => CurrentState::Copying,
            1 => CurrentState::InForce(InForce {
                no: FileNo::new(header.number(NO, "CURRENT manifest number")?),
                id: FileId::new(header.number(ID, "CURRENT manifest identity")?),
                durable: Lsn::new(header.number(DURABLE, "CURRENT durable position")?),
            }),
            other => return Err(Unreadable::Newer(format!("unknown state {other}"))),
        };
        Ok(Self { database: header.id.get(), state })
    }

    /// Reads it; `None` if there is none.
    pub async fn read(env: &dyn Env, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(file_name::CURRENT);
        let file = match env.disk().open(&path, OpenOptions::read()).await {
            Ok(file) => file,
            Err(error) if error.kind == IoErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (outcome, bytes) = read_full(file.as_ref(), 0, SECTOR.saturating_add(1), Buf::default()).await;
        outcome?;
        Self::decode(&bytes).map(Some).map_err(|unreadable| unreadable.in_file(&path, 0))
    }

    /// Puts it into force: durable when it returns.
    pub async fn install(&self, env: &dyn Env, dir: &SharedDir) -> std::result::Result<(), NotInstalled> {
        let path = dir.join(file_name::CURRENT);
        let tmp = dir.join(file_name::CURRENT_TMP);
        self.write_tmp(env, &tmp).await.map_err(NotInstalled::Unchanged)?;
        let (disk, entries) = (env.disk(), dir.begin_entries());
        disk.rename(&tmp, &path).await.map_err(|error| match error.kind {
            IoErrorKind::Full | IoErrorKind::Quota => NotInstalled::Unchanged(error),
            _ => NotInstalled::Unknown(error),
        })?;
        dir.sync(disk, entries).await.map_err(NotInstalled::Unknown)
    }

    async fn write_tmp(&self, env: &dyn Env, tmp: &Path) -> std::result::Result<(), IoError> {
        let disk = env.disk();
        match disk.remove(tmp).await {
            Err(error) if error.kind != IoErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(tmp, OpenOptions::create()).await?;
        write_full(file.as_ref(), tmp, 0, Buf::copy_of(&self.encode())).await.0?;
        file.sync_all().await
    }
}

/// Begins the creation of a database: the very first file of ours in `dir`, durable when it returns. Until
/// [`super::ManifestWriter::install_current`] the database holds nothing, and a further opening creates it anew.
///
/// # Errors
/// What the disk says.
pub async fn begin_creation(env: &dyn Env, dir: &Path, database: u64) -> Result<()> {
    begin(env, dir, Current { database, state: CurrentState::Creating }).await
}

/// Begins a checkpoint: the very first file of ours in `dir`, durable when it returns. Until
/// [`super::ManifestWriter::install_current`] every opening of the directory is refused.
///
/// # Errors
/// What the disk says.
pub async fn begin_checkpoint(env: &dyn Env, dir: &Path, database: u64) -> Result<()> {
    begin(env, dir, Current { database, state: CurrentState::Copying }).await
}

/// Whether what stands in `dir` is the checkpoint that [`begin_checkpoint`] began there under this identity, unfinished.
///
/// # Errors
/// What the disk says; [`Error::Corrupt`], [`Error::NewerFormat`] for a `CURRENT` that cannot be read.
pub async fn is_unfinished_checkpoint(env: &dyn Env, dir: &Path, database: u64) -> Result<bool> {
    let begun = Current { database, state: CurrentState::Copying };
    Ok(Current::read(env, dir).await?.is_some_and(|current| current == begun))
}

async fn begin(env: &dyn Env, dir: &Path, current: Current) -> Result<()> {
    current.install(env, &SharedDir::new(dir)).await.map_err(|not| match not {
        NotInstalled::Unchanged(error) | NotInstalled::Unknown(error) => Error::from(error),
    })
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests harm bytes of a known length"
)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn current_reads_back_and_no_flipped_bit_passes(n: (u64, u64, u64, u64), state: u8, bit: usize) -> bool {
            let manifest = InForce { no: FileNo::new(n.0), id: FileId::new(n.1), durable: Lsn::new(n.2) };
            let state = match state % 3 {
                0 => CurrentState::Creating,
                1 => CurrentState::Copying,
                _ => CurrentState::InForce(manifest),
            };
            let current = Current { database: n.3, state };
            let mut bytes = current.encode();
            assert_eq!(Current::decode(&bytes), Ok(current));
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Current::decode(&bytes).is_err()
        }
    }
}
