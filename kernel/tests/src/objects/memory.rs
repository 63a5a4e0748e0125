//! Memories.

use crate::child::{Child, DATA, RW};
use crate::harness::{Bench, Failure, TestResult, holds, refused, same, tests};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::ExceptionKind;
use quire_api::{AddressSpace, Commit, Error, MapFlags, Memory, MemoryFlags, Object, Protection, Rights, copy};

tests!("memory":
    it_reads_as_zero_and_as_it_was_written,
    what_is_beyond_the_end_is_refused,
    a_transfer_stops_at_the_end,
    absurd_sizes_are_refused,
    rights_are_checked,
    an_unwritten_page_costs_nothing,
    a_snapshot_and_its_source_do_not_see_each_others_writes,
    a_mapped_snapshot_and_its_source_do_not_see_each_others_stores,
    a_snapshot_costs_no_frames,
    the_sole_owner_of_a_page_does_not_copy_it,
    snapshots_of_snapshots_are_independent,
    a_window_shows_its_part_both_ways,
    a_window_ends_where_it_says,
    a_window_has_the_rights_it_was_made_with,
    a_revoked_window_is_refused,
    a_revoked_window_vanishes_where_it_is_mapped,
    what_is_cut_off_is_gone_for_good,
    what_is_cut_off_is_gone_where_it_is_mapped,
    discarded_pages_read_as_zero,
    bytes_are_copied_between_memories_and_spaces,
    a_failed_copy_says_whose_fault_it_was,
    memory_in_use_is_not_given_out_as_physical,
    contiguous_memory_has_an_address,
);

/// A byte at an offset.
fn byte(memory: &Memory, offset: u64) -> Result<u8, Failure> {
    let mut byte = [0];
    memory.read_exact(offset, &mut byte)?;
    Ok(byte[0])
}

fn it_reads_as_zero_and_as_it_was_written(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 3 * PAGE_SIZE)?;
    let mut bytes = alloc::vec![1; 3 * PAGE_SIZE as usize];
    memory.read_exact(0, &mut bytes)?;
    holds(bytes.iter().all(|byte| *byte == 0), "new memory is zero")?;
    let written: alloc::vec::Vec<u8> = (0..2 * PAGE_SIZE).map(|index| (index % 251) as u8).collect();
    memory.write_all(PAGE_SIZE / 2, &written)?;
    let mut read = alloc::vec![0; written.len()];
    memory.read_exact(PAGE_SIZE / 2, &mut read)?;
    holds(read == written, "what was written is read")?;
    same(byte(&memory, PAGE_SIZE / 2 - 1)?, 0)
}

fn what_is_beyond_the_end_is_refused(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    for offset in [PAGE_SIZE, PAGE_SIZE + 1, 1 << 40, u64::MAX - 7, u64::MAX] {
        refused(memory.read(offset, &mut [0; 8]), Error::OutOfRange)?;
        refused(memory.write(offset, &[0; 8]), Error::OutOfRange)?;
    }
    Ok(())
}

fn a_transfer_stops_at_the_end(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    same(memory.write(PAGE_SIZE - 3, &[1; 8])?, 3)?;
    same(memory.read(PAGE_SIZE - 2, &mut [0; 8])?, 2)
}

fn absurd_sizes_are_refused(bench: &Bench) -> TestResult {
    for size in [u64::MAX, u64::MAX - PAGE_SIZE + 1, 1 << 63] {
        holds(Memory::create(bench.account, size).is_err(), "an absurd size is refused")?;
    }
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    holds(memory.resize(u64::MAX - PAGE_SIZE + 1).is_err(), "an absurd new size is refused")
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let nothing = memory.duplicate(Rights::DUPLICATE)?;
    refused(nothing.read(0, &mut [0]), Error::MissingRights)?;
    refused(nothing.write(0, &[0]), Error::MissingRights)?;
    refused(nothing.resize(0), Error::MissingRights)?;
    refused(nothing.info(), Error::MissingRights)?;
    refused(nothing.snapshot(bench.account), Error::MissingRights)?;
    refused(nothing.window(bench.account, 0, PAGE_SIZE), Error::MissingRights)?;
    refused(nothing.discard(0, PAGE_SIZE), Error::MissingRights)
}

fn an_unwritten_page_costs_nothing(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let memory = Memory::create(&account, 1 << 40)?;
    same(byte(&memory, 1 << 39)?, 0)?;
    same(account.info()?.used.frames, 0)?;
    same(memory.info()?.resident_pages, 0)
}

