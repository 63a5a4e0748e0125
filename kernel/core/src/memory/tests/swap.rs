//! Private pages that go away and come back.

use super::*;

const ADDR: u64 = 0x10_0000;

/// A space with `pages` private pages, each of which holds its number.
fn filled(pages: u64) -> (Rig, Id<Space>) {
    let mut rig = Rig::new();
    rig.add_swap(64);
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, pages * PAGE_SIZE)]);
    (0..pages).for_each(|page| rig.store(space, ADDR + page * PAGE_SIZE, page as u8 + 1).unwrap());
    (rig, space)
}

/// What the root account pays for.
fn charged(rig: &Rig) -> u64 {
    rig.memory.accounts.get(rig.memory.root_account()).unwrap().used().frames
}

#[test]
fn what_was_not_used_goes_and_comes_back_as_it_was() {
    let (mut rig, space) = filled(8);
    let free = rig.memory.frames().free();
    // In the first round all have been used; in the second all but those that are used meanwhile go.
    assert!(rig.memory.reclaim(&mut rig.m, 8).asked);
    rig.check(&[space]);
    assert_eq!(rig.memory.swap_info().used_pages, 8);
    assert_eq!(rig.memory.frames().free(), free, "nothing has been written yet");
    rig.serve_swap();
    rig.memory.reclaim(&mut rig.m, 8);
    rig.memory.reclaim(&mut rig.m, 8);
    assert_eq!(rig.memory.frames().free(), free + 8);
    rig.check(&[space]);
    for page in 0..8 {
        assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(page as u8 + 1));
        rig.check(&[space]);
    }
    assert_eq!(rig.memory.swap_info().used_pages, 0);
    assert_eq!(rig.memory.frames().free(), free);
}

#[test]
fn a_page_that_is_used_again_at_once_costs_no_pager() {
    let (mut rig, space) = filled(1);
    assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE), Ok(true));
    assert_eq!(rig.load(space, ADDR), Ok(1));
    assert_eq!(rig.memory.swap_info().used_pages, 0);
    assert!(!rig.serve_swap());
    rig.check(&[space]);
}

#[test]
fn a_page_that_is_being_written_is_copied() {
    let (mut rig, space) = filled(1);
    rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE).unwrap();
    let id = rig.swapper.as_ref().unwrap().id;
    assert_eq!(rig.memory.take_request(&mut rig.m, id), Some(PagerRequest::Writeback { start: 0, end: 1 }));
    rig.store(space, ADDR, 9).unwrap();
    rig.check(&[space]);
    // The slot is nobody's, but not free before the pager is done with it.
    rig.memory.forget_dropped();
    assert_eq!(rig.memory.cached_pages(), 1);
    rig.memory.written(id, 0, 1);
    rig.memory.forget_dropped();
    assert_eq!(rig.memory.cached_pages(), 0);
    assert_eq!(rig.load(space, ADDR), Ok(9));
    rig.check(&[space]);
}

#[test]
fn a_fork_shares_what_is_swapped() {
    let (mut rig, space) = filled(3);
    (0..3).for_each(|page| assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page), Ok(true)));
    rig.serve_swap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: space }]);
    rig.check(&[space, child]);
    assert_eq!(rig.load(child, ADDR), Ok(1));
    rig.store(child, ADDR, 7).unwrap();
    assert_eq!(rig.load(space, ADDR), Ok(1));
    rig.check(&[space, child]);
    assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + 1), Ok(false), "it is there already");
    rig.memory.release_space(&mut rig.m, space);
    assert_eq!(rig.load(child, ADDR + 2 * PAGE_SIZE), Ok(3));
    rig.check(&[child]);
}

#[test]
fn a_swapped_page_stays_charged_to_who_made_it() {
    let (mut rig, space) = filled(4);
    let before = charged(&rig);
    (0..4).for_each(|page| assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page), Ok(true)));
    assert_eq!(charged(&rig), before + 4, "the frames in the cache, too, are the root account's here");
    rig.serve_swap();
    rig.memory.reclaim(&mut rig.m, 100);
    rig.memory.reclaim(&mut rig.m, 100);
    assert_eq!(charged(&rig), before);
    rig.commit(space, &[SpaceOp::Unmap { addr: ADDR, len: 4 * PAGE_SIZE }]);
    assert!(charged(&rig) < before - 3);
    assert_eq!(rig.memory.swap_info().used_pages, 0);
    rig.check(&[space]);
}

#[test]
fn without_a_slot_nothing_goes() {
    let mut rig = Rig::new();
    rig.add_swap(2);
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, 4 * PAGE_SIZE)]);
    (0..4).for_each(|page| rig.store(space, ADDR + page * PAGE_SIZE, 1).unwrap());
    let sent: Vec<_> = (0..4).map(|page| rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page)).collect();
    assert_eq!(sent, [Ok(true), Ok(true), Ok(false), Ok(false)]);
    rig.check(&[space]);
}
