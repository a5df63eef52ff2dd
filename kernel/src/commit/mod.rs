//! The one door for data: validate → sequence → log → apply → publish.
//!
//! Committers queue; whoever finds nobody leading leads: it takes the queued group through the five steps and hands
//! leadership on ([`queue`]). One log write, and one sync if anybody asked for durability, serves the group.
//!
//! Invariants:
//! - One leader at a time; it alone holds the [`Desk`]: log writer, next `Seq`, conflict window.
//! - A commit is visible only after its whole group is in the memtables, and, for `Sync`, durable.
//! - A commit whose log write or sync failed is never in a memtable, so it is never visible and never flushed.
//! - Once queued, a request is answered or fails whole, whoever goes away: a dropped leader's group moves to a
//!   kernel task ([`Orphans`]).
//! - Everything that touches the log goes through here, as a [`Work`].

mod desk;
mod outcome;
mod segments;
mod skipped;
pub(crate) mod queue;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) use desk::{Desk, DeskOptions, DeskStart, reserve_beyond};
pub use outcome::OutcomeToken;
pub(crate) use outcome::Teller;
pub(crate) use segments::Segments;
pub(crate) use skipped::Skipped;

use crate::check::mark;
use crate::conflict::ReadSet;
use crate::env::{BoxFuture, Env};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::manifest::door::Door;
use crate::metrics::Recorder;
use crate::options::Durability;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, Notify, oneshot};
use crate::tree::{Published, SnapshotGuard, SnapshotRegistry, State, Throttle};
use crate::types::{KeyspaceId, Lsn, Seq, Timestamp, WriteBatch};

/// A transaction's right to commit: what it read, and when.
pub(crate) struct Check {
    /// The view that it read through: registered until the commit is answered, so that the window of recent commits still
    /// reaches back to it, also when whoever waited for the answer has gone.
    pub view: SnapshotGuard,
    /// What it read, if that is to be checked too.
    pub reads: Option<ReadSet>,
}

/// What the leader is asked to do.
pub(crate) enum Work {
    /// Commit a batch in canonical form; unchecked batches never conflict.
    Commit { batch: Arc<WriteBatch>, check: Option<Check>, durability: Durability, teller: Option<Teller> },
    /// Make the whole log durable.
    Sync,
    /// Hand `Buffered` commits to the operating system.
    FlushBuffered,
    /// Seal the log, if nothing came after `idle_since`.
    Seal { idle_since: Lsn },
    /// Freeze the active memtable of a keyspace, if it has entries.
    Freeze(KeyspaceId),
    /// The durable manifest needs nothing below any more.
    Release(Lsn),
    /// Go on in a small segment, and let go of all segments that no memtable needs.
    Shrink,
    /// Seal and let go of the log.
    Close,
}

/// What a request is answered with: the `Seq` of a commit, the visible `Seq` otherwise.
pub(crate) type Outcome = Result<Seq>;

type Queue = queue::Queue<Work, Outcome>;
type Leadership = queue::Leadership<Work, Outcome>;

/// Futures whose callers went away; a kernel task runs them to their end, all at once, for one may wait for another.
#[derive(Default)]
pub(crate) struct Orphans {
    waiting: Mutex<Asylum>,
    pub arrived: Notify,
}

#[derive(Default)]
struct Asylum {
    futures: Vec<BoxFuture<'static, ()>>,
    closed: bool,
}

impl Orphans {
    /// Takes a future in; once closed it is dropped, so whoever waits for it learns that it will not happen.
    pub fn adopt(&self, future: BoxFuture<'static, ()>) {
        let refused = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                Some(future)
            } else {
                waiting.futures.push(future);
                None
            }
        };
        match refused {
            Some(future) => drop(future),
            None => self.arrived.notify_one(),
        }
    }

    /// Everything taken in so far, oldest first.
    pub fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.waiting.lock().futures)
    }

    /// Takes nothing in any more, unless something waits: then false.
    pub fn close_if_empty(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.closed = waiting.futures.is_empty();
        waiting.closed
    }

    /// Takes nothing in any more and drops what waits.
    pub fn close(&self) {
        let left = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.futures)
        };
        drop(left);
    }
}

