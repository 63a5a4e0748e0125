//! `execve`: a new program in an old process.
//!
//! 1. [`Program::open`] finds the file and follows scripts to their interpreters.
//! 2. [`prepare`] builds a whole new address space: the program, its loader, the stack, the shim. Whatever fails up to here is
//!    the caller's error, and the caller lives on.
//! 3. [`replace`] points the thread at it, and drops the old space.

pub mod elf;
pub mod script;
pub mod shim_image;
pub mod stack;

use crate::cred::{Access, Credentials};
use crate::errno::{Errno, Result};
use crate::fs::walk::{Actor, LastLink, Walk};
use crate::fs::{FsContext, Location, MountFlags};
use crate::platform::{self, Account, Change, MAX_CHANGES, Memory, PAGE_SIZE, Protection, Registers, Sharing, Space};
use crate::process::end::retire;
use crate::process::tree::Tree;
use crate::process::{Attributes, MAX_NAME, Process, Thread, successor};
use crate::random;
use crate::signal::state::AltStack;
use crate::user::USER_END;
use crate::vm::{Area, Areas, Block, Content, Layout, Lock, MappedFile, Running, Vm, change_for, write_all};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use elf::{Plan, Position, plan};
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;
use shim_image::ShimImage;
use stack::{Auxiliary, FirstStack, Strings};

/// Where position-independent programs begin: two thirds of the address space, as on Linux.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Bits of a page number that are random in the bases of programs and mappings.
const RANDOM_PAGE_BITS: u32 = 28;
/// The same for the stack's end.
const RANDOM_STACK_PAGE_BITS: u32 = 22;
/// The same for the heap's start.
const RANDOM_HEAP_PAGE_BITS: u32 = 13;
/// The largest first stack, whatever the limit says.
const MAX_STACK_BYTES: u64 = 64 << 20;
/// The least distance between mappings and the stack's end.
const MIN_STACK_GAP_BYTES: u64 = 128 << 20;
/// RFLAGS of a new program: interrupts on, and the bit that is always set.
const INITIAL_RFLAGS: u64 = 0x202;
/// Bytes of an XSAVE image before the XSAVE header, and with it.
const LEGACY_BYTES: usize = 512;
/// `FCW` after `FNINIT`, and `MXCSR` after reset (Intel SDM vol. 1, 8.1.5 and 10.2.3).
const INITIAL_FCW: [u8; 2] = 0x37fu16.to_le_bytes();
const INITIAL_MXCSR: [u8; 4] = 0x1f80u32.to_le_bytes();

fn random_pages(bits: u32) -> u64 {
    let mut bytes = [0; 8];
    random::fill(&mut bytes);
    (u64::from_le_bytes(bytes) & ((1 << bits) - 1)) * PAGE_SIZE
}

/// A file that may be executed.
struct Executable {
    place: Location,
    memory: Memory,
    /// Keeps the file from being written while it is looked at and run.
    running: Rc<Running>,
}

/// Who executes: what paths and permissions are checked against.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// Where paths begin.
    pub context: &'a FsContext,
    /// Who it is.
    pub credentials: &'a Credentials,
    /// What set-id bits mean.
    pub set_ids: SetIds,
}

/// What the set-id bits of a program mean to whoever executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetIds {
    /// It gets the ids of the file.
    Honoured,
    /// Nothing: it has given that up (`PR_SET_NO_NEW_PRIVS`), or who traces it may not have them.
    Ignored,
}

impl Executor<'_> {
    fn find(&self, path: &[u8]) -> Result<Location> {
        let start = if path.first() == Some(&b'/') { &self.context.root } else { &self.context.cwd };
        let actor = Actor { context: self.context, credentials: self.credentials };
        Walk::new(actor).place(start, path, LastLink::Follow)
    }

    fn open(&self, place: Location) -> Result<Executable> {
        let content = place.inode().content().ok_or(Errno::EACCES)?;
        if place.mount.flags().contains(MountFlags::NO_EXECUTE) {
            return Err(Errno::EACCES);
        }
        place.inode().check_access(self.credentials, Access::EXECUTE)?;
        let running = Rc::new(Running::new(place.inode())?);
        let memory = content.memory()?;
        Ok(Executable { place, memory, running })
    }
}

/// A program that has been found, with what it is to be given.
pub struct Program {
    executable: Executable,
    /// The file that was asked for, whose set-id bits do not count if it is a script.
    asked_for: Vec<u8>,
    name: Vec<u8>,
    strings: Strings,
}

impl Program {
    /// Finds the program at a path. The errors of a path walk; `EACCES`; `ENOEXEC`; `ELOOP` for too many interpreters of
    /// interpreters; `E2BIG`.
    pub fn open(executor: Executor<'_>, path: &[u8], strings: Strings, stack_limit: u64) -> Result<Self> {
        let place = executor.find(path)?;
        Self::open_place(executor, place, path, strings, stack_limit)
    }

