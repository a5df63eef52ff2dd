//! Reads exact ranges of a file that is believed to be whole.

use std::path::Path;

use crate::env::{Buf, File, IoErrorKind};
use crate::error::{Error, Result};

/// How often a read that might pass is tried.
const ATTEMPTS: u32 = 3;

/// Reads `len` bytes at `offset`. The caller has checked that the file is that long, so an end of file is
/// corruption.
///
/// # Errors
/// [`Error::Io`] naming file and offset, for a transient error after [`ATTEMPTS`]; [`Error::Corrupt`] at an early
/// end of file.
pub(super) async fn read_exact(file: &dyn File, path: &Path, offset: u64, len: usize) -> Result<Buf> {
    let mut whole = Buf::zeroed(len);
    let mut filled = 0;
    let mut failures = 0;
    while filled < len {
        // The first read takes the whole buffer; only after a short one is a second buffer needed.
        let buf = if filled == 0 { std::mem::take(&mut whole) } else { Buf::zeroed(len - filled) };
        let (result, buf) = file.read_at(offset + filled as u64, buf).await;
        let count = match result {
            Ok(0) => {
                let what = format!("the file ends here, {} bytes too early", len - filled);
                return Err(Error::corrupt_at(path, offset + filled as u64, what));
            }
            Ok(count) => count.min(buf.len()),
            Err(error) if error.kind == IoErrorKind::Transient && failures + 1 < ATTEMPTS => {
                failures += 1;
                0
            }
            Err(mut error) => {
                error.offset.get_or_insert(offset + filled as u64);
                return Err(error.into());
            }
        };
        if filled == 0 {
            whole = buf;
        } else {
            whole[filled..filled + count].copy_from_slice(&buf[..count]);
        }
        filled += count;
    }
    Ok(whole)
}
