//! The ordered map of versions: what every answer must be.
//!
//! It keeps for each keyspace and key every version ever visible, and the commits of the present opening for judging
//! conflicts. A read at `Seq` *s* is the newest version ≤ *s*; a lost commit is taken out again.
//!
//! After a crash the database says by its last `Seq` which commits survived. Allowed is: every commit up to it and
//! none after it; it is not below the newest commit that had to survive this kind of crash; commits that were under
//! way may be there or not, whole, at any free place of the order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use holdfast::{Durability, Isolation, KeyspaceId};

/// A key or value.
pub type Bytes = Arc<[u8]>;
/// An interval of keys.
pub type Interval = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// Everything in the keyspaces, by name.
pub type Contents = BTreeMap<String, (KeyspaceId, BTreeMap<Vec<u8>, Vec<u8>>)>;

/// One write as it is sent.
#[derive(Clone, Debug)]
pub enum Effect {
    Put(KeyspaceId, Vec<u8>, Bytes),
    Delete(KeyspaceId, Vec<u8>),
    DeleteRange(KeyspaceId, Vec<u8>, Vec<u8>),
}

impl Effect {
    pub fn keyspace(&self) -> KeyspaceId {
        match self {
            Self::Put(id, ..) | Self::Delete(id, _) | Self::DeleteRange(id, ..) => *id,
        }
    }

    fn interval(&self) -> Interval {
        match self {
            Self::Put(_, key, _) | Self::Delete(_, key) => {
                (Bound::Included(key.clone()), Bound::Included(key.clone()))
            }
            Self::DeleteRange(_, start, end) => {
                (Bound::Included(start.clone()), Bound::Excluded(end.clone()))
            }
        }
    }

    /// An upper bound of what remembering it costs.
    fn bytes_at_most(&self) -> u64 {
        200 + match self {
            Self::Put(_, key, value) => key.len() + value.len(),
            Self::Delete(_, key) => key.len(),
            Self::DeleteRange(_, start, end) => start.len() + end.len(),
        } as u64
    }
}

struct Commit {
    seq: u64,
    effects: Vec<Effect>,
}

/// A commit that was sent and not yet answered.
#[derive(Clone)]
pub struct Pending {
    number: u64,
    /// The newest visible commit when it was sent.
    after: u64,
    effects: Vec<Effect>,
}

/// How an opening ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    Closed,
    Killed,
    PowerLost,
}

/// What a transaction has read and written.
pub struct TransactionModel {
    pub serial: u64,
    pub read_seq: u64,
    pub isolation: Isolation,
    pub durability: Durability,
    pub own: Vec<Effect>,
    pub points: BTreeSet<(KeyspaceId, Vec<u8>)>,
    pub ranges: Vec<(KeyspaceId, Interval)>,
}

type Versions = BTreeMap<KeyspaceId, BTreeMap<Vec<u8>, Vec<(u64, Option<Bytes>)>>>;

/// The map of versions and what is known of the commits that made it.
#[derive(Default)]
pub struct Oracle {
    keyspaces: BTreeMap<KeyspaceId, String>,
    versions: Versions,
    /// The commits of this opening, in order.
    commits: Vec<Commit>,
    /// The first and last commit of each earlier opening that made any: between them no number is left out.
    stretches: Vec<(u64, u64)>,
    last: u64,
    /// The last commit that this opening found.
    base: u64,
    /// The greatest `Seq` that anybody was ever told.
    told: u64,
    survives_kill: u64,
    survives_power_loss: u64,
    worst_end: Option<End>,
    pending: Vec<Pending>,
    sent: u64,
    pub creating: Option<String>,
    pub dropping: Option<KeyspaceId>,
    /// Set between the first opening's creation of the directory and its success.
    pub opened_once: bool,
}

impl Oracle {
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many commits came after `seq`. Numbers leap where a crash took what a reader may have seen.
    pub fn commits_after(&self, seq: u64) -> u64 {
        let current = self.commits.first().map(|first| (first.seq, self.last));
        let stretches = self.stretches.iter().copied().chain(current);
        stretches.map(|(first, last)| (last + 1).saturating_sub(first.max(seq + 1))).sum()
    }

    pub fn knows(&self, keyspace: KeyspaceId) -> bool {
        self.keyspaces.contains_key(&keyspace)
    }

    pub fn created(&mut self, keyspace: KeyspaceId, name: &str) {
        self.creating = None;
        self.keyspaces.insert(keyspace, name.to_string());
    }

