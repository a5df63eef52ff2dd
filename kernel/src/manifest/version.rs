//! The structure of a database as one immutable value, and the rules by which an edit makes the next one. Pure.
//!
//! Rules checked by [`Version::apply`], both before an edit is written and after it was read:
//! - a file number stands at one place at most, and below `next_file_no`;
//! - only what is there is removed, and from where it is;
//! - tables of level 1 and deeper do not overlap; each table's bounds are in order;
//! - numbers of keyspaces are never used again, names not twice at a time;
//! - positions, sequences, timestamps, epochs and counters never go back.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Change, Edit};
use crate::options::{KeyspaceOptions, LEVELS};
use crate::table::TableMeta;
use crate::types::{FileId, FileNo, KeyspaceId, Lsn, Seq, SeqGaps, Timestamp};
use crate::wal::KnownDurable;

/// An edit that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edit refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// One keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Its effective options.
    pub options: KeyspaceOptions,
    /// Every entry of it below this position of the log is in tables.
    pub flushed: Lsn,
    /// Tables by level. Level 0: newest (greatest sequence) first, may overlap. Deeper: by key, do not overlap.
    pub levels: Vec<Vec<Arc<TableMeta>>>,
}

/// The structure of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// By number.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<Keyspace>>,
    /// Segments the log may be in, waiting ones included.
    pub log_segments: BTreeMap<FileNo, FileId>,
    /// The log is needed from here on.
    pub log_start: Lsn,
    /// How far the log was durable when that was last written down.
    pub known_durable: Option<KnownDurable>,
    /// No file named here has this number or a greater one.
    pub next_file_no: FileNo,
    /// No keyspace ever had this number or a greater one.
    pub next_keyspace_id: u32,
    /// Sequences below were perhaps given out.
    pub seq_reserved: Seq,
    /// The greatest sequence in any table.
    pub last_seq: Seq,
    /// Versions below may be gone.
    pub retained_from: Seq,
    /// Sequences that no commit has, between those that may still be read.
    pub seq_gaps: SeqGaps,
    /// The greatest timestamp written down.
    pub last_timestamp: Timestamp,
    /// The opening that wrote the log last.
    pub epoch: u32,
    /// True if the database was closed and nothing has happened since.
    pub clean: bool,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            keyspaces: BTreeMap::new(),
            log_segments: BTreeMap::new(),
            log_start: Lsn::ZERO,
            known_durable: None,
            next_file_no: FileNo::ZERO,
            next_keyspace_id: 0,
            seq_reserved: Seq::ZERO,
            last_seq: Seq::ZERO,
            retained_from: Seq::ZERO,
            seq_gaps: SeqGaps::default(),
            last_timestamp: Timestamp::ZERO,
            epoch: 0,
            clean: false,
        }
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

/// Sets `place` to `value`, which must not be smaller.
fn advance<T: Copy + PartialOrd + fmt::Display>(place: &mut T, value: T, what: &str) -> Result<(), Refused> {
    if value < *place {
        return refuse(format!("{what} would go back from {place} to {value}"));
    }
    *place = value;
    Ok(())
}

impl Version {
    /// The version after `edit`. O(tables of the keyspaces that it touches), and each added table is looked for in
    /// all keyspaces.
    ///
    /// # Errors
    /// The edit breaks a rule.
    pub fn apply(&self, edit: &Edit) -> Result<Self, Refused> {
        let mut next = self.clone();
        next.clean = false;
        let mut touched = Vec::new();
        for change in &edit.changes {
            next.change(change, &mut touched)?;
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            if let Some(keyspace) = next.keyspaces.get(&id) {
                keyspace.check_levels()?;
            }
        }
        Ok(next)
    }

