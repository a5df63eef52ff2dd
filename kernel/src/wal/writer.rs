//! The one writer of the log. It belongs to one task at a time: whoever leads a group of commits.
//!
//! What is acknowledged but not durable stays in memory: `buffered` frames were not written yet, `unsynced` ones
//! were written and wait for a sync. Should the disk turn out to be full in between, so that what was written is
//! not there, they are written anew in the next segment before anything else. That costs a copy and at most 1 MiB
//! (an append that would exceed it is synced instead, about 0.4 ms a mebibyte); the other choice, stopping, would
//! break the promise that writes resume by themselves once there is room.
//!
//! Written anew, such frames stand at greater positions than [`Appended`] said. That changes no comparison with
//! [`Wal::durable_lsn`] (both only grow), but it means: the boundary of a freeze must be the position that
//! [`Wal::seal`] returned, for what stands before a seal is durable and does not move.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::header::{Predecessor, SegmentState};
use super::segment::{InUse, Released, Segment, SegmentSize};
use super::spares::{FIRST_BYTES, Spares};
use crate::check::mark;
use crate::env::{Buf, Env, File, IoError};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::record::{
    EncodedFrames, Frame, FrameKind, GroupEncoder, GroupLayout, HEADER_REGION, SectorUse, WRITE_CHUNK,
    encode_frames, write_full,
};
use crate::types::Lsn;

/// `Buffered` appends beyond this many bytes are written.
const BUFFERED_BYTES_MAX: usize = 256 << 10;
/// Frames that were written and not synced are kept up to this many bytes; then they are synced.
const UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// Every segment keeps this much room for its seal.
const SEAL_ROOM: u64 = HEADER_REGION as u64;

/// Where frames went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// They start at or after this position.
    pub start: Lsn,
    /// They are durable once [`Wal::durable_lsn`] is at least this.
    pub end: Lsn,
}

/// Why the log did not do what was asked.
#[derive(Clone, Debug)]
pub enum WalError {
    /// No waiting segment has room. Nothing was written or acknowledged: make a segment of this size, name it in
    /// the manifest, [`Spares::offer`] it, and ask again. If it cannot be made, its error is the answer.
    NeedsSegment(SegmentSize),
    /// [`Error::DiskFull`]: the frames are not in the log and will not appear in it; the log goes on.
    /// [`Error::CommitUnknown`], of [`Wal::append`] only: they may appear, whole, at the next opening, unless an
    /// operation that needs the log succeeds before; the log goes on.
    /// [`Error::Stopped`]: the frames may or may not appear, whole; the log takes no more in this opening.
    Failed(Error),
}

impl From<Error> for WalError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Result of an operation of the log.
pub type WalResult<T> = std::result::Result<T, WalError>;

/// How to start a log.
pub struct WalStart {
    /// The world.
    pub env: Arc<dyn Env>,
    /// Where to take further segments from.
    pub spares: Arc<Spares>,
    /// Greater than every epoch seen before.
    pub epoch: u32,
    /// Position of the first group; beyond every position of every segment seen before.
    pub base: Lsn,
    /// Where the previous log ended; `None` only for a new database.
    pub predecessor: Option<Predecessor>,
    /// The first segment.
    pub segment: Segment,
}

/// The writer. Every future it gives must be driven to its end: if one is dropped midway it is unknown what the
/// device did, and the log stops.
pub struct Wal {
    pub(super) env: Arc<dyn Env>,
    pub(super) spares: Arc<Spares>,
    pub(super) epoch: u32,
    pub(super) current: InUse,
    /// Ended segments and where they ended, oldest first.
    pub(super) older: VecDeque<(InUse, Lsn)>,
    /// Waiting segments that got a second name, so that they cannot be used.
    pub(super) unusable: Vec<Released>,
    /// Where the next group goes.
    pub(super) end: Lsn,
    /// Every byte of the log below is durable.
    pub(super) durable: Lsn,
    /// Where the first acknowledged frame that is not durable was to go; `None` if all are durable.
    waiting_from: Option<Lsn>,
    buffered: EncodedFrames,
    pub(super) unsynced: EncodedFrames,
    /// True if nothing stands between the last seal, or the segment's start, and `end`.
    pub(super) sealed: bool,
    /// True once nothing may be written to the current segment any more. It ends where it is durable, and what is
    /// unsynced is to be written anew behind the successor's header.
    pub(super) ended: bool,
    /// The segment to go on in, if its header was refused for want of room.
    pub(super) successor: Option<Segment>,
    /// Set while an operation is under way; found set by the next one if its future was dropped.
    under_way: bool,
    stopped: Option<Error>,
    /// Reused from group to group.
    chunk: Buf,
}

