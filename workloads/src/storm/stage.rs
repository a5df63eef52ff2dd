//! What surrounds a storm: the world that its database lives in, and dies in.
//!
//! The simulator's stage arms faults and crashes at the steps that a plan names; on that of a real directory nothing goes
//! wrong until somebody outside kills the process. The storm itself cannot tell them apart.

use std::path::Path;
use std::sync::Arc;

use holdfast::Error;
use holdfast::env::{BoxFuture, Env};

/// How an opening ends on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It is closed.
    Close,
    /// Its handles are dropped, which equals a kill of the process.
    Drop,
}

/// What a client does with its next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cue {
    /// Carries it out.
    Go,
    /// Carries it out; afterwards the opening ends.
    GoAndEnd(End),
    /// Nothing: the process is dead already.
    Dead,
}

/// See the module's header. Calls must be cheap, and wait for nothing.
pub trait Stage: Send + Sync {
    /// The world, of this life of the process.
    fn env(&self) -> Arc<dyn Env>;

    /// Where the database is.
    fn dir(&self) -> &Path;

    /// Runs a client, beside the others.
    fn spawn(&self, name: &'static str, client: BoxFuture<'static, ()>);

    /// This step of this client begins, both counted from 0; the one behind its last when it has no more.
    fn step_begins(&self, client: u32, step: u32) -> Cue;

    /// Something happened that whoever looks at the run wants to see beside what the disk does. `text` is asked for only
    /// where somebody looks.
    fn note(&self, _text: &dyn Fn() -> String) {}

    /// True if the opening that begins demands the newest commit that must have lasted, for the disk may be another one.
    fn demands(&self) -> bool {
        false
    }

    /// Such an opening was refused for its demand, as it had to be; else, commits of which clients were told are gone.
    fn meets_replacement(&self, _is_refused: bool) {}

    /// True once nothing goes wrong any more: then everything must work.
    fn is_calm(&self) -> bool;

    /// True if a fault so far may keep this file from being read.
    fn may_be_unreadable(&self, file: &Path) -> bool;

    /// True if the disk may have lied about what is durable: then the newest commits may be gone.
    fn may_have_lost(&self) -> bool {
        false
    }

    /// True if a fault may be what the error of now tells of.
    fn explains(&self, error: &Error) -> bool;
}
