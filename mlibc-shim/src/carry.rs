//! What a request carries along: inputs that are copied before the call, and a result that is copied after it
//! (`posix_protocol::carried`).
//!
//! Nothing that is done here decides what a call does: what can't be copied plainly, because an address is bad or too much is asked for, is
//! not carried, and the server reads or writes it itself, and finds the error.

use core::arch::asm;
use core::mem::size_of;
use linux_raw_sys::general as linux;
use posix_protocol::carried::{Carried, RESULT};
use posix_protocol::shim::{Context, DATA_BYTES, ThreadBlock};

/// The longest string that is carried, with its zero.
const MAX_STRING_BYTES: usize = 512;
/// The most bytes that are carried for `read`, `write` and their kin.
const MAX_TRANSFER_BYTES: u64 = 1024;
/// How far a string is from the end of the addresses that a program can name, at least.
const END_MARGIN: u64 = 4096;

const STAT_BYTES: usize = size_of::<linux::stat>();
const STATX_BYTES: usize = size_of::<linux::statx>();
/// `itimerval` and `itimerspec`.
const TIMER_BYTES: usize = size_of::<linux::itimerspec>();
const TIME_BYTES: usize = size_of::<linux::timespec>();
const LIMIT_BYTES: usize = size_of::<linux::rlimit64>();
const MASK_BYTES: usize = 8;
const ACTION_BYTES: usize = size_of::<linux::kernel_sigaction>();
const EVENT_BYTES: usize = 12;
/// For how many events of `epoll_wait` there is room.
const MAX_EVENTS: i32 = 32;
const TWO_DESCRIPTORS_BYTES: usize = 8;

/// An argument of the call.
fn argument(context: &Context, index: usize) -> u64 {
    match index {
        0 => context.rdi,
        1 => context.rsi,
        2 => context.rdx,
        3 => context.r10,
        4 => context.r8,
        _ => context.r9,
    }
}

/// What is put together for one request.
struct Cargo<'a> {
    block: &'a mut ThreadBlock,
    carried: Carried,
    inputs: usize,
    /// Bytes of the data in use.
    end: usize,
}

impl Cargo<'_> {
    fn add(&mut self, part: usize, argument: usize, length: usize) {
        self.carried = self.carried.with(part, argument, length);
        self.end += length.next_multiple_of(8);
    }

    /// A range that the program could name, and that fits.
    fn fits(&self, address: u64, length: usize) -> bool {
        let room = DATA_BYTES - self.end;
        let end = address.checked_add(length as u64);
        address != 0 && length != 0 && length <= room && end.is_some_and(|end| end <= self.block.local.user_end)
    }

    /// Where in the data the next part goes.
    fn place(&mut self) -> u64 {
        (&raw mut self.block.data) as u64 + self.end as u64
    }

    /// Carries the string that an argument points at.
    fn string(&mut self, index: usize) {
        let from = argument(&self.block.context, index);
        if from == 0 || from >= self.block.local.user_end - END_MARGIN || self.end + MAX_STRING_BYTES > DATA_BYTES {
            return;
        }
        let to = self.place();
        let length: u64;
        // SAFETY: the function uses these registers only. It writes at most so many bytes of the data, and reads what the program could read;
        // a fault is caught.
        unsafe {
            asm!(
                "call shim_copy_string",
                inout("rdi") to => _, inout("rsi") from => _, inout("rdx") MAX_STRING_BYTES => _,
                out("rcx") _, out("r8") _, out("r9") _, out("r10") _, lateout("rax") length,
            );
        }
        if length != 0 {
            self.add(self.inputs, index, length as usize);
            self.inputs += 1;
        }
    }

    /// Carries the bytes that an argument points at.
    fn input(&mut self, index: usize, length: usize) {
        let from = argument(&self.block.context, index);
        if !self.fits(from, length) {
            return;
        }
        let to = self.place();
        if crate::files::copy(to, from, length as u64) {
            self.add(self.inputs, index, length);
            self.inputs += 1;
        }
    }

    /// Carries room for what is written where an argument points, if that can be written.
    fn result(&mut self, index: usize, length: usize) {
        let to = argument(&self.block.context, index);
        if self.fits(to, length) && can_write(to, length) {
            self.add(RESULT, index, length);
        }
    }

    /// The same for a length that is itself an argument.
    fn counted_input(&mut self, index: usize, count: usize) {
        let length = argument(&self.block.context, count);
        if length <= MAX_TRANSFER_BYTES {
            self.input(index, length as usize);
        }
    }

    /// Carries room for the beginning of a result: what does not fit, the server writes itself.
    fn counted_result(&mut self, index: usize, count: usize) {
        let length = argument(&self.block.context, count);
        self.result(index, length.min(MAX_TRANSFER_BYTES) as usize);
    }

    /// Carries room for the first events of those that there is room for: if more are ready, the server writes all itself.
    fn events(&mut self, index: usize, count: usize) {
        // A number below 1 is the server's to refuse.
        let count = argument(&self.block.context, count) as i32;
        self.result(index, count.clamp(0, MAX_EVENTS) as usize * EVENT_BYTES);
    }
}