    fn change(&mut self, change: &Change, touched: &mut Vec<KeyspaceId>) -> Result<(), Refused> {
        self.clean = *change == Change::CleanClose;
        match change {
            Change::AddTable { keyspace, level, table } => {
                touched.push(*keyspace);
                self.add_table(*keyspace, *level, table)
            }
            Change::RemoveTable { keyspace, level, no } => self.keyspace(*keyspace)?.remove(*level, *no),
            Change::CreateKeyspace { id, name, options } => self.create_keyspace(*id, name, options),
            Change::DropKeyspace { id } => match self.keyspaces.remove(id) {
                Some(_) => Ok(()),
                None => refuse(format!("there is no keyspace {id} to drop")),
            },
            Change::SetKeyspaceOptions { id, options } => {
                check_options(options)?;
                self.keyspace(*id)?.options = options.clone();
                Ok(())
            }
            Change::AddLogSegment { no, id } => {
                self.new_file(*no)?;
                self.log_segments.insert(*no, *id);
                Ok(())
            }
            Change::RemoveLogSegment { no } => match self.log_segments.remove(no) {
                Some(_) => Ok(()),
                None => refuse(format!("there is no log segment {no} to remove")),
            },
            Change::KeyspaceFlushed { keyspace, lsn } => {
                advance(&mut self.keyspace(*keyspace)?.flushed, *lsn, "the flushed position")
            }
            Change::KnownDurable(known) => {
                let before = self.known_durable.map(|known| (known.epoch, known.lsn));
                if before.is_some_and(|before| (known.epoch, known.lsn) < before) {
                    return refuse("the known durable position would go back");
                }
                self.known_durable = Some(*known);
                Ok(())
            }
            Change::LogStart { lsn } => advance(&mut self.log_start, *lsn, "the log start"),
            Change::NextFileNo(no) => self.count_files_to(*no),
            Change::NextKeyspaceId(id) => {
                advance(&mut self.next_keyspace_id, *id, "the next keyspace number")
            }
            Change::SeqReserved { until: seq }
            | Change::LastSeq(seq)
            | Change::RetainedFrom(seq)
            | Change::SeqGap { until: seq, .. }
                if *seq > Seq::LIMIT =>
            {
                refuse(format!("the sequence {seq} is greater than any commit's"))
            }
            Change::SeqReserved { until } if *until < self.last_seq => {
                refuse(format!("sequences below {until} are given out already, {} among them", self.last_seq))
            }
            // It goes back when a clean close has made everything durable.
            Change::SeqReserved { until } => {
                self.seq_reserved = *until;
                Ok(())
            }
            Change::RetainedFrom(seq) => {
                self.forget_before(*seq);
                Ok(())
            }
            Change::SeqGap { after, until } => self.seq_gaps.note(*after, *until).or_else(refuse),
            Change::LastSeq(seq) => advance(&mut self.last_seq, *seq, "the last sequence"),
            Change::LastTimestamp(at) => advance(&mut self.last_timestamp, *at, "the last timestamp"),
            Change::Epoch(epoch) => advance(&mut self.epoch, *epoch, "the epoch"),
            Change::CleanClose => Ok(()),
        }
    }

    /// The farthest position up to which tables have a keyspace.
    pub fn flushed(&self) -> Lsn {
        self.keyspaces.values().map(|keyspace| keyspace.flushed).max().unwrap_or(Lsn::ZERO)
    }

    /// What of a change that was thought of beside an earlier version is still to be made in this one; `None` if this says
    /// as much. The log may have been shrunk since, and flushes of different keyspaces end in another order than their
    /// memtables were frozen: nothing goes back.
    pub fn still_news(&self, change: Change) -> Option<Change> {
        match change {
            Change::LogStart { lsn } => Some(Change::LogStart { lsn: lsn.max(self.log_start) }),
            Change::LastSeq(seq) if seq <= self.last_seq => None,
            Change::LastTimestamp(at) if at <= self.last_timestamp => None,
            Change::SeqGap { until, .. } if self.seq_gaps.reaches(until) => None,
            change => Some(change),
        }
    }

    /// There is no commit after `last`. Nobody can have forgotten what was between it and a later sequence, so a horizon
    /// that was counted back from commits which a crash took means this one.
    pub fn retain_no_later_than(&mut self, last: Seq) {
        self.retained_from = self.retained_from.min(last);
    }

    /// Versions before `seq` may be gone, and nobody asks any more what was lost there.
    fn forget_before(&mut self, seq: Seq) {
        self.retained_from = self.retained_from.max(seq);
        self.seq_gaps.forget_through(self.retained_from);
    }

    fn keyspace(&mut self, id: KeyspaceId) -> Result<&mut Keyspace, Refused> {
        match self.keyspaces.get_mut(&id) {
            Some(keyspace) => Ok(Arc::make_mut(keyspace)),
            None => refuse(format!("there is no keyspace {id}")),
        }
    }

