//! What users of the memory system rely on, one promise per test.

use super::super::*;
use super::*;
use crate::account::{Account, Usage};
use crate::machine::Caching;

const ADDR: u64 = 0x40_0000;

#[test]
fn reading_zeros_costs_no_frame_and_writing_costs_one() {
    let mut rig = Rig::new();
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, 16 * PAGE_SIZE)]);
    rig.load(space, ADDR).unwrap();
    let free = rig.memory.frames().free();
    for page in 0..16 {
        assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(0));
    }
    assert_eq!(rig.memory.frames().free(), free);
    rig.store(space, ADDR, 7).unwrap();
    assert_eq!(rig.memory.frames().free(), free - 1);
    assert_eq!(rig.load(space, ADDR), Ok(7));
    rig.check(&[space]);
}

#[test]
fn a_clone_reads_what_was_there_without_a_fault_and_writes_its_own() {
    let mut rig = Rig::new();
    let parent = rig.space();
    rig.commit(parent, &[anonymous(ADDR, 4 * PAGE_SIZE)]);
    rig.store(parent, ADDR, 1).unwrap();
    rig.store(parent, ADDR + PAGE_SIZE, 2).unwrap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: parent }]);
    let root = rig.memory.space_root(child);
    assert!(rig.m.translate(root, ADDR / PAGE_SIZE, FaultKind::Read).is_some());
    rig.store(child, ADDR, 3).unwrap();
    rig.store(parent, ADDR + PAGE_SIZE, 4).unwrap();
    rig.check(&[parent, child]);
    assert_eq!((rig.load(parent, ADDR), rig.load(child, ADDR)), (Ok(1), Ok(3)));
    assert_eq!((rig.load(parent, ADDR + PAGE_SIZE), rig.load(child, ADDR + PAGE_SIZE)), (Ok(4), Ok(2)));
}

#[test]
fn a_processor_does_not_go_on_using_a_leaf_table_that_was_left_to_the_clone() {
    let mut rig = Rig::new();
    let parent = rig.space();
    rig.commit(parent, &[anonymous(ADDR, 2 * PAGE_SIZE)]);
    rig.store(parent, ADDR, 1).unwrap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: parent }]);
    rig.load(parent, ADDR).unwrap();
    // No fault of the parent's own makes its processor forget the shared table.
    rig.memory.write_user(&mut rig.m, parent, ADDR + PAGE_SIZE, &[2]).unwrap();
    rig.check(&[parent, child]);
    assert_eq!(rig.load(parent, ADDR + PAGE_SIZE), Ok(2));
}

#[test]
fn the_cost_of_a_clone_does_not_depend_on_the_pages_under_one_table() {
    let cost = |pages: u64| {
        let mut rig = Rig::new();
        let parent = rig.space();
        rig.commit(parent, &[anonymous(ADDR, 512 * PAGE_SIZE)]);
        for page in 0..pages {
            rig.store(parent, ADDR + page * PAGE_SIZE, 1).unwrap();
        }
        let child = rig.space();
        rig.m.effort = Default::default();
        rig.commit(child, &[SpaceOp::Clone { source: parent }]);
        rig.m.effort
    };
    assert_eq!(cost(1), cost(500));
}

#[test]
fn the_cost_of_a_clone_does_not_depend_on_the_tables_under_one_directory() {
    let cost = |tables: u64| {
        let mut rig = Rig::new();
        let parent = rig.space();
        rig.commit(parent, &[anonymous(0x4000_0000, 512 * 512 * PAGE_SIZE)]);
        for table in 0..tables {
            rig.store(parent, 0x4000_0000 + table * 512 * PAGE_SIZE, 1).unwrap();
        }
        let child = rig.space();
        rig.m.effort = Default::default();
        rig.commit(child, &[SpaceOp::Clone { source: parent }]);
        let cost = rig.m.effort;
        rig.check(&[parent, child]);
        rig.store(child, 0x4000_0000, 2).unwrap();
        rig.store(parent, 0x4000_0000, 3).unwrap();
        rig.check(&[parent, child]);
        assert_eq!((rig.load(parent, 0x4000_0000), rig.load(child, 0x4000_0000)), (Ok(3), Ok(2)));
        rig.memory.release_space(&mut rig.m, child);
        rig.check(&[parent]);
        cost
    };
    assert_eq!(cost(20), cost(300));
}

