//! What a case does: settings and operations, drawn from a seed, shrunk, and printed as a test.

use std::fmt;

use holdfast::{Compression, Durability, Isolation, KeyspaceOptions, Options};
use quickcheck::{Arbitrary, Gen};

/// A list that prints as the call that makes it.
#[derive(Clone, PartialEq)]
pub struct List<T>(pub Vec<T>);

/// Makes a [`List`].
pub fn list<T, const N: usize>(items: [T; N]) -> List<T> {
    List(items.into())
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list([")?;
        for (at, item) in self.0.iter().enumerate() {
            write!(f, "{}{item:?}", if at > 0 { ", " } else { "" })?;
        }
        write!(f, "])")
    }
}

/// What a case runs with. Small, so that a few hundred operations flush, compact and roll the log.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    pub memtable_kib: u64,
    pub table_kib: u64,
    pub level0_tables: u32,
    pub level_ratio: u32,
    pub compress: bool,
    pub filter_bits: u32,
    pub retain: u64,
    pub narrow_window: bool,
    pub direct: bool,
    pub paranoid: bool,
    pub compactions: u32,
    /// How many keys there are in a keyspace.
    pub keys: u16,
    /// `Env::rare` is true once in so many times; 0 is never.
    pub rare: u32,
}

impl Settings {
    /// The plainest.
    pub const PLAIN: Self = Self {
        memtable_kib: 4,
        table_kib: 16,
        level0_tables: 2,
        level_ratio: 2,
        compress: false,
        filter_bits: 10,
        retain: 0,
        narrow_window: false,
        direct: false,
        paranoid: true,
        compactions: 1,
        keys: 64,
        rare: 0,
    };

    pub fn options(&self) -> Options {
        Options {
            memory_limit_bytes: 8 << 20,
            memtable_bytes: self.memtable_kib << 10,
            log_segment_bytes_max: 64 << 10,
            log_bytes_max: 128 << 10,
            retain_commits: self.retain,
            compactions_max: self.compactions,
            open_files_max: 16,
            transaction_bytes_max: 1 << 20,
            conflict_window_bytes: if self.narrow_window { 64 << 10 } else { 16 << 20 },
            reserve_bytes: 64 << 10,
            direct_log: self.direct,
            paranoid_checks: self.paranoid,
            ..Options::default()
        }
    }

    pub fn keyspace_options(&self) -> KeyspaceOptions {
        let compression = match self.compress {
            true => vec![Compression::None, Compression::Lz4, Compression::Zstd],
            false => vec![Compression::None],
        };
        KeyspaceOptions {
            block_bytes: 256,
            table_bytes: self.table_kib << 10,
            filter_bits_per_key: self.filter_bits,
            compression,
            level0_tables: self.level0_tables,
            level1_bytes: 16 << 10,
            level_ratio: self.level_ratio,
        }
    }
}

/// Through whose eyes something is read. Numbers are of slots; an empty slot reads as of now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum View {
    Now,
    InSnapshot(u8),
    InTransaction(u8),
}

/// What is walked over.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    Everything,
    /// Keys that start with the first bytes of this key.
    Prefix(u16, u8),
    /// From one key to another, each included or not.
    Between(u16, bool, u16, bool),
    /// What comes behind a key in the direction of the walk.
    After(u16),
}

/// A walk.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Walk {
    pub shape: Shape,
    pub reverse: bool,
    pub limit: Option<u8>,
}

/// One write. `keyspace`, keys and lengths are taken modulo what there is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Write {
    Put(u8, u16, u16),
    Delete(u8, u16),
    DeleteRange(u8, u16, u16),
}

/// One step of a case. What it names and is not there makes it do nothing, so that every sublist is a case.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// A commit of its own.
    Commit(List<Write>, Durability),
    /// Several commits at once.
    Together(List<(List<Write>, Durability)>),
    Get(View, u8, u16),
    Scan(View, u8, Walk),
    OpenCursor(u8, View, u8, Walk),
    StepCursor(u8, u8),
    TakeSnapshot(u8),
    /// A snapshot this many commits back.
    TakePast(u8, u16),
    DropSnapshot(u8),
    Begin(u8, Isolation, Durability),
    WriteIn(u8, Write),
    CommitIn(u8),
    RollBack(u8),
    CreateKeyspace(u8),
    DropKeyspace(u8),
    FlushAll,
    CompactAll,
    SyncAll,
    Wait(u16),
    /// Close and open.
    Close,
    /// Drop every handle and open.
    DropAll,
    /// The process dies and another opens; that one dies too after so many disk calls, unless 0.
    Kill(u8),
    /// The power fails; and again after so many disk calls of the opening, unless 0.
    PowerLoss(u8),
    /// A kill (or power loss) so many disk calls from now, wherever that is.
    CrashIn(u16, bool),
}

