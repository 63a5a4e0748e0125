//! Address spaces.

use crate::child::{CODE, Child, DATA, Piece, RW, space_with_code};
use crate::harness::{Bench, TestResult, holds, refused, same, tests};
use quire_api::abi::space::{MAX_COMMIT_OPS, PAGE_SIZE, SpaceOp, USER_END};
use quire_api::abi::thread::{ExceptionKind, ThreadFlags};
use quire_api::abi::{Call, error};
use quire_api::{AddressSpace, Commit, Error, MapFlags, Memory, Object, Protection, Rights};

tests!("space":
    a_commit_is_all_or_nothing,
    impossible_ranges_are_refused,
    too_many_or_unknown_operations_are_refused,
    neighbours_merge_and_splits_are_seen,
    a_place_that_is_taken_needs_replace,
    find_chooses_a_free_place,
    what_is_not_mapped_faults,
    a_read_only_page_is_not_written,
    a_page_without_execute_is_not_executed,
    protection_can_be_changed_back_and_forth,
    a_protection_beyond_the_handles_rights_is_refused,
    unmapped_pages_are_gone_and_new_ones_are_zero,
    what_is_beyond_the_memorys_end_has_no_data,
    kernel_and_impossible_addresses_fault,
    a_transfer_stops_at_the_first_hole,
    bad_pointers_in_calls_are_refused,
    a_word_is_exchanged_only_if_it_is_the_expected_one,
    a_private_mapping_keeps_its_writes_to_itself,
    a_private_mapping_sees_the_memory_until_it_writes,
    discard_forgets_private_pages,
    move_takes_pages_along,
    a_clone_and_its_source_do_not_see_each_others_stores,
    a_clone_of_a_clone_is_independent,
    a_clone_shares_what_is_shared_and_omits_what_is_not_inherited,
    cloning_costs_no_frames_per_page,
    a_space_that_is_not_empty_is_no_clone,
    rights_are_checked,
);

/// A child with `pages` private zero pages at `DATA`.
fn child_with_pages(bench: &Bench, pages: u64) -> Result<Child, crate::harness::Failure> {
    let child = Child::new(bench.account)?;
    child.map_zero(DATA, pages * PAGE_SIZE, RW)?;
    Ok(child)
}

fn a_commit_is_all_or_nothing(bench: &Bench) -> TestResult {
    let space = AddressSpace::create(bench.account)?;
    let mut commit = Commit::new();
    commit.map_zero(DATA, PAGE_SIZE, RW, MapFlags::empty());
    space.commit(&commit)?;
    commit.clear();
    commit
        .map_zero(DATA + 4 * PAGE_SIZE, PAGE_SIZE, RW, MapFlags::empty())
        .protect(DATA, PAGE_SIZE, Protection::READ)
        .map_zero(DATA, PAGE_SIZE, RW, MapFlags::empty());
    let error = space.commit(&commit).err().ok_or(Error::BadState)?;
    same((error.error, error.index), (Error::Overlap, 2))?;
    refused(space.query(DATA + PAGE_SIZE), Error::NotFound)?;
    same(space.query(DATA)?.protection, RW.bits())?;
    commit.clear();
    commit.unmap(DATA, PAGE_SIZE).protect(DATA, PAGE_SIZE, RW);
    let error = space.commit(&commit).err().ok_or(Error::BadState)?;
    same((error.error, error.index), (Error::NotFound, 1))?;
    same(space.query(DATA)?.length, PAGE_SIZE)
}

