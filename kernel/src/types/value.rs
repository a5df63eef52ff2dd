//! A value that borrows the memory it was found in.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Memory that values may borrow: a cached block, a memtable's arena.
pub(crate) trait ValueOwner: Send + Sync {
    /// The bytes that `start` and `len` stood for when the owner made the [`Value`].
    fn slice(&self, start: usize, len: usize) -> &[u8];
}

/// The bytes of a value, without a copy: it keeps the block or memtable they stand in alive and may be held
/// across awaits. While it lives that memory counts against `memory_limit_bytes`; [`Value::detach`] copies the
/// bytes out and lets go.
#[derive(Clone)]
pub struct Value {
    owner: Arc<dyn ValueOwner>,
    start: usize,
    len: usize,
}

impl Value {
    pub(crate) fn borrowed(owner: Arc<dyn ValueOwner>, start: usize, len: usize) -> Self {
        Self { owner, start, len }
    }

    /// A value with memory of its own.
    pub fn owned(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Vec<u8> = bytes.into();
        let len = bytes.len();
        Self { owner: Arc::new(bytes), start: 0, len }
    }

    /// A copy of the bytes; the borrowed memory is let go.
    pub fn detach(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl ValueOwner for Vec<u8> {
    fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.owner.slice(self.start, self.len)
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        self[..] == *other.as_ref()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
