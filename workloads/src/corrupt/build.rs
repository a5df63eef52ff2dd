//! The two databases that are harmed: one closed cleanly, one killed right after an acknowledged commit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::{
    Compression, Db, Durability, Error, FileVerdict, Keyspace, KeyspaceOptions, Options, Result, WriteBatch,
    verify,
};

use super::world::{DIR, Earlier, Image, MemoryWorld, SECTOR};
use crate::Random;

/// Everything together may have so many bytes.
pub const BYTES_MAX: usize = 256 << 10;
/// Keys of each keyspace, `key0000` and on.
const KEYS: u64 = 240;

/// Keys with their values; a key that was deleted has none.
pub type Known = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What every keyspace holds, by name.
pub type Contents = BTreeMap<String, Known>;

/// What a database must answer.
#[derive(Clone, Default)]
pub struct Truth {
    /// Every key that ever was, and what it holds.
    pub contents: Contents,
    /// The same as of some commits of the retained history, oldest first.
    pub history: Vec<(u64, Contents)>,
    /// The newest acknowledged commit.
    pub last_seq: u64,
}

/// A database at rest and everything that is known of it.
#[derive(Clone)]
pub struct Subject {
    /// How it was left.
    pub name: &'static str,
    /// Its files.
    pub image: Image,
    /// What it must answer.
    pub truth: Truth,
    /// What sectors held before.
    pub earlier: Earlier,
    /// Files and answers before the last commit, of the database that was killed.
    pub before_last: Option<(Image, Truth)>,
    /// Bytes on which nothing depends, by file.
    pub unused: BTreeMap<String, Vec<(u64, u64)>>,
    /// What its tables are like.
    pub shape: Shape,
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
        let Some(before) = self.before_last.as_ref().and_then(|(before, _)| before.get(name)) else {
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
        memory_limit_bytes: 8 << 20,
        memtable_bytes: 8 << 10,
        log_segment_bytes_max: 64 << 10,
        log_bytes_max: 128 << 10,
        retain_commits: 56,
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
    let bytes: usize = image.values().map(|bytes| bytes.len()).sum();
    if bytes > BYTES_MAX || !filled.shape.is_rich() {
        let sizes: Vec<_> = image.iter().map(|(name, bytes)| format!("{name} {}", bytes.len())).collect();
        return Err(format!("{bytes} bytes, {:?}: {}", filled.shape, sizes.join(", ")));
    }
    let judge = MemoryWorld::new(&image);
    let report = judge.run(verify(Arc::clone(&judge) as Arc<dyn Env>, DIR, |_| ()))?;
    let report = report.map_err(|error| error.to_string())?;
    if !report.is_good() {
        return Err(format!("the database is not sound before it is harmed: {:?}", report.problems));
    }
    if close && let Some(left) = report.files.iter().find(|file| file.verdict == FileVerdict::Leftover) {
        return Err(format!("a clean close left the needless file {}", left.name));
    }
    let unused = report.files.iter().map(|file| {
        (file.name.clone(), file.unused.iter().map(|part| (part.start, part.end)).collect::<Vec<_>>())
    });
    Ok(Subject {
        name: if close { "closed" } else { "killed" },
        unused: unused.collect(),
        earlier: world.earlier(),
        image,
        truth: filled.truth,
        before_last: filled.before_last,
        shape: filled.shape,
    })
}

struct Filled {
    truth: Truth,
    before_last: Option<(Image, Truth)>,
    shape: Shape,
}

/// Commits of eight operations each that end up in the deepest level.
const ROUNDS_DEEP: u64 = 50;
/// And those that stay in the level above it.
const ROUNDS_ABOVE: u64 = 12;

/// The database while it is filled, and what it must hold.
struct Filler {
    db: Db,
    spaces: [Keyspace; 2],
    random: Random,
    contents: Contents,
    history: Vec<(u64, Contents)>,
}

async fn fill(world: &MemoryWorld, env: Arc<dyn Env>, close: bool) -> Result<Filled> {
    let db = Db::open_in(Arc::clone(&env), DIR, options()).await?;
    let spaces = [
        db.create_keyspace("accounts", keyspace_options()).await?,
        db.create_keyspace("journal", keyspace_options()).await?,
    ];
    let contents = ["accounts", "default", "journal"].map(|name| (name.to_string(), BTreeMap::new())).into();
    let mut filler = Filler { db, spaces, random: Random::new(7), contents, history: Vec::new() };
    for round in 0..ROUNDS_DEEP {
        filler.round(round, true).await?;
        // Ranges deleted before the retained history leave nothing behind; those within it keep their tombstones.
        if round % 6 == 5 {
            filler.delete_range(usize::from(round % 12 == 5)).await?;
        }
    }
    filler.db.compact().await?;
    filler.remember();
    for round in ROUNDS_DEEP..ROUNDS_DEEP + ROUNDS_ABOVE {
        // A table with range tombstones, or with many deletes, would not stay above the deepest level.
        filler.round(round, false).await?;
    }
    filler.remember();
    filler.db.flush().await?;
    filler.db.wait_idle().await?;
    // A further opening needs fewer log segments than one that has filled some.
    let Filler { db, random, contents, history, .. } = filler;
    db.close().await?;
    // The clock of this world jumps, and the newest group of the killed database must not be sealed.
    let db = Db::open_in(env, DIR, Options { seal_idle_us: 60_000_000, ..options() }).await?;
    let spaces = [db.keyspace("accounts")?, db.keyspace("journal")?];
    let mut filler = Filler { db, spaces, random, contents, history };
    for number in 0..6 {
        filler.put(0, format!("key{:04}", number * 31), format!("late {number}")).await?;
        if number == 2 {
            // One table stays in level 0; what follows stays in the log alone.
            filler.delete_range(0).await?;
            filler.db.flush().await?;
        }
    }
    filler.delete_range(0).await?;
    let mut before_last = None;
    if !close {
        before_last = Some((world.image(), filler.truth()));
        filler.put(1, "the last".into(), "acknowledged".into()).await?;
    }
    let (truth, shape) = (filler.truth(), Shape::of(&filler.db)?);
    if close {
        filler.db.close().await?;
    }
    Ok(Filled { truth, before_last, shape })
}

impl Filler {
    fn truth(&self) -> Truth {
        let (contents, history) = (self.contents.clone(), self.history.clone());
        Truth { contents, history, last_seq: self.db.last_seq().get() }
    }

