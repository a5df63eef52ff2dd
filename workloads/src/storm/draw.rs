//! The workloads: what each of them lets clients do, drawn from a seed.
//!
//! | workload | what it does | what breaks it |
//! |---|---|---|
//! | `register` | single keys, each call by itself | lost and stale reads, order |
//! | `bank` | moves between accounts, sums over all of them | lost updates, half transactions |
//! | `append` | lists that only grow | lost updates, order |
//! | `rw_register` | transactions that read and write a few keys | cycles of dependencies |
//! | `ranges` | walks and deletes of ranges in transactions | phantoms, write skew |
//! | `queue` | puts at one end, takes at the other | phantoms, resurrected deletes |
//! | `ycsb` | YCSB's mixes A to F, keys by Zipf's law | everything, at speed |
//! | `churn` | fills, deletes and fills again, with large values | compaction, space |
//! | `structure` | keyspaces, copies and compactions that come and go under load | the manifest |
//! | `tpcc` | TPC-C's orders, payments and deliveries, in small | half transactions, lost updates, phantoms |
//! | `mixed` | all of it at once | combinations |
//! | `hoard` | values of up to a megabyte; walks and transactions held open | the memory budget |

mod hoard;
mod tpcc;
mod zipf;

use serde::{Deserialize, Serialize};

use super::script::{Action, Call, Finish, Hold, Level, Patience, Script, Shape, Step, View, Walk};
use zipf::Zipf;

use crate::Random;
use crate::history::Durable;

/// A workload, by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the module's table says what each is")]
pub enum Workload {
    Register,
    Bank,
    Append,
    RwRegister,
    Ranges,
    Queue,
    Ycsb,
    Churn,
    Structure,
    Tpcc,
    Mixed,
    Hoard,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Register,
        Self::Bank,
        Self::Append,
        Self::RwRegister,
        Self::Ranges,
        Self::Queue,
        Self::Ycsb,
        Self::Churn,
        Self::Structure,
        Self::Tpcc,
        Self::Mixed,
        Self::Hoard,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Bank => "bank",
            Self::Append => "append",
            Self::RwRegister => "rw-register",
            Self::Ranges => "ranges",
            Self::Queue => "queue",
            Self::Ycsb => "ycsb",
            Self::Churn => "churn",
            Self::Structure => "structure",
            Self::Tpcc => "tpcc",
            Self::Mixed => "mixed",
            Self::Hoard => "hoard",
        }
    }

    /// The workload of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }
}

/// How a script was drawn beside its workload.
struct Mix {
    keys: u64,
    zipf: Option<Zipf>,
    durabilities: [Durable; 4],
    large_one_in: u64,
    /// The keyspace that nearly everything goes to, while the others lie idle.
    busy_slot: Option<u8>,
    /// One step in so many has little patience; 0 is none.
    drops_one_in: u64,
    read_percent: u64,
    /// The tables of `tpcc`.
    scale: tpcc::Scale,
}

/// One script of `structure` in so many begins with more tables than a look from beside can have open.
const WIDE_ONE_IN: u64 = 6;

/// One operation in so many is a commit that writes, at least: who only reads shows little.
const OPERATIONS_PER_COMMIT: u64 = 6;
/// For that a script grows to this many times what was asked for, at most.
const GROWTH_MAX: u64 = 4;

