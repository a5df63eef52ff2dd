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

use super::header::SegmentHeader;
use super::replay::{ReplayRequest, open_to_read};
use crate::check::mark;
use crate::env::{Buf, Env, IoErrorKind};
use crate::error::{Error, Result};
use crate::record::{FIRST_SECTOR, HEADER_REGION, SECTOR, SectorUse, position_of, read_full};
use crate::types::Lsn;
use crate::types::file_name::{self, FileKind};

/// The use that the segment at `path` is in, if its first group was written. `None` if it waits, or if it cannot be told.
///
/// # Errors
/// What the disk says; a file that is shorter is none.
pub(crate) async fn written_use(env: &dyn Env, path: &Path) -> Result<Option<SectorUse>> {
    let file = match open_to_read(env, path, true).await {
        Ok(file) => file,
        // Its owner has removed it meanwhile.
        Err(error) if error.kind == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = HEADER_REGION.saturating_mul(2);
    if file.len().await? < bytes as u64 {
        return Ok(None);
    }
    let (outcome, head) = read_full(file.as_ref(), 0, bytes, Buf::default()).await;
    outcome?;
    let Some((header, groups)) = head.split_at_checked(HEADER_REGION) else { return Ok(None) };
    let Some((of, _)) = SegmentHeader::decode(header).ok().and_then(|header| header.sector_use()) else {
        return Ok(None);
    };
    let first = groups.get(..SECTOR).and_then(|sector| position_of(sector, FIRST_SECTOR, of.id));
    Ok((first == Some((of.epoch, of.base))).then_some(of))
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
        let Some(of) = written_use(env, &path).await? else { continue };
        let is_named = request.segments.iter().any(|(_, id)| *id == of.id);
        if !is_named && of.base >= limit {
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
