//! A program whose own pages go to a swap memory that it fills itself: it waits for itself, and for nobody else's sake longer than
//! the memory's deadline.

use super::pagers::{DEADLINE, PAGES, Paged};
use super::{FOREVER, SCRATCH, SCRATCH_LEN};
use crate::memory::FaultKind;
use crate::thread::{State, Wait};
use quire_abi::pager::{PagerFlags, PagerRequestKind};
use quire_abi::space::PAGE_SIZE;
use quire_abi::thread::ExceptionKind;
use quire_abi::{Call, Error};
use std::vec::Vec;

/// In so many rounds of the hand a page is no longer used, written, and dropped.
const ROUNDS: u32 = 8;
/// A page of the program's that is not used otherwise.
const LOST: u64 = SCRATCH + SCRATCH_LEN - PAGE_SIZE;

/// What the program stored to has gone to its own pager: the pager has it, and the kernel has nothing any more.
fn swapped() -> Paged {
    let mut p = Paged::new(PagerFlags::empty());
    let server = p.server;
    p.w.call(&server, Call::SwapSet, &[server.hardware, p.memory, server.account_handle]).ok();
    p.w.poke(&server, LOST, &[7u8; 8]);
    // What it needs to hear of its work goes, too, and is used again at once.
    for _ in 0..ROUNDS {
        p.w.kernel.memory.reclaim(&mut p.w.m, PAGES);
        for (kind, start, end) in p.requests() {
            assert_eq!(kind, PagerRequestKind::Writeback as u32);
            p.w.call(&server, Call::PagerWritten, &[p.pager, start * PAGE_SIZE, (end - start) * PAGE_SIZE]).ok();
        }
    }
    assert_ne!(p.w.kernel.memory.swap_info().used_pages, 0);
    p
}

fn waits(p: &Paged) -> bool {
    matches!(p.w.state(p.server.thread), Some(State::Waiting(Wait::Page(_))))
}

fn fault(p: &mut Paged, address: u64) -> Result<(), ExceptionKind> {
    p.w.run(p.server.thread);
    p.w.kernel.page_fault(&mut p.w.m, p.server.thread, address, FaultKind::Read)
}

#[test]
fn who_may_take_for_ever_keeps_nobodys_pages() {
    let mut p = Paged::new(PagerFlags::empty());
    let server = p.server;
    let arguments = [server.account_handle, PAGES * PAGE_SIZE, FOREVER, 0];
    let (memory, _) = p.w.call(&server, Call::MemoryCreateManaged, &arguments).pair();
    let set = [server.hardware, memory, server.account_handle];
    assert_eq!(p.w.call(&server, Call::SwapSet, &set).error(), Some(Error::BadState));
    p.w.call(&server, Call::HandleClose, &[p.pager]).ok();
    let set = [server.hardware, p.memory, server.account_handle];
    assert_eq!(p.w.call(&server, Call::SwapSet, &set).error(), Some(Error::BadState), "nor who is gone");
}

#[test]
fn its_fault_ends_with_the_deadline() {
    let mut p = swapped();
    assert_eq!(fault(&mut p, LOST), Ok(()));
    assert!(waits(&p));
    p.pass_time(DEADLINE + 1);
    assert!(!waits(&p));
    assert_eq!(fault(&mut p, LOST), Err(ExceptionKind::NoData));
    // It can try again, and wait again.
    assert_eq!(fault(&mut p, LOST), Ok(()));
    assert!(waits(&p));
    p.w.kernel.check_invariants(&[]);
}

#[test]
fn its_call_with_a_buffer_there_ends_with_the_deadline() {
    let mut p = swapped();
    let server = p.server;
    p.w.call(&server, Call::PagerReceive, &[p.pager, LOST, 8]);
    assert!(waits(&p), "it asks for what it is to do, in a page that it has yet to bring in");
    p.pass_time(DEADLINE + 1);
    p.w.run(server.thread);
    p.w.kernel.dispatch(&mut p.w.m, 0);
    assert!(!waits(&p));
    assert_eq!(p.w.answer(&server).error(), Some(Error::BadAddress));
    // Elsewhere it hears of its own wish.
    assert_eq!(p.requests().iter().map(|request| request.0).collect::<Vec<_>>(), [PagerRequestKind::Fill as u32]);
}

#[test]
fn without_a_free_frame_it_waits_for_itself_only_so_long() {
    let mut p = swapped();
    let server = p.server;
    p.w.poke(&server, LOST - PAGE_SIZE, &[7u8; 8]);
    p.w.kernel.memory.reclaim(&mut p.w.m, PAGES);
    while p.w.kernel.memory.allocate_for_kernel(&mut p.w.m, 1).is_ok() {}
    let untouched = LOST - 2 * PAGE_SIZE;
    for _ in 0..3 {
        p.w.run(server.thread);
        let first = p.w.kernel.page_fault(&mut p.w.m, server.thread, untouched, FaultKind::Write);
        if first == Ok(()) {
            assert!(waits(&p));
            p.pass_time(DEADLINE + 1);
            assert!(!waits(&p));
            p.w.run(server.thread);
            let second = p.w.kernel.page_fault(&mut p.w.m, server.thread, untouched, FaultKind::Write);
            assert_eq!(second, Err(ExceptionKind::NoMemory));
        } else {
            assert_eq!(first, Err(ExceptionKind::NoMemory));
        }
        p.w.kernel.check_invariants(&[]);
    }
}

#[test]
fn it_can_be_killed_while_it_waits_and_everything_comes_back() {
    let mut p = swapped();
    let server = p.server;
    assert_eq!(fault(&mut p, LOST), Ok(()));
    let client = p.client;
    let thread = p.w.share(&server, &client, server.thread_handle);
    let account = p.w.share(&server, &client, server.account_handle);
    p.w.call(&client, Call::ThreadKill, &[thread]).ok();
    assert_eq!(p.w.state(server.thread), Some(State::Dead));
    p.w.call(&client, Call::AccountKill, &[account]).ok();
    p.w.kernel.check_invariants(&[]);
    p.w.kernel.check_charges(&p.w.m);
}
