//! Bytes of a canonical batch, as they stand in a log frame.
//!
//! ```text
//! batch = version:u8 = 1 | groups:varint | group × groups          (nothing may follow)
//! group = keyspace:varint | ops:varint ≥ 1 | op × ops              (keyspaces ascending, each once)
//! op    = head:varint | key | extra
//! head  = key length × 4 + kind          kind: 0 delete, 1 put, 2 delete range; 3 is unknown
//! extra = delete: nothing
//!         put: length:varint | value
//!         delete range: length:varint | end key
//! ```
//!
//! A `varint` is minimal LEB128. Every canonical batch has exactly one encoding, and [`BatchView::decode`] accepts
//! nothing else: it proves the whole of the bytes (order, lengths, limits, kinds) before it gives out the first
//! operation, so that replay applies a batch whole or not at all. Reading the operations afterwards cannot fail.
//!
//! A large batch is never laid out twice in memory: [`BatchEncoder::fill`] writes it piece by piece into buffers of
//! any size.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::{Op, OpKind, WriteBatch, may_follow};
use crate::codec::{BadBytes, Reader, varint_len};
use crate::types::{KEY_LEN_MAX, KeyspaceId, VALUE_LEN_MAX};

const VERSION: u8 = 1;

impl WriteBatch {
    /// Number of bytes that [`encode`](Self::encode) appends. Linear in the number of operations.
    ///
    /// # Panics
    /// If the batch is not canonical.
    pub fn encoded_len(&self) -> u64 {
        let encoder = self.encoder();
        let mut len = encoder.start().len as u64;
        let mut keyspace = None;
        for (index, op) in self.iter().enumerate() {
            let head = if keyspace.replace(op.keyspace) == Some(op.keyspace) {
                varint_len(((op.key.len() as u64) << 2) | op.kind as u64)
            } else {
                BatchEncoder { op: index, ..encoder.clone() }.head(&op).len
            };
            let parts = [head, op.key.len(), length(&op).len, op.value.len()];
            len = parts.iter().fold(len, |len, part| len.saturating_add(*part as u64));
        }
        len
    }

    /// Appends the batch's bytes.
    ///
    /// # Panics
    /// If the batch is not canonical.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // A length beyond memory fails here as it would below.
        out.reserve(usize::try_from(self.encoded_len()).unwrap_or(usize::MAX));
        self.write_to(&mut |bytes| out.extend_from_slice(bytes));
    }

    /// Hands the batch's bytes to `sink`, in order, in pieces of at most one key or value.
    ///
    /// # Panics
    /// If the batch is not canonical.
    pub fn write_to(&self, sink: &mut impl FnMut(&[u8])) {
        let mut encoder = self.encoder();
        sink(encoder.start().bytes());
        for op in self.iter() {
            sink(encoder.head(&op).bytes());
            sink(op.key);
            if op.kind != OpKind::Delete {
                sink(length(&op).bytes());
                sink(op.value);
            }
            encoder.op = encoder.op.saturating_add(1);
        }
    }

    /// Starts writing the batch piece by piece.
    ///
    /// # Panics
    /// If the batch is not canonical.
    pub fn encoder(&self) -> BatchEncoder<'_> {
        assert!(self.is_canonical(), "a batch is normalised before it is encoded");
        BatchEncoder { batch: self, op: 0, part: Part::Batch, written: 0 }
    }
}

/// Writes a batch into buffers of any size, one after another.
#[derive(Clone, Debug)]
pub struct BatchEncoder<'a> {
    batch: &'a WriteBatch,
    op: usize,
    part: Part,
    /// Bytes of the current piece that earlier calls of `fill` have taken.
    written: usize,
}

/// The pieces in their order; the last four repeat for every operation.
#[derive(Clone, Copy, Debug)]
enum Part {
    Batch,
    Head,
    Key,
    Length,
    Value,
}

/// Some bytes of the encoding: made up on the spot, or borrowed from the batch.
enum Piece<'a> {
    Made(Made),
    Borrowed(&'a [u8]),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Made(made) => made.bytes(),
            Self::Borrowed(bytes) => bytes,
        }
    }
}

