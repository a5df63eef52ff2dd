//! States that are wrong in known ways, each found and named by its condition.

use std::sync::Arc;

use super::*;
use crate::history::{Body, Durable, Ending, Promise, Stamp, Value};
use crate::tpcc::new_order_body;

const PLACE: Place = Place { warehouse: 1, district: 2 };

/// The rows of a state.
#[derive(Clone, Default)]
struct Tables(BTreeMap<Vec<u8>, Body>);

impl Tables {
    fn put(&mut self, key: Key, row: &impl Row) {
        self.0.insert(key.bytes(), row.to_body());
    }

    fn with(mut self, key: Key, row: &impl Row) -> Self {
        self.put(key, row);
        self
    }

    fn without(mut self, key: Key) -> Self {
        assert!(self.0.remove(&key.bytes()).is_some());
        self
    }

    fn entries(&self) -> Vec<Entry> {
        let stamp = Stamp { txn: 0, operation: 0 };
        let entry =
            |(key, body): (&Vec<u8>, &Body)| (Arc::from(&key[..]), Value { stamp, body: body.clone() });
        self.0.iter().map(entry).collect()
    }

    /// The first violation of a history in which somebody walked over them.
    fn found_by(&self, interval: Interval, complete: bool) -> Option<String> {
        let mut history = History::default();
        let reader = history.begin(3, 0, Promise::View, Durable::Buffered);
        let (keyspace, found) = (1, self.entries());
        history.did(reader, Operation::Scan { keyspace, interval, reverse: false, found, complete });
        history.ends(reader, Ending::Committed(7));
        let violation = check(&history).into_iter().next()?;
        assert_eq!(violation.wrong, Wrong::Invariant);
        Some(violation.what)
    }

    /// The condition that they break.
    fn broken(&self) -> Option<String> {
        let what = self.found_by(Interval::ALL, true)?;
        assert!(what.starts_with("T0 (client 3, view 0) found "), "{what}");
        let (_, rest) = what.split_once("condition ")?;
        Some(rest.split_once(' ')?.0.to_owned())
    }
}

fn line(number: i64, delivered: i64) -> OrderLine {
    OrderLine { item: number, supplier: 1, quantity: 2, amount: 30, delivered }
}

fn order(carrier: i64) -> Order {
    Order { customer: 4, lines: 2, carrier }
}

fn customer() -> Customer {
    Customer { balance: 20, ytd_payment: 40, payments: 1, deliveries: 1 }
}

fn district() -> District {
    District { ytd: 40, next_order: 4 }
}

/// Three orders of two lines, of which the first is delivered, and a payment.
fn good() -> Tables {
    let mut tables = Tables::default();
    tables.put(Key::Warehouse(1), &Warehouse { ytd: 40 });
    tables.put(Key::District(PLACE), &district());
    tables.put(Key::Customer(PLACE, 4), &customer());
    for number in 1..=3 {
        let delivered = i64::from(number == 1);
        tables.put(Key::Order(PLACE, number), &order(delivered * 9));
        for at in 0..2 {
            tables.put(Key::OrderLine(PLACE, number, at), &line(at.into(), delivered));
        }
        if number > 1 {
            tables.0.insert(Key::NewOrder(PLACE, number).bytes(), new_order_body());
        }
    }
    for item in 0..2 {
        tables.put(Key::Stock(1, item), &Stock { quantity: 44, ytd: 6, orders: 3, remote_orders: 0 });
    }
    tables
}

#[test]
fn what_is_right_passes() {
    assert_eq!(Tables::default().broken(), None);
    assert_eq!(good().broken(), None);
    // Keys of others are none of its business.
    let mut beside = good();
    beside.0.insert(b"k".to_vec(), Body::Number(3));
    beside.0.insert(b"u".to_vec(), Body::Filler(3));
    assert_eq!(beside.broken(), None);
}

#[test]
fn each_condition_is_judged() {
    let broken = |tables: Tables, condition: &str| {
        assert_eq!(tables.broken().as_deref(), Some(condition));
    };
    broken(good().with(Key::Warehouse(1), &Warehouse { ytd: 41 }), "1");
    broken(good().without(Key::Warehouse(1)), "1");
    broken(good().with(Key::Customer(PLACE, 4), &Customer { ytd_payment: 39, ..customer() }), "9");
    broken(good().with(Key::District(PLACE), &District { next_order: 5, ..district() }), "2");
    broken(good().with(Key::District(PLACE), &District { next_order: 3, ..district() }), "2");
    let last = Key::NewOrder(PLACE, 3);
    broken(good().without(last), "2");
    let hole = Key::NewOrder(PLACE, 1);
    let mut tables = good();
    tables.0.insert(hole.bytes(), new_order_body());
    broken(tables.clone().without(Key::NewOrder(PLACE, 2)), "3");
    // It is delivered and is not, at once.
    broken(tables, "5");
    broken(good().with(Key::Order(PLACE, 3), &Order { lines: 3, ..order(0) }), "4");
    broken(good().without(Key::OrderLine(PLACE, 2, 1)), "4");
    let swapped = good().without(Key::OrderLine(PLACE, 2, 1)).with(Key::OrderLine(PLACE, 3, 2), &line(1, 0));
    broken(swapped, "6");
    broken(good().with(Key::OrderLine(PLACE, 1, 0), &line(0, 0)), "7");
    broken(good().with(Key::Order(PLACE, 1), &order(NO_CARRIER)), "5");
    broken(good().with(Key::Customer(PLACE, 4), &Customer { balance: 21, ..customer() }), "12");
    let stock = Stock { quantity: 44, ytd: 6, orders: 3, remote_orders: 0 };
    broken(good().with(Key::Stock(1, 0), &Stock { ytd: 4, ..stock }), "stock");
    broken(good().with(Key::Stock(1, 1), &Stock { orders: 2, ..stock }), "stock");
    broken(good().without(Key::Stock(1, 1)), "stock");
}

#[test]
fn an_order_of_which_half_is_there_is_found() {
    let missing = [
        Key::Order(PLACE, 3),
        Key::NewOrder(PLACE, 3),
        Key::OrderLine(PLACE, 3, 0),
        Key::OrderLine(PLACE, 3, 1),
        Key::District(PLACE),
        Key::Stock(1, 0),
    ];
    for key in missing {
        assert!(good().without(key).broken().is_some(), "{key:?}");
    }
}

#[test]
fn what_no_table_has_is_found() {
    let mut tables = good();
    tables.0.insert(b"t?".to_vec(), Body::Number(1));
    assert!(tables.found_by(Interval::ALL, true).is_some_and(|what| what.contains("key of no table")));
    let mut tables = good();
    tables.0.insert(Key::District(PLACE).bytes(), Body::Row([1].into()));
    assert!(tables.found_by(Interval::ALL, true).is_some_and(|what| what.contains("no row of that table")));
}

#[test]
fn only_whole_states_are_judged() {
    let broken = good().without(Key::Warehouse(1));
    assert!(broken.found_by(crate::tpcc::all_keys(), true).is_some());
    assert_eq!(broken.found_by(Interval::ALL, false), None);
    let of_key = Interval::of_key(&Key::District(PLACE).bytes().into());
    assert_eq!(broken.found_by(of_key, true), None);
}
