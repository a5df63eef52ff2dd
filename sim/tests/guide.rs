//! The example of GUIDE.md, run as a test, and that it is the same.

// The guide begins here.
use std::sync::Mutex;

use holdfast::{Db, Error, Result};
use holdfast_sim::testing::World;

/// Moves an amount between two accounts, if there is so much.
async fn transfer(db: &Db, from: &str, to: &str, amount: u64) -> Result<bool> {
    let accounts = db.default_keyspace()?.typed::<String, u64>();
    loop {
        let mut txn = db.begin(Default::default());
        let before = accounts.get_in(&txn, &from.into()).await?.unwrap_or(0);
        let Some(left) = before.checked_sub(amount) else { return Ok(false) };
        let there = accounts.get_in(&txn, &to.into()).await?.unwrap_or(0);
        accounts.put_in(&mut txn, &from.into(), &left)?;
        accounts.put_in(&mut txn, &to.into(), &(there + amount))?;
        match txn.commit().await {
            Err(Error::Conflict(_)) => continue,
            outcome => return outcome.map(|_| true),
        }
    }
}

/// Beside the machine: what the bank has confirmed to be moved, by teller and step.
#[derive(Default)]
struct Confirmed(Mutex<Vec<u64>>);

#[holdfast_sim::test(seeds = 50, faults = "all")]
async fn transfer_survives(world: World) -> Result<()> {
    let confirmed = world.outside::<Confirmed>();
    let db = world.open("/bank", world.options()).await?;
    let accounts = db.default_keyspace()?.typed::<String, u64>();
    if accounts.get(&"ada".into()).await?.is_none() {
        accounts.put(&"ada".into(), &1000).await?;
    }

    let books = async {
        let ada = accounts.get(&"ada".into()).await?.unwrap_or(0);
        let bob = accounts.get(&"bob".into()).await?.unwrap_or(0);
        let moved: u64 = confirmed.0.lock().expect("nobody panicked").iter().sum();
        assert_eq!(ada + bob, 1000, "money was made or lost");
        assert!(bob >= moved, "{moved} were confirmed, and {bob} came");
        Ok::<_, Error>(())
    };
    world.check("the books", books).await?;

    for step in world.steps("teller", 20) {
        let amount = 1 + step.random_below(20);
        if transfer(&db, "ada", "bob", amount).await? {
            confirmed.0.lock().expect("nobody panicked").push(amount);
        }
    }
    db.close().await
}
// The guide ends here.

#[test]
fn the_guide_shows_this_example() {
    let marked = |text: &'static str, begins: &str, ends: &str| {
        let (_, rest) = text.split_once(begins).expect("it begins");
        rest.split_once(ends).expect("it ends").0.trim()
    };
    let example =
        marked(include_str!("guide.rs"), "// The guide begins here.\n", "// The guide ends here.\n");
    let shown = marked(include_str!("../GUIDE.md"), "```rust\n", "```\n");
    assert_eq!(example, shown, "copy it from sim/tests/guide.rs to sim/GUIDE.md");
}
