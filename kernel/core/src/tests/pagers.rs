//! Pagers and those who wait for them.

use super::{Program, SCRATCH, World};
use crate::memory::FaultKind;
use crate::thread::{State, Wait};
use quire_abi::pager::{PagerFlags, PagerRequest, PagerRequestKind};
use quire_abi::queue::{Completion, CompletionKind, Header, SUBMISSIONS_OFFSET, Submission, SubmissionKind};
use quire_abi::space::{MapFlags, MemoryInfo, PAGE_SIZE, Protection, SpaceOp, SpaceOpKind};
use quire_abi::thread::ExceptionKind;
use quire_abi::{Call, Error, Handle};
use std::vec::Vec;

/// Where the managed memory is mapped.
const MAPPED: u64 = 0x40_0000;
/// Where a program has its queue's rings.
const RINGS: u64 = 0x50_0000;
/// How many pages the managed memory has.
pub(super) const PAGES: u64 = 8;
const ENTRIES: u32 = 8;
pub(super) const DEADLINE: u64 = 1_000_000;
const KEY: u64 = 77;

/// A pager with a queue, and a client with its memory.
pub(super) struct Paged {
    pub(super) w: World,
    pub(super) server: Program,
    pub(super) client: Program,
    /// The server's handles.
    pub(super) pager: u64,
    queue: u64,
    pub(super) memory: u64,
    /// The client's handle.
    shared: u64,
    taken: u32,
}

impl Paged {
    pub(super) fn new(flags: PagerFlags) -> Self {
        let mut w = World::new();
        let server = w.program();
        let client = w.program();
        let arguments = [server.account_handle, PAGES * PAGE_SIZE, DEADLINE, flags.bits().into()];
        let (memory, pager) = w.call(&server, Call::MemoryCreateManaged, &arguments).pair();
        let shared = w.share(&server, &client, memory);
        map(&mut w, &client, shared, MAPPED, PAGES * PAGE_SIZE);
        let sizes = [server.account_handle, ENTRIES.into(), ENTRIES.into()];
        let (queue, rings) = w.call(&server, Call::QueueCreate, &sizes).pair();
        map(&mut w, &server, rings, RINGS, PAGE_SIZE);
        let mut paged = Self { w, server, client, pager, queue, memory, shared, taken: 0 };
        paged.bind().ok();
        paged
    }

    fn bind(&mut self) -> super::Answer {
        self.w.call(&self.server, Call::ObjectBind, &[self.pager, self.queue, KEY])
    }

    /// What completed since the last time.
    fn completions(&mut self) -> Vec<Completion> {
        let header: Header = self.w.peek(&self.server, RINGS);
        let start = RINGS + u64::from(header.completions_offset);
        let found = (self.taken..header.completion_tail)
            .map(|at| self.w.peek(&self.server, start + u64::from(at % ENTRIES) * 128))
            .collect();
        self.taken = header.completion_tail;
        let head = RINGS + core::mem::offset_of!(Header, completion_head) as u64;
        self.w.poke(&self.server, head, &self.taken);
        found
    }

    fn submit(&mut self, kind: SubmissionKind, target: u64, offset: u64, words: [u64; 2]) {
        let mut submission = Submission {
            key: KEY + 1,
            kind: kind as u32,
            target: Handle(target as u32),
            label: offset,
            ..Submission::default()
        };
        submission.words[..2].copy_from_slice(&words);
        let header: Header = self.w.peek(&self.server, RINGS);
        let at = RINGS + SUBMISSIONS_OFFSET + u64::from(header.submission_tail % ENTRIES) * 128;
        self.w.poke(&self.server, at, &submission);
        let tail = RINGS + core::mem::offset_of!(Header, submission_tail) as u64;
        self.w.poke(&self.server, tail, &(header.submission_tail + 1));
        self.w.call(&self.server, Call::QueueWait, &[self.queue, 0]);
    }

    pub(super) fn requests(&mut self) -> Vec<(u32, u64, u64)> {
        let count = self.w.call(&self.server, Call::PagerReceive, &[self.pager, SCRATCH, 8]).ok();
        let record = |w: &mut World, at| w.peek::<PagerRequest>(&self.server, SCRATCH + at * 32);
        let requests: Vec<_> = (0..count).map(|at| record(&mut self.w, at)).collect();
        requests.iter().map(|r| (r.kind, r.offset / PAGE_SIZE, (r.offset + r.length) / PAGE_SIZE)).collect()
    }

