//! Applications in the simulated world: those that are right pass, and each way of being wrong is told loudly.
//!
//! A test of something wrong runs it and looks at what is said. If a seed or plan is asked for by the environment, the
//! same function fails as any other would, which is how the tests run themselves again.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::{Durability, Options, Result, TransactionOptions};
use holdfast_sim::testing::plan::Plan;
use holdfast_sim::testing::{Ending, PLAN, RECORD, Record, Test, World};

/// The greatest number that a client was told to be stored.
#[derive(Default)]
struct Told(AtomicU64);

async fn count(world: World, durability: Durability) -> Result<()> {
    let told = world.outside::<Told>();
    let db = world.open("/counter", world.options()).await?;
    let numbers = db.default_keyspace()?.typed::<String, u64>();
    let kept = async {
        let found = numbers.get(&"n".to_owned()).await?.unwrap_or(0);
        let told = told.0.load(Ordering::Relaxed);
        assert!(found >= told || world.may_have_lost(), "{told} was told, and {found} is there");
        Ok::<_, holdfast::Error>(())
    };
    world.check("nothing that was told is lost", kept).await?;
    for step in world.steps("count", 30) {
        let mut txn = db.begin(TransactionOptions { durability, ..Default::default() });
        numbers.put_in(&mut txn, &"n".to_owned(), &(step.number() + 1))?;
        txn.commit().await?;
        told.0.store(step.number() + 1, Ordering::Relaxed);
    }
    db.close().await
}

#[holdfast_sim::test(seeds = 60, faults = "all")]
async fn what_was_told_is_there(world: World) -> Result<()> {
    count(world, Durability::Sync).await
}

#[holdfast_sim::test(seeds = 40, faults = "lossy")]
async fn a_lying_disk_is_no_failure_of_an_application_that_knows_it(world: World) -> Result<()> {
    count(world, Durability::Sync).await
}

/// Steps do the same whatever else is left out, time goes on in all clocks alike, and lives follow one another.
#[holdfast_sim::test(seeds = 20, faults = "none")]
#[expect(clippy::disallowed_types, reason = "applications use it, and its order is looked at")]
async fn a_world_has_steps_clocks_lives_and_tasks(world: World) {
    type Drawn = Mutex<BTreeMap<u64, u64>>;
    let drawn = world.outside::<Drawn>();
    let (began, real) = (world.now(), std::time::Instant::now());
    world.sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.now() - began, Duration::from_secs(3600));
    let passed = real.elapsed();
    assert!((Duration::from_secs(3599)..Duration::from_secs(3601)).contains(&passed), "{passed:?}");
    let tasks: Vec<_> = (0..3u64).map(|number| world.spawn("task", async move { number * 2 })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await;
    }
    assert_eq!(sum, 6);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    drop(world.spawn("sender", async move { sender.send(7) }));
    assert_eq!(receiver.await, Ok(7));
    for step in world.steps("draw", 20) {
        let before = drawn.lock().expect("no panic").insert(step.number(), step.random_u64());
        assert_eq!(before, None, "a step is begun once");
        let file = format!("/{}", step.number());
        let open = world.env().disk().open(file.as_ref(), holdfast::env::OpenOptions::create()).await;
        drop(open.expect("nothing fails but crashes"));
        match step.number() {
            7 => world.cut_power().await,
            13 => world.kill().await,
            _ => {}
        }
    }
    // A map of the standard library has the same order in each run, and the calendar the same date, which the second run
    // of a seed compares.
    world.note(&format!("{:?}", std::time::SystemTime::now()));
    let map: std::collections::HashMap<u64, u64> = (0..20).map(|number| (number, number)).collect();
    world.note(&format!("{:?}", map.keys().collect::<Vec<_>>()));
    let lives = world.life();
    let count = async {
        assert!(lives >= 2, "it was crashed twice by itself");
        assert!(drawn.lock().expect("no panic").len() == 20, "each step was begun once");
        Ok::<_, String>(())
    };
    if world.life() > 2 {
        world.check("lives and steps", count).await.expect("nothing is read");
    }
}

/// What is said when this application fails; `None` if it does not.
fn failure<F, Fut>(name: &'static str, faults: &'static str, seeds: u64, life: F) -> Option<String>
where
    F: Fn(World) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Ending,
{
    let test = Test {
        package: "holdfast-sim",
        folder: env!("CARGO_MANIFEST_DIR"),
        features: &[],
        module: module_path!(),
        name,
        seeds,
        faults,
        plans: "",
    };
    let run = std::panic::AssertUnwindSafe(|| test.run(life));
    if std::env::vars().any(|(name, _)| name.starts_with("HOLDFAST_SIM_")) {
        // Somebody runs it again, and wants to see it.
        run();
        return None;
    }
    let panic = std::panic::catch_unwind(run).err()?;
    Some(panic.downcast_ref::<String>().expect("it fails with words").clone())
}

