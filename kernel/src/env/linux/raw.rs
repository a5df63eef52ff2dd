//! The system calls that the standard library does not offer, each behind a safe function. The only `unsafe` of
//! `env/linux`.
//!
//! Every function borrows descriptors and buffers for the length of the call, so nothing here outlives its
//! memory. Errors are the thread's `errno` as an `io::Error`; nothing is retried here, for the callers know what
//! an interruption means to them. Offsets above `i64::MAX` are refused with `EINVAL`, as the system would.

#![expect(unsafe_code, reason = "system calls that the standard library does not wrap")]

use std::ffi::CStr;
use std::io::{Error, IoSlice, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most buffers that one vectored write takes; what Linux has allowed since 2.0.
pub const VECTORS_MAX: usize = 1024;

/// Turns the `-1` of a system call into its error.
fn check(result: impl Into<i64>) -> Result<i64> {
    let result = result.into();
    if result == -1 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

/// Reads what the page cache holds at `offset`, never waiting for a device: `EAGAIN` when that would be needed,
/// `EOPNOTSUPP` where the file system cannot tell.
pub fn read_cached(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Result<usize> {
    let offset = signed(offset)?;
    let vector = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the one vector names `buf`, which is borrowed exclusively until the call returns; the system writes
    // at most its length into it.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, offset, libc::RWF_NOWAIT) };
    Ok(check(read as i64)? as usize)
}

/// Writes the buffers one after another at `offset`, at most [`VECTORS_MAX`] of them.
pub fn write_vectored(file: BorrowedFd<'_>, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize> {
    let offset = signed(offset)?;
    let count = bufs.len().min(VECTORS_MAX) as libc::c_int;
    // SAFETY: `IoSlice` is promised to have the layout of `iovec` on Unix; `count` of them are borrowed, with the
    // bytes they name, until the call returns, and the system only reads them.
    let written = unsafe { libc::pwritev64(file.as_raw_fd(), bufs.as_ptr().cast(), count, offset) };
    Ok(check(written as i64)? as usize)
}

/// Reserves blocks for a range and extends the size over it.
pub fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    fallocate(file, 0, offset, len)
}

/// Gives the blocks of a range back and keeps the size.
pub fn punch_hole(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

fn fallocate(file: BorrowedFd<'_>, mode: libc::c_int, offset: u64, len: u64) -> Result<()> {
    let (offset, len) = (signed(offset)?, signed(len)?);
    // SAFETY: no memory is passed, and the descriptor is open while it is borrowed.
    check(unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset, len) })?;
    Ok(())
}

/// Tells the page cache what to expect; `advice` is one of `POSIX_FADV_*`. A hint, so errors are dropped.
pub fn advise(file: BorrowedFd<'_>, offset: u64, len: u64, advice: libc::c_int) {
    let (Ok(offset), Ok(len)) = (signed(offset), signed(len)) else { return };
    // SAFETY: no memory is passed, and the descriptor is open while it is borrowed.
    unsafe { libc::posix_fadvise64(file.as_raw_fd(), offset, len, advice) };
}

/// What the file system says about direct I/O on an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectAlignment {
    /// Memory, offsets and lengths must be multiples of this.
    Known(u32),
    /// It cannot do direct I/O on this file.
    Refused,
    /// The kernel (before 6.1) or the file system does not tell.
    Unknown,
}

/// Asks `statx` for the alignment of direct I/O.
pub fn direct_alignment(file: BorrowedFd<'_>) -> DirectAlignment {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, so the descriptor itself is meant; `status` is writable memory of
    // the size the system fills.
    let result = unsafe {
        let (fd, path) = (file.as_raw_fd(), c"".as_ptr());
        libc::statx(fd, path, libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, status.as_mut_ptr())
    };
    if result != 0 {
        return DirectAlignment::Unknown;
    }
    // SAFETY: every field of `statx` is an integer, for which the zeros it began with are a valid value.
    let status = unsafe { status.assume_init() };
    if status.stx_mask & libc::STATX_DIOALIGN == 0 {
        return DirectAlignment::Unknown;
    }
    match status.stx_dio_mem_align.max(status.stx_dio_offset_align) {
        0 => DirectAlignment::Refused,
        _ if status.stx_dio_offset_align == 0 => DirectAlignment::Refused,
        alignment => DirectAlignment::Known(alignment),
    }
}

