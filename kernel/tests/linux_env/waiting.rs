//! The executor, timers, and operations whose caller went away.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use holdfast::env::linux::{LinuxEnv, block_on};
use holdfast::env::{Buf, Env, Io, OpenOptions};

use crate::{Scratch, WAYS, Way, eventually, poll_by_hand, thread_waker};

/// A number that two futures raise in turns, each waiting for its parity.
#[derive(Default)]
struct Table {
    turn: AtomicU64,
    waiting: Mutex<[Option<Waker>; 2]>,
}

async fn play(table: &Table, side: usize, rounds: u64) {
    for _ in 0..rounds {
        poll_fn(|context| {
            table.waiting.lock().unwrap()[side] = Some(context.waker().clone());
            if table.turn.load(Ordering::SeqCst) % 2 == side as u64 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        table.turn.fetch_add(1, Ordering::SeqCst);
        let other = table.waiting.lock().unwrap()[1 - side].take();
        if let Some(other) = other {
            other.wake();
        }
    }
}

#[test]
fn wakes_from_other_threads_are_never_lost() {
    const ROUNDS: u64 = 10_000;
    let tables = [Table::default(), Table::default()];
    std::thread::scope(|scope| {
        for table in &tables {
            for side in 0..2 {
                scope.spawn(move || block_on(play(table, side, ROUNDS)));
            }
        }
    });
    assert!(tables.iter().all(|table| table.turn.load(Ordering::SeqCst) == 2 * ROUNDS));
}

#[test]
fn nested_calls_keep_each_others_wakes() {
    let table = Arc::new(Table::default());
    let other = Arc::clone(&table);
    let opponent = std::thread::spawn(move || block_on(play(&other, 1, 1000)));
    // Polled together: the inner executor runs while wake-ups for the outer one arrive.
    let mut game = pin!(play(&table, 0, 1000));
    let mut nested = 0;
    block_on(poll_fn(|context| {
        if game.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        nested += 1;
        let mut first = true;
        block_on(poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut first, false) { Poll::Pending } else { Poll::Ready(()) }
        }));
        Poll::Pending
    }));
    opponent.join().unwrap();
    assert!(nested > 0);
    assert_eq!(table.turn.load(Ordering::SeqCst), 2000);
}

#[test]
fn a_thread_may_block_only_while_inside() {
    let scratch = Scratch::new("flag");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &scratch.path("file"), OpenOptions::create());
    let is_ready = || matches!(file.sync_data(), Io::Ready(_));
    assert!(!is_ready());
    block_on(async {
        assert!(is_ready());
        block_on(async { assert!(is_ready()) });
        assert!(is_ready(), "an inner call gives back what it found");
    });
    assert!(!is_ready());
    let panicked = std::panic::catch_unwind(|| block_on(async { panic!("on purpose") }));
    assert!(panicked.is_err() && !is_ready(), "a panic gives the thread back, too");
    assert_eq!(block_on(async { 7 }), 7);
}

#[test]
fn sleeps_are_never_early_and_seldom_late() {
    let env = LinuxEnv::new();
    assert!(matches!(env.sleep_until(env.now()), Io::Ready(_)));
    for way in WAYS {
        let mut late: Vec<u64> = (0..60)
            .map(|_| {
                let deadline = env.now().after(1_000_000);
                match way {
                    Way::Inline => block_on(env.sleep_until(deadline)),
                    Way::Pooled => poll_by_hand(env.sleep_until(deadline)),
                }
                let now = env.now();
                assert!(now >= deadline, "early");
                now.since(deadline)
            })
            .collect();
        late.sort_unstable();
        assert!(late[late.len() / 4] < 1_000_000, "a quarter within a millisecond: {late:?}");
    }
}

