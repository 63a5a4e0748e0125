//! The frame that a handler runs on: Linux's `rt_sigframe` of x86-64 (`arch/x86/include/uapi/asm/sigcontext.h`, `ucontext.h`).

use super::state::AltStack;
use super::{SignalInfo, SignalSet};
use crate::errno::{Errno, Result};
use crate::platform::Space;
use crate::vm::write_all;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;
use quire_abi::thread::USER_RFLAGS;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes below the stack pointer that functions may use without moving it (System V ABI for x86-64, 3.2.2).
const RED_ZONE_BYTES: u64 = 128;
/// The alignment of the vector state.
const VECTOR_ALIGNMENT: u64 = 64;
/// Selectors of user code and stack, as Linux has them.
const USER_CODE: u16 = 0x33;
const USER_STACK: u16 = 0x2b;
/// `uc_flags`: the vector state is an XSAVE image; the stack selector is meaningful and to be restored strictly.
const UC_FLAGS: u64 = 0x7;
/// `FP_XSTATE_MAGIC1` and `FP_XSTATE_MAGIC2`, around the vector state.
const VECTOR_MAGIC_START: u32 = 0x4650_5853;
const VECTOR_MAGIC_END: u32 = 0x4650_5845;
/// Where in the legacy part of the vector state software keeps its own bytes: magic, sizes, features.
const VECTOR_SOFTWARE: usize = 464;
/// Where XSAVE notes which parts are not in their initial state.
const VECTOR_HEADER: usize = 512;
/// The smallest XSAVE image: legacy part and header.
const VECTOR_MIN: usize = 576;
/// x87, SSE and AVX state.
const VECTOR_FEATURES: u64 = 7;
/// The first two of them.
const LEGACY_FEATURES: u8 = 3;
/// Bits of MXCSR that exist; setting others faults.
const MXCSR_MASK: u32 = 0xffff;
const MXCSR_OFFSET: usize = 24;
/// `AT_MINSIGSTKSZ`: what a frame needs at most.
pub const MIN_STACK_BYTES: u64 = 3632;

