//! The header of a log segment under arbitrary bytes; see [`crate::fuzzing`].

use super::{Predecessor, SegmentHeader, SegmentState};
use crate::fuzzing::{check_place, in_modes, with_mode};
use crate::record::fuzzing::mend_header;
use crate::record::{HEADER_REGION, SECTOR, Unreadable};
use crate::types::{FileId, Lsn};

/// A header that is taken encodes back, and the log that it describes has an end.
pub(crate) fn check(data: &[u8]) {
    let (mode, mut region) = with_mode(data);
    region.resize(HEADER_REGION, 0);
    mend_header(&mut region[..SECTOR], mode);
    match SegmentHeader::decode(&region) {
        Ok(header) => {
            let mut again = header.encode().to_vec();
            again.resize(HEADER_REGION, 0);
            assert_eq!(SegmentHeader::decode(&again), Ok(header));
            if let Some((of, end)) = header.sector_use() {
                assert_eq!(of.id, header.id);
                assert_eq!(end.since(of.base), header.capacity, "positions do not wrap");
            }
        }
        Err(Unreadable::Bad(bad)) => check_place(&bad, region.len()),
        Err(Unreadable::Newer(what)) => assert!(!what.is_empty()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (id, capacity, base) = (FileId::new(0x0123_4567_89ab_cdef), 1 << 16, Lsn::new(1 << 20));
    let predecessor = Predecessor { id: FileId::new(5), epoch: 3, end: Lsn::new(4096) };
    let states = [
        SegmentState::Unused,
        SegmentState::InUse { epoch: 1, base: Lsn::ZERO, predecessor: None },
        SegmentState::InUse { epoch: 3, base, predecessor: Some(predecessor) },
    ];
    in_modes(states.map(|state| SegmentHeader { id, capacity, state }.encode().to_vec()).to_vec())
}
