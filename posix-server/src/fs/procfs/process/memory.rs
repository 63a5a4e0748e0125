//! The memory of a process: its strings, its areas, its bytes.

use super::subject::Subject;
use super::{KIB, Whose};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, Positioning, Source};
use crate::fs::Location;
use crate::fs::body::DeviceNumber;
use crate::fs::procfs::add;
use crate::platform::{PAGE_SIZE, Protection, Sharing, Space};
use crate::process::Process;
use crate::sysv::segments::Attachment;
use crate::vm::Vm;
use crate::vm::areas::{Area, Content, Lock};
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;

/// The most that is read of a process's strings, in bytes.
const MAX_STRINGS_BYTES: u64 = 1 << 20;

/// What lies between two addresses of a process; less if it can't be read.
fn read_strings(space: &Space, start: u64, end: u64) -> Vec<u8> {
    let length = end.saturating_sub(start).min(MAX_STRINGS_BYTES) as usize;
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length).is_err() {
        return bytes;
    }
    bytes.resize(length, 0);
    let read = space.read(start, &mut bytes);
    bytes.truncate(read);
    bytes
}

/// `cmdline`.
pub(super) fn command_line(subject: &Subject) -> Result<Vec<u8>> {
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let [start, end, ..] = process.program.borrow().strings;
    let now = read_strings(&process.space(), start, end);
    Ok(if now.is_empty() { process.program.borrow().arguments.to_vec() } else { now })
}

/// `environ`.
pub(super) fn environment(subject: &Subject) -> Result<Vec<u8>> {
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let [_, _, start, end] = process.program.borrow().strings;
    Ok(read_strings(&process.space(), start, end))
}

/// `auxv`: it lies behind the pointers to arguments and environment, which end with a null pointer each.
pub(super) fn auxiliary_vector(subject: &Subject) -> Result<Vec<u8>> {
    const WORD: u64 = size_of::<u64>() as u64;
    /// The most words that are looked at.
    const MAX_WORDS: u64 = MAX_STRINGS_BYTES / WORD;
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let start = process.program.borrow().stack_start;
    let bytes = read_strings(&process.space(), start, start.saturating_add(MAX_WORDS * WORD));
    let mut words = bytes.chunks_exact(WORD as usize);
    // The number of arguments, then the pointers.
    for _ in 0..2 {
        words.by_ref().find(|word| word.iter().all(|byte| *byte == 0));
    }
    let mut vector = Vec::new();
    while let (Some(kind), Some(value)) = (words.next(), words.next()) {
        vector.extend_from_slice(kind);
        vector.extend_from_slice(value);
        if kind.iter().all(|byte| *byte == 0) {
            break;
        }
    }
    Ok(vector)
}

/// Names of areas begin at this column, as Linux has it.
const NAME_COLUMN: usize = 73;

/// A segment's name is its key.
fn segment_name(attachment: &Attachment) -> Vec<u8> {
    alloc::format!("/SYSV{:08x} (deleted)", attachment.object().permissions.borrow().key()).into_bytes()
}

fn push_area(text: &mut Vec<u8>, area: &Area, root: &Location) {
    let flag = |bit, letter| if area.protection.contains(bit) { letter } else { '-' };
    let shared = if area.sharing == Sharing::Shared { 's' } else { 'p' };
    let (device, inode) = match &area.content {
        Content::File(file, _) => (file.inode.filesystem().device(), file.inode.number()),
        // Linux keeps segments in a file system of its own, the first without a device, where a file's number is the segment's.
        Content::Segment(attachment, _) => {
            let id = u64::try_from(attachment.object().id).unwrap_or_default();
            (DeviceNumber { major: 0, minor: 1 }, id)
        }
        Content::Anonymous | Content::Heap | Content::Stack | Content::SharedAnonymous(..) => Default::default(),
    };
    let mut line = String::new();
    add!(line, "{:08x}-{:08x} ", area.start, area.end);
    add!(line, "{}{}", flag(Protection::READ, 'r'), flag(Protection::WRITE, 'w'));
    add!(line, "{}{shared} ", flag(Protection::EXECUTE, 'x'));
    add!(line, "{:08x} {:02x}:{:02x} {inode} ", area.content.offset(), device.major, device.minor);
    let name = match &area.content {
        Content::File(file, _) => file.location.as_ref().map(|location| location.shown_path(root)).unwrap_or_default(),
        Content::Heap => b"[heap]".to_vec(),
        Content::Stack => b"[stack]".to_vec(),
        Content::SharedAnonymous(..) => b"/dev/zero (deleted)".to_vec(),
        Content::Segment(attachment, _) => segment_name(attachment),
        Content::Anonymous => Vec::new(),
    };
    if !name.is_empty() {
        while line.len() < NAME_COLUMN {
            line.push(' ');
        }
    }
    text.extend_from_slice(line.as_bytes());
    text.extend_from_slice(&name);
    text.push(b'\n');
}

