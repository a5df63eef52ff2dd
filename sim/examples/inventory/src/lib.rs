//! Stock, orders and reservations of a shop.
//!
//! ```text
//! keyspace stock          item -> units that can be sold
//! keyspace reservations   (item, order) -> units set aside for it
//! keyspace orders         order -> item, units, state
//! ```
//! An order sets units of one item aside; it is shipped or cancelled later. Every change is one serializable transaction
//! over all keyspaces that it touches, so that at any moment and after any crash
//!
//! - units in stock, set aside and shipped are together what was delivered;
//! - a reservation is there exactly as long as its order is open.
//!
//! Beside the database there is one file, the export for the accountants: see [`export`].

pub mod export;
mod order;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::env::{Env, IoError};
use holdfast::sync::Semaphore;
use holdfast::{Db, KeyspaceOptions, Options, TypedKeyspace};

pub use order::{Order, OrderState};

/// An item of the catalogue.
pub type Item = u64;
/// The number of an order, given by whoever places it.
pub type OrderNumber = u64;

/// What went wrong.
#[derive(Clone, Debug)]
pub enum Error {
    /// The database says no.
    Database(holdfast::Error),
    /// The export could not be written or read.
    Export(IoError),
    /// The database holds something that this program never writes.
    Inconsistent(String),
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Export(error) => write!(f, "export: {error}"),
            Self::Inconsistent(what) => write!(f, "inconsistent: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<holdfast::Error> for Error {
    fn from(error: holdfast::Error) -> Self {
        Self::Database(error)
    }
}

impl Error {
    /// True if the service has to be started anew before it can do anything again.
    pub fn ends_the_service(&self) -> bool {
        matches!(self, Self::Database(holdfast::Error::Stopped(_) | holdfast::Error::Closed))
    }
}

/// What came of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// Its units are set aside.
    Reserved,
    /// There are not so many.
    SoldOut,
    /// There is an order of this number already; nothing was changed.
    Known,
}

/// How the shop is kept.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of the database.
    pub database: Options,
    /// Of its keyspaces, when they are made.
    pub keyspaces: KeyspaceOptions,
}

/// An open inventory. Clones are handles to the same one.
#[derive(Clone)]
pub struct Inventory {
    env: Arc<dyn Env>,
    folder: PathBuf,
    db: Db,
    stock: TypedKeyspace<Item, u64>,
    reservations: TypedKeyspace<(Item, OrderNumber), u64>,
    orders: TypedKeyspace<OrderNumber, Order>,
    /// Has one permit: two exports at once would write to one file.
    exporting: Arc<Semaphore>,
}

/// What is where; see [`Inventory::audit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Units that can be sold.
    pub in_stock: u64,
    /// Units set aside.
    pub reserved: u64,
    /// Units that have left.
    pub shipped: u64,
}

impl Audit {
    /// All units that were ever delivered.
    pub fn delivered(&self) -> u64 {
        self.in_stock + self.reserved + self.shipped
    }
}

impl Inventory {
    /// Opens the inventory in a folder, or makes one there. The folder's parent must be there.
    pub async fn open(env: Arc<dyn Env>, folder: &Path, settings: Settings) -> Result<Self> {
        holdfast::env::make_directory(env.disk(), folder).await.map_err(Error::Export)?;
        let db = Db::open_in(Arc::clone(&env), folder.join("db"), settings.database).await?;
        for name in ["stock", "reservations", "orders"] {
            if db.keyspace(name).is_err() {
                db.create_keyspace(name, settings.keyspaces.clone()).await?;
            }
        }
        Ok(Self {
            env,
            folder: folder.to_owned(),
            stock: db.keyspace("stock")?.typed(),
            reservations: db.keyspace("reservations")?.typed(),
            orders: db.keyspace("orders")?.typed(),
            exporting: Arc::new(Semaphore::new(1)),
            db,
        })
    }

    /// Puts delivered units into stock.
    pub async fn deliver(&self, item: Item, units: u64) -> Result<()> {
        loop {
            let mut txn = self.db.begin(Default::default());
            let before = self.stock.get_in(&txn, &item).await?.unwrap_or(0);
            self.stock.put_in(&mut txn, &item, &(before + units))?;
            match txn.commit().await {
                Err(holdfast::Error::Conflict(_)) => continue,
                outcome => return outcome.map(drop).map_err(Error::from),
            }
        }
    }

