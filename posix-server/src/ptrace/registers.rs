//! Registers as tracers see them: `struct user_regs_struct` and `struct user` of x86-64 (`sys/user.h`), and the vector state.

use crate::errno::{Errno, Result};
use crate::user::USER_END;
use posix_protocol::shim::Context;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "registers have their architectural names")]
pub struct UserRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Bytes of it.
pub const REGISTER_BYTES: usize = size_of::<UserRegisters>();
/// Bytes of `struct user`, which has them at its start.
pub const USER_BYTES: u64 = 928;
/// Where in it the eight debug registers are.
const DEBUG_REGISTERS: core::ops::Range<u64> = 848..912;
/// Bytes of the image of x87 and SSE registers (`FXSAVE`).
pub const FLOATING_POINT_BYTES: usize = 512;

/// Selectors of user code and stack.
const USER_CODE: u64 = 0x33;
const USER_STACK: u64 = 0x2b;
/// What of RFLAGS a tracer may change: CF PF AF ZF SF TF DF OF AC. RF and NT are kept from a program here.
const CHANGEABLE_FLAGS: u64 = 0x4_0dd5;

/// What a traced thread has, whatever a tracer calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// The general registers.
    pub context: Context,
    /// The number of the call that it is in; -1 for none.
    pub call: u64,
    /// The base of `fs`.
    pub fs_base: u64,
}

impl UserRegisters {
    /// What a tracer sees. `gs` is the shim's, and shown as a program has it that does not use it.
    pub fn of(traced: &Traced) -> Self {
        let context = &traced.context;
        Self {
            r15: context.r15,
            r14: context.r14,
            r13: context.r13,
            r12: context.r12,
            rbp: context.rbp,
            rbx: context.rbx,
            r11: context.r11,
            r10: context.r10,
            r9: context.r9,
            r8: context.r8,
            rax: context.rax,
            rcx: context.rcx,
            rdx: context.rdx,
            rsi: context.rsi,
            rdi: context.rdi,
            orig_rax: traced.call,
            rip: context.rip,
            cs: USER_CODE,
            rflags: context.rflags,
            rsp: context.rsp,
            ss: USER_STACK,
            fs_base: traced.fs_base,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    /// What the thread has then, which had `old` before. `EIO` for what no program can have.
    pub fn apply(&self, old: &Traced) -> Result<Traced> {
        let selectors = [self.ds, self.es, self.fs, self.gs];
        let is_user = |selector: u64| selector as u16 == 0 || selector & 3 == 3;
        let is_code = self.cs as u16 != 0 && self.ss as u16 != 0 && is_user(self.cs) && is_user(self.ss);
        if !is_code || !selectors.into_iter().all(is_user) || self.fs_base >= USER_END || self.gs_base != 0 {
            return Err(Errno::EIO);
        }
        let context = Context {
            rax: self.rax,
            rbx: self.rbx,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rbp: self.rbp,
            rsp: self.rsp,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
            rflags: old.context.rflags & !CHANGEABLE_FLAGS | self.rflags & CHANGEABLE_FLAGS,
        };
        Ok(Traced { context, call: self.orig_rax, fs_base: self.fs_base })
    }

    /// The word at an offset in `struct user`. `EIO` if there is none; 0 for what is not kept.
    pub fn peek(&self, offset: u64) -> Result<u64> {
        check_offset(offset)?;
        let bytes = self.as_bytes().get(offset as usize..).and_then(|bytes| bytes.first_chunk());
        Ok(bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// Changes the word at an offset. `EIO` for one that can't be changed.
    pub fn poke(&mut self, offset: u64, word: u64) -> Result<()> {
        check_offset(offset)?;
        if DEBUG_REGISTERS.contains(&offset) {
            // There are no breakpoints of the hardware: what clears them is done.
            return if word == 0 { Ok(()) } else { Err(Errno::EIO) };
        }
        let place = self.as_mut_bytes().get_mut(offset as usize..offset as usize + size_of::<u64>());
        place.ok_or(Errno::EIO)?.copy_from_slice(&word.to_le_bytes());
        Ok(())
    }
}

/// Words only, and within the record. `EIO`.
fn check_offset(offset: u64) -> Result<()> {
    if offset.is_multiple_of(size_of::<u64>() as u64) && offset < USER_BYTES { Ok(()) } else { Err(Errno::EIO) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    fn traced() -> Traced {
        let context = Context { rax: 1, rsp: 2, rflags: 0x246, ..Context::default() };
        Traced { context, call: 39, fs_base: 0x1000 }
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        let shown = UserRegisters::of(&traced());
        assert_eq!(REGISTER_BYTES, 216);
        assert_eq!(offset_of!(UserRegisters, orig_rax), 120);
        assert_eq!(shown.apply(&traced()), Ok(traced()));
        assert_eq!(shown.peek(120), Ok(39));
        assert_eq!(shown.peek(121), Err(Errno::EIO));
        assert_eq!((shown.peek(920), shown.peek(928)), (Ok(0), Err(Errno::EIO)));
    }

    #[test]
    fn flags_of_the_system_and_segments_are_not_a_tracers() {
        let mut shown = UserRegisters::of(&traced());
        shown.poke(offset_of!(UserRegisters, rflags) as u64, 0x3100).unwrap();
        assert_eq!(shown.apply(&traced()).unwrap().context.rflags, 0x302);
        for (field, value) in [
            (offset_of!(UserRegisters, cs), 0),
            (offset_of!(UserRegisters, ds), 8),
            (offset_of!(UserRegisters, fs_base), u64::MAX),
        ] {
            let mut bad = UserRegisters::of(&traced());
            bad.poke(field as u64, value).unwrap();
            assert_eq!(bad.apply(&traced()), Err(Errno::EIO));
        }
    }
}
