//! Making, opening for use, and removing segment files.
//!
//! A segment is filled with zeros by written blocks before it is used, so that a commit writes data and no
//! metadata. With direct I/O it has two handles on one file: one plain, and one whose writes are durable on return.
//! Where the file system cannot do direct I/O it has one handle through the page cache. The two are never mixed
//! on one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{SegmentHeader, SegmentState};
use crate::env::{Buf, Env, File, IoErrorKind, IoResult, OpenOptions, SharedDir};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::record::{HEADER_REGION, SECTOR, SectorUse, remove_quietly, write_full};
use crate::types::{FileId, FileNo, Lsn, file_name};

/// Bytes filled with zeros between two chances for others to run.
const FILL_SLICE: u64 = 256 << 10;

/// A segment takes at most one part in so many of the free space, unless less would not do.
const FREE_SHARE: u64 = 16;

/// How large a segment to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentSize {
    /// Capacity in bytes if there is room; rounded up to 4 KiB.
    pub wanted: u64,
    /// A smaller one will do on a full disk, but not below this.
    pub least: u64,
}

/// A segment that is in no use: filled with zeros, or used up and released.
pub struct Segment {
    pub(super) no: FileNo,
    pub(super) id: FileId,
    pub(super) path: PathBuf,
    /// Bytes behind the header region.
    pub(super) capacity: u64,
    /// Groups are padded to this many bytes.
    pub(super) align: u64,
    pub(super) plain: Arc<dyn File>,
    /// Writes through it are durable on return; only with direct I/O.
    pub(super) dsync: Option<Arc<dyn File>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment({}, {} bytes)", self.path.display(), self.capacity)
    }
}

/// A segment that the log needs no more. Take it out of the manifest, durably, then give it to
/// [`SegmentMaker::remove`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// Its number.
    pub no: FileNo,
    /// Its identity.
    pub id: FileId,
}

/// Makes and removes segment files. Needs no access to the writer, so a background task can hold one.
#[derive(Clone)]
pub struct SegmentMaker {
    env: Arc<dyn Env>,
    dir: Arc<SharedDir>,
    direct: bool,
}

impl SegmentMaker {
    /// For the database in `dir`.
    pub fn new(env: Arc<dyn Env>, dir: Arc<SharedDir>, options: &Options) -> Self {
        Self { env, dir, direct: options.direct_log }
    }

    /// Makes a segment: file, zeros and name are durable when it returns. It belongs to nobody until the manifest
    /// names it.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if there is not even room for `size.least`; nothing is left behind then. Any other disk
    /// error harms nothing either: the file was not in use.
    pub async fn make(&self, no: FileNo, id: FileId, size: SegmentSize) -> Result<Segment> {
        let path = file_name::path(&self.dir, file_name::FileKind::Log, no);
        let round = |bytes: u64| bytes.next_multiple_of(HEADER_REGION as u64);
        let wanted = size.wanted.min(self.fair_share().await).max(size.least);
        let made = self.make_at(no, id, &path, round(wanted), round(size.least)).await;
        if made.as_ref().is_err_and(|error| error.kind != IoErrorKind::AlreadyExists) {
            remove_quietly(self.env.disk(), &path).await;
        }
        made.map_err(Error::from)
    }

    /// What a segment may take of the disk. On a small or nearly full one a segment of the usual size would leave no
    /// room for the tables that make it needless.
    async fn fair_share(&self) -> u64 {
        // A disk that does not say how much is free is asked for what is wanted.
        self.env.disk().free_space(&self.dir).await.map_or(u64::MAX, |free| free.bytes / FREE_SHARE)
    }

    async fn make_at(
        &self,
        no: FileNo,
        id: FileId,
        path: &Path,
        wanted: u64,
        least: u64,
    ) -> IoResult<Segment> {
        let entries = self.dir.begin_entries();
        let (plain, dsync) = self.create(path).await?;
        let capacity = self.fill(plain.as_ref(), wanted, least).await?;
        let align = (plain.alignment() as u64).max(SECTOR as u64);
        let segment = Segment { no, id, path: path.to_path_buf(), capacity, align, plain, dsync };
        segment.write_header(SegmentState::Unused).await?;
        segment.plain.sync_all().await?;
        self.dir.sync(self.env.disk(), entries).await?;
        Ok(segment)
    }

    async fn create(&self, path: &Path) -> IoResult<(Arc<dyn File>, Option<Arc<dyn File>>)> {
        let disk = self.env.disk();
        if self.direct {
            match disk.open(path, OpenOptions::create().direct()).await {
                Ok(plain) if plain.alignment() <= HEADER_REGION => {
                    match disk.open(path, OpenOptions::write().direct().dsync()).await {
                        Ok(dsync) => return Ok((plain, Some(dsync))),
                        Err(error) if error.kind == IoErrorKind::Unsupported => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind == IoErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
            // Some systems create the file and refuse direct I/O only then.
            match disk.remove(path).await {
                Err(error) if error.kind != IoErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok((disk.open(path, OpenOptions::create()).await?, None))
    }

    /// Fills the file with zeros and gives its capacity. When the disk is full half of what was filled is kept, if
    /// that is enough, so that others find some room too.
    async fn fill(&self, file: &dyn File, wanted: u64, least: u64) -> IoResult<u64> {
        let region = HEADER_REGION as u64;
        let total = region + wanted;
        let mut filled = 0;
        while filled < total {
            let slice = FILL_SLICE.min(total - filled);
            match file.zero_range(filled, slice).await {
                Ok(()) => filled += slice,
                Err(error) if matches!(error.kind, IoErrorKind::Full | IoErrorKind::Quota) => {
                    let half = filled.saturating_sub(region) / 2;
                    let capacity = half - half % region;
                    if capacity < least {
                        return Err(error);
                    }
                    file.truncate(region + capacity).await?;
                    return Ok(capacity);
                }
                Err(error) => return Err(error),
            }
            self.env.slice(slice).await;
        }
        Ok(wanted)
    }

    /// Removes the file of a segment that the durable manifest names no more. If that fails the next opening
    /// removes it.
    pub async fn remove(&self, released: &Released) {
        let path = file_name::path(&self.dir, file_name::FileKind::Log, released.no);
        remove_quietly(self.env.disk(), &path).await;
    }
}

impl Segment {
    /// Its number, for the manifest.
    pub fn no(&self) -> FileNo {
        self.no
    }

    /// Its identity, for the manifest.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Bytes of log it can hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn released(&self) -> Released {
        Released { no: self.no, id: self.id }
    }

    /// Writes the header and makes it durable. It is one sector, so a crash leaves the old or the new one.
    pub(super) async fn write_header(&self, state: SegmentState) -> IoResult<()> {
        let header = SegmentHeader { id: self.id, capacity: self.capacity, state };
        let mut region = Buf::zeroed(HEADER_REGION);
        region[..SECTOR].copy_from_slice(&header.encode());
        let file = self.dsync.as_ref().unwrap_or(&self.plain);
        write_full(file.as_ref(), &self.path, 0, region).await.0?;
        if self.dsync.is_none() { self.plain.sync_data().await } else { Ok(()) }
    }
}

/// A segment that is part of the log.
#[derive(Debug)]
pub(super) struct InUse {
    pub segment: Segment,
    pub of: SectorUse,
}

impl InUse {
    /// Where its room ends.
    pub fn limit(&self) -> Lsn {
        self.of.base.advance(self.segment.capacity)
    }

    /// The place of `lsn` in the file.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        assert!(lsn >= self.of.base && lsn < self.limit(), "a position of this segment");
        HEADER_REGION as u64 + lsn.since(self.of.base)
    }
}