    fn supply(&mut self, page: u64, value: u8) {
        let source = self.w.call(&self.server, Call::MemoryCreate, &[self.server.account_handle, PAGE_SIZE, 0]).ok();
        self.w.poke(&self.server, SCRATCH, &[value; 64]);
        self.w.call(&self.server, Call::MemoryWrite, &[source, 0, SCRATCH, 64]).ok();
        let arguments = [self.pager, page * PAGE_SIZE, PAGE_SIZE, source, 0];
        assert_eq!(self.w.call(&self.server, Call::PagerSupply, &arguments).ok(), PAGE_SIZE);
        self.w.call(&self.server, Call::HandleClose, &[source]).ok();
    }

    /// The client's buffer for a call lies in the managed memory.
    fn client_reads_info(&mut self, page: u64) {
        let arguments = [self.shared, MAPPED + page * PAGE_SIZE, 0];
        self.w.call(&self.client, Call::MemoryInfo, &arguments);
    }

    fn client_waits(&self) -> bool {
        matches!(self.w.state(self.client.thread), Some(State::Waiting(Wait::Page(_))))
    }

    /// Repeats the call of the client, as its processor does when it goes on.
    fn client_repeats(&mut self) -> super::Answer {
        let client = self.client;
        self.w.run(client.thread);
        self.w.kernel.dispatch(&mut self.w.m, 0);
        self.w.kernel.check_invariants(&[]);
        self.w.answer(&client)
    }

    pub(super) fn pass_time(&mut self, ns: u64) {
        self.w.m.now_ns += ns;
        self.w.kernel.on_tick(&mut self.w.m, 0);
        self.w.kernel.check_invariants(&[]);
    }
}

fn map(w: &mut World, program: &Program, memory: u64, address: u64, length: u64) {
    let op = SpaceOp {
        kind: SpaceOpKind::Map as u32,
        protection: (Protection::READ | Protection::WRITE).bits(),
        flags: MapFlags::empty().bits(),
        object: Handle(memory as u32),
        address,
        length,
        offset: 0,
        reserved: 0,
    };
    w.poke(program, SCRATCH, &op);
    w.call(program, Call::SpaceCommit, &[program.space_handle, SCRATCH, 1]).ok();
}

#[test]
fn a_call_waits_for_the_page_of_its_buffer_and_is_made_again() {
    let mut p = Paged::new(PagerFlags::empty());
    let rip = p.w.registers(p.client.thread).rip;
    p.client_reads_info(2);
    assert!(p.client_waits());
    assert_eq!(p.w.registers(p.client.thread).rip, rip - 2, "at the `syscall` again");
    assert_eq!(
        p.completions().iter().map(|c| (c.kind, c.key)).collect::<Vec<_>>(),
        [(CompletionKind::PagerRequests as u32, KEY)]
    );
    assert_eq!(p.requests(), [(PagerRequestKind::Fill as u32, 2, 3)]);
    p.supply(2, 0);
    assert!(!p.client_waits());
    p.client_repeats().ok();
    let info: MemoryInfo = p.w.peek(&p.client, MAPPED + 2 * PAGE_SIZE);
    assert_eq!(info.size, PAGES * PAGE_SIZE);
    assert_eq!(info.deadline_ns, DEADLINE);
    assert_eq!(info.pager, (PagerFlags::MANAGED | PagerFlags::PRESENT).bits());
}

#[test]
fn a_pager_that_fails_or_is_slow_is_told_to_whoever_waits() {
    let mut p = Paged::new(PagerFlags::empty());
    p.client_reads_info(1);
    p.requests();
    p.w.call(&p.server.clone(), Call::PagerFail, &[p.pager, PAGE_SIZE, PAGE_SIZE]).ok();
    assert_eq!(p.client_repeats().error(), Some(Error::BadAddress));
    // The next attempt waits again, but no longer than the deadline.
    p.client_reads_info(1);
    assert!(p.client_waits());
    p.pass_time(DEADLINE - 1);
    assert!(p.client_waits());
    p.pass_time(2);
    assert_eq!(p.client_repeats().error(), Some(Error::BadAddress));
}

