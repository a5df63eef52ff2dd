//! Memory for one memtable: handed out without locks, never given back before the whole arena goes.
//!
//! Small pieces are carved off the end of the current chunk with one `fetch_add`. When a piece does not fit, the
//! thread that noticed makes a larger chunk and puts it in force with one compare-and-swap; a thread that loses
//! that race frees its own and carves from the winner's. A piece larger than a quarter of the next chunk gets a
//! chunk of its own, so that it neither wastes the rest of the current one nor is wasted.
//!
//! ```text
//! chunk:   [ ChunkHead | piece | piece | … free … ]
//! current ──► newest chunk ──► earlier ──► … ──► null
//! alone   ──► newest chunk ──► earlier ──► … ──► null      one piece each
//! ```
//!
//! Invariants: pieces never overlap; a chunk's head is written before the chunk is reachable and only its `used`
//! changes afterwards; chunks leave their list only when the arena is dropped.

#![expect(
    unsafe_code,
    reason = "hands out raw memory whose pieces are written once and then shared; see SAFETY notes"
)]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};

use crate::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Bug, UnsafeCell, memory, ordering};

/// Alignment of every piece.
pub(super) const ALIGN: usize = 8;
const HEAD: usize = size_of::<ChunkHead>().next_multiple_of(ALIGN);
/// Small beside the smallest memtable that can be configured, 4 KiB: the first chunk must not fill it.
const CHUNK_MIN: usize = 1 << 10;
const CHUNK_MAX: usize = 1 << 20;

struct ChunkHead {
    shape: UnsafeCell<Shape>,
    /// Bytes given out, head included; may pass the size when several threads find the chunk full.
    used: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Shape {
    earlier: *mut ChunkHead,
    /// Of the whole allocation, head included.
    size: usize,
}

/// See the module's header.
pub(super) struct Arena {
    current: AtomicPtr<ChunkHead>,
    alone: AtomicPtr<ChunkHead>,
    held: AtomicU64,
}

// SAFETY: the raw pointers lead only to chunks that this arena owns, and those are reached through atomics: heads
// are immutable once published but for `used`, and `allocate` gives each byte to one caller.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Without any memory yet.
    pub fn new() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            alone: AtomicPtr::new(ptr::null_mut()),
            held: AtomicU64::new(0),
        }
    }

    /// Bytes taken from the system.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// `size` uninitialised bytes, aligned to [`ALIGN`], that belong to the caller alone until it shares them and
    /// stay in place until the arena is dropped.
    pub fn allocate(&self, size: usize) -> NonNull<u8> {
        let size = size.next_multiple_of(ALIGN);
        loop {
            let chunk = self.current.load(ordering(Bug::ArenaChunkRelaxed, Ordering::Acquire));
            if let Some(piece) = carve(chunk, size) {
                return piece;
            }
            let next_size = (self.held() / 4).clamp(CHUNK_MIN as u64, CHUNK_MAX as u64) as usize;
            if size > next_size / 4 {
                return self.allocate_alone(size);
            }
            self.grow(chunk, next_size);
        }
    }

    /// Replaces `full` as the current chunk, unless another thread was first.
    fn grow(&self, full: *mut ChunkHead, size: usize) {
        let chunk = make_chunk(full, size, HEAD);
        let success = ordering(Bug::ArenaChunkRelaxed, Ordering::Release);
        match self.current.compare_exchange(full, chunk.as_ptr(), success, Ordering::Relaxed) {
            Ok(_) => {
                self.held.fetch_add(size as u64, Ordering::Relaxed);
            }
            // SAFETY: made above and never shared.
            Err(_) => unsafe { free_chunk(chunk.as_ptr()) },
        }
    }

    fn allocate_alone(&self, size: usize) -> NonNull<u8> {
        let whole = HEAD.checked_add(size).expect("an entry is far smaller than the address space");
        let mut earlier = self.alone.load(Ordering::Relaxed);
        let chunk = make_chunk(earlier, whole, whole);
        while let Err(now) =
            self.alone.compare_exchange(earlier, chunk.as_ptr(), Ordering::AcqRel, Ordering::Relaxed)
        {
            earlier = now;
            // SAFETY: the chunk is not shared before the exchange succeeds, so nobody else looks at its head.
            unsafe { (*chunk.as_ptr()).shape.with_mut(|shape| (*shape).earlier = earlier) };
        }
        self.held.fetch_add(whole as u64, Ordering::Relaxed);
        // SAFETY: the allocation is HEAD + `size` bytes long.
        unsafe { chunk.cast::<u8>().add(HEAD) }
    }

    /// True if the bytes lie inside one chunk. Walks all chunks: for assertions.
    pub fn contains(&self, start: usize, len: usize) -> bool {
        [&self.current, &self.alone].into_iter().any(|list| {
            let mut chunk = list.load(Ordering::Acquire);
            while !chunk.is_null() {
                let shape = shape(chunk);
                let first = chunk.addr() + HEAD;
                if first <= start && start.saturating_add(len) <= chunk.addr() + shape.size {
                    return true;
                }
                chunk = shape.earlier;
            }
            false
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for list in [&self.current, &self.alone] {
            let mut chunk = list.load(Ordering::Acquire);
            while !chunk.is_null() {
                let earlier = shape(chunk).earlier;
                // SAFETY: nobody else holds the arena, each chunk stands in one list once, and it is read no more.
                unsafe { free_chunk(chunk) };
                chunk = earlier;
            }
        }
    }
}

/// A piece of `chunk`, `None` if it does not fit or there is no chunk.
fn carve(chunk: *mut ChunkHead, size: usize) -> Option<NonNull<u8>> {
    let chunk = NonNull::new(chunk)?;
    let whole = shape(chunk.as_ptr()).size;
    // SAFETY: chunks live as long as their arena, whose `&self` the caller holds.
    let used = unsafe { &(*chunk.as_ptr()).used };
    // Looked at first, so that a full chunk's counter does not grow with every attempt.
    if whole - used.load(Ordering::Relaxed).min(whole) < size {
        return None;
    }
    // Relaxed: that no two callers get the same bytes needs atomicity only.
    let at = used.fetch_add(size, Ordering::Relaxed);
    // SAFETY: `at + size` is at most the allocation's size.
    (at + size <= whole).then(|| unsafe { chunk.cast::<u8>().add(at) })
}

fn shape(chunk: *mut ChunkHead) -> Shape {
    // SAFETY: `chunk` was loaded (Acquire) from a list of a living arena, after its head was written and released,
    // or is followed from such a head.
    unsafe { (*chunk).shape.with(|shape| *shape) }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<ChunkHead>().max(ALIGN))
        .expect("a chunk is far smaller than the address space")
}