fn impossible_ranges_are_refused(bench: &Bench) -> TestResult {
    let space = AddressSpace::create(bench.account)?;
    let cases = [
        (DATA + 1, PAGE_SIZE, Error::Misaligned),
        (DATA, PAGE_SIZE + 1, Error::Misaligned),
        (DATA, 0, Error::OutOfRange),
        (0, PAGE_SIZE, Error::OutOfRange),
        (USER_END, PAGE_SIZE, Error::OutOfRange),
        (USER_END - PAGE_SIZE, 2 * PAGE_SIZE, Error::OutOfRange),
        (0xffff_8000_0000_0000, PAGE_SIZE, Error::OutOfRange),
        (DATA, u64::MAX - PAGE_SIZE + 1, Error::OutOfRange),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE, Error::OutOfRange),
    ];
    for (address, length, expected) in cases {
        let mut commit = Commit::new();
        commit.map_zero(address, length, RW, MapFlags::empty());
        let found = space.commit(&commit).err().map(|failed| failed.error);
        // A length of zero may be called misaligned or out of range; it must not be accepted.
        let either = length == 0 && found.is_some();
        holds(either || found == Some(expected), "an impossible range is refused with its reason")?;
    }
    let mut commit = Commit::new();
    commit.map_zero(USER_END - PAGE_SIZE, PAGE_SIZE, RW, MapFlags::empty());
    space.commit(&commit)?;
    Ok(())
}

fn too_many_or_unknown_operations_are_refused(bench: &Bench) -> TestResult {
    let space = AddressSpace::create(bench.account)?;
    let unmap = SpaceOp { kind: 2, address: DATA, length: PAGE_SIZE, ..SpaceOp::default() };
    same(space.commit_raw(&[unmap; MAX_COMMIT_OPS])?.applied, MAX_COMMIT_OPS as u64)?;
    refused(space.commit_raw(&[unmap; MAX_COMMIT_OPS + 1]), Error::BadArgument)?;
    refused(space.commit_raw(&[SpaceOp { kind: 99, ..unmap }]), Error::BadArgument)?;
    refused(space.commit_raw(&[SpaceOp { kind: 3, protection: 1 << 30, ..unmap }]), Error::BadArgument)?;
    refused(space.commit_raw(&[SpaceOp { kind: 1, flags: 1 << 30, ..unmap }]), Error::BadArgument)
}

fn neighbours_merge_and_splits_are_seen(bench: &Bench) -> TestResult {
    let space = AddressSpace::create(bench.account)?;
    let mut commit = Commit::new();
    for page in [0, 2, 1, 3] {
        commit.map_zero(DATA + page * PAGE_SIZE, PAGE_SIZE, RW, MapFlags::empty());
    }
    space.commit(&commit)?;
    let region = space.query(DATA)?;
    same((region.address, region.length), (DATA, 4 * PAGE_SIZE))?;
    commit.clear();
    commit.protect(DATA + PAGE_SIZE, PAGE_SIZE, Protection::READ);
    space.commit(&commit)?;
    same(space.query(DATA)?.length, PAGE_SIZE)?;
    let middle = space.query(DATA + PAGE_SIZE)?;
    same((middle.length, middle.protection), (PAGE_SIZE, Protection::READ.bits()))?;
    commit.clear();
    commit.protect(DATA + PAGE_SIZE, PAGE_SIZE, RW);
    space.commit(&commit)?;
    same(space.query(DATA + PAGE_SIZE)?.length, 4 * PAGE_SIZE)
}

fn a_place_that_is_taken_needs_replace(bench: &Bench) -> TestResult {
    let mut child = child_with_pages(bench, 3)?;
    same(child.store(DATA + PAGE_SIZE, 1)?, Ok(()))?;
    same(child.store(DATA + 2 * PAGE_SIZE, 2)?, Ok(()))?;
    let mut commit = Commit::new();
    commit.map_zero(DATA + PAGE_SIZE, PAGE_SIZE, RW, MapFlags::empty());
    refused(child.space.commit(&commit), Error::Overlap)?;
    commit.clear();
    commit.map_zero(DATA + PAGE_SIZE, PAGE_SIZE, RW, MapFlags::REPLACE);
    child.space.commit(&commit)?;
    same([child.load(DATA + PAGE_SIZE)?, child.load(DATA + 2 * PAGE_SIZE)?], [Ok(0), Ok(2)])
}