/// Makes a text of all areas. There may be very many, with long names: the text is paid for as it grows. `ENOMEM`.
fn text_of_areas(process: &Process, mut each: impl FnMut(&mut Vec<u8>, &Area, &Location)) -> Result<Vec<u8>> {
    /// More than one area takes.
    const STEP_BYTES: u64 = 16 << 10;
    let root = process.fs.borrow().root.clone();
    let mut text = Vec::new();
    let mut charge = Charge::none(Budget::Contents);
    for area in process.vm().areas() {
        charge.resize((text.len() as u64).next_multiple_of(STEP_BYTES) + STEP_BYTES)?;
        each(&mut text, &area, &root);
    }
    Ok(text)
}

/// `maps`.
pub(super) fn maps(subject: &Subject) -> Result<Vec<u8>> {
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let mut text = text_of_areas(process, push_area)?;
    for (range, protection, name) in process.server.shim.shown_areas() {
        let execute = if protection.contains(Protection::EXECUTE) { 'x' } else { '-' };
        let mut line = String::new();
        add!(line, "{:08x}-{:08x} r-{execute}p 00000000 00:00 0 ", range.start, range.end);
        let gap = NAME_COLUMN.saturating_sub(line.len());
        add!(line, "{:gap$}{name}\n", "");
        text.extend_from_slice(line.as_bytes());
    }
    Ok(text)
}

/// The sizes of an area or of several, in pages.
#[derive(Clone, Copy, Default)]
struct Sizes {
    resident: u64,
    anonymous: u64,
    locked: u64,
}

/// What follows the line of an area in `smaps`, up to the flags.
fn push_sizes(text: &mut Vec<u8>, sizes: Sizes) {
    let kib = |pages: u64| pages * (PAGE_SIZE / KIB);
    let lines = [
        ("Rss", sizes.resident),
        ("Pss", sizes.resident),
        ("Pss_Dirty", sizes.anonymous),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", sizes.resident - sizes.anonymous),
        ("Private_Dirty", sizes.anonymous),
        ("Referenced", sizes.resident),
        ("Anonymous", sizes.anonymous),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", sizes.locked),
    ];
    let mut shown = String::new();
    for (name, pages) in lines {
        let label = alloc::format!("{name}:");
        add!(shown, "{label:<15} {:>8} kB\n", kib(pages));
    }
    text.extend_from_slice(shown.as_bytes());
}

/// Shares the pages that a process is charged for out to its areas: the kernel counts them for the process alone.
fn share_out(area: &Area, left: &mut u64) -> Sizes {
    let is_private = area.sharing == Sharing::Private;
    let writable = area.protection.contains(Protection::WRITE) && is_private;
    let pages = if writable { (area.length() / PAGE_SIZE).min(*left) } else { 0 };
    *left -= pages;
    Sizes { resident: pages, anonymous: pages, locked: area.locked_bytes().min(pages * PAGE_SIZE) / PAGE_SIZE }
}

fn flags_of(area: &Area) -> String {
    let mut flags = String::new();
    let set = [(Protection::READ, "rd "), (Protection::WRITE, "wr "), (Protection::EXECUTE, "ex ")];
    set.iter().filter(|(bit, _)| area.protection.contains(*bit)).for_each(|(_, name)| flags.push_str(name));
    if area.sharing == Sharing::Shared {
        flags.push_str("sh ");
    }
    let may = [(Protection::READ, "mr "), (Protection::WRITE, "mw "), (Protection::EXECUTE, "me ")];
    may.iter().filter(|(bit, _)| area.allowed.contains(*bit)).for_each(|(_, name)| flags.push_str(name));
    flags.push_str(match area.lock {
        Lock::None => "",
        Lock::All => "lo ",
        Lock::Used => "lo lf ",
    });
    flags
}

