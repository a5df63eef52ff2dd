//! The log of the original: every whole group that counts, through memtables, into tables of the new directory.
//!
//! Which groups count is what recovery says, as far as it can still be told:
//!
//! | the segment's end is | groups that count |
//! |---|---|
//! | named by its successor's header | all below it |
//! | open: it is the last segment | all up to the first tear that nothing vouches for |
//! | unknown: the successor, or its header, is lost | those below the last position that a group says was durable |
//!
//! A lost group may have held any key of any keyspace whose entries at that place are not in tables yet; the commits
//! before and after it tell which `Seq`s it may have held.
//!
//! A commit to a keyspace that the manifest has not made yet proves that the manifest's newest edits are lost, as it does
//! to an opening: the commit is taken, and everything is uncertain.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::assemble::{Assembly, Owner};
use super::structure::{Plan, SegmentPlan, Structure};
use super::{KeyExtent, LostExtent, Mark, Progress};
use crate::codec::{BadBytes, Reader};
use crate::env::{File, OpenOptions};
use crate::error::Result;
use crate::record::{
    FIRST_SECTOR, FrameKind, HEADER_REGION, READ_CHUNK, SECTOR, Scan, Scanned, ScannedFrame, SectorUse,
    position_of, read_leniently, sector_bytes,
};
use crate::types::{BatchView, FileId, KeyspaceId, Lsn, Seq, Timestamp};
use crate::wal::{Predecessor, SegmentState};

/// Takes what counts of all segments, oldest first.
///
/// # Errors
/// Only what the target's disk answers, and an original that cannot even be opened.
pub(super) async fn salvage(plan: &Plan, assembly: &mut Assembly, progress: &mut Progress<'_>) -> Result<()> {
    let mut delivery =
        Delivery { plan, assembly, open: Vec::new(), last: Seq::ZERO, unknown: BTreeSet::new() };
    let mut used = Vec::new();
    let mut is_missing_one = false;
    for segment in &plan.segments {
        match Used::find(plan, segment).await? {
            Look::InUse(found) => used.push(found),
            Look::Unused => {}
            Look::Lost(what) => {
                is_missing_one = true;
                let file = segment.path.clone().unwrap_or_else(|| segment.named.clone());
                delivery.lose(file, 0, segment.bytes, what, Lsn::MAX);
            }
        }
        progress.file(segment.bytes);
    }
    used.sort_by_key(|segment| segment.of.base);
    settle_ends(&mut used, is_missing_one, &mut delivery);
    for segment in &used {
        delivery.assembly.count_segment();
        if segment.follows_gap {
            let what = "the log segment before this one is missing".to_string();
            delivery.lose(segment.path.clone(), 0, 0, what, segment.of.base);
        }
        if segment.header_is_lost {
            let what = "the header of a log segment, which tells its length and where the one before ended";
            delivery.lose(segment.path.clone(), 0, HEADER_REGION as u64, what.into(), Lsn::MAX);
        }
        segment.deliver(&mut delivery).await?;
    }
    delivery.finish();
    Ok(())
}

/// The outcome of looking into a frame.
type Decoded = std::result::Result<(), BadBytes>;

