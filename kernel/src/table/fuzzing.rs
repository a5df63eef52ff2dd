//! Every part of a table under arbitrary bytes; see [`crate::fuzzing`].

use std::cmp::Reverse;
use std::sync::Arc;

use super::block::{EntryBlockBuilder, EntryCursor, Layout, check_order, precedes};
use super::compress::{COMPRESS_BYTES_MAX, Codec, Compressor};
use super::fields::Unreadable;
use super::filter::{build_filter, may_contain};
use super::footer::{FOOTER_BYTES, Footer};
use super::frame::{FRAME_HEAD_BYTES, Frame, Handle, Role, announced_len, frame_head};
use super::header::Header;
use super::meta::Properties;
use super::tombstones::{decode_tombstones, encode_tombstones};
use super::{BuildReason, TableMeta};
use crate::cache::{Block, Budget};
use crate::codec::{BadBytes, Reader, checksum};
use crate::fuzzing::{MEND_PLACE, MEND_SUM, check_place, in_modes, with_mode};
use crate::options::Compression;
use crate::types::{FileId, FileNo, KeyspaceId, OpKind, RangeTombstone, RangeTombstones, Seq};

/// Where the frame under test stands.
const ID: FileId = FileId::new(9);
const OFFSET: u64 = 4096;
/// Longest content that is decompressed here; a table's longest block bounds it in the reader.
const CONTENT_MAX: usize = 1 << 16;

/// Key, sequence, kind and value.
type Entry = (Vec<u8>, Seq, OpKind, Vec<u8>);

fn check_refusal(unreadable: &Unreadable, len: usize) {
    match unreadable {
        Unreadable::Bad(bad) => check_place(bad, len),
        Unreadable::Newer(what) => assert!(!what.is_empty()),
    }
}

fn here(cursor: &EntryCursor) -> Option<Entry> {
    let entry = || (cursor.key().to_vec(), cursor.seq(), cursor.kind(), cursor.value().to_vec());
    cursor.valid().then(entry)
}

/// A block that passes the check reads alike forward, backward and by search; any other is walked to an end.
pub(crate) fn check_block(content: &[u8]) {
    let block = Arc::new(Block::copy_of(&Arc::new(Budget::new(0)), content));
    let mut cursor = match EntryCursor::new(block) {
        Ok(cursor) => cursor,
        Err(bad) => {
            assert!(check_order(content).is_err() && Layout::decode(content).is_err());
            return check_place(&bad, content.len());
        }
    };
    let (forward, forward_ends) = walk(&mut cursor, content, EntryCursor::seek_first, EntryCursor::next);
    let (mut backward, _) = walk(&mut cursor, content, EntryCursor::seek_last, EntryCursor::prev);
    // Some target that need not be there.
    let stray = content.get(..content.len().min(6)).unwrap_or_default();
    search(&mut cursor, content, stray, Seq::new(content.len() as u64)).ok();
    match check_order(content) {
        Err(bad) => check_place(&bad, content.len()),
        Ok(()) => {
            assert!(forward_ends, "a block in order is walked without an error");
            backward.reverse();
            assert_eq!(forward, backward);
            check_searches(&mut cursor, content, &forward);
            check_rebuilt(&forward);
        }
    }
}

/// All entries from one end to the other, and whether no error cut the walk short.
fn walk(
    cursor: &mut EntryCursor,
    content: &[u8],
    start: fn(&mut EntryCursor) -> Result<(), BadBytes>,
    step: fn(&mut EntryCursor) -> Result<(), BadBytes>,
) -> (Vec<Entry>, bool) {
    let mut entries = Vec::new();
    let mut outcome = start(cursor);
    while let (Ok(()), Some(entry)) = (&outcome, here(cursor)) {
        entries.push(entry);
        assert!(entries.len() <= content.len(), "each entry takes a byte, so a walk ends");
        outcome = step(cursor);
    }
    if let Err(bad) = &outcome {
        check_place(bad, content.len());
    }
    (entries, outcome.is_ok())
}

/// What the cursor and the plain search find, which must be the same.
fn search(cursor: &mut EntryCursor, content: &[u8], key: &[u8], seq: Seq) -> Result<Option<Entry>, BadBytes> {
    let spot = Layout::decode(content)?.seek(content, key, seq);
    cursor.seek(key, seq)?;
    let (entry, spot) = (here(cursor), spot?);
    if check_order(content).is_ok() {
        let found = spot.map(|spot| (spot.same_key, spot.seq, spot.kind, content[spot.value].to_vec()));
        let expected = entry.clone().map(|(k, s, kind, value)| (k == key, s, kind, value));
        assert_eq!(found, expected);
    }
    Ok(entry)
}

