//! An entry of the sorted list, in memory of an arena: written once, linked, then only read.
//!
//! ```text
//! one piece of memory:  [ link h-1 | … | link 0 | Head: prefix, trailer, value pointer, lengths | key | value ]
//!                                               ▲ a node pointer points here         a tall node's value: apart
//! trailer = seq << 8 | kind        prefix = the key's first 8 bytes, big-endian, padded with zeros
//! ```
//!
//! Links stand below the node so that the lowest one, the head and the start of the key share a cache line, and
//! most comparisons end with the prefix. A search meets mostly tall nodes, those with more than one link, so these
//! stand close together, their values elsewhere: measured, that and the prefetch took a third off a search.
//!
//! Invariant: a node's bytes are written before the release that first links it, and every link is followed with
//! acquire, so whoever holds a [`NodeRef`] sees them. A [`NodeRef`] borrows the memory; [`RawNode`] is one whose
//! borrow was forgotten, for structures that own the memory themselves.

#![expect(
    unsafe_code,
    reason = "nodes of variable size in raw memory, shared without locks; see SAFETY notes"
)]

use std::cmp::Ordering as Order;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::arena::{ALIGN, Arena};
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Bug, UnsafeCell, ordering};
use crate::types::{KEY_LEN_MAX, OpKind, Seq, VALUE_LEN_MAX};

#[derive(Clone, Copy)]
struct Head {
    prefix: u64,
    trailer: u64,
    value: *const u8,
    key_len: u32,
    value_len: u32,
}

/// What a node pointer points to.
struct Node {
    head: UnsafeCell<Head>,
}

type Link = AtomicPtr<Node>;

const _: () = assert!(align_of::<Link>() <= ALIGN && align_of::<Node>() <= ALIGN);
const _: () = assert!(size_of::<Link>().is_multiple_of(align_of::<Node>()));

/// Where nodes stand: tall ones close together, so that the processor finds them in its caches and address tables.
pub(super) struct Memory {
    tall: Arena,
    rest: Arena,
}

impl Memory {
    /// Without any memory yet.
    pub fn new() -> Self {
        Self { tall: Arena::new(), rest: Arena::new() }
    }

    /// Bytes taken from the system.
    pub fn held(&self) -> u64 {
        self.tall.held() + self.rest.held()
    }

    /// True if the bytes may be a value: those of tall nodes stand in `rest` too. Slow: for assertions.
    pub fn contains(&self, start: usize, len: usize) -> bool {
        self.rest.contains(start, len)
    }
}

/// A place in the order of entries: key ascending, then trailer descending.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    prefix: u64,
    key: &'a [u8],
    trailer: u64,
}

impl<'a> Target<'a> {
    /// Before every entry of `key` whose sequence is at most `seq`, behind the newer ones.
    #[inline]
    pub fn new(key: &'a [u8], seq: Seq) -> Self {
        let seq = if seq > Seq::LIMIT { Seq::LIMIT } else { seq };
        Self { prefix: prefix(key), key, trailer: seq.get() << 8 | 0xff }
    }

    /// Where an entry stands.
    pub fn exact(key: &'a [u8], seq: Seq, kind: OpKind) -> Self {
        assert!(seq <= Seq::LIMIT, "a sequence that cannot be stored");
        Self { prefix: prefix(key), key, trailer: seq.get() << 8 | kind as u64 }
    }
}

/// One entry, borrowed.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub key: &'a [u8],
    pub seq: Seq,
    pub kind: OpKind,
    pub value: &'a [u8],
}

/// A node, borrowed from its memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeRef<'a> {
    node: NonNull<Node>,
    memory: PhantomData<&'a Memory>,
}

