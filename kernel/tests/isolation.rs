//! What transactions are protected from, by level: a table of anomalies, each a schedule of two or three transactions
//! step by step and what each level must make of it; and random schedules judged against a model.
//!
//! A schedule is text, one step a word: `1r(x)` transaction 1 reads x, `1w(x=3)` writes, `1d(x)` deletes,
//! `1D(a-f)` deletes a range, `1s(a-f)` scans it forward and `1S(a-f)` backward, `1c` commits, `1a` rolls back. A
//! read or scan may say what it must give: `1r(x)=1`, `1s(a-f)=b1c2`, with `_` for nothing. A transaction begins at
//! its first step; `1b` begins it and does nothing. (Berenson et al., "A Critique of ANSI SQL Isolation Levels",
//! 1995; Fekete, O'Neil, O'Neil, "A Read-Only Transaction Anomaly Under Snapshot Isolation", 2004.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::scene::{DIR, simulate, small_keyspace, small_options, within};
use holdfast::{
    Conflict, Cursor, Db, Error, Isolation, Keyspace, Result, Scan, Seq, TransactionOptions, Txn,
};
use holdfast_sim::World;

/// Which of the transactions must not commit.
struct Anomaly {
    name: &'static str,
    /// Committed before.
    before: &'static str,
    steps: &'static str,
    /// Transactions whose commit must conflict at Snapshot, and at Serializable.
    snapshot: &'static str,
    serializable: &'static str,
}

const fn anomaly(
    name: &'static str,
    before: &'static str,
    steps: &'static str,
    snapshot: &'static str,
    serializable: &'static str,
) -> Anomaly {
    Anomaly { name, before, steps, snapshot, serializable }
}