fn check_searches(cursor: &mut EntryCursor, content: &[u8], entries: &[Entry]) {
    assert!(entries.is_sorted_by(|a, b| precedes((&a.0, a.1), (&b.0, b.1))), "entries ascend strictly");
    for (index, (key, seq, ..)) in entries.iter().enumerate() {
        let found =
            search(cursor, content, key, *seq).expect("a block in order is searched without an error");
        assert_eq!(found.as_ref(), entries.get(index));
        let behind = [key.as_slice(), &[0]].concat();
        let expected = entries.iter().find(|entry| !precedes((&entry.0, entry.1), (&behind, Seq::LIMIT)));
        let found = search(cursor, content, &behind, Seq::LIMIT);
        assert_eq!(found.expect("nor for what is not there").as_ref(), expected);
    }
}

/// What was read, written anew, reads the same.
fn check_rebuilt(entries: &[Entry]) {
    let content = build(entries, 3);
    assert_eq!(check_order(&content), Ok(()));
    let block = Arc::new(Block::copy_of(&Arc::new(Budget::new(0)), &content));
    let mut cursor = EntryCursor::new(block).expect("a builder's block decodes");
    assert_eq!(
        walk(&mut cursor, &content, EntryCursor::seek_first, EntryCursor::next),
        (entries.to_vec(), true)
    );
}

fn build(entries: &[Entry], interval: u8) -> Vec<u8> {
    let mut builder = EntryBlockBuilder::new(interval);
    for (key, seq, kind, value) in entries {
        builder.add(key, *seq, *kind, value);
    }
    builder.finish().to_vec()
}

pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let mut entries: Vec<Entry> = (0..24u64)
        .map(|n| {
            let key = format!("user{:03}", n / 3 * 7).into_bytes();
            let kind = if n.is_multiple_of(5) { OpKind::Delete } else { OpKind::Put };
            let value = if kind == OpKind::Put { vec![n as u8; n as usize % 9] } else { Vec::new() };
            (key, Seq::new(100 + n), kind, value)
        })
        .collect();
    entries.push((b"z".repeat(200), Seq::LIMIT, OpKind::Put, vec![1; 150]));
    entries.sort_by_key(|entry| (entry.0.clone(), Reverse(entry.1)));
    let alone = [(Vec::new(), Seq::ZERO, OpKind::Put, Vec::new())];
    vec![build(&[], 16), build(&alone, 16), build(&entries[..24], 1), build(&entries, 4), build(&entries, 16)]
}

/// A filter answers "certainly not" only if a bit is missing: with all bits set it never does.
pub(crate) fn check_filter(data: &[u8]) {
    let Some((hash, content)) = data.split_first_chunk::<8>() else { return };
    let hash = u64::from_le_bytes(*hash);
    match may_contain(content, hash) {
        Ok(_) => {
            let body = content.len() - 8;
            assert!(body > 0 && body.is_multiple_of(64));
            let mut full = content.to_vec();
            full[..body].fill(0xff);
            assert_eq!(may_contain(&full, hash), Ok(true));
        }
        Err(bad) => check_place(&bad, content.len()),
    }
    // The bytes as hashes: each that was put in is found.
    let hashes: Vec<u64> =
        content.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let built = build_filter(&hashes, u32::from(data[0] % 32) + 1);
    assert!(hashes.iter().all(|hash| may_contain(&built, *hash) == Ok(true)));
}

