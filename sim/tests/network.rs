//! Messages between processes: what arrives without faults, what each fault does, and that it does nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use holdfast_sim::{
    Address, Endpoint, FaultClass, LinkModel, NetworkError, NetworkModel, Outcome, Ratio, SimOptions,
    Trigger, World,
};
use quickcheck::quickcheck;

/// Runs `body` in a world with the processes a and b.
fn with_two<T, F, Fut>(options: impl Into<SimOptions>, body: F) -> Outcome<T>
where
    T: Send + 'static,
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    holdfast_sim::run(options, |world| async move {
        world.process("a");
        world.process("b");
        body(world).await
    })
}

/// Sends the numbers below `count` from a to b, a microsecond apart, and gives what has arrived a second later.
async fn numbers_that_arrive(world: &World, count: u8) -> Vec<u8> {
    let (from, to) = (world.process("a").bind(1).unwrap(), world.process("b").bind(2).unwrap());
    for number in 0..count {
        from.send(&to.address(), &[number]).await.unwrap();
        world.sleep(1_000).await;
    }
    world.sleep(1_000_000_000).await;
    drain(&to).into_iter().map(|bytes| bytes[0]).collect()
}

fn drain(endpoint: &Endpoint) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| endpoint.try_receive()).map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_message_arrives_with_its_sender_after_the_latency() {
    let outcome = with_two(1, |world| async move {
        let (a, b) = (world.process("a").bind(1).unwrap(), world.process("b").bind(2).unwrap());
        let start = world.now();
        a.send(&Address::new("b", 2), b"hello").await.unwrap();
        assert_eq!(b.receive().await, (a.address(), b"hello".to_vec()));
        let taken = world.now().since(start);
        assert!((100_000..=120_000).contains(&taken), "{taken} ns");
        assert_eq!(b.try_receive(), None);
        assert!(matches!(world.process("a").bind(1), Err(NetworkError::AddressInUse)));
        a.send(&Address::new("b", 3), b"nobody").await.unwrap();
        a.send(&Address::new("nobody", 3), b"nobody").await.unwrap();
        let long = vec![0; (1 << 20) + 1];
        assert_eq!(a.send(&b.address(), &long).await, Err(NetworkError::TooLarge));
        world.sleep(1_000_000).await;
        let counts = world.network().counts();
        assert_eq!((counts.sent, counts.delivered, counts.undeliverable), (3, 1, 2));
        drop(a);
        assert!(world.process("a").bind(1).is_ok(), "dropping frees the port");
    });
    assert!(FaultClass::ALL.iter().all(|class| outcome.fired(*class) == 0));
}

#[test]
fn without_faults_messages_arrive_once_and_in_order() {
    for seed in 0..20 {
        let arrived = with_two(seed, |world| async move { numbers_that_arrive(&world, 100).await });
        assert_eq!(arrived.result, (0..100).collect::<Vec<u8>>());
    }
}

#[test]
fn lost_duplicated_reordered_and_delayed_messages_are_what_they_are_called() {
    let run = |class, trigger| {
        with_two(3, move |world| async move {
            world.network().inject_between(class, "b", "a", Trigger::From(1));
            world.network().inject_between(class, "a", "b", trigger);
            let arrived = numbers_that_arrive(&world, 5).await;
            assert_eq!(world.network().faults_fired(class), 1, "the other direction has no messages");
            let noted = &world.network().fired_faults()[0];
            assert_eq!((noted.class, noted.name.as_str(), noted.offset), (class, "from(a) to(b)", 2));
            arrived
        })
        .result
    };
    assert_eq!(run(FaultClass::MessageLost, Trigger::Once(3)), [0, 1, 3, 4]);
    let mut doubled = run(FaultClass::MessageDuplicated, Trigger::Once(3));
    doubled.sort_unstable();
    assert_eq!(doubled, [0, 1, 2, 2, 3, 4]);
    assert_eq!(run(FaultClass::MessageReordered, Trigger::Once(3)), [0, 1, 3, 4, 2]);
    assert_eq!(run(FaultClass::MessageDelayed, Trigger::Once(3)), [0, 1, 2, 3, 4], "those behind it wait");
}

#[test]
fn a_delay_takes_its_time() {
    with_two(4, |world| async move {
        let (a, b) = (world.process("a").bind(1).unwrap(), world.process("b").bind(2).unwrap());
        world.network().inject(FaultClass::MessageDelayed, Trigger::Once(1));
        let mut latest = 0;
        for _ in 0..2 {
            let start = world.now();
            a.send(&b.address(), b"x").await.unwrap();
            b.receive().await;
            latest = world.now().since(start).max(latest);
        }
        assert!((1_000_000..=501_000_000).contains(&latest), "{latest}");
    });
}