    /// The same, for a file that has been found already.
    pub fn open_place(
        executor: Executor<'_>,
        place: Location,
        path: &[u8],
        strings: Strings,
        stack_limit: u64,
    ) -> Result<Self> {
        let limit = stack::limit(stack_limit);
        strings.check(limit)?;
        let mut strings = strings;
        if strings.arguments.is_empty() {
            // As Linux does: a program may rely on argv[0].
            strings.arguments.push(Vec::new());
        }
        let mut path = path.to_vec();
        let asked_for = path.clone();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name = name.get(..MAX_NAME).unwrap_or(name).to_vec();
        let mut executable = executor.open(place)?;
        for _ in 0..=script::MAX_DEPTH {
            let mut head = [0; script::HEAD_BYTES];
            let size = executable.place.inode().size();
            let count = executable.memory.read(0, &mut head).min(usize::try_from(size).unwrap_or(usize::MAX));
            let Some(found) = script::parse(head.get(..count).unwrap_or_default())? else {
                return Ok(Self { executable, asked_for, name, strings });
            };
            strings.arguments = script::arguments(&found, &path, &strings.arguments);
            strings.check(limit)?;
            path = found.interpreter;
            executable = executor.open(executor.find(&path)?)?;
        }
        Err(Errno::ELOOP)
    }
}

/// A mapped file of which a plan is carried out.
struct Loaded {
    plan: Plan,
    bias: u64,
}

impl Loaded {
    fn entry(&self) -> u64 {
        self.plan.entry.wrapping_add(self.bias)
    }

    fn start(&self) -> u64 {
        self.plan.start().wrapping_add(self.bias)
    }
}

/// A file cut to the file's size: a plan must not rely on the rest of the last page.
struct Sized<'a>(&'a Executable);

impl elf::Image for Sized<'_> {
    fn size(&self) -> u64 {
        self.0.place.inode().size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = self.size().saturating_sub(offset).min(buffer.len() as u64) as usize;
        buffer.get_mut(..rest).map_or(0, |buffer| self.0.memory.read(offset, buffer))
    }
}

/// A new address space in the making.
struct Builder {
    areas: Areas,
    /// What to zero once it is mapped: address and length.
    tails: Vec<(u64, u64)>,
    /// Bytes that the file does not have.
    zero_bytes: u64,
    map_end: u64,
}

impl Builder {
    /// Enters the segments of a program at `bias`. `ENOMEM` if something is there.
    fn load(&mut self, executable: &Executable, plan: &Plan, bias: u64) -> Result<()> {
        let file = Rc::new(MappedFile {
            memory: executable.memory.clone(),
            inode: executable.place.inode().clone(),
            location: Some(executable.place.clone()),
            writable: None,
        });
        for segment in &plan.segments {
            let (start, file_end) = (segment.start.wrapping_add(bias), segment.file_end.wrapping_add(bias));
            let end = segment.end.wrapping_add(bias);
            if end > USER_END || start >= end || !self.areas.is_free(start, end) {
                return Err(Errno::ENOMEM);
            }
            let content = Content::File(file.clone(), segment.offset);
            self.add(start, file_end, segment.protection, content);
            self.add(file_end, end, segment.protection, Content::Anonymous);
            self.zero_bytes = self.zero_bytes.saturating_add(end - file_end);
            crate::vm::check_commitment(self.zero_bytes)?;
            let (address, length) = segment.tail;
            if length > 0 {
                self.tails.push((address.wrapping_add(bias), length));
            }
        }
        Ok(())
    }

    fn add(&mut self, start: u64, end: u64, protection: Protection, content: Content) {
        if start < end {
            let (allowed, sharing) = (Protection::all(), Sharing::Private);
            self.areas.insert(Area { start, end, protection, allowed, sharing, lock: Lock::None, content });
        }
    }

    /// Where a position-independent interpreter goes.
    fn bias_below(&self, plan: &Plan, alignment: u64) -> Result<u64> {
        let length = plan.end().checked_sub(plan.start()).and_then(|length| length.checked_add(alignment));
        let start = self.areas.find_free(length.ok_or(Errno::ENOMEM)?, crate::vm::USER_START, self.map_end);
        let start = start.ok_or(Errno::ENOMEM)?;
        Ok(start.next_multiple_of(alignment).wrapping_sub(plan.start() / alignment * alignment))
    }

