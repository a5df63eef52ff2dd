//! What to compact next: a pure choice over a state.
//!
//! Leveled compaction with dynamic level targets (Dong et al., "Optimizing Space Amplification in RocksDB", CIDR
//! 2017): the deepest level's real size sets the target of each level above it by `level_ratio`, so that nearly all
//! data lies in the deepest level and dead versions above it are at most about 1/`level_ratio` of the data.
//! Level 0 is compacted into the *base*, the first level whose target does not exceed `level1_bytes`; a small database
//! has level 0 and the deepest level only.
//!
//! Reasons, in order of urgency: too many tables in level 0, a level over its target, a table rich in deletes,
//! a bottom table with deletes, or an eighth of old versions, that no reader needs any more.
//!
//! A damaged table is in no job. Below level 0 a job is one table with what it overlaps one level deeper, so a damaged
//! one holds back what overlaps it and nothing else; what becomes of level 0 is said in [`level0`](super::level0).

use std::sync::Arc;

use super::level0;
use super::retain::Readers;
use crate::options::LEVELS;
use crate::tree::{KeyspaceState, TableHandle};
use crate::types::KeyspaceId;

/// A bottom table is rewritten for its old versions alone once they are one part in so many of its bytes.
const STALE_PART: u64 = 8;
/// The deepest level.
pub(crate) const LAST_LEVEL: usize = LEVELS - 1;

/// Why a job was picked; for events and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Level0Tables,
    LevelSize,
    Deletes,
    Asked,
}

/// Tables to merge and where the result goes.
pub(crate) struct Job {
    pub keyspace: KeyspaceId,
    pub reason: Reason,
    pub level: usize,
    pub output_level: usize,
    /// Of `level`; newest first if that is level 0.
    pub upper: Vec<Arc<TableHandle>>,
    /// Of `output_level`, sorted.
    pub lower: Vec<Arc<TableHandle>>,
    /// Keys at which outputs end, ascending. If the output level is 0 they end nowhere else.
    pub cuts: Vec<Vec<u8>>,
}

impl Job {
    /// All inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &Arc<TableHandle>> {
        self.upper.iter().chain(&self.lower)
    }

    /// Bytes of all inputs.
    pub fn input_bytes(&self) -> u64 {
        self.inputs().map(|table| table.meta().bytes).sum()
    }

    /// True if the tables can be listed one level deeper as they are.
    pub fn is_move(&self) -> bool {
        self.lower.is_empty()
            && self.level != self.output_level
            && self.upper.len() == 1
            && self.reason == Reason::LevelSize
    }
}

/// Where level 0 goes and how large each level may grow, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Targets {
    pub base: usize,
    pub bytes: [u64; LEVELS],
}

/// The targets that follow from the deepest level's size.
pub(crate) fn targets(keyspace: &KeyspaceState) -> Targets {
    let options = &keyspace.options;
    let ratio = u64::from(options.level_ratio);
    let largest = (1..LEVELS).map(|level| keyspace.level_bytes(level)).max().unwrap_or(0);
    let mut bytes = [u64::MAX; LEVELS];
    let mut target = largest;
    let mut base = LAST_LEVEL;
    while target > options.level1_bytes && base > 1 {
        target /= ratio;
        base -= 1;
        bytes[base] = target.max(options.table_bytes);
    }
    // A level above the base that still holds tables, from a time when the data was larger, must drain.
    bytes[1..base].fill(0);
    Targets { base, bytes }
}

/// The next job of one keyspace, or `None` if it is in good order. `busy` says which tables are inputs already;
/// `cursor` is, per level, the largest key of the last job, so that jobs go round the key space.
pub(crate) fn pick(
    keyspace: &KeyspaceState,
    readers: &Readers,
    busy: &dyn Fn(&TableHandle) -> bool,
    cursor: &[Vec<u8>; LEVELS],
) -> Option<Job> {
    let targets = targets(keyspace);
    let level0 = &keyspace.levels[0];
    let idle = |table: &Arc<TableHandle>| !busy(table) && !table.is_quarantined();
    let mut scored: Vec<(u64, usize)> = Vec::new();
    if !level0.is_empty() {
        scored.push((level0.len() as u64 * 1000 / u64::from(keyspace.options.level0_tables), 0));
    }
    for level in 1..LAST_LEVEL {
        let bytes = keyspace.level_bytes(level);
        if bytes > 0 {
            let score = u128::from(bytes) * 1000 / u128::from(targets.bytes[level].max(1));
            scored.push((u64::try_from(score).unwrap_or(u64::MAX), level));
        }
    }
    scored.sort_unstable_by_key(|(score, level)| (std::cmp::Reverse(*score), *level));
    for (score, level) in scored {
        if score < 1000 {
            break;
        }
        let job = if level == 0 {
            level0::job(keyspace, targets.base, Reason::Level0Tables, &idle)
        } else {
            from_run(keyspace, level, &cursor[level], Reason::LevelSize, &idle)
        };
        if job.is_some() {
            return job;
        }
    }
    for_deletes(keyspace, readers, &targets, &idle)
}

