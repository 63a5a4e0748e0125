//! Whether something besides running threads is to be done on the way out of the kernel. One flag, so that the
//! usual answer costs one look.

use core::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Asks for the next way out to look after the heap and the interrupt controllers.
pub(crate) fn ask() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Whether somebody asked since this was last taken back.
#[inline(always)]
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Whether somebody asked since the last time.
#[inline]
pub(crate) fn take() -> bool {
    is_asked() && ASKED.swap(false, Ordering::Relaxed)
}
