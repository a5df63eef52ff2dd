//! One change of structure, and its stored form. Tags are never used again for something else.
//!
//! ```text
//! a field of its own, required; numbers are varints, identities u64, `bytes` a varint length and as many bytes:
//!  1 add table             keyspace, level, table's meta      10 known durable     epoch, Lsn
//!  2 remove table          keyspace, level, file number       11 next file number  number
//!  3 create keyspace       number, name as bytes, options     12 next keyspace     number
//!  4 drop keyspace         number                             13 Seq reserved      the first that was not given
//!  5 set keyspace options  number, options                    14 last Seq          in any table
//!  6 add log segment       file number, FileId                15 last timestamp    microseconds
//!  7 remove log segment    file number                        16 epoch             of the opening that writes
//!  8 log start             Lsn                                17 clean close       nothing
//!  9 keyspace flushed      keyspace, Lsn                      18 retained from     Seq
//!                                                            19 Seq gap           the commit before it, its last Seq
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::sync::Arc;

use super::fields::{Field, decode_options, put_field, put_options};
use crate::codec::{BadBytes, Reader, put_bytes, put_varint};
use crate::options::{KeyspaceOptions, LEVELS};
use crate::record::Unreadable;
use crate::table::TableMeta;
use crate::types::{FileId, FileNo, KeyspaceId, Lsn, Seq, Timestamp};
use crate::wal::KnownDurable;

/// One change. What must hold for it is checked by [`super::Version::apply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A table belongs to a keyspace now.
    AddTable {
        /// Whose.
        keyspace: KeyspaceId,
        /// 0 to 6.
        level: u8,
        /// Which.
        table: Arc<TableMeta>,
    },
    /// A table does no more.
    RemoveTable {
        /// Whose.
        keyspace: KeyspaceId,
        /// Where it was.
        level: u8,
        /// Which.
        no: FileNo,
    },
    /// A new keyspace.
    CreateKeyspace {
        /// Never used before.
        id: KeyspaceId,
        /// Not in use.
        name: String,
        /// Its effective options.
        options: KeyspaceOptions,
    },
    /// A keyspace and all its tables are gone.
    DropKeyspace {
        /// Which.
        id: KeyspaceId,
    },
    /// A keyspace has other options now.
    SetKeyspaceOptions {
        /// Which.
        id: KeyspaceId,
        /// All of them.
        options: KeyspaceOptions,
    },
    /// A log segment may be used.
    AddLogSegment {
        /// Number.
        no: FileNo,
        /// Identity.
        id: FileId,
    },
    /// A log segment is not needed.
    RemoveLogSegment {
        /// Number.
        no: FileNo,
    },
    /// The log is needed from here on.
    LogStart {
        /// A position that was durable.
        lsn: Lsn,
    },
    /// Every entry of the keyspace below this position of the log is in tables.
    KeyspaceFlushed {
        /// Which.
        keyspace: KeyspaceId,
        /// The position a seal returned.
        lsn: Lsn,
    },
    /// The log is durable to here.
    KnownDurable(KnownDurable),
    /// No file has this number or a greater one.
    NextFileNo(FileNo),
    /// No keyspace ever had this number or a greater one.
    NextKeyspaceId(u32),
    /// Sequences below were perhaps given out.
    SeqReserved {
        /// The first that was not.
        until: Seq,
    },
    /// The greatest sequence in any table.
    LastSeq(Seq),
    /// The greatest timestamp given out.
    LastTimestamp(Timestamp),
    /// The opening that writes the log now.
    Epoch(u32),
    /// Versions below may be gone: nobody can read at an older sequence any more.
    RetainedFrom(Seq),
    /// No commit has a sequence above `after`, up to `until`: those were reserved, and lost.
    SeqGap {
        /// The newest commit before them.
        after: Seq,
        /// The last of them.
        until: Seq,
    },
    /// The database was closed. Any further edit takes this back.
    CleanClose,
}

const ADD_TABLE: u8 = 1;
const REMOVE_TABLE: u8 = 2;
const CREATE_KEYSPACE: u8 = 3;
const DROP_KEYSPACE: u8 = 4;
const SET_OPTIONS: u8 = 5;
const ADD_LOG_SEGMENT: u8 = 6;
const REMOVE_LOG_SEGMENT: u8 = 7;
const LOG_START: u8 = 8;
const KEYSPACE_FLUSHED: u8 = 9;
const KNOWN_DURABLE: u8 = 10;
const NEXT_FILE_NO: u8 = 11;
const NEXT_KEYSPACE_ID: u8 = 12;
const SEQ_RESERVED: u8 = 13;
const LAST_SEQ: u8 = 14;
const LAST_TIMESTAMP: u8 = 15;
const EPOCH: u8 = 16;
const CLEAN_CLOSE: u8 = 17;
const RETAINED_FROM: u8 = 18;
const SEQ_GAP: u8 = 19;

