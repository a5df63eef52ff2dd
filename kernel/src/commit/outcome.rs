//! The outcome of a commit, for whoever may lose the future that would have given it.
//!
//! ```text
//! token taken ─ dropped or rolled back ─────────────────────► Ok(None)
//!             └ commit ─┬ refused before it was queued ──────► its error
//!                       └ queued ─┬ answered by its leader ──► Ok(Some(seq)) or its error
//!                                 └ the database was dropped ► Stopped: nobody knows
//! ```
//! A [`Teller`] travels with the writes, first in the transaction, then in the request. It tells exactly once: at the
//! latest when it is dropped, and then what being dropped means where it is.

use crate::error::{Error, Result};
use crate::sync::{Mutex, oneshot};
use crate::types::Seq;

/// Tells what became of a transaction when the future of its commit is gone: see
/// [`Txn::outcome_token`](crate::Txn::outcome_token).
#[derive(Debug)]
pub struct OutcomeToken {
    told: oneshot::Receiver<Result<Option<Seq>>>,
}

impl OutcomeToken {
    /// Waits until the outcome is certain: the commit's place in the order, or `None` if the transaction was rolled
    /// back or dropped, or its commit's future was dropped before it was queued. O(1).
    ///
    /// # Errors
    /// What the commit was refused with: nothing was written then, nor will it be. Only after `Stopped` and
    /// `CommitUnknown` is it uncertain: at the next opening the commit is there, whole, or it is not; look for what it
    /// wrote. A later commit that succeeds in this opening settles `CommitUnknown`: it never happened.
    pub async fn wait(self) -> Result<Option<Seq>> {
        let unknown = || Err(Error::Stopped("the database was dropped in the middle of a commit".into()));
        self.told.await.unwrap_or_else(|_| unknown())
    }
}

/// The other end of the tokens of one transaction.
#[derive(Default)]
pub(crate) struct Teller {
    tokens: Mutex<Vec<oneshot::Sender<Result<Option<Seq>>>>>,
    queued: bool,
}

impl Teller {
    /// A further token.
    pub fn token(&mut self) -> OutcomeToken {
        let (sender, told) = oneshot::channel();
        self.tokens.lock().push(sender);
        OutcomeToken { told }
    }

    /// From here on whoever drops it leaves the outcome unknown.
    #[must_use]
    pub fn queued(mut self) -> Self {
        self.queued = true;
        self
    }

    /// Tells all tokens, unless it did; whoever holds one may have gone.
    pub fn tell(&self, outcome: &Result<Option<Seq>>) {
        let tokens = std::mem::take(&mut *self.tokens.lock());
        for token in tokens {
            let _ = token.send(outcome.clone());
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // A sender that is dropped without a word says that nobody knows.
        if !self.queued {
            self.tell(&Ok(None));
        }
    }
}
