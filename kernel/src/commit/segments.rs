//! Where log segments come from and go to.
//!
//! Invariant: a segment is named by the durable manifest before the writer may use it, and removed only after the
//! durable manifest has forgotten it.

use std::sync::Arc;

use crate::env::Env;
use crate::error::{Error, Result};
use crate::manifest::door::Door;
use crate::manifest::{Change, FileNumbers};
use crate::sync::Mutex;
use crate::types::FileId;
use crate::wal::{Released, Segment, SegmentMaker, SegmentSize, Spares};

/// Makes and removes segments.
pub(crate) struct Segments {
    env: Arc<dyn Env>,
    maker: SegmentMaker,
    spares: Arc<Spares>,
    door: Arc<Door>,
    numbers: Arc<FileNumbers>,
    /// Made, but the manifest had no room to list them, and may have listed them all the same.
    unlisted: Mutex<Vec<Segment>>,
    /// Let go by the writer; not yet taken out of the manifest.
    released: Mutex<Vec<Released>>,
}

impl Segments {
    pub fn new(
        env: Arc<dyn Env>,
        maker: SegmentMaker,
        spares: Arc<Spares>,
        door: Arc<Door>,
        numbers: Arc<FileNumbers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            env,
            maker,
            spares,
            door,
            numbers,
            unlisted: Mutex::new(Vec::new()),
            released: Mutex::new(Vec::new()),
        })
    }

    /// What should be made ahead; `None` while a segment waits.
    pub fn wanted(&self) -> Option<SegmentSize> {
        self.spares.wanted()
    }

    /// Makes a segment, names it in the manifest and offers it to the writer.
    ///
    /// # Errors
    /// `DiskFull`, `TooManyFiles`, `Stopped`: nothing was made.
    pub async fn make(&self, size: SegmentSize) -> Result<()> {
        let kept = self.take_unlisted(size.least);
        let segment = match kept {
            Some(segment) => segment,
            None => self.maker.make(self.numbers.take(), FileId::new(self.env.random_u64()), size).await?,
        };
        let (no, id) = (segment.no(), segment.id());
        match self.door.change(vec![Change::AddLogSegment { no, id }]).await {
            Ok(_) => {
                tracing::debug!(no = no.get(), bytes = segment.capacity(), "log segment made");
                self.spares.offer(segment);
                Ok(())
            }
            Err(error) if matches!(error, Error::Stopped(_)) => Err(error),
            Err(error) => {
                if self.door.is_settled() {
                    drop(segment);
                    self.maker.remove(&Released { no, id }).await;
                } else {
                    self.unlisted.lock().push(segment);
                }
                Err(error)
            }
        }
    }

    fn take_unlisted(&self, least: u64) -> Option<Segment> {
        let mut unlisted = self.unlisted.lock();
        let at = unlisted.iter().position(|segment| segment.capacity() >= least)?;
        Some(unlisted.swap_remove(at))
    }

    /// Takes what the writer let go.
    pub fn bury(&self, released: Vec<Released>) {
        self.released.lock().extend(released);
    }

    /// Takes released segments out of the manifest, then removes their files.
    ///
    /// # Errors
    /// `DiskFull`: tried again later. `Stopped`, `Closed`.
    pub async fn remove_released(&self) -> Result<()> {
        let released = std::mem::take(&mut *self.released.lock());
        if released.is_empty() {
            return Ok(());
        }
        let changes = released.iter().map(|segment| Change::RemoveLogSegment { no: segment.no }).collect();
        if let Err(error) = self.door.change(changes).await {
            self.released.lock().extend(released);
            return Err(error);
        }
        for segment in &released {
            self.maker.remove(segment).await;
        }
        Ok(())
    }
}
