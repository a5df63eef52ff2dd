//! Which of the segments that the manifest names form the log that is needed, and where each of them ends. Pure.
//!
//! Segments in use are ordered by base. From the last one back, each header names its predecessor, until a segment
//! reaches down to the first position that is needed. What lies before that was released and is not looked at.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use super::header::{Predecessor, SegmentHeader, SegmentState};
use super::replay::KnownDurable;
use crate::types::{FileId, Lsn};

/// What is known of a segment file without reading its groups.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub header: SegmentHeader,
    /// Position named by the first data sector, if that is valid, of whatever use.
    pub first: Option<Lsn>,
}

/// One segment of the needed log, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// Index into the files found.
    pub index: usize,
    pub epoch: u32,
    pub base: Lsn,
    /// Where the successor says that it ended; `None` for the last.
    pub named_end: Option<Lsn>,
}

/// The log is not what the manifest says. `index` names the file that shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Broken {
    pub index: Option<usize>,
    pub what: String,
}

fn broken<T>(index: usize, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { index: Some(index), what: what.into() })
}

struct Used {
    index: usize,
    id: FileId,
    epoch: u32,
    base: Lsn,
    limit: Lsn,
    predecessor: Option<Predecessor>,
}

/// The links from the one that covers `first_needed` to the last.
pub(super) fn chain(
    found: &[Found],
    first_needed: Lsn,
    flushed: Lsn,
    known: Option<KnownDurable>,
) -> Result<Vec<Link>, Broken> {
    let used = in_use(found)?;
    let Some(last) = used.last() else {
        if found.is_empty() && first_needed == Lsn::ZERO && known.is_none() {
            return Ok(Vec::new());
        }
        return Err(Broken {
            index: (!found.is_empty()).then_some(0),
            what: format!("the manifest needs the log from {first_needed} on, but no segment is in use"),
        });
    };
    if last.limit < flushed {
        return broken(
            last.index,
            format!(
                "tables have all commits up to {flushed}, but the newest segment ends at {}: a later one is missing, or \
                 reads as it was before it was used",
                last.limit
            ),
        );
    }
    let links = walk_back(&used, first_needed)?;
    refuse_stale_headers(found, &links, last)?;
    if let Some(known) = known {
        check_known(&links, known)?;
    }
    Ok(links)
}

/// The position after which the next opening may begin: beyond the room of every segment in use.
pub(super) fn next_base(found: &[Found]) -> Lsn {
    let limits = found.iter().filter_map(|found| found.header.sector_use().map(|(_, limit)| limit));
    let greatest = limits.max().unwrap_or(Lsn::ZERO);
    Lsn::new(greatest.get().next_multiple_of(crate::record::HEADER_REGION as u64))
}

fn in_use(found: &[Found]) -> Result<Vec<Used>, Broken> {
    let mut used = Vec::new();
    for (index, found) in found.iter().enumerate() {
        if let SegmentState::InUse { epoch, base, predecessor } = found.header.state {
            let limit = base.advance(found.header.capacity);
            used.push(Used { index, id: found.header.id, epoch, base, limit, predecessor });
        }
    }
    used.sort_by_key(|segment| segment.base);
    for (before, after) in used.iter().zip(used.iter().skip(1)) {
        if before.limit > after.base || before.epoch > after.epoch {
            return broken(after.index, "this segment covers positions of another one");
        }
    }
    Ok(used)
}

fn walk_back(used: &[Used], first_needed: Lsn) -> Result<Vec<Link>, Broken> {
    let mut links = Vec::new();
    let mut named_end = None;
    for (at, segment) in used.iter().enumerate().rev() {
        let Used { index, epoch, base, .. } = *segment;
        links.push(Link { index, epoch, base, named_end });
        // Nothing was ever written between a segment's end and its successor's base.
        let reaches = base <= first_needed || segment.predecessor.is_some_and(|p| p.end <= first_needed);
        if reaches {
            links.reverse();
            return Ok(links);
        }
        let Some(predecessor) = segment.predecessor else {
            return broken(index, format!("the log begins at {base}, but is needed from {first_needed} on"));
        };
        let before = at.checked_sub(1).and_then(|before| used.get(before));
        let is_there = before.is_some_and(|before| {
            (before.id, before.epoch) == (predecessor.id, predecessor.epoch)
                && before.base <= predecessor.end
                && predecessor.end <= before.limit
        });
        if !is_there {
            return broken(
                index,
                format!(
                    "a gap in the log: it is needed from {first_needed} on, but of what comes before {base} the \
                     segment with identity {} is missing",
                    predecessor.id
                ),
            );
        }
        named_end = Some(predecessor.end);
    }
    unreachable!("each round either returns or finds the segment before")
}

/// A header that went back in time (a write the device lost) shows by a first sector newer than the log itself.
fn refuse_stale_headers(found: &[Found], links: &[Link], last: &Used) -> Result<(), Broken> {
    for (index, found) in found.iter().enumerate() {
        let needed = links.iter().any(|link| link.index == index);
        let newer = match found.header.state {
            SegmentState::Unused => found.first.is_some(),
            SegmentState::InUse { .. } => found.first.is_some_and(|first| first >= last.limit),
        };
        if newer && !needed {
            return broken(index, "the header is older than the groups behind it");
        }
    }
    Ok(())
}

