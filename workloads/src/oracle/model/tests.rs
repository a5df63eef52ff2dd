//! Histories that are wrong in known ways, each found and named; and those that only look wrong.

use super::{Rules, judge};
use crate::history::{Durable, Ending, Milestone, Promise, SURVEYOR, Stamp, TxnNo};
use crate::oracle::Wrong;
use crate::oracle::script::Script;

/// A history that opens an empty database.
fn opened() -> Script {
    let mut script = Script::default();
    script.history.passes(Milestone::Opened(0, vec![(0, 1)]));
    script
}

/// The next opening finds the commits up to `last`, and reads these keys.
fn open_again(script: &mut Script, end: Milestone, last: u64, seen: &[(&str, Stamp)]) {
    script.history.passes(end);
    script.history.passes(Milestone::Opened(last, vec![(0, 1)]));
    script.opening += 1;
    let survey = script.begin(SURVEYOR, Promise::View);
    script.history.of(survey).view = Some(last);
    script.scan(survey, "", "zzz", seen);
    script.history.ends(survey, Ending::Committed(last));
}

/// A snapshot at a commit.
fn view(script: &mut Script, client: u32, seq: u64, read: impl FnOnce(&mut Script, TxnNo)) {
    let reader = script.begin(client, Promise::View);
    script.history.of(reader).view = Some(seq);
    read(script, reader);
    script.history.ends(reader, Ending::Committed(seq));
}

/// What the model finds; a closed end is added.
fn found(mut script: Script) -> Vec<Wrong> {
    script.history.passes(Milestone::Closed);
    found_with(&script, Rules::default())
}

fn found_with(script: &Script, rules: Rules) -> Vec<Wrong> {
    judge(&script.history, rules).violations.into_iter().map(|violation| violation.wrong).collect()
}

#[test]
fn what_is_right_passes() {
    let mut script = opened();
    let first = script.batch(&["a", "b"]);
    view(&mut script, 1, 1, |script, reader| {
        script.get(reader, "a", first[0]);
        script.miss(reader, "c");
        script.scan(reader, "a", "z", &[("a", first[0]), ("b", first[1])]);
    });
    open_again(&mut script, Milestone::PowerLost, 1, &[("a", first[0]), ("b", first[1])]);
    assert_eq!(found(script), []);
}

#[test]
fn a_lost_acknowledged_write_is_found_by_number_and_by_reading() {
    let mut script = opened();
    script.batch(&["a"]);
    open_again(&mut script, Milestone::PowerLost, 0, &[]);
    assert_eq!(found(script), [Wrong::LostWrite]);
    let mut script = opened();
    script.batch(&["a"]);
    view(&mut script, 1, 1, |script, reader| script.miss(reader, "a"));
    assert_eq!(found(script), [Wrong::LostWrite]);
}

#[test]
fn what_was_promised_less_may_go() {
    let weak = |durable: Durable, end: Milestone, rules: Rules| {
        let mut script = opened();
        script.batch(&["a"]);
        script.history.of(0).durable = durable;
        open_again(&mut script, end, 0, &[]);
        found_with(&script, rules)
    };
    let rules = Rules::default();
    assert_eq!(weak(Durable::Flush, Milestone::PowerLost, rules), []);
    assert_eq!(weak(Durable::Buffered, Milestone::Killed, rules), []);
    assert_eq!(weak(Durable::Flush, Milestone::Killed, rules), [Wrong::LostWrite]);
    assert_eq!(weak(Durable::Buffered, Milestone::Closed, rules), [Wrong::LostWrite]);
    let forgot = Rules { flushed_may_be_lost: true, ..rules };
    assert_eq!(weak(Durable::Flush, Milestone::Killed, forgot), []);
    let lied = Rules { suffix_may_be_lost_from: Some(0), ..rules };
    assert_eq!(weak(Durable::Sync, Milestone::PowerLost, lied), []);
    let lied_later = Rules { suffix_may_be_lost_from: Some(2), ..rules };
    assert_eq!(weak(Durable::Sync, Milestone::PowerLost, lied_later), [Wrong::LostWrite]);
}