/// Every case as it was drawn, neither shrunk nor shortened, opens the database again at least so often.
pub const REOPENINGS_MIN: u64 = 3;

/// A case.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    pub seed: u64,
    pub settings: Settings,
    pub operations: List<Operation>,
}

/// A small generator, so that a case depends on its seed alone.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x6a09_e667_f3bc_c908)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

impl Case {
    pub fn of_seed(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let settings = Settings {
            memtable_kib: draw.of(&[4, 4, 8, 16]),
            table_kib: draw.of(&[16, 16, 32]),
            level0_tables: draw.of(&[1, 2, 4]),
            level_ratio: draw.of(&[2, 2, 4]),
            compress: draw.one_in(3),
            filter_bits: draw.of(&[0, 10]),
            retain: draw.of(&[0, 0, 5, 50, 10_000]),
            narrow_window: draw.one_in(4),
            direct: draw.one_in(2),
            paranoid: draw.one_in(2),
            compactions: draw.of(&[1, 1, 2, 3]),
            keys: draw.of(&[8, 48, 48, 200, 800]),
            rare: draw.of(&[0, 0, 16, 128]),
        };
        let count = match draw.below(10) {
            0..=6 => 200 + draw.below(200),
            7..=8 => 400 + draw.below(400),
            _ => 800 + draw.below(1200),
        };
        let mix = Mix::draw(&mut draw);
        let mut operations: Vec<Operation> = vec![Operation::CreateKeyspace(1), Operation::CreateKeyspace(2)];
        operations.extend((0..count).map(|_| mix.operation(&mut draw)));
        // Four ends of an opening that surely come, in four different places, so that no case has fewer than
        // `REOPENINGS_MIN`; and one that comes in the middle of something, if the case lasts so long.
        for quarter in 1..=4 {
            let at = operations.len() * quarter / 4;
            operations.insert(at, mix.sure_ending(&mut draw));
        }
        let at = draw.below(operations.len() as u64) as usize;
        operations.insert(at, mix.crash_to_come(&mut draw));
        Self { seed, settings, operations: List(operations) }
    }

    /// The first operations only.
    pub fn shortened(mut self, count: usize) -> Self {
        self.operations.0.truncate(count);
        self
    }

    /// The case as a test to paste.
    pub fn as_test(&self) -> String {
        let mut text = format!(
            "#[test]\nfn seed_{}() {{\n    check(\n        {},\n        {:?},\n        [\n",
            self.seed, self.seed, self.settings
        );
        for operation in &self.operations.0 {
            text.push_str(&format!("            {operation:?},\n"));
        }
        text.push_str("        ],\n    );\n}\n");
        text
    }
}

/// How often a case does what.
struct Mix {
    writes: u64,
    reads: u64,
    transactions: u64,
    structure: u64,
    crashes: u64,
    large_one_in: u64,
    durabilities: [Durability; 3],
}

impl Mix {
    fn draw(draw: &mut Draw) -> Self {
        use Durability::{Buffered, Flush, Sync};
        Self {
            writes: draw.of(&[20, 40, 60]),
            reads: draw.of(&[5, 20, 30]),
            transactions: draw.of(&[0, 20, 60]),
            structure: draw.of(&[1, 3, 6]),
            crashes: draw.of(&[0, 1, 2]),
            large_one_in: draw.of(&[30, 100, 1000]),
            durabilities: draw.of(&[
                [Sync, Sync, Sync],
                [Sync, Flush, Buffered],
                [Buffered, Buffered, Sync],
                [Flush, Flush, Buffered],
            ]),
        }
    }