    /// Places an order. To place the same one again, because nobody knows what became of the first attempt, does no
    /// harm.
    pub async fn order(&self, number: OrderNumber, item: Item, units: u64) -> Result<Placed> {
        loop {
            let mut txn = self.db.begin(Default::default());
            if self.orders.get_in(&txn, &number).await?.is_some() {
                return Ok(Placed::Known);
            }
            let in_stock = self.stock.get_in(&txn, &item).await?.unwrap_or(0);
            let Some(left) = in_stock.checked_sub(units) else { return Ok(Placed::SoldOut) };
            self.stock.put_in(&mut txn, &item, &left)?;
            #[cfg(feature = "planted-bug")]
            {
                match txn.commit().await {
                    Err(holdfast::Error::Conflict(_)) => continue,
                    outcome => outcome?,
                };
                txn = self.db.begin(Default::default());
            }
            self.reservations.put_in(&mut txn, &(item, number), &units)?;
            self.orders.put_in(&mut txn, &number, &Order { item, units, state: OrderState::Open })?;
            match txn.commit().await {
                Err(holdfast::Error::Conflict(_)) => continue,
                outcome => return outcome.map(|_| Placed::Reserved).map_err(Error::from),
            }
        }
    }

    /// Ships an open order. False if there is none of this number that is open.
    pub async fn ship(&self, number: OrderNumber) -> Result<bool> {
        self.end(number, OrderState::Shipped).await
    }

    /// Cancels an open order: its units can be sold again. False if there is none of this number that is open.
    pub async fn cancel(&self, number: OrderNumber) -> Result<bool> {
        self.end(number, OrderState::Cancelled).await
    }

    async fn end(&self, number: OrderNumber, state: OrderState) -> Result<bool> {
        loop {
            let mut txn = self.db.begin(Default::default());
            let Some(order) = self.orders.get_in(&txn, &number).await? else { return Ok(false) };
            if order.state != OrderState::Open {
                return Ok(false);
            }
            self.orders.put_in(&mut txn, &number, &Order { state, ..order })?;
            self.reservations.delete_in(&mut txn, &(order.item, number))?;
            if state == OrderState::Cancelled {
                let in_stock = self.stock.get_in(&txn, &order.item).await?.unwrap_or(0);
                self.stock.put_in(&mut txn, &order.item, &(in_stock + order.units))?;
            }
            match txn.commit().await {
                Err(holdfast::Error::Conflict(_)) => continue,
                outcome => return outcome.map(|_| true).map_err(Error::from),
            }
        }
    }

    /// The order of a number.
    pub async fn find(&self, number: OrderNumber) -> Result<Option<Order>> {
        Ok(self.orders.get(&number).await?)
    }

    /// Counts everything at one moment, and compares orders with reservations.
    pub async fn audit(&self) -> Result<Audit> {
        let now = self.db.snapshot();
        let mut audit = Audit::default();
        let mut stock = self.stock.range_at(&now, ..).await?;
        while let Some((_, units)) = stock.next().await? {
            audit.in_stock += units;
        }
        let mut orders = self.orders.range_at(&now, ..).await?;
        while let Some((number, order)) = orders.next().await? {
            let reserved = self.reservations.get_at(&now, &(order.item, number)).await?;
            let wanted = (order.state == OrderState::Open).then_some(order.units);
            if reserved != wanted {
                let what = format!(
                    "order {number} is {:?}, and {reserved:?} units are set aside for it",
                    order.state
                );
                return Err(Error::Inconsistent(what));
            }
            audit.reserved += reserved.unwrap_or(0);
            audit.shipped += if order.state == OrderState::Shipped { order.units } else { 0 };
        }
        Ok(audit)
    }

    /// Writes the export anew; see [`export`].
    pub async fn export(&self) -> Result<()> {
        let _only_one = self.exporting.acquire(1).await;
        let now = self.db.snapshot();
        let mut orders = Vec::new();
        let mut all = self.orders.range_at(&now, ..).await?;
        while let Some(entry) = all.next().await? {
            orders.push(entry);
        }
        export::write(&*self.env, &self.folder, &orders).await.map_err(Error::Export)
    }

    /// The orders of the last export; none if there was none yet.
    pub async fn exported(&self) -> Result<Option<Vec<(OrderNumber, Order)>>> {
        let text = export::read(&*self.env, &self.folder).await.map_err(Error::Export)?;
        let parse = |text: String| export::parse(&text).map_err(Error::Inconsistent);
        text.map(parse).transpose()
    }

    /// Ends it in good order.
    pub async fn close(self) -> Result<()> {
        Ok(self.db.close().await?)
    }
}
