//! The first program: made from the record in the boot archive, and given everything there is.
//!
//! The kernel knows no executable format; the archive says what to map where. Constant segments are mapped from the
//! archive itself and never copied; writable ones are private, so they are copied on write.

use crate::boot::start_info::BootInfo;
use crate::direct_map;
use crate::hardware::Hardware;
use crate::memory_map::Range;
use boot_archive::{Archive, ArchiveError, FirstProgram, Segment};
use core::fmt;
use log::info;
use quire_abi::space::{PAGE_SIZE, Protection, USER_END};
use quire_abi::startup::{self, Grant, MAX_ARGUMENTS, MAX_GRANTS, Purpose, Startup};
use quire_abi::thread::{Registers, ThreadFlags};
use quire_abi::{Error, Rights};
use quire_core::account::Account;
use quire_core::handles::HandleTable;
use quire_core::kernel::Kernel;
use quire_core::machine::{Caching, Frame};
use quire_core::memory::{
    CommitError, Exhausted, FaultError, Inherit, MapSource, Memory, MemoryError, Replace, Sharing, Space, SpaceOp,
};
use quire_core::object::{Capability, ObjectRef};
use quire_core::pool::Id;
use quire_core::thread::{Name, Thread};
use zerocopy::IntoBytes;

/// The first program's name in dumps.
const NAME: &[u8] = b"first program";
/// Its priority: above the default, so that it can give its servers more than their clients have.
const PRIORITY: u8 = 24;
/// Where its stack ends. The last page holds the startup record.
const STACK_END: u64 = USER_END - 0x1_0000;
/// The size of its stack in bytes.
const STACK_BYTES: u64 = 256 * 1024;

/// Why the first program can't be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The loader brought no archive.
    NoArchive,
    /// The archive is not where pages begin, or where no memory is.
    Misplaced(Range),
    /// The archive is damaged.
    Archive(ArchiveError),
    /// One of its segments can't be mapped.
    Map(u64, MemoryError),
    /// There was no memory for one of the objects.
    Exhausted(Exhausted),
    /// An object could not be made.
    Object(Error),
    /// The memory of the archive could not be made.
    Memory(MemoryError),
    /// The startup record could not be written.
    Startup(FaultError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArchive => f.write_str("the loader brought no boot archive"),
            Self::Misplaced(range) => write!(f, "the boot archive lies at {range}, which is not page-aligned memory"),
            Self::Archive(error) => write!(f, "boot archive: {error}"),
            Self::Map(address, error) => write!(f, "mapping at {address:#x}: {error:?}"),
            Self::Exhausted(error) => write!(f, "{error:?}"),
            Self::Object(error) => f.write_str(error.describe()),
            Self::Memory(error) => write!(f, "memory of the boot archive: {error:?}"),
            Self::Startup(error) => write!(f, "writing the startup record: {error:?}"),
        }
    }
}

impl From<Exhausted> for StartError {
    fn from(error: Exhausted) -> Self {
        Self::Exhausted(error)
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Object(error)
    }
}

/// What is made for the first program.
struct Objects {
    account: Id<Account>,
    space: Id<Space>,
    table: Id<HandleTable>,
    thread: Id<Thread>,
    archive: Id<Memory>,
}

/// Makes the first program ready to run.
///
/// # Errors
/// [`StartError`]
pub(crate) fn first_program(kernel: &mut Kernel, hardware: &mut Hardware, boot: &BootInfo) -> Result<(), StartError> {
    let range = boot.archive.ok_or(StartError::NoArchive)?;
    let bytes = archive_bytes(boot, range)?;
    let archive = Archive::parse(bytes).map_err(StartError::Archive)?;
    archive.check_contents().map_err(StartError::Archive)?;
    info!("boot archive: {} entries, {} KiB", archive.entries().len(), range.size() / 1024);
    let program = archive.first_program();
    let objects = make_objects(kernel, hardware, range)?;
    for segment in program.segments() {
        map_segment(kernel, hardware, &objects, &segment)?;
    }
    let stack = map_anonymous(STACK_END - STACK_BYTES, STACK_BYTES);
    commit(kernel, hardware, objects.space, &[stack])?;
    let startup = STACK_END - PAGE_SIZE;
    let record = startup_record(kernel, hardware, boot, &objects)?;
    kernel.memory.write_user(hardware, objects.space, startup, record.as_bytes()).map_err(StartError::Startup)?;
    start(kernel, &objects, program, startup)
}

/// The archive, where the direct map has it.
fn archive_bytes(boot: &BootInfo, range: Range) -> Result<&'static [u8], StartError> {
    let in_ram = boot.memory_map.ram().any(|ram| {
        let ram = ram.shrink_to_pages();
        ram.start <= range.start && range.grow_to_pages().end <= ram.end
    });
    if !range.start.is_multiple_of(PAGE_SIZE) || !in_ram || range.end > direct_map::PHYSICAL_END {
        return Err(StartError::Misplaced(range));
    }
    // SAFETY: the range is RAM, which the direct map maps, and the frame table does not have it; the
    // memory that is made of it is given out without the right to write.
    Ok(unsafe { core::slice::from_raw_parts(direct_map::pointer(range.start), range.size() as usize) })
}

