//! Kills the writer in the middle of its work, recovers, and holds what is there against what was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

use holdfast::KeyspaceOptions;
use holdfast::blocking::Db;
use indicatif::HumanCount;

use super::teller::Teller;
use super::writer::{ACCOUNTS, BALANCES, Balances, LEDGER, Ledger, MONEY, THREADS};
use crate::commands::Writer;
use crate::exit::Failure;

const ROUNDS: u64 = 3;
/// Acknowledgements before the kill; a different number each round, so that it meets different moments.
const ACKNOWLEDGED_MIN: [u64; ROUNDS as usize] = [500, 1777, 3201];

/// The last number that each thread was told is durable.
type Acknowledged = BTreeMap<u64, u64>;

/// The end of one writer.
struct Killed {
    pid: u32,
    status: ExitStatus,
    last: Acknowledged,
    count: u64,
}

pub(super) fn kill_and_recover(dir: &Path, writer: &Writer, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.begin("kill -9, in the middle of acknowledged commits")?;
    prepare(dir)?;
    let mut total = 0;
    for round in 0..ROUNDS {
        let killed = kill_one(dir, writer, round)?;
        let is_killed = killed.status.signal() == Some(9);
        teller.must(is_killed, format_args!("the writer was killed by SIGKILL: {}", killed.status))?;
        let started = Instant::now();
        let db = Db::open(dir, super::options())?;
        let recovered_ms = started.elapsed().as_millis();
        let (found, unacknowledged) = judge(&db, round, &killed, teller)?;
        db.close()?;
        total += killed.count;
        teller.line(format_args!(
            "process {} with {THREADS} writers: {} commits acknowledged, then SIGKILL (wait status: {})",
            killed.pid,
            HumanCount(killed.count),
            killed.status
        ))?;
        teller.line(format_args!(
            "  recovered in {recovered_ms} ms: {} of {} are there, and {unacknowledged} that were not yet acknowledged",
            HumanCount(found - unacknowledged),
            HumanCount(killed.count)
        ))?;
        teller.fact(
            &format!("round_{round}"),
            serde_json::json!({
                "pid": killed.pid, "signal": killed.status.signal(), "wait_status": killed.status.into_raw(),
                "acknowledged": killed.count, "found": found, "lost": 0, "recovery_ms": recovered_ms as u64,
            }),
        );
    }
    teller.line(format_args!(
        "{} acknowledged commits, 0 lost, none torn: the accounts still hold {} together",
        HumanCount(total),
        HumanCount(ACCOUNTS * MONEY)
    ))?;
    teller.fact("acknowledged", total);
    teller.fact("lost", 0);
    teller.end()
}

fn prepare(dir: &Path) -> Result<(), Failure> {
    let db = Db::open(dir, super::options())?;
    let balances: Balances = db.create_keyspace(BALANCES, KeyspaceOptions::default())?.typed();
    db.create_keyspace(LEDGER, KeyspaceOptions::default())?;
    let mut txn = db.begin(Default::default());
    for account in 0..ACCOUNTS {
        balances.put_in(&mut txn, &(account,), &MONEY)?;
    }
    txn.commit()?;
    Ok(db.close()?)
}

/// Starts a writer, kills it once it has acknowledged enough, and reads what else it had said.
fn kill_one(dir: &Path, writer: &Writer, round: u64) -> Result<Killed, Failure> {
    let failed = |error| Failure::io("the writer process", error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("tour-writer").arg(dir).arg(round.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let pipe = writer.start(|| command.spawn()).map_err(failed)?;
    let pipe = pipe.expect("the pipe was asked for when the process was started");
    let outcome = read_and_kill(writer, pipe, round);
    if outcome.is_err() {
        // Whatever went wrong, no writer may stay behind.
        let _ = writer.kill();
    }
    let (pid, status) = writer.wait().map_err(failed)?.expect("the process was started above");
    let (last, count) = outcome?;
    Ok(Killed { pid, status, last, count })
}

fn read_and_kill(writer: &Writer, pipe: ChildStdout, round: u64) -> Result<(Acknowledged, u64), Failure> {
    let failed = |error| Failure::io("the writer process", error);
    let (mut last, mut count) = (Acknowledged::new(), 0);
    let enough = ACKNOWLEDGED_MIN[usize::try_from(round).unwrap_or(0) % ACKNOWLEDGED_MIN.len()];
    for line in BufReader::new(pipe).lines() {
        let line = line.map_err(failed)?;
        let numbers = line
            .split_once(' ')
            .and_then(|(thread, number)| Some((thread.parse::<u64>().ok()?, number.parse::<u64>().ok()?)));
        let Some((thread, number)) = numbers else {
            return Err(Failure::Problem(format!("the writer said {line:?}")));
        };
        last.insert(thread, number);
        count += 1;
        if count == enough {
            writer.kill().map_err(failed)?;
        }
    }
    Ok((last, count))
}

/// Checks that each acknowledged commit is there and whole, that each thread's are there in order without a gap, and
/// that no money was made or lost. Gives the number of commits found, and how many of them nobody was told of.
fn judge(db: &Db, round: u64, killed: &Killed, teller: &mut Teller<'_>) -> Result<(u64, u64), Failure> {
    let ledger: Ledger = db.keyspace(LEDGER)?.typed();
    let (mut found, mut unacknowledged) = (0, 0);
    for thread in 0..THREADS {
        let mut next = 0;
        for entry in ledger.with_prefix(&(round, thread))? {
            let ((_, _, number), value) = entry?;
            teller
                .must(number == next, format_args!("thread {thread}: after {next} commits comes {number}"))?;
            teller.must(value.len() == 24, "a ledger entry is whole")?;
            next += 1;
        }
        let acknowledged = killed.last.get(&thread).map_or(0, |last| last + 1);
        teller.must(
            next >= acknowledged,
            format_args!("thread {thread}: {acknowledged} commits were acknowledged, {next} are there"),
        )?;
        found += next;
        unacknowledged += next - acknowledged;
    }
    let balances: Balances = db.keyspace(BALANCES)?.typed();
    let mut sum = 0;
    for entry in balances.range(..)? {
        sum += entry?.1;
    }
    teller.must(
        sum == ACCOUNTS * MONEY,
        format_args!("the accounts hold {} together, not {sum}", ACCOUNTS * MONEY),
    )?;
    Ok((found, unacknowledged))
}
