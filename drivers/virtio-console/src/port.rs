//! The port: a queue of buffers that the device fills, and one of bytes that it is to show.
//!
//! Both queues and all buffers lie in memory that outlives the driver. So a successor, whose device was stopped in between, sees what
//! the device had done that nobody took note of: buffers that it filled are taken in, bytes that it took are not sent again.
//!
//! A buffer goes back to the device only when what was in it has been noted, and at once then; so descriptor and buffer of the same
//! number belong together for ever.

use console::line::Note;
use console::{Beginning, Device as Console, Received, State, Window};
use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::{Dma, DmaMemory, Kept, Register, Registers, Time};
use virtio::device::NO_VECTOR;
use virtio::queue::{self, left_behind};
use virtio::{Device, Doorbell, Error, Features, Queue, Segment};

/// The queues of the first port (virtio 1.2, 5.3.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// The device tells its window's size.
const SIZE: Features = Features::from_bits_retain(1 << 0);
const COLUMNS: Register<u16> = Register::at(0);
const ROWS: Register<u16> = Register::at(2);

/// How many descriptors a queue has at most: as many buffers share a page.
const QUEUE_SIZE: u16 = 16;
const BUFFER_BYTES: usize = PAGE_BYTES / QUEUE_SIZE as usize;
/// How many bytes the device is given to show at once.
const CHUNK_BYTES: usize = PAGE_BYTES;
/// How much memory it takes.
pub const DEVICE_BYTES: usize = 2 * queue::MEMORY_BYTES + PAGE_BYTES + CHUNK_BYTES;
/// When to look again at a device that raises no interrupts.
const POLL_NS: u64 = 5_000_000;

struct InUse<M> {
    queue: Queue<M>,
    doorbell: Doorbell,
}

/// The port.
pub struct Port<R, M> {
    device: Device<R>,
    receive: InUse<M>,
    transmit: InUse<M>,
    buffers: M,
    chunk: M,
    /// How many buffers were taken from each queue.
    received: u16,
    sent: u16,
    /// The buffer whose bytes were handed over last.
    handed_over: Option<u16>,
    /// How many bytes the device has to show.
    in_flight: Option<usize>,
    has_interrupts: bool,
    has_window: bool,
    window: Option<Window>,
}

impl<R: Registers, M: DmaMemory> Port<R, M> {
    /// Sets a device up that has so many interrupts, and takes note of what it did when nobody looked. What `dma` gives must be the same
    /// for every driver of the device, and zero for the first.
    pub async fn start<K: Kept>(
        device: Device<R>,
        dma: &impl Dma<Memory = M>,
        interrupts: usize,
        time: &impl Time,
        (state, beginning): (&mut State<K>, Beginning),
    ) -> Result<Self, Error> {
        device.reset_and_wait(time).await?;
        let features = device.negotiate(Features::empty(), Features::EVENT_INDEX | SIZE)?;
        let [receive, transmit] = [dma.allocate(queue::MEMORY_BYTES)?, dma.allocate(queue::MEMORY_BYTES)?];
        let [buffers, chunk] = [dma.allocate(PAGE_BYTES)?, dma.allocate(CHUNK_BYTES)?];
        if let Beginning::Successor { received, sent } = beginning {
            take_in(&receive, &buffers, received, state)?;
            count_shown(&transmit, sent, state)?;
        }
        let vector = if interrupts > 0 { 0 } else { NO_VECTOR };
        let set_up = |index, memory| {
            let size = device.max_queue_size(index)?.min(QUEUE_SIZE);
            let queue = Queue::over(memory, size, features.contains(Features::EVENT_INDEX))?;
            let doorbell = device.set_up_queue(index, &queue, vector)?;
            Ok::<_, Error>(InUse { queue, doorbell })
        };
        let (receive, transmit) = (set_up(RECEIVE, receive)?, set_up(TRANSMIT, transmit)?);
        state.receive(&[], 0, 0)?;
        state.set_sent(state.sent(), 0)?;
        device.set_config_vector(vector)?;
        device.start()?;
        let mut port = Self {
            device,
            receive,
            transmit,
            buffers,
            chunk,
            received: 0,
            sent: 0,
            handed_over: None,
            in_flight: None,
            has_interrupts: interrupts > 0,
            has_window: features.contains(SIZE),
            window: None,
        };
        for buffer in 0..port.receive.queue.size() {
            port.give(buffer)?;
        }
        port.publish()?;
        Ok(port)
    }

    /// Gives a buffer to the device, when that is told.
    fn give(&mut self, buffer: u16) -> Result<(), Error> {
        let address = self.buffers.device_address(usize::from(buffer) * BUFFER_BYTES)?;
        let room = Segment::writable(address, BUFFER_BYTES as u32);
        self.receive.queue.add(buffer, core::iter::once(room), None)?.map_err(|_| Error::NoQueue)
    }

