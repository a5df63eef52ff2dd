//! Connections: whole frames in order, windows, ends and resets, and what faults, partitions and deaths make of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use holdfast_sim::{
    Address, Connection, Crash, FaultClass, LinkModel, Listener, NetworkError, Outcome, Process, Ratio,
    SimOptions, Trigger, World,
};
use quickcheck::quickcheck;

fn server() -> Address {
    Address::new("b", 7)
}

/// Runs `body` in a world with the processes a and b, of which b listens.
fn with_listener<T, F, Fut>(options: impl Into<SimOptions>, body: F) -> Outcome<T>
where
    T: Send + 'static,
    F: FnOnce(World, Process, Listener) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    holdfast_sim::run(options, |world| async move {
        let (a, b) = (world.process("a"), world.process("b"));
        let listener = b.listen(7).unwrap();
        body(world, a, listener).await
    })
}

/// The same with a connection: a's end and b's.
fn with_connection<T, F, Fut>(options: impl Into<SimOptions>, body: F) -> Outcome<T>
where
    T: Send + 'static,
    F: FnOnce(World, Connection, Connection) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    with_listener(options, |world, a, listener| async move {
        let near = a.connect(&server()).await.unwrap();
        let far = listener.accept().await;
        std::mem::forget(listener);
        body(world, near, far).await
    })
}

async fn frame(connection: &Connection) -> Vec<u8> {
    connection.receive().await.unwrap().unwrap()
}

#[test]
fn frames_go_both_ways_until_both_ends_are_closed() {
    with_connection(1, |_, near, far| async move {
        assert_eq!((near.peer(), far.local()), (&server(), &server()));
        assert_eq!(near.local(), far.peer());
        near.send(b"one").await.unwrap();
        near.send(b"").await.unwrap();
        near.close();
        assert_eq!(near.send(b"x").await, Err(NetworkError::Closed));
        assert_eq!((frame(&far).await, frame(&far).await), (b"one".to_vec(), Vec::new()));
        assert_eq!(far.receive().await, Ok(None));
        assert_eq!(far.receive().await, Ok(None), "the end stays");
        far.send(b"answer").await.unwrap();
        assert_eq!(frame(&near).await, b"answer");
        drop(far);
        assert_eq!(near.receive().await, Ok(None));
    });
}

#[test]
fn connecting_is_refused_or_not_answered() {
    with_listener(2, |world, a, listener| async move {
        let refused = a.connect(&Address::new("b", 8)).await;
        assert_eq!(refused.err(), Some(NetworkError::Refused));
        let start = world.now();
        let nobody = a.connect(&Address::new("nobody", 8)).await;
        assert_eq!(nobody.err(), Some(NetworkError::TimedOut));
        assert_eq!(world.now().since(start), 5_000_000_000);
        world.network().clog("b", "a");
        assert_eq!(a.connect(&server()).await.err(), Some(NetworkError::TimedOut), "no way back");
        world.network().heal_all();
        let half_open = listener.accept().await;
        assert_eq!(half_open.receive().await, Err(NetworkError::Reset), "the one who asked has given up");
        assert!(matches!(world.process("b").listen(7), Err(NetworkError::AddressInUse)));
        world.process("b").kill();
        assert_eq!(a.connect(&server()).await.err(), Some(NetworkError::Refused), "a dead process");
        world.process("b").power_loss();
        assert_eq!(a.connect(&server()).await.err(), Some(NetworkError::TimedOut), "a dead machine");
        world.process("b").restart();
        assert_eq!(
            a.connect(&server()).await.err(),
            Some(NetworkError::Refused),
            "it runs, and does not listen"
        );
        drop(listener);
    });
}

#[test]
fn a_full_backlog_refuses_and_a_dropped_listener_resets() {
    let mut options = SimOptions::new(3);
    options.network.backlog = 2;
    with_listener(options, |_, a, listener| async move {
        let first = a.connect(&server()).await.unwrap();
        let second = a.connect(&server()).await.unwrap();
        assert_eq!(a.connect(&server()).await.err(), Some(NetworkError::Refused));
        let accepted = listener.accept().await;
        drop(listener);
        assert_eq!(second.receive().await, Err(NetworkError::Reset));
        first.send(b"still here").await.unwrap();
        assert_eq!(frame(&accepted).await, b"still here");
    });
}

