//! State and sequence as a reader gets them, and snapshots against horizons.

use std::sync::Arc;

use holdfast::loom_exports::{Published, SnapshotRegistry};
use holdfast::types::Seq;
use holdfast_loom_tests::{Guarded, model};
use loom::thread;

/// Stands for a memtable that takes one commit: whoever looks at what the commit wrote touches it.
type Commit = Arc<Guarded>;
/// The commits a state has room for; sequences 1, 2, …
type State = Vec<Commit>;

fn commit() -> Commit {
    Arc::new(Guarded::new())
}

/// Commits go to the active memtable of the state in force, a freeze comes between, a reader looks.
fn view() {
    let published = Arc::new(Published::<State>::new(Arc::new(vec![commit()]), Seq::ZERO));
    let reading = spawn_reading(&published);
    published.load()[0].write();
    published.publish_seq(Seq::new(1));
    freeze(&published);
    published.load()[1].write();
    published.publish_seq(Seq::new(2));
    reading.join().unwrap();
}

/// Room for one commit more.
fn freeze(published: &Published<State>) {
    published.update(|before| Some([&before[..], &[commit()]].concat()));
}

fn spawn_reading(published: &Arc<Published<State>>) -> thread::JoinHandle<()> {
    let published = published.clone();
    thread::spawn(move || {
        let (state, seq) = published.read_view();
        let visible = seq.get() as usize;
        assert!(visible <= state.len(), "a visible commit does not stand in the state");
        state[..visible].iter().for_each(|commit| commit.read());
    })
}

model!(
    a_view_holds_every_visible_commit,
    view,
    catches PublishNoRecheck: "does not stand in the state",
    catches PublishVisibleRelaxed: "Causality violation"
);

/// A flush, in a thread of its own, swaps the state while commits are published: what was frozen stays in reach.
fn view_beside_a_flush() {
    let published = Arc::new(Published::<State>::new(Arc::new(vec![commit(), commit()]), Seq::ZERO));
    let flushing = {
        let published = published.clone();
        thread::spawn(move || drop(published.update(|before| Some(before.clone()))))
    };
    let reading = spawn_reading(&published);
    for seq in 1..=2 {
        published.load()[seq - 1].write();
        published.publish_seq(Seq::new(seq as u64));
    }
    flushing.join().unwrap();
    reading.join().unwrap();
}

model!(
    a_view_holds_every_visible_commit_while_another_thread_swaps,
    view_beside_a_flush,
    catches PublishVisibleRelaxed: "Causality violation"
);

/// A flush and the leader's freeze update the state side by side, and a reader takes a view meanwhile.
fn view_beside_two_updates() {
    let published = Arc::new(Published::<State>::new(Arc::new(vec![commit()]), Seq::ZERO));
    let flushing = {
        let published = published.clone();
        thread::spawn(move || drop(published.update(|before| Some(before.clone()))))
    };
    let reading = spawn_reading(&published);
    published.load()[0].write();
    published.publish_seq(Seq::new(1));
    freeze(&published);
    published.load().get(1).expect("an update was lost").write();
    published.publish_seq(Seq::new(2));
    flushing.join().unwrap();
    reading.join().unwrap();
    assert_eq!(published.load().len(), 2, "an update was lost");
}

model!(
    updates_follow_each_other_under_a_reader,
    view_beside_two_updates,
    catches PublishUpdateOutsideLock: "an update was lost",
    catches PublishNoRecheck: "does not stand in the state",
    catches PublishVisibleRelaxed: "Causality violation"
);

/// A horizon is computed while a reader registers and a commit is published.
fn horizon() {
    let published = Arc::new(Published::new(Arc::new(()), Seq::ZERO));
    let registry = SnapshotRegistry::new(Seq::ZERO);
    let compacting = {
        let (published, registry) = (published.clone(), registry.clone());
        thread::spawn(move || registry.readers(&published, |visible| visible))
    };
    let registering = {
        let (published, registry) = (published.clone(), registry.clone());
        thread::spawn(move || registry.register(&published))
    };
    published.publish_seq(Seq::new(1));
    let then = compacting.join().unwrap();
    let reader = registering.join().unwrap();
    // Either the job knew of the reader, or the reader came later and reads nothing older than what the job keeps.
    let known = then.registered.contains(&reader.seq());
    assert!(known || then.kept_from <= reader.seq(), "versions that a reader needs may be gone");
    assert_eq!(registry.readers(&published, |visible| visible).registered, [reader.seq()]);
}

model!(
    a_horizon_never_passes_a_reader_about_to_register,
    horizon,
    catches SnapshotReadsOutsideLock: "versions that a reader needs"
);
