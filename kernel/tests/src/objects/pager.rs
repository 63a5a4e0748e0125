//! Managed memories and their pagers: every end that a wait for a page can have, through a fault and through a call.

use crate::child::{Child, DATA, Piece, RW, call, pause};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use quire_api::abi::Call;
use quire_api::abi::pager::{PagerFlags, PagerRequest, PagerRequestKind};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::ExceptionKind;
use quire_api::executor::PagerRequests;
use quire_api::system::system_info;
use quire_api::time::clock_ns;
use quire_api::{Account, Error, Executor, Memory, Object, Pager, Queue, Rights};

tests!("pager":
    a_fault_is_a_request_and_ends_with_the_page,
    supplied_frames_are_moved,
    a_failure_is_an_exception_for_who_faults_and_an_error_for_who_calls,
    a_pager_that_hangs_costs_the_deadline,
    a_pager_that_closes_lets_everybody_go,
    a_pager_whose_queue_ends_lets_everybody_go_unless_a_successor_is_awaited,
    a_successor_is_asked_again,
    who_waits_for_a_page_dies_when_it_is_killed,
    stores_come_back_through_writeback,
    a_store_during_writeback_is_written_again,
    a_fetch_brings_pages_without_waiting_in_the_kernel,
    a_flush_waits_for_the_pager_or_its_failure,
    what_is_invalidated_is_asked_for_again,
    a_memory_without_a_pager_keeps_what_it_has,
    more_pages_than_frames_pass_through,
    what_is_dirty_is_written_back_in_time,
    accounts_are_where_they_were_afterwards,
);

/// How large the managed memories are.
const PAGES: u64 = 16;
const LEN: u64 = PAGES * PAGE_SIZE;
/// Long enough for anything that ends well.
const PATIENT_NS: u64 = 20_000_000_000;
/// Where the pager is told.
const KEY: u64 = 4711;

/// A pager, and a child that has its memory mapped at [`DATA`].
struct Paged {
    memory: Memory,
    pager: Pager,
    queue: Option<Queue>,
    child: Child,
}

impl Paged {
    fn new(bench: &Bench, deadline_ns: u64, flags: PagerFlags) -> Result<Self, Failure> {
        let (memory, pager) = Pager::create(bench.account, LEN, deadline_ns, flags)?;
        let queue = Queue::create(bench.account, 8, 8)?.0;
        queue.bind(&pager, KEY)?;
        let child = Child::new(bench.account)?;
        child.map(&memory, DATA, RW)?;
        Ok(Self { memory, pager, queue: Some(queue), child })
    }

    /// The next request: its kind, first page, and how many pages.
    fn request(&self) -> Result<(PagerRequestKind, u64, u64), Failure> {
        let deadline_ns = in_ms(5_000);
        while clock_ns() < deadline_ns {
            let mut requests = [PagerRequest::default(); 1];
            if self.pager.receive(&mut requests)? == 1 {
                let [PagerRequest { kind, offset, length, .. }] = requests;
                let kind = PagerRequestKind::from_number(kind).ok_or(Error::BadArgument)?;
                return Ok((kind, offset / PAGE_SIZE, length / PAGE_SIZE));
            }
            pause()?;
        }
        Err(Error::TimedOut.into())
    }

    fn supply(&self, bench: &Bench, page: u64, value: u64) -> TestResult {
        let source = Memory::create(bench.account, PAGE_SIZE)?;
        source.write_all(0, &value.to_le_bytes())?;
        self.pager.supply(page * PAGE_SIZE, PAGE_SIZE, &source, 0)?;
        Ok(())
    }

    /// Lets the child load from a page, and has nobody answer yet.
    fn begin_load(&mut self, page: u64) -> TestResult {
        self.child.begin(&Piece::Load.at(at(page), 0))
    }

    /// The value that the child's load found, or how it ended otherwise.
    fn loaded(&mut self) -> Result<Result<u64, ExceptionKind>, Failure> {
        let stop = self.child.wait()?;
        let kind = stop.exception.kind;
        Ok(if kind == ExceptionKind::Breakpoint { Ok(stop.registers.rax) } else { Err(kind) })
    }

    /// Lets the child make a call that reads from a page of the memory: its name, so to speak.
    fn begin_call(&mut self, page: u64) -> TestResult {
        let thread = self.child.give(&self.child.thread)?;
        self.child.begin(&call(Call::ThreadSetName, [thread, at(page), 8, 0, 0, 0]))
    }

