//! Managed memories, with a pager that is this test.

use super::super::{Absent, Memory, MemoryError, PagerRequest, Place, Presence, Unwritten};
use super::*;

const ADDR: u64 = 0x10_0000;
const PAGES: u64 = 40;
const LEN: u64 = PAGES * PAGE_SIZE;

/// A rig with a managed memory, mapped at [`ADDR`].
struct Paged {
    rig: Rig,
    id: Id<Memory>,
    space: Id<Space>,
}

impl Paged {
    fn new(sharing: Sharing) -> Self {
        let mut rig = Rig::new();
        let root = rig.memory.root_account();
        let id = rig.memory.create_managed(root, LEN, Presence::Present).unwrap();
        let space = rig.space();
        rig.commit(space, &[of_memory(ADDR, LEN, id, sharing)]);
        Self { rig, id, space }
    }

    fn load(&mut self, page: u64) -> Result<u8, FaultError> {
        self.rig.load(self.space, ADDR + page * PAGE_SIZE)
    }

    fn store(&mut self, page: u64, value: u8) -> Result<(), FaultError> {
        self.rig.store(self.space, ADDR + page * PAGE_SIZE, value)
    }

    fn absent(&self, page: u64) -> FaultError {
        FaultError::NotPresent(Absent { memory: self.id, page })
    }

    fn want(&mut self, pages: &[u64]) {
        pages.iter().for_each(|page| self.rig.memory.want(self.id, *page).unwrap());
    }

    fn requests(&mut self) -> Vec<PagerRequest> {
        core::iter::from_fn(|| self.rig.memory.take_request(&mut self.rig.m, self.id)).collect()
    }

    /// Supplies a page full of `value` out of a memory of the pager's own.
    fn supply(&mut self, page: u64, value: u8) {
        let Rig { m, memory, .. } = &mut self.rig;
        let root = memory.root_account();
        let source = memory.create_memory(m, root, PAGE_SIZE, super::super::MemoryKind::Anonymous).unwrap();
        let frame = memory.page_to_write(m, source, 0).unwrap().frame;
        m.fill(frame, value);
        assert_eq!(memory.supply(m, self.id, (page, 1), Some((source, 0))), Ok(1));
        memory.release_memory(source);
    }

    /// Has everything dirty written back.
    fn write_back(&mut self) -> Vec<PagerRequest> {
        self.rig.memory.request_writeback(self.id, 0, PAGES);
        let requests = self.requests();
        for request in &requests {
            if let PagerRequest::Writeback { start, end } = *request {
                self.rig.memory.written(self.id, start, end);
            }
        }
        requests
    }

    fn check(&self) {
        self.rig.check(&[self.space]);
    }
}

fn fill(start: u64, end: u64) -> PagerRequest {
    PagerRequest::Fill { start, end, ahead: 0 }
}

fn writeback(start: u64, end: u64) -> PagerRequest {
    PagerRequest::Writeback { start, end }
}

#[test]
fn a_page_is_asked_for_once_and_in_runs_and_then_stays() {
    let mut p = Paged::new(Sharing::Shared);
    assert_eq!(p.load(3), Err(p.absent(3)));
    p.want(&[3, 4, 5, 9, 4]);
    assert_eq!(p.requests(), [fill(3, 6), fill(9, 10)]);
    p.want(&[3]);
    assert_eq!(p.requests(), [], "it has been asked for");
    p.supply(3, 0x33);
    assert_eq!(p.load(3), Ok(0x33));
    assert_eq!(p.load(4), Err(p.absent(4)));
    p.check();
}

#[test]
fn supplying_moves_the_frame_and_the_charge() {
    let mut p = Paged::new(Sharing::Shared);
    let Rig { m, memory, .. } = &mut p.rig;
    let root = memory.root_account();
    let limits = crate::account::Usage { frames: 2, kernel_bytes: u64::MAX };
    let pager = memory.accounts.create(Some(root), limits).unwrap();
    let source = memory.create_memory(m, pager, 2 * PAGE_SIZE, super::super::MemoryKind::Anonymous).unwrap();
    let frame = memory.page_to_write(m, source, 1).unwrap().frame;
    m.fill(frame, 7);
    let free = memory.frames().free();
    assert_eq!(memory.supply(m, p.id, (0, 2), Some((source, 0))), Ok(2));
    assert_eq!(memory.page_to_read(p.id, 1).unwrap().unwrap().frame, frame, "the same frame");
    assert_eq!(memory.frames().free(), free - 1, "the page of zeros needed one, the other was moved");
    assert_eq!(memory.accounts.get(pager).unwrap().used().frames, 0);
    assert_eq!(memory.page_to_read(source, 1), Ok(None), "it is gone from the source");
    memory.release_memory(source);
    p.check();
    assert_eq!((p.load(0), p.load(1)), (Ok(0), Ok(7)));
}

