//! Single keys and ranges: get, put, delete, scan, count.

use std::ops::Bound;

use holdfast::blocking::{Keyspace, Txn};
use holdfast::{Durability, Scan, Seq, WriteBatch};
use serde_json::json;

use crate::cli::{Database, Global, KeyBounds, Range};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::store::{View, close_written, keyspace, open_to_look, open_to_write, options};
use crate::visible::beginning;

pub(super) fn get(
    database: &Database,
    global: &Global,
    key: &str,
    at: Option<u64>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let bytes = global.key(key)?;
    let store = open_to_look(database, global)?;
    get_from(&store.view(global, at)?, global, key, &bytes, out)?;
    store.close()?;
    Ok(Exit::Good)
}

/// Prints the value of a key as a view sees it.
pub(super) fn get_from(
    view: &View<'_>,
    global: &Global,
    shown_key: &str,
    key: &[u8],
    out: &mut Output,
) -> Result<(), Failure> {
    match view.get(key)? {
        Some(value) => out.value(key, &value),
        None => Err(Failure::Problem(format!(
            "there is no key {} in keyspace {}",
            beginning(shown_key),
            global.keyspace
        ))),
    }
}

pub(super) fn put(
    database: &Database,
    global: &Global,
    key: &str,
    value: &[u8],
    create: bool,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let key = global.key(key)?;
    // Nothing is made for what no database takes.
    options(global, create).check_put(&key, value)?;
    let db = open_to_write(database, global, create)?;
    let seq = keyspace(&db, global, create)?.put(key, value)?;
    close_written(db, global);
    out.say(format_args!("commit {seq}"), json!({ "seq": seq.get() }))?;
    Ok(Exit::Good)
}

pub(super) fn delete(
    database: &Database,
    global: &Global,
    key: &str,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let key = global.key(key)?;
    let db = open_to_write(database, global, false)?;
    let seq = keyspace(&db, global, false)?.delete(key)?;
    close_written(db, global);
    out.say(format_args!("commit {seq}"), json!({ "seq": seq.get() }))?;
    Ok(Exit::Good)
}

pub(super) fn delete_range(
    database: &Database,
    global: &Global,
    range: &Range,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let bounds = range.bounds(global)?;
    let db = open_to_write(database, global, false)?;
    let keyspace = keyspace(&db, global, false)?;
    let batch = delete_batch(&keyspace, bounds)?;
    let seq = batch.map(|batch| db.write(batch, Durability::Sync)).transpose()?;
    close_written(db, global);
    tell_deleted(seq, out)?;
    Ok(Exit::Good)
}

/// Tells of the delete of a range; without a commit, that there was nothing to delete.
pub(super) fn tell_deleted(seq: Option<Seq>, out: &mut Output) -> Result<(), Failure> {
    match seq {
        Some(seq) => out.say(format_args!("commit {seq}"), json!({ "deleted": true, "seq": seq.get() })),
        None => {
            out.say("nothing to delete: no key lies in the range", json!({ "deleted": false, "seq": null }))
        }
    }
}

/// The delete of a range that may be open upwards; `None` if nothing lies in it.
pub(super) fn delete_batch(
    keyspace: &Keyspace,
    (start, end): KeyBounds,
) -> Result<Option<WriteBatch>, Failure> {
    let start = first_key(start);
    let mut found =
        keyspace.scan(Scan::range::<Vec<u8>>((Bound::Included(start.clone()), end.clone())).limit(1))?;
    if found.next()?.is_none() {
        return Ok(None);
    }
    let mut batch = WriteBatch::new();
    let end = match end {
        Bound::Excluded(end) | Bound::Included(end) => end,
        // A range delete ends before a key, so the greatest one goes by itself.
        Bound::Unbounded => {
            let mut last = keyspace.scan(Scan::range(start.clone()..).reverse().limit(1))?;
            let Some(last) = last.next()? else { return Ok(None) };
            batch.delete(keyspace.id(), last.key).map_err(holdfast::Error::from)?;
            last.key.to_vec()
        }
    };
    if start < end {
        batch.delete_range(keyspace.id(), &start, &end).map_err(holdfast::Error::from)?;
    }
    Ok((!batch.is_empty()).then_some(batch))
}

