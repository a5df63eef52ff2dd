//! Registers that are right and wrong, and the search against trying every order.

use super::search::{Found, Step, search};
use super::*;
use crate::Random;
use crate::history::Promise::{Batch, Serializable, View};
use crate::oracle::script::Script;

fn wrongs(script: &Script) -> Vec<Wrong> {
    let verdict = check(&script.history, SITUATIONS_MAX);
    assert!(verdict.undecided.is_empty());
    verdict.violations.iter().map(|violation| violation.wrong).collect()
}

/// A read that begins and ends here.
fn reads(script: &mut Script, key: &str, seen: Option<Stamp>) {
    let reader = script.begin(5, View);
    match seen {
        Some(stamp) => script.get(reader, key, stamp),
        None => script.miss(reader, key),
    }
    script.commit_as(reader, 0);
}

#[test]
fn what_was_acknowledged_is_seen() {
    let mut script = Script::default();
    reads(&mut script, "x", None);
    let first = script.batch(&["x", "y"]);
    reads(&mut script, "x", Some(first[0]));
    let second = script.batch(&["x"]);
    reads(&mut script, "x", Some(second[0]));
    reads(&mut script, "y", Some(first[1]));
    assert_eq!(wrongs(&script), []);
    reads(&mut script, "x", Some(first[0]));
    let verdict = check(&script.history, SITUATIONS_MAX);
    let text = verdict.violations[0].to_string();
    assert!(text.contains("x. It holds the value of operation 0 of T3 at best when\n"), "{text}");
    assert!(text.contains("T6 (client 5) saw the value of operation 0 of T1 between"), "{text}");
}

#[test]
fn a_value_that_was_seen_does_not_go_back() {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let writer = script.begin(0, Batch);
    let new = script.put(writer, "x");
    script.history.commits(writer);
    reads(&mut script, "x", Some(old[0]));
    reads(&mut script, "x", Some(new));
    assert_eq!(wrongs(&script), []);
    reads(&mut script, "x", Some(old[0]));
    script.history.ends(writer, Ending::Committed(2));
    assert_eq!(wrongs(&script), [Wrong::OrderViolated]);
}

#[test]
fn overlapping_reads_may_see_either() {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let (writer, one, other) = (script.begin(0, Batch), script.begin(1, View), script.begin(2, View));
    let new = script.put(writer, "x");
    script.history.commits(writer);
    script.get(one, "x", new);
    script.get(other, "x", old[0]);
    script.commit_as(one, 2);
    script.commit_as(other, 1);
    script.history.ends(writer, Ending::Committed(2));
    assert_eq!(wrongs(&script), []);
}

#[test]
fn an_untold_write_may_come_late_or_never_but_only_once() {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let writer = script.begin(0, Batch);
    let late = script.put(writer, "x");
    script.end(writer, Ending::Unknown);
    reads(&mut script, "x", Some(old[0]));
    assert_eq!(wrongs(&script), []);
    reads(&mut script, "x", Some(late));
    let new = script.batch(&["x"]);
    reads(&mut script, "x", Some(new[0]));
    assert_eq!(wrongs(&script), []);
    reads(&mut script, "x", Some(late));
    assert_eq!(wrongs(&script), [Wrong::OrderViolated]);
}

#[test]
fn an_untold_deletion_explains_one_absence() {
    let mut script = Script::default();
    script.batch(&["x"]);
    let deleter = script.begin(0, Batch);
    script.delete_range(deleter, "a", "z");
    script.end(deleter, Ending::Unknown);
    reads(&mut script, "x", None);
    script.batch(&["x"]);
    assert_eq!(wrongs(&script), []);
    reads(&mut script, "x", None);
    assert_eq!(wrongs(&script), [Wrong::OrderViolated]);
}

#[test]
fn of_two_who_replace_the_same_value_one_is_wrong() {
    let mut script = Script::default();
    let old = script.batch(&["x"]);
    let (a, b) = (script.begin(0, Serializable), script.begin(1, Serializable));
    for txn in [a, b] {
        script.get(txn, "x", old[0]);
        script.put(txn, "x");
    }
    script.commit(a);
    script.end(b, Ending::Conflict);
    assert_eq!(wrongs(&script), []);
    script.history.of(b).ending = Ending::Committed(3);
    assert_eq!(wrongs(&script), [Wrong::OrderViolated]);
}