const ANOMALIES: &[Anomaly] = &[
    anomaly("dirty write (G0)", "x1 y1", "1w(x=2) 2w(x=3) 2w(y=3) 1w(y=2) 1c 2c 3s(a-z)=x2y2", "2", "2"),
    anomaly("dirty read (G1a)", "x1", "1w(x=2) 2r(x)=1 1a 2r(x)=1 2w(y=1) 2c 3s(a-z)=x1y1", "", ""),
    anomaly("intermediate read (G1b)", "x1", "1w(x=2) 2r(x)=1 1w(x=3) 1c 2r(x)=1 2c", "", ""),
    anomaly("circular flow (G1c)", "x1 y1", "1w(x=2) 2w(y=2) 1r(y)=1 2r(x)=1 1c 2c", "", "2"),
    anomaly("lost update (P4)", "x1", "1r(x)=1 2r(x)=1 1w(x=2) 2w(x=3) 2c 1c 3r(x)=3", "1", "1"),
    anomaly("lost update by a delete", "x1", "1r(x)=1 2r(x)=1 1w(x=2) 2d(x) 2c 1c 3r(x)=_", "1", "1"),
    anomaly("lost update by a range delete", "x1", "1r(x)=1 1w(x=2) 2D(a-z) 2c 1c 3r(x)=_", "1", "1"),
    anomaly("lost range delete", "x1", "1D(a-z) 2w(b=1) 2c 1c 3s(a-z)=b1x1", "1", "1"),
    anomaly("range deletes that overlap", "b1 d1", "1D(a-e) 2D(c-z) 2c 1c 3s(a-z)=b1", "1", "1"),
    anomaly("range deletes side by side", "b1 d1", "1D(a-c) 2D(c-z) 2c 1c 3s(a-z)=_", "", ""),
    anomaly("the end of a range is outside", "b1", "1D(a-c) 2w(c=2) 2c 1c 3s(a-z)=c2", "", ""),
    anomaly("non-repeatable read (P2)", "x1", "1r(x)=1 2w(x=2) 2c 1r(x)=1 1c", "", ""),
    anomaly("non-repeatable read, then a write", "x1", "1r(x)=1 2w(x=2) 2c 1w(y=1) 1c", "", "1"),
    anomaly("read skew (A5A)", "x1 y1", "1r(x)=1 2w(x=2) 2w(y=2) 2c 1r(y)=1 1c", "", ""),
    anomaly("write skew (A5B)", "x1 y1", "1r(x)=1 1r(y)=1 2r(x)=1 2r(y)=1 1w(x=0) 2w(y=0) 1c 2c", "", "2"),
    anomaly("write skew over what is not there", "", "1r(x)=_ 2r(y)=_ 1w(y=1) 2w(x=1) 1c 2c", "", "2"),
    anomaly("write skew of scans", "b1 c1", "1s(a-f)=b1c1 2s(a-f)=b1c1 1w(d=1) 2w(e=1) 1c 2c", "", "2"),
    anomaly(
        "write skew of backward scans",
        "b1 c1",
        "1S(a-f)=c1b1 2S(a-f)=c1b1 1w(d=1) 2w(e=1) 1c 2c",
        "",
        "2",
    ),
    anomaly("phantom by an insert (P3)", "b1", "1s(a-f)=b1 2w(c=1) 2c 1s(a-f)=b1 1w(y=1) 1c", "", "1"),
    anomaly("phantom by a delete", "b1 c1", "1s(a-f)=b1c1 2d(c) 2c 1w(y=2) 1c", "", "1"),
    anomaly("phantom by a range delete", "b1 c1", "1s(a-f)=b1c1 2D(c-d) 2c 1w(y=2) 1c", "", "1"),
    anomaly("phantom by the deletion of nothing", "b1", "1s(a-f)=b1 2D(x-z) 2c 1w(y=2) 1c", "1", "1"),
    anomaly("phantom at a key that is not there", "", "1r(c)=_ 2w(c=1) 2c 1w(y=1) 1c", "", "1"),
    anomaly("a point read under a range delete", "c1", "1r(c)=1 2D(a-f) 2c 1w(y=1) 1c", "", "1"),
    anomaly("no phantom beside the scan", "b1", "1s(a-f)=b1 2w(f=1) 2c 1w(y=1) 1c", "", ""),
    anomaly("phantom in an empty range", "", "1s(a-f)=_ 2w(c=1) 2c 1w(y=1) 1c", "", "1"),
    anomaly(
        "read-only transaction anomaly",
        "x0 y0",
        "2r(x)=0 2r(y)=0 1r(y)=0 1w(y=2) 1c 3r(x)=0 3r(y)=2 3c 2w(x=1) 2c",
        "",
        "2",
    ),
    anomaly("a reader alone never conflicts", "x1", "1r(x)=1 1s(a-z)=x1 2w(x=2) 2w(y=2) 2c 1c", "", ""),
    anomaly("a blind write that nobody met", "x1", "1b 2w(y=1) 2c 1w(x=2) 1c", "", ""),
    anomaly("a blind write that somebody met", "x1", "1b 2w(x=3) 2c 1w(x=2) 1c 3r(x)=3", "1", "1"),
    anomaly("a write that was rolled back", "x1", "1r(x)=1 2w(x=2) 2a 1w(x=3) 1c 3r(x)=3", "", ""),
    anomaly(
        "the second of two conflicts does not count",
        "x1",
        "1r(x)=1 2w(x=2) 3w(x=3) 2c 3c 1w(y=1) 1c",
        "3",
        "31",
    ),
    anomaly(
        "own writes",
        "b1 c1 d1 e1",
        "1w(c=2) 1d(d) 1w(f=3) 1r(c)=2 1r(d)=_ 1r(f)=3 1s(a-z)=b1c2e1f3 1S(a-z)=f3e1c2b1 1c 2s(a-z)=b1c2e1f3",
        "",
        "",
    ),
    anomaly(
        "own range deletes",
        "b1 c1 d1 e1",
        "1w(c=2) 1D(b-e) 1r(b)=_ 1r(c)=_ 1r(e)=1 1s(a-z)=e1 1w(c=5) 1r(c)=5 1s(a-z)=c5e1 1S(a-z)=e1c5 1D(c-d) \
         1S(a-z)=e1 1D(d-f) 1s(a-z)=_ 1w(d=9) 1S(a-z)=d9 1c 2s(a-z)=d9 2S(a-z)=d9",
        "",
        "",
    ),
];

