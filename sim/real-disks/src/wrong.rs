//! A model made wrong on purpose: it promises what no file system keeps, and a check that is worth something sees it.

use std::path::Path;

use clap::ValueEnum;
use holdfast::env::Env;

use crate::file_system::FileSystem;
use crate::perform::Handles;
use crate::sequence::{Operation, Sequence};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Wrong {
    /// A rename is durable at once.
    RenameDurable,
    /// A new name is durable at once.
    CreateDurable,
    /// A write is durable at once.
    WriteDurable,
    /// `sync_data` makes all names of its directory durable.
    SyncDataNames,
    /// A `dsync` write makes all earlier writes of its file durable.
    DsyncAll,
    /// A size that grew by a write is never seen before the file is synced.
    SizeWaits,
    /// Names reach the disk only by a sync.
    NamesWait,
    /// A write is never torn.
    NeverTorn,
    /// What a failed sync left behind is made durable by the next one.
    SecondSync,
}

impl Wrong {
    /// All, for the self-test.
    pub const ALL: [Self; 9] = [
        Self::RenameDurable,
        Self::CreateDurable,
        Self::WriteDurable,
        Self::SyncDataNames,
        Self::DsyncAll,
        Self::SizeWaits,
        Self::NamesWait,
        Self::NeverTorn,
        Self::SecondSync,
    ];

    /// False where the file system does what is wrong elsewhere, so that no state can tell.
    ///
    /// - btrfs never tears a page, and hardly a longer write.
    /// - On btrfs a `dsync` write takes all earlier writes of its file along: it ends in `btrfs_sync_file`, which
    ///   sets its range to the whole file, whatever it was asked for, writes all of it back and waits for it before it
    ///   logs and flushes. Seen on Linux 6.18, from copies of the device made as soon as a `dsync` write of 512 bytes was
    ///   answered: 80 of 80 earlier cached writes at other places of the file were there, and none of 80 without that write.
    ///   The model still says that they may be lost, as no program may count on this.
    pub fn is_possible_on(self, file_system: FileSystem) -> bool {
        !(file_system == FileSystem::Btrfs && matches!(self, Self::NeverTorn | Self::DsyncAll))
    }

    /// True if it is wrong about what a failed sync leaves.
    pub fn is_about_failures(self) -> bool {
        self == Self::SecondSync
    }

    /// What the wrong model does beyond an operation. That it fails where the right one would not is no matter.
    pub async fn after(
        self,
        env: &dyn Env,
        sequence: &Sequence,
        handles: &mut Handles,
        number: u16,
        operation: &Operation,
    ) {
        let disk = env.disk();
        match (self, operation) {
            (Self::RenameDurable, Operation::Rename { from, to }) => {
                let _ = disk.sync_dir(&directory_of(from)).await;
                let _ = disk.sync_dir(&directory_of(to)).await;
            }
            (Self::CreateDurable, Operation::Create { path, .. }) => {
                let _ = disk.sync_dir(&directory_of(path)).await;
            }
            (Self::WriteDurable, Operation::Write { slot, .. }) => {
                if let Some(file) = handles.get(slot).cloned() {
                    let _ = file.sync_data().await;
                }
            }
            (Self::DsyncAll, Operation::Write { slot, .. }) if sequence.mode_of(*slot, number).dsync => {
                if let Some(file) = handles.get(slot).cloned() {
                    let _ = file.sync_data().await;
                }
            }
            (Self::SyncDataNames, Operation::SyncData { .. }) => {
                for path in ["/", "/d", "/f"] {
                    let _ = disk.sync_dir(Path::new(path)).await;
                }
            }
            _ => {}
        }
    }
}

fn directory_of(path: &str) -> std::path::PathBuf {
    Path::new("/").join(Path::new(path).parent().unwrap_or(Path::new("")))
}
