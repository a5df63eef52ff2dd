//! Every way to tear the tail is a tear; every way to harm what was durable is corruption.

use super::*;
use crate::record::encode::tests::group;
use crate::record::{Frame, FrameDecoder, FrameKind, FrameRef, Unreadable};
use crate::types::FileId;

const SECTORS: usize = 40;

/// A log of some groups in a file of [`SECTORS`] sectors that an earlier use has filled in part.
struct Log {
    of: SectorUse,
    before: Vec<u8>,
    bytes: Vec<u8>,
    /// Start of each group and, at last, the end.
    starts: Vec<usize>,
    bodies: Vec<Vec<u8>>,
}

/// A body of a length that depends on `draw`, and how many groups are durable, are drawn from `draws`.
fn log(draws: &[u16], recycled: bool, align: u64) -> Log {
    let base = Lsn::new(1 << 20);
    let of = SectorUse { id: FileId::new(77), epoch: 4, base };
    let mut before = vec![0u8; SECTORS * SECTOR];
    if recycled {
        let old = SectorUse { base: Lsn::new(4096), ..of };
        let body = vec![0xee; 300];
        for at in 0..SECTORS * 3 / 4 {
            let start = old.base.advance((at * SECTOR) as u64);
            let frame = [Frame::new(FrameKind::Batch, &body, &[])];
            let bytes = group(old, start, start, &frame, 512, 1 << 30);
            before[at * SECTOR..][..SECTOR].copy_from_slice(&bytes);
        }
    }
    let mut log = Log { of, bytes: before.clone(), before, starts: vec![0], bodies: Vec::new() };
    for draw in draws {
        let body: Vec<u8> = (0..usize::from(*draw) % 1800).map(|i| (i as u16 ^ draw) as u8).collect();
        let at = log.starts[log.starts.len() - 1];
        let start = base.advance(at as u64);
        let frame = [Frame::new(FrameKind::Batch, &body, &[])];
        // Each group knows that the one before is durable.
        let bytes = group(of, start, start, &frame, align, 700);
        if at + bytes.len() > SECTORS * SECTOR {
            break;
        }
        log.bytes[at..][..bytes.len()].copy_from_slice(&bytes);
        log.starts.push(at + bytes.len());
        log.bodies.push(body);
    }
    log
}

impl Log {
    fn survey(&self, bytes: &[u8], evidence: Lsn) -> Result<Surveyed, String> {
        let mut survey = Survey::new(self.of, SECTORS as u64);
        for sector in bytes.chunks(SECTOR) {
            survey.sector(sector).map_err(|bad| bad.what.to_string())?;
        }
        survey.finish(evidence).map_err(|vouched| format!("{vouched:?}"))
    }

    fn lsn(&self, at: usize) -> Lsn {
        self.of.base.advance(at as u64)
    }

    fn end(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    fn read(&self, bytes: &[u8], end: Lsn) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut decoder = FrameDecoder::new();
        let (mut bodies, mut body) = (Vec::new(), Vec::new());
        let mut emit = |frame: FrameRef<'_>| {
            body.extend_from_slice(frame.body);
            if frame.kind == FrameKind::Batch {
                bodies.push(std::mem::take(&mut body));
            }
            Ok::<_, Unreadable>(())
        };
        for (index, sector) in
            bytes.chunks(SECTOR).take(end.since(self.of.base) as usize / SECTOR).enumerate()
        {
            let lsn = self.lsn(index * SECTOR);
            match judge(sector, FIRST_SECTOR + index as u64, lsn, &self.of) {
                Verdict::New(head, payload) => decoder.sector(lsn, head, payload, &mut emit)?,
                other => panic!("{other:?}"),
            }
        }
        assert!(decoder.is_between_groups());
        Ok(bodies)
    }
}

