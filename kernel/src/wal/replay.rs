//! Replay: from the segments that the manifest names to the batches in them, in order. It changes nothing on disk.
//!
//! Two passes over each needed segment. The first surveys every sector and decides where the segment ends or
//! refuses; only when all segments have passed does the second give batches, judging each sector again. So nothing
//! is handed on from a log that is then refused, and memory is bounded by one read and one frame.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::{Broken, Found, Link, chain, next_base};
use super::header::{Predecessor, SegmentHeader};
use super::unnamed::demand_none;
use crate::check::mark;
use crate::env::{BoxFuture, Buf, Env, File, IoErrorKind, IoResult, Nanos, OpenOptions};
use crate::error::{Error, Result};
use crate::record::{
    FIRST_SECTOR, FrameDecoder, FrameKind, FrameRef, HEADER_REGION, SECTOR, SectorReader, SectorUse, Survey,
    Surveyed, Torn, Unreadable, Verdict, judge, position_of, read_full, sector_bytes, sectors_in,
};
use crate::types::{FileId, FileNo, Lsn, file_name};

/// What the manifest knows to be durable in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownDurable {
    /// The opening in which it was known; it proves nothing about another one.
    pub epoch: u32,
    /// Everything below was durable.
    pub lsn: Lsn,
}

/// Where a batch stands, for errors and for bookkeeping.
#[derive(Clone, Copy, Debug)]
pub struct LogPlace<'a> {
    /// Start of the group it was in.
    pub lsn: Lsn,
    /// The segment.
    pub file: &'a Path,
    /// Offset of the group in it.
    pub offset: u64,
}

impl LogPlace<'_> {
    /// The error for a batch whose checksum holds but whose content is wrong.
    pub fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt_at(self.file, self.offset, what)
    }
}

/// Takes what replay finds.
pub trait BatchSink: Send {
    /// Takes one batch, as it was given to [`super::Wal::append`].
    ///
    /// # Errors
    /// Ends the replay.
    fn batch(&mut self, place: LogPlace<'_>, body: &[u8]) -> Result<()>;

    /// Called after at most 512 KiB of log: the time to flush a memtable that is full.
    fn pause(&mut self) -> BoxFuture<'_, Result<()>>;
}

/// What to replay.
pub struct ReplayRequest<'a> {
    /// Directory of the database.
    pub dir: &'a Path,
    /// The segments that the manifest names.
    pub segments: &'a [(FileNo, FileId)],
    /// The manifest's log start: every entry below it is in tables.
    pub first_needed: Lsn,
    /// The farthest position up to which tables have a keyspace, so that the log was once at least as long.
    pub flushed: Lsn,
    /// The manifest's evidence.
    pub known_durable: Option<KnownDurable>,
    /// Read past the page cache where possible; as [`Options::direct_log`](crate::Options::direct_log).
    pub direct: bool,
}

/// What was replayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Where the log ends.
    pub end: Lsn,
    /// The smallest base for a further segment.
    pub next_base: Lsn,
    /// The last segment and where it ended, for the header of the next; `None` if there was no log.
    pub last: Option<Predecessor>,
    /// Greatest epoch in any header.
    pub epoch_max: u32,
    /// The torn tail, if there was one.
    pub torn: Option<(FileNo, Torn)>,
    /// Batches given to the sink.
    pub batches: u64,
}

/// Reads the log and gives each batch at or after the first needed position to `sink`.
///
/// # Errors
/// [`Error::Corrupt`] if a needed byte is missing or wrong, naming file and offset; [`Error::NewerFormat`];
/// [`Error::Io`]; what the sink answers.
pub async fn replay(
    env: &Arc<dyn Env>,
    request: &ReplayRequest<'_>,
    sink: &mut dyn BatchSink,
) -> Result<Replayed> {
    let mut files = Vec::new();
    for (no, id) in request.segments {
        files.push(LogFile::open(env.as_ref(), request, *no, *id).await?);
    }
    let found: Vec<Found> = files.iter().map(|file| file.found.clone()).collect();
    let links = chain(&found, request.first_needed, request.flushed, request.known_durable)
        .map_err(|broken| in_words(broken, &files, request.dir))?;
    demand_none(env.as_ref(), request, next_base(&found)).await?;
    let mut progress = Progress::new(env.as_ref());
    let mut ends = Vec::new();
    let mut linked: Vec<(&LogFile, &Link)> = Vec::new();
    for link in &links {
        let Some(file) = files.get(link.index) else { continue };
        ends.push(file.survey(env.as_ref(), link, request, &mut progress).await?);
        linked.push((file, link));
    }
    let mut replayed = Replayed {
        end: ends.last().map_or(Lsn::ZERO, |surveyed| surveyed.end),
        next_base: next_base(&found),
        last: None,
        epoch_max: found.iter().filter_map(|f| f.header.sector_use()).map(|u| u.0.epoch).max().unwrap_or(0),
        torn: None,
        batches: 0,
    };
    if let (Some((file, link)), Some(surveyed)) = (linked.last(), ends.last()) {
        let predecessor = Predecessor { id: file.found.header.id, epoch: link.epoch, end: surveyed.end };
        replayed.last = Some(predecessor);
        replayed.torn = file.torn(link, surveyed);
    }
    for ((file, _), surveyed) in linked.iter().zip(&ends) {
        if surveyed.end > request.first_needed {
            let batches = file.deliver(env.as_ref(), surveyed.end, request, sink, &mut progress).await?;
            replayed.batches = replayed.batches.saturating_add(batches);
        }
    }
    Ok(replayed)
}

