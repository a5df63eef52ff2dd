//! What several commands need of the terminal and of the machine.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Jobs at once, if nobody says how many.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Set by Ctrl-C. A second one ends the program, as it does without us.
pub(crate) fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let hooked = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        hooked.map_err(|error| format!("signals cannot be caught: {error}"))?;
    }
    Ok(stop)
}

/// This program, as it was called.
pub(crate) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "crashlab".to_owned())
}

/// Panics of seeds are verdicts, and are told as such.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