fn a_snapshot_and_its_source_do_not_see_each_others_writes(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 4 * PAGE_SIZE)?;
    memory.write_all(0, b"a")?;
    memory.write_all(PAGE_SIZE, b"b")?;
    let snapshot = memory.snapshot(bench.account)?;
    memory.write_all(0, b"A")?;
    snapshot.write_all(PAGE_SIZE, b"B")?;
    memory.write_all(2 * PAGE_SIZE, b"C")?;
    same([byte(&memory, 0)?, byte(&memory, PAGE_SIZE)?, byte(&memory, 2 * PAGE_SIZE)?], *b"AbC")?;
    same([byte(&snapshot, 0)?, byte(&snapshot, PAGE_SIZE)?, byte(&snapshot, 2 * PAGE_SIZE)?], *b"aB\0")
}

fn a_mapped_snapshot_and_its_source_do_not_see_each_others_stores(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let memory = Memory::create(bench.account, 2 * PAGE_SIZE)?;
    child.map(&memory, DATA, RW)?;
    same(child.store(DATA, 1)?, Ok(()))?;
    same(child.store(DATA + PAGE_SIZE, 2)?, Ok(()))?;
    let snapshot = memory.snapshot(bench.account)?;
    let there = DATA + 16 * PAGE_SIZE;
    child.map(&snapshot, there, RW)?;
    same(child.store(DATA, 10)?, Ok(()))?;
    same(child.store(there + PAGE_SIZE, 20)?, Ok(()))?;
    same([child.load(DATA)?, child.load(DATA + PAGE_SIZE)?], [Ok(10), Ok(2)])?;
    same([child.load(there)?, child.load(there + PAGE_SIZE)?], [Ok(1), Ok(20)])?;
    same([byte(&memory, 0)?, byte(&memory, PAGE_SIZE)?], [10, 2])?;
    same([byte(&snapshot, 0)?, byte(&snapshot, PAGE_SIZE)?], [1, 20])
}

fn a_snapshot_costs_no_frames(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let memory = Memory::create(&account, 256 * PAGE_SIZE)?;
    for page in 0..256 {
        memory.write_all(page * PAGE_SIZE, b"x")?;
    }
    let frames = account.info()?.used.frames;
    let snapshot = memory.snapshot(&account)?;
    same(account.info()?.used.frames, frames)?;
    memory.write_all(0, b"y")?;
    same(account.info()?.used.frames, frames + 1)?;
    drop(snapshot);
    same(account.info()?.used.frames, frames)
}

fn the_sole_owner_of_a_page_does_not_copy_it(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let memory = Memory::create(&account, PAGE_SIZE)?;
    memory.write_all(0, b"x")?;
    let frames = account.info()?.used.frames;
    drop(memory.snapshot(&account)?);
    memory.write_all(0, b"y")?;
    same(account.info()?.used.frames, frames)?;
    let snapshot = memory.snapshot(&account)?;
    drop(memory);
    snapshot.write_all(0, b"z")?;
    same(account.info()?.used.frames, frames)?;
    same(byte(&snapshot, 1)?, 0)
}

fn snapshots_of_snapshots_are_independent(bench: &Bench) -> TestResult {
    let mut generations = alloc::vec![Memory::create(bench.account, 8 * PAGE_SIZE)?];
    for generation in 0..8_u8 {
        let newest = &generations[usize::from(generation)];
        newest.write_all(u64::from(generation) * PAGE_SIZE, &[generation + 1])?;
        let next = newest.snapshot(bench.account)?;
        generations.push(next);
    }
    for (generation, memory) in generations.iter().enumerate() {
        for page in 0..8 {
            let expected = if page <= generation && page < 8 { page as u8 + 1 } else { 0 };
            let expected = if page == generation && generation == 8 { 0 } else { expected };
            same(byte(memory, page as u64 * PAGE_SIZE)?, expected)?;
        }
    }
    Ok(())
}

fn a_window_shows_its_part_both_ways(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 4 * PAGE_SIZE)?;
    memory.write_all(PAGE_SIZE, b"abc")?;
    let window = memory.window(bench.account, PAGE_SIZE, 2 * PAGE_SIZE)?;
    same(window.info()?.size, 2 * PAGE_SIZE)?;
    same(byte(&window, 1)?, b'b')?;
    window.write_all(PAGE_SIZE, b"x")?;
    same(byte(&memory, 2 * PAGE_SIZE)?, b'x')?;
    memory.write_all(PAGE_SIZE, b"y")?;
    same(byte(&window, 0)?, b'y')?;
    let mut child = Child::new(bench.account)?;
    child.map(&window, DATA, RW)?;
    same(child.store(DATA + PAGE_SIZE, 7)?, Ok(()))?;
    same(byte(&memory, 2 * PAGE_SIZE)?, 7)
}

