//! What TPC-C's tables always keep, in every state that anybody saw whole.
//!
//! The numbers are those of the specification (clause 3.3.2); what its history table is needed for is taken from the
//! customers, and what it says of the stock is implied by clause 2.4.2.
//!
//! | condition | in every state |
//! |---|---|
//! | 1 | a warehouse's payments are those of its districts |
//! | 2 | a district's next order follows on its last, and that on the last one not delivered, if there is one |
//! | 3 | the numbers of orders that were not delivered have no hole |
//! | 4, 6 | a district's lines are as many as its orders say; each order's are too |
//! | 5, 7 | an order has a carrier, and its lines are delivered, unless it is among those not delivered |
//! | 9 | a district's payments are those of its customers |
//! | 12 | a customer's balance and payments together are what was delivered to him |
//! | stock | what was ordered of an item, and how often, is what the lines say |
//!
//! A state is what one complete walk over the tables found; an order's parts lie far apart in it. Each transaction keeps
//! the conditions, so it does not matter whether the walker had written something itself.

use std::collections::BTreeMap;

use super::{Violation, Wrong};
use crate::history::{Entry, History, Interval, Operation, SURVEYOR};
use crate::tpcc::{
    self, Customer, District, Key, NO_CARRIER, Order, OrderLine, Place, Row, Stock, Warehouse, is_ours,
};

/// Violations beyond these say nothing new.
const VIOLATIONS_MAX: usize = 4;

/// Judges every state that a history shows.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, transaction) in history.transactions.iter().enumerate() {
        for operation in &transaction.operations {
            let Operation::Scan { interval, found, complete: true, .. } = operation else { continue };
            if !is_whole(interval) {
                continue;
            }
            if let Err(broken) = judge(found) {
                let who = match transaction.client {
                    SURVEYOR => "surveyor".to_owned(),
                    client => format!("client {client}"),
                };
                let view = transaction.view_at_most.or(transaction.view).unwrap_or(0);
                let what = format!("T{number} ({who}, view {view}) found {broken}");
                violations.push(Violation { wrong: Wrong::Invariant, what });
                if violations.len() == VIOLATIONS_MAX {
                    return violations;
                }
            }
        }
    }
    violations
}

/// True if all keys of the tables lie in it.
fn is_whole(interval: &Interval) -> bool {
    let Interval { start: std::ops::Bound::Included(first), .. } = tpcc::all_keys() else { return false };
    // The greatest key of a table is shorter than this and begins with less.
    let last = [first[0], u8::MAX];
    interval.contains(&first) && interval.contains(&last)
}

/// The rows of one state.
#[derive(Default)]
struct State {
    warehouses: BTreeMap<u8, Warehouse>,
    districts: BTreeMap<Place, District>,
    customers: BTreeMap<(Place, u16), Customer>,
    orders: BTreeMap<(Place, u32), Order>,
    new_orders: BTreeMap<Place, Vec<u32>>,
    lines: BTreeMap<(Place, u32), Vec<OrderLine>>,
    stocks: BTreeMap<(u8, u16), Stock>,
}

/// What is wrong with a state, in words.
fn judge(found: &[Entry]) -> Result<(), String> {
    let state = State::of(found)?;
    state.judge_payments()?;
    state.judge_numbers()?;
    state.judge_orders()?;
    state.judge_customers()?;
    state.judge_stocks()
}

fn row<R: Row>(key: &Key, entry: &Entry) -> Result<R, String> {
    R::of_body(&entry.1.body).ok_or_else(|| format!("at {key:?} no row of that table: {:?}", entry.1.body))
}

fn equal(condition: &str, what: impl FnOnce() -> String, one: i64, other: i64) -> Result<(), String> {
    if one == other {
        return Ok(());
    }
    Err(format!("condition {condition} broken: {}: {one} against {other}", what()))
}

impl State {
    fn of(found: &[Entry]) -> Result<Self, String> {
        let mut state = Self::default();
        for entry in found.iter().filter(|(key, _)| is_ours(key)) {
            let no_key = || format!("a key of no table, {}", entry.0.escape_ascii());
            let key = Key::of_bytes(&entry.0).ok_or_else(no_key)?;
            match key {
                Key::Warehouse(warehouse) => {
                    state.warehouses.insert(warehouse, row(&key, entry)?);
                }
                Key::District(place) => {
                    state.districts.insert(place, row(&key, entry)?);
                }
                Key::Customer(place, customer) => {
                    state.customers.insert((place, customer), row(&key, entry)?);
                }
                Key::Order(place, order) => {
                    state.orders.insert((place, order), row(&key, entry)?);
                }
                Key::NewOrder(place, order) => state.new_orders.entry(place).or_default().push(order),
                Key::OrderLine(place, order, _) => {
                    state.lines.entry((place, order)).or_default().push(row(&key, entry)?);
                }
                Key::Stock(warehouse, item) => {
                    state.stocks.insert((warehouse, item), row(&key, entry)?);
                }
            }
        }
        // The walk may have come from the upper end.
        state.new_orders.values_mut().for_each(|orders| orders.sort_unstable());
        Ok(state)
    }

