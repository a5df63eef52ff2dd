//! What a transaction saw of others, key by key: the reads that tell something about the order of transactions.
//!
//! A key that the transaction itself wrote before tells only about itself and is left out (whether it shows what was
//! written is for the model to judge). A scan is a read of every key that it covers: of those that it found, and of
//! those that it passed without finding them. A scan that was ended early covers what lies up to its last entry.

use std::ops::{Bound, Range};
use std::sync::Arc;

use super::cells::Cells;
use crate::history::{History, Interval, Operation, TxnNo, Value};

/// One key, as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read<'a> {
    /// Its number.
    pub key: usize,
    /// Which operation of the transaction saw it.
    pub operation: u32,
    /// What was there; `None` if nothing.
    pub found: Option<&'a Value>,
    /// It was seen by walking over it.
    pub is_scan: bool,
}

/// Goes through the reads of one transaction after another.
pub(super) struct Reader<'a> {
    history: &'a History,
    cells: &'a Cells<'a>,
    /// Of each key: one more than the transaction that last wrote it, among those that were gone through.
    written: Vec<u32>,
}

impl<'a> Reader<'a> {
    /// For the transactions of `history`.
    pub(super) fn new(history: &'a History, cells: &'a Cells<'a>) -> Self {
        Self { history, cells, written: vec![0; cells.len()] }
    }

    /// Puts what `number` saw of others into `out`.
    pub(super) fn reads_of(&mut self, number: TxnNo, out: &mut Vec<Read<'a>>) {
        out.clear();
        let own = number + 1;
        for (at, operation) in (0u32..).zip(&self.history.transactions[number as usize].operations) {
            match operation {
                Operation::Get { found, .. } => {
                    let key = self.cells.key(number, at);
                    if self.written[key] != own {
                        out.push(Read { key, operation: at, found: found.as_ref(), is_scan: false });
                    }
                }
                Operation::Scan { keyspace, interval, reverse, found, complete } => {
                    let covered = covered(interval, *reverse, found, *complete);
                    let start = out.len();
                    for (key, (_, value)) in self.cells.named(number, at).iter().zip(found) {
                        let key = *key as usize;
                        if self.written[key] != own {
                            out.push(Read { key, operation: at, found: Some(value), is_scan: true });
                        }
                    }
                    if let Some(covered) = covered {
                        self.passed(own, at, self.cells.within(*keyspace, &covered), start, out);
                    }
                }
                Operation::Put { .. } | Operation::Delete { .. } => {
                    self.written[self.cells.key(number, at)] = own;
                }
                Operation::DeleteRange { keyspace, interval } => {
                    self.written[self.cells.within(*keyspace, interval)].fill(own);
                }
            }
        }
    }

    /// Adds the keys of `within` that are not among the reads from `start` on.
    fn passed(&self, own: u32, operation: u32, within: Range<usize>, start: usize, out: &mut Vec<Read<'a>>) {
        out[start..].sort_unstable_by_key(|read| read.key);
        let end = out.len();
        let mut at = start;
        for key in within {
            while at < end && out[at].key < key {
                at += 1;
            }
            if (at == end || out[at].key != key) && self.written[key] != own {
                out.push(Read { key, operation, found: None, is_scan: true });
            }
        }
    }
}

/// The part of its interval that a scan came by.
fn covered(
    interval: &Interval,
    reverse: bool,
    found: &[(Arc<[u8]>, Value)],
    complete: bool,
) -> Option<Interval> {
    if complete {
        return Some(interval.clone());
    }
    let last = Bound::Included(Arc::clone(&found.last()?.0));
    Some(if reverse {
        Interval { start: last, end: interval.end.clone() }
    } else {
        Interval { start: interval.start.clone(), end: last }
    })
}
