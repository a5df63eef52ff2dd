//! Starting threads, so that none is born with a background thread's priority.
//!
//! A new thread inherits its parent's scheduling policy, and the way up from the idle policy is closed to ordinary
//! users (and to root in most containers). So a background thread never starts another itself: it asks the
//! launcher's own thread, which was started, before the first background thread was, by a foreground one.

use std::io;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use super::raw::{self, Policy};

/// What a thread runs.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// True if threads started by the caller would be born with background priority.
fn is_lowered() -> bool {
    raw::policy().is_ok_and(|policy| policy == Policy::IDLE)
}

/// Starts threads of undiminished priority.
#[derive(Default)]
pub struct Launcher {
    requests: Mutex<Option<Sender<Request>>>,
}

struct Request {
    name: &'static str,
    body: ThreadBody,
    answer: SyncSender<io::Result<()>>,
}

impl Launcher {
    /// Starts the launcher's own thread. Call it before the first background thread is started; a caller that is
    /// itself lowered may, and leaves things as they are.
    pub fn prepare(&self) -> io::Result<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.is_none() && !is_lowered() {
            let (sender, receiver) = channel::<Request>();
            start("holdfast-launch", move || {
                for request in receiver {
                    // Whoever asked waits for the answer; if it is gone, so is the need to tell it.
                    drop(request.answer.send(start(request.name, request.body)));
                }
            })?;
            *requests = Some(sender);
        }
        Ok(())
    }

    /// Starts a thread. On failure `body` is dropped.
    pub fn launch(&self, name: &'static str, body: ThreadBody) -> io::Result<()> {
        if !is_lowered() {
            return start(name, body);
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(requests) = requests else { return start(name, body) };
        let (answer, answered) = sync_channel(1);
        let gone = || io::Error::other("the launcher's thread is gone");
        requests.send(Request { name, body, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name(name.to_string()).spawn(body)?;
    Ok(())
}