    fn judge_payments(&self) -> Result<(), String> {
        let mut of_warehouse: BTreeMap<u8, i64> = BTreeMap::new();
        for (place, district) in &self.districts {
            *of_warehouse.entry(place.warehouse).or_default() += district.ytd;
        }
        for warehouse in self.warehouses.keys().chain(of_warehouse.keys()) {
            let paid = self.warehouses.get(warehouse).map_or(0, |row| row.ytd);
            let what = || format!("payments of warehouse {warehouse} and of its districts");
            equal("1", what, paid, of_warehouse.get(warehouse).copied().unwrap_or(0))?;
        }
        let mut of_district: BTreeMap<Place, i64> = BTreeMap::new();
        for ((place, _), customer) in &self.customers {
            *of_district.entry(*place).or_default() += customer.ytd_payment;
        }
        for place in self.districts.keys().chain(of_district.keys()) {
            let paid = self.districts.get(place).map_or(0, |row| row.ytd);
            let what = || format!("payments of {place:?} and of its customers");
            equal("9", what, paid, of_district.get(place).copied().unwrap_or(0))?;
        }
        Ok(())
    }

    fn judge_numbers(&self) -> Result<(), String> {
        let mut last_order: BTreeMap<Place, i64> = BTreeMap::new();
        for (place, order) in self.orders.keys() {
            last_order.insert(*place, (*order).into());
        }
        for place in self.districts.keys().chain(last_order.keys()) {
            let next = self.districts.get(place).unwrap_or(&District::UNTOUCHED).next_order;
            let what = || format!("next order of {place:?}, less 1, and its last order");
            equal("2", what, next - 1, last_order.get(place).copied().unwrap_or(0))?;
        }
        for (place, new_orders) in &self.new_orders {
            let (Some(first), Some(last)) = (new_orders.first(), new_orders.last()) else { continue };
            let what = || format!("last order of {place:?} and the last of those not delivered");
            equal("2", what, last_order.get(place).copied().unwrap_or(0), (*last).into())?;
            let what = || format!("orders of {place:?} not delivered, by their numbers and in all");
            equal("3", what, i64::from(last - first) + 1, new_orders.len() as i64)?;
        }
        Ok(())
    }

    fn judge_orders(&self) -> Result<(), String> {
        let mut counted: BTreeMap<Place, (i64, i64)> = BTreeMap::new();
        for ((place, _), order) in &self.orders {
            counted.entry(*place).or_default().0 += order.lines;
        }
        for ((place, _), lines) in &self.lines {
            counted.entry(*place).or_default().1 += lines.len() as i64;
        }
        for (place, (said, lines)) in counted {
            equal("4", || format!("lines of {place:?} as its orders say, and in all"), said, lines)?;
        }
        for ((place, number), order) in &self.orders {
            let lines = self.lines.get(&(*place, *number)).map_or(&[][..], Vec::as_slice);
            let name = || format!("order {number} of {place:?}");
            equal("6", || format!("lines of {}, said and counted", name()), order.lines, lines.len() as i64)?;
            let waiting = self.new_orders.get(place).is_some_and(|all| all.binary_search(number).is_ok());
            let delivered = i64::from(order.carrier != NO_CARRIER);
            let what = || format!("{} is delivered, and is not among those that are not", name());
            equal("5", what, delivered, i64::from(!waiting))?;
            for line in lines {
                equal(
                    "7",
                    || format!("{} and a line of it are delivered", name()),
                    delivered,
                    line.delivered,
                )?;
            }
        }
        for (place, new_orders) in &self.new_orders {
            for number in new_orders {
                let there = i64::from(self.orders.contains_key(&(*place, *number)));
                equal(
                    "5",
                    || format!("order {number} of {place:?} is not delivered, and is there"),
                    1,
                    there,
                )?;
            }
        }
        Ok(())
    }

    fn judge_customers(&self) -> Result<(), String> {
        let mut delivered: BTreeMap<(Place, i64), i64> = BTreeMap::new();
        for ((place, number), order) in &self.orders {
            let lines = self.lines.get(&(*place, *number)).into_iter().flatten();
            let amount: i64 = lines.filter(|line| line.delivered == 1).map(|line| line.amount).sum();
            *delivered.entry((*place, order.customer)).or_default() += amount;
        }
        let known = self.customers.keys().map(|(place, customer)| (*place, i64::from(*customer)));
        for (place, number) in known.chain(delivered.keys().copied()) {
            let customer = u16::try_from(number).ok().and_then(|number| self.customers.get(&(place, number)));
            let customer = customer.unwrap_or(&Customer::UNTOUCHED);
            let got = delivered.get(&(place, number)).copied().unwrap_or(0);
            let what = || format!("balance and payments of customer {number} of {place:?}, and what he got");
            equal("12", what, customer.balance + customer.ytd_payment, got)?;
        }
        Ok(())
    }

    fn judge_stocks(&self) -> Result<(), String> {
        let mut ordered: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
        for line in self.lines.values().flatten() {
            let (quantity, lines) = ordered.entry((line.supplier, line.item)).or_default();
            *quantity += line.quantity;
            *lines += 1;
        }
        let known = self.stocks.iter().map(|((warehouse, item), stock)| {
            ((i64::from(*warehouse), i64::from(*item)), (stock.ytd, stock.orders))
        });
        let known: BTreeMap<(i64, i64), (i64, i64)> = known.collect();
        for at in known.keys().chain(ordered.keys()) {
            let of = |all: &BTreeMap<_, _>| all.get(at).copied().unwrap_or((0, 0));
            let ((said, orders), (quantity, lines)) = (of(&known), of(&ordered));
            let name = || format!("item {} of warehouse {}", at.1, at.0);
            equal(
                "stock",
                || format!("ordered of {}, by its stock and by the lines", name()),
                said,
                quantity,
            )?;
            equal("stock", || format!("lines with {}, by its stock and in all", name()), orders, lines)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