#[test]
fn a_pager_that_dies_lets_nobody_wait() {
    let mut p = Paged::new(PagerFlags::empty());
    p.client_reads_info(1);
    assert!(p.client_waits());
    p.w.call(&p.server.clone(), Call::HandleClose, &[p.pager]).ok();
    assert_eq!(p.client_repeats().error(), Some(Error::BadAddress));
    p.client_reads_info(1);
    assert!(!p.client_waits());
    let info = p.w.call(&p.client.clone(), Call::MemoryInfo, &[p.shared, SCRATCH, 0]);
    info.ok();
    assert_eq!(p.w.peek::<MemoryInfo>(&p.client, SCRATCH).pager, PagerFlags::MANAGED.bits());
}

#[test]
fn a_successor_takes_over_the_requests() {
    let mut p = Paged::new(PagerFlags::AWAIT_SUCCESSOR);
    p.client_reads_info(1);
    assert_eq!(p.requests().len(), 1);
    p.w.call(&p.server.clone(), Call::ObjectUnbind, &[p.pager]).ok();
    assert!(p.client_waits(), "somebody may come");
    p.completions();
    p.bind().ok();
    assert_eq!(p.completions().len(), 1);
    assert_eq!(p.requests(), [(PagerRequestKind::Fill as u32, 1, 2)]);
    p.supply(1, 0);
    p.client_repeats().ok();
}

#[test]
fn the_end_of_the_queue_is_the_end_of_the_pager() {
    let mut p = Paged::new(PagerFlags::empty());
    p.client_reads_info(1);
    assert!(p.client_waits());
    p.w.call(&p.server.clone(), Call::HandleClose, &[p.queue]).ok();
    assert_eq!(p.client_repeats().error(), Some(Error::BadAddress));
}

#[test]
fn who_waits_for_a_page_can_be_killed_and_suspended() {
    let mut p = Paged::new(PagerFlags::empty());
    p.client_reads_info(1);
    let thread = p.w.share(&p.client, &p.server, p.client.thread_handle);
    p.w.call(&p.server.clone(), Call::ThreadSuspend, &[thread]).ok();
    p.requests();
    p.supply(1, 0);
    assert_eq!(p.w.state(p.client.thread), Some(State::Stopped));
    p.w.call(&p.server.clone(), Call::ThreadResume, &[thread]).ok();
    p.client_repeats().ok();
    p.client_reads_info(3);
    assert!(p.client_waits());
    p.w.call(&p.server.clone(), Call::ThreadKill, &[thread]).ok();
    p.supply(3, 0);
    assert_eq!(p.w.state(p.client.thread), Some(State::Dead));
}

#[test]
fn what_is_named_by_a_handle_is_not_waited_for_but_can_be_fetched() {
    let mut p = Paged::new(PagerFlags::empty());
    let server = p.server;
    let read = [p.memory, PAGE_SIZE, SCRATCH, 8];
    assert_eq!(p.w.call(&server, Call::MemoryRead, &read).error(), Some(Error::NotPresent));
    p.submit(SubmissionKind::Fetch, p.memory, PAGE_SIZE, [2 * PAGE_SIZE, 0]);
    assert_eq!(p.requests(), [(PagerRequestKind::Fill as u32, 1, 3)]);
    p.completions();
    p.supply(2, 0x22);
    assert_eq!(p.completions().len(), 0, "the first page is not there");
    p.supply(1, 0x11);
    let done = p.completions();
    assert_eq!(
        done.iter().map(|c| (c.kind, c.key, c.status)).collect::<Vec<_>>(),
        [(CompletionKind::Fetched as u32, KEY + 1, 0)]
    );
    assert_eq!(p.w.call(&server, Call::MemoryRead, &read).ok(), 8);
    assert_eq!(p.w.peek::<[u8; 8]>(&server, SCRATCH), [0x11; 8]);
    // Of another's space as well.
    let space = p.w.share(&p.client, &server, p.client.space_handle);
    p.submit(SubmissionKind::Fetch, space, MAPPED + 5 * PAGE_SIZE, [1, 1]);
    p.w.call(&server, Call::PagerFail, &[p.pager, 0, PAGES * PAGE_SIZE]).ok();
    let failed = p.completions();
    assert_eq!(failed.last().map(|c| c.status), Some(Error::PagerFailed as u64));
    p.submit(SubmissionKind::Fetch, space, SCRATCH - PAGE_SIZE, [1, 0]);
    assert_eq!(p.completions().last().map(|c| c.status), Some(Error::RemoteFault as u64));
}