    /// Makes the space. `ENOMEM`.
    fn commit(&self, account: &Account, shim: &ShimImage) -> Result<Space> {
        let space = Space::create(account)?;
        let areas: Vec<&Area> = self.areas.iter().collect();
        let mut changes: Vec<Change<'_>> = areas.iter().map(|area| change_for(area)).collect();
        changes.push(shim.mapping());
        for part in changes.chunks(MAX_CHANGES) {
            space.commit(part)?;
        }
        const ZEROES: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        for (address, length) in &self.tails {
            write_all(&space, *address, ZEROES.get(..*length as usize).unwrap_or_default())
                .map_err(|_| Errno::ENOMEM)?;
        }
        Ok(space)
    }
}

/// A program that is ready to run: nothing can fail any more but the machine.
pub struct Prepared {
    /// Its address space.
    pub vm: Rc<Vm>,
    /// Where its first thread starts.
    pub entry: u64,
    /// With this stack pointer.
    pub stack_pointer: u64,
    /// Its first thread's block.
    pub block: Rc<Block>,
    /// Who it runs as.
    pub credentials: Credentials,
    name: Vec<u8>,
    arguments: Rc<[u8]>,
    strings: [u64; 4],
    file: Location,
}

/// Builds the address space of a program. `ENOEXEC`, `ENOMEM`, `ETXTBSY`, and what finding its interpreter brings.
pub fn prepare(
    program: Program,
    executor: Executor<'_>,
    account: &Account,
    shim: &ShimImage,
    stack_limit: u64,
) -> Result<Prepared> {
    let executable = &program.executable;
    let main_plan = plan(&Sized(executable))?;
    let loader = match &main_plan.interpreter {
        Some(path) => Some(executor.find(path).and_then(|place| executor.open(place))?),
        None => None,
    };
    let loader_plan = match &loader {
        Some(loader) => Some(plan(&Sized(loader)).map_err(|_| Errno::ELIBBAD)?),
        None => None,
    };
    let running = executable.running.clone();
    let stack_end = USER_END - PAGE_SIZE - random_pages(RANDOM_STACK_PAGE_BITS);
    let stack_bytes = stack_limit.clamp(stack::limit(stack_limit) * 2, MAX_STACK_BYTES).next_multiple_of(PAGE_SIZE);
    let map_end = stack_end - stack_bytes.max(MIN_STACK_GAP_BYTES) - PAGE_SIZE - random_pages(RANDOM_PAGE_BITS);
    let mut builder = Builder { areas: Areas::default(), tails: Vec::new(), zero_bytes: 0, map_end };
    builder.add(stack_end - stack_bytes, stack_end, main_plan.stack, Content::Stack);
    let bias = match main_plan.position {
        Position::Fixed => 0,
        Position::Anywhere(alignment) => {
            let base = (PROGRAM_BASE + random_pages(RANDOM_PAGE_BITS)) / alignment * alignment;
            base.wrapping_sub(main_plan.start() / alignment * alignment)
        }
    };
    builder.load(executable, &main_plan, bias)?;
    let main = Loaded { plan: main_plan, bias };
    let loader = match (loader, loader_plan) {
        (Some(loader), Some(plan)) => {
            let bias = match plan.position {
                Position::Fixed => 0,
                Position::Anywhere(alignment) => builder.bias_below(&plan, alignment)?,
            };
            builder.load(&loader, &plan, bias)?;
            Some(Loaded { plan, bias })
        }
        (Some(_) | None, _) => None,
    };

    let metadata = executable.place.inode();
    let set_id = linux::S_ISUID | linux::S_ISGID;
    let is_ignored =
        executor.set_ids == SetIds::Ignored || executable.place.mount.flags().contains(MountFlags::NO_SET_ID);
    let ignored = if is_ignored { set_id } else { 0 };
    let mode = metadata.mode() & !ignored;
    let credentials = executor.credentials.after_exec(mode, metadata.uid(), metadata.gid());
    let first = first_stack(stack_end, &program, &main, loader.as_ref(), &credentials, shim.vdso());
    let space = builder.commit(account, shim)?;
    write_all(&space, first.pointer, &first.bytes).map_err(|_| Errno::ENOMEM)?;

    let main_end = main.plan.end().wrapping_add(bias);
    let layout = Layout { heap_start: main_end + random_pages(RANDOM_HEAP_PAGE_BITS), map_end };
    let vm = Rc::new(Vm::new(space, account, builder.areas, layout, Some(running), shim.blocks()));
    let block = vm.allocate_block()?;
    let arguments: Vec<u8> =
        program.strings.arguments.iter().flat_map(|argument| argument.iter().copied().chain([0])).collect();
    Ok(Prepared {
        vm,
        entry: loader.as_ref().unwrap_or(&main).entry(),
        stack_pointer: first.pointer,
        block,
        credentials,
        name: program.name,
        arguments: Rc::from(arguments),
        strings: first.strings,
        file: program.executable.place,
    })
}

