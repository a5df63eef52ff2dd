//! The framing of log and manifest under arbitrary sectors; see [`crate::fuzzing`].

use super::sector::{FIRST, SectorUse, Verdict, judge};
use super::{
    EncodedFrames, FIRST_SECTOR, Frame, FrameDecoder, FrameKind, FrameRef, GroupEncoder, GroupLayout, SECTOR,
    Scan, Scanned, ScannedFrame, Survey, Unreadable,
};
use crate::codec::checksum;
use crate::env::Buf;
use crate::fuzzing::{MEND_PLACE, MEND_SUM, check_place, in_modes, with_mode};
use crate::types::{FileId, Lsn};

const OF: SectorUse = SectorUse { id: FileId::new(77), epoch: 4, base: Lsn::new(1 << 20) };

/// Frames by the group that carries them: its start, then what it holds.
type Groups = Vec<(Lsn, Vec<ScannedFrame>)>;

/// Survey, decoder and repair's walk agree on every file of sectors.
pub(crate) fn check(data: &[u8]) {
    let (mode, mut bytes) = with_mode(data);
    bytes.truncate(bytes.len() / SECTOR * SECTOR);
    for (index, sector) in bytes.as_chunks_mut::<SECTOR>().0.iter_mut().enumerate() {
        mend_sector(sector, index as u64, mode);
    }
    let sectors: Vec<&[u8]> = bytes.chunks(SECTOR).collect();
    let scanned = scan(&sectors);
    let mut survey = Survey::new(OF, sectors.len() as u64);
    for sector in &sectors {
        if let Err(bad) = survey.sector(sector) {
            return check_place(&bad, SECTOR);
        }
    }
    let surveyed = match survey.finish(OF.base) {
        Ok(surveyed) => surveyed,
        Err(vouched) => {
            assert!(vouched.durable > vouched.end && vouched.end <= position(sectors.len()));
            return;
        }
    };
    assert!(OF.base <= surveyed.durable && surveyed.durable <= surveyed.end);
    assert!(surveyed.end <= position(sectors.len()));
    let whole = (surveyed.end.since(OF.base) / SECTOR as u64) as usize;
    let Ok(groups) = decode(&sectors[..whole]) else { return };
    let below = scanned.into_iter().filter(|(start, _)| *start < surveyed.end).collect::<Groups>();
    assert_eq!(below.iter().flat_map(|group| &group.1).collect::<Vec<_>>(), flat(&groups));
    for (start, frames) in &groups {
        assert_eq!(decode_group(*start, frames), *frames, "a group encodes and decodes back");
    }
}

fn flat(groups: &Groups) -> Vec<&ScannedFrame> {
    groups.iter().flat_map(|group| &group.1).collect()
}

fn position(sectors: usize) -> Lsn {
    OF.base.advance((sectors * SECTOR) as u64)
}