impl Change {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let numbers = |body: &mut Vec<u8>, numbers: &[u64]| numbers.iter().for_each(|n| put_varint(body, *n));
        let tag = match self {
            Self::AddTable { keyspace, level, table } => {
                numbers(&mut body, &[keyspace.get().into(), (*level).into()]);
                table.encode(&mut body);
                ADD_TABLE
            }
            Self::RemoveTable { keyspace, level, no } => {
                numbers(&mut body, &[keyspace.get().into(), (*level).into(), no.get()]);
                REMOVE_TABLE
            }
            Self::CreateKeyspace { id, name, options } => {
                numbers(&mut body, &[id.get().into()]);
                put_bytes(&mut body, name.as_bytes());
                put_options(&mut body, options);
                CREATE_KEYSPACE
            }
            Self::DropKeyspace { id } => {
                numbers(&mut body, &[id.get().into()]);
                DROP_KEYSPACE
            }
            Self::SetKeyspaceOptions { id, options } => {
                numbers(&mut body, &[id.get().into()]);
                put_options(&mut body, options);
                SET_OPTIONS
            }
            Self::AddLogSegment { no, id } => {
                numbers(&mut body, &[no.get()]);
                body.extend_from_slice(&id.get().to_le_bytes());
                ADD_LOG_SEGMENT
            }
            Self::RemoveLogSegment { no } => {
                numbers(&mut body, &[no.get()]);
                REMOVE_LOG_SEGMENT
            }
            Self::KeyspaceFlushed { keyspace, lsn } => {
                numbers(&mut body, &[keyspace.get().into(), lsn.get()]);
                KEYSPACE_FLUSHED
            }
            Self::KnownDurable(known) => {
                numbers(&mut body, &[known.epoch.into(), known.lsn.get()]);
                KNOWN_DURABLE
            }
            Self::SeqGap { after, until } => {
                numbers(&mut body, &[after.get(), until.get()]);
                SEQ_GAP
            }
            Self::CleanClose => CLEAN_CLOSE,
            single => {
                let (tag, number) = single.as_number();
                numbers(&mut body, &[number]);
                tag
            }
        };
        put_field(out, tag, &body);
    }

    /// The changes that set one number.
    fn as_number(&self) -> (u8, u64) {
        match self {
            Self::LogStart { lsn } => (LOG_START, lsn.get()),
            Self::NextFileNo(no) => (NEXT_FILE_NO, no.get()),
            Self::NextKeyspaceId(id) => (NEXT_KEYSPACE_ID, u64::from(*id)),
            Self::SeqReserved { until } => (SEQ_RESERVED, until.get()),
            Self::LastSeq(seq) => (LAST_SEQ, seq.get()),
            Self::LastTimestamp(timestamp) => (LAST_TIMESTAMP, timestamp.get()),
            Self::Epoch(epoch) => (EPOCH, u64::from(*epoch)),
            Self::RetainedFrom(seq) => (RETAINED_FROM, seq.get()),
            _ => unreachable!("every other change has a form of its own"),
        }
    }

    /// The change a field holds, `None` if it is unknown and optional.
    pub(super) fn decode(field: &mut Field<'_>) -> Result<Option<Self>, Unreadable> {
        let body = &mut field.body;
        let change = match field.tag {
            ADD_TABLE => Self::AddTable {
                keyspace: keyspace(body)?,
                level: level(body)?,
                table: Arc::new(TableMeta::decode(body)?),
            },
            REMOVE_TABLE => {
                Self::RemoveTable { keyspace: keyspace(body)?, level: level(body)?, no: file_no(body)? }
            }
            CREATE_KEYSPACE => Self::CreateKeyspace {
                id: keyspace(body)?,
                name: body.text("keyspace name")?.to_owned(),
                options: decode_options(body)?,
            },
            DROP_KEYSPACE => Self::DropKeyspace { id: keyspace(body)? },
            SET_OPTIONS => Self::SetKeyspaceOptions { id: keyspace(body)?, options: decode_options(body)? },
            ADD_LOG_SEGMENT => {
                Self::AddLogSegment { no: file_no(body)?, id: FileId::new(body.u64("log segment")?) }
            }
            REMOVE_LOG_SEGMENT => Self::RemoveLogSegment { no: file_no(body)? },
            LOG_START => Self::LogStart { lsn: Lsn::new(body.varint("log start")?) },
            KEYSPACE_FLUSHED => Self::KeyspaceFlushed {
                keyspace: keyspace(body)?,
                lsn: Lsn::new(body.varint("flushed position")?),
            },
            KNOWN_DURABLE => Self::KnownDurable(KnownDurable {
                epoch: narrow(body, "known epoch")?,
                lsn: Lsn::new(body.varint("known position")?),
            }),
            NEXT_FILE_NO => Self::NextFileNo(file_no(body)?),
            NEXT_KEYSPACE_ID => Self::NextKeyspaceId(narrow(body, "next keyspace")?),
            SEQ_RESERVED => Self::SeqReserved { until: Seq::new(body.varint("reserved sequence")?) },
            LAST_SEQ => Self::LastSeq(Seq::new(body.varint("last sequence")?)),
            LAST_TIMESTAMP => Self::LastTimestamp(Timestamp::new(body.varint("last timestamp")?)),
            EPOCH => Self::Epoch(narrow(body, "epoch")?),
            CLEAN_CLOSE => Self::CleanClose,
            RETAINED_FROM => Self::RetainedFrom(Seq::new(body.varint("retained sequence")?)),
            SEQ_GAP => Self::SeqGap {
                after: Seq::new(body.varint("sequence before a gap")?),
                until: Seq::new(body.varint("last sequence of a gap")?),
            },
            tag if field.required => {
                return Err(Unreadable::Newer(format!("unknown required change {tag}")));
            }
            _ => return Ok(None),
        };
        body.finish("change: bytes are left over")?;
        Ok(Some(change))
    }
}

fn narrow(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, BadBytes> {
    u32::try_from(reader.varint(what)?).map_err(|_| reader.bad(what))
}

fn keyspace(reader: &mut Reader<'_>) -> Result<KeyspaceId, BadBytes> {
    narrow(reader, "keyspace number").map(KeyspaceId::new)
}

fn file_no(reader: &mut Reader<'_>) -> Result<FileNo, BadBytes> {
    reader.varint("file number").map(FileNo::new)
}

fn level(reader: &mut Reader<'_>) -> Result<u8, BadBytes> {
    let level = reader.varint("level")?;
    u8::try_from(level).ok().filter(|l| usize::from(*l) < LEVELS).ok_or_else(|| reader.bad("level"))
}