fn first_stack(
    end: u64,
    program: &Program,
    main: &Loaded,
    loader: Option<&Loaded>,
    credentials: &Credentials,
    vdso: u64,
) -> FirstStack {
    let mut random = [0; 16];
    random::fill(&mut random);
    // Some bytes of the strings' end are random too, below the page that the stack ends with.
    let mut shift = [0; 2];
    random::fill(&mut shift);
    let end = end - u64::from(u16::from_le_bytes(shift) & 0xff0);
    let auxiliary = Auxiliary {
        headers: if main.plan.headers == 0 { 0 } else { main.plan.headers.wrapping_add(main.bias) },
        header_count: u64::from(main.plan.header_count),
        base: loader.map_or(0, Loaded::start),
        entry: main.entry(),
        ids: [credentials.uid, credentials.euid, credentials.gid, credentials.egid],
        secure: u64::from(credentials.is_secure_execution()),
        path: program.asked_for.clone(),
        random,
        vdso,
    };
    stack::build(end, &program.strings, &auxiliary)
}

/// The registers of a thread that begins a program.
pub fn first_registers(prepared: &Prepared) -> Registers {
    Registers {
        rip: prepared.entry,
        rsp: prepared.stack_pointer,
        rflags: INITIAL_RFLAGS,
        gs_base: prepared.block.address(),
        ..Registers::default()
    }
}

/// The vector state of a thread that begins a program.
pub fn first_vector_state() -> Vec<u8> {
    let mut image = vec![0; platform::vector_state_bytes().max(LEGACY_BYTES)];
    for (at, bytes) in [(0, &INITIAL_FCW[..]), (24, &INITIAL_MXCSR[..])] {
        if let Some(field) = image.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }
    image
}

/// Points a thread at a prepared program, and its process with it. After an error the process can't go on.
///
/// The others of its threads have ended. A thread that was not the first one ends, too: another with the process's number
/// goes on with what it had.
pub fn replace(thread: &Rc<Thread>, prepared: Prepared) -> Result<()> {
    let process = &thread.process;
    let registers = first_registers(&prepared);
    let is_first = thread.tid == process.pid;
    thread.machine.suspend();
    let old_block = thread.block();
    let heir = if is_first {
        thread.machine.set_space(prepared.vm.space())?;
        thread.machine.set_registers(&registers)?;
        thread.clone()
    } else {
        let heir = successor(thread, &prepared.vm, &prepared.block, &registers)?;
        retire(thread);
        heir
    };
    heir.machine.write_vector_state(&first_vector_state())?;
    heir.set_block(prepared.block.clone());
    change_process(process, &prepared, &old_block);
    begin_anew(&heir, &prepared);
    heir.initial_block(&Context::default(), &heir.local_answers());
    process.release_parent();
    if heir.is_traced.get() && !heir.is_trapped.replace(true) {
        // It stops before its first instruction.
        heir.machine.suspend();
    }
    heir.machine.resume();
    Ok(())
}

/// What `execve` changes for a process (`execve(2)`, "Effect on process attributes").
fn change_process(process: &Rc<Process>, prepared: &Prepared, old_block: &Block) {
    process.timers.posix.clear();
    let old_vm = process.set_vm(prepared.vm.clone());
    if Rc::strong_count(&old_vm) > 1 {
        // Somebody goes on using the old space: the parent of a `vfork`.
        old_vm.free_block(old_block);
    }
    drop(old_vm);
    adopt(process, prepared);
    *process.credentials_cell().borrow_mut() = Rc::new(prepared.credentials.clone());
    let is_more = prepared.credentials.is_secure_execution();
    process.is_dumpable.set(!is_more);
    process.attributes.set(Attributes { barriers: 0, ..process.attributes.get() });
    if is_more {
        process.parent_death_signal.set(0);
    }
    process.signals.borrow_mut().after_exec();
    process.unshare_directories();
    let closed = process.files.borrow().slots_mut().remove_on_exec();
    closed.iter().for_each(|file| file.release_record_locks(process.pid));
    drop(closed);
    process.server.tree.change(Tree::set_executed, process.pid);
}

/// And for the thread that goes on.
fn begin_anew(thread: &Thread, prepared: &Prepared) {
    thread.signals.borrow_mut().alt_stack = AltStack::default();
    thread.clear_tid.set(0);
    thread.robust_list.set((0, 0));
    thread.restart.take();
    thread.name.replace(prepared.name.clone());
    thread.machine.set_name(&prepared.name);
}

/// Notes what a process runs.
pub fn adopt(process: &Process, prepared: &Prepared) {
    let mut program = process.program.borrow_mut();
    program.name = prepared.name.clone();
    program.arguments = prepared.arguments.clone();
    program.strings = prepared.strings;
    program.stack_start = prepared.stack_pointer;
    program.file = Some(prepared.file.clone());
}
