//! Swap: a space that needs more frames than there are, and a pager that keeps what does not fit.
//!
//! The pager of this test remembers of each page only what the test has written there, so that it can keep more than it takes.

use crate::child::RW;
use crate::harness::{Bench, Failure, TestResult, holds, same, tests};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use quire_api::abi::pager::{PagerFlags, PagerRequestKind};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::executor::PagerRequests;
use quire_api::system::system_info;
use quire_api::{Account, AddressSpace, Commit, Error, Executor, MapFlags, Memory, Object, Pager, Rights};

tests!("swap":
    a_space_that_does_not_fit_is_swapped_and_finds_what_it_stored,
);

/// Pages that fit the swap memory.
const SLOTS: u64 = 16_384;
/// Pages of the space.
const PAGES: u64 = 12_000;
/// Frames that are left for them, about.
const LEFT: u64 = 6_000;
/// Where they are.
const BASE: u64 = 0x1000_0000;
/// How long anybody waits for the pager.
const DEADLINE_NS: u64 = 20_000_000_000;

fn a_space_that_does_not_fit_is_swapped_and_finds_what_it_stored(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let (memory, pager) = Pager::create(bench.account, SLOTS * PAGE_SIZE, DEADLINE_NS, PagerFlags::empty())?;
    let account = bench.new_account()?;
    memory.use_for_swap(&bench.hardware, &account)?;
    let requests = executor.pager_requests(pager)?;
    let written = Rc::new(RefCell::new(BTreeMap::new()));
    executor.spawn(keep(bench.account.duplicate(Rights::all())?, memory, requests, Rc::clone(&written)));
    let ballast = take_all_but(bench, LEFT)?;
    let space = AddressSpace::create(&account)?;
    let mut commit = Commit::new();
    commit.map_zero(BASE, PAGES * PAGE_SIZE, RW, MapFlags::empty());
    space.commit(&commit)?;
    executor.block_on(async {
        for page in 0..PAGES {
            store(&executor, &space, page, page + 1).await?;
        }
        holds(system_info()?.swap_used_pages > PAGES - LEFT, "not all fits")?;
        for page in (0..PAGES).chain(0..PAGES / 8) {
            same(load(&executor, &space, page).await?, page + 1)?;
        }
        Ok::<_, Failure>(())
    })??;
    holds(!written.borrow().is_empty(), "something was written")?;
    drop(space);
    drop(ballast);
    // Slots are freed when the next frames are needed; nothing of them is charged any more.
    same(account.info()?.used.frames, 0)?;
    same(system_info()?.swap_used_pages, 0)
}

/// A memory of all frames that are free but for some.
fn take_all_but(bench: &Bench, left: u64) -> Result<Memory, Failure> {
    let pages = system_info()?.free_frames.saturating_sub(left);
    let ballast = Memory::create(bench.account, pages * PAGE_SIZE)?;
    for page in 0..pages {
        ballast.write_all(page * PAGE_SIZE, &[1])?;
    }
    Ok(ballast)
}

async fn store(executor: &Executor, space: &AddressSpace, page: u64, value: u64) -> Result<(), Error> {
    let at = BASE + page * PAGE_SIZE;
    loop {
        match space.write(at, &value.to_le_bytes()) {
            Ok(_) => return Ok(()),
            Err(Error::NotPresent) => executor.fetch(space, at, 8, true)?.await?,
            Err(Error::NoMemory) => executor.sleep_ns(1_000_000).await,
            Err(error) => return Err(error),
        }
    }
}

async fn load(executor: &Executor, space: &AddressSpace, page: u64) -> Result<u64, Error> {
    let at = BASE + page * PAGE_SIZE;
    let mut bytes = [0; 8];
    loop {
        match space.read(at, &mut bytes) {
            Ok(_) => return Ok(u64::from_le_bytes(bytes)),
            Err(Error::NotPresent) => match executor.fetch(space, at, 8, false)?.await {
                Ok(()) | Err(Error::NoMemory) => {}
                Err(error) => return Err(error),
            },
            Err(Error::NoMemory) => executor.sleep_ns(1_000_000).await,
            Err(error) => return Err(error),
        }
    }
}

/// The pager: keeps the first word of each page.
async fn keep(
    account: Account,
    memory: Memory,
    mut requests: PagerRequests,
    written: Rc<RefCell<BTreeMap<u64, [u8; 8]>>>,
) {
    while let Ok(request) = requests.next().await {
        let pages = (request.offset..request.offset + request.length).step_by(PAGE_SIZE as usize);
        let done = match PagerRequestKind::from_number(request.kind) {
            Some(PagerRequestKind::Writeback) => pages
                .into_iter()
                .try_for_each(|at| {
                    let mut word = [0; 8];
                    memory.read_exact(at, &mut word)?;
                    written.borrow_mut().insert(at, word);
                    Ok(())
                })
                .and_then(|()| requests.pager().written(request.offset, request.length)),
            Some(PagerRequestKind::Fill) => Memory::create(&account, request.length).and_then(|source| {
                for at in pages {
                    let word = written.borrow().get(&at).copied().unwrap_or_default();
                    source.write_all(at - request.offset, &word)?;
                }
                requests.pager().supply(request.offset, request.length, &source, 0)
            }),
            None => Err(Error::BadArgument),
        };
        if done.is_err() {
            let _ = requests.pager().fail(request.offset, request.length);
        }
    }
}
