//! Tasks: their threads, their priorities, and what happens when there is no room for one.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use holdfast::env::linux::LinuxEnv;
use holdfast::env::{Env, OpenOptions, Task, TaskClass};
use holdfast::{Options, blocking};

use crate::{Scratch, Way, eventually, is_child, is_root, run_child};

const SCHED_OTHER: i32 = 0;
const SCHED_IDLE: i32 = 5;

/// Scheduling policy of the calling thread, as the system tells it: field 41 of its `stat`.
fn policy() -> i32 {
    policy_in(&std::fs::read_to_string("/proc/thread-self/stat").unwrap())
}

fn policy_in(stat: &str) -> i32 {
    // The second field is the name in brackets, which may hold anything.
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    after_name.split_whitespace().nth(41 - 3).unwrap().parse().unwrap()
}

/// Names of the threads of this process.
fn thread_names() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_string()).collect()
}

#[test]
fn tasks_run_to_their_end_on_threads_of_their_class() {
    let env = LinuxEnv::new();
    for (class, expected) in [(TaskClass::Foreground, policy()), (TaskClass::Background, SCHED_IDLE)] {
        let seen = Arc::new(AtomicI32::new(-1));
        let (sink, inside) = (Arc::clone(&seen), Arc::clone(&env));
        let task = env.spawn(
            "a-task",
            class,
            Box::pin(async move {
                inside.sleep_until(inside.now().after(1_000_000)).await;
                sink.store(policy(), Ordering::SeqCst);
            }),
        );
        let task = task.unwrap();
        eventually("the task ends", || task.is_finished());
        assert_eq!(seen.load(Ordering::SeqCst), expected);
    }
}

/// Scheduling policies of the threads of this process whose name begins with `prefix`.
fn policies_of(prefix: &str) -> Vec<i32> {
    let stats = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end while it is looked at.
    let stats = stats.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    let named = stats.filter(|stat| stat.split_once('(').is_some_and(|(_, rest)| rest.starts_with(prefix)));
    named.map(|stat| policy_in(&stat)).collect()
}

