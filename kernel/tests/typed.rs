//! Typed keyspaces against a model: every walk that can be asked for, as of now, as of a snapshot and in a transaction,
//! and the same from beside the writer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::support::scene::{DIR, simulate, small_keyspace, small_options, within};
use holdfast::key::Descending;
use holdfast::{Db, Error, Result, TypedKeyspace, TypedReadOnlyKeyspace, TypedScan};
use holdfast_sim::World;

type Key = (u64, Descending<u64>);
type Model = BTreeMap<(u64, Reverse<u64>), i64>;

fn key(group: u64, number: u64) -> Key {
    (group, Descending(number))
}

fn order(key: &Key) -> (u64, Reverse<u64>) {
    (key.0, Reverse(key.1.0))
}

/// What is asked of a walk, for the kernel and for the model.
#[derive(Clone, Debug)]
struct Ask {
    bounds: (Bound<Key>, Bound<Key>),
    prefix: Option<u64>,
    reverse: bool,
    limit: Option<u64>,
    after: Option<Key>,
}

impl Ask {
    fn draw(world: &World) -> Self {
        let some_key = || key(world.random_below(5), world.random_below(12));
        let bound = || match world.random_below(3) {
            0 => Bound::Included(some_key()),
            1 => Bound::Excluded(some_key()),
            _ => Bound::Unbounded,
        };
        let prefix = (world.random_below(3) == 0).then(|| world.random_below(5));
        // Within the prefix, as the last key of a page is.
        let after_key = || key(prefix.unwrap_or_else(|| world.random_below(5)), world.random_below(12));
        let after = (world.random_below(3) == 0).then(after_key);
        let bounds = (bound(), bound());
        let limit = (world.random_below(2) == 0).then(|| world.random_below(8));
        Self { bounds, prefix, reverse: world.random_below(2) == 0, limit, after }
    }

    fn scan(&self) -> TypedScan<Key> {
        let mut scan = match self.prefix {
            Some(group) => TypedScan::prefix(&(group,)),
            None => TypedScan::range(self.bounds),
        };
        if self.reverse {
            scan = scan.reverse();
        }
        if let Some(after) = &self.after {
            scan = scan.after(after);
        }
        match self.limit {
            Some(limit) => scan.limit(limit),
            None => scan,
        }
    }

    fn of_model(&self, model: &Model) -> Vec<(Key, i64)> {
        let at = |bound: &Bound<Key>| bound.as_ref().map(order);
        let (mut start, mut end) = match self.prefix {
            Some(group) => {
                (Bound::Included((group, Reverse(u64::MAX))), Bound::Included((group, Reverse(0))))
            }
            None => (at(&self.bounds.0), at(&self.bounds.1)),
        };
        match (&self.after, self.reverse) {
            (Some(after), false) => start = Bound::Excluded(order(after)),
            (Some(after), true) => end = Bound::Excluded(order(after)),
            (None, _) => {}
        }
        let inside = |at: &(u64, Reverse<u64>)| {
            let from = match &start {
                Bound::Included(start) => at >= start,
                Bound::Excluded(start) => at > start,
                Bound::Unbounded => true,
            };
            let to = match &end {
                Bound::Included(end) => at <= end,
                Bound::Excluded(end) => at < end,
                Bound::Unbounded => true,
            };
            from && to
        };
        let mut found: Vec<(Key, i64)> = model
            .iter()
            .filter(|(at, _)| inside(at))
            .map(|(&(group, Reverse(number)), value)| (key(group, number), *value))
            .collect();
        if self.reverse {
            found.reverse();
        }
        found.truncate(self.limit.map_or(usize::MAX, |limit| limit as usize));
        found
    }
}

/// One change of the keyspace and of the model, by itself or within a transaction.
async fn change(
    world: &World,
    typed: &TypedKeyspace<Key, i64>,
    txn: Option<&mut holdfast::Txn>,
    model: &mut Model,
) -> Result<()> {
    let (group, number) = (world.random_below(5), world.random_below(12));
    let (at, value) = (key(group, number), world.random_u64() as i64);
    match (world.random_below(12), txn) {
        (0, txn) => {
            let (start, end) = (key(group, number + 3), at);
            match txn {
                Some(txn) => typed.delete_range_in(txn, &start, &end)?,
                None => drop(typed.delete_range(&start, &end).await?),
            }
            model.retain(|at, _| !(order(&start)..order(&end)).contains(at));
        }
        (1, txn) => {
            match txn {
                Some(txn) => typed.delete_with_prefix_in(txn, &(group,))?,
                None => drop(typed.delete_with_prefix(&(group,)).await?),
            }
            model.retain(|(of, _), _| *of != group);
        }
        (2 | 3, txn) => {
            match txn {
                Some(txn) => typed.delete_in(txn, &at)?,
                None => drop(typed.delete(&at).await?),
            }
            model.remove(&order(&at));
        }
        (_, txn) => {
            match txn {
                Some(txn) => typed.put_in(txn, &at, &value)?,
                None => drop(typed.put(&at, &value).await?),
            }
            model.insert(order(&at), value);
        }
    }
    Ok(())
}

