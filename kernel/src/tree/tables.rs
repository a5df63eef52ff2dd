//! Tables as the tree holds them: opened when first needed, closed when too many are open, deleted when unneeded.
//!
//! Invariants:
//! - A [`TableHandle`] belongs to at most one state lineage; when the last state that lists it is gone *and* it was
//!   marked obsolete, its file number lands in the [`Graveyard`], from which maintenance deletes files. Nothing
//!   else deletes a table, so a reader's table never goes away under it.
//! - At most `open_files_max` readers are kept by handles; readers in use by cursors may exceed that for as long as
//!   the cursors live.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::check::mark;
use crate::env::{Env, File, IoErrorKind, OpenOptions};
use crate::error::{Error, Result};
use crate::events::{SlowLimit, Timed, Where};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, Notify};
use crate::table::{TableMeta, TableReader};
use crate::types::FileNo;
use crate::types::file_name::{self, FileKind};

/// Files that no state lists any more.
#[derive(Default)]
pub(crate) struct Graveyard {
    dead: Mutex<Vec<FileNo>>,
    /// Files buried and not deleted yet.
    undeleted: AtomicU64,
    /// Wakes the cleaner.
    pub changed: Notify,
}

impl Graveyard {
    pub fn bury(&self, no: FileNo) {
        self.undeleted.fetch_add(1, Ordering::AcqRel);
        self.dead.lock().push(no);
        self.changed.notify_one();
    }

    /// A file that was taken is deleted, or left to the next opening.
    pub fn note_deleted(&self) {
        self.undeleted.fetch_sub(1, Ordering::AcqRel);
    }

    /// True if no file waits to be deleted.
    pub fn is_clear(&self) -> bool {
        self.undeleted.load(Ordering::Acquire) == 0
    }

    /// Takes everything buried so far.
    pub fn take(&self) -> Vec<FileNo> {
        std::mem::take(&mut *self.dead.lock())
    }
}

/// One table of a state.
pub(crate) struct TableHandle {
    meta: Arc<TableMeta>,
    reader: Mutex<Option<Arc<TableReader>>>,
    /// Tick of the last use, for closing the least recently used.
    used_at: AtomicU64,
    obsolete: AtomicBool,
    quarantined: AtomicBool,
    /// Why it is quarantined; set before the mark.
    damage: Mutex<Option<Error>>,
    /// Jobs that the disk refused to read it for.
    unreadable: AtomicU32,
    graveyard: Arc<Graveyard>,
}

impl TableHandle {
    pub fn new(meta: Arc<TableMeta>, graveyard: Arc<Graveyard>) -> Arc<Self> {
        Arc::new(Self {
            meta,
            reader: Mutex::new(None),
            used_at: AtomicU64::new(0),
            obsolete: AtomicBool::new(false),
            quarantined: AtomicBool::new(false),
            damage: Mutex::new(None),
            unreadable: AtomicU32::new(0),
            graveyard,
        })
    }

    pub fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }

    /// True if its file is open.
    pub fn is_open(&self) -> bool {
        self.reader.lock().is_some()
    }

    /// Its file may be deleted once nobody reads it.
    pub fn mark_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// Counts a job that failed because the disk could not read it; gives how many there were.
    pub fn note_unreadable(&self) -> u32 {
        self.unreadable.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// It was found corrupt, or unreadable again and again: compaction leaves it and its range alone from now on.
    pub fn quarantine(&self, damage: Error) {
        self.damage.lock().get_or_insert(damage);
        self.quarantined.store(true, Ordering::Release);
    }

    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    /// What was found wrong with it, if it is quarantined.
    pub fn damage(&self) -> Option<Error> {
        if self.is_quarantined() { self.damage.lock().clone() } else { None }
    }

    /// True if the table may hold entries or deleted ranges of `key`.
    pub fn covers(&self, key: &[u8]) -> bool {
        *self.meta.smallest <= *key && !self.ends_before(key)
    }

    /// True if everything in the table sorts before `key`.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        let largest: &[u8] = &self.meta.largest;
        if self.meta.largest_is_exclusive { largest <= key } else { largest < key }
    }
}

impl Drop for TableHandle {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.graveyard.bury(self.meta.no);
        }
    }
}

/// Opens tables and bounds how many stay open.
pub(crate) struct Tables {
    env: Arc<dyn Env>,
    dir: PathBuf,
    cache: Arc<BlockCache>,
    paranoid: bool,
    /// Files belong to another process, which may delete them at any time.
    foreign: bool,
    open_max: usize,
    tick: AtomicU64,
    /// The option `slow_operation_us`, once it is known.
    slow_us: AtomicU64,
    open: Mutex<Vec<std::sync::Weak<TableHandle>>>,
}

