//! A cursor over the point entries of a memtable.
//!
//! It owns its share of the memory, so it may outlive the memtable's place in the tree. Entries inserted while it
//! stands somewhere may or may not be met; those of a sequence that was published before are.

use std::sync::Arc;

use super::node::{Entry, Target};
use super::skiplist::{Cursor, SkipList};
use crate::types::{EntryRef, OpKind, Seq, Value};

/// Key ascending, then sequence descending. Begins on no entry: seek first.
#[derive(Clone)]
pub struct MemtableIter {
    cursor: Cursor,
    /// Entries after it are passed over.
    until: Seq,
}

impl MemtableIter {
    pub(super) fn new(list: Arc<SkipList>, until: Seq) -> Self {
        Self { cursor: Cursor::new(list), until }
    }

    fn pass_over_forward(&mut self) {
        while self.cursor.entry().is_some_and(|entry| entry.seq > self.until) {
            self.cursor.next();
        }
    }

    fn pass_over_backward(&mut self) {
        while self.cursor.entry().is_some_and(|entry| entry.seq > self.until) {
            self.cursor.prev();
        }
    }

    /// To the first entry of `key` with a sequence of at most `seq`, else to the first entry of the next key.
    pub fn seek(&mut self, key: &[u8], seq: Seq) {
        self.cursor.first_from(&Target::new(key, seq));
        self.pass_over_forward();
    }

    /// To the first entry.
    pub fn seek_first(&mut self) {
        self.cursor.first();
        self.pass_over_forward();
    }

    /// To the last entry: the oldest of the greatest key.
    pub fn seek_last(&mut self) {
        self.cursor.last();
        self.pass_over_backward();
    }

    /// To the last entry of the greatest key below `key`: its oldest.
    pub fn seek_before(&mut self, key: &[u8]) {
        self.cursor.last_before(&Target::new(key, Seq::LIMIT));
        self.pass_over_backward();
    }

    /// To the following entry; from the last one, or from nowhere, to nowhere.
    pub fn next(&mut self) {
        self.cursor.next();
        self.pass_over_forward();
    }

    /// To the preceding entry, in O(log n); from the first one, or from nowhere, to nowhere.
    pub fn prev(&mut self) {
        self.cursor.prev();
        self.pass_over_backward();
    }

    /// True if it stands on an entry.
    pub fn valid(&self) -> bool {
        self.cursor.entry().is_some()
    }

    /// What it stands on, without its value.
    #[inline]
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        self.cursor.entry().map(|entry| EntryRef { key: entry.key, seq: entry.seq, kind: entry.kind })
    }

    fn whole_entry(&self) -> Entry<'_> {
        self.cursor.entry().expect("asked only while valid")
    }

    /// Key of the entry. Only while valid, as are the following.
    pub fn key(&self) -> &[u8] {
        self.whole_entry().key
    }

    /// Sequence of the entry.
    pub fn seq(&self) -> Seq {
        self.whole_entry().seq
    }

    /// Put or delete.
    pub fn kind(&self) -> OpKind {
        self.whole_entry().kind
    }

    /// Value of the entry; empty for a delete.
    pub fn value(&self) -> &[u8] {
        self.whole_entry().value
    }

    /// The value, keeping the memtable's memory alive.
    pub fn pinned_value(&self) -> Value {
        self.cursor.list().pin(self.whole_entry().value)
    }
}
