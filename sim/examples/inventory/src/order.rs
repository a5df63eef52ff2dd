//! An order, as it is stored and exported.

use holdfast::StoredValue;

use crate::Item;

/// How far an order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderState {
    /// Its units are set aside.
    Open,
    /// They have left.
    Shipped,
    /// They went back.
    Cancelled,
}

impl OrderState {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Open, "open"), (Self::Shipped, "shipped"), (Self::Cancelled, "cancelled")];

    /// Its name in the database and in the export.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// An order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// What was ordered.
    pub item: Item,
    /// How much of it.
    pub units: u64,
    /// How far it is.
    pub state: OrderState,
}

impl StoredValue for Order {
    fn to_bytes(&self) -> Vec<u8> {
        format!("{} {} {}", self.item, self.units, self.state.name()).into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let (item, units) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let state = OrderState::of_name(words.next()?)?;
        words.next().is_none().then_some(Self { item, units, state })
    }
}