impl Tables {
    pub fn new(
        env: Arc<dyn Env>,
        dir: PathBuf,
        cache: Arc<BlockCache>,
        paranoid: bool,
        open_max: u64,
    ) -> Arc<Self> {
        Arc::new(Self::with(env, dir, cache, paranoid, open_max, false))
    }

    /// The same over files that another process owns: one that is missing makes the view stale.
    pub fn of_another_process(
        env: Arc<dyn Env>,
        dir: PathBuf,
        cache: Arc<BlockCache>,
        paranoid: bool,
        open_max: u64,
    ) -> Arc<Self> {
        Arc::new(Self::with(env, dir, cache, paranoid, open_max, true))
    }

    fn with(
        env: Arc<dyn Env>,
        dir: PathBuf,
        cache: Arc<BlockCache>,
        paranoid: bool,
        open_max: u64,
        foreign: bool,
    ) -> Self {
        Self {
            env,
            dir,
            cache,
            paranoid,
            foreign,
            open_max: usize::try_from(open_max).unwrap_or(usize::MAX).max(1),
            tick: AtomicU64::new(1),
            slow_us: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        }
    }

    /// From now on tells of tables that take longer than this many microseconds to open.
    pub fn report_slow(&self, limit_us: u64) {
        self.slow_us.store(limit_us, Ordering::Relaxed);
    }

    pub fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// The reader of a table, opened if need be.
    ///
    /// # Errors
    /// What opening gives: corruption naming the file, or the disk's error.
    pub async fn reader(&self, handle: &Arc<TableHandle>) -> Result<Arc<TableReader>> {
        if let Some(reader) = self.opened(handle) {
            return Ok(reader);
        }
        let slow = SlowLimit::new(self.slow_us.load(Ordering::Relaxed));
        let began = slow.begin(&*self.env);
        let opened = TableReader::open(&self.env, &self.cache, &self.dir, &handle.meta, self.paranoid).await;
        let file = file_name::path(&self.dir, FileKind::Table, handle.meta.no);
        slow.judge_since(began, &*self.env, Timed::TableOpening, Where::File(&file));
        let opened = opened.map_err(|error| self.sorted(error))?;
        let reader = {
            let mut slot = handle.reader.lock();
            if let Some(raced) = slot.as_ref() {
                return Ok(raced.clone());
            }
            *slot = Some(opened.clone());
            opened
        };
        self.note_opened(handle);
        Ok(reader)
    }

    /// Where the file of a table is.
    pub fn path(&self, no: FileNo) -> PathBuf {
        file_name::path(&self.dir, FileKind::Table, no)
    }

    /// The open file of a table that is to be copied as it stands: its reader's, or one that is not kept open.
    ///
    /// # Errors
    /// As [`Tables::reader`], but nothing is read.
    pub async fn file(&self, handle: &TableHandle) -> Result<Arc<dyn File>> {
        let open = handle.reader.lock().as_ref().map(|reader| reader.file().clone());
        if let Some(file) = open {
            return Ok(file);
        }
        let opened = self.env.disk().open(&self.path(handle.meta.no), OpenOptions::read()).await;
        opened.map_err(|error| self.sorted(error.into()))
    }

    /// What the failed opening of a file means.
    fn sorted(&self, error: Error) -> Error {
        match error {
            Error::Io(gone) if self.foreign && gone.kind == IoErrorKind::NotFound => {
                mark!("view_stale");
                Error::Stale(gone.path.display().to_string())
            }
            error => error,
        }
    }

    fn opened(&self, handle: &TableHandle) -> Option<Arc<TableReader>> {
        let reader = handle.reader.lock().clone()?;
        // A plain load and store: a lost update costs one tick of recency.
        handle.used_at.store(self.tick.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(reader)
    }

    fn note_opened(&self, handle: &Arc<TableHandle>) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        handle.used_at.store(tick, Ordering::Relaxed);
        let mut closed = Vec::new();
        let mut open = self.open.lock();
        open.push(Arc::downgrade(handle));
        if open.len() <= self.open_max {
            return;
        }
        // Close the older half at once, so that the sort is paid once per many openings.
        let mut alive: Vec<(u64, Arc<TableHandle>)> = open
            .drain(..)
            .filter_map(|weak| weak.upgrade())
            .map(|handle| (handle.used_at.load(Ordering::Relaxed), handle))
            .collect();
        alive.sort_by_key(|(used_at, _)| std::cmp::Reverse(*used_at));
        let keep = self.open_max.div_ceil(2).max(1);
        for (at, (_, handle)) in alive.iter().enumerate() {
            if at < keep {
                open.push(Arc::downgrade(handle));
            } else {
                closed.push(handle.reader.lock().take());
            }
        }
        drop(open);
        drop(alive);
    }
}