fn in_words(broken: Broken, files: &[LogFile], dir: &Path) -> Error {
    let file = broken.index.and_then(|index| files.get(index)).map_or(dir, |file| &file.path);
    Error::corrupt_at(file, 0, broken.what)
}

/// A segment file as found.
pub(super) struct LogFile {
    no: FileNo,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) found: Found,
}

impl LogFile {
    pub(super) async fn open(
        env: &dyn Env,
        request: &ReplayRequest<'_>,
        no: FileNo,
        id: FileId,
    ) -> Result<Self> {
        let path = file_name::path(request.dir, file_name::FileKind::Log, no);
        let file = match open_to_read(env, &path, request.direct).await {
            Ok(file) => file,
            Err(error) if error.kind == IoErrorKind::NotFound => {
                return Err(Error::corrupt_at(
                    path,
                    0,
                    "the manifest names this log segment, but it is missing",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        // The first sector behind the header comes with it; direct I/O reads 4096 bytes of it.
        let (outcome, head) = read_full(file.as_ref(), 0, 2 * HEADER_REGION, Buf::default()).await;
        outcome?;
        let region = head.get(..HEADER_REGION).unwrap_or_default();
        let header = SegmentHeader::decode(region).map_err(|unreadable| unreadable.in_file(&path, 0))?;
        if header.id != id {
            let what = format!("identity {} in the header, but the manifest names {id}", header.id);
            return Err(Error::corrupt_at(path, 0, what));
        }
        let len = file.len().await?;
        if len != header.capacity.saturating_add(HEADER_REGION as u64) {
            let what =
                format!("the segment is {len} bytes, but its header says {} behind it", header.capacity);
            return Err(Error::corrupt_at(path, len, what));
        }
        let first = head.get(HEADER_REGION..HEADER_REGION + SECTOR);
        let first = first.and_then(|sector| position_of(sector, FIRST_SECTOR, id)).map(|(_, lsn)| lsn);
        Ok(Self { no, path, file, found: Found { header, first } })
    }

    #[expect(
        clippy::expect_used,
        reason = "the chain, which says where files are used, is made of headers that say they are in use"
    )]
    pub(super) fn sector_use(&self) -> SectorUse {
        self.found.header.sector_use().expect("a chain is made of segments in use").0
    }

    pub(super) fn offset(&self, lsn: Lsn) -> u64 {
        lsn.since(self.sector_use().base).saturating_add(HEADER_REGION as u64)
    }

    /// The first pass: where does the segment end?
    async fn survey(
        &self,
        env: &dyn Env,
        link: &Link,
        request: &ReplayRequest<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Surveyed> {
        let of = self.sector_use();
        let sectors = sectors_in(self.found.header.capacity);
        let limit = link.named_end.map_or(sectors, |end| sectors_in(end.since(of.base)));
        let mut survey = Survey::new(of, limit);
        let end = of.base.advance(sector_bytes(limit));
        let mut chunks = SectorReader::new(self.file.as_ref(), &self.path, of.base, end);
        while let Some((lsn, bytes)) = chunks.next(env).await? {
            for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
                let offset = self.offset(lsn.advance(sector_bytes(index as u64)));
                survey.sector(sector).map_err(|bad| Error::corrupt(&self.path, offset, &bad))?;
            }
            progress.add(bytes.len() as u64);
        }
        self.end_of(survey, link, request)
    }

    /// The verdict over a segment whose sectors have all been judged.
    pub(super) fn end_of(
        &self,
        survey: Survey,
        link: &Link,
        request: &ReplayRequest<'_>,
    ) -> Result<Surveyed> {
        let verdict = match link.named_end {
            Some(end) => survey.finish_at(end),
            None => {
                // The log start was durable too; its epoch does not matter, for it lies inside this very segment.
                let known = request.known_durable.filter(|known| known.epoch == self.sector_use().epoch);
                survey.finish(known.map_or(Lsn::ZERO, |known| known.lsn).max(request.first_needed))
            }
        };
        verdict.map_err(|vouched| {
            mark!("log_hole_vouched");
            let what = format!(
                "the good groups end at {}, but everything below {} was durable",
                vouched.end, vouched.durable
            );
            Error::corrupt_at(&self.path, self.offset(vouched.end), what)
        })
    }

    fn torn(&self, link: &Link, surveyed: &Surveyed) -> Option<(FileNo, Torn)> {
        if !surveyed.torn || link.named_end.is_some() {
            return None;
        }
        mark!("log_torn_tail");
        let torn = Torn { end: surveyed.end, offset: self.offset(surveyed.end) };
        Some((self.no, torn))
    }

    /// The second pass: gives the batches below `end`.
    pub(super) async fn deliver(
        &self,
        env: &dyn Env,
        end: Lsn,
        request: &ReplayRequest<'_>,
        sink: &mut dyn BatchSink,
        progress: &mut Progress<'_>,
    ) -> Result<u64> {
        let mut delivery =
            Delivery { file: self, first: request.first_needed, parts: Vec::new(), batches: 0 };
        let mut decoder = FrameDecoder::new();
        let base = self.sector_use().base;
        let mut chunks = SectorReader::new(self.file.as_ref(), &self.path, base, end);
        while let Some((lsn, bytes)) = chunks.next(env).await? {
            delivery.chunk(lsn, bytes, &mut decoder, sink)?;
            progress.add(bytes.len() as u64);
            sink.pause().await?;
        }
        if !decoder.is_between_groups() {
            let what = "the log ends inside a group, though it was whole when it was surveyed: the file changed meanwhile";
            return Err(Error::corrupt_at(&self.path, self.offset(end), what));
        }
        Ok(delivery.batches)
    }
}

pub(super) async fn open_to_read(env: &dyn Env, path: &Path, direct: bool) -> IoResult<Arc<dyn File>> {
    if direct {
        match env.disk().open(path, OpenOptions::read().direct()).await {
            Ok(file) if file.alignment() <= HEADER_REGION => return Ok(file),
            Err(error) if error.kind != IoErrorKind::Unsupported => return Err(error),
            _ => {}
        }
    }
    env.disk().open(path, OpenOptions::read()).await
}

/// Why a chunk was not taken.
enum Halt {
    Unreadable(Unreadable),
    Other(Error),
}

impl From<Unreadable> for Halt {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

struct Delivery<'a> {
    file: &'a LogFile,
    first: Lsn,
    /// The parts so far of a batch that takes several frames.
    parts: Vec<u8>,
    batches: u64,
}

impl Delivery<'_> {
    fn chunk(
        &mut self,
        start: Lsn,
        bytes: &[u8],
        decoder: &mut FrameDecoder,
        sink: &mut dyn BatchSink,
    ) -> Result<()> {
        let of = self.file.sector_use();
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let lsn = start.advance(sector_bytes(index as u64));
            let offset = self.file.offset(lsn);
            let Verdict::New(head, payload) = judge(sector, sectors_in(offset), lsn, &of) else {
                let what = "sector: two reads of it gave different bytes";
                return Err(Error::corrupt_at(&self.file.path, offset, what));
            };
            decoder.sector(lsn, head, payload, &mut |frame| self.frame(frame, sink)).map_err(|halt| {
                match halt {
                    Halt::Unreadable(unreadable) => unreadable.in_file(&self.file.path, offset),
                    Halt::Other(error) => error,
                }
            })?;
            if decoder.is_between_groups() && !self.parts.is_empty() {
                return Err(Error::corrupt_at(
                    &self.file.path,
                    offset,
                    "group: the last part of a batch is missing",
                ));
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: FrameRef<'_>, sink: &mut dyn BatchSink) -> std::result::Result<(), Halt> {
        match frame.kind {
            _ if frame.stream != 0 => {
                Err(Unreadable::Newer(format!("unknown stream {}", frame.stream)).into())
            }
            FrameKind::Seal | FrameKind::End => Ok(()),
            FrameKind::BatchPart => {
                self.parts.extend_from_slice(frame.body);
                Ok(())
            }
            FrameKind::Batch => {
                let parts = std::mem::take(&mut self.parts);
                if frame.group < self.first {
                    return Ok(());
                }
                let offset = self.file.offset(frame.group);
                let place = LogPlace { lsn: frame.group, file: &self.file.path, offset };
                self.batches = self.batches.saturating_add(1);
                let outcome = if parts.is_empty() {
                    sink.batch(place, frame.body)
                } else {
                    let mut whole = parts;
                    whole.extend_from_slice(frame.body);
                    sink.batch(place, &whole)
                };
                outcome.map_err(Halt::Other)
            }
            FrameKind::Tables | FrameKind::Edit => {
                Err(Unreadable::Newer(format!("frames of kind {:?} in a log", frame.kind)).into())
            }
        }
    }
}

/// Tells an operator who waits that the replay goes on.
pub(super) struct Progress<'a> {
    env: &'a dyn Env,
    bytes: u64,
    told_bytes: u64,
    told_at: Nanos,
}

impl<'a> Progress<'a> {
    pub(super) fn new(env: &'a dyn Env) -> Self {
        Self { env, bytes: 0, told_bytes: 0, told_at: env.now() }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let now = self.env.now();
        if self.bytes.saturating_sub(self.told_bytes) >= 256 << 20 || now.since(self.told_at) >= 1_000_000_000
        {
            tracing::info!(mebibytes = self.bytes >> 20, "reading the log");
            (self.told_bytes, self.told_at) = (self.bytes, now);
        }
    }
}
