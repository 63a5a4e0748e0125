//! Kernel stacks: one per processor, and one for each exception that brings its own. Below each is a page that is never
//! mapped, so an overflow is a double fault with a message instead of somebody else's data.

use crate::cpu::gdt::ExceptionStack;
use crate::cpu::percpu::PerCpu;
use crate::paging;
use crate::paging::{KernelTables, OutOfFrames};

/// Where stacks are mapped: the last GiB of the address space.
const BASE: u64 = 0xffff_ffff_c000_0000;
const PAGE: u64 = quire_core::machine::PAGE_SIZE;
/// Pages of the main stack.
const MAIN_PAGES: u64 = 32;
/// Pages of each exception stack.
const EXCEPTION_PAGES: u64 = 4;
/// Exception stacks per processor.
const EXCEPTIONS: usize = 3;
/// Address space per processor.
const PROCESSOR_BYTES: u64 = 256 * 1024;
/// What the exception stacks keep above their top: the address of the processor's `PerCpu`, and padding.
pub(crate) const EXCEPTION_STACK_HEADER: u64 = 16;

/// The tops of one processor's stacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stacks {
    /// For everything else.
    pub(crate) main: u64,
    /// By [`ExceptionStack`].
    pub(crate) exceptions: [u64; EXCEPTIONS],
}

const _: () = assert!((MAIN_PAGES + 1 + EXCEPTIONS as u64 * (EXCEPTION_PAGES + 1)) * PAGE <= PROCESSOR_BYTES);
const _: () = assert!(ExceptionStack::MachineCheck as usize + 1 == EXCEPTIONS);

/// Maps the stacks of processor `number`.
///
/// # Errors
/// [`OutOfFrames`] if there is no memory for them.
pub(crate) fn map(tables: &mut KernelTables, number: u32) -> Result<Stacks, OutOfFrames> {
    let mut cursor = BASE + u64::from(number) * PROCESSOR_BYTES;
    let mut next = |pages: u64| {
        let bottom = cursor + PAGE;
        cursor = bottom + pages * PAGE;
        (0..pages).try_for_each(|page| tables.map_new(bottom + page * PAGE, paging::KERNEL_DATA))?;
        Ok(cursor)
    };
    let main = next(MAIN_PAGES)?;
    let mut exceptions = [0; EXCEPTIONS];
    for top in &mut exceptions {
        *top = next(EXCEPTION_PAGES)? - EXCEPTION_STACK_HEADER;
    }
    Ok(Stacks { main, exceptions })
}

impl Stacks {
    /// Puts the address of the processor's `PerCpu` above each exception stack, where the entry code looks for it. The
    /// page tables that map the stacks must be loaded.
    pub(crate) fn write_headers(&self, per_cpu: &'static PerCpu) {
        for top in self.exceptions {
            // SAFETY: `map` mapped the page and left room for this above the top; nothing is on these stacks yet.
            unsafe { (top as *mut *const PerCpu).write(per_cpu) };
        }
    }
}
