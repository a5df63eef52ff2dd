//! Every decoder of bytes from a disk, or of text from a user, as one function over arbitrary bytes.
//!
//! The fuzzer (`fuzz/`, run by `ci/nightly fuzz`) and the property tests of this crate call the same functions with the
//! same seeds, so that what the fuzzer finds becomes a test by putting the input into `fuzz/seeds/TARGET`. Present in
//! tests and under `--cfg fuzzing` only: no ordinary build has it, and nothing behaves otherwise for it.
//!
//! No function here asks merely for "no panic". Each asserts what its decoder promises of whatever it accepts: that it
//! encodes back, to the very same bytes where there is one encoding; that two readers of the same bytes agree; that
//! order and bounds hold; and of what it refuses, that the named place lies inside the input.
//!
//! ```text
//! input of a format with checksums := mode | bytes
//! mode   1 = mend the checksums before decoding, so that the bytes behind them are reached
//!        2 = also write the identity, place or length that the checksum's formula asks for, where it is not free
//! ```

mod keys;
#[cfg(test)]
mod tests;

use crate::codec::BadBytes;
use crate::{manifest, record, table, wal};

/// One decoder.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its fuzz target.
    pub name: &'static str,
    /// Decodes any bytes and judges the outcome.
    ///
    /// # Panics
    /// If the decoder breaks a promise.
    pub check: fn(&[u8]),
    /// Inputs from which a fuzzer should start: what encoders make, the same each time.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them, in the order of the formats' layers.
pub const TARGETS: &[Target] = &[
    Target { name: "log", check: record::fuzzing::check, seeds: record::fuzzing::seeds },
    Target { name: "log_header", check: wal::fuzzing::check, seeds: wal::fuzzing::seeds },
    Target { name: "batch", check: keys::check_batch, seeds: keys::batch_seeds },
    Target {
        name: "manifest_edit",
        check: manifest::fuzzing::check_edit,
        seeds: manifest::fuzzing::edit_seeds,
    },
    Target {
        name: "manifest_header",
        check: manifest::fuzzing::check_header,
        seeds: manifest::fuzzing::header_seeds,
    },
    Target {
        name: "current",
        check: manifest::fuzzing::check_current,
        seeds: manifest::fuzzing::current_seeds,
    },
    Target { name: "table_block", check: table::fuzzing::check_block, seeds: table::fuzzing::block_seeds },
    Target { name: "table_filter", check: table::fuzzing::check_filter, seeds: table::fuzzing::filter_seeds },
    Target {
        name: "table_tombstones",
        check: table::fuzzing::check_tombstones,
        seeds: table::fuzzing::tombstone_seeds,
    },
    Target { name: "table_frame", check: table::fuzzing::check_frame, seeds: table::fuzzing::frame_seeds },
    Target { name: "table_footer", check: table::fuzzing::check_footer, seeds: table::fuzzing::footer_seeds },
    Target { name: "table_meta", check: table::fuzzing::check_meta, seeds: table::fuzzing::meta_seeds },
    Target { name: "tuple_key", check: keys::check_tuple, seeds: keys::tuple_seeds },
    Target { name: "tuple_text", check: keys::check_tuple_text, seeds: keys::tuple_text_seeds },
    Target { name: "escape", check: keys::check_escape, seeds: keys::escape_seeds },
];

/// Runs the target of that name.
///
/// # Panics
/// If there is none, or its decoder breaks a promise.
pub fn check(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the name stands in TARGETS").check)(data);
}

/// The bits of an input's mode, and its bytes.
pub(crate) fn with_mode(data: &[u8]) -> (u8, Vec<u8>) {
    match data {
        [mode, bytes @ ..] => (*mode, bytes.to_vec()),
        [] => (0, Vec::new()),
    }
}

/// The checksum is to be mended.
pub(crate) const MEND_SUM: u8 = 1;
/// So are the fields that must fit the place.
pub(crate) const MEND_PLACE: u8 = 2;

/// Each of `inputs` as it is, and with its checksums to be mended.
pub(crate) fn in_modes(inputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let modes = [0, MEND_SUM | MEND_PLACE];
    modes.iter().flat_map(|mode| inputs.iter().map(|input| [&[*mode], &input[..]].concat())).collect()
}

/// A refusal names a place inside what was refused.
pub(crate) fn check_place(bad: &BadBytes, len: usize) {
    assert!(bad.at <= len, "{bad}: the place lies outside of {len} bytes");
    assert!(!bad.what.is_empty(), "a refusal says what is wrong");
}
