//! The five transactions of TPC-C, on the tables of [`crate::tpcc`].
//!
//! Each reads all that it needs before it writes anything, so a read without an answer leaves nothing half done. A write
//! that is refused may; then the whole transaction has to be rolled back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use holdfast::{Scan, Txn};

use super::reading::prefix_of;
use super::{Client, Doing, Reader, Writer};
use crate::history::{Body, Cell, Entry, Interval, Operation};
use crate::oracle::Wrong;
use crate::storm::Stopped;
use crate::storm::script::Walk;
use crate::tpcc::{
    Customer, District, Key, Order, OrderLine, Place, Profile, Row, Stock, Warehouse, line_of, lines_of,
    new_order_body, new_orders_of, orders_of,
};

/// All tables stand in the keyspace of this number.
const SLOT: u8 = 0;
/// Orders among which a customer's last one is looked for.
const LAST_ORDERS: u8 = 20;

/// What a transaction is to write, in order.
#[derive(Default)]
struct Writes {
    rows: Vec<(Key, Body)>,
    deleted: Vec<Key>,
}

impl Writes {
    fn put(&mut self, key: Key, row: &impl Row) {
        self.rows.push((key, row.to_body()));
    }
}

impl Client {
    /// Carries out what a terminal asks for. False if a part of its writes was refused.
    pub(super) async fn enter(
        &self,
        doing: &Doing,
        txn: &mut Txn,
        profile: &Profile,
    ) -> Result<bool, Stopped> {
        let writes = match *profile {
            Profile::NewOrder { place, customer, lines, items } => {
                self.new_order(doing, txn, place, (customer, lines, items)).await?
            }
            Profile::Payment { place, customer, amount } => {
                self.payment(doing, txn, place, customer, i64::from(amount)).await?
            }
            Profile::Delivery { warehouse, districts, carrier } => {
                for district in 0..districts {
                    let place = Place { warehouse, district };
                    let writes = self.delivery(doing, txn, place, i64::from(carrier.max(1))).await?;
                    if !self.write(doing, txn, writes.unwrap_or_default())? {
                        return Ok(false);
                    }
                }
                None
            }
            Profile::OrderStatus { place, customer } => {
                self.order_status(doing, txn, place, customer).await?;
                None
            }
            Profile::StockLevel { place } => {
                self.stock_level(doing, txn, place).await?;
                None
            }
        };
        self.write(doing, txn, writes.unwrap_or_default())
    }

    async fn new_order(
        &self,
        doing: &Doing,
        txn: &Txn,
        place: Place,
        (customer, lines, items): (u16, u8, u32),
    ) -> Result<Option<Writes>, Stopped> {
        let mut writes = Writes::default();
        let Some(district) = self.row::<District>(doing, txn, Key::District(place)).await? else {
            return Ok(None);
        };
        if self.row::<Customer>(doing, txn, Key::Customer(place, customer)).await?.is_none() {
            return Ok(None);
        }
        let Ok(number) = u32::try_from(district.next_order) else {
            self.broken(format!("the next order of {place:?} is {}", district.next_order));
            return Ok(None);
        };
        let next_order = district.next_order + 1;
        writes.put(Key::District(place), &District { next_order, ..district });
        let order = Order { customer: customer.into(), lines: lines.into(), ..Order::UNTOUCHED };
        writes.put(Key::Order(place, number), &order);
        writes.rows.push((Key::NewOrder(place, number), new_order_body()));
        // An order may name an item twice.
        let mut stocks: BTreeMap<Key, Stock> = BTreeMap::new();
        for line in 0..lines {
            let row = line_of(place.warehouse, items, line);
            let key = Key::Stock(row.supplier as u8, row.item as u16);
            let stock = match stocks.get(&key) {
                Some(stock) => *stock,
                None => match self.row::<Stock>(doing, txn, key).await? {
                    Some(stock) => stock,
                    None => return Ok(None),
                },
            };
            stocks.insert(key, stock.less(&row, row.supplier != i64::from(place.warehouse)));
            writes.put(Key::OrderLine(place, number, line), &row);
        }
        stocks.iter().for_each(|(key, stock)| writes.put(*key, stock));
        Ok(Some(writes))
    }

