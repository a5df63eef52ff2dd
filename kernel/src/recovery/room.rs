//! Room for an opening. It writes anew what the log holds, and on a full disk that may be more than there is.

use super::Opening;
use crate::check::mark;
use crate::env::IoError;
use crate::error::Error;
use crate::maintenance::Reserve;
use crate::manifest::Loaded;
use crate::types::file_name::{self, FileKind};

/// A disk with less free than this many times the reserve is nearly full.
const TIGHT_RESERVES: u64 = 8;

impl Opening {
    /// On a nearly full disk gives the reserve free, and removes the tables that no edit of the manifest ever named: those
    /// at which a flush, a compaction or an opening was when the process ended. Nothing depends on its success.
    pub(super) async fn make_room_if_tight(&self, loaded: &Loaded) {
        let enough = self.options.reserve_bytes.saturating_mul(TIGHT_RESERVES);
        let reserve = Reserve::new(&self.dir, self.options.reserve_bytes);
        reserve.look(self.disk()).await;
        if !self.disk().free_space(&self.dir).await.is_ok_and(|free| free.bytes < enough) {
            return;
        }
        reserve.release(&*self.env).await;
        let found = self.disk().list(&self.dir).await.unwrap_or_default();
        for entry in found.iter().filter(|entry| !entry.is_dir) {
            let Some((FileKind::Table, no)) = file_name::parse(&entry.name) else { continue };
            if loaded.never_named.contains(no) && file_name::is_within_reach(no, loaded.version.next_file_no)
            {
                mark!("recovery_orphan_removed_early");
                drop(self.disk().remove(&self.dir.join(&entry.name)).await);
            }
        }
    }
}

/// The error with the room that the opening needs, if it lacks room.
pub(super) fn name_need(error: Error, bytes: u64) -> Error {
    let Error::DiskFull(full) = error else { return error };
    let mebibytes = bytes.div_ceil(1 << 20).max(1);
    let detail = format!("{}; opening writes anew what the log holds, about {mebibytes} MiB", full.detail);
    Error::DiskFull(IoError { detail, ..full })
}
