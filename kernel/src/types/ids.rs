//! Numbers with names. Arithmetic that has a meaning is a method; the rest is not offered.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);
            /// The largest value.
            pub const MAX: Self = Self(u64::MAX);

            /// From its stored form.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Its stored form.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The following value; stays at the largest.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number! {
    /// Position in commit order: what is visible to whom. The first commit is 1; 0 sees nothing.
    /// At most [`Seq::LIMIT`], since tables pack it with an entry kind into eight bytes.
    Seq
}
number! {
    /// Byte position in the one endless logical log: what is durable. Always a multiple of 512.
    Lsn
}
number! {
    /// Number in a file's name. Given once, never again, orphans included.
    FileNo
}
number! {
    /// Random identity of a file, drawn at its creation, stored in its header, named by the manifest and
    /// covered by every checksum in it.
    FileId
}
number! {
    /// Wall-clock time in microseconds since 1970-01-01 UTC, made monotonic by [`crate::clock`].
    Timestamp
}

impl Seq {
    /// The greatest usable sequence: 2^56 - 1. At a million commits a second it lasts 2,283 years.
    pub const LIMIT: Self = Self((1 << 56) - 1);

    /// The preceding value; stays at 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl FileNo {
    /// No file has this number, and no counter of them is greater: 2^63. At a million files a second it lasts 292,000
    /// years, so whoever counts on from a number that was checked against it never comes to the end of 64 bits.
    pub const LIMIT: Self = Self(1 << 63);
}

impl Lsn {
    /// The position `bytes` further on.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here, 0 if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Number of a keyspace. Given once, never again, also after a drop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyspaceId(u32);

impl KeyspaceId {
    /// From its stored form.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Its stored form.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry says about its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum OpKind {
    /// The key is gone as of this entry.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// Every key in `[key, value)` is gone as of this entry, except what the same commit puts.
    DeleteRange = 2,
}

impl OpKind {
    /// From its stored form; `None` if there is no such kind.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Delete),
            1 => Some(Self::Put),
            2 => Some(Self::DeleteRange),
            _ => None,
        }
    }
}
