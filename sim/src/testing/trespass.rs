//! Refuses real files, sockets and sleeps to an application inside a run, and remembers that it tried.
//!
//! As madsim does it for clocks and threads, some functions of the C library are defined here once more, so that the
//! program calls these: on the thread of a run they refuse, everywhere else they hand the call to the library's own. They
//! are those by which `std::fs`, `std::net` and `std::thread::sleep` begin anything; what is done with a file that is open
//! needs none of them. What reaches the kernel by other ways (`io_uring`, system calls made by hand, programs that are
//! started) is not noticed.
//!
//! Invariant: outside of a run, and while a panic is told, each function does what the library's own does.

#![expect(unsafe_code, reason = "functions of the C library can be neither defined nor called without it")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};

use holdfast::sync::Mutex;
use libc::{gid_t, mode_t, size_t, ssize_t, uid_t};

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

/// What `path` is for, if it is the application's business. Empty if not: for what a program may read of the machine
/// without it being an application's file, which are facts about itself, and what names the lines of a backtrace.
fn with_file(what: &str, path: *const c_char, is_read: bool) -> String {
    if path.is_null() {
        // By this the standard library finds out what there is.
        return String::new();
    }
    // SAFETY: whoever calls a function of the library that takes a path owes it a string that ends with a zero.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let is_of_system = ["/proc/", "/sys/", "/lib", "/usr/lib"].iter().any(|place| path.starts_with(place));
    // `statx` without a path asks about a file that is open.
    if is_read && (is_of_system || path.is_empty() || Path::new(&path) == program()) {
        return String::new();
    }
    format!("to {what} the real file {path}")
}

fn opening(path: *const c_char, flags: c_int) -> String {
    with_file("open", path, flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_CREAT == 0)
}

fn looking(path: *const c_char) -> String {
    with_file("look at", path, true)
}

/// Gives what a function gives when it is not allowed to do something.
fn fail<T>(failure: T) -> T {
    // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
    unsafe { *libc::__errno_location() = libc::EACCES };
    failure
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

/// Defines functions of the C library once more: `name(arguments) -> result: what it is tried for, what it gives then`.
/// An argument behind `...` is one of a variable list in the library's own definition. It is there only when a file may be
/// created; on every platform of Linux that Rust has, one that the caller left out is some number, which the library does
/// not look at either.
macro_rules! guard {
    ($($name:ident($($argument:ident: $kind:ty),* $(; $dots:tt $more:ident: $more_kind:ty)?) -> $result:ty: $tried:expr, $failure:expr;)*) => {$(
        /// The C library's function of this name.
        #[unsafe(no_mangle)]
        #[inline(never)]
        unsafe extern "C" fn $name($($argument: $kind,)* $($more: $more_kind)?) -> $result {
            type Own = unsafe extern "C" fn($($kind,)* $($dots)?) -> $result;
            static OWN: OnceLock<usize> = OnceLock::new();
            const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name has no zero in it"),
            };
            if is_refused(|| $tried) {
                return $failure;
            }
            // SAFETY: it is the library's function of this name, of this type, called with the arguments that were given.
            unsafe { std::mem::transmute::<*const c_void, Own>(next(&OWN, NAME))($($argument,)* $($more)?) }
        }
    )*};
}

type Name = *const c_char;
type Time = *const libc::timespec;

guard! {
    open(path: Name, flags: c_int; ... mode: mode_t) -> c_int: opening(path, flags), fail(-1);
    open64(path: Name, flags: c_int; ... mode: mode_t) -> c_int: opening(path, flags), fail(-1);
    openat(at: c_int, path: Name, flags: c_int; ... mode: mode_t) -> c_int: opening(path, flags), fail(-1);
    openat64(at: c_int, path: Name, flags: c_int; ... mode: mode_t) -> c_int: opening(path, flags), fail(-1);

    statx(at: c_int, path: Name, flags: c_int, mask: c_uint, into: *mut libc::statx) -> c_int: looking(path), fail(-1);
    stat64(path: Name, into: *mut libc::stat64) -> c_int: looking(path), fail(-1);
    lstat64(path: Name, into: *mut libc::stat64) -> c_int: looking(path), fail(-1);
    access(path: Name, how: c_int) -> c_int: looking(path), fail(-1);
    faccessat(at: c_int, path: Name, how: c_int, flags: c_int) -> c_int: looking(path), fail(-1);
    readlink(path: Name, into: *mut c_char, bytes: size_t) -> ssize_t: looking(path), fail(-1);
    realpath(path: Name, into: *mut c_char) -> *mut c_char: looking(path), fail(null_mut());
    opendir(path: Name) -> *mut libc::DIR: with_file("list", path, true), fail(null_mut());

    mkdir(path: Name, mode: mode_t) -> c_int: with_file("make", path, false), fail(-1);
    mkfifo(path: Name, mode: mode_t) -> c_int: with_file("make", path, false), fail(-1);
    symlink(to: Name, path: Name) -> c_int: with_file("make", path, false), fail(-1);
    link(of: Name, path: Name) -> c_int: with_file("make", path, false), fail(-1);
    linkat(at: c_int, of: Name, to: c_int, path: Name, flags: c_int) -> c_int: with_file("make", path, false), fail(-1);
    rename(path: Name, to: Name) -> c_int: with_file("rename", path, false), fail(-1);
    unlink(path: Name) -> c_int: with_file("remove", path, false), fail(-1);
    unlinkat(at: c_int, path: Name, flags: c_int) -> c_int: with_file("remove", path, false), fail(-1);
    rmdir(path: Name) -> c_int: with_file("remove", path, false), fail(-1);
    chmod(path: Name, mode: mode_t) -> c_int: with_file("change", path, false), fail(-1);
    chown(path: Name, user: uid_t, group: gid_t) -> c_int: with_file("change", path, false), fail(-1);
    lchown(path: Name, user: uid_t, group: gid_t) -> c_int: with_file("change", path, false), fail(-1);
    utimensat(at: c_int, path: Name, times: Time, flags: c_int) -> c_int: with_file("change", path, false), fail(-1);

    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int: "to make a real socket".to_owned(), fail(-1);
    nanosleep(time: Time, left: *mut libc::timespec) -> c_int: "to sleep in real time".to_owned(), 0;
    clock_nanosleep(clock: libc::clockid_t, flags: c_int, time: Time, left: *mut libc::timespec) -> c_int:
        "to sleep in real time".to_owned(), 0;
}
