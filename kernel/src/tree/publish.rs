//! The pairing of what is visible with where it stands.
//!
//! A reader needs two things that change at different times: a state (memtables and tables) and a sequence. They
//! fit together if (a) every commit up to the sequence stands in the state, and (b) the state's tables were
//! compacted with a horizon not above the sequence, so that nothing the reader may see was dropped.
//!
//! ```text
//! writer   update(new active memtable) … apply commit to it … publish_seq(n)
//! reader   state ─────────────► visible ─────────► generation unchanged? else again
//! ```
//!
//! Commits go to the active memtable of the state in force before they are published, and a state with a new active
//! memtable is in force before any commit goes there. So (a) holds if the state was still in force when the sequence
//! was read, which the generation tells: the acquire load of a sequence whose commit stands only in a later state
//! also brings that state's generation. (b) holds because the horizon was read from the same counter before the
//! state was swapped in, and the reader's lock comes after that swap.
//!
//! A reader that stays longer than one call registers its sequence with [`SnapshotRegistry`] first; then every state
//! loaded later fits, without a retry. Registration reads the visible sequence under the registry's lock, and so
//! does the computation of a horizon, so a horizon never passes a reader that is about to register.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::mark;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Bug, Mutex, RwLock, ordering, planted};
use crate::types::Seq;

/// The state in force and the sequence up to which commits are visible.
pub struct Published<S> {
    current: RwLock<Arc<S>>,
    /// Held while the next state is made, so that updates follow each other and no reader waits for one.
    updating: Mutex<()>,
    /// Number of updates; changes under the write lock.
    generation: AtomicU64,
    visible: AtomicU64,
}

impl<S> Published<S> {
    /// Begins with a state that holds every commit up to `visible`.
    pub fn new(state: Arc<S>, visible: Seq) -> Self {
        Self {
            current: RwLock::new(state),
            updating: Mutex::new(()),
            generation: AtomicU64::new(0),
            visible: AtomicU64::new(visible.get()),
        }
    }

    /// Makes all commits up to `seq` visible; they stand in the state in force. Only the commit leader calls it.
    pub fn publish_seq(&self, seq: Seq) {
        let before = self.visible.load(Ordering::Relaxed);
        assert!(before <= seq.get(), "visibility went backwards, from {before} to {seq}");
        self.visible.store(seq.get(), ordering(Bug::PublishVisibleRelaxed, Ordering::Release));
    }

    /// The greatest visible sequence; whoever sees it also sees what its commit wrote.
    pub fn visible(&self) -> Seq {
        Seq::new(self.visible.load(Ordering::Acquire))
    }

    /// Puts what `next` makes of the state in force in its place; nothing happens if it answers `None`. Updates by
    /// several callers follow each other; readers wait only for the swap of a pointer. Answers the new state; the one
    /// before is dropped outside of the locks.
    pub fn update(&self, next: impl FnOnce(&S) -> Option<S>) -> Option<Arc<S>> {
        let early = planted(Bug::PublishUpdateOutsideLock).then(|| self.load());
        let (state, _before) = {
            let _turn = self.updating.lock();
            let before = early.unwrap_or_else(|| self.load());
            let state = Arc::new(next(&before)?);
            let mut current = self.current.write();
            self.generation.fetch_add(1, Ordering::Release);
            (state.clone(), std::mem::replace(&mut *current, state))
        };
        Some(state)
    }

    /// The state in force. Fits a sequence that was registered before the call.
    pub fn load(&self) -> Arc<S> {
        self.current.read().clone()
    }

    /// A state and a sequence that fit together.
    pub fn read_view(&self) -> (Arc<S>, Seq) {
        loop {
            let (state, generation) = {
                let current = self.current.read();
                (current.clone(), self.generation.load(Ordering::Acquire))
            };
            let seq = self.visible();
            // After the acquire load of the sequence, so not earlier than the swap that its commit needed.
            if self.generation.load(Ordering::Acquire) == generation || planted(Bug::PublishNoRecheck) {
                return (state, seq);
            }
            mark!("read_state_retried");
        }
    }
}

struct Registered {
    /// How many hold each sequence.
    counts: BTreeMap<Seq, u64>,
    /// The greatest horizon ever given out: below it versions may be gone.
    horizon: Seq,
}

/// Who reads at which sequence.
pub struct SnapshotRegistry {
    registered: Mutex<Registered>,
}

impl SnapshotRegistry {
    /// Without readers. Versions below `horizon` may be gone already.
    pub fn new(horizon: Seq) -> Arc<Self> {
        Arc::new(Self { registered: Mutex::new(Registered { counts: BTreeMap::new(), horizon }) })
    }