    fn called(&mut self) -> Result<Option<Error>, Failure> {
        Ok(Error::from_status(self.child.wait()?.registers.rax))
    }
}

fn at(page: u64) -> u64 {
    DATA + page * PAGE_SIZE
}

fn a_fault_is_a_request_and_ends_with_the_page(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.begin_load(3)?;
    same(paged.request()?, (PagerRequestKind::Fill, 3, 1))?;
    paged.child.until_waiting()?;
    paged.supply(bench, 3, 0x33)?;
    same(paged.loaded()?, Ok(0x33))?;
    paged.begin_call(4)?;
    same(paged.request()?, (PagerRequestKind::Fill, 4, 1))?;
    paged.supply(bench, 4, u64::from_le_bytes(*b"somebody"))?;
    same(paged.called()?, None)
}

fn supplied_frames_are_moved(bench: &Bench) -> TestResult {
    let paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    let own = bench.new_account()?;
    let source = Memory::create(&own, 4 * PAGE_SIZE)?;
    (0..4).try_for_each(|page| source.write_all(page * PAGE_SIZE, &[7; 16]))?;
    let before = bench.account.info()?.used.frames;
    same(own.info()?.used.frames, 4)?;
    paged.pager.supply(0, 4 * PAGE_SIZE, &source, 0)?;
    same(own.info()?.used.frames, 0)?;
    same(bench.account.info()?.used.frames, before)?;
    same(source.info()?.resident_pages, 0)?;
    same(paged.memory.info()?.resident_pages, 4)
}

fn a_failure_is_an_exception_for_who_faults_and_an_error_for_who_calls(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.begin_load(1)?;
    paged.request()?;
    paged.pager.fail(PAGE_SIZE, PAGE_SIZE)?;
    same(paged.loaded()?, Err(ExceptionKind::NoData))?;
    paged.begin_call(1)?;
    paged.request()?;
    paged.pager.fail(0, LEN)?;
    same(paged.called()?, Some(Error::BadAddress))?;
    // A failure is not for ever.
    paged.begin_load(1)?;
    paged.request()?;
    paged.supply(bench, 1, 5)?;
    same(paged.loaded()?, Ok(5))
}

fn a_pager_that_hangs_costs_the_deadline(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, 20_000_000, PagerFlags::empty())?;
    paged.begin_load(1)?;
    same(paged.loaded()?, Err(ExceptionKind::NoData))?;
    paged.begin_call(2)?;
    same(paged.called()?, Some(Error::BadAddress))?;
    // What comes late is not lost.
    paged.supply(bench, 1, 9)?;
    paged.begin_load(1)?;
    same(paged.loaded()?, Ok(9))
}

fn a_pager_that_closes_lets_everybody_go(bench: &Bench) -> TestResult {
    for flags in [PagerFlags::empty(), PagerFlags::AWAIT_SUCCESSOR] {
        let Paged { pager, queue, mut child, memory } = Paged::new(bench, PATIENT_NS, flags)?;
        child.begin(&Piece::Load.at(at(1), 0))?;
        child.until_waiting()?;
        drop(pager);
        same(child.wait()?.exception.kind, ExceptionKind::NoData)?;
        same(child.load(at(2))?, Err((ExceptionKind::NoData, at(2))))?;
        refused(memory.read(0, &mut [0; 8]), Error::PeerClosed)?;
        drop(queue);
    }
    Ok(())
}

fn a_pager_whose_queue_ends_lets_everybody_go_unless_a_successor_is_awaited(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.begin_load(1)?;
    paged.child.until_waiting()?;
    paged.queue = None;
    same(paged.loaded()?, Err(ExceptionKind::NoData))?;
    let mut paged = Paged::new(bench, 50_000_000, PagerFlags::AWAIT_SUCCESSOR)?;
    paged.begin_load(1)?;
    paged.child.until_waiting()?;
    paged.queue = None;
    paged.child.until_waiting()?;
    // Nobody came.
    same(paged.loaded()?, Err(ExceptionKind::NoData))
}

