//! Writes outside of transactions, one at a time and together.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use holdfast::{Durability, Seq, WriteBatch};

use super::{Defect, Report, Session, lock, said};
use crate::case::{List, Write};
use crate::oracle::{Bytes, Effect};

impl Session {
    /// The write as it is to be; `None` if there is nothing to do.
    pub(super) fn effect(&self, write: Write) -> Option<Effect> {
        let mut run = self.run();
        run.written += 1;
        match write {
            Write::Put(slot, key, len) => {
                let value = value_of(run.written, usize::from(len));
                Some(Effect::Put(self.keyspace(slot)?.id(), self.key(key), value))
            }
            Write::Delete(slot, key) => Some(Effect::Delete(self.keyspace(slot)?.id(), self.key(key))),
            Write::DeleteRange(slot, a, b) => {
                let (a, b) = (self.key(a), self.key(b));
                let id = self.keyspace(slot)?.id();
                (a != b).then(|| Effect::DeleteRange(id, a.clone().min(b.clone()), a.max(b)))
            }
        }
    }

    fn effects(&self, writes: &List<Write>) -> Vec<Effect> {
        writes.0.iter().filter_map(|write| self.effect(*write)).collect()
    }

    pub(super) async fn commit(
        &mut self,
        writes: &List<Write>,
        durability: Durability,
    ) -> Result<(), Report> {
        let effects = self.effects(writes);
        if effects.is_empty() {
            return Ok(());
        }
        let sent = self.run().oracle.send(effects.clone());
        let (batch, sent_as) = self.batch(&effects, durability)?;
        let seq = self.db.write(batch, sent_as).await.map_err(said)?;
        self.run().counts.commits += 1;
        self.run().oracle.acknowledged(sent, seq.get(), durability)
    }

    pub(super) async fn commit_together(
        &mut self,
        commits: &List<(List<Write>, Durability)>,
    ) -> Result<(), Report> {
        let mut sent = Vec::new();
        let mut running: Vec<Pin<Box<dyn Future<Output = holdfast::Result<Seq>> + Send + '_>>> = Vec::new();
        for (writes, durability) in &commits.0 {
            let effects = self.effects(writes);
            if effects.is_empty() {
                continue;
            }
            let (batch, sent_as) = self.batch(&effects, *durability)?;
            sent.push((self.run().oracle.send(effects), *durability));
            running.push(Box::pin(self.db.write(batch, sent_as)));
        }
        let mut answered: BTreeSet<usize> = BTreeSet::new();
        std::future::poll_fn(|context| {
            for (at, commit) in running.iter_mut().enumerate() {
                if answered.contains(&at) {
                    continue;
                }
                if let Poll::Ready(outcome) = commit.as_mut().poll(context) {
                    answered.insert(at);
                    let (number, durability) = sent[at];
                    let judged = outcome.map_err(said).and_then(|seq| {
                        lock(&self.run).counts.commits += 1;
                        lock(&self.run).oracle.acknowledged(number, seq.get(), durability)
                    });
                    if judged.is_err() {
                        return Poll::Ready(judged);
                    }
                }
            }
            if answered.len() == sent.len() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// The batch for some effects, unless a planted defect spoils it.
    pub(super) fn batch(
        &self,
        effects: &[Effect],
        durability: Durability,
    ) -> Result<(WriteBatch, Durability), Report> {
        let defect = self.run().defect;
        let written = self.run().counts.commits;
        let mut batch = WriteBatch::new();
        for (at, effect) in effects.iter().enumerate() {
            let is_last = at + 1 == effects.len();
            match effect {
                _ if defect == Defect::LosesWrite && written % 20 == 19 => {
                    batch.delete(effect.keyspace(), b"lost").map_err(said)?;
                }
                _ if defect == Defect::TearsBatch && written % 10 == 9 && is_last && at > 0 => {}
                Effect::Put(id, key, value) => batch.put(*id, key, value).map_err(said)?,
                Effect::Delete(id, key) => batch.delete(*id, key).map_err(said)?,
                Effect::DeleteRange(id, start, _) if defect == Defect::ForgetsRangeDelete => {
                    batch.delete(*id, start).map_err(said)?;
                }
                Effect::DeleteRange(id, start, end) => batch.delete_range(*id, start, end).map_err(said)?,
            }
        }
        let durability = if defect == Defect::SkipsSync { Durability::Buffered } else { durability };
        Ok((batch, durability))
    }
}

/// Different for every write; half of them compress.
fn value_of(number: u64, len: usize) -> Bytes {
    let mut value = number.to_le_bytes().to_vec();
    let mut state = number;
    while value.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.push(if number.is_multiple_of(2) { number as u8 } else { (state >> 33) as u8 });
    }
    value.truncate(len.max(8).min(value.len()));
    if len < 8 {
        value.truncate(len);
    }
    value.into()
}
