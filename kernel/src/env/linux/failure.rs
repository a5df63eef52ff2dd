//! From the system's error numbers to what the kernel does about them.
//!
//! The table below is the whole policy. Two numbers mean different things in different calls: `EINVAL` of a direct
//! file is the file system refusing the way of access, and `EPERM` of `link` is a file system without hard links.

use std::io;
use std::path::Path;

use crate::env::{IoError, IoErrorKind};

/// Sorts a system error.
pub fn kind_of(error: &io::Error) -> IoErrorKind {
    let Some(number) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => IoErrorKind::Transient,
            io::ErrorKind::Unsupported => IoErrorKind::Unsupported,
            _ => IoErrorKind::Other,
        };
    };
    match number {
        libc::ENOSPC => IoErrorKind::Full,
        libc::EDQUOT => IoErrorKind::Quota,
        libc::EMFILE | libc::ENFILE => IoErrorKind::TooManyFiles,
        libc::ENOENT => IoErrorKind::NotFound,
        libc::EEXIST => IoErrorKind::AlreadyExists,
        libc::EACCES | libc::EPERM | libc::EROFS => IoErrorKind::Permission,
        libc::EINTR | libc::EAGAIN | libc::ENOMEM => IoErrorKind::Transient,
        libc::EOPNOTSUPP | libc::ENOSYS | libc::EXDEV | libc::EMLINK => IoErrorKind::Unsupported,
        // The device or the file system's own structures are damaged, or the device has gone away.
        libc::EIO
        | libc::ENXIO
        | libc::ENODEV
        | libc::ENODATA
        | libc::EREMOTEIO
        | libc::EILSEQ
        | libc::EBADMSG
        | libc::EUCLEAN
        | libc::ETIMEDOUT
        | libc::ENOLINK
        | libc::ENOMEDIUM
        | libc::ESHUTDOWN
        | libc::ESTALE => IoErrorKind::Medium,
        _ => IoErrorKind::Other,
    }
}

/// A failure of `operation` on `path`.
pub fn failure(operation: &'static str, path: &Path, error: &io::Error) -> IoError {
    IoError {
        kind: kind_of(error),
        operation,
        path: path.to_path_buf(),
        offset: None,
        detail: error.to_string(),
    }
}

/// The failure of an operation that panicked: nobody knows how much of it was done.
pub fn panicked(operation: &'static str, path: &Path, message: &str) -> IoError {
    let detail = format!("the operation panicked: {message}");
    IoError { kind: IoErrorKind::Other, operation, path: path.to_path_buf(), offset: None, detail }
}

/// Repeats a system call that a signal interrupted.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_tests_on_a_real_disk_cannot_provoke() {
        let cases = [
            (libc::EIO, IoErrorKind::Medium),
            (libc::EUCLEAN, IoErrorKind::Medium),
            (libc::EDQUOT, IoErrorKind::Quota),
            (libc::ENFILE, IoErrorKind::TooManyFiles),
            (libc::EROFS, IoErrorKind::Permission),
            (libc::ENOMEM, IoErrorKind::Transient),
            (libc::EXDEV, IoErrorKind::Unsupported),
            (libc::ENOTEMPTY, IoErrorKind::Other),
        ];
        for (number, kind) in cases {
            assert_eq!(kind_of(&io::Error::from_raw_os_error(number)), kind, "errno {number}");
        }
        let unnumbered = failure("list", Path::new("/x"), &io::Error::from(io::ErrorKind::Interrupted));
        assert_eq!((unnumbered.kind, unnumbered.operation), (IoErrorKind::Transient, "list"));
    }

    #[test]
    fn only_interruptions_are_repeated() {
        let mut calls = 0;
        let result = uninterrupted(|| {
            calls += 1;
            let number = if calls < 4 { libc::EINTR } else { libc::EIO };
            Err::<(), _>(io::Error::from_raw_os_error(number))
        });
        assert_eq!((calls, result.unwrap_err().raw_os_error()), (4, Some(libc::EIO)));
    }
}
