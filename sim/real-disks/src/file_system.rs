//! The file systems that are compared, and which personality is theirs.

use clap::ValueEnum;
use holdfast_sim::Personality;

/// A file system of Linux.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// As the system calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The personality that is checked against it.
    pub fn personality(self) -> Personality {
        match self {
            Self::Ext4 => Personality::Ext4,
            Self::Xfs => Personality::Xfs,
            Self::Btrfs => Personality::Btrfs,
        }
    }

    /// The least that it can be made on, or a little more.
    pub fn device_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 64 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 256 << 20,
        }
    }

    /// The program that makes it.
    pub fn mkfs(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    /// Defaults but for a device that knows no discard, and pages of 4 KiB as everywhere.
    pub fn mkfs_options(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => {
                &["-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]
            }
            Self::Xfs => &["-q", "-f", "-K"],
            Self::Btrfs => &["-q", "-f", "-K"],
        }
    }

    /// Defaults.
    pub fn mount_options(self) -> &'static str {
        ""
    }

    /// Least alignment of direct I/O, in bytes.
    pub fn direct_alignment(self) -> u64 {
        match self {
            Self::Ext4 | Self::Xfs => 512,
            Self::Btrfs => 4096,
        }
    }

    /// The unit in which its device tears writes of anything but bytes of files. ext4 and btrfs write a superblock over in
    /// place, of 1 and 4 KiB with a checksum, and half of one is no file system at all: they count on its being written
    /// whole. Xfs counts on 512 bytes.
    pub fn torn_metadata_unit(self) -> u64 {
        match self {
            Self::Ext4 | Self::Btrfs => 4096,
            Self::Xfs => 512,
        }
    }

    /// Debian's package of a program.
    pub fn package_of(program: &str) -> &'static str {
        match program {
            "mkfs.ext4" => "e2fsprogs",
            "mkfs.xfs" => "xfsprogs",
            "mkfs.btrfs" => "btrfs-progs",
            _ => "util-linux",
        }
    }
}
