//! Cases that failed once, as the model test printed them.

use holdfast::Durability::{Buffered, Flush, Sync};
use holdfast::Isolation::{Serializable, Snapshot};

use crate::case::Operation::*;
use crate::case::Shape::*;
use crate::case::View::*;
use crate::case::Write::*;
use crate::case::{Case, Operation, Settings, Walk, list};
use crate::drive::Defect;
use crate::explore::run_case;

fn check<const N: usize>(seed: u64, settings: Settings, operations: [Operation; N]) {
    let case = Case { seed, settings, operations: list(operations) };
    if let Err(report) = run_case(&case, Defect::None) {
        panic!("{report}");
    }
}

/// Not a find: shows that what is printed compiles, whatever it uses.
#[test]
fn every_kind_of_operation_can_be_pasted() {
    check(
        1,
        Settings { memtable_kib: 4, ..Settings::PLAIN },
        [
            CreateKeyspace(1),
            Commit(list([Put(0, 1, 100), Delete(1, 2), DeleteRange(0, 3, 9)]), Sync),
            Together(list([(list([Put(0, 1, 2)]), Flush), (list([Delete(0, 1)]), Buffered)])),
            TakeSnapshot(0),
            Begin(0, Serializable, Sync),
            Begin(1, Snapshot, Buffered),
            Get(InSnapshot(0), 0, 1),
            Get(Now, 0, 1),
            WriteIn(0, Put(0, 1, 5)),
            Scan(InTransaction(0), 0, Walk { shape: Everything, reverse: false, limit: Some(2) }),
            Scan(Now, 0, Walk { shape: Prefix(1, 1), reverse: true, limit: None }),
            OpenCursor(0, Now, 0, Walk { shape: Between(1, true, 9, false), reverse: false, limit: None }),
            OpenCursor(1, Now, 0, Walk { shape: After(2), reverse: true, limit: None }),
            StepCursor(0, 3),
            TakePast(1, 0),
            DropSnapshot(1),
            CommitIn(0),
            RollBack(1),
            FlushAll,
            CompactAll,
            SyncAll,
            Wait(100),
            DropKeyspace(1),
            Close,
            Kill(0),
            PowerLoss(3),
            CrashIn(5, true),
            DropAll,
        ],
    );
}

/// The tasks of a dropped opening ended late or never: a stop that came while one was busy was missed.
#[test]
fn a_dropped_opening_lets_go_of_the_directory() {
    check(
        9,
        Settings { level0_tables: 4, direct: true, paranoid: false, keys: 200, ..Settings::PLAIN },
        [Commit(list([Put(0, 31367, 129)]), Flush), Commit(list([Put(0, 45074, 235)]), Flush), DropAll],
    );
}

/// Closing gave back a reservation whose numbers had been shown before a power loss.
#[test]
fn a_sequence_that_was_seen_and_lost_is_not_given_again_after_a_close() {
    check(
        81,
        Settings::PLAIN,
        [
            Together(list([(list([Put(0, 1863, 129)]), Buffered)])),
            PowerLoss(0),
            Close,
            Commit(list([Put(0, 43123, 72)]), Buffered),
        ],
    );
}

/// The last commit was a delete that a compaction dropped with all it hid, after its log was cut: the database said
/// that it stood at the commit before, and that one's key was missing.
#[test]
fn the_last_sequence_survives_the_compaction_of_its_entries() {
    check(
        98,
        Settings { level0_tables: 1, keys: 8, ..Settings::PLAIN },
        [
            Together(list([(list([Put(0, 26856, 190)]), Sync), (list([Put(0, 42065, 100)]), Sync)])),
            Commit(list([Delete(0, 14288)]), Buffered),
            CompactAll,
            Kill(0),
        ],
    );
}

/// A reader left, which made a delete droppable, and nobody told the compaction that `wait_idle` then waited for.
#[test]
fn waiting_for_idleness_ends_after_the_last_reader_has_left() {
    check(284, Settings::PLAIN, [Commit(list([Delete(0, 43862)]), Sync), TakePast(0, 27), CompactAll]);
}

/// The only commit was `Buffered`, and its keyspace was dropped: no memtable told the flush of it, and a kill took its
/// number.
#[test]
fn a_flush_makes_commits_to_a_dropped_keyspace_durable_too() {
    check(
        93393,
        Settings::PLAIN,
        [CreateKeyspace(2), Commit(list([Put(2, 4686, 247)]), Buffered), DropKeyspace(2), FlushAll, Kill(0)],
    );
}
