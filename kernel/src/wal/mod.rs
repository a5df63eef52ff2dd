//! The write-ahead log: segments, the writer that appends to them, and their replay.
//!
//! ```text
//! Lsn      0 ............... end | gap | base ............ end | gap | base ..........
//! segment  header | groups       |     | header | groups       |     | header | groups | old bytes
//!                                        names its predecessor         names its predecessor
//! ```
//!
//! `Lsn` is a position in one endless log. A segment covers `[base, base + capacity)`; the byte at `lsn` stands at
//! offset `4096 + lsn - base` of its file. Its successor's base is at or beyond the end of its capacity, so a
//! position names one place for ever, and every sector of an earlier use of a recycled file lies below the new
//! base. Framing, and what a torn tail is: see [`crate::record`].
//!
//! Invariants:
//! 1. A segment is named by the durable manifest before the first group in it is acknowledged.
//! 2. A successor's header names where its predecessor ended, all bytes below are durable by then, and the header
//!    is durable before the first group is written behind it. So whatever a header names must be there.
//! 3. A position is written at most once in one use. What failed is abandoned: the successor's header ends the
//!    segment at its last durable position, and frames beyond a named end are dead for ever.
//! 4. A `Sync` append returns only when every byte below its end is durable.
//! 5. An opening never writes to a segment that it found: it starts a new one under a greater epoch.
//! 6. After a failed write or sync, other than for want of room, nothing is ever acknowledged again.
//!
//! The writer never touches the manifest. When it needs a segment it says so ([`WalError::NeedsSegment`], with
//! nothing written); its owner makes one, names it in the manifest, and offers it. Normally a background task has
//! done that long before, so that a commit learns of a full disk before it writes.

mod chain;
mod examine;
mod header;
mod replay;
mod segment;
mod spares;
mod succession;
mod unnamed;
mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

pub(crate) use examine::is_written;
pub use examine::{Examined, ExaminedSegment, examine};
pub use header::{Predecessor, SegmentHeader, SegmentState};
pub use replay::{BatchSink, KnownDurable, LogPlace, ReplayRequest, Replayed, replay};
pub use segment::{Released, Segment, SegmentMaker, SegmentSize};
pub use spares::Spares;
pub(crate) use unnamed::was_written;
pub use writer::{Appended, Wal, WalError, WalResult, WalStart};

/// Smallest segment, in bytes of capacity.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