/// A parent with so many tables that a clone shares their directory, and two pages under the first of them.
fn parent_with_tables(rig: &mut Rig) -> Id<Space> {
    let parent = rig.space();
    rig.commit(parent, &[anonymous(0x4000_0000, 512 * 512 * PAGE_SIZE)]);
    for page in [0, 1, 512, 1024, 1536] {
        rig.store(parent, 0x4000_0000 + page * PAGE_SIZE, 1).unwrap();
    }
    parent
}

/// A space whose account can't pay for one more frame.
fn poor_space(rig: &mut Rig) -> (Id<Space>, Id<Account>) {
    let root = rig.memory.root_account();
    let account = rig.memory.accounts.create(Some(root), Usage::UNLIMITED).unwrap();
    (rig.memory.create_space(&mut rig.m, account).unwrap(), account)
}

fn take_money(rig: &mut Rig, account: Id<Account>) {
    let frames = rig.memory.accounts.get(account).unwrap().used().frames;
    rig.memory.accounts.set_limit(account, Usage { frames, kernel_bytes: u64::MAX });
}

#[test]
fn a_clone_that_lets_go_of_shared_tables_still_has_its_pages_to_itself() {
    let mut rig = Rig::new();
    let parent = parent_with_tables(&mut rig);
    let (child, account) = poor_space(&mut rig);
    rig.commit(child, &[SpaceOp::Clone { source: parent }]);
    take_money(&mut rig, account);
    // Too poor for a directory of its own, the child drops the shared one.
    rig.commit(child, &[SpaceOp::Unmap { addr: 0x4000_0000 + 512 * PAGE_SIZE, len: PAGE_SIZE }]);
    rig.check(&[parent, child]);
    rig.store(parent, 0x4000_0000, 2).unwrap();
    rig.store(parent, 0x4000_0000 + PAGE_SIZE, 2).unwrap();
    rig.check(&[parent, child]);
    rig.memory.accounts.set_limit(account, Usage::UNLIMITED);
    assert_eq!(rig.load(child, 0x4000_0000), Ok(1));
    assert_eq!(rig.load(child, 0x4000_0000 + PAGE_SIZE), Ok(1));
}

#[test]
fn a_clone_that_gets_no_tables_takes_none_from_the_others() {
    let mut rig = Rig::new();
    let parent = parent_with_tables(&mut rig);
    let first = rig.space();
    rig.commit(first, &[SpaceOp::Clone { source: parent }]);
    rig.load(first, 0x4000_0000).unwrap();
    let (second, account) = poor_space(&mut rig);
    take_money(&mut rig, account);
    rig.commit(second, &[SpaceOp::Clone { source: parent }]);
    rig.check(&[parent, first, second]);
    rig.memory.accounts.set_limit(account, Usage::UNLIMITED);
    rig.store(parent, 0x4000_0000, 2).unwrap();
    rig.check(&[parent, first, second]);
    assert_eq!((rig.load(first, 0x4000_0000), rig.load(second, 0x4000_0000)), (Ok(1), Ok(1)));
}

#[test]
fn when_the_clone_is_gone_the_pages_are_the_parents_again_without_a_copy() {
    let mut rig = Rig::new();
    let parent = rig.space();
    rig.commit(parent, &[anonymous(ADDR, PAGE_SIZE)]);
    rig.store(parent, ADDR, 1).unwrap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: parent }]);
    rig.memory.release_space(&mut rig.m, child);
    let free = rig.memory.frames().free();
    rig.store(parent, ADDR, 2).unwrap();
    assert_eq!(rig.memory.frames().free(), free);
    rig.check(&[parent]);
}

