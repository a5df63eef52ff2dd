//! How the log goes on in its next segment: because the current one is full, or because the disk was.
//!
//! Where a file system copies on write (btrfs), every write needs room, zeros written ahead or not, the header of the
//! next segment too. So a segment that has ended may have no successor yet, or one whose header is still owed: then
//! each operation first tries to go on, and says `DiskFull`, or asks for a segment, until it can. Nothing else is
//! written meanwhile, so it does not matter whether a header that was refused is there.
//!
//! What a group is that found no room, from the moment its segment is abandoned:
//!
//! ```text
//! refused in a write       not whole, so no opening takes it             its commits: DiskFull
//! refused in a sync        may stand whole until the successor's         its commits: CommitUnknown, unless the
//!                          header is durable; dead from then on          successor's header could be written at once
//! ```
//! So once an append succeeds again in this opening, every group that was refused before it is dead.

use super::header::{Predecessor, SegmentState};
use super::segment::{InUse, Segment};
use super::writer::{Failure, Wal, WalError, WalResult};
use crate::check::mark;
use crate::env::{IoError, IoErrorKind};
use crate::error::Error;
use crate::record::{GroupLayout, HEADER_REGION, SectorUse};

impl Wal {
    pub(super) async fn has_one_name(&self, segment: &Segment) -> bool {
        self.env.disk().metadata(&segment.path).await.is_ok_and(|metadata| metadata.links == 1)
    }

    /// Goes on in a waiting segment that has `room`.
    pub(super) async fn rotate(&mut self, room: u64) -> WalResult<()> {
        // Everything below the end that the successor will name must be durable first.
        if self.durable < self.end {
            self.sync_current().await?;
        }
        match self.take_spare(room).await {
            Some(segment) => self.switch_to(segment).await,
            None => Err(WalError::NeedsSegment(self.spares.size_for(room))),
        }
    }

    async fn take_spare(&mut self, room: u64) -> Option<Segment> {
        while let Some(segment) = self.spares.take(room) {
            // A backup may have given it a second name since it was released.
            if self.has_one_name(&segment).await {
                return Some(segment);
            }
            self.unusable.push(segment.released());
        }
        None
    }

    /// Ends the current segment at the last durable position, and goes on in `segment`.
    async fn switch_to(&mut self, segment: Segment) -> WalResult<()> {
        let ended = self.durable;
        let base = self.current.limit();
        let predecessor = Predecessor { id: self.current.of.id, epoch: self.epoch, end: ended };
        let state = SegmentState::InUse { epoch: self.epoch, base, predecessor: Some(predecessor) };
        if let Err(error) = segment.write_header(state).await {
            // The header may be there or not, so no other segment can follow the current one.
            if is_full(&error) {
                mark!("log_header_refused");
                (self.ended, self.successor) = (true, Some(segment));
                return Err(WalError::Failed(Error::DiskFull(error)));
            }
            mark!("log_write_failed");
            return Err(self.stop(error.to_string()));
        }
        let of = SectorUse { id: segment.id, epoch: self.epoch, base };
        let before = std::mem::replace(&mut self.current, InUse { segment, of });
        tracing::debug!(file = %self.path().display(), base = base.get(), "the log goes on in the next segment");
        self.older.push_back((before, ended));
        self.spares.note_used();
        (self.end, self.durable, self.sealed, self.ended) = (base, base, true, false);
        Ok(())
    }

    /// After a segment has ended early: goes on in its successor, and writes anew there what was acknowledged and is
    /// not durable.
    pub(super) async fn go_on(&mut self) -> WalResult<()> {
        if !self.ended {
            return Ok(());
        }
        let bytes = GroupLayout::new(&self.unsynced, &[], HEADER_REGION as u64).bytes();
        let room = Self::room_elsewhere(bytes);
        let segment = match self.successor.take() {
            Some(segment) => segment,
            None => match self.take_spare(room).await {
                Some(segment) => segment,
                None => return Err(WalError::NeedsSegment(self.spares.size_for(room))),
            },
        };
        self.switch_to(segment).await?;
        if !self.unsynced.is_empty() {
            let unsynced = std::mem::take(&mut self.unsynced);
            let outcome = self.write(&unsynced, &[], true).await;
            self.unsynced = unsynced;
            match outcome {
                Ok(_) => self.unsynced.clear(),
                Err(Failure::Write(again) | Failure::Sync(again)) if is_full(&again) => {
                    mark!("log_segment_abandoned");
                    self.ended = true;
                    return Err(WalError::Failed(Error::DiskFull(again)));
                }
                Err(Failure::Write(again) | Failure::Sync(again)) => {
                    mark!("log_write_failed");
                    return Err(self.stop(again.to_string()));
                }
            }
        }
        self.note_nothing_unsynced();
        Ok(())
    }

    /// What to answer when a group was not written, or is not known to be durable; `holds_commits` tells whether it had
    /// more than what was acknowledged before, which stays and is written anew.
    pub(super) async fn failed(&mut self, failure: Failure, holds_commits: bool) -> WalError {
        let (Failure::Write(error) | Failure::Sync(error)) = &failure;
        if is_full(error) {
            return self.abandon_segment(&failure, holds_commits).await;
        }
        match &failure {
            Failure::Write(_) => mark!("log_write_failed"),
            Failure::Sync(_) => mark!("log_sync_failed"),
        }
        self.stop(error.to_string())
    }

    /// The disk was full after all: what was written since the last sync is not there. Ends the segment where it was
    /// durable, and tries to go on.
    async fn abandon_segment(&mut self, failure: &Failure, holds_commits: bool) -> WalError {
        mark!("log_segment_abandoned");
        self.ended = true;
        let abandoned = self.current.of.id;
        if let Err(WalError::Failed(stopped @ Error::Stopped(_))) = self.go_on().await {
            return WalError::Failed(stopped);
        }
        WalError::Failed(match failure {
            Failure::Sync(error) if holds_commits && self.current.of.id == abandoned => {
                mark!("log_group_unknown");
                Error::CommitUnknown(error.clone())
            }
            Failure::Write(error) | Failure::Sync(error) => Error::DiskFull(error.clone()),
        })
    }
}

fn is_full(error: &IoError) -> bool {
    matches!(error.kind, IoErrorKind::Full | IoErrorKind::Quota)
}
