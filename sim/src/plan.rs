//! What every plan of a storm has in common, be it one of an application or one of the kernel's own workloads: the disk,
//! what the simulation is told of it, and the bounds of its numbers.
//!
//! A plan is read from a file that anybody may have written. So whatever it says is checked before anything runs, and a
//! refusal names the field, its value and the limit. Within the bounds a run neither overflows, nor takes more memory than
//! a machine has, nor outlasts the simulated time after which it counts as hanging.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

use holdfast::{KeyspaceOptions, Options};
use serde::{Deserialize, Serialize};

use crate::disk::limits::IopsLimit;
use crate::disk::personality::Personality;
use crate::fault::FaultClass;
use crate::options::{Ratio, ScheduleOverride, SimOptions};

/// Longest text of a plan, in bytes: many times what any seed draws.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Greatest number of a disk call, counted from the moment at which something is armed.
pub const CALLS_MAX: u64 = 1 << 32;
/// Most crashes of a plan: each costs an opening or a life, of which a run has only so many.
pub const CRASHES_MAX: usize = 64;
/// Most faults of a plan.
pub const FAULTS_MAX: usize = 10_000;
/// Most room that a full disk can be left with, in KiB: all that there is.
pub const ROOM_KIB_MAX: u64 = u64::MAX >> 12;
/// Device calls in a second of a disk that serves only so many: with fewer a run takes longer than it may.
pub const IOPS_MAX: RangeInclusive<u32> = 100..=1_000_000;

/// Device calls that pass at once after idleness, on a disk that serves only so many.
const IOPS_BURST: u32 = 32;

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlan {
    /// Which file system it is like.
    #[serde(default)]
    pub like: Personality,
    /// A cached write is charged only when its file is synced.
    #[serde(default)]
    pub delayed_allocation: bool,
    /// Overwriting takes room.
    #[serde(default)]
    pub copy_on_write: bool,
    /// A full disk shows in the sync of a write.
    #[serde(default)]
    pub full_in_sync: bool,
    /// Device calls that it serves in a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops_max: Option<u32>,
}

impl DiskPlan {
    /// Checks its numbers.
    ///
    /// # Errors
    /// In words: the field, its value and the limit.
    pub fn check(&self) -> Result<(), String> {
        self.iops_max.map_or(Ok(()), |calls| within("disk.iops_max", calls, IOPS_MAX))
    }
}

/// What the simulation is told of a plan. `rare_one_in` of 0 is never; `schedule` has the choices of the scheduler that are
/// other ones, and without `is_plain` the rest of them is drawn.
pub fn options(
    seed: u64,
    rare_one_in: u32,
    disk: &DiskPlan,
    (is_plain, schedule): (bool, &[(u64, u32)]),
) -> SimOptions {
    SimOptions {
        rare: if rare_one_in == 0 { Ratio::NEVER } else { Ratio::new(1, rare_one_in) },
        schedule_overrides: ScheduleOverride::all_of(schedule),
        plain_schedule: is_plain,
        personality: disk.like,
        iops_limit: disk.iops_max.map(|calls_per_second| IopsLimit { calls_per_second, burst: IOPS_BURST }),
        ..SimOptions::new(seed)
    }
}

/// The text of a file, up to the longest that a plan may have.
///
/// # Errors
/// In words: it cannot be read, or is longer.
pub fn read(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(wrong)?;
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(format!("{}: longer than {TEXT_BYTES_MAX} bytes, which no plan is", path.display()));
    }
    Ok(text)
}

/// The plan of a text that says which version of the form it has.
///
/// # Errors
/// In words: it is no plan, or one of another version.
pub fn parse<P: for<'a> Deserialize<'a>>(text: &str, schema: u32) -> Result<P, String> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let found: Version = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if found.schema != schema {
        return Err(format!("a plan of version {}, but this program reads version {schema}", found.schema));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Checks a number.
///
/// # Errors
/// In words: the field, its value and the limit.
pub fn within<N: PartialOrd + Display>(
    field: impl Display,
    value: N,
    limits: RangeInclusive<N>,
) -> Result<(), String> {
    if limits.contains(&value) {
        return Ok(());
    }
    Err(format!("{field} is {value}, but must be between {} and {}", limits.start(), limits.end()))
}

/// Checks how many crashes and faults there are.
///
/// # Errors
/// In words: which are too many, and the limit.
pub fn check_counts(crashes: usize, faults: usize) -> Result<(), String> {
    within("the number of crashes", crashes, 0..=CRASHES_MAX)?;
    within("the number of faults", faults, 0..=FAULTS_MAX)
}

/// Checks one fault, of this number in its plan.
///
/// # Errors
/// In words: the field, its value and the limit.
pub fn check_fault(
    number: usize,
    class: FaultClass,
    nth: u64,
    (is_lasting, room_kib): (bool, Option<u64>),
) -> Result<(), String> {
    if class.is_of_network() {
        let name = class.name();
        return Err(format!("faults[{number}].class is {name}, one of the network, which no plan has"));
    }
    if is_lasting && class == FaultClass::Stall {
        return Err(format!("faults[{number}].lasting is true, but a stall that lasts never ends"));
    }
    let Some(room_kib) = room_kib else {
        return within(format_args!("faults[{number}].nth"), nth, 1..=CALLS_MAX);
    };
    if class != FaultClass::NoSpace {
        let name = class.name();
        return Err(format!(
            "faults[{number}].room_kib is {room_kib}, but only no_space has one, not {name}"
        ));
    }
    within(format_args!("faults[{number}].room_kib"), room_kib, 0..=ROOM_KIB_MAX)
}

/// Checks the choices of the scheduler that are other ones.
///
/// # Errors
/// In words: which one does not come behind the one before.
pub fn check_schedule(schedule: &[(u64, u32)]) -> Result<(), String> {
    match schedule.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
        Some(at) => Err(format!(
            "schedule[{}] is of choice {}, but must be of one behind {}",
            at + 1,
            schedule[at + 1].0,
            schedule[at].0
        )),
        None => Ok(()),
    }
}

/// Checks options of the database.
///
/// # Errors
/// In words: the option, its value and the limit.
pub fn check_settings(options: &Options, keyspaces: &KeyspaceOptions) -> Result<(), String> {
    options.validate().and(keyspaces.validate()).map_err(|error| format!("settings: {error}"))
}