/// One step: who, what, on which key, with what end or value, and what it must give.
fn parse(step: &str) -> (usize, u8, &str, &str, Option<&str>) {
    let who = usize::from(step.as_bytes()[0] - b'0');
    let what = step.as_bytes()[1];
    let (call, expected) = match step.split_once(")=") {
        Some((call, expected)) => (call, Some(expected)),
        None => (step.trim_end_matches(')'), None),
    };
    let argument = call.get(3..).unwrap_or_default();
    let (first, second) = argument.split_once(['=', '-']).unwrap_or((argument, ""));
    (who, what, first, second, expected)
}

async fn shown(mut cursor: Cursor) -> Result<String> {
    let all = cursor.collect().await?;
    let text: String =
        all.iter().map(|(key, value)| String::from_utf8([&key[..], value].concat()).unwrap()).collect();
    Ok(if text.is_empty() { "_".into() } else { text })
}

/// Runs a schedule; gives the transactions that conflicted, in order.
async fn play(db: &Db, keyspace: &Keyspace, anomaly: &Anomaly, isolation: Isolation) -> String {
    let options = TransactionOptions { isolation, ..TransactionOptions::default() };
    let mut open: BTreeMap<usize, Txn> = BTreeMap::new();
    let mut conflicted = String::new();
    for step in anomaly.steps.split_ascii_whitespace() {
        let (who, what, first, second, expected) = parse(step);
        let at = format!("{} at {isolation:?}, step {step}", anomaly.name);
        let txn = open.entry(who).or_insert_with(|| db.begin(options));
        let given = match what {
            b'b' => None,
            b'r' => {
                let value = txn.get(keyspace, first).await.unwrap();
                Some(value.map_or("_".into(), |value| String::from_utf8(value.to_vec()).unwrap()))
            }
            b's' => Some(shown(txn.scan(keyspace, Scan::range(first..second)).await.unwrap()).await.unwrap()),
            b'S' => {
                let backward = Scan::range(first..second).reverse();
                Some(shown(txn.scan(keyspace, backward).await.unwrap()).await.unwrap())
            }
            b'w' => txn.put(keyspace, first, second).map(|()| None).unwrap(),
            b'd' => txn.delete(keyspace, first).map(|()| None).unwrap(),
            b'D' => txn.delete_range(keyspace, first, second).map(|()| None).unwrap(),
            b'a' => open.remove(&who).map(Txn::rollback).map(|()| None).unwrap(),
            b'c' => {
                match open.remove(&who).unwrap().commit().await {
                    Ok(_) => {}
                    Err(Error::Conflict(Conflict::Key { .. } | Conflict::Range { .. })) => {
                        conflicted.push_str(&who.to_string());
                    }
                    Err(other) => panic!("{at}: {other}"),
                }
                None
            }
            _ => panic!("{at}: what is that?"),
        };
        if let Some(expected) = expected {
            assert_eq!(given.as_deref(), Some(expected), "{at}");
        }
    }
    conflicted
}

#[test]
fn every_anomaly_at_every_level() {
    for place in 0..3 {
        simulate(place, move |_, process| async move {
            within(&process, move |env| async move {
                let db = Db::open_in(env, DIR, small_options()).await.unwrap();
                for (number, anomaly) in ANOMALIES.iter().enumerate() {
                    for (isolation, expected) in [
                        (Isolation::Snapshot, anomaly.snapshot),
                        (Isolation::Serializable, anomaly.serializable),
                    ] {
                        let name = format!("{number} {isolation:?}");
                        let keyspace = db.create_keyspace(&name, small_keyspace()).await.unwrap();
                        for pair in anomaly.before.split_ascii_whitespace() {
                            keyspace.put(&pair[..1], &pair[1..]).await.unwrap();
                        }
                        // What stood there before is in the memtable, in level 0, in the deepest level.
                        match place {
                            0 => {}
                            1 => db.flush().await.unwrap(),
                            _ => db.compact().await.unwrap(),
                        }
                        let conflicted = play(&db, &keyspace, anomaly, isolation).await;
                        assert_eq!(conflicted, expected, "{} at {isolation:?}: who conflicts", anomaly.name);
                        db.drop_keyspace(&keyspace).await.unwrap();
                    }
                }
                db.close().await.unwrap();
            })
            .await;
        });
    }
}