    pub fn dropped(&mut self, keyspace: KeyspaceId) {
        self.dropping = None;
        self.keyspaces.remove(&keyspace);
    }

    /// A commit is about to be sent.
    pub fn send(&mut self, effects: Vec<Effect>) -> u64 {
        self.sent += 1;
        self.pending.push(Pending { number: self.sent, after: self.last, effects });
        self.sent
    }

    /// It was refused.
    pub fn refused(&mut self, number: u64) {
        self.pending.retain(|pending| pending.number != number);
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, number: u64, seq: u64, durability: Durability) -> Result<(), String> {
        let at = self.pending.iter().position(|pending| pending.number == number).expect("it was sent");
        let pending = self.pending.remove(at);
        if seq <= pending.after {
            return Err(format!(
                "commit {seq} was numbered at or below {}, which was visible",
                pending.after
            ));
        }
        if self.commits.iter().any(|commit| commit.seq == seq) {
            return Err(format!("two commits are numbered {seq}"));
        }
        if self.commits.is_empty() && seq <= self.told {
            return Err(format!("commit {seq} has a number given before: {} was told", self.told));
        }
        self.told = self.told.max(seq);
        if durability >= Durability::Flush {
            self.survives_kill = self.survives_kill.max(seq);
        }
        if durability == Durability::Sync {
            self.survives_power_loss = self.survives_power_loss.max(seq);
        }
        let at = self.commits.partition_point(|commit| commit.seq < seq);
        // Of commits sent together a later one may be answered first.
        let redo: Vec<Commit> = self.commits.drain(at..).collect();
        if !redo.is_empty() {
            forget_after(&mut self.versions, seq);
        }
        self.commits.push(Commit { seq, effects: pending.effects });
        self.commits.extend(redo);
        for commit in &self.commits[at..] {
            apply(&mut self.versions, commit.seq, &commit.effects);
        }
        self.last = self.last.max(seq);
        Ok(())
    }

    /// Everything so far is durable.
    pub fn synced(&mut self, seq: u64) {
        self.survives_kill = self.survives_kill.max(seq);
        self.survives_power_loss = self.survives_power_loss.max(seq);
    }

    /// The opening, or an attempt at one, has ended.
    pub fn ended(&mut self, end: End) {
        self.worst_end = self.worst_end.max(Some(end));
    }