fn a_successor_is_asked_again(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::AWAIT_SUCCESSOR)?;
    paged.supply(bench, 0, 1)?;
    same(paged.child.store(DATA, 2)?, Ok(()))?;
    let executor = Executor::new(bench.account)?;
    let flush = executor.write_back(&paged.memory, 0, LEN)?;
    executor.flush()?;
    same(paged.request()?, (PagerRequestKind::Writeback, 0, 1))?;
    paged.begin_load(5)?;
    same(paged.request()?, (PagerRequestKind::Fill, 5, 1))?;
    // The first pager dies in the middle of both.
    paged.queue = Some(Queue::create(bench.account, 8, 8)?.0);
    if let Some(queue) = &paged.queue {
        queue.bind(&paged.pager, KEY)?;
    }
    same(paged.request()?, (PagerRequestKind::Fill, 5, 1))?;
    same(paged.request()?, (PagerRequestKind::Writeback, 0, 1))?;
    let mut written = [0; 8];
    paged.memory.read_exact(0, &mut written)?;
    same(u64::from_le_bytes(written), 2)?;
    paged.pager.written(0, PAGE_SIZE)?;
    paged.supply(bench, 5, 55)?;
    same(paged.loaded()?, Ok(55))?;
    executor.block_on(flush)??;
    Ok(())
}

fn who_waits_for_a_page_dies_when_it_is_killed(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, u64::MAX, PagerFlags::AWAIT_SUCCESSOR)?;
    paged.begin_load(1)?;
    paged.child.until_waiting()?;
    paged.child.thread.kill()?;
    crate::child::until(&paged.child.thread, quire_api::abi::thread::ThreadState::Dead)?;
    paged.request()?;
    paged.supply(bench, 1, 1)
}

fn stores_come_back_through_writeback(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    (0..4).try_for_each(|page| paged.supply(bench, page, page))?;
    same(paged.child.store(at(1), 0x11)?, Ok(()))?;
    same(paged.child.store(at(2), 0x22)?, Ok(()))?;
    same(paged.memory.info()?.unwritten_pages, 2)?;
    let executor = Executor::new(bench.account)?;
    let flush = executor.write_back(&paged.memory, 0, LEN)?;
    executor.flush()?;
    same(paged.request()?, (PagerRequestKind::Writeback, 1, 2))?;
    paged.pager.written(PAGE_SIZE, 2 * PAGE_SIZE)?;
    executor.block_on(flush)??;
    same(paged.memory.info()?.unwritten_pages, 0)
}

fn a_store_during_writeback_is_written_again(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.supply(bench, 0, 0)?;
    let executor = Executor::new(bench.account)?;
    for round in 1..4 {
        same(paged.child.store(DATA, round)?, Ok(()))?;
        let flush = executor.write_back(&paged.memory, 0, LEN)?;
        executor.flush()?;
        same(paged.request()?, (PagerRequestKind::Writeback, 0, 1))?;
        same(paged.child.store(DATA, 100 + round)?, Ok(()))?;
        paged.pager.written(0, PAGE_SIZE)?;
        executor.block_on(flush)??;
        same(paged.memory.info()?.unwritten_pages, 1)?;
    }
    Ok(())
}

fn a_fetch_brings_pages_without_waiting_in_the_kernel(bench: &Bench) -> TestResult {
    let paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    refused(paged.memory.read(0, &mut [0; 8]), Error::NotPresent)?;
    let executor = Executor::new(bench.account)?;
    let fetch = executor.fetch(&paged.memory, 0, 3 * PAGE_SIZE, false)?;
    executor.flush()?;
    same(paged.request()?, (PagerRequestKind::Fill, 0, 3))?;
    (0..3).try_for_each(|page| paged.supply(bench, page, 10 + page))?;
    executor.block_on(fetch)??;
    let mut bytes = [0; 8];
    paged.memory.read_exact(2 * PAGE_SIZE, &mut bytes)?;
    same(u64::from_le_bytes(bytes), 12)?;
    // Through somebody's address space, to be written.
    let fetch = executor.fetch(&paged.child.space, at(7), 8, true)?;
    executor.flush()?;
    same(paged.request()?, (PagerRequestKind::Fill, 7, 1))?;
    paged.supply(bench, 7, 0)?;
    executor.block_on(fetch)??;
    same(paged.child.space.write(at(7), &[1; 8])?, 8)?;
    refused(executor.block_on(executor.fetch(&paged.memory, LEN, 8, false)?)?, Error::OutOfRange)?;
    refused(executor.block_on(executor.fetch(&paged.child.space, 0x7000_0000, 8, false)?)?, Error::RemoteFault)
}

fn a_flush_waits_for_the_pager_or_its_failure(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, 50_000_000, PagerFlags::empty())?;
    let executor = Executor::new(bench.account)?;
    // Nothing to write is written at once.
    executor.block_on(executor.write_back(&paged.memory, 0, LEN)?)??;
    paged.supply(bench, 0, 0)?;
    same(paged.child.store(DATA, 1)?, Ok(()))?;
    let flush = executor.write_back(&paged.memory, 0, LEN)?;
    executor.flush()?;
    paged.request()?;
    paged.pager.fail(0, PAGE_SIZE)?;
    refused(executor.block_on(flush)?, Error::PagerFailed)?;
    same(paged.memory.info()?.unwritten_pages, 1)?;
    refused(executor.block_on(executor.write_back(&paged.memory, 0, LEN)?)?, Error::TimedOut)
}