/// The test of this name again, in a process of its own. What it prints, and whether it passes.
fn again(name: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.args([name, "--exact", "--nocapture"]);
    command.envs(variables.iter().copied());
    let output = command.output().expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn file_after<'a>(text: &'a str, words: &str) -> &'a str {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in: {text}"));
    rest.split_whitespace().next().expect("a name follows")
}

#[test]
fn an_early_acknowledgement_is_caught_repeated_and_shrunk() {
    let name = "an_early_acknowledgement_is_caught_repeated_and_shrunk";
    let early = |world| count(world, Durability::Buffered);
    let Some(said) = failure(name, "all", 100, early) else { return };
    assert!(said.contains("was told, and"), "{said}");
    assert!(
        said.contains("panic at sim/tests/application.rs:") || said.contains("panic at tests/"),
        "{said}"
    );
    assert!(!said.contains("NOT DETERMINISTIC"), "{said}");

    let seed = file_after(&said, "HOLDFAST_SIM_SEED=");
    assert!(
        said.contains(&format!("HOLDFAST_SIM_SEED={seed} cargo test -p holdfast-sim {name} -- --exact")),
        "{said}"
    );
    let (passed, printed) = again(name, &[("HOLDFAST_SIM_SEED", seed)]);
    assert!(!passed && printed.contains("was told, and"), "{printed}");

    let plan_file = PathBuf::from(file_after(&said, &format!("{PLAN}=")));
    let plan = Plan::load(&plan_file).expect("the plan was kept");
    assert_eq!(plan.test.name, name);
    let record = std::env::temp_dir().join(format!("holdfast-sim-record-{}.json", std::process::id()));
    let variables = [
        (PLAN, plan_file.to_str().expect("a name")),
        (RECORD, record.to_str().expect("a name")),
        ("HOLDFAST_SIM_LINES", "1000"),
    ];
    let (passed, printed) = again(name, &variables);
    assert!(!passed, "{printed}");
    let recorded = Record::load(&record).expect("it wrote what it came to");
    std::fs::remove_file(&record).expect("it is there");
    assert!(recorded.failure.is_some() && recorded.log.len() > 100, "{:?}", recorded.failure);

    let (passed, printed) = again(name, &[variables[0], ("HOLDFAST_SIM_SHRINK", "1")]);
    assert!(!passed && printed.contains("none of them can go"), "{printed}");
    let small = plan_file.with_file_name(format!("{name}-{seed}-small.json"));
    let small = Plan::load(&small).expect("the small plan was kept");
    // One step that is told of, and at most one thing that takes it: the power fails at the end in any case.
    assert_eq!(small.operations(), 1, "{}", small.to_text());
    assert!(small.crashes.len() + small.faults.len() <= 1, "{}", small.to_text());

    let (passed, printed) = again("what_was_told_is_there", &variables[..1]);
    assert!(!passed && printed.contains(&format!("a plan of the test {name}")), "{printed}");
}

#[test]
fn a_run_that_shows_nothing_fails() {
    let nothing = |_: World| async {};
    let Some(said) = failure("a_run_that_shows_nothing_fails", "all", 3, nothing) else { return };
    assert!(said.contains("made no `World::check`"), "{said}");
    let idle = |world: World| async move { world.check("nothing", async { Ok::<_, String>(()) }).await };
    let said = failure("a_run_that_shows_nothing_fails", "all", 40, idle).expect("it makes no disk call");
    assert!(said.contains("hardly a crash"), "{said}");
    let said =
        failure("a_run_that_shows_nothing_fails", "all,gremlins", 3, idle).expect("there are no such faults");
    assert!(said.contains("\"gremlins\"") && said.contains("sync_error"), "{said}");
}

#[test]
fn an_error_that_no_fault_explains_fails() {
    let name = "an_error_that_no_fault_explains_fails";
    let picky = |world: World| async move {
        world.check("nothing", async { Ok::<_, String>(()) }).await?;
        if world.life() == 1 { Err("I do not like second lives".to_owned()) } else { Ok(()) }
    };
    let Some(said) = failure(name, "none", 3, picky) else { return };
    assert!(said.contains("rehearsal") && said.contains("life 1, in calm, ended with an error"), "{said}");
    assert!(said.contains("I do not like second lives"), "{said}");
}

#[test]
fn what_a_static_makes_different_is_told() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let name = "what_a_static_makes_different_is_told";
    let forgetful = |world: World| async move {
        world.note(&format!("run {}", RUNS.fetch_add(1, Ordering::Relaxed)));
        count(world, Durability::Sync).await
    };
    let Some(said) = failure(name, "none", 3, forgetful) else { return };
    assert!(said.contains("NOT DETERMINISTIC") && said.contains("a static that an earlier run"), "{said}");
    assert!(said.contains("the first event that differs") && said.contains("run "), "{said}");
}