    fn operation(&self, draw: &mut Draw) -> Operation {
        let all = self.writes + self.reads + self.transactions + self.structure + self.crashes;
        let mut at = draw.below(all);
        for (weight, make) in [
            (self.writes, Self::write_operation as fn(&Self, &mut Draw) -> Operation),
            (self.reads, Self::read_operation),
            (self.transactions, Self::transaction_operation),
            (self.structure, Self::structure_operation),
        ] {
            if at < weight {
                return make(self, draw);
            }
            at -= weight;
        }
        self.ending(draw)
    }

    fn durability(&self, draw: &mut Draw) -> Durability {
        draw.of(&self.durabilities)
    }

    fn write(&self, draw: &mut Draw) -> Write {
        let keyspace = draw.below(3) as u8;
        let key = draw.next() as u16;
        match draw.below(12) {
            0..=1 => Write::Delete(keyspace, key),
            2 => Write::DeleteRange(keyspace, key, key.wrapping_add(draw.below(20) as u16)),
            _ => {
                let len = match draw.one_in(self.large_one_in) {
                    true => draw.below(20_000),
                    false => draw.below(250),
                };
                Write::Put(keyspace, key, len as u16)
            }
        }
    }

    fn writes(&self, draw: &mut Draw) -> List<Write> {
        let count = if draw.one_in(2) { 1 } else { 1 + draw.below(6) };
        List((0..count).map(|_| self.write(draw)).collect())
    }

    fn write_operation(&self, draw: &mut Draw) -> Operation {
        if draw.one_in(6) {
            let commits = 2 + draw.below(3);
            return Operation::Together(List(
                (0..commits).map(|_| (self.writes(draw), self.durability(draw))).collect(),
            ));
        }
        Operation::Commit(self.writes(draw), self.durability(draw))
    }

    fn view(&self, draw: &mut Draw) -> View {
        let slot = draw.below(3) as u8;
        match draw.below(3) {
            0 => View::Now,
            1 => View::InSnapshot(slot),
            _ => View::InTransaction(slot),
        }
    }

    fn walk(&self, draw: &mut Draw) -> Walk {
        let (a, b) = (draw.next() as u16, draw.next() as u16);
        let shape = match draw.below(6) {
            0 => Shape::Everything,
            1 => Shape::Prefix(a, draw.below(6) as u8),
            2 => Shape::After(a),
            _ => Shape::Between(a, draw.one_in(2), b, draw.one_in(2)),
        };
        let limit = draw.one_in(2).then(|| draw.below(12) as u8);
        Walk { shape, reverse: draw.one_in(2), limit }
    }

    fn read_operation(&self, draw: &mut Draw) -> Operation {
        let keyspace = draw.below(3) as u8;
        let slot = draw.below(3) as u8;
        match draw.below(12) {
            0..=3 => Operation::Get(self.view(draw), keyspace, draw.next() as u16),
            4..=6 => Operation::Scan(self.view(draw), keyspace, self.walk(draw)),
            7 => Operation::OpenCursor(slot, self.view(draw), keyspace, self.walk(draw)),
            8..=9 => Operation::StepCursor(slot, draw.below(20) as u8),
            10 => match draw.one_in(2) {
                true => Operation::TakeSnapshot(slot),
                false => Operation::TakePast(slot, draw.below(80) as u16),
            },
            _ => Operation::DropSnapshot(slot),
        }
    }

    fn transaction_operation(&self, draw: &mut Draw) -> Operation {
        let slot = draw.below(3) as u8;
        let keyspace = draw.below(3) as u8;
        match draw.below(16) {
            0..=2 => {
                let isolation = draw.of(&[Isolation::Snapshot, Isolation::Serializable]);
                Operation::Begin(slot, isolation, self.durability(draw))
            }
            3..=5 => Operation::Get(View::InTransaction(slot), keyspace, draw.next() as u16),
            6..=7 => Operation::Scan(View::InTransaction(slot), keyspace, self.walk(draw)),
            8..=12 => Operation::WriteIn(slot, self.write(draw)),
            13..=14 => Operation::CommitIn(slot),
            _ => Operation::RollBack(slot),
        }
    }

    fn structure_operation(&self, draw: &mut Draw) -> Operation {
        match draw.below(12) {
            0..=1 => Operation::FlushAll,
            2 => Operation::CompactAll,
            3..=4 => Operation::SyncAll,
            5..=6 => Operation::Wait(draw.below(30_000) as u16),
            7..=9 => Operation::CreateKeyspace(draw.below(3) as u8),
            _ => Operation::DropKeyspace(draw.below(3) as u8),
        }
    }