/// One call of a transaction, with what it gave.
#[derive(Clone, Debug)]
enum Call {
    Get(u8, Option<u64>),
    /// Bounds, backward, limit, and the pairs that came.
    Scan(u8, u8, bool, u64, Vec<(u8, u64)>),
    Put(u8, u64),
    Delete(u8),
    DeleteRange(u8, u8),
}

/// A transaction that committed.
#[derive(Debug)]
struct Committed {
    read_seq: Seq,
    seq: Seq,
    isolation: Isolation,
    calls: Vec<Call>,
}

impl Committed {
    fn writes(&self) -> bool {
        self.calls.iter().any(|call| !matches!(call, Call::Get(..) | Call::Scan(..)))
    }

    fn writes_key(&self, key: u8) -> bool {
        self.calls.iter().any(|call| match call {
            Call::Put(at, _) | Call::Delete(at) => *at == key,
            Call::DeleteRange(start, end) => (*start..*end).contains(&key),
            Call::Get(..) | Call::Scan(..) => false,
        })
    }
}

type Model = BTreeMap<u8, u64>;

/// Makes the calls again on a model; they must give what they gave.
fn again(model: &mut Model, calls: &[Call], what: &str) {
    for call in calls {
        match call {
            Call::Get(key, given) => assert_eq!(model.get(key), given.as_ref(), "{what}: {call:?}"),
            Call::Scan(start, end, backward, limit, given) => {
                let inside = model.range(*start..*end).map(|(key, value)| (*key, *value));
                let expected: Vec<(u8, u64)> = if *backward {
                    inside.rev().take(*limit as usize).collect()
                } else {
                    inside.take(*limit as usize).collect()
                };
                assert_eq!(expected, *given, "{what}: {call:?}");
            }
            Call::Put(key, value) => drop(model.insert(*key, *value)),
            Call::Delete(key) => drop(model.remove(key)),
            Call::DeleteRange(start, end) => model.retain(|key, _| !(*start..*end).contains(key)),
        }
    }
}

const KEYS: u64 = 12;