    fn publish(&mut self) -> Result<(), Error> {
        if self.receive.queue.publish()? { self.device.notify(self.receive.doorbell) } else { Ok(()) }
    }

    /// Has the device show bytes.
    fn show(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let len_bytes = bytes.len().min(CHUNK_BYTES);
        self.chunk.write(0, bytes.get(..len_bytes).unwrap_or_default())?;
        let segment = Segment::readable(self.chunk.device_address(0)?, len_bytes as u32);
        let InUse { queue, doorbell } = &mut self.transmit;
        queue.add(0, core::iter::once(segment), None)?.map_err(|_| Error::NoQueue)?;
        self.in_flight = Some(len_bytes);
        if queue.publish()? { self.device.notify(*doorbell) } else { Ok(()) }
    }
}

/// Takes in what a device has received whose driver had taken so many buffers.
fn take_in<K: Kept>(
    queue: &impl DmaMemory,
    buffers: &impl DmaMemory,
    taken: u16,
    state: &mut State<K>,
) -> Result<(), Error> {
    let mut mark = taken;
    for (buffer, len_bytes) in left_behind(queue, QUEUE_SIZE, taken)? {
        mark = mark.wrapping_add(1);
        let mut bytes = [0; BUFFER_BYTES];
        let bytes = bytes.get_mut(..(len_bytes as usize).min(BUFFER_BYTES)).unwrap_or_default();
        if buffer < QUEUE_SIZE {
            buffers.read(usize::from(buffer) * BUFFER_BYTES, bytes)?;
            state.receive(bytes, 0, mark)?;
        }
    }
    Ok(())
}

/// Counts what a device has shown whose driver had heard of so many chunks. There is one at a time.
fn count_shown<K: Kept>(queue: &impl DmaMemory, heard: u16, state: &mut State<K>) -> Result<(), Error> {
    if let [(descriptor, _)] = left_behind(queue, QUEUE_SIZE, heard)?.as_slice() {
        let len_bytes = queue::descriptor_bytes(queue, *descriptor)?.min(CHUNK_BYTES as u32);
        state.set_sent(state.sent() + u64::from(len_bytes), heard.wrapping_add(1))?;
    }
    Ok(())
}

impl<R: Registers, M: DmaMemory> Console for Port<R, M> {
    type Error = Error;

    const STREAM_BYTES: usize = 64;

    fn receive(&mut self, into: &mut [u8]) -> Result<Received, Error> {
        if let Some(buffer) = self.handed_over.take() {
            self.give(buffer)?;
        }
        // As often as the queue has buffers, not as often as the device has nothing to say.
        for _ in 0..self.receive.queue.size() {
            let Some(into) = into.get_mut(..BUFFER_BYTES) else { break };
            let Some(used) = self.receive.queue.take()? else { break };
            self.received = self.received.wrapping_add(1);
            if used.written_bytes == 0 {
                self.give(used.cookie)?;
                continue;
            }
            let len_bytes = used.written_bytes as usize;
            let bytes = into.get_mut(..len_bytes).ok_or(Error::WroteTooMuch)?;
            self.buffers.read(usize::from(used.cookie) * BUFFER_BYTES, bytes)?;
            self.handed_over = Some(used.cookie);
            return Ok(Received { len_bytes, lost_bytes: 0 });
        }
        Ok(Received::default())
    }

    fn received_mark(&self) -> u16 {
        self.received
    }

    fn send(&mut self, _position: u64, bytes: &[u8], note: &mut Note<'_>) -> Result<(), Error> {
        if self.in_flight.is_none() {
            self.show(bytes)?;
        }
        if let Some(len_bytes) = self.in_flight
            && self.transmit.queue.take()?.is_some()
        {
            self.in_flight = None;
            self.sent = self.sent.wrapping_add(1);
            note(len_bytes, self.sent)?;
        }
        Ok(())
    }

    fn has_sent_all(&mut self) -> Result<bool, Error> {
        Ok(self.in_flight.is_none())
    }

    fn is_quiet(&mut self) -> Result<bool, Error> {
        if let Some(buffer) = self.handed_over.take() {
            self.give(buffer)?;
        }
        self.publish()?;
        let has_received = self.receive.queue.arm_interrupt()?;
        let has_shown = self.in_flight.is_some() && self.transmit.queue.arm_interrupt()?;
        Ok(!has_received && !has_shown)
    }

    fn window(&self) -> Option<Window> {
        self.window
    }

    fn work(&mut self, _now_ns: u64) -> Result<Option<u64>, Error> {
        self.device.check()?;
        if self.has_window {
            let read = |config: &_| Ok(Window { rows: ROWS.read(config)?, columns: COLUMNS.read(config)? });
            self.window = Some(self.device.config(read)?);
        }
        Ok((!self.has_interrupts).then_some(POLL_NS))
    }
}

#[cfg(test)]
mod tests;