fn find_chooses_a_free_place(bench: &Bench) -> TestResult {
    let space = AddressSpace::create(bench.account)?;
    let mut commit = Commit::new();
    commit.map_zero(DATA, 2 * PAGE_SIZE, RW, MapFlags::FIND);
    same(space.commit(&commit)?.address, DATA)?;
    let second = space.commit(&commit)?.address;
    same(second, DATA - 2 * PAGE_SIZE)?;
    same(space.query(second)?.address, second)?;
    commit.clear();
    commit.map_zero(0, PAGE_SIZE, RW, MapFlags::FIND);
    let highest = space.commit(&commit)?.address;
    holds(highest > DATA && highest < USER_END, "without a hint there is a place too")?;
    commit.map_zero(0, PAGE_SIZE, RW, MapFlags::FIND);
    refused(space.commit(&commit), Error::BadArgument)
}

fn what_is_not_mapped_faults(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    for address in [0, 8, DATA, DATA + 123, USER_END - 8] {
        refused(child.space.read(address, &mut [0; 8]), Error::RemoteFault)?;
        refused(child.space.write(address, &[0; 8]), Error::RemoteFault)?;
        same(child.load(address)?, Err((ExceptionKind::NotMapped, address)))?;
        same(child.store(address, 1)?, Err((ExceptionKind::NotMapped, address)))?;
        same(child.run(&Piece::Jump.at(address, 0))?.fault(), (ExceptionKind::NotMapped, address))?;
    }
    Ok(())
}

fn a_read_only_page_is_not_written(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, Protection::READ)?;
    same(child.load(DATA)?, Ok(0))?;
    same(child.store(DATA + 16, 1)?, Err((ExceptionKind::AccessDenied, DATA + 16)))?;
    refused(child.space.write(DATA, b"x"), Error::RemoteFault)?;
    same(child.space.read(DATA, &mut [0; 4])?, 4)?;
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    child.map(&memory, DATA + PAGE_SIZE, Protection::READ)?;
    same(child.store(DATA + PAGE_SIZE, 1)?, Err((ExceptionKind::AccessDenied, DATA + PAGE_SIZE)))?;
    refused(child.space.write(DATA + PAGE_SIZE, b"x"), Error::RemoteFault)
}

fn a_page_without_execute_is_not_executed(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    child.space.write_all(DATA, &[0xcc])?;
    same(child.run(&Piece::Jump.at(DATA, 0))?.fault(), (ExceptionKind::AccessDenied, DATA))?;
    let mut commit = Commit::new();
    commit.protect(DATA, PAGE_SIZE, Protection::READ | Protection::EXECUTE);
    child.space.commit(&commit)?;
    let stop = child.run(&Piece::Jump.at(DATA, 0))?;
    same((stop.exception.kind, stop.registers.rip), (ExceptionKind::Breakpoint, DATA + 1))
}

fn protection_can_be_changed_back_and_forth(bench: &Bench) -> TestResult {
    let mut child = child_with_pages(bench, 1)?;
    let protect = |child: &Child, protection| {
        let mut commit = Commit::new();
        commit.protect(DATA, PAGE_SIZE, protection);
        child.space.commit(&commit)
    };
    for round in 0..4 {
        same(child.store(DATA, round)?, Ok(()))?;
        protect(&child, Protection::READ)?;
        same(child.store(DATA, 99)?, Err((ExceptionKind::AccessDenied, DATA)))?;
        same(child.load(DATA)?, Ok(round))?;
        protect(&child, Protection::empty())?;
        same(child.load(DATA)?, Err((ExceptionKind::AccessDenied, DATA)))?;
        refused(child.space.read(DATA, &mut [0]), Error::RemoteFault)?;
        protect(&child, RW)?;
    }
    same(child.load(DATA)?, Ok(3))
}