/// `stack_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct RawStack {
    /// Lowest address.
    pub base: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Padding.
    pub padding: u32,
    /// Bytes.
    pub size: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Machine {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    code: u16,
    gs: u16,
    fs: u16,
    stack: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    fault_address: u64,
    vector: u64,
    reserved: [u64; 8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Frame {
    return_address: u64,
    flags: u64,
    link: u64,
    stack: RawStack,
    machine: Machine,
    mask: SignalSet,
    info: [u8; 128],
}

/// What the processor told of a fault, for the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    /// The exception's number.
    pub number: u64,
    /// Its error code.
    pub code: u64,
    /// The address.
    pub address: u64,
}

/// What a frame is made of, besides the vector state.
#[derive(Clone, Copy)]
pub struct Delivery {
    /// The signal.
    pub info: SignalInfo,
    /// The handler.
    pub handler: u64,
    /// Where it returns to.
    pub restorer: u64,
    /// The mask to go back to.
    pub mask: SignalSet,
    /// The alternate stack as `uc_stack` tells it.
    pub alt_stack: AltStack,
    /// Whether it is to run there.
    pub use_alt_stack: bool,
    /// The fault, if it was one.
    pub trap: Trap,
}

impl AltStack {
    /// The stack as programs see it, for a stack pointer.
    pub fn to_raw(self, stack_pointer: u64) -> RawStack {
        let state = if self.size == 0 {
            linux::SS_DISABLE
        } else if self.holds(stack_pointer) {
            linux::SS_ONSTACK
        } else {
            0
        };
        RawStack { base: self.base, flags: state | self.flags, padding: 0, size: self.size }
    }
}

/// Where the vector state lies from the frame's start: behind it, aligned, on a stack that is aligned for a function.
const VECTOR_AT: usize = 456;
const _: () = assert!(VECTOR_AT >= size_of::<Frame>() && (VECTOR_AT + 8).is_multiple_of(16));

/// A frame with the vector state behind it, in the making.
pub struct Image(Vec<u8>);

impl Image {
    /// Room for a frame with so much vector state.
    pub fn new(vector_bytes: usize) -> Self {
        Self(vec![0; VECTOR_AT + vector_bytes.max(VECTOR_MIN) + size_of_val(&VECTOR_MAGIC_END)])
    }

    /// Where the vector state is to be written, as the processor has it.
    pub fn vector(&mut self) -> &mut [u8] {
        let end = self.0.len() - size_of_val(&VECTOR_MAGIC_END);
        self.0.get_mut(VECTOR_AT..end).unwrap_or_default()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Adds the marks that programs look for.
    fn mark(&mut self) {
        let size = self.vector().len() as u32;
        let words = [VECTOR_MAGIC_START, size + 4, VECTOR_FEATURES as u32, 0, size];
        self.put(VECTOR_AT + VECTOR_SOFTWARE, words.as_bytes());
        self.put(VECTOR_AT + size as usize, &VECTOR_MAGIC_END.to_le_bytes());
    }
}

/// Puts a frame on the stack and points the registers at the handler. `EFAULT` if the stack can't be written.
pub fn push(space: &Space, context: &Context, delivery: &Delivery, mut image: Image) -> Result<Context> {
    let on_alt = delivery.use_alt_stack && delivery.alt_stack.size != 0 && !delivery.alt_stack.holds(context.rsp);
    let top = if on_alt {
        delivery.alt_stack.base.checked_add(delivery.alt_stack.size)
    } else {
        context.rsp.checked_sub(RED_ZONE_BYTES)
    };
    let vector_bytes = (image.0.len() - VECTOR_AT) as u64;
    let vector = top.and_then(|top| top.checked_sub(vector_bytes)).ok_or(Errno::EFAULT)?;
    let vector = vector & !(VECTOR_ALIGNMENT - 1);
    let address = vector.checked_sub(VECTOR_AT as u64).ok_or(Errno::EFAULT)?;
    if delivery.alt_stack.holds(context.rsp) && delivery.use_alt_stack && !delivery.alt_stack.holds(address) {
        return Err(Errno::EFAULT);
    }
    let frame = Frame {
        return_address: delivery.restorer,
        flags: UC_FLAGS,
        link: 0,
        stack: delivery.alt_stack.to_raw(context.rsp),
        machine: machine_of(context, delivery, vector),
        mask: delivery.mask,
        info: delivery.info.to_bytes(),
    };
    image.put(0, frame.as_bytes());
    image.mark();
    write_all(space, address, &image.0)?;
    Ok(Context {
        rax: 0,
        rdi: u64::from(delivery.info.signal.number()),
        rsi: address + offset_of!(Frame, info) as u64,
        rdx: address + offset_of!(Frame, flags) as u64,
        rsp: address,
        rip: delivery.handler,
        // A function begins with DF clear; RF and TF are not the handler's.
        rflags: context.rflags & USER_RFLAGS & !(FLAG_DIRECTION | FLAG_TRAP) | FLAG_ALWAYS | FLAG_INTERRUPTS,
        ..*context
    })
}

const FLAG_ALWAYS: u64 = 1 << 1;
const FLAG_TRAP: u64 = 1 << 8;
const FLAG_INTERRUPTS: u64 = 1 << 9;
const FLAG_DIRECTION: u64 = 1 << 10;

fn machine_of(context: &Context, delivery: &Delivery, vector: u64) -> Machine {
    Machine {
        r8: context.r8,
        r9: context.r9,
        r10: context.r10,
        r11: context.r11,
        r12: context.r12,
        r13: context.r13,
        r14: context.r14,
        r15: context.r15,
        rdi: context.rdi,
        rsi: context.rsi,
        rbp: context.rbp,
        rbx: context.rbx,
        rdx: context.rdx,
        rax: context.rax,
        rcx: context.rcx,
        rsp: context.rsp,
        rip: context.rip,
        rflags: context.rflags,
        code: USER_CODE,
        gs: 0,
        fs: 0,
        stack: USER_STACK,
        error: delivery.trap.code,
        trap: delivery.trap.number,
        old_mask: delivery.mask.0,
        fault_address: delivery.trap.address,
        vector,
        reserved: [0; 8],
    }
}

/// What a frame brings back.
pub struct Returned {
    /// The registers.
    pub context: Context,
    /// The mask.
    pub mask: SignalSet,
    /// The alternate stack.
    pub stack: RawStack,
    /// The vector state, made harmless; empty if the frame has none.
    pub vector: Vec<u8>,
}

/// Reads the frame that `rt_sigreturn` finds at the stack pointer. `EFAULT`.
///
/// Registers come back as they are, but for the flags that are not a program's; an address that is not canonical faults in
/// the program, not here.
pub fn pop(space: &Space, stack_pointer: u64, vector_bytes: usize) -> Result<Returned> {
    // The handler's `ret` has taken the return address off.
    let address = stack_pointer.checked_sub(8).ok_or(Errno::EFAULT)?;
    // Most frames are as they were made: the vector state comes with them.
    let mut bytes = vec![0; VECTOR_AT + vector_bytes];
    let read = space.read(address, &mut bytes);
    let (frame, _) = Frame::read_from_prefix(bytes.get(..read).unwrap_or_default()).map_err(|_| Errno::EFAULT)?;
    let machine = &frame.machine;
    let is_behind = read == bytes.len() && machine.vector == address + VECTOR_AT as u64;
    let vector = if is_behind && vector_bytes >= VECTOR_MIN {
        bytes.drain(..VECTOR_AT);
        sanitize(&mut bytes);
        bytes
    } else {
        read_vector(space, machine.vector, vector_bytes)?
    };
    let context = Context {
        rax: machine.rax,
        rbx: machine.rbx,
        rcx: machine.rcx,
        rdx: machine.rdx,
        rsi: machine.rsi,
        rdi: machine.rdi,
        rbp: machine.rbp,
        rsp: machine.rsp,
        r8: machine.r8,
        r9: machine.r9,
        r10: machine.r10,
        r11: machine.r11,
        r12: machine.r12,
        r13: machine.r13,
        r14: machine.r14,
        r15: machine.r15,
        rip: machine.rip,
        rflags: machine.rflags & USER_RFLAGS | FLAG_ALWAYS | FLAG_INTERRUPTS,
    };
    Ok(Returned { context, mask: frame.mask, stack: frame.stack, vector })
}

fn read_vector(space: &Space, address: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    if address == 0 || bytes < VECTOR_MIN {
        return Ok(image);
    }
    image.resize(bytes, 0);
    if space.read(address, &mut image) != bytes {
        return Err(Errno::EFAULT);
    }
    sanitize(&mut image);
    Ok(image)
}

/// Notes which features an XSAVE image has, in the bytes that are software's.
pub fn mark_features(image: &mut [u8]) {
    if let Some(field) = image.get_mut(VECTOR_SOFTWARE..VECTOR_HEADER) {
        field.fill(0);
        if let Some(features) = field.first_chunk_mut() {
            *features = VECTOR_FEATURES.to_le_bytes();
        }
    }
}

/// Replaces the x87 and SSE state of an image. `EINVAL` for bits of MXCSR that do not exist.
pub fn replace_legacy(image: &mut [u8], legacy: &[u8]) -> Result<()> {
    let mxcsr = legacy.get(MXCSR_OFFSET..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_le_bytes);
    if mxcsr & !MXCSR_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(place) = image.get_mut(..legacy.len()) {
        place.copy_from_slice(legacy);
    }
    if let Some(features) = image.get_mut(VECTOR_HEADER) {
        *features |= LEGACY_FEATURES;
    }
    Ok(())
}

/// Makes an XSAVE image one that the processor loads without a fault (Intel SDM vol. 1, 13.8).
pub fn sanitize(image: &mut [u8]) {
    if let Some(field) = image.get_mut(MXCSR_OFFSET..MXCSR_OFFSET + 4)
        && let Ok(bytes) = <[u8; 4]>::try_from(&*field)
    {
        field.copy_from_slice(&(u32::from_le_bytes(bytes) & MXCSR_MASK).to_le_bytes());
    }
    if let Some(header) = image.get_mut(VECTOR_HEADER..VECTOR_MIN) {
        let features = header.first().copied().unwrap_or_default() & VECTOR_FEATURES as u8;
        header.fill(0);
        if let Some(first) = header.first_mut() {
            *first = features;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Account, Backing, Change, Inherit, Protection, Sharing};
    use crate::signal::Signal;

    fn stack() -> Space {
        let space = Space::create(&Account).unwrap();
        let map = Change::Map {
            address: 0x10_0000,
            length: 0x1_0000,
            backing: Backing::Zero,
            sharing: Sharing::Private,
            protection: Protection::READ | Protection::WRITE,
            inherit: Inherit::Clone,
        };
        space.commit(&[map]).unwrap();
        space
    }

    fn pushed(space: &Space, context: &Context, delivery: &Delivery, vector: &[u8]) -> Result<Context> {
        let mut image = Image::new(vector.len());
        image.vector().copy_from_slice(vector);
        push(space, context, delivery, image)
    }

    fn delivery() -> Delivery {
        Delivery {
            info: SignalInfo::from_process(Signal::TERM, 0, 5, 6),
            handler: 0x1000,
            restorer: 0x2000,
            mask: SignalSet::of(Signal::HUP),
            alt_stack: AltStack::default(),
            use_alt_stack: false,
            trap: Trap::default(),
        }
    }

    #[test]
    fn the_records_have_the_sizes_of_linux() {
        assert_eq!(size_of::<Machine>(), 256);
        assert_eq!(offset_of!(Frame, machine) - offset_of!(Frame, flags), 40);
        assert_eq!(offset_of!(Frame, mask) - offset_of!(Frame, flags), 296);
        assert_eq!(size_of::<Frame>(), 440);
    }

    #[test]
    fn what_is_pushed_comes_back_with_harmless_flags() {
        let space = stack();
        let before = Context { rax: 1, r15: 15, rip: 77, rsp: 0x10_8000, rflags: 0x246, ..Context::default() };
        let vector = [0x55; 600];
        let inside = pushed(&space, &before, &delivery(), &vector).unwrap();
        assert_eq!((inside.rip, inside.rdi, inside.rsp % 16), (0x1000, 15, 8));
        assert!(inside.rsp + 128 <= before.rsp);
        let mut return_address = [0; 8];
        space.read(inside.rsp, &mut return_address);
        assert_eq!(u64::from_le_bytes(return_address), 0x2000);
        let back = pop(&space, inside.rsp + 8, 600).unwrap();
        assert_eq!(back.context, before);
        assert_eq!(back.mask, SignalSet::of(Signal::HUP));
        assert_eq!(back.vector.len(), 600);
        assert_eq!(back.vector[512], 5, "features that do not exist are dropped");
        assert_eq!(back.vector[520..576], [0; 56]);
    }

    #[test]
    fn vector_state_may_have_been_moved() {
        let space = stack();
        let before = Context { rsp: 0x10_8000, rflags: 0x246, ..Context::default() };
        let inside = pushed(&space, &before, &delivery(), &[0x55; 576]).unwrap();
        let address = inside.rsp + (offset_of!(Frame, machine) + offset_of!(Machine, vector)) as u64;
        space.write(0x10_0100, &[0x66; 576]);
        space.write(address, &0x10_0100u64.to_le_bytes());
        assert_eq!(pop(&space, inside.rsp + 8, 576).unwrap().vector[0], 0x66);
        space.write(address, &0u64.to_le_bytes());
        assert!(pop(&space, inside.rsp + 8, 576).unwrap().vector.is_empty());
        space.write(address, &0x90_0000u64.to_le_bytes());
        assert!(pop(&space, inside.rsp + 8, 576).is_err());
    }

    #[test]
    fn flags_of_the_system_do_not_come_back() {
        let space = stack();
        let before = Context { rsp: 0x10_8000, rflags: 0x246, ..Context::default() };
        let inside = pushed(&space, &before, &delivery(), &[0; 576]).unwrap();
        let address = inside.rsp + (offset_of!(Frame, machine) + offset_of!(Machine, rflags)) as u64;
        space.write(address, &u64::MAX.to_le_bytes());
        let back = pop(&space, inside.rsp + 8, 576).unwrap();
        assert_eq!(back.context.rflags, USER_RFLAGS | 0x202);
    }

    #[test]
    fn a_stack_that_cannot_be_written_is_a_fault() {
        let space = stack();
        for rsp in [0, 100, 0x10_0010, 0x50_0000, u64::MAX] {
            let context = Context { rsp, ..Context::default() };
            assert_eq!(pushed(&space, &context, &delivery(), &[0; 576]), Err(Errno::EFAULT));
        }
        assert!(pop(&space, 4, 576).is_err());
    }

    #[test]
    fn the_alternate_stack_is_used_once() {
        let space = stack();
        let alt_stack = AltStack { base: 0x10_0000, size: 0x4000, flags: 0 };
        let on_alt = Delivery { alt_stack, use_alt_stack: true, ..delivery() };
        let outside = Context { rsp: 0x10_f000, ..Context::default() };
        let first = pushed(&space, &outside, &on_alt, &[0; 576]).unwrap();
        assert!(alt_stack.holds(first.rsp));
        let second = pushed(&space, &first, &on_alt, &[0; 576]).unwrap();
        assert!(alt_stack.holds(second.rsp) && second.rsp < first.rsp);
    }
}