fn make_chunk(earlier: *mut ChunkHead, size: usize, used: usize) -> NonNull<ChunkHead> {
    let layout = layout(size);
    // SAFETY: the size is at least HEAD, so not zero.
    let memory = unsafe { memory::alloc(layout) };
    let Some(chunk) = NonNull::new(memory.cast::<ChunkHead>()) else { handle_alloc_error(layout) };
    let head = ChunkHead { shape: UnsafeCell::new(Shape { earlier, size }), used: AtomicUsize::new(used) };
    // SAFETY: fresh memory, large enough and aligned for a head.
    unsafe { chunk.write(head) };
    chunk
}

/// # Safety
/// `chunk` came from [`make_chunk`] and nobody uses it any more.
unsafe fn free_chunk(chunk: *mut ChunkHead) {
    let size = shape(chunk).size;
    // SAFETY: the memory was allocated with this layout; a head has nothing to drop.
    unsafe { memory::dealloc(chunk.cast(), layout(size)) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn pieces_are_aligned_disjoint_and_inside(sizes: Vec<u16>) -> bool {
            let arena = Arena::new();
            let mut pieces: Vec<(usize, usize)> = sizes
                .iter()
                .map(|size| (arena.allocate(usize::from(*size)).addr().get(), usize::from(*size)))
                .collect();
            let inside = pieces.iter().all(|(at, size)| at % ALIGN == 0 && arena.contains(*at, *size));
            pieces.retain(|(_, size)| *size > 0);
            pieces.sort_unstable();
            let total: usize = pieces.iter().map(|(_, size)| size).sum();
            inside && arena.held() >= total as u64 && pieces.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0)
        }
    }

    #[test]
    fn memory_grows_with_use() {
        let arena = Arena::new();
        arena.allocate(8);
        assert_eq!(arena.held(), CHUNK_MIN as u64);
        arena.allocate(3 << 20);
        assert!(arena.held() < (3 << 20) + 2 * CHUNK_MIN as u64);
        arena.allocate(8);
        assert_eq!(arena.held(), (CHUNK_MIN + HEAD + (3 << 20)) as u64);
    }
}
