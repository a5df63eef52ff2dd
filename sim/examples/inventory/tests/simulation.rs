//! The inventory in Holdfast's simulated world: customers at work while the machine crashes and its disk fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_sim::testing::{Step, World};
use inventory::{Error, Inventory, Item, Order, OrderNumber, OrderState, Placed, Result, Settings};

const ITEMS: u64 = 3;
/// Units in each delivery.
const DELIVERY: u64 = 40;
const CUSTOMERS: u64 = 3;
const STEPS: u64 = 12;

/// What stands beside the machine: what customers asked for, and what they were told.
#[derive(Default)]
struct Told {
    /// What was ordered, confirmed or not.
    placed: Mutex<BTreeMap<OrderNumber, (Item, u64)>>,
    /// Those that came to nothing for certain are not in here.
    requests: Mutex<Vec<Request>>,
    /// Units of all deliveries that were begun, and of those that were confirmed.
    delivered: Mutex<(u64, u64)>,
}

/// A customer wants an order to be in this state: to be there, if it is open.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: OrderNumber,
    state: OrderState,
    begun: Duration,
    /// None if there was no answer.
    confirmed: Option<Duration>,
}

impl Request {
    /// True if what was found of the order shows that it was done.
    fn is_done(&self, found: Option<Order>) -> bool {
        found.is_some_and(|order| self.state == OrderState::Open || order.state == self.state)
    }
}

impl Told {
    /// Makes a request, and remembers what came of it. `request` says whether it was done.
    async fn ask(
        &self,
        world: &World,
        (number, state): (OrderNumber, OrderState),
        request: impl Future<Output = Result<bool>>,
    ) -> Result<()> {
        let begun = world.now();
        self.requests.lock().expect("no panic").push(Request { number, state, begun, confirmed: None });
        let is_done = request.await?;
        let mut requests = self.requests.lock().expect("no panic");
        let is_it =
            |request: &Request| (request.number, request.state, request.begun) == (number, state, begun);
        let at = requests.iter().rposition(is_it).expect("it was made");
        match is_done {
            true => requests[at].confirmed = Some(world.now()),
            false => drop(requests.remove(at)),
        }
        Ok(())
    }
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
        match request(world, &step, number, inventory, told).await {
            Err(error) if error.ends_the_service() => return Err(error),
            // The customer is told so, and does something else.
            Err(error) => world.note(&format!("order {number}: {error}")),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn request(
    world: &World,
    step: &Step,
    number: OrderNumber,
    inventory: &Inventory,
    told: &Told,
) -> Result<()> {
    let (item, units) = (step.random_below(ITEMS), 1 + step.random_below(5));
    told.placed.lock().expect("no panic").insert(number, (item, units));
    let order = async { Ok(inventory.order(number, item, units).await? == Placed::Reserved) };
    told.ask(world, (number, OrderState::Open), order).await?;
    // Then an order of before, mostly one's own, is brought to its end.
    let older = number.saturating_sub(step.random_below(4));
    let state = *step.pick(&[OrderState::Shipped, OrderState::Cancelled]);
    let end = async {
        match state {
            OrderState::Shipped => inventory.ship(older).await,
            _ => inventory.cancel(older).await,
        }
    };
    told.ask(world, (older, state), end).await?;
    if step.one_in(3) { inventory.export().await } else { Ok(()) }
}

/// Everything that must hold at any time.
async fn look(world: &World, inventory: &Inventory, told: &Told) -> Result<()> {
    let books = async {
        let found = consistent(inventory.audit().await)?.delivered();
        let (begun, confirmed) = *told.delivered.lock().expect("no panic");
        let least = if world.may_have_lost() { 0 } else { confirmed };
        assert!(
            found.is_multiple_of(DELIVERY) && (least..=begun).contains(&found),
            "{found} units are there or have left; {confirmed} to {begun} were delivered, always {DELIVERY} at once"
        );
        Ok::<_, Error>(())
    };
    world.check("no unit is lost, and none is sold twice", books).await?;
    world.check("what customers were told is true", told_is_true(world, inventory, told)).await?;
    // It was replaced in one step, and no disk of these lies about files that are not the database's.
    let export = async { consistent(inventory.exported().await).map(drop) };
    world.check("the export is whole", export).await
}

/// What the shop says of itself must always fit together, whatever the disk has lost: so that it does not is no error that
/// a fault might excuse.
fn consistent<T>(result: Result<T>) -> Result<T> {
    if let Err(Error::Inconsistent(what)) = &result {
        panic!("{what}");
    }
    result
}

/// All that was confirmed is there; on a disk that has lied, all but the newest: if a request was not done, then none
/// that was made after its confirmation was.
async fn told_is_true(world: &World, inventory: &Inventory, told: &Told) -> Result<()> {
    let (placed, requests) =
        (told.placed.lock().expect("no panic").clone(), told.requests.lock().expect("no panic").clone());
    let mut found = BTreeMap::new();
    for (number, (item, units)) in placed {
        let order = inventory.find(number).await?;
        if let Some(order) = order {
            assert_eq!((order.item, order.units), (item, units), "order {number} is not what was ordered");
            let was_asked_for = |request: &Request| request.number == number && request.is_done(Some(order));
            assert!(requests.iter().any(was_asked_for), "nobody wanted order {number} to be {order:?}");
        }
        found.insert(number, order);
    }
    let is_done = |request: &&Request| request.is_done(found.get(&request.number).copied().flatten());
    let confirmed = || requests.iter().filter(|request| request.confirmed.is_some());
    let newest_done = confirmed().filter(is_done).map(|request| request.begun).max();
    for lost in confirmed().filter(|request| !is_done(request)) {
        assert!(world.may_have_lost(), "{lost:?} was confirmed, and {:?} is there", found.get(&lost.number));
        assert!(
            newest_done.is_none_or(|newest| lost.confirmed.is_some_and(|confirmed| confirmed >= newest)),
            "{lost:?} was confirmed and is lost, but a request made after it, at {newest_done:?}, is not"
        );
    }
    // Now customers know it.
    told.requests
        .lock()
        .expect("no panic")
        .retain(|request| request.confirmed.is_none() || is_done(&request));
    Ok(())
}