    async fn payment(
        &self,
        doing: &Doing,
        txn: &Txn,
        place: Place,
        customer: u16,
        amount: i64,
    ) -> Result<Option<Writes>, Stopped> {
        let keys = (Key::Warehouse(place.warehouse), Key::District(place), Key::Customer(place, customer));
        let Some(warehouse) = self.row::<Warehouse>(doing, txn, keys.0).await? else { return Ok(None) };
        let Some(district) = self.row::<District>(doing, txn, keys.1).await? else { return Ok(None) };
        let Some(payer) = self.row::<Customer>(doing, txn, keys.2).await? else { return Ok(None) };
        let mut writes = Writes::default();
        writes.put(keys.0, &Warehouse { ytd: warehouse.ytd + amount });
        writes.put(keys.1, &District { ytd: district.ytd + amount, ..district });
        let payer = Customer {
            balance: payer.balance - amount,
            ytd_payment: payer.ytd_payment + amount,
            payments: payer.payments + 1,
            ..payer
        };
        writes.put(keys.2, &payer);
        Ok(Some(writes))
    }

    /// Delivers the oldest order of a district, if there is one.
    async fn delivery(
        &self,
        doing: &Doing,
        txn: &Txn,
        place: Place,
        carrier: i64,
    ) -> Result<Option<Writes>, Stopped> {
        let oldest = Walk { limit: Some(1), ..Walk::WHOLE };
        let Some(waiting) = self.walk_prefix(doing, txn, new_orders_of(place), oldest).await? else {
            return Ok(None);
        };
        let Some(Key::NewOrder(_, number)) = waiting.first().and_then(|(key, _)| Key::of_bytes(key)) else {
            return Ok(None);
        };
        let key = Key::Order(place, number);
        let Some(order) = self.row::<Order>(doing, txn, key).await? else { return Ok(None) };
        let prefix = lines_of(place, number);
        let Some(lines) = self.walk_prefix(doing, txn, prefix, Walk::WHOLE).await? else { return Ok(None) };
        let customer = Key::Customer(place, order.customer as u16);
        let Some(receiver) = self.row::<Customer>(doing, txn, customer).await? else { return Ok(None) };
        let mut writes = Writes { deleted: vec![Key::NewOrder(place, number)], ..Writes::default() };
        writes.put(key, &Order { carrier, ..order });
        let mut amount = 0;
        for entry in &lines {
            let (Some(key), Some(line)) = (Key::of_bytes(&entry.0), self.row_of::<OrderLine>(entry)) else {
                return Ok(None);
            };
            amount += line.amount;
            writes.put(key, &OrderLine { delivered: 1, ..line });
        }
        let (balance, deliveries) = (receiver.balance + amount, receiver.deliveries + 1);
        writes.put(customer, &Customer { balance, deliveries, ..receiver });
        Ok(Some(writes))
    }

    async fn order_status(
        &self,
        doing: &Doing,
        txn: &Txn,
        place: Place,
        customer: u16,
    ) -> Result<(), Stopped> {
        self.row::<Customer>(doing, txn, Key::Customer(place, customer)).await?;
        let newest = Walk { reverse: true, limit: Some(LAST_ORDERS), ..Walk::WHOLE };
        let Some(orders) = self.walk_prefix(doing, txn, orders_of(place), newest).await? else {
            return Ok(());
        };
        let is_his = |entry: &&Entry| {
            self.row_of::<Order>(entry).is_some_and(|order| order.customer == i64::from(customer))
        };
        if let Some((key, _)) = orders.iter().find(is_his)
            && let Some(Key::Order(_, number)) = Key::of_bytes(key)
        {
            self.walk_prefix(doing, txn, lines_of(place, number), Walk::WHOLE).await?;
        }
        Ok(())
    }

