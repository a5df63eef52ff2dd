//! The two databases that are harmed: one closed cleanly, one killed right after an acknowledged commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{Compression, Db, Durability, KeyspaceOptions, Options, Result, WriteBatch, verify};

use super::world::{Earlier, Image, MemoryWorld, SECTOR};
use crate::Random;

/// Everything together may have so many bytes.
pub const BYTES_MAX: usize = 256 << 10;

/// Keys with their values, by keyspace; a key that was deleted has none.
pub type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// A database at rest and everything that is known of it.
pub struct Subject {
    /// How it was left.
    pub name: &'static str,
    /// Its files.
    pub image: Image,
    /// Every key that ever was, and what it holds.
    pub contents: Contents,
    /// The newest acknowledged commit.
    pub last_seq: u64,
    /// What sectors held before.
    pub earlier: Earlier,
    /// The files before the last commit, of the database that was killed.
    pub before_last: Option<Image>,
    /// Bytes on which nothing depends, by file.
    pub unused: BTreeMap<String, Vec<(u64, u64)>>,
    /// Levels with tables in the deeper keyspace.
    pub levels: usize,
}

impl Subject {
    /// True if nothing depends on the byte at `offset` of file `name`.
    pub fn is_unused(&self, name: &str, offset: usize) -> bool {
        let offset = offset as u64;
        self.unused
            .get(name)
            .is_some_and(|parts| parts.iter().any(|(start, end)| (*start..*end).contains(&offset)))
    }

    /// True if sector `number` of a log held `bytes` before the last commit, and that commit changed it.
    pub fn is_newest_group(&self, name: &str, number: usize, bytes: &[u8]) -> bool {
        let Some(before) = self.before_last.as_ref().and_then(|before| before.get(name)) else {
            return false;
        };
        let range = number * SECTOR..(number + 1) * SECTOR;
        let (now, then) = (self.image.get(name).and_then(|now| now.get(range.clone())), before.get(range));
        name.ends_with(".log") && now != then && then == Some(bytes)
    }
}

/// Settings of the database under test.
pub fn options() -> Options {
    Options {
        create_if_missing: false,
        memory_limit_bytes: 8 << 20,
        memtable_bytes: 8 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        reserve_bytes: 0,
        open_files_max: 64,
        ..Options::default()
    }
}

fn keyspace_options() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: 1 << 10,
        table_bytes: 16 << 10,
        level1_bytes: 16 << 10,
        level0_tables: 2,
        level_ratio: 2,
        compression: vec![Compression::Lz4],
        ..KeyspaceOptions::default()
    }
}

/// Builds one of the two.
///
/// # Errors
/// If the database is not as it should be: too large, or too flat.
pub fn build(close: bool) -> std::result::Result<Subject, String> {
    let world = MemoryWorld::new(&Image::new());
    world.record();
    let env: Arc<dyn Env> = Arc::clone(&world) as Arc<dyn Env>;
    let filled = world.run(fill(&world, env, close))?.map_err(|error| error.to_string())?;
    let image = world.image();
    let bytes: usize = image.values().map(Vec::len).sum();
    if bytes > BYTES_MAX || filled.levels < 3 {
        let sizes: Vec<_> = image.iter().map(|(name, bytes)| format!("{name} {}", bytes.len())).collect();
        return Err(format!("{bytes} bytes in {} levels: {}", filled.levels, sizes.join(", ")));
    }
    let judge = MemoryWorld::new(&image);
    let report = judge.run(verify(Arc::clone(&judge) as Arc<dyn Env>, "/db", |_| ()))?;
    let report = report.map_err(|error| error.to_string())?;
    if !report.is_good() {
        return Err(format!("the database is not sound before it is harmed: {:?}", report.problems));
    }
    let unused = report.files.iter().map(|file| {
        (file.name.clone(), file.unused.iter().map(|part| (part.start, part.end)).collect::<Vec<_>>())
    });
    Ok(Subject {
        name: if close { "closed" } else { "killed" },
        unused: unused.collect(),
        earlier: world.earlier(),
        image,
        contents: filled.contents,
        last_seq: filled.last_seq,
        before_last: filled.before_last,
        levels: filled.levels,
    })
}

