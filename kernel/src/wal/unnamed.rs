//! Segments in which commits stand, though the manifest names them nowhere: what a lost edit leaves behind.
//!
//! A segment is named by a durable edit before anything is written behind its header, and the name goes only when all of
//! it lies below the log's start, so below the segment in use. An opening that is cut off leaves a segment with a header
//! and nothing behind it. So one that was written to and begins where no named segment reaches shows that the newest edits
//! of the manifest are lost, whatever took them without a trace, and that a log without it ends too early.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;
use std::sync::Arc;

use super::header::SegmentHeader;
use super::replay::{ReplayRequest, open_to_read};
use crate::check::mark;
use crate::env::{Buf, Env, File, IoErrorKind};
use crate::error::{Error, Result};
use crate::record::{FIRST_SECTOR, HEADER_REGION, SECTOR, SectorUse, position_of, read_full};
use crate::types::Lsn;
use crate::types::file_name::{self, FileKind};

/// True if the first group of this use of the segment at `path` was written.
///
/// # Errors
/// What the disk says.
pub(crate) async fn was_written(env: &dyn Env, path: &Path, of: SectorUse) -> Result<bool> {
    let file = open_to_read(env, path, true).await?;
    is_written(file.as_ref(), of).await
}

/// The segment at `path`, and the use that its header speaks of. `None` if it waits, or if nothing can be told, for its
/// header is damaged.
async fn header_use(env: &dyn Env, path: &Path) -> Result<Option<(Arc<dyn File>, SectorUse)>> {
    let file = match open_to_read(env, path, true).await {
        Ok(file) => file,
        // Its owner has removed it meanwhile.
        Err(error) if error.kind == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.len().await? < HEADER_REGION.saturating_mul(2) as u64 {
        return Ok(None);
    }
    let (outcome, region) = read_full(file.as_ref(), 0, HEADER_REGION, Buf::default()).await;
    match outcome {
        Err(error) if error.kind == IoErrorKind::Medium => return Ok(None),
        outcome => outcome?,
    }
    let header = SegmentHeader::decode(&region).ok();
    Ok(header.and_then(|header| header.sector_use()).map(|(of, _)| (file, of)))
}

async fn is_written(file: &dyn File, of: SectorUse) -> Result<bool> {
    let (outcome, groups) = read_full(file, HEADER_REGION as u64, HEADER_REGION, Buf::default()).await;
    outcome?;
    let first = groups.get(..SECTOR).and_then(|sector| position_of(sector, FIRST_SECTOR, of.id));
    Ok(first == Some((of.epoch, of.base)))
}

/// Demands that no segment with commits in it stands beside those of `request` and begins at `limit`, beyond all of them,
/// or later.
///
/// # Errors
/// [`Error::Corrupt`] naming the segment; what the disk says.
pub(super) async fn demand_none(env: &dyn Env, request: &ReplayRequest<'_>, limit: Lsn) -> Result<()> {
    for entry in env.disk().list(request.dir).await? {
        let Some((FileKind::Log, no)) = file_name::parse(&entry.name) else { continue };
        if entry.is_dir || request.segments.iter().any(|(named, _)| *named == no) {
            continue;
        }
        let path = request.dir.join(&entry.name);
        // One that begins earlier is not needed, and one that cannot be read need not be.
        let Some((file, of)) = header_use(env, &path).await? else { continue };
        let is_named = request.segments.iter().any(|(_, id)| *id == of.id);
        if !is_named && of.base >= limit && is_written(file.as_ref(), of).await? {
            mark!("log_segment_unnamed");
            return Err(Error::corrupt_at(
                path,
                0,
                format!(
                    "commits from {} on stand in this log segment, but the manifest does not name it: its newest edits \
                     are lost",
                    of.base
                ),
            ));
        }
    }
    Ok(())
}