    /// Notes what a snapshot of now must give for ever.
    fn remember(&mut self) {
        self.history.push((self.db.last_seq().get(), self.contents.clone()));
    }

    fn known(&mut self, space: usize) -> &mut Known {
        self.contents.entry(self.spaces[space].name().to_string()).or_default()
    }

    async fn put(&mut self, space: usize, key: String, value: String) -> Result<()> {
        self.spaces[space].put(&key, &value).await?;
        self.known(space).insert(key.into_bytes(), Some(value.into_bytes()));
        Ok(())
    }

    /// Deletes nine neighbouring keys.
    async fn delete_range(&mut self, space: usize) -> Result<()> {
        let from = self.random.below(KEYS - 20);
        let (start, end) = (format!("key{from:04}"), format!("key{:04}", from + 9));
        self.spaces[space].delete_range(&start, &end).await?;
        for (_, value) in self.known(space).range_mut(start.into_bytes()..end.into_bytes()) {
            *value = None;
        }
        Ok(())
    }

    /// Commits eight random puts, some of them deletes if `deletes`.
    async fn round(&mut self, round: u64, deletes: bool) -> Result<()> {
        let mut batch = WriteBatch::default();
        for _ in 0..8 {
            let space = usize::from(self.random.one_in(6));
            let id = self.spaces[space].id();
            let key = format!("key{:04}", self.random.below(KEYS)).into_bytes();
            let value = (!deletes || !self.random.one_in(7)).then(|| {
                let (a, b) = (self.random.next_u64(), self.random.next_u64());
                format!("{round}:{a:x}:{b:x}:{}", "ab".repeat(12)).into_bytes()
            });
            let added = match &value {
                Some(value) => batch.put(id, &key, value),
                None => batch.delete(id, &key),
            };
            added.map_err(|bad| Error::Invalid(bad.to_string()))?;
            self.known(space).insert(key, value);
        }
        self.db.write(batch, Durability::Sync).await?;
        self.db.wait_idle().await
    }
}

/// What the tables of a database are like.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shape {
    /// Levels with tables, in the keyspace that has most of them.
    pub levels: usize,
    /// Range tombstones in tables.
    pub range_tombstones: u64,
    /// Entries in memtables: they stand in the log alone.
    pub only_in_log: u64,
    /// Keyspaces with tables.
    pub keyspaces: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { levels, range_tombstones, only_in_log, keyspaces } = self;
        write!(f, "{levels} levels with tables, {keyspaces} keyspaces, {range_tombstones} range tombstones")?;
        write!(f, ", {only_in_log} entries in memory and log alone")
    }
}

impl Shape {
    fn of(db: &Db) -> Result<Self> {
        let mut shape = Self::default();
        for keyspace in db.keyspaces()? {
            let levels = keyspace.levels.iter().filter(|level| level.tables > 0).count();
            shape.levels = shape.levels.max(levels);
            shape.keyspaces += usize::from(levels > 0);
            shape.range_tombstones += keyspace.levels.iter().map(|level| level.range_tombstones).sum::<u64>();
            shape.only_in_log += keyspace.memtable_entries;
        }
        Ok(shape)
    }

    /// True if every kind of thing that can be harmed is there.
    fn is_rich(&self) -> bool {
        self.levels >= 3 && self.keyspaces >= 2 && self.range_tombstones >= 2 && self.only_in_log > 0
    }
}
