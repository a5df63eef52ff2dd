//! Models that are made wrong on purpose, judged by what the file systems showed: each must be caught.

use std::collections::BTreeMap;

use clap::ValueEnum;

use crate::check::{self, State};
use crate::failures::{self, Failure, Noticed};
use crate::file_system::FileSystem;
use crate::sequence::Sequence;
use crate::wrong::Wrong;

/// By the name of what is wrong: the seed of the first sequence that caught it.
pub type Caught = BTreeMap<String, Option<u64>>;

/// Tries every wrong model that was not caught yet on one sequence.
pub fn add(
    caught: &mut Caught,
    file_system: FileSystem,
    sequence: &Sequence,
    states: &[State],
    failed: &[(Failure, Noticed)],
) -> Result<(), String> {
    for wrong in Wrong::ALL.into_iter().filter(|wrong| wrong.is_possible_on(file_system)) {
        let name = wrong.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let by = caught.entry(name).or_insert(None);
        if by.is_some() {
            continue;
        }
        let is_caught = if wrong.is_about_failures() {
            is_caught_by_failures(file_system, failed, wrong)?
        } else {
            is_caught_by_states(file_system, sequence, states, wrong)?
        };
        if is_caught {
            *by = Some(sequence.seed);
        }
    }
    Ok(())
}

/// A state that the right model explains and the wrong one does not.
fn is_caught_by_states(
    file_system: FileSystem,
    sequence: &Sequence,
    states: &[State],
    wrong: Wrong,
) -> Result<bool, String> {
    for state in states {
        let state = std::slice::from_ref(state);
        let by_wrong = check::judge(file_system, sequence, state, Some(wrong))?;
        if !by_wrong.disagreements.is_empty()
            && check::judge(file_system, sequence, state, None)?.disagreements.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A failure that the right model explains and the wrong one does not.
fn is_caught_by_failures(
    file_system: FileSystem,
    failed: &[(Failure, Noticed)],
    wrong: Wrong,
) -> Result<bool, String> {
    for (failure, noticed) in failed {
        let right = failures::judge(file_system, failure, noticed, None)?;
        let by_wrong = failures::judge(file_system, failure, noticed, Some(wrong))?;
        if right.disagreements.is_empty() && !by_wrong.disagreements.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