fn make_objects(kernel: &mut Kernel, hardware: &mut Hardware, archive: Range) -> Result<Objects, StartError> {
    let account = kernel.memory.root_account();
    let first = Frame((archive.start / PAGE_SIZE) as u32);
    let pages = archive.size().div_ceil(PAGE_SIZE);
    let archive =
        kernel.memory.create_physical(account, first, pages, Caching::WriteBack).map_err(StartError::Memory)?;
    let space = kernel.memory.create_space(hardware, account)?;
    let table = kernel.create_table(account)?;
    let thread = kernel.create_thread(hardware, account, space, table, ThreadFlags::empty())?;
    if let Some(thread) = kernel.thread_mut(thread) {
        thread.name = Name::new(NAME);
        thread.priority = PRIORITY;
    }
    Ok(Objects { account, space, table, thread, archive })
}

fn map_segment(
    kernel: &mut Kernel,
    hardware: &mut Hardware,
    objects: &Objects,
    segment: &Segment,
) -> Result<(), StartError> {
    let access = protection(segment);
    let content = segment.file_length_bytes.next_multiple_of(PAGE_SIZE);
    let all = segment.memory_length_bytes.next_multiple_of(PAGE_SIZE);
    // What follows the content on its last page is zero in the archive.
    if content != 0 {
        let map = SpaceOp::Map {
            addr: segment.address,
            len: content,
            source: MapSource::Memory { id: objects.archive, offset: segment.offset },
            sharing: if access.contains(Protection::WRITE) { Sharing::Private } else { Sharing::Shared },
            access,
            max_access: access,
            inherit: Inherit::Clone,
            replace: Replace::Nothing,
        };
        commit(kernel, hardware, objects.space, &[map])?;
    }
    if all > content {
        commit(kernel, hardware, objects.space, &[map_anonymous(segment.address + content, all - content)])?;
    }
    Ok(())
}

fn protection(segment: &Segment) -> Protection {
    use boot_archive::Rights;
    let pairs =
        [(Rights::READ, Protection::READ), (Rights::WRITE, Protection::WRITE), (Rights::EXECUTE, Protection::EXECUTE)];
    let granted = pairs.iter().filter(|(right, _)| segment.rights.contains(*right));
    granted.fold(Protection::empty(), |all, (_, protection)| all | *protection)
}

fn map_anonymous(addr: u64, len: u64) -> SpaceOp {
    let access = Protection::READ | Protection::WRITE;
    SpaceOp::Map {
        addr,
        len,
        source: MapSource::Anonymous,
        sharing: Sharing::Private,
        access,
        max_access: access,
        inherit: Inherit::Clone,
        replace: Replace::Nothing,
    }
}

fn commit(kernel: &mut Kernel, hardware: &mut Hardware, space: Id<Space>, ops: &[SpaceOp]) -> Result<(), StartError> {
    let address = match ops.first() {
        Some(SpaceOp::Map { addr, .. }) => *addr,
        _ => 0,
    };
    kernel.memory.commit(hardware, space, ops).map_err(|CommitError { error, .. }| StartError::Map(address, error))
}

/// Gives the program its handles and writes down which they are.
fn startup_record(
    kernel: &mut Kernel,
    hardware: &mut Hardware,
    boot: &BootInfo,
    objects: &Objects,
) -> Result<Startup, StartError> {
    let grants = [
        (Purpose::ACCOUNT, ObjectRef::Account(objects.account)),
        (Purpose::SPACE, ObjectRef::Space(objects.space)),
        (Purpose::TABLE, ObjectRef::Table(objects.table)),
        (Purpose::THREAD, ObjectRef::Thread(objects.thread)),
        (Purpose::LOG, ObjectRef::Log),
        (Purpose::HARDWARE, ObjectRef::Hardware),
        (Purpose::ARCHIVE, ObjectRef::Memory(objects.archive)),
    ];
    let mut record = Startup {
        magic: startup::MAGIC,
        grant_count: grants.len() as u32,
        argument_bytes: 0,
        grants: [Grant::default(); MAX_GRANTS],
        arguments: [0; MAX_ARGUMENTS],
    };
    for (slot, (purpose, object)) in record.grants.iter_mut().zip(grants) {
        // The references that making the objects returned pass to the handles. The kernel keeps the account's own.
        if let ObjectRef::Account(_) = object {
            kernel.retain(object);
        }
        let mut capability = Capability::full(object);
        if purpose == Purpose::ARCHIVE {
            // Programs keep references to the archive's bytes: nobody may change it.
            capability.rights.remove(Rights::WRITE);
        }
        let handle = kernel.install(hardware, objects.table, capability)?;
        *slot = Grant { purpose, handle };
    }
    let line = boot.command_line.bytes();
    record.argument_bytes = line.len() as u32;
    record.arguments[..line.len()].copy_from_slice(line);
    Ok(record)
}

fn start(kernel: &mut Kernel, objects: &Objects, program: FirstProgram<'_>, startup: u64) -> Result<(), StartError> {
    let registers = Registers { rip: program.entry(), rsp: startup, rdi: startup, rflags: 0, ..Registers::default() };
    Ok(kernel.start_thread(objects.thread, &registers)?)
}
