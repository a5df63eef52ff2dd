//! What a reader sees: for each keyspace its memtables and its levels, immutable once published.
//!
//! ```text
//! newest  active memtable     takes the commits
//!         frozen memtables    wait for their flush, newest first
//!         level 0             tables of flushes, newest first, ranges overlap
//!         level 1 … 6         sorted runs, ranges disjoint
//! oldest
//! ```
//! Invariant: of two entries of one key, the one that stands higher in this picture is the newer. A flush takes the
//! oldest frozen memtable, and a compaction leaves nothing that is older than what it takes down in the place that it
//! takes it from, so the order is never broken. A search may stop at the first entry that it may see.
//!
//! A state changes by copy: [`State::with_keyspace`] and friends give a new value, and one pointer swap publishes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tables::{Graveyard, TableHandle};
use crate::manifest::{Keyspace, Version};
use crate::memtable::Memtable;
use crate::options::{KeyspaceOptions, LEVELS};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{FileNo, KeyspaceId, Lsn, Seq};

/// A memtable and the part of the log that its entries stand in.
pub(crate) struct Memory {
    pub table: Arc<Memtable>,
    /// Start of the first group applied to it; `Lsn::MAX` while it is empty.
    first_lsn: AtomicU64,
    /// End of the last group applied to it.
    end_lsn: AtomicU64,
    /// Of a frozen one: the newest commit of any keyspace below its end.
    end_seq: AtomicU64,
}

impl Memory {
    pub fn new(table: Arc<Memtable>) -> Arc<Self> {
        let (first_lsn, end_lsn, end_seq) = (AtomicU64::new(u64::MAX), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { table, first_lsn, end_lsn, end_seq })
    }

    /// Notes, before its entries are inserted, that the group at `start..end` is being applied.
    pub fn note_group(&self, start: Lsn, end: Lsn) {
        self.first_lsn.fetch_min(start.get(), Ordering::AcqRel);
        self.end_lsn.fetch_max(end.get(), Ordering::AcqRel);
    }

    /// Ends it at `boundary`, a sealed position at or after all of its groups; `newest` is the last commit below it.
    pub fn end_at(&self, boundary: Lsn, newest: Seq) {
        self.end_seq.store(newest.get(), Ordering::Release);
        self.end_lsn.fetch_max(boundary.get(), Ordering::AcqRel);
    }

    /// Start of the first group applied; `None` while it is empty.
    pub fn first_lsn(&self) -> Option<Lsn> {
        let lsn = self.first_lsn.load(Ordering::Acquire);
        (lsn != u64::MAX).then_some(Lsn::new(lsn))
    }

    /// Of a frozen one: every commit up to this stands below its end, and is durable.
    pub fn end_seq(&self) -> Seq {
        Seq::new(self.end_seq.load(Ordering::Acquire))
    }

    /// End of the last group applied; of a frozen one, a boundary: later entries of its keyspace stand at or after it.
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.end_lsn.load(Ordering::Acquire))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.table.count_as_pinned();
    }
}

/// The tables of one level: newest first in level 0, sorted and disjoint below. Shared by all who walk it.
#[derive(Default)]
pub(crate) struct Level {
    tables: Vec<Arc<TableHandle>>,
    /// True if any of them holds range tombstones.
    pub deletes_ranges: bool,
}

impl Level {
    pub fn new(tables: Vec<Arc<TableHandle>>) -> Arc<Self> {
        let deletes_ranges = tables.iter().any(|table| table.meta().range_tombstones > 0);
        Arc::new(Self { tables, deletes_ranges })
    }
}

impl std::ops::Deref for Level {
    type Target = [Arc<TableHandle>];

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

/// The tables of one keyspace, by level.
pub(crate) type Levels = [Arc<Level>; LEVELS];

/// One keyspace as a reader sees it.
#[derive(Clone)]
pub(crate) struct KeyspaceState {
    pub id: KeyspaceId,
    pub name: Arc<str>,
    pub options: Arc<KeyspaceOptions>,
    pub active: Arc<Memory>,
    /// Newest first.
    pub frozen: Vec<Arc<Memory>>,
    pub levels: Levels,
}

impl KeyspaceState {
    /// Active and frozen memtables, newest first.
    pub fn memories(&self) -> impl Iterator<Item = &Arc<Memory>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// Every table.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableHandle>> {
        self.levels.iter().flat_map(|level| level.iter())
    }

    /// Bytes of the tables of `level`.
    pub fn level_bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|table| table.meta().bytes).sum()
    }

    /// Bytes of its memtables.
    pub fn memory_bytes(&self) -> u64 {
        self.memories().map(|memory| memory.table.bytes()).sum()
    }

    /// Start of the oldest log group that is in no table yet.
    pub fn pinned_lsn(&self) -> Option<Lsn> {
        self.memories().filter_map(|memory| memory.first_lsn()).min()
    }
}