fn check_known(links: &[Link], known: KnownDurable) -> Result<(), Broken> {
    let Some(last) = links.last() else { return Ok(()) };
    if known.epoch > last.epoch {
        return broken(
            last.index,
            format!("the manifest knows of epoch {}, but the log ends in epoch {}", known.epoch, last.epoch),
        );
    }
    // Whether an open end is far enough is seen when the segment is read.
    let of_epoch = links.iter().rfind(|link| link.epoch == known.epoch);
    match of_epoch.and_then(|link| link.named_end.map(|end| (link.index, end))) {
        Some((index, end)) if end < known.lsn => {
            broken(index, format!("the segment is said to end at {end}, but {} was durable", known.lsn))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests draw numbers of a known size"
)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 8192;

    fn segment(at: u64, end_before: u64, epoch: u32) -> Found {
        let base = Lsn::new(at * CAPACITY);
        let predecessor = (at > 0).then(|| Predecessor {
            id: FileId::new(at - 1),
            epoch,
            end: Lsn::new(base.get() - CAPACITY + end_before % 17 * 512),
        });
        let state = SegmentState::InUse { epoch, base, predecessor };
        Found { header: SegmentHeader { id: FileId::new(at), capacity: CAPACITY, state }, first: Some(base) }
    }

    quickcheck::quickcheck! {
        fn a_chain_reaches_down_or_names_the_gap(ends: Vec<u64>, needed: u64, missing: usize) -> bool {
            let mut found: Vec<Found> =
                (0u64..).zip(std::iter::once(0).chain(ends)).map(|(at, end)| segment(at, end, 1)).collect();
            let needed = Lsn::new(needed % (found.len() as u64 * CAPACITY) / 512 * 512);
            let links = chain(&found, needed, Lsn::ZERO, None).unwrap();
            let first = links[0];
            assert!(links.windows(2).all(|w| w[0].base < w[1].base && w[0].named_end.is_some()));
            assert_eq!(links.last().unwrap().named_end, None);
            assert_eq!(links.last().unwrap().index, found.len() - 1);
            assert!(first.base <= needed || found[first.index].header.state.end_before() <= needed);
            // Without a segment of it, other than the last, whose loss only the manifest's list can tell.
            let missing = links[missing % links.len()].index;
            if missing + 1 == found.len() {
                return true;
            }
            found.remove(missing);
            chain(&found, needed, Lsn::ZERO, None).is_err()
        }
    }

    impl SegmentState {
        fn end_before(&self) -> Lsn {
            match self {
                Self::InUse { predecessor: Some(predecessor), .. } => predecessor.end,
                _ => Lsn::MAX,
            }
        }
    }

    #[test]
    fn a_stale_header_an_overlap_and_an_empty_log_are_refused() {
        let found = vec![segment(0, 0, 1), segment(1, 3, 1)];
        let mut stale = found.clone();
        stale.push(Found {
            header: SegmentHeader { id: FileId::new(9), capacity: CAPACITY, state: SegmentState::Unused },
            first: None,
        });
        assert!(chain(&stale, Lsn::ZERO, Lsn::ZERO, None).is_ok());
        stale[2].first = Some(Lsn::new(2 * CAPACITY));
        assert_eq!(chain(&stale, Lsn::ZERO, Lsn::ZERO, None).unwrap_err().index, Some(2));

        let twice = vec![segment(0, 0, 1), segment(1, 3, 1), segment(1, 3, 1)];
        assert!(chain(&twice, Lsn::ZERO, Lsn::ZERO, None).is_err());

        assert_eq!(chain(&[], Lsn::ZERO, Lsn::ZERO, None), Ok(vec![]));
        assert!(chain(&[], Lsn::new(512), Lsn::ZERO, None).is_err());
        let known = |epoch, lsn| Some(KnownDurable { epoch, lsn: Lsn::new(lsn) });
        assert!(chain(&[], Lsn::ZERO, Lsn::ZERO, known(0, 0)).is_err());
        assert!(chain(&found, Lsn::ZERO, Lsn::ZERO, known(2, 0)).is_err());
        assert!(chain(&found, Lsn::ZERO, Lsn::ZERO, known(1, 9000)).is_ok());
        let ends = found.last().map(|last| last.first.unwrap().get() + CAPACITY).unwrap();
        assert!(chain(&found, Lsn::ZERO, Lsn::new(ends), None).is_ok());
        let short = chain(&found, Lsn::ZERO, Lsn::new(ends + 512), None).unwrap_err();
        assert!(short.what.contains("a later one is missing"), "{}", short.what);
    }

    #[test]
    fn an_older_epoch_must_reach_what_was_durable_in_it() {
        let mut found = vec![segment(0, 0, 1), segment(1, 3, 2)];
        if let SegmentState::InUse { predecessor: Some(predecessor), .. } = &mut found[1].header.state {
            predecessor.epoch = 1;
        }
        let known = |lsn| Some(KnownDurable { epoch: 1, lsn: Lsn::new(lsn) });
        assert!(chain(&found, Lsn::ZERO, Lsn::ZERO, known(3 * 512)).is_ok());
        assert_eq!(chain(&found, Lsn::ZERO, Lsn::ZERO, known(4 * 512)).unwrap_err().index, Some(0));
    }
}
