//! Examination: every sector of every segment that the manifest names, those too that replay never reads.
//!
//! Replay stops at the first bad byte and looks at no more than it needs. This goes on, says of each segment what is
//! wrong and which of its bytes nothing depends on, and changes nothing:
//!
//! ```text
//! in the chain     header | groups, surveyed as replay does | behind the end: zeros, earlier uses, a torn group
//! let go, spare    header | nothing needs it, yet each sector must be zeros or valid in its place
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;
use std::path::Path;

use super::chain::{Found, Link, chain, next_base};
use super::header::SegmentState;
use super::replay::{BatchSink, LogFile, Progress, ReplayRequest, open_to_read};
use super::unnamed::demand_none;
use crate::env::{Buf, Env};
use crate::error::{Error, Result};
use crate::record::{
    FIRST_SECTOR, FrameDecoder, FrameKind, HEADER_REGION, SECTOR, SectorReader, SectorUse, Survey,
    Unreadable, Verdict, judge, read_full,
};
use crate::types::{FileNo, Lsn};

/// Bad sectors of one segment that are named one by one.
const NAMED_MAX: usize = 64;

/// What was found in one segment.
#[derive(Debug)]
pub struct ExaminedSegment {
    /// Its number.
    pub no: FileNo,
    /// What is wrong, and whether nothing depends on the bytes in question.
    pub problems: Vec<(Error, bool)>,
    /// Bytes that nothing depends on, and why.
    pub unused: Vec<(Range<u64>, &'static str)>,
}

/// What was found in the log.
#[derive(Debug, Default)]
pub struct Examined {
    /// One for each segment that the manifest names, in that order.
    pub segments: Vec<ExaminedSegment>,
    /// What is wrong with the log as a whole: a gap, segments that contradict each other.
    pub problems: Vec<Error>,
}

/// Examines the log. `sink` gets every batch that replay would give, if the log as a whole is sound; `progress` is told
/// the bytes read.
///
/// # Errors
/// None that lies in a file: those are the result. What `sink` answers in [`BatchSink::pause`].
pub async fn examine(
    env: &dyn Env,
    request: &ReplayRequest<'_>,
    sink: &mut dyn BatchSink,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Examined> {
    let mut examined = Examined::default();
    let mut files = Vec::new();
    for (no, id) in request.segments {
        let mut segment = ExaminedSegment { no: *no, problems: Vec::new(), unused: Vec::new() };
        match LogFile::open(env, request, *no, *id).await {
            Ok(file) => files.push((examined.segments.len(), file)),
            Err(error) => segment.problems.push((error, false)),
        }
        examined.segments.push(segment);
    }
    // With a segment unread it cannot be told which of the others are needed.
    let mut links = Vec::new();
    if files.len() == request.segments.len() {
        let found: Vec<Found> = files.iter().map(|(_, file)| file.found.clone()).collect();
        match chain(&found, request.first_needed, request.flushed, request.known_durable) {
            Ok(chained) => links = chained,
            Err(broken) => {
                let path = broken.index.and_then(|index| files.get(index)).map(|(_, file)| &*file.path);
                let error = Error::corrupt_at(path.unwrap_or(request.dir), 0, broken.what);
                examined.problems.push(error);
            }
        }
        if let Err(error) = demand_none(env, request, next_base(&found)).await {
            examined.problems.push(error);
        }
    }
    for (index, (at, file)) in files.iter().enumerate() {
        let link = links.iter().find(|link| link.index == index);
        let Some(segment) = examined.segments.get_mut(*at) else { continue };
        let sound = examine_file(env, file, link, request, segment, progress).await;
        if let (Ok(Some(end)), Some(_)) = (&sound, link)
            && *end > request.first_needed
            && let Err(error) = file.deliver(env, *end, request, sink, &mut Progress::new(env)).await
        {
            segment.problems.push((error, false));
        }
        if let Err(error) = sound {
            segment.problems.push((error, false));
        }
    }
    Ok(examined)
}

/// True if something was written behind the header of the segment at `path`, whatever it is worth.
///
/// # Errors
/// What the disk says.
pub(crate) async fn is_written(env: &dyn Env, path: &Path) -> Result<bool> {
    let file = open_to_read(env, path, true).await?;
    let (outcome, head) = read_full(file.as_ref(), 0, 2 * HEADER_REGION, Buf::default()).await;
    outcome?;
    Ok(head.iter().skip(HEADER_REGION).any(|byte| *byte != 0))
}

/// Judges every sector. Gives where the log ends in this segment, if it is in the chain and sound.
async fn examine_file(
    env: &dyn Env,
    file: &LogFile,
    link: Option<&Link>,
    request: &ReplayRequest<'_>,
    segment: &mut ExaminedSegment,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Option<Lsn>> {
    progress(HEADER_REGION as u64);
    let header = &file.found.header;
    let len = offset_of(header.capacity);
    let Some((of, limit)) = header.sector_use() else {
        segment.unused.push((HEADER_REGION as u64..len, "a segment that waits to be used"));
        return examine_spare(env, file, segment, progress).await.map(|()| None);
    };
    let sectors = sectors_in(header.capacity);
    // Without a link nothing is needed, and every sector is judged by itself.
    let needed = link.map_or(0, |link| link.named_end.map_or(sectors, |end| sectors_in(end.since(of.base))));
    let mut survey = Survey::new(of, needed);
    let mut number = FIRST_SECTOR;
    let mut reader = SectorReader::new(file.file.as_ref(), &file.path, of.base, limit);
    let mut sound = true;
    while let Some((start, bytes)) = reader.next(env).await? {
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let lsn = start.advance(bytes_of(index as u64));
            let is_needed = number.saturating_sub(FIRST_SECTOR) < needed;
            let outcome = if is_needed {
                survey.sector(sector).map_err(|bad| bad.what)
            } else {
                match judge(sector, number, lsn, &of) {
                    Verdict::Corrupt(what) => Err(what),
                    Verdict::New(..) | Verdict::Old => Ok(()),
                }
            };
            if let Err(what) = outcome {
                sound &= !is_needed;
                segment.note(file, number, what, !is_needed);
            }
            number = number.saturating_add(1);
        }
        progress(bytes.len() as u64);
    }
    let Some(link) = link else {
        segment.unused.push((HEADER_REGION as u64..len, "a segment that was let go"));
        return Ok(None);
    };
    if !sound {
        return Ok(None);
    }
    let surveyed = file.end_of(survey, link, request)?;
    let why = match (link.named_end, surveyed.torn) {
        (Some(_), _) => "behind the end that the next segment names",
        (None, true) => "behind the end of the log: a group that was being written when the writer died",
        (None, false) => "behind the end of the log",
    };
    // The end may be the very end of the room, whose offset is no place in the file.
    let end = offset_of(surveyed.end.since(of.base));
    if link.named_end.is_none() && is_sealed(env, file, &of, surveyed.durable, surveyed.end).await? {
        let seal = offset_of(surveyed.durable.since(of.base));
        segment
            .unused
            .push((seal..end, "the seal of what stands before: nothing but that evidence depends on it"));
    }
    if end < len {
        segment.unused.push((end..len, why));
    }
    Ok(Some(surveyed.end))
}

/// True if everything in `start..end`, which are ends of groups, is a seal or the log's end.
async fn is_sealed(env: &dyn Env, file: &LogFile, of: &SectorUse, start: Lsn, end: Lsn) -> Result<bool> {
    if start < of.base || start >= end || end.since(start) > HEADER_REGION as u64 {
        return Ok(false);
    }
    let mut decoder = FrameDecoder::new();
    let mut is_seal = true;
    let mut reader = SectorReader::new(file.file.as_ref(), &file.path, of.base, end);
    while let Some((first, bytes)) = reader.next(env).await? {
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let lsn = first.advance(bytes_of(index as u64));
            let number = sectors_in(lsn.since(of.base)).saturating_add(FIRST_SECTOR);
            if lsn < start {
                continue;
            }
            let Verdict::New(head, payload) = judge(sector, number, lsn, of) else { return Ok(false) };
            let decoded = decoder.sector::<Unreadable>(lsn, head, payload, &mut |frame| {
                is_seal &= matches!(frame.kind, FrameKind::Seal | FrameKind::End);
                Ok(())
            });
            is_seal &= decoded.is_ok();
        }
    }
    Ok(is_seal)
}

/// A segment that was never used holds zeros only.
async fn examine_spare(
    env: &dyn Env,
    file: &LogFile,
    segment: &mut ExaminedSegment,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    debug_assert!(file.found.header.state == SegmentState::Unused, "only of a segment without a use");
    let end = Lsn::new(file.found.header.capacity);
    let mut reader = SectorReader::new(file.file.as_ref(), &file.path, Lsn::ZERO, end);
    let mut number = FIRST_SECTOR;
    while let Some((_, bytes)) = reader.next(env).await? {
        for sector in bytes.chunks_exact(SECTOR) {
            if sector.iter().any(|byte| *byte != 0) {
                segment.note(file, number, "sector: not zeros in a segment that was never used", true);
            }
            number = number.saturating_add(1);
        }
        progress(bytes.len() as u64);
    }
    Ok(())
}

impl ExaminedSegment {
    fn note(&mut self, file: &LogFile, number: u64, what: &'static str, harmless: bool) {
        if self.problems.len() < NAMED_MAX {
            let error = Error::corrupt_at(&file.path, bytes_of(number), what);
            self.problems.push((error, harmless));
        }
    }
}

/// The place in the file of a byte behind the header region.
fn offset_of(behind: u64) -> u64 {
    behind.saturating_add(HEADER_REGION as u64)
}

fn sectors_in(bytes: u64) -> u64 {
    bytes.div_euclid(SECTOR as u64)
}

fn bytes_of(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR as u64)
}
