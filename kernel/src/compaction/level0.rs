//! What becomes of level 0: it goes down into the base, around what is damaged.
//!
//! Without damage all of it is one job. A table that is in no job, because it is damaged, holds others back, and the
//! invariant of the tree decides which: of two entries of one key the one that stands higher is the newer. A table of
//! level 0 is *stuck* if it is damaged itself, if it touches a damaged table of the output level, or if it touches an
//! older table of level 0 that is stuck. Tables touch if their bounds overlap; deleted ranges are within the bounds.
//!
//! ```text
//! keys      a b c d e f g h i j
//! newest      [──1──]   [2]        1 stays: it touches 3      2 goes down
//!               [────3────]        3 stays: it touches x      4 goes down, and so would 5, older than x
//!                  [──x──]  [4]    x is damaged
//! oldest       [───5────────]      1 and 3 are gathered into tables that are cut where x begins and ends
//! ```
//!
//! *Going down* keeps the order. Let a key stand in a table T that goes and in an older table O of level 0. They touch,
//! so O is not stuck, or T would be; and no damaged table of the output level lies between them, so O is in T's job. So
//! all that is older than the job's entries of a key is in the job or below its output level, which is also what a
//! delete asks before it is dropped. What stays is above, and newer where it shares a key. No output lies across a
//! damaged table: a job holds tables between two neighbouring ones only.
//!
//! *Gathering* keeps what is stuck few and small. Neighbours in level 0 are merged, and the outputs take their place:
//! level 0 is ordered by greatest sequence, those of the outputs lie between the least and the greatest of the inputs,
//! and so it is only done if every newer table has a greater one and every older table none as great, as flushes make
//! them. Nothing is dropped there for want of something older to hide. The outputs are cut at the ends of the damaged
//! ranges, so that whatever is beside them touches nothing damaged any more and goes down.
//!
//! *Bounds.* A gathering takes more tables than it can make, so each job makes level 0 shorter and jobs come to an end.
//! The oldest table it takes is at most twice as large as all newer ones, so an entry is rewritten a logarithmic number of
//! times; where none is due, each table beyond the first few is more than twice as large as all newer ones, so that a
//! row of neighbours has at most 41 more tables than a gathering takes: sums that triple end at 2^64. The stall condition
//! counts on that.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::pick::{self, Job, Reason};
use crate::check::mark;
use crate::tree::{KeyspaceState, TableHandle};
use crate::types::{KEY_LEN_MAX, Seq};

/// A gathering is cut around so many damaged ranges at most; of more, the last ones count as one.
const RANGES_MAX: usize = 4;

type Idle<'a> = dyn Fn(&Arc<TableHandle>) -> bool + 'a;

/// What is to be done about level 0, whose output goes to `base`; `None` if nothing can be, or not yet.
pub(super) fn job(keyspace: &KeyspaceState, base: usize, reason: Reason, idle: &Idle<'_>) -> Option<Job> {
    // Levels between 0 and the base hold older data than level 0: they drain first.
    let output_level = (1..base).find(|level| !keyspace.levels[*level].is_empty()).unwrap_or(base);
    let run = &keyspace.levels[output_level];
    let walls: Vec<&Arc<TableHandle>> = run.iter().filter(|table| !idle(table)).collect();
    go_down(keyspace, output_level, reason, &walls, idle).or_else(|| gather(keyspace, reason, &walls, idle))
}

fn touch(a: &TableHandle, b: &TableHandle) -> bool {
    !a.ends_before(&b.meta().smallest) && !b.ends_before(&a.meta().smallest)
}

/// For each table of level 0 whether it is stuck. `walls` are the damaged tables of the output level.
fn stuck(level0: &[Arc<TableHandle>], walls: &[&Arc<TableHandle>], idle: &Idle<'_>) -> Vec<bool> {
    let mut stuck = vec![false; level0.len()];
    for (at, table) in level0.iter().enumerate().rev() {
        let mut older = level0[at + 1..].iter().zip(&stuck[at + 1..]);
        stuck[at] = !idle(table)
            || walls.iter().any(|wall| touch(table, wall))
            || older.any(|(older, stuck)| *stuck && touch(table, older));
    }
    stuck
}