#[test]
fn a_disk_that_was_replaced_has_what_it_must_have() {
    // Two commits, of which the copy has the first; then a third opening in which the number is given again.
    let swapped = |copy: Option<usize>, last: u64, seen: fn(&[Stamp]) -> Vec<(&'static str, Stamp)>| {
        let mut script = opened();
        let mut stamps = script.batch(&["a"]);
        script.history.passes(Milestone::CopyKept(0));
        stamps.extend(script.batch(&["b"]));
        script.history.passes(Milestone::PowerLost);
        script.history.passes(Milestone::Replaced(copy));
        open_again(&mut script, Milestone::PowerLost, last, &seen(&stamps));
        let again = script.begin(1, Promise::Batch);
        let stamp = script.put(again, "c");
        script.commit_as(again, last + 1);
        view(&mut script, 2, last + 1, |script, reader| script.get(reader, "c", stamp));
        found(script)
    };
    let first = |stamps: &[Stamp]| vec![("a", stamps[0])];
    assert_eq!(swapped(Some(0), 1, first), []);
    assert_eq!(swapped(Some(0), 2, |stamps| vec![("a", stamps[0]), ("b", stamps[1])]), []);
    assert_eq!(swapped(Some(0), 0, |_| Vec::new()), [Wrong::LostWrite]);
    assert_eq!(swapped(Some(0), 2, first), [Wrong::LostWrite]);
    assert_eq!(swapped(Some(0), 1, |stamps| vec![("a", stamps[0]), ("b", stamps[1])]), [Wrong::Phantom]);
    assert_eq!(swapped(None, 0, |_| Vec::new()), []);
    assert_eq!(swapped(None, 0, first), [Wrong::Phantom]);
}

#[test]
fn a_sync_makes_all_before_it_last() {
    let mut script = opened();
    script.batch(&["a"]);
    script.history.of(0).durable = Durable::Buffered;
    script.history.passes(Milestone::Synced(1));
    open_again(&mut script, Milestone::PowerLost, 0, &[]);
    assert_eq!(found(script), [Wrong::LostWrite]);
}

#[test]
fn half_a_transaction_is_found() {
    let mut script = opened();
    let stamps = script.batch(&["a", "b"]);
    open_again(&mut script, Milestone::PowerLost, 1, &[("a", stamps[0])]);
    assert_eq!(found(script), [Wrong::HalfTransaction]);
}

#[test]
fn a_resurrected_delete_is_found() {
    let mut script = opened();
    let stamps = script.batch(&["a"]);
    let delete = script.begin(1, Promise::Batch);
    script.delete_range(delete, "a", "b");
    script.commit(delete);
    open_again(&mut script, Milestone::PowerLost, 2, &[("a", stamps[0])]);
    assert_eq!(found(script), [Wrong::ResurrectedDelete]);
}

#[test]
fn dirty_intermediate_and_foreign_values_are_found() {
    let read_of = |make: fn(&mut Script) -> Stamp| {
        let mut script = opened();
        let stamp = make(&mut script);
        view(&mut script, 2, 1, |script, reader| script.get(reader, "a", stamp));
        found(script)
    };
    let refused = |script: &mut Script| {
        script.batch(&["b"]);
        let txn = script.begin(1, Promise::Serializable);
        let stamp = script.put(txn, "a");
        script.end(txn, Ending::Refused("busy".to_owned()));
        stamp
    };
    assert_eq!(read_of(refused), [Wrong::DirtyRead]);
    let written_over = |script: &mut Script| {
        let txn = script.begin(1, Promise::Batch);
        let stamp = script.put(txn, "a");
        script.put(txn, "a");
        script.commit(txn);
        stamp
    };
    assert_eq!(read_of(written_over), [Wrong::IntermediateRead]);
    let of_another_key = |script: &mut Script| script.batch(&["b"])[0];
    assert_eq!(read_of(of_another_key), [Wrong::Garbage]);
}

