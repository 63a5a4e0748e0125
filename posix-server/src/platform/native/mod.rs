//! The machine as it is: the object API.

mod entropy;
mod files;
mod line;
mod memory;
mod pages;
mod paging;
mod reserve;
mod shared;
mod thread;

pub use entropy::EntropyChannel;
pub use files::SupervisorDisks;
pub use line::{Line, shut_down};
pub use memory::{Account, Memory, Space};
pub use pages::PageChannel;
pub use paging::{Absence, Needs, Pager, Postponed, has_needs, note_ticket, take_needs};
pub use reserve::{memory_is_used_up, settle_loans, take_has_lent};
pub use shared::SharedPages;
pub use thread::{Reply, Table, ThreadEvents, UserThread};

use super::MachineMemory;
use crate::errno::{Errno, Result};
use core::future::Future;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_api::abi::system::AccountLimits;
use quire_api::account::UNLIMITED;
use quire_api::executor::Sleep;
use quire_api::raw::time_stamp;
use quire_api::{Clock, Error, system};
use reserve::Share;
use spin::Once;

/// What is the same for the whole server.
struct Machine {
    /// Pays for the files of the boot archive, and for what is the server's own.
    files: quire_api::Account,
    /// Pays, through an account for each, for the contents of file systems; and for shared memory that outlives its makers.
    stored: quire_api::Account,
    /// Pays for pages of files that can be had again: the kernel takes them back when frames run short, so that no limit is
    /// needed, and what is cached is nobody's share.
    cached: quire_api::Account,
    /// Pays, through an account for each, for processes.
    processes: quire_api::Account,
    /// What all of these have together.
    share: Share,
    clock: Clock,
    boot_unix_ns: AtomicU64,
    tsc: (u64, u64, u64),
    vector_state_bytes: usize,
    processors: u32,
    total_frames: u64,
}

static MACHINE: Once<Machine> = Once::new();

/// Frames that files and processes together must leave to the server: 16 MiB, or an eighth of what there is.
const RESERVE_FRAMES: u64 = 4096;

/// The errno for an error of the object API that is not the caller's own mistake.
fn errno(error: Error) -> Errno {
    match error {
        Error::NoMemory | Error::AccountLimit | Error::Full => Errno::ENOMEM,
        Error::RemoteFault | Error::BadAddress => Errno::EFAULT,
        Error::NotFound | Error::Overlap => Errno::ENOMEM,
        Error::PeerClosed => Errno::ESRCH,
        Error::WouldBlock => Errno::EAGAIN,
        Error::TimedOut => Errno::ETIMEDOUT,
        Error::Interrupted => Errno::EINTR,
        Error::OutOfRange
        | Error::Misaligned
        | Error::BadArgument
        | Error::BadState
        | Error::NoSuchCall
        | Error::BadHandle
        | Error::WrongKind
        | Error::MissingRights => Errno::EINVAL,
        Error::Revoked | Error::PagerFailed => Errno::EIO,
        // The call is made again when the page is there.
        Error::NotPresent => Errno::EFAULT,
    }
}

/// The same for what makes a thread or process: no room is a reason to try again later.
fn errno_of_fork(error: Error) -> Errno {
    match errno(error) {
        Errno::ENOMEM => Errno::EAGAIN,
        other => other,
    }
}

/// Divides the server's account between files, processes and the server itself; `cached` pays for what can be taken back. To be
/// called once, first.
pub fn initialize(account: &quire_api::Account, cached: quire_api::Account) -> core::result::Result<(), Error> {
    let info = account.info()?;
    let system = system::system_info()?;
    let frames = info.limit.frames.min(system.free_frames);
    let shared = frames.saturating_sub(RESERVE_FRAMES.max(frames / 8));
    // One limit for both, so that together they leave the server its reserve.
    let share = Share::new(account, shared, system.total_frames)?;
    let guests = share.account();
    // However many file systems are filled, something is left for processes.
    let stored = AccountLimits { frames: shared - shared / 8, kernel_bytes: u64::MAX };
    let machine = Machine {
        files: guests.create_child(&UNLIMITED)?,
        stored: guests.create_child(&stored)?,
        cached,
        processes: guests.create_child(&UNLIMITED)?,
        share,
        clock: Clock::new()?,
        boot_unix_ns: AtomicU64::new(system.boot_unix_ns),
        tsc: (system.tsc_base, system.tsc_multiplier, system.tsc_shift),
        vector_state_bytes: system.vector_state_bytes as usize,
        processors: system.processors,
        total_frames: system.total_frames,
    };
    MACHINE.call_once(|| machine);
    Ok(())
}

fn machine() -> Result<&'static Machine> {
    MACHINE.get().ok_or(Errno::EIO)
}

