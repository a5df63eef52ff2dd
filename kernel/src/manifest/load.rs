//! Reading the manifest in force. It changes nothing on disk.
//!
//! As with the log there are two passes: one that surveys every sector of the file and decides where it ends, one
//! that applies the edits. Bad bytes anywhere refuse, naming file and offset.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeSet;
use std::path::Path;

use super::creation::refuse_if_finished;
use super::current::{Current, CurrentState, InForce};
use super::file::ManifestFile;
use super::{Change, Edit, Version};
use crate::check::mark;
use crate::env::{Env, IoErrorKind};
use crate::error::{Error, Result};
use crate::record::{
    FrameDecoder, FrameKind, FrameRef, SECTOR, SectorReader, Survey, Surveyed, Unreadable, Verdict, judge,
    sector_bytes, sectors_in,
};
use crate::types::{FileId, FileNo, Lsn, file_name};

/// What is in a directory.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made in an opening, and taken apart at once")]
pub enum Found {
    /// No file of ours, or no directory.
    Nothing,
    /// A creation was begun and not finished: the database never held anything.
    Unfinished {
        /// Random identity of the database.
        database: u64,
    },
    /// A database.
    Database(Loaded),
}

/// A manifest that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Random identity of the database.
    pub database: u64,
    /// Number of the manifest.
    pub no: FileNo,
    /// Its identity.
    pub id: FileId,
    /// The state it describes.
    pub version: Version,
    /// Offset in it behind the last whole edit: what follows is room for edits to come.
    pub unused_from: u64,
    /// True if an edit was being written when the writer died. It was not acknowledged.
    pub torn: bool,
    /// The numbers of tables that it knows nothing of.
    pub never_named: NeverNamed,
}

/// Which tables no edit ever named, in this manifest or one before it: those that a flush, a compaction or an opening was at.
/// An edit that could be read need not be durable, so a table that one of them lets go may be named again after a power loss.
#[derive(Clone, Debug, Default)]
pub struct NeverNamed {
    /// No manifest before this one knows a number from here on.
    from: FileNo,
    /// Named here, in edits behind the snapshot.
    named: BTreeSet<FileNo>,
}

impl NeverNamed {
    /// True if no edit ever named the table `no`.
    pub fn contains(&self, no: FileNo) -> bool {
        no >= self.from && !self.named.contains(&no)
    }
}

/// Reads `CURRENT` and the manifest it names.
///
/// # Errors
/// [`Error::Corrupt`] naming file and offset, also if `CURRENT` is missing beside files of ours, or is one from before
/// the database was created;
/// [`Error::Invalid`] for an unfinished checkpoint; [`Error::NewerFormat`]; [`Error::Io`].
pub async fn load(env: &dyn Env, dir: &Path) -> Result<Found> {
    let Some(mut current) = Current::read(env, dir).await? else {
        refuse_lost_current(env, dir).await?;
        return Ok(Found::Nothing);
    };
    if current.state == CurrentState::Creating
        && let Err(error) = refuse_if_finished(env, dir).await
    {
        // Whoever creates it may have finished meanwhile; only a CURRENT that stays contradicts the files.
        match Current::read(env, dir).await? {
            Some(later) if later != current => current = later,
            _ => return Err(error),
        }
    }
    let database = current.database;
    let in_force = match current.state {
        CurrentState::InForce(in_force) => in_force,
        CurrentState::Creating => return Ok(Found::Unfinished { database }),
        CurrentState::Copying => return Err(unfinished_copy(dir)),
    };
    let file = ManifestFile::open(env, dir, database, in_force.no, in_force.id).await?;
    let surveyed = survey(env, &file, in_force).await?;
    let (version, never_named, edits_end) = replay(env, &file, surveyed.end).await?;
    // On the seal behind the last edit nothing depends but the evidence that the edit was there.
    let unused_from = file.offset(edits_end);
    let (no, id, torn) = (in_force.no, in_force.id, surveyed.torn);
    Ok(Found::Database(Loaded { database, no, id, version, unused_from, torn, never_named }))
}

/// An unfinished checkpoint or backup holds half of somebody's data: it is neither a database nor nothing.
fn unfinished_copy(dir: &Path) -> Error {
    Error::Invalid(format!(
        "{} is an unfinished checkpoint or backup: it was interrupted, or is being made right now; if nobody is \
         making it, remove the directory and make it anew",
        dir.display()
    ))
}