fn a_window_ends_where_it_says(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 4 * PAGE_SIZE)?;
    let window = memory.window(bench.account, PAGE_SIZE, PAGE_SIZE)?;
    refused(window.read(PAGE_SIZE, &mut [0]), Error::OutOfRange)?;
    refused(window.window(bench.account, PAGE_SIZE, PAGE_SIZE), Error::OutOfRange)?;
    refused(memory.window(bench.account, 3 * PAGE_SIZE, 2 * PAGE_SIZE), Error::OutOfRange)?;
    refused(memory.window(bench.account, u64::MAX - PAGE_SIZE + 1, 2 * PAGE_SIZE), Error::OutOfRange)?;
    refused(memory.window(bench.account, 1, PAGE_SIZE), Error::Misaligned)?;
    refused(window.resize(2 * PAGE_SIZE), Error::BadState)
}

fn a_window_has_the_rights_it_was_made_with(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let read_only = memory.duplicate(Rights::READ | Rights::MAP)?;
    let window = read_only.window(bench.account, 0, PAGE_SIZE)?;
    refused(window.write(0, b"x"), Error::MissingRights)?;
    let child = Child::new(bench.account)?;
    let mut commit = Commit::new();
    commit.map(&window, 0, DATA, PAGE_SIZE, RW, MapFlags::empty());
    refused(child.space.commit(&commit), Error::MissingRights)
}

fn a_revoked_window_is_refused(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    refused(memory.revoke(), Error::BadState)?;
    let window = memory.window(bench.account, 0, PAGE_SIZE)?;
    refused(window.duplicate(Rights::READ)?.revoke(), Error::MissingRights)?;
    window.revoke()?;
    refused(window.read(0, &mut [0]), Error::Revoked)?;
    refused(window.write(0, &[0]), Error::Revoked)?;
    refused(window.snapshot(bench.account), Error::Revoked)?;
    same(memory.read(0, &mut [0])?, 1)
}

fn a_revoked_window_vanishes_where_it_is_mapped(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    memory.write_all(0, &[42])?;
    let window = memory.window(bench.account, 0, PAGE_SIZE)?;
    let mut child = Child::new(bench.account)?;
    child.map(&window, DATA, RW)?;
    same(child.load(DATA)?, Ok(42))?;
    window.revoke()?;
    let (kind, address) = child.load(DATA)?.err().ok_or(Error::BadState)?;
    same(address, DATA)?;
    holds(matches!(kind, ExceptionKind::NoData | ExceptionKind::NotMapped), "the load faults")?;
    refused(child.space.read(DATA, &mut [0]), Error::RemoteFault)
}

fn what_is_cut_off_is_gone_for_good(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let memory = Memory::create(&account, 4 * PAGE_SIZE)?;
    memory.write_all(0, &[9; 4 * PAGE_SIZE as usize])?;
    let frames = account.info()?.used.frames;
    memory.resize(PAGE_SIZE + 100)?;
    same(account.info()?.used.frames, frames - 2)?;
    refused(memory.read(2 * PAGE_SIZE, &mut [0]), Error::OutOfRange)?;
    memory.resize(4 * PAGE_SIZE)?;
    same([byte(&memory, PAGE_SIZE + 99)?, byte(&memory, PAGE_SIZE + 100)?, byte(&memory, 3 * PAGE_SIZE)?], [9, 0, 0])
}

fn what_is_cut_off_is_gone_where_it_is_mapped(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 2 * PAGE_SIZE)?;
    let mut child = Child::new(bench.account)?;
    child.map(&memory, DATA, RW)?;
    same(child.store(DATA + PAGE_SIZE, 5)?, Ok(()))?;
    memory.resize(PAGE_SIZE)?;
    same(child.load(DATA + PAGE_SIZE)?, Err((ExceptionKind::NoData, DATA + PAGE_SIZE)))?;
    refused(child.space.read(DATA + PAGE_SIZE, &mut [0]), Error::RemoteFault)?;
    memory.resize(2 * PAGE_SIZE)?;
    same(child.load(DATA + PAGE_SIZE)?, Ok(0))
}

