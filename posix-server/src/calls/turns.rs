//! Calls that move much: others get a turn between their steps.
//!
//! The server has one thread, so a call that moved 2 GiB at once would let nobody else go on meanwhile. Where so much can be asked for, it is
//! moved in steps, and after each of them everything runs that can.

use core::future::poll_fn;
use core::task::Poll;

/// What one step moves at most, in bytes.
pub(super) const STEP_BYTES: u64 = 1 << 20;

/// Lets everybody else who can go on have a turn.
pub(crate) async fn give_way() {
    let mut has_waited = false;
    poll_fn(|context| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