#[test]
fn rates_are_rates_and_end() {
    let outcome = with_two(5, |world| async move {
        world.network().set_fault_rate(FaultClass::MessageLost, Ratio::new(1, 4));
        let arrived = numbers_that_arrive(&world, 200).await;
        assert!((120..=180).contains(&arrived.len()), "{}", arrived.len());
        world.network().clear_faults();
        assert_eq!(world.network().counts().lost, 200 - arrived.len() as u64);
    });
    assert!(outcome.fired(FaultClass::MessageLost) > 20);
}

#[test]
fn partitions_cut_one_way_or_both_and_heal() {
    with_two(6, |world| async move {
        let (a, b) = (world.process("a").bind(1).unwrap(), world.process("b").bind(1).unwrap());
        let network = world.network();
        let exchange = async || {
            a.send(&b.address(), b"to b").await.unwrap();
            b.send(&a.address(), b"to a").await.unwrap();
            world.sleep(1_000_000).await;
            (drain(&b).len(), drain(&a).len())
        };
        assert_eq!(exchange().await, (1, 1));
        network.clog("a", "b");
        assert_eq!(exchange().await, (0, 1), "one way");
        network.heal("a", "b");
        assert_eq!(exchange().await, (1, 1), "lost datagrams stay lost");
        network.partition(&["a"], &["b"]);
        assert_eq!(exchange().await, (0, 0));
        network.heal_all();
        assert_eq!(exchange().await, (1, 1));
        a.send(&b.address(), b"on its way").await.unwrap();
        network.clog("a", "b");
        world.sleep(1_000_000).await;
        network.heal("a", "b");
        assert_eq!(drain(&b).len(), 0, "what is on its way is lost too");
        assert_eq!(network.counts().lost, 4);
    });
}

#[test]
fn a_slow_link_takes_its_time_and_makes_senders_wait() {
    with_two(7, |world| async move {
        let slow =
            LinkModel { latency_ns: 1_000, jitter_ns: 0, bytes_per_second: 1_000_000, queue_bytes: 3_000 };
        world.network().set_link("a", "b", Some(slow));
        let (a, b) = (world.process("a").bind(1).unwrap(), world.process("b").bind(1).unwrap());
        let start = world.now();
        let mut waited = 0;
        for _ in 0..10 {
            a.send(&b.address(), &[7; 936]).await.unwrap();
            waited = world.now().since(start);
        }
        // A thousand bytes with their header are a millisecond, and the queue holds three of them.
        assert_eq!(waited, 7_000_000, "the tenth found room when the seventh was through");
        for number in 1..=10 {
            b.receive().await;
            assert_eq!(world.now().since(start).max(waited), (number * 1_000_000 + 1_000).max(waited));
        }
        world.network().set_link("a", "b", None);
        let start = world.now();
        a.send(&b.address(), &[7; 936]).await.unwrap();
        b.receive().await;
        assert!(world.now().since(start) >= 100_000);
    });
}

#[test]
fn a_full_mailbox_drops_what_comes() {
    let mut options = SimOptions::new(8);
    options.network.mailbox_messages = 3;
    with_two(options, |world| async move {
        assert_eq!(numbers_that_arrive(&world, 5).await, [0, 1, 2]);
        assert_eq!(world.network().counts().overflowed, 2);
    });
}

#[test]
fn death_closes_endpoints_and_what_was_sent_still_arrives() {
    with_two(9, |world| async move {
        let (a, b) = (world.process("a"), world.process("b"));
        let (from, to) = (a.bind(1).unwrap(), b.bind(2).unwrap());
        from.send(&to.address(), b"last words").await.unwrap();
        a.kill();
        assert_eq!(to.receive().await.1, b"last words");
        to.send(&from.address(), b"too late").await.unwrap();
        world.sleep(1_000_000).await;
        assert_eq!(world.network().counts().undeliverable, 1);
        a.restart();
        let again = a.bind(1).unwrap();
        drop(from);
        to.send(&again.address(), b"again").await.unwrap();
        assert_eq!(again.receive().await.1, b"again", "a dead life's endpoint frees nobody's port");
        // On its way while the receiver dies and comes back without the port.
        to.send(&again.address(), b"lost").await.unwrap();
        a.power_loss();
        a.restart();
        world.sleep(1_000_000).await;
        assert_eq!(world.network().counts().undeliverable, 2);
    });
}