    /// Registers a reader at the visible sequence.
    pub fn register<S>(self: &Arc<Self>, published: &Published<S>) -> SnapshotGuard {
        let early = planted(Bug::SnapshotReadsOutsideLock).then(|| published.visible());
        let mut registered = self.registered.lock();
        let seq = early.unwrap_or_else(|| published.visible());
        *registered.counts.entry(seq).or_insert(0) += 1;
        drop(registered);
        SnapshotGuard { registry: self.clone(), seq }
    }

    /// Registers a reader in the past.
    ///
    /// # Errors
    /// The oldest sequence that can still be read, if `seq` is older.
    pub fn register_at(self: &Arc<Self>, seq: Seq) -> Result<SnapshotGuard, Seq> {
        let mut registered = self.registered.lock();
        if seq < registered.horizon && !registered.counts.contains_key(&seq) {
            return Err(registered.horizon);
        }
        *registered.counts.entry(seq).or_insert(0) += 1;
        drop(registered);
        Ok(SnapshotGuard { registry: self.clone(), seq })
    }

    /// The oldest registered sequence.
    pub fn oldest(&self) -> Option<Seq> {
        self.registered.lock().counts.first_key_value().map(|(seq, _)| *seq)
    }

    /// How many readers are registered.
    pub fn count(&self) -> u64 {
        self.registered.lock().counts.values().sum()
    }

    /// Who reads, for a job that drops versions: the visible sequence, every registered one in ascending order, and
    /// the sequence from which on every version must stay, which `kept_from` tells of the visible one. From now on
    /// nobody can register before the latter, except at a sequence that is registered already.
    pub fn readers<S>(&self, published: &Published<S>, kept_from: impl FnOnce(Seq) -> Seq) -> ReadersNow {
        let mut registered = self.registered.lock();
        let visible = published.visible();
        let kept_from = kept_from(visible);
        registered.horizon = registered.horizon.max(kept_from);
        ReadersNow { visible, registered: registered.counts.keys().copied().collect(), kept_from }
    }
}

/// Who reads what at one moment.
pub struct ReadersNow {
    /// The newest that anybody can see.
    pub visible: Seq,
    /// Registered sequences, ascending.
    pub registered: Vec<Seq>,
    /// Every version from here on stays readable.
    pub kept_from: Seq,
}

/// A registered sequence, released when dropped.
pub struct SnapshotGuard {
    registry: Arc<SnapshotRegistry>,
    seq: Seq,
}

impl SnapshotGuard {
    /// What the reader reads at.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        let mut registered = self.registry.registered.lock();
        *registered.counts.entry(self.seq).or_insert(0) += 1;
        drop(registered);
        Self { registry: self.registry.clone(), seq: self.seq }
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut registered = self.registry.registered.lock();
        match registered.counts.get_mut(&self.seq) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                let count = registered.counts.remove(&self.seq);
                debug_assert!(count == Some(1), "a snapshot was released twice");
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        /// Whatever registers, goes and publishes: no horizon passes a reader, and none goes backwards.
        fn a_horizon_never_passes_a_reader(steps: Vec<(u8, u8)>) -> bool {
            let published = Published::new(Arc::new(()), Seq::ZERO);
            let registry = SnapshotRegistry::new(Seq::ZERO);
            let mut readers: Vec<SnapshotGuard> = Vec::new();
            let mut last = Seq::ZERO;
            for (step, value) in steps {
                match step % 5 {
                    0 => readers.push(registry.register(&published)),
                    1 => published.publish_seq(published.visible().next()),
                    2 if !readers.is_empty() => drop(readers.swap_remove(usize::from(value) % readers.len())),
                    3 => {
                        let asked = Seq::new(u64::from(value) % 16);
                        match registry.register_at(asked) {
                            Ok(reader) => readers.extend([reader.clone(), reader]),
                            Err(oldest) => assert!(asked < oldest && oldest == last),
                        }
                    }
                    _ => {
                        let now = registry.readers(&published, |visible| {
                            Seq::new(visible.get().saturating_sub(u64::from(value) % 4))
                        });
                        let horizon = now.kept_from.max(last);
                        assert!(now.kept_from <= now.visible && now.visible == published.visible());
                        assert!(readers.iter().all(|reader| now.registered.contains(&reader.seq())));
                        last = horizon;
                    }
                }
                assert_eq!(registry.oldest(), readers.iter().map(SnapshotGuard::seq).min());
                assert_eq!(registry.count(), readers.len() as u64);
            }
            true
        }
    }

    #[test]
    fn an_update_follows_the_state_in_force() {
        let published = Published::new(Arc::new(1), Seq::new(5));
        assert_eq!(published.update(|_| None), None);
        assert_eq!(published.update(|before| Some(before + 1)), Some(Arc::new(2)));
        published.publish_seq(Seq::new(6));
        assert_eq!(published.read_view(), (Arc::new(2), Seq::new(6)));
        assert_eq!(*published.load(), 2);
    }
}
