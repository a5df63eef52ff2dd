//! An open file.
//!
//! Every operation is one function over the open descriptor, and [`LinuxFile::run`] decides where it runs: right here
//! on a thread that may block (inside `block_on`, or a task's thread), else on the I/O pool. Only reads have
//! a middle way: on a thread that may not block they first take what the page cache holds, without waiting.
//!
//! Invariants:
//! - Direct I/O is refused unless offset, length and buffers are multiples of the alignment. Some file systems would
//!   take less; a caller that relied on it would fail on the next one.
//! - `zero_range` writes zeros; it never takes the short-cut of unwritten extents, whose first overwrite is a change
//!   of metadata (49 instead of 31 µs for a durable write).
//! - Nothing is retried but interruptions, and a sync is never repeated.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::block_on::may_block;
use super::failure::{failure, panicked, uninterrupted};
use super::pool::Pool;
use super::raw;
use crate::env::{Advice, BUF_ALIGN, Buf, File, Io, IoError, IoErrorKind, IoResult};

/// Zeros to write from; one write repeats them [`ZEROS_REPEATED`] times.
#[repr(C, align(4096))]
struct Zeros([u8; 64 << 10]);

static ZEROS: Zeros = Zeros([0; 64 << 10]);

/// Makes writes of 4 MiB, past which a disk gets no faster.
const ZEROS_REPEATED: usize = 64;

/// Vectored writes of up to this many buffers cost no allocation.
const VECTORS_ON_STACK: usize = 32;

const _: () = assert!(BUF_ALIGN == align_of::<Zeros>());

/// A file of [`super::LinuxEnv`].
pub struct LinuxFile {
    open: Arc<OpenFile>,
    pool: Arc<Pool>,
}

/// The descriptor and what is known of it; kept open by the operations that are under way.
pub struct OpenFile {
    file: fs::File,
    path: PathBuf,
    /// 1 for cached files.
    alignment: usize,
    /// Cleared when the file system turns out not to know reads that do not wait.
    reads_cached: AtomicBool,
}

impl LinuxFile {
    /// Wraps an open descriptor. `alignment` is 1 unless it was opened for direct I/O.
    pub fn new(file: fs::File, path: PathBuf, alignment: usize, pool: Arc<Pool>) -> Self {
        // Direct reads always wait for the device.
        let reads_cached = AtomicBool::new(alignment == 1);
        Self { open: Arc::new(OpenFile { file, path, alignment, reads_cached }), pool }
    }

    /// `failed` makes the answer of an operation that panicked; the buffers it had are gone.
    fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        operation: impl FnOnce(&OpenFile) -> T + Send + 'static,
        failed: impl FnOnce(IoError) -> T + Send + 'static,
    ) -> Io<T> {
        if may_block() {
            return Io::ready(operation(&self.open));
        }
        let (open, named) = (Arc::clone(&self.open), Arc::clone(&self.open));
        self.pool.run(move || operation(&open), move |message| failed(panicked(name, &named.path, message)))
    }
}

impl Drop for LinuxFile {
    /// Closing the last descriptor of a file without a name frees its blocks, which takes a place in the file system's
    /// journal. A thread that may not block leaves that to the pool.
    fn drop(&mut self) {
        if !may_block() && self.open.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) {
            let open = Arc::clone(&self.open);
            // Should the pool be first to let go of it, this thread closes it after all: slow, not wrong.
            drop(self.pool.run(move || drop(open), |_| ()));
        }
    }
}

impl File for LinuxFile {
    fn read_at(&self, offset: u64, mut buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        if !may_block() && self.open.read_if_cached(offset, &mut buf) {
            let len = buf.len();
            return Io::ready((Ok(len), buf));
        }
        self.run("read", move |open| (open.read(offset, &mut buf), buf), |error| (Err(error), Buf::default()))
    }

    fn read_many(&self, mut reads: Vec<(u64, Buf)>) -> Io<Vec<(IoResult<usize>, Buf)>> {
        if !may_block() && reads.iter_mut().all(|(offset, buf)| self.open.read_if_cached(*offset, buf)) {
            return Io::ready(reads.into_iter().map(|(_, buf)| (Ok(buf.len()), buf)).collect());
        }
        let count = reads.len();
        let failed = move |error: IoError| (0..count).map(|_| (Err(error.clone()), Buf::default())).collect();
        self.run("read", move |open| open.read_many(reads), failed)
    }

    fn write_at(&self, offset: u64, buf: Buf) -> Io<(IoResult<usize>, Buf)> {
        self.run("write", move |open| (open.write(offset, &buf), buf), |error| (Err(error), Buf::default()))
    }

    fn write_vectored_at(&self, offset: u64, bufs: Vec<Buf>) -> Io<(IoResult<usize>, Vec<Buf>)> {
        let written = move |open: &OpenFile| (open.write_vectored(offset, &bufs), bufs);
        self.run("write", written, |error| (Err(error), Vec::new()))
    }

    fn allocate(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        let allocate =
            move |open: &OpenFile| open.ranged("allocate", offset, || raw::allocate(open.fd(), offset, len));
        self.run("allocate", allocate, Err)
    }

