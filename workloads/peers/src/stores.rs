//! The stores, each as its own documentation recommends, with the same memory and the same durability.

use std::path::Path;

use holdfast::env::linux::block_on;
use redb::ReadableDatabase;

use crate::store::{Failure, KEY_LEN, Store};

/// Holdfast.
pub struct Holdfast {
    db: holdfast::Db,
    keyspace: holdfast::Keyspace,
}

impl Holdfast {
    /// A fresh one.
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Box<dyn Store>, Failure> {
        let options = holdfast::Options { memory_limit_bytes: memory_bytes, ..Default::default() };
        let db = block_on(holdfast::Db::open(dir, options))?;
        let keyspace = db.default_keyspace()?;
        Ok(Box::new(Self { db, keyspace }))
    }
}

impl Store for Holdfast {
    fn name(&self) -> &'static str {
        "holdfast"
    }

    fn load(&self, entries: &mut dyn Iterator<Item = ([u8; KEY_LEN], Vec<u8>)>) -> Result<(), Failure> {
        let mut batch = holdfast::WriteBatch::new();
        for (key, value) in entries {
            batch.put(self.keyspace.id(), &key, &value)?;
        }
        block_on(self.db.write(batch, holdfast::Durability::Buffered))?;
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        block_on(async {
            self.db.sync().await?;
            self.db.wait_idle().await
        })?;
        Ok(())
    }

    fn put(&self, key: &[u8; KEY_LEN], value: &[u8]) -> Result<(), Failure> {
        block_on(self.keyspace.put(key, value))?;
        Ok(())
    }

    fn get(&self, key: &[u8; KEY_LEN], see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        Ok(block_on(self.keyspace.get(key))?.map(|value| see(&value)).is_some())
    }

    fn range(
        &self,
        start: &[u8; KEY_LEN],
        limit: usize,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        block_on(async {
            let scan = holdfast::Scan::range(start.to_vec()..).limit(limit as u64);
            let mut cursor = self.keyspace.scan(scan).await?;
            while let Some(entry) = cursor.next().await? {
                see(entry.key, entry.value);
            }
            Ok(())
        })
    }
}

/// fjall.
pub struct Fjall {
    db: fjall::Database,
    keyspace: fjall::Keyspace,
}

impl Fjall {
    /// A fresh one.
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Box<dyn Store>, Failure> {
        let db = fjall::Database::builder(dir).cache_size(memory_bytes / 2).open()?;
        let keyspace = db.keyspace("default", fjall::KeyspaceCreateOptions::default)?;
        Ok(Box::new(Self { db, keyspace }))
    }
}

impl Store for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn load(&self, entries: &mut dyn Iterator<Item = ([u8; KEY_LEN], Vec<u8>)>) -> Result<(), Failure> {
        let mut batch = self.db.batch();
        for (key, value) in entries {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        batch.commit()?;
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        self.db.persist(fjall::PersistMode::SyncAll)?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    fn put(&self, key: &[u8; KEY_LEN], value: &[u8]) -> Result<(), Failure> {
        self.keyspace.insert(key.as_slice(), value)?;
        self.db.persist(fjall::PersistMode::SyncData)?;
        Ok(())
    }

    fn get(&self, key: &[u8; KEY_LEN], see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        Ok(self.keyspace.get(key)?.map(|value| see(&value)).is_some())
    }

    fn range(
        &self,
        start: &[u8; KEY_LEN],
        limit: usize,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        for guard in self.keyspace.range(start.to_vec()..).take(limit) {
            let (key, value) = guard.into_inner()?;
            see(&key, &value);
        }
        Ok(())
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("default");

/// redb.
pub struct Redb {
    db: redb::Database,
}

impl Redb {
    /// A fresh one.
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Box<dyn Store>, Failure> {
        let cache = usize::try_from(memory_bytes / 2)?;
        let db = redb::Builder::new().set_cache_size(cache).create(dir.join("redb"))?;
        let write = db.begin_write()?;
        write.open_table(TABLE)?;
        write.commit()?;
        Ok(Box::new(Self { db }))
    }
}

impl Store for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn load(&self, entries: &mut dyn Iterator<Item = ([u8; KEY_LEN], Vec<u8>)>) -> Result<(), Failure> {
        let mut write = self.db.begin_write()?;
        write.set_durability(redb::Durability::None)?;
        {
            let mut table = write.open_table(TABLE)?;
            for (key, value) in entries {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        self.db.begin_write()?.commit()?;
        Ok(())
    }

    fn put(&self, key: &[u8; KEY_LEN], value: &[u8]) -> Result<(), Failure> {
        let write = self.db.begin_write()?;
        write.open_table(TABLE)?.insert(key.as_slice(), value)?;
        write.commit()?;
        Ok(())
    }

    fn get(&self, key: &[u8; KEY_LEN], see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_slice())?.map(|value| see(value.value())).is_some())
    }

    fn range(
        &self,
        start: &[u8; KEY_LEN],
        limit: usize,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        for entry in table.range::<&[u8]>(start.as_slice()..)?.take(limit) {
            let (key, value) = entry?;
            see(key.value(), value.value());
        }
        Ok(())
    }
}
