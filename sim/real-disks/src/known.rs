//! A difference that is known and left: what btrfs lists once a commit of it has failed.

use std::collections::BTreeMap;

use crate::failures::Failure;
use crate::seen::Seen;
use crate::sequence::{Operation, bytes_of};

/// What btrfs reads once a commit has failed.
pub const KNOWN: &str = "btrfs whose commit failed lists the names that were committed or refuses to, and the model those that were made";

/// True if nothing is read, or other names are listed than those that were made, and each byte in them is one that was
/// written into a file at this place, or zero: no program learns from a list of names what it may rely on after a failed
/// sync, but bytes are never excused.
pub fn lists_committed(failure: &Failure, seen: &Result<Seen, String>, made: &Seen) -> bool {
    let Ok(seen) = seen else { return true };
    let sequence = &failure.sequence;
    let until = usize::from(sequence.number_of(failure.position));
    let mut writes: BTreeMap<usize, Vec<(u16, u64, u64)>> = BTreeMap::new();
    for (number, operation) in sequence.all().take(until) {
        if let Operation::Write { slot, offset, len } = operation {
            writes.entry(*slot).or_default().push((number, *offset, *len));
        }
    }
    let is_by = |bytes: &[u8], writes: &[(u16, u64, u64)]| {
        bytes.iter().zip(0u64..).filter(|(byte, _)| **byte != 0).all(|(byte, at)| {
            let covers = |(_, offset, len): &&(u16, u64, u64)| (*offset..offset + len).contains(&at);
            writes.iter().filter(covers).any(|(number, ..)| bytes_of(*number, at, 1) == [*byte])
        })
    };
    let is_written = |bytes: &[u8]| is_by(bytes, &[]) || writes.values().any(|writes| is_by(bytes, writes));
    !seen.has_names_of(made) && seen.files.values().all(|file| is_written(&file.bytes))
}
