//! Each anomaly in the smallest history that shows it, and what comes close to one without being one.

mod executor;
mod many;
mod orders;

use super::*;
use crate::history::Promise::{Batch, Serializable, Snapshot, View};
use crate::history::{Ending, Promise};
use crate::oracle::script::Script;

fn judge(script: &Script) -> Vec<Violation> {
    check(&script.history, &Resolved::default())
}

#[track_caller]
fn finds(script: &Script, wrong: Wrong) -> String {
    let found = judge(script);
    assert!(found.iter().any(|violation| violation.wrong == wrong), "expected {wrong}, found {found:#?}");
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn is_good(script: &Script) {
    assert_eq!(judge(script), []);
}

/// Writes x, y twice, and a view that sees the given mixture: (`x` of the second, `y` of the second).
fn mixture(x: bool, y: bool) -> Script {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let reader = script.begin(7, View);
    let new = script.batch(&["x", "y"]);
    script.get(reader, "x", if x { new[0] } else { old[0] });
    script.get(reader, "y", if y { new[1] } else { old[1] });
    script.commit_as(reader, 2);
    script
}

#[test]
fn whole_transactions_may_be_seen_old_or_new() {
    is_good(&mixture(false, false));
    is_good(&mixture(true, true));
}

#[test]
fn half_a_transaction_is_found_and_told_line_by_line() {
    let text = finds(&mixture(true, false), Wrong::HalfTransaction);
    assert!(text.contains("T1 (client 7) read y before T2 wrote it (rw; operations 1 and 1)"), "{text}");
    assert!(text.contains("T2 (client 99) wrote x and T1 read that (wr; operations 0 and 0)"), "{text}");
    finds(&mixture(false, true), Wrong::HalfTransaction);
}

#[test]
fn half_a_transaction_is_found_by_what_a_scan_misses() {
    let mut script = Script::default();
    let reader = script.begin(7, View);
    let new = script.batch(&["a", "b"]);
    script.scan(reader, "a", "z", &[("a", new[0])]);
    script.commit_as(reader, 1);
    finds(&script, Wrong::HalfTransaction);
}

#[test]
fn half_a_deletion_is_found() {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let reader = script.begin(7, View);
    let deleter = script.begin(0, Batch);
    script.delete(deleter, "x");
    script.put(deleter, "y");
    script.commit(deleter);
    script.miss(reader, "x");
    script.get(reader, "y", old[1]);
    script.commit_as(reader, 2);
    finds(&script, Wrong::HalfTransaction);
}

#[test]
fn two_versions_of_a_key_in_one_view_are_found() {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let reader = script.begin(7, Snapshot);
    script.get(reader, "x", old[0]);
    let new = script.batch(&["x"]);
    script.get(reader, "x", new[0]);
    script.commit_as(reader, 1);
    finds(&script, Wrong::NonRepeatableRead);
}

#[test]
fn dirty_reads_are_found_whoever_was_refused() {
    for ending in [Ending::Conflict, Ending::Refused("full".to_owned())] {
        let mut script = Script::default();
        let writer = script.begin(3, Snapshot);
        let x = script.put(writer, "x\n");
        let reader = script.begin(7, View);
        script.get(reader, "x\n", x);
        script.commit_as(reader, 0);
        script.end(writer, ending);
        let text = finds(&script, Wrong::DirtyRead);
        assert!(text.contains("T1 (client 7) read x\\n in operation 0"), "{text}");
    }
}

#[test]
fn intermediate_reads_and_garbage_are_found() {
    let mut script = Script::default();
    let writer = script.begin(0, Batch);
    let first = script.put(writer, "x");
    script.put(writer, "x");
    script.commit(writer);
    let reader = script.begin(1, View);
    script.get(reader, "x", first);
    script.commit_as(reader, 1);
    finds(&script, Wrong::IntermediateRead);
    let reader = script.begin(1, View);
    script.get(reader, "y", first);
    finds(&script, Wrong::Garbage);
}

/// Two transactions that append to two lists in opposite orders; `told` gives them numbers.
fn opposite_lists(told: bool) -> Script {
    let mut script = Script::default();
    let (a, b) = (script.begin(0, Serializable), script.begin(1, Serializable));
    script.put_list(a, "x", &[1]);
    script.put_list(b, "x", &[1, 2]);
    script.put_list(b, "y", &[2]);
    script.put_list(a, "y", &[2, 1]);
    if told {
        script.commit(a);
        script.commit(b);
        return script;
    }
    script.end(a, Ending::Unknown);
    script.end(b, Ending::Unknown);
    for (txn, key, operation) in [(a, "y", 1), (b, "x", 0)] {
        let reader = script.begin(2, Batch);
        script.get(reader, key, crate::history::Stamp { txn, operation });
        script.end(reader, Ending::Conflict);
    }
    script
}

#[test]
fn dirty_writes_are_found() {
    let text = finds(&opposite_lists(false), Wrong::DirtyWrite);
    assert!(text.contains("T0 (client 0) wrote x before T1 wrote it (ww; operations 0 and 0)"), "{text}");
    finds(&opposite_lists(true), Wrong::DirtyWrite);
}

#[test]
fn lists_that_contradict_the_numbers_are_found() {
    finds(&opposite_lists(true), Wrong::OrderViolated);
    let mut script = Script::default();
    let (a, b) = (script.begin(0, Serializable), script.begin(1, Serializable));
    script.put_list(a, "x", &[1]);
    script.put_list(b, "x", &[1, 2]);
    script.commit_as(a, 2);
    script.commit_as(b, 1);
    finds(&script, Wrong::OrderViolated);
}

#[test]
fn an_append_that_is_not_in_the_next_list_is_found() {
    let mut script = Script::default();
    for list in [&[1][..], &[1, 2], &[1, 3]] {
        let txn = script.begin(0, Snapshot);
        script.put_list(txn, "x", list);
        script.commit(txn);
    }
    let text = finds(&script, Wrong::OrderViolated);
    assert!(text.contains("T1 (client 0, commit 2, operation 0) and T2"), "{text}");
}

#[test]
fn circular_information_is_found() {
    let mut script = Script::default();
    let (a, b) = (script.begin(0, Serializable), script.begin(1, Serializable));
    let x = script.put(a, "x");
    let y = script.put(b, "y");
    script.get(a, "y", y);
    script.get(b, "x", x);
    script.commit(a);
    script.commit(b);
    finds(&script, Wrong::CircularInformation);
}

#[test]
fn read_skew_is_found() {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let reader = script.begin(7, Snapshot);
    let middle = script.begin(0, Serializable);
    let x = script.put(middle, "x");
    script.commit(middle);
    let last = script.begin(1, Serializable);
    script.get(last, "x", x);
    let y = script.put(last, "y");
    script.commit(last);
    script.get(reader, "x", old[0]);
    script.get(reader, "y", y);
    script.commit_as(reader, 1);
    finds(&script, Wrong::ReadSkew);
}

/// Two transactions that read the same version and both write the key.
fn increments(first: Promise, second: Promise) -> Script {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let (a, b) = (script.begin(0, first), script.begin(1, second));
    script.get(a, "x", old[0]);
    script.get(b, "x", old[0]);
    script.put(a, "x");
    script.put(b, "x");
    script.commit(a);
    script.commit(b);
    script
}

#[test]
fn lost_updates_are_found() {
    finds(&increments(Serializable, Serializable), Wrong::LostUpdate);
    finds(&increments(Snapshot, Snapshot), Wrong::LostUpdate);
    finds(&increments(Batch, Snapshot), Wrong::LostUpdate);
    is_good(&increments(Snapshot, Batch));
}

/// Each reads what the other writes.
fn skew(first: Promise, second: Promise) -> Script {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let (a, b) = (script.begin(0, first), script.begin(1, second));
    script.get(a, "x", old[0]);
    script.get(b, "y", old[1]);
    script.put(a, "y");
    script.put(b, "x");
    script.commit(a);
    script.commit(b);
    script
}

#[test]
fn write_skew_is_wrong_between_serializables_only() {
    let text = finds(&skew(Serializable, Serializable), Wrong::WriteSkew);
    assert!(text.contains("T1 (client 0) read x before T2 wrote it (rw; operations 0 and 1)"), "{text}");
    assert!(text.contains("T2 (client 1) read y before T1 wrote it (rw; operations 0 and 1)"), "{text}");
    is_good(&skew(Snapshot, Snapshot));
    is_good(&skew(Snapshot, Serializable));
    is_good(&skew(Serializable, Snapshot));
}

/// Each scans, and then puts a key, or deletes a range, where the other scanned.
fn phantoms(promise: Promise, by_deletion: bool) -> Script {
    let mut script = Script::default();
    let old = script.batch(&["a1", "b1"]);
    let (a, b) = (script.begin(0, promise), script.begin(1, promise));
    script.scan(a, "a", "az", &[("a1", old[0])]);
    script.scan(b, "b", "bz", &[("b1", old[1])]);
    if by_deletion {
        script.delete_range(a, "b", "bz");
        script.delete_range(b, "a", "az");
    } else {
        script.put(a, "b2");
        script.put(b, "a2");
    }
    script.commit(a);
    script.commit(b);
    script
}

#[test]
fn phantoms_are_wrong_between_serializables_only() {
    for by_deletion in [false, true] {
        let text = finds(&phantoms(Serializable, by_deletion), Wrong::PhantomSkew);
        assert!(text.contains("(rw, range; operations 0 and 1)"), "{text}");
        assert_eq!(text.contains("scanned over a1 before T2 deleted a range with it"), by_deletion, "{text}");
        is_good(&phantoms(Snapshot, by_deletion));
    }
}

#[test]
fn a_view_that_sees_the_later_of_two_and_not_the_earlier_is_wrong() {
    // Two Serializables in either order explain the writes; the view saw an order that is not that of the commits.
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let (a, b) = (script.begin(0, Serializable), script.begin(1, Serializable));
    let view = script.begin(2, View);
    script.get(a, "x", old[0]);
    script.put(a, "y");
    let x = script.put(b, "x");
    script.commit(a);
    script.commit(b);
    script.get(view, "x", x);
    script.get(view, "y", old[1]);
    script.commit_as(view, 3);
    assert_eq!(judge(&script).len(), 1);
    finds(&script, Wrong::WriteSkew);
}

#[test]
fn a_stale_read_violates_real_time_where_that_was_promised() {
    for (promise, is_wrong) in [(View, true), (Serializable, true), (Snapshot, false)] {
        let mut script = Script::default();
        let old = script.batch(&["x"]);
        script.batch(&["x"]);
        let reader = script.begin(7, promise);
        script.get(reader, "x", old[0]);
        script.commit_as(reader, 1);
        if is_wrong {
            let text = finds(&script, Wrong::OrderViolated);
            assert!(text.contains("T1 (client 99) ended before T2 began (real time)"), "{text}");
        } else {
            is_good(&script);
        }
    }
}

#[test]
fn a_read_of_nothing_is_held_against_nobody_who_may_have_deleted() {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let unknown = script.begin(3, Batch);
    script.delete_range(unknown, "a", "xz");
    script.end(unknown, Ending::Unknown);
    let reader = script.begin(7, View);
    script.miss(reader, "x");
    script.get(reader, "y", old[1]);
    script.commit_as(reader, 1);
    is_good(&script);
    let mut resolved = Resolved::default();
    resolved.has_no_effect(unknown);
    let found = check(&script.history, &resolved);
    assert_eq!(found.iter().map(|violation| violation.wrong).collect::<Vec<_>>(), [Wrong::HalfTransaction]);
}

#[test]
fn an_unknown_end_counts_once_it_is_seen_or_known() {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let unknown = script.begin(3, Serializable);
    let x = script.put(unknown, "x");
    script.put(unknown, "y");
    script.end(unknown, Ending::Unknown);
    let reader = script.begin(7, View);
    script.get(reader, "x", x);
    script.get(reader, "y", old[1]);
    script.commit_as(reader, 1);
    // Its place is not known, so nothing follows from the rest; with its number it is half a transaction.
    is_good(&script);
    let mut resolved = Resolved::default();
    resolved.takes_effect(unknown, 2);
    let found = check(&script.history, &resolved);
    assert_eq!(found.iter().map(|violation| violation.wrong).collect::<Vec<_>>(), [Wrong::HalfTransaction]);
    let mut resolved = Resolved::default();
    resolved.has_no_effect(unknown);
    assert_eq!(check(&script.history, &resolved)[0].wrong, Wrong::DirtyRead);
}

#[test]
fn what_a_crash_took_was_right_in_its_time_and_has_never_been_later() {
    let mut script = Script::default();
    let old = script.batch(&["x", "y"]);
    let lost = script.begin(0, Serializable);
    let x = script.put(lost, "x");
    script.put(lost, "y");
    script.commit(lost);
    let saw = script.begin(1, View);
    script.get(saw, "x", x);
    script.commit_as(saw, 2);
    script.opening = 1;
    let later = script.begin(0, View);
    script.get(later, "x", old[0]);
    script.get(later, "y", old[1]);
    script.commit_as(later, 1);
    let writer = script.begin(2, Snapshot);
    script.get(writer, "x", old[0]);
    script.put(writer, "x");
    script.commit(writer);
    let mut resolved = Resolved::default();
    resolved.is_lost_after(lost, 0);
    assert_eq!(check(&script.history, &resolved), []);
    assert!(!judge(&script).is_empty());
    let ghost = script.begin(3, View);
    script.get(ghost, "y", crate::history::Stamp { txn: lost, operation: 1 });
    assert_eq!(check(&script.history, &resolved)[0].wrong, Wrong::DirtyRead);
}

#[test]
fn one_number_for_two_commits_is_found() {
    let mut script = Script::default();
    for _ in 0..2 {
        let txn = script.begin(0, Batch);
        script.put(txn, "x");
        script.commit_as(txn, 5);
    }
    finds(&script, Wrong::OrderViolated);
}
