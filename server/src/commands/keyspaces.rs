//! Lists, makes and drops keyspaces.

use holdfast::escaped::escape;
use holdfast::{KeyspaceInfo, KeyspaceOptions};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value as Json, json};

use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::store::{close_written, open_to_look, open_to_write};

pub(super) fn run(
    database: &Database,
    global: &Global,
    create: Option<&str>,
    drop: Option<&str>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    if create.is_none() && drop.is_none() {
        let store = open_to_look(database, global)?;
        for info in store.keyspaces()? {
            out.say(line(&info), object(&info))?;
        }
        store.close()?;
        return Ok(Exit::Good);
    }
    if drop == Some(holdfast::DEFAULT_KEYSPACE) {
        return Err(Failure::WrongUse(
            "the keyspace default belongs to every database, and the next opening would make it again; \
             `holdfast delete DB --prefix ''` deletes what is in it"
                .into(),
        ));
    }
    let db = open_to_write(database, global, false)?;
    if let Some(name) = create {
        let keyspace = db.create_keyspace(name, KeyspaceOptions::default())?;
        out.say(
            format_args!("made {}", escape(name.as_bytes())),
            json!({ "created": name, "id": keyspace.id().get() }),
        )?;
    }
    if let Some(name) = drop {
        db.drop_keyspace(&db.keyspace(name)?)?;
        out.say(format_args!("dropped {}", escape(name.as_bytes())), json!({ "dropped": name }))?;
    }
    close_written(db, global);
    Ok(Exit::Good)
}

/// A keyspace in one line for people.
pub(super) fn line(info: &KeyspaceInfo) -> String {
    let tables: u64 = info.levels.iter().map(|level| level.tables).sum();
    format!(
        "{}  at most {} keys, {} in {tables} tables, {} in memory",
        escape(info.name.as_bytes()),
        HumanCount(info.approximate_count()),
        HumanBytes(info.table_bytes()),
        HumanBytes(info.memtable_bytes),
    )
}

/// A keyspace as JSON.
pub(super) fn object(info: &KeyspaceInfo) -> Json {
    let levels: Vec<Json> = info
        .levels
        .iter()
        .enumerate()
        .filter(|(_, level)| level.tables > 0)
        .map(|(number, level)| {
            json!({
                "level": number,
                "tables": level.tables,
                "bytes": level.bytes,
                "entries": level.entries,
                "deletes": level.deletes,
                "range_tombstones": level.range_tombstones,
                "superseded_bytes": level.superseded_bytes,
            })
        })
        .collect();
    json!({
        "keyspace": info.name,
        "id": info.id.get(),
        "keys_at_most": info.approximate_count(),
        "table_bytes": info.table_bytes(),
        "memtable_entries": info.memtable_entries,
        "memtable_bytes": info.memtable_bytes,
        "levels": levels,
    })
}
