//! Where a case runs: in a process of the simulated world, or in a real directory.

use std::path::PathBuf;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::env::linux::LinuxEnv;
use holdfast_sim::{Crash, Process};

use crate::oracle::End;

/// Where the database is and how its process dies.
#[derive(Clone)]
pub enum Place {
    Simulated(Process),
    /// A real process cannot die within a test: it drops every handle instead.
    Real(PathBuf),
}

impl Place {
    pub fn env(&self) -> Arc<dyn Env> {
        match self {
            Self::Simulated(process) => process.env(),
            Self::Real(_) => LinuxEnv::new(),
        }
    }

    pub fn dir(&self) -> PathBuf {
        match self {
            Self::Simulated(_) => "/db".into(),
            Self::Real(dir) => dir.clone(),
        }
    }

    /// Ends the process that calls this, and gives how it ended; the call returns only where it cannot be ended.
    pub async fn die(&self, end: End) -> End {
        match (self, end) {
            (Self::Simulated(process), End::PowerLost) => process.power_loss(),
            (Self::Simulated(process), _) => process.kill(),
            (Self::Real(_), _) => return End::Killed,
        }
        std::future::pending().await
    }

    /// Lets the process die so many disk calls from now.
    pub fn die_in(&self, calls: u64, end: End) {
        if let Self::Simulated(process) = self {
            let crash = if end == End::PowerLost { Crash::PowerLoss } else { Crash::Kill };
            process.crash_at(process.io_calls() + calls, crash);
        }
    }

    pub fn live_on(&self) {
        if let Self::Simulated(process) = self {
            process.cancel_crash();
        }
    }
}
