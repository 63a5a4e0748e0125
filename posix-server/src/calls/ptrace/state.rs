//! What a tracer sees of a thread that stands still, and changes: memory, registers, signals, the call that it is in.

use super::{Request, request, with};
use crate::calls::pointer;
use crate::errno::{Errno, Result};
use crate::platform::vector_state_bytes;
use crate::process::Thread;
use crate::process::seccomp::ARCHITECTURE;
use crate::ptrace::registers::{FLOATING_POINT_BYTES, REGISTER_BYTES, Traced, UserRegisters};
use crate::ptrace::{Event, Options, Stop};
use crate::signal::deliver::recheck;
use crate::signal::{Signal, SignalInfo, SignalSet, frame};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general::ARCH_SET_FS;
use linux_raw_sys::ptrace as linux;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Sets of registers (`linux/elf.h`).
const NT_PRSTATUS: u32 = 1;
const NT_PRFPREG: u32 = 2;
const NT_X86_XSTATE: u32 = 0x202;
/// The size of a word.
const WORD_BYTES: usize = size_of::<u64>();

/// `EIO` for what is not known.
pub(super) fn ask(thread: &Rc<Thread>, target: &Rc<Thread>, asked: &Request) -> Result<u64> {
    let Request { number, address, data } = *asked;
    match number {
        linux::PTRACE_PEEKTEXT | linux::PTRACE_PEEKDATA => peek(thread, target, address, data),
        linux::PTRACE_POKETEXT | linux::PTRACE_POKEDATA => poke(target, address, data),
        linux::PTRACE_PEEKUSR => pointer(thread, data).write(&UserRegisters::of(&traced(target)?).peek(address)?),
        linux::PTRACE_POKEUSR => poke_user(target, address, data),
        linux::PTRACE_GETREGS => pointer(thread, data).write(&UserRegisters::of(&traced(target)?)),
        linux::PTRACE_SETREGS => set_registers(target, &pointer(thread, data).read()?),
        request::GETFPREGS => {
            let image = vector_image(target)?;
            pointer(thread, data).write_bytes(image.get(..FLOATING_POINT_BYTES).unwrap_or_default())
        }
        request::SETFPREGS => {
            let mut registers = [0; FLOATING_POINT_BYTES];
            pointer(thread, data).read_bytes(&mut registers)?;
            set_floating_point(target, &registers)
        }
        linux::PTRACE_GETREGSET => get_register_set(thread, target, address, data),
        linux::PTRACE_SETREGSET => set_register_set(thread, target, address, data),
        request::ARCH_PRCTL => arch_prctl(thread, target, address, data),
        linux::PTRACE_GETSIGINFO => {
            let info = with(target, |tracee| tracee.info())??;
            pointer(thread, data).write_bytes(&info.to_bytes())
        }
        linux::PTRACE_SETSIGINFO => {
            let mut bytes = [0; 128];
            pointer(thread, data).read_bytes(&mut bytes)?;
            set_info(target, &bytes)
        }
        linux::PTRACE_PEEKSIGINFO => return peek_infos(thread, target, address, data),
        linux::PTRACE_GETSIGMASK => {
            check_set_size(address)?;
            pointer(thread, data).write(&target.mask())
        }
        linux::PTRACE_SETSIGMASK => {
            check_set_size(address)?;
            set_mask(target, pointer(thread, data).read()?);
            Ok(())
        }
        linux::PTRACE_GET_SYSCALL_INFO => return call_info(thread, target, address, data),
        _ => Err(Errno::EIO),
    }
    .map(|()| 0)
}

// ---- memory ------------------------------------------------------------------------------------------------------

fn peek(thread: &Rc<Thread>, target: &Thread, address: u64, data: u64) -> Result<()> {
    let mut word = [0; WORD_BYTES];
    if target.process.vm().read_by_force(address, &mut word) != WORD_BYTES {
        return Err(Errno::EIO);
    }
    pointer(thread, data).write_bytes(&word)
}

fn poke(target: &Thread, address: u64, word: u64) -> Result<()> {
    let written = target.process.vm().write_by_force(address, &word.to_le_bytes());
    if written == WORD_BYTES { Ok(()) } else { Err(Errno::EIO) }
}

// ---- registers ---------------------------------------------------------------------------------------------------

fn traced(target: &Thread) -> Result<Traced> {
    let fs_base = match target.new_fs_base.get() {
        Some(base) => base,
        None => target.machine.registers()?.fs_base,
    };
    let halted = target.halted.borrow();
    let leaving = &halted.as_ref().ok_or(Errno::ESRCH)?.leaving;
    Ok(Traced { context: leaving.context, call: leaving.call, fs_base })
}

