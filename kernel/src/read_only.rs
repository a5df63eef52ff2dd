//! A look at a database from beside its writer: without its lock, and without writing a single byte.
//!
//! ```text
//! CURRENT → manifest          tables, and where the log begins to be needed
//! every table file            opened at once, as far as open_files_max goes
//! log from there to its end   memtables in this process only
//! ```
//! The same code as recovery's reads manifest, log and batches; what recovery would write is left out. The result is
//! one state: everything acknowledged before the look began, whole transactions, in the order of commit. It may show a
//! commit an instant before its own writer acknowledges it; should the writer's disk fail in that instant, the commit
//! may be gone from a later view, as it may after a crash. One that was answered [`Error::CommitUnknown`] is shown until
//! the writer's disk has room again.
//!
//! **The writer moves meanwhile.** Files are read one after another, so a look may meet a manifest that was replaced,
//! a segment that was released, removed or recycled, a table that was compacted away, or a sector at the moving
//! tail that is half written. None of these gives a wrong view, because all that recovery demands (checksums,
//! identities, the chain of segments, the evidence of durability) is demanded here too; they give an error, and the
//! look begins again, with the tables that are open already. Only an error that says the same of the same place again
//! and again, over more time than any write takes, is damage. A writer that is faster than every look leaves
//! [`Error::Busy`].
//!
//! So a bad sector at the very tail is not taken for "not written yet" for ever: a sector that does not become valid
//! is rotten, and behind it may be a commit that was acknowledged.
//!
//! What was opened keeps working when the writer deletes it. A table beyond `open_files_max` may be gone when it is
//! first needed: that read gives [`Error::Stale`], and a new look helps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::{BlockCache, Budget, Charge, Purpose};
use crate::check::mark;
use crate::env::{BoxFuture, Env, IoErrorKind, Nanos};
use crate::error::{Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::manifest::{self, Found, Loaded, Version};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::reapply::{self, Reapplier};
use crate::recovery::{check_demands, check_tables};
use crate::tree::{Graveyard, KeyspaceState, Memory, State, Tables};
use crate::types::{FileNo, KeyspaceId, Seq, SeqGaps, Timestamp};
use crate::wal::{BatchSink, LogPlace};

/// Looks in a row, at most.
const LOOKS_MAX: u32 = 20;
/// An error counts once it was the same in so many looks in a row ...
const SAME_LOOKS: u32 = 3;
/// ... from the first to the last of which so much time passed: far longer than the copy of a sector can be held up.
const SAME_NS: u64 = 100_000_000;
/// The wait after the first failed look; each further one is twice as long.
const WAIT_NS: u64 = 200_000;
/// The longest wait between two looks.
const WAIT_NS_MAX: u64 = 60_000_000;

/// One state of the database, as it was found.
pub(crate) struct View {
    /// Identity of the database.
    pub database: u64,
    pub state: State,
    /// The newest commit in it.
    pub seq: Seq,
    /// Its timestamp, or a later one.
    pub last_timestamp: Timestamp,
    /// Every version from here on is there, in the tables or in memory.
    pub retained_from: Seq,
    /// Sequences that no commit has.
    pub seq_gaps: SeqGaps,
    /// No table in it has this number or a greater one.
    pub next_file_no: FileNo,
    /// No keyspace ever had this number or a greater one.
    pub next_keyspace_id: u32,
    _memtables: Charge,
}

/// Looks at one directory.
pub(crate) struct Looker {
    pub env: Arc<dyn Env>,
    pub dir: PathBuf,
    options: Options,
    budget: Arc<Budget>,
    pub tables: Arc<Tables>,
    graveyard: Arc<Graveyard>,
}

impl Looker {
    /// For the database in `dir`; the options are valid.
    pub fn new(env: Arc<dyn Env>, dir: PathBuf, options: Options) -> Self {
        let budget = Arc::new(Budget::new(options.memory_limit_bytes));
        let cache = Arc::new(BlockCache::new(options.memory_limit_bytes / 2, budget.clone()));
        let (paranoid, open_max) = (options.paranoid_checks, options.open_files_max);
        let tables = Tables::of_another_process(env.clone(), dir.clone(), cache, paranoid, open_max);
        tables.report_slow(options.slow_operation_us);
        Self { env, dir, options, budget, tables, graveyard: Arc::default() }
    }

    /// The state of now. Tables that `before` has open are not opened again.
    ///
    /// # Errors
    /// - `NotFound`: no database there, or none yet;
    /// - `Invalid`: an unfinished checkpoint, fewer commits than `at_least` demands, or a log tail that needs more
    ///   than half of `memory_limit_bytes`;
    /// - `Corrupt`, naming file and offset; `NewerFormat`;
    /// - `Busy`: the writer moves faster than this process can look;
    /// - `Stale`: another database stands there now;
    /// - `TooManyFiles`, `Io`: the disk's word.
    pub async fn look(&self, before: Option<&View>) -> Result<View> {
        let began = self.env.now();
        let mut tables = before.map(|before| before.state.clone()).unwrap_or_default();
        let mut last = Repeated::default();
        let mut wait_ns = WAIT_NS;
        for _ in 0..LOOKS_MAX {
            let error = match self.look_once(before, &mut tables).await {
                Ok(view) => {
                    self.tell(&view, before.is_none(), self.env.now().since(began));
                    return Ok(view);
                }
                Err(error) if may_pass(&error) => error,
                Err(error) => return Err(error),
            };
            mark!("view_retried");
            if last.is_damage(&error, self.env.now()) {
                return Err(error);
            }
            tracing::debug!(%error, "looking again: the writer may have been in the middle of it");
            self.env.sleep_until(self.env.now().after(wait_ns)).await;
            wait_ns = (wait_ns * 2).min(WAIT_NS_MAX);
        }
        Err(Error::Busy(format!(
            "the writer changes files faster than they can be read (last: {})",
            last.text
        )))
    }

    /// A refresh may come many times a second; only the first view is news.
    fn tell(&self, view: &View, is_first: bool, elapsed_ns: u64) {
        let (dir, seq, elapsed_us) = (self.dir.display(), view.seq.get(), elapsed_ns / 1000);
        if is_first {
            tracing::info!(%dir, seq, elapsed_us, "read-only view");
        } else {
            tracing::debug!(%dir, seq, elapsed_us, "read-only view refreshed");
        }
        let slow = SlowLimit::new(self.options.slow_operation_us);
        slow.judge(elapsed_ns, Timed::ReadOnlyView, Where::File(&self.dir));
    }

    /// `tables` keeps what is open from one look to the next, so that each has less to do.
    async fn look_once(&self, before: Option<&View>, tables: &mut State) -> Result<View> {
        let Loaded { database, version, .. } = self.load().await?;
        if before.is_some_and(|before| before.database != database) {
            return Err(Error::Stale(format!("the database that was in {}", self.dir.display())));
        }
        *tables = tables.following(&version, None, &self.graveyard);
        // Nothing of another process is ever deleted here.
        drop(self.graveyard.take());
        self.open_tables(&version, tables).await?;
        let log = self.replay(&version).await?;
        let progress = log.progress;
        check_demands(&self.options, &progress)?;
        let charge = self.budget.charge(Purpose::Memtable, log.bytes());
        let state = with_memories(tables.clone(), log.memories);
        Ok(View {
            database,
            state,
            seq: progress.last_seq,
            last_timestamp: progress.last_timestamp,
            // A crash may have taken the commits from which the writer counted back.
            retained_from: progress.retained_from.min(progress.last_seq),
            seq_gaps: log.seq_gaps,
            next_file_no: version.next_file_no,
            next_keyspace_id: version.next_keyspace_id,
            _memtables: charge,
        })
    }

    async fn load(&self) -> Result<Loaded> {
        let missing = |what: &str| Error::NotFound { path: self.dir.clone(), what: what.to_string() };
        match manifest::load(&*self.env, &self.dir).await? {
            Found::Database(loaded) => Ok(loaded),
            Found::Unfinished { .. } => Err(missing("its creation has not been finished")),
            Found::Nothing => Err(missing("there is no file CURRENT")),
        }
    }

    async fn replay<'a>(&self, version: &'a Version) -> Result<Reapplier<'a>> {
        let bytes_max = self.options.memory_limit_bytes / 2;
        let mut tail = Tail { log: Reapplier::new(version), bytes_max };
        reapply::replay_log(&self.env, &self.dir, version, self.options.direct_log, &mut tail).await?;
        tail.check()?;
        Ok(tail.log)
    }

    /// Opens every table, so that the writer cannot take it away, as far as the limit of open files goes; looks whether
    /// the others are there.
    async fn open_tables(&self, version: &Version, state: &State) -> Result<()> {
        let limit = usize::try_from(self.options.open_files_max).unwrap_or(usize::MAX);
        let tables: Vec<_> = state.keyspaces.values().flat_map(|keyspace| keyspace.tables()).collect();
        for table in tables.iter().take(limit) {
            match self.tables.reader(table).await {
                // A damaged table is the reads' affair that need it; the others must stay readable.
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                // Removed by the writer, or missing for good: the next look at the manifest tells.
                Err(Error::Stale(_)) => break,
                Err(error) => return Err(error),
            }
        }
        if tables.iter().take(limit).all(|table| table.is_open()) && tables.len() <= limit {
            return Ok(());
        }
        check_tables(self.env.disk(), &self.dir, version).await
    }
}