/// Whether both ends of a range, which is not longer than a page, can be written; they are, with what is there.
fn can_write(address: u64, length: usize) -> bool {
    let done: u64;
    let last = address + length as u64 - 1;
    // SAFETY: the function uses these registers only. It changes nothing; a fault is caught.
    unsafe {
        asm!("call shim_touch", in("rdi") address, in("rsi") last, lateout("rax") done);
    }
    done != 0
}

/// Copies what the call `number`, whose arguments are in the block, needs; returns what is carried.
pub(crate) fn carry(block: &mut ThreadBlock, number: u32) -> Carried {
    let mut cargo = Cargo { block, carried: Carried::default(), inputs: 0, end: 0 };
    match number {
        linux::__NR_open
        | linux::__NR_creat
        | linux::__NR_access
        | linux::__NR_unlink
        | linux::__NR_rmdir
        | linux::__NR_mkdir
        | linux::__NR_chdir
        | linux::__NR_chmod
        | linux::__NR_chown
        | linux::__NR_lchown
        | linux::__NR_truncate
        | linux::__NR_execve => cargo.string(0),
        linux::__NR_openat
        | linux::__NR_unlinkat
        | linux::__NR_mkdirat
        | linux::__NR_faccessat
        | linux::__NR_faccessat2
        | linux::__NR_fchmodat
        | linux::__NR_fchownat
        | linux::__NR_utimensat => cargo.string(1),
        linux::__NR_rename | linux::__NR_link | linux::__NR_symlink => {
            cargo.string(0);
            cargo.string(1);
        }
        linux::__NR_renameat | linux::__NR_renameat2 | linux::__NR_linkat => {
            cargo.string(1);
            cargo.string(3);
        }
        linux::__NR_stat | linux::__NR_lstat => {
            cargo.string(0);
            cargo.result(1, STAT_BYTES);
        }
        linux::__NR_newfstatat => {
            cargo.string(1);
            cargo.result(2, STAT_BYTES);
        }
        linux::__NR_statx => {
            cargo.string(1);
            cargo.result(4, STATX_BYTES);
        }
        linux::__NR_readlink => {
            cargo.string(0);
            cargo.counted_result(1, 2);
        }
        linux::__NR_readlinkat => {
            cargo.string(1);
            cargo.counted_result(2, 3);
        }
        _ => carry_structures(&mut cargo, number),
    }
    cargo.carried
}

/// The calls without a path.
fn carry_structures(cargo: &mut Cargo<'_>, number: u32) {
    match number {
        linux::__NR_write | linux::__NR_pwrite64 | linux::__NR_sendto => cargo.counted_input(1, 2),
        linux::__NR_read | linux::__NR_pread64 | linux::__NR_recvfrom => cargo.counted_result(1, 2),
        linux::__NR_getcwd => cargo.counted_result(0, 1),
        linux::__NR_fstat => cargo.result(1, STAT_BYTES),
        linux::__NR_pipe | linux::__NR_pipe2 => cargo.result(0, TWO_DESCRIPTORS_BYTES),
        linux::__NR_socketpair => cargo.result(3, TWO_DESCRIPTORS_BYTES),
        linux::__NR_getrlimit => cargo.result(1, LIMIT_BYTES),
        linux::__NR_clock_gettime | linux::__NR_clock_getres => cargo.result(1, TIME_BYTES),
        linux::__NR_nanosleep => cargo.input(0, TIME_BYTES),
        linux::__NR_clock_nanosleep => cargo.input(2, TIME_BYTES),
        linux::__NR_getitimer | linux::__NR_timerfd_gettime | linux::__NR_timer_gettime => {
            cargo.result(1, TIMER_BYTES);
        }
        linux::__NR_prlimit64 => {
            cargo.input(2, LIMIT_BYTES);
            cargo.result(3, LIMIT_BYTES);
        }
        linux::__NR_rt_sigprocmask => {
            cargo.input(1, MASK_BYTES);
            cargo.result(2, MASK_BYTES);
        }
        linux::__NR_rt_sigaction => {
            cargo.input(1, ACTION_BYTES);
            cargo.result(2, ACTION_BYTES);
        }
        linux::__NR_setitimer => {
            cargo.input(1, TIMER_BYTES);
            cargo.result(2, TIMER_BYTES);
        }
        linux::__NR_timerfd_settime | linux::__NR_timer_settime => {
            cargo.input(2, TIMER_BYTES);
            cargo.result(3, TIMER_BYTES);
        }
        linux::__NR_epoll_ctl => cargo.input(3, EVENT_BYTES),
        linux::__NR_epoll_wait | linux::__NR_epoll_pwait => cargo.events(1, 2),
        _ => {}
    }
}

/// Gives the program the first `length` bytes of the result. They could be written when the call was made; if somebody has changed
/// that meanwhile, it is `EFAULT`, as it would have been a moment later.
pub(crate) extern "C" fn take_result(block: *mut ThreadBlock, length: u64) {
    // SAFETY: as for `local_answer`.
    let Some(block) = (unsafe { block.as_mut() }) else { return };
    let Some([.., part]) = Carried(block.carried).parts() else { return };
    let from = (&raw const block.data) as u64 + part.offset as u64;
    let to = argument(&block.context, part.argument);
    if !crate::files::copy(to, from, length.min(part.length as u64)) {
        block.context.rax = -i64::from(linux_raw_sys::errno::EFAULT) as u64;
    }
}
