//! A sequence on the real file system: what its device was asked to do, and how far each operation had come.

use std::fs;
use std::sync::Arc;

use holdfast::blocking::block_on;
use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Env, IoResult};
use nix::unistd::syncfs;

use crate::device::{Pages, Request};
use crate::perform::{Handles, perform, reopen};
use crate::rig::Rig;
use crate::sequence::{Operation, Sequence};

/// What the device was asked to do while the operations ran.
pub struct Recorded {
    /// What it held before.
    pub base: Arc<Pages>,
    /// From the mount on.
    pub log: Vec<Request>,
    /// Requests logged when the file system was mounted.
    pub start: usize,
    /// Requests logged when each operation was answered.
    pub ends: Vec<usize>,
}

/// The operations that make a fresh file system what it is when a sequence begins. Gives the device's content.
pub fn prepare(rig: &Rig, fresh: &Arc<Pages>, sequence: &Sequence) -> Result<Arc<Pages>, String> {
    rig.device.load(fresh);
    let mounted = rig.mount()?;
    let env = LinuxEnv::new();
    let mut handles = Handles::new();
    for (number, operation) in sequence.all().take(sequence.before.len()) {
        block_on(perform(&*env, &rig.root(), &mut handles, number, operation, &mut || {}))
            .map_err(|error| format!("seed {}: {operation}: {error}", sequence.seed))?;
    }
    drop(handles);
    mounted.unmount()?;
    rig.device.settle();
    Ok(rig.device.base())
}

/// Runs the operations of a sequence; none may fail.
pub fn record(rig: &Rig, fresh: &Arc<Pages>, sequence: &Sequence) -> Result<Recorded, String> {
    let base = prepare(rig, fresh, sequence)?;
    let mounted = rig.mount()?;
    let start = rig.device.logged();
    let mut running = Running::new(rig, sequence)?;
    let mut ends = Vec::with_capacity(sequence.operations.len());
    for (position, operation) in sequence.operations.iter().enumerate() {
        running
            .perform(position, operation)
            .map_err(|error| format!("seed {}: {operation}: {error}", sequence.seed))?;
        ends.push(rig.device.logged());
    }
    let log = rig.device.log();
    drop(running);
    mounted.unmount()?;
    Ok(Recorded { base, log, start, ends })
}

/// A sequence under way on a mounted file system.
pub struct Running<'a> {
    env: Arc<LinuxEnv>,
    rig: &'a Rig,
    sequence: &'a Sequence,
    pub handles: Handles,
}

impl<'a> Running<'a> {
    /// Opens the files that are there.
    pub fn new(rig: &'a Rig, sequence: &'a Sequence) -> Result<Self, String> {
        let env = LinuxEnv::new();
        let handles = block_on(reopen(&*env, &rig.root(), &sequence.before))
            .map_err(|error| format!("seed {}: {error}", sequence.seed))?;
        Ok(Self { env, rig, sequence, handles })
    }

    /// Carries out one operation.
    pub fn perform(&mut self, position: usize, operation: &Operation) -> IoResult<()> {
        let root = self.rig.root();
        if *operation == Operation::Commit {
            // Says nothing of the operations: an error of it is found by the next sync.
            if let Ok(directory) = fs::File::open(&root) {
                let _ = syncfs(&directory);
            }
            return Ok(());
        }
        let number = self.sequence.number_of(position);
        let env: &dyn Env = &*self.env;
        block_on(perform(env, &root, &mut self.handles, number, operation, &mut || {}))
    }
}