async fn drive(world: World, env: std::sync::Arc<dyn holdfast::env::Env>) -> Result<()> {
    let db = Db::open_in(env.clone(), DIR, small_options()).await?;
    let typed: TypedKeyspace<Key, i64> = db.create_keyspace("typed", small_keyspace()).await?.typed();
    let (mut model, mut before) = (Model::new(), Model::new());
    let mut snapshot = db.snapshot();
    for round in 0..120 {
        change(&world, &typed, None, &mut model).await?;
        let ask = Ask::draw(&world);
        let now = typed.scan(ask.scan()).await?.collect().await?;
        assert_eq!(now, ask.of_model(&model), "now: {ask:?}");
        let then = typed.scan_at(&snapshot, ask.scan()).await?.collect().await?;
        assert_eq!(then, ask.of_model(&before), "at a snapshot: {ask:?}");
        let plain = Ask { prefix: None, reverse: false, limit: None, after: None, ..ask.clone() };
        let then = typed.range_at(&snapshot, ask.bounds).await?.collect().await?;
        assert_eq!(then, plain.of_model(&before), "range_at: {plain:?}");

        let (mut txn, mut own) = (db.begin(Default::default()), model.clone());
        for _ in 0..3 {
            change(&world, &typed, Some(&mut txn), &mut own).await?;
        }
        let seen = typed.scan_in(&txn, ask.scan()).await?;
        assert_eq!({ seen }.collect().await?, ask.of_model(&own), "in a transaction: {ask:?}");
        assert_eq!(typed.scan_in(&txn, ask.scan()).await?.count().await?, ask.of_model(&own).len() as u64);
        if round % 3 == 0 {
            txn.commit().await?;
            model = own;
        }
        if round % 20 == 7 {
            (snapshot, before) = (db.snapshot(), model.clone());
            db.flush().await?;
        }
        if round % 40 == 11 {
            let look = Db::open_read_only_in(env.clone(), DIR, small_options()).await?;
            let beside: TypedReadOnlyKeyspace<Key, i64> = look.keyspace("typed")?.typed();
            assert_eq!(
                beside.scan(ask.scan()).await?.collect().await?,
                ask.of_model(&model),
                "beside: {ask:?}"
            );
            let here = typed.approximate_count(TypedScan::all()).await?;
            assert_eq!(beside.approximate_count(TypedScan::all()).await?, here);
            for (at, value) in &model {
                assert_eq!(beside.get(&key(at.0, at.1.0)).await?, Some(*value));
            }
        }
    }
    drop(snapshot);
    db.close().await
}

#[test]
fn typed_walks_are_those_of_a_model() {
    for seed in 0..12 {
        simulate(seed, |world, process| async move {
            within(&process, |env| drive(world, env)).await.unwrap();
        });
    }
}

#[test]
fn a_transaction_that_walked_a_typed_range_conflicts_with_a_phantom() {
    simulate(1, |_, process| async move {
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await?;
            let typed = db.default_keyspace()?.typed::<(u64, u64), String>();
            typed.put(&(1, 1), &"one".into()).await?;
            let mut txn = db.begin(Default::default());
            let mut group = typed.scan_in(&txn, TypedScan::prefix(&(1u64,)).reverse()).await?;
            assert_eq!(group.next().await?, Some(((1, 1), "one".into())));
            assert_eq!(group.next().await?, None);
            typed.put_in(&mut txn, &(2, 1), &"seen".into())?;
            typed.put(&(1, 2), &"a phantom".into()).await?;
            assert!(matches!(txn.commit().await, Err(Error::Conflict(_))));
            db.close().await
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_key_of_another_type_is_named_and_not_guessed() {
    simulate(1, |_, process| async move {
        within(&process, |env| async move {
            let db = Db::open_in(env, DIR, small_options()).await?;
            let keyspace = db.default_keyspace()?;
            keyspace.typed::<(String,), ()>().put(&("text".into(),), &()).await?;
            let numbers = keyspace.typed::<(u64,), ()>();
            let error = numbers.scan(TypedScan::all()).await?.collect().await.unwrap_err();
            let Error::Invalid(what) = &error else { panic!("{error}") };
            assert!(what.contains("text") && what.contains("u64"), "{what}");
            // Counting asks for nothing that would have to be decoded.
            assert_eq!(numbers.scan(TypedScan::all()).await?.count().await?, 1);
            db.close().await
        })
        .await
        .unwrap();
    });
}