#[test]
fn what_is_not_inherited_is_not_in_the_clone_even_if_something_else_is_mapped_there() {
    let mut rig = Rig::new();
    let parent = rig.space();
    let SpaceOp::Map { addr, len, source, sharing, access, max_access, replace, .. } = anonymous(ADDR, PAGE_SIZE)
    else {
        unreachable!()
    };
    let secret = SpaceOp::Map { addr, len, source, sharing, access, max_access, inherit: Inherit::Omit, replace };
    rig.commit(parent, &[secret, anonymous(ADDR + PAGE_SIZE, PAGE_SIZE)]);
    rig.store(parent, ADDR, 99).unwrap();
    rig.store(parent, ADDR + PAGE_SIZE, 1).unwrap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: parent }]);
    assert_eq!(rig.load(child, ADDR), Err(FaultError::NotMapped));
    assert_eq!(rig.load(child, ADDR + PAGE_SIZE), Ok(1));
    rig.commit(child, &[anonymous(ADDR, PAGE_SIZE)]);
    assert_eq!(rig.load(child, ADDR), Ok(0));
    rig.check(&[parent, child]);
}

#[test]
fn a_snapshot_keeps_what_was_there_when_it_was_taken() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let memory = rig.memory.create_memory(&mut rig.m, root, 4 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    rig.commit(space, &[of_memory(ADDR, 4 * PAGE_SIZE, memory, Sharing::Shared)]);
    rig.store(space, ADDR, 1).unwrap();
    let free = rig.memory.frames().free();
    let copy = rig.memory.snapshot(&mut rig.m, memory, root).unwrap();
    assert_eq!(rig.memory.frames().free(), free);
    rig.store(space, ADDR, 2).unwrap();
    let mut byte = [0];
    rig.memory.read_memory(&mut rig.m, copy, 0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    rig.check(&[space]);
}

#[test]
fn private_regions_see_the_file_until_they_write() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let (one, two) = (rig.space(), rig.space());
    let memory = rig.memory.create_memory(&mut rig.m, root, 2 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    rig.commit(one, &[of_memory(ADDR, 2 * PAGE_SIZE, memory, Sharing::Shared)]);
    rig.commit(two, &[of_memory(ADDR, 2 * PAGE_SIZE, memory, Sharing::Private)]);
    assert_eq!(rig.load(two, ADDR), Ok(0));
    rig.store(one, ADDR, 5).unwrap();
    assert_eq!(rig.load(two, ADDR), Ok(5));
    rig.store(two, ADDR, 6).unwrap();
    rig.store(one, ADDR, 7).unwrap();
    assert_eq!((rig.load(one, ADDR), rig.load(two, ADDR)), (Ok(7), Ok(6)));
    rig.check(&[one, two]);
}

#[test]
fn cutting_a_file_takes_its_pages_out_of_all_mappings_and_zeroes_the_rest_of_the_last() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let memory = rig.memory.create_memory(&mut rig.m, root, 3 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    rig.commit(space, &[of_memory(ADDR, 3 * PAGE_SIZE, memory, Sharing::Shared)]);
    for at in [0, 100, PAGE_SIZE, 2 * PAGE_SIZE] {
        rig.store(space, ADDR + at, 8).unwrap();
    }
    rig.memory.resize(&mut rig.m, memory, 50).unwrap();
    assert_eq!(rig.load(space, ADDR + PAGE_SIZE), Err(FaultError::BeyondEnd));
    rig.memory.resize(&mut rig.m, memory, 3 * PAGE_SIZE).unwrap();
    assert_eq!(rig.load(space, ADDR), Ok(8));
    assert_eq!(rig.load(space, ADDR + 100), Ok(0));
    assert_eq!(rig.load(space, ADDR + PAGE_SIZE), Ok(0));
    rig.check(&[space]);
}

#[test]
fn cutting_a_file_takes_private_copies_of_its_pages_from_clones_and_windows_too() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let (one, other) = (rig.space(), rig.space());
    let memory = rig.memory.create_memory(&mut rig.m, root, 3 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    let window = rig.memory.window(memory, root, PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    let behind = ADDR + 8 * PAGE_SIZE;
    rig.commit(
        one,
        &[
            of_memory(ADDR, 3 * PAGE_SIZE, memory, Sharing::Private),
            of_memory(behind, 2 * PAGE_SIZE, window, Sharing::Private),
        ],
    );
    for at in [ADDR, ADDR + PAGE_SIZE, ADDR + 2 * PAGE_SIZE, behind, behind + PAGE_SIZE] {
        rig.store(one, at, 8).unwrap();
    }
    rig.commit(other, &[SpaceOp::Clone { source: one }]);
    rig.memory.resize(&mut rig.m, memory, 2 * PAGE_SIZE).unwrap();
    for space in [one, other] {
        assert_eq!(rig.load(space, ADDR + PAGE_SIZE), Ok(8), "what was not cut off stays");
        assert_eq!(rig.load(space, behind), Ok(8));
        assert_eq!(rig.load(space, ADDR + 2 * PAGE_SIZE), Err(FaultError::BeyondEnd));
        assert_eq!(rig.load(space, behind + PAGE_SIZE), Err(FaultError::BeyondEnd));
    }
    rig.memory.resize(&mut rig.m, memory, 3 * PAGE_SIZE).unwrap();
    assert_eq!(rig.load(one, ADDR + 2 * PAGE_SIZE), Ok(0));
    rig.check(&[one, other]);
}

#[test]
fn revoking_a_window_takes_it_and_the_windows_cut_from_it() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let memory = rig.memory.create_memory(&mut rig.m, root, 4 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    let outer = rig.memory.window(memory, root, PAGE_SIZE, 3 * PAGE_SIZE).unwrap();
    let inner = rig.memory.window(outer, root, PAGE_SIZE, PAGE_SIZE).unwrap();
    let other = rig.memory.window(memory, root, 0, PAGE_SIZE).unwrap();
    rig.commit(
        space,
        &[
            of_memory(ADDR, PAGE_SIZE, inner, Sharing::Shared),
            of_memory(2 * ADDR, PAGE_SIZE, other, Sharing::Shared),
            of_memory(3 * ADDR, 4 * PAGE_SIZE, memory, Sharing::Shared),
        ],
    );
    rig.store(space, ADDR, 9).unwrap();
    assert_eq!(rig.load(space, 3 * ADDR + 2 * PAGE_SIZE), Ok(9));
    // Only its descendants keep the middle one alive.
    rig.memory.retain_memory(outer);
    rig.memory.release_memory(outer);
    rig.memory.revoke(&mut rig.m, outer).unwrap();
    assert_eq!(rig.load(space, ADDR), Err(FaultError::Revoked));
    assert_eq!(rig.load(space, 2 * ADDR), Ok(0));
    rig.check(&[space]);
    for id in [inner, outer, other, memory] {
        rig.memory.release_memory(id);
    }
    rig.check(&[space]);
}

#[test]
fn a_chain_of_windows_held_only_by_the_last_is_revoked_from_its_head() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let memory = rig.memory.create_memory(&mut rig.m, root, PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    let head = rig.memory.window(memory, root, 0, PAGE_SIZE).unwrap();
    let mut last = rig.memory.window(head, root, 0, PAGE_SIZE).unwrap();
    for _ in 0..100 {
        let next = rig.memory.window(last, root, 0, PAGE_SIZE).unwrap();
        rig.memory.release_memory(last);
        last = next;
    }
    rig.memory.revoke(&mut rig.m, head).unwrap();
    rig.check(&[]);
    for id in [last, head, memory] {
        rig.memory.release_memory(id);
    }
    assert_eq!(rig.memory.memories.len(), 0);
}

#[test]
fn a_refused_commit_changes_nothing() {
    let mut rig = Rig::new();
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, 8 * PAGE_SIZE)]);
    rig.store(space, ADDR, 1).unwrap();
    let before: Vec<_> = (0..10).map(|page| rig.memory.query(space, ADDR + page * PAGE_SIZE)).collect();
    let error = rig.memory.commit(
        &mut rig.m,
        space,
        &[
            SpaceOp::Unmap { addr: ADDR, len: 2 * PAGE_SIZE },
            SpaceOp::Protect { addr: ADDR + 4 * PAGE_SIZE, len: PAGE_SIZE, access: Protection::READ },
            anonymous(ADDR, PAGE_SIZE),
            anonymous(ADDR + 5 * PAGE_SIZE, PAGE_SIZE),
        ],
    );
    assert_eq!(error, Err(CommitError { index: 3, error: MemoryError::Overlap }));
    let after: Vec<_> = (0..10).map(|page| rig.memory.query(space, ADDR + page * PAGE_SIZE)).collect();
    assert_eq!(before, after);
    assert_eq!(rig.load(space, ADDR), Ok(1));
    rig.check(&[space]);
}

