//! Threads that make as much as they can of one thing: their account contains them, a program beside them goes on, and when they
//! are killed everything comes back.

use crate::child::{Child, DATA, RW, number, pause};
use crate::harness::{Bench, Failure, TestResult, holds, same, tests};
use alloc::vec::Vec;
use log::info;
use quire_api::abi::Call;
use quire_api::abi::message::{HANDLES, Message as RawMessage, WORDS};
use quire_api::abi::pager::PagerFlags;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::system::AccountLimits;
use quire_api::abi::thread::{ExceptionKind, ThreadFlags};
use quire_api::time::clock_ns;
use quire_api::{
    Account, AddressSpace, ChannelEndpoint, Commit, Error, Event, Handle, HandleTable, MapFlags, Memory, Message,
    Object, Pager, Queue, Rights, Thread, Timer, system,
};
use zerocopy::IntoBytes;

tests!("bomb":
    handles_are_limited_by_the_account_of_their_table,
    messages_to_one_who_never_receives_are_limited,
    messages_that_carry_the_channel_they_wait_on_go_with_their_account,
    objects_of_every_kind_are_limited,
    page_tables_are_limited_however_sparse_the_touches,
    threads_are_limited,
);

/// What a bomb may use, in frames and bytes of kernel memory.
const LIMITS: AccountLimits = AccountLimits { frames: 500, kernel_bytes: 256 << 10 };
/// How long somebody beside a bomb may wait for an answer at most, in ns. The aim is 2 s, and it is about 1 ms.
const MAX_ANSWER_NS: u64 = 2_000_000_000;

/// What the table of handles of the tests may have grown by, in bytes: it does not shrink.
const TABLE_GROWTH: u64 = 32 << 10;

/// An account for a bomb, and what there was before.
struct Site {
    account: Account,
    free_frames: u64,
    kernel_bytes: u64,
}

impl Site {
    fn new(bench: &Bench) -> Result<Self, Failure> {
        let kernel_bytes = bench.account.info()?.used.kernel_bytes;
        let account = bench.account.create_child(&LIMITS)?;
        Ok(Self { account, free_frames: system::system_info()?.free_frames, kernel_bytes })
    }

    /// Somebody beside it, on another account, gets what it needs and is answered.
    fn others_go_on(&self, bench: &Bench) -> TestResult {
        let used = self.account.info()?.used;
        let begin_ns = clock_ns();
        let account = bench.new_account()?;
        let mut child = Child::new(&account)?;
        child.map_zero(DATA, 4 * PAGE_SIZE, RW)?;
        same(child.store(DATA, 5)?, Ok(()))?;
        same(child.call(Call::ClockRead, [0; 6])?.0, 0)?;
        pause()?;
        let took_ns = clock_ns() - begin_ns;
        info!(
            "bomb: {} frames and {} bytes; beside it an answer takes {} us",
            used.frames,
            used.kernel_bytes,
            took_ns / 1000
        );
        holds(took_ns < MAX_ANSWER_NS, "others go on")
    }

    /// Kills all of it; nothing is left.
    fn clear(self, bench: &Bench) -> TestResult {
        self.account.kill()?;
        same(self.account.info()?.used, AccountLimits::default())?;
        let Self { account, free_frames, kernel_bytes } = self;
        drop(account);
        // Our own table may have grown.
        holds(bench.account.info()?.used.kernel_bytes <= kernel_bytes + TABLE_GROWTH, "nothing else is left")?;
        // The kernel's heap may have grown for good.
        holds(system::system_info()?.free_frames + 512 >= free_frames, "all frames are free again")
    }
}

/// Makes things until there is no room for more.
fn until_limited(mut make: impl FnMut() -> Result<(), Error>) -> Result<u64, Failure> {
    let mut made = 0;
    loop {
        match make() {
            Ok(()) => made += 1,
            Err(Error::AccountLimit) => return Ok(made),
            Err(error) => return Err(error.into()),
        }
        holds(made < 1_000_000, "the limit is felt")?;
    }
}

fn handles_are_limited_by_the_account_of_their_table(bench: &Bench) -> TestResult {
    let site = Site::new(bench)?;
    let child = Child::new(&site.account)?;
    let event = Event::create(bench.account)?;
    let made = until_limited(|| child.table.install(&event, Rights::all()).map(drop))?;
    holds(made > 1000, "many handles fit")?;
    site.others_go_on(bench)?;
    // The bomb's own table is the program's, which keeps it: it is emptied with its last thread.
    drop(child);
    site.clear(bench)
}

