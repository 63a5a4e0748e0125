//! The service: random bytes of the device for those who ask, one after the other.
//!
//! The device has one queue, and gets one buffer at a time, as large as the first reader wants it; so no bytes lie around that somebody
//! could have seen before they are used. How good they are is the device's affair: whoever asks mixes them with others.

use alloc::collections::VecDeque;
use driver_protocol::entropy::{MAX_READ_BYTES, MAX_READS, Request};
use driver_protocol::{ANSWERED, Refusal};
use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::{Asked, Client, ClientError, Dma, DmaMemory, Next, Registers, Service, Time};
use virtio::device::NO_VECTOR;
use virtio::{Device, Doorbell, Error, Features, Queue, Segment};

/// The queue of buffers to be filled (virtio 1.2, 5.4.2).
const REQUESTS: u16 = 0;
/// How many descriptors it has here.
const QUEUE_SIZE: u16 = 2;
/// When to look again at a device that owes bytes, in case its interrupt got lost; and at one that raises none.
const LOST_INTERRUPT_NS: u64 = 500_000_000;
const POLL_NS: u64 = 5_000_000;

/// A client that waits for bytes.
struct Reader<C> {
    client: C,
    room_bytes: usize,
}

/// The service of one device.
pub struct Entropy<R, M, C> {
    device: Device<R>,
    queue: Queue<M>,
    doorbell: Doorbell,
    buffer: M,
    look_ns: u64,
    /// Whether the device has the buffer.
    is_asked: bool,
    readers: VecDeque<Reader<C>>,
}

impl<R: Registers, M: DmaMemory, C: Client> Entropy<R, M, C> {
    /// Sets a device up that has so many interrupts.
    pub async fn start(
        device: Device<R>,
        dma: &impl Dma<Memory = M>,
        interrupts: usize,
        time: &impl Time,
    ) -> Result<Self, Error> {
        device.reset_and_wait(time).await?;
        let features = device.negotiate(Features::empty(), Features::EVENT_INDEX)?;
        let size = device.max_queue_size(REQUESTS)?.min(QUEUE_SIZE);
        let queue = Queue::new(dma, size, features.contains(Features::EVENT_INDEX))?;
        let buffer = dma.allocate(PAGE_BYTES)?;
        let (vector, look_ns) = if interrupts > 0 { (0, LOST_INTERRUPT_NS) } else { (NO_VECTOR, POLL_NS) };
        let doorbell = device.set_up_queue(REQUESTS, &queue, vector)?;
        device.start()?;
        Ok(Self { device, queue, doorbell, buffer, look_ns, is_asked: false, readers: VecDeque::new() })
    }

    /// Gives the device the buffer, if there is somebody to read it.
    fn ask(&mut self) -> Result<(), Error> {
        let Some(reader) = self.readers.front() else { return Ok(()) };
        let room = Segment::writable(self.buffer.device_address(0)?, reader.room_bytes as u32);
        self.queue.add(0, core::iter::once(room), None)?.map_err(|_| Error::NoQueue)?;
        self.is_asked = true;
        if self.queue.publish()? { self.device.notify(self.doorbell) } else { Ok(()) }
    }

    /// Takes the buffer back, if the device has filled it, and answers the reader it was for.
    fn take(&mut self) -> Result<bool, Error> {
        let Some(used) = self.queue.take()? else { return Ok(false) };
        self.is_asked = false;
        let mut bytes = [0; MAX_READ_BYTES];
        let filled = bytes.get_mut(..used.written_bytes as usize).ok_or(Error::WroteTooMuch)?;
        if filled.is_empty() {
            // One byte at least is its duty (virtio 1.2, 5.4.6.2); it would have us ask for ever.
            return Err(Error::WroteNothing);
        }
        self.buffer.read(0, filled)?;
        // Nobody finds them a second time.
        self.buffer.write(0, &[0; MAX_READ_BYTES])?;
        if let Some(Reader { client, room_bytes: _ }) = self.readers.pop_front() {
            answer(client, filled);
        }
        Ok(true)
    }
}

fn answer(client: impl Client, bytes: &[u8]) {
    match client.write(0, bytes) {
        Ok(count) => client.answer(ANSWERED, [count as u64, 0, 0, 0, 0, 0, 0, 0]),
        Err(ClientError) => client.refuse(Refusal::BadBuffer),
    }
}

impl<R: Registers, M: DmaMemory, C: Client> Service<C> for Entropy<R, M, C> {
    type Error = Error;

    fn request(&mut self, asked: &Asked, client: C) {
        let room_bytes = usize::try_from(asked.receive_bytes).unwrap_or(MAX_READ_BYTES).min(MAX_READ_BYTES);
        match Request::from_label(asked.label) {
            None => client.refuse(Refusal::Unknown),
            Some(Request::Read) if room_bytes == 0 => client.refuse(Refusal::BadBuffer),
            Some(Request::Read) if self.readers.len() >= MAX_READS => client.refuse(Refusal::Busy),
            Some(Request::Read) => self.readers.push_back(Reader { client, room_bytes }),
        }
    }

    fn work(&mut self, _now_ns: u64) -> Result<Next, Error> {
        self.device.check()?;
        // One turn for each reader at most.
        for _ in 0..=MAX_READS {
            if self.is_asked && !self.take()? && !self.queue.arm_interrupt()? {
                return Ok(Next::Within(self.look_ns));
            }
            if !self.is_asked {
                self.ask()?;
            }
            if !self.is_asked {
                return Ok(Next::AtEvent);
            }
        }
        Ok(Next::Now)
    }
}

#[cfg(test)]
mod tests;
