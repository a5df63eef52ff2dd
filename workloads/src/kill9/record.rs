//! The record of one transaction: what it is, bytes and back.
//!
//! ```text
//! writer u32 | number u64 | read at u64 | writers u32 | counter u64 × writers | padding that follows from the rest
//! ```
//! All little-endian. The padding is up to [`LARGE_BYTES`] long, so that some records take several log frames.

use crate::random::{Random, fill};

/// Keyspaces that each transaction writes to.
pub const KEYSPACES: [&str; 3] = ["north", "south", "west"];
/// The keyspace of the counters.
pub const COUNTERS: &str = "counters";
/// Records kept of each writer.
pub const KEPT: u64 = 300;
/// Every so many transactions the old records are removed by a deleted range.
pub const RANGE_EVERY: u64 = 16;

const LARGE_BYTES: u64 = 12 << 10;
const SMALL_BYTES: u64 = 200;

/// One transaction, as its record tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Who wrote it.
    pub writer: u32,
    /// Its place among the writer's transactions, from 1.
    pub number: u64,
    /// The `Seq` it read at.
    pub read_at: u64,
    /// The counter of each writer as it saw them.
    pub seen: Vec<u64>,
}

impl Record {
    /// The key it stands under.
    pub fn key(writer: u32, number: u64) -> Vec<u8> {
        let mut key = writer.to_be_bytes().to_vec();
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// The key's parts.
    pub fn parse_key(key: &[u8]) -> Option<(u32, u64)> {
        let (writer, number) = key.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*writer), u64::from_be_bytes(number.try_into().ok()?)))
    }

    /// Its bytes in one keyspace.
    pub fn encode(&self, keyspace: usize) -> Vec<u8> {
        let mut bytes = self.writer.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.read_at.to_le_bytes());
        bytes.extend_from_slice(&(self.seen.len() as u32).to_le_bytes());
        for counter in &self.seen {
            bytes.extend_from_slice(&counter.to_le_bytes());
        }
        let seed = (u64::from(self.writer) << 48) ^ (self.number << 2) ^ keyspace as u64;
        let mut random = Random::new(seed);
        let most = if random.one_in(64) { LARGE_BYTES } else { SMALL_BYTES };
        let fixed = bytes.len();
        bytes.resize(fixed + random.below(most) as usize, 0);
        fill(seed ^ self.read_at, &mut bytes[fixed..]);
        bytes
    }

    /// The record in `bytes`, if they are exactly what [`Record::encode`] gives for `keyspace`.
    pub fn decode(bytes: &[u8], keyspace: usize) -> Option<Self> {
        let mut at = 0;
        let mut take = |len: usize| {
            let part = bytes.get(at..at + len)?;
            at += len;
            Some(part)
        };
        let writer = u32::from_le_bytes(take(4)?.try_into().ok()?);
        let number = u64::from_le_bytes(take(8)?.try_into().ok()?);
        let read_at = u64::from_le_bytes(take(8)?.try_into().ok()?);
        let writers = u32::from_le_bytes(take(4)?.try_into().ok()?);
        let mut seen = Vec::new();
        for _ in 0..writers {
            seen.push(u64::from_le_bytes(take(8)?.try_into().ok()?));
        }
        let record = Self { writer, number, read_at, seen };
        (record.encode(keyspace) == bytes).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_damage_is_seen() {
        for number in 1..300 {
            let record = Record { writer: 3, number, read_at: number * 7, seen: vec![number, 2, 3] };
            let mut bytes = record.encode(1);
            assert_eq!(Record::decode(&bytes, 1), Some(record.clone()));
            assert_eq!(Record::decode(&bytes, 2), None);
            let at = number as usize % bytes.len();
            bytes[at] ^= 1;
            assert_ne!(Record::decode(&bytes, 1), Some(record));
        }
    }
}
