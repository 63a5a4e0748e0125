//! Vector and floating-point state: XSAVE images in standard form (Intel SDM vol. 1, chapter 13). Processors
//! without XSAVE fill the legacy region with FXSAVE; the header then says that x87 and SSE are there, and stays so.
//!
//! XSAVE is used, not XSAVEOPT, because programs that look into an image expect the registers' values there even if
//! these are the initial ones.
//!
//! The registers of a thread stay in the processor when it stops running, and are saved only when another thread
//! with vector state comes in or somebody wants to see them. For a thread without vector state, CR0.TS makes the
//! registers untouchable.

use crate::cpu::features::Features;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_core::thread::VectorBlock;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// State components that every processor has: x87 and SSE.
const LEGACY: u64 = 0b11;
/// AVX.
const AVX: u64 = 0b100;
/// The three of AVX-512.
const AVX512: u64 = 0b1110_0000;
/// What threads get if the processor has it.
const WANTED: u64 = LEGACY | AVX | AVX512;
/// The legacy region and the header, in bytes.
const LEAST_BYTES: u32 = 576;
/// Bytes per block.
const BLOCK: usize = size_of::<VectorBlock>();

/// Offsets in the legacy region.
const CONTROL_WORD: usize = 0;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// The block that holds the header: XSTATE_BV, XCOMP_BV, reserved.
const HEADER_BLOCK: usize = 8;
const STATE_PRESENT: usize = 0;

/// All x87 exceptions masked, extended precision.
const INITIAL_CONTROL_WORD: u16 = 0x037f;
/// All SSE exceptions masked.
const INITIAL_MXCSR: u32 = 0x1f80;
/// MXCSR bits that exist when the mask in an image is zero (vol. 1, 11.6.6).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

static COMPONENTS: AtomicU64 = AtomicU64::new(0);
static IMAGE_BYTES: AtomicU32 = AtomicU32::new(0);
static HAS_XSAVE: AtomicBool = AtomicBool::new(false);
static VALID_MXCSR: AtomicU32 = AtomicU32::new(DEFAULT_MXCSR_MASK);

/// Enables the components on this processor and learns how large an image is. XSAVE must be enabled in CR4 if there
/// is any.
pub(crate) fn init(features: &Features) {
    let (components, bytes) = if features.xsave { enable_components() } else { (LEGACY, LEAST_BYTES) };
    COMPONENTS.store(components, Ordering::Relaxed);
    IMAGE_BYTES.store(bytes.max(LEAST_BYTES).next_multiple_of(BLOCK as u32), Ordering::Relaxed);
    HAS_XSAVE.store(features.xsave, Ordering::Relaxed);
    VALID_MXCSR.store(read_mxcsr_mask(), Ordering::Relaxed);
}

/// Enables what is wanted and supported; returns that, and the bytes that it takes.
fn enable_components() -> (u64, u32) {
    let supported = __cpuid_count(0xd, 0);
    let components = (u64::from(supported.edx) << 32 | u64::from(supported.eax)) & WANTED | LEGACY;
    // AVX-512's components can only be enabled together, and with AVX.
    let all_of_avx512 = components & (AVX512 | AVX) == AVX512 | AVX;
    let components = if all_of_avx512 { components } else { components & !AVX512 };
    // SAFETY: XSAVE is enabled, the components are supported, and x87 is among them.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32, options(nostack));
    }
    // EBX is the size that the components which are enabled now need.
    (components, __cpuid_count(0xd, 0).ebx)
}

fn read_mxcsr_mask() -> u32 {
    let mut image = [const { VectorBlock([0; BLOCK]) }; 8];
    // SAFETY: FXSAVE writes 512 bytes, which the image has, at an aligned address.
    unsafe { asm!("fxsave64 [{}]", in(reg) image.as_mut_ptr(), options(nostack)) };
    match read_u32(&image[0].0, MXCSR_MASK) {
        0 => DEFAULT_MXCSR_MASK,
        mask => mask,
    }
}