/// A job that moves everything of `level` that is idle one step down, for a compaction that was asked for.
pub(crate) fn push_down(
    keyspace: &KeyspaceState,
    level: usize,
    busy: &dyn Fn(&TableHandle) -> bool,
) -> Option<Job> {
    let idle = |table: &Arc<TableHandle>| !busy(table) && !table.is_quarantined();
    let mut job = if level == 0 {
        level0::job(keyspace, targets(keyspace).base, Reason::Asked, &idle)
    } else {
        from_run(keyspace, level, &[], Reason::Asked, &idle)
    }?;
    job.reason = Reason::Asked;
    Some(job)
}

/// Rewrites one table of the deepest level in place, for a compaction that was asked for.
pub(crate) fn rewrite(keyspace: &KeyspaceState, level: usize, table: Arc<TableHandle>) -> Job {
    Job {
        keyspace: keyspace.id,
        reason: Reason::Asked,
        level,
        output_level: level,
        upper: vec![table],
        lower: Vec::new(),
        cuts: Vec::new(),
    }
}

fn from_run(
    keyspace: &KeyspaceState,
    level: usize,
    cursor: &[u8],
    reason: Reason,
    idle: &dyn Fn(&Arc<TableHandle>) -> bool,
) -> Option<Job> {
    let run = &keyspace.levels[level];
    let from = run.partition_point(|table| *table.meta().smallest <= *cursor);
    let from = if cursor.is_empty() { 0 } else { from };
    run[from..]
        .iter()
        .chain(&run[..from])
        .filter(|table| idle(table))
        .find_map(|table| complete(keyspace, reason, level, level + 1, vec![table.clone()], idle))
}

/// Adds the tables of the output level that lie between the first and the last key of the upper ones; `None` if one of
/// them is not idle. Those that overlap none of the upper tables but lie between two of them are needed too: an output
/// table may reach from one to the other, and would lie across whatever was left out.
pub(super) fn complete(
    keyspace: &KeyspaceState,
    reason: Reason,
    level: usize,
    output_level: usize,
    upper: Vec<Arc<TableHandle>>,
    idle: &dyn Fn(&Arc<TableHandle>) -> bool,
) -> Option<Job> {
    let lower: Vec<Arc<TableHandle>> = keyspace.levels[output_level]
        .iter()
        .filter(|table| {
            let reaches = |above: &Arc<TableHandle>| !above.ends_before(&table.meta().smallest);
            let begins = |above: &Arc<TableHandle>| !table.ends_before(&above.meta().smallest);
            upper.iter().any(reaches) && upper.iter().any(begins)
        })
        .cloned()
        .collect();
    let cuts = Vec::new();
    lower.iter().all(idle).then(|| Job {
        keyspace: keyspace.id,
        reason,
        level,
        output_level,
        upper,
        lower,
        cuts,
    })
}

fn for_deletes(
    keyspace: &KeyspaceState,
    readers: &Readers,
    targets: &Targets,
    idle: &dyn Fn(&Arc<TableHandle>) -> bool,
) -> Option<Job> {
    let bottom = (1..LEVELS).rev().find(|level| !keyspace.levels[*level].is_empty())?;
    for level in 1..LEVELS {
        for table in keyspace.levels[level].iter().filter(|table| idle(table)) {
            let meta = table.meta();
            let rich = meta.deletes.saturating_mul(4) >= meta.entries.max(1) || meta.range_tombstones > 0;
            if level < bottom && level >= targets.base && rich && meta.hides_something() {
                let job = complete(keyspace, Reason::Deletes, level, level + 1, vec![table.clone()], idle);
                if job.is_some() {
                    return job;
                }
            }
            // A delete is rare and costs every reader of its range; a few old versions are not worth a table's bytes.
            let stale = meta.superseded_bytes > 0 && meta.superseded_bytes >= meta.raw_bytes / STALE_PART;
            if level == bottom && (meta.hides_something() || stale) && readers.all_see(meta.max_seq) {
                return Some(Job { reason: Reason::Deletes, ..rewrite(keyspace, level, table.clone()) });
            }
        }
    }
    None
}

/// True if an older entry of a key in `start..=end` (`None`: no bound) than those of `job` may lie below its outputs.
///
/// Of an output level below 0 nothing beside the job is asked: the job holds all its tables between the first and the
/// last of its keys. What it leaves behind in level 0 and is older shares no key with it. Outputs that stay in level 0
/// have older tables beside them, so the answer is yes.
pub(crate) fn anything_below(keyspace: &KeyspaceState, job: &Job, start: &[u8], end: Option<&[u8]>) -> bool {
    if job.output_level == 0 {
        return true;
    }
    // The end of a deleted range is no key of it.
    let begins = |table: &TableHandle| {
        let smallest = &*table.meta().smallest;
        smallest <= start || end.is_none_or(|end| smallest < end)
    };
    debug_assert!(
        keyspace.levels[job.output_level].iter().all(|table| {
            table.ends_before(start) || !begins(table) || job.inputs().any(|input| Arc::ptr_eq(input, table))
        }),
        "a table of the output level holds keys of the job and is not in it"
    );
    keyspace.levels[job.output_level + 1..].iter().any(|run| {
        let at = run.partition_point(|table| table.ends_before(start));
        run.get(at).is_some_and(|table| end.is_none_or(|end| *table.meta().smallest <= *end))
    })
}