/// The error of the last looks, and since when it is the same.
#[derive(Default)]
struct Repeated {
    text: String,
    looks: u32,
    since: Nanos,
}

impl Repeated {
    /// True once the same was said often and long enough.
    fn is_damage(&mut self, error: &Error, now: Nanos) -> bool {
        let text = error.to_string();
        if self.looks == 0 || text != self.text {
            *self = Self { text, looks: 0, since: now };
        }
        self.looks += 1;
        self.looks >= SAME_LOOKS && now.since(self.since) >= SAME_NS
    }
}

/// True for what a moving writer can cause.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } | Error::NewerFormat { .. } | Error::Stale(_) => true,
        Error::Io(io) => matches!(io.kind, IoErrorKind::NotFound | IoErrorKind::Transient),
        _ => false,
    }
}

/// The tables of `state` with what the log adds to them.
fn with_memories(mut state: State, mut memories: BTreeMap<KeyspaceId, Arc<Memory>>) -> State {
    for (id, keyspace) in &mut state.keyspaces {
        let active = memories.remove(id).unwrap_or_else(|| Memory::new(Memtable::new(0)));
        *keyspace = Arc::new(KeyspaceState { active, frozen: Vec::new(), ..(**keyspace).clone() });
    }
    state
}

/// The part of the log that is in no table.
struct Tail<'a> {
    log: Reapplier<'a>,
    bytes_max: u64,
}

impl Tail<'_> {
    fn check(&self) -> Result<()> {
        let bytes = self.log.bytes();
        if bytes <= self.bytes_max {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the log holds more than {} bytes that are in no table yet, and a read-only opening keeps them in memory: \
             raise the option memory_limit_bytes to at least twice what they need, or let the writer flush",
            self.bytes_max
        )))
    }
}

impl BatchSink for Tail<'_> {
    fn batch(&mut self, place: LogPlace<'_>, body: &[u8]) -> Result<()> {
        self.log.batch(&place, body)
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<()>> {
        let checked = self.check();
        Box::pin(async move { checked })
    }
}