/// `smaps`.
pub(super) fn detailed_maps(subject: &Subject) -> Result<Vec<u8>> {
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let mut left = process.account.used_frames();
    text_of_areas(process, |text, area, root| {
        push_area(text, area, root);
        let mut sizes = String::new();
        add!(sizes, "Size:           {:>8} kB\n", area.length() / KIB);
        add!(sizes, "KernelPageSize: {0:>8} kB\nMMUPageSize:    {0:>8} kB\n", PAGE_SIZE / KIB);
        text.extend_from_slice(sizes.as_bytes());
        push_sizes(text, share_out(area, &mut left));
        let mut flags = String::new();
        add!(flags, "THPeligible:           0\nVmFlags: {}\n", flags_of(area));
        text.extend_from_slice(flags.as_bytes());
    })
}

/// `smaps_rollup`.
pub(super) fn summed_maps(subject: &Subject) -> Result<Vec<u8>> {
    let process = subject.process().ok_or(Errno::ESRCH)?;
    let areas = process.vm().areas();
    let (start, end) = (areas.first().map_or(0, |area| area.start), areas.last().map_or(0, |area| area.end));
    let pages = process.account.used_frames();
    let mut heading = String::new();
    add!(heading, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    let mut text = alloc::format!("{heading:<73}[rollup]\n").into_bytes();
    let locked = areas.iter().map(Area::locked_bytes).sum::<u64>() / PAGE_SIZE;
    push_sizes(&mut text, Sizes { resident: pages, anonymous: pages, locked: locked.min(pages) });
    Ok(text)
}

/// `mem`: the address space as a file. It goes when the process executes or ends.
pub(super) struct MemoryFile {
    process: Weak<Process>,
    space_id: u64,
}

/// How many bytes are moved at once.
const CHUNK_BYTES: usize = 4096;

impl MemoryFile {
    /// Opens the memory of a process. `ESRCH`.
    pub(super) fn open(whose: &Whose) -> Result<Self> {
        let process = whose.shared.server()?.process(whose.pid).ok_or(Errno::ESRCH)?;
        Ok(Self { process: Rc::downgrade(&process), space_id: process.space().id() })
    }

    fn memory(&self) -> Option<Rc<Vm>> {
        let process = self.process.upgrade().filter(|process| process.phase.get() != crate::process::Phase::Ended)?;
        Some(process.vm()).filter(|vm| vm.space().id() == self.space_id)
    }
}

impl FileOps for MemoryFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let Some(memory) = self.memory() else { return Ok(0) };
        let mut chunk = [0; CHUNK_BYTES];
        let mut total = 0;
        while to.remaining() > 0 {
            let wanted = to.remaining().min(CHUNK_BYTES);
            let part = chunk.get_mut(..wanted).unwrap_or_default();
            let read = memory.read_by_force(position.saturating_add(total as u64), part);
            let taken = to.put(part.get(..read).unwrap_or_default());
            total += taken;
            if taken < wanted {
                // Nothing there is an error of this file; no room there is the caller's.
                let errno = if read == 0 { Errno::EIO } else { Errno::EFAULT };
                return if total > 0 { Ok(total) } else { Err(errno) };
            }
        }
        Ok(total)
    }

    fn write(&self, position: u64, from: &mut dyn Source) -> Result<usize> {
        let Some(memory) = self.memory() else { return Ok(0) };
        let mut chunk = [0; CHUNK_BYTES];
        let mut total = 0;
        while from.remaining() > 0 {
            let wanted = from.remaining().min(CHUNK_BYTES);
            let part = chunk.get_mut(..wanted).unwrap_or_default();
            let got = from.get(part);
            let part = part.get(..got).unwrap_or_default();
            let written = memory.write_by_force(position.saturating_add(total as u64), part);
            total += written;
            if written < wanted {
                let errno = if got == 0 { Errno::EFAULT } else { Errno::EIO };
                return if total > 0 { Ok(total) } else { Err(errno) };
            }
        }
        Ok(total)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }
}