#[test]
fn a_frame_that_others_have_is_copied() {
    let mut p = Paged::new(Sharing::Shared);
    let Rig { m, memory, .. } = &mut p.rig;
    let root = memory.root_account();
    let source = memory.create_memory(m, root, PAGE_SIZE, super::super::MemoryKind::Anonymous).unwrap();
    let frame = memory.page_to_write(m, source, 0).unwrap().frame;
    m.fill(frame, 9);
    let snapshot = memory.snapshot(m, source, root).unwrap();
    memory.supply(m, p.id, (0, 1), Some((source, 0))).unwrap();
    assert_ne!(memory.page_to_read(p.id, 0).unwrap().unwrap().frame, frame);
    assert_eq!(memory.page_to_read(snapshot, 0).unwrap().unwrap().frame, frame);
    assert_eq!(p.load(0), Ok(9));
    p.check();
}

#[test]
fn what_is_there_is_not_replaced() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    p.store(0, 2).unwrap();
    p.supply(0, 3);
    assert_eq!(p.load(0), Ok(2));
}

#[test]
fn stores_are_seen_and_written_back_once() {
    let mut p = Paged::new(Sharing::Shared);
    (0..4).for_each(|page| p.supply(page, 1));
    (0..4).for_each(|page| assert_eq!(p.load(page), Ok(1)));
    assert_eq!(p.write_back(), [], "nobody stored");
    p.store(0, 2).unwrap();
    p.store(1, 2).unwrap();
    p.store(3, 2).unwrap();
    assert_eq!(p.rig.memory.managed_info(p.id).unwrap().unwritten_pages, 3);
    assert_eq!(p.write_back(), [writeback(0, 2), writeback(3, 4)]);
    assert_eq!(p.rig.memory.managed_info(p.id).unwrap().unwritten_pages, 0);
    assert_eq!(p.write_back(), []);
    p.check();
}

#[test]
fn a_store_during_the_writeback_is_not_lost() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    p.store(0, 2).unwrap();
    p.rig.memory.request_writeback(p.id, 0, PAGES);
    assert_eq!(p.requests(), [writeback(0, 1)]);
    p.check();
    p.store(0, 3).unwrap();
    assert_eq!(p.rig.memory.unwritten(p.id, 0), Unwritten::Twice);
    p.rig.memory.written(p.id, 0, 1);
    assert_eq!(p.rig.memory.unwritten(p.id, 0), Unwritten::Once);
    assert_eq!(p.write_back(), [writeback(0, 1)]);
    assert_eq!(p.load(0), Ok(3));
    p.check();
}

#[test]
fn a_failed_writeback_leaves_the_page_dirty_and_a_failed_fill_missing() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    p.store(0, 2).unwrap();
    p.want(&[1]);
    p.rig.memory.request_writeback(p.id, 0, PAGES);
    assert_eq!(p.requests(), [fill(1, 2), writeback(0, 1)]);
    p.rig.memory.fail_pages(p.id, 0, PAGES);
    assert_eq!(p.rig.memory.unwritten(p.id, 0), Unwritten::Once);
    assert_eq!(p.load(1), Err(p.absent(1)));
    p.want(&[1]);
    assert_eq!(p.requests(), [fill(1, 2)], "it can be asked for again; nobody asked to write back again");
    p.check();
}

#[test]
fn a_successor_is_asked_for_everything_again() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    p.store(0, 2).unwrap();
    p.want(&[5]);
    p.rig.memory.request_writeback(p.id, 0, PAGES);
    let asked = p.requests();
    assert_eq!(p.requests(), []);
    p.rig.memory.restart_requests(p.id);
    assert_eq!(p.requests(), asked);
    p.check();
}

#[test]
fn without_a_pager_what_is_there_stays_and_the_rest_is_refused() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    p.rig.memory.set_presence(p.id, Presence::Gone);
    assert_eq!(p.load(0), Ok(1));
    p.store(0, 2).unwrap();
    assert_eq!(p.load(1), Err(FaultError::NoPager));
    p.rig.memory.set_presence(p.id, Presence::Awaited);
    assert_eq!(p.load(1), Err(p.absent(1)));
}

