//! What is done to a database: every way of harming it, numbered, so that a run can be split and gone on with.

use std::fmt;
use std::sync::Arc;

use super::build::Subject;
use super::world::{Image, SECTOR};

/// One harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Harm {
    /// One bit of one byte is flipped.
    Flip {
        /// Its name in the directory.
        file: Arc<str>,
        /// Of the byte.
        offset: usize,
        /// 0 to 7.
        bit: u8,
    },
    /// A sector holds zeros.
    Zero {
        /// Its name in the directory.
        file: Arc<str>,
        /// Number in the file.
        sector: usize,
    },
    /// Two sectors of one file have changed places.
    Swap {
        /// Its name in the directory.
        file: Arc<str>,
        /// Number of one in the file.
        a: usize,
        /// Number of the other.
        b: usize,
    },
    /// A sector holds what it held before.
    Earlier {
        /// Its name in the directory.
        file: Arc<str>,
        /// Number in the file.
        sector: usize,
        /// What it held.
        bytes: Vec<u8>,
    },
    /// The file ends early.
    Truncate {
        /// Its name in the directory.
        file: Arc<str>,
        /// Bytes that are left.
        len: usize,
    },
    /// The file is gone.
    Remove {
        /// Its name in the directory.
        file: Arc<str>,
    },
    /// Two files have changed names.
    Exchange {
        /// Name of one in the directory.
        a: Arc<str>,
        /// Name of the other.
        b: Arc<str>,
    },
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { file, offset, bit } => write!(f, "bit {bit} of byte {offset} of {file} flipped"),
            Self::Zero { file, sector } => write!(f, "sector {sector} of {file} zeroed"),
            Self::Swap { file, a, b } => write!(f, "sectors {a} and {b} of {file} swapped"),
            Self::Earlier { file, sector, .. } => write!(f, "sector {sector} of {file} as it was before"),
            Self::Truncate { file, len } => write!(f, "{file} cut at {len}"),
            Self::Remove { file } => write!(f, "{file} removed"),
            Self::Exchange { a, b } => write!(f, "{a} and {b} exchanged"),
        }
    }
}

