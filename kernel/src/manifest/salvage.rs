//! What can be read of a manifest that is damaged, or that no `CURRENT` names. It changes nothing on disk.
//!
//! The edits up to the first bad byte make a version that was in force once; of those behind it only hints are kept
//! (names, owners), for nobody knows what stood between.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::Path;

use super::current::Current;
use super::file::decode_header;
use super::{Change, Edit, Version};
use crate::env::{Buf, Env, OpenOptions};
use crate::error::Result;
use crate::record::{
    FrameKind, HEADER_REGION, READ_CHUNK, SECTOR, Scan, Scanned, SectorUse, read_full, read_leniently,
};
use crate::types::{FileNo, Lsn, file_name};

/// A manifest as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct SalvagedManifest {
    /// The state after the edits before the first bad byte.
    pub version: Version,
    /// How many edits that took.
    pub edits: u64,
    /// The file has no bad byte.
    pub whole: bool,
    /// Changes behind bad bytes.
    pub later: Vec<Change>,
    /// Bad bytes: offset and length.
    pub bad: Vec<(u64, u64)>,
    /// Offset behind the last edit, or seal, that can be read.
    pub end: u64,
    /// `CURRENT` can be read and names a later manifest, or another one of this number: this one is out of date.
    pub superseded: bool,
}

/// Reads manifest `no` of `dir` as far as that is possible; `None` if nothing tells its identity.
///
/// # Errors
/// The file cannot be opened.
pub(crate) async fn salvage(env: &dyn Env, dir: &Path, no: FileNo) -> Result<Option<SalvagedManifest>> {
    let path = file_name::path(dir, file_name::FileKind::Manifest, no);
    let file = env.disk().open(&path, OpenOptions::read()).await?;
    let len = file.len().await?;
    let (outcome, region) = read_full(file.as_ref(), 0, HEADER_REGION, Buf::default()).await;
    let header = outcome.ok().and_then(|()| decode_header(&region).ok());
    let named = Current::read(env, dir).await.ok().flatten().and_then(|current| current.in_force());
    let id = match (&header, named) {
        (Some((_, of, _)), _) => of.id,
        (None, Some(named)) if named.no == no => named.id,
        (None, _) => return Ok(None),
    };
    let expected =
        header.as_ref().map_or(len, |(_, _, capacity)| capacity.saturating_add(HEADER_REGION as u64));
    let of = SectorUse { id, epoch: 0, base: Lsn::ZERO };
    let mut walk = Walk { salvaged: SalvagedManifest { end: offset_of(Lsn::ZERO), ..Default::default() } };
    if header.is_none() {
        walk.salvaged.bad.push((0, HEADER_REGION as u64));
    }
    let mut scan = Scan::new(of);
    let mut found = Vec::new();
    let mut offset = HEADER_REGION as u64;
    while offset < len {
        let wanted = len.saturating_sub(offset).min(READ_CHUNK as u64) as usize;
        env.slice(wanted as u64).await;
        for sector in read_leniently(file.as_ref(), offset, wanted).await {
            scan.sector(sector.as_deref(), &mut found);
        }
        walk.take(&mut found);
        offset = offset.saturating_add(wanted as u64);
    }
    scan.finish(&mut found);
    walk.take(&mut found);
    // As an opening does: what was durable when the manifest came into force must be there.
    if let Some(named) = named.filter(|named| named.no == no && named.id == id) {
        let (end, durable) = (walk.salvaged.end, offset_of(named.durable));
        if end < durable && walk.salvaged.bad.iter().all(|(at, len)| at.saturating_add(*len) < durable) {
            walk.salvaged.bad.push((end, durable.saturating_sub(end)));
        }
    }
    walk.salvaged.superseded = named.is_some_and(|named| named.no > no || named.no == no && named.id != id);
    if len != expected {
        walk.salvaged.bad.push((len.min(expected), expected.abs_diff(len)));
    }
    walk.salvaged.whole = walk.salvaged.bad.is_empty() && walk.salvaged.edits > 0;
    debug_assert!(READ_CHUNK.is_multiple_of(SECTOR), "pieces hold whole sectors");
    Ok(Some(walk.salvaged))
}

/// The place of a position in the file.
fn offset_of(at: Lsn) -> u64 {
    at.get().saturating_add(HEADER_REGION as u64)
}

struct Walk {
    salvaged: SalvagedManifest,
}

impl Walk {
    fn take(&mut self, found: &mut Vec<Scanned>) {
        for scanned in found.drain(..) {
            match scanned {
                Scanned::Bad { start, end, .. } => {
                    self.salvaged.bad.push((offset_of(start), end.since(start)));
                }
                Scanned::Group { start, end, frames } => {
                    self.salvaged.end = offset_of(end);
                    for frame in frames.into_iter().filter(|frame| frame.kind != FrameKind::Seal) {
                        let edit = match frame.kind {
                            FrameKind::Edit => Edit::decode(&frame.body).ok(),
                            _ => None,
                        };
                        self.edit(edit, offset_of(start), end.since(start));
                    }
                }
            }
        }
    }

    fn edit(&mut self, edit: Option<Edit>, offset: u64, len: u64) {
        let Some(edit) = edit else { return self.salvaged.bad.push((offset, len)) };
        if self.salvaged.bad.iter().all(|(at, _)| *at < HEADER_REGION as u64) {
            match self.salvaged.version.apply(&edit) {
                Ok(next) => {
                    self.salvaged.version = next;
                    self.salvaged.edits = self.salvaged.edits.saturating_add(1);
                    return;
                }
                Err(_) => self.salvaged.bad.push((offset, len)),
            }
        }
        self.salvaged.later.extend(edit.changes);
    }
}
