//! A sorted list of versioned entries that any number of threads extend and read at once, without locks.
//!
//! A skip list (Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees", 1990) without deletion: an
//! entry, once linked, stays and never changes until the list is dropped, so readers need no protection from
//! reclamation. Order: key ascending, then sequence descending. Expected cost of a search is logarithmic.
//!
//! Heights come from a mix of an insertion counter and a seed: no random number, and the same insertions make the
//! same list.
//!
//! Invariants: a node is linked from level 0 upwards; the nodes of a level stand in order and are a subset of those
//! of the level below.

#![expect(unsafe_code, reason = "a list that owns the memory its nodes borrow from; see SAFETY notes")]

use std::ptr;
use std::sync::Arc;

use super::node::{Entry, Memory, NodeRef, RawNode, Target};
use crate::cache::{Budget, Charge, Purpose};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::types::{OpKind, Seq, Value, ValueOwner};

/// Enough for 8 million entries. One in two of the lowest level stands in the next, for there a search that goes on
/// pays for values in between; of each further level one in four.
#[cfg(not(loom))]
const HEIGHT_MAX: usize = 12;
/// Each level multiplies what loom has to explore.
#[cfg(loom)]
const HEIGHT_MAX: usize = 2;

/// See the module's header.
pub(super) struct SkipList {
    memory: Memory,
    /// Begins every level; holds no entry.
    origin: RawNode,
    /// Levels in use, a hint: one too few costs time, one too many meets a link that leads nowhere.
    height: AtomicUsize,
    inserted: AtomicU64,
    seed: u64,
    /// Counts the memory for as long as it is held, be it by the last value that was read from here.
    charge: Mutex<Option<Charge>>,
}

/// Where an insertion stands: at each level the nodes around it. The next one begins its search here.
pub(super) struct Splice<'a> {
    before: [NodeRef<'a>; HEIGHT_MAX],
    after: [Option<NodeRef<'a>>; HEIGHT_MAX],
    last: Option<NodeRef<'a>>,
}

impl SkipList {
    /// An empty list; equal seeds give equal heights.
    pub fn new(seed: u64) -> Self {
        let memory = Memory::new();
        let target = Target::exact(&[], Seq::ZERO, OpKind::Delete);
        let origin = NodeRef::make(&memory, HEIGHT_MAX, &target, &[]).forget_owner();
        let (height, inserted) = (AtomicUsize::new(1), AtomicU64::new(0));
        Self { memory, origin, height, inserted, seed, charge: Mutex::new(None) }
    }

    /// Counts `bytes` in `budget` from now on, in place of what was counted before.
    pub fn count_in(&self, budget: &Arc<Budget>, bytes: u64) {
        let mut charge = self.charge.lock();
        charge.get_or_insert_with(|| budget.charge(Purpose::Memtable, 0)).resize(bytes);
    }

    /// Counts as memory that readers hold from now on.
    pub fn count_as_pinned(&self) {
        if let Some(charge) = self.charge.lock().as_ref() {
            charge.move_to(Purpose::Pinned);
        }
    }

    /// Insertions begun.
    pub fn inserted(&self) -> u64 {
        self.inserted.load(Ordering::Relaxed)
    }

    /// Bytes taken from the system.
    pub fn bytes(&self) -> u64 {
        self.memory.held()
    }

    /// A splice that has not been anywhere.
    pub fn splice(&self) -> Splice<'_> {
        Splice { before: [self.origin(); HEIGHT_MAX], after: [None; HEIGHT_MAX], last: None }
    }

    /// Inserts an entry; quickest if it belongs shortly behind the one last inserted through the same splice.
    /// No other entry has this key and sequence.
    pub fn insert<'a>(&'a self, splice: &mut Splice<'a>, key: &[u8], seq: Seq, kind: OpKind, value: &[u8]) {
        let target = Target::exact(key, seq, kind);
        let height = self.draw_height();
        let node = NodeRef::make(&self.memory, height, &target, value);
        self.find(splice, &target, height);
        for level in 0..height {
            loop {
                let (before, after) = (splice.before[level], splice.after[level]);
                debug_assert!(
                    after.is_none_or(|after| (after.entry().key, after.entry().seq) != (key, seq)),
                    "an entry with this key and sequence exists"
                );
                node.point(level, after);
                if before.link_in(level, after, node) {
                    break;
                }
                // Another thread linked a node just here.
                splice.advance(level, &target, None);
            }
            splice.before[level] = node;
        }
        splice.last = Some(node);
    }

    /// The first entry at or behind `target`.
    #[inline]
    pub fn first_from(&self, target: &Target<'_>) -> Option<Entry<'_>> {
        self.search(target).1.map(NodeRef::entry)
    }

    /// A value that keeps this list alive. `bytes` belong to an entry of this list.
    pub fn pin(self: &Arc<Self>, bytes: &[u8]) -> Value {
        Value::borrowed(self.clone(), bytes.as_ptr().expose_provenance(), bytes.len())
    }

    #[inline]
    fn origin(&self) -> NodeRef<'_> {
        // SAFETY: made in this list's memory.
        unsafe { self.origin.borrow() }
    }

    fn draw_height(&self) -> usize {
        // One bit decides about the second level, two bits about each further one.
        let drawn = mix(self.seed ^ mix(self.inserted.fetch_add(1, Ordering::Relaxed)));
        let height = (1 + (drawn.trailing_zeros() as usize).div_ceil(2)).min(HEIGHT_MAX);
        if height > self.height.load(Ordering::Relaxed) {
            self.height.fetch_max(height, Ordering::Relaxed);
        }
        height
    }

    /// The last node before `target`, the origin if there is none, and the first one not before it.
    #[inline]
    fn search(&self, target: &Target<'_>) -> (NodeRef<'_>, Option<NodeRef<'_>>) {
        let mut level = self.height.load(Ordering::Relaxed) - 1;
        let (mut at, mut bound) = (self.origin(), None);
        loop {
            at.prefetch_next(level.saturating_sub(1));
            match at.next(level) {
                Some(next) if Some(next) != bound && next.is_before(target) => at = next,
                next if level == 0 => return (at, next),
                next => {
                    // Not before the target: met again one level down, it need not be compared again.
                    bound = next;
                    level -= 1;
                }
            }
        }
    }

    /// Brings the splice around `target`, at least at the levels below `height`.
    fn find<'a>(&'a self, splice: &mut Splice<'a>, target: &Target<'_>, height: usize) {
        let top = self.height.load(Ordering::Relaxed).max(height);
        let ascending = splice.last.is_some_and(|last| last.is_before(target));
        let mut level = 0;
        if ascending {
            // Up to the lowest level at which nothing stands between the last insertion and the target.
            while level + 1 < top && splice.before[level].next(level).is_some_and(|n| n.is_before(target)) {
                level += 1;
            }
            // The levels above, as far as they are needed: other threads may have linked nodes there.
            for above in level + 1..height {
                splice.advance(above, target, None);
            }
        } else {
            level = top - 1;
            splice.before[level] = self.origin();
        }
        let mut bound = None;
        loop {
            let moved = splice.advance(level, target, bound);
            if level == 0 {
                return;
            }
            bound = splice.after[level];
            if moved || !ascending {
                splice.before[level - 1] = splice.before[level];
            }
            level -= 1;
        }
    }
}

