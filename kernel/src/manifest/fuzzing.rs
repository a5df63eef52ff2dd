//! Edits, `CURRENT` and the manifest's header under arbitrary bytes; see [`crate::fuzzing`].

use std::sync::Arc;

use super::current::{Current, CurrentState, InForce};
use super::file::{decode_header, encode_header};
use super::{Change, Edit, Version};
use crate::fuzzing::{check_place, in_modes, with_mode};
use crate::options::{Compression, KeyspaceOptions, LEVELS};
use crate::record::fuzzing::mend_header;
use crate::record::{HEADER_REGION, SECTOR, Unreadable};
use crate::table::TableMeta;
use crate::types::{FileId, FileNo, KeyspaceId, Lsn, Seq, Timestamp};
use crate::wal::KnownDurable;

fn check_refusal(unreadable: &Unreadable, len: usize) {
    match unreadable {
        Unreadable::Bad(bad) => check_place(bad, len),
        Unreadable::Newer(what) => assert!(!what.is_empty()),
    }
}

/// An edit encodes back; what it makes of a version is a version: its own snapshot leads to it.
pub(crate) fn check_edit(data: &[u8]) {
    let edit = match Edit::decode(data) {
        Ok(edit) => edit,
        Err(unreadable) => return check_refusal(&unreadable, data.len()),
    };
    assert!(edit.changes.len() * 3 <= data.len(), "a change takes three bytes at least");
    assert_eq!(Edit::decode(&edit.encode()).as_ref(), Ok(&edit));
    let whole = Version::default().apply(&full_edit()).expect("the seed is a legal edit");
    for before in [Version::default(), whole] {
        if let Ok(version) = before.apply(&edit) {
            check_version(&before, &version);
        }
    }
}

fn check_version(before: &Version, version: &Version) {
    let snapshot = Edit::decode(&version.snapshot().encode()).expect("a snapshot decodes");
    assert_eq!(Version::default().apply(&snapshot).as_ref(), Ok(version));
    assert!(version.log_start >= before.log_start && version.epoch >= before.epoch);
    assert!(version.next_file_no >= before.next_file_no && version.last_seq >= before.last_seq);
    let mut numbers: Vec<FileNo> = version.log_segments.keys().copied().collect();
    for (id, keyspace) in &version.keyspaces {
        assert!(keyspace.id == *id && id.get() < version.next_keyspace_id);
        assert_eq!(keyspace.levels.len(), LEVELS);
        numbers.extend(keyspace.tables().map(|(_, table)| table.no));
    }
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "a file stands at one place");
    assert!(numbers.last().is_none_or(|last| *last < version.next_file_no), "numbers are given once");
}

fn table(no: u64, smallest: &[u8], largest: &[u8]) -> Arc<TableMeta> {
    Arc::new(TableMeta {
        no: FileNo::new(no),
        id: FileId::new(no * 1000),
        bytes: 4096,
        smallest: smallest.into(),
        largest: largest.into(),
        largest_is_exclusive: no.is_multiple_of(2),
        min_seq: Seq::new(3),
        max_seq: Seq::new(no * 10),
        entries: 9,
        deletes: 1,
        range_tombstones: 1,
        raw_bytes: 70,
        superseded_bytes: 30,
    })
}

/// One of every change that may stand in a first edit.
fn full_edit() -> Edit {
    let (one, two) = (KeyspaceId::new(0), KeyspaceId::new(7));
    let compression = vec![Compression::None, Compression::Lz4, Compression::Zstd];
    let options = KeyspaceOptions { compression, ..KeyspaceOptions::default() };
    Edit::from(vec![
        Change::CreateKeyspace { id: one, name: "default".into(), options: KeyspaceOptions::default() },
        Change::CreateKeyspace { id: two, name: "zwei ü".into(), options: options.clone() },
        Change::AddTable { keyspace: one, level: 0, table: table(12, b"a", b"m") },
        Change::AddTable { keyspace: one, level: 0, table: table(13, b"", b"zz") },
        Change::AddTable { keyspace: two, level: 6, table: table(14, b"a", b"b") },
        Change::AddTable { keyspace: two, level: 6, table: table(15, b"b", b"c") },
        Change::SetKeyspaceOptions { id: two, options },
        Change::AddLogSegment { no: FileNo::new(16), id: FileId::new(160) },
        Change::AddLogSegment { no: FileNo::new(17), id: FileId::new(170) },
        Change::LogStart { lsn: Lsn::new(512) },
        Change::KeyspaceFlushed { keyspace: one, lsn: Lsn::new(1024) },
        Change::KnownDurable(KnownDurable { epoch: 2, lsn: Lsn::new(2048) }),
        Change::NextFileNo(FileNo::new(100)),
        Change::NextKeyspaceId(9),
        Change::SeqReserved { until: Seq::new(5000) },
        Change::LastSeq(Seq::new(150)),
        Change::LastTimestamp(Timestamp::new(1_700_000_000_000_000)),
        Change::Epoch(2),
        Change::RetainedFrom(Seq::new(20)),
        Change::SeqGap { after: Seq::new(120), until: Seq::new(140) },
        Change::CleanClose,
    ])
}

pub(crate) fn edit_seeds() -> Vec<Vec<u8>> {
    let (one, two) = (KeyspaceId::new(0), KeyspaceId::new(7));
    let compaction = Edit::from(vec![
        Change::RemoveTable { keyspace: one, level: 0, no: FileNo::new(12) },
        Change::RemoveTable { keyspace: one, level: 0, no: FileNo::new(13) },
        Change::AddTable { keyspace: one, level: 6, table: table(101, b"", b"zz") },
        Change::RemoveLogSegment { no: FileNo::new(16) },
        Change::DropKeyspace { id: two },
    ]);
    vec![Edit::default().encode(), full_edit().encode(), compaction.encode()]
}

/// `CURRENT` encodes back.
pub(crate) fn check_current(data: &[u8]) {
    let (mode, mut bytes) = with_mode(data);
    mend_header(&mut bytes, mode);
    match Current::decode(&bytes) {
        Ok(current) => assert_eq!(Current::decode(&current.encode()), Ok(current)),
        Err(unreadable) => check_refusal(&unreadable, bytes.len()),
    }
}

pub(crate) fn current_seeds() -> Vec<Vec<u8>> {
    let manifest = InForce { no: FileNo::new(12), id: FileId::new(99), durable: Lsn::new(1024) };
    let states = [CurrentState::Creating, CurrentState::Copying, CurrentState::InForce(manifest)];
    in_modes(states.map(|state| Current { database: 0x1234, state }.encode().to_vec()).to_vec())
}

/// The manifest's header encodes back.
pub(crate) fn check_header(data: &[u8]) {
    let (mode, mut region) = with_mode(data);
    region.resize(HEADER_REGION, 0);
    mend_header(&mut region[..SECTOR], mode);
    match decode_header(&region) {
        Ok((database, of, capacity)) => {
            assert!(capacity > 0 && capacity.is_multiple_of(HEADER_REGION as u64));
            let mut again = encode_header(of.id, database, capacity).to_vec();
            again.resize(HEADER_REGION, 0);
            assert_eq!(decode_header(&again), Ok((database, of, capacity)));
        }
        Err(unreadable) => check_refusal(&unreadable, region.len()),
    }
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let headers = [(1, 1 << 16), (u64::MAX, 1 << 40)];
    in_modes(headers.map(|(id, capacity)| encode_header(FileId::new(id), 0x1234, capacity).to_vec()).to_vec())
}
