//! DMA spaces: what they pin and for how long, and who pays.

use crate::harness::{Bench, Failure, TestResult, holds, refused, same, tests};
use alloc::rc::Rc;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::system::AccountLimits;
use quire_api::{DmaBuffer, DmaFlags, DmaSpace, Error, MAX_DMA_PAGES, Memory, MemoryFlags, Object, Rights};

tests!("dma":
    contiguous_memory_is_where_the_device_finds_it,
    a_mapped_page_stays_when_its_memory_goes,
    a_space_gives_back_all_that_it_pinned,
    a_buffer_is_mapped_for_both,
    a_device_has_one_space,
    hostile_ranges_are_refused,
    rights_are_checked,
    a_message_interrupt_has_a_message,
);

/// The requester of a device that no machine here has.
const NOBODY: u16 = 0xfff8;

fn space(bench: &Bench) -> Result<DmaSpace, Failure> {
    Ok(bench.hardware.dma_space(bench.account, NOBODY)?)
}

fn contiguous_memory_is_where_the_device_finds_it(bench: &Bench) -> TestResult {
    let space = space(bench)?;
    let memory = Memory::create_with(bench.account, 4 * PAGE_SIZE, MemoryFlags::CONTIGUOUS)?;
    let mut addresses = [0; 2];
    let mapping = space.map(&memory, PAGE_SIZE, 2 * PAGE_SIZE, DmaFlags::DEVICE_WRITES, &mut addresses)?;
    holds(addresses.iter().all(|address| address.is_multiple_of(PAGE_SIZE)), "addresses are those of pages")?;
    holds(addresses[0] != addresses[1], "each page has its own address")?;
    space.unmap(mapping)?;
    refused(space.map(&memory, 3 * PAGE_SIZE, 2 * PAGE_SIZE, DmaFlags::empty(), &mut addresses), Error::OutOfRange)
}

fn a_mapped_page_stays_when_its_memory_goes(bench: &Bench) -> TestResult {
    let (space, account) = (space(bench)?, bench.new_account()?);
    let memory = Memory::create(&account, 8 * PAGE_SIZE)?;
    memory.write_all(0, &[1; 8 * PAGE_SIZE as usize])?;
    let mapping = space.map(&memory, 0, 2 * PAGE_SIZE, DmaFlags::DEVICE_WRITES, &mut [0; 2])?;
    same(account.info()?.used.frames, 8)?;
    drop(memory);
    same(account.info()?.used.frames, 2)?;
    space.unmap(mapping)?;
    same(account.info()?.used, AccountLimits::default())
}

fn a_space_gives_back_all_that_it_pinned(bench: &Bench) -> TestResult {
    let (space, account) = (space(bench)?, bench.new_account()?);
    let memory = Memory::create(&account, 64 * PAGE_SIZE)?;
    for page in 0..64 {
        let _kept = space.map(&memory, page * PAGE_SIZE, PAGE_SIZE, DmaFlags::empty(), &mut [0])?;
    }
    refused(memory.snapshot(bench.account), Error::BadState)?;
    memory.discard(0, 64 * PAGE_SIZE)?;
    same(account.info()?.used.frames, 64)?;
    drop(space);
    same(account.info()?.used.frames, 0)?;
    memory.snapshot(bench.account)?;
    Ok(())
}

fn a_buffer_is_mapped_for_both(bench: &Bench) -> TestResult {
    let (space, account) = (Rc::new(space(bench)?), bench.new_account()?);
    let buffer = DmaBuffer::new(&account, &space, 2 * PAGE_SIZE as usize - 1)?;
    same(buffer.len_bytes(), 2 * PAGE_SIZE as usize)?;
    buffer.store16(2, 0x1234)?;
    buffer.store32(PAGE_SIZE as usize, 0x5678_9abc)?;
    same((buffer.load64(0)?, buffer.load32(PAGE_SIZE as usize)?), (0x1234_0000, 0x5678_9abc))?;
    same(buffer.device_address(5)?, buffer.device_address(0)? + 5)?;
    refused(buffer.load16(1), Error::Misaligned)?;
    refused(buffer.load64(buffer.len_bytes()), Error::OutOfRange)?;
    refused(buffer.device_address(buffer.len_bytes()), Error::OutOfRange)?;
    drop(buffer);
    same(account.info()?.used.frames, 0)
}

fn a_device_has_one_space(bench: &Bench) -> TestResult {
    let first = space(bench)?;
    refused(bench.hardware.dma_space(bench.account, NOBODY), Error::Overlap)?;
    drop(first);
    space(bench)?;
    let powerless = bench.hardware.duplicate(Rights::DUPLICATE)?;
    refused(powerless.dma_space(bench.account, NOBODY), Error::MissingRights)
}

fn hostile_ranges_are_refused(bench: &Bench) -> TestResult {
    let (space, memory) = (space(bench)?, Memory::create(bench.account, 1 << 40)?);
    let mut addresses = [0; MAX_DMA_PAGES + 1];
    for (offset, length, error) in [
        (0, 0, Error::OutOfRange),
        (0, (MAX_DMA_PAGES as u64 + 1) * PAGE_SIZE, Error::OutOfRange),
        (1 << 40, PAGE_SIZE, Error::OutOfRange),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE, Error::OutOfRange),
        (1, PAGE_SIZE, Error::Misaligned),
        (0, 1, Error::Misaligned),
    ] {
        refused(space.map(&memory, offset, length, DmaFlags::empty(), &mut addresses), error)?;
    }
    refused(space.map(&memory, 0, 2 * PAGE_SIZE, DmaFlags::empty(), &mut [0]), Error::OutOfRange)
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let (space, memory) = (space(bench)?, Memory::create(bench.account, PAGE_SIZE)?);
    let read_only = memory.duplicate(Rights::READ)?;
    let writes = DmaFlags::DEVICE_WRITES;
    refused(space.map(&read_only, 0, PAGE_SIZE, writes, &mut [0]), Error::MissingRights)?;
    let mapping = space.map(&read_only, 0, PAGE_SIZE, DmaFlags::empty(), &mut [0])?;
    space.unmap(mapping)?;
    let weak = space.duplicate(Rights::DUPLICATE)?;
    refused(weak.map(&memory, 0, PAGE_SIZE, writes, &mut [0]), Error::MissingRights)
}

fn a_message_interrupt_has_a_message(bench: &Bench) -> TestResult {
    let first = bench.hardware.message_interrupt(bench.account, NOBODY)?;
    let second = bench.hardware.message_interrupt(bench.account, NOBODY)?;
    let (address, data) = first.message()?;
    same(address >> 20, 0xfee)?;
    holds((address, data) != second.message()?, "each has its own")?;
    refused(first.duplicate(Rights::WRITE)?.message(), Error::MissingRights)?;
    refused(bench.hardware.interrupt(bench.account, 4)?.message(), Error::BadState)
}
