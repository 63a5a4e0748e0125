//! Interrupts, by line or by message.

use crate::DeviceError;
use core::future::Future;
use quire_api::executor::Interrupts;

/// One of a device's interrupts.
///
/// An edge-triggered one (ISA, message) must be acknowledged *before* the device is served: a device that was not served completely
/// raises no other.
pub trait InterruptSource {
    /// Waits for the next interrupt, which stays masked until it is acknowledged.
    fn wait(&mut self) -> impl Future<Output = ()>;

    /// Lets the next one in, at once.
    fn acknowledge(&self) -> Result<(), DeviceError>;
}

impl InterruptSource for Interrupts {
    async fn wait(&mut self) {
        Self::wait(self).await;
    }

    fn acknowledge(&self) -> Result<(), DeviceError> {
        self.acknowledge_now().map_err(|_| DeviceError)
    }
}
