//! The run-time of a native program: entry, start-up handles, heap, log and panics.
//!
//! The program's own account, space, table, thread and log stay with the run-time, which needs them for the heap and the
//! log; [`account`] and its kin lend them. Every other start-up handle belongs to whoever [takes](Startup::take) it.

use crate::handle::{Object, OwnedHandle};
use crate::{Account, AddressSpace, Commit, HandleTable, Log, MapFlags, Memory, Protection, Rights, Thread};
use quire_abi::startup::{Grant, MAGIC, MAX_ARGUMENTS, MAX_GRANTS, Purpose, Startup as Record};
use quire_abi::{Error, Handle};
use spin::{Mutex, Once};

mod heap;
mod logger;
#[cfg(target_os = "none")]
mod machine;

pub use heap::{HeapUsage, heap_usage, trim_heap};

/// What the program was given.
#[derive(Debug)]
pub struct Startup {
    grants: Mutex<[Grant; MAX_GRANTS]>,
    arguments: [u8; MAX_ARGUMENTS],
    argument_bytes: usize,
}

/// What the run-time keeps.
struct Own {
    account: Option<Account>,
    space: Option<AddressSpace>,
    table: Option<HandleTable>,
    thread: Option<Thread>,
    log: Option<Log>,
}

static STARTUP: Once<Startup> = Once::new();
static OWN: Once<Own> = Once::new();
static ARCHIVE: Once<(Memory, &'static [u8])> = Once::new();

impl Startup {
    /// Checks and copies the record.
    fn from_record(record: &Record) -> Result<Self, Error> {
        if record.magic != MAGIC {
            return Err(Error::BadArgument);
        }
        let mut grants = record.grants;
        for unused in grants.iter_mut().skip(record.grant_count as usize) {
            *unused = Grant::default();
        }
        let argument_bytes = (record.argument_bytes as usize).min(MAX_ARGUMENTS);
        Ok(Self { grants: Mutex::new(grants), arguments: record.arguments, argument_bytes })
    }

    /// Takes the first handle given for `purpose`; [`Error::NotFound`] if there is none (any more). A handle of another
    /// kind than `T` shows at its first use, as [`Error::WrongKind`].
    pub fn take<T: Object>(&self, purpose: Purpose) -> Result<T, Error> {
        self.take_handle(purpose).map(T::from_handle).ok_or(Error::NotFound)
    }

    /// Takes the first handle given for `purpose`, of whatever kind.
    pub fn take_handle(&self, purpose: Purpose) -> Option<OwnedHandle> {
        let mut grants = self.grants.lock();
        let grant = grants.iter_mut().find(|grant| grant.purpose == purpose && grant.handle != Handle::NONE)?;
        OwnedHandle::from_raw(core::mem::take(grant).handle)
    }

    /// The text that the program was given; for the first program the kernel's command line. Empty if it is not UTF-8.
    pub fn arguments(&self) -> &str {
        let bytes = self.arguments.get(..self.argument_bytes).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The value of `name=value` among the arguments, which spaces separate.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments()
            .split_ascii_whitespace()
            .find_map(|word| word.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }
}

/// What the program was given. [`Error::BadState`] outside of a program started by [`entry!`](crate::entry).
pub fn startup() -> Result<&'static Startup, Error> {
    STARTUP.get().ok_or(Error::BadState)
}

/// The account that pays for what the program makes.
pub fn account() -> Result<&'static Account, Error> {
    OWN.get().and_then(|own| own.account.as_ref()).ok_or(Error::NotFound)
}

/// The program's own address space.
pub fn space() -> Result<&'static AddressSpace, Error> {
    OWN.get().and_then(|own| own.space.as_ref()).ok_or(Error::NotFound)
}

/// The program's own handle table.
pub fn table() -> Result<&'static HandleTable, Error> {
    OWN.get().and_then(|own| own.table.as_ref()).ok_or(Error::NotFound)
}

/// The program's first thread.
pub fn thread() -> Result<&'static Thread, Error> {
    OWN.get().and_then(|own| own.thread.as_ref()).ok_or(Error::NotFound)
}

/// The kernel's log.
pub fn log() -> Result<&'static Log, Error> {
    OWN.get().and_then(|own| own.log.as_ref()).ok_or(Error::NotFound)
}

/// The boot archive: the memory, to map windows of it, and its bytes. [`Error::NotFound`] if the program was not given it.
///
/// Mapped read-only at the first use. [`Error::BadState`] if the handle could write: the archive's contract is that nobody
/// can change it, which is what makes a reference to its bytes possible.
pub fn archive() -> Result<(&'static Memory, &'static [u8]), Error> {
    if let Some((memory, bytes)) = ARCHIVE.get() {
        return Ok((memory, *bytes));
    }
    let memory: Memory = startup()?.take(Purpose::ARCHIVE)?;
    if memory.as_handle().info()?.rights.contains(Rights::WRITE) {
        return Err(Error::BadState);
    }
    let len_bytes = memory.info()?.size;
    let mut commit = Commit::new();
    commit.map(&memory, 0, 0, len_bytes, Protection::READ, MapFlags::FIND);
    let address = space()?.commit(&commit)?.address;
    let len = usize::try_from(len_bytes).map_err(|_| Error::OutOfRange)?;
    // SAFETY: the memory was just mapped there readable, with this length, and is never unmapped; nobody can write it (the
    // kernel gives the archive out without `WRITE`, and rights can only be taken away).
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    let (memory, bytes) = ARCHIVE.call_once(|| (memory, bytes));
    Ok((memory, *bytes))
}

/// Sets the run-time up from the record that the program was started with.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "only a program on Quire is started with a record"))]
fn initialize(record: &Record) -> Result<(), Error> {
    let startup = Startup::from_record(record)?;
    let own = Own {
        account: startup.take(Purpose::ACCOUNT).ok(),
        space: startup.take(Purpose::SPACE).ok(),
        table: startup.take(Purpose::TABLE).ok(),
        thread: startup.take(Purpose::THREAD).ok(),
        log: startup.take(Purpose::LOG).ok(),
    };
    OWN.call_once(|| own);
    logger::install(startup.argument("log"));
    STARTUP.call_once(|| startup);
    Ok(())
}

/// Runs a program's main function and reports how it ended; what [`entry!`](crate::entry) calls.
pub fn run(main: fn(&'static Startup) -> Result<(), Error>) {
    if let Err(error) = startup().and_then(main) {
        log::error!("the program ended: {}", error.describe());
    }
}

/// Makes `main`, a `fn(&'static Startup) -> Result<(), Error>`, the program's main function: defines the symbol that
/// [`_start`](self) jumps to, and on a host an empty `fn main`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        const _: () = {
            // SAFETY: the name is reserved for the program's one `entry!`; the run-time declares it with this signature.
            #[unsafe(no_mangle)]
            extern "C" fn quire_program_main() {
                $crate::rt::run($main);
            }
        };

        #[cfg(not(target_os = "none"))]
        #[doc(hidden)]
        fn host_main() {
            let _: fn(&'static $crate::rt::Startup) -> Result<(), $crate::Error> = $main;
        }
    };
}