/// Draws a script of about so many operations, or more of them where few would write.
pub fn draw(workload: Workload, operations: u64, random: &mut Random) -> Script {
    use Durable::{Buffered, Flush, Sync};
    let clients = if workload == Workload::Hoard { 3 + random.below(4) } else { 1 + random.below(6) };
    let is_wide = workload == Workload::Structure && random.one_in(WIDE_ONE_IN);
    let keys = match workload {
        Workload::Bank => 4 + random.below(12),
        Workload::Append => 3 + random.below(20),
        // Of fewer hardly a transaction commits.
        Workload::RwRegister => 8 + random.below(24),
        Workload::Churn => *random.of(&[200, 800, 2000]),
        Workload::Hoard => 200,
        _ if is_wide => 800,
        _ => *random.of(&[8, 48, 48, 200, 800]),
    };
    let mix = Mix {
        keys,
        zipf: (workload == Workload::Ycsb).then(|| Zipf::new(keys)),
        durabilities: *random.of(&[
            [Sync, Sync, Sync, Sync],
            [Sync, Sync, Flush, Buffered],
            [Buffered, Buffered, Buffered, Sync],
            [Flush, Flush, Buffered, Sync],
        ]),
        large_one_in: *random.of(&[4, 40, 40, 200, 2000]),
        busy_slot: random.one_in(3).then(|| random.below(3) as u8),
        drops_one_in: *random.of(&[0, 0, 3, 20]),
        read_percent: *random.of(&[5, 50, 50, 95]),
        scale: tpcc::Scale::draw(random),
    };
    let mut script = Script { keys: keys as u16, clients: vec![Vec::new(); clients as usize] };
    let (mut drawn, mut commits) = (0, 0);
    let has_too_few = |commits| commits < operations / OPERATIONS_PER_COMMIT;
    while drawn < operations || (has_too_few(commits) && drawn < operations * GROWTH_MAX) {
        let client = random.below(clients) as usize;
        let call = if random.one_in(60) { upkeep(random) } else { mix.call(workload, random) };
        let drops = mix.drops_one_in > 0 && random.one_in(mix.drops_one_in);
        let patience = drops.then(|| match (random.below(8) as u8, random.one_in(2)) {
            (polls, false) => Patience::Polls(polls),
            (wakes, true) => Patience::Wakes(wakes),
        });
        let step = Step { call, patience };
        drawn += step.operations();
        commits += u64::from(step.commits_writes());
        script.clients[client].push(step);
    }
    if workload == Workload::Hoard {
        mix.gather(&mut script, random);
    }
    if matches!(workload, Workload::Structure | Workload::Mixed | Workload::Hoard) {
        if is_wide {
            script.clients[0].splice(0..0, mix.load(random));
        }
        for slot in [1, 2] {
            script.clients[0].insert(0, Step::patient(Call::CreateKeyspace(slot)));
        }
    }
    script
}

/// What any database goes through now and then.
fn upkeep(random: &mut Random) -> Call {
    match random.below(12) {
        0..=2 => Call::Flush,
        3..=4 => Call::Compact,
        5..=6 => Call::Sync,
        7 if random.one_in(3) => Call::BackupBeside(random.below(100_000) as u32),
        7 => Call::Look,
        _ => Call::Wait(random.below(30_000) as u32),
    }
}

impl Mix {
    fn call(&self, workload: Workload, random: &mut Random) -> Call {
        match workload {
            Workload::Register => self.register(random),
            Workload::Bank => self.bank(random),
            Workload::Append => self.append(random),
            Workload::RwRegister => self.rw_register(random),
            Workload::Ranges => self.ranges(random),
            Workload::Queue => self.queue(random),
            Workload::Ycsb => self.ycsb(random),
            Workload::Churn => self.churn(random),
            Workload::Structure => self.structure(random),
            Workload::Tpcc => self.tpcc(random),
            Workload::Mixed => self.mixed(random),
            Workload::Hoard => self.hoard(random),
        }
    }

    fn durable(&self, random: &mut Random) -> Durable {
        *random.of(&self.durabilities)
    }

    fn key(&self, random: &mut Random) -> u16 {
        match &self.zipf {
            Some(zipf) => zipf.draw(random),
            None => random.below(self.keys) as u16,
        }
    }

    fn len(&self, random: &mut Random) -> u32 {
        let most = if random.one_in(self.large_one_in) { 20_000 } else { 250 };
        random.below(most) as u32
    }

    fn put(&self, slot: u8, random: &mut Random) -> Action {
        Action::Put(slot, self.key(random), self.len(random))
    }

    fn transact(&self, level: Level, actions: Vec<Action>, random: &mut Random) -> Call {
        let finish = if random.one_in(12) { Finish::RollBack } else { Finish::Commit };
        Call::Transact { level, durable: self.durable(random), actions, finish }
    }

    fn level(random: &mut Random) -> Level {
        if random.one_in(3) { Level::Snapshot } else { Level::Serializable }
    }

    fn view(random: &mut Random) -> View {
        match random.below(5) {
            0..=1 => View::Now,
            2..=3 => View::Snapshot,
            _ if random.one_in(2) => View::Past(random.below(80) as u16),
            _ => View::PastCommits(random.below(80) as u16),
        }
    }