    /// The version of `key` that a reader at `seq` sees.
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], seq: u64) -> Option<Bytes> {
        newest(self.versions.get(&keyspace)?.get(key)?, seq)
    }

    /// What a reader at `seq` finds in an interval, ascending.
    pub fn range(&self, keyspace: KeyspaceId, interval: &Interval, seq: u64) -> BTreeMap<Vec<u8>, Bytes> {
        let Some(keys) = self.versions.get(&keyspace) else { return BTreeMap::new() };
        if is_empty(interval) {
            return BTreeMap::new();
        }
        keys.range::<Vec<u8>, _>((interval.0.as_ref(), interval.1.as_ref()))
            .filter_map(|(key, versions)| Some((key.clone(), newest(versions, seq)?)))
            .collect()
    }

    /// Must this transaction be refused for a conflict?
    pub fn conflicts(&self, transaction: &TransactionModel) -> bool {
        let later = || self.commits.iter().filter(|commit| commit.seq > transaction.read_seq);
        let mut touched: Vec<(KeyspaceId, Interval)> =
            transaction.own.iter().map(|effect| (effect.keyspace(), effect.interval())).collect();
        if transaction.isolation == Isolation::Serializable {
            touched.extend(
                transaction
                    .points
                    .iter()
                    .map(|(id, key)| (*id, (Bound::Included(key.clone()), Bound::Included(key.clone())))),
            );
            touched.extend(transaction.ranges.iter().cloned());
        }
        later().flat_map(|commit| &commit.effects).any(|effect| {
            touched
                .iter()
                .any(|(id, interval)| *id == effect.keyspace() && meet(interval, &effect.interval()))
        })
    }

    /// An upper bound of the bytes of the commits after `seq`.
    pub fn bytes_after(&self, seq: u64) -> u64 {
        let later = self.commits.iter().filter(|commit| commit.seq > seq);
        later.flat_map(|commit| &commit.effects).map(Effect::bytes_at_most).sum()
    }

    /// Judges what an opening found, and goes on from there.
    pub fn opened(&mut self, found_last: u64, found: &Contents) -> Result<(), String> {
        let end = self.worst_end.take().unwrap_or(End::Closed);
        self.judge_keyspaces(found)?;
        let least = match end {
            End::Closed => self.last,
            End::Killed => self.survives_kill,
            End::PowerLost => self.survives_power_loss,
        };
        if found_last < least {
            return Err(format!("{end:?}: the last commit is {found_last}, but {least} had to survive"));
        }
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            self.forget_commits_after(found_last);
            if found_last != self.last {
                return Err(format!(
                    "{end:?}: the last commit is {found_last}, which never was; {} was",
                    self.last
                ));
            }
            self.compare(found).map_err(|difference| format!("{end:?}: as of {found_last}: {difference}"))?;
        } else {
            self.settle(found_last, found, &pending)
                .map_err(|difference| format!("{end:?}: {difference}"))?;
        }
        if let Some(first) = self.commits.first() {
            self.stretches.push((first.seq, found_last));
        }
        self.commits.clear();
        self.last = found_last;
        self.base = found_last;
        self.told = self.told.max(found_last);
        self.synced(found_last);
        // Commits beyond what survived may have raised these; their numbers are dead.
        self.survives_kill = found_last;
        self.survives_power_loss = found_last;
        Ok(())
    }

    fn judge_keyspaces(&mut self, found: &Contents) -> Result<(), String> {
        if let Some(name) = self.creating.take()
            && let Some((id, _)) = found.get(&name)
        {
            self.keyspaces.insert(*id, name);
        }
        if let Some(id) = self.dropping.take()
            && !found.values().any(|(found, _)| *found == id)
        {
            self.keyspaces.remove(&id);
        }
        if !self.opened_once {
            self.opened_once = true;
            let (id, _) = found.get("default").ok_or("a new database has no default keyspace")?;
            self.keyspaces.insert(*id, "default".into());
        }
        let there: BTreeMap<KeyspaceId, String> =
            found.iter().map(|(name, (id, _))| (*id, name.clone())).collect();
        match there == self.keyspaces {
            true => Ok(()),
            false => Err(format!("the keyspaces are {there:?} instead of {:?}", self.keyspaces)),
        }
    }

    fn forget_commits_after(&mut self, seq: u64) {
        if let Some(first) = self.commits.iter().position(|commit| commit.seq > seq) {
            let before = first.checked_sub(1).map(|at| self.commits[at].seq);
            let oldest_lost = self.commits[first].seq;
            self.commits.truncate(first);
            forget_after(&mut self.versions, oldest_lost - 1);
            self.last = before.unwrap_or(self.base);
        }
    }

    /// Finds places in the order for the commits that were under way.
    fn settle(&mut self, found_last: u64, found: &Contents, pending: &[Pending]) -> Result<(), String> {
        let after = pending.iter().map(|pending| pending.after).min().expect("there are some");
        let started_here = self.commits.iter().any(|commit| commit.seq <= after);
        let known: Vec<u64> = self.commits.iter().map(|commit| commit.seq).collect();
        let most = (pending.len() + known.iter().filter(|seq| **seq > after).count()) as u64;
        let slots: Vec<u64> = (found_last.saturating_sub(most).max(after) + 1..=found_last)
            .filter(|seq| !known.contains(seq))
            .collect();
        self.commits.retain(|commit| commit.seq <= found_last);
        let base = self.versions.clone();
        let mut differences = Vec::new();
        for places in assignments(pending.len(), &slots) {
            let filled: BTreeSet<u64> = places.iter().flatten().copied().collect();
            let reached =
                filled.iter().chain(&known).chain([&self.base]).filter(|seq| **seq <= found_last).max();
            // Numbers within an opening are given without holes, and a prefix has none either.
            if reached != Some(&found_last)
                || (started_here && slots.iter().any(|slot| !filled.contains(slot)))
            {
                continue;
            }
            let mut versions = base.clone();
            forget_after(&mut versions, after.min(found_last));
            let mut all: Vec<(u64, &Vec<Effect>)> = self
                .commits
                .iter()
                .filter(|commit| commit.seq > after)
                .map(|c| (c.seq, &c.effects))
                .collect();
            let assigned = places.iter().zip(pending);
            all.extend(assigned.filter_map(|(place, pending)| place.map(|seq| (seq, &pending.effects))));
            all.sort_by_key(|(seq, _)| *seq);
            for (seq, effects) in all {
                apply(&mut versions, seq, effects);
            }
            self.versions = versions;
            match self.compare(found) {
                Ok(()) => return Ok(()),
                Err(difference) => differences.push(difference),
            }
        }
        Err(format!(
            "the last commit is {found_last}, after {after} with {} commits under way, and no order of them gives \
             what is there: {differences:?}",
            pending.len()
        ))
    }

    /// The newest state against what was found.
    fn compare(&self, found: &Contents) -> Result<(), String> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        for (name, (id, entries)) in found {
            let expected = self.range(*id, &all, u64::MAX);
            let equal = expected.len() == entries.len()
                && expected.iter().zip(entries).all(|((a, x), (b, y))| a == b && x[..] == y[..]);
            if !equal {
                let missing =
                    expected.iter().find(|(key, value)| entries.get(*key).is_none_or(|v| v[..] != value[..]));
                let extra =
                    entries.iter().find(|(key, value)| expected.get(*key).is_none_or(|v| v[..] != value[..]));
                return Err(format!(
                    "keyspace {name} differs: expected {}, found {}",
                    shown(missing),
                    shown(extra)
                ));
            }
        }
        Ok(())
    }
}