#[test]
fn another_view_than_the_own_is_found() {
    let mut script = opened();
    script.batch(&["a"]);
    let newer = script.batch(&["a"]);
    view(&mut script, 1, 1, |script, reader| script.get(reader, "a", newer[0]));
    assert_eq!(found(script), [Wrong::NonRepeatableRead]);
    let mut script = opened();
    let older = script.batch(&["a"]);
    script.batch(&["a"]);
    view(&mut script, 1, 2, |script, reader| script.get(reader, "a", older[0]));
    assert_eq!(found(script), [Wrong::LostWrite]);
}

#[test]
fn a_phantom_is_found() {
    let mut script = opened();
    let first = script.batch(&["a"]);
    let later = script.batch(&["b"]);
    let both = [("a", first[0]), ("b", later[0])];
    view(&mut script, 1, 1, |script, reader| script.scan(reader, "a", "z", &both));
    assert_eq!(found(script), [Wrong::Phantom]);
}

#[test]
fn a_read_that_is_not_told_its_view_may_have_any_between() {
    let between = |seen: usize, at_most: u64| {
        let mut script = opened();
        let stamps: Vec<Stamp> = (0..4).map(|_| script.batch(&["a"])[0]).collect();
        let reader = script.begin(1, Promise::View);
        script.history.of(reader).view = Some(2);
        script.history.of(reader).view_at_most = Some(at_most);
        script.get(reader, "a", stamps[seen]);
        script.history.ends(reader, Ending::Committed(at_most));
        found(script)
    };
    assert_eq!(between(1, 3), []);
    assert_eq!(between(2, 3), []);
    assert_eq!(between(0, 3), [Wrong::LostWrite]);
    assert_eq!(between(3, 3), [Wrong::NonRepeatableRead]);
}

#[test]
fn own_writes_are_seen_and_only_by_oneself() {
    let mut script = opened();
    let txn = script.begin(1, Promise::Serializable);
    script.history.of(txn).view = Some(0);
    let own = script.put(txn, "a");
    script.get(txn, "a", own);
    script.delete_range(txn, "a", "b");
    script.miss(txn, "a");
    let again = script.put(txn, "b");
    script.scan(txn, "a", "z", &[("b", again)]);
    script.commit(txn);
    assert_eq!(found(script), []);
    let mut script = opened();
    let txn = script.begin(1, Promise::Serializable);
    script.history.of(txn).view = Some(0);
    script.put(txn, "a");
    script.miss(txn, "a");
    script.commit(txn);
    assert_eq!(found(script), [Wrong::OwnWriteLost]);
}

/// Two transactions that read at 1 and commit as 2 and 3.
fn two(
    first: impl FnOnce(&mut Script, TxnNo, Stamp),
    second: impl FnOnce(&mut Script, TxnNo, Stamp),
    promise: Promise,
) -> Vec<Wrong> {
    let mut script = opened();
    let stamp = script.batch(&["a"])[0];
    let (one, other) = (script.begin(1, promise), script.begin(2, promise));
    for txn in [one, other] {
        script.history.of(txn).view = Some(1);
    }
    first(&mut script, one, stamp);
    second(&mut script, other, stamp);
    script.commit(one);
    script.commit(other);
    found(script)
}

