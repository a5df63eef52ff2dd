//! A manifest file: made with room for edits to come, appended to, read.
//!
//! ```text
//! magic "HFMANIF\0", version 1; fields, all required, each a u64:
//! 1 database identity   2 capacity in bytes behind the header region
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::BadBytes;
use crate::env::{Buf, Env, File, IoErrorKind, IoResult, OpenOptions, SharedDir};
use crate::error::{Error, Result};
use crate::record::{
    EncodedFrames, FileHeader, Frame, FrameKind, GroupEncoder, GroupLayout, HEADER_REGION, HeaderWriter,
    SECTOR, SectorUse, Unreadable, read_full, write_full,
};
use crate::types::{FileId, FileNo, Lsn, file_name};

const MAGIC: &[u8; 8] = b"HFMANIF\0";
const VERSION: u32 = 1;
const DATABASE: u8 = 1;
const CAPACITY: u8 = 2;
/// Least room of a manifest.
const CAPACITY_MIN: u64 = 64 << 10;
/// Bytes filled with zeros between two chances for others to run.
const FILL_SLICE: u64 = 256 << 10;

/// An open manifest.
pub(super) struct ManifestFile {
    pub no: FileNo,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub of: SectorUse,
    /// Bytes behind the header region.
    pub capacity: u64,
}

impl ManifestFile {
    /// Makes a manifest that holds `snapshot`, with room for edits of three times its size and at least 64 KiB.
    /// File and name are durable when it returns; gives the position after the snapshot.
    pub async fn create(
        env: &dyn Env,
        dir: &SharedDir,
        database: u64,
        no: FileNo,
        snapshot: &[u8],
    ) -> IoResult<(Self, Lsn)> {
        let (path, entries) = (file_name::path(dir, file_name::FileKind::Manifest, no), dir.begin_entries());
        let file = env.disk().open(&path, OpenOptions::create()).await?;
        let bytes = layout(snapshot).bytes();
        let capacity = bytes.saturating_mul(4).max(CAPACITY_MIN).next_multiple_of(HEADER_REGION as u64);
        let id = FileId::new(env.random_u64());
        let of = SectorUse { id, epoch: 0, base: Lsn::ZERO };
        let this = Self { no, path, file, of, capacity };
        let total = capacity.saturating_add(HEADER_REGION as u64);
        let mut filled = 0;
        while filled < total {
            let slice = FILL_SLICE.min(total.saturating_sub(filled));
            this.file.zero_range(filled, slice).await?;
            filled = filled.saturating_add(slice);
            env.slice(slice).await;
        }
        let header = encode_header(id, database, capacity);
        write_full(this.file.as_ref(), &this.path, 0, Buf::copy_of(&header)).await.0?;
        let end = this.write(Lsn::ZERO, Lsn::ZERO, snapshot).await?;
        this.file.sync_all().await?;
        dir.sync(env.disk(), entries).await?;
        Ok((this, end))
    }

    /// Opens the manifest that `CURRENT` names.
    pub async fn open(env: &dyn Env, dir: &Path, database: u64, no: FileNo, id: FileId) -> Result<Self> {
        let path = file_name::path(dir, file_name::FileKind::Manifest, no);
        let file = match env.disk().open(&path, OpenOptions::read()).await {
            Ok(file) => file,
            Err(error) if error.kind == IoErrorKind::NotFound => {
                return Err(Error::corrupt_at(path, 0, "CURRENT names this manifest, but it is missing"));
            }
            Err(error) => return Err(error.into()),
        };
        let (outcome, region) = read_full(file.as_ref(), 0, HEADER_REGION, Buf::default()).await;
        outcome?;
        let (found, of, capacity) =
            decode_header(&region).map_err(|unreadable| unreadable.in_file(&path, 0))?;
        if of.id != id || found != database {
            return Err(Error::corrupt_at(path, 0, "this manifest belongs to another database or time"));
        }
        let len = file.len().await?;
        if len != capacity.saturating_add(HEADER_REGION as u64) {
            let what = format!("the manifest is {len} bytes, but its header says {capacity} behind it");
            return Err(Error::corrupt_at(path, len, what));
        }
        Ok(Self { no, path, file, of, capacity })
    }

    /// True if an edit of these bytes, and its seal, have room at `at`.
    pub fn has_room(&self, at: Lsn, edit: &[u8]) -> bool {
        at.get().saturating_add(layout(edit).bytes()).saturating_add(SECTOR as u64) <= self.capacity
    }

    /// Writes an edit at `at` and gives the position after it. Everything below `durable` is durable. Does not sync.
    pub async fn write(&self, at: Lsn, durable: Lsn, edit: &[u8]) -> IoResult<Lsn> {
        assert!(self.has_room(at, edit), "room was made for the edit");
        self.write_frame(at, durable, Frame::new(FrameKind::Edit, edit, &[])).await
    }

    /// Writes a seal at `at`, below which everything is durable, and gives the position after it. Does not sync.
    pub async fn write_seal(&self, at: Lsn) -> IoResult<Lsn> {
        self.write_frame(at, at, Frame::new(FrameKind::Seal, &[], &[])).await
    }

    async fn write_frame(&self, at: Lsn, durable: Lsn, frame: Frame<'_>) -> IoResult<Lsn> {
        let none = EncodedFrames::default();
        let frames = [frame];
        let layout = GroupLayout::new(&none, &frames, SECTOR as u64);
        let mut encoder = GroupEncoder::new(self.of, at, durable, layout, &none, &frames);
        let mut chunk = Buf::default();
        let mut offset = self.offset(at);
        while encoder.next_chunk(&mut chunk) {
            let len = chunk.len() as u64;
            let (outcome, back) = write_full(self.file.as_ref(), &self.path, offset, chunk).await;
            outcome?;
            (chunk, offset) = (back, offset.saturating_add(len));
        }
        Ok(at.advance(layout.bytes()))
    }

    /// The place of a position in the file.
    pub fn offset(&self, at: Lsn) -> u64 {
        at.get().saturating_add(HEADER_REGION as u64)
    }
}

fn layout(edit: &[u8]) -> GroupLayout {
    let frames = [Frame::new(FrameKind::Edit, edit, &[])];
    GroupLayout::new(&EncodedFrames::default(), &frames, SECTOR as u64)
}

pub(super) fn encode_header(id: FileId, database: u64, capacity: u64) -> [u8; SECTOR] {
    HeaderWriter::new(MAGIC, VERSION, id)
        .required(DATABASE, &database.to_le_bytes())
        .required(CAPACITY, &capacity.to_le_bytes())
        .sector()
}

pub(super) fn decode_header(region: &[u8]) -> std::result::Result<(u64, SectorUse, u64), Unreadable> {
    let header = FileHeader::decode_region(region, MAGIC, VERSION, &[DATABASE, CAPACITY])?;
    let database = header.number(DATABASE, "manifest database")?;
    let capacity = header.number(CAPACITY, "manifest capacity")?;
    if capacity == 0 || !capacity.is_multiple_of(HEADER_REGION as u64) || capacity > 1 << 48 {
        return Err(BadBytes { what: "manifest header: impossible capacity", at: 0 }.into());
    }
    Ok((database, SectorUse { id: header.id, epoch: 0, base: Lsn::ZERO }, capacity))
}
