//! Values into key bytes; the layout stands in the [module header](super).

use super::tag;

/// A value that can be a key, or an element of one.
///
/// A scalar is a key of one element. A Rust tuple of up to eight is, as a whole key, the row of its elements, and
/// as an element of another tuple a nested tuple; so `(a, b)` and `((a, b),)` are different keys, `a` and `(a,)`
/// the same.
pub trait EncodeKey {
    /// Appends the value as one element.
    fn append_element(&self, out: &mut Vec<u8>);

    /// Appends the value as a whole key.
    fn append_key(&self, out: &mut Vec<u8>) {
        self.append_element(out);
    }

    /// The value as a whole key.
    fn encode_key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.append_key(&mut out);
        out
    }
}

/// A type whose encoding is never null, so that `Option` of it can be told apart from its absence.
pub trait NotNull {}

/// Sixteen bytes that are a name: a UUID or the like. Shorter than [`Element::Bytes`](super::Element), as nothing is escaped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Id(pub [u8; 16]);

/// An element that sorts in descending order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Descending<T>(pub T);

impl<T: Ord> Ord for Descending<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl<T: PartialOrd> PartialOrd for Descending<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        other.0.partial_cmp(&self.0)
    }
}

/// The bounds `[start, end)` of every key that begins with the elements of `prefix`: the key `prefix` itself, and
/// all longer tuples. `prefix_range(&())` is every key.
///
/// The prefix is made of whole elements: `("ab",)` does not cover `("abc",)`.
pub fn prefix_range(prefix: &(impl EncodeKey + ?Sized)) -> (Vec<u8>, Vec<u8>) {
    let start = prefix.encode_key();
    let mut end = Vec::with_capacity(start.len() + 1);
    end.extend_from_slice(&start);
    // Greater than every tag, ascending or descending.
    end.push(0xff);
    (start, end)
}

/// Appends an integer: its length in the tag, then no more bytes than it needs.
pub(super) fn append_integer(value: i128, out: &mut Vec<u8>) {
    let magnitude = value.unsigned_abs();
    let len = 16 - magnitude.leading_zeros() as usize / 8;
    let bytes = if value < 0 { (!magnitude).to_be_bytes() } else { magnitude.to_be_bytes() };
    out.push(if value < 0 { tag::ZERO - len as u8 } else { tag::ZERO + len as u8 });
    out.extend_from_slice(&bytes[16 - len..]);
}

/// The bits of a float in an order that unsigned comparison understands.
pub(super) fn float_to_ordered(value: f64) -> u64 {
    // Adding 0.0 turns -0.0 into 0.0.
    let bits = if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { (value + 0.0).to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Appends bytes or text with its terminator.
pub(super) fn append_escaped(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    for run in bytes.chunk_by(|a, b| (*a > tag::ESCAPE) == (*b > tag::ESCAPE)) {
        if run[0] > tag::ESCAPE {
            out.extend_from_slice(run);
        } else {
            out.extend(run.iter().flat_map(|byte| [tag::ESCAPE, byte + 1]));
        }
    }
    out.push(tag::END);
}

/// Inverts what `append` appends.
pub(super) fn append_descending(out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    append(out);
    for byte in &mut out[start..] {
        *byte = !*byte;
    }
}

impl<T: EncodeKey> EncodeKey for Descending<T> {
    fn append_element(&self, out: &mut Vec<u8>) {
        append_descending(out, |out| self.0.append_element(out));
    }
}

impl<T: NotNull> NotNull for Descending<T> {}

impl<T: EncodeKey + NotNull> EncodeKey for Option<T> {
    fn append_element(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.append_element(out),
            None => out.push(tag::NULL),
        }
    }
}

impl<T: EncodeKey + ?Sized> EncodeKey for &T {
    fn append_element(&self, out: &mut Vec<u8>) {
        (**self).append_element(out);
    }

    fn append_key(&self, out: &mut Vec<u8>) {
        (**self).append_key(out);
    }
}

impl<T: NotNull + ?Sized> NotNull for &T {}

impl EncodeKey for bool {
    fn append_element(&self, out: &mut Vec<u8>) {
        out.push(if *self { tag::TRUE } else { tag::FALSE });
    }
}

impl EncodeKey for f64 {
    fn append_element(&self, out: &mut Vec<u8>) {
        out.push(tag::FLOAT);
        out.extend_from_slice(&float_to_ordered(*self).to_be_bytes());
    }
}

impl EncodeKey for Id {
    fn append_element(&self, out: &mut Vec<u8>) {
        out.push(tag::ID);
        out.extend_from_slice(&self.0);
    }
}

impl EncodeKey for [u8] {
    fn append_element(&self, out: &mut Vec<u8>) {
        append_escaped(tag::BYTES, self, out);
    }
}

impl EncodeKey for Vec<u8> {
    fn append_element(&self, out: &mut Vec<u8>) {
        append_escaped(tag::BYTES, self, out);
    }
}

impl EncodeKey for str {
    fn append_element(&self, out: &mut Vec<u8>) {
        append_escaped(tag::TEXT, self.as_bytes(), out);
    }
}

impl EncodeKey for String {
    fn append_element(&self, out: &mut Vec<u8>) {
        append_escaped(tag::TEXT, self.as_bytes(), out);
    }
}

macro_rules! not_null {
    ($($type:ty),*) => { $(impl NotNull for $type {})* };
}
not_null!(bool, f64, Id, [u8], Vec<u8>, str, String, u8, u16, u32, u64, i8, i16, i32, i64, i128);

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl EncodeKey for $type {
            fn append_element(&self, out: &mut Vec<u8>) {
                append_integer(i128::from(*self), out);
            }
        })*
    };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64, i128);

impl EncodeKey for () {
    fn append_element(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[tag::TUPLE, tag::END]);
    }

    fn append_key(&self, _out: &mut Vec<u8>) {}
}

impl NotNull for () {}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*))*) => {
        $(
            impl<$($name: EncodeKey),*> EncodeKey for ($($name,)*) {
                fn append_element(&self, out: &mut Vec<u8>) {
                    out.push(tag::TUPLE);
                    self.append_key(out);
                    out.push(tag::END);
                }

                fn append_key(&self, out: &mut Vec<u8>) {
                    $(self.$index.append_element(out);)*
                }
            }

            impl<$($name),*> NotNull for ($($name,)*) {}
        )*
    };
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
