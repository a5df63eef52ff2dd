//! The fault classes by name, and what each of them may cost: the contract's table, as far as programs need it.

use crate::fault::FaultClass;

/// A name for each class, in plans and on command lines.
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

/// What may become of data under a class of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultCost {
    /// Nothing is lost and nothing unreadable: calls are refused or slow.
    Nothing,
    /// Bytes cannot be read, or are damaged: an error says so, and they are never returned as data.
    Damage,
    /// What was acknowledged may be gone, from the newest on.
    Suffix,
}

impl FaultClass {
    /// Its name in plans and on command lines.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, name)| name)
    }

    /// The class of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }

    /// What it may cost.
    pub const fn cost(self) -> FaultCost {
        match self {
            Self::LostSector | Self::BitRot | Self::MisdirectedRead | Self::MisdirectedWrite => {
                FaultCost::Damage
            }
            Self::StaleRead | Self::PhantomWrite | Self::LyingSync => FaultCost::Suffix,
            Self::ReadError
            | Self::WriteError
            | Self::SyncError
            | Self::NoSpace
            | Self::TooManyFiles
            | Self::ShortRead
            | Self::ShortWrite
            | Self::SpawnRefused
            | Self::TransientRead
            | Self::Stall
            | Self::ClockJump
            | Self::MessageLost
            | Self::MessageDuplicated
            | Self::MessageReordered
            | Self::MessageDelayed
            | Self::ConnectionReset => FaultCost::Nothing,
        }
    }

    /// True if, once it has struck, what was acknowledged may be gone from the newest on: its cost is that, or its damage
    /// can look so. A misdirected write has also never reached its place.
    pub const fn may_lose_suffix(self) -> bool {
        matches!(self.cost(), FaultCost::Suffix) || matches!(self, Self::MisdirectedWrite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_of_its_own_and_the_same_in_json() {
        for class in FaultClass::ALL {
            assert_eq!(FaultClass::of_name(class.name()), Some(class));
            let json = serde_json::to_string(&class).expect("a name is plain data");
            assert_eq!(json, format!("{:?}", class.name()));
        }
    }
}
