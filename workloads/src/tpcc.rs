//! TPC-C, reduced: its tables as keys and rows of numbers, and what its five transactions are asked for.
//!
//! ```text
//! t w warehouse                          ytd
//! t d warehouse district                 ytd, next_order
//! t c warehouse district u16 customer    balance, ytd_payment, payments, deliveries
//! t o warehouse district u32 order       customer, lines, carrier
//! t n warehouse district u32 order       (nothing: it is there until the order is delivered)
//! t l warehouse district u32 order line  item, supplier, quantity, amount, delivered
//! t s warehouse u16 item                 quantity, ytd, orders, remote_orders
//! ```
//! Letters, warehouses, districts and lines are a byte each, numbers are big-endian. A row that is missing stands for one
//! to which nothing has happened, so nobody has to load tables first, and any part of a script is a script. Left out are
//! the columns that only carry text, and the history, whose sums the customers have.
//!
//! Source: TPC Benchmark C, Standard Specification, revision 5.11, clauses 1.3 (tables), 2.4 to 2.8 (transactions).

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::history::{Body, Interval};
use crate::random::mix;

/// The first byte of every key.
const MARK: u8 = b't';
/// How many items there are.
pub const ITEMS: u16 = 60;
/// How many warehouses can supply an item that the own one does not.
const SUPPLIERS: u8 = 4;
/// A carrier's number before there is one.
pub const NO_CARRIER: i64 = 0;
/// Stock below this is filled up, by so much.
const REFILL: (i64, i64) = (10, 91);

/// A district of a warehouse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The warehouse.
    pub warehouse: u8,
    /// Its district.
    pub district: u8,
}

/// What a terminal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Profile {
    /// A customer orders so many items.
    NewOrder {
        /// Where.
        place: Place,
        /// Who.
        customer: u16,
        /// How many lines the order has.
        lines: u8,
        /// Which items they are follows from this number.
        items: u32,
    },
    /// A customer pays.
    Payment {
        /// Where.
        place: Place,
        /// Who.
        customer: u16,
        /// How much.
        amount: u16,
    },
    /// The oldest order of each district that was not delivered is.
    Delivery {
        /// From this warehouse.
        warehouse: u8,
        /// To its first so many districts.
        districts: u8,
        /// By whom, counted from 1.
        carrier: u8,
    },
    /// A customer's last order.
    OrderStatus {
        /// Where.
        place: Place,
        /// Whose.
        customer: u16,
    },
    /// Which items of the last orders are short.
    StockLevel {
        /// Where.
        place: Place,
    },
}

impl Profile {
    /// True if it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::OrderStatus { .. } | Self::StockLevel { .. })
    }

    /// What it adds to the length of a script: less than what it comes to, for a script needs many transactions.
    pub fn operations(&self) -> u64 {
        if matches!(self, Self::NewOrder { .. } | Self::Delivery { .. }) { 4 } else { 2 }
    }
}

/// A key of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the module's header draws each")]
pub enum Key {
    Warehouse(u8),
    District(Place),
    Customer(Place, u16),
    Order(Place, u32),
    NewOrder(Place, u32),
    OrderLine(Place, u32, u8),
    Stock(u8, u16),
}

impl Key {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let at = |letter: u8, place: &Place, rest: &[u8]| {
            [&[MARK, letter, place.warehouse, place.district], rest].concat()
        };
        match self {
            Self::Warehouse(warehouse) => vec![MARK, b'w', *warehouse],
            Self::District(place) => at(b'd', place, &[]),
            Self::Customer(place, customer) => at(b'c', place, &customer.to_be_bytes()),
            Self::Order(place, order) => at(b'o', place, &order.to_be_bytes()),
            Self::NewOrder(place, order) => at(b'n', place, &order.to_be_bytes()),
            Self::OrderLine(place, order, line) => {
                at(b'l', place, &[&order.to_be_bytes()[..], &[*line]].concat())
            }
            Self::Stock(warehouse, item) => [&[MARK, b's', *warehouse], &item.to_be_bytes()[..]].concat(),
        }
    }

    /// The key that these bytes are. `None` if no table has such a key.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[MARK])?;
        let place = |warehouse: u8, district: u8| Place { warehouse, district };
        let order = u32::from_be_bytes;
        Some(match *rest {
            [b'w', warehouse] => Self::Warehouse(warehouse),
            [b'd', warehouse, district] => Self::District(place(warehouse, district)),
            [b'c', warehouse, district, high, low] => {
                Self::Customer(place(warehouse, district), u16::from_be_bytes([high, low]))
            }
            [b'o', warehouse, district, a, b, c, d] => {
                Self::Order(place(warehouse, district), order([a, b, c, d]))
            }
            [b'n', warehouse, district, a, b, c, d] => {
                Self::NewOrder(place(warehouse, district), order([a, b, c, d]))
            }
            [b'l', warehouse, district, a, b, c, d, line] => {
                Self::OrderLine(place(warehouse, district), order([a, b, c, d]), line)
            }
            [b's', warehouse, high, low] => Self::Stock(warehouse, u16::from_be_bytes([high, low])),
            _ => return None,
        })
    }
}

/// True if the key is one of these tables.
pub fn is_ours(key: &[u8]) -> bool {
    key.first() == Some(&MARK)
}

/// All keys of these tables.
pub fn all_keys() -> Interval {
    Interval { start: Bound::Included(Arc::from([MARK])), end: Bound::Excluded(Arc::from([MARK + 1])) }
}

/// What the keys of a district's orders begin with.
pub fn orders_of(place: Place) -> Vec<u8> {
    vec![MARK, b'o', place.warehouse, place.district]
}

