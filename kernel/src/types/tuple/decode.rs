//! Key bytes into values; the layout stands in the [module header](super).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{DEPTH_MAX, Descending, Id, NotNull, tag};
use crate::codec::BadBytes;

/// A value that can be read back from a key; the counterpart of [`EncodeKey`](super::EncodeKey).
pub trait DecodeKey: Sized {
    /// Reads the value as one element.
    ///
    /// # Errors
    /// [`BadBytes`] if another type stands there, or the bytes are not the one encoding of a value.
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes>;

    /// Reads the value as a whole key, up to but not proving its end.
    ///
    /// # Errors
    /// As [`read_element`](Self::read_element).
    fn read_key(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        Self::read_element(reader)
    }

    /// Reads `bytes` as exactly one key.
    ///
    /// # Errors
    /// As [`read_element`](Self::read_element), and if something is left over.
    fn decode_key(bytes: &[u8]) -> Result<Self, BadBytes> {
        let mut reader = KeyReader::new(bytes);
        let value = Self::read_key(&mut reader)?;
        if reader.at_end() { Ok(value) } else { Err(reader.bad("key has more elements than expected")) }
    }
}

/// A cursor over a key that knows whether it stands in a descending element.
#[derive(Clone, Debug)]
pub struct KeyReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// 0xff inside a descending element, else 0.
    mask: u8,
    depth: usize,
}