/// The most tables that can go down together, if that is worth it.
fn go_down(
    keyspace: &KeyspaceState,
    output_level: usize,
    reason: Reason,
    walls: &[&Arc<TableHandle>],
    idle: &Idle<'_>,
) -> Option<Job> {
    let level0 = &keyspace.levels[0];
    let stuck = stuck(level0, walls, idle);
    let mut groups: BTreeMap<usize, Vec<Arc<TableHandle>>> = BTreeMap::new();
    for (table, _) in level0.iter().zip(&stuck).filter(|(_, stuck)| !**stuck) {
        let gap = walls.partition_point(|wall| wall.ends_before(&table.meta().smallest));
        groups.entry(gap).or_default().push(table.clone());
    }
    // With tables that stay, level 0 is never short, and would pass each new table on by itself.
    let at_once = reason == Reason::Asked || !stuck.contains(&true);
    let is_worth_it = |job: &Job| {
        let bytes = |tables: &[Arc<TableHandle>]| tables.iter().map(|table| table.meta().bytes).sum::<u64>();
        let ratio = u64::from(keyspace.options.level_ratio);
        at_once
            || job.upper.len() as u64 >= u64::from(keyspace.options.level0_tables)
            || bytes(&job.lower) / ratio <= bytes(&job.upper)
    };
    groups
        .into_values()
        .filter_map(|upper| pick::complete(keyspace, reason, 0, output_level, upper, idle))
        .filter(is_worth_it)
        .max_by_key(|job| job.upper.len())
}

/// Merges neighbours in level 0 that cannot go down as they are.
fn gather(
    keyspace: &KeyspaceState,
    reason: Reason,
    walls: &[&Arc<TableHandle>],
    idle: &Idle<'_>,
) -> Option<Job> {
    let level0 = &keyspace.levels[0];
    let mut from = 0;
    while from < level0.len() {
        let row = from..from + level0[from..].iter().take_while(|table| idle(table)).count();
        let damaged = level0[row.end..].iter().filter(|table| !idle(table));
        let ranges = ranges(&level0[row.clone()], damaged.chain(walls.iter().copied()));
        // Two cuts a range make one part more than there are cuts.
        let fewest = 2 * ranges.len() + 2;
        let taken = match reason {
            Reason::Asked => due(level0, row.clone(), fewest, u64::MAX),
            _ => due(level0, row.clone(), fewest.max(keyspace.options.level0_tables as usize), 2),
        };
        if let Some(taken) = taken {
            mark!("level0_gathered");
            let ends = ranges.into_iter().flat_map(|range| [range.start, range.end]);
            return Some(Job {
                keyspace: keyspace.id,
                reason,
                level: 0,
                output_level: 0,
                upper: level0[taken].to_vec(),
                lower: Vec::new(),
                cuts: ends.filter(|end| end.len() <= KEY_LEN_MAX).collect(),
            });
        }
        from = row.end + 1;
    }
    None
}

/// The longest newer part of `row` that may be gathered: at least `fewest` tables, the last of which is at most
/// `factor` times as large as the others. `row` is of neighbours in level 0.
fn due(level0: &[Arc<TableHandle>], row: Range<usize>, fewest: usize, factor: u64) -> Option<Range<usize>> {
    let newest = level0.get(row.start)?.meta().max_seq;
    if row.start > 0 && level0[row.start - 1].meta().max_seq <= newest {
        return None;
    }
    let (mut taken, mut bytes, mut least) = (None, 0u64, Seq::MAX);
    for at in row.clone() {
        let meta = level0[at].meta();
        let is_in_reach = meta.bytes <= bytes.saturating_mul(factor);
        bytes = bytes.saturating_add(meta.bytes);
        least = least.min(meta.min_seq);
        let keeps_its_place = level0.get(at + 1).is_none_or(|older| older.meta().max_seq < least);
        if at + 1 - row.start >= fewest && is_in_reach && keeps_its_place {
            taken = Some(row.start..at + 1);
        }
    }
    taken
}

/// The ranges of the `damaged` tables that touch one of `row`, ascending, apart from each other.
fn ranges<'a>(
    row: &[Arc<TableHandle>],
    damaged: impl Iterator<Item = &'a Arc<TableHandle>>,
) -> Vec<Range<Vec<u8>>> {
    let mut all: Vec<Range<Vec<u8>>> = damaged
        .filter(|damaged| row.iter().any(|table| touch(table, damaged)))
        .map(|damaged| {
            let mut end = damaged.meta().largest.clone();
            if !damaged.meta().largest_is_exclusive {
                end.push(0);
            }
            damaged.meta().smallest.clone()..end
        })
        .collect();
    all.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    let mut apart: Vec<Range<Vec<u8>>> = Vec::new();
    for range in all {
        let full = apart.len() == RANGES_MAX;
        match apart.last_mut().filter(|last| full || range.start <= last.end) {
            Some(last) => last.end = range.end.max(std::mem::take(&mut last.end)),
            None => apart.push(range),
        }
    }
    apart
}

#[cfg(test)]
#[path = "level0_tests.rs"]
mod tests;