    fn count_files_to(&mut self, next: FileNo) -> Result<(), Refused> {
        if next > FileNo::LIMIT {
            let limit = FileNo::LIMIT;
            return refuse(format!(
                "the next file number {next} is beyond {limit}, the last that can be counted"
            ));
        }
        advance(&mut self.next_file_no, next, "the next file number")
    }

    /// Checks that no file has this number, and counts past it.
    fn new_file(&mut self, no: FileNo) -> Result<(), Refused> {
        if no >= FileNo::LIMIT {
            return refuse(format!(
                "file {no} is not below {}, where the numbers of files end",
                FileNo::LIMIT
            ));
        }
        let is_table =
            self.keyspaces.values().any(|keyspace| keyspace.tables().any(|(_, table)| table.no == no));
        if is_table || self.log_segments.contains_key(&no) {
            return refuse(format!("file {no} is there already"));
        }
        self.next_file_no = self.next_file_no.max(no.next());
        Ok(())
    }

    fn add_table(&mut self, id: KeyspaceId, level: u8, table: &Arc<TableMeta>) -> Result<(), Refused> {
        self.new_file(table.no)?;
        let keyspace = self.keyspace(id)?;
        let in_order = if table.largest_is_exclusive {
            table.smallest < table.largest
        } else {
            table.smallest <= table.largest
        };
        if !in_order || table.min_seq > table.max_seq || table.max_seq > Seq::LIMIT {
            return refuse(format!("the bounds of table {} are out of order", table.no));
        }
        let Some(tables) = keyspace.levels.get_mut(usize::from(level)) else {
            return refuse(format!("there is no level {level}"));
        };
        let at = if level == 0 {
            let newest_first = |t: &TableMeta| (std::cmp::Reverse(t.max_seq), std::cmp::Reverse(t.no));
            tables.partition_point(|there| newest_first(there) < newest_first(table))
        } else {
            tables.partition_point(|there| there.smallest < table.smallest)
        };
        tables.insert(at, Arc::clone(table));
        Ok(())
    }

    fn create_keyspace(
        &mut self,
        id: KeyspaceId,
        name: &str,
        options: &KeyspaceOptions,
    ) -> Result<(), Refused> {
        check_options(options)?;
        if id.get() < self.next_keyspace_id || id.get() == u32::MAX {
            return refuse(format!("the keyspace number {id} was used before"));
        }
        if self.keyspaces.values().any(|keyspace| keyspace.name == name) {
            return refuse(format!("there is a keyspace {name} already"));
        }
        self.next_keyspace_id = id.get().saturating_add(1);
        let (name, options) = (name.to_owned(), options.clone());
        let levels = vec![Vec::new(); LEVELS];
        let keyspace = Keyspace { id, name, options, flushed: Lsn::ZERO, levels };
        self.keyspaces.insert(id, Arc::new(keyspace));
        Ok(())
    }

    /// The keyspace of that name.
    pub fn keyspace_named(&self, name: &str) -> Option<&Arc<Keyspace>> {
        self.keyspaces.values().find(|keyspace| keyspace.name == name)
    }
}

fn check_options(options: &KeyspaceOptions) -> Result<(), Refused> {
    options.validate().map_err(|error| Refused(error.to_string()))
}

impl Keyspace {
    /// All tables with their levels, from level 0 down.
    pub fn tables(&self) -> impl Iterator<Item = (u8, &Arc<TableMeta>)> {
        (0u8..).zip(&self.levels).flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    fn remove(&mut self, level: u8, no: FileNo) -> Result<(), Refused> {
        let tables = self.levels.get_mut(usize::from(level));
        let found = tables.and_then(|tables| Some((tables.iter().position(|t| t.no == no)?, tables)));
        match found {
            Some((at, tables)) => {
                tables.remove(at);
                Ok(())
            }
            None => refuse(format!("there is no table {no} in level {level} of keyspace {}", self.id)),
        }
    }

    fn check_levels(&self) -> Result<(), Refused> {
        for tables in self.levels.iter().skip(1) {
            for (a, b) in tables.iter().zip(tables.iter().skip(1)) {
                let apart =
                    if a.largest_is_exclusive { a.largest <= b.smallest } else { a.largest < b.smallest };
                if !apart {
                    return refuse(format!("tables {} and {} of one level overlap", a.no, b.no));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests draw numbers of a known size"
)]
#[path = "version_tests.rs"]
mod tests;