impl<'a> KeyReader<'a> {
    /// Starts at the first element.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, mask: 0, depth: 0 }
    }

    /// True behind the last element of the key.
    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn bad(&self, what: &'static str) -> BadBytes {
        BadBytes { what, at: self.at }
    }

    /// The tag of the element here, as if it were ascending.
    pub(super) fn peek_tag(&self) -> Result<u8, BadBytes> {
        let byte = self.bytes.get(self.at).ok_or_else(|| self.bad("key ends before its last element"))?;
        Ok(byte ^ self.mask)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, BadBytes> {
        self.array(what).map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BadBytes> {
        let end = self.at.checked_add(N).ok_or_else(|| self.bad(what))?;
        let here = self.bytes.get(self.at..end).ok_or_else(|| self.bad(what))?;
        let mut out: [u8; N] = here.try_into().map_err(|_| self.bad(what))?;
        for byte in &mut out {
            *byte ^= self.mask;
        }
        self.at = end;
        Ok(out)
    }

    fn expect_tag(&mut self, wanted: u8, what: &'static str) -> Result<(), BadBytes> {
        if self.peek_tag()? != wanted {
            return Err(self.bad(what));
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    /// Steps over a null, if one stands here.
    pub(super) fn take_null(&mut self) -> Result<bool, BadBytes> {
        let is_null = self.peek_tag()? == tag::NULL;
        self.at = self.at.saturating_add(usize::from(is_null));
        Ok(is_null)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, BadBytes> {
        let value = match self.peek_tag()? {
            tag::FALSE => false,
            tag::TRUE => true,
            _ => return Err(self.bad("key element is not a boolean")),
        };
        self.at = self.at.saturating_add(1);
        Ok(value)
    }

    pub(super) fn integer(&mut self) -> Result<i128, BadBytes> {
        let start = self.bad("key element is not an integer in its shortest form");
        let first = self.peek_tag()?;
        let len = first.abs_diff(tag::ZERO);
        if len > tag::INTEGER_BYTES {
            return Err(start);
        }
        self.at = self.at.saturating_add(1);
        let is_negative = first < tag::ZERO;
        let mut magnitude = 0u128;
        for index in 0..len {
            let byte = self.byte("key ends inside an integer")? ^ if is_negative { 0xff } else { 0 };
            if index == 0 && byte == 0 {
                return Err(start);
            }
            magnitude = (magnitude << 8) | u128::from(byte);
        }
        let value =
            if is_negative { 0i128.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() };
        value.ok_or(start)
    }

    pub(super) fn float(&mut self) -> Result<f64, BadBytes> {
        let start = self.bad("key element is not a float in its one form");
        self.expect_tag(tag::FLOAT, "key element is not a float")?;
        let ordered = u64::from_be_bytes(self.array("key ends inside a float")?);
        let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
        let value = f64::from_bits(bits);
        if super::encode::float_to_ordered(value) == ordered { Ok(value) } else { Err(start) }
    }

    pub(super) fn id(&mut self) -> Result<Id, BadBytes> {
        self.expect_tag(tag::ID, "key element is not an id")?;
        self.array("key ends inside an id").map(Id)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, BadBytes> {
        self.expect_tag(tag::BYTES, "key element is not bytes")?;
        self.escaped()
    }

    pub(super) fn text(&mut self) -> Result<String, BadBytes> {
        let start = self.bad("key text is not UTF-8");
        self.expect_tag(tag::TEXT, "key element is not text")?;
        String::from_utf8(self.escaped()?).map_err(|_| start)
    }

    fn escaped(&mut self) -> Result<Vec<u8>, BadBytes> {
        let mut out = Vec::new();
        loop {
            match self.byte("key ends inside bytes or text")? {
                tag::END => return Ok(out),
                tag::ESCAPE => {
                    let start = self.bad("key has an unknown escape in bytes or text");
                    match self.byte("key ends inside bytes or text")? {
                        0x01 => out.push(0x00),
                        0x02 => out.push(0x01),
                        _ => return Err(start),
                    }
                }
                byte => out.push(byte),
            }
        }
    }

    /// Runs `read` inside a nested tuple; it must stop at the terminator.
    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, BadBytes>,
    ) -> Result<T, BadBytes> {
        self.expect_tag(tag::TUPLE, "key element is not a tuple")?;
        if self.depth >= DEPTH_MAX {
            return Err(self.bad("key tuples are nested too deep"));
        }
        self.depth = self.depth.saturating_add(1);
        let value = read(self)?;
        self.depth = self.depth.saturating_sub(1);
        self.expect_tag(tag::END, "nested tuple has more elements than expected")?;
        Ok(value)
    }

    /// Runs `read` on a descending element, with every byte inverted.
    pub(super) fn descending<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, BadBytes>,
    ) -> Result<T, BadBytes> {
        self.mask = !self.mask;
        let value = read(self)?;
        self.mask = !self.mask;
        Ok(value)
    }
}

impl<T: DecodeKey> DecodeKey for Descending<T> {
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        reader.descending(T::read_element).map(Self)
    }
}

impl<T: DecodeKey + NotNull> DecodeKey for Option<T> {
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        if reader.take_null()? { Ok(None) } else { T::read_element(reader).map(Some) }
    }
}

macro_rules! scalars {
    ($($type:ty: $method:ident),*) => {
        $(impl DecodeKey for $type {
            fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
                reader.$method()
            }
        })*
    };
}
scalars!(bool: boolean, i128: integer, f64: float, Id: id, Vec<u8>: bytes, String: text);

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl DecodeKey for $type {
            fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
                let start = reader.bad("key integer does not fit its type");
                Self::try_from(reader.integer()?).map_err(|_| start)
            }
        })*
    };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl DecodeKey for () {
    fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        reader.nested(Self::read_key)
    }

    fn read_key(_reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
        Ok(())
    }
}

macro_rules! tuples {
    ($(($($name:ident),*))*) => {
        $(impl<$($name: DecodeKey),*> DecodeKey for ($($name,)*) {
            fn read_element(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
                reader.nested(Self::read_key)
            }

            fn read_key(reader: &mut KeyReader<'_>) -> Result<Self, BadBytes> {
                Ok(($($name::read_element(reader)?,)*))
            }
        })*
    };
}
tuples! {
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, F)
    (A, B, C, D, E, F, G)
    (A, B, C, D, E, F, G, H)
}