/// What the keys of a district's orders begin with that were not delivered.
pub fn new_orders_of(place: Place) -> Vec<u8> {
    vec![MARK, b'n', place.warehouse, place.district]
}

/// What the keys of an order's lines begin with.
pub fn lines_of(place: Place, order: u32) -> Vec<u8> {
    let mut bytes = Key::OrderLine(place, order, 0).bytes();
    bytes.pop();
    bytes
}

/// A row: a few numbers, and what they are before anything has happened.
pub trait Row: Sized {
    /// The row to which nothing has happened.
    const UNTOUCHED: Self;

    /// As it is written.
    fn to_body(&self) -> Body;

    /// The row that was read. `None` if it is none of this table.
    fn of_body(body: &Body) -> Option<Self>;
}

macro_rules! rows {
    ($($(#[$doc:meta])* $table:ident { $($(#[$field_doc:meta])* $field:ident: $untouched:expr),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $table {
            $($(#[$field_doc])* pub $field: i64),*
        }

        impl Row for $table {
            const UNTOUCHED: Self = Self { $($field: $untouched),* };

            fn to_body(&self) -> Body {
                Body::Row([$(self.$field),*].into())
            }

            fn of_body(body: &Body) -> Option<Self> {
                match body {
                    Body::Row(fields) => match **fields {
                        [$($field),*] => Some(Self { $($field),* }),
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    )*};
}

rows! {
    /// A warehouse.
    Warehouse {
        /// What its customers have paid.
        ytd: 0
    }
    /// A district.
    District {
        /// What its customers have paid.
        ytd: 0,
        /// Number of its next order.
        next_order: 1
    }
    /// A customer.
    Customer {
        /// What was delivered to him, less what he has paid.
        balance: 0,
        /// What he has paid.
        ytd_payment: 0,
        /// How often.
        payments: 0,
        /// Orders that were delivered to him.
        deliveries: 0
    }
    /// An order.
    Order {
        /// Whose.
        customer: 0,
        /// How many lines it has.
        lines: 0,
        /// Who has delivered it, or [`NO_CARRIER`].
        carrier: NO_CARRIER
    }
    /// A line of an order.
    OrderLine {
        /// Which item.
        item: 0,
        /// From which warehouse.
        supplier: 0,
        /// How many.
        quantity: 0,
        /// What they cost.
        amount: 0,
        /// 1 once they are delivered.
        delivered: 0
    }
    /// How many of an item a warehouse has.
    Stock {
        /// So many.
        quantity: 50,
        /// So many were ordered.
        ytd: 0,
        /// In so many lines.
        orders: 0,
        /// Of which so many came from other warehouses.
        remote_orders: 0
    }
}

/// What stands in a row of the orders that were not delivered.
pub fn new_order_body() -> Body {
    Body::Row([].into())
}

/// A line of an order that `items` stand for, of a warehouse's customer.
pub fn line_of(warehouse: u8, items: u32, line: u8) -> OrderLine {
    let drawn = mix(u64::from(items) << 8 | u64::from(line));
    let item = drawn % u64::from(ITEMS);
    let quantity = 1 + (drawn >> 16) % 10;
    let price = 1 + mix(item) % 100;
    let supplier = if (drawn >> 32).is_multiple_of(8) { (drawn >> 40) as u8 % SUPPLIERS } else { warehouse };
    OrderLine {
        item: item as i64,
        supplier: supplier.into(),
        quantity: quantity as i64,
        amount: (quantity * price) as i64,
        delivered: 0,
    }
}

impl Stock {
    /// What is left when a line was taken from it.
    pub fn less(self, line: &OrderLine, is_remote: bool) -> Self {
        let left = self.quantity - line.quantity;
        Self {
            quantity: if left < REFILL.0 { left + REFILL.1 } else { left },
            ytd: self.ytd + line.quantity,
            orders: self.orders + 1,
            remote_orders: self.remote_orders + i64::from(is_remote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn keys_come_back_in_the_order_of_their_numbers(warehouse: u8, district: u8, numbers: Vec<(u32, u8)>) -> bool {
            let place = Place { warehouse, district };
            let all = numbers.iter().flat_map(|(number, line)| {
                let short = (number % 70_000) as u16;
                [
                    Key::Warehouse(*line),
                    Key::District(place),
                    Key::Customer(place, short),
                    Key::Order(place, *number),
                    Key::NewOrder(place, *number),
                    Key::OrderLine(place, *number, *line),
                    Key::Stock(warehouse, short),
                ]
            });
            let mut all: Vec<Key> = all.collect();
            let come_back = all.iter().all(|key| {
                let bytes = key.bytes();
                let longer = [&bytes[..], &[0]].concat();
                Key::of_bytes(&bytes) == Some(*key)
                    && (Key::of_bytes(&longer).is_none() || bytes.len() == 3)
                    && all_keys().contains(&bytes)
            });
            let order = |key: &Key| match key {
                Key::Order(_, number) => Some(*number),
                _ => None,
            };
            all.sort_by_key(Key::bytes);
            come_back && all.iter().filter_map(order).is_sorted()
        }
    }

    #[test]
    fn rows_come_back_and_only_of_their_table() {
        let line = line_of(1, 7, 3);
        assert_eq!(OrderLine::of_body(&line.to_body()), Some(line));
        assert_eq!(Stock::of_body(&line.to_body()), None);
        assert_eq!(Warehouse::of_body(&Body::Number(3)), None);
        let stock = Stock { quantity: 12, ..Stock::UNTOUCHED };
        let taken = stock.less(&OrderLine { quantity: 5, ..line }, true);
        assert_eq!(taken, Stock { quantity: 98, ytd: 5, orders: 1, remote_orders: 1 });
    }
}
