//! Short scripts, each around one thing that the kernel does to its files.

use holdfast_workloads::history::Durable;
use holdfast_workloads::storm::script::{Action, Call, Finish, Level, Step};
use holdfast_workloads::storm::{Script, Settings};

/// A script by name.
pub(super) struct Short {
    pub(super) name: &'static str,
    pub(super) script: Script,
}

/// Keys that the scripts use.
const KEYS: u16 = 12;

/// Small tables, so that a few values reach every part.
pub(super) const SETTINGS: Settings = Settings {
    memtable_kib: 4,
    block_bytes: 256,
    level0_tables: 2,
    level_ratio: 2,
    filter_bits: 10,
    direct: true,
    ..Settings::PLAIN
};

fn batch(durable: Durable, actions: Vec<Action>) -> Call {
    Call::Batch { durable, actions }
}

fn put(key: u16, len: u32) -> Action {
    Action::Put(0, key % KEYS, len)
}

fn transact(level: Level, durable: Durable, actions: Vec<Action>) -> Call {
    Call::Transact { level, durable, actions, finish: Finish::Commit }
}

/// The durabilities in turn.
fn durable(number: u16) -> Durable {
    [Durable::Sync, Durable::Buffered, Durable::Flush][usize::from(number % 3)]
}

fn writes(from: u16, until: u16, len: u32) -> impl Iterator<Item = Call> {
    (from..until).map(move |number| batch(durable(number), vec![put(number, len)]))
}

fn client(calls: Vec<Call>) -> Vec<Step> {
    calls.into_iter().map(Step::patient).collect()
}

/// All of them.
pub(super) fn all() -> Vec<Short> {
    let short = |name, clients: Vec<Vec<Call>>| Short {
        name,
        script: Script { keys: KEYS, clients: clients.into_iter().map(client).collect() },
    };
    let small = |number: u16| batch(durable(number), vec![put(number, 40), put(number + 5, 700)]);
    let moves = |first: u16| -> Vec<Call> {
        let one = |number: u16| {
            let actions = vec![Action::Move(0, number % KEYS, (number + 3) % KEYS, 7), put(number, 30)];
            transact(Level::Serializable, durable(number), actions)
        };
        (first..first + 6).map(one).collect()
    };
    let removed = |from: u16| {
        batch(Durable::Sync, vec![Action::Delete(0, from), Action::DeleteRange(0, from, from + 4)])
    };
    let mut flush: Vec<Call> = writes(0, 6, 200).collect();
    flush.push(Call::Flush);
    flush.extend(writes(3, 9, 900));
    flush.push(Call::Flush);
    flush.extend(writes(6, 8, 20));
    let mut compaction = Vec::new();
    for round in 0..4 {
        compaction.extend(writes(round * 3, round * 3 + 3, 500));
        compaction.push(removed(round * 2));
        compaction.push(Call::Flush);
    }
    compaction.push(Call::Compact);
    compaction.extend(writes(0, 2, 20));
    let of_keyspace = |slot: u8, number: u16| batch(durable(number), vec![Action::Put(slot, number, 300)]);
    let mut keyspace = vec![Call::CreateKeyspace(1), of_keyspace(1, 1), Call::Flush, of_keyspace(1, 2)];
    keyspace.extend([Call::CreateKeyspace(2), of_keyspace(2, 3), Call::DropKeyspace(1), of_keyspace(2, 4)]);
    keyspace.extend([Call::CreateKeyspace(1), of_keyspace(1, 5), Call::Sync, of_keyspace(0, 6)]);
    let mut checkpoint: Vec<Call> = writes(0, 4, 600).collect();
    checkpoint.extend([Call::Flush, Call::Checkpoint, of_keyspace(0, 7), Call::Backup, of_keyspace(0, 8)]);
    vec![
        short("put", vec![(0..8).map(small).collect(), (2..6).map(small).collect()]),
        short("transaction", vec![moves(0), moves(4)]),
        short("flush", vec![flush]),
        short("compaction", vec![compaction]),
        short("keyspace", vec![keyspace]),
        short("checkpoint", vec![checkpoint]),
    ]
}
