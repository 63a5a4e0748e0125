//! A device that does what it is told: QEMU's "edu" (docs/specs/edu.txt there), which copies between memory and a buffer of its own, and raises
//! interrupts. Where there is none, there is nothing to test.

use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use alloc::rc::Rc;
use log::info;
use quire_api::abi::queue::CompletionKind;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::system::{Confinement, HardwareInfo};
use quire_api::queue::MappedQueue;
use quire_api::time::clock_ns;
use quire_api::{DmaBuffer, DmaFlags, DmaSpace, Error, Event, IMMEDIATELY, Memory, MemoryFlags, RegisterWindow};

tests!("device":
    a_device_reads_and_writes_what_is_mapped_for_it,
    a_device_goes_on_with_memory_that_has_gone,
    messages_come_in_one_at_a_time,
    a_confined_device_raises_no_interrupt_of_anothers,
    a_confined_device_is_refused_what_is_not_mapped,
    a_confined_device_is_refused_writing_what_it_may_read,
);

/// Its vendor and device number.
const EDU: u32 = 0x11e8_1234;
/// The first device number on bus 0 beyond the last.
const DEVICES: u16 = 32;
/// Offsets in a configuration space: command, windows, the first capability.
const COMMAND: usize = 4;
const FIRST_WINDOW: usize = 0x10;
const CAPABILITIES: usize = 0x34;
/// Command: it answers at its window, and accesses memory by itself.
const MEMORY_AND_MASTER: u16 = 0b110;
/// The capability for a message, and the bits of its control word: it is on, it has addresses of 64 bits.
const MESSAGE_CAPABILITY: u8 = 5;
const MESSAGE_IS_ON: u16 = 1;
const MESSAGE_IS_WIDE: u16 = 1 << 7;

/// The device's registers.
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;
const SOURCE: usize = 0x80;
const TARGET: usize = 0x88;
const COUNT: usize = 0x90;
const COPY: usize = 0x98;
/// What to copy: begin; to memory instead of from it.
const BEGIN: u64 = 1;
const TO_MEMORY: u64 = 1 << 1;
/// Where its own buffer of a page is, in its own eyes; it can't copy quite all of it.
const OWN_BUFFER: u64 = 0x4_0000;
/// How many bytes it is told to copy.
const COPIED_BYTES: u64 = PAGE_SIZE / 2;
/// How long a copy may take, in ms; the device itself takes 100.
const PATIENCE_MS: u64 = 10_000;

/// Pages that somebody takes while a device has one.
const OTHER_PAGES: u64 = 64;

/// The device.
struct Edu {
    requester: u16,
    configuration: RegisterWindow,
    registers: RegisterWindow,
}

impl Edu {
    /// Finds it on the first bus.
    fn find(bench: &Bench) -> Result<Option<Self>, Failure> {
        let HardwareInfo { configuration: base, first_bus, .. } = bench.hardware.info()?;
        if base == 0 || first_bus != 0 {
            info!("no PCI Express here");
            return Ok(None);
        }
        for requester in (0..DEVICES).map(|device| device << 3) {
            let configuration = uncached(bench, base + (u64::from(requester) << 12), PAGE_SIZE)?;
            if configuration.read32(0)? == EDU {
                let window = configuration.read32(FIRST_WINDOW)? & !0xf;
                configuration.write16(COMMAND, MEMORY_AND_MASTER)?;
                let registers = uncached(bench, window.into(), PAGE_SIZE)?;
                return Ok(Some(Self { requester, configuration, registers }));
            }
        }
        info!("no \"edu\" device here");
        Ok(None)
    }

    fn space(&self, bench: &Bench) -> Result<Rc<DmaSpace>, Failure> {
        Ok(Rc::new(bench.hardware.dma_space(bench.account, self.requester)?))
    }

    /// Has it copy and waits until it has; what becomes of that is another matter.
    fn copy(&self, source: u64, target: u64, command: u64) -> TestResult {
        self.registers.write64(SOURCE, source)?;
        self.registers.write64(TARGET, target)?;
        self.registers.write64(COUNT, COPIED_BYTES)?;
        self.registers.write64(COPY, command | BEGIN)?;
        let end_ns = in_ms(PATIENCE_MS);
        while self.registers.read64(COPY)? & BEGIN != 0 {
            holds(clock_ns() < end_ns, "the copy ends")?;
        }
        Ok(())
    }

    fn read_from(&self, address: u64) -> TestResult {
        self.copy(address, OWN_BUFFER, 0)
    }

    fn write_to(&self, address: u64) -> TestResult {
        self.copy(OWN_BUFFER, address, TO_MEMORY)
    }