    fn walk(&self, random: &mut Random) -> Walk {
        let (from, to) = (self.key(random), self.key(random));
        let shape = match random.below(6) {
            0 => Shape::Everything,
            1 => Shape::Prefix { key: from, bytes: random.below(6) as u8 },
            2 => Shape::After(from),
            _ => Shape::Between { from, with_from: random.one_in(2), to, with_to: random.one_in(2) },
        };
        let limit = random.one_in(2).then(|| random.below(12) as u8);
        let steps = random.one_in(4).then(|| random.below(12) as u8);
        Walk { shape, reverse: random.one_in(2), limit, steps, hold: None }
    }

    fn write(&self, slot: u8, random: &mut Random) -> Action {
        match random.below(12) {
            0..=1 => Action::Delete(slot, self.key(random)),
            2 => self.delete_range(slot, random),
            _ => self.put(slot, random),
        }
    }

    fn delete_range(&self, slot: u8, random: &mut Random) -> Action {
        let from = self.key(random);
        Action::DeleteRange(slot, from, from.saturating_add(random.below(20) as u16))
    }

    fn look_up(&self, slot: u8, random: &mut Random) -> Action {
        if random.one_in(4) {
            Action::Scan(slot, self.walk(random))
        } else {
            Action::Get(slot, self.key(random))
        }
    }

    fn register(&self, random: &mut Random) -> Call {
        if random.below(100) < self.read_percent {
            return Call::Read { view: View::Now, actions: vec![Action::Get(0, self.key(random))] };
        }
        Call::Batch { durable: self.durable(random), actions: vec![self.write(0, random)] }
    }

    fn bank(&self, random: &mut Random) -> Call {
        if random.one_in(6) {
            let walk = Walk { reverse: random.one_in(2), ..Walk::WHOLE };
            return Call::Read { view: Self::view(random), actions: vec![Action::Scan(0, walk)] };
        }
        let moves = 1 + random.below(3);
        let one = |random: &mut Random| {
            Action::Move(0, self.key(random), self.key(random), random.below(200) as u16)
        };
        let actions = (0..moves).map(|_| one(random)).collect();
        self.transact(Self::level(random), actions, random)
    }

    fn append(&self, random: &mut Random) -> Call {
        let count = 1 + random.below(4);
        let one = |random: &mut Random| match random.below(3) {
            0 => Action::Get(0, self.key(random)),
            _ => Action::Append(0, self.key(random)),
        };
        let actions = (0..count).map(|_| one(random)).collect();
        self.transact(Level::Serializable, actions, random)
    }

    fn rw_register(&self, random: &mut Random) -> Call {
        let count = 1 + random.below(6);
        let one = |random: &mut Random| match random.below(5) {
            0..=1 => Action::Get(0, self.key(random)),
            2 => Action::Increment(0, self.key(random)),
            _ => self.put(0, random),
        };
        let actions = (0..count).map(|_| one(random)).collect();
        self.transact(Self::level(random), actions, random)
    }

    fn ranges(&self, random: &mut Random) -> Call {
        let count = 1 + random.below(5);
        let one = |random: &mut Random| match random.below(6) {
            0..=1 => Action::Scan(0, self.walk(random)),
            2 => self.delete_range(0, random),
            3 => Action::Delete(0, self.key(random)),
            _ => self.put(0, random),
        };
        let actions = (0..count).map(|_| one(random)).collect();
        self.transact(Self::level(random), actions, random)
    }

    fn queue(&self, random: &mut Random) -> Call {
        let count = 1 + random.below(3);
        let one = |random: &mut Random| if random.one_in(2) { Action::Push(0) } else { Action::Pop(0) };
        let actions = (0..count).map(|_| one(random)).collect();
        self.transact(Level::Serializable, actions, random)
    }

    fn ycsb(&self, random: &mut Random) -> Call {
        let reads = |actions| Call::Read { view: View::Now, actions };
        let write = |action, random: &mut Random| Call::Batch {
            durable: self.durable(random),
            actions: vec![action],
        };
        let is_read = random.below(100) < self.read_percent;
        match random.below(6) {
            // A, B and C differ in how much is read; D reads what was written last; E walks; F reads and writes.
            0..=2 if is_read => reads(vec![Action::Get(0, self.key(random))]),
            3 if is_read => reads(vec![Action::Get(0, (self.keys as u16).wrapping_sub(self.key(random)))]),
            4 => {
                let (shape, limit) = (Shape::After(self.key(random)), Some(1 + random.below(100) as u8));
                let walk = Walk { shape, limit, ..Walk::WHOLE };
                reads(vec![Action::Scan(0, walk)])
            }
            5 => {
                let key = self.key(random);
                let actions = vec![Action::Get(0, key), Action::Put(0, key, self.len(random))];
                self.transact(Level::Snapshot, actions, random)
            }
            _ => {
                let action = self.put(0, random);
                write(action, random)
            }
        }
    }

