//! The bytes of one version of one file: sparse, shared between versions, copied when written.
//!
//! A file is a row of chunks of 64 pages of 4 KiB. A page is a hole (not allocated), zero (allocated, reads as
//! zeros) or data; a chunk that is wholly a hole or wholly zero is one word. So 64 MiB of zeros cost 4 KiB of
//! memory, and a copy of a file costs one reference count for each chunk that has data.
//!
//! Invariant: `allocated_pages` equals the number of pages that are not holes.

use std::ops::Range;
use std::sync::Arc;

/// Unit of allocation, in bytes.
pub(crate) const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
const CHUNK_PAGES: usize = 64;

type PageBytes = [u8; PAGE_BYTES];

#[derive(Clone)]
enum Page {
    Hole,
    Zero,
    Data(Arc<PageBytes>),
}

#[derive(Clone)]
enum Chunk {
    Hole,
    Zero,
    Mixed(Arc<[Page; CHUNK_PAGES]>),
}

/// See the module's header.
#[derive(Clone, Default)]
pub(crate) struct Content {
    chunks: Vec<Chunk>,
    allocated_pages: u64,
}

/// The part of one page that a byte range covers.
struct Piece {
    page: usize,
    start: usize,
    end: usize,
}

impl Piece {
    fn is_whole(&self) -> bool {
        self.end - self.start == PAGE_BYTES
    }
}

/// Splits a byte range at page boundaries.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    let end = offset.checked_add(len).expect("a byte range ends below 2^64");
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let page = at / PAGE;
        let page_end = ((page + 1) * PAGE).min(end);
        let piece =
            Piece { page: index(page), start: index(at - page * PAGE), end: index(page_end - page * PAGE) };
        at = page_end;
        Some(piece)
    })
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("a simulated file fits memory")
}

impl Content {
    /// Pages that are not holes.
    pub(crate) fn allocated_pages(&self) -> u64 {
        self.allocated_pages
    }

