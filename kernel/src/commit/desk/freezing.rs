//! When a memtable is full: what the leader freezes between two groups, and how.

use std::sync::Arc;

use super::Desk;
use crate::check::mark;
use crate::commit::Committer;
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::sync::atomic::Ordering;
use crate::tree::{Pressure, State, pressure};
use crate::types::KeyspaceId;

/// Active memtables of all keyspaces together take up at most one part in so many of the memory.
const ACTIVE_PART: u64 = 4;
/// Memory is short when so many parts (second) of so many (first) are held.
const CRAMPED: (u64, u64) = (4, 3);
/// When memory is short, a memtable of this size is worth a flush.
const CRAMPED_FREEZE_BYTES: u64 = 64 << 10;

impl Desk {
    /// Counts what the group put into memtables, freezes what is full, and lets writers know if it is too much.
    pub(super) async fn freeze_full(&mut self, committer: &Committer, state: &Arc<State>) {
        let (mut active_bytes, mut frozen) = (0, false);
        for keyspace in state.keyspaces.values() {
            let (active, id) = (&keyspace.active, keyspace.id);
            if active.first_lsn().is_none() {
                continue;
            }
            active.table.count_in(self.cache.budget());
            let bytes = active.table.bytes();
            if bytes >= committer.freeze_bytes.load(Ordering::Relaxed) {
                self.try_freeze(committer, id).await;
                frozen = true;
            } else {
                active_bytes += bytes;
            }
        }
        let (held, limit) = (self.cache.budget().held(), self.cache.budget().limit());
        let cramped = held >= limit / CRAMPED.0 * CRAMPED.1;
        if active_bytes >= limit / ACTIVE_PART || cramped && !frozen {
            let least = if active_bytes >= limit / ACTIVE_PART { 0 } else { CRAMPED_FREEZE_BYTES };
            self.freeze_largest(committer, state, active_bytes.saturating_sub(limit / ACTIVE_PART), least)
                .await;
        }
        self.cache.give_way();
        if cramped || committer.throttle.get() != Pressure::None {
            committer.throttle.set(pressure(&committer.published.load(), self.cache.budget()));
        }
    }

    /// Freezes the largest of the memtables, none of which is full by itself: until those left hold `excess` less, and
    /// the largest of all in any case if it has at least `least` bytes.
    async fn freeze_largest(&mut self, committer: &Committer, state: &State, mut excess: u64, least: u64) {
        let full = committer.freeze_bytes.load(Ordering::Relaxed);
        let active = state.keyspaces.values().filter(|keyspace| keyspace.active.first_lsn().is_some());
        let mut sizes: Vec<(u64, KeyspaceId)> =
            active.map(|keyspace| (keyspace.active.table.bytes(), keyspace.id)).collect();
        sizes.retain(|(bytes, _)| *bytes < full && *bytes >= least);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        for (bytes, id) in sizes {
            mark!("memtable_frozen_for_room");
            self.try_freeze(committer, id).await;
            if bytes >= excess {
                return;
            }
            excess -= bytes;
        }
    }

    async fn try_freeze(&mut self, committer: &Committer, id: KeyspaceId) {
        if let Err(error) = self.freeze(committer, id).await {
            // The commits of this group stand; the memtable grows on until the log has room for a seal.
            tracing::warn!(%error, keyspace = id.get(), "could not freeze a memtable");
            if let Error::Stopped(why) = &error {
                committer.gate.stop(why);
            }
        }
    }

    /// Freezes the active memtable. The log is sealed first: what stands before a seal is durable and never moves, so
    /// the seal is a boundary that recovery can tell frozen from later entries by.
    pub(super) async fn freeze(&mut self, committer: &Committer, id: KeyspaceId) -> Result<()> {
        let state = committer.published.load();
        let Some(active) = state.keyspace(id).map(|keyspace| keyspace.active.clone()) else { return Ok(()) };
        if active.first_lsn().is_none() {
            return Ok(());
        }
        let boundary = self.seal(committer).await?;
        active.end_at(boundary, committer.published.visible());
        self.memtables_made += 1;
        let memtable = Memtable::new(self.memtables_made);
        let frozen = committer.published.update(|state| state.with_frozen(id, memtable));
        if let Some(state) = frozen {
            committer.throttle.set(pressure(&state, self.cache.budget()));
            committer.changed.notify_one();
            tracing::debug!(keyspace = id.get(), boundary = boundary.get(), "memtable frozen");
        }
        Ok(())
    }
}