    fn churn(&self, random: &mut Random) -> Call {
        match random.below(20) {
            0 => Call::Batch { durable: self.durable(random), actions: vec![self.delete_range(0, random)] },
            1 => {
                let from = self.key(random);
                let actions = vec![Action::DeleteRange(0, from, from.saturating_add(self.keys as u16 / 3))];
                Call::Batch { durable: self.durable(random), actions }
            }
            2 => Call::Read { view: Self::view(random), actions: vec![self.look_up(0, random)] },
            3..=5 => Call::Batch {
                durable: self.durable(random),
                actions: (0..8).map(|_| Action::Delete(0, self.key(random))).collect(),
            },
            _ => Call::Batch {
                durable: self.durable(random),
                actions: (0..1 + random.below(12)).map(|_| self.put(0, random)).collect(),
            },
        }
    }

    /// Fills many tables.
    fn load(&self, random: &mut Random) -> Vec<Step> {
        let put = |random: &mut Random| {
            Action::Put(random.below(3) as u8, self.key(random), 5000 + random.below(15_000) as u32)
        };
        let batch = |random: &mut Random| Call::Batch {
            durable: self.durable(random),
            actions: (0..8).map(|_| put(random)).collect(),
        };
        (0..10).map(|_| Step::patient(batch(random))).collect()
    }

    fn slot(&self, random: &mut Random) -> u8 {
        match self.busy_slot {
            Some(slot) if !random.one_in(30) => slot,
            _ => random.below(3) as u8,
        }
    }

    fn structure(&self, random: &mut Random) -> Call {
        let slot = random.below(3) as u8;
        match random.below(40) {
            0..=1 => Call::CreateKeyspace(slot),
            2 => Call::DropKeyspace(slot),
            3 => Call::Checkpoint,
            4 => Call::Backup,
            5 => Call::Compact,
            6 => Call::Flush,
            7 => Call::Verify,
            8 => Call::Look,
            9 => Call::BackupBeside(random.below(100_000) as u32),
            10 => {
                let hold = Some(Hold { entries: random.below(40) as u8, us: random.below(30_000) as u32 });
                let actions = vec![Action::Scan(slot, Walk { hold, ..self.walk(random) })];
                Call::Read { view: View::Snapshot, actions }
            }
            _ => self.mixed(random),
        }
    }

    fn mixed(&self, random: &mut Random) -> Call {
        let slot = |random: &mut Random| self.slot(random);
        match random.below(10) {
            0..=2 => {
                let count = 1 + random.below(6);
                let actions = (0..count).map(|_| self.write(slot(random), random)).collect();
                Call::Batch { durable: self.durable(random), actions }
            }
            3..=4 => {
                let count = 1 + random.below(4);
                let actions = (0..count).map(|_| self.look_up(slot(random), random)).collect();
                Call::Read { view: Self::view(random), actions }
            }
            5 => self.rw_register(random),
            6 => self.ranges(random),
            _ => {
                let count = 1 + random.below(6);
                let one = |random: &mut Random| match random.one_in(2) {
                    true => self.look_up(slot(random), random),
                    false => self.write(slot(random), random),
                };
                let actions = (0..count).map(|_| one(random)).collect();
                self.transact(Self::level(random), actions, random)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_follow_their_seed_and_have_the_length_asked_for() {
        for workload in Workload::ALL {
            assert_eq!(Workload::of_name(workload.name()), Some(workload));
            for seed in 0..20 {
                let script = draw(workload, 500, &mut Random::new(seed));
                assert_eq!(script, draw(workload, 500, &mut Random::new(seed)));
                let (operations, steps) = (script.operations(), script.clients.iter().flatten());
                let commits = steps.filter(|step| step.commits_writes()).count() as u64;
                let most = if commits > 500 / OPERATIONS_PER_COMMIT { 600 } else { 500 * GROWTH_MAX + 100 };
                assert!((500..most).contains(&operations), "{operations}");
                assert!(commits >= 60, "{workload:?} {seed}: {commits}");
                let text = serde_json::to_string(&script).expect("a script is plain data");
                assert_eq!(serde_json::from_str::<Script>(&text).expect("and comes back"), script);
            }
        }
    }
}
