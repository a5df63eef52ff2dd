//! Jobs over drawn levels, some of whose tables are damaged, carried out on lists of entries.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::compaction::retain::Readers;
use crate::error::Error;
use crate::memtable::Memtable;
use crate::options::{KeyspaceOptions, LEVELS};
use crate::table::TableMeta;
use crate::tree::{Graveyard, Level, Memory};
use crate::types::{FileId, FileNo, KeyspaceId};

const LEVEL0_TABLES: u32 = 4;

/// Keys with the sequences of their entries, newest first.
type Entries = BTreeMap<u8, Vec<u64>>;

struct Model {
    keyspace: KeyspaceState,
    entries: BTreeMap<FileNo, Entries>,
    next_no: u64,
    next_seq: u64,
}

impl Model {
    fn new() -> Self {
        let options = KeyspaceOptions {
            level0_tables: LEVEL0_TABLES,
            level1_bytes: 1000,
            table_bytes: 400,
            level_ratio: 2,
            ..KeyspaceOptions::default()
        };
        let keyspace = KeyspaceState {
            id: KeyspaceId::new(1),
            name: "k".into(),
            options: Arc::new(options),
            active: Memory::new(Memtable::new(0)),
            frozen: Vec::new(),
            levels: Default::default(),
        };
        Self { keyspace, entries: BTreeMap::new(), next_no: 1, next_seq: 1 }
    }

    fn change(&mut self, level: usize, change: impl FnOnce(&mut Vec<Arc<TableHandle>>)) {
        let mut tables = self.keyspace.levels[level].to_vec();
        change(&mut tables);
        if level == 0 {
            // The order that the manifest gives them.
            tables.sort_by_key(|t| std::cmp::Reverse((t.meta().max_seq, t.meta().no)));
        } else {
            tables.sort_by(|a, b| a.meta().smallest.cmp(&b.meta().smallest));
        }
        self.keyspace.levels[level] = Level::new(tables);
    }

    fn add(&mut self, level: usize, entries: Entries) {
        let seqs: Vec<u64> = entries.values().flatten().copied().collect();
        let no = FileNo::new(self.next_no);
        self.next_no += 1;
        let meta = TableMeta {
            no,
            id: FileId::new(no.get()),
            bytes: seqs.len() as u64 * 100,
            smallest: vec![*entries.keys().next().unwrap()],
            largest: vec![*entries.keys().next_back().unwrap()],
            largest_is_exclusive: false,
            min_seq: Seq::new(*seqs.iter().min().unwrap()),
            max_seq: Seq::new(*seqs.iter().max().unwrap()),
            entries: seqs.len() as u64,
            deletes: 0,
            range_tombstones: 0,
            raw_bytes: 0,
            superseded_bytes: 0,
        };
        let handle = TableHandle::new(Arc::new(meta), Arc::new(Graveyard::default()));
        self.change(level, |tables| tables.push(handle));
        self.entries.insert(no, entries);
    }

    fn flush(&mut self, keys: impl IntoIterator<Item = u8>) {
        let mut entries = Entries::new();
        for key in keys {
            entries.entry(key).or_default().insert(0, self.next_seq);
            self.next_seq += 1;
        }
        self.add(0, entries);
    }

    fn damage(&self, level: usize, at: usize) {
        let tables = &self.keyspace.levels[level];
        if !tables.is_empty() {
            tables[at % tables.len()].quarantine(Error::corrupt_at("a.table", 0, "planted"));
        }
    }

    /// Carries the next job out; false if there is none.
    fn step(&mut self) -> bool {
        let readers = Readers::new(Vec::new(), Seq::ZERO, Seq::ZERO);
        let Some(job) = pick::pick(&self.keyspace, &readers, &|_| false, &Default::default()) else {
            return false;
        };
        assert!(job.inputs().all(|input| !input.is_quarantined()), "a damaged table is in no job");
        let inputs: BTreeSet<FileNo> = job.inputs().map(|input| input.meta().no).collect();
        let mut merged = Entries::new();
        for no in &inputs {
            for (key, seqs) in &self.entries[no] {
                merged.entry(*key).or_default().extend(seqs);
            }
        }
        merged.values_mut().for_each(|seqs| seqs.sort_unstable_by(|a, b| b.cmp(a)));
        self.check_what_may_be_dropped(&job, &inputs, &merged);
        let mut parts: BTreeMap<usize, Entries> = BTreeMap::new();
        for (at, (key, seqs)) in merged.into_iter().enumerate() {
            let part = match job.output_level {
                0 => job.cuts.partition_point(|cut| **cut <= [key][..]),
                _ => at / 3,
            };
            parts.entry(part).or_default().insert(key, seqs);
        }
        assert!(job.output_level > 0 || parts.len() < inputs.len(), "level 0 gets shorter");
        for level in [job.level, job.output_level] {
            self.change(level, |tables| tables.retain(|table| !inputs.contains(&table.meta().no)));
        }
        self.entries.retain(|no, _| !inputs.contains(no));
        parts.into_values().for_each(|part| self.add(job.output_level, part));
        self.check();
        true
    }