    /// Copies bytes out; what was never written reads as zeros.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        let mut rest = into;
        for piece in pieces(offset, rest.len() as u64) {
            let (part, tail) = rest.split_at_mut(piece.end - piece.start);
            match self.page(piece.page) {
                Some(Page::Data(bytes)) => part.copy_from_slice(&bytes[piece.start..piece.end]),
                _ => part.fill(0),
            }
            rest = tail;
        }
    }

    /// Overwrites bytes.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for piece in pieces(offset, bytes.len() as u64) {
            let (part, tail) = rest.split_at(piece.end - piece.start);
            rest = tail;
            if piece.is_whole() && is_zero(part) {
                self.set_page(piece.page, Page::Zero);
            } else {
                self.write_piece(&piece, part);
            }
        }
    }

    fn write_piece(&mut self, piece: &Piece, part: &[u8]) {
        let page = self.page_mut(piece.page);
        let was_hole = matches!(page, Page::Hole);
        match page {
            Page::Data(bytes) => {
                if let Some(bytes) = Arc::get_mut(bytes) {
                    bytes[piece.start..piece.end].copy_from_slice(part);
                } else {
                    *page = Page::Data(changed(bytes, piece, part));
                }
            }
            Page::Hole | Page::Zero => *page = Page::Data(changed(&ZEROS, piece, part)),
        }
        self.allocated_pages += u64::from(was_hole);
    }

    /// Makes the range read as zeros, from allocated pages.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) {
        self.clear(offset, len, &Chunk::Zero);
    }

    /// Makes the range read as zeros and gives back every page that lies wholly inside.
    pub(crate) fn punch(&mut self, offset: u64, len: u64) {
        // Nothing lies beyond the last chunk.
        let end = (self.chunks.len() * CHUNK_PAGES) as u64 * PAGE;
        if offset < end {
            self.clear(offset, len.min(end - offset), &Chunk::Hole);
        }
    }

    /// Forgets everything from byte `len` on.
    pub(crate) fn cut(&mut self, len: u64) {
        // The last page is cut too, up to its end: bytes past the size of a file must read as zeros later.
        self.punch(len, u64::MAX - len);
        let chunks_kept = index(len.div_ceil(PAGE)).div_ceil(CHUNK_PAGES);
        self.chunks.truncate(chunks_kept);
    }

    fn clear(&mut self, offset: u64, len: u64, to: &Chunk) {
        let page_of = |chunk: &Chunk| if matches!(chunk, Chunk::Zero) { Page::Zero } else { Page::Hole };
        let mut whole_chunks: Range<usize> = 0..0;
        let chunk_bytes = CHUNK_PAGES as u64 * PAGE;
        let first = offset.div_ceil(chunk_bytes);
        let last = (offset + len) / chunk_bytes;
        if first < last {
            whole_chunks = index(first)..index(last);
            self.grow(whole_chunks.end);
            for chunk in whole_chunks.clone() {
                self.allocated_pages -= allocated_in(&self.chunks[chunk]);
                self.allocated_pages += allocated_in(to);
                self.chunks[chunk] = to.clone();
            }
        }
        let head_end = if first < last { first * chunk_bytes } else { offset + len };
        for (from, until) in [(offset, head_end), (last * chunk_bytes, offset + len)] {
            if whole_chunks.is_empty() && from != offset {
                continue;
            }
            for piece in pieces(from, until.saturating_sub(from)) {
                self.clear_piece(&piece, page_of(to));
            }
        }
    }

    fn clear_piece(&mut self, piece: &Piece, to: Page) {
        if piece.is_whole() {
            self.set_page(piece.page, to);
            return;
        }
        match self.page(piece.page) {
            Some(Page::Data(_)) => self.write_piece(piece, &ZEROS[piece.start..piece.end]),
            // A zero page stays, a hole stays when punched and becomes allocated when zeroed.
            Some(Page::Zero) => {}
            Some(Page::Hole) | None => self.set_page(piece.page, to),
        }
    }

    /// Allocates every page of the range; contents stay.
    pub(crate) fn allocate(&mut self, offset: u64, len: u64) {
        for piece in pieces(offset, len) {
            if matches!(self.page(piece.page), None | Some(Page::Hole)) {
                self.set_page(piece.page, Page::Zero);
            }
        }
    }

    /// Holes that a write of this range would fill, in pages.
    pub(crate) fn holes(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let (first, last) = (offset / PAGE, (offset + len - 1) / PAGE);
        let beyond = (self.chunks.len() * CHUNK_PAGES) as u64;
        if first >= beyond {
            return last - first + 1;
        }
        let inside = (first..=last.min(beyond - 1))
            .filter(|page| matches!(self.page(index(*page)), None | Some(Page::Hole)))
            .count() as u64;
        inside + (last + 1).saturating_sub(beyond.max(first))
    }

    /// Takes over whatever `other` has in every page that the range touches. Shares, does not copy.
    pub(crate) fn share(&mut self, other: &Self, offset: u64, len: u64) {
        let mut at = offset;
        let end = offset + len;
        let chunk_bytes = CHUNK_PAGES as u64 * PAGE;
        while at < end {
            if at.is_multiple_of(chunk_bytes) && end - at >= chunk_bytes {
                let chunk = index(at / chunk_bytes);
                self.grow(chunk + 1);
                let theirs = other.chunks.get(chunk).unwrap_or(&Chunk::Hole);
                self.allocated_pages -= allocated_in(&self.chunks[chunk]);
                self.allocated_pages += allocated_in(theirs);
                self.chunks[chunk] = theirs.clone();
                at += chunk_bytes;
            } else {
                let page = index(at / PAGE);
                self.set_page(page, other.page(page).cloned().unwrap_or(Page::Hole));
                at = (at / PAGE + 1) * PAGE;
            }
        }
    }

    fn page(&self, page: usize) -> Option<&Page> {
        match self.chunks.get(page / CHUNK_PAGES)? {
            Chunk::Hole => Some(&Page::Hole),
            Chunk::Zero => Some(&Page::Zero),
            Chunk::Mixed(pages) => Some(&pages[page % CHUNK_PAGES]),
        }
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        let chunk = page / CHUNK_PAGES;
        self.grow(chunk + 1);
        let uniform = match &self.chunks[chunk] {
            Chunk::Hole => Some(Page::Hole),
            Chunk::Zero => Some(Page::Zero),
            Chunk::Mixed(_) => None,
        };
        if let Some(uniform) = uniform {
            self.chunks[chunk] = Chunk::Mixed(Arc::new(std::array::from_fn(|_| uniform.clone())));
        }
        match &mut self.chunks[chunk] {
            Chunk::Mixed(pages) => &mut Arc::make_mut(pages)[page % CHUNK_PAGES],
            Chunk::Hole | Chunk::Zero => unreachable!("the chunk was made mixed above"),
        }
    }

    fn set_page(&mut self, page: usize, to: Page) {
        let allocates = !matches!(to, Page::Hole);
        if !allocates && page >= self.chunks.len() * CHUNK_PAGES {
            return;
        }
        let place = self.page_mut(page);
        let was_allocated = !matches!(place, Page::Hole);
        *place = to;
        self.allocated_pages += u64::from(allocates);
        self.allocated_pages -= u64::from(was_allocated);
    }

    fn grow(&mut self, chunks: usize) {
        if self.chunks.len() < chunks {
            self.chunks.resize(chunks, Chunk::Hole);
        }
    }
}