#[test]
fn a_sender_waits_for_a_receiver_that_does_not_take() {
    let mut options = SimOptions::new(4);
    options.network.window_bytes = 1000;
    with_connection(options, |world, near, far| async move {
        assert_eq!(near.send(&[1; 969]).await, Err(NetworkError::TooLarge));
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = std::sync::Arc::clone(&sent);
        let task = world.process("a").spawn("sender", async move {
            for number in 0..20u8 {
                near.send(&[number; 468]).await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        world.sleep(10_000_000_000).await;
        assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), 2, "two frames fill the window");
        world.network().clog("b", "a");
        assert_eq!(frame(&far).await, [0; 468]);
        assert_eq!(frame(&far).await, [1; 468]);
        world.sleep(10_000_000_000).await;
        assert_eq!(
            sent.load(std::sync::atomic::Ordering::Relaxed),
            2,
            "the window comes back by the other way"
        );
        world.network().heal_all();
        for number in 2..20 {
            assert_eq!(frame(&far).await, [number; 468]);
        }
        task.await.unwrap();
        assert_eq!(far.receive().await, Ok(None), "the sender dropped it");
    });
}

#[test]
fn a_clogged_link_is_a_wait_and_nothing_is_lost() {
    with_connection(5, |world, near, far| async move {
        near.send(b"on its way").await.unwrap();
        world.network().partition(&["a"], &["b"]);
        near.send(b"behind it").await.unwrap();
        world.sleep(60_000_000_000).await;
        near.send(b"last").await.unwrap();
        let healed = world.now();
        world.network().heal_all();
        assert_eq!(frame(&far).await, b"on its way");
        assert!(world.now().since(healed) >= 100_000);
        assert_eq!((frame(&far).await, frame(&far).await), (b"behind it".to_vec(), b"last".to_vec()));
    });
}

#[test]
fn a_slow_link_makes_senders_wait() {
    with_connection(6, |world, near, far| async move {
        let slow =
            LinkModel { latency_ns: 1_000, jitter_ns: 0, bytes_per_second: 1_000_000, queue_bytes: 10_000 };
        world.network().set_link("a", "b", Some(slow));
        let start = world.now();
        let receiver = world.process("b").spawn("receiver", async move {
            let mut bytes = 0;
            while let Some(frame) = far.receive().await.unwrap() {
                bytes += frame.len();
            }
            bytes
        });
        for _ in 0..50 {
            near.send(&[0; 9936]).await.unwrap();
        }
        assert!(
            world.now().since(start) >= 480_000_000,
            "fifty frames of ten milliseconds, two in the queue"
        );
        near.close();
        assert_eq!(receiver.await, Ok(50 * 9936));
    });
}

#[test]
fn a_reset_by_fault_breaks_both_ends_and_fires_once() {
    let outcome = with_connection(7, |world, near, far| async move {
        world.network().inject(FaultClass::ConnectionReset, Trigger::Once(2));
        near.send(b"before").await.unwrap();
        assert_eq!(near.send(b"x").await, Err(NetworkError::Reset));
        assert_eq!(near.send(b"x").await, Err(NetworkError::Reset), "for good");
        assert_eq!(near.receive().await, Err(NetworkError::Reset));
        assert_eq!(frame(&far).await, b"before", "what arrived before it is there");
        assert_eq!(far.receive().await, Err(NetworkError::Reset));
        assert_eq!(far.send(b"x").await, Err(NetworkError::Reset));
        let again = world.process("a").connect(&server()).await.unwrap();
        again.send(b"x").await.unwrap();
    });
    assert_eq!(outcome.fired(FaultClass::ConnectionReset), 1);
}

#[test]
fn a_test_resets_connections_between_two() {
    with_connection(8, |world, near, far| async move {
        let waiting = world.process("b").spawn("waits", async move { far.receive().await });
        world.sleep(1_000_000).await;
        world.process("c");
        world.network().reset_connections("b", "c");
        near.send(b"x").await.unwrap();
        assert_eq!(waiting.await, Ok(Ok(Some(b"x".to_vec()))), "of others");
        world.network().reset_connections("b", "a");
        assert_eq!(near.receive().await, Err(NetworkError::Reset));
    });
}

#[test]
fn a_killed_peer_reads_as_the_end_or_as_a_reset() {
    with_connection(9, |world, near, far| async move {
        let _held = far;
        near.send(b"nobody reads this").await.unwrap();
        world.sleep(1_000_000).await;
        world.process("b").kill();
        assert_eq!(near.receive().await, Err(NetworkError::Reset), "it had not read everything");
    });
    with_connection(9, |world, near, far| async move {
        far.send(b"last words").await.unwrap();
        world.process("b").kill();
        assert_eq!(near.receive().await, Ok(Some(b"last words".to_vec())));
        assert_eq!(near.receive().await, Ok(None), "the end, as from an orderly close");
        near.send(b"anybody there?").await.unwrap();
        world.sleep(1_000_000).await;
        assert_eq!(near.send(b"no").await, Err(NetworkError::Reset));
    });
}

#[test]
fn a_peer_without_power_says_nothing_until_it_is_back() {
    with_connection(10, |world, near, far| async move {
        let _held = far;
        let near = std::sync::Arc::new(near);
        let end = std::sync::Arc::clone(&near);
        let read = world.process("a").spawn("reader", async move { end.receive().await });
        world.process("b").power_loss();
        near.send(b"x").await.unwrap();
        world.sleep(60_000_000_000).await;
        assert!(!read.is_finished(), "half open");
        world.process("b").restart();
        world.sleep(60_000_000_000).await;
        assert!(!read.is_finished(), "nobody sent anything");
        near.send(b"x").await.unwrap();
        assert_eq!(read.await, Ok(Err(NetworkError::Reset)));
    });
}

#[test]
fn a_waiting_sender_learns_of_the_death_of_its_peer() {
    let mut options = SimOptions::new(11);
    options.network.window_bytes = 100;
    with_connection(options, |world, near, far| async move {
        let _held = far;
        near.send(&[0; 60]).await.unwrap();
        let sender = world.process("a").spawn("sender", async move { near.send(&[0; 60]).await });
        world.sleep(1_000_000).await;
        assert!(!sender.is_finished());
        world.process("b").kill();
        assert_eq!(sender.await, Ok(Err(NetworkError::Reset)));
    });
}

/// Echoes each frame of each connection.
fn serve(b: &Process) {
    let (process, listener) = (b.clone(), b.listen(7).unwrap());
    drop(b.spawn("server", async move {
        loop {
            let connection = listener.accept().await;
            drop(process.spawn("echo", async move {
                while let Ok(Some(frame)) = connection.receive().await {
                    if connection.send(&frame).await.is_err() {
                        return;
                    }
                }
            }));
        }
    }));
}

/// Sends numbered frames to an echo over whatever is asked for; gives those that came back, connection by connection.
async fn echoes(world: World, classes: &'static [FaultClass], crash: Option<Crash>) -> Vec<Vec<u32>> {
    let (a, b) = (world.process("a"), world.process("b"));
    serve(&b);
    for class in classes {
        world.network().set_fault_rate(*class, Ratio::new(1, 10));
    }
    let mut all = Vec::new();
    for life in 0..3 {
        let Ok(connection) = a.connect(&server()).await else {
            continue;
        };
        let connection = std::sync::Arc::new(connection);
        let receiving = std::sync::Arc::clone(&connection);
        let receiver = a.spawn("receiver", async move {
            let mut got = Vec::new();
            while let Ok(Some(frame)) = receiving.receive().await {
                got.push(u32::from_le_bytes(frame[..4].try_into().unwrap()));
            }
            got
        });
        for number in 0..30u32 {
            if connection.send(&number.to_le_bytes().repeat(1 + number as usize)).await.is_err() {
                break;
            }
            world.sleep(world.random_below(100_000)).await;
            if let (15, 1, Some(crash)) = (number, life, crash) {
                if crash == Crash::Kill {
                    b.kill()
                } else {
                    b.power_loss()
                }
                b.restart();
                serve(&b);
            }
        }
        connection.close();
        all.push(receiver.await.unwrap());
    }
    all
}

const MESSAGES: [FaultClass; 4] = [
    FaultClass::MessageLost,
    FaultClass::MessageDuplicated,
    FaultClass::MessageReordered,
    FaultClass::MessageDelayed,
];
const ALL: [FaultClass; 5] = [
    FaultClass::MessageLost,
    FaultClass::MessageDuplicated,
    FaultClass::MessageReordered,
    FaultClass::MessageDelayed,
    FaultClass::ConnectionReset,
];

quickcheck! {
    /// Faults of messages are delays to a connection; resets and deaths cut, and what came is a prefix.
    fn frames_come_whole_once_and_in_order(seed: u64) -> bool {
        let whole = holdfast_sim::run(seed, |world| echoes(world, &MESSAGES, None));
        assert!(MESSAGES.iter().all(|class| whole.fired(*class) > 0));
        assert_eq!(whole.result, vec![(0..30).collect::<Vec<u32>>(); 3]);
        for crash in [None, Some(Crash::Kill), Some(Crash::PowerLoss)] {
            let cut = holdfast_sim::run(seed, move |world| echoes(world, &ALL, crash)).result;
            let is_prefix = |got: &Vec<u32>| got.iter().copied().eq(0..got.len() as u32);
            assert!(cut.iter().all(is_prefix), "{cut:?}");
        }
        true
    }
}

#[test]
fn a_seed_is_one_history_of_connections() {
    for seed in 0..10 {
        let run = move || holdfast_sim::run(seed, |world| echoes(world, &ALL, Some(Crash::Kill)));
        let (first, second) = (run(), std::thread::spawn(run).join().unwrap());
        assert_eq!((first.hash, first.events, &first.result), (second.hash, second.events, &second.result));
    }
}