quickcheck::quickcheck! {
    fn what_is_written_is_read(draws: Vec<u16>, recycled: bool, wide: bool) -> bool {
        let log = log(&draws, recycled, if wide { 4096 } else { 512 });
        let surveyed = log.survey(&log.bytes, log.lsn(log.end())).unwrap();
        assert_eq!((surveyed.end, surveyed.torn), (log.lsn(log.end()), false));
        log.read(&log.bytes, surveyed.end).unwrap() == log.bodies
    }

    fn any_subset_of_the_last_groups_sectors_is_a_tear(draws: Vec<u16>, kept: u64, recycled: bool) -> bool {
        let log = log(&draws, recycled, 512);
        let [.., last, end] = log.starts[..] else { return true };
        let mut bytes = log.bytes.clone();
        let sectors = (end - last) / SECTOR;
        for index in (0..sectors).filter(|index| kept >> (index % 64) & 1 == 0) {
            let at = last + index * SECTOR;
            bytes[at..][..SECTOR].copy_from_slice(&log.before[at..][..SECTOR]);
        }
        let survivors = (0..sectors).filter(|index| kept >> (index % 64) & 1 == 1).count();
        let surveyed = log.survey(&bytes, log.lsn(last)).unwrap();
        let expected = if survivors == sectors { end } else { last };
        assert_eq!(surveyed.end, log.lsn(expected));
        assert_eq!(surveyed.torn, survivors > 0 && survivors < sectors);
        let whole = log.bodies.len() - usize::from(expected == last);
        assert_eq!(log.read(&bytes, surveyed.end).unwrap(), log.bodies[..whole]);
        // Once anything vouches for the group the same bytes are corruption.
        survivors == sectors || log.survey(&bytes, log.lsn(last + SECTOR)).is_err()
    }

    fn a_durable_sector_that_went_back_in_time_is_corruption(draws: Vec<u16>, pick: usize, recycled: bool) -> bool {
        let log = log(&draws, recycled, 512);
        let [.., last, _] = log.starts[..] else { return true };
        let mut bytes = log.bytes.clone();
        if last == 0 {
            return true;
        }
        // The last group vouches for every sector before it.
        let at = pick % (last / SECTOR) * SECTOR;
        bytes[at..][..SECTOR].copy_from_slice(&log.before[at..][..SECTOR]);
        log.survey(&bytes, log.of.base).is_err()
    }

    fn a_sector_of_another_place_or_file_is_corruption(draws: Vec<u16>, from: usize, to: usize, foreign: bool) -> bool {
        let log = log(&draws, true, 512);
        let (from, to) = (from % SECTORS * SECTOR, to % SECTORS * SECTOR);
        if log.end() == 0 || (from == to && !foreign) || log.bytes[from..][..SECTOR].iter().all(|b| *b == 0) {
            return true;
        }
        let mut bytes = log.bytes.clone();
        let mut sector = log.bytes[from..][..SECTOR].to_vec();
        if foreign {
            let other = SectorUse { id: FileId::new(78), ..log.of };
            let start = log.lsn(to);
            sector = group(other, start, start, &[Frame::new(FrameKind::Seal, &[], &[])], 512, 1 << 30);
        }
        bytes[to..][..SECTOR].copy_from_slice(&sector);
        log.survey(&bytes, log.of.base).is_err()
    }

    fn any_flipped_bit_is_corruption(draws: Vec<u16>, bit: usize, recycled: bool) -> bool {
        let log = log(&draws, recycled, 512);
        let mut bytes = log.bytes.clone();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        log.survey(&bytes, log.of.base).is_err()
    }

    fn no_bytes_make_it_panic(bytes: Vec<u8>, patch: Vec<(usize, u8)>, draws: Vec<u16>) -> bool {
        let log = log(&draws, false, 512);
        let _ = log.survey(&bytes, Lsn::ZERO);
        // Behind a checksum that holds, so that the decoder itself is reached.
        let mut decoder = FrameDecoder::new();
        let mut payload = log.bytes[super::super::SECTOR_HEAD..SECTOR].to_vec();
        for (at, value) in patch {
            let at = at % payload.len();
            payload[at] = value;
        }
        let mut emit = |_: FrameRef<'_>| Ok::<_, Unreadable>(());
        for remaining in [3u32, 2, 1, 0] {
            let flags = u8::from(remaining == 3) | if remaining == 0 { 2 } else { 0 };
            let head = SectorHead { used: payload.len() as u16, flags, remaining };
            if decoder.sector(Lsn::ZERO, head, &payload, &mut emit).is_err() {
                break;
            }
        }
        true
    }
}

#[test]
fn an_unknown_required_frame_is_refused_by_name() {
    let of = SectorUse { id: FileId::new(1), epoch: 1, base: Lsn::ZERO };
    let mut bytes = group(of, Lsn::ZERO, Lsn::ZERO, &[Frame::new(FrameKind::Seal, &[], &[])], 512, 1 << 30);
    let original = bytes.clone();
    let Verdict::New(head, _) = judge(&original, FIRST_SECTOR, Lsn::ZERO, &of) else { panic!("it is new") };
    for (flags, refused) in [(0u8, true), (crate::record::FRAME_OPTIONAL, false)] {
        bytes[24 + 20] = 99;
        bytes[24 + 22] = flags;
        let mut emit =
            |_: FrameRef<'_>| -> Result<(), Unreadable> { panic!("an unknown frame is not given") };
        let payload = &bytes[24..24 + 27];
        let outcome = FrameDecoder::new().sector(Lsn::ZERO, head, payload, &mut emit);
        assert_eq!(outcome == Err(Unreadable::Newer("unknown frame kind 99".into())), refused);
    }
}