fn set_registers(target: &Thread, registers: &UserRegisters) -> Result<()> {
    let old = traced(target)?;
    let new = registers.apply(&old)?;
    if new.fs_base != old.fs_base {
        target.new_fs_base.set(Some(new.fs_base));
    }
    let mut halted = target.halted.borrow_mut();
    let leaving = &mut halted.as_mut().ok_or(Errno::ESRCH)?.leaving;
    leaving.context = new.context;
    leaving.call = new.call;
    Ok(())
}

fn poke_user(target: &Thread, offset: u64, word: u64) -> Result<()> {
    let mut registers = UserRegisters::of(&traced(target)?);
    registers.poke(offset, word)?;
    set_registers(target, &registers)
}

fn arch_prctl(thread: &Rc<Thread>, target: &Thread, address: u64, code: u64) -> Result<()> {
    /// `ARCH_GET_FS` (`asm/prctl.h`).
    const ARCH_GET_FS: u32 = 0x1003;
    match code as u32 {
        ARCH_GET_FS => pointer(thread, address).write(&traced(target)?.fs_base),
        ARCH_SET_FS if address >= crate::user::USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            target.new_fs_base.set(Some(address));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The XSAVE image, with the features in the bytes that are software's, where debuggers look for them.
fn vector_image(target: &Thread) -> Result<Vec<u8>> {
    let mut image = vec![0; vector_state_bytes().max(FLOATING_POINT_BYTES)];
    let bytes = image.get_mut(..vector_state_bytes()).unwrap_or_default();
    target.machine.read_vector_state(bytes)?;
    frame::mark_features(&mut image);
    Ok(image)
}

fn set_vector_image(target: &Thread, image: &mut [u8]) -> Result<()> {
    frame::sanitize(image);
    target.machine.write_vector_state(image)
}

/// Changes the x87 and SSE registers. `EINVAL` for flags of MXCSR that there are not.
fn set_floating_point(target: &Thread, registers: &[u8]) -> Result<()> {
    let mut image = vec![0; vector_state_bytes()];
    target.machine.read_vector_state(&mut image)?;
    frame::replace_legacy(&mut image, registers)?;
    set_vector_image(target, &mut image)
}

/// A set of registers as `PTRACE_GETREGSET` names it. `EINVAL`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    General,
    FloatingPoint,
    Extended,
}

impl Set {
    fn from_number(number: u64) -> Result<Self> {
        match number as u32 {
            NT_PRSTATUS => Ok(Self::General),
            NT_PRFPREG => Ok(Self::FloatingPoint),
            NT_X86_XSTATE => Ok(Self::Extended),
            _ => Err(Errno::EINVAL),
        }
    }

    fn len_bytes(self) -> usize {
        match self {
            Self::General => REGISTER_BYTES,
            Self::FloatingPoint => FLOATING_POINT_BYTES,
            Self::Extended => vector_state_bytes(),
        }
    }
}

/// The set, and where in the tracer's memory it is, with its length: whole words, and not more than there is. `EINVAL`, `EFAULT`.
fn register_set(thread: &Rc<Thread>, number: u64, vector: u64) -> Result<(Set, u64, usize)> {
    let [address, length]: [u64; 2] = pointer(thread, vector).read()?;
    let set = Set::from_number(number)?;
    if !length.is_multiple_of(WORD_BYTES as u64) {
        return Err(Errno::EINVAL);
    }
    let length = length.min(set.len_bytes() as u64);
    Ok((set, address, length as usize))
}

fn set_moved(thread: &Rc<Thread>, vector: u64, length: usize) -> Result<()> {
    pointer(thread, vector).offset(WORD_BYTES as u64)?.write(&(length as u64))
}

fn get_register_set(thread: &Rc<Thread>, target: &Thread, number: u64, vector: u64) -> Result<()> {
    let (set, address, length) = register_set(thread, number, vector)?;
    let general;
    let image;
    let bytes = match set {
        Set::General => {
            general = UserRegisters::of(&traced(target)?);
            general.as_bytes()
        }
        Set::FloatingPoint | Set::Extended => {
            image = vector_image(target)?;
            &image
        }
    };
    pointer(thread, address).write_bytes(bytes.get(..length).unwrap_or_default())?;
    set_moved(thread, vector, length)
}

fn set_register_set(thread: &Rc<Thread>, target: &Thread, number: u64, vector: u64) -> Result<()> {
    let (set, address, length) = register_set(thread, number, vector)?;
    match set {
        Set::General => {
            let mut registers = UserRegisters::of(&traced(target)?);
            let part = registers.as_mut_bytes().get_mut(..length).unwrap_or_default();
            pointer(thread, address).read_bytes(part)?;
            set_registers(target, &registers)?;
        }
        Set::FloatingPoint => {
            let mut registers = vector_image(target)?;
            pointer(thread, address).read_bytes(registers.get_mut(..length).unwrap_or_default())?;
            set_floating_point(target, registers.get(..FLOATING_POINT_BYTES).unwrap_or_default())?;
        }
        // All or nothing.
        Set::Extended if length != set.len_bytes() => return Err(Errno::EFAULT),
        Set::Extended => {
            let mut image = vec![0; length];
            pointer(thread, address).read_bytes(&mut image)?;
            set_vector_image(target, &mut image)?;
        }
    }
    set_moved(thread, vector, length)
}

// ---- signals -----------------------------------------------------------------------------------------------------

fn set_info(target: &Thread, bytes: &[u8; 128]) -> Result<()> {
    let number = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let old = with(target, |tracee| tracee.info())??;
    let signal = Signal::from_number(u64::from(number)).unwrap_or(old.signal);
    with(target, |tracee| tracee.set_info(SignalInfo::from_bytes(signal, bytes)))?
}

/// `struct ptrace_peeksiginfo_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PeekArguments {
    offset: u64,
    flags: u32,
    count: i32,
}