#[test]
fn many_sleeps_end_each_at_its_time_and_dropped_ones_are_forgotten() {
    let env = LinuxEnv::new();
    let began = env.now();
    let waker = thread_waker();
    let mut context = Context::from_waker(&waker);
    // Spread so that earlier deadlines come after later ones and displace them.
    let mut sleeps: Vec<_> = (0..500_u64).map(|i| began.after((i * 7919 % 500 + 100) * 100_000)).collect();
    let mut waiting: Vec<_> =
        sleeps.drain(..).map(|deadline| (deadline, env.sleep_until(deadline))).collect();
    for (_, sleep) in &mut waiting {
        assert!(pin!(sleep).poll(&mut context).is_pending());
    }
    let mut number = 0;
    waiting.retain(|_| {
        number += 1;
        number % 3 != 0
    });
    block_on(poll_fn(|context| {
        waiting.retain_mut(|(deadline, sleep)| {
            let before = env.now();
            match pin!(sleep).poll(context) {
                Poll::Ready(()) => {
                    assert!(env.now() >= *deadline, "early");
                    false
                }
                Poll::Pending => {
                    assert!(before < deadline.after(5_000_000_000), "a sleep was forgotten");
                    true
                }
            }
        });
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }));
    assert!(env.now().since(began) >= 59_000_000, "the last one ends after all others");
}

#[test]
fn a_dropped_write_goes_on_alone() {
    let scratch = Scratch::new("dropped");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &scratch.path("file"), OpenOptions::create());
    let waker = thread_waker();
    let len = 8 << 20;
    for round in 1..=20_u8 {
        let mut write = file.write_at(0, Buf::copy_of(&vec![round; len]));
        if round % 2 == 0 {
            // Mostly under way by now; done, if this thread was held up.
            drop(pin!(&mut write).poll(&mut Context::from_waker(&waker)));
        }
        drop(write);
        // Memory that a careless write would still be reading is taken again and overwritten.
        let scribble = Buf::copy_of(&vec![0xEE; len]);
        let done = |byte: u8| Way::Inline.read(file.as_ref(), len as u64 - 1, 1) == [byte];
        eventually("the write goes on", || done(round));
        let bytes = Way::Inline.read(file.as_ref(), 0, len);
        assert!(bytes.iter().all(|byte| *byte == round), "round {round}");
        drop(scribble);
    }
}

#[test]
fn a_file_and_its_environment_may_go_before_their_operation() {
    let scratch = Scratch::new("orphan");
    let path = scratch.path("file");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &path, OpenOptions::create());
    let writes: Vec<_> =
        (0..40_u64).map(|i| file.write_at(i * 4096, Buf::copy_of(&[i as u8; 4096]))).collect();
    drop(file);
    drop(env);
    for (i, write) in writes.into_iter().enumerate() {
        let (count, buf) = poll_by_hand(write);
        assert_eq!((count.unwrap(), buf[0]), (4096, i as u8));
    }
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.chunks(4096).enumerate().all(|(i, chunk)| chunk == [i as u8; 4096]));
}

#[test]
fn operations_may_be_polled_by_one_thread_and_finished_by_another() {
    let scratch = Scratch::new("moved");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &scratch.path("file"), OpenOptions::create());
    let (sender, receiver) = channel();
    let finisher = std::thread::spawn(move || {
        let results = receiver.into_iter().map(|write: Io<_>| block_on(write));
        results.map(|result: (holdfast::env::IoResult<usize>, Buf)| result.0.unwrap()).sum::<usize>()
    });
    let waker = thread_waker();
    for i in 0..200 {
        let mut write = file.write_at(i * 512, Buf::zeroed(512));
        // Done already or not: only an unfinished one may be polled again.
        if pin!(&mut write).poll(&mut Context::from_waker(&waker)).is_pending() {
            sender.send(write).unwrap();
        } else {
            sender.send(file.write_at(i * 512, Buf::zeroed(512))).unwrap();
        }
    }
    drop(sender);
    assert_eq!(finisher.join().unwrap(), 200 * 512);
}
