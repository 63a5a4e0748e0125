//! Calls on the whole machine, for the superuser, and those that a processor without the feature refuses.

use super::blocking::usable_file;
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::Thread;
use crate::process::end::end_process;
use crate::process::tree::{ExitStatus, INIT};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_reboot, reboot)
        .partly("a restart switches the machine off; suspending and LINUX_REBOOT_CMD_KEXEC get EINVAL"),
    SystemCall::new(linux::__NR_acct, |t, _| privileged(t, Errno::ENOSYS).into())
        .partly("no accounting: ENOSYS, or EPERM without privilege"),
    SystemCall::new(linux::__NR_init_module, |t, a| init_module(t, a).into()).partly(NO_MODULES),
    SystemCall::new(linux::__NR_finit_module, |t, a| finit_module(t, a).into()).partly(NO_MODULES),
    SystemCall::new(linux::__NR_delete_module, |t, a| delete_module(t, a).into()).partly(NO_MODULES),
    SystemCall::new(linux::__NR_ioperm, |t, a| ioperm(t, a).into()).partly("ports belong to drivers: EPERM"),
    SystemCall::new(linux::__NR_iopl, |t, a| iopl(t, a).into()).partly("ports belong to drivers: EPERM"),
    SystemCall::new(linux::__NR_pkey_alloc, |_, a| pkey_alloc(a).into()).partly("there are no protection keys: ENOSPC"),
    SystemCall::new(linux::__NR_pkey_free, |_, _| Errno::EINVAL.into()).partly("there are no protection keys: EINVAL"),
    SystemCall::new(linux::__NR_pkey_mprotect, pkey_mprotect).partly("there are no protection keys: only -1 is one"),
];

const NO_MODULES: &str = "drivers are programs: no file is a module (ENOEXEC), and none is loaded (ENOENT)";

/// The numbers that keep a program from doing it by mistake (`linux/reboot.h`).
const FIRST_MAGIC: u32 = 0xfee1_dead;
const SECOND_MAGIC: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const RESTART: u32 = 0x0123_4567;
const HALT: u32 = 0xcdef_0123;
const ENABLE_KEYS: u32 = 0x89ab_cdef;
const DISABLE_KEYS: u32 = 0;
const POWER_OFF: u32 = 0x4321_fedc;
const RESTART_WITH_COMMAND: u32 = 0xa1b2_c3d4;

fn reboot(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [first, second, command, ..] = *arguments;
    if !thread.process.credentials().is_privileged() {
        return Errno::EPERM.into();
    }
    if first as u32 != FIRST_MAGIC || !SECOND_MAGIC.contains(&(second as u32)) {
        return Errno::EINVAL.into();
    }
    match command as u32 {
        ENABLE_KEYS | DISABLE_KEYS => Outcome::Return(Ok(0)),
        RESTART | RESTART_WITH_COMMAND | HALT | POWER_OFF => {
            // The machine ends with its first process.
            if let Some(first) = thread.server().process(INIT) {
                end_process(&first, ExitStatus::Exited(0));
            }
            Outcome::block(core::future::pending())
        }
        _ => Errno::EINVAL.into(),
    }
}

fn privileged(thread: &Thread, error: Errno) -> Result<()> {
    Err(if thread.process.credentials().is_privileged() { error } else { Errno::EPERM })
}

/// The length of the header that every module begins with, in bytes.
const MODULE_HEADER_BYTES: u64 = 64;
/// `MODULE_INIT_IGNORE_MODVERSIONS` and its kin.
const MODULE_FLAGS: u32 = 7;
/// The longest name of a module with its NUL, in bytes.
const MODULE_NAME_BYTES: usize = 56;

fn init_module(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [image, length, ..] = *arguments;
    check_may_load(thread)?;
    if length >= MODULE_HEADER_BYTES {
        pointer(thread, image).read_bytes(&mut [0; MODULE_HEADER_BYTES as usize])?;
    }
    Err(Errno::ENOEXEC)
}

fn finit_module(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, _, flags, ..] = *arguments;
    check_may_load(thread)?;
    if flags as u32 & !MODULE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(thread, fd)?;
    file.check_readable()?;
    Err(if file.inode().content().is_some_and(|content| content.size() > 0) { Errno::ENOEXEC } else { Errno::EINVAL })
}

fn delete_module(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    check_may_load(thread)?;
    match pointer(thread, arguments[0]).read_c_string(MODULE_NAME_BYTES) {
        Err(Errno::EFAULT) => Err(Errno::EFAULT),
        // A name that is too long is none, either.
        Ok(_) | Err(_) => Err(Errno::ENOENT),
    }
}

fn check_may_load(thread: &Thread) -> Result<()> {
    if thread.process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// How many ports there are.
const PORTS: u64 = 65536;

fn ioperm(thread: &Thread, arguments: &Arguments) -> Result<()> {
    let [first, count, allow, ..] = *arguments;
    if first.checked_add(count).is_none_or(|end| end <= first || end > PORTS) {
        return Err(Errno::EINVAL);
    }
    if allow as u32 == 0 { Ok(()) } else { privileged(thread, Errno::EPERM) }
}

fn iopl(thread: &Thread, arguments: &Arguments) -> Result<()> {
    match arguments[0] as u32 {
        0 => Ok(()),
        1..=3 => privileged(thread, Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn pkey_alloc(arguments: &Arguments) -> Result<()> {
    let [flags, rights, ..] = *arguments;
    const RIGHTS: u64 = (linux::PKEY_DISABLE_ACCESS | linux::PKEY_DISABLE_WRITE) as u64;
    if flags != 0 || rights & !RIGHTS != 0 { Err(Errno::EINVAL) } else { Err(Errno::ENOSPC) }
}

fn pkey_mprotect(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    if arguments[3] as i32 == -1 { super::call(thread, linux::__NR_mprotect, arguments) } else { Errno::EINVAL.into() }
}
