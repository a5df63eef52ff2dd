//! The inventory in Holdfast's simulated world: customers at work while the machine crashes and its disk fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use holdfast_sim::testing::{Step, World};
use inventory::{Error, Inventory, Order, OrderNumber, OrderState, Placed, Result, Settings};

const ITEMS: u64 = 3;
/// Units in each delivery.
const DELIVERY: u64 = 40;
const CUSTOMERS: u64 = 3;
const STEPS: u64 = 12;

/// What stands beside the machine: what customers were told.
#[derive(Default)]
struct Told {
    /// By order: what its customer last heard. One without an answer is not in here.
    orders: Mutex<BTreeMap<OrderNumber, Order>>,
    /// Orders for whose end there was a request without an answer: shipped, cancelled or open.
    uncertain: Mutex<BTreeMap<OrderNumber, OrderState>>,
    /// Units of all deliveries that were begun, and of those that were confirmed.
    delivered: Mutex<(u64, u64)>,
}

#[holdfast_sim::test(seeds = 100, faults = "all")]
async fn orders_survive(world: World) -> Result<()> {
    shop(world).await
}

/// The same on disks that lie about what is durable: the newest orders may be gone, but never a part of one.
#[holdfast_sim::test(seeds = 50, faults = "lossy")]
async fn what_is_left_adds_up_on_a_lying_disk(world: World) -> Result<()> {
    shop(world).await
}

/// One life of the shop, from its opening to its closing.
async fn shop(world: World) -> Result<()> {
    let told = world.outside::<Told>();
    let settings = Settings { database: world.options(), keyspaces: world.keyspace_options() };
    let inventory = Inventory::open(world.env(), Path::new("/shop"), settings).await?;
    look(&world, &inventory, &told).await?;

    for step in world.steps("supplier", ITEMS) {
        told.delivered.lock().expect("no panic").0 += DELIVERY;
        inventory.deliver(step.number(), DELIVERY).await?;
        told.delivered.lock().expect("no panic").1 += DELIVERY;
    }
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|customer| {
            let (world, inventory, told) = (world.clone(), inventory.clone(), Arc::clone(&told));
            world.clone().spawn("customer", async move { visit(&world, customer, &inventory, &told).await })
        })
        .collect();
    for customer in customers {
        customer.await?;
    }
    look(&world, &inventory, &told).await?;
    inventory.close().await
}

/// All steps of a customer that are left.
async fn visit(world: &World, customer: u64, inventory: &Inventory, told: &Told) -> Result<()> {
    for step in world.steps(&format!("customer {customer}"), STEPS) {
        let number = customer * STEPS + step.number();
        match request(&step, number, inventory, told).await {
            Err(error) if error.ends_the_service() => return Err(error),
            // The customer is told so, and does something else.
            Err(error) => world.note(&format!("order {number}: {error}")),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn request(step: &Step, number: OrderNumber, inventory: &Inventory, told: &Told) -> Result<()> {
    let (item, units) = (step.random_below(ITEMS), 1 + step.random_below(5));
    if inventory.order(number, item, units).await? == Placed::Reserved {
        told.orders.lock().expect("no panic").insert(number, Order { item, units, state: OrderState::Open });
    }
    // Then an order of before, mostly one's own, is brought to its end.
    let older = number.saturating_sub(step.random_below(4));
    let state = *step.pick(&[OrderState::Shipped, OrderState::Cancelled]);
    told.uncertain.lock().expect("no panic").insert(older, state);
    let is_ended = match state {
        OrderState::Shipped => inventory.ship(older).await?,
        _ => inventory.cancel(older).await?,
    };
    if let Some(order) = told.orders.lock().expect("no panic").get_mut(&older).filter(|_| is_ended) {
        order.state = state;
    }
    if step.one_in(3) { inventory.export().await } else { Ok(()) }
}

/// Everything that must hold at any time.
async fn look(world: &World, inventory: &Inventory, told: &Told) -> Result<()> {
    let books = async {
        let found = inventory.audit().await?.delivered();
        let (begun, confirmed) = *told.delivered.lock().expect("no panic");
        let least = if world.may_have_lost() { 0 } else { confirmed };
        assert!(
            found.is_multiple_of(DELIVERY) && (least..=begun).contains(&found),
            "{found} units are there or have left; {confirmed} to {begun} were delivered, always {DELIVERY} at once"
        );
        Ok::<_, Error>(())
    };
    world.check("no unit is lost, and none is sold twice", books).await?;
    let orders = async {
        let orders = told.orders.lock().expect("no panic").clone();
        for (number, known) in orders {
            let found = inventory.find(number).await?;
            if world.may_have_lost() {
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("order {number} was confirmed, and is gone"));
            let may_have_ended = told.uncertain.lock().expect("no panic").contains_key(&number);
            let is_known = found.state == known.state || (known.state == OrderState::Open && may_have_ended);
            assert!(
                is_known && found.units == known.units,
                "order {number} is {found:?}, its customer knows {known:?}"
            );
        }
        Ok::<_, Error>(())
    };
    world.check("what customers were told is true", orders).await?;
    let export = async {
        // A broken one is an error of ours, which no fault excuses: the file was replaced in one step.
        match inventory.exported().await {
            Err(Error::Inconsistent(what)) if !world.may_have_lost() => panic!("{what}"),
            Err(Error::Export(error)) => Err(Error::Export(error)),
            _ => Ok(()),
        }
    };
    world.check("the export is whole", export).await
}