/// What committing needs of the rest, and what the rest may ask of it.
pub(crate) struct Committer {
    pub env: Arc<dyn Env>,
    pub published: Arc<Published<State>>,
    pub snapshots: Arc<SnapshotRegistry>,
    pub gate: Arc<Gate>,
    pub throttle: Arc<Throttle>,
    pub recorder: Arc<Recorder>,
    pub orphans: Arc<Orphans>,
    pub door: Arc<Door>,
    pub segments: Arc<Segments>,
    /// Sequences that no commit has.
    pub skipped: Skipped,
    /// Wakes flushing: a memtable was frozen.
    pub changed: Arc<Notify>,
    /// Wakes the keeper of segments: one was taken or let go.
    pub segments_changed: Notify,
    /// Wakes the keeper of the seal: the log is no longer sealed.
    pub unsealed: Notify,
    /// End of the log, for finding out whether it is idle.
    pub end_lsn: AtomicU64,
    /// Memtables are frozen at this size; less than the option where the disk has little room.
    pub freeze_bytes: AtomicU64,
    /// The last `Seq` given in this opening, or before it and possibly seen; whether its commit survived or not.
    last_given: AtomicU64,
    /// The last `Seq` that no crash takes; at most the visible one.
    durable_seq: AtomicU64,
    sealed: AtomicBool,
    last_timestamp: AtomicU64,
    desk: Mutex<Option<Box<Desk>>>,
    queue: Queue,
}