/// What a segment file is.
enum Look {
    InUse(Used),
    Unused,
    Lost(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Named(Lsn),
    Open,
    Unknown,
}

/// A segment that is part of the log.
struct Used {
    path: PathBuf,
    file: Arc<dyn File>,
    of: SectorUse,
    bytes: u64,
    /// Where its room ends.
    limit: Lsn,
    predecessor: Option<Predecessor>,
    header_is_lost: bool,
    /// What was before it is needed, and is not there.
    follows_gap: bool,
    end: End,
}

impl Used {
    async fn find(plan: &Plan, segment: &SegmentPlan) -> Result<Look> {
        let Some(path) = &segment.path else { return Ok(Look::Lost("the log segment is missing".into())) };
        let Some(id) = segment.id.filter(|id| segment.header.is_none_or(|header| header.id == *id)) else {
            return Ok(Look::Lost("nothing tells which log segment this is".into()));
        };
        let file = plan.env.disk().open(path, OpenOptions::read()).await?;
        let inferred = infer_use(plan, file.as_ref(), segment.bytes, id).await;
        let told = segment.header.and_then(|header| header.sector_use());
        let of = match (told, inferred) {
            (Some((told, _)), Some(inferred)) if inferred.base > told.base => inferred,
            (Some((told, _)), _) => told,
            (None, Some(inferred)) => inferred,
            (None, None) if segment.header.is_some() => return Ok(Look::Unused),
            (None, None) => return Ok(Look::Lost("neither its header nor any sector can be read".into())),
        };
        // A header of an earlier use tells nothing of this one but the length.
        let header = segment.header.filter(|_| told.is_some_and(|(told, _)| told == of));
        let capacity = segment.header.map(|header| header.capacity);
        let capacity = capacity.unwrap_or(segment.bytes.saturating_sub(HEADER_REGION as u64));
        let predecessor = header.and_then(|header| match header.state {
            SegmentState::InUse { predecessor, .. } => predecessor,
            SegmentState::Unused => None,
        });
        Ok(Look::InUse(Self {
            path: path.clone(),
            file,
            of,
            bytes: segment.bytes,
            limit: of.base.advance(capacity),
            predecessor,
            header_is_lost: header.is_none(),
            follows_gap: false,
            end: End::Open,
        }))
    }

    fn offset(&self, lsn: Lsn) -> u64 {
        lsn.since(self.of.base).saturating_add(HEADER_REGION as u64)
    }

    /// The sectors from `start` on, a chunk at a time; those behind the end of a file that was cut are unreadable.
    async fn chunk(&self, start: Lsn, end: Lsn) -> Vec<Option<Vec<u8>>> {
        // A part of a sector gives none, and the walk goes over it.
        let wanted = end.since(start).min(READ_CHUNK as u64) as usize;
        let mut sectors = read_leniently(self.file.as_ref(), self.offset(start), wanted).await;
        sectors.resize(wanted / SECTOR, None);
        sectors
    }

    /// Gives every finding below `end` to `take`.
    async fn scan(&self, plan: &Plan, end: Lsn) -> (Vec<Scanned>, Lsn) {
        let mut scan = Scan::new(self.of);
        let (mut findings, mut found) = (Vec::new(), Vec::new());
        let mut at = self.of.base;
        while at < end {
            let sectors = self.chunk(at, end).await;
            let bytes = sector_bytes(sectors.len() as u64);
            plan.env.slice(bytes).await;
            at = at.advance(bytes.max(1));
            for sector in sectors {
                scan.sector(sector.as_deref(), &mut found);
            }
            findings.extend(found.drain(..).map(without_frames));
        }
        scan.finish(&mut found);
        findings.extend(found.drain(..).map(without_frames));
        (findings, scan.durable())
    }

    async fn deliver(&self, delivery: &mut Delivery<'_>) -> Result<()> {
        let first_needed = delivery.plan.version.log_start;
        let end = match self.end {
            End::Named(end) => end.min(self.limit),
            End::Open | End::Unknown => self.limit,
        };
        if end <= first_needed && self.end != End::Open {
            return Ok(());
        }
        let (findings, durable) = self.scan(delivery.plan, end).await;
        let stop = self.stop(&findings, durable, end, delivery);
        let mut scan = Scan::new(self.of);
        let (mut found, mut at) = (Vec::new(), self.of.base);
        while at < stop {
            let sectors = self.chunk(at, stop).await;
            at = at.advance(sector_bytes(sectors.len() as u64).max(1));
            for sector in sectors {
                scan.sector(sector.as_deref(), &mut found);
            }
            if at >= stop {
                scan.finish(&mut found);
            }
            for scanned in found.drain(..) {
                delivery.take(self, scanned);
            }
            delivery.assembly.flush_full().await?;
        }
        self.tell_missing_end(&findings, durable, delivery);
        Ok(())
    }