#[test]
fn private_stores_stay_out_of_the_cache() {
    let mut p = Paged::new(Sharing::Private);
    assert_eq!(p.store(0, 9), Err(p.absent(0)));
    p.supply(0, 1);
    assert_eq!(p.load(0), Ok(1));
    p.store(0, 9).unwrap();
    assert_eq!(p.load(0), Ok(9));
    assert_eq!(p.rig.memory.managed_info(p.id).unwrap().unwritten_pages, 0);
    assert_eq!(p.rig.memory.invalidate_pages(&mut p.rig.m, p.id, 0, PAGES), PAGES);
    assert_eq!(p.load(0), Ok(9), "the copy is the space's own");
    p.check();
}

#[test]
fn only_clean_pages_are_forgotten() {
    let mut p = Paged::new(Sharing::Shared);
    (0..3).for_each(|page| p.supply(page, 1));
    p.load(0).unwrap();
    p.store(1, 2).unwrap();
    p.rig.memory.invalidate_pages(&mut p.rig.m, p.id, 0, PAGES);
    assert_eq!(p.load(0), Err(p.absent(0)));
    assert_eq!(p.load(1), Ok(2));
    assert_eq!(p.load(2), Err(p.absent(2)));
    p.check();
}

#[test]
fn a_memory_that_grows_is_zeros_there_without_its_pager() {
    let mut p = Paged::new(Sharing::Shared);
    p.rig.memory.resize(&mut p.rig.m, p.id, LEN + 2 * PAGE_SIZE).unwrap();
    let at = ADDR + LEN;
    p.rig.commit(p.space, &[SpaceOp::Unmap { addr: ADDR, len: LEN }]);
    p.rig.commit(p.space, &[of_memory(ADDR, LEN + 2 * PAGE_SIZE, p.id, Sharing::Shared)]);
    assert_eq!(p.rig.load(p.space, at), Ok(0));
    p.rig.store(p.space, at, 5).unwrap();
    p.rig.memory.request_writeback(p.id, 0, u64::MAX);
    assert_eq!(p.requests(), [writeback(PAGES, PAGES + 1)]);
    p.rig.memory.written(p.id, PAGES, PAGES + 1);
    p.rig.memory.invalidate_pages(&mut p.rig.m, p.id, 0, u64::MAX);
    // Now the pager has it, and has to be asked.
    assert_eq!(p.rig.load(p.space, at), Err(p.absent(PAGES)));
    assert_eq!(p.rig.load(p.space, at + PAGE_SIZE), Ok(0));
    p.check();
}

#[test]
fn a_memory_that_shrinks_loses_its_pages_whatever_they_are() {
    let mut p = Paged::new(Sharing::Shared);
    (0..5).for_each(|page| p.supply(page, 1));
    p.store(2, 2).unwrap();
    p.want(&[7, 8]);
    p.rig.memory.resize(&mut p.rig.m, p.id, PAGE_SIZE + 1).unwrap();
    assert_eq!(p.requests(), []);
    assert_eq!(p.load(1), Ok(1));
    assert_eq!(p.load(2), Err(FaultError::BeyondEnd));
    p.check();
    p.rig.memory.resize(&mut p.rig.m, p.id, LEN).unwrap();
    assert_eq!(p.load(2), Ok(0), "what grows back is zeros");
    let tail = p.rig.load(p.space, ADDR + PAGE_SIZE + 1);
    assert_eq!(tail, Ok(0), "in the old last page too");
    p.check();
}

#[test]
fn a_supply_that_comes_late_does_not_bring_back_what_was_cut_off() {
    let mut p = Paged::new(Sharing::Shared);
    p.want(&[2]);
    assert_eq!(p.requests(), [fill(2, 3)]);
    p.rig.memory.resize(&mut p.rig.m, p.id, PAGE_SIZE).unwrap();
    p.rig.memory.resize(&mut p.rig.m, p.id, LEN).unwrap();
    p.supply(2, 0x22);
    assert_eq!(p.load(2), Ok(0));
    p.store(2, 3).unwrap();
    assert_eq!(p.write_back(), [writeback(2, 3)]);
    p.check();
}