fn a_protection_beyond_the_handles_rights_is_refused(bench: &Bench) -> TestResult {
    let child = Child::new(bench.account)?;
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let read_only = memory.duplicate(Rights::READ | Rights::MAP)?;
    let map = |memory: &Memory, protection, flags| {
        let mut commit = Commit::new();
        commit.map(memory, 0, DATA, PAGE_SIZE, protection, flags);
        child.space.commit(&commit)
    };
    refused(map(&read_only, RW, MapFlags::empty()), Error::MissingRights)?;
    refused(map(&read_only, Protection::EXECUTE, MapFlags::empty()), Error::MissingRights)?;
    refused(map(&memory.duplicate(Rights::READ)?, Protection::READ, MapFlags::empty()), Error::MissingRights)?;
    map(&read_only, Protection::READ, MapFlags::empty())?;
    let mut commit = Commit::new();
    commit.protect(DATA, PAGE_SIZE, RW);
    holds(child.space.commit(&commit).is_err(), "the mapping can't be made writable later")?;
    commit.clear();
    commit.unmap(DATA, PAGE_SIZE);
    child.space.commit(&commit)?;
    map(&read_only, RW, MapFlags::PRIVATE)?;
    Ok(())
}

fn unmapped_pages_are_gone_and_new_ones_are_zero(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let mut child = Child::new(&account)?;
    child.map_zero(DATA, 4 * PAGE_SIZE, RW)?;
    for page in 0..4 {
        same(child.store(DATA + page * PAGE_SIZE, page + 1)?, Ok(()))?;
    }
    let frames = account.info()?.used.frames;
    let mut commit = Commit::new();
    commit.unmap(DATA + PAGE_SIZE, 2 * PAGE_SIZE);
    child.space.commit(&commit)?;
    same(frames - account.info()?.used.frames, 2)?;
    same(child.load(DATA + PAGE_SIZE)?, Err((ExceptionKind::NotMapped, DATA + PAGE_SIZE)))?;
    same([child.load(DATA)?, child.load(DATA + 3 * PAGE_SIZE)?], [Ok(1), Ok(4)])?;
    child.map_zero(DATA + PAGE_SIZE, PAGE_SIZE, RW)?;
    same(child.load(DATA + PAGE_SIZE)?, Ok(0))
}

fn what_is_beyond_the_memorys_end_has_no_data(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    for flags in [MapFlags::empty(), MapFlags::PRIVATE | MapFlags::REPLACE] {
        let mut commit = Commit::new();
        commit.map(&memory, 0, DATA, 2 * PAGE_SIZE, RW, flags);
        child.space.commit(&commit)?;
        same(child.load(DATA)?, Ok(0))?;
        same(child.load(DATA + PAGE_SIZE)?, Err((ExceptionKind::NoData, DATA + PAGE_SIZE)))?;
        same(child.store(DATA + PAGE_SIZE, 1)?, Err((ExceptionKind::NoData, DATA + PAGE_SIZE)))?;
        refused(child.space.read(DATA + PAGE_SIZE, &mut [0]), Error::RemoteFault)?;
        same(child.space.read(DATA + PAGE_SIZE - 2, &mut [0; 8])?, 2)?;
    }
    Ok(())
}

fn kernel_and_impossible_addresses_fault(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    for address in [0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, u64::MAX - 7] {
        refused(child.space.read(address, &mut [0; 8]), Error::RemoteFault)?;
        refused(child.space.write(address, &[0; 8]), Error::RemoteFault)?;
        let (kind, _) = child.load(address)?.err().ok_or(Error::BadState)?;
        let expected = matches!(kind, ExceptionKind::NotMapped | ExceptionKind::AccessDenied);
        holds(expected, "a load from the kernel's half faults")?;
        holds(child.store(address, 1)?.is_err(), "a store to the kernel's half faults")?;
    }
    let not_canonical = 0x0000_8000_0000_0000;
    same(child.load(not_canonical)?.err().map(|(kind, _)| kind), Some(ExceptionKind::Protection))?;
    let stop = child.run(&Piece::Jump.at(not_canonical, 0))?;
    same(stop.exception.kind, ExceptionKind::Protection)
}

