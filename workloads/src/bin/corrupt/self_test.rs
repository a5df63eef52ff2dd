//! Defects planted in the data, in what is demanded, and in the limits: each must be reported.

use std::process::ExitCode;
use std::sync::Arc;

use holdfast_workloads::SelfTest;
use holdfast_workloads::corrupt::ask::LATER;
use holdfast_workloads::corrupt::judge::{NOT_NOTICED, judge_with};
use holdfast_workloads::corrupt::world::Image;
use holdfast_workloads::corrupt::{Harm, Subject, Verdict, judge, mend};

use crate::meter::{LIMITS, Limits, measured};

/// Of the bytes in data blocks, one in so many is flipped under a mended checksum.
const BLOCK_STEP: usize = 61;

/// Plants everything.
///
/// # Errors
/// If a defect could not be planted.
pub fn run([closed, killed]: &[Subject; 2], json: bool) -> Result<ExitCode, String> {
    let mut test = SelfTest::new("corrupt", json);
    mended_blocks(closed, &mut test)?;
    mended_log(killed, &mut test)?;
    other_demands(closed, &mut test);
    unnoticed(killed, &mut test)?;
    lost_later(closed, &mut test);
    broken_limits(closed, &mut test);
    Ok(test.finish())
}

/// What is wrong with `harmed`, if anything is.
fn wrongs(limits: Limits, subject: &Subject, harm: &Harm, harmed: &Image) -> Vec<String> {
    match measured(limits, || judge(subject, harm, harmed)) {
        Verdict::Wrong(what) => vec![what],
        _ => Vec::new(),
    }
}

/// What is wrong once the lock file, on which nothing depends, is gone.
fn wrongs_of(limits: Limits, subject: &Subject) -> Vec<String> {
    let harm = Harm::Remove { file: "LOCK".into() };
    let harmed = harm.apply(&subject.image).unwrap_or_default();
    wrongs(limits, subject, &harm, &harmed)
}

/// A kernel that ignores the checksum of a block gives wrong values.
fn mended_blocks(subject: &Subject, test: &mut SelfTest) -> Result<(), String> {
    let (mut planted, mut found) = (0, Vec::new());
    for (name, table) in subject.image.iter().filter(|(name, _)| name.ends_with(".table")) {
        for block in mend::data_blocks(table) {
            for offset in (block.start + 16..block.end).step_by(BLOCK_STEP) {
                let mut harmed = subject.image.clone();
                let bytes = harmed.get_mut(name).ok_or("the table is gone")?;
                mend::flip_in_block(&mut Arc::make_mut(bytes)[..], &block, offset)?;
                planted += 1;
                let harm = Harm::Flip { file: name.as_str().into(), offset, bit: 0 };
                found.extend(wrongs(LIMITS, subject, &harm, &harmed));
            }
        }
    }
    // The rest is refused by the block's own rules, or meets a version that nobody asks for.
    found.retain(|what| what != NOT_NOTICED);
    // No decoder may break over any bytes, those with a valid checksum included.
    if let Some(broken) = found.iter().find(|what| !is_wrong_answer(what)) {
        return Err(format!("a block with a valid checksum: {broken}"));
    }
    let (caught, first) = (found.len(), found.first().cloned().unwrap_or_default());
    let said = (caught * 4 > planted).then(|| format!("{caught} of {planted} give a wrong answer: {first}"));
    let said: Vec<String> = said.into_iter().collect();
    test.planted("bits flipped in data blocks, and the checksums over them mended", &said);
    Ok(())
}

fn is_wrong_answer(what: &str) -> bool {
    let what = what.strip_prefix(LATER).unwrap_or(what);
    ["get ", "a scan of ", "the newest commit"].iter().any(|begin| what.starts_with(begin))
        || what.contains(" counts ")
}