#[test]
fn background_work_is_raised_while_somebody_waits_for_it() {
    const NAME: &str = "threads::background_work_is_raised_while_somebody_waits_for_it";
    if !is_child(NAME) {
        return run_child(NAME, "exec");
    }
    let scratch = Scratch::new("awaited");
    // Slow enough to be looked at.
    let options = Options { background_bytes_per_s: 256 << 10, ..Options::default() };
    let db = blocking::Db::open(scratch.path("db"), options).unwrap();
    let keyspace = db.default_keyspace().unwrap();
    let noise = |n: u32| {
        (0..4096u32).map(|at| ((at ^ n).wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>()
    };
    for n in 0..64u32 {
        keyspace.put(n.to_be_bytes(), noise(n)).unwrap();
    }
    let all_are = |expected: i32| {
        let policies = [policies_of("holdfast-flush"), policies_of("holdfast-compac")].concat();
        !policies.is_empty() && policies.iter().all(|policy| *policy == expected)
    };
    eventually("background work is lowered", || all_are(SCHED_IDLE));
    let waiting = db.clone();
    let waiter = std::thread::spawn(move || waiting.compact());
    eventually("it is raised", || all_are(SCHED_OTHER));
    assert!(!waiter.is_finished(), "while the caller waits");
    waiter.join().unwrap().unwrap();
    eventually("it is lowered again", || all_are(SCHED_IDLE));
    db.close().unwrap();
}

#[test]
fn threads_that_background_work_starts_are_not_lowered() {
    const NAME: &str = "threads::threads_that_background_work_starts_are_not_lowered";
    if !is_child(NAME) {
        return run_child(NAME, "exec");
    }
    let env = LinuxEnv::new();
    let seen = Arc::new(AtomicI32::new(-1));
    let (inside, sink) = (Arc::clone(&env), Arc::clone(&seen));
    let task = env.spawn(
        "parent",
        TaskClass::Background,
        Box::pin(async move {
            // The timer's thread is started by this sleep, and a foreground task by its side.
            inside.sleep_until(inside.now().after(1_000_000)).await;
            let child = inside.spawn(
                "child",
                TaskClass::Foreground,
                Box::pin(async move { sink.store(policy(), Ordering::SeqCst) }),
            );
            drop(child.unwrap());
        }),
    );
    let task = task.unwrap();
    eventually("both tasks end", || task.is_finished() && seen.load(Ordering::SeqCst) >= 0);
    assert_eq!(seen.load(Ordering::SeqCst), SCHED_OTHER);
    assert!(thread_names().contains(&"holdfast-timer".to_string()));
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = std::fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
        let (name, after_name) = stat.rsplit_once(')').unwrap();
        let policy = after_name.split_whitespace().nth(41 - 3).unwrap();
        assert!(policy == "0" || name.ends_with("(parent"), "{stat}");
    }
}

/// Raises and lowers two tasks, one that computes and one that waits, and looks at the policy they run under.
fn raise_and_lower(env: &Arc<LinuxEnv>, waits: bool) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicI32::new(-1));
    let rounds = Arc::new(AtomicU64::new(0));
    let (inside, stopped, sink, counter) =
        (Arc::clone(env), Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&rounds));
    let task = env.spawn(
        "busy",
        TaskClass::Background,
        Box::pin(async move {
            while !stopped.load(Ordering::SeqCst) {
                if waits {
                    inside.sleep_until(inside.now().after(300_000)).await;
                } else {
                    inside.slice(4096).await;
                }
                sink.store(policy(), Ordering::SeqCst);
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }),
    );
    let task = task.unwrap();
    let runs_under = |expected: i32| {
        let since = rounds.load(Ordering::SeqCst);
        eventually(&format!("policy {expected}"), || {
            rounds.load(Ordering::SeqCst) > since + 2 && seen.load(Ordering::SeqCst) == expected
        });
    };
    for _ in 0..5 {
        runs_under(SCHED_IDLE);
        task.set_class(TaskClass::Foreground);
        task.set_class(TaskClass::Foreground);
        runs_under(SCHED_OTHER);
        task.set_class(TaskClass::Background);
    }
    for i in 0..200 {
        let class = if i % 2 == 0 { TaskClass::Foreground } else { TaskClass::Background };
        task.set_class(class);
    }
    runs_under(SCHED_IDLE);
    assert!(!task.is_finished());
    stop.store(true, Ordering::SeqCst);
    eventually("the task ends", || task.is_finished());
    task.set_class(TaskClass::Foreground);
}

#[test]
fn a_running_task_can_be_raised_and_lowered() {
    let env = LinuxEnv::new();
    raise_and_lower(&env, true);
    raise_and_lower(&env, false);
}

#[test]
fn a_task_is_raised_also_where_the_system_forbids_it() {
    const NAME: &str = "threads::a_task_is_raised_also_where_the_system_forbids_it";
    if is_child(NAME) {
        return a_running_task_can_be_raised_and_lowered();
    }
    // Takes the privilege away where there is one to take.
    let has_setpriv = std::process::Command::new("setpriv").arg("--version").output().is_ok();
    if is_root() && has_setpriv {
        run_child(NAME, "exec setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice");
    } else {
        a_running_task_can_be_raised_and_lowered();
    }
}

