//! The recording block device: one file of a FUSE file system, kept in memory, that writes down every write and flush.
//!
//! ```text
//! file system under test → /dev/loopN (direct I/O) → FUSE file, opened without a page cache → Device
//! ```
//! A loop device with direct I/O sends each write on as it comes and turns a flush into `fsync`; the FUSE file has no
//! page cache, so nothing is merged or held back on the way. Requests are served one at a time and answered before the
//! next is taken: what stands in the log before a flush was complete when the flush came.
//!
//! The content has two layers: `base` is what was there when recording began, and shared by all images that are cut
//! from the log; `over` is what was written since. [`Device::load`] puts another content in place while nothing is
//! mounted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sequence::writer_of;

/// Unit of the content in memory, in bytes.
const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// Pages that are not all zeros, by number.
pub type Pages = BTreeMap<u64, Arc<Page>>;

/// What the device was asked to do.
#[derive(Clone)]
pub enum Request {
    /// Bytes at an offset. Durable only when a flush follows.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// Everything before is durable.
    Flush,
}

/// Which requests fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Writes of bytes that these operations wrote into files.
    Data(Vec<u16>),
    /// Writes of anything but bytes of files.
    Metadata,
    /// Flushes.
    Flushes,
}

/// Requests that fail: of a kind, from the `first` on, counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failing {
    pub target: Target,
    pub first: u64,
    /// How many fail.
    pub count: u64,
    /// What the device says.
    pub errno: i32,
}

#[derive(Default)]
struct State {
    base: Arc<Pages>,
    over: Pages,
    log: Vec<Request>,
    failing: Option<Failing>,
    /// Requests of the failing kind so far.
    met: u64,
    failed: u64,
}

/// See the module's header.
pub struct Device {
    bytes: u64,
    state: Mutex<State>,
}

impl Device {
    /// An empty device of this size.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the present content the base, and forgets the log.
    pub fn settle(&self) {
        let mut state = self.state();
        let mut base = (*state.base).clone();
        base.append(&mut state.over);
        base.retain(|_, page| page.iter().any(|byte| *byte != 0));
        state.base = Arc::new(base);
        state.log.clear();
    }

    /// The base, to come back to.
    pub fn base(&self) -> Arc<Pages> {
        Arc::clone(&self.state().base)
    }

    /// Puts a base in place, with nothing written over it and nothing failing.
    pub fn load(&self, base: &Arc<Pages>) {
        *self.state() = State { base: Arc::clone(base), ..State::default() };
    }

    /// Writes as the device would have, without a line in the log.
    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.state().write(offset, bytes);
    }

    /// What was written over the base.
    pub fn over(&self) -> Pages {
        self.state().over.clone()
    }

    /// Puts pages over the base.
    pub fn lay_over(&self, over: Pages) {
        self.state().over = over;
    }

    /// Requests so far.
    pub fn logged(&self) -> usize {
        self.state().log.len()
    }

    /// The log, oldest first.
    pub fn log(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    /// Lets requests fail from now on; `None` ends it. Gives how many failed until now.
    pub fn fail(&self, failing: Option<Failing>) -> u64 {
        let mut state = self.state();
        state.failing = failing;
        state.met = 0;
        std::mem::take(&mut state.failed)
    }

    /// Reads; what was never written is zeros.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.state().read(offset, into);
    }

    /// Serves a write.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        let mut state = self.state();
        let writer = writer_of(bytes);
        state.refuse(|target| match (target, writer) {
            (Target::Data(writers), Some(writer)) => writers.contains(&writer),
            (Target::Metadata, None) => true,
            _ => false,
        })?;
        state.write(offset, bytes);
        state.log.push(Request::Write { offset, bytes: bytes.into() });
        Ok(())
    }

    /// Serves a flush.
    pub fn flush(&self) -> Result<(), i32> {
        let mut state = self.state();
        state.refuse(|target| *target == Target::Flushes)?;
        state.log.push(Request::Flush);
        Ok(())
    }
}

impl State {
    fn refuse(&mut self, is_meant: impl Fn(&Target) -> bool) -> Result<(), i32> {
        let Some(failing) = self.failing.as_ref().filter(|failing| is_meant(&failing.target)) else {
            return Ok(());
        };
        self.met += 1;
        if self.met > failing.first && self.met - failing.first <= failing.count {
            self.failed += 1;
            return Err(failing.errno);
        }
        Ok(())
    }

    fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.over.get(&number).or_else(|| self.base.get(&number))
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        for (number, within, part) in pieces(offset, into.len()) {
            let part = &mut into[part];
            match self.page(number) {
                Some(page) => part.copy_from_slice(&page[within..within + part.len()]),
                None => part.fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, within, part) in pieces(offset, bytes.len()) {
            let part = &bytes[part];
            let before = self.page(number).cloned();
            let page =
                self.over.entry(number).or_insert_with(|| before.unwrap_or(Arc::new([0; PAGE as usize])));
            Arc::make_mut(page)[within..within + part.len()].copy_from_slice(part);
        }
    }
}

/// The parts of a range by page: its number, where in it, and which bytes of the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let part = done..len.min(done + PAGE as usize - within);
        done = part.end;
        Some((at / PAGE, within, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_across_pages_and_layers() {
        let device = Device::new(1 << 20);
        device.write(4000, &[1; 5000]).expect("nothing fails");
        device.settle();
        device.write(8000, &[2; 512]).expect("nothing fails");
        let mut read = vec![9; 6000];
        device.read(3500, &mut read);
        assert!(read[..500].iter().all(|byte| *byte == 0));
        assert!(read[500..4500].iter().all(|byte| *byte == 1));
        assert!(read[4500..5012].iter().all(|byte| *byte == 2));
        assert!(read[5012..5500].iter().all(|byte| *byte == 1));
        assert_eq!(device.logged(), 1);
        let base = device.base();
        device.load(&base);
        device.read(8000, &mut read[..512]);
        assert!(read[..512].iter().all(|byte| *byte == 1), "what was written over the base is gone");
    }

    #[test]
    fn chosen_requests_fail_and_are_not_written() {
        let device = Device::new(1 << 20);
        device.fail(Some(Failing { target: Target::Metadata, first: 1, count: 1, errno: 5 }));
        assert_eq!(device.write(0, &[1; 512]), Ok(()));
        assert_eq!(device.write(0, &[2; 512]), Err(5));
        assert_eq!(device.write(512, &[3; 512]), Ok(()));
        assert_eq!(device.flush(), Ok(()));
        assert_eq!(device.fail(None), 1);
        let mut read = vec![0; 512];
        device.read(0, &mut read);
        assert_eq!(read, vec![1; 512]);
    }
}
