//! Coverage marks: names for rare branches, so that simulation can prove it reached them.
//!
//! `mark!("torn_tail")` emits a `tracing` event at trace level under the target [`MARK_TARGET`] with the field
//! `mark`. In production nobody listens and the macro costs one relaxed load. The simulator installs a
//! subscriber for its thread and counts; a sweep fails when a known mark was never hit.
//! Every mark's name stands in [`MARKS`] or [`MARKS_OF_THREADS`]; the macro refuses, at compile time, a name that does not.
//!
//! A [`Phase`] is a stretch of time in which a crash is most telling: its beginning and its end are `tracing` events
//! at trace level under [`PHASE_TARGET`], with the fields `phase` (one of [`PHASES`]) and `edge` (`begin` or `end`).
//! Whoever kills the process on purpose learns from them where the kill fell. An abandoned phase ends too.

/// The `tracing` target of every mark.
pub const MARK_TARGET: &str = "holdfast::mark";

/// All marks of the kernel that a simulation can hit, sorted.
pub const MARKS: &[&str] = &[
    "background_disk_full",
    "background_refused",
    "backup_looked_again",
    "checkpoint_abandoned",
    "checkpoint_copied",
    "commit_conflict_point",
    "commit_conflict_range",
    "commit_disk_full",
    "commit_group_shared",
    "commit_leader_dropped",
    "commit_makes_segment",
    "compaction_drops_tombstone",
    "compaction_drops_version",
    "compaction_given_up",
    "compaction_input_corrupt",
    "compaction_input_unreadable",
    "compaction_moved",
    "compaction_needless",
    "compaction_not_awaited",
    "creation_was_finished",
    "directory_sync_not_believed",
    "directory_taken_back",
    "flush_needless",
    "level0_gathered",
    "log_group_unknown",
    "log_header_refused",
    "log_hole_vouched",
    "log_recycled",
    "log_segment_abandoned",
    "log_segment_unnamed",
    "log_sync_failed",
    "log_torn_tail",
    "log_write_failed",
    "manifest_edit_refused",
    "manifest_not_rolled",
    "manifest_rolled",
    "manifest_stopped",
    "manifest_torn_tail",
    "manifest_unsealed",
    "memory_over_budget",
    "memtable_frozen_for_log",
    "memtable_frozen_for_room",
    "opening_waited",
    "read_cut_within_sector",
    "read_tried_again",
    "recovery_flushed_midway",
    "recovery_orphan_removed",
    "recovery_orphan_removed_early",
    "recovery_seq_gap",
    "reserve_given_free",
    "reserve_taken_again",
    "sequences_reserved",
    "table_abandoned",
    "table_cut_for_the_level_below",
    "tables_listed_again",
    "transaction_window_exceeded",
    "transactions_over_budget",
    "verify_looked_again",
    "verify_table_replaced",
    "verify_table_unchecked",
    "view_retried",
    "view_stale",
    "write_slowed",
    "write_stopped",
    "writer_met_full_disk",
    "writer_told_of_refusal",
];

/// Marks of branches that only threads side by side can take: one thread, as the simulator has it, never comes there.
/// The loom models do.
pub const MARKS_OF_THREADS: &[&str] = &["read_state_retried"];

/// The `tracing` target of every phase.
pub const PHASE_TARGET: &str = "holdfast::phase";

/// All phases, sorted.
pub const PHASES: &[&str] = &["compaction", "flush", "manifest_edit", "manifest_switch", "recovery"];

/// A phase under way; dropping it ends the phase.
#[derive(Debug)]
pub(crate) struct Phase(&'static str);

impl Phase {
    /// Begins the phase `name`, which stands in [`PHASES`].
    pub fn begin(name: &'static str) -> Self {
        debug_assert!(PHASES.contains(&name), "add the phase to check::PHASES");
        tracing::event!(target: "holdfast::phase", tracing::Level::TRACE, phase = name, edge = "begin");
        Self(name)
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        tracing::event!(target: "holdfast::phase", tracing::Level::TRACE, phase = self.0, edge = "end");
    }
}

/// True if `name` stands in [`MARKS`] or [`MARKS_OF_THREADS`]; for use at compile time.
pub const fn is_mark(name: &str) -> bool {
    stands_in(MARKS, name) || stands_in(MARKS_OF_THREADS, name)
}

const fn stands_in(marks: &[&str], name: &str) -> bool {
    let mut i = 0;
    while i < marks.len() {
        if equal(marks[i].as_bytes(), name.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Names a rare branch that was just taken.
macro_rules! mark {
    ($name:literal) => {{
        const { assert!($crate::check::is_mark($name), "add the mark to check::MARKS") };
        tracing::event!(target: "holdfast::mark", tracing::Level::TRACE, mark = $name);
    }};
}
pub(crate) use mark;

#[cfg(test)]
mod tests {
    #[test]
    fn marks_and_phases_are_sorted_and_unique() {
        assert!(super::MARKS.windows(2).all(|w| w[0] < w[1]));
        assert!(super::PHASES.windows(2).all(|w| w[0] < w[1]));
    }
}