#[test]
fn a_panicking_task_counts_as_finished_and_hurts_nobody() {
    struct Noisy(Arc<AtomicBool>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let env = LinuxEnv::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let noisy = Noisy(Arc::clone(&dropped));
    let task = env.spawn(
        "panics",
        TaskClass::Foreground,
        Box::pin(async move {
            let _owned = noisy;
            panic!("on purpose");
        }),
    );
    let task = task.unwrap();
    eventually("it counts as finished", || task.is_finished());
    assert!(dropped.load(Ordering::SeqCst), "what it owned is gone before that");
    let next = env.spawn("next", TaskClass::Foreground, Box::pin(async {})).unwrap();
    eventually("others go on", || next.is_finished());
}

#[test]
fn without_room_for_threads_tasks_are_refused_and_io_still_works() {
    const NAME: &str = "threads::without_room_for_threads_tasks_are_refused_and_io_still_works";
    if !is_child(NAME) {
        let has_prlimit = std::process::Command::new("prlimit").arg("--version").output().is_ok();
        if !is_root() && has_prlimit {
            return run_child(NAME, "exec prlimit --nproc=1");
        }
        // The limit does not hold for root, so the child becomes somebody who has no other process.
        let somebody = "setpriv --reuid=54321 --regid=54321 --clear-groups";
        let exe = std::env::current_exe().unwrap();
        let probe = format!("{somebody} test -x {}", exe.display());
        if std::process::Command::new("sh").arg("-c").arg(probe).status().is_ok_and(|status| status.success())
        {
            run_child(NAME, &format!("exec prlimit --nproc=8 {somebody}"));
        }
        return;
    }
    let scratch = Scratch::inside(&std::env::temp_dir(), "refused");
    let env = LinuxEnv::new();
    let file = Way::Inline.open(env.disk(), &scratch.path("file"), OpenOptions::create());
    let mut tasks: Vec<Arc<dyn Task>> = Vec::new();
    let refusal = loop {
        assert!(tasks.len() < 10_000, "the limit does not hold here");
        let future = Box::pin(poll_fn(|_| Poll::<()>::Pending));
        match env.spawn("waits", TaskClass::Foreground, future) {
            Ok(task) => tasks.push(task),
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.detail.starts_with("task waits: "), "{refusal:?}");
    for i in 0..100 {
        Way::Pooled.write(file.as_ref(), i * 10, b"0123456789");
    }
    assert_eq!(Way::Pooled.read(file.as_ref(), 500, 10), b"0123456789");
    crate::poll_by_hand(env.sleep_until(env.now().after(3_000_000)));
}

#[test]
fn every_thread_ends_with_its_environment() {
    const NAME: &str = "threads::every_thread_ends_with_its_environment";
    if !is_child(NAME) {
        return run_child(NAME, "exec");
    }
    let before = thread_names().len();
    for _ in 0..3 {
        let scratch = Scratch::new("threads");
        let env = LinuxEnv::new();
        assert_eq!(thread_names().len(), before, "nothing is started before it is needed");
        let file = Way::Pooled.open(env.disk(), &scratch.path("file"), OpenOptions::create());
        let writes: Vec<_> =
            (0..200).map(|i| file.write_at(i * 4096, holdfast::env::Buf::zeroed(4096))).collect();
        let pool = thread_names().iter().filter(|name| *name == "holdfast-io").count();
        assert!((1..=16).contains(&pool), "{pool} I/O threads");
        for write in writes {
            assert_eq!(crate::poll_by_hand(write).0.unwrap(), 4096);
        }
        crate::poll_by_hand(env.sleep_until(env.now().after(100_000)));
        let task = env.spawn("task", TaskClass::Background, Box::pin(async {})).unwrap();
        eventually("the task ends", || task.is_finished());
        drop(task);
        assert!(thread_names().len() > before);
        drop((file, env));
        eventually("all threads end", || thread_names().len() == before);
    }
}

#[test]
fn slices_let_others_run_where_others_share_the_thread() {
    let env = LinuxEnv::new();
    let mut waited = 0;
    let began = env.now();
    let calls = 200_000;
    crate::poll_by_hand(async {
        for _ in 0..calls {
            let slice = env.slice(100);
            waited += u32::from(matches!(slice, holdfast::env::Io::Waiting(_)));
            slice.await;
        }
    });
    let millis = env.now().since(began) / 1_000_000;
    assert!(u64::from(waited) <= millis + 2, "at most one yield a millisecond: {waited} in {millis} ms");
    holdfast::env::linux::block_on(async {
        std::thread::sleep(Duration::from_millis(2));
        assert!(matches!(env.slice(0), holdfast::env::Io::Ready(_)), "a task has its thread for itself");
    });
}

#[test]
fn numbers_are_random_and_clocks_run() {
    let env = LinuxEnv::new();
    let mut numbers: Vec<u64> = (0..1000).map(|_| env.random_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1000);
    let ones: u32 = numbers.iter().map(|number| number.count_ones()).sum();
    assert!((30_000..34_000).contains(&ones), "every bit is drawn: {ones} of 64,000");
    let (now, wall) = (env.now(), env.wall_now());
    std::thread::sleep(Duration::from_millis(2));
    assert!(env.now().since(now) >= 2_000_000);
    assert!(env.wall_now() > wall && wall.get() > 1_700_000_000_000_000, "microseconds since 1970");
    assert_eq!(LinuxEnv::new().now().since(now) / 1_000_000_000, 0, "environments share one scale");
    assert!((0..1000).all(|_| !env.rare("anything")));
}