impl<'a> Splice<'a> {
    /// Moves `before` as close to the target as it goes and sets `after`; true if it moved. `bound` is known not to
    /// be before the target.
    fn advance(&mut self, level: usize, target: &Target<'_>, bound: Option<NodeRef<'a>>) -> bool {
        let mut moved = false;
        loop {
            self.before[level].prefetch_next(level.saturating_sub(1));
            match self.before[level].next(level) {
                Some(next) if Some(next) != bound && next.is_before(target) => {
                    self.before[level] = next;
                    moved = true;
                }
                after => {
                    self.after[level] = after;
                    return moved;
                }
            }
        }
    }
}

impl ValueOwner for SkipList {
    fn slice(&self, start: usize, len: usize) -> &[u8] {
        debug_assert!(self.memory.contains(start, len), "not a value of this list");
        // SAFETY: only `pin` makes values owned by this list, from bytes of an entry, which stay as they are while
        // the list lives.
        unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(start), len) }
    }
}

/// A place in a list, which it keeps alive.
#[derive(Clone)]
pub(super) struct Cursor {
    list: Arc<SkipList>,
    /// A node of `list` other than the origin; none when on no entry.
    at: Option<RawNode>,
}

impl Cursor {
    /// On no entry.
    pub fn new(list: Arc<SkipList>) -> Self {
        Self { list, at: None }
    }

    /// The list it stands in.
    pub fn list(&self) -> &Arc<SkipList> {
        &self.list
    }

    #[inline]
    fn node(&self) -> Option<NodeRef<'_>> {
        // SAFETY: a node of the list that this cursor owns a share of.
        self.at.map(|node| unsafe { node.borrow() })
    }

    /// The entry it stands on.
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.node().map(NodeRef::entry)
    }

    /// To the first entry.
    pub fn first(&mut self) {
        self.at = self.list.origin().next(0).map(NodeRef::forget_owner);
    }

    /// To the last entry.
    pub fn last(&mut self) {
        let mut level = self.list.height.load(Ordering::Relaxed) - 1;
        let mut at = self.list.origin();
        loop {
            match at.next(level) {
                Some(next) => at = next,
                None if level > 0 => level -= 1,
                None => break,
            }
        }
        self.at = self.unless_origin(at);
    }

    /// To the first entry at or behind `target`.
    pub fn first_from(&mut self, target: &Target<'_>) {
        self.at = self.list.search(target).1.map(NodeRef::forget_owner);
    }

    /// To the last entry before `target`.
    pub fn last_before(&mut self, target: &Target<'_>) {
        self.at = self.unless_origin(self.list.search(target).0);
    }

    /// To the following entry.
    #[inline]
    pub fn next(&mut self) {
        self.at = self.node().and_then(|node| node.next(0)).map(NodeRef::forget_owner);
    }

    /// To the preceding entry, by a search: there are no links back.
    pub fn prev(&mut self) {
        let before = self.node().map(|node| self.list.search(&node.target()).0);
        self.at = before.and_then(|node| self.unless_origin(node));
    }

    fn unless_origin(&self, node: NodeRef<'_>) -> Option<RawNode> {
        (node != self.list.origin()).then(|| node.forget_owner())
    }
}

/// Spreads a counter's bits. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
