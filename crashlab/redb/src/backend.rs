//! redb's storage, on a file of the simulated disk.
//!
//! redb's calls return when they are done, those of the simulated disk when they are awaited. On a disk without latency
//! each call is done when it is first polled, unless its process has died: then it never is, and what redb gets is an
//! error, as from every call after it. Nothing that it does with it reaches the disk.

use std::fmt;
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use clap::ValueEnum;
use holdfast::env::{Buf, File, IoError, IoErrorKind, IoResult};
use redb::StorageBackend;

/// An adapter that is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Wrong {
    /// `sync_data` does nothing.
    IgnoresSync,
    /// Every hundredth write is forgotten.
    LosesWrites,
}

/// See the module's header.
pub struct Backend {
    file: Arc<dyn File>,
    wrong: Option<Wrong>,
    writes: AtomicU64,
}

/// What a call gave; `None` if its process has died.
pub fn now<T>(call: impl Future<Output = T>) -> Option<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn told<T>(result: Option<IoResult<T>>) -> Result<T, Error> {
    let kind = |error: &IoError| match error.kind {
        IoErrorKind::Full | IoErrorKind::Quota => ErrorKind::StorageFull,
        IoErrorKind::Transient => ErrorKind::Interrupted,
        _ => ErrorKind::Other,
    };
    match result {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Error::new(kind(&error), error.to_string())),
        None => Err(Error::other("the process is dead")),
    }
}

impl Backend {
    pub fn new(file: Arc<dyn File>, wrong: Option<Wrong>) -> Self {
        Self { file, wrong, writes: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, Error> {
        told(now(self.file.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < out.len() {
            let read = now(self.file.read_at(offset + done as u64, Buf::zeroed(out.len() - done)));
            let (count, buffer) = match read {
                Some((count, buffer)) => (told(Some(count))?, buffer),
                None => return told(None),
            };
            if count == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "a read behind the end"));
            }
            out[done..done + count].copy_from_slice(&buffer[..count]);
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        told(now(self.file.truncate(len)))
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.wrong == Some(Wrong::IgnoresSync) {
            return Ok(());
        }
        told(now(self.file.sync_data()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.wrong == Some(Wrong::LosesWrites) && number.is_multiple_of(100) {
            return Ok(());
        }
        let mut done = 0;
        while done < data.len() {
            let written = now(self.file.write_at(offset + done as u64, Buf::copy_of(&data[done..])));
            done += told(written.map(|(count, _)| count))?;
        }
        Ok(())
    }
}