fn mend_sector(sector: &mut [u8; SECTOR], index: u64, mode: u8) {
    if sector.iter().all(|byte| *byte == 0) {
        return;
    }
    if mode & MEND_PLACE != 0 {
        sector[4..8].copy_from_slice(&OF.epoch.to_le_bytes());
        sector[8..16].copy_from_slice(&(OF.base.get() + index * SECTOR as u64).to_le_bytes());
    }
    if mode & MEND_SUM != 0 {
        let number = (FIRST_SECTOR + index).to_le_bytes();
        let sum = checksum(&[&OF.id.get().to_le_bytes(), &number, &sector[4..]]);
        sector[..4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// What a repair would find. Findings ascend and leave no gap, and hold no more than was given.
fn scan(sectors: &[&[u8]]) -> Groups {
    let (mut scan, mut found) = (Scan::new(OF), Vec::new());
    for sector in sectors {
        scan.sector(Some(sector), &mut found);
    }
    scan.finish(&mut found);
    let (mut at, mut held, mut groups) = (OF.base, 0, Groups::new());
    for finding in found {
        let (start, end) = match &finding {
            Scanned::Group { start, end, .. } | Scanned::Bad { start, end, .. } => (*start, *end),
        };
        assert!(start == at && end > start && end <= position(sectors.len()), "{finding:?} after {at}");
        at = end;
        if let Scanned::Group { start, frames, .. } = finding {
            held += frames.iter().map(|frame| frame.body.len()).sum::<usize>();
            groups.push((start, frames));
        }
    }
    assert!(held <= sectors.len() * SECTOR, "no more is held than was read");
    groups
}

/// The frames of sectors that the survey found to be whole groups.
fn decode(sectors: &[&[u8]]) -> Result<Groups, Unreadable> {
    let (mut decoder, mut groups) = (FrameDecoder::new(), Groups::new());
    for (index, sector) in sectors.iter().enumerate() {
        let lsn = position(index);
        let Verdict::New(head, payload) = judge(sector, FIRST_SECTOR + index as u64, lsn, &OF) else {
            panic!("the survey took sector {index} for new");
        };
        if head.flags & FIRST != 0 {
            groups.push((lsn, Vec::new()));
        }
        let (start, frames) = groups.last_mut().expect("a group begins with its first sector");
        decoder.sector::<Unreadable>(lsn, head, payload, &mut |frame: FrameRef<'_>| {
            assert_eq!(frame.group, *start);
            let (kind, stream, body) = (frame.kind, frame.stream, frame.body.to_vec());
            frames.push(ScannedFrame { kind, stream, body });
            Ok(())
        })?;
    }
    assert!(decoder.is_between_groups(), "what was surveyed ends with a group");
    Ok(groups)
}

/// Writes the frames as a group at `start` and reads it.
fn decode_group(start: Lsn, frames: &[ScannedFrame]) -> Vec<ScannedFrame> {
    let frames: Vec<Frame<'_>> = frames
        .iter()
        .map(|frame| Frame { kind: frame.kind, stream: frame.stream, parts: [&frame.body, &[]] })
        .collect();
    let bytes = group(start, start, &frames, SECTOR);
    let (mut decoder, mut again) = (FrameDecoder::new(), Vec::new());
    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
        let lsn = start.advance((index * SECTOR) as u64);
        let number = FIRST_SECTOR + lsn.since(OF.base) / SECTOR as u64;
        let Verdict::New(head, payload) = judge(sector, number, lsn, &OF) else {
            panic!("what was just written is new");
        };
        let mut take = |frame: FrameRef<'_>| {
            let (kind, stream, body) = (frame.kind, frame.stream, frame.body.to_vec());
            again.push(ScannedFrame { kind, stream, body });
            Ok::<(), Unreadable>(())
        };
        decoder.sector(lsn, head, payload, &mut take).expect("what was just written decodes");
    }
    again
}

fn group(start: Lsn, durable: Lsn, frames: &[Frame<'_>], align: usize) -> Vec<u8> {
    let none = EncodedFrames::default();
    let layout = GroupLayout::new(&none, frames, align as u64);
    let mut encoder = GroupEncoder::new(OF, start, durable, layout, &none, frames);
    let (mut out, mut buf) = (Vec::new(), Buf::default());
    while encoder.next_chunk(&mut buf) {
        out.extend_from_slice(&buf);
    }
    out
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let body: Vec<u8> = (0..700u16).map(|n| n as u8).collect();
    let batch = Frame::new(FrameKind::Batch, b"head", &body);
    let part = Frame::new(FrameKind::BatchPart, &body[..30], &[]);
    let (seal, end) = (Frame::new(FrameKind::Seal, &[], &[]), Frame::new(FrameKind::End, &[], &[]));
    let mut log = Vec::new();
    let mut add = |frames: &[Frame<'_>], align, durable: Lsn| {
        let start = position(log.len() / SECTOR);
        log.extend(group(start, durable, frames, align));
        start
    };
    let first = add(&[batch, seal], SECTOR, OF.base);
    let second = add(&[part, part, Frame::new(FrameKind::Batch, b"", b"")], 4 * SECTOR, first);
    add(&[Frame::new(FrameKind::Edit, b"edit", b"")], SECTOR, second);
    let closed = {
        let mut closed = log.clone();
        closed.extend(group(position(log.len() / SECTOR), OF.base, &[end], SECTOR));
        closed
    };
    let mut torn = log.clone();
    torn[SECTOR..2 * SECTOR].fill(0);
    log.resize(log.len() + SECTOR, 0);
    in_modes(vec![vec![0; SECTOR], log, closed, torn])
}

/// Mends the checksum of a header sector.
pub(crate) fn mend_header(sector: &mut [u8], mode: u8) {
    if mode & MEND_SUM != 0 && sector.len() >= SECTOR {
        let sum = checksum(&[&sector[12..20], &[0; 8], &sector[..SECTOR - 4]]);
        sector[SECTOR - 4..SECTOR].copy_from_slice(&sum.to_le_bytes());
    }
}
