//! A storm: clients carry out a script on a database that is ended and opened again and again, and everything they see
//! is written down.
//!
//! ```text
//! settings + script -> opening -> clients -> history -> oracles
//!                         ^ stage: faults, crashes
//! ```
//! What outlives the process stands in [`Storm`]: the history, how far each client is, what was found wrong at once. Where
//! the storm dies with its process, a [`Witness`] outside is told each change of that, and the next process makes it anew
//! from what was told.
//!
//! One call of [`Storm::live`] is one opening. It ends when the script does, when the stage says so, when the database
//! takes no more writes, or with its process in the middle of anything; then the next one goes on. The client whose step
//! was cut off goes on with the one after it.

pub mod draw;
pub mod script;
pub mod settings;
mod state;
mod stage;
mod opening;
mod past;
mod client;
pub mod value;

use std::sync::Arc;
use std::task::Poll;

use holdfast::Error;
use holdfast::sync::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::oracle::{Violation, Wrong};
use state::State;

pub use draw::Workload;
pub use opening::Ended;
pub use script::{Patience, Script};
pub use settings::Settings;
pub use stage::{Cue, End, Stage};
pub use state::{Line, Witness};

/// What a key has that nothing was ever moved to or from.
pub const BALANCE: i64 = 1000;

/// What is counted over a whole storm.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Steps that clients began.
    pub steps: u64,
    /// Actions and calls that were answered.
    pub operations: u64,
    /// Commits with writes that were acknowledged.
    pub acknowledged: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Calls that were refused for another reason.
    pub refused: u64,
    /// Openings; the first is one of them.
    pub openings: u64,
    /// Memtables that became tables.
    pub flushes: u64,
    /// Compactions.
    pub compactions: u64,
    /// The deepest level that had tables.
    pub deepest_level: u64,
    /// Futures dropped before their end.
    pub dropped: u64,
    /// Time in which an opening was under way and no client asked for anything: all waited, as their scripts say.
    pub idle_ns: u64,
    /// Entries that came out of reads.
    pub read: u64,
    /// The same since the last opening.
    pub read_since_opening: u64,
}

/// What outlives the process.
pub struct Storm {
    settings: Settings,
    script: Script,
    state: Mutex<State>,
}

/// Violations beyond this many say nothing new.
const VIOLATIONS_MAX: usize = 8;

/// The database takes no more writes: it has to be opened again.
#[derive(Debug)]
struct Stopped;

impl Storm {
    /// A storm that has not begun.
    pub fn new(settings: Settings, script: Script) -> Arc<Self> {
        let state = Mutex::new(State::new(script.clients.len()));
        Arc::new(Self { settings, script, state })
    }

    /// Has what a line says that another process told its witness.
    ///
    /// # Errors
    /// In words: it does not fit what was told before.
    pub fn take_in(&self, line: Line) -> Result<(), String> {
        self.state().take_in(line)
    }

    /// Tells a witness of everything from now on.
    pub fn call_witness(&self, witness: Witness) {
        self.state().call_witness(witness);
    }

    /// True if no client has anything more to do.
    pub fn is_over(&self) -> bool {
        let (state, clients) = (self.state(), &self.script.clients);
        clients.iter().enumerate().all(|(number, steps)| state.next(number) > steps.len())
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Takes what was seen, and what was found wrong on the way.
    pub fn take(&self) -> (History, Vec<Violation>) {
        self.state().take()
    }

    /// A storm that has seen the same and has nothing more to do: one opening of it reads everything, and ends.
    pub fn fork_at_its_end(&self) -> Arc<Self> {
        let mut state = self.state().clone();
        state.dismiss_witness();
        state.skip_to(self.script.clients.iter().map(|steps| steps.len() + 1).collect());
        Arc::new(Self { settings: self.settings, script: self.script.clone(), state: Mutex::new(state) })
    }

    /// Transactions and milestones that were seen.
    pub fn history_len(&self) -> usize {
        let state = self.state();
        state.history().transactions.len() + state.history().milestones.len()
    }

    /// Notes something of the outside in the history.
    pub fn passes(&self, milestone: crate::history::Milestone) {
        self.state().passes(milestone);
    }

    /// True once something was found wrong: to go on would show nothing new.
    pub fn is_lost(&self) -> bool {
        !self.state().violations().is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes that something is wrong.
    pub fn wrong(&self, wrong: Wrong, what: String) {
        self.state().wrong(Violation { wrong, what });
    }

    /// Sorts an error that a call was given beside its own: it is either a fault's doing, or wrong.
    fn judge(&self, stage: &dyn Stage, error: &Error, doing: &str) -> Result<(), Stopped> {
        self.state().counts.refused += 1;
        match error {
            Error::Busy(_) => {
                // Many clients at once are reason enough; should it be a fault's doing, the stage counts it.
                stage.explains(error);
                Ok(())
            }
            _ if !stage.explains(error) => {
                self.wrong(Wrong::Unavailable, format!("{doing}: {error}, though no fault explains it"));
                Err(Stopped)
            }
            Error::Stopped(_) => Err(Stopped),
            _ => Ok(()),
        }
    }
}

/// Gives up a future that has not ended when patience does.
async fn within<F: Future>(patience: Option<Patience>, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut polls: u32 = 0;
    std::future::poll_fn(|context| {
        if let Some(Patience::Wakes(wakes)) = patience
            && polls > u32::from(wakes)
        {
            return Poll::Ready(None);
        }
        polls = polls.saturating_add(1);
        match (future.as_mut().poll(context), patience) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Some(Patience::Polls(most))) if polls > u32::from(most) => Poll::Ready(None),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}
