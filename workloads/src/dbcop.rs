//! A history in the raw JSON format of dbcop, for outside checkers.
//!
//! dbcop (Biswas and Enea, "On the Complexity of Checking Transactional Consistency", OOPSLA 2019) has two forms of it,
//! which differ in how an event is written:
//!
//! ```text
//! history     [session, ...]                      a session for each client
//! session     [transaction, ...]                  in the order in which they began
//! transaction {"events": [event, ...], "committed": bool}      in the form of 2019 "success" for "committed"
//! event       {"Read": {"variable": n, "version": n or null}}, {"Write": {"variable": n, "version": n}}
//!             in the form of 2019 {"write": bool, "variable": n, "value": n, "success": bool}; 0 is never written
//! file        {"params": {...}, "info": text, "start": time, "end": time, "data": history}
//! ```
//! A variable is a key, numbered from 0 in order of keyspace and key. A version is a put, numbered from 1 in the order
//! of the history, so that each is unique. Both forms want to know the outcome of every transaction, so one whose end
//! was not told counts as committed if another transaction saw a value of its, else as not. One that never came to its
//! commit, and one that was refused, is there and not committed.
//!
//! **What is lost.** Scans: only the keys that they found are there, each as a read; what they did not find is not.
//! Deletions: there is no event for them, so a read of nothing is written only for keys that no transaction deletes,
//! alone or in a range, and left out for all others. What values say, commit numbers, views, promises, times and
//! openings: outside checkers judge all transactions by one level, and know the order within a client only. A history
//! in which a crash took acknowledged commits looks wrong to them and should not be given to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::history::{Ending, History, Operation, Stamp, Transaction, TxnNo, Value};

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As dbcop has it since 0.2.
    Tagged,
    /// As it was published, and as other checkers read it.
    Flags,
}

/// The sessions of `history`.
pub fn sessions(history: &History, form: Form) -> Json {
    let export = Export::of(history, form);
    let mut sessions: BTreeMap<u32, Vec<Json>> = BTreeMap::new();
    for (number, transaction) in (0..).zip(&history.transactions) {
        sessions.entry(transaction.client).or_default().push(export.transaction(number, transaction));
    }
    sessions.into_values().map(Json::Array).collect()
}

/// The sessions of `history` in the frame that dbcop's command line reads. There are no times in it but the beginning
/// of time, so that one history gives one file.
pub fn file(history: &History, form: Form, info: &str) -> Json {
    let data = sessions(history, form);
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let list = data.as_array().map_or(&[][..], Vec::as_slice);
    let in_session = longest(&mut list.iter().map(|session| session.as_array().map_or(0, Vec::len)));
    let in_transaction = longest(&mut history.transactions.iter().map(|each| each.operations.len()));
    json!({
        "params": {
            "id": 0,
            "n_node": list.len(),
            "n_variable": Export::of(history, form).variables.len(),
            "n_transaction": in_session,
            "n_event": in_transaction,
        },
        "info": info,
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T00:00:00Z",
        "data": data,
    })
}

/// A key as it is looked up.
type Key<'a> = (u32, &'a [u8]);

struct Export<'a> {
    form: Form,
    variables: BTreeMap<Key<'a>, usize>,
    versions: BTreeMap<Stamp, usize>,
    deleted: BTreeSet<Key<'a>>,
    seen: BTreeSet<TxnNo>,
}

impl<'a> Export<'a> {
    fn of(history: &'a History, form: Form) -> Self {
        let mut export = Self {
            form,
            variables: BTreeMap::new(),
            versions: BTreeMap::new(),
            deleted: BTreeSet::new(),
            seen: BTreeSet::new(),
        };
        for (number, transaction) in (0..).zip(&history.transactions) {
            for operation in &transaction.operations {
                export.note(number, operation);
            }
        }
        for (place, number) in export.variables.values_mut().enumerate() {
            *number = place;
        }
        for operation in history.transactions.iter().flat_map(|transaction| &transaction.operations) {
            if let Operation::DeleteRange { keyspace, interval } = operation {
                let keys = export.variables.keys();
                let inside = keys.filter(|(of, key)| of == keyspace && interval.contains(key));
                export.deleted.extend(inside);
            }
        }
        export
    }

    fn note(&mut self, number: TxnNo, operation: &'a Operation) {
        let mut sees = |value: &Value| {
            if value.stamp.txn != number {
                self.seen.insert(value.stamp.txn);
            }
        };
        match operation {
            Operation::Get { cell, found } => {
                found.iter().for_each(&mut sees);
                self.variables.insert((cell.keyspace, &cell.key), 0);
            }
            Operation::Scan { keyspace, found, .. } => {
                found.iter().for_each(|(_, value)| sees(value));
                self.variables.extend(found.iter().map(|(key, _)| ((*keyspace, &**key), 0)));
            }
            Operation::Put { cell, value } => {
                let next = self.versions.len() + 1;
                self.versions.insert(value.stamp, next);
                self.variables.insert((cell.keyspace, &cell.key), 0);
            }
            Operation::Delete { cell } => {
                self.deleted.insert((cell.keyspace, &cell.key));
                self.variables.insert((cell.keyspace, &cell.key), 0);
            }
            Operation::DeleteRange { .. } => {}
        }
    }