impl Committer {
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: each part is named once, where the database is put together"
    )]
    pub fn new(
        env: Arc<dyn Env>,
        published: Arc<Published<State>>,
        snapshots: Arc<SnapshotRegistry>,
        gate: Arc<Gate>,
        throttle: Arc<Throttle>,
        recorder: Arc<Recorder>,
        door: Arc<Door>,
        segments: Arc<Segments>,
        skipped: Skipped,
        changed: Arc<Notify>,
        desk: Desk,
    ) -> Arc<Self> {
        let end = desk.log_end().get();
        // An opening makes durable all that it found.
        let durable_seq = AtomicU64::new(published.visible().get());
        Arc::new_cyclic(|this: &std::sync::Weak<Self>| {
            let this = this.clone();
            let rescue = move |leadership: Leadership| {
                if let Some(committer) = this.upgrade() {
                    mark!("commit_leader_dropped");
                    let orphans = committer.orphans.clone();
                    orphans.adopt(Box::pin(async move { drop(committer.lead(leadership).await) }));
                }
            };
            Self {
                env,
                published,
                snapshots,
                gate,
                throttle,
                recorder,
                orphans: Arc::new(Orphans::default()),
                door,
                segments,
                skipped,
                changed,
                segments_changed: Notify::new(),
                unsealed: Notify::new(),
                end_lsn: AtomicU64::new(end),
                freeze_bytes: AtomicU64::new(desk.memtable_bytes()),
                last_given: AtomicU64::new(desk.last_given().get()),
                durable_seq,
                sealed: AtomicBool::new(true),
                last_timestamp: AtomicU64::new(desk.last_timestamp().get()),
                desk: Mutex::new(Some(Box::new(desk))),
                queue: Queue::new(Arc::new(rescue)),
            }
        })
    }

    /// Queues `work` and waits for its outcome. Dropping the future before it was first polled does nothing; after
    /// that the work is done whole or fails whole.
    pub async fn submit(self: &Arc<Self>, work: Work) -> Outcome {
        let leadership = match self.queue.enter(work) {
            queue::Entry::Lead(leadership) => leadership,
            queue::Entry::Wait(ticket) => match ticket.await {
                queue::Turn::Done(outcome) => return outcome,
                queue::Turn::Lead(leadership) => leadership,
                queue::Turn::Abandoned => return Err(self.abandoned()),
            },
        };
        self.drive(leadership).await.unwrap_or_else(|| Err(self.abandoned()))
    }

    /// A leader went away with work in hand, which only the end of the process can do: nobody knows how far it got. Not
    /// `Closed` therefore, which says that nothing was written, though the database may be closed meanwhile.
    fn abandoned(&self) -> Error {
        Error::Stopped(self.gate.stopped().unwrap_or_else(|| "a commit was abandoned midway".into()))
    }

    /// The same from a kernel task of foreground urgency, so that a background task never leads commits that others
    /// wait for.
    pub async fn delegate(self: &Arc<Self>, work: Work) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let committer = self.clone();
        self.orphans.adopt(Box::pin(async move {
            // Whoever asked may have gone.
            let _ = answer.send(committer.submit(work).await);
        }));
        answered.await.unwrap_or_else(|_| Err(self.gate.why_unanswered()))
    }

    fn drive(self: &Arc<Self>, leadership: Leadership) -> Driving {
        let committer = self.clone();
        Driving { orphans: self.orphans.clone(), group: Some(Box::pin(committer.lead(leadership))) }
    }

    /// Takes groups through the steps until the own request was among them; a leader without one takes one group.
    async fn lead(self: Arc<Self>, mut leadership: Leadership) -> Option<Outcome> {
        // There is one leader at a time, and each puts the desk back, unless it was dropped when all had ended.
        let mut desk = self.desk.lock().take()?;
        let own = loop {
            let requests = if self.env.rare("group_of_one") { 1 } else { desk::GROUP_REQUESTS };
            let group = leadership.take_group(requests, desk::GROUP_BYTES, work_bytes);
            let last = group.is_empty();
            desk.process(&self, group).await;
            self.end_lsn.store(desk.log_end().get(), Ordering::Release);
            self.last_given.store(desk.last_given().get(), Ordering::Release);
            self.sealed.store(desk.is_sealed(), Ordering::Release);
            let own = leadership.own_outcome();
            if own.is_some() || last {
                break own;
            }
        };
        *self.desk.lock() = Some(desk);
        leadership.finish();
        own
    }

    /// Commits and controls that wait for a leader to take them.
    pub fn waiting(&self) -> u64 {
        self.queue.pending() as u64
    }

    /// True while nothing was appended since the log was sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// The timestamp of the last commit.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp::new(self.last_timestamp.load(Ordering::Acquire))
    }

    /// The greatest `Seq` that any reader may have seen, ever: none up to it may be given again.
    pub fn last_given(&self) -> Seq {
        Seq::new(self.last_given.load(Ordering::Acquire))
    }

    /// The newest commit that no crash takes, or an older one: it is judged after each sync of the log.
    pub fn durable_seq(&self) -> Seq {
        Seq::new(self.durable_seq.load(Ordering::Acquire))
    }

    /// End of the log.
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.end_lsn.load(Ordering::Acquire))
    }
}

fn work_bytes(work: &Work) -> u64 {
    match work {
        Work::Commit { batch, .. } => batch.byte_size() as u64,
        _ => 0,
    }
}

/// A leader's group under way. If the leader is dropped, a kernel task goes on with it.
struct Driving {
    orphans: Arc<Orphans>,
    group: Option<BoxFuture<'static, Option<Outcome>>>,
}

impl Future for Driving {
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let Some(group) = self.group.as_mut() else { return Poll::Ready(None) };
        let poll = group.as_mut().poll(context);
        if poll.is_ready() {
            self.group = None;
        }
        poll
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            mark!("commit_leader_dropped");
            self.orphans.adopt(Box::pin(async move { drop(group.await) }));
        }
    }
}