    /// Where a delete may be dropped, nothing that is older than the job's entries is left of its key.
    fn check_what_may_be_dropped(&self, job: &Job, inputs: &BTreeSet<FileNo>, merged: &Entries) {
        for (key, seqs) in merged {
            if pick::anything_below(&self.keyspace, job, &[*key], Some(&[*key])) {
                continue;
            }
            let others = self.entries.iter().filter(|(no, _)| !inputs.contains(no));
            let left = others.filter_map(|(_, entries)| entries.get(key)).flatten();
            assert!(left.into_iter().all(|seq| seq > &seqs[0]), "key {key} has an older entry elsewhere");
        }
    }

    /// What the tree promises: what stands higher is newer, and tables of a deeper level do not touch.
    fn check(&self) {
        let mut last: BTreeMap<u8, u64> = BTreeMap::new();
        let mut count = 0;
        for table in self.keyspace.tables() {
            for (key, seqs) in &self.entries[&table.meta().no] {
                for seq in seqs {
                    count += 1;
                    let above = last.insert(*key, *seq);
                    assert!(
                        above.is_none_or(|above| above > *seq),
                        "key {key}: {seq} stands below {above:?}"
                    );
                }
            }
        }
        assert_eq!(count, self.next_seq - 1, "every entry is somewhere");
        for level in 1..LEVELS {
            let apart = |pair: &[Arc<TableHandle>]| pair[0].ends_before(&pair[1].meta().smallest);
            assert!(self.keyspace.levels[level].windows(2).all(apart), "tables of level {level} overlap");
        }
    }

    fn run_dry(&mut self) {
        for _ in 0..2000 {
            if !self.step() {
                return;
            }
        }
        panic!("jobs come to no end");
    }

    fn level0_len(&self) -> usize {
        self.keyspace.levels[0].len()
    }
}

quickcheck::quickcheck! {
    fn jobs_keep_the_order_and_level0_short(draws: Vec<(u8, u8, u8, u8)>) -> bool {
        let mut model = Model::new();
        for (kind, a, b, c) in draws {
            match kind % 12 {
                0..=6 => {
                    let (low, high) = (a.min(b) % 64, a.max(b) % 64);
                    let (low, high) = (low.min(high), low.max(high));
                    model.flush((low..=high).step_by(usize::from(c % 9) + 1));
                }
                7 => model.damage(0, usize::from(a)),
                8 => model.damage(1 + usize::from(b) % (LEVELS - 1), usize::from(a)),
                9 => model.run_dry(),
                _ => {
                    model.step();
                }
            }
        }
        model.run_dry();
        let damaged = model.keyspace.tables().filter(|table| table.is_quarantined()).count();
        let here = model.keyspace.levels[0].iter().filter(|table| table.is_quarantined()).count();
        match damaged {
            0 => assert!(model.level0_len() < LEVEL0_TABLES as usize),
            // So few entries are less than 3^9 times those of the smallest table.
            _ => assert!(model.level0_len() <= here + (here + 1) * (2 * RANGES_MAX + 2 + 9)),
        }
        true
    }
}

#[test]
fn level0_stays_short_over_a_table_that_reaches_over_all_keys() {
    for above in [0, 1, 2] {
        let mut model = Model::new();
        for _ in 0..3 {
            model.flush(0..64);
        }
        model.damage(0, above);
        let mut most = 0;
        for round in 0..600u64 {
            model.flush((0..64).filter(|key| (u64::from(*key) * 7 + round) % 3 > 0));
            model.run_dry();
            most = most.max(model.level0_len());
        }
        assert!(most <= 12, "{most} tables with {above} above the damaged one");
    }
}

#[test]
fn what_is_beside_a_damaged_table_of_the_base_leaves_level0() {
    let mut model = Model::new();
    for _ in 0..LEVEL0_TABLES {
        model.flush(0..64);
    }
    model.run_dry();
    let level = (1..LEVELS).find(|level| model.keyspace.levels[*level].len() > 4).unwrap();
    model.damage(level, 4);
    let held = model.keyspace.levels[level][4].clone();
    for _ in 0..40 {
        model.flush(0..64);
        model.run_dry();
    }
    assert!(model.level0_len() <= 8, "{} tables", model.level0_len());
    // A few that wait for others reach further.
    let reach_further = |table: &&Arc<TableHandle>| {
        table.meta().smallest < held.meta().smallest || table.meta().largest > held.meta().largest
    };
    let waiting: usize = model.keyspace.levels[0].iter().filter(reach_further).count();
    assert!(waiting < LEVEL0_TABLES as usize, "{waiting} tables wait");
}
