//! `/dev/hwrng`: what the source of randomness gives, and nothing else (Linux, `Documentation/admin-guide/hw_random.rst`).

use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, Positioning, Source};
use crate::platform::Executor;
use crate::random;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How much of a read comes in one piece, in bytes.
const MAX_PIECE_BYTES: usize = 4096;

/// The source, for those who read the device.
pub struct HardwareRandom {
    executor: Executor,
    source: Rc<dyn random::Source>,
    /// What was asked for and nobody has taken yet.
    bytes: RefCell<Vec<u8>>,
    wanted_bytes: Cell<usize>,
    is_asked: Cell<bool>,
    has_failed: Cell<bool>,
    changed: WaitQueue,
}

impl HardwareRandom {
    /// A device with this source.
    pub fn new(executor: &Executor, source: Rc<dyn random::Source>) -> Rc<Self> {
        Rc::new(Self {
            executor: executor.clone(),
            source,
            bytes: RefCell::default(),
            wanted_bytes: Cell::new(0),
            is_asked: Cell::new(false),
            has_failed: Cell::new(false),
            changed: WaitQueue::new(),
        })
    }

    /// Sees to it that there will be so many bytes.
    fn want(self: &Rc<Self>, count: usize) {
        self.wanted_bytes.set(self.wanted_bytes.get().max(count));
        if !self.is_asked.replace(true) {
            let device = self.clone();
            self.executor.spawn(async move { device.gather().await });
        }
    }

    async fn gather(&self) {
        loop {
            let missing = self.wanted_bytes.get().saturating_sub(self.bytes.borrow().len());
            if missing == 0 {
                break;
            }
            match self.source.read(missing).await {
                Ok(bytes) => self.bytes.borrow_mut().extend(bytes.into_iter().take(missing)),
                Err(_) => {
                    self.has_failed.set(true);
                    break;
                }
            }
        }
        self.wanted_bytes.set(0);
        self.is_asked.set(false);
        self.changed.wake();
    }
}

/// The device, opened.
pub(super) struct HardwareRandomFile(pub(super) Option<Rc<HardwareRandom>>);

impl FileOps for HardwareRandomFile {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        let wanted = to.remaining().min(MAX_PIECE_BYTES);
        if wanted == 0 {
            return Ok(0);
        }
        let device = self.0.as_ref().ok_or(Errno::ENODEV)?;
        if device.has_failed.take() {
            return Err(Errno::ENODEV);
        }
        let mut bytes = device.bytes.borrow_mut();
        if bytes.len() < wanted {
            drop(bytes);
            device.want(wanted);
            return Err(Errno::EAGAIN);
        }
        let count = to.put(bytes.get(..wanted).unwrap_or_default());
        // Who could not take them may have seen them.
        bytes.drain(..wanted);
        crate::file::io::moved_or_fault(count)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.0.as_ref().map(|device| &device.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::SliceDestination;
    use crate::platform::LocalFuture;
    use alloc::boxed::Box;

    /// Counts, up to three bytes at once; and fails when it has given so many.
    struct Counter {
        given: Rc<Cell<u8>>,
        most: u8,
    }

    impl random::Source for Counter {
        fn read(&self, most: usize) -> LocalFuture<Result<Vec<u8>>> {
            let first = self.given.get();
            let count = most.min(3) as u8;
            self.given.set(first + count);
            let is_over = first + count > self.most;
            Box::pin(async move { if is_over { Err(Errno::EIO) } else { Ok((first..first + count).collect()) } })
        }
    }

    fn open(most: u8) -> (Executor, HardwareRandomFile) {
        let executor = Executor::new();
        let source = Rc::new(Counter { given: Rc::default(), most });
        let device = HardwareRandom::new(&executor, source);
        (executor, HardwareRandomFile(Some(device)))
    }

    fn read(file: &HardwareRandomFile, count: usize) -> Result<Vec<u8>> {
        let mut buffer = alloc::vec![0; count];
        let count = file.read(0, &mut SliceDestination::new(&mut buffer))?;
        buffer.truncate(count);
        Ok(buffer)
    }

    #[test]
    fn a_read_waits_until_all_of_it_is_there_and_no_byte_is_given_twice() {
        let (executor, file) = open(200);
        assert_eq!(read(&file, 7), Err(Errno::EAGAIN));
        executor.run_ready(0);
        assert_eq!(read(&file, 7), Ok((0..7).collect()));
        assert_eq!(read(&file, 1), Err(Errno::EAGAIN));
        executor.run_ready(0);
        assert_eq!(read(&file, 1), Ok(alloc::vec![7]));
    }

    #[test]
    fn without_a_device_or_with_one_that_fails_there_is_none() {
        assert_eq!(read(&HardwareRandomFile(None), 1), Err(Errno::ENODEV));
        let (executor, file) = open(2);
        assert_eq!(read(&file, 4), Err(Errno::EAGAIN));
        executor.run_ready(0);
        assert_eq!(read(&file, 4), Err(Errno::ENODEV));
    }
}