#[test]
fn neighbours_that_are_alike_become_one_region() {
    let mut rig = Rig::new();
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, PAGE_SIZE), anonymous(ADDR + 2 * PAGE_SIZE, PAGE_SIZE)]);
    rig.commit(space, &[anonymous(ADDR + PAGE_SIZE, PAGE_SIZE)]);
    let region = rig.memory.query(space, ADDR).unwrap();
    assert_eq!((region.addr, region.len), (ADDR, 3 * PAGE_SIZE));
    let middle = ADDR + PAGE_SIZE;
    rig.commit(space, &[SpaceOp::Protect { addr: middle, len: PAGE_SIZE, access: Protection::READ }]);
    assert_eq!(rig.memory.query(space, ADDR).unwrap().len, PAGE_SIZE);
    rig.commit(space, &[SpaceOp::Protect { addr: middle, len: PAGE_SIZE, access: READ_WRITE }]);
    assert_eq!(rig.memory.query(space, ADDR).unwrap().len, 3 * PAGE_SIZE);
    rig.check(&[space]);
}

#[test]
fn an_account_at_its_limit_gets_an_error_and_not_the_machine() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let limit = Usage { frames: 10, kernel_bytes: u64::MAX };
    let account = rig.memory.accounts.create(Some(root), limit).unwrap();
    let space = rig.memory.create_space(&mut rig.m, account).unwrap();
    rig.commit(space, &[anonymous(ADDR, 64 * PAGE_SIZE)]);
    let stored = (0..64).take_while(|page| rig.store(space, ADDR + page * PAGE_SIZE, 1).is_ok()).count();
    assert_eq!(stored, 6, "ten frames without a root and three tables");
    assert_eq!(rig.store(space, ADDR + 63 * PAGE_SIZE, 1), Err(FaultError::AccountLimit));
    rig.check(&[space]);
    rig.memory.release_space(&mut rig.m, space);
    assert_eq!(rig.memory.accounts.get(account).unwrap().used(), Usage::default());
}