fn discarded_pages_read_as_zero(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 3 * PAGE_SIZE)?;
    let mut child = Child::new(bench.account)?;
    child.map(&memory, DATA, RW)?;
    same(child.store(DATA + PAGE_SIZE, 5)?, Ok(()))?;
    same(child.store(DATA + 2 * PAGE_SIZE, 6)?, Ok(()))?;
    refused(memory.discard(2 * PAGE_SIZE, 2 * PAGE_SIZE), Error::OutOfRange)?;
    memory.discard(PAGE_SIZE, PAGE_SIZE)?;
    same([child.load(DATA + PAGE_SIZE)?, child.load(DATA + 2 * PAGE_SIZE)?], [Ok(0), Ok(6)])?;
    same(byte(&memory, PAGE_SIZE)?, 0)?;
    memory.write_all(0, &[1, 2, 3, 4])?;
    memory.discard(1, 2)?;
    same([byte(&memory, 0)?, byte(&memory, 1)?, byte(&memory, 2)?, byte(&memory, 3)?], [1, 0, 0, 4])
}

fn bytes_are_copied_between_memories_and_spaces(bench: &Bench) -> TestResult {
    let (from, to) = (Memory::create(bench.account, 2 * PAGE_SIZE)?, Memory::create(bench.account, 2 * PAGE_SIZE)?);
    from.write_all(PAGE_SIZE - 2, b"quire")?;
    same(copy(&to, 10, &from, PAGE_SIZE - 2, 5)?, 5)?;
    let mut bytes = [0; 5];
    to.read_exact(10, &mut bytes)?;
    same(bytes, *b"quire")?;
    let child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    same(copy(&child.space, DATA + 8, &to, 10, 5)?, 5)?;
    child.space.read_exact(DATA + 8, &mut bytes)?;
    same(bytes, *b"quire")?;
    same(copy(&to, 2 * PAGE_SIZE - 2, &child.space, DATA + 8, 5)?, 2)
}

fn a_failed_copy_says_whose_fault_it_was(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let space = AddressSpace::create(bench.account)?;
    refused(copy(&memory, 0, &space, DATA, 8), Error::RemoteFault)?;
    refused(copy(&space, DATA, &memory, 0, 8), Error::RemoteFault)?;
    refused(copy(&memory, PAGE_SIZE, &memory, 0, 8), Error::OutOfRange)?;
    refused(copy(&memory, 0, &memory, PAGE_SIZE, 8), Error::OutOfRange)?;
    let read_only = memory.duplicate(Rights::READ)?;
    refused(copy(&read_only, 0, &memory, 0, 8), Error::MissingRights)
}

fn memory_in_use_is_not_given_out_as_physical(bench: &Bench) -> TestResult {
    // The kernel's own place in low memory.
    let kernel = 0x20_0000;
    let made = Memory::create_physical(&bench.hardware, bench.account, kernel, PAGE_SIZE, MemoryFlags::empty());
    holds(made.is_err(), "the kernel's memory is refused")?;
    let screen = 0xb_8000;
    let made = Memory::create_physical(&bench.hardware, bench.account, screen, PAGE_SIZE, MemoryFlags::UNCACHED)?;
    same(made.info()?.physical_address, screen)?;
    let beyond = u64::MAX - PAGE_SIZE + 1;
    let made = Memory::create_physical(&bench.hardware, bench.account, beyond, PAGE_SIZE, MemoryFlags::empty());
    holds(made.is_err(), "an absurd address is refused")?;
    let powerless = bench.hardware.duplicate(Rights::DUPLICATE)?;
    let made = Memory::create_physical(&powerless, bench.account, screen, PAGE_SIZE, MemoryFlags::empty());
    refused(made, Error::MissingRights)
}

fn contiguous_memory_has_an_address(bench: &Bench) -> TestResult {
    let memory = Memory::create_with(bench.account, 4 * PAGE_SIZE, MemoryFlags::CONTIGUOUS)?;
    let info = memory.info()?;
    same(info.resident_pages, 4)?;
    holds(info.physical_address.is_multiple_of(PAGE_SIZE) && info.physical_address != u64::MAX, "it has an address")?;
    let unprivileged = memory.duplicate(Rights::all().difference(Rights::MANAGE))?;
    same(unprivileged.info()?.physical_address, u64::MAX)?;
    let mut child = Child::new(bench.account)?;
    child.map(&memory, DATA, Protection::READ)?;
    same(child.load(DATA + 3 * PAGE_SIZE)?, Ok(0))
}
