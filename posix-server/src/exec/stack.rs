//! The first stack of a program: arguments, environment and the auxiliary vector (System V ABI for x86-64, 3.4.1). Pure.

use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use linux_raw_sys::auxvec;

/// The longest argument or variable, with its terminating zero (`MAX_ARG_STRLEN`).
pub const MAX_STRING_BYTES: usize = 128 << 10;
/// The most that all may take, whatever the stack's limit (3/4 of the default stack).
const MAX_TOTAL_BYTES: u64 = 6 << 20;
/// The least that all may take, whatever the stack's limit (`ARG_MAX`).
const MIN_TOTAL_BYTES: u64 = 128 << 10;
/// `AT_PLATFORM`.
const PLATFORM: &[u8] = b"x86_64\0";
/// `AT_HWCAP`: the features in `edx` of CPUID leaf 1 that every x86-64 processor has.
const HARDWARE: u64 = 0x078b_fbff;
/// `AT_CLKTCK`: `times` counts in hundredths of a second.
pub const TICKS_PER_SECOND: u64 = 100;

/// Arguments and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// The arguments, without terminating zeroes.
    pub arguments: Vec<Vec<u8>>,
    /// The environment, likewise.
    pub environment: Vec<Vec<u8>>,
}

/// How many bytes arguments and environment may take with a stack of so many (`execve(2)`).
pub fn limit(stack_bytes: u64) -> u64 {
    (stack_bytes / 4).clamp(MIN_TOTAL_BYTES, MAX_TOTAL_BYTES)
}

impl Strings {
    /// Checks that they fit. `E2BIG`.
    pub fn check(&self, limit: u64) -> Result<()> {
        let all = || self.arguments.iter().chain(&self.environment);
        if all().any(|string| string.len() >= MAX_STRING_BYTES) {
            return Err(Errno::E2BIG);
        }
        let total: u64 = all().map(|string| string.len() as u64 + 1 + size_of::<u64>() as u64).sum();
        if total > limit { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// What the auxiliary vector tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auxiliary {
    /// Where the program headers are.
    pub headers: u64,
    /// How many there are.
    pub header_count: u64,
    /// Where the interpreter is; 0 without one.
    pub base: u64,
    /// Where the program starts.
    pub entry: u64,
    /// uid, euid, gid, egid.
    pub ids: [u32; 4],
    /// Whether the program runs with more than its user's rights.
    pub secure: u64,
    /// The path that was executed.
    pub path: Vec<u8>,
    /// Sixteen unpredictable bytes.
    pub random: [u8; 16],
    /// Where the vDSO is.
    pub vdso: u64,
}

/// A stack that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstStack {
    /// The stack pointer: the address of the first byte.
    pub pointer: u64,
    /// The bytes from there to the stack's end.
    pub bytes: Vec<u8>,
    /// Where arguments start and end, and where the environment starts and ends.
    pub strings: [u64; 4],
}

/// Strings going down from the stack's end.
struct Strip {
    end: u64,
    /// Backwards.
    bytes: Vec<u8>,
}

impl Strip {
    fn address(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.extend(bytes.iter().rev());
        self.address()
    }

    fn push_string(&mut self, string: &[u8]) -> u64 {
        self.bytes.push(0);
        self.push(string)
    }

