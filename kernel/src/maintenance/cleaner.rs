//! Deletes tables that no state lists and nobody reads any more.

use std::sync::Arc;

use super::Crew;
use crate::engine::Engine;
use crate::env::IoErrorKind;
use crate::types::file_name::{self, FileKind};

/// The task. What it does not get to, closing does, or else it is an orphan, which the next opening removes.
pub(crate) async fn run(engine: Arc<Engine>, crew: Arc<Crew>) {
    loop {
        let changed = engine.graveyard.changed.notified();
        clear(&engine).await;
        crew.progress.notify_all();
        if crew.stopping() {
            return;
        }
        changed.await;
    }
}

/// Deletes everything buried so far.
pub(super) async fn clear(engine: &Engine) {
    for no in engine.graveyard.take() {
        let path = file_name::path(&engine.dir, FileKind::Table, no);
        match engine.env.disk().remove(&path).await {
            Ok(()) => tracing::debug!(table = no.get(), "table removed"),
            Err(error) if error.kind == IoErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "a needless table could not be removed; the next opening will")
            }
        }
        engine.graveyard.note_deleted();
        engine.env.slice(4096).await;
    }
}
