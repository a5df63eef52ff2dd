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

use holdfast::env::{Buf, OpenOptions};
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

/// A test of this file, with those plans in a folder of its own before its seeds.
fn test_of(name: &'static str, faults: &'static str, seeds: u64, plans: &[Plan]) -> Test {
    let mut folder = PathBuf::new();
    if !plans.is_empty() {
        folder = std::env::temp_dir().join(format!("holdfast-sim-plans-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        for (number, plan) in plans.iter().enumerate() {
            plan.save(&folder.join(format!("{number}.json"))).expect("a folder for plans");
        }
    }
    Test {
        package: "holdfast-sim",
        folder: env!("CARGO_MANIFEST_DIR"),
        features: &[],
        module: module_path!(),
        name,
        seeds,
        faults,
        plans: folder.to_str().expect("a name").to_owned().leak(),
    }
}

/// What is said when this application fails; `None` if it does not.
fn failure<F, Fut>(name: &'static str, faults: &'static str, seeds: u64, life: F) -> Option<String>
where
    F: Fn(World) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Ending,
{
    failure_of(&test_of(name, faults, seeds, &[]), life)
}

fn failure_of<F, Fut>(test: &Test, life: F) -> Option<String>
where
    F: Fn(World) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Ending,
{
    let run = std::panic::AssertUnwindSafe(|| test.run(life));
    if std::env::vars().any(|(name, _)| name.starts_with("HOLDFAST_SIM_")) {
        // Somebody runs it again, and wants to see it.
        run();
        return None;
    }
    let panic = std::panic::catch_unwind(run).err();
    if !test.plans.is_empty() {
        std::fs::remove_dir_all(test.plans).expect("it was made for this test");
    }
    Some(panic?.downcast_ref::<String>().expect("it fails with words").clone())
}

/// A plan of this test in which only this goes wrong.
fn plan_of(name: &str, seed: u64, crashes: &str, faults: &str) -> Plan {
    let settings = r#"{"production":true,"memtable_kib":16,"segment_kib":64,"table_kib":16,"block_bytes":4096,"level0_tables":4,"compress":false,"direct":true}"#;
    let test = format!(r#"{{"package":"holdfast-sim","name":"{name}","binary":"","directory":""}}"#);
    let text = format!(
        r#"{{"schema":1,"test":{test},"seed":{seed},"settings":{settings},"rare_one_in":0,"disk":{{}},"steps":{{}},
        "crashes":[{crashes}],"faults":[{faults}]}}"#
    );
    Plan::from_text(&text).expect("a plan")
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
    // Removing what is not needed ends where nothing can go by itself: not always at the one step and the one crash that do.
    assert!(small.operations() < plan.operations() / 2, "{}", small.to_text());
    assert!(
        small.crashes.len() + small.faults.len() <= plan.crashes.len() + plan.faults.len(),
        "{}",
        small.to_text()
    );

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

/// Keeps a file, and says in these words that it is not what it was.
async fn keep(world: World, words: &'static str) -> std::result::Result<(), String> {
    const BYTES: &[u8] = &[7; 4096];
    let (env, name) = (world.env(), std::path::Path::new("/kept.log"));
    if world.life() == 0 {
        let file = env.disk().open(name, OpenOptions::create()).await.map_err(|error| error.to_string())?;
        file.write_at(0, Buf::copy_of(BYTES)).await.0.map_err(|error| error.to_string())?;
        file.sync_all().await.map_err(|error| error.to_string())?;
        env.disk().sync_dir("/".as_ref()).await.map_err(|error| error.to_string())?;
        world.cut_power().await;
    }
    let file = env.disk().open(name, OpenOptions::read()).await.map_err(|error| error.to_string())?;
    let (count, buffer) = file.read_at(0, Buf::zeroed(BYTES.len())).await;
    if count.map_err(|error| error.to_string())? != BYTES.len() || &buffer[..] != BYTES {
        return Err(words.to_owned());
    }
    world.check("it is kept", async { Ok(()) }).await
}

#[test]
fn damage_excuses_only_errors_that_name_its_file() {
    let name = "damage_excuses_only_errors_that_name_its_file";
    for (class, life) in [("bit_rot", 1), ("lying_sync", 0)] {
        let fault = format!(r#"{{"class":"{class}","at":{{"life":{life}}},"on":".log","nth":1}}"#);
        let plans: Vec<Plan> = (0..8).map(|seed| plan_of(name, seed, "", &fault)).collect();
        let Some(said) =
            failure_of(&test_of(name, "none", 1, &plans), |world| keep(world, "the shelf is empty"))
        else {
            assert!(std::env::var_os(PLAN).is_some(), "{class} is no excuse");
            return;
        };
        assert!(said.contains("an error that no fault explains: the shelf is empty"), "{said}");
        assert!(said.contains("none of the files that were damaged or lied about: kept.log"), "{said}");
        let told = failure_of(&test_of(name, "none", 1, &plans), |world| keep(world, "kept.log is damaged"));
        assert_eq!(told, None, "{class} explains it");
    }
}

#[test]
fn a_refused_call_excuses_no_error_of_a_later_life() {
    let name = "a_refused_call_excuses_no_error_of_a_later_life";
    let fault = r#"{"class":"write_error","at":{"life":0},"nth":1}"#;
    let late = |world: World| async move {
        let file =
            world.env().disk().open(format!("/a-{}", world.life()).as_ref(), OpenOptions::create()).await;
        let file = file.map_err(|error| error.to_string())?;
        let written = file.write_at(0, Buf::copy_of(b"a")).await.0;
        match (world.life(), written) {
            (0, Err(error)) => Err(error.to_string()),
            (0, Ok(_)) => world.check("nothing", async { Ok(()) }).await,
            (_, _) if world.outside::<Told>().0.fetch_add(1, Ordering::Relaxed) > 0 => {
                Err("again".to_owned())
            }
            _ => world.check("nothing", async { Ok(()) }).await,
        }
    };
    let plans = [plan_of(name, 1, "", fault)];
    let Some(said) = failure_of(&test_of(name, "none", 1, &plans), late) else { return };
    assert!(said.contains("life 2, in calm, ended with an error that no fault explains: again"), "{said}");
}

#[test]
fn a_panic_that_somebody_catches_fails() {
    let catch = |_: World| async {
        drop(std::panic::catch_unwind(|| panic!("one customer less")));
    };
    let Some(said) = said_of("a_panic_that_somebody_catches_fails", catch) else { return };
    assert!(said.contains("panic at") && said.contains("one customer less; somebody caught it"), "{said}");
}

#[test]
fn a_kept_plan_of_no_test_fails_and_is_named() {
    let name = "a_kept_plan_of_no_test_fails_and_is_named";
    let plans = [plan_of("the_test_before_it_was_renamed", 1, "", "")];
    let test = test_of(name, "none", 3, &plans);
    let Some(said) = failure_of(&test, |world| count(world, Durability::Sync)) else { return };
    assert!(said.contains("0.json: a plan of the test the_test_before_it_was_renamed"), "{said}");
    let plans = [plan_of("what_was_told_is_there", 1, "", ""), plan_of(name, 1, "", "")];
    let test = test_of(name, "none", 3, &plans);
    assert_eq!(failure_of(&test, |world| count(world, Durability::Sync)), None, "both are tests");
}

#[test]
fn no_seed_shows_nothing() {
    let said = failure("no_seed_shows_nothing", "none", 0, |world| count(world, Durability::Sync));
    let Some(said) = said else { return };
    assert!(said.contains("no seed was run"), "{said}");
}

#[test]
fn what_never_comes_does_no_harm() {
    let name = "what_never_comes_does_no_harm";
    let never = 1u64 << 32;
    let crash = format!(r#"{{"at":{{"life":0}},"calls":{never},"kind":"kill"}}"#);
    let faults = format!(
        r#"{{"class":"write_error","at":{{"life":0}},"nth":{never}}},
        {{"class":"no_space","at":{{"life":0}},"nth":1,"room_kib":{never}}}"#
    );
    let plans = [plan_of(name, 1, &crash, &faults)];
    let said = failure_of(&test_of(name, "none", 3, &plans), |world| count(world, Durability::Sync));
    assert_eq!(said, None);
}

/// Writes after two hours, and again until it succeeds. What it met stands beside the machine.
async fn write_late(world: World) -> std::result::Result<(), String> {
    let met = world.outside::<Told>();
    let env = world.env();
    let (disk, name) = (env.disk(), format!("/late-{}", world.life()));
    world.sleep(Duration::from_secs(7200)).await;
    loop {
        let error = match disk.open(name.as_ref(), OpenOptions::create()).await {
            Ok(file) => match file.write_at(0, Buf::copy_of(b"late")).await.0 {
                Ok(_) => break,
                Err(error) => error,
            },
            Err(error) => error,
        };
        world.note(&error.to_string());
        met.0.fetch_add(1, Ordering::Relaxed);
        drop(disk.remove(name.as_ref()).await);
        world.sleep(Duration::from_secs(5)).await;
    }
    let times = met.0.load(Ordering::Relaxed);
    assert!(times == 0, "it met a full disk {times} times, and had room in the end");
    world.check("nothing", async { Ok(()) }).await
}

#[test]
fn long_runs_meet_faults_and_full_disks_end() {
    let name = "long_runs_meet_faults_and_full_disks_end";
    let once = r#"{"class":"no_space","at":{"life":0},"on":"late","nth":2}"#;
    let test = test_of(name, "none", 3, &[plan_of(name, 1, "", once)]);
    let Some(said) = failure_of(&test, write_late) else { return };
    assert!(said.contains("it met a full disk 1 times"), "{said}");
    for lasting in [
        r#"{"class":"no_space","at":{"life":0},"on":"late","nth":2,"lasting":true}"#,
        r#"{"class":"no_space","at":{"life":0},"nth":1,"room_kib":0}"#,
    ] {
        let test = test_of(name, "none", 3, &[plan_of(name, 1, "", lasting)]);
        let said = failure_of(&test, write_late).expect("it meets it");
        let (_, times) = said.split_once("it met a full disk ").unwrap_or_else(|| panic!("{said}"));
        let times: u64 =
            times.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
        assert!((5..=13).contains(&times), "half a minute to a minute, not {times} times 5 s: {said}");
    }
    // A crash that is to come comes, however long nothing goes on.
    let crash = r#"{"at":{"life":0},"calls":2,"kind":"power_loss"}"#;
    let told = |world: World| async move {
        let is_again = world.outside::<Told>().0.fetch_add(1, Ordering::Relaxed) > 0;
        assert!(!is_again || world.now() > Duration::from_secs(14_000), "life 1 began at {:?}", world.now());
        let file =
            world.env().disk().open(format!("/a-{}", world.life()).as_ref(), OpenOptions::create()).await;
        let file = file.map_err(|error| error.to_string())?;
        world.sleep(Duration::from_secs(7200)).await;
        file.write_at(0, Buf::copy_of(b"a")).await.0.map_err(|error| error.to_string())?;
        world.sleep(Duration::from_secs(7200)).await;
        world.check("nothing", async { Ok::<_, String>(()) }).await
    };
    let test = test_of(name, "none", 1, &[plan_of(name, 1, crash, "")]);
    let said = failure_of(&test, told).expect("the power fails after two hours");
    assert!(said.contains("life 1 began at 7200."), "{said}");
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
    let told = file.clone();
    type IsRefused = fn(&PathBuf) -> bool;
    let touch: [(&str, IsRefused); 15] = [
        ("look at", |file| std::fs::metadata(file).is_err()),
        ("look at", |file| std::fs::symlink_metadata(file).is_err()),
        ("look at", |file| file.try_exists().is_err()),
        ("look at", |file| std::fs::read_link(file).is_err()),
        ("look at", |file| std::fs::canonicalize(file).is_err()),
        ("list", |file| std::fs::read_dir(file).is_err()),
        ("make", |file| std::fs::create_dir(file).is_err()),
        ("make", |file| std::fs::hard_link("/etc/hostname", file).is_err()),
        ("make", |file| std::os::unix::fs::symlink("/etc/hostname", file).is_err()),
        ("rename", |file| std::fs::rename(file, "/tmp/other").is_err()),
        ("remove", |file| std::fs::remove_file(file).is_err()),
        ("remove", |file| std::fs::remove_dir(file).is_err()),
        ("change", |file| std::os::unix::fs::chown(file, None, None).is_err()),
        ("open", |file| std::fs::File::create(file).is_err()),
        ("open", |file| std::fs::copy("/proc/version", file).is_err()),
    ];
    std::fs::write(&file, "x").expect("outside of a run it works");
    for (what, is_refused) in touch {
        let file = told.clone();
        let said = said_of(name, move |_| {
            let is_refused = is_refused(&file);
            async move { assert!(is_refused) }
        });
        let said = said.unwrap_or_else(|| panic!("nobody refuses to {what} a real file"));
        assert!(said.contains(&format!("it tried to {what} the real file {}", told.display())), "{said}");
    }
    assert_eq!(std::fs::read(&file).expect("nothing was done to it"), b"x");
    let folder = file.with_extension("folder");
    std::fs::create_dir_all(folder.join("a")).expect("outside of a run all of it works");
    std::fs::rename(&file, folder.join("b")).expect("it is there");
    std::fs::hard_link(folder.join("b"), &file).expect("it is there");
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 2);
    assert!(std::fs::canonicalize(&folder).is_ok() && !folder.join("c").exists());
    std::fs::remove_dir_all(&folder).expect("it is there");
    std::fs::remove_file(&file).expect("it is there");
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