/// Copies signals that wait; returns how many.
fn peek_infos(thread: &Rc<Thread>, target: &Thread, arguments: u64, data: u64) -> Result<u64> {
    let PeekArguments { offset, flags, count } = pointer(thread, arguments).read()?;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let infos: Vec<SignalInfo> = match flags {
        0 => target.signals.borrow().pending.infos().skip(skipped).take(count).collect(),
        linux::PTRACE_PEEKSIGINFO_SHARED => {
            target.process.signals.borrow().pending.infos().skip(skipped).take(count).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    let to = pointer(thread, data);
    let mut done = 0;
    for info in infos {
        let bytes = info.to_bytes();
        let written = to.offset(done * bytes.len() as u64).and_then(|to| to.write_bytes(&bytes));
        match written {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn check_set_size(size: u64) -> Result<()> {
    if size == size_of::<SignalSet>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn set_mask(target: &Thread, mask: SignalSet) {
    target.signals.borrow_mut().set_mask(mask);
    target.show_mask();
    recheck(target);
}

// ---- calls -------------------------------------------------------------------------------------------------------

/// `struct ptrace_syscall_info`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CallInfo {
    kind: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction: u64,
    stack: u64,
    words: [u64; 8],
}

/// How much of it there is before a call, after one, and otherwise.
const ENTRY_BYTES: usize = 80;
const EXIT_BYTES: usize = 33;
const SECCOMP_BYTES: usize = 84;
const HEAD_BYTES: usize = 24;
/// Results from here on are errors.
const FIRST_ERROR: u64 = -4095i64 as u64;

/// Tells of the call that the thread is about to make or has made; returns how much there is to tell.
fn call_info(thread: &Rc<Thread>, target: &Thread, size: u64, data: u64) -> Result<u64> {
    let (stop, options, message) = with(target, |tracee| (tracee.stop_reason(), tracee.options, tracee.message))?;
    let Traced { context, call, .. } = traced(target)?;
    let mut info =
        CallInfo { architecture: ARCHITECTURE, instruction: context.rip, stack: context.rsp, ..CallInfo::new_zeroed() };
    let entry = |last| [call, context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9, last];
    let is_marked = options.contains(Options::CALLS_MARKED);
    let (kind, length) = match stop {
        Some(Stop::CallEntry) if is_marked => {
            info.words = entry(0);
            (linux::PTRACE_SYSCALL_INFO_ENTRY, ENTRY_BYTES)
        }
        Some(Stop::CallExit) if is_marked => {
            let is_error = context.rax >= FIRST_ERROR;
            info.words = [context.rax, u64::from(is_error), 0, 0, 0, 0, 0, 0];
            (linux::PTRACE_SYSCALL_INFO_EXIT, EXIT_BYTES)
        }
        Some(Stop::Event(Event::Seccomp)) => {
            info.words = entry(message);
            (linux::PTRACE_SYSCALL_INFO_SECCOMP, SECCOMP_BYTES)
        }
        Some(Stop::CallEntry | Stop::CallExit | Stop::Signal(_) | Stop::Group(_) | Stop::Trap(_))
        | Some(Stop::Handler | Stop::Event(_))
        | None => (linux::PTRACE_SYSCALL_INFO_NONE, HEAD_BYTES),
    };
    info.kind = kind as u8;
    let written = length.min(usize::try_from(size).unwrap_or(usize::MAX));
    pointer(thread, data).write_bytes(info.as_bytes().get(..written).unwrap_or_default())?;
    Ok(length as u64)
}