impl<'a> NodeRef<'a> {
    /// A new node with `height` links that lead nowhere.
    pub fn make(memory: &'a Memory, height: usize, target: &Target<'_>, value: &[u8]) -> Self {
        let key = target.key;
        assert!(key.len() <= KEY_LEN_MAX && value.len() <= VALUE_LEN_MAX, "longer than a table can hold");
        let links = height * size_of::<Link>();
        let entry = links + size_of::<Node>() + key.len();
        let (piece, apart) = if height > 1 {
            (memory.tall.allocate(entry), Some(memory.rest.allocate(value.len())))
        } else {
            (memory.rest.allocate(entry + value.len()), None)
        };
        // SAFETY: the pieces are ours alone, aligned, and as long as all that is written: links, node, key, value.
        let node = unsafe {
            let node = piece.add(links).cast::<Node>();
            for level in 0..height {
                node.cast::<Link>().sub(level + 1).write(Link::new(ptr::null_mut()));
            }
            let key_at = node.add(1).cast::<u8>();
            let value_at = apart.unwrap_or(key_at.add(key.len()));
            let head = Head {
                prefix: target.prefix,
                trailer: target.trailer,
                value: value_at.as_ptr(),
                key_len: key.len() as u32,
                value_len: value.len() as u32,
            };
            node.write(Node { head: UnsafeCell::new(head) });
            ptr::copy_nonoverlapping(key.as_ptr(), key_at.as_ptr(), key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), value_at.as_ptr(), value.len());
            node
        };
        Self { node, memory: PhantomData }
    }

    /// The link at `level`. Levels are below the node's height because a node is reached through a link of the
    /// same level, or of a higher one, or was just made.
    #[inline]
    fn link(self, level: usize) -> &'a Link {
        // SAFETY: the links stand right below the node; initialised before the node was first linked.
        unsafe { self.node.cast::<Link>().sub(level + 1).as_ref() }
    }

    /// The next node at `level`, which must be below this one's height.
    #[inline]
    pub fn next(self, level: usize) -> Option<Self> {
        let next = self.link(level).load(ordering(Bug::SkiplistFollowRelaxed, Ordering::Acquire));
        NonNull::new(next).map(|node| Self { node, memory: PhantomData })
    }

    /// Begins to load what follows at `level` into the processor's cache, for a search that may go there next.
    #[inline(always)]
    pub fn prefetch_next(self, level: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            let next = self.link(level).load(Ordering::Relaxed);
            // SAFETY: a prefetch is a hint; it reads nothing and never faults, whatever the address.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(next.cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = level;
    }

    /// Points this node's link at `after`, while nobody else follows it.
    pub fn point(self, level: usize, after: Option<Self>) {
        self.link(level).store(address(after), Ordering::Relaxed);
    }

    /// Puts `node` between this one and `after`; false if something else follows by now. Publishes the node.
    pub fn link_in(self, level: usize, after: Option<Self>, node: Self) -> bool {
        let success = ordering(Bug::SkiplistLinkRelaxed, Ordering::Release);
        let link = self.link(level);
        link.compare_exchange(address(after), node.node.as_ptr(), success, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn head(self) -> Head {
        // SAFETY: written before the node was linked and never since.
        unsafe { self.node.as_ref() }.head.with(|head| {
            // SAFETY: as above.
            unsafe { *head }
        })
    }

    #[inline]
    fn key(self, head: &Head) -> &'a [u8] {
        // SAFETY: the key follows the node, written before it was linked and never since.
        unsafe {
            NonNull::slice_from_raw_parts(self.node.add(1).cast::<u8>(), head.key_len as usize).as_ref()
        }
    }

    /// What it holds.
    #[inline]
    pub fn entry(self) -> Entry<'a> {
        let head = self.head();
        let kind = if head.trailer & 0xff == OpKind::Put as u64 { OpKind::Put } else { OpKind::Delete };
        Entry {
            key: self.key(&head),
            seq: Seq::new(head.trailer >> 8),
            kind,
            // SAFETY: written before the node was linked and never since.
            value: unsafe { std::slice::from_raw_parts(head.value, head.value_len as usize) },
        }
    }

    /// Where it stands.
    pub fn target(self) -> Target<'a> {
        let head = self.head();
        Target { prefix: head.prefix, key: self.key(&head), trailer: head.trailer }
    }

    /// True if it stands before `target`.
    #[inline]
    pub fn is_before(self, target: &Target<'_>) -> bool {
        let head = self.head();
        if head.prefix != target.prefix {
            return head.prefix < target.prefix;
        }
        match compare_rest(self.key(&head), target.key) {
            Order::Less => true,
            Order::Equal => head.trailer > target.trailer,
            Order::Greater => false,
        }
    }

    /// Forgets what it borrows from.
    pub fn forget_owner(self) -> RawNode {
        RawNode(self.node)
    }
}

/// A node without its borrow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RawNode(NonNull<Node>);

// SAFETY: what it points to is read through shared references only, from any thread; see the module's invariant.
unsafe impl Send for RawNode {}
// SAFETY: as above.
unsafe impl Sync for RawNode {}

impl RawNode {
    /// The node again.
    ///
    /// # Safety
    /// The memory it was made in lives for `'a`.
    #[inline]
    pub unsafe fn borrow<'a>(self) -> NodeRef<'a> {
        NodeRef { node: self.0, memory: PhantomData }
    }
}

fn address(node: Option<NodeRef<'_>>) -> *mut Node {
    node.map_or(ptr::null_mut(), |node| node.node.as_ptr())
}

#[inline]
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    match key.first_chunk::<8>() {
        Some(first) => bytes = *first,
        None => bytes[..key.len()].copy_from_slice(key),
    }
    u64::from_be_bytes(bytes)
}

/// Compares two keys whose prefixes are equal. If either is covered by its prefix the shorter key is the smaller:
/// what the other has beyond it within the prefix is zeros.
#[inline]
fn compare_rest(a: &[u8], b: &[u8]) -> Order {
    match (a.get(8..), b.get(8..)) {
        (Some(a), Some(b)) => a.cmp(b),
        _ => a.len().cmp(&b.len()),
    }
}
