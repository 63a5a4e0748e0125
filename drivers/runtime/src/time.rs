//! Time, which a test decides.

use core::future::Future;
use quire_api::Executor;

/// A clock.
pub trait Time {
    /// Time since some start, in ns.
    fn now_ns(&self) -> u64;

    /// Waits until `deadline_ns`.
    fn sleep_until(&self, deadline_ns: u64) -> impl Future<Output = ()>;
}

impl Time for Executor {
    fn now_ns(&self) -> u64 {
        Self::now_ns(self)
    }

    async fn sleep_until(&self, deadline_ns: u64) {
        Self::sleep_until(self, deadline_ns).await;
    }
}