/// Up to three varints, of which only one can exceed five bytes.
#[derive(Default)]
struct Made {
    bytes: [u8; 24],
    len: usize,
}

impl Made {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    fn varint(&mut self, mut value: u64) {
        debug_assert!(self.len.saturating_add(varint_len(value)) <= self.bytes.len());
        while value >= 0x80 {
            self.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

impl<'a> BatchEncoder<'a> {
    /// Copies the next bytes into `out` and says how many; less than `out.len()` only at the end, then 0.
    pub fn fill(&mut self, out: &mut [u8]) -> usize {
        let mut filled = 0usize;
        while let Some(piece) = self.piece() {
            let bytes = piece.bytes().get(self.written..).unwrap_or_default();
            let room = out.get_mut(filled..).unwrap_or_default();
            let len = bytes.len().min(room.len());
            for (to, from) in room.get_mut(..len).into_iter().zip(bytes.get(..len)) {
                to.copy_from_slice(from);
            }
            filled = filled.saturating_add(len);
            if len < bytes.len() {
                self.written = self.written.saturating_add(len);
                return filled;
            }
            self.advance();
        }
        filled
    }

    /// The piece at the current place, `None` at the end.
    fn piece(&self) -> Option<Piece<'a>> {
        if let Part::Batch = self.part {
            return Some(Piece::Made(self.start()));
        }
        let op = self.batch.get(self.op)?;
        Some(match self.part {
            Part::Batch | Part::Head => Piece::Made(self.head(&op)),
            Part::Key => Piece::Borrowed(op.key),
            Part::Length => Piece::Made(length(&op)),
            Part::Value => Piece::Borrowed(op.value),
        })
    }

    /// What stands before the first group.
    fn start(&self) -> Made {
        let mut made = Made::default();
        made.push(VERSION);
        made.varint(self.groups());
        made
    }

    /// The head of the current operation, behind that of its group if it is the first in it.
    fn head(&self, op: &Op<'_>) -> Made {
        let mut made = Made::default();
        if self.starts_group(self.op, op.keyspace) {
            made.varint(u64::from(op.keyspace.get()));
            made.varint(self.group_len(op.keyspace));
        }
        made.varint(((op.key.len() as u64) << 2) | op.kind as u64);
        made
    }

    fn advance(&mut self) {
        self.written = 0;
        self.part = match self.part {
            Part::Batch => Part::Head,
            Part::Head => Part::Key,
            Part::Key => Part::Length,
            Part::Length => Part::Value,
            Part::Value => {
                self.op = self.op.saturating_add(1);
                Part::Head
            }
        };
    }

    fn starts_group(&self, index: usize, keyspace: KeyspaceId) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.batch.ops.get(before));
        before.is_none_or(|before| before.keyspace != keyspace)
    }

    fn groups(&self) -> u64 {
        let ops = self.batch.ops.iter().enumerate();
        ops.filter(|(index, op)| self.starts_group(*index, op.keyspace)).count() as u64
    }

    fn group_len(&self, keyspace: KeyspaceId) -> u64 {
        let rest = self.batch.ops.get(self.op..).unwrap_or_default();
        rest.iter().take_while(|op| op.keyspace == keyspace).count() as u64
    }
}

/// The length of what follows the key, if anything does.
fn length(op: &Op<'_>) -> Made {
    let mut made = Made::default();
    if op.kind != OpKind::Delete {
        made.varint(op.value.len() as u64);
    }
    made
}

