//! Kinds of states, for knowing which of those that the model allows a real file system never showed.
//!
//! A state is named by what became of the changes that were not durable, as far as it can be seen: bytes of a file
//! without a name, or past its end, belong to no kind.

use std::collections::BTreeMap;

use holdfast_sim::Survival;

use crate::judge::Guide;
use crate::model::Images;
use crate::seen::Seen;
use crate::sequence::{Operation, Sequence};

/// How often each kind was there.
pub type Kinds = BTreeMap<String, u64>;

/// Names the kinds of one state, which these answers explain.
pub fn note(
    kinds: &mut Kinds,
    sequence: &Sequence,
    images: &Images,
    guide: &Guide,
    seen: &Seen,
    files: &BTreeMap<String, u64>,
) {
    let mut found = of_names(guide);
    for (path, number) in files {
        let Some(file) = seen.files.get(path) else { continue };
        let len = file.bytes.len() as u64;
        of_bytes(&mut found, sequence, images, guide, *number, len);
        if let Some(candidates) = guide.candidates.get(number).filter(|candidates| candidates.len() > 1) {
            let how = match candidates.iter().position(|size| *size == len) {
                Some(0) => "the durable one",
                Some(place) if place + 1 == candidates.len() => "the last one",
                _ => "one between",
            };
            found.push(format!("size: {how}"));
        }
    }
    found.sort();
    found.dedup();
    for kind in found {
        *kinds.entry(kind).or_insert(0) += 1;
    }
}

fn of_names(guide: &Guide) -> Vec<String> {
    let mut found = Vec::new();
    if guide.operations > 0 {
        let journal = guide.journal.min(guide.operations);
        let how = if journal == 0 {
            "none is there"
        } else if journal == guide.operations {
            "all are there"
        } else {
            "some are there"
        };
        found.push(format!("changes of names: {how}"));
    }
    for (file, logged) in &guide.logged {
        let how = match guide.log.get(file).copied().unwrap_or(0) {
            0 => "nothing of a file's is there",
            names if names >= *logged => "all of a file's is there without earlier changes of others",
            _ => "a part of a file's is there",
        };
        found.push(format!("log of names: {how}"));
    }
    found
}

/// The kinds of what became of the changes of one file, as far as its length shows them.
fn of_bytes(
    found: &mut Vec<String>,
    sequence: &Sequence,
    images: &Images,
    guide: &Guide,
    number: u64,
    len: u64,
) {
    let mut is_gone_before = false;
    for (nth, change) in guide.questions.get(&number).into_iter().flatten().enumerate() {
        if change.offset >= len {
            continue;
        }
        let answer = guide.content.get(&(number, nth)).unwrap_or(&Survival::Gone);
        if change.is_hole {
            let how = if *answer == Survival::Gone { "are not there" } else { "are there" };
            found.push(format!("punched pages: {how}"));
            continue;
        }
        let how = match answer {
            Survival::Gone => "is gone",
            Survival::Whole => "is there",
            Survival::Torn(_) => "is torn",
        };
        if *answer == Survival::Gone {
            is_gone_before = true;
        } else if is_gone_before {
            found.push("an earlier write of a file is gone and a later one is not".to_owned());
        }
        found.push(format!("{}: {how}", route(sequence, images, change.number)));
    }
}

fn route(sequence: &Sequence, images: &Images, change: u64) -> &'static str {
    let Some((number, Operation::Write { slot, .. })) = images.maker(change) else { return "zeros" };
    let mode = sequence.mode_of(*slot, number);
    match (mode.direct, mode.dsync) {
        (false, false) => "cached write",
        (false, true) => "cached dsync write",
        (true, false) => "direct write",
        (true, true) => "direct dsync write",
    }
}
