//! Small random histories of Serializable transactions, against trying every order.
//!
//! A history is good if there is an order of its transactions in which each sees what was left before it, and in which
//! the versions of each key stand as their numbers do. The judge must find exactly the others, but may let one pass
//! where a read of nothing has several explanations.

use std::collections::BTreeMap;

use super::*;
use crate::Random;
use crate::history::{Operation, Stamp, TxnNo};
use crate::oracle::script::cell;

const KEYS: [&str; 3] = ["x", "y", "z"];

/// All transactions overlap, so that real time says nothing. Each reads first, and then writes.
fn random_history(seed: u64, deletes: bool) -> Script {
    let mut random = Random::new(seed);
    let mut script = Script::default();
    let count = 2 + random.below(4) as u32;
    let all: Vec<TxnNo> = (0..count).map(|client| script.begin(client, Serializable)).collect();
    // Which keys each puts must be known before anybody can read them: reads come first and are made up later.
    let mut plans: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for _ in &all {
        let mut some = || KEYS.into_iter().filter(|_| random.one_in(2)).collect::<Vec<_>>();
        plans.push((some(), some()));
    }
    let mut puts: Vec<(&str, Stamp)> = Vec::new();
    for (txn, (reads, writes)) in all.iter().zip(&plans) {
        for (at, key) in (reads.len() as u32..).zip(writes) {
            if !(deletes && random.one_in(3)) {
                puts.push((key, Stamp { txn: *txn, operation: at }));
            }
        }
    }
    for (txn, (reads, _)) in all.iter().zip(&plans) {
        for key in reads {
            let others = puts.iter().filter(|(of, stamp)| of == key && stamp.txn != *txn);
            let others: Vec<Stamp> = others.map(|(_, stamp)| *stamp).collect();
            match random.below(others.len() as u64 + 1) as usize {
                0 => script.miss(*txn, key),
                at => script.get(*txn, key, others[at - 1]),
            }
        }
    }
    for (txn, (_, writes)) in all.iter().zip(&plans) {
        for key in writes {
            if puts.iter().any(|(of, stamp)| of == key && stamp.txn == *txn) {
                script.put(*txn, key);
            } else {
                script.delete(*txn, key);
            }
        }
    }
    all.iter().for_each(|txn| script.history.commits(*txn));
    for (number, txn) in (1..).zip(&all) {
        script.history.ends(*txn, Ending::Committed(number));
    }
    script
}

type State = BTreeMap<String, (TxnNo, Option<Stamp>)>;

/// True if the transactions that are not in `done` can follow on `state` in some order.
fn has_order(script: &Script, done: &mut Vec<TxnNo>, state: &State) -> bool {
    let transactions = &script.history.transactions;
    if done.len() == transactions.len() {
        return true;
    }
    for (txn, transaction) in (0..).zip(transactions) {
        if done.contains(&txn) {
            continue;
        }
        let mut after = state.clone();
        let fits = (0..).zip(&transaction.operations).all(|(operation, did)| {
            let (of, left) = match did {
                Operation::Get { cell: of, found } => {
                    let held = KEYS.iter().find(|key| cell(key) == *of).and_then(|key| state.get(*key));
                    return held.and_then(|(_, stamp)| *stamp) == found.as_ref().map(|value| value.stamp);
                }
                Operation::Put { cell: of, .. } => (of, Some(Stamp { txn, operation })),
                Operation::Delete { cell: of } => (of, None),
                _ => return false,
            };
            let key = String::from_utf8_lossy(&of.key).into_owned();
            let before = after.insert(key, (txn, left));
            before.is_none_or(|(before, _)| before < txn)
        });
        if fits {
            done.push(txn);
            let is_found = has_order(script, done, &after);
            done.pop();
            if is_found {
                return true;
            }
        }
    }
    false
}

quickcheck::quickcheck! {
    fn without_deletions_exactly_what_has_no_order_is_wrong(seed: u64) -> bool {
        let script = random_history(seed, false);
        judge(&script).is_empty() == has_order(&script, &mut Vec::new(), &State::new())
    }

    fn with_deletions_nothing_that_has_an_order_is_wrong(seed: u64) -> bool {
        let script = random_history(seed, true);
        judge(&script).is_empty() || !has_order(&script, &mut Vec::new(), &State::new())
    }
}

#[test]
fn random_histories_are_of_both_kinds() {
    let wrong = (0..200).filter(|seed| !judge(&random_history(*seed, false)).is_empty()).count();
    assert!((20..180).contains(&wrong), "{wrong} of 200 are wrong");
}
