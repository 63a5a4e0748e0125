//! Private pages that go away and come back.

use super::*;
use crate::memory::swap::SwappedOut;

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
    assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE), Ok(SwappedOut::Sent));
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
    (0..3).for_each(|page| {
        assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page), Ok(SwappedOut::Sent))
    });
    rig.serve_swap();
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: space }]);
    rig.check(&[space, child]);
    assert_eq!(rig.load(child, ADDR), Ok(1));
    rig.store(child, ADDR, 7).unwrap();
    assert_eq!(rig.load(space, ADDR), Ok(1));
    rig.check(&[space, child]);
    assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + 1), Ok(SwappedOut::No), "it is there already");
    rig.memory.release_space(&mut rig.m, space);
    assert_eq!(rig.load(child, ADDR + 2 * PAGE_SIZE), Ok(3));
    rig.check(&[child]);
}

#[test]
fn a_swapped_page_stays_charged_to_who_made_it() {
    let (mut rig, space) = filled(4);
    let before = charged(&rig);
    (0..4).for_each(|page| {
        assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page), Ok(SwappedOut::Sent))
    });
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
    assert_eq!(sent, [SwappedOut::Sent, SwappedOut::Sent, SwappedOut::No, SwappedOut::No].map(Ok));
    rig.check(&[space]);
}

#[test]
fn a_page_that_is_only_read_keeps_its_slot_and_goes_again_without_the_pager() {
    let (mut rig, space) = filled(4);
    let away = |rig: &mut Rig, page| rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page).unwrap();
    (0..4).for_each(|page| assert_eq!(away(&mut rig, page), SwappedOut::Sent));
    rig.serve_swap();
    let (before, free) = (charged(&rig), rig.memory.frames().free());
    (0..4).for_each(|page| assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(page as u8 + 1)));
    assert_eq!((rig.memory.swap_info().used_pages, rig.memory.swap_info().kept_pages), (0, 4));
    rig.check(&[space]);
    rig.store(space, ADDR + PAGE_SIZE, 99).unwrap();
    assert_eq!(rig.memory.swap_info().kept_pages, 3);
    rig.check(&[space]);
    assert_eq!(away(&mut rig, 0), SwappedOut::Gone);
    assert_eq!(away(&mut rig, 1), SwappedOut::Sent);
    assert_eq!(away(&mut rig, 2), SwappedOut::Gone);
    rig.serve_swap();
    rig.check(&[space]);
    for (page, value) in [(0, 1), (1, 99), (2, 3), (3, 4)] {
        assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(value));
    }
    rig.check(&[space]);
    assert!(charged(&rig) <= before && rig.memory.frames().free() <= free + 4);
    rig.commit(space, &[SpaceOp::Unmap { addr: ADDR, len: 4 * PAGE_SIZE }]);
    assert_eq!(rig.memory.swap_info().kept_pages, 0);
    rig.check(&[space]);
}

#[test]
fn a_fork_of_what_keeps_its_slot_is_copied_when_stored_to() {
    let (mut rig, space) = filled(2);
    (0..2).for_each(|page| assert!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page).is_ok()));
    rig.serve_swap();
    (0..2).for_each(|page| assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(page as u8 + 1)));
    let child = rig.space();
    rig.commit(child, &[SpaceOp::Clone { source: space }]);
    rig.store(child, ADDR, 7).unwrap();
    assert_eq!((rig.load(space, ADDR), rig.memory.swap_info().kept_pages), (Ok(1), 2));
    rig.store(space, ADDR, 8).unwrap();
    assert_eq!((rig.load(child, ADDR), rig.memory.swap_info().kept_pages), (Ok(7), 1));
    rig.check(&[space, child]);
    rig.memory.release_space(&mut rig.m, space);
    assert_eq!(rig.memory.swap_out(&mut rig.m, child, ADDR / PAGE_SIZE + 1), Ok(SwappedOut::Gone));
    assert_eq!(rig.load(child, ADDR + PAGE_SIZE), Ok(2));
    rig.check(&[child]);
}

#[test]
fn a_slot_that_is_kept_is_given_to_who_needs_one() {
    let mut rig = Rig::new();
    rig.add_swap(2);
    let space = rig.space();
    rig.commit(space, &[anonymous(ADDR, 4 * PAGE_SIZE)]);
    (0..4).for_each(|page| rig.store(space, ADDR + page * PAGE_SIZE, page as u8 + 1).unwrap());
    (0..2).for_each(|page| assert!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page).is_ok()));
    rig.serve_swap();
    (0..2).for_each(|page| assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(page as u8 + 1)));
    for page in 2..4 {
        assert_eq!(rig.memory.swap_out(&mut rig.m, space, ADDR / PAGE_SIZE + page), Ok(SwappedOut::Sent));
        rig.check(&[space]);
    }
    assert_eq!(rig.memory.swap_info().kept_pages, 0);
    rig.serve_swap();
    (0..4).for_each(|page| assert_eq!(rig.load(space, ADDR + page * PAGE_SIZE), Ok(page as u8 + 1)));
    rig.check(&[space]);
}