/// Time since the machine's start, in ns.
pub fn now_ns() -> u64 {
    MACHINE.get().map_or(0, |machine| machine.clock.now_ns())
}

/// A counter for measuring how long something takes: cheaper than the time.
#[inline]
pub fn ticks() -> u64 {
    time_stamp()
}

/// How long so many ticks are, in ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    let (_, multiplier, shift, _) = clock_parameters();
    ((u128::from(ticks) * u128::from(multiplier)) >> (shift & 127)) as u64
}

/// Unix time in ns.
pub fn realtime_ns() -> u64 {
    MACHINE
        .get()
        .map_or(0, |machine| machine.boot_unix_ns.load(Ordering::Relaxed).saturating_add(machine.clock.now_ns()))
}

/// Sets the Unix time of the machine's start, in ns, from which Unix time counts.
pub fn set_boot_unix_ns(boot_unix_ns: u64) {
    if let Some(machine) = MACHINE.get() {
        machine.boot_unix_ns.store(boot_unix_ns, Ordering::Relaxed);
    }
}

/// Fills `buffer` with unpredictable bytes.
pub fn random(buffer: &mut [u8]) {
    // The kernel has entropy as long as it runs; a length it refuses is not asked for.
    let _ = system::entropy(buffer);
}

/// Frames of the machine: total and free.
pub fn frames() -> (u64, u64) {
    let MachineMemory { total, free, .. } = machine_memory();
    (total, free)
}

/// What the machine's memory is used for.
pub fn machine_memory() -> MachineMemory {
    system::system_info().map_or_else(
        |_| MachineMemory::default(),
        |info| MachineMemory {
            total: info.total_frames,
            free: info.free_frames,
            cached: info.cached_frames,
            unwritten: info.unwritten_frames,
            writing: info.writing_frames,
            swap_total: info.swap_total_pages,
            swap_used: info.swap_used_pages,
            swap_kept: info.swap_kept_pages,
            swapped_out: info.swapped_out_pages,
            swapped_in: info.swapped_in_pages,
        },
    )
}

/// Frames of the machine, free or not.
pub fn total_frames() -> u64 {
    MACHINE.get().map_or(0, |machine| machine.total_frames)
}

/// What the server and all its processes use.
pub fn server_usage() -> super::Usage {
    let info = quire_api::rt::account().and_then(quire_api::Account::info).unwrap_or_default();
    let used = |account: &quire_api::Account| account.info().unwrap_or_default().used;
    let (processes, files) = machine().map_or_else(
        |_| Default::default(),
        |machine| (used(&machine.processes), [&machine.files, &machine.stored].map(used)),
    );
    let heap = quire_api::rt::heap_usage();
    super::Usage {
        frames_used: info.used.frames,
        frames_limit: info.limit.frames,
        kernel_bytes_used: info.used.kernel_bytes,
        process_frames: processes.frames,
        file_frames: files.iter().map(|used| used.frames).sum(),
        process_kernel_bytes: processes.kernel_bytes,
        file_kernel_bytes: files.iter().map(|used| used.kernel_bytes).sum(),
        heap_mapped_bytes: heap.mapped_bytes,
        heap_used_bytes: heap.used_bytes,
    }
}

/// Gives memory back that the server had in use for a while and has no more.
pub fn tidy() {
    quire_api::rt::trim_heap();
}

/// The clock's parameters for the shim: counter base, multiplier, shift, Unix time of the start in ns.
pub fn clock_parameters() -> (u64, u64, u64, u64) {
    MACHINE.get().map_or((0, 0, 0, 0), |machine| {
        let (base, multiplier, shift) = machine.tsc;
        (base, multiplier, shift, machine.boot_unix_ns.load(Ordering::Relaxed))
    })
}

/// How many processors run programs.
pub fn processors() -> u32 {
    MACHINE.get().map_or(1, |machine| machine.processors)
}

/// The size of a thread's vector state in bytes.
pub fn vector_state_bytes() -> usize {
    MACHINE.get().map_or(0, |machine| machine.vector_state_bytes)
}

/// Writes a line for the machine's operator.
pub fn log(line: &str) {
    log::warn!("{line}");
}

/// Tasks and deadlines; a clone is the same.
#[derive(Clone)]
pub struct Executor(quire_api::Executor);

impl Executor {
    /// An executor over a queue of the server's.
    pub fn new(executor: &quire_api::Executor) -> Self {
        Self(executor.clone())
    }

    /// Adds a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }

    /// A future that is ready when the clock has reached `deadline_ns` (since the machine's start).
    pub fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        self.0.sleep_until(deadline_ns)
    }
}
