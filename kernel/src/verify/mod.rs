//! Verification: every checksum and every rule of every file, with nothing changed.
//!
//! ```text
//! CURRENT, manifest   read as an opening does: checksums, identities, the rules of every edit, levels disjoint
//! directory           what the manifest names is there, in full length; what it does not name is said
//! log                 every sector of every segment, the chain, every frame, every batch
//! tables              every block: checksum, order, separators, filters, properties; against the manifest
//! ```
//! Each byte of a file is covered by a checksum, or checked to be zero, or lies in a region that the report lists as
//! unused. So whoever changes a byte finds it named among the problems, unless it lies in such a region (or the file is
//! put back, newest sectors and all, to what it was a moment before: that, one disk cannot know).
//!
//! No lock is taken, so a writer may be at work. What changes under the eyes of a look (a manifest replaced, a segment
//! recycled, a sector half written) shows as a problem that another look, a little later, does not find in the same
//! place. Only what two looks in a row agree on is reported. Tables never change, and one that is gone is missing
//! only if the manifest still names it.
//!
//! Reading order: [`report`] is what comes out, [`look`] the structure and the log, [`tables`] the tables.

mod look;
mod report;
mod tables;

use std::path::Path;
use std::sync::Arc;

use crate::check::mark;
use crate::env::Env;
use crate::error::Result;
use look::Look;
pub use report::{FileReport, FileVerdict, Problem, UnusedRegion, VerifyProgress, VerifyReport};

/// Looks at structure and log, at most; and at the manifest, when a table is gone.
const LOOKS_MAX: u32 = 6;
/// The wait before another look.
const WAIT_NS: u64 = 20_000_000;

/// Who is told how far it is.
struct Meter<'a> {
    state: VerifyProgress,
    tell: &'a mut (dyn FnMut(&VerifyProgress) + Send),
}

impl Meter<'_> {
    fn begin(&mut self, file: &str) {
        self.state.file.clear();
        self.state.file.push_str(file);
    }

    fn add(&mut self, bytes: u64) {
        self.state.bytes_checked += bytes;
        (self.tell)(&self.state);
    }
}

/// Checks every file of the database in `dir`, closed or in use, and changes nothing. `progress` is told after each
/// piece that was read. Reads every byte once, a damaged structure twice; memory is bounded by the largest block and the
/// largest batch.
///
/// ```
/// # holdfast::env::linux::block_on(async {
/// # let dir = std::env::temp_dir().join(format!("holdfast-verify-{}", std::process::id()));
/// # holdfast::Db::open(&dir, holdfast::Options::default()).await?.close().await?;
/// let report = holdfast::verify(holdfast::env::linux::LinuxEnv::new(), &dir, |_| ()).await?;
/// assert!(report.is_good(), "{:?}", report.problems);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), holdfast::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if there is no database, [`Error::Invalid`](crate::Error::Invalid) for an
/// unfinished checkpoint, and what listing the directory gives. [`Error::Io`](crate::Error::Io) of kind `Permission` if
/// a file may not be read, and [`Error::TooManyFiles`](crate::Error::TooManyFiles), neither of which says anything of the
/// file. Everything that is wrong with a file is in the report.
pub async fn verify(
    env: Arc<dyn Env>,
    dir: impl AsRef<Path>,
    mut progress: impl FnMut(&VerifyProgress) + Send,
) -> Result<VerifyReport> {
    let dir = dir.as_ref();
    let mut meter = Meter { state: VerifyProgress::default(), tell: &mut progress };
    meter.state.bytes_total = look::bytes_of(&*env, dir).await?;
    let mut look = look::look(&env, dir, &mut meter).await?;
    let mut looks = 1;
    while !look.problems.is_empty() && looks < LOOKS_MAX {
        mark!("verify_looked_again");
        env.sleep_until(env.now().after(WAIT_NS)).await;
        let mut again = look::look(&env, dir, &mut meter).await?;
        looks += 1;
        let settled = again.problems == look.problems;
        if looks == LOOKS_MAX {
            again.problems.retain(|problem| look.problems.contains(problem));
        }
        look = again;
        if settled {
            break;
        }
    }
    let Look { mut files, mut problems, version, last_seq, .. } = look;
    tables::check(&env, dir, version.as_ref(), &mut files, &mut problems, &mut meter).await?;
    look::blame(dir, &mut files, &problems);
    let mut files: Vec<FileReport> = files.into_values().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes_checked = meter.state.bytes_checked;
    let report = VerifyReport { files, problems, last_seq, bytes_checked };
    tracing::info!(dir = %dir.display(), bytes_checked, problems = report.problems.len(), "verified");
    Ok(report)
}
