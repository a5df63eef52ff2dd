//! What only the leader holds, and the five steps it takes a group through.
//!
//! ```text
//! validate   each transaction against the conflict window, in queue order
//! sequence   the next Seq and timestamp; recorded in the window, so that later members of the group see it
//! log        one append for all, as durable as the most demanding member asks
//! apply      into the memtables, one pass a commit
//! publish    the last Seq becomes visible, then everyone is answered
//! ```

mod controls;
mod freezing;

use std::sync::Arc;

use super::queue::Pending;
use super::{Check, Committer, Outcome, Work};
use crate::cache::BlockCache;
use crate::check::mark;
use crate::clock::HybridClock;
use crate::conflict::{Clash, RecentWrites};
use crate::env::Env;
use crate::error::{Conflict, Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::manifest::Change;
use crate::options::Durability;
use crate::record::{Frame, FrameKind};
use crate::sync::atomic::Ordering;
use crate::tree::State;
use crate::types::{KeyspaceId, Lsn, OpKind, RangeTombstone, Seq, Timestamp, WriteBatch, escaped};
use crate::wal::{Appended, Spares, Wal, WalError};

/// Requests taken at once, at most.
pub(super) const GROUP_REQUESTS: usize = 256;
/// Bytes of batches taken at once; the first request is taken whatever its size.
pub(super) const GROUP_BYTES: u64 = 4 << 20;
/// Encoding memory kept between groups, in bytes.
const BODIES_KEPT_BYTES: usize = 1 << 20;
/// Sequences reserved in the manifest at once.
const RESERVE_SEQS: u64 = 1 << 20;

/// What to reserve up to when every `Seq` through `given` was or may have been given: no `Seq` may be given to two commits,
/// whatever a crash takes, and every commit may be seen before it is durable: if not in this process, then by a
/// look from beside, which reads the log that is being written.
pub(crate) fn reserve_beyond(env: &dyn Env, given: Seq) -> Seq {
    let ahead = if env.rare("few_sequences_reserved") { 8 } else { RESERVE_SEQS };
    Seq::new(given.get().saturating_add(ahead)).min(Seq::LIMIT)
}

/// Settings the leader needs.
#[derive(Clone, Debug)]
pub(crate) struct DeskOptions {
    pub memtable_bytes: u64,
    pub slow_operation_us: u64,
}

/// What a desk begins with.
pub(crate) struct DeskStart {
    pub wal: Wal,
    pub spares: Arc<Spares>,
    pub clock: HybridClock,
    pub recent: RecentWrites,
    pub last_seq: Seq,
    pub reserved: Seq,
    pub cache: Arc<BlockCache>,
    pub options: DeskOptions,
}

/// The leader's own things.
pub(crate) struct Desk {
    wal: Wal,
    clock: HybridClock,
    recent: RecentWrites,
    last_seq: Seq,
    /// No `Seq` beyond is given before the manifest has reserved more.
    reserved: Seq,
    spares: Arc<Spares>,
    /// Set while nothing was appended since the log was sealed.
    sealed_at: Option<Lsn>,
    /// Where the last group that was applied ends.
    applied_to: Lsn,
    /// Encoded frames, reused from group to group.
    bodies: Vec<u8>,
    memtables_made: u64,
    /// Gives way to memtables; they share its budget.
    cache: Arc<BlockCache>,
    options: DeskOptions,
}

/// A commit that passed validation.
struct Accepted {
    pending: Pending<Work, Outcome>,
    seq: Seq,
    batch: Arc<WriteBatch>,
}

impl Desk {
    pub fn new(start: DeskStart) -> Self {
        let DeskStart { wal, spares, clock, recent, last_seq, reserved, cache, options } = start;
        let applied_to = wal.end_lsn();
        let sealed_at = Some(applied_to);
        Self {
            wal,
            clock,
            recent,
            last_seq,
            reserved,
            spares,
            sealed_at,
            applied_to,
            bodies: Vec::new(),
            memtables_made: 0,
            cache,
            options,
        }
    }

    /// End of the log.
    pub fn log_end(&self) -> Lsn {
        self.wal.end_lsn()
    }

    /// The last `Seq` given, failed commits included; at first the end of what was reserved before.
    pub fn last_given(&self) -> Seq {
        self.last_seq
    }

    /// True while nothing was appended since the log was sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed_at.is_some()
    }

    fn slow(&self) -> SlowLimit {
        SlowLimit::new(self.options.slow_operation_us)
    }

    /// The option for the size of memtables.
    pub fn memtable_bytes(&self) -> u64 {
        self.options.memtable_bytes
    }

    /// The last timestamp given.
    pub fn last_timestamp(&self) -> Timestamp {
        self.clock.last()
    }

    /// Does everything the group asks, in order, and answers every member.
    pub async fn process(&mut self, committer: &Committer, group: Vec<Pending<Work, Outcome>>) {
        let mut commits = Vec::with_capacity(group.len());
        let mut rest = Vec::new();
        for pending in group {
            match pending.request() {
                Work::Commit { .. } => commits.push(pending),
                _ => rest.push(pending),
            }
        }
        if !commits.is_empty() {
            self.commit(committer, commits).await;
        }
        for pending in rest {
            let outcome = self.serve(committer, pending.request()).await;
            pending.complete(outcome);
        }
        if self.spares.wanted().is_some() {
            committer.segments_changed.notify_one();
        }
    }

    async fn commit(&mut self, committer: &Committer, commits: Vec<Pending<Work, Outcome>>) {
        let began = committer.env.now();
        let (accepted, durability) = self.sequence(committer, commits);
        let Some(last) = accepted.last().map(|accepted| accepted.seq) else { return };
        match self.log(committer, &accepted, durability).await {
            Ok((start, end)) => {
                let state = committer.published.load();
                for accepted in &accepted {
                    apply(&state, accepted.seq, &accepted.batch, start, end);
                }
                committer.last_timestamp.store(self.clock.last().get(), Ordering::Release);
                committer.published.publish_seq(last);
                self.applied_to = end;
                self.note_durable(committer);
                self.answer(committer, accepted);
                self.forget(committer, last);
                self.freeze_full(committer, &state).await;
                let elapsed_ns = committer.env.now().since(began);
                self.slow().judge(elapsed_ns, Timed::Commit, Where::Seq(last));
            }
            Err(error) => {
                // The sequences were never seen by anybody; they are skipped all the same, so that no two commits
                // ever carry the same one, not even in dead bytes of the log. Whoever counts commits leaps over them.
                let published = committer.published.visible();
                self.recent.retract_after(published);
                committer.skipped.note(published, self.last_seq);
                match &error {
                    Error::DiskFull(_) => mark!("commit_disk_full"),
                    Error::Stopped(why) => committer.gate.stop(why),
                    // The log knows what it may have left behind, and goes on beyond it before the next commit.
                    Error::CommitUnknown(_) => self.ask_to_go_on(committer),
                    // No segment could be made: nothing was written, the next commit tries again.
                    _ => {}
                }
                accepted.into_iter().for_each(|accepted| settle(accepted.pending, Err(error.clone())));
            }
        }
    }

    /// Readers beside the writer see a group that may stand whole, so that state ends as soon as there is room, and not
    /// with the next commit only: the keeper tries until the log is sealed.
    fn ask_to_go_on(&mut self, committer: &Committer) {
        self.sealed_at = None;
        self.wake_sealer(committer);
    }

    fn wake_sealer(&self, committer: &Committer) {
        // Before the wake-up: a keeper that still found the log sealed would sleep until the next seal.
        committer.sealed.store(false, Ordering::Release);
        committer.unsealed.notify_one();
    }

    /// Tells how far a crash takes nothing. That comes in leaps, for a sync makes all of the log durable.
    fn note_durable(&self, committer: &Committer) {
        if self.wal.durable_lsn() >= self.applied_to {
            committer.durable_seq.store(committer.published.visible().get(), Ordering::Release);
        }
    }

    /// Validates and numbers the commits of a group; answers those that may not commit.
    fn sequence(
        &mut self,
        committer: &Committer,
        commits: Vec<Pending<Work, Outcome>>,
    ) -> (Vec<Accepted>, Durability) {
        let mut accepted = Vec::with_capacity(commits.len());
        let mut strongest = Durability::Buffered;
        for pending in commits {
            let Work::Commit { batch, check, durability, .. } = pending.request() else { continue };
            let (batch, durability) = (batch.clone(), *durability);
            let verdict = committer
                .gate
                .check()
                .and_then(|()| self.has_sequence_left())
                .and_then(|()| self.validate(committer, &batch, check.as_ref()));
            if let Err(error) = verdict {
                committer.recorder.conflicts.add(u64::from(matches!(error, Error::Conflict(_))));
                settle(pending, Err(error));
                continue;
            }
            self.last_seq = self.last_seq.next();
            self.recent.record(self.last_seq, batch.clone());
            strongest = strongest.max(durability);
            accepted.push(Accepted { pending, seq: self.last_seq, batch });
        }
        if accepted.len() > 1 {
            mark!("commit_group_shared");
        }
        (accepted, strongest)
    }

    /// No database comes to the end by itself, but a forged manifest may say that one did.
    fn has_sequence_left(&self) -> Result<()> {
        if self.last_seq.next() < Seq::LIMIT {
            return Ok(());
        }
        Err(Error::Invalid(format!("{} was the last commit that the format can number", self.last_seq)))
    }

    fn validate(&mut self, committer: &Committer, batch: &WriteBatch, check: Option<&Check>) -> Result<()> {
        let state = committer.published.load();
        if let Some(gone) = batch.iter().map(|op| op.keyspace).find(|id| state.keyspace(*id).is_none()) {
            return Err(Error::Invalid(format!("keyspace number {gone} does not exist (any more)")));
        }
        let Some(check) = check else { return Ok(()) };
        self.recent
            .validate(check.view.seq(), batch, check.reads.as_ref())
            .map_err(|clash| Error::Conflict(conflict(&state, check.view.seq(), clash)))
    }

    async fn log(
        &mut self,
        committer: &Committer,
        accepted: &[Accepted],
        durability: Durability,
    ) -> Result<(Lsn, Lsn)> {
        self.reserve(committer).await?;
        let mut bodies = std::mem::take(&mut self.bodies);
        bodies.clear();
        let mut ends = Vec::with_capacity(accepted.len());
        for accepted in accepted {
            let timestamp = self.clock.tick(committer.env.wall_now());
            encode_body(accepted.seq, timestamp, &accepted.batch, &mut bodies);
            ends.push(bodies.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let frames: Vec<Frame<'_>> = starts
            .zip(&ends)
            .map(|(start, end)| Frame::new(FrameKind::Batch, &bodies[start..*end], &[]))
            .collect();
        let began = committer.env.now();
        let appended = self.append(committer, &frames, durability).await;
        drop(frames);
        if bodies.capacity() <= BODIES_KEPT_BYTES {
            self.bodies = bodies;
        }
        let appended = appended?;
        if durability == Durability::Sync {
            let elapsed_ns = committer.env.now().since(began);
            committer.recorder.sync.record_ns(elapsed_ns);
            self.slow().judge(elapsed_ns, Timed::LogSync, Where::File(self.wal.path()));
        }
        committer.recorder.log_bytes_written.add(appended.end.since(appended.start));
        committer.recorder.groups.add(1);
        if self.sealed_at.take().is_some() {
            self.wake_sealer(committer);
        }
        Ok((appended.start, appended.end))
    }

    async fn append(
        &mut self,
        committer: &Committer,
        frames: &[Frame<'_>],
        durability: Durability,
    ) -> Result<Appended> {
        loop {
            match self.wal.append(frames, durability).await {
                Ok(appended) => return Ok(appended),
                Err(lack) => supply(committer, lack).await?,
            }
        }
    }

    /// Makes sure that no `Seq` of this group can be given again after a crash.
    async fn reserve(&mut self, committer: &Committer) -> Result<()> {
        if self.last_seq < self.reserved {
            return Ok(());
        }
        let until = reserve_beyond(&*committer.env, self.last_seq);
        mark!("sequences_reserved");
        committer.door.change(vec![Change::SeqReserved { until }]).await?;
        self.reserved = until;
        Ok(())
    }

    fn answer(&self, committer: &Committer, accepted: Vec<Accepted>) {
        let bytes: usize = accepted.iter().map(|accepted| accepted.batch.byte_size()).sum();
        committer.recorder.user_bytes_written.add(bytes as u64);
        committer.recorder.commits.add(accepted.len() as u64);
        for accepted in accepted {
            settle(accepted.pending, Ok(accepted.seq));
        }
    }

    /// Forgets commits that no live transaction can clash with.
    fn forget(&mut self, committer: &Committer, visible: Seq) {
        let oldest = committer.snapshots.oldest().map_or(visible, |oldest| oldest.min(visible));
        self.recent.forget_through(oldest);
    }
}

/// Makes the segment that the log lacks, so that it can be asked again; anything else that it says is an error.
async fn supply(committer: &Committer, lack: WalError) -> Result<()> {
    match lack {
        WalError::NeedsSegment(size) => {
            mark!("commit_makes_segment");
            committer.segments.make(size).await
        }
        WalError::Failed(error) => Err(error),
    }
}

/// Answers a commit, and whoever took a token of it.
fn settle(pending: Pending<Work, Outcome>, outcome: Outcome) {
    if let Work::Commit { teller: Some(teller), .. } = pending.request() {
        teller.tell(&outcome.clone().map(Some));
    }
    pending.complete(outcome);
}

/// The body of a batch frame: `seq u64 | timestamp u64 | batch`.
fn encode_body(seq: Seq, timestamp: Timestamp, batch: &WriteBatch, out: &mut Vec<u8>) {
    out.extend_from_slice(&seq.get().to_le_bytes());
    out.extend_from_slice(&timestamp.get().to_le_bytes());
    batch.encode(out);
}

fn apply(state: &State, seq: Seq, batch: &WriteBatch, start: Lsn, end: Lsn) {
    let mut current: Option<(KeyspaceId, &crate::tree::KeyspaceState)> = None;
    for op in batch.iter() {
        if current.is_none_or(|(id, _)| id != op.keyspace) {
            // A keyspace that was dropped since validation takes its entries with it.
            current = state.keyspace(op.keyspace).map(|keyspace| (op.keyspace, &**keyspace));
            if let Some((_, keyspace)) = current {
                keyspace.active.note_group(start, end);
            }
        }
        let Some((_, keyspace)) = current else { continue };
        let memtable = &keyspace.active.table;
        match op.kind {
            OpKind::Put | OpKind::Delete => memtable.insert(op.key, seq, op.kind, op.value),
            OpKind::DeleteRange => {
                memtable.add_range_tombstone(RangeTombstone {
                    start: op.key.into(),
                    end: op.value.into(),
                    seq,
                });
            }
        }
    }
}

fn conflict(state: &State, read_seq: Seq, clash: Clash) -> Conflict {
    let name = |id| state.keyspace(id).map_or_else(|| id.to_string(), |keyspace| keyspace.name.to_string());
    match clash {
        Clash::Key { keyspace, key, by } => {
            mark!("commit_conflict_point");
            let cut = &key[..key.len().min(64)];
            Conflict::Key { keyspace: name(keyspace), key: escaped::escape(cut), by }
        }
        Clash::Range { keyspace, by } => {
            mark!("commit_conflict_range");
            Conflict::Range { keyspace: name(keyspace), by }
        }
        Clash::WindowExceeded { oldest } => {
            mark!("transaction_window_exceeded");
            Conflict::WindowExceeded { began: read_seq, oldest }
        }
    }
}
