//! What tests of the kernel share: small settings and scenes, and disks that fail, refuse or forget.

pub mod draw;
pub mod flaky;
pub mod memory;
pub mod other_disk;
pub mod scene;
pub mod settings;
pub mod unwritable;