#[test]
fn a_transfer_says_which_page_it_needs() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    let other = p.rig.space();
    p.rig.commit(other, &[anonymous(ADDR, LEN)]);
    let Rig { m, memory, .. } = &mut p.rig;
    let moved = memory.transfer(m, Place::Space(other, ADDR), Place::Memory(p.id, 0), 2 * PAGE_SIZE);
    assert_eq!(moved.moved, PAGE_SIZE);
    let absent = Absent { memory: p.id, page: 1 };
    assert_eq!(moved.stopped.map(|stop| stop.error), Some(MemoryError::Fault(FaultError::NotPresent(absent))));
}

#[test]
fn windows_show_managed_pages_too() {
    let mut p = Paged::new(Sharing::Shared);
    let root = p.rig.memory.root_account();
    let window = p.rig.memory.window(p.id, root, 2 * PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    let other = p.rig.space();
    p.rig.commit(other, &[of_memory(ADDR, 4 * PAGE_SIZE, window, Sharing::Shared)]);
    assert_eq!(p.rig.load(other, ADDR), Err(p.absent(2)));
    p.supply(2, 0x22);
    assert_eq!(p.rig.load(other, ADDR), Ok(0x22));
    p.rig.store(other, ADDR, 0x23).unwrap();
    assert_eq!(p.write_back(), [writeback(2, 3)]);
    p.rig.memory.invalidate_pages(&mut p.rig.m, p.id, 0, PAGES);
    assert_eq!(p.rig.load(other, ADDR), Err(p.absent(2)));
    p.rig.check(&[p.space, other]);
}

#[test]
fn reading_in_order_is_noticed() {
    let mut p = Paged::new(Sharing::Shared);
    let mut ahead = Vec::new();
    let mut next = 0;
    while next < PAGES {
        p.want(&[next]);
        let Some(PagerRequest::Fill { start, end, ahead: more }) = p.requests().pop() else { panic!("a fill") };
        ahead.push(more);
        (start..end + more).for_each(|page| p.supply(page, 1));
        next = end + more;
    }
    assert_eq!(ahead, [0, 4, 8, 16, 7], "it doubles, and ends with the file");
}

/// A page as whoever knows nothing of frames and trees would keep it.
#[derive(Clone, Copy, Debug, Default)]
struct Naive {
    /// What the pager has.
    stored: u8,
    /// What is in memory, if anything is.
    cached: Option<u8>,
    dirty: bool,
    asked: bool,
    /// What the pager began to write.
    writing: Option<u8>,
}

/// Whatever happens in whatever order, a load finds the last store, and with the pager is what was last written back.
#[test]
fn random_life_of_pages_agrees_with_a_naive_one() {
    const FEW: u64 = 12;
    let mut p = Paged::new(Sharing::Shared);
    let mut pages = [Naive::default(); FEW as usize];
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for step in 0..if cfg!(miri) { 300 } else { 30_000 } {
        let at = random(FEW);
        let page = &mut pages[at as usize];
        match random(8) {
            0 | 1 => match p.load(at) {
                Ok(value) => assert_eq!(Some(value), page.cached),
                Err(error) => {
                    assert_eq!((error, page.cached), (p.absent(at), None));
                    p.want(&[at]);
                    page.asked = true;
                }
            },
            2 | 3 => {
                let value = random(256) as u8;
                match p.store(at, value) {
                    Ok(()) => {
                        assert!(page.cached.is_some());
                        (page.cached, page.dirty) = (Some(value), true);
                    }
                    Err(error) => assert_eq!((error, page.cached), (p.absent(at), None)),
                }
            }
            4 => {
                // Taken requests are either filled now, or never, which is another kind of pager.
                for request in p.requests() {
                    if let PagerRequest::Fill { start, end, .. } = request {
                        (start..end).for_each(|at| assert!(pages[at as usize].asked));
                    }
                }
            }
            5 => {
                p.supply(at, page.stored);
                page.cached = page.cached.or(Some(page.stored));
                page.asked = false;
            }
            6 => {
                p.rig.memory.request_writeback(p.id, at, at + 3);
                for request in p.requests() {
                    if let PagerRequest::Writeback { start, end } = request {
                        for page in &mut pages[start as usize..end as usize] {
                            assert!(page.dirty && page.writing.is_none());
                            (page.writing, page.dirty) = (page.cached, false);
                        }
                    }
                }
            }
            _ if random(2) == 0 => {
                for page in &mut pages {
                    page.stored = page.writing.take().unwrap_or(page.stored);
                }
                p.rig.memory.written(p.id, 0, FEW);
            }
            _ if random(3) == 0 => {
                for page in &mut pages {
                    page.dirty |= page.writing.take().is_some();
                    page.asked = false;
                }
                p.rig.memory.fail_pages(p.id, 0, FEW);
            }
            _ => {
                p.rig.memory.invalidate_pages(&mut p.rig.m, p.id, 0, FEW);
                for page in pages.iter_mut().filter(|page| !page.dirty && page.writing.is_none()) {
                    assert!(page.cached.is_none_or(|cached| cached == page.stored), "a clean page is what is stored");
                    page.cached = None;
                }
            }
        }
        if step % 64 == 0 {
            p.check();
        }
    }
}

#[test]
fn what_is_used_again_and_again_outlives_what_was_used_once() {
    let mut p = Paged::new(Sharing::Shared);
    (0..8).for_each(|page| p.supply(page, 1));
    (0..8).for_each(|page| assert_eq!(p.load(page), Ok(1)));
    p.store(7, 2).unwrap();
    // The first round finds everything in use; in the second, only what was used since stays.
    assert_eq!(p.rig.memory.reclaim(&mut p.rig.m, 0).frames, 0);
    let free = p.rig.memory.frames().free();
    let half = p.rig.memory.reclaim(&mut p.rig.m, 3);
    assert_eq!((half.frames, half.asked), (3, true));
    assert_eq!(p.rig.memory.frames().free(), free + 3);
    assert_eq!([0, 1, 2].map(|page| p.load(page)), [0, 1, 2].map(|page| Err(p.absent(page))));
    p.check();
    p.load(3).unwrap();
    p.load(5).unwrap();
    assert_eq!(p.rig.memory.reclaim(&mut p.rig.m, 2).frames, 2);
    assert_eq!((p.load(3), p.load(5)), (Ok(1), Ok(1)));
    assert_eq!((p.load(4), p.load(6)), (Err(p.absent(4)), Err(p.absent(6))));
    assert_eq!(p.load(7), Ok(2), "what is dirty can't go");
    p.check();
    assert_eq!(p.requests(), [writeback(7, 8)], "but is asked for");
    p.rig.memory.written(p.id, 7, 8);
    assert_eq!(p.rig.memory.reclaim(&mut p.rig.m, 100).frames, 3);
    assert_eq!(p.rig.memory.cached_pages(), 0);
    p.check();
}

#[test]
fn pages_that_are_read_through_a_handle_are_used_too() {
    let mut p = Paged::new(Sharing::Shared);
    (0..4).for_each(|page| p.supply(page, 1));
    assert_eq!(p.rig.memory.reclaim(&mut p.rig.m, 1).frames, 1);
    p.rig.memory.read_memory(&mut p.rig.m, p.id, 2 * PAGE_SIZE, &mut [0; 8]).unwrap();
    p.rig.memory.reclaim(&mut p.rig.m, 2);
    assert_eq!(p.load(2), Ok(1));
    assert_eq!(p.rig.memory.cached_pages(), 1);
}

#[test]
fn stores_wait_when_too_much_is_dirty() {
    let mut rig = Rig::with_ram(200);
    let root = rig.memory.root_account();
    let id = rig.memory.create_managed(root, 100 * PAGE_SIZE, Presence::Present).unwrap();
    let space = rig.space();
    rig.commit(space, &[of_memory(ADDR, 100 * PAGE_SIZE, id, Sharing::Shared)]);
    rig.memory.supply(&mut rig.m, id, (0, 100), None).unwrap();
    let mut stored = 0;
    let refused = loop {
        match rig.store(space, ADDR + stored * PAGE_SIZE, 1) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, FaultError::NotPresent(Absent { memory: id, page: stored }));
    assert!((30..=40).contains(&stored), "a fifth of the frames: {stored}");
    rig.store(space, ADDR, 2).unwrap();
    let request = rig.memory.take_request(&mut rig.m, id);
    assert_eq!(request, Some(writeback(0, stored)));
    rig.memory.written(id, 0, stored);
    rig.store(space, ADDR + stored * PAGE_SIZE, 1).unwrap();
    rig.check(&[space]);
}

#[test]
fn what_stays_dirty_is_written_back_in_time() {
    let mut p = Paged::new(Sharing::Shared);
    p.supply(0, 1);
    assert!(!p.rig.memory.age_dirty());
    p.store(0, 2).unwrap();
    assert!(!p.rig.memory.age_dirty(), "more may be stored");
    assert!(p.rig.memory.age_dirty());
    assert_eq!(p.requests(), [writeback(0, 1)]);
}