fn a_transfer_stops_at_the_first_hole(bench: &Bench) -> TestResult {
    let child = child_with_pages(bench, 2)?;
    let bytes = [5; 3 * PAGE_SIZE as usize];
    same(child.space.write(DATA + 100, &bytes)?, 2 * PAGE_SIZE as usize - 100)?;
    let mut read = alloc::vec![0; 3 * PAGE_SIZE as usize];
    same(child.space.read(DATA + 50, &mut read)?, 2 * PAGE_SIZE as usize - 50)?;
    same((read[49], read[50]), (0, 5))
}

fn bad_pointers_in_calls_are_refused(bench: &Bench) -> TestResult {
    let mut child = child_with_pages(bench, 1)?;
    let account = child.give(bench.account)?;
    let memory = child.give(&Memory::create(bench.account, PAGE_SIZE)?)?;
    let bad = error_of(Error::BadAddress);
    for pointer in [0, 8, DATA + PAGE_SIZE, DATA + PAGE_SIZE - 4, CODE, USER_END, 0xffff_8000_0000_0000, u64::MAX - 3] {
        same(child.call(Call::AccountInfo, [account, pointer, 0, 0, 0, 0])?.0, bad)?;
        same(child.call(Call::SystemInfo, [pointer, 0, 0, 0, 0, 0])?.0, bad)?;
        same(child.call(Call::EntropyRead, [pointer, 16, 0, 0, 0, 0])?.0, bad)?;
    }
    for pointer in [0, DATA + PAGE_SIZE, 0xffff_8000_0000_0000, u64::MAX - 3] {
        same(child.call(Call::MemoryWrite, [memory, 0, pointer, 16, 0, 0])?.0, bad)?;
        same(child.call(Call::MemoryRead, [memory, 0, pointer, 16, 0, 0])?.0, bad)?;
    }
    same(child.call(Call::AccountInfo, [account, DATA, 0, 0, 0, 0])?.0, error::OK)
}

fn error_of(error: Error) -> u64 {
    error as u64
}

fn a_word_is_exchanged_only_if_it_is_the_expected_one(bench: &Bench) -> TestResult {
    let mut child = child_with_pages(bench, 1)?;
    let space = AddressSpace::create(bench.account)?;
    same(child.space.compare_exchange(DATA, 0, 7)?, 0)?;
    same(child.space.compare_exchange(DATA, 8, 9)?, 7)?;
    same(child.load(DATA)?, Ok(7))?;
    same(child.space.compare_exchange(DATA + 4, 0, u32::MAX)?, 0)?;
    same(child.load(DATA)?, Ok(u64::from(u32::MAX) << 32 | 7))?;
    refused(child.space.compare_exchange(DATA + 2, 0, 1), Error::Misaligned)?;
    refused(child.space.compare_exchange(CODE, 0, 1), Error::RemoteFault)?;
    refused(child.space.compare_exchange(USER_END, 0, 1), Error::RemoteFault)?;
    refused(space.compare_exchange(DATA, 0, 1), Error::RemoteFault)
}

fn a_private_mapping_keeps_its_writes_to_itself(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, 2 * PAGE_SIZE)?;
    memory.write_all(0, &[1])?;
    let mut child = Child::new(bench.account)?;
    let mut commit = Commit::new();
    commit.map(&memory, 0, DATA, 2 * PAGE_SIZE, RW, MapFlags::PRIVATE);
    child.space.commit(&commit)?;
    same(child.load(DATA)?, Ok(1))?;
    same(child.store(DATA, 2)?, Ok(()))?;
    child.space.write_all(DATA + PAGE_SIZE, &[3])?;
    let mut bytes = [9; 1];
    memory.read_exact(0, &mut bytes)?;
    same(bytes, [1])?;
    memory.read_exact(PAGE_SIZE, &mut bytes)?;
    same(bytes, [0])?;
    same([child.load(DATA)?, child.load(DATA + PAGE_SIZE)?], [Ok(2), Ok(3)])?;
    same(child.space.query(DATA)?.private_pages, 2)
}