/// A random transaction; `None` if it conflicted or was rolled back.
async fn random_transaction(
    world: &World,
    db: &Db,
    keyspace: &Keyspace,
    isolation: Isolation,
) -> Result<Option<Committed>> {
    let draw = |bound| world.random_below(bound);
    let mut txn = db.begin(TransactionOptions { isolation, ..TransactionOptions::default() });
    let mut calls = Vec::new();
    for _ in 0..1 + draw(6) {
        let key = draw(KEYS) as u8;
        let end = key + 1 + draw(4) as u8;
        let call = match draw(10) {
            0..3 => {
                let value = txn.get(keyspace, [key]).await?;
                Call::Get(key, value.map(|value| u64::from_be_bytes(value[..8].try_into().unwrap())))
            }
            3..5 => {
                let (backward, limit) = (draw(2) == 0, 1 + draw(4));
                let scan = Scan::range([key]..[end]);
                let scan = if backward { scan.reverse() } else { scan }.limit(limit);
                let pairs = txn.scan(keyspace, scan).await?.collect().await?;
                let pair = |(key, value): &(Vec<u8>, _)| {
                    let value: &[u8] = std::borrow::Borrow::borrow(value);
                    (key[0], u64::from_be_bytes(value[..8].try_into().unwrap()))
                };
                Call::Scan(key, end, backward, limit, pairs.iter().map(pair).collect())
            }
            5..8 => {
                let value = world.random_u64();
                let mut bytes = value.to_be_bytes().to_vec();
                bytes.resize(8 + draw(400) as usize, 7);
                txn.put(keyspace, [key], bytes)?;
                Call::Put(key, value)
            }
            8 => {
                txn.delete(keyspace, [key])?;
                Call::Delete(key)
            }
            _ => {
                txn.delete_range(keyspace, [key], [end])?;
                Call::DeleteRange(key, end)
            }
        };
        calls.push(call);
        if draw(3) == 0 {
            world.sleep(draw(200_000)).await;
        }
    }
    if draw(12) == 0 {
        return Ok(None);
    }
    let read_seq = txn.read_seq();
    match txn.commit().await {
        Ok(seq) => Ok(Some(Committed { read_seq, seq, isolation, calls })),
        Err(Error::Conflict(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Judges what committed: transactions in the order of their commits, a reader behind the commit it read at.
fn judge(mut committed: Vec<Committed>, last: Model) -> usize {
    committed.sort_by_key(|one| (one.seq, !one.writes()));
    let mut model = Model::new();
    let mut states = BTreeMap::from([(Seq::ZERO, Model::new())]);
    for one in &committed {
        let state_at = |seq: Seq| states.range(..=seq).next_back().expect("the empty one").1.clone();
        again(&mut state_at(one.read_seq), &one.calls, "at the sequence it read at");
        match one.isolation {
            // As if alone, at the place of its commit.
            Isolation::Serializable => again(&mut model, &one.calls, "in the serial order"),
            Isolation::Snapshot => {
                let writes: Vec<Call> = one
                    .calls
                    .iter()
                    .filter(|call| !matches!(call, Call::Get(..) | Call::Scan(..)))
                    .cloned()
                    .collect();
                again(&mut model, &writes, "writes");
            }
        }
        if one.writes() {
            for key in 0..=u8::MAX {
                let met = |other: &&Committed| {
                    other.seq > one.read_seq && other.seq < one.seq && other.writes() && other.writes_key(key)
                };
                assert!(
                    !one.writes_key(key) || !committed.iter().any(|other| met(&other)),
                    "two wrote {key} at the same time: {one:?}"
                );
            }
            assert!(states.insert(one.seq, model.clone()).is_none(), "two commits have one sequence");
        }
    }
    assert_eq!(model, last, "what is there in the end");
    committed.len()
}

#[test]
fn random_histories_are_as_serial_as_their_levels_say() {
    let mut committed = 0;
    for seed in 0..150 {
        committed += holdfast_sim::run(seed, move |world| async move {
            let process = world.process("db");
            let db = within(&process, |env| Db::open_in(env, DIR, small_options())).await.unwrap();
            let creating = db.clone();
            let keyspace =
                within(&process, |_| async move { creating.create_keyspace("k", small_keyspace()).await });
            let keyspace = keyspace.await.unwrap();
            let history = Arc::new(Mutex::new(Vec::new()));
            let clients: Vec<_> = (0..5u64)
                .map(|client| {
                    let (world, db, keyspace) = (world.clone(), db.clone(), keyspace.clone());
                    let history = history.clone();
                    process.spawn("client", async move {
                        for round in 0..25 {
                            let level = if (seed + client + round) % 4 == 0 {
                                Isolation::Snapshot
                            } else {
                                Isolation::Serializable
                            };
                            let one = random_transaction(&world, &db, &keyspace, level).await.unwrap();
                            history.lock().unwrap().extend(one);
                            match world.random_below(30) {
                                0 => db.flush().await.unwrap(),
                                1 => db.compact().await.unwrap(),
                                _ => {}
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            let last = within(&process, |_| async move {
                let all = keyspace.scan(Scan::all()).await.unwrap().collect().await.unwrap();
                db.close().await.unwrap();
                all.iter()
                    .map(|(key, value)| (key[0], u64::from_be_bytes(value[..8].try_into().unwrap())))
                    .collect()
            });
            let last = last.await;
            let history = std::mem::take(&mut *history.lock().unwrap());
            judge(history, last)
        })
        .result;
    }
    assert!(committed > 150 * 40, "only {committed} transactions committed");
}
