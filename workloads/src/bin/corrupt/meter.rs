//! One case under measurement: what it allocates, how long it takes, whether it panics.
//!
//! A case runs on one thread from beginning to end, so the allocator counts by thread. Time and memory are looked at
//! when the case is over; one that never ends is the business of [`Watch`], which ends the program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_workloads::corrupt::Verdict;

/// What one case may use.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Memory held at once.
    pub bytes: isize,
    /// From beginning to end.
    pub time: Duration,
}

/// The limits of every harm.
pub const LIMITS: Limits = Limits { bytes: 64 << 20, time: Duration::from_secs(10) };

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Counts what each thread holds.
struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = HELD_MAX.try_with(|most| most.set(most.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; every call goes to the system's")]
// SAFETY: every request is passed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps panics of cases, which are verdicts, from being printed by their thousands.
pub fn silence_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            told(info);
        }
    }));
}

/// The verdict that `judge` gives, or that it broke a limit.
pub fn measured(limits: Limits, judge: impl FnOnce() -> Verdict) -> Verdict {
    let began = Instant::now();
    let before = HELD.get();
    HELD_MAX.set(before);
    QUIET.set(true);
    let verdict = catch_unwind(AssertUnwindSafe(judge));
    QUIET.set(false);
    let held = HELD_MAX.get() - before;
    match verdict {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Verdict::Wrong(format!("panic: {}", text.unwrap_or_default()))
        }
        Ok(_) if held > limits.bytes => Verdict::Wrong(format!("{held} bytes allocated")),
        Ok(_) if began.elapsed() > limits.time => Verdict::Wrong(format!("took {:?}", began.elapsed())),
        Ok(verdict) => verdict,
    }
}

/// What a thread is at: since when, and in words.
type At = Mutex<Option<(Instant, String)>>;

/// Notices a case that does not end.
pub struct Watch(Vec<At>);

impl Watch {
    /// Watches `jobs` threads until the program ends, and ends it if one is stuck.
    pub fn begin(jobs: usize) -> Arc<Self> {
        let watch = Arc::new(Self((0..jobs).map(|_| At::default()).collect()));
        let watching = Arc::clone(&watch);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                if let Some(case) = watching.stuck() {
                    eprintln!("WRONG: {case} has not ended after {:?}", LIMITS.time * 2);
                    std::process::exit(1);
                }
            }
        });
        watch
    }

    /// How many threads are watched.
    pub fn jobs(&self) -> usize {
        self.0.len()
    }

    /// Thread `job` begins a case, or with `None` has ended one.
    pub fn at(&self, job: usize, case: Option<String>) {
        let now = case.map(|case| (Instant::now(), case));
        *self.0[job].lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn stuck(&self) -> Option<String> {
        self.0.iter().find_map(|at| {
            let at = at.lock().unwrap_or_else(PoisonError::into_inner);
            // Twice the limit: what ends at last is judged by its own clock.
            at.as_ref().filter(|(since, _)| since.elapsed() > LIMITS.time * 2).map(|(_, case)| case.clone())
        })
    }
}