fn a_private_mapping_sees_the_memory_until_it_writes(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let mut child = Child::new(bench.account)?;
    let mut commit = Commit::new();
    commit.map(&memory, 0, DATA, PAGE_SIZE, RW, MapFlags::PRIVATE);
    child.space.commit(&commit)?;
    same(child.load(DATA)?, Ok(0))?;
    memory.write_all(0, &[1])?;
    same(child.load(DATA)?, Ok(1))?;
    same(child.store(DATA + 8, 5)?, Ok(()))?;
    memory.write_all(0, &[2])?;
    same(child.load(DATA)?, Ok(1))
}

fn discard_forgets_private_pages(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    memory.write_all(0, &[1])?;
    let mut child = child_with_pages(bench, 1)?;
    let there = DATA + 8 * PAGE_SIZE;
    let mut commit = Commit::new();
    commit.map(&memory, 0, there, PAGE_SIZE, RW, MapFlags::PRIVATE);
    child.space.commit(&commit)?;
    same(child.store(DATA, 7)?, Ok(()))?;
    same(child.store(there, 7)?, Ok(()))?;
    commit.clear();
    commit.discard(DATA, PAGE_SIZE).discard(there, PAGE_SIZE);
    child.space.commit(&commit)?;
    same([child.load(DATA)?, child.load(there)?], [Ok(0), Ok(1)])
}

fn move_takes_pages_along(bench: &Bench) -> TestResult {
    let mut child = child_with_pages(bench, 3)?;
    for page in 0..3 {
        same(child.store(DATA + page * PAGE_SIZE, page + 1)?, Ok(()))?;
    }
    let target = DATA + 64 * PAGE_SIZE;
    let mut commit = Commit::new();
    commit.move_to(DATA + PAGE_SIZE, 2 * PAGE_SIZE, target);
    child.space.commit(&commit)?;
    same([child.load(target)?, child.load(target + PAGE_SIZE)?, child.load(DATA)?], [Ok(2), Ok(3), Ok(1)])?;
    same(child.load(DATA + PAGE_SIZE)?, Err((ExceptionKind::NotMapped, DATA + PAGE_SIZE)))?;
    commit.clear();
    commit.move_to(DATA, PAGE_SIZE, target);
    refused(child.space.commit(&commit), Error::Overlap)
}

/// A child whose space is a clone of another child's.
fn clone_of(bench: &Bench, source: &Child) -> Result<Child, crate::harness::Failure> {
    let space = AddressSpace::create(bench.account)?;
    let mut commit = Commit::new();
    commit.clone_of(&source.space);
    space.commit(&commit)?;
    Child::in_space(bench.account, space, ThreadFlags::empty())
}

fn a_clone_and_its_source_do_not_see_each_others_stores(bench: &Bench) -> TestResult {
    let mut parent = child_with_pages(bench, 4)?;
    same(parent.store(DATA, 1)?, Ok(()))?;
    same(parent.store(DATA + PAGE_SIZE, 2)?, Ok(()))?;
    let mut clone = clone_of(bench, &parent)?;
    same(parent.store(DATA, 10)?, Ok(()))?;
    same(clone.store(DATA + PAGE_SIZE, 20)?, Ok(()))?;
    parent.space.write_all(DATA + 2 * PAGE_SIZE, &[30])?;
    clone.space.write_all(DATA + 3 * PAGE_SIZE, &[40])?;
    let loads = |child: &mut Child| -> Result<_, crate::harness::Failure> {
        Ok([
            child.load(DATA)?,
            child.load(DATA + PAGE_SIZE)?,
            child.load(DATA + 2 * PAGE_SIZE)?,
            child.load(DATA + 3 * PAGE_SIZE)?,
        ])
    };
    same(loads(&mut parent)?, [Ok(10), Ok(2), Ok(30), Ok(0)])?;
    same(loads(&mut clone)?, [Ok(1), Ok(20), Ok(0), Ok(40)])
}