/// A group that did not become what it should.
pub(super) enum Failure {
    /// Not all of it was written.
    Write(IoError),
    /// It was written, perhaps whole, and is not known to be durable.
    Sync(IoError),
}

impl Wal {
    /// Starts a log: the segment's header is durable when it returns.
    ///
    /// # Errors
    /// The header could not be written; nothing else was touched.
    pub async fn start(start: WalStart) -> Result<Self> {
        let WalStart { env, spares, epoch, base, predecessor, segment } = start;
        assert!(base.get().is_multiple_of(HEADER_REGION as u64), "a base is aligned for direct I/O");
        assert!(predecessor.is_none_or(|p| p.end <= base && p.epoch < epoch), "an opening has a new epoch");
        segment.write_header(SegmentState::InUse { epoch, base, predecessor }).await?;
        spares.note_used();
        let of = SectorUse { id: segment.id, epoch, base };
        Ok(Self {
            env,
            spares,
            epoch,
            current: InUse { segment, of },
            older: VecDeque::new(),
            unusable: Vec::new(),
            end: base,
            durable: base,
            waiting_from: None,
            buffered: EncodedFrames::default(),
            unsynced: EncodedFrames::default(),
            sealed: true,
            ended: false,
            successor: None,
            under_way: false,
            stopped: None,
            chunk: Buf::default(),
        })
    }

    /// Everything below is durable.
    pub fn durable_lsn(&self) -> Lsn {
        // A change of segment may have moved `durable` beyond the ends promised to frames that still wait.
        self.waiting_from.map_or(self.durable, |from| self.durable.min(from))
    }

    /// Where the next group goes.
    pub fn end_lsn(&self) -> Lsn {
        self.end
    }

    /// The epoch of this opening.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Why the log takes no more, if so.
    pub fn stopped(&self) -> Option<&Error> {
        self.stopped.as_ref()
    }