#[test]
fn an_image_is_read_in_place_and_copied_when_it_is_written() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let image = rig.memory.create_physical(root, IMAGE, 8, Caching::WriteBack).unwrap();
    let window = rig.memory.window(image, root, 2 * PAGE_SIZE, PAGE_SIZE + 10).unwrap();
    let file = rig.memory.snapshot(&mut rig.m, window, root).unwrap();
    rig.commit(
        space,
        &[
            of_memory(ADDR, 2 * PAGE_SIZE, file, Sharing::Shared),
            of_memory(2 * ADDR, 2 * PAGE_SIZE, file, Sharing::Private),
        ],
    );
    assert_eq!((rig.load(space, ADDR), rig.load(space, 2 * ADDR)), (Ok(0x42), Ok(0x42)));
    assert_eq!(rig.memory.info(file).resident_pages, 0);
    rig.store(space, ADDR, 1).unwrap();
    assert_eq!((rig.load(space, ADDR), rig.load(space, 2 * ADDR)), (Ok(1), Ok(1)));
    assert_eq!(rig.m.byte(Frame(IMAGE.0 + 2), 0), 0x42);
    rig.memory.discard(&mut rig.m, file, 0, PAGE_SIZE).unwrap();
    assert_eq!(rig.load(space, ADDR), Ok(0));
    rig.check(&[space]);
}

