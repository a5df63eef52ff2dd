//! The fuzz targets as property tests: arbitrary bytes, harmed seeds, and every input that is kept in the clone.
//!
//! `HOLDFAST_WRITE_SEEDS=1 cargo test -p holdfast-db fuzzing` writes the seeds anew after a format has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quickcheck::{Arbitrary, Gen};

use super::*;

/// One way to harm an input.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// Inverts these bits of a byte.
    Flip { at: u16, bits: u8 },
    /// Writes a number that is often at an edge, in up to eight bytes.
    Number { at: u16, number: u64, width: u8 },
    /// Cuts the end off.
    Truncate { at: u16 },
    /// Takes some bytes out.
    Remove { at: u16, len: u8 },
    /// Puts some bytes of a seed in.
    Splice { at: u16, seed: u8, from: u16, len: u8 },
}

impl Arbitrary for Harm {
    fn arbitrary(g: &mut Gen) -> Self {
        let at = u16::arbitrary(g);
        match u8::arbitrary(g) % 8 {
            0..=2 => Self::Flip { at, bits: 1 << (u8::arbitrary(g) % 8) },
            3 | 4 => {
                let any = u64::arbitrary(g) >> (u8::arbitrary(g) % 64);
                let number = *g.choose(&[0, 1, u64::MAX, 1 << 31, 1 << 56, 1 << 63, any, any]).unwrap();
                Self::Number { at, number, width: u8::arbitrary(g) % 8 + 1 }
            }
            5 => Self::Truncate { at },
            6 => Self::Remove { at, len: u8::arbitrary(g) },
            _ => Self::Splice { at, seed: u8::arbitrary(g), from: u16::arbitrary(g), len: u8::arbitrary(g) },
        }
    }
}

impl Harm {
    fn apply(self, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
        let place = |at: u16, len: usize| usize::from(at) % (len + 1);
        let here = place(self.at(), bytes.len());
        match self {
            Self::Flip { bits, .. } => bytes.iter_mut().skip(here).take(1).for_each(|byte| *byte ^= bits),
            Self::Number { number, width, .. } => {
                let number = number.to_le_bytes();
                let places = bytes.iter_mut().skip(here).zip(&number[..usize::from(width)]);
                places.for_each(|(byte, new)| *byte = *new);
            }
            Self::Truncate { .. } => bytes.truncate(here),
            Self::Remove { len, .. } => {
                let end = bytes.len().min(here + usize::from(len));
                bytes.drain(here..end);
            }
            Self::Splice { seed, from, len, .. } => {
                let seed = &seeds[usize::from(seed) % seeds.len()];
                let piece = seed[place(from, seed.len())..].iter().take(usize::from(len)).copied();
                bytes.splice(here..here, piece.collect::<Vec<_>>());
            }
        }
    }

    fn at(self) -> u16 {
        match self {
            Self::Flip { at, .. }
            | Self::Number { at, .. }
            | Self::Truncate { at }
            | Self::Remove { at, .. }
            | Self::Splice { at, .. } => at,
        }
    }
}

fn harmed(target: &Target, seed: u8, harms: &[Harm]) -> Vec<u8> {
    let seeds = (target.seeds)();
    let mut bytes = seeds[usize::from(seed) % seeds.len()].clone();
    harms.iter().take(12).for_each(|harm| harm.apply(&seeds, &mut bytes));
    bytes
}

/// The two properties of each target, and the list of names, which must be that of [`TARGETS`].
macro_rules! properties {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            use super::*;

            fn target() -> &'static Target {
                TARGETS.iter().find(|target| target.name == stringify!($name)).unwrap()
            }

            quickcheck::quickcheck! {
                fn any_bytes_are_judged(bytes: Vec<u8>) -> bool {
                    (target().check)(&bytes);
                    true
                }

                fn harmed_seeds_are_judged(cases: Vec<(u8, Vec<Harm>)>) -> bool {
                    for (seed, harms) in cases {
                        (target().check)(&harmed(target(), seed, &harms));
                    }
                    true
                }
            }
        })*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

properties! {
    log, log_header, batch, manifest_edit, manifest_header, current, table_block, table_filter, table_tombstones,
    table_frame, table_footer, table_meta, tuple_key, tuple_text, escape,
}

fn fuzz_folder(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder)
}

/// Names in a folder, without what stands behind the first point.
fn stems(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.split('.').next().unwrap().to_owned()).collect()
}

#[test]
fn every_target_is_tested_and_fuzzed() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    let fuzzed = stems(&fuzz_folder("fuzz_targets"));
    for name in names {
        assert!(fuzzed.contains(name), "fuzz/fuzz_targets/{name}.rs is missing");
    }
}

#[test]
fn every_kept_input_passes_and_the_seeds_are_those_that_the_code_makes() {
    #[expect(clippy::disallowed_methods, reason = "the test is told to write, not the kernel")]
    let write = std::env::var_os("HOLDFAST_WRITE_SEEDS").is_some();
    for target in TARGETS {
        let folder = fuzz_folder("seeds").join(target.name);
        let seeds = (target.seeds)();
        assert!(seeds.len() > 1, "{} starts from several seeds", target.name);
        if write {
            std::fs::create_dir_all(&folder).unwrap();
        }
        for (index, seed) in seeds.iter().enumerate() {
            let file = folder.join(format!("seed-{index:02}"));
            if write {
                std::fs::write(&file, seed).unwrap();
            }
            let found = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(
                found == *seed,
                "{} is not what the code makes; see the header of this test",
                file.display()
            );
        }
        // Others are inputs that once broke something.
        for name in stems(&folder) {
            (target.check)(&std::fs::read(folder.join(name)).unwrap());
        }
    }
}

/// A mended seed gets past its checksum: else the fuzzer would only ever see the checksum fail.
#[test]
fn mending_leads_behind_the_checksum() {
    for name in ["log", "log_header", "manifest_header", "current", "table_frame", "table_footer"] {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let seeds = (target.seeds)();
        let modes: BTreeSet<u8> = seeds.iter().map(|seed| seed[0]).collect();
        assert_eq!(modes, BTreeSet::from([0, MEND_SUM | MEND_PLACE]), "{name}");
    }
}
