//! The fault classes that a database of one process can meet, by name, and what each of them excuses.

use holdfast_sim::FaultClass;

pub use holdfast_sim::FaultCost as Cost;

/// The classes that can strike a database of one process, which has no network.
pub fn of_one_process() -> Vec<FaultClass> {
    FaultClass::ALL.into_iter().filter(|class| !class.is_of_network()).collect()
}

/// The name of a class.
pub fn name_of(class: FaultClass) -> &'static str {
    class.name()
}

/// The class of a name, if a database of one process can meet it.
pub fn of_name(name: &str) -> Option<FaultClass> {
    FaultClass::of_name(name).filter(|class| !class.is_of_network())
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

/// What a class may cost.
pub fn cost_of(class: FaultClass) -> Cost {
    class.cost()
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
}