fn what_is_invalidated_is_asked_for_again(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.supply(bench, 0, 1)?;
    same(paged.child.load(DATA)?, Ok(1))?;
    paged.pager.invalidate(0, LEN)?;
    paged.begin_load(0)?;
    same(paged.request()?, (PagerRequestKind::Fill, 0, 1))?;
    paged.supply(bench, 0, 2)?;
    same(paged.loaded()?, Ok(2))
}

fn a_memory_without_a_pager_keeps_what_it_has(bench: &Bench) -> TestResult {
    let paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.supply(bench, 0, 8)?;
    let Paged { pager, queue, mut child, memory } = paged;
    drop((pager, queue));
    same(child.load(DATA)?, Ok(8))?;
    same(child.store(DATA, 9)?, Ok(()))?;
    let mut bytes = [0; 8];
    memory.read_exact(0, &mut bytes)?;
    same(u64::from_le_bytes(bytes), 9)
}

/// Reads and changes a file that is larger than the machine, a part of it again and again.
fn more_pages_than_frames_pass_through(bench: &Bench) -> TestResult {
    const STEP: u64 = 64;
    let frames = system_info()?.total_frames;
    let pages = (frames + frames / 4) / STEP * STEP;
    let (memory, pager) = Pager::create(bench.account, pages * PAGE_SIZE, PATIENT_NS, PagerFlags::empty())?;
    let executor = Executor::new(bench.account)?;
    let requests = executor.pager_requests(pager)?;
    executor.spawn(serve_stamps(bench.account.duplicate(Rights::all())?, requests));
    let end = executor.block_on(async {
        let mut stamp = [0; 8];
        for page in (0..pages).step_by(STEP as usize) {
            executor.fetch(&memory, page * PAGE_SIZE, STEP * PAGE_SIZE, false)?.await?;
            memory.read_exact(page * PAGE_SIZE, &mut stamp)?;
            if u64::from_le_bytes(stamp) != page {
                return Ok::<_, Error>(Some(page));
            }
        }
        Ok(None)
    })??;
    same(end, None)?;
    holds(system_info()?.free_frames > frames / 128, "some frames are kept free")?;
    executor.cancel_all();
    Ok(())
}

/// Fills each page with its number.
async fn serve_stamps(account: Account, mut requests: PagerRequests) {
    while let Ok(request) = requests.next().await {
        let filled = Memory::create(&account, request.length).and_then(|source| {
            for page in 0..request.length / PAGE_SIZE {
                let stamp = request.offset / PAGE_SIZE + page;
                source.write_all(page * PAGE_SIZE, &stamp.to_le_bytes())?;
            }
            requests.pager().supply(request.offset, request.length, &source, 0)
        });
        if filled.is_err() {
            let _ = requests.pager().fail(request.offset, request.length);
        }
    }
}

fn what_is_dirty_is_written_back_in_time(bench: &Bench) -> TestResult {
    let mut paged = Paged::new(bench, PATIENT_NS, PagerFlags::empty())?;
    paged.supply(bench, 6, 0)?;
    same(paged.child.store(at(6), 1)?, Ok(()))?;
    same(paged.request()?, (PagerRequestKind::Writeback, 6, 1))?;
    Ok(paged.pager.written(6 * PAGE_SIZE, PAGE_SIZE)?)
}

fn accounts_are_where_they_were_afterwards(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let before = account.info()?.used;
    {
        let (memory, pager) = Pager::create(&account, LEN, PATIENT_NS, PagerFlags::empty())?;
        let executor = Executor::new(&account)?;
        let mut requests = executor.pager_requests(pager)?;
        let fetch = executor.fetch(&memory, 0, LEN, false)?;
        let served = executor.block_on(async {
            let request = requests.next().await?;
            requests.pager().supply_zeros(request.offset, request.length)
        })?;
        served?;
        executor.block_on(fetch)??;
        same(memory.info()?.resident_pages, PAGES)?;
        holds(account.info()?.used != before, "it costs something")?;
        same(memory.raw() == requests.pager().raw(), false)?;
    }
    same(account.info()?.used, before)
}