#[test]
fn a_snapshot_of_a_window_holds_on_to_nothing_outside_of_the_window() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let memory = rig.memory.create_memory(&mut rig.m, root, 300 * PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    for page in 0..300 {
        let zero = Place::Memory(memory, 0);
        let transfer = rig.memory.transfer(&mut rig.m, Place::Memory(memory, page * PAGE_SIZE), zero, 1);
        assert_eq!(transfer.moved, 1);
    }
    let window = rig.memory.window(memory, root, 100 * PAGE_SIZE, 50 * PAGE_SIZE).unwrap();
    let copy = rig.memory.snapshot(&mut rig.m, window, root).unwrap();
    rig.memory.release_memory(window);
    rig.memory.release_memory(memory);
    assert_eq!(rig.memory.info(copy).resident_pages, 50);
    assert_eq!(rig.memory.frames().total() - rig.memory.frames().free(), 51);
    rig.check(&[]);
}

#[test]
fn who_runs_a_file_gets_the_neighbours_of_a_page_with_it_but_nothing_is_copied_for_them() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let image = rig.memory.create_physical(root, IMAGE, 20, Caching::WriteBack).unwrap();
    rig.commit(space, &[of_memory(ADDR, 24 * PAGE_SIZE, image, Sharing::Private)]);
    let free = rig.memory.frames().free();
    rig.load(space, ADDR + 17 * PAGE_SIZE).unwrap();
    let table = rig.memory.space_root(space);
    let mut shown = |page: u64| rig.m.translate(table, ADDR / PAGE_SIZE + page, FaultKind::Read);
    assert_eq!(shown(15), None, "another group");
    assert_eq!((16..20).map_while(&mut shown).count(), 4);
    assert_eq!(shown(20), None, "beyond the end");
    assert_eq!(rig.memory.frames().free(), free - 3, "three page tables");
    rig.store(space, ADDR + 18 * PAGE_SIZE, 1).unwrap();
    assert_eq!(rig.load(space, ADDR + 18 * PAGE_SIZE), Ok(1));
    assert_eq!(rig.load(space, ADDR + 19 * PAGE_SIZE), Ok(0x40 + 19));
    rig.check(&[space]);
}

#[test]
fn devices_are_shown_uncached_and_never_copied() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let device = rig.memory.create_physical(root, IMAGE, 1, Caching::Uncached).unwrap();
    let private = of_memory(ADDR, PAGE_SIZE, device, Sharing::Private);
    assert!(rig.memory.commit(&mut rig.m, space, &[private]).is_err());
    rig.commit(space, &[of_memory(ADDR, PAGE_SIZE, device, Sharing::Shared)]);
    rig.store(space, ADDR, 1).unwrap();
    assert_eq!(rig.memory.read_user(&mut rig.m, space, ADDR, &mut [0]), Err(FaultError::AccessDenied));
    assert_eq!(rig.memory.snapshot(&mut rig.m, device, root), Err(MemoryError::BadState));
    assert_eq!(rig.memory.create_physical(root, Frame(1), 1, Caching::WriteBack), Err(MemoryError::OutOfRange));
}

#[test]
fn a_pinned_page_stays_where_the_kernel_knows_it() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let ring = rig.memory.create_memory(&mut rig.m, root, PAGE_SIZE, MemoryKind::Anonymous).unwrap();
    let frame = rig.memory.frame_for_kernel(&mut rig.m, ring, 0).unwrap();
    rig.commit(space, &[of_memory(ADDR, PAGE_SIZE, ring, Sharing::Shared)]);
    rig.store(space, ADDR, 3).unwrap();
    assert_eq!(rig.m.byte(frame, 0), 3);
    assert_eq!(rig.memory.snapshot(&mut rig.m, ring, root), Err(MemoryError::BadState));
    assert_eq!(rig.memory.resize(&mut rig.m, ring, 0), Err(MemoryError::BadState));
    assert_eq!(rig.memory.discard(&mut rig.m, ring, 0, PAGE_SIZE), Err(MemoryError::BadState));
    rig.memory.unpin(ring);
    rig.memory.resize(&mut rig.m, ring, 0).unwrap();
    rig.check(&[space]);
}