/// A batch read from bytes that were proven to be a canonical batch; its operations borrow them.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> BatchView<'a> {
    /// Proves that `bytes` are exactly one canonical batch. Linear in their number; copies nothing.
    ///
    /// # Errors
    /// [`BadBytes`] naming what is wrong and where: an unknown version or kind, a length beyond the bytes or the
    /// limits, an empty range, operations out of canonical order, or bytes left over.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadBytes> {
        let mut ops = Ops::start(bytes)?;
        let mut last: Option<Op<'a>> = None;
        let mut len = 0usize;
        loop {
            let at = ops.reader.position();
            let Some(op) = ops.step()? else { break };
            check_op(&op, at)?;
            if last.is_some_and(|last| !may_follow(&last, &op)) {
                return Err(BadBytes { what: "batch operations are out of order", at });
            }
            last = Some(op);
            len = len.saturating_add(1);
        }
        ops.reader.finish("bytes behind the end of a batch")?;
        Ok(Self { bytes, len })
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The operations in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = Op<'a>> + Clone + use<'a> {
        let mut ops = Ops::start(self.bytes).ok();
        // `decode` took these very steps without an error.
        std::iter::from_fn(move || ops.as_mut().and_then(|ops| ops.step().ok().flatten()))
    }

    /// A batch with memory of its own.
    pub fn to_batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::with_capacity(self.len, self.bytes.len());
        for op in self.iter() {
            batch.push(op.keyspace, op.kind, op.key, op.value);
        }
        batch
    }
}

/// Limits that hold for an operation by itself.
fn check_op(op: &Op<'_>, at: usize) -> Result<(), BadBytes> {
    let bad = |what| Err(BadBytes { what, at });
    if op.key.len() > KEY_LEN_MAX {
        return bad("batch key longer than the limit");
    }
    match op.kind {
        OpKind::Put if op.value.len() > VALUE_LEN_MAX => bad("batch value longer than the limit"),
        OpKind::DeleteRange if op.value.len() > KEY_LEN_MAX => bad("batch range end longer than the limit"),
        OpKind::DeleteRange if op.key >= op.value => bad("batch range is empty"),
        _ => Ok(()),
    }
}

/// Reads operations one by one, believing nothing but their lengths.
#[derive(Clone)]
struct Ops<'a> {
    reader: Reader<'a>,
    groups_left: u64,
    ops_left: u64,
    /// Of the current group; `None` before the first.
    keyspace: Option<KeyspaceId>,
}

impl<'a> Ops<'a> {
    fn start(bytes: &'a [u8]) -> Result<Self, BadBytes> {
        let mut reader = Reader::new(bytes);
        if reader.u8("batch version")? != VERSION {
            return Err(BadBytes { what: "batch version is unknown", at: 0 });
        }
        let groups_left = reader.varint("batch keyspace count")?;
        Ok(Self { reader, groups_left, ops_left: 0, keyspace: None })
    }

    /// The next operation, `None` behind the last.
    fn step(&mut self) -> Result<Option<Op<'a>>, BadBytes> {
        let keyspace = match self.keyspace {
            Some(keyspace) if self.ops_left > 0 => keyspace,
            before => {
                let Some(groups_left) = self.groups_left.checked_sub(1) else { return Ok(None) };
                self.groups_left = groups_left;
                self.start_group(before)?
            }
        };
        self.ops_left = self.ops_left.saturating_sub(1);
        let bad = self.reader.bad("batch operation kind");
        let head = self.reader.varint("batch operation head")?;
        let kind = OpKind::from_u8((head & 3) as u8).ok_or_else(|| bad.clone())?;
        let key_len = usize::try_from(head >> 2).map_err(|_| bad)?;
        let key = self.reader.take(key_len, "batch key")?;
        let value = match kind {
            OpKind::Delete => &[],
            OpKind::Put => self.reader.bytes("batch value")?,
            OpKind::DeleteRange => self.reader.bytes("batch range end")?,
        };
        Ok(Some(Op { keyspace, kind, key, value }))
    }
    /// Reads a group's header. Keyspaces ascend strictly: one group too many would be a second encoding.
    fn start_group(&mut self, before: Option<KeyspaceId>) -> Result<KeyspaceId, BadBytes> {
        let bad = self.reader.bad("batch keyspace number");
        let number = self.reader.varint("batch keyspace number")?;
        let keyspace = KeyspaceId::new(u32::try_from(number).map_err(|_| bad.clone())?);
        if before.is_some_and(|before| before >= keyspace) {
            return Err(bad);
        }
        let bad = self.reader.bad("batch operation count");
        self.ops_left = self.reader.varint("batch operation count")?;
        if self.ops_left == 0 {
            return Err(bad);
        }
        self.keyspace = Some(keyspace);
        Ok(keyspace)
    }
}