#[test]
fn commits_against_their_promise_are_found() {
    let write = |script: &mut Script, txn: TxnNo, _| {
        script.put(txn, "a");
    };
    for promise in [Promise::Snapshot, Promise::Serializable] {
        assert_eq!(two(write, write, promise), [Wrong::LostUpdate]);
    }
    let reads_a = |script: &mut Script, txn: TxnNo, stamp: Stamp| {
        script.get(txn, "a", stamp);
        script.put(txn, "x");
    };
    assert_eq!(two(write, reads_a, Promise::Serializable), [Wrong::WriteSkew]);
    assert_eq!(two(write, reads_a, Promise::Snapshot), []);
    let writes_b = |script: &mut Script, txn: TxnNo, _| {
        script.put(txn, "b");
    };
    let walks = |script: &mut Script, txn: TxnNo, stamp: Stamp| {
        script.scan(txn, "a", "c", &[("a", stamp)]);
        script.put(txn, "x");
    };
    assert_eq!(two(writes_b, walks, Promise::Serializable), [Wrong::PhantomSkew]);
    assert_eq!(two(writes_b, walks, Promise::Snapshot), []);
    let deletes = |script: &mut Script, txn: TxnNo, _| script.delete_range(txn, "a", "c");
    assert_eq!(two(writes_b, deletes, Promise::Snapshot), [Wrong::LostUpdate]);
}

#[test]
fn a_conflict_with_nobody_is_found() {
    let conflict = |key: &str, rules: Rules| {
        let mut script = opened();
        let txn = script.begin(1, Promise::Snapshot);
        script.history.of(txn).view = Some(0);
        script.put(txn, "a");
        script.batch(&[key]);
        script.end(txn, Ending::Conflict);
        script.history.passes(Milestone::Closed);
        found_with(&script, rules)
    };
    assert_eq!(conflict("a", Rules::default()), []);
    assert_eq!(conflict("b", Rules::default()), [Wrong::FalseConflict]);
    assert_eq!(conflict("b", Rules { narrow_window: true, ..Rules::default() }), []);
}

#[test]
fn two_commits_of_one_number_are_found() {
    let mut script = opened();
    script.batch(&["a"]);
    let txn = script.begin(1, Promise::Batch);
    script.put(txn, "b");
    script.commit_as(txn, 1);
    assert_eq!(found(script), [Wrong::OrderViolated]);
}

#[test]
fn a_commit_that_nobody_was_told_of_is_there_whole_or_not_at_all() {
    let after = |last: u64, seen: fn(&[Stamp]) -> Vec<(&'static str, Stamp)>| {
        let mut script = opened();
        let mut stamps = script.batch(&["a"]);
        let txn = script.begin(1, Promise::Batch);
        stamps.extend([script.put(txn, "b"), script.put(txn, "c")]);
        script.history.commits(txn);
        open_again(&mut script, Milestone::PowerLost, last, &seen(&stamps));
        found(script)
    };
    assert_eq!(after(1, |stamps| vec![("a", stamps[0])]), []);
    assert_eq!(after(2, |stamps| vec![("a", stamps[0]), ("b", stamps[1]), ("c", stamps[2])]), []);
    assert_eq!(after(2, |stamps| vec![("a", stamps[0]), ("b", stamps[1])]).len(), 1);
    assert_eq!(after(1, |stamps| vec![("a", stamps[0]), ("b", stamps[1]), ("c", stamps[2])]).len(), 1);
}

#[test]
fn untold_commits_stand_where_reads_allow_and_numbers_may_leap() {
    let mut script = opened();
    let first = script.batch(&["a"]);
    open_again(&mut script, Milestone::Killed, 1, &[("a", first[0])]);
    // Two in flight, of which the one written last is the one that is seen; a third is told of, behind a leap.
    let (one, other) = (script.begin(1, Promise::Batch), script.begin(2, Promise::Batch));
    let (of_one, of_other) = (script.put(one, "a"), script.put(other, "a"));
    script.history.commits(one);
    script.history.commits(other);
    let told = script.begin(3, Promise::Batch);
    let of_told = script.put(told, "b");
    script.commit_as(told, 1_048_579);
    view(&mut script, 4, 1_048_577, |script, reader| script.get(reader, "a", of_other));
    let left = [("a", of_one), ("b", of_told)];
    open_again(&mut script, Milestone::PowerLost, 1_048_579, &left);
    assert_eq!(found(script), []);
}

