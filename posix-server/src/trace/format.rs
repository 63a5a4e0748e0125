//! From the words of a call to a text, the way `strace` writes it.

use super::flags;
use super::linux_calls::LinuxCall;
use super::signature::Argument;
use crate::errno::{Errno, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// How many bytes of a buffer are shown.
const SHOWN_BYTES: usize = 32;
/// How many bytes of a name are shown.
const SHOWN_NAME_BYTES: usize = 256;
/// How many strings of a list are shown.
const SHOWN_STRINGS: u64 = 16;

/// The names of the signals from 1 on.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The first real-time signal, as the kernel counts.
const FIRST_REALTIME: u32 = 32;

/// The calls that give an address.
const ADDRESSES: [u32; 4] = [linux::__NR_brk, linux::__NR_mmap, linux::__NR_mremap, linux::__NR_shmat];

/// What a program's memory holds, as far as it can be read.
pub(super) trait Peek {
    /// Fills the buffer from an address. False: not all of it is there.
    fn bytes(&self, address: u64, buffer: &mut [u8]) -> bool;
    /// The string at an address, without its zero; at most `max` bytes.
    fn string(&self, address: u64, max: usize) -> Option<Vec<u8>>;
}

/// The name of a call; its number if Linux has none with it.
pub(super) fn name(number: u32) -> String {
    super::linux_calls::find(number).map_or_else(|| format!("syscall_{number:#x}"), |call| call.name.to_string())
}

/// The arguments that are known when a call begins. An argument that the call fills is left out, with all that follow it: see
/// [`results`].
pub(super) fn arguments(call: Option<&LinuxCall>, words: &[u64; 6], memory: &dyn Peek) -> String {
    let Some(call) = call else { return list(words.iter().map(|word| format!("{word:#x}"))) };
    let filled = first_filled(call);
    let known = call.arguments.iter().take(filled).enumerate().filter(|(index, _)| is_given(call, words, *index));
    let mut text = list(known.map(|(index, kind)| argument(*kind, words, index, memory, 0)));
    if filled > 0 && filled < call.arguments.len() {
        text.push_str(", ");
    }
    text
}

/// The rest of the arguments, when the call has returned `result`.
pub(super) fn results(call: Option<&LinuxCall>, words: &[u64; 6], memory: &dyn Peek, result: Result<u64>) -> String {
    let Some(call) = call else { return String::new() };
    let rest = call.arguments.iter().enumerate().skip(first_filled(call));
    list(rest.map(|(index, kind)| argument(*kind, words, index, memory, result.unwrap_or(0))))
}

/// What a call gave: ` = 3`, or ` = -1 ENOENT`.
pub(super) fn outcome(number: u32, result: Result<u64>) -> String {
    match result {
        Ok(address) if ADDRESSES.contains(&number) => format!(" = {address:#x}"),
        Ok(value) if (value as i64).unsigned_abs() < 1 << 31 => format!(" = {}", value as i64),
        Ok(value) => format!(" = {value:#x}"),
        Err(Errno::RESTART) => String::from(" = ? ERESTARTSYS"),
        Err(Errno::RESTART_NO_HANDLER) => String::from(" = ? ERESTARTNOHAND"),
        Err(Errno::RESTART_BLOCK) => String::from(" = ? ERESTART_RESTARTBLOCK"),
        Err(error) => format!(" = -1 {error}"),
    }
}

/// The name of a signal.
pub(super) fn signal(number: u32) -> String {
    match SIGNALS.get((number as usize).wrapping_sub(1)) {
        Some(name) => format!("SIG{name}"),
        None if number >= FIRST_REALTIME => format!("SIGRT_{}", number - FIRST_REALTIME),
        None => number.to_string(),
    }
}

/// Whether an argument means something: the mode of `open` does only if a file may be made.
fn is_given(call: &LinuxCall, words: &[u64; 6], index: usize) -> bool {
    let before = index.checked_sub(1);
    let flags = before.filter(|before| call.arguments.get(*before) == Some(&Argument::Open));
    match (call.arguments.get(index), flags.and_then(|flags| words.get(flags))) {
        (Some(Argument::Mode), Some(flags)) => flags & u64::from(flags::MAKES_A_FILE) != 0,
        _ => true,
    }
}

fn first_filled(call: &LinuxCall) -> usize {
    let place = call.arguments.iter().position(|kind| *kind == Argument::Filled);
    place.unwrap_or(call.arguments.len())
}

fn list(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn argument(kind: Argument, words: &[u64; 6], index: usize, memory: &dyn Peek, result: u64) -> String {
    let word = words.get(index).copied().unwrap_or_default();
    let next = words.get(index + 1).copied().unwrap_or_default();
    match kind {
        Argument::Fd | Argument::Int => (word as i32).to_string(),
        Argument::Dir if word as i32 == linux::AT_FDCWD => String::from("AT_FDCWD"),
        Argument::Dir => (word as i32).to_string(),
        Argument::Path | Argument::Text => text(memory, word),
        Argument::Ptr if word == 0 => String::from("NULL"),
        Argument::Ptr => format!("{word:#x}"),
        Argument::Uint => word.to_string(),
        Argument::Hex if word == 0 => String::from("0"),
        Argument::Hex => format!("{word:#x}"),
        Argument::Mode => format!("0{:03o}", word as u32),
        Argument::Open => flags::open(word as u32),
        Argument::Prot => flags::protection(word as u32),
        Argument::Map => flags::mapping(word as u32),
        Argument::At => flags::at(word as u32),
        Argument::Clone => flags::clone(word as u32),
        Argument::Sig => signal(word as u32),
        Argument::Bytes => buffer(memory, word, next),
        Argument::Filled => buffer(memory, word, result),
        Argument::Strings => strings(memory, word),
        Argument::Clock => clock(word as u32),
        Argument::Whence => whence(word as u32),
    }
}

fn text(memory: &dyn Peek, address: u64) -> String {
    if address == 0 {
        return String::from("NULL");
    }
    match memory.string(address, SHOWN_NAME_BYTES) {
        Some(bytes) => quoted(&bytes, bytes.len() >= SHOWN_NAME_BYTES),
        None => format!("{address:#x}"),
    }
}

fn buffer(memory: &dyn Peek, address: u64, length: u64) -> String {
    let mut bytes = [0; SHOWN_BYTES];
    let shown = usize::try_from(length).unwrap_or(SHOWN_BYTES).min(SHOWN_BYTES);
    let part = bytes.get_mut(..shown).unwrap_or_default();
    if address != 0 && memory.bytes(address, part) {
        quoted(part, length > shown as u64)
    } else {
        format!("{address:#x}")
    }
}

fn strings(memory: &dyn Peek, address: u64) -> String {
    let mut texts = Vec::new();
    for index in 0..SHOWN_STRINGS {
        let mut word = [0; 8];
        if address == 0 || !memory.bytes(address.wrapping_add(index * 8), &mut word) {
            return format!("{address:#x}");
        }
        match u64::from_ne_bytes(word) {
            0 => return format!("[{}]", texts.join(", ")),
            string => texts.push(text(memory, string)),
        }
    }
    format!("[{}, ...]", texts.join(", "))
}

fn quoted(bytes: &[u8], cut: bool) -> String {
    let tail = if cut { "\"..." } else { "\"" };
    format!("\"{}{tail}", bytes.escape_ascii())
}

fn clock(number: u32) -> String {
    const NAMES: [&str; 8] = [
        "CLOCK_REALTIME",
        "CLOCK_MONOTONIC",
        "CLOCK_PROCESS_CPUTIME_ID",
        "CLOCK_THREAD_CPUTIME_ID",
        "CLOCK_MONOTONIC_RAW",
        "CLOCK_REALTIME_COARSE",
        "CLOCK_MONOTONIC_COARSE",
        "CLOCK_BOOTTIME",
    ];
    NAMES.get(number as usize).map_or_else(|| (number as i32).to_string(), ToString::to_string)
}

fn whence(number: u32) -> String {
    const NAMES: [&str; 5] = ["SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"];
    NAMES.get(number as usize).map_or_else(|| number.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::linux_calls::find;

    struct Memory(&'static [u8]);

    impl Peek for Memory {
        fn bytes(&self, address: u64, buffer: &mut [u8]) -> bool {
            let found = self.0.get(address as usize..address as usize + buffer.len());
            found.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
        }

        fn string(&self, address: u64, max: usize) -> Option<Vec<u8>> {
            let rest = self.0.get(address as usize..)?;
            rest.split(|byte| *byte == 0).next().map(|string| string[..string.len().min(max)].to_vec())
        }
    }

    fn shown(number: u32, words: [u64; 6], memory: &'static [u8], result: Result<u64>) -> String {
        let (call, memory) = (find(number), Memory(memory));
        let before = arguments(call, &words, &memory);
        format!("{}({before}{}){}", name(number), results(call, &words, &memory, result), outcome(number, result))
    }

    #[test]
    fn calls_look_as_strace_shows_them() {
        let words = [-100_i64 as u64, 1, u64::from(linux::O_CREAT), 0o644, 0, 0];
        let text = shown(linux::__NR_openat, words, b"\0/a\0", Err(Errno::ENOENT));
        assert_eq!(text, "openat(AT_FDCWD, \"/a\", O_RDONLY|O_CREAT, 0644) = -1 ENOENT");
        let text = shown(linux::__NR_open, [1, 0, 0o644, 0, 0, 0], b"\0/a\0", Ok(3));
        assert_eq!(text, "open(\"/a\", O_RDONLY) = 3");
        let text = shown(linux::__NR_write, [1, 1, 3, 0, 0, 0], b"\0a\"\n", Ok(3));
        assert_eq!(text, "write(1, \"a\\\"\\n\", 3) = 3");
    }

    #[test]
    fn what_a_call_fills_is_shown_when_it_is_filled() {
        assert_eq!(shown(linux::__NR_read, [0, 1, 100, 0, 0, 0], b"\0abcdef", Ok(2)), "read(0, \"ab\", 100) = 2");
    }

    #[test]
    fn an_unknown_call_shows_its_words_and_a_bad_pointer_itself() {
        assert!(shown(5000, [1, 2, 3, 4, 5, 6], b"", Err(Errno::ENOSYS)).starts_with("syscall_0x1388(0x1, 0x2"));
        assert_eq!(shown(linux::__NR_chdir, [99, 0, 0, 0, 0, 0], b"", Err(Errno::EFAULT)), "chdir(0x63) = -1 EFAULT");
    }
}