/// What is said when an application does this in each of its lives.
fn said_of<F, Fut>(name: &'static str, act: F) -> Option<String>
where
    F: Fn(World) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let act = Arc::new(act);
    failure(name, "none", 3, move |world| {
        let act = Arc::clone(&act);
        async move {
            act(world.clone()).await;
            count(world, Durability::Sync).await
        }
    })
}

#[test]
fn a_thread_is_refused() {
    let spawn = |_| async { drop(std::thread::spawn(|| ())) };
    let Some(said) = said_of("a_thread_is_refused", spawn) else { return };
    assert!(said.contains("a thread was to be started") && said.contains("World::spawn"), "{said}");
}

#[test]
fn timers_and_tasks_of_tokio_are_refused() {
    let name = "timers_and_tasks_of_tokio_are_refused";
    let sleep = |_| async { tokio::time::sleep(Duration::from_millis(1)).await };
    let Some(said) = said_of(name, sleep) else { return };
    assert!(said.contains("there is no reactor running"), "{said}");
    let spawn = |_| async { drop(tokio::spawn(async {})) };
    let said = said_of(name, spawn).expect("there is no runtime of tokio");
    assert!(said.contains("there is no reactor running"), "{said}");
    let block = |_| async { drop(tokio::task::spawn_blocking(|| ())) };
    let said = said_of(name, block).expect("there is no runtime of tokio");
    assert!(said.contains("there is no reactor running"), "{said}");
}

#[test]
fn real_files_sockets_and_sleeps_are_refused_inside_and_only_there() {
    let name = "real_files_sockets_and_sleeps_are_refused_inside_and_only_there";
    let file = std::env::temp_dir().join(format!("holdfast-sim-trespass-{}", std::process::id()));
    let write = {
        let file = file.clone();
        move |_| {
            let refused = std::fs::write(&file, "x");
            async move { assert!(refused.is_err()) }
        }
    };
    let Some(said) = said_of(name, write) else { return };
    let words = format!("it tried to open the real file {}", file.display());
    assert!(said.contains(&words) && said.contains("World::env"), "{said}");
    assert!(!file.exists());
    let bind = |_| async { assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err()) };
    let said = said_of(name, bind).expect("a socket is refused");
    assert!(said.contains("it tried to make a real socket"), "{said}");
    let sleep = |_| async { std::thread::sleep(Duration::from_secs(3600)) };
    let said = said_of(name, sleep).expect("a sleep is refused, and does not take an hour");
    assert!(said.contains("it tried to sleep in real time"), "{said}");
    // What it is refused for is told beside what came of it.
    let unwrap = |_| async { drop(std::fs::File::open("/etc/hostname").expect("a file")) };
    let said = said_of(name, unwrap).expect("a file is refused");
    assert!(said.contains("/etc/hostname") && said.contains("then: panic at"), "{said}");

    std::fs::write(&file, "x").expect("outside of a run it works");
    assert_eq!(std::fs::read(&file).expect("and so does reading"), b"x");
    std::fs::remove_file(&file).expect("it is there");
    std::net::UdpSocket::bind("127.0.0.1:0").expect("outside of a run there are sockets");
    let began = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert!(began.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_database_on_the_real_disk_is_refused() {
    let name = "a_database_on_the_real_disk_is_refused";
    let open = |_| async {
        let dir = std::env::temp_dir().join(format!("holdfast-sim-real-{}", std::process::id()));
        drop(holdfast::Db::open(dir, Options::default()).await.expect("a database"));
    };
    let Some(said) = said_of(name, open) else { return };
    assert!(said.contains("refused") && said.contains("panic at"), "{said}");
}

#[test]
fn waiting_for_what_never_comes_is_told() {
    let wait = |_| std::future::pending();
    let Some(said) = said_of("waiting_for_what_never_comes_is_told", wait) else { return };
    assert!(said.contains("simulated nanoseconds; waiting are") && said.contains("app: task"), "{said}");
}

#[test]
fn a_spinning_task_is_given_up_with_its_trace() {
    let name = "a_spinning_task_is_given_up_with_its_trace";
    let spin = |world: World| async move {
        world.note("now it spins");
        let stays = AtomicU64::new(0);
        while stays.load(Ordering::Relaxed) == 0 {
            std::hint::spin_loop();
        }
    };
    if std::env::var_os("HOLDFAST_SIM_PATIENCE").is_some() {
        drop(said_of(name, spin));
        return;
    }
    let (passed, printed) = again(name, &[("HOLDFAST_SIM_PATIENCE", "1")]);
    assert!(!passed && printed.contains("no end after 1 s of real time, and task run"), "{printed}");
    assert!(printed.contains("now it spins"), "the trace is printed: {printed}");
}
