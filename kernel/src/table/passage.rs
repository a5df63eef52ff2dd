//! Checks a table while its bytes pass by, front to back, once: what a copy needs that must not spread damage. Pure.
//!
//! ```text
//! header     magic, version, checksum; the identity that the manifest names
//! blocks     each frame's checksum over identity, place and content; no gap between them
//! properties what the manifest says of the table
//! zeros      fewer than 512, all zero
//! footer     checksum; it points to the very blocks that passed; the length that the manifest names
//! ```
//! So each byte is covered by a checksum or seen to be zero, and everything belongs to this table and to its place in
//! it. What only looking into the blocks can tell (order, separators, filters) is left to
//! [`TableReader::verify`](super::TableReader::verify). A payload's checksum is summed up as it passes, so a block of any
//! length takes no memory: kept are the header, the properties and the footer.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::fields::Unreadable;
use super::footer::{FOOTER_BYTES, Footer};
use super::frame::{FRAME_HEAD_BYTES, FrameHead, Handle, Role};
use super::header::{HEADER_BYTES_MAX, Header};
use super::meta::{Properties, TableMeta};
use crate::codec::{BadBytes, Checksum};

/// The longest properties that are kept: two keys of the greatest length and some numbers take an eighth of it.
const PROPERTIES_BYTES_MAX: u64 = 1 << 20;

/// Bytes that are not the table's, and where those begin of which `why` speaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) base: u64,
    pub(super) why: Unreadable,
}

/// What the next bytes are.
enum Stage {
    /// The longest header there can be, or the whole file: how long it is, only its content says.
    Header,
    /// A frame's head.
    Head,
    /// What is left of a frame's payload.
    Payload { head: FrameHead, frame: Handle, sum: Checksum },
    /// Padding and footer.
    Tail,
    /// Nothing more.
    Passed,
}

/// A table passing by.
pub(super) struct Passage<'a> {
    meta: &'a TableMeta,
    stage: Stage,
    /// Offset of the next byte to judge; what is in `held` stands before it.
    at: u64,
    /// Bytes that can only be judged together.
    held: Vec<u8>,
    /// How many of those are needed.
    wanted: u64,
    /// Blocks that the footer has to name.
    tombstones: Handle,
    top_index: Handle,
    properties: Handle,
}

impl<'a> Passage<'a> {
    /// Expects the table that the manifest describes as `meta`.
    pub(super) fn new(meta: &'a TableMeta) -> Self {
        let none = Handle::default();
        let wanted = meta.bytes.min(HEADER_BYTES_MAX as u64);
        let (stage, held) = (Stage::Header, Vec::new());
        Self { meta, stage, at: 0, held, wanted, tombstones: none, top_index: none, properties: none }
    }

