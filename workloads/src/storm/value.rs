//! Values as bytes: who wrote it, what it says, and nothing that anybody else could have written.
//!
//! ```text
//! u32 transaction | u32 operation | u8 kind | body
//!   kind 0  filler: bytes that follow from the stamp; every second stamp's compress
//!   kind 1  number: i64
//!   kind 2  list: u32 each
//!   kind 3  row: i64 each
//! all little-endian
//! ```
//! Decoding checks every byte, so a value that was put together wrongly cannot pass for another.

use std::sync::Arc;

use crate::history::{Body, Stamp, Value};
use crate::random::{Random, mix};

const HEADER: usize = 9;

/// The bytes of a value.
pub fn encode(value: &Value) -> Vec<u8> {
    let Stamp { txn, operation } = value.stamp;
    let mut bytes = Vec::with_capacity(HEADER + 16);
    bytes.extend_from_slice(&txn.to_le_bytes());
    bytes.extend_from_slice(&operation.to_le_bytes());
    match &value.body {
        Body::Filler(len) => {
            bytes.push(0);
            let start = bytes.len();
            bytes.resize(start + *len as usize, 0);
            fill(value.stamp, &mut bytes[start..]);
        }
        Body::Number(number) => {
            bytes.push(1);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Body::List(elements) => {
            bytes.push(2);
            bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes()));
        }
        Body::Row(fields) => {
            bytes.push(3);
            bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        }
    }
    bytes
}

/// The value that some bytes are; `None` if nobody writes such bytes.
pub fn decode(bytes: &[u8]) -> Option<Value> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let stamp = Stamp { txn: word(0)?, operation: word(4)? };
    let body = match header[8] {
        0 => {
            let mut expected = vec![0; body.len()];
            fill(stamp, &mut expected);
            (expected == body).then_some(Body::Filler(u32::try_from(body.len()).ok()?))?
        }
        1 => Body::Number(i64::from_le_bytes(body.try_into().ok()?)),
        2 if body.len().is_multiple_of(4) => {
            let elements = body
                .chunks_exact(4)
                .map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
            Body::List(elements.collect::<Vec<_>>().into())
        }
        3 if body.len().is_multiple_of(8) => {
            let fields = body.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok());
            Body::Row(fields.map(i64::from_le_bytes).collect::<Vec<_>>().into())
        }
        _ => return None,
    };
    Some(Value { stamp, body })
}

fn fill(stamp: Stamp, out: &mut [u8]) {
    let seed = mix(u64::from(stamp.txn) << 32 | u64::from(stamp.operation));
    if stamp.txn.is_multiple_of(2) {
        out.fill(seed as u8);
        return;
    }
    let mut random = Random::new(seed);
    for chunk in out.chunks_mut(8) {
        let bytes = random.next_u64().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// A list longer by one element.
pub fn longer(list: &[u32], element: u32) -> Arc<[u32]> {
    list.iter().copied().chain([element]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn values_come_back_and_no_other_bytes_pass(txn: u32, operation: u32, len: u16, number: i64, list: Vec<u32>, row: Vec<i64>, flip: usize) -> bool {
            let stamp = Stamp { txn, operation };
            let bodies = [Body::Filler(u32::from(len) % 300), Body::Number(number), Body::List(list.into()), Body::Row(row.into())];
            bodies.into_iter().all(|body| {
                let value = Value { stamp, body };
                let mut bytes = encode(&value);
                let comes_back = decode(&bytes).as_ref() == Some(&value);
                let at = flip % bytes.len();
                bytes[at] ^= 0x55;
                comes_back && decode(&bytes).as_ref() != Some(&value)
            })
        }
    }
}
