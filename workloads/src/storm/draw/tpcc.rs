//! `tpcc`: TPC-C's five transactions, nearly in the mix that it asks for, and walks over all its tables.
//!
//! Deliveries are more frequent than there, for a script is short and each should find several.

use super::Mix;
use crate::Random;
use crate::storm::script::{Action, Call, Level, Walk};
use crate::tpcc::{Place, Profile};

/// How large the tables are.
pub(super) struct Scale {
    warehouses: u8,
    districts: u8,
    customers: u16,
}

/// Lines of an order, at most.
const LINES_MAX: u64 = 8;
/// Number of the last carrier.
const CARRIERS: u64 = 10;

impl Scale {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            warehouses: *random.of(&[1, 2, 4, 8]),
            districts: *random.of(&[2, 5, 10]),
            customers: *random.of(&[2, 10, 30]),
        }
    }

    fn place(&self, random: &mut Random) -> Place {
        let warehouse = random.below(self.warehouses.into()) as u8;
        Place { warehouse, district: random.below(self.districts.into()) as u8 }
    }

    fn customer(&self, random: &mut Random) -> u16 {
        random.below(self.customers.into()) as u16
    }

    fn profile(&self, random: &mut Random) -> Profile {
        let place = self.place(random);
        match random.below(26) {
            0..=11 => Profile::NewOrder {
                place,
                customer: self.customer(random),
                lines: 1 + random.below(LINES_MAX) as u8,
                items: random.next_u64() as u32,
            },
            12..=20 => {
                let (customer, amount) = (self.customer(random), 1 + random.below(5000) as u16);
                Profile::Payment { place, customer, amount }
            }
            21..=23 => Profile::Delivery {
                warehouse: place.warehouse,
                districts: self.districts,
                carrier: 1 + random.below(CARRIERS) as u8,
            },
            24 => Profile::OrderStatus { place, customer: self.customer(random) },
            _ => Profile::StockLevel { place },
        }
    }
}

impl Mix {
    pub(super) fn tpcc(&self, random: &mut Random) -> Call {
        if random.one_in(12) {
            let walk = Walk { reverse: random.one_in(2), ..Walk::WHOLE };
            return Call::Read { view: Self::view(random), actions: vec![Action::Scan(0, walk)] };
        }
        let mut actions = vec![Action::Tpcc(self.scale.profile(random))];
        // What stands there within a transaction keeps the conditions too.
        if random.one_in(20) {
            actions.push(Action::Scan(0, Walk::WHOLE));
        }
        // All that these transactions read and then depend on they also write, so snapshots serialize them as well.
        let level = if random.one_in(2) { Level::Snapshot } else { Level::Serializable };
        self.transact(level, actions, random)
    }
}