/// Everything a reader needs, in one value.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
}

impl State {
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Arc<KeyspaceState>> {
        self.keyspaces.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<KeyspaceState>> {
        self.keyspaces.values().find(|keyspace| &*keyspace.name == name)
    }

    /// The same with one keyspace replaced or added.
    #[must_use]
    pub fn with_keyspace(&self, keyspace: KeyspaceState) -> Self {
        let mut keyspaces = self.keyspaces.clone();
        keyspaces.insert(keyspace.id, Arc::new(keyspace));
        Self { keyspaces }
    }

    /// The same with nothing in memory: it pins the tables and no memtable.
    #[must_use]
    pub fn tables_only(&self) -> Self {
        let bare = |keyspace: &Arc<KeyspaceState>| {
            let active = Memory::new(Memtable::new(0));
            Arc::new(KeyspaceState { active, frozen: Vec::new(), ..(**keyspace).clone() })
        };
        Self { keyspaces: self.keyspaces.iter().map(|(id, keyspace)| (*id, bare(keyspace))).collect() }
    }

    /// The same with the active memtable of `id` frozen and an empty one in its place; `None` if it is empty.
    pub fn with_frozen(&self, id: KeyspaceId, next: Arc<Memtable>) -> Option<Self> {
        let keyspace = self.keyspaces.get(&id)?;
        keyspace.active.first_lsn()?;
        let mut frozen = Vec::with_capacity(keyspace.frozen.len() + 1);
        frozen.push(keyspace.active.clone());
        frozen.extend(keyspace.frozen.iter().cloned());
        Some(self.with_keyspace(KeyspaceState { active: Memory::new(next), frozen, ..(**keyspace).clone() }))
    }

    /// The state that follows a manifest edit: the tables `version` lists, the memtables of before without
    /// `flushed`, handles kept where the file stays and marked obsolete where it goes.
    #[must_use]
    pub fn following(
        &self,
        version: &Version,
        flushed: Option<&Arc<Memory>>,
        graveyard: &Arc<Graveyard>,
    ) -> Self {
        let mut handles: BTreeMap<FileNo, Arc<TableHandle>> = self
            .keyspaces
            .values()
            .flat_map(|keyspace| keyspace.tables())
            .map(|table| (table.meta().no, table.clone()))
            .collect();
        let mut keyspaces = BTreeMap::new();
        for listed in version.keyspaces.values() {
            let before = self.keyspaces.get(&listed.id);
            let unchanged = before.filter(|before| flushed.is_none() && same_tables(before, listed));
            let keyspace = match unchanged {
                Some(before) => {
                    before.tables().for_each(|table| drop(handles.remove(&table.meta().no)));
                    before.clone()
                }
                None => Arc::new(rebuilt(before.map(|b| &**b), listed, flushed, &mut handles, graveyard)),
            };
            keyspaces.insert(listed.id, keyspace);
        }
        // What is left belongs to no keyspace any more.
        handles.values().for_each(|table| table.mark_obsolete());
        Self { keyspaces }
    }
}

fn same_tables(before: &KeyspaceState, listed: &Keyspace) -> bool {
    *before.options == listed.options
        && before.levels.iter().zip(listed.levels.iter()).all(|(handles, metas)| {
            handles.len() == metas.len()
                && handles.iter().zip(metas).all(|(handle, meta)| handle.meta().no == meta.no)
        })
}

fn rebuilt(
    before: Option<&KeyspaceState>,
    listed: &Keyspace,
    flushed: Option<&Arc<Memory>>,
    handles: &mut BTreeMap<FileNo, Arc<TableHandle>>,
    graveyard: &Arc<Graveyard>,
) -> KeyspaceState {
    let mut levels = Levels::default();
    for (level, metas) in levels.iter_mut().zip(listed.levels.iter()) {
        let tables = metas.iter().map(|meta| match handles.remove(&meta.no) {
            Some(handle) => handle,
            None => TableHandle::new(meta.clone(), graveyard.clone()),
        });
        *level = Level::new(tables.collect());
    }
    let frozen = before.map(|before| before.frozen.as_slice()).unwrap_or_default();
    KeyspaceState {
        id: listed.id,
        name: listed.name.as_str().into(),
        options: Arc::new(listed.options.clone()),
        active: match before {
            Some(before) => before.active.clone(),
            None => Memory::new(Memtable::new(u64::from(listed.id.get()))),
        },
        frozen: frozen
            .iter()
            .filter(|memory| flushed.is_none_or(|flushed| !Arc::ptr_eq(memory, flushed)))
            .cloned()
            .collect(),
        levels,
    }
}
