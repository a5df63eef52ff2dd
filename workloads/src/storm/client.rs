//! One client: takes its next step, carries it out, and writes down what it was told.
//!
//! A transaction is noted in the history before its commit is asked for, and each of its operations as soon as it is
//! answered, so whatever ends the process, the history holds what may be there at the next opening.

use std::sync::Arc;

use holdfast::{Durability, Error, Isolation, Keyspace, Seq, Snapshot, TransactionOptions, Txn, WriteBatch};

use super::opening::Opening;
use super::script::{Action, Call, Finish, KEYSPACES, Level, Step};
use super::value::encode;
use super::{Cue, Patience, Stopped, within};
use crate::history::{Body, Cell, Durable, Ending, Operation, Promise, Stamp, TxnNo, Value};
use crate::oracle::Wrong;

mod copies;
mod reading;
mod tpcc;

/// Batches of one opening of which nobody is told, at most.
const UNTOLD_MAX: u64 = 4;

/// One client of an opening.
pub(super) struct Client {
    pub(super) opening: Arc<Opening>,
    number: usize,
}

/// What a step reads through.
pub(super) enum Reader<'a> {
    /// Each read by itself.
    Now,
    /// A snapshot.
    Snapshot(&'a Snapshot),
    /// A transaction.
    Transaction(&'a Txn),
}

/// Where the writes of a step go.
enum Writer<'a> {
    Transaction(&'a mut Txn),
    Batch(&'a mut WriteBatch),
}

/// A step under way.
pub(super) struct Doing {
    pub(super) txn: TxnNo,
    pub(super) patience: Option<Patience>,
}

impl Client {
    pub(super) fn new(opening: Arc<Opening>, number: usize) -> Self {
        Self { opening, number }
    }

    /// Steps until the script or the opening is over.
    pub(super) async fn run(&self) {
        while !self.opening.is_over() {
            let storm = &self.opening.storm;
            let steps = &storm.script.clients[self.number];
            let small =
                |number: usize| u32::try_from(number).expect("fewer than 2^32 clients, and steps of each");
            let (count, place) = {
                let mut state = storm.state();
                let place = state.next(self.number);
                if place > steps.len() {
                    return;
                }
                state.step(small(self.number));
                state.counts.steps += u64::from(place < steps.len());
                (state.counts.steps, place)
            };
            if count % 32 == 0 {
                self.opening.look();
            }
            let far_back = if count % 8 == 0 { self.opening.look_far_back() } else { Ok(()) };
            let cue = self.opening.stage.step_begins(small(self.number), small(place));
            if cue == Cue::Dead {
                return std::future::pending().await;
            }
            let outcome = match steps.get(place) {
                Some(step) => {
                    self.opening
                        .stage
                        .note(&|| format!("client {} step {place}: {:?}", self.number, step.call));
                    self.step(step).await
                }
                None => Ok(()),
            };
            if let Cue::GoAndEnd(end) = cue {
                self.opening.end_with(end);
            }
            if far_back.is_err() || outcome.is_err() || storm.is_lost() {
                self.opening.end_with(super::End::Drop);
            }
        }
    }

    async fn step(&self, step: &Step) -> Result<(), Stopped> {
        let patience = step.patience;
        match &step.call {
            Call::Transact { level, durable, actions, finish } => {
                self.transact((*level, *durable), actions, *finish, patience).await
            }
            Call::Batch { durable, actions } => self.batch(*durable, actions, patience).await,
            Call::Read { view, actions } => self.read(*view, actions, patience).await,
            Call::Flush => self.make_durable(patience, Call::Flush).await,
            Call::Sync => self.make_durable(patience, Call::Sync).await,
            Call::Compact => {
                let compacted = within(patience, self.opening.db.compact()).await;
                self.answered(compacted, "compact").map(drop)
            }
            Call::Wait(us) => {
                self.pause(*us).await;
                Ok(())
            }
            Call::CreateKeyspace(slot) => self.create_keyspace(*slot, patience).await,
            Call::DropKeyspace(slot) => self.drop_keyspace(*slot, patience).await,
            Call::Checkpoint => self.copy(false, patience).await,
            Call::Backup => self.copy(true, patience).await,
            Call::Look => self.look_beside().await,
            Call::BackupBeside(us) => self.back_up_beside(*us, patience).await,
            Call::Verify => {
                drop(self.opening.verify("beside the clients").await);
                Ok(())
            }
        }
    }

    /// Lets so many microseconds pass.
    async fn pause(&self, us: u32) {
        let env = &self.opening.env;
        self.opening.pauses();
        env.sleep_until(env.now().after(u64::from(us) * 1000)).await;
        self.opening.goes_on();
    }

    /// Counts an answer; `None` if there is none, for it was given up or an error.
    pub(super) fn answered<T>(
        &self,
        answer: Option<Result<T, Error>>,
        doing: &str,
    ) -> Result<Option<T>, Stopped> {
        let storm = &self.opening.storm;
        match answer {
            Some(Ok(value)) => {
                storm.state().counts.operations += 1;
                Ok(Some(value))
            }
            Some(Err(error)) => {
                // Another client may have dropped the keyspace meanwhile.
                let is_gone = |what: &str| what.contains("dropped") || what.contains("does not exist");
                if matches!(&error, Error::Invalid(what) if is_gone(what)) {
                    return Ok(None);
                }
                self.opening.judge(&error, doing)?;
                Ok(None)
            }
            None => {
                storm.state().counts.dropped += 1;
                Ok(None)
            }
        }
    }

    /// The keyspace of this number, if it is there.
    fn keyspace(&self, slot: u8) -> Option<Keyspace> {
        self.opening.db.keyspace(KEYSPACES[usize::from(slot) % KEYSPACES.len()]).ok()
    }

    fn begin(&self, promise: Promise, durable: Durable, patience: Option<Patience>) -> Doing {
        let client = u32::try_from(self.number).expect("fewer than 2^32 clients");
        let txn = self.opening.storm.state().begin(client, self.opening.number, (promise, durable));
        Doing { txn, patience }
    }

    /// Notes through which commit's state a step reads. Whatever a client was told before must be in it.
    fn note_view(&self, doing: &Doing, view: Seq, told_before: u64) {
        let storm = &self.opening.storm;
        storm.state().views(doing.txn, view.get());
        if view.get() < told_before {
            let what =
                format!("T{} reads at {view}, but commit {told_before} was acknowledged before", doing.txn);
            storm.wrong(Wrong::OrderViolated, what);
        }
    }

    async fn transact(
        &self,
        (level, durable): (Level, Durable),
        actions: &[Action],
        finish: Finish,
        patience: Option<Patience>,
    ) -> Result<(), Stopped> {
        let (isolation, promise) = match level {
            Level::Snapshot => (Isolation::Snapshot, Promise::Snapshot),
            Level::Serializable => (Isolation::Serializable, Promise::Serializable),
        };
        let told = self.opening.storm.state().newest_told;
        let doing = self.begin(promise, durable, patience);
        let mut txn =
            self.opening.db.begin(TransactionOptions { isolation, durability: durability_of(durable) });
        self.note_view(&doing, txn.read_seq(), told);
        let mut is_whole = true;
        for action in actions {
            if action.reads() {
                is_whole = self.act_on_reads(&doing, &mut txn, action).await?;
            } else {
                self.act(&doing, Writer::Transaction(&mut txn), action)?;
            }
            if !is_whole {
                break;
            }
        }
        if finish == Finish::RollBack || !is_whole {
            txn.rollback();
            let ending = Ending::Refused("rolled back".to_owned());
            self.opening.storm.state().ends(doing.txn, ending);
            return Ok(());
        }
        self.commit(&doing, txn).await
    }

    async fn commit(&self, doing: &Doing, mut txn: Txn) -> Result<(), Stopped> {
        let token = doing.patience.is_some().then(|| txn.outcome_token());
        let told = self.note_commit(doing);
        let outcome = match (within(doing.patience, txn.commit()).await, token) {
            (Some(outcome), _) => outcome.map(Some),
            (None, Some(token)) => {
                self.opening.storm.state().counts.dropped += 1;
                token.wait().await
            }
            (None, None) => return Ok(()),
        };
        self.settle(doing, outcome, told)
    }

    /// Notes that a commit is asked for; gives the newest commit that anybody was told of.
    fn note_commit(&self, doing: &Doing) -> u64 {
        let mut state = self.opening.storm.state();
        state.commits(doing.txn);
        state.newest_told
    }

    /// Notes what became of a commit.
    fn settle(&self, doing: &Doing, outcome: Result<Option<Seq>, Error>, told: u64) -> Result<(), Stopped> {
        let storm = &self.opening.storm;
        self.opening.stage.note(&|| match &outcome {
            Ok(Some(seq)) => format!("T{} is commit {seq}", doing.txn),
            Ok(None) => format!("T{} was dropped before it was queued", doing.txn),
            Err(error) => format!("T{} was refused: {error}", doing.txn),
        });
        let ending = match outcome {
            Ok(Some(seq)) => {
                let mut state = storm.state();
                let writes = state.of(doing.txn).writes();
                state.counts.operations += 1;
                state.counts.acknowledged += u64::from(writes);
                state.newest_told = state.newest_told.max(seq.get());
                if writes && state.of(doing.txn).durable == Durable::Sync {
                    state.newest_lasting = state.newest_lasting.max(seq.get());
                }
                state.ends(doing.txn, Ending::Committed(seq.get()));
                if writes {
                    state.settle_unknown(doing.txn);
                }
                drop(state);
                if writes && seq.get() <= told {
                    let what =
                        format!("T{} is commit {seq}, but {told} was told before it was sent", doing.txn);
                    storm.wrong(Wrong::OrderViolated, what);
                }
                return Ok(());
            }
            Ok(None) => Ending::Refused("its future was dropped before it was queued".to_owned()),
            Err(Error::Conflict(_)) => {
                storm.state().counts.conflicts += 1;
                Ending::Conflict
            }
            Err(error) => {
                let is_unknown = matches!(error, Error::Stopped(_) | Error::CommitUnknown(_));
                if matches!(error, Error::CommitUnknown(_)) {
                    storm.state().is_unsettled(doing.txn);
                }
                let answer: Option<Result<(), Error>> = Some(Err(error.clone()));
                let judged = self.answered(answer, "committing");
                if !is_unknown {
                    storm.state().ends(doing.txn, Ending::Refused(error.to_string()));
                }
                return judged.map(drop);
            }
        };
        storm.state().ends(doing.txn, ending);
        Ok(())
    }

    async fn batch(
        &self,
        durable: Durable,
        actions: &[Action],
        patience: Option<Patience>,
    ) -> Result<(), Stopped> {
        let doing = self.begin(Promise::Batch, durable, patience);
        let mut batch = WriteBatch::new();
        for action in actions.iter().filter(|action| !action.reads()) {
            self.act(&doing, Writer::Batch(&mut batch), action)?;
        }
        let has_writes = self.opening.storm.state().of(doing.txn).writes();
        if !has_writes {
            return Ok(());
        }
        let told = self.note_commit(&doing);
        // Of a few that are unknown at once the model can try every order.
        let patience = patience.filter(|_| self.opening.storm.state().untold < UNTOLD_MAX);
        let sent = self.opening.db.write(batch, durability_of(durable));
        match within(patience, sent).await {
            Some(outcome) => self.settle(&doing, outcome.map(Some), told),
            None => {
                // Nobody can tell what became of it, as long as this opening lasts.
                let mut state = self.opening.storm.state();
                state.counts.dropped += 1;
                state.untold += 1;
                Ok(())
            }
        }
    }

    /// A write that depends on nothing.
    fn act(&self, doing: &Doing, mut writer: Writer<'_>, action: &Action) -> Result<(), Stopped> {
        match *action {
            Action::Put(slot, key, len) => {
                let len = len.min(self.opening.storm.settings.value_bytes_max());
                self.put(doing, &mut writer, (slot, self.key(key)), Body::Filler(len)).map(drop)
            }
            Action::Delete(slot, key) => {
                let Some(keyspace) = self.keyspace(slot) else { return Ok(()) };
                let cell = self.cell(&keyspace, &self.key(key));
                let done = match writer {
                    Writer::Transaction(txn) => txn.delete(&keyspace, &cell.key),
                    Writer::Batch(batch) => batch.delete(keyspace.id(), &cell.key).map_err(Error::from),
                };
                self.note(doing, done, Operation::Delete { cell }).map(drop)
            }
            Action::DeleteRange(slot, from, to) => {
                let Some(keyspace) = self.keyspace(slot) else { return Ok(()) };
                let (from, to) = (self.key(from), self.key(to));
                if from == to {
                    return Ok(());
                }
                let (start, end) = (from.clone().min(to.clone()), from.max(to));
                let done = match writer {
                    Writer::Transaction(txn) => txn.delete_range(&keyspace, &start, &end),
                    Writer::Batch(batch) => {
                        batch.delete_range(keyspace.id(), &start, &end).map_err(Error::from)
                    }
                };
                let interval = crate::history::Interval {
                    start: std::ops::Bound::Included(start.into()),
                    end: std::ops::Bound::Excluded(end.into()),
                };
                let keyspace = keyspace.id().get();
                self.note(doing, done, Operation::DeleteRange { keyspace, interval }).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Writes a value; false if it was refused.
    fn put(
        &self,
        doing: &Doing,
        writer: &mut Writer<'_>,
        (slot, key): (u8, Vec<u8>),
        body: Body,
    ) -> Result<bool, Stopped> {
        let Some(keyspace) = self.keyspace(slot) else { return Ok(false) };
        let cell = self.cell(&keyspace, &key);
        let operation = {
            let state = self.opening.storm.state();
            u32::try_from(state.of(doing.txn).operations.len()).expect("fewer than 2^32 operations")
        };
        let value = Value { stamp: Stamp { txn: doing.txn, operation }, body };
        let bytes = encode(&value);
        let done = match writer {
            Writer::Transaction(txn) => txn.put(&keyspace, &key, &bytes),
            Writer::Batch(batch) => batch.put(keyspace.id(), &key, &bytes).map_err(Error::from),
        };
        self.note(doing, done, Operation::Put { cell, value })
    }

    /// Notes an operation that was taken; false if it was not.
    fn note(&self, doing: &Doing, done: Result<(), Error>, operation: Operation) -> Result<bool, Stopped> {
        let is_taken = self.answered(Some(done), "writing within a transaction")?.is_some();
        if is_taken {
            self.opening.storm.state().did(doing.txn, operation);
        }
        Ok(is_taken)
    }

    fn cell(&self, keyspace: &Keyspace, key: &[u8]) -> Cell {
        Cell { keyspace: keyspace.id().get(), key: key.into() }
    }

    fn key(&self, index: u16) -> Vec<u8> {
        super::script::key_of(index % self.opening.storm.script.keys.max(1))
    }

    async fn make_durable(&self, patience: Option<Patience>, how: Call) -> Result<(), Stopped> {
        let last = self.opening.db.last_seq().get();
        let done = match how {
            Call::Flush => within(patience, self.opening.db.flush()).await,
            _ => within(patience, async { self.opening.db.sync().await.map(drop) }).await,
        };
        if self.answered(done, "making everything durable")?.is_some() {
            let mut state = self.opening.storm.state();
            state.newest_lasting = state.newest_lasting.max(last);
            state.passes(crate::history::Milestone::Synced(last));
        }
        Ok(())
    }
}

fn durability_of(durable: Durable) -> Durability {
    match durable {
        Durable::Buffered => Durability::Buffered,
        Durable::Flush => Durability::Flush,
        Durable::Sync => Durability::Sync,
    }
}