impl Harm {
    /// Its kind in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "flip",
            Self::Zero { .. } => "zero",
            Self::Swap { .. } => "swap",
            Self::Earlier { .. } => "earlier",
            Self::Truncate { len: 0, .. } => "empty",
            Self::Truncate { .. } => "truncate",
            Self::Remove { .. } => "remove",
            Self::Exchange { .. } => "exchange",
        }
    }

    /// The file harmed, the first of two.
    pub fn file(&self) -> &str {
        match self {
            Self::Flip { file, .. }
            | Self::Zero { file, .. }
            | Self::Swap { file, .. }
            | Self::Earlier { file, .. }
            | Self::Truncate { file, .. }
            | Self::Remove { file }
            | Self::Exchange { a: file, .. } => file,
        }
    }

    /// True if this is one of the files harmed.
    pub fn touches(&self, name: &str) -> bool {
        self.file() == name || matches!(self, Self::Exchange { b, .. } if **b == *name)
    }

    /// The files afterwards; `None` if they are the same as before.
    pub fn apply(&self, image: &Image) -> Option<Image> {
        let mut harmed = image.clone();
        let file = harmed.get_mut(self.file())?;
        match self {
            Self::Flip { offset, bit, .. } => Arc::make_mut(file)[*offset] ^= 1 << bit,
            Self::Zero { sector, .. } => Arc::make_mut(file)[sector * SECTOR..][..SECTOR].fill(0),
            Self::Swap { a, b, .. } => {
                let bytes = Arc::make_mut(file);
                let (first, second) =
                    (bytes[a * SECTOR..][..SECTOR].to_vec(), bytes[b * SECTOR..][..SECTOR].to_vec());
                bytes[a * SECTOR..][..SECTOR].copy_from_slice(&second);
                bytes[b * SECTOR..][..SECTOR].copy_from_slice(&first);
            }
            Self::Earlier { sector, bytes: earlier, .. } => {
                Arc::make_mut(file)[sector * SECTOR..][..SECTOR].copy_from_slice(earlier);
            }
            Self::Truncate { len, .. } => Arc::make_mut(file).truncate(*len),
            Self::Remove { file } => drop(harmed.remove(&**file)),
            Self::Exchange { a, b } => {
                let (first, second) = (harmed.remove(&**a)?, harmed.remove(&**b)?);
                harmed.insert(a.to_string(), second);
                harmed.insert(b.to_string(), first);
            }
        }
        // Only what was harmed is looked at: whole images are long.
        let is_changed = image.iter().any(|(name, bytes)| {
            self.touches(name) && harmed.get(name).is_none_or(|now| !Arc::ptr_eq(now, bytes) && now != bytes)
        });
        is_changed.then_some(harmed)
    }

    /// True if the database that opens over this harm is to live on: one bit of every byte, every eighth length and
    /// swap, and all of the rest. What is left out differs in nothing but the bit.
    pub fn lives_on(&self) -> bool {
        match self {
            Self::Flip { offset, bit, .. } => offset % 8 == usize::from(*bit),
            Self::Truncate { len, .. } => len.is_multiple_of(8),
            Self::Swap { a, b, .. } => (a + b).is_multiple_of(8),
            Self::Zero { .. } | Self::Earlier { .. } | Self::Remove { .. } | Self::Exchange { .. } => true,
        }
    }

    /// True if one disk cannot know of it: the newest unsealed group of the log is what it was before.
    pub fn is_excused(&self, subject: &Subject, harmed: &Image) -> bool {
        match self {
            Self::Zero { file, sector } | Self::Earlier { file, sector, .. } => harmed
                .get(&**file)
                .and_then(|bytes| bytes.get(sector * SECTOR..(sector + 1) * SECTOR))
                .is_some_and(|bytes| subject.is_newest_group(file, *sector, bytes)),
            _ => false,
        }
    }
}

/// Every harm to `subject`; with `quick`, a sample of the many and all of the few.
pub fn all(subject: &Subject, quick: bool) -> Vec<Harm> {
    let step = if quick { 61 } else { 1 };
    let mut harms = Vec::new();
    let files: Vec<Arc<str>> = subject.image.keys().map(|name| Arc::from(&**name)).collect();
    let mut bit_number = 0usize;
    for (name, bytes) in files.iter().zip(subject.image.values()) {
        let file = || Arc::clone(name);
        harms.push(Harm::Remove { file: file() });
        for bit in 0..bytes.len() * 8 {
            if bit_number.is_multiple_of(step) {
                harms.push(Harm::Flip { file: file(), offset: bit / 8, bit: (bit % 8) as u8 });
            }
            bit_number += 1;
        }
        let lengths = (0..bytes.len()).step_by(if quick { 509 } else { 1 });
        harms.extend(lengths.map(|len| Harm::Truncate { file: file(), len }));
        let sectors = bytes.len() / SECTOR;
        for sector in 0..sectors {
            harms.push(Harm::Zero { file: file(), sector });
            // Every sector is swapped with its neighbour and with one far away; in full, with each that is not zeros.
            let is_used = |at: usize| bytes[at * SECTOR..][..SECTOR].iter().any(|byte| *byte != 0);
            let far = (sector + sectors / 2 + 1) % sectors;
            let partners = (0..sector).filter(|b| (b + 1 == sector) || *b == far || (!quick && is_used(*b)));
            harms.extend(partners.map(|b| Harm::Swap { file: file(), a: sector, b }));
            for earlier in subject.earlier.get(&(name.to_string(), sector)).into_iter().flatten() {
                harms.push(Harm::Earlier { file: file(), sector, bytes: earlier.clone() });
            }
        }
    }
    for (at, a) in files.iter().enumerate() {
        harms.extend(files[at + 1..].iter().map(|b| Harm::Exchange { a: a.clone(), b: b.clone() }));
    }
    harms
}
