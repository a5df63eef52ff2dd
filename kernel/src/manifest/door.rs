//! The one door for structure: every change of files and keyspaces passes here, one after another.
//!
//! A kernel task owns the [`ManifestWriter`]; whoever wants a change sends a function from the version of now to the
//! changes, and waits. The task asks the function, makes the edit durable, tells the [`Follower`] (who swaps the
//! readers' state), and answers. So a change is never half done because its caller went away, versions follow each
//! other without gaps, and no lock is held while the disk works.
//!
//! Invariants:
//! - The follower sees exactly the durable versions, in order, each before its change is answered.
//! - After a failed write or sync of the manifest every later change is refused with that reason.
//! - An edit that found no room did not happen; later ones are tried.

use std::sync::Arc;

use super::{Change, Edit, ManifestWriter, Version};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Notify, oneshot};

/// Decides on changes, given the version they are to follow.
type Decide = Box<dyn FnOnce(&Version) -> Result<Vec<Change>> + Send>;

struct Request {
    decide: Decide,
    note: Note,
    answer: oneshot::Sender<Result<Arc<Version>>>,
}

/// Said to the follower along with a version.
#[derive(Clone, Default)]
pub(crate) struct Note {
    /// A memtable that is in a table now; opaque here.
    pub flushed: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

/// Who is told of each durable version.
pub(crate) type Follower = Box<dyn Fn(&Arc<Version>, &Note) + Send + Sync>;

/// The queue in front of the task.
pub(crate) struct Door {
    requests: Mutex<Vec<Request>>,
    arrived: Notify,
    closed: Mutex<bool>,
    settled: AtomicBool,
}

impl Door {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: Mutex::new(Vec::new()),
            arrived: Notify::new(),
            closed: Mutex::new(false),
            settled: AtomicBool::new(true),
        })
    }

    /// False while an edit that was refused for want of room may yet count at the next opening: what it named must
    /// be kept.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Makes changes that depend on nothing.
    ///
    /// # Errors
    /// `DiskFull`: it did not happen. `Stopped`: the manifest's disk failed. `Closed`.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Arc<Version>> {
        self.change_with(move |_| Ok(changes)).await
    }

    /// Makes the changes that `decide` asks for, given the version of then.
    ///
    /// # Errors
    /// As [`Door::change`], and what `decide` gives.
    pub async fn change_with(
        &self,
        decide: impl FnOnce(&Version) -> Result<Vec<Change>> + Send + 'static,
    ) -> Result<Arc<Version>> {
        self.pass(Box::new(decide), Note::default()).await
    }

    /// The same, with a note for the follower.
    ///
    /// # Errors
    /// As [`Door::change_with`].
    pub async fn change_noting(
        &self,
        note: Note,
        decide: impl FnOnce(&Version) -> Result<Vec<Change>> + Send + 'static,
    ) -> Result<Arc<Version>> {
        self.pass(Box::new(decide), note).await
    }

    async fn pass(&self, decide: Decide, note: Note) -> Result<Arc<Version>> {
        let (answer, answered) = oneshot::channel();
        {
            let closed = self.closed.lock();
            if *closed {
                return Err(Error::Closed);
            }
            self.requests.lock().push(Request { decide, note, answer });
        }
        self.arrived.notify_one();
        // The task serves everything that was queued before it was closed, so only a task that was dropped is silent.
        answered.await.unwrap_or_else(|_| Err(Error::Stopped("the manifest's task was cut off".into())))
    }

    /// Ends the task once it has answered what was queued; later changes are refused.
    pub fn close(&self) {
        *self.closed.lock() = true;
        self.arrived.notify_one();
    }

    /// The task: serves until closed. A failure of the manifest's disk stops `gate`.
    pub async fn serve(self: Arc<Self>, mut writer: ManifestWriter, follower: Follower, gate: Arc<Gate>) {
        let mut refusal: Option<Error> = None;
        loop {
            // Read first: what is queued later than a close is refused.
            let closed = *self.closed.lock();
            let queued = std::mem::take(&mut *self.requests.lock());
            if queued.is_empty() {
                if closed {
                    return;
                }
                self.arrived.notified().await;
                continue;
            }
            for request in queued {
                let outcome = match &refusal {
                    Some(refusal) => Err(refusal.clone()),
                    None => change(&mut writer, request.decide, &request.note, &follower).await,
                };
                self.settled.store(writer.is_settled(), Ordering::Release);
                if let Err(error @ Error::Stopped(why)) = &outcome {
                    gate.stop(why);
                    refusal = Some(error.clone());
                }
                // Whoever asked may have gone; the change stands all the same.
                let _ = request.answer.send(outcome);
            }
        }
    }
}

async fn change(
    writer: &mut ManifestWriter,
    decide: Decide,
    note: &Note,
    follower: &Follower,
) -> Result<Arc<Version>> {
    let changes = decide(writer.version())?;
    if changes.is_empty() {
        return Ok(writer.version().clone());
    }
    let before = writer.version().clone();
    let version = writer.append(Edit::from(changes)).await?;
    follower(&version, note);
    tell_keyspaces(&before, &version);
    Ok(version)
}

/// Tells of keyspaces that came and went. Here, since whoever asked for it may have gone.
fn tell_keyspaces(before: &Version, after: &Version) {
    for (id, created) in after.keyspaces.iter().filter(|(id, _)| !before.keyspaces.contains_key(id)) {
        tracing::info!(keyspace = &*created.name, id = id.get(), "keyspace created");
    }
    for (id, dropped) in before.keyspaces.iter().filter(|(id, _)| !after.keyspaces.contains_key(id)) {
        tracing::info!(keyspace = &*dropped.name, id = id.get(), "keyspace dropped");
    }
}
