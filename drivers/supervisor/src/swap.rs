//! The swap memory: where private pages of Linux programs go when frames run short.

use crate::disks::Disks;
use crate::loader::{Files, Program};
use crate::machine::DRIVER_LIMITS;
use crate::successors::{self, Legacy};
use crate::watch::Watcher;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use block::gpt::Guid;
use driver_protocol::block::{PAGE_BYTES, SECTOR_BYTES};
use driver_protocol::purpose;
use driver_protocol::supervisor::{Disk, DiskFlags};
use log::{error, info};
use quire_api::abi::pager::PagerFlags;
use quire_api::abi::system::AccountLimits;
use quire_api::account::UNLIMITED;
use quire_api::pager::Pager;
use quire_api::{Account, ChannelEndpoint, Error, Rights, rt};
use supervisor::plan::SWAP;

/// What the pager may do with its end of the memory.
const PAGER_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::WAIT).union(Rights::DUPLICATE);
/// What the pager may do with the channel to the partition.
const CHANNEL_RIGHTS: Rights = Rights::SEND.union(Rights::WAIT);
/// The pages of a partition that hold no page of anybody's: the first says what the partition is for.
const HEADER_PAGES: u64 = 1;
/// How often the kernel is asked again to make the slots.
const ATTEMPTS: usize = 4;
/// How long anybody waits for a page, in ns: longer than clients of a disk go on trying when its driver dies.
const DEADLINE_NS: u64 = 60_000_000_000;

/// When the disks are known: lets private pages of the spaces that `account` or one below it pays for go to the first partition that is
/// there for that, if there is one.
pub(crate) fn begin(watcher: &Watcher, files: Files, disks: &Rc<Disks>, account: Account) {
    let (watcher, disks) = (watcher.clone(), disks.clone());
    watcher.executor.clone().spawn(async move {
        disks.ready().await;
        let is_for_swap =
            |disk: &Disk| disk.type_guid == Guid::LINUX_SWAP.0 && !disk.flags.contains(DiskFlags::READ_ONLY);
        let Some(partition) = disks.list().into_iter().find(is_for_swap) else { return };
        let started = match disks.open(partition.name, true).await {
            Ok(channel) => start(&watcher, files, &account, channel, partition.sectors),
            Err(refusal) => Err(format!("the partition can't be opened: {refusal:?}")),
        };
        match started {
            Ok(mebibytes) => info!("{mebibytes} MiB of swap on {}", partition.name.as_bytes().escape_ascii()),
            Err(reason) => error!("no swap: {reason}"),
        }
    });
}

/// Makes the swap memory of a partition of `sectors` sectors behind a `channel`, and starts its pager, again whenever that ends. Gives
/// the size in MiB; an error is a sentence for people.
fn start(
    watcher: &Watcher,
    files: Files,
    account: &Account,
    channel: ChannelEndpoint,
    sectors: u64,
) -> Result<u64, String> {
    let failed = |error: Error| format!("{SWAP}: {}", error.describe());
    let len_bytes = (sectors * SECTOR_BYTES / PAGE_BYTES).saturating_sub(HEADER_PAGES) * PAGE_BYTES;
    let own = rt::account().and_then(|own| own.create_child(&UNLIMITED)).map_err(failed)?;
    let (memory, pager) = Pager::create(&own, len_bytes, DEADLINE_NS, PagerFlags::AWAIT_SUCCESSOR).map_err(failed)?;
    // The kernel needs large blocks for the slots. It makes its heap larger for whom it refused one: for the next attempt.
    let mut made = memory.use_for_swap(&watcher.hardware, account);
    for _ in 0..ATTEMPTS {
        if made != Err(Error::NoMemory) {
            break;
        }
        made = memory.use_for_swap(&watcher.hardware, account);
    }
    made.map_err(failed)?;
    // A page that was swapped stays charged to whose it is: there is room for more now.
    let AccountLimits { frames, kernel_bytes } = account.info().map_err(failed)?.limit;
    let frames = frames.saturating_add(len_bytes / PAGE_BYTES);
    account.set_limits(&AccountLimits { frames, kernel_bytes }).map_err(failed)?;
    let hand_over = Box::new(move |program: &mut Program| {
        program.give(purpose::PAGER, &pager, PAGER_RIGHTS)?;
        program.give(purpose::PAGED, &memory, Rights::READ)?;
        program.give(purpose::BLOCK, &channel, CHANNEL_RIGHTS)
    });
    let (arguments, is_finished) = (String::new(), Rc::default());
    // Nobody asks it for anything but the kernel, which has a deadline.
    let ends = Box::new(Vec::new);
    let legacy =
        Legacy { path: SWAP, limits: DRIVER_LIMITS, hand_over, ends, arguments, is_finished, dies_on_request: false };
    successors::keep_alive(watcher, files, legacy).map(|_| len_bytes >> 20)
}
