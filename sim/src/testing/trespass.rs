//! Refuses real files, sockets and sleeps to an application inside a run, and remembers that it tried.
//!
//! As madsim does it for clocks and threads, some functions of the C library are defined here once more, so that the
//! program calls these: on the thread of a run they refuse, everywhere else they hand the call to the library's own. What
//! reaches the kernel by other ways (`io_uring`, system calls made by hand, programs that are started) is not noticed.
//!
//! Invariant: outside of a run, and while a panic is told, each function does what the library's own does.

#![expect(unsafe_code, reason = "functions of the C library can be neither defined nor called without it")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use holdfast::sync::Mutex;

/// What a run has tried first.
pub(super) type Tried = Arc<Mutex<Option<String>>>;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
    static TRIED: RefCell<Option<Tried>> = const { RefCell::new(None) };
}

/// This thread is inside of a run from now on.
pub(super) fn refuse(tried: &Tried) {
    program();
    TRIED.set(Some(Arc::clone(tried)));
    IS_INSIDE.set(true);
}

/// The program itself, which is read to name the lines of a backtrace.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::current_exe().unwrap_or_default())
}

/// True inside of a run, which is then known to have tried it.
fn is_refused(what: impl FnOnce() -> String) -> bool {
    if !IS_INSIDE.try_with(Cell::get).unwrap_or(false) || std::thread::panicking() {
        return false;
    }
    // Whatever `what` calls is not the application's.
    IS_INSIDE.set(false);
    let what = what();
    let is_refused = !what.is_empty();
    if is_refused {
        let tried = TRIED.with_borrow(Clone::clone);
        if let Some(tried) = tried {
            tried.lock().get_or_insert(what);
        }
    }
    IS_INSIDE.set(true);
    is_refused
}

/// Empty for what a program may read of the machine without being an application's file: facts about itself, and what
/// names the lines of a backtrace.
fn opening(path: *const c_char, flags: c_int) -> String {
    // SAFETY: whoever calls `open` owes it a string that ends with a zero.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let is_read = flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_CREAT == 0;
    let is_of_system = ["/proc/", "/sys/", "/lib", "/usr/lib"].iter().any(|place| path.starts_with(place));
    if is_read && (is_of_system || Path::new(&path) == program()) {
        return String::new();
    }
    format!("to open the real file {path}")
}

fn fail() -> c_int {
    // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
    unsafe { *libc::__errno_location() = libc::EACCES };
    -1
}

/// The library's own function.
fn next(place: &'static OnceLock<usize>, name: &CStr) -> *const c_void {
    let address = *place.get_or_init(|| {
        // SAFETY: `name` ends with a zero; the answer is an address or null.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        assert!(!found.is_null(), "the C library has no {name:?}");
        found.expose_provenance()
    });
    std::ptr::with_exposed_provenance(address)
}

type Open = unsafe extern "C" fn(*const c_char, c_int, ...) -> c_int;
type Socket = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;
type Nanosleep = unsafe extern "C" fn(*const libc::timespec, *mut libc::timespec) -> c_int;
type ClockNanosleep =
    unsafe extern "C" fn(libc::clockid_t, c_int, *const libc::timespec, *mut libc::timespec) -> c_int;

// The mode is there only when a file may be created; on every platform of Linux that Rust has, an argument that the
// caller left out is some number, which the library's own function does not look at either.
/// The C library's function of this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    static OWN: OnceLock<usize> = OnceLock::new();
    if is_refused(|| opening(path, flags)) {
        return fail();
    }
    // SAFETY: it is the library's `open64`, of this type, called with the arguments that were given.
    unsafe { std::mem::transmute::<*const c_void, Open>(next(&OWN, c"open64"))(path, flags, mode) }
}

/// The C library's function of this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    static OWN: OnceLock<usize> = OnceLock::new();
    if is_refused(|| opening(path, flags)) {
        return fail();
    }
    // SAFETY: it is the library's `open`, of this type, called with the arguments that were given.
    unsafe { std::mem::transmute::<*const c_void, Open>(next(&OWN, c"open"))(path, flags, mode) }
}

/// The C library's function of this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    static OWN: OnceLock<usize> = OnceLock::new();
    if is_refused(|| "to make a real socket".to_owned()) {
        return fail();
    }
    // SAFETY: it is the library's `socket`, of this type, called with the arguments that were given.
    unsafe { std::mem::transmute::<*const c_void, Socket>(next(&OWN, c"socket"))(domain, kind, protocol) }
}

/// The C library's function of this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn nanosleep(time: *const libc::timespec, left: *mut libc::timespec) -> c_int {
    static OWN: OnceLock<usize> = OnceLock::new();
    if is_refused(|| "to sleep in real time".to_owned()) {
        return 0;
    }
    // SAFETY: it is the library's `nanosleep`, of this type, called with the arguments that were given.
    unsafe { std::mem::transmute::<*const c_void, Nanosleep>(next(&OWN, c"nanosleep"))(time, left) }
}

/// The C library's function of this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn clock_nanosleep(
    clock: libc::clockid_t,
    flags: c_int,
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    static OWN: OnceLock<usize> = OnceLock::new();
    if is_refused(|| "to sleep in real time".to_owned()) {
        return 0;
    }
    // SAFETY: it is the library's `clock_nanosleep`, of this type, called with the arguments that were given.
    unsafe {
        std::mem::transmute::<*const c_void, ClockNanosleep>(next(&OWN, c"clock_nanosleep"))(
            clock, flags, time, left,
        )
    }
}