async fn refuse_lost_current(env: &dyn Env, dir: &Path) -> Result<()> {
    let entries = match env.disk().list(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind == IoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match entries.iter().find(|entry| file_name::parse(&entry.name).is_some()) {
        None if entries.iter().any(|entry| entry.name == file_name::COPYING) => Err(unfinished_copy(dir)),
        None => Ok(()),
        Some(entry) => Err(Error::corrupt_at(
            dir.join(file_name::CURRENT),
            0,
            format!("the file is missing, but {} shows that there was a database", entry.name),
        )),
    }
}

async fn survey(env: &dyn Env, file: &ManifestFile, in_force: InForce) -> Result<Surveyed> {
    let mut survey = Survey::new(file.of, sectors_in(file.capacity));
    let end = Lsn::new(file.capacity);
    let mut sectors = SectorReader::new(file.file.as_ref(), &file.path, Lsn::ZERO, end);
    while let Some((lsn, bytes)) = sectors.next(env).await? {
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let offset = file.offset(lsn.advance(sector_bytes(index as u64)));
            survey.sector(sector).map_err(|bad| Error::corrupt(&file.path, offset, &bad))?;
        }
    }
    let surveyed = survey.finish(in_force.durable).map_err(|vouched| {
        let what = format!(
            "the good edits end at {}, but everything below {} was durable",
            vouched.end, vouched.durable
        );
        Error::corrupt_at(&file.path, file.offset(vouched.end), what)
    })?;
    if surveyed.torn {
        mark!("manifest_torn_tail");
    }
    Ok(surveyed)
}

/// The state after the edits below `end`, what they never named, and where the last of them ends.
async fn replay(env: &dyn Env, file: &ManifestFile, end: Lsn) -> Result<(Version, NeverNamed, Lsn)> {
    let mut version = Version::default();
    let mut never_named = NeverNamed::default();
    let mut edits = 0u64;
    let mut edits_end = Lsn::ZERO;
    let mut decoder = FrameDecoder::new();
    let mut sectors = SectorReader::new(file.file.as_ref(), &file.path, Lsn::ZERO, end);
    while let Some((start, bytes)) = sectors.next(env).await? {
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let lsn = start.advance(sector_bytes(index as u64));
            let offset = file.offset(lsn);
            let Verdict::New(head, payload) = judge(sector, sectors_in(offset), lsn, &file.of) else {
                let what = "sector: two reads of it gave different bytes";
                return Err(Error::corrupt_at(&file.path, offset, what));
            };
            let end_of_sector = lsn.advance(SECTOR as u64);
            let mut take = |frame: FrameRef<'_>| -> std::result::Result<(), Halt> {
                if frame.kind == FrameKind::Seal && frame.stream == 0 {
                    return Ok(());
                }
                edits_end = end_of_sector;
                if frame.kind != FrameKind::Edit || frame.stream != 0 {
                    return Err(Unreadable::Newer(format!("a frame of kind {:?}", frame.kind)).into());
                }
                let edit = Edit::decode(frame.body)?;
                version = version.apply(&edit).map_err(|refused| Halt::Refused(refused.to_string()))?;
                if edits == 0 {
                    never_named.from = version.next_file_no;
                }
                for change in &edit.changes {
                    if let Change::AddTable { table, .. } = change {
                        never_named.named.insert(table.no);
                    }
                }
                edits = edits.saturating_add(1);
                Ok(())
            };
            decoder.sector(lsn, head, payload, &mut take).map_err(|halt| match halt {
                Halt::Unreadable(unreadable) => unreadable.in_file(&file.path, offset),
                Halt::Refused(what) => Error::corrupt_at(&file.path, offset, what),
            })?;
        }
    }
    if edits == 0 {
        return Err(Error::corrupt_at(&file.path, file.offset(Lsn::ZERO), "the manifest holds no snapshot"));
    }
    Ok((version, never_named, edits_end))
}

/// Why an edit was not taken.
enum Halt {
    Unreadable(Unreadable),
    Refused(String),
}

impl From<Unreadable> for Halt {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}
