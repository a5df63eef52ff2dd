//! The keepers of the log: one runs what commit callers left behind, one makes segments, one flushes and seals.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::{Crew, RETRY_NS, Reaction, pause, pause_unless_stopped, react};
use crate::commit::{Orphans, Work};
use crate::engine::Engine;
use crate::error::Result;

/// Runs orphaned commit groups and delegated work. It ends only when there is none left, so nobody is stranded.
///
/// All of it runs side by side: delegated work may stand in the queue behind a leader that is an orphan itself.
pub(crate) async fn orphans(engine: Arc<Engine>, crew: Arc<Crew>) {
    let orphans = Closing(engine.committer.orphans.clone());
    let mut running = Vec::new();
    loop {
        let mut arrived = pin!(orphans.0.arrived.notified());
        running.extend(orphans.0.take());
        if running.is_empty() && crew.stopping() {
            if orphans.0.close_if_empty() {
                return;
            }
            continue;
        }
        poll_fn(|context| {
            running.retain_mut(|orphan| orphan.as_mut().poll(context).is_pending());
            if running.is_empty() && crew.stopping() {
                return Poll::Ready(());
            }
            arrived.as_mut().poll(context)
        })
        .await;
    }
}

/// Closes the orphans' home when their task ends or is dropped: what comes later would wait for ever.
struct Closing(Arc<Orphans>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Keeps a segment ready, and removes those let go.
pub(crate) async fn keep_segments(engine: Arc<Engine>, crew: Arc<Crew>) {
    loop {
        // Made before anything is looked at, so that what changes meanwhile is not missed. The same in every task.
        let changed = engine.committer.segments_changed.notified();
        if crew.stopping() {
            return;
        }
        let Err(error) = tidy_segments(&engine).await else {
            // Often it needed no room, so this says nothing about a flush that does.
            engine.note_room_for("log");
            engine.refusals.note_over("log");
            changed.await;
            continue;
        };
        let pause_ns = match react(&engine, &crew, "log", &error).await {
            Reaction::End => return,
            Reaction::Retry(pause_ns) => pause_ns,
            Reaction::GiveUp => RETRY_NS,
        };
        pause(&engine, &engine.committer.segments_changed, pause_ns).await;
    }
}

/// Hands `Buffered` commits to the operating system in time, and seals the log when it is idle. A task of its own, for
/// neither may wait for a segment that takes long to make, or cannot be made.
pub(crate) async fn keep_sealed(engine: Arc<Engine>, crew: Arc<Crew>) {
    loop {
        let unsealed = engine.committer.unsealed.notified();
        if crew.stopping() {
            return;
        }
        if engine.committer.is_sealed() {
            unsealed.await;
        } else if settle(&engine, &crew).await.is_err() {
            // The gate knows; the next append would say the same.
            pause(&engine, &engine.committer.unsealed, RETRY_NS).await;
        }
    }
}

async fn tidy_segments(engine: &Arc<Engine>) -> Result<()> {
    let segments = &engine.committer.segments;
    let made = match segments.wanted() {
        Some(size) => segments.make(size).await,
        None => Ok(()),
    };
    // Also where none could be made: on a full disk the room of those let go is what the next attempt needs.
    segments.remove_released().await?;
    made
}

/// Waits as long as `Buffered` commits may; flushes them; seals if nothing was appended meanwhile.
async fn settle(engine: &Arc<Engine>, crew: &Arc<Crew>) -> Result<()> {
    let before = engine.committer.end_lsn();
    let options = &engine.options;
    let wait_us = options.seal_idle_us.min(options.buffered_flush_us);
    pause_unless_stopped(engine, crew, wait_us * 1000).await;
    if crew.stopping() {
        return Ok(());
    }
    engine.committer.submit(Work::FlushBuffered).await?;
    if engine.committer.end_lsn() == before {
        engine.committer.submit(Work::Seal { idle_since: before }).await?;
    }
    Ok(())
}