struct Filled {
    contents: Contents,
    last_seq: u64,
    before_last: Option<Image>,
    levels: usize,
}

async fn fill(world: &MemoryWorld, env: Arc<dyn Env>, close: bool) -> Result<Filled> {
    let db = Db::open_in(Arc::clone(&env), "/db", Options { create_if_missing: true, ..options() }).await?;
    let spaces = [
        db.create_keyspace("accounts", keyspace_options()).await?,
        db.create_keyspace("journal", keyspace_options()).await?,
    ];
    let mut contents = Contents::new();
    contents.entry("default".into()).or_default();
    let mut random = Random::new(7);
    for round in 0..200u64 {
        let batch = random_batch(round, &spaces, &mut random, &mut contents)?;
        db.write(batch, Durability::Sync).await?;
        if round % 20 == 13 {
            let space = &spaces[usize::from(random.one_in(4))];
            let from = random.below(380);
            let (start, end) = (format!("key{from:04}"), format!("key{:04}", from + 9));
            space.delete_range(&start, &end).await?;
            let known = contents.entry(space.name().to_string()).or_default();
            for (_, value) in known.range_mut(start.into_bytes()..end.into_bytes()) {
                *value = None;
            }
        }
        db.wait_idle().await?;
    }
    // A further opening needs fewer log segments than one that has filled some.
    db.close().await?;
    // The clock of this world jumps, and the newest group of the killed database must not be sealed.
    let db = Db::open_in(env, "/db", Options { seal_idle_us: 60_000_000, ..options() }).await?;
    let spaces = [db.keyspace("accounts")?, db.keyspace("journal")?];
    // Some commits stay in the log alone.
    for number in 0..6 {
        let (key, value) =
            (format!("key{:04}", number * 31).into_bytes(), format!("late {number}").into_bytes());
        spaces[0].put(&key, &value).await?;
        if number == 2 {
            // One table stays in level 0.
            db.flush().await?;
        }
        contents.entry("accounts".into()).or_default().insert(key, Some(value));
    }
    if close {
        let levels = levels(&db)?;
        let last_seq = db.last_seq().get();
        db.close().await?;
        return Ok(Filled { contents, last_seq, before_last: None, levels });
    }
    let before_last = Some(world.image());
    spaces[1].put("the last", "acknowledged").await?;
    contents
        .entry("journal".into())
        .or_default()
        .insert(b"the last".to_vec(), Some(b"acknowledged".to_vec()));
    Ok(Filled { contents, last_seq: db.last_seq().get(), before_last, levels: levels(&db)? })
}

/// Eight random puts and deletes, noted in `contents` too.
fn random_batch(
    round: u64,
    spaces: &[holdfast::Keyspace; 2],
    random: &mut Random,
    contents: &mut Contents,
) -> Result<WriteBatch> {
    let mut batch = WriteBatch::default();
    for _ in 0..8 {
        let space = &spaces[usize::from(random.one_in(8))];
        let key = format!("key{:04}", random.below(400)).into_bytes();
        let known = contents.entry(space.name().to_string()).or_default();
        if random.one_in(7) {
            batch.delete(space.id(), &key).map_err(|bad| holdfast::Error::Invalid(bad.to_string()))?;
            known.insert(key, None);
        } else {
            let word = random.next_u64();
            let value =
                format!("{round}:{word:x}:{:x}:{:x}{}", random.next_u64(), random.next_u64(), "ab".repeat(8));
            batch
                .put(space.id(), &key, value.as_bytes())
                .map_err(|bad| holdfast::Error::Invalid(bad.to_string()))?;
            known.insert(key, Some(value.into_bytes()));
        }
    }
    Ok(batch)
}

fn levels(db: &Db) -> Result<usize> {
    let counts = db
        .keyspaces()?
        .into_iter()
        .map(|keyspace| keyspace.levels.iter().filter(|level| level.tables > 0).count());
    Ok(counts.max().unwrap_or(0))
}