    /// Takes the next bytes, however they are cut.
    ///
    /// # Errors
    /// The first bytes that are not the table's. It takes no more then.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            let now = usize::try_from(self.wanted).map_or(bytes.len(), |wanted| wanted.min(bytes.len()));
            let (taken, later) = bytes.split_at_checked(now).unwrap_or((bytes, &[]));
            match &mut self.stage {
                Stage::Passed => return self.refuse(self.at, "bytes stand behind the table's footer"),
                Stage::Payload { head, sum, .. } => {
                    sum.add(taken);
                    if head.role() == Some(Role::Properties) {
                        self.held.extend_from_slice(taken);
                    }
                }
                Stage::Header | Stage::Head | Stage::Tail => self.held.extend_from_slice(taken),
            }
            bytes = later;
            self.at = self.at.saturating_add(taken.len() as u64);
            self.wanted = self.wanted.saturating_sub(taken.len() as u64);
            if self.wanted == 0 {
                self.judge()?;
            }
        }
        Ok(())
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// The table is not whole.
    pub(super) fn finish(&self) -> Result<(), Refused> {
        match self.stage {
            Stage::Passed => Ok(()),
            _ => self.refuse(self.at, "the file ends here, before the end of the table"),
        }
    }

    /// Judges what has become whole and says what comes next.
    fn judge(&mut self) -> Result<(), Refused> {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.stage, Stage::Passed) {
            Stage::Header => self.judge_header(&held),
            Stage::Head => self.judge_head(&held),
            Stage::Payload { head, frame, sum } => self.judge_frame(&head, frame, sum, &held),
            Stage::Tail => self.judge_tail(&held),
            Stage::Passed => Ok(()),
        }
    }

    fn judge_header(&mut self, held: &[u8]) -> Result<(), Refused> {
        let header = Header::decode(held).map_err(|why| Refused { base: 0, why })?;
        if header.id != self.meta.id {
            return self.refuse(16, "this is another table than the manifest names");
        }
        // What was taken beyond the header are the first blocks.
        self.at = header.len;
        self.expect_frame()?;
        let rest = usize::try_from(header.len).ok().and_then(|len| held.get(len..));
        self.take(rest.unwrap_or_default())
    }

    fn judge_head(&mut self, held: &[u8]) -> Result<(), Refused> {
        let offset = self.at.saturating_sub(FRAME_HEAD_BYTES as u64);
        let Some(bytes) = held.first_chunk::<FRAME_HEAD_BYTES>() else {
            return self.refuse(offset, "block is cut short");
        };
        let head = FrameHead::decode(bytes);
        let len = head.payload_len();
        if len > self.footer_offset().saturating_sub(self.at) {
            return self.refuse(offset, "a block's length leads beyond the table's blocks");
        }
        if head.role() == Some(Role::Properties) && len > PROPERTIES_BYTES_MAX {
            return self.refuse(offset, "the properties are longer than any table's");
        }
        let frame = Handle { offset, len: len.saturating_add(FRAME_HEAD_BYTES as u64) };
        let sum = head.checksum(self.meta.id, offset);
        self.stage = Stage::Payload { head, frame, sum };
        self.wanted = len;
        // An empty payload is whole at once.
        if len == 0 { self.judge() } else { Ok(()) }
    }

    fn judge_frame(
        &mut self,
        head: &FrameHead,
        frame: Handle,
        sum: Checksum,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let judged = head.judge(sum.finish());
        let (role, _) = judged.map_err(|bad| Refused { base: frame.offset, why: bad.into() })?;
        match role {
            Role::Data | Role::Index | Role::Filter => {}
            Role::Tombstones => self.tombstones = frame,
            Role::TopIndex => self.top_index = frame,
            Role::Properties => {
                self.properties = frame;
                let base = frame.offset.saturating_add(FRAME_HEAD_BYTES as u64);
                let properties = Properties::decode(payload).map_err(|why| Refused { base, why })?;
                if properties.meta(self.meta.no, self.meta.id, self.meta.bytes) != *self.meta {
                    return self
                        .refuse(base, "the table's properties differ from what the manifest says of it");
                }
                return self.expect_tail();
            }
        }
        self.expect_frame()
    }

    fn judge_tail(&mut self, held: &[u8]) -> Result<(), Refused> {
        let offset = self.footer_offset();
        let Some((padding, footer)) = held.split_last_chunk::<FOOTER_BYTES>() else {
            return self.refuse(offset, "the table's footer is cut short");
        };
        if let Some(at) = padding.iter().position(|byte| *byte != 0) {
            let at = self.properties.end().saturating_add(at as u64);
            return self.refuse(at, "the bytes before the table's footer are not padding");
        }
        let footer = Footer::decode(footer, self.meta.id, offset);
        let footer = footer.map_err(|why| Refused { base: offset, why })?;
        let passed = (self.properties, self.tombstones, self.top_index);
        if (footer.properties, footer.tombstones, footer.top_index) != passed {
            return self.refuse(offset, "the table's footer points to other blocks than stand before it");
        }
        self.stage = Stage::Passed;
        self.wanted = u64::MAX;
        Ok(())
    }

    /// The table needs further blocks: the properties at least.
    fn expect_frame(&mut self) -> Result<(), Refused> {
        if self.footer_offset().saturating_sub(self.at) < FRAME_HEAD_BYTES as u64 {
            return self.refuse(self.at, "the table's blocks end before its properties");
        }
        self.stage = Stage::Head;
        self.wanted = FRAME_HEAD_BYTES as u64;
        Ok(())
    }

    fn expect_tail(&mut self) -> Result<(), Refused> {
        let padding = self.footer_offset().saturating_sub(self.at);
        if padding >= FOOTER_BYTES as u64 {
            return self.refuse(self.at, "the bytes before the table's footer are not padding");
        }
        self.stage = Stage::Tail;
        self.wanted = padding.saturating_add(FOOTER_BYTES as u64);
        Ok(())
    }

    fn footer_offset(&self) -> u64 {
        self.meta.bytes.saturating_sub(FOOTER_BYTES as u64)
    }

    fn refuse(&self, base: u64, what: &'static str) -> Result<(), Refused> {
        Err(Refused { base, why: BadBytes { what, at: 0 }.into() })
    }
}
