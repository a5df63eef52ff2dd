//! The fault classes by name, and what each of them excuses.

use holdfast_sim::FaultClass;

/// A name for a class, in plans and on the command line.
const NAMES: [(FaultClass, &str); FaultClass::ALL.len()] = [
    (FaultClass::ReadError, "read_error"),
    (FaultClass::WriteError, "write_error"),
    (FaultClass::SyncError, "sync_error"),
    (FaultClass::NoSpace, "no_space"),
    (FaultClass::TooManyFiles, "too_many_files"),
    (FaultClass::ShortRead, "short_read"),
    (FaultClass::ShortWrite, "short_write"),
    (FaultClass::SpawnRefused, "spawn_refused"),
    (FaultClass::TransientRead, "transient_read"),
    (FaultClass::LostSector, "lost_sector"),
    (FaultClass::BitRot, "bit_rot"),
    (FaultClass::StaleRead, "stale_read"),
    (FaultClass::MisdirectedRead, "misdirected_read"),
    (FaultClass::PhantomWrite, "phantom_write"),
    (FaultClass::MisdirectedWrite, "misdirected_write"),
    (FaultClass::LyingSync, "lying_sync"),
    (FaultClass::Stall, "stall"),
    (FaultClass::ClockJump, "clock_jump"),
    (FaultClass::MessageLost, "message_lost"),
    (FaultClass::MessageDuplicated, "message_duplicated"),
    (FaultClass::MessageReordered, "message_reordered"),
    (FaultClass::MessageDelayed, "message_delayed"),
    (FaultClass::ConnectionReset, "connection_reset"),
];

/// The classes that can strike a database of one process, which has no network.
pub fn of_one_process() -> Vec<FaultClass> {
    FaultClass::ALL.into_iter().filter(|class| !class.is_of_network()).collect()
}

/// The name of a class.
pub fn name_of(class: FaultClass) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == class).map_or("unknown", |(_, name)| name)
}

/// The class of a name, if a database of one process can meet it.
pub fn of_name(name: &str) -> Option<FaultClass> {
    let found = NAMES.iter().find(|(_, known)| *known == name).map(|(class, _)| *class);
    found.filter(|class| !class.is_of_network())
}

/// Their names, in the order of the classes, and those of the ways to replace a disk.
pub fn names() -> impl Iterator<Item = &'static str> {
    of_one_process().into_iter().map(name_of).chain(Replacing::ALL.map(Replacing::name))
}

/// Ways to replace the disk of a process that is not running. They cost what was acknowledged since, whoever asks for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Replacing {
    /// By an empty one.
    Wiped,
    /// By an older copy of itself.
    OlderCopy,
}

impl Replacing {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Wiped, Self::OlderCopy];

    /// Its name on the command line and in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wiped => "disk_wiped",
            Self::OlderCopy => "older_copy",
        }
    }

    /// The way of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// What may become of data under a class of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cost {
    /// Nothing is lost and nothing unreadable: calls are refused or slow.
    Nothing,
    /// Bytes cannot be read, or are damaged: an error says so, and they are never returned as data.
    Damage,
    /// What was acknowledged may be gone, from the newest on.
    Suffix,
}

/// What a class may cost.
pub fn cost_of(class: FaultClass) -> Cost {
    match class {
        FaultClass::LostSector
        | FaultClass::BitRot
        | FaultClass::MisdirectedRead
        | FaultClass::MisdirectedWrite => Cost::Damage,
        FaultClass::StaleRead | FaultClass::PhantomWrite | FaultClass::LyingSync => Cost::Suffix,
        FaultClass::ReadError
        | FaultClass::WriteError
        | FaultClass::SyncError
        | FaultClass::NoSpace
        | FaultClass::TooManyFiles
        | FaultClass::ShortRead
        | FaultClass::ShortWrite
        | FaultClass::SpawnRefused
        | FaultClass::TransientRead
        | FaultClass::Stall
        | FaultClass::ClockJump
        | FaultClass::MessageLost
        | FaultClass::MessageDuplicated
        | FaultClass::MessageReordered
        | FaultClass::MessageDelayed
        | FaultClass::ConnectionReset => Cost::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_a_row_for_every_class() {
        let readme = include_str!("../../README.md");
        let (_, contract) = readme.split_once("## What each fault may cost").expect("there is the contract");
        let rows: Vec<&str> = contract.lines().filter(|line| line.starts_with("| ")).collect();
        let others = ["kill", "power_loss"].into_iter().chain(Replacing::ALL.map(Replacing::name));
        for name in FaultClass::ALL.into_iter().map(name_of).chain(others) {
            assert!(rows.iter().any(|row| row.contains(&format!("`{name}`"))), "no row names {name}");
        }
    }

    #[test]
    fn every_class_has_a_name_of_its_own() {
        for class in FaultClass::ALL {
            assert_eq!(of_name(name_of(class)), (!class.is_of_network()).then_some(class));
        }
    }
}