/// Room in a file system: bytes, then inodes (`u64::MAX` where it has no such limit), for an ordinary user.
pub fn free_space(path: &CStr) -> Result<(u64, u64)> {
    let mut status = MaybeUninit::<libc::statvfs64>::zeroed();
    // SAFETY: `path` is a C string and `status` is writable memory of the size the system fills.
    check(unsafe { libc::statvfs64(path.as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: every field of `statvfs64` is an integer, for which the zeros it began with are a valid value.
    let status = unsafe { status.assume_init() };
    let inodes = if status.f_files == 0 { u64::MAX } else { status.f_favail };
    Ok((status.f_bavail.saturating_mul(status.f_frsize), inodes))
}

/// Nanoseconds of `CLOCK_MONOTONIC`: one scale for the whole process, which never goes backwards. About 25 ns.
pub fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable memory of the type the system fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A random number from the system, or its error where a sandbox forbids the call.
pub fn random_u64() -> Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the system writes at most the eight bytes of `bytes`.
    let filled = check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as i64)?;
    // Requests of up to 256 bytes are never cut short once the pool is seeded.
    if filled == 8 { Ok(u64::from_ne_bytes(bytes)) } else { Err(Error::from_raw_os_error(libc::EINTR)) }
}

/// Number by which the system knows a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadId(libc::pid_t);

/// The calling thread's number.
pub fn thread_id() -> ThreadId {
    // SAFETY: the call takes nothing and cannot fail.
    ThreadId(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t)
}

/// Scheduling policy and real-time priority of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    policy: libc::c_int,
    priority: libc::c_int,
}

impl Policy {
    /// Runs only when nothing else wants to; any thread may take it.
    pub const IDLE: Self = Self { policy: libc::SCHED_IDLE, priority: 0 };
}

/// The calling thread's policy.
pub fn policy() -> Result<Policy> {
    let mut parameters = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: thread 0 is the caller; nothing else is passed.
    let policy = check(unsafe { libc::sched_getscheduler(0) })? as libc::c_int;
    // SAFETY: `parameters` is writable memory of the type the system fills.
    check(unsafe { libc::sched_getparam(0, parameters.as_mut_ptr()) })?;
    // SAFETY: every field of `sched_param` is an integer, for which the zeros it began with are a valid value.
    let parameters = unsafe { parameters.assume_init() };
    Ok(Policy { policy, priority: parameters.sched_priority })
}

/// Gives a thread of this process another policy. Lowering to [`Policy::IDLE`] is open to everyone; the way back
/// needs `CAP_SYS_NICE` or an `RLIMIT_NICE` that covers the thread's nice value (`EPERM` else).
pub fn set_policy(thread: ThreadId, policy: Policy) -> Result<()> {
    // SAFETY: `sched_param` is a structure of integers, for which zeros are a valid value.
    let mut parameters = unsafe { MaybeUninit::<libc::sched_param>::zeroed().assume_init() };
    parameters.sched_priority = policy.priority;
    // SAFETY: the parameters are only read, during the call.
    check(unsafe { libc::sched_setscheduler(thread.0, policy.policy, &raw const parameters) })?;
    Ok(())
}

/// Priority of a thread's I/O within the best-effort class, 0 (first) to 7 (last); `None` follows its CPU
/// priority. Never needs a privilege. Errors are dropped: a system without it has nothing to be told.
pub fn set_io_priority(thread: ThreadId, level: Option<u8>) {
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_BEST_EFFORT: libc::c_long = 2;
    let priority = level.map_or(0, |level| (CLASS_BEST_EFFORT << 13) | libc::c_long::from(level & 7));
    // SAFETY: the call takes three integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, libc::c_long::from(thread.0), priority) };
}