#[test]
fn every_receiver_gets_its_message_though_others_are_dropped() {
    for seed in 0..20 {
        with_two(seed, |world| async move {
            let a = world.process("a");
            let to = std::sync::Arc::new(a.bind(1).unwrap());
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let to = std::sync::Arc::clone(&to);
                tasks.push(a.spawn("receiver", async move {
                    // Waits, is dropped while it waits, and waits anew.
                    let mut first = Box::pin(to.receive());
                    std::future::poll_fn(|context| {
                        let _ = first.as_mut().poll(context);
                        std::task::Poll::Ready(())
                    })
                    .await;
                    drop(first);
                    to.receive().await.1[0]
                }));
            }
            world.sleep(1_000).await;
            let from = world.process("b").bind(1).unwrap();
            for number in 0..4 {
                from.send(&to.address(), &[number]).await.unwrap();
            }
            let mut received = Vec::new();
            for task in tasks {
                received.push(task.await.unwrap());
            }
            received.sort_unstable();
            assert_eq!(received, [0, 1, 2, 3]);
        });
    }
}

/// Three processes send each other numbered messages while links clog and heal.
async fn chatter(world: World, classes: &'static [FaultClass]) -> BTreeMap<String, usize> {
    let names = ["a", "b", "c"];
    for class in classes {
        world.network().set_fault_rate(*class, Ratio::new(1, 8));
    }
    let endpoints = names.map(|name| world.process(name).bind(1).unwrap());
    for round in 0..60u64 {
        let (from, to) = (world.random_below(3) as usize, world.random_below(3) as usize);
        endpoints[from].send(&endpoints[to].address(), &round.to_le_bytes()).await.unwrap();
        match round % 20 {
            7 => world.network().clog(names[from], names[to]),
            15 => world.network().heal_all(),
            _ => world.sleep(world.random_below(50_000)).await,
        }
    }
    world.sleep(1_000_000_000).await;
    endpoints.iter().map(|endpoint| (endpoint.address().process, drain(endpoint).len())).collect()
}

const NETWORK: [FaultClass; 4] = [
    FaultClass::MessageLost,
    FaultClass::MessageDuplicated,
    FaultClass::MessageReordered,
    FaultClass::MessageDelayed,
];

#[test]
fn a_seed_is_one_history_of_messages() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let run = move || holdfast_sim::run(seed, |world| chatter(world, &NETWORK));
        let (first, second) = (run(), std::thread::spawn(run).join().unwrap());
        assert_eq!((first.hash, first.events, &first.result), (second.hash, second.events, &second.result));
        assert!(NETWORK.iter().map(|class| first.fired(*class)).sum::<u64>() > 0);
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 20);
}

#[test]
fn the_hash_covers_the_bytes_of_messages() {
    let run = |byte: u8| {
        with_two(1, move |world| async move {
            let (a, b) = (world.process("a").bind(1).unwrap(), world.process("b").bind(1).unwrap());
            a.send(&b.address(), &[byte]).await.unwrap();
            b.receive().await;
        })
        .hash
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_class_of_faults_shifts_no_other() {
    let arrived = |classes: &'static [FaultClass]| {
        let run = with_two(11, move |world| async move {
            for class in classes {
                world.network().set_fault_rate(*class, Ratio::new(1, 4));
            }
            numbers_that_arrive(&world, 100).await
        });
        let lost = run.fired(FaultClass::MessageLost);
        (run.result.into_iter().collect::<std::collections::BTreeSet<u8>>(), lost)
    };
    let alone = arrived(&[FaultClass::MessageLost]);
    assert!(alone.1 > 10);
    assert_eq!(arrived(&NETWORK), alone, "the same messages are lost");
}

#[test]
#[should_panic(expected = "there is no process c; start it with World::process first")]
fn a_name_that_nobody_has_is_told() {
    with_two(1, |world| async move { world.network().clog("a", "c") });
}

#[test]
#[should_panic(expected = "BitRot is a fault of disks; ask a SimDisk for it")]
fn a_fault_of_disks_is_refused() {
    with_two(1, |world| async move { world.network().inject(FaultClass::BitRot, Trigger::Once(1)) });
}

quickcheck! {
    /// Nothing arrives that was not sent, nothing twice that was not duplicated, and what no fault swallowed arrives.
    fn messages_are_accounted_for(seed: u64) -> bool {
        let outcome = holdfast_sim::run(seed, |world| async move {
            for name in ["a", "b", "c"] {
                world.process(name);
            }
            let arrived: usize = chatter(world.clone(), &NETWORK).await.values().sum();
            let counts = world.network().counts();
            assert_eq!(counts.delivered, arrived as u64);
            counts
        });
        let copies = outcome.fired(FaultClass::MessageDuplicated);
        let counts = outcome.result;
        let gone = counts.lost + counts.delivered;
        (counts.sent..=counts.sent + copies).contains(&gone)
    }
}

#[test]
fn models_can_be_replaced_while_it_runs() {
    with_two(12, |world| async move {
        let model = NetworkModel { message_max_bytes: 2, ..NetworkModel::default() };
        world.network().set_model(model);
        let a = world.process("a").bind(1).unwrap();
        assert_eq!(a.send(&a.address(), b"abc").await, Err(NetworkError::TooLarge));
    });
}