    /// Has it raise its interrupt by this message.
    fn set_message(&self, (address, data): (u64, u32)) -> TestResult {
        let mut at = usize::from(self.configuration.read8(CAPABILITIES)?);
        while self.configuration.read8(at)? != MESSAGE_CAPABILITY {
            at = usize::from(self.configuration.read8(at + 1)?);
            holds(at != 0, "it raises messages")?;
        }
        let control = self.configuration.read16(at + 2)?;
        holds(control & MESSAGE_IS_WIDE != 0, "its messages have addresses of 64 bits")?;
        self.configuration.write32(at + 4, address as u32)?;
        self.configuration.write32(at + 8, (address >> 32) as u32)?;
        self.configuration.write16(at + 12, data as u16)?;
        self.configuration.write16(at + 2, control | MESSAGE_IS_ON)?;
        Ok(())
    }

    fn raise(&self) -> TestResult {
        self.registers.write32(RAISE, 1)?;
        self.registers.write32(ACKNOWLEDGE, 1)?;
        Ok(())
    }
}

impl Drop for Edu {
    fn drop(&mut self) {
        // It touches nothing any more.
        let _ = self.configuration.write16(COMMAND, 0);
    }
}

fn uncached(bench: &Bench, address: u64, len_bytes: u64) -> Result<RegisterWindow, Failure> {
    let memory = Memory::create_physical(&bench.hardware, bench.account, address, len_bytes, MemoryFlags::UNCACHED)?;
    Ok(RegisterWindow::map(&memory, 0, len_bytes)?)
}

fn is_confined(bench: &Bench) -> Result<bool, Failure> {
    let confinement = Confinement::from_bits_truncate(bench.hardware.info()?.confinement);
    Ok(confinement.contains(Confinement::MEMORY))
}

/// Fills what is copied of a page with numbers that depend on a seed.
fn fill(buffer: &DmaBuffer, page: usize, seed: u64) -> TestResult {
    for word in 0..COPIED_BYTES / 8 {
        buffer.store64(page * PAGE_SIZE as usize + 8 * word as usize, seed.wrapping_mul(2 * word + 1))?;
    }
    Ok(())
}

