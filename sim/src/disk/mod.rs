//! The simulated disk: an inode-based file system in memory that knows what is durable and what is not.
//!
//! By default of personality `strict`, the adversary ([`personality`] has the others). A sync of a file makes its bytes and size durable and not its name; each
//! change of a directory entry is separate and durable only by a sync of that directory; a `dsync` write makes
//! only itself durable. At power loss any legal survivor set remains ([`survivors`]).
//!
//! This module is plain state and plain functions: no time, no tasks. [`handle`] puts it behind the kernel's
//! traits, [`inspect`] behind an interface for tests.

mod content;
mod deceit;
mod directory;
mod elsewhere;
pub(crate) mod handle;
mod harm;
mod inode;
pub(crate) mod inspect;
mod journal;
mod last_survivor;
pub(crate) mod limits;
mod namespace;
mod ordered;
pub(crate) mod personality;
mod power;
mod replace;
mod reshape;
mod space;
pub(crate) mod survivors;

use std::collections::BTreeMap;

use holdfast::env::{IoErrorKind, LockKind};

use crate::fault::{FaultClass, Faults};
use crate::schedule::Who;
use crate::stream::{Stream, StreamClass};
use directory::{Directory, InodeNumber};
pub use inode::SECTOR;
use inode::{Change, ChangeKind, Inode, Route};
use personality::Personality;
use survivors::SurvivorChoice;

