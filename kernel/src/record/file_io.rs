//! Whole reads and writes: loops over short counts, keeps to the file's alignment, gives the buffer back.

use std::path::Path;

use crate::check::mark;
use crate::env::{Buf, Disk, File, IoError, IoErrorKind, IoResult};

/// Bytes of a file that a sequential reader takes at once.
pub const READ_CHUNK: usize = 512 << 10;
/// How often a read that failed for a passing reason is tried again.
const READ_RETRIES: u32 = 4;

/// Reads `len` bytes at `offset`, fewer only at the end of the file. `buf` is reused. With direct I/O `offset` and
/// `len` must be aligned.
///
/// # Errors
/// What the disk says; a passing error is tried again a few times.
pub async fn read_full(file: &dyn File, offset: u64, len: usize, mut buf: Buf) -> (IoResult<()>, Buf) {
    buf.resize(len);
    let mut retries = READ_RETRIES;
    let mut done = 0;
    while done < len {
        let (outcome, next) = if done == 0 {
            let (outcome, back) = file.read_at(offset, buf).await;
            buf = back;
            (outcome, None)
        } else {
            let mut rest = Buf::default();
            rest.resize(len - done);
            let (outcome, back) = file.read_at(offset + done as u64, rest).await;
            (outcome, Some(back))
        };
        match outcome {
            Ok(0) => break,
            Ok(count) => {
                // Direct I/O must go on at an aligned place, so an odd tail is read again.
                let count = if done + count < len { align_down(count, file.alignment()) } else { count };
                if let Some(rest) = next {
                    buf[done..done + count].copy_from_slice(&rest[..count]);
                }
                if count == 0 {
                    // Cut within its first sector. Only at the end of an odd file does that stay so.
                    if retries == 0 {
                        break;
                    }
                    mark!("read_cut_within_sector");
                    retries -= 1;
                }
                done += count;
            }
            Err(error) if error.kind == IoErrorKind::Transient && retries > 0 => {
                mark!("read_tried_again");
                retries -= 1;
            }
            Err(error) => return (Err(error), buf),
        }
    }
    buf.resize(done);
    (Ok(()), buf)
}

/// Writes all of `buf` at `offset`. With direct I/O both must be aligned.
///
/// # Errors
/// What the disk says; then any part of the bytes may have been written. Nothing is tried again, since whoever
/// writes the log must not write one place twice.
pub async fn write_full(file: &dyn File, path: &Path, offset: u64, buf: Buf) -> (IoResult<()>, Buf) {
    let len = buf.len();
    let (outcome, buf) = file.write_at(offset, buf).await;
    let mut done = match outcome {
        Ok(count) if count >= len => return (Ok(()), buf),
        Ok(count) => align_down(count, file.alignment()),
        Err(error) => return (Err(error), buf),
    };
    let mut stuck = 0;
    while done < len {
        let rest = Buf::copy_of(&buf[done..]);
        let (outcome, _) = file.write_at(offset + done as u64, rest).await;
        let count = match outcome {
            Ok(count) if done + count >= len => break,
            Ok(count) => align_down(count, file.alignment()),
            Err(error) => return (Err(error), buf),
        };
        stuck = if count == 0 { stuck + 1 } else { 0 };
        if stuck > READ_RETRIES {
            let error = IoError {
                kind: IoErrorKind::Other,
                operation: "write",
                path: path.to_path_buf(),
                offset: Some(offset + done as u64),
                detail: "the system writes nothing and gives no reason".to_string(),
            };
            return (Err(error), buf);
        }
        done += count;
    }
    (Ok(()), buf)
}

fn align_down(count: usize, alignment: usize) -> usize {
    count - count % alignment.max(1)
}

/// Removes a file that nothing names any more. If that fails the next opening finds and removes it.
pub async fn remove_quietly(disk: &dyn Disk, path: &Path) {
    match disk.remove(path).await {
        Err(error) if error.kind != IoErrorKind::NotFound => {
            tracing::debug!(file = %path.display(), %error, "an unneeded file stays until the next opening");
        }
        _ => {}
    }
}