    async fn stock_level(&self, doing: &Doing, txn: &Txn, place: Place) -> Result<(), Stopped> {
        let Some(district) = self.row::<District>(doing, txn, Key::District(place)).await? else {
            return Ok(());
        };
        let next = u32::try_from(district.next_order).unwrap_or(0);
        let (from, to) = (next.saturating_sub(LAST_ORDERS.into()), next);
        let bound = |order: u32| lines_of(place, order);
        let interval =
            Interval { start: Bound::Included(bound(from).into()), end: Bound::Excluded(bound(to).into()) };
        let scan = Scan::range::<Vec<u8>>((Bound::Included(bound(from)), Bound::Excluded(bound(to))));
        let Some(lines) = self.walk_tables(doing, txn, (scan, interval, &Walk::WHOLE)).await? else {
            return Ok(());
        };
        let items = lines.iter().filter_map(|entry| self.row_of::<OrderLine>(entry)).map(|line| line.item);
        let items: std::collections::BTreeSet<i64> = items.collect();
        for item in items {
            self.row::<Stock>(doing, txn, Key::Stock(place.warehouse, item as u16)).await?;
        }
        Ok(())
    }

    /// Reads a row. `None` if there is no answer.
    async fn row<R: Row>(&self, doing: &Doing, txn: &Txn, key: Key) -> Result<Option<R>, Stopped> {
        let bytes = key.bytes();
        let Some(found) = self.get(doing, &Reader::Transaction(txn), (SLOT, &bytes)).await? else {
            return Ok(None);
        };
        match found {
            None => Ok(Some(R::UNTOUCHED)),
            Some(value) => Ok(self.row_of(&(bytes.into(), value))),
        }
    }

    /// The row that was found; one that nobody writes there is wrong.
    fn row_of<R: Row>(&self, (key, value): &Entry) -> Option<R> {
        let row = R::of_body(&value.body);
        if row.is_none() {
            self.broken(format!("at {} there is no row of that table: {:?}", key.escape_ascii(), value.body));
        }
        row
    }

    fn broken(&self, what: String) {
        self.opening.storm.wrong(Wrong::Invariant, what);
    }

    async fn walk_prefix(
        &self,
        doing: &Doing,
        txn: &Txn,
        prefix: Vec<u8>,
        walk: Walk,
    ) -> Result<Option<Vec<Entry>>, Stopped> {
        let mut scan = Scan::prefix(&prefix);
        if walk.reverse {
            scan = scan.reverse();
        }
        if let Some(limit) = walk.limit {
            scan = scan.limit(limit.into());
        }
        self.walk_tables(doing, txn, (scan, prefix_of(prefix), &walk)).await
    }

    /// Walks to the end. `None` if it did not come there.
    async fn walk_tables(
        &self,
        doing: &Doing,
        txn: &Txn,
        walk: (Scan, Interval, &Walk),
    ) -> Result<Option<Vec<Entry>>, Stopped> {
        let Some(keyspace) = self.keyspace(SLOT) else { return Ok(None) };
        let found = self.walk(doing, &Reader::Transaction(txn), &keyspace, walk).await?;
        let is_blurred = self.opening.storm.state().of(doing.txn).blurred;
        Ok(found.filter(|_| !is_blurred))
    }

    /// Writes everything; false if a part was refused.
    fn write(&self, doing: &Doing, txn: &mut Txn, writes: Writes) -> Result<bool, Stopped> {
        for key in writes.deleted {
            let Some(keyspace) = self.keyspace(SLOT) else { return Ok(false) };
            let bytes = key.bytes();
            let deleted = txn.delete(&keyspace, &bytes);
            let cell = Cell { keyspace: keyspace.id().get(), key: Arc::from(bytes) };
            if !self.note(doing, deleted, Operation::Delete { cell })? {
                return Ok(false);
            }
        }
        for (key, body) in writes.rows {
            if !self.put(doing, &mut Writer::Transaction(txn), (SLOT, key.bytes()), body)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