#[test]
fn a_fetch_ends_with_its_deadline() {
    let mut p = Paged::new(PagerFlags::empty());
    p.submit(SubmissionKind::Fetch, p.memory, 0, [PAGE_SIZE, 0]);
    p.completions();
    p.pass_time(DEADLINE + 1);
    assert_eq!(p.completions().last().map(|c| c.status), Some(Error::TimedOut as u64));
}

#[test]
fn a_flush_ends_when_the_pager_has_what_was_stored_before_it() {
    let mut p = Paged::new(PagerFlags::empty());
    let server = p.server;
    (0..3).for_each(|page| p.supply(page, 1));
    let store = |p: &mut Paged, page: u64| {
        p.w.call(&server, Call::MemoryWrite, &[p.memory, page * PAGE_SIZE, SCRATCH, 8]).ok();
    };
    store(&mut p, 0);
    store(&mut p, 2);
    p.submit(SubmissionKind::Flush, p.memory, 0, [PAGES * PAGE_SIZE, 0]);
    let all = [(PagerRequestKind::Writeback as u32, 0, 1), (PagerRequestKind::Writeback as u32, 2, 3)];
    assert_eq!(p.requests(), all);
    p.completions();
    // A store that comes too late for the flush does not keep it.
    store(&mut p, 0);
    p.w.call(&server, Call::PagerWritten, &[p.pager, 0, PAGE_SIZE]).ok();
    assert_eq!(p.completions().len(), 0);
    p.w.call(&server, Call::PagerWritten, &[p.pager, 2 * PAGE_SIZE, PAGE_SIZE]).ok();
    let flushed = |c: &Completion| (c.kind == CompletionKind::Flushed as u32).then_some(c.status);
    assert_eq!(p.completions().iter().filter_map(flushed).collect::<Vec<_>>(), [0]);
    // But one before it does, even if a writeback is under way.
    p.submit(SubmissionKind::Flush, p.memory, 0, [PAGES * PAGE_SIZE, 0]);
    assert_eq!(p.requests(), [(PagerRequestKind::Writeback as u32, 0, 1)]);
    store(&mut p, 0);
    p.submit(SubmissionKind::Flush, p.memory, 0, [PAGE_SIZE, 0]);
    p.w.call(&server, Call::PagerWritten, &[p.pager, 0, PAGE_SIZE]).ok();
    assert_eq!(p.completions().iter().filter_map(flushed).collect::<Vec<_>>(), [0], "the first, not the second");
    assert_eq!(p.requests(), [(PagerRequestKind::Writeback as u32, 0, 1)]);
    p.w.call(&server, Call::PagerFail, &[p.pager, 0, PAGE_SIZE]).ok();
    assert_eq!(p.completions().iter().filter_map(flushed).collect::<Vec<_>>(), [Error::PagerFailed as u64]);
}

#[test]
fn everything_goes_with_the_queue() {
    let mut p = Paged::new(PagerFlags::AWAIT_SUCCESSOR);
    p.submit(SubmissionKind::Fetch, p.memory, 0, [PAGE_SIZE, 0]);
    p.w.call(&p.server.clone(), Call::HandleClose, &[p.queue]).ok();
    assert_eq!(p.w.kernel.errands.len(), 0);
    p.w.kernel.check_invariants(&[]);
}

#[test]
fn who_waits_for_memory_waits_no_longer_than_for_a_page() {
    let mut p = Paged::new(PagerFlags::empty());
    let server = p.server;
    p.supply(0, 1);
    p.w.call(&server, Call::MemoryWrite, &[p.memory, 0, SCRATCH, 8]).ok();
    while p.w.kernel.memory.allocate_for_kernel(&mut p.w.m, 1).is_ok() {}
    let fault = |p: &mut Paged| {
        p.w.run(p.client.thread);
        p.w.kernel.page_fault(&mut p.w.m, p.client.thread, SCRATCH + 9 * PAGE_SIZE, FaultKind::Write)
    };
    assert_eq!(fault(&mut p), Ok(()));
    assert!(p.client_waits(), "what is dirty may be written back");
    p.pass_time(DEADLINE + 1);
    assert!(!p.client_waits());
    assert_eq!(fault(&mut p), Err(ExceptionKind::NoMemory), "it was not");
}