    fn zero_range(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        self.run("zero_range", move |open| open.zero(offset, len), Err)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Io<IoResult<()>> {
        let punch = move |open: &OpenFile| {
            open.ranged("punch_hole", offset, || raw::punch_hole(open.fd(), offset, len))
        };
        self.run("punch_hole", punch, Err)
    }

    fn truncate(&self, len: u64) -> Io<IoResult<()>> {
        self.run("truncate", move |open| open.ranged("truncate", len, || open.file.set_len(len)), Err)
    }

    fn sync_data(&self) -> Io<IoResult<()>> {
        let sync =
            |open: &OpenFile| open.file.sync_data().map_err(|error| failure("sync_data", &open.path, &error));
        self.run("sync_data", sync, Err)
    }

    fn sync_all(&self) -> Io<IoResult<()>> {
        let sync =
            |open: &OpenFile| open.file.sync_all().map_err(|error| failure("sync_all", &open.path, &error));
        self.run("sync_all", sync, Err)
    }

    fn len(&self) -> Io<IoResult<u64>> {
        // The size of an open inode is in memory: there is nothing to wait for.
        let metadata = self.open.file.metadata();
        Io::ready(match metadata {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(failure("len", &self.open.path, &error)),
        })
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        let advice = match advice {
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        };
        raw::advise(self.open.fd(), offset, len, advice);
    }

    fn alignment(&self) -> usize {
        self.open.alignment
    }
}

impl OpenFile {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn failed(&self, operation: &'static str, offset: u64, error: &io::Error) -> IoError {
        let mut failed = IoError { offset: Some(offset), ..failure(operation, &self.path, error) };
        if self.alignment > 1 && error.raw_os_error() == Some(libc::EINVAL) {
            failed.kind = IoErrorKind::Unsupported;
        }
        failed
    }

    /// Runs an operation on a range, again if a signal interrupts it.
    fn ranged(
        &self,
        operation: &'static str,
        offset: u64,
        call: impl FnMut() -> io::Result<()>,
    ) -> IoResult<()> {
        uninterrupted(call).map_err(|error| self.failed(operation, offset, &error))
    }

    fn check_aligned(&self, operation: &'static str, offset: u64, len: u64) -> IoResult<()> {
        let alignment = self.alignment as u64;
        if offset.is_multiple_of(alignment) && len.is_multiple_of(alignment) {
            return Ok(());
        }
        Err(IoError {
            kind: IoErrorKind::Unsupported,
            operation,
            path: self.path.clone(),
            offset: Some(offset),
            detail: format!(
                "direct I/O of {len} bytes is not a multiple of {alignment} in length and offset"
            ),
        })
    }

    /// Fills the whole buffer from the page cache, or leaves the read to be done properly. The end of the file is
    /// not told apart from a miss, because Linux 5.9 and 5.10 give 0 for both.
    fn read_if_cached(&self, offset: u64, buf: &mut Buf) -> bool {
        if !self.reads_cached.load(Ordering::Relaxed) {
            return false;
        }
        match raw::read_cached(self.fd(), buf, offset) {
            Ok(count) => count == buf.len(),
            Err(error) => {
                if error.raw_os_error() != Some(libc::EAGAIN) && error.raw_os_error() != Some(libc::EINTR) {
                    self.reads_cached.store(false, Ordering::Relaxed);
                }
                false
            }
        }
    }

    fn read(&self, offset: u64, buf: &mut Buf) -> IoResult<usize> {
        if self.alignment > 1 {
            self.check_aligned("read", offset, buf.len() as u64)?;
        }
        uninterrupted(|| self.file.read_at(buf, offset)).map_err(|error| self.failed("read", offset, &error))
    }

    /// Announces all reads before it does the first, so that the device works on them together.
    fn read_many(&self, reads: Vec<(u64, Buf)>) -> Vec<(IoResult<usize>, Buf)> {
        if reads.len() > 1 && self.alignment == 1 {
            for (offset, buf) in &reads {
                raw::advise(self.fd(), *offset, buf.len() as u64, libc::POSIX_FADV_WILLNEED);
            }
        }
        reads.into_iter().map(|(offset, mut buf)| (self.read(offset, &mut buf), buf)).collect()
    }

    fn write(&self, offset: u64, buf: &Buf) -> IoResult<usize> {
        if self.alignment > 1 {
            self.check_aligned("write", offset, buf.len() as u64)?;
        }
        uninterrupted(|| self.file.write_at(buf, offset))
            .map_err(|error| self.failed("write", offset, &error))
    }

    fn write_vectored(&self, offset: u64, bufs: &[Buf]) -> IoResult<usize> {
        if self.alignment > 1 {
            for buf in bufs {
                self.check_aligned("write", offset, buf.len() as u64)?;
            }
        }
        let mut on_stack = [IoSlice::new(&[]); VECTORS_ON_STACK];
        let in_heap: Vec<IoSlice<'_>>;
        let slices = if let Some(slices) = on_stack.get_mut(..bufs.len()) {
            for (slice, buf) in slices.iter_mut().zip(bufs) {
                *slice = IoSlice::new(buf);
            }
            &*slices
        } else {
            in_heap = bufs.iter().take(raw::VECTORS_MAX).map(|buf| IoSlice::new(buf)).collect();
            &in_heap
        };
        uninterrupted(|| raw::write_vectored(self.fd(), slices, offset))
            .map_err(|error| self.failed("write", offset, &error))
    }

    fn zero(&self, mut offset: u64, mut len: u64) -> IoResult<()> {
        self.check_aligned("zero_range", offset, len)?;
        let whole = [IoSlice::new(&ZEROS.0); ZEROS_REPEATED];
        let unit = ZEROS.0.len() as u64;
        while len > 0 {
            let rest = [IoSlice::new(&ZEROS.0[..len.min(unit) as usize])];
            let repeated = (len / unit).min(ZEROS_REPEATED as u64) as usize;
            let slices = if repeated > 0 { &whole[..repeated] } else { &rest[..] };
            let written = uninterrupted(|| raw::write_vectored(self.fd(), slices, offset))
                .map_err(|error| self.failed("zero_range", offset, &error))?;
            if written == 0 {
                let error = io::Error::from_raw_os_error(libc::ENOSPC);
                return Err(self.failed("zero_range", offset, &error));
            }
            offset += written as u64;
            len -= written as u64;
        }
        Ok(())
    }
}
