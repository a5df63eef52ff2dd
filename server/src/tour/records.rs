//! The data of the tour: every assigned Unicode character, with two indexes.
//!
//! ```text
//! default      the character, UTF-8    -> {"character":"a","name":"LATIN SMALL LETTER A",…}
//! by_script    (script, character)     -> nothing
//! by_category  (category, character)   -> nothing
//! ```
//! UTF-8 sorts as code points do, so a scan goes through Unicode in order.

use std::time::Instant;

use holdfast::blocking::Db;
use holdfast::key::EncodeKey;
use holdfast::{Durability, KeyspaceOptions, WriteBatch};
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use super::teller::Teller;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::unicode;

const BATCH_CHARACTERS: usize = 2000;

/// The value under a character.
#[derive(Serialize, Deserialize)]
pub(super) struct CharacterRecord {
    pub character: String,
    pub name: String,
    pub category: String,
    pub script: String,
}

pub(super) fn import(db: &Db, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.begin("Real data: every assigned Unicode character, and two indexes")?;
    let create = |name| db.create_keyspace(name, KeyspaceOptions::default());
    let characters = db.default_keyspace()?;
    let by_script = create("by_script")?;
    let by_category = create("by_category")?;
    let started = Instant::now();
    let mut progress = Progress::start("importing", Some(unicode::COUNT as u64));
    let mut batch = WriteBatch::new();
    let (mut count, mut commits) = (0u64, 0u64);
    for character in unicode::characters() {
        let value = character.value.to_string();
        let record = CharacterRecord {
            name: character.name,
            character: value.clone(),
            category: character.category.to_string(),
            script: character.script.to_string(),
        };
        let record = serde_json::to_vec(&record).expect("four texts are JSON");
        let added = batch
            .put(characters.id(), value.as_bytes(), &record)
            .and_then(|()| batch.put(by_script.id(), &(character.script, value.as_str()).encode_key(), &[]))
            .and_then(|()| {
                batch.put(by_category.id(), &(character.category, value.as_str()).encode_key(), &[])
            });
        added.map_err(holdfast::Error::from)?;
        count += 1;
        progress.add(1);
        if batch.len() >= 3 * BATCH_CHARACTERS {
            db.write(std::mem::take(&mut batch), Durability::Sync)?;
            commits += 1;
        }
    }
    db.write(batch, Durability::Sync)?;
    commits += 1;
    progress.finish();
    let elapsed = started.elapsed();
    let entries = 3 * count;
    let rate =
        u64::try_from(u128::from(entries) * 1_000_000 / elapsed.as_micros().max(1)).unwrap_or(u64::MAX);
    teller.line(format_args!(
        "{} characters in {commits} durable commits, each over three keyspaces: all of it or none",
        HumanCount(count)
    ))?;
    teller.line(format_args!(
        "{} entries in {:.2} s, {} a second",
        HumanCount(entries),
        elapsed.as_secs_f64(),
        HumanCount(rate)
    ))?;
    teller.must(count == unicode::COUNT as u64, "each character was imported")?;
    teller.fact("characters", count);
    teller.fact("entries", entries);
    teller.fact("commits", commits);
    teller.fact("entries_per_s", rate);
    teller.end()
}