/// A kernel that ignores the checksum of a sector replays a wrong value.
fn mended_log(subject: &Subject, test: &mut SelfTest) -> Result<(), String> {
    let word = b"acknowledged";
    let place = subject
        .image
        .iter()
        .filter(|(name, _)| name.ends_with(".log"))
        .find_map(|(name, log)| Some((name, log.windows(word.len()).position(|window| window == word)?)));
    let (name, offset) = place.ok_or("the last commit is not found in the log")?;
    let mut harmed = subject.image.clone();
    mend::flip_in_log(&mut Arc::make_mut(harmed.get_mut(name).ok_or("the log is gone")?)[..], offset)?;
    let harm = Harm::Flip { file: name.as_str().into(), offset, bit: 0 };
    let found = wrongs(LIMITS, subject, &harm, &harmed);
    let found: Vec<String> = found.into_iter().filter(|what| is_wrong_answer(what)).collect();
    test.planted("a bit flipped in the newest commit of the log, and its sector's checksum mended", &found);
    Ok(())
}

/// A database that lost or changed something: the same as one that never had it, of which it is demanded.
fn other_demands(subject: &Subject, test: &mut SelfTest) {
    let mut other = subject.clone();
    let accounts = other.truth.contents.entry("accounts".into()).or_default();
    if let Some(value) = accounts.values_mut().find_map(Option::as_mut) {
        value[0] ^= 1;
    }
    test.planted("a value differs by one bit", &wrongs_of(LIMITS, &other));
    other.truth = subject.truth.clone();
    other.truth.last_seq += 1;
    test.planted("an acknowledged commit is missing", &wrongs_of(LIMITS, &other));
    other.truth = subject.truth.clone();
    let accounts = other.truth.contents.entry("accounts".into()).or_default();
    accounts.insert(b"zzz".to_vec(), Some(b"never written".to_vec()));
    test.planted("a key is missing", &wrongs_of(LIMITS, &other));
    other.truth = subject.truth.clone();
    let deleted = other
        .truth
        .history
        .first_mut()
        .and_then(|(_, past)| past.get_mut("accounts")?.values_mut().find(|value| value.is_none()));
    if let Some(deleted) = deleted {
        *deleted = Some(b"was there".to_vec());
    }
    test.planted("a snapshot of the past lacks a key", &wrongs_of(LIMITS, &other));
}

/// A byte that neither the kernel nor verification looks at, in no region that is listed as unused.
fn unnoticed(subject: &Subject, test: &mut SelfTest) -> Result<(), String> {
    let mut other = subject.clone();
    other.unused.clear();
    other.image.insert("LOCK".into(), b"nobody reads this".to_vec().into());
    let harm = Harm::Flip { file: "LOCK".into(), offset: 3, bit: 0 };
    let harmed = harm.apply(&other.image).ok_or("the flip changes nothing")?;
    test.planted("a byte that nobody checks, and no region lists", &wrongs(LIMITS, &other, &harm, &harmed));
    Ok(())
}

/// A kernel that answers right until it is killed, and then has lost what it was given over the harm.
fn lost_later(subject: &Subject, test: &mut SelfTest) {
    let harm = Harm::Remove { file: "LOCK".into() };
    let harmed = harm.apply(&subject.image).unwrap_or_default();
    let found = match judge_with(subject, &harm, &harmed, |before, _| before.clone()) {
        Verdict::Wrong(what) => vec![what],
        _ => Vec::new(),
    };
    test.planted("commits after the harm are lost in a kill", &found);
}

fn broken_limits(subject: &Subject, test: &mut SelfTest) {
    let limits = Limits { bytes: 64 << 10, ..LIMITS };
    test.planted("more memory than allowed", &wrongs_of(limits, subject));
    let limits = Limits { time: std::time::Duration::ZERO, ..LIMITS };
    test.planted("more time than allowed", &wrongs_of(limits, subject));
    let panicked = match measured(LIMITS, || panic!("planted")) {
        Verdict::Wrong(what) => vec![what],
        _ => Vec::new(),
    };
    test.planted("a panic", &panicked);
}
