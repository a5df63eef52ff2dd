//! Where a simulated application panicked, told to whoever runs it instead of the terminal: of a hundred runs of a
//! shrinking plan nobody wants to read the panics.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Once};

use holdfast::sync::Mutex;

/// A panic.
#[derive(Clone, Debug)]
pub(super) struct Panicked {
    /// File and line.
    pub(super) at: String,
    /// Its words.
    pub(super) what: String,
}

/// The first panic of a run.
pub(super) type Slot = Arc<Mutex<Option<Panicked>>>;

thread_local! {
    static SLOT: RefCell<Option<Slot>> = const { RefCell::new(None) };
}

/// Panics of this thread go into the slot from now on.
pub(super) fn listen(slot: &Slot) {
    install();
    SLOT.set(Some(Arc::clone(slot)));
}

/// Puts our hook before the one that is there, which keeps the panics of all other threads.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !note(info) {
                before(info);
            }
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) -> bool {
    let slot = SLOT.try_with(|slot| slot.try_borrow().ok().and_then(|slot| slot.clone()));
    let Ok(Some(slot)) = slot else { return false };
    let at = info.location().map_or("nowhere".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
    // madsim refuses threads, and the standard library then says no more than that some number is not 0.
    let is_of_thread = at.contains("/library/std/src/sys/") && at.contains("thread");
    let what = match info.payload_as_str() {
        _ if is_of_thread => {
            "a thread was to be started, which is refused inside of a run: use `World::spawn`"
        }
        words => words.unwrap_or("a panic without words"),
    };
    let what = what.to_owned();
    slot.lock().get_or_insert(Panicked { at, what });
    true
}
