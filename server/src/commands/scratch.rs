//! A directory for what the tour and the self-measure make, which goes when they end.
//!
//! However they end: by themselves, by an error, or by a signal that asks the process to end
//! ([`signals`](crate::signals)). A process that writes into it on their behalf is ended before it is removed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::unfinished::Guard;
use crate::exit::Failure;

/// A fresh directory; dropped, it is removed with everything in it.
pub(crate) struct Scratch {
    path: PathBuf,
    writer: Writer,
    guard: Guard,
}

/// The process that writes into the directory, if there was one yet.
#[derive(Clone, Default)]
pub(crate) struct Writer(Arc<Mutex<Option<Child>>>);

impl Scratch {
    /// Makes a directory in `parent` whose name begins with `prefix`.
    ///
    /// # Errors
    /// What the operating system says, of `parent`.
    pub(crate) fn make(prefix: &str, parent: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::io(parent.display().to_string(), error);
        let writer = Writer::default();
        let ended_first = writer.clone();
        let end_writer = move || {
            // What goes wrong here leaves at most a writer without a directory, which ends when its pipe is closed.
            let _ = ended_first.kill().and_then(|()| ended_first.wait());
        };
        let guard = Guard::watch_with(end_writer).map_err(failed)?;
        // Held meanwhile, so that a signal finds either no directory or one that it knows of.
        let mut begun = guard.lock();
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).map_err(failed)?;
        // From here on the guard removes it, be it that a signal came or that all is done.
        let path = made.keep();
        *begun = Some(path.clone());
        drop(begun);
        Ok(Self { path, writer, guard })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a process that writes into it.
    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }
}

impl Drop for Scratch {
    /// Waits for ever if a signal came before, until that has ended the process: nothing is told of files it removes.
    fn drop(&mut self) {
        self.guard.remove();
    }
}

impl Writer {
    /// Starts a process, which is killed if this one is told to end; gives its standard output, if that is a pipe.
    ///
    /// # Errors
    /// What `start` gives.
    pub(crate) fn start(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Option<ChildStdout>> {
        // Held meanwhile, so that a signal finds either no process or one that it knows of.
        let mut place = self.lock();
        let mut child = start()?;
        let pipe = child.stdout.take();
        *place = Some(child);
        Ok(pipe)
    }

    /// Kills the process, if one was started and has not ended.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.lock().as_mut().map_or(Ok(()), Child::kill)
    }

    /// Waits for the end of the process that was started last; gives its number and how it ended, each time anew.
    /// Nothing, if none was started.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn wait(&self) -> io::Result<Option<(u32, ExitStatus)>> {
        let mut place = self.lock();
        let Some(child) = place.as_mut() else { return Ok(None) };
        Ok(Some((child.id(), child.wait()?)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