    /// Appends `frames` as one group, which survives a crash whole or not at all. `Sync`: every byte of the log
    /// below the end is durable on return. `Flush`: written to the operating system. `Buffered`: kept in memory
    /// until a stronger append, [`Wal::flush_buffered`], or 256 KiB of them.
    ///
    /// # Errors
    /// See [`WalError`].
    pub async fn append(&mut self, frames: &[Frame<'_>], durability: Durability) -> WalResult<Appended> {
        self.begin()?;
        let outcome = self.append_group(frames, durability).await;
        self.under_way = false;
        outcome
    }

    async fn append_group(&mut self, frames: &[Frame<'_>], durability: Durability) -> WalResult<Appended> {
        self.go_on().await?;
        let bytes = GroupLayout::new(&self.buffered, frames, self.current.segment.align).bytes();
        self.require_room(bytes)?;
        let payload: u64 = frames.iter().map(Frame::body_len).sum();
        let held = self.buffered.len() as u64 + payload;
        match durability {
            Durability::Buffered if held <= BUFFERED_BYTES_MAX as u64 => {
                self.waiting_from.get_or_insert(self.end);
                encode_frames(frames, &mut self.buffered);
                Ok(Appended { start: self.end, end: self.end.advance(bytes) })
            }
            Durability::Sync => self.write_group(frames, true).await,
            Durability::Buffered | Durability::Flush => {
                let sync = self.unsynced.len() as u64 + held > UNSYNCED_BYTES_MAX;
                self.write_group(frames, sync).await
            }
        }
    }

    /// The segment in use.
    pub fn path(&self) -> &Path {
        &self.current.segment.path
    }

    /// Writes what is buffered to the operating system.
    ///
    /// # Errors
    /// See [`WalError`]; what was buffered stays so, and is tried again with the next append.
    pub async fn flush_buffered(&mut self) -> WalResult<()> {
        self.begin()?;
        let outcome = self.write_buffered().await;
        self.under_way = false;
        outcome
    }

    async fn write_buffered(&mut self) -> WalResult<()> {
        self.go_on().await?;
        if self.buffered.is_empty() {
            return Ok(());
        }
        self.write_group(&[], false).await.map(drop)
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// See [`WalError`].
    pub async fn sync(&mut self) -> WalResult<Lsn> {
        self.begin()?;
        let outcome = self.sync_all().await;
        self.under_way = false;
        outcome
    }

    async fn sync_all(&mut self) -> WalResult<Lsn> {
        self.go_on().await?;
        if !self.buffered.is_empty() {
            self.write_group(&[], true).await?;
        } else if self.durable < self.end {
            self.sync_current().await?;
        }
        Ok(self.durable_lsn())
    }

    /// Makes everything durable and writes down that it is, so that a later loss of it is noticed. Everything
    /// appended before stands below the position returned, everything after stands at or above.
    ///
    /// # Errors
    /// See [`WalError`].
    pub async fn seal(&mut self) -> WalResult<Lsn> {
        self.begin()?;
        let outcome = self.write_seal(FrameKind::Seal).await;
        self.under_way = false;
        outcome
    }

    async fn write_seal(&mut self, kind: FrameKind) -> WalResult<Lsn> {
        self.sync_all().await?;
        let body = self.durable.get().to_le_bytes();
        let frames = [Frame::new(kind, &body, &[])];
        let bytes = GroupLayout::new(&self.buffered, &frames, self.current.segment.align).bytes();
        if !self.sealed && self.end.advance(bytes) <= self.current.limit() {
            self.write_group_here(&frames, true).await?;
            self.sealed = true;
        }
        Ok(self.end)
    }

    /// Seals the log and goes on in a small segment, unless that is where it is already. Let go of what stands before
    /// with [`Wal::release_before`], and of the waiting segments with [`Wal::release_spares`].
    ///
    /// # Errors
    /// See [`WalError`].
    pub async fn shrink(&mut self) -> WalResult<()> {
        self.begin()?;
        let outcome = self.go_on_small().await;
        self.under_way = false;
        outcome
    }

    async fn go_on_small(&mut self) -> WalResult<()> {
        self.write_seal(FrameKind::Seal).await?;
        if self.current.segment.capacity <= FIRST_BYTES {
            return Ok(());
        }
        let large = self.spares.begin_small();
        self.unusable.extend(large.iter().map(Segment::released));
        self.rotate(SEAL_ROOM).await
    }

    /// Gives the waiting segments back, to be taken out of the manifest and removed.
    pub fn release_spares(&mut self) -> Vec<Released> {
        self.spares.take_all().iter().map(Segment::released).collect()
    }

    /// Seals the log for good and gives the waiting segments back, to be taken out of the manifest and removed.
    /// Every later call answers [`Error::Closed`].
    ///
    /// # Errors
    /// See [`WalError`]; then the log is not closed.
    pub async fn close(&mut self) -> WalResult<Vec<Released>> {
        self.begin()?;
        let outcome = self.write_seal(FrameKind::End).await;
        self.under_way = false;
        outcome?;
        self.stopped = Some(Error::Closed);
        let mut released = std::mem::take(&mut self.unusable);
        released.extend(self.release_spares());
        Ok(released)
    }

    /// Lets go of the segments that end at or below `lsn`, which must be the log start of the *durable* manifest:
    /// a segment may be used anew at once. Those that are not worth keeping are returned, to be taken out of the
    /// manifest and removed. The caller answers for pins (change feed, backup); a file with a second name is not
    /// used anew.
    pub async fn release_before(&mut self, lsn: Lsn) -> Vec<Released> {
        let mut released = std::mem::take(&mut self.unusable);
        while let Some((in_use, _)) = self.older.pop_front_if(|(_, end)| *end <= lsn) {
            let segment = in_use.segment;
            if self.spares.would_keep(segment.capacity) && self.has_one_name(&segment).await {
                mark!("log_recycled");
                self.spares.offer(segment);
            } else {
                released.push(segment.released());
            }
        }
        released
    }

    fn begin(&mut self) -> WalResult<()> {
        if self.under_way {
            self.stop("an operation of the log was abandoned midway".to_string());
        }
        if let Some(reason) = &self.stopped {
            return Err(WalError::Failed(reason.clone()));
        }
        self.under_way = true;
        Ok(())
    }

    pub(super) fn stop(&mut self, why: String) -> WalError {
        let reason = self.stopped.get_or_insert(Error::Stopped(why)).clone();
        tracing::error!(%reason, "the log takes no more writes");
        WalError::Failed(reason)
    }

    fn fits_here(&self, bytes: u64) -> bool {
        self.end.advance(bytes + SEAL_ROOM) <= self.current.limit()
    }

    /// A waiting segment may want wider groups than the current one, so its room is counted generously.
    pub(super) fn room_elsewhere(bytes: u64) -> u64 {
        bytes.next_multiple_of(HEADER_REGION as u64) + SEAL_ROOM
    }

    fn require_room(&self, bytes: u64) -> WalResult<()> {
        let elsewhere = Self::room_elsewhere(bytes);
        if self.fits_here(bytes) || self.spares.has(elsewhere) {
            return Ok(());
        }
        Err(WalError::NeedsSegment(self.spares.size_for(elsewhere)))
    }

    /// Writes what is buffered and `frames` as one group, in the next segment if need be.
    async fn write_group(&mut self, frames: &[Frame<'_>], sync: bool) -> WalResult<Appended> {
        let bytes = GroupLayout::new(&self.buffered, frames, self.current.segment.align).bytes();
        let elsewhere = Self::room_elsewhere(bytes);
        let leaves_early = || self.end > self.current.of.base && self.spares.has(elsewhere);
        if !self.fits_here(bytes) || leaves_early() && self.env.rare("log_rotates_early") {
            self.rotate(elsewhere).await?;
        }
        self.write_group_here(frames, sync).await
    }

    async fn write_group_here(&mut self, frames: &[Frame<'_>], sync: bool) -> WalResult<Appended> {
        let holds_commits = frames.iter().any(|frame| frame.kind == FrameKind::Batch);
        let buffered = std::mem::take(&mut self.buffered);
        let outcome = self.write(&buffered, frames, sync).await;
        self.buffered = buffered;
        let start = match outcome {
            Ok(start) => start,
            Err(failure) => return Err(self.failed(failure, holds_commits).await),
        };
        if sync {
            self.unsynced.clear();
            self.waiting_from = None;
        } else {
            self.waiting_from.get_or_insert(start);
            self.unsynced.extend(&self.buffered);
            encode_frames(frames, &mut self.unsynced);
        }
        self.buffered.clear();
        Ok(Appended { start, end: self.end })
    }

    /// Writes one group at the end and gives its start. On failure `end` stays, and nothing may be written there
    /// in this segment any more.
    pub(super) async fn write(
        &mut self,
        encoded: &EncodedFrames,
        frames: &[Frame<'_>],
        sync: bool,
    ) -> std::result::Result<Lsn, Failure> {
        let segment = &self.current.segment;
        let layout = GroupLayout::new(encoded, frames, segment.align);
        let (start, end) = (self.end, self.end.advance(layout.bytes()));
        assert!(end <= self.current.limit(), "room was made for the group");
        let mut encoder = GroupEncoder::new(self.current.of, start, self.durable, layout, encoded, frames);
        // A write that is durable on return makes only its own bytes durable, so all earlier ones must be.
        let at_once = sync && self.durable == start && layout.bytes() <= WRITE_CHUNK as u64;
        let dsync = segment.dsync.as_ref().filter(|_| at_once);
        let file: &Arc<dyn File> = dsync.unwrap_or(&segment.plain);
        let mut offset = self.current.offset(start);
        let mut chunk = std::mem::take(&mut self.chunk);
        while encoder.next_chunk(&mut chunk) {
            let len = chunk.len() as u64;
            let (outcome, back) = write_full(file.as_ref(), &segment.path, offset, chunk).await;
            if let Err(error) = outcome {
                // A write that is durable on return may have landed, and have failed in its sync.
                return Err(if dsync.is_some() { Failure::Sync(error) } else { Failure::Write(error) });
            }
            chunk = back;
            offset += len;
        }
        self.chunk = chunk;
        if sync && dsync.is_none() {
            segment.plain.sync_data().await.map_err(Failure::Sync)?;
        }
        self.end = end;
        self.sealed = false;
        if sync {
            self.durable = end;
        }
        Ok(start)
    }

    pub(super) async fn sync_current(&mut self) -> WalResult<()> {
        if let Err(error) = self.current.segment.plain.sync_data().await {
            return Err(self.failed(Failure::Sync(error), false).await);
        }
        self.durable = self.end;
        self.unsynced.clear();
        self.note_nothing_unsynced();
        Ok(())
    }

    pub(super) fn note_nothing_unsynced(&mut self) {
        if self.buffered.is_empty() {
            self.waiting_from = None;
        }
    }
}