fn messages_to_one_who_never_receives_are_limited(bench: &Bench) -> TestResult {
    let site = Site::new(bench)?;
    let mut sender = Child::new(&site.account)?;
    sender.map_zero(DATA, PAGE_SIZE, RW)?;
    let message = RawMessage { label: 1, words: [7; WORDS], handles: [Handle::NONE; HANDLES] };
    sender.space.write_all(DATA, message.as_bytes())?;
    let mut receivers = Vec::new();
    // Each channel takes so many; the sender's account pays for all that wait on any.
    let sent = until_limited(|| {
        if receivers.len() > 100 {
            return Err(Error::Full);
        }
        let (near, far) = ChannelEndpoint::pair(bench.account)?;
        let near = sender.table.install(&near, Rights::all())?;
        receivers.push(far);
        loop {
            let status = sender.call(Call::ChannelSend, [number(near), DATA, 0, 0, 0, 0]);
            match status.map(|(status, ..)| Error::from_status(status)) {
                Ok(None) => {}
                Ok(Some(Error::Full)) => return Ok(()),
                Ok(Some(error)) => return Err(error),
                Err(_) => return Err(Error::BadState),
            }
        }
    })?;
    holds(sent >= 2, "several channels are filled")?;
    site.others_go_on(bench)?;
    // Nobody has received anything: the messages go with their channels.
    receivers.clear();
    drop(sender);
    site.clear(bench)
}

/// Makes one object and installs it in the table.
type Maker = fn(&Account, &HandleTable) -> Result<(), Error>;

/// A message that waits holds a handle to the channel on which it waits: nobody else does.
fn messages_that_carry_the_channel_they_wait_on_go_with_their_account(bench: &Bench) -> TestResult {
    let site = Site::new(bench)?;
    let made = until_limited(|| {
        let (near, far) = ChannelEndpoint::pair(&site.account)?;
        let (other_near, other_far) = ChannelEndpoint::pair(&site.account)?;
        // Each channel's ends wait in the other.
        let near_copy = near.duplicate(Rights::all())?;
        near.send(Message::default().with_handle(0, other_far.into_handle()))?;
        other_near.send(Message::default().with_handle(0, far.into_handle()).with_handle(1, near_copy.into_handle()))
    })?;
    holds(made > 10, "several fit")?;
    site.others_go_on(bench)?;
    site.clear(bench)
}

fn objects_of_every_kind_are_limited(bench: &Bench) -> TestResult {
    let site = Site::new(bench)?;
    let account = &site.account;
    let child = Child::new(account)?;
    let mut made = Vec::new();
    let kinds: [Maker; 8] = [
        |account, table| table.install(&Account::create_child(account, &LIMITS)?, Rights::all()).map(drop),
        |account, table| table.install(&AddressSpace::create(account)?, Rights::all()).map(drop),
        |account, table| table.install(&Event::create(account)?, Rights::all()).map(drop),
        |account, table| table.install(&HandleTable::create(account)?, Rights::all()).map(drop),
        |account, table| table.install(&Memory::create(account, 1 << 30)?, Rights::all()).map(drop),
        |account, table| {
            table.install(&Pager::create(account, PAGE_SIZE, 1, PagerFlags::empty())?.1, Rights::all()).map(drop)
        },
        |account, table| table.install(&Queue::create(account, 1, 1)?.0, Rights::all()).map(drop),
        |account, table| table.install(&Timer::create(account)?, Rights::all()).map(drop),
    ];
    for make in kinds {
        let table = HandleTable::create(account)?;
        made.push(until_limited(|| make(account, &table))?);
        site.others_go_on(bench)?;
    }
    info!("bomb: accounts, spaces, events, tables, memories, pagers, queues, timers: {made:?}");
    drop(child);
    site.clear(bench)
}

fn page_tables_are_limited_however_sparse_the_touches(bench: &Bench) -> TestResult {
    const GIB: u64 = 1 << 30;
    let site = Site::new(bench)?;
    let mut child = Child::new(&site.account)?;
    let mut touched = 0;
    // One page in each GiB: each needs a frame, and two tables of its own.
    for at in (1..100_000).map(|index| index * GIB) {
        let mut commit = Commit::new();
        commit.map_zero(at, PAGE_SIZE, RW, MapFlags::empty());
        if let Err(failed) = child.space.commit(&commit) {
            same(Error::from(failed), Error::AccountLimit)?;
            break;
        }
        match child.store(at, 1)? {
            Ok(()) => touched += 1,
            Err((kind, _)) => {
                same(kind, ExceptionKind::NoMemory)?;
                break;
            }
        }
    }
    holds((50..LIMITS.frames).contains(&touched), "tables count as much as pages")?;
    site.others_go_on(bench)?;
    drop(child);
    site.clear(bench)
}

fn threads_are_limited(bench: &Bench) -> TestResult {
    let site = Site::new(bench)?;
    let child = Child::new(&site.account)?;
    let made = until_limited(|| {
        let thread = Thread::create(&site.account, &child.space, &child.table, ThreadFlags::VECTOR)?;
        child.table.install(&thread, Rights::all()).map(drop)
    })?;
    holds(made > 10, "several fit")?;
    site.others_go_on(bench)?;
    drop(child);
    site.clear(bench)
}