/// The same within a transaction; false if nothing lies in it. What a bounded range holds is not looked at, so that the
/// transaction does not depend on it.
pub(super) fn delete_range_in(
    txn: &mut Txn,
    keyspace: &Keyspace,
    (start, end): KeyBounds,
) -> Result<bool, Failure> {
    let start = first_key(start);
    let end = match end {
        Bound::Excluded(end) | Bound::Included(end) if start >= end => return Ok(false),
        Bound::Excluded(end) | Bound::Included(end) => end,
        Bound::Unbounded => {
            let mut last = txn.scan(keyspace, Scan::range(start.clone()..).reverse().limit(1))?;
            let Some(last) = last.next()?.map(|last| last.key.to_vec()) else { return Ok(false) };
            txn.delete(keyspace, &last)?;
            last
        }
    };
    if start < end {
        txn.delete_range(keyspace, start, end)?;
    }
    Ok(true)
}

/// The least key that a lower bound lets in; the arguments only make bounds that include it.
pub(super) fn first_key(start: Bound<Vec<u8>>) -> Vec<u8> {
    match start {
        Bound::Included(start) | Bound::Excluded(start) => start,
        Bound::Unbounded => Vec::new(),
    }
}

/// The walk that the arguments describe.
pub(super) fn scan_of(
    range: &Range,
    global: &Global,
    reverse: bool,
    limit: Option<u64>,
) -> Result<Scan, Failure> {
    let mut scan = Scan::range::<Vec<u8>>(range.bounds(global)?);
    if reverse {
        scan = scan.reverse();
    }
    Ok(match limit {
        Some(limit) => scan.limit(limit),
        None => scan,
    })
}

pub(super) fn scan(
    database: &Database,
    global: &Global,
    scan: Scan,
    at: Option<u64>,
    keys_only: bool,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let store = open_to_look(database, global)?;
    scan_from(&store.view(global, at)?, scan, None, keys_only, out)?;
    out.flush()?;
    store.close()?;
    Ok(Exit::Good)
}

/// How much of a walk was printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// All of it.
    All,
    /// As many rows as were wanted; there are more.
    Beginning,
}

/// Prints what a view sees of a range, `rows_max` at most.
pub(super) fn scan_from(
    view: &View<'_>,
    scan: Scan,
    rows_max: Option<u64>,
    keys_only: bool,
    out: &mut Output,
) -> Result<Shown, Failure> {
    let mut cursor = view.scan(scan)?;
    let mut rows = 0;
    while let Some(entry) = cursor.next()? {
        if Some(rows) == rows_max {
            return Ok(Shown::Beginning);
        }
        out.entry(entry.key, (!keys_only).then_some(entry.value))?;
        rows += 1;
    }
    Ok(Shown::All)
}

pub(super) fn count(
    database: &Database,
    global: &Global,
    range: &Range,
    at: Option<u64>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let scan = scan_of(range, global, false, None)?;
    let store = open_to_look(database, global)?;
    let count = store.view(global, at)?.scan(scan)?.count()?;
    store.close()?;
    out.say(count, json!({ "count": count }))?;
    Ok(Exit::Good)
}

pub(super) fn count_approximately(
    database: &Database,
    global: &Global,
    range: &Range,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let bounds = range.bounds(global)?;
    let store = open_to_look(database, global)?;
    if *range != Range::default() {
        let count = store.approximate_count(global, bounds)?;
        store.close()?;
        out.say(format_args!("about {count}"), json!({ "count_about": count }))?;
        return Ok(Exit::Good);
    }
    let infos = store.keyspaces()?;
    let Some(info) = infos.iter().find(|info| info.name == global.keyspace) else {
        let names: Vec<_> = infos.iter().map(|info| info.name.as_str()).collect();
        let wanted = &global.keyspace;
        return Err(Failure::WrongUse(format!(
            "there is no keyspace {wanted}; there are: {}",
            names.join(", ")
        )));
    };
    let count = info.approximate_count();
    store.close()?;
    out.say(format_args!("at most {count}"), json!({ "count_at_most": count }))?;
    Ok(Exit::Good)
}
