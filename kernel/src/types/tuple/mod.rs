//! Order-preserving keys: typed values whose bytes sort as the values do.
//!
//! A key is a row of elements, one behind the other. Each element starts with a tag and ends where its tag or its
//! terminator says, so no element's bytes are a beginning of another's: comparing two keys bytewise compares their
//! elements one by one, and a tuple sorts right before the longer tuples that begin with it.
//!
//! ```text
//! 00          end of a nested tuple            smaller than every tag
//! 01          null
//! 02, 03      false, true
//! 10 … 1f     negative integer of 16 … 1 bytes: |n| big-endian, inverted
//! 20          the integer 0
//! 21 … 30     positive integer of 1 … 16 bytes: big-endian; never a leading zero byte
//! 38          f64: its 8 bytes big-endian; sign bit set → all bits inverted, else only the sign bit
//! 40          bytes   ┐ up to the terminator 00; inside, 00 is written 01 01 and 01 is written 01 02
//! 48          text    ┘ (text is UTF-8)
//! 50          id: 16 bytes as they are
//! 58          nested tuple: its elements, then 00
//! 80 … fe     a descending element: every byte, its tag included, inverted
//! ```
//!
//! Tags not listed are kept free. Values of different types sort by tag: null, booleans, integers, floats, bytes,
//! text, ids, tuples, then descending elements in the opposite order. All integer types share one number line, so
//! a field may be widened later without rewriting keys. Floats: equal numbers have equal keys, so -0.0 is stored as
//! 0.0, and every NaN as the one NaN that sorts above infinity.
//!
//! Invariants:
//! - Each row of elements has exactly one encoding, and decoding refuses every other one: what decodes encodes back
//!   to the same bytes.
//! - No decoder panics, and nesting is bounded by [`DEPTH_MAX`], whatever the bytes are.

mod decode;
mod element;
mod encode;
mod text;

pub use decode::{DecodeKey, KeyReader};
pub use element::Element;
pub use encode::{Descending, EncodeKey, Id, NotNull, prefix_range};
pub use text::{BadTuple, format_tuple, parse_tuple};

/// How deep tuples may be nested in a key that is read back.
pub const DEPTH_MAX: usize = 64;

/// The first byte of an ascending element.
mod tag {
    pub(super) const END: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    /// The integer 0; the tag of any other is this plus or minus its length in bytes.
    pub(super) const ZERO: u8 = 0x20;
    /// Most bytes that an integer has.
    pub(super) const INTEGER_BYTES: u8 = 16;
    pub(super) const FLOAT: u8 = 0x38;
    pub(super) const BYTES: u8 = 0x40;
    pub(super) const TEXT: u8 = 0x48;
    pub(super) const ID: u8 = 0x50;
    pub(super) const TUPLE: u8 = 0x58;
    /// This and above: descending.
    pub(super) const DESCENDING: u8 = 0x80;
    /// Stands inside bytes and text for what the next byte says.
    pub(super) const ESCAPE: u8 = 0x01;
}

#[cfg(test)]
mod tests;