    /// Pushes strings so that the first is lowest; returns their addresses in order.
    fn push_strings(&mut self, strings: &[Vec<u8>]) -> Vec<u64> {
        let mut addresses: Vec<u64> = strings.iter().rev().map(|string| self.push_string(string)).collect();
        addresses.reverse();
        addresses
    }
}

/// Lays out the stack below `end` (a multiple of 16). The strings have been [checked](Strings::check).
pub fn build(end: u64, strings: &Strings, auxiliary: &Auxiliary) -> FirstStack {
    let mut strip = Strip { end, bytes: Vec::new() };
    strip.push(&[0; 8]);
    let path = strip.push_string(&auxiliary.path);
    let environment_end = strip.address();
    let environment = strip.push_strings(&strings.environment);
    let environment_start = strip.address();
    let arguments = strip.push_strings(&strings.arguments);
    let arguments_start = strip.address();
    let platform = strip.push(PLATFORM);
    let random = strip.push(&auxiliary.random);

    let mut words: Vec<u64> = Vec::new();
    words.push(arguments.len() as u64);
    words.extend(&arguments);
    words.push(0);
    words.extend(&environment);
    words.push(0);
    words.extend(vector(auxiliary, path, platform, random).iter().flat_map(|(kind, value)| [u64::from(*kind), *value]));

    let pointer = (strip.address() - words.len() as u64 * 8) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize((strip.address() - pointer) as usize, 0);
    bytes.extend(strip.bytes.iter().rev());
    let strings = [arguments_start, environment_start, environment_start, environment_end];
    FirstStack { pointer, bytes, strings }
}

fn vector(auxiliary: &Auxiliary, path: u64, platform: u64, random: u64) -> [(u32, u64); 21] {
    let [uid, euid, gid, egid] = auxiliary.ids.map(u64::from);
    [
        (auxvec::AT_SYSINFO_EHDR, auxiliary.vdso),
        (auxvec::AT_HWCAP, HARDWARE),
        (auxvec::AT_PAGESZ, crate::platform::PAGE_SIZE),
        (auxvec::AT_CLKTCK, TICKS_PER_SECOND),
        (auxvec::AT_PHDR, auxiliary.headers),
        (auxvec::AT_PHENT, u64::from(super::elf::PROGRAM_HEADER_BYTES)),
        (auxvec::AT_PHNUM, auxiliary.header_count),
        (auxvec::AT_BASE, auxiliary.base),
        (auxvec::AT_FLAGS, 0),
        (auxvec::AT_ENTRY, auxiliary.entry),
        (auxvec::AT_UID, uid),
        (auxvec::AT_EUID, euid),
        (auxvec::AT_GID, gid),
        (auxvec::AT_EGID, egid),
        (auxvec::AT_SECURE, auxiliary.secure),
        (auxvec::AT_RANDOM, random),
        (auxvec::AT_HWCAP2, 0),
        (auxvec::AT_EXECFN, path),
        (auxvec::AT_PLATFORM, platform),
        (auxvec::AT_MINSIGSTKSZ, crate::signal::frame::MIN_STACK_BYTES),
        (auxvec::AT_NULL, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 0x7fff_0000_0000;

    fn word(stack: &FirstStack, index: usize) -> u64 {
        u64::from_le_bytes(stack.bytes[index * 8..index * 8 + 8].try_into().unwrap())
    }

    fn string_at(stack: &FirstStack, address: u64) -> Vec<u8> {
        let rest = &stack.bytes[(address - stack.pointer) as usize..];
        rest.iter().take_while(|byte| **byte != 0).copied().collect()
    }

    #[test]
    fn the_stack_is_what_the_abi_says() {
        let strings = Strings {
            arguments: [&b"one"[..], b"", b"three"].map(<[u8]>::to_vec).to_vec(),
            environment: [b"A=b".to_vec()].to_vec(),
        };
        let auxiliary = Auxiliary { path: b"/bin/x".to_vec(), random: [7; 16], entry: 99, ..Auxiliary::default() };
        let stack = build(END, &strings, &auxiliary);
        assert_eq!(stack.pointer % 16, 0);
        assert_eq!(stack.pointer + stack.bytes.len() as u64, END);
        assert_eq!(word(&stack, 0), 3);
        assert_eq!(string_at(&stack, word(&stack, 3)), b"three");
        assert_eq!(word(&stack, 4), 0);
        assert_eq!(string_at(&stack, word(&stack, 5)), b"A=b");
        assert_eq!(word(&stack, 6), 0);
        let vector: Vec<_> = (7..).step_by(2).map(|at| (word(&stack, at), word(&stack, at + 1))).take(21).collect();
        let value = |kind: u32| vector.iter().find(|pair| pair.0 == u64::from(kind)).unwrap().1;
        assert_eq!(value(auxvec::AT_ENTRY), 99);
        assert_eq!(string_at(&stack, value(auxvec::AT_EXECFN)), b"/bin/x");
        assert_eq!(string_at(&stack, value(auxvec::AT_PLATFORM)), b"x86_64");
        assert_eq!(vector.last().unwrap().0, 0);
        let random = (value(auxvec::AT_RANDOM) - stack.pointer) as usize;
        assert_eq!(stack.bytes[random..random + 16], [7; 16]);
        let [start, end, ..] = stack.strings;
        assert_eq!(&stack.bytes[(start - stack.pointer) as usize..(end - stack.pointer) as usize], b"one\0\0three\0");
    }

    #[test]
    fn too_much_is_refused() {
        let one = |length: usize| Strings { arguments: [[b'x'].repeat(length)].to_vec(), ..Strings::default() };
        assert_eq!(one(MAX_STRING_BYTES - 1).check(limit(8 << 20)), Ok(()));
        assert_eq!(one(MAX_STRING_BYTES).check(limit(8 << 20)), Err(Errno::E2BIG));
        let many = Strings { arguments: alloc::vec![b"x".to_vec(); 300_000], ..Strings::default() };
        assert_eq!(many.check(limit(8 << 20)), Err(Errno::E2BIG));
        assert_eq!(many.check(limit(1 << 40)), Ok(()));
    }
}