    /// Tells what was durable at the end and is now as it was before this use, for a scan makes no finding of that.
    fn tell_missing_end(&self, findings: &[Scanned], durable: Lsn, delivery: &mut Delivery<'_>) {
        let reach = self.reach(findings);
        let first_needed = delivery.plan.version.log_start;
        match self.end {
            End::Named(named) if reach < named => {
                let start = reach.max(first_needed);
                let (offset, len) = (self.offset(start), named.since(start));
                let what = "groups below the end that the next segment names";
                delivery.lose(self.path.clone(), offset, len, what.into(), named);
            }
            End::Open => {
                let vouched = self.vouched(durable, delivery.plan);
                let known = delivery.plan.version.known_durable;
                if reach < vouched {
                    let (offset, len) = (self.offset(reach), vouched.since(reach));
                    let what = "groups that were durable, and all that may have followed them";
                    delivery.lose(self.path.clone(), offset, len, what.into(), Lsn::MAX);
                } else if known.is_some_and(|known| known.epoch > self.of.epoch) {
                    let what = "all groups of the opening that the manifest knows of";
                    delivery.lose(self.path.clone(), self.offset(reach), 0, what.into(), Lsn::MAX);
                }
            }
            End::Named(_) | End::Unknown => {}
        }
    }

    /// Where the last finding ends.
    fn reach(&self, findings: &[Scanned]) -> Lsn {
        let ends = findings.iter().map(|scanned| match scanned {
            Scanned::Bad { end, .. } | Scanned::Group { end, .. } => *end,
        });
        ends.max().unwrap_or(self.of.base)
    }

    /// Everything below was durable, by what groups and the manifest say.
    fn vouched(&self, durable: Lsn, plan: &Plan) -> Lsn {
        let known = plan.version.known_durable.filter(|known| known.epoch == self.of.epoch);
        durable.max(known.map_or(Lsn::ZERO, |known| known.lsn)).max(plan.version.log_start)
    }