pub(crate) fn filter_seeds() -> Vec<Vec<u8>> {
    let hashes: Vec<u64> = (1..60u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let with = |hash: u64, bits| [&hash.to_le_bytes(), &build_filter(&hashes, bits)[..]].concat();
    vec![with(hashes[5], 10), with(7, 10), with(hashes[9], 1), with(hashes[9], 20)]
}

/// Range tombstones have one encoding.
pub(crate) fn check_tombstones(content: &[u8]) {
    match decode_tombstones(content) {
        Ok(tombstones) => {
            assert!(tombstones.len() <= content.len(), "each takes a byte");
            assert_eq!(encode_tombstones(&tombstones), content);
            assert_eq!(RangeTombstones::new(tombstones.list().to_vec()), tombstones);
        }
        Err(bad) => check_place(&bad, content.len()),
    }
}

pub(crate) fn tombstone_seeds() -> Vec<Vec<u8>> {
    let ranges: [(&[u8], &[u8], u64); 5] =
        [(b"a", b"e", 3), (b"c", b"g", 7), (b"c", b"d", 900), (b"x", b"y", 1), (b"", b"\xff", 2)];
    let tombstone = |(start, end, seq): &(&[u8], &[u8], u64)| {
        let (start, end) = ((*start).into(), (*end).into());
        RangeTombstone { start, end, seq: Seq::new(*seq) }
    };
    let encoded = |count: usize| {
        encode_tombstones(&RangeTombstones::new(ranges[..count].iter().map(tombstone).collect()))
    };
    (0..=ranges.len()).map(encoded).collect()
}

/// A frame that is believed encodes to the same head, and its payload decodes within the length it states.
pub(crate) fn check_frame(data: &[u8]) {
    let (mode, mut bytes) = with_mode(data);
    if bytes.len() >= FRAME_HEAD_BYTES {
        let payload_len = (bytes.len() - FRAME_HEAD_BYTES) as u32;
        if mode & MEND_PLACE != 0 {
            bytes[4..8].copy_from_slice(&payload_len.to_le_bytes());
        }
        if mode & MEND_SUM != 0 {
            let (id, offset) = (ID.get().to_le_bytes(), OFFSET.to_le_bytes());
            let sum = checksum(&[&id, &offset, &bytes[..12], &bytes[FRAME_HEAD_BYTES..]]);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let frame = match Frame::decode(&bytes, ID, OFFSET) {
        Ok(frame) => frame,
        Err(bad) => return check_place(&bad, bytes.len()),
    };
    // What cannot be decompressed is no frame to those who search for one.
    let content_max = if frame.codec == Codec::None { usize::MAX } else { COMPRESS_BYTES_MAX };
    let possible =
        frame.codec.can_hold(frame.payload.len(), frame.content_len) && frame.content_len <= content_max;
    assert_eq!(announced_len(&bytes), possible.then_some(bytes.len() as u64));
    let content_len = frame.content_len as u32;
    let head = frame_head(ID, OFFSET, frame.role, frame.codec, content_len, frame.payload);
    assert_eq!(head, bytes[..FRAME_HEAD_BYTES]);
    if frame.content_len <= CONTENT_MAX && frame.codec.can_hold(frame.payload.len(), frame.content_len) {
        let mut content = vec![0; frame.content_len];
        if frame.codec.decode(frame.payload, &mut content).is_ok() {
            check_compressed(&content);
        }
    }
}

fn check_compressed(content: &[u8]) {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut compressor = Compressor::new(compression);
        let (codec, payload) = compressor.compress(content);
        assert!(codec.can_hold(payload.len(), content.len()));
        let mut again = vec![0; content.len()];
        assert_eq!(codec.decode(payload, &mut again), Ok(()));
        assert_eq!(again, content);
    }
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let content = b"the same again and again, ".repeat(12);
    let mut frames: Vec<Vec<u8>> = [Compression::None, Compression::Lz4, Compression::Zstd]
        .map(|compression| {
            let mut compressor = Compressor::new(compression);
            let (codec, payload) = compressor.compress(&content);
            let head = frame_head(ID, OFFSET, Role::Data, codec, content.len() as u32, payload);
            [&head, payload].concat()
        })
        .to_vec();
    frames.push(frame_head(ID, OFFSET, Role::Tombstones, Codec::None, 0, &[]).to_vec());
    in_modes(frames)
}

/// A footer has one encoding.
pub(crate) fn check_footer(data: &[u8]) {
    let (mode, mut bytes) = with_mode(data);
    bytes.resize(FOOTER_BYTES, 0);
    let mut footer = [0; FOOTER_BYTES];
    footer.copy_from_slice(&bytes);
    let number = |at: usize| Reader::new(&bytes[at..]).u64("number").expect("it lies inside");
    let (id, mut offset) = (FileId::new(number(16)), number(24).wrapping_sub(FOOTER_BYTES as u64));
    if mode & MEND_PLACE == 0 {
        offset = OFFSET;
    }
    if mode & MEND_SUM != 0 {
        let sum = checksum(&[&id.get().to_le_bytes(), &offset.to_le_bytes(), &footer[..508]]);
        footer[508..].copy_from_slice(&sum.to_le_bytes());
    }
    match Footer::decode(&footer, id, offset) {
        Ok(found) => {
            assert_eq!(found.file_bytes, offset + FOOTER_BYTES as u64);
            assert_eq!(found.encode(id), footer);
            for handle in [found.properties, found.tombstones, found.top_index] {
                assert!(handle.end() >= handle.offset, "ends do not wrap");
            }
        }
        Err(unreadable) => check_refusal(&unreadable, FOOTER_BYTES),
    }
}

pub(crate) fn footer_seeds() -> Vec<Vec<u8>> {
    let handle = |offset, len| Handle { offset, len };
    let footer = Footer {
        file_bytes: OFFSET + FOOTER_BYTES as u64,
        properties: handle(4000, 90),
        tombstones: handle(3000, 17),
        top_index: handle(3017, 983),
    };
    let wild = Footer { top_index: handle(u64::MAX, u64::MAX), ..footer };
    in_modes(vec![footer.encode(ID), wild.encode(ID)])
}

/// The descriptions of a table encode back: in the manifest, in its properties, in its header.
pub(crate) fn check_meta(data: &[u8]) {
    let (mode, mut bytes) = with_mode(data);
    match mode >> 4 {
        0 => check_described(&bytes),
        1 => match Properties::decode(&bytes) {
            Ok(found) => assert_eq!(Properties::decode(&found.encode()), Ok(found)),
            Err(unreadable) => check_refusal(&unreadable, bytes.len()),
        },
        _ => {
            mend_table_header(&mut bytes, mode);
            match Header::decode(&bytes) {
                Ok(header) => {
                    assert!(header.len <= bytes.len() as u64);
                    let Some(keyspace) = header.keyspace else { return };
                    let again = Header::encode(header.id, keyspace);
                    let found = Header::decode(&again).expect("what was just written decodes");
                    assert_eq!((found.id, found.keyspace), (header.id, header.keyspace));
                }
                Err(unreadable) => check_refusal(&unreadable, bytes.len()),
            }
        }
    }
}

fn check_described(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let found = match TableMeta::decode(&mut reader) {
        Ok(found) => found,
        Err(bad) => return check_place(&bad, bytes.len()),
    };
    assert!(found.smallest <= found.largest && found.min_seq <= found.max_seq);
    let mut again = Vec::new();
    found.encode(&mut again);
    let mut reader = Reader::new(&again);
    assert_eq!(TableMeta::decode(&mut reader), Ok(found));
    assert!(reader.is_empty());
}

/// Magic, version, length of the fields, identity, fields, checksum: the last is mended where the length puts it.
fn mend_table_header(bytes: &mut [u8], mode: u8) {
    let Ok(fields_len) = Reader::new(bytes.get(12..).unwrap_or_default()).u32("length") else { return };
    let at = (fields_len as usize).saturating_add(24);
    if mode & MEND_SUM != 0 && bytes.len() >= at.saturating_add(4) {
        let sum = checksum(&[&bytes[16..24], &[0; 8], &bytes[..at]]);
        bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

pub(crate) fn meta_seeds() -> Vec<Vec<u8>> {
    let mut properties = Properties::uncounted(BuildReason::Flush, KeyspaceId::new(300));
    for (key, seq, is_superseded) in [(&b"a"[..], 7, false), (b"b", 5, false), (b"b", 4, true)] {
        properties.count_entry(key, Seq::new(seq), OpKind::Put, 100, is_superseded);
    }
    let range =
        RangeTombstone { start: b"aa".as_slice().into(), end: b"zz".as_slice().into(), seq: Seq::new(9) };
    properties.count_tombstones(&RangeTombstones::new(vec![range]), b"b");
    properties.block_bytes_max = 4096;
    let mut described = Vec::new();
    properties.meta(FileNo::new(12), ID, 1 << 20).encode(&mut described);
    let with = |mode: u8, bytes: &[u8]| [&[mode], bytes].concat();
    vec![
        with(0, &described),
        with(0x10, &properties.encode()),
        with(0x20, &Header::encode(ID, KeyspaceId::new(300))),
        with(0x20 | MEND_SUM, &Header::encode(FileId::MAX, KeyspaceId::new(0))),
    ]
}