fn shown<V: AsRef<[u8]>>(entry: Option<(&Vec<u8>, &V)>) -> String {
    entry.map_or_else(
        || "nothing more".into(),
        |(key, value)| {
            let value = value.as_ref();
            format!("{} = {} bytes {:?}", key.escape_ascii(), value.len(), &value[..value.len().min(8)])
        },
    )
}

/// Every way of giving `count` commits different places, or none.
fn assignments(count: usize, slots: &[u64]) -> Vec<Vec<Option<u64>>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        let longer = |places: Vec<Option<u64>>| {
            let free = slots.iter().copied().filter(|slot| !places.contains(&Some(*slot))).map(Some);
            let options: Vec<Option<u64>> = free.chain([None]).collect();
            options.into_iter().map(move |place| [places.clone(), vec![place]].concat())
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

fn newest(versions: &[(u64, Option<Bytes>)], seq: u64) -> Option<Bytes> {
    versions.iter().rev().find(|(at, _)| *at <= seq).and_then(|(_, value)| value.clone())
}

fn apply(versions: &mut Versions, seq: u64, effects: &[Effect]) {
    for effect in effects {
        let keys = versions.entry(effect.keyspace()).or_default();
        match effect {
            Effect::Put(_, key, value) => set(keys.entry(key.clone()).or_default(), seq, Some(value.clone())),
            Effect::Delete(_, key) => set(keys.entry(key.clone()).or_default(), seq, None),
            Effect::DeleteRange(_, start, end) => {
                for (_, versions) in keys.range_mut::<Vec<u8>, _>(start.clone()..end.clone()) {
                    set(versions, seq, None);
                }
            }
        }
    }
}

fn set(versions: &mut Vec<(u64, Option<Bytes>)>, seq: u64, value: Option<Bytes>) {
    match versions.last_mut() {
        Some((last, newest)) if *last == seq => *newest = value,
        _ => versions.push((seq, value)),
    }
}

fn forget_after(versions: &mut Versions, seq: u64) {
    for versions in versions.values_mut().flat_map(BTreeMap::values_mut) {
        let kept = versions.partition_point(|(at, _)| *at <= seq);
        versions.truncate(kept);
    }
}

/// True if no key can lie in it.
pub fn is_empty(interval: &Interval) -> bool {
    match (&interval.0, &interval.1) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
        _ => false,
    }
}

/// True if some key can lie in both. No key of the model is another one's direct successor, so open ends need no care.
fn meet(a: &Interval, b: &Interval) -> bool {
    let start = |x: &Bound<Vec<u8>>, y: &Bound<Vec<u8>>| match (x, y) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => other.clone(),
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y)) if y > x => Bound::Included(y.clone()),
        (Bound::Included(x) | Bound::Excluded(x), Bound::Excluded(y)) if y >= x => Bound::Excluded(y.clone()),
        (other, _) => other.clone(),
    };
    let end = |x: &Bound<Vec<u8>>, y: &Bound<Vec<u8>>| match (x, y) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => other.clone(),
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y)) if y < x => Bound::Included(y.clone()),
        (Bound::Included(x) | Bound::Excluded(x), Bound::Excluded(y)) if y <= x => Bound::Excluded(y.clone()),
        (other, _) => other.clone(),
    };
    !is_empty(a) && !is_empty(b) && !is_empty(&(start(&a.0, &b.0), end(&a.1, &b.1)))
}