#[test]
fn a_transfer_ends_at_the_first_byte_that_cannot_be_reached() {
    let mut rig = Rig::new();
    let root = rig.memory.root_account();
    let space = rig.space();
    let memory = rig.memory.create_memory(&mut rig.m, root, 100, MemoryKind::Anonymous).unwrap();
    rig.commit(space, &[anonymous(ADDR, PAGE_SIZE)]);
    let from = Place::Space(space, ADDR + PAGE_SIZE - 10);
    let transfer = rig.memory.transfer(&mut rig.m, Place::Memory(memory, 0), from, 50);
    let stop = Stop { side: Side::From, error: MemoryError::Fault(FaultError::NotMapped) };
    assert_eq!(transfer, Transfer { moved: 10, stopped: Some(stop) });
    let transfer = rig.memory.transfer(&mut rig.m, Place::Memory(memory, 95), Place::Space(space, ADDR), 50);
    let stop = Stop { side: Side::To, error: MemoryError::Fault(FaultError::BeyondEnd) };
    assert_eq!(transfer, Transfer { moved: 5, stopped: Some(stop) });
    for wild in [u64::MAX, u64::MAX - 5, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000] {
        let read = rig.memory.read_user(&mut rig.m, space, wild, &mut [0; 16]);
        assert_eq!(read, Err(FaultError::NotMapped));
        let transfer = rig.memory.transfer(&mut rig.m, Place::Memory(memory, wild), Place::Space(space, ADDR), 50);
        assert_eq!(transfer.moved, 0);
    }
}

#[test]
fn ranges_outside_of_user_space_are_refused() {
    let mut rig = Rig::new();
    let space = rig.space();
    let cases = [
        (0, PAGE_SIZE, MemoryError::OutOfRange),
        (ADDR, 0, MemoryError::OutOfRange),
        (ADDR + 1, PAGE_SIZE, MemoryError::Misaligned),
        (ADDR, PAGE_SIZE - 1, MemoryError::Misaligned),
        (0x7fff_ffff_f000, PAGE_SIZE, MemoryError::OutOfRange),
        (ADDR, u64::MAX - PAGE_SIZE + 1, MemoryError::OutOfRange),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE, MemoryError::OutOfRange),
    ];
    for (addr, len, error) in cases {
        let result = rig.memory.commit(&mut rig.m, space, &[anonymous(addr, len)]);
        assert_eq!(result, Err(CommitError { index: 0, error }), "{addr:#x} {len:#x}");
    }
}

#[test]
fn room_is_found_at_the_hint_or_else_below_it() {
    let mut rig = Rig::new();
    let space = rig.space();
    let top = quire_abi::space::USER_END;
    assert_eq!(rig.memory.find_range(space, 0, PAGE_SIZE), Ok(top - PAGE_SIZE));
    assert_eq!(rig.memory.find_range(space, ADDR, PAGE_SIZE), Ok(ADDR));
    rig.commit(space, &[anonymous(ADDR, PAGE_SIZE)]);
    assert_eq!(rig.memory.find_range(space, ADDR, PAGE_SIZE), Ok(ADDR - PAGE_SIZE));
    assert_eq!(rig.memory.find_range(space, 2 * PAGE_SIZE, 8 * PAGE_SIZE), Ok(2 * PAGE_SIZE));
    assert_eq!(rig.memory.find_range(space, ADDR, ADDR), Ok(top - ADDR));
    assert!(rig.memory.find_range(space, 0, top).is_err());
}
