//! Values the whole kernel speaks in: numbers with names, key order, the write batch.
//!
//! Everything here is pure. The order of entries, everywhere, is: key ascending (bytewise), then [`Seq`]
//! descending, so that the first entry of a key is its newest. Two entries of one keyspace never share key and
//! `Seq`: a batch holds each key at most once (see [`WriteBatch`]).

mod batch;
mod entry;
mod escape;
pub mod file_name;
mod ids;
mod range_tombstone;
mod seq_gaps;
mod tuple;
mod value;

pub use batch::{BadOp, BatchEncoder, BatchKeyspace, BatchView, Op, WriteBatch};
pub use entry::EntryRef;
pub use ids::{FileId, FileNo, KeyspaceId, Lsn, OpKind, Seq, Timestamp};
pub use range_tombstone::{RangeTombstone, RangeTombstones};
pub use seq_gaps::{GAPS_MAX, SeqGaps};
pub use value::Value;
pub(crate) use value::ValueOwner;

/// The escape syntax: any bytes as one line of readable text, and back.
pub mod escaped {
    pub use super::escape::{BadEscape, escape, unescape};
}

/// Order-preserving tuple encoding: typed keys whose bytes sort as their values do.
pub mod key {
    pub use super::tuple::{
        BadTuple, DEPTH_MAX, DecodeKey, Descending, Element, EncodeKey, Id, KeyReader, NotNull, format_tuple,
        parse_tuple, prefix_range,
    };
}

/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = 64 << 10;
/// Longest value in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 30;
