//! Lines on standard error that say what is going on.

use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Whether nothing is said at all.
static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on, says something only to people: for commands whose standard error carries somebody else's output.
pub(crate) fn only_to_terminals() {
    SILENT.store(!stderr().is_terminal(), Ordering::Relaxed);
}

/// Whether tools should be silent, too.
pub(crate) fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Says what begins now, when it is over as soon as it begins.
pub(crate) fn note(what: &str) {
    if !is_silent() {
        eprintln!("==> {what}");
    }
}

/// A step that takes time. Says what begins; [`Step::done`] says how long it took.
pub(crate) struct Step {
    what: String,
    start: Instant,
}

impl Step {
    /// Begins a step.
    pub(crate) fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        note(&what);
        Self { what, start: Instant::now() }
    }

    /// Ends it.
    pub(crate) fn done(self) {
        if !is_silent() {
            eprintln!("    {}: {:.1} s", self.what, self.start.elapsed().as_secs_f64());
        }
    }
}