fn read_u32(block: &[u8; BLOCK], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

fn read_u64(block: &[u8; BLOCK], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}

/// Size of an image in bytes; 0 without XSAVE.
pub(crate) fn image_bytes() -> u32 {
    IMAGE_BYTES.load(Ordering::Relaxed)
}

/// Makes `area` the image of the initial state.
pub(crate) fn init_image(area: &mut [VectorBlock]) {
    for block in area.iter_mut() {
        block.0 = [0; BLOCK];
    }
    if let Some(first) = area.first_mut() {
        first.0[CONTROL_WORD..CONTROL_WORD + 2].copy_from_slice(&INITIAL_CONTROL_WORD.to_le_bytes());
        first.0[MXCSR..MXCSR + 4].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
    }
    if let Some(header) = area.get_mut(HEADER_BLOCK) {
        header.0[STATE_PRESENT..STATE_PRESENT + 8].copy_from_slice(&LEGACY.to_le_bytes());
    }
}

/// Whether XRSTOR would load the image without a fault (vol. 1, 13.8.1).
pub(crate) fn is_valid(area: &[VectorBlock]) -> bool {
    let (Some(first), Some(header)) = (area.first(), area.get(HEADER_BLOCK)) else { return false };
    let present = read_u64(&header.0, STATE_PRESENT);
    let rest_is_zero = header.0[STATE_PRESENT + 8..].iter().all(|byte| *byte == 0);
    let mxcsr_is_valid = read_u32(&first.0, MXCSR) & !VALID_MXCSR.load(Ordering::Relaxed) == 0;
    present & !COMPONENTS.load(Ordering::Relaxed) == 0 && rest_is_zero && mxcsr_is_valid && is_large_enough(area)
}

fn is_large_enough(area: &[VectorBlock]) -> bool {
    size_of_val(area) >= image_bytes() as usize
}

/// Where the processor's vector registers may be written: large enough, aligned.
#[derive(Clone, Copy)]
pub(crate) struct Image(*mut VectorBlock);

impl Image {
    /// Nowhere.
    pub(crate) const NONE: Self = Self(core::ptr::null_mut());

    /// The image in `area`.
    #[inline]
    pub(crate) fn in_area(area: &mut [VectorBlock]) -> Self {
        assert!(is_large_enough(area), "XSAVE image too small");
        Self(area.as_mut_ptr())
    }

    /// Writes the processor's vector registers there. [`allow`] was called.
    ///
    /// # Safety
    /// The area is still there, and nobody has a reference to it.
    #[inline]
    pub(crate) unsafe fn save(self) {
        // SAFETY: the area is as large as all components need and aligned to 64 bytes; XSAVE is used where it exists.
        unsafe {
            if HAS_XSAVE.load(Ordering::Relaxed) {
                asm!("xsave64 [{}]", in(reg) self.0, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            } else {
                asm!("fxsave64 [{}]", in(reg) self.0, options(nostack));
            }
        }
    }

    /// Loads the processor's vector registers from there. [`allow`] was called.
    ///
    /// # Safety
    /// The area is still there, and what it holds is valid ([`is_valid`]).
    #[inline]
    pub(crate) unsafe fn load(self) {
        // SAFETY: the area is large enough and aligned, and its content does not fault. The kernel itself uses no vector
        // registers.
        unsafe {
            if HAS_XSAVE.load(Ordering::Relaxed) {
                asm!("xrstor64 [{}]", in(reg) self.0, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            } else {
                asm!("fxrstor64 [{}]", in(reg) self.0, options(nostack));
            }
        }
    }
}

/// Writes the processor's vector registers to `area`. CR0.TS may be set: it is cleared.
pub(crate) fn save(area: &mut [VectorBlock]) {
    allow();
    // SAFETY: the area is the caller's.
    unsafe { Image::in_area(area).save() };
}

/// Lets vector instructions run on this processor.
#[inline]
pub(crate) fn allow() {
    let trap = &crate::cpu::percpu::current().vector_trap;
    if trap.replace(false) {
        // SAFETY: clearing CR0.TS only makes vector instructions run.
        unsafe { asm!("clts", options(nostack)) };
    }
}

/// Makes vector instructions trap on this processor (#NM).
#[inline]
pub(crate) fn forbid() {
    let trap = &crate::cpu::percpu::current().vector_trap;
    if !trap.replace(true) {
        // SAFETY: the kernel itself uses no vector registers.
        unsafe { Cr0::update(|cr0| cr0.insert(Cr0Flags::TASK_SWITCHED)) };
    }
}