static ZEROS: PageBytes = [0; PAGE_BYTES];

fn changed(base: &PageBytes, piece: &Piece, part: &[u8]) -> Arc<PageBytes> {
    if let Ok(whole) = <&PageBytes>::try_from(part) {
        return Arc::new(*whole);
    }
    let mut bytes = Arc::new(*base);
    let fresh = Arc::get_mut(&mut bytes).expect("nobody else has the page yet");
    fresh[piece.start..piece.end].copy_from_slice(part);
    bytes
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0) && bytes == &ZEROS[..bytes.len()]
}

fn allocated_in(chunk: &Chunk) -> u64 {
    match chunk {
        Chunk::Hole => 0,
        Chunk::Zero => CHUNK_PAGES as u64,
        Chunk::Mixed(pages) => pages.iter().filter(|page| !matches!(page, Page::Hole)).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 600 * 1024;

    /// Interprets numbers as operations on a content and on plain bytes, and compares everything after each.
    fn agrees_with_plain_bytes(operations: Vec<(u8, u32, u32)>) -> bool {
        let mut content = Content::default();
        let mut earlier = Content::default();
        let mut plain = vec![0u8; SIZE];
        let mut plain_earlier = plain.clone();
        let mut allocated = [false; SIZE / PAGE_BYTES];
        for (kind, offset, len) in operations {
            let offset = offset as usize % SIZE;
            let len = (len as usize % (SIZE - offset)).max(1) >> (kind % 5 * 3);
            let (from, to) = (offset as u64, len as u64);
            let touched = offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES);
            let whole = offset.div_ceil(PAGE_BYTES)..(offset + len) / PAGE_BYTES;
            let holes = touched.clone().filter(|page| !allocated[*page]).count() as u64;
            if len > 0 {
                assert_eq!(content.holes(from, to), holes);
            }
            match kind % 6 {
                0 | 1 => {
                    content.write(from, &vec![kind; len]);
                    plain[offset..offset + len].fill(kind);
                    if len > 0 {
                        allocated[touched].fill(true);
                    }
                }
                2 => {
                    content.zero(from, to);
                    plain[offset..offset + len].fill(0);
                    if len > 0 {
                        allocated[touched].fill(true);
                    }
                }
                3 => {
                    content.punch(from, to);
                    plain[offset..offset + len].fill(0);
                    if whole.start < whole.end {
                        allocated[whole].fill(false);
                    }
                }
                4 => {
                    content.cut(from);
                    plain[offset..].fill(0);
                    allocated[offset.div_ceil(PAGE_BYTES)..].fill(false);
                }
                _ => {
                    earlier = content.clone();
                    plain_earlier = plain.clone();
                }
            }
            assert_eq!(content.allocated_pages(), allocated.iter().filter(|page| **page).count() as u64);
        }
        let mut read = vec![1u8; SIZE];
        content.read(0, &mut read);
        let mut read_earlier = vec![1u8; SIZE];
        earlier.read(0, &mut read_earlier);
        let mut shared = earlier.clone();
        shared.share(&content, 0, SIZE as u64);
        let mut read_shared = vec![1u8; SIZE];
        shared.read(0, &mut read_shared);
        read == plain && read_earlier == plain_earlier && read_shared == plain
    }

    quickcheck::quickcheck! {
        fn content_behaves_like_plain_bytes(operations: Vec<(u8, u32, u32)>) -> bool {
            agrees_with_plain_bytes(operations)
        }
    }

    #[test]
    fn a_zero_filled_segment_is_small() {
        let mut content = Content::default();
        content.zero(0, 64 << 20);
        assert_eq!(content.allocated_pages(), (64 << 20) / PAGE);
        assert_eq!(content.chunks.len(), 256);
        assert!(content.chunks.iter().all(|chunk| matches!(chunk, Chunk::Zero)));
    }
}