    /// Where the groups that count end; tells what behind it might have counted.
    fn stop(&self, findings: &[Scanned], durable: Lsn, end: Lsn, delivery: &mut Delivery<'_>) -> Lsn {
        let vouched = self.vouched(durable, delivery.plan);
        match self.end {
            End::Named(_) => end,
            End::Open => {
                let tear = findings.iter().find_map(|scanned| match scanned {
                    Scanned::Bad { start, damaged: false, .. } if *start >= vouched => Some(*start),
                    _ => None,
                });
                tear.unwrap_or(end)
            }
            End::Unknown => {
                let reach = self.reach(findings);
                if reach > vouched {
                    let start = vouched.max(self.of.base);
                    let what = "groups that may never have counted, for the segment behind this one is lost";
                    let (offset, len) = (self.offset(start), reach.since(start));
                    delivery.lose_later(self.path.clone(), offset, len, what.into(), reach);
                }
                vouched.min(end).max(self.of.base)
            }
        }
    }
}

fn without_frames(scanned: Scanned) -> Scanned {
    match scanned {
        Scanned::Group { start, end, .. } => Scanned::Group { start, end, frames: Vec::new() },
        bad => bad,
    }
}

/// The newest use that any sector of the file speaks of.
async fn infer_use(plan: &Plan, file: &dyn File, bytes: u64, id: FileId) -> Option<SectorUse> {
    let mut newest: Option<SectorUse> = None;
    let mut offset = HEADER_REGION as u64;
    let mut number = FIRST_SECTOR;
    while offset < bytes {
        let wanted = bytes.saturating_sub(offset).min(READ_CHUNK as u64) as usize;
        plan.env.slice(wanted as u64).await;
        for sector in read_leniently(file, offset, wanted).await {
            let named = sector.as_deref().and_then(|sector| position_of(sector, number, id));
            if let Some((epoch, lsn)) = named
                && let Some(base) = lsn.get().checked_sub(sector_bytes(number.saturating_sub(FIRST_SECTOR)))
                && newest.is_none_or(|newest| base > newest.base.get())
            {
                newest = Some(SectorUse { id, epoch, base: Lsn::new(base) });
            }
            number = number.saturating_add(1);
        }
        offset = offset.saturating_add(wanted as u64);
    }
    newest
}

/// Says where each segment ends, and what follows a gap.
fn settle_ends(used: &mut [Used], is_missing_one: bool, delivery: &mut Delivery<'_>) {
    let first_needed = delivery.plan.version.log_start;
    let is_lost = delivery.plan.structure == Structure::Lost;
    // Nothing was ever written between a segment's end and its successor's base.
    let needs_one_before = |segment: &Used| {
        let reaches = segment.predecessor.is_some_and(|predecessor| predecessor.end <= first_needed);
        segment.of.base > first_needed && !reaches && !segment.header_is_lost
    };
    let mut rest = &mut *used;
    while let Some((segment, later)) = rest.split_first_mut() {
        rest = later;
        let Some(next) = rest.first_mut() else {
            segment.end = if is_missing_one { End::Unknown } else { End::Open };
            break;
        };
        let follows = next.predecessor.filter(|p| p.id == segment.of.id && p.epoch == segment.of.epoch);
        next.follows_gap = follows.is_none() && needs_one_before(next);
        segment.end = follows.map_or(End::Unknown, |p| End::Named(p.end));
    }
    if let Some(first) = used.first_mut().filter(|_| !is_lost) {
        first.follows_gap = needs_one_before(first);
    }
    let needs_log = !is_lost && (first_needed > Lsn::ZERO || delivery.plan.version.known_durable.is_some());
    if used.is_empty() && needs_log && !is_missing_one {
        let file = delivery.plan.segments.first().map_or_else(PathBuf::new, |segment| segment.named.clone());
        delivery.lose(file, 0, 0, "the manifest needs the log, but no segment is in use".into(), Lsn::MAX);
    }
    debug_assert!(used.iter().all(|segment| segment.bytes > 0), "a segment in use has bytes");
}

/// A loss of which it is not known yet which commit follows it.
struct OpenLoss {
    extent: LostExtent,
    /// Entries of a keyspace that is flushed up to here are not concerned.
    end: Lsn,
    after: Seq,
    /// What follows in the log says nothing about where this ended.
    is_last: bool,
}

struct Delivery<'a> {
    plan: &'a Plan,
    assembly: &'a mut Assembly,
    open: Vec<OpenLoss>,
    last: Seq,
    /// Keyspaces that have commits and that the manifest, which seemed whole, has not made yet.
    unknown: BTreeSet<KeyspaceId>,
}