#[test]
fn values_without_effect_are_named() {
    let mut script = Script::default();
    let writer = script.begin(0, Batch);
    let (first, last) = (script.put(writer, "x"), script.put(writer, "x"));
    script.end(writer, Ending::Conflict);
    reads(&mut script, "x", Some(last));
    reads(&mut script, "y", Some(last));
    assert_eq!(wrongs(&script), [Wrong::DirtyRead, Wrong::Garbage]);
    script.history.of(writer).ending = Ending::Committed(1);
    reads(&mut script, "x", Some(first));
    assert_eq!(wrongs(&script), [Wrong::Garbage, Wrong::IntermediateRead]);
}

#[test]
fn the_limit_is_told() {
    let mut script = Script::default();
    let writers: Vec<_> = (0..12).map(|client| script.begin(client, Batch)).collect();
    let stamps: Vec<_> = writers.iter().map(|writer| script.put(*writer, "x")).collect();
    writers.iter().for_each(|writer| script.history.commits(*writer));
    for (number, writer) in (1..).zip(&writers) {
        script.history.ends(*writer, Ending::Committed(number));
    }
    for stamp in [stamps[0], stamps[1]] {
        reads(&mut script, "x", Some(stamp));
    }
    let verdict = check(&script.history, 1000);
    assert_eq!(verdict.undecided.len(), 1);
    assert_eq!(wrongs(&script), [Wrong::OrderViolated]);
}

/// True if some order of all steps and any of the optional ones fits, by trying them all.
fn has_order(steps: &[Step], optional: &[Step], state: State, used: &mut [bool]) -> bool {
    let all = || steps.iter().chain(optional);
    let ends = steps.iter().zip(&*used).filter(|(_, used)| !**used).map(|(step, _)| step.to);
    let Some(earliest_end) = ends.min() else { return true };
    for (at, step) in all().enumerate() {
        if used[at] || step.from > earliest_end || step.saw.is_some_and(|saw| saw != state) {
            continue;
        }
        used[at] = true;
        let is_found = has_order(steps, optional, step.left.unwrap_or(state), used);
        used[at] = false;
        if is_found {
            return true;
        }
    }
    false
}

quickcheck::quickcheck! {
    fn the_search_finds_an_order_if_there_is_one(seed: u64) -> bool {
        let mut random = Random::new(seed);
        let mut steps = |count: u64, ends: bool| {
            let mut steps: Vec<Step> = (0..count).map(|_| {
                let from = random.below(20);
                let to = if ends { from + random.below(9) } else { u64::MAX };
                let kind = if ends { random.below(3) } else { 1 + random.below(2) };
                Step {
                    from,
                    to,
                    saw: (kind != 1).then(|| random.below(3) as State),
                    left: (kind != 0).then(|| random.below(3) as State),
                }
            }).collect();
            steps.sort_by_key(|step| step.from);
            steps
        };
        let (certain, optional) = (steps(6, true), steps(2, false));
        let expected = has_order(&certain, &optional, 0, &mut [false; 8]);
        (search(&certain, &optional, SITUATIONS_MAX) == Found::Order) == expected
    }

    fn a_register_that_works_is_right_and_one_that_forgets_is_not(seed: u64) -> bool {
        run(seed, false).is_empty() && (0..20).any(|more| !run(seed ^ more, true).is_empty())
    }
}

/// Four clients at one register; if it forgets, reads now and then show what was there before.
fn run(seed: u64, forgets: bool) -> Vec<Violation> {
    let mut random = Random::new(seed);
    let mut script = Script::default();
    let (mut now, mut before) = (None, None);
    let mut clients: [Option<(TxnNo, Option<Stamp>, bool)>; 4] = [None; 4];
    for _ in 0..400 {
        let client = random.below(4) as usize;
        clients[client] = match clients[client] {
            None if random.one_in(2) => Some((script.begin(client as u32, View), None, false)),
            None => {
                let txn = script.begin(client as u32, Batch);
                let stamp = (!random.one_in(4)).then(|| script.put(txn, "x"));
                if stamp.is_none() {
                    script.delete(txn, "x");
                }
                script.history.commits(txn);
                Some((txn, stamp, false))
            }
            Some((txn, stamp, false)) => {
                if script.history.of(txn).promise == Batch {
                    (before, now) = (now, stamp);
                } else {
                    let shown = if forgets && random.one_in(8) { before } else { now };
                    match shown {
                        Some(stamp) => script.get(txn, "x", stamp),
                        None => script.miss(txn, "x"),
                    }
                }
                Some((txn, stamp, true))
            }
            Some((txn, _, true)) => {
                if !random.one_in(10) {
                    script.history.ends(txn, Ending::Committed(1));
                }
                None
            }
        };
    }
    check(&script.history, SITUATIONS_MAX).violations
}