fn a_clone_of_a_clone_is_independent(bench: &Bench) -> TestResult {
    let mut first = child_with_pages(bench, 1)?;
    same(first.store(DATA, 1)?, Ok(()))?;
    let mut second = clone_of(bench, &first)?;
    let mut third = clone_of(bench, &second)?;
    same(second.store(DATA, 2)?, Ok(()))?;
    drop(first);
    same([third.load(DATA)?, second.load(DATA)?], [Ok(1), Ok(2)])?;
    same(third.store(DATA, 3)?, Ok(()))?;
    drop(third);
    same(second.load(DATA)?, Ok(2))
}

fn a_clone_shares_what_is_shared_and_omits_what_is_not_inherited(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let mut parent = Child::new(bench.account)?;
    let private_to_parent = DATA + 8 * PAGE_SIZE;
    let mut commit = Commit::new();
    commit.map(&memory, 0, DATA, PAGE_SIZE, RW, MapFlags::empty());
    commit.map_zero(private_to_parent, PAGE_SIZE, RW, MapFlags::NO_INHERIT);
    parent.space.commit(&commit)?;
    same(parent.store(private_to_parent, 1)?, Ok(()))?;
    let mut clone = clone_of(bench, &parent)?;
    same(clone.store(DATA, 5)?, Ok(()))?;
    same(parent.load(DATA)?, Ok(5))?;
    same(clone.load(private_to_parent)?, Err((ExceptionKind::NotMapped, private_to_parent)))?;
    same(parent.load(private_to_parent)?, Ok(1))
}

fn cloning_costs_no_frames_per_page(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let mut parent = Child::new(&account)?;
    parent.map_zero(DATA, 512 * PAGE_SIZE, RW)?;
    for page in 0..512 {
        parent.space.write_all(DATA + page * PAGE_SIZE, &[1])?;
    }
    same(parent.load(DATA)?, Ok(1))?;
    let before = account.info()?.used.frames;
    let space = AddressSpace::create(&account)?;
    let mut commit = Commit::new();
    commit.clone_of(&parent.space);
    space.commit(&commit)?;
    let cost = account.info()?.used.frames - before;
    holds(cost < 16, "a clone costs page tables, not pages")?;
    same(space.query(DATA)?.private_pages, 512)?;
    drop(space);
    same(account.info()?.used.frames, before)
}

fn a_space_that_is_not_empty_is_no_clone(bench: &Bench) -> TestResult {
    let (space, source) = (space_with_code(bench.account)?, space_with_code(bench.account)?);
    let mut commit = Commit::new();
    commit.clone_of(&source);
    holds(space.commit(&commit).is_err(), "a space with regions can't become a clone")
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let child = child_with_pages(bench, 1)?;
    let nothing = child.space.duplicate(Rights::DUPLICATE)?;
    let mut commit = Commit::new();
    commit.unmap(DATA, PAGE_SIZE);
    refused(nothing.commit(&commit), Error::MissingRights)?;
    refused(nothing.read(DATA, &mut [0]), Error::MissingRights)?;
    refused(nothing.write(DATA, &[0]), Error::MissingRights)?;
    refused(nothing.query(DATA), Error::MissingRights)?;
    commit.clear();
    commit.clone_of(&nothing);
    refused(AddressSpace::create(bench.account)?.commit(&commit), Error::MissingRights)
}
