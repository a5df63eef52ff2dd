//! What a run may vary besides its seed: latencies, limits, the event log, schedule overrides.
//!
//! Every probability is a [`Ratio`] of integers and every duration an integer of nanoseconds, so that a run is the
//! same on every machine and in every build.

use crate::disk::limits::IopsLimit;
use crate::disk::personality::Personality;
use crate::network::NetworkModel;

/// A probability `numerator / denominator`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    /// Cases that count.
    pub numerator: u32,
    /// Cases in all; at least 1.
    pub denominator: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Self = Self { numerator: 0, denominator: 1 };
    /// Always.
    pub const ALWAYS: Self = Self { numerator: 1, denominator: 1 };

    /// `numerator` cases of `denominator`.
    ///
    /// # Panics
    /// If `denominator` is 0.
    pub const fn new(numerator: u32, denominator: u32) -> Self {
        assert!(denominator > 0, "a ratio needs a denominator");
        Self { numerator, denominator }
    }
}

/// How long disk calls take, in nanoseconds of simulated time. Each call takes its base, plus `per_kib_ns` for every
/// KiB, plus a jitter of up to half of both.
#[derive(Clone, Debug)]
pub struct LatencyModel {
    /// A read or write of the page cache, and calls that only look at metadata.
    pub cached_ns: u64,
    /// A direct read.
    pub read_ns: u64,
    /// A direct write without `dsync`.
    pub write_ns: u64,
    /// A sync of a file or directory, and a `dsync` write.
    pub sync_ns: u64,
    /// A change of a directory, and an open.
    pub directory_ns: u64,
    /// Added for every KiB read or written.
    pub per_kib_ns: u64,
    /// How many of the calls served by the page cache are done when they return.
    pub ready: Ratio,
    /// How many of the reads and writes that take time act on the file at their end instead of at their start.
    pub late: Ratio,
    /// Cost of [`holdfast::env::Env::slice`] for every KiB handled.
    pub slice_per_kib_ns: u64,
    /// How much longer a call takes that stalls.
    pub stall_ns: u64,
}

impl Default for LatencyModel {
    /// A fast local disk.
    fn default() -> Self {
        Self {
            cached_ns: 800,
            read_ns: 15_000,
            write_ns: 13_000,
            sync_ns: 25_000,
            directory_ns: 20_000,
            per_kib_ns: 300,
            ready: Ratio::new(1, 2),
            late: Ratio::new(1, 4),
            slice_per_kib_ns: 500,
            stall_ns: 2_000_000_000,
        }
    }
}

/// Replaces one choice of the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleOverride {
    /// Number of the choice, counted from 0 over the choices with more than one ready task.
    pub choice: u64,
    /// Which ready task to run; taken modulo the number of ready tasks.
    pub pick: u32,
}

impl ScheduleOverride {
    /// Those of a plan, which has them as number and pick.
    pub fn all_of(plan: &[(u64, u32)]) -> Vec<Self> {
        plan.iter().map(|(choice, pick)| Self { choice: *choice, pick: *pick }).collect()
    }
}

/// What a read gives of pages whose sync failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailedSync {
    /// The bytes written, still in the page cache though never durable (ext4).
    ReadsNew,
    /// The bytes that are on the medium (btrfs, or after the cache was dropped).
    ReadsOld,
    /// One of the two, drawn at each failure.
    Drawn,
}

/// Something to do in the middle of a run: stop a debugger there, or end the run by a panic.
#[derive(Clone, Copy, Debug)]
pub struct AtEvent {
    /// Number of the event, counted from 1: the first column of the event log. One that never comes does nothing.
    pub number: u64,
    /// Called when it happens, before anybody can see what it does. The run holds a lock meanwhile, so nothing of the
    /// world may be touched.
    pub call: fn(),
}

/// Everything a run may vary.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// How long disk calls take.
    pub latency: LatencyModel,
    /// Lines of the readable event log to keep, the last ones; 0 keeps none and costs nothing.
    pub log_events: usize,
    /// Something to do at one event.
    pub at_event: Option<AtEvent>,
    /// Choices of the scheduler to replace, in ascending order of their number.
    pub schedule_overrides: Vec<ScheduleOverride>,
    /// Of choices that no override names the first ready task runs, the one that waited longest, instead of one that is
    /// drawn.
    pub plain_schedule: bool,
    /// Keeps the pick of every choice in the outcome.
    pub record_schedule: bool,
    /// Keeps the trace hash at every event in the outcome, to find the first in which two runs differ.
    pub record_hashes: bool,
    /// How often [`holdfast::env::Env::rare`] is true.
    pub rare: Ratio,
    /// Which file system every disk behaves like.
    pub personality: Personality,
    /// What a failed sync leaves in the page cache, under [`Personality::Strict`]; the others know it themselves.
    pub failed_sync: FailedSync,
    /// How many device calls each disk serves in a second; `None` is without limit. See
    /// [`SimDisk::set_iops_limit`](crate::SimDisk::set_iops_limit).
    pub iops_limit: Option<IopsLimit>,
    /// Lets `std::time::Instant` inside the run go with simulated time. Without it that clock stands still, which costs
    /// nothing and is enough for whoever asks `Env` for the time.
    pub std_clock: bool,
    /// Links, bounds and times of the network.
    pub network: NetworkModel,
    /// Polls without any progress of simulated time after which a run counts as a busy loop.
    pub polls_per_instant_max: u64,
    /// Disk calls within one poll of one task after which the task counts as a busy loop.
    pub calls_per_poll_max: u64,
    /// Simulated nanoseconds after which a run fails.
    pub time_limit_ns: u64,
}

impl SimOptions {
    /// The defaults with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: LatencyModel::default(),
            log_events: 0,
            at_event: None,
            schedule_overrides: Vec::new(),
            plain_schedule: false,
            record_schedule: false,
            record_hashes: false,
            rare: Ratio::NEVER,
            personality: Personality::Strict,
            failed_sync: FailedSync::Drawn,
            iops_limit: None,
            std_clock: false,
            network: NetworkModel::default(),
            polls_per_instant_max: 1_000_000,
            calls_per_poll_max: 10_000_000,
            time_limit_ns: 3_600_000_000_000_000,
        }
    }
}

impl From<u64> for SimOptions {
    fn from(seed: u64) -> Self {
        Self::new(seed)
    }
}