/// Why the disk refuses: the kind, and what it says.
pub(crate) type Refusal = (IoErrorKind, &'static str);

/// A file or a directory.
#[derive(Clone)]
pub(crate) enum Node {
    File(Box<Inode>),
    Directory(Directory),
}

/// A held lock of a directory.
pub(crate) struct HeldLock {
    number: u64,
    directory: InodeNumber,
    name: String,
    kind: LockKind,
    who: Who,
}

/// A write that will act on its file when it completes.
struct InFlight {
    number: u64,
    inode: InodeNumber,
    who: Who,
    change: Change,
    puts_off: bool,
    /// It is acknowledged as durable and is not.
    lies: bool,
}

/// Room on the disk.
#[derive(Clone, Copy)]
struct Space {
    capacity_bytes: u64,
    capacity_inodes: u64,
    used_pages: u64,
    used_inodes: u64,
    delayed_allocation: bool,
    copy_on_write: bool,
    full_in_sync: bool,
}

/// The whole state of one disk.
pub(crate) struct DiskState {
    nodes: BTreeMap<InodeNumber, Node>,
    next_inode: InodeNumber,
    next_number: u64,
    space: Space,
    locks: Vec<HeldLock>,
    in_flight: Vec<InFlight>,
    syncs_begun: BTreeMap<InodeNumber, u64>,
    pub(crate) faults: Faults,
    harms: harm::Harms,
    short_lengths: Stream,
    failed_syncs: Stream,
    /// Decides instead of the stream what is left of bytes that could not be written.
    failed_choice: Option<Box<dyn SurvivorChoice>>,
    deceits: Stream,
    requests: elsewhere::Requests,
    power_losses: Stream,
    kills: Stream,
    pub(crate) personality: Personality,
    /// Number up to which the journal is durable.
    journaled: u64,
    /// Files and directories that were synced since the power was lost, under btrfs, with the last change that was to be
    /// synced: its log has their names.
    logged: BTreeMap<InodeNumber, u64>,
    /// Its journal failed: nothing changes until the power is lost.
    is_aborted: bool,
    pub(crate) iops: limits::Iops,
    /// What was durable at chosen moments.
    copies: Vec<inspect::DiskImage>,
    /// Writes refused because cached and direct access were mixed: a bug of whoever wrote.
    pub(crate) mixed_writes: u64,
}

/// Number of the root directory.
const ROOT: InodeNumber = 0;

/// How a write reaches the file.
#[derive(Clone, Copy)]
pub(crate) struct WriteMode {
    pub(crate) route: Route,
    pub(crate) dsync: bool,
    /// Act on the file only when [`DiskState::land`] is called.
    pub(crate) late: Option<Who>,
}

/// What a write did at its start.
pub(crate) struct Written {
    /// Bytes taken.
    pub(crate) count: usize,
    /// Number of the change, to settle when a `dsync` write completes.
    pub(crate) number: u64,
}

impl DiskState {
    /// An empty disk. `disk_number` keeps the streams of several disks apart.
    pub(crate) fn new(seed: u64, disk_number: u64) -> Self {
        let seed = seed ^ disk_number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]),
            next_inode: ROOT + 1,
            next_number: 1,
            space: Space {
                capacity_bytes: 1 << 40,
                capacity_inodes: 1 << 32,
                used_pages: 0,
                used_inodes: 0,
                delayed_allocation: false,
                copy_on_write: false,
                full_in_sync: false,
            },
            locks: Vec::new(),
            in_flight: Vec::new(),
            syncs_begun: BTreeMap::new(),
            faults: Faults::new(seed),
            harms: harm::Harms::default(),
            short_lengths: Stream::new(seed, StreamClass::ShortLength),
            failed_syncs: Stream::new(seed, StreamClass::FailedSync),
            failed_choice: None,
            requests: elsewhere::Requests::default(),
            deceits: Stream::new(seed, StreamClass::Deceit),
            power_losses: Stream::new(seed, StreamClass::PowerLoss),
            kills: Stream::new(seed, StreamClass::Kill),
            personality: Personality::Strict,
            journaled: 0,
            logged: BTreeMap::new(),
            is_aborted: false,
            iops: limits::Iops::default(),
            copies: Vec::new(),
            mixed_writes: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn file(&self, inode: InodeNumber) -> &Inode {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => file,
            _ => unreachable!("a handle or a name refers to a file that is not there"),
        }
    }

    fn file_mut(&mut self, inode: InodeNumber) -> &mut Inode {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => file,
            _ => unreachable!("a handle or a name refers to a file that is not there"),
        }
    }

    /// Reads; gives the count.
    pub(crate) fn read(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, Refusal> {
        self.refuse_after_abort(false)?;
        self.refuse_read(inode, name, offset, into.len() as u64)?;
        let left = self.file(inode).size.saturating_sub(offset);
        let mut count = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        if count > 1 && self.faults.fires(FaultClass::ShortRead, name) {
            count = self.shorter(count, 1);
        }
        self.read_as_device(inode, name, offset, &mut into[..count]);
        self.requests.note(inode, offset, count as u64);
        self.meet(inode, offset, count as u64);
        Ok(count)
    }

    /// A length from `unit` to `len`, not `len` itself if it can be helped, in whole units.
    fn shorter(&mut self, len: usize, unit: usize) -> usize {
        let units = (len / unit) as u64;
        if units < 2 {
            return len;
        }
        let taken = 1 + self.short_lengths.below(units - 1);
        usize::try_from(taken).expect("a part of a length in memory") * unit
    }

    /// Starts a write. It acts on the page cache at once, or, if `late`, when [`Self::land`] is called for it.
    pub(crate) fn write(
        &mut self,
        inode: InodeNumber,
        name: &str,
        offset: u64,
        parts: &[&[u8]],
        mode: WriteMode,
    ) -> Result<Written, Refusal> {
        self.refuse_after_abort(true)?;
        if self.faults.fires(FaultClass::WriteError, name) {
            return Err((IoErrorKind::Medium, "injected write error"));
        }
        let mut count: usize = parts.iter().map(|part| part.len()).sum();
        // Linux cuts a write between pages, or between blocks where the disk is full: never within a sector.
        let unit = SECTOR as usize;
        if count > unit && self.faults.fires(FaultClass::ShortWrite, name) {
            count = self.shorter(count, unit);
        }
        if self.file(inode).is_mixed_by(mode.route) {
            self.mixed_writes += 1;
            return Err((
                IoErrorKind::Other,
                "direct and cached writes are mixed: the file has unsynced writes of the other kind",
            ));
        }
        self.reserve_for_write(inode, name, offset, count as u64, mode)?;
        if mode.dsync {
            self.note_logged(inode, self.next_number);
        }
        if mode.dsync && self.faults.fires(FaultClass::SyncError, name) {
            let refusal = (IoErrorKind::Medium, "injected sync error of a dsync write");
            return self.fail_dsync(inode, offset, joined(parts, count), mode, refusal);
        }
        if let Err(full) = self.refuse_sync_of_write(name, mode) {
            return self.fail_dsync(inode, offset, joined(parts, count), mode, full);
        }
        let number = self.number();
        let lies = mode.dsync && self.lies(name, offset, count as u64);
        self.requests.note(inode, offset, count as u64);
        self.heal(inode, offset, count as u64);
        if count > 0 {
            let kind = ChangeKind::Write(joined(parts, count));
            let change = Change { number, offset, len: count as u64, kind, route: mode.route };
            let Some(change) = self.as_device_writes(inode, name, change) else {
                return Ok(Written { count, number });
            };
            let puts_off = self.puts_off(mode);
            match mode.late {
                Some(who) => self.in_flight.push(InFlight { number, inode, who, change, puts_off, lies }),
                None => self.make_change(inode, change, puts_off),
            }
        }
        if lies && mode.late.is_none() {
            self.note_lie(inode, number);
        }
        // No change has the number 0, so nothing becomes durable when the write completes.
        let number = if lies && mode.late.is_none() { 0 } else { number };
        Ok(Written { count, number })
    }

    /// Some part of a failed `dsync` write is on the medium; the rest never will be.
    fn fail_dsync(
        &mut self,
        inode: InodeNumber,
        offset: u64,
        bytes: Box<[u8]>,
        mode: WriteMode,
        refusal: Refusal,
    ) -> Result<Written, Refusal> {
        let number = self.number();
        let len = bytes.len() as u64;
        if len > 0 {
            let change = Change { number, offset, len, kind: ChangeKind::Write(bytes), route: mode.route };
            let size = self.file(inode).size;
            self.make_change(inode, change, false);
            let before = self.file(inode).content.allocated_pages();
            if !self.is_strict() {
                self.fail_only_as_real(inode, number, size, mode, refusal.0);
                self.account(inode, before, false);
                return Err(refusal);
            }
            let reads_old = mode.route == Route::Direct || self.failed_syncs.below(2) == 1;
            let mut stream = self.take_failed_syncs();
            let mut choice = survivors::Drawn::new(&mut stream);
            self.file_mut(inode).fail_only(number, inode, &mut choice, reads_old);
            self.failed_syncs = stream;
            self.account(inode, before, false);
        }
        Err(refusal)
    }

    /// Takes the stream out, so that a choice can draw from it beside a file of this disk.
    fn take_failed_syncs(&mut self) -> Stream {
        std::mem::replace(&mut self.failed_syncs, Stream::new(0, StreamClass::FailedSync))
    }

    /// Makes a change and keeps the account of allocated pages.
    fn make_change(&mut self, inode: InodeNumber, change: Change, puts_off: bool) {
        let keeps_before = self.faults.may_fire(FaultClass::StaleRead);
        let before = self.file(inode).content.allocated_pages();
        let file = self.file_mut(inode);
        if keeps_before {
            file.keep_before(&change);
        }
        file.change(change);
        self.account(inode, before, puts_off);
    }

    /// Lets a late write act on its file, unless that is gone. Gives the number that the change has now.
    pub(crate) fn land(&mut self, number: u64) -> u64 {
        let Some(position) = self.in_flight.iter().position(|write| write.number == number) else {
            return number;
        };
        let InFlight { inode, mut change, puts_off, lies, .. } = self.in_flight.swap_remove(position);
        if matches!(self.nodes.get(&inode), Some(Node::File(_))) {
            // Changes are numbered in the order in which they act. A `dsync` write settles under this number.
            change.number = self.number();
            let landed = change.number;
            self.make_change(inode, change, puts_off);
            if lies {
                self.note_lie(inode, landed);
            }
            return if lies { 0 } else { landed };
        }
        number
    }

    /// Starts a sync; gives the number of the last change that it covers.
    pub(crate) fn start_sync(&mut self, inode: InodeNumber, name: &str) -> Result<u64, Refusal> {
        if self.is_idle_after_abort(inode) {
            return Ok(0);
        }
        self.refuse_after_abort(true)?;
        self.note_logged(inode, self.next_number - 1);
        if self.faults.fires(FaultClass::SyncError, name) {
            return Err((IoErrorKind::Medium, "injected sync error"));
        }
        if let Some(kind) = self.file(inode).tells_again {
            return Err((kind, "a direct write failed before"));
        }
        self.charge_delayed(inode, name)?;
        let size = self.file(inode).size;
        let last = if self.is_strict() { self.file(inode).last_number() } else { self.next_number - 1 };
        if self.lies(name, 0, size) {
            self.note_lie(inode, last);
            return Ok(0);
        }
        self.note_sync_begun(inode, last);
        Ok(last)
    }

    /// A sync is under way that will be answered with success.
    pub(super) fn note_sync_begun(&mut self, inode: InodeNumber, watermark: u64) {
        let begun = self.syncs_begun.entry(inode).or_insert(0);
        *begun = (*begun).max(watermark);
    }

    /// How far syncs of this file or directory were begun that are answered with success. What they cover is on the medium
    /// before another sync fails: every handle that was open when a write was lost is told of it, so none of them could
    /// be answered so otherwise.
    pub(super) fn syncs_begun(&self, inode: InodeNumber) -> u64 {
        self.syncs_begun.get(&inode).copied().unwrap_or(0)
    }

    /// A sync failed: a part of what it covered is on the medium, the rest never will be.
    pub(crate) fn fail_sync(&mut self, inode: InodeNumber, reads_old: Option<bool>, kind: IoErrorKind) {
        if !self.is_strict() {
            return self.fail_sync_as_real(inode, kind);
        }
        let reads_old = reads_old.unwrap_or_else(|| self.failed_syncs.below(2) == 1);
        let before = self.file(inode).content.allocated_pages();
        let begun = self.syncs_begun(inode);
        let mut stream = self.take_failed_syncs();
        let file = self.file_mut(inode);
        file.settle(begun);
        let watermark = file.last_number();
        file.fail_sync(watermark, inode, &mut survivors::Drawn::new(&mut stream), reads_old);
        self.failed_syncs = stream;
        self.account(inode, before, false);
    }

    /// Makes the changes of a file up to a number durable.
    pub(crate) fn settle(&mut self, inode: InodeNumber, watermark: u64) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&inode) {
            file.settle(watermark);
        }
    }

    /// Makes one change of a file durable.
    pub(crate) fn settle_only(&mut self, inode: InodeNumber, number: u64) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&inode) {
            file.settle_only(number);
        }
    }
}

fn joined(parts: &[&[u8]], count: usize) -> Box<[u8]> {
    if let [only] = parts {
        return only[..count].into();
    }
    let mut bytes = parts.concat();
    bytes.truncate(count);
    bytes.into_boxed_slice()
}