impl Delivery<'_> {
    fn lose(&mut self, file: PathBuf, offset: u64, len: u64, what: String, end: Lsn) {
        self.push(file, offset, len, what, end, end == Lsn::MAX);
    }

    /// Of what lies behind everything else of its segment.
    fn lose_later(&mut self, file: PathBuf, offset: u64, len: u64, what: String, end: Lsn) {
        self.push(file, offset, len, what, end, true);
    }

    fn push(&mut self, file: PathBuf, offset: u64, len: u64, what: String, end: Lsn, is_last: bool) {
        let keys = Some(KeyExtent::all());
        let extent = LostExtent { file, offset, len, what, keyspace: None, keys, seqs: None };
        self.open.push(OpenLoss { extent, end, after: self.last, is_last });
    }

    fn take(&mut self, segment: &Used, scanned: Scanned) {
        let first_needed = self.plan.version.log_start;
        match scanned {
            Scanned::Bad { start, end, .. } if end > first_needed => {
                let (offset, len) = (segment.offset(start), end.since(start));
                self.lose(segment.path.clone(), offset, len, "groups that cannot be read".into(), end);
            }
            Scanned::Group { start, end, frames } if start >= first_needed => {
                let mut parts = Vec::new();
                for frame in frames {
                    if self.frame(start, frame, &mut parts).is_err() {
                        let (offset, len) = (segment.offset(start), end.since(start));
                        let what = "a frame that cannot be read".to_string();
                        self.lose(segment.path.clone(), offset, len, what, end);
                    }
                }
            }
            _ => {}
        }
    }

    fn frame(&mut self, lsn: Lsn, frame: ScannedFrame, parts: &mut Vec<u8>) -> Decoded {
        match frame.kind {
            FrameKind::Seal | FrameKind::End => Ok(()),
            FrameKind::BatchPart => {
                parts.extend_from_slice(&frame.body);
                Ok(())
            }
            FrameKind::Batch if frame.stream == 0 => {
                let mut whole = std::mem::take(parts);
                whole.extend_from_slice(&frame.body);
                self.batch(lsn, &whole)
            }
            _ => Err(BadBytes { what: "frame: of a kind that no log of this version has", at: 0 }),
        }
    }

    fn batch(&mut self, lsn: Lsn, body: &[u8]) -> Decoded {
        let mut reader = Reader::new(body);
        let seq = Seq::new(reader.u64("sequence of a batch")?);
        let timestamp = Timestamp::new(reader.u64("timestamp of a batch")?);
        let view = BatchView::decode(reader.rest())?;
        if seq == Seq::ZERO || seq > Seq::LIMIT {
            return Err(reader.bad("sequence of a batch is out of range"));
        }
        self.settle(Some(seq));
        self.last = self.last.max(seq);
        self.assembly.note_batch(seq, timestamp);
        for op in view.iter() {
            if op.keyspace.get() == u32::MAX {
                return Err(reader.bad("number of a keyspace is out of range"));
            }
            match self.plan.version.keyspaces.get(&op.keyspace) {
                Some(keyspace) if lsn < keyspace.flushed => continue,
                Some(_) => {}
                None if self.plan.was_dropped(op.keyspace) => continue,
                None => self.note_unknown(op.keyspace, seq),
            }
            self.assembly.apply(op, seq);
        }
        Ok(())
    }

    /// There is a commit to a keyspace that is not in the manifest and was not dropped.
    fn note_unknown(&mut self, id: KeyspaceId, seq: Seq) {
        let is_told = self.unknown.is_empty() && self.assembly.is_all_uncertain(self.plan);
        if is_told || !self.unknown.insert(id) {
            return;
        }
        let (file, offset) = self.plan.manifest.clone();
        let what = format!(
            "the newest edits of the manifest: commit {seq} is to keyspace {id}, which no edit that is left has made"
        );
        let (keyspace, keys) = (None, Some(KeyExtent::all()));
        self.assembly.lose(LostExtent { file, offset, len: 0, what, keyspace, keys, seqs: None });
        self.assembly.mark(Mark { owner: None, keys: KeyExtent::all(), through: Seq::LIMIT });
    }

    /// Tells the open losses; the commit that follows them is `next`.
    fn settle(&mut self, next: Option<Seq>) {
        let (settled, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|loss| next.is_none() || !loss.is_last);
        self.open = open;
        for mut loss in settled {
            let through = next.filter(|_| !loss.is_last).map_or(Seq::LIMIT, Seq::prev);
            loss.extent.seqs = Some((loss.after.next().min(through), through));
            let concerned: Vec<Owner> = self
                .plan
                .version
                .keyspaces
                .values()
                .filter(|keyspace| keyspace.flushed < loss.end)
                .map(|keyspace| Owner::Keyspace(keyspace.id))
                .collect();
            for owner in concerned {
                self.assembly.mark(Mark { owner: Some(owner), keys: KeyExtent::all(), through });
            }
            self.assembly.lose(loss.extent);
        }
    }

    fn finish(&mut self) {
        self.settle(None);
    }
}