#[test]
fn keyspaces_that_come_and_go_unasked_are_found() {
    let mut script = opened();
    script.history.passes(Milestone::Killed);
    script.history.passes(Milestone::Opened(0, vec![(0, 1), (1, 2)]));
    assert_eq!(found(script), [Wrong::Structure]);
    let mut script = opened();
    script.history.passes(Milestone::Creating(1));
    script.history.passes(Milestone::Killed);
    script.history.passes(Milestone::Opened(0, vec![(0, 1), (1, 2)]));
    script.history.passes(Milestone::Killed);
    script.history.passes(Milestone::Opened(0, vec![(0, 1)]));
    assert_eq!(found(script), [Wrong::Structure]);
}

/// Eight commits of which nobody was told, in the order that misses of their keys leave: the last of all that trying one
/// after another would come to.
#[test]
fn reads_say_where_untold_commits_stand() {
    let judged = |is_torn: bool| {
        let mut script = opened();
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let begun: Vec<Stamp> = (0..8)
            .map(|client| {
                let txn = script.begin(client, Promise::Batch);
                script.history.commits(txn);
                script.put(txn, keys[client as usize])
            })
            .collect();
        for (missed, key) in keys.iter().enumerate().take(7) {
            view(&mut script, 9, 7 - missed as u64, |script, reader| script.miss(reader, key));
        }
        view(&mut script, 9, 8, |script, reader| {
            script.get(reader, "a", begun[0]);
            if is_torn {
                script.miss(reader, "h");
            }
        });
        let seen: Vec<(&str, Stamp)> = keys.iter().copied().zip(begun).collect();
        open_again(&mut script, Milestone::PowerLost, 8, &seen);
        script.history.passes(Milestone::Closed);
        judge(&script.history, Rules::default())
    };
    let right = judged(false);
    assert!(right.violations.is_empty() && !right.is_undecided, "{right:?}");
    let torn = judged(true);
    assert!(!torn.violations.is_empty() && !torn.is_undecided, "{torn:?}");
}

/// Two writes of one key that nobody was told of, and an opening whose first look broke off: nobody knows which of them
/// was the later one. What they wrote is not judged until it is written again; everything else is.
#[test]
fn what_cannot_be_known_is_left_open_and_the_rest_is_judged() {
    let judged = |other: bool, again: bool| {
        let mut script = opened();
        let other_stamp = script.batch(&["b"])[0];
        let untold: Vec<Stamp> = (0..2)
            .map(|client| {
                let txn = script.begin(client, Promise::Batch);
                script.history.commits(txn);
                script.put(txn, "a")
            })
            .collect();
        script.history.passes(Milestone::Killed);
        script.history.passes(Milestone::Opened(3, vec![(0, 1)]));
        script.opening += 1;
        let survey = script.begin(SURVEYOR, Promise::View);
        script.history.of(survey).view = Some(3);
        script.history.ends(survey, Ending::Committed(3));
        view(&mut script, 1, 3, |script, reader| {
            if other {
                script.get(reader, "b", other_stamp);
            } else {
                script.miss(reader, "b");
            }
            script.get(reader, "a", untold[0]);
        });
        if again {
            let writer = script.begin(2, Promise::Batch);
            script.put(writer, "a");
            script.commit_as(writer, 4);
            view(&mut script, 1, 4, |script, reader| script.get(reader, "a", untold[1]));
        }
        script.history.passes(Milestone::Closed);
        let judgment = judge(&script.history, Rules::default());
        assert!(!judgment.is_undecided);
        judgment.violations.into_iter().map(|violation| violation.wrong).collect::<Vec<_>>()
    };
    assert_eq!(judged(true, false), []);
    assert_eq!(judged(false, false), [Wrong::LostWrite]);
    assert_eq!(judged(true, true), [Wrong::LostWrite]);
}
