//! Transactions: begun, written in, committed or refused.

use std::collections::BTreeSet;

use holdfast::{Conflict, Durability, Error, Isolation, TransactionOptions, Txn};

use super::{Defect, Report, Session, said, slot_of};
use crate::case::Write;
use crate::oracle::{Effect, TransactionModel};

pub(super) struct OpenTransaction {
    pub(super) txn: Txn,
    pub(super) model: TransactionModel,
}

impl Session {
    pub(super) fn begin(
        &mut self,
        slot: u8,
        isolation: Isolation,
        durability: Durability,
    ) -> Result<(), Report> {
        let txn = self.db.begin(TransactionOptions { isolation, durability });
        let serial = {
            let mut run = self.run();
            run.serial += 1;
            let last = run.oracle.last();
            if txn.read_seq().get() != last {
                return Err(format!("a transaction reads at {} instead of {last}", txn.read_seq()));
            }
            run.serial
        };
        let model = TransactionModel {
            serial,
            read_seq: txn.read_seq().get(),
            isolation,
            durability,
            own: Vec::new(),
            points: BTreeSet::new(),
            ranges: Vec::new(),
        };
        self.transactions[slot_of(slot)] = Some(OpenTransaction { txn, model });
        Ok(())
    }

    pub(super) fn write_in(&mut self, slot: u8, write: Write) -> Result<(), Report> {
        if self.transactions[slot_of(slot)].is_none() {
            return Ok(());
        }
        let Some(effect) = self.effect(write) else { return Ok(()) };
        let keyspace = self.keyspaces.iter().flatten().find(|keyspace| keyspace.id() == effect.keyspace());
        let (Some(keyspace), Some(open)) = (keyspace.cloned(), &mut self.transactions[slot_of(slot)]) else {
            return Ok(());
        };
        match &effect {
            Effect::Put(_, key, value) => open.txn.put(&keyspace, key, value),
            Effect::Delete(_, key) => open.txn.delete(&keyspace, key),
            Effect::DeleteRange(_, start, end) => open.txn.delete_range(&keyspace, start, end),
        }
        .map_err(said)?;
        open.model.own.push(effect);
        Ok(())
    }

    pub(super) async fn commit_in(&mut self, slot: u8) -> Result<(), Report> {
        let Some(OpenTransaction { txn, model }) = self.transactions[slot_of(slot)].take() else {
            return Ok(());
        };
        if model.own.is_empty() {
            let seq = txn.commit().await.map_err(said)?;
            return match seq.get() == model.read_seq {
                true => Ok(()),
                false => {
                    Err(format!("a commit without writes stands at {seq} instead of {}", model.read_seq))
                }
            };
        }
        let (gone, clashes, far, sent) = {
            let mut run = self.run();
            let gone = model.own.iter().any(|effect| !run.oracle.knows(effect.keyspace()));
            let clashes = run.oracle.conflicts(&model);
            let far = self.case.settings.narrow_window && run.oracle.bytes_after(model.read_seq) > 60 << 10;
            (gone, clashes, far, run.oracle.send(model.own.clone()))
        };
        let outcome = match self.run().defect {
            Defect::SkipsCheck => None,
            _ => Some(()),
        };
        let outcome = match outcome {
            Some(()) => txn.commit().await,
            None => {
                let (batch, durability) = self.batch(&model.own, model.durability)?;
                self.db.write(batch, durability).await
            }
        };
        let mut run = self.run();
        match outcome {
            Ok(_) if gone => Err("a commit into a dropped keyspace was accepted".into()),
            Ok(seq) if clashes => Err(format!("commit {seq} was accepted, but must conflict")),
            Ok(seq) => {
                run.counts.commits += 1;
                run.oracle.acknowledged(sent, seq.get(), model.durability)
            }
            Err(Error::Conflict(conflict)) => {
                run.oracle.refused(sent);
                run.counts.conflicts += 1;
                let exceeded = matches!(conflict, Conflict::WindowExceeded { .. });
                match (clashes, exceeded && far) {
                    (true, _) | (_, true) => Ok(()),
                    _ => Err(format!("refused, though nothing clashes: {conflict}")),
                }
            }
            Err(Error::Invalid(_)) if gone => {
                run.oracle.refused(sent);
                Ok(())
            }
            Err(error) => Err(said(error)),
        }
    }
}
