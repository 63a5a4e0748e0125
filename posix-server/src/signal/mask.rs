//! The signal mask of a thread, which its shim may change without asking (`posix_protocol::shim::ThreadBlock`).
//!
//! * While the thread is inside a request, the server's copy counts. It is shown in the block before the thread goes back.
//! * While it is outside, the block counts: whoever looks takes it over first. A program can write anything there, and so block what it
//!   likes; it could have asked for that. `SIGKILL` and `SIGSTOP` are taken out.
//! * No signal is overlooked. The server notes in the block that signals wait *before* it looks at the mask; the shim changes the mask
//!   *before* it looks at that note. Both have a barrier between. So if the server finds a signal blocked that the shim is just letting
//!   through, the shim finds the note, and asks before it goes back to the program.

use super::SignalSet;
use crate::process::{Thread, Whereabouts};
use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};
use posix_protocol::shim::ThreadBlock;

const MASK: usize = offset_of!(ThreadBlock, mask);
const HELD: usize = offset_of!(ThreadBlock, held);

impl Thread {
    /// Its signal mask.
    pub fn mask(&self) -> SignalSet {
        if self.whereabouts.get() == Whereabouts::Outside {
            self.take_mask();
        }
        self.signals.borrow().mask
    }

    /// Takes over the mask of a thread that was outside up to now.
    pub fn take_mask(&self) {
        let shown = self.block.borrow().load(MASK);
        if self.shown_mask.replace(shown) != shown {
            self.signals.borrow_mut().set_mask(SignalSet(shown));
        }
    }

    /// Shows the mask to the shim, and whether signals wait, before the thread goes back.
    pub fn show_mask(&self) {
        let signals = self.signals.borrow();
        let mask = signals.mask.0;
        if self.shown_mask.replace(mask) != mask {
            self.block.borrow().store(MASK, mask);
        }
        if self.is_held_shown.get() && signals.pending.set().is_empty() {
            let is_waiting = !self.process.signals.borrow().pending.set().is_empty();
            self.show_held(is_waiting);
        }
    }

    fn show_held(&self, is_held: bool) {
        if self.is_held_shown.replace(is_held) != is_held {
            self.block.borrow().store(HELD, u64::from(is_held));
        }
    }

    /// Shows all of it in a block that is new.
    pub(crate) fn show_signals(&self) {
        let mask = self.signals.borrow().mask.0;
        self.shown_mask.set(mask);
        self.block.borrow().store(MASK, mask);
        // It sees with its first call whether that is true.
        self.is_held_shown.set(false);
        self.show_held(true);
    }

    /// A signal waits from now on that the thread could take. To be called before anybody looks at its mask.
    pub fn note_held(&self) {
        self.show_held(true);
        fence(Ordering::SeqCst);
    }
}
