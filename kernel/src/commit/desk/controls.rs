//! What the leader does besides commits: make the log durable, seal it, let go of it, close it.

use super::{Desk, supply};
use crate::commit::{Committer, Outcome, Work};
use crate::error::{Error, Result};
use crate::events::{Timed, Where};
use crate::manifest::{Change, Version};
use crate::types::Lsn;

impl Desk {
    /// Everything but commits.
    pub(super) async fn serve(&mut self, committer: &Committer, work: &Work) -> Outcome {
        let result = match work {
            Work::Commit { .. } => Err(Error::Invalid("a commit among the controls".into())),
            Work::Sync => self.sync(committer).await,
            Work::FlushBuffered => self.flush_buffered(committer).await,
            Work::Seal { idle_since } if self.wal.end_lsn() > *idle_since => Ok(()),
            Work::Seal { .. } => self.seal(committer).await.map(drop),
            Work::Freeze(id) => self.freeze(committer, *id).await,
            Work::Release(lsn) => {
                let released = self.wal.release_before(*lsn).await;
                committer.segments.bury(released);
                Ok(())
            }
            Work::Shrink => self.shrink(committer).await,
            Work::Close => self.close(committer).await,
        };
        match result {
            Ok(()) => Ok(committer.published.visible()),
            Err(error) => {
                if let Error::Stopped(why) = &error {
                    committer.gate.stop(why);
                }
                Err(error)
            }
        }
    }

    /// Makes everything before durable, and a boundary that never moves. Gives its position.
    pub(super) async fn seal(&mut self, committer: &Committer) -> Result<Lsn> {
        let began = self.slow().begin(&*committer.env);
        let boundary = loop {
            match self.wal.seal().await {
                Ok(boundary) => break boundary,
                Err(lack) => supply(committer, lack).await?,
            }
        };
        self.slow().judge_since(began, &*committer.env, Timed::LogSync, Where::File(self.wal.path()));
        self.sealed_at = Some(boundary);
        self.note_durable(committer);
        Ok(boundary)
    }

    async fn sync(&mut self, committer: &Committer) -> Result<()> {
        let began = self.slow().begin(&*committer.env);
        loop {
            match self.wal.sync().await {
                Ok(_) => break,
                Err(lack) => supply(committer, lack).await?,
            }
        }
        self.slow().judge_since(began, &*committer.env, Timed::LogSync, Where::File(self.wal.path()));
        self.note_durable(committer);
        Ok(())
    }

    /// Gives the space of an idle log back. All groups are applied here, so what memtables do not pin is in tables.
    async fn shrink(&mut self, committer: &Committer) -> Result<()> {
        loop {
            match self.wal.shrink().await {
                Ok(()) => break,
                Err(lack) => supply(committer, lack).await?,
            }
        }
        self.sealed_at = Some(self.wal.end_lsn());
        self.note_durable(committer);
        let state = committer.published.load();
        let pinned = state.keyspaces.values().filter_map(|keyspace| keyspace.pinned_lsn()).min();
        let start = pinned.unwrap_or(self.wal.end_lsn());
        // The log that is let go may have told of commits to a keyspace that was dropped since: no table tells of them.
        let (last_seq, last_timestamp) = (committer.durable_seq(), self.clock.last());
        // Its leaps in the numbers are told before the number behind them: recovery would not see them any more.
        let mut told = committer.skipped.untold(last_seq);
        told.extend([
            Change::LogStart { lsn: start },
            Change::LastSeq(last_seq),
            Change::LastTimestamp(last_timestamp),
        ]);
        let decide = move |version: &Version| {
            Ok(told.iter().cloned().filter_map(|change| version.still_news(change)).collect())
        };
        let version = committer.door.change_with(decide).await?;
        committer.skipped.note_told(last_seq, version.retained_from);
        let mut released = self.wal.release_before(version.log_start).await;
        released.extend(self.wal.release_spares());
        committer.segments.bury(released);
        committer.segments_changed.notify_one();
        Ok(())
    }

    async fn flush_buffered(&mut self, committer: &Committer) -> Result<()> {
        loop {
            match self.wal.flush_buffered().await {
                Ok(()) => return Ok(()),
                Err(lack) => supply(committer, lack).await?,
            }
        }
    }

    async fn close(&mut self, committer: &Committer) -> Result<()> {
        let released = loop {
            match self.wal.close().await {
                Ok(released) => break released,
                Err(lack) => supply(committer, lack).await?,
            }
        };
        committer.segments.bury(released);
        Ok(())
    }
}
