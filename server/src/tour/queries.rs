//! Looking things up, and transactions.

use std::time::Instant;

use holdfast::blocking::{Db, Keyspace};
use holdfast::key::{DecodeKey, prefix_range};
use holdfast::{Error, Scan};
use indicatif::HumanCount;

use super::records::CharacterRecord;
use super::teller::Teller;
use crate::exit::Failure;
use crate::unicode;

/// The runes in Unicode 17.0.
const RUNES: u64 = 86;
const CRAB: &str = "🦀";

pub(super) fn look_up(db: &Db, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.begin("Queries")?;
    let characters = db.default_keyspace()?;
    let value = characters.get(CRAB)?;
    let crab: Option<CharacterRecord> = value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
    teller.must(crab.as_ref().is_some_and(|crab| crab.name == "CRAB"), "the crab is a crab")?;
    if let Some(CharacterRecord { name, category, script, .. }) = crab {
        teller.line(format_args!("a key        {CRAB} is {name}, category {category}, script {script}"))?;
    }

    let by_script = db.keyspace("by_script")?;
    let (start, end) = prefix_range(&("Runic",));
    let mut runes = by_script.scan(Scan::range(start..end))?;
    let (mut count, mut first) = (0, String::new());
    while let Some(entry) = runes.next()? {
        count += 1;
        if count <= 8
            && let Ok((_, rune)) = <(String, String)>::decode_key(entry.key)
        {
            first += &format!("{rune} ");
        }
    }
    teller.line(format_args!("a prefix     {count} runes, the first are {first}"))?;
    teller.must(count == RUNES, format_args!("there are {RUNES} runes"))?;

    let mut last = characters.scan(Scan::all().reverse().limit(1))?;
    let last: Option<CharacterRecord> =
        last.next()?.and_then(|entry| serde_json::from_slice(entry.value).ok());
    let last = last.map(|last| last.name).unwrap_or_default();
    teller.line(format_args!("backwards    the last of all is {last}"))?;
    teller.must(last == "VARIATION SELECTOR-256", "the last character is a variation selector")?;

    let started = Instant::now();
    let mut all = characters.scan(Scan::all())?;
    let count = all.count()?;
    let elapsed = started.elapsed();
    let rate = u64::try_from(u128::from(count) * 1_000_000 / elapsed.as_micros().max(1)).unwrap_or(u64::MAX);
    teller.line(format_args!(
        "everything   {} records in {:.0} ms, {} a second",
        HumanCount(count),
        elapsed.as_secs_f64() * 1000.0,
        HumanCount(rate)
    ))?;
    teller.must(count == unicode::COUNT as u64, "a full scan finds each character")?;
    teller.fact("runes", RUNES);
    teller.fact("scanned_per_s", rate);

    let per_s = random_gets(&characters, teller)?;
    teller.line(format_args!("at random    {} look-ups a second, each right", HumanCount(per_s)))?;
    teller.fact("gets_per_s", per_s);
    teller.end()
}

fn random_gets(characters: &Keyspace, teller: &mut Teller<'_>) -> Result<u64, Failure> {
    const GETS: u64 = 50_000;
    let all: Vec<char> = unicode::characters().map(|character| character.value).collect();
    let (started, mut state) = (Instant::now(), 1u64);
    let mut missing = 0u64;
    for _ in 0..GETS {
        // A linear congruential generator is random enough to defeat any order.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = all[(state >> 33) as usize % all.len()];
        missing += u64::from(characters.get(value.encode_utf8(&mut [0; 4]))?.is_none());
    }
    teller.must(missing == 0, "each assigned character is found")?;
    let us = started.elapsed().as_micros().max(1);
    Ok(u64::try_from(u128::from(GETS) * 1_000_000 / us).unwrap_or(u64::MAX))
}

pub(super) fn transactions(db: &Db, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.begin("Transactions")?;
    let characters = db.default_keyspace()?;
    let count = || -> Result<u64, Failure> { Ok(characters.scan(Scan::all())?.count()?) };
    let (all, before) = (count()?, db.last_seq());

    let mut txn = db.begin(Default::default());
    txn.delete_range(&characters, "A", "ﷺ")?;
    let inside = txn.scan(&characters, Scan::all())?.count()?;
    teller.line(format_args!(
        "a transaction deletes {} characters; it sees {}, everybody else still {}",
        HumanCount(all - inside),
        HumanCount(inside),
        HumanCount(count()?)
    ))?;
    txn.rollback();
    teller.must(count()? == all && inside < all, "a rollback leaves everything as it was")?;
    teller.line("rolled back: nothing happened")?;

    let one = db.begin(Default::default());
    let mut other = db.begin(Default::default());
    other.put(&characters, CRAB, "taken")?;
    let seq = other.commit()?;
    let mut one = one;
    let seen = one.get(&characters, CRAB)?;
    teller.must(seen.is_some_and(|value| value != "taken"), "a transaction sees the moment it began")?;
    one.put(&characters, "note", "written because of what was read")?;
    let refused = one.commit();
    teller
        .must(matches!(refused, Err(Error::Conflict(_))), "a transaction that read what changed conflicts")?;
    if let Err(conflict) = refused {
        teller.line(format_args!("two at once: one committed as {seq}, the other was told: {conflict}"))?;
    }

    let past = db.at(before)?;
    let then = past.get(&characters, CRAB)?;
    teller.must(then.as_deref().is_some_and(|value| value != b"taken"), "the past can be read")?;
    teller.line(format_args!("the past: as of commit {before} the crab is still what it was"))?;
    if let Some(value) = then {
        characters.put(CRAB, &value)?;
    }
    teller.fact("conflicts", 1);
    teller.end()
}
