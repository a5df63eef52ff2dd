//! Segments that wait to be used: made by a background task or recycled, taken by the writer.
//!
//! Sizes double from 1 MiB with each segment that is taken into use, so that an idle database stays small and a
//! busy one changes segments rarely.

use super::SEGMENT_BYTES_MIN;
use super::segment::{Segment, SegmentSize};
use crate::sync::Mutex;

/// Waiting segments beyond this many are not kept.
pub(super) const SPARES_MAX: usize = 2;
/// Capacity of an opening's first segment.
pub(super) const FIRST_BYTES: u64 = 1 << 20;

/// The waiting segments. Every one of them is named by the durable manifest.
#[derive(Debug)]
pub struct Spares {
    state: Mutex<State>,
    bytes_max: u64,
}

#[derive(Debug)]
struct State {
    segments: Vec<Segment>,
    next_bytes: u64,
}

impl Spares {
    /// None waiting yet; none will be made larger than `bytes_max` without need.
    pub fn new(bytes_max: u64) -> Self {
        let bytes_max = bytes_max.max(SEGMENT_BYTES_MIN);
        let state = State { segments: Vec::new(), next_bytes: FIRST_BYTES.min(bytes_max) };
        Self { state: Mutex::new(state), bytes_max }
    }

    /// Gives a segment to the writer. The durable manifest must name it.
    pub fn offer(&self, segment: Segment) {
        self.state.lock().segments.push(segment);
    }

    /// What to make now; `None` if a segment is waiting. A background task asks whenever one was taken.
    pub fn wanted(&self) -> Option<SegmentSize> {
        let state = self.state.lock();
        let size = SegmentSize { wanted: state.next_bytes, least: SEGMENT_BYTES_MIN };
        state.segments.is_empty().then_some(size)
    }

    /// A size that holds a group of `bytes`, not smaller than what would be made anyway.
    pub(super) fn size_for(&self, bytes: u64) -> SegmentSize {
        let least = bytes.max(SEGMENT_BYTES_MIN);
        SegmentSize { wanted: self.state.lock().next_bytes.max(least), least }
    }

    /// True if a waiting segment has room for `bytes`.
    pub(super) fn has(&self, bytes: u64) -> bool {
        self.state.lock().segments.iter().any(|segment| segment.capacity >= bytes)
    }

    /// Takes the smallest that has room for `bytes`.
    pub(super) fn take(&self, bytes: u64) -> Option<Segment> {
        let mut state = self.state.lock();
        let (index, _) = (state.segments.iter().enumerate())
            .filter(|(_, segment)| segment.capacity >= bytes)
            .min_by_key(|(_, segment)| (segment.capacity, segment.no))?;
        Some(state.segments.remove(index))
    }

    /// A segment was taken into use: the next one will be larger.
    pub(super) fn note_used(&self) {
        let mut state = self.state.lock();
        state.next_bytes = state.next_bytes.saturating_mul(2).min(self.bytes_max);
    }

    /// True if a used segment of that capacity is worth keeping.
    pub(super) fn would_keep(&self, capacity: u64) -> bool {
        let state = self.state.lock();
        state.segments.len() < SPARES_MAX && capacity <= self.bytes_max && capacity >= state.next_bytes / 2
    }

    /// The next segments are as small as those of a fresh opening. Takes those that are larger.
    pub(super) fn begin_small(&self) -> Vec<Segment> {
        let mut state = self.state.lock();
        state.next_bytes = FIRST_BYTES.min(self.bytes_max);
        state.segments.extract_if(.., |segment| segment.capacity > FIRST_BYTES).collect()
    }

    /// Takes all, for closing.
    pub(super) fn take_all(&self) -> Vec<Segment> {
        std::mem::take(&mut self.state.lock().segments)
    }
}