    fn transaction(&self, number: TxnNo, transaction: &Transaction) -> Json {
        let is_committed = match transaction.ending {
            Ending::Committed(_) => true,
            Ending::Unknown => self.seen.contains(&number),
            Ending::Conflict | Ending::Refused(_) => false,
        };
        let mut events = Vec::new();
        for operation in &transaction.operations {
            match operation {
                Operation::Get { cell, found } => {
                    let key = (cell.keyspace, &*cell.key);
                    if found.is_some() || !self.deleted.contains(&key) {
                        events.push(self.event(false, key, found.as_ref(), is_committed));
                    }
                }
                Operation::Scan { keyspace, found, .. } => {
                    for (key, value) in found {
                        events.push(self.event(false, (*keyspace, key), Some(value), is_committed));
                    }
                }
                Operation::Put { cell, value } => {
                    events.push(self.event(true, (cell.keyspace, &cell.key), Some(value), is_committed));
                }
                Operation::Delete { .. } | Operation::DeleteRange { .. } => {}
            }
        }
        match self.form {
            Form::Tagged => json!({ "events": events, "committed": is_committed }),
            Form::Flags => json!({ "events": events, "success": is_committed }),
        }
    }

    fn event(&self, write: bool, key: Key<'_>, value: Option<&Value>, success: bool) -> Json {
        let variable = self.variables.get(&key).copied().unwrap_or_default();
        // A value that nobody wrote gets a number that no write has.
        let unwritten = self.versions.len() + 1;
        let version = value.map(|value| self.versions.get(&value.stamp).copied().unwrap_or(unwritten));
        match (self.form, write) {
            (Form::Tagged, true) => json!({ "Write": { "variable": variable, "version": version } }),
            (Form::Tagged, false) => json!({ "Read": { "variable": variable, "version": version } }),
            (Form::Flags, _) => {
                let value = version.unwrap_or(0);
                json!({ "write": write, "variable": variable, "value": value, "success": success })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Promise::{Serializable, Snapshot, View};
    use crate::oracle::script::Script;

    /// Two clients, keys x (variable 0), y (1) and z (2).
    fn example() -> History {
        let mut script = Script::default();
        let writer = script.begin(3, Serializable);
        script.miss(writer, "y");
        script.miss(writer, "z");
        let x = script.put(writer, "x");
        script.end(writer, Ending::Unknown);
        let reader = script.begin(4, View);
        script.scan(reader, "a", "y", &[("x", x)]);
        script.commit_as(reader, 1);
        let refused = script.begin(4, Snapshot);
        script.put(refused, "y");
        script.delete_range(refused, "z", "zz");
        script.end(refused, Ending::Conflict);
        let untold = script.begin(3, Snapshot);
        script.put(untold, "y");
        script.end(untold, Ending::Unknown);
        script.history
    }

    #[test]
    fn sessions_are_those_of_the_clients_with_unique_versions() {
        let expected = json!([
            [
                {
                    "events": [
                        { "Read": { "variable": 1, "version": null } },
                        { "Write": { "variable": 0, "version": 1 } },
                    ],
                    "committed": true,
                },
                { "events": [{ "Write": { "variable": 1, "version": 3 } }], "committed": false },
            ],
            [
                { "events": [{ "Read": { "variable": 0, "version": 1 } }], "committed": true },
                { "events": [{ "Write": { "variable": 1, "version": 2 } }], "committed": false },
            ],
        ]);
        assert_eq!(sessions(&example(), Form::Tagged), expected);
    }

    #[test]
    fn the_older_form_has_flags_and_zero_for_nothing() {
        let sessions = sessions(&example(), Form::Flags);
        let first = json!({
            "events": [
                { "write": false, "variable": 1, "value": 0, "success": true },
                { "write": true, "variable": 0, "value": 1, "success": true },
            ],
            "success": true,
        });
        assert_eq!(sessions[0][0], first);
        assert_eq!(sessions[1][1]["success"], json!(false));
        assert_eq!(sessions[1][1]["events"][0]["success"], json!(false));
    }

    #[test]
    fn a_file_names_its_measures() {
        let file = file(&example(), Form::Tagged, "seed 7");
        let params = json!({ "id": 0, "n_node": 2, "n_variable": 3, "n_transaction": 2, "n_event": 3 });
        assert_eq!(file["params"], params);
        assert_eq!(file["info"], json!("seed 7"));
        assert_eq!(file["data"], sessions(&example(), Form::Tagged));
    }

    #[test]
    fn a_value_that_nobody_wrote_stays_one() {
        let mut script = Script::default();
        let reader = script.begin(0, View);
        script.get(reader, "x", Stamp { txn: 0, operation: 9 });
        let read = &sessions(&script.history, Form::Tagged)[0][0]["events"][0];
        assert_eq!(*read, json!({ "Read": { "variable": 0, "version": 1 } }));
    }
}