/// Whether it holds these numbers.
fn is_filled(buffer: &DmaBuffer, page: usize, seed: u64) -> Result<bool, Failure> {
    for word in 0..COPIED_BYTES / 8 {
        if buffer.load64(page * PAGE_SIZE as usize + 8 * word as usize)? != seed.wrapping_mul(2 * word + 1) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn a_device_reads_and_writes_what_is_mapped_for_it(bench: &Bench) -> TestResult {
    let Some(edu) = Edu::find(bench)? else { return Ok(()) };
    let buffer = DmaBuffer::new(bench.account, &edu.space(bench)?, 3 * PAGE_SIZE as usize)?;
    fill(&buffer, 0, 11)?;
    fill(&buffer, 2, 13)?;
    edu.read_from(buffer.device_address(0)?)?;
    edu.write_to(buffer.device_address(PAGE_SIZE as usize)?)?;
    holds(is_filled(&buffer, 1, 11)?, "the device has copied the page")?;
    holds(is_filled(&buffer, 0, 11)? && is_filled(&buffer, 2, 13)?, "and nothing else")
}

fn a_device_goes_on_with_memory_that_has_gone(bench: &Bench) -> TestResult {
    let Some(edu) = Edu::find(bench)? else { return Ok(()) };
    let (space, account) = (edu.space(bench)?, bench.new_account()?);
    let memory = Memory::create(&account, PAGE_SIZE)?;
    memory.write_all(0, &[0x5a; PAGE_SIZE as usize])?;
    let mut address = [0];
    let mapping = space.map(&memory, 0, PAGE_SIZE, DmaFlags::DEVICE_WRITES, &mut address)?;
    drop(memory);
    // Whoever needs memory now gets other frames than the device's.
    let others = Memory::create(bench.account, OTHER_PAGES * PAGE_SIZE)?;
    for page in 0..OTHER_PAGES {
        others.write_all(page * PAGE_SIZE, &[0xc3; PAGE_SIZE as usize])?;
    }
    edu.read_from(address[0])?;
    edu.write_to(address[0])?;
    let mut bytes = [0; PAGE_SIZE as usize];
    for page in 0..OTHER_PAGES {
        others.read_exact(page * PAGE_SIZE, &mut bytes)?;
        holds(bytes.iter().all(|byte| *byte == 0xc3), "nobody else's memory has changed")?;
    }
    same(account.info()?.used.frames, 1)?;
    space.unmap(mapping)?;
    same(account.info()?.used.frames, 0)
}

fn messages_come_in_one_at_a_time(bench: &Bench) -> TestResult {
    let Some(edu) = Edu::find(bench)? else { return Ok(()) };
    let interrupt = bench.hardware.message_interrupt(bench.account, edu.requester)?;
    edu.set_message(interrupt.message()?)?;
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    queue.queue().bind(&interrupt, 9)?;
    for round in 0..3 {
        edu.raise()?;
        queue.wait(in_ms(1_000))?;
        let completion = queue.take().ok_or(Error::NotFound)?;
        same((completion.key, completion.kind), (9, CompletionKind::Interrupt as u32))?;
        same(completion.value, 2 * round + 1)?;
        // Two that come too early are delivered as one.
        edu.raise()?;
        edu.raise()?;
        refused(queue.wait(in_ms(5)), Error::TimedOut)?;
        interrupt.acknowledge()?;
        queue.wait(in_ms(1_000))?;
        same(queue.take().ok_or(Error::NotFound)?.value, 2 * round + 2)?;
        interrupt.acknowledge()?;
        refused(queue.wait(in_ms(5)), Error::TimedOut)?;
    }
    Ok(())
}

fn a_confined_device_raises_no_interrupt_of_anothers(bench: &Bench) -> TestResult {
    let confinement = Confinement::from_bits_truncate(bench.hardware.info()?.confinement);
    let Some(edu) = Edu::find(bench)?.filter(|_| confinement.contains(Confinement::INTERRUPTS)) else { return Ok(()) };
    let (own, other) = (edu.requester, edu.requester + 8);
    for (requester, count) in [(own, 1), (other, 0), (own, 1)] {
        let interrupt = bench.hardware.message_interrupt(bench.account, requester)?;
        edu.set_message(interrupt.message()?)?;
        let queue = MappedQueue::create(bench.account, 8, 8)?;
        queue.queue().bind(&interrupt, 9)?;
        edu.raise()?;
        let came = queue.wait(in_ms(if count == 0 { 50 } else { 1_000 })).is_ok();
        same(came, count == 1)?;
        // Nor one that nobody has any more.
        drop(interrupt);
        edu.raise()?;
    }
    Ok(())
}

fn a_confined_device_is_refused_what_is_not_mapped(bench: &Bench) -> TestResult {
    let Some(edu) = Edu::find(bench)?.filter(|_| is_confined(bench).unwrap_or(false)) else { return Ok(()) };
    let own = Memory::create_with(bench.account, PAGE_SIZE, MemoryFlags::CONTIGUOUS)?;
    own.write_all(0, &[0x77; PAGE_SIZE as usize])?;
    let physical = own.info()?.physical_address;
    for unmapped_before in [false, true] {
        let (space, event) = (edu.space(bench)?, Event::create(bench.account)?);
        space.watch(&event, 2)?;
        let buffer = DmaBuffer::new(bench.account, &space, PAGE_SIZE as usize)?;
        fill(&buffer, 0, 5)?;
        edu.read_from(buffer.device_address(0)?)?;
        same(space.refused()?, (0, 0))?;
        let mut address = [physical];
        if unmapped_before {
            let mapping = space.map(&own, 0, PAGE_SIZE, DmaFlags::DEVICE_WRITES, &mut address)?;
            edu.write_to(address[0])?;
            space.unmap(mapping)?;
            own.write_all(0, &[0x77; PAGE_SIZE as usize])?;
        }
        edu.write_to(address[0])?;
        let bits = event.wait(2, in_ms(1_000))?;
        same(bits, 2)?;
        let (times, refused_at) = space.refused()?;
        same((times >= 1, refused_at), (true, address[0] + 1))?;
        let mut bytes = alloc::vec![0; PAGE_SIZE as usize];
        own.read_exact(0, &mut bytes)?;
        holds(bytes.iter().all(|byte| *byte == 0x77), "memory that is not mapped for the device has not changed")?;
        // It is cut off: not even what is mapped is reached any more.
        fill(&buffer, 0, 6)?;
        edu.write_to(buffer.device_address(0)?)?;
        holds(is_filled(&buffer, 0, 6)?, "a device that was refused is cut off")?;
    }
    // With a new space it is as good as new.
    a_device_reads_and_writes_what_is_mapped_for_it(bench)
}

fn a_confined_device_is_refused_writing_what_it_may_read(bench: &Bench) -> TestResult {
    let Some(edu) = Edu::find(bench)?.filter(|_| is_confined(bench).unwrap_or(false)) else { return Ok(()) };
    let space = edu.space(bench)?;
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    memory.write_all(0, &[1; PAGE_SIZE as usize])?;
    let mut address = [0];
    let _kept = space.map(&memory, 0, PAGE_SIZE, DmaFlags::empty(), &mut address)?;
    // It does not read first: emulated IOMMUs say nothing of a write by an entry that they have cached.
    edu.write_to(address[0])?;
    let event = Event::create(bench.account)?;
    refused(event.wait(1, IMMEDIATELY), Error::WouldBlock)?;
    space.watch(&event, 1)?;
    same(event.wait(1, in_ms(1_000))?, 1)?;
    let mut byte = [0];
    memory.read_exact(100, &mut byte)?;
    same(byte[0], 1)
}