    fn ending(&self, draw: &mut Draw) -> Operation {
        match draw.one_in(4) {
            true => self.crash_to_come(draw),
            false => self.sure_ending(draw),
        }
    }

    /// Ends the opening that carries it out.
    fn sure_ending(&self, draw: &mut Draw) -> Operation {
        let again = if draw.one_in(3) { 1 + draw.below(40) as u8 } else { 0 };
        match draw.below(6) {
            0 => Operation::Close,
            1 => Operation::DropAll,
            2..=3 => Operation::Kill(again),
            _ => Operation::PowerLoss(again),
        }
    }

    /// Ends the opening only if so many disk calls follow before it ends otherwise.
    fn crash_to_come(&self, draw: &mut Draw) -> Operation {
        Operation::CrashIn(1 + draw.below(120) as u16, draw.one_in(2))
    }
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::of_seed(u64::arbitrary(g))
    }

    /// Fewer operations first, in large cuts, then smaller ones; then simpler operations and plainer settings.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let whole = self.clone();
        let count = self.operations.0.len();
        let cuts =
            std::iter::successors(Some(count.div_ceil(2)), |size| (*size > 1).then(|| size.div_ceil(2)));
        let cuts = cuts.flat_map(move |size| (0..count).step_by(size.max(1)).map(move |at| (at, size)));
        let by_cutting = {
            let whole = whole.clone();
            cuts.map(move |(at, size)| {
                let mut operations = whole.operations.0.clone();
                operations.drain(at..(at + size).min(operations.len()));
                Self { operations: List(operations), ..whole.clone() }
            })
        };
        let by_simplifying = {
            let whole = whole.clone();
            (0..count).flat_map(move |at| {
                let whole = whole.clone();
                simpler(&whole.operations.0[at]).into_iter().map(move |operation| {
                    let mut operations = whole.operations.0.clone();
                    operations[at] = operation;
                    Self { operations: List(operations), ..whole.clone() }
                })
            })
        };
        let plainer = plainer(self.settings).into_iter().map({
            let whole = whole.clone();
            move |settings| Self { settings, ..whole.clone() }
        });
        Box::new(by_cutting.chain(plainer).chain(by_simplifying).filter(move |case| *case != whole))
    }
}

fn plainer(settings: Settings) -> Vec<Settings> {
    let plain = Settings::PLAIN;
    vec![
        plain,
        Settings { compress: false, ..settings },
        Settings { retain: 0, ..settings },
        Settings { narrow_window: false, ..settings },
        Settings { direct: false, ..settings },
        Settings { compactions: 1, ..settings },
        Settings { filter_bits: 10, ..settings },
        Settings { rare: 0, ..settings },
        Settings { memtable_kib: 4, ..settings },
    ]
}

fn simpler(operation: &Operation) -> Vec<Operation> {
    match operation {
        Operation::Commit(writes, durability) => {
            fewer(writes).into_iter().map(|writes| Operation::Commit(writes, *durability)).collect()
        }
        Operation::Together(commits) => {
            let mut simpler: Vec<Operation> = fewer(commits).into_iter().map(Operation::Together).collect();
            for (at, (writes, durability)) in commits.0.iter().enumerate() {
                for writes in fewer(writes) {
                    let mut commits = commits.clone();
                    commits.0[at] = (writes, *durability);
                    simpler.push(Operation::Together(commits));
                }
            }
            simpler
        }
        Operation::Kill(again) if *again > 0 => vec![Operation::Kill(0)],
        Operation::PowerLoss(again) if *again > 0 => vec![Operation::PowerLoss(0)],
        Operation::CrashIn(_, true) => vec![Operation::PowerLoss(0)],
        Operation::CrashIn(_, false) => vec![Operation::Kill(0)],
        _ => Vec::new(),
    }
}

fn fewer<T: Clone>(items: &List<T>) -> Vec<List<T>> {
    if items.0.len() < 2 {
        return Vec::new();
    }
    (0..items.0.len())
        .map(|at| {
            let mut fewer = items.clone();
            fewer.0.remove(at);
            fewer
        })
        .collect()
}
