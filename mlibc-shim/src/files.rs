//! Reads, writes over what is there, and seeks, that need no server: those of files whose bytes and position the server has shared
//! (`posix_protocol::files`, ADR 11 and 24). What is not plain is not done here: `None`, and the server does all of it.

use crate::local::realtime_ns;
use crate::rings;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use posix_protocol::files::{
    DESCRIPTORS, FILES, FileTable, MAX_COUNT, NOTES_READS, POSITIONS_OFFSET, Position, READABLE, STORES_OFFSET,
    SharedFile, Stores, WINDOWS, WRITABLE, is_storable, kind, readable, sought,
};
use posix_protocol::shim::LocalAnswers;

/// How often a read is tried anew because another thread has moved the position.
pub(crate) const ATTEMPTS: u32 = 8;

/// A file that a descriptor names, as it was when it was looked up.
pub(crate) struct Found {
    pub(crate) file: SharedFile,
    place: *const SharedFile,
    position: *mut Position,
    stores: Option<*mut Stores>,
}

fn find(local: &LocalAnswers, fd: u64) -> Option<Found> {
    if local.files == 0 {
        return None;
    }
    let fd = fd as u32 as usize;
    let table = local.files as *const FileTable;
    // SAFETY: the server maps the table at this address, and writes it in the block after that; it stays as long as the space. Only
    // the server writes it, at any time: therefore volatile. A program that has put another address into its block harms itself.
    let descriptors = unsafe { &raw const (*table).descriptors };
    if fd >= DESCRIPTORS {
        return None;
    }
    // SAFETY: as above; the index is below the length.
    let index = usize::from(unsafe { descriptors.cast::<u8>().add(fd).read_volatile() }).checked_sub(1)?;
    // SAFETY: as above.
    let files = unsafe { &raw const (*table).files };
    if index >= FILES {
        return None;
    }
    // SAFETY: as above; the index is below the length.
    let place = unsafe { files.cast::<SharedFile>().add(index) };
    // A copy that mixes two uses of the place is found out by its state, which the server changes first and last: therefore the state
    // is read before the rest. The processor keeps loads in order, and the compiler volatile ones.
    // SAFETY: as above.
    let state = unsafe { (&raw const (*place).state).read_volatile() };
    // SAFETY: as above.
    let file = SharedFile { state, ..unsafe { place.read_volatile() } };
    let position = (local.files + POSITIONS_OFFSET) as *mut Position;
    let stores = (index < WINDOWS).then(|| ((local.files + STORES_OFFSET) as *mut Stores).wrapping_add(index));
    (file.state != 0).then(|| Found { file, place, position: position.wrapping_add(file.place as usize), stores })
}

impl Found {
    /// Whether the server has kept the file shared up to now, so that what was read from it was the file's.
    pub(crate) fn is_current(&self) -> bool {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as in `find`. The processor keeps loads in order.
        let state = unsafe { (&raw const (*self.place).state).read_volatile() };
        state == self.file.state
    }

    /// The position, if it is here.
    pub(crate) fn position(&self) -> Option<u64> {
        // SAFETY: the second page of the table is mapped, writable, right behind the first.
        let Position { offset, epoch } = unsafe { self.position.read_volatile() };
        (self.file.epoch != 0 && epoch == self.file.epoch).then_some(offset)
    }

    /// Moves the position, if nobody else has and it is still here.
    pub(crate) fn advance(&self, from: u64, to: u64) -> bool {
        let done: u8;
        // SAFETY: the position is 16 bytes, aligned to 16, and mapped writable. The compiler keeps rbx to itself, and it is given
        // back; all others are named, so that none of them is rbx.
        unsafe {
            asm!(
                "xchg rbx, rsi",
                "lock cmpxchg16b [rdi]",
                "sete r8b",
                "mov rbx, rsi",
                inout("rsi") to => _,
                in("rdi") self.position,
                lateout("r8b") done,
                inout("rax") from => _,
                inout("rdx") self.file.epoch => _,
                in("rcx") self.file.epoch,
                options(nostack),
            );
        }
        done != 0
    }
}

/// What is told of a file that is written over here; the server reads it, and writes it, at any time.
struct Notes {
    under_way: &'static AtomicU64,
    written_ns: &'static AtomicU64,
    read_ns: &'static AtomicU64,
}

impl Found {
    fn notes(&self) -> Option<Notes> {
        let stores = self.stores?;
        // SAFETY: the second page of the table is mapped, writable, right behind the first, and stays as long as the space. Whoever writes
        // these words, which are aligned, does so atomically.
        unsafe {
            Some(Notes {
                under_way: AtomicU64::from_ptr(&raw mut (*stores).under_way),
                written_ns: AtomicU64::from_ptr(&raw mut (*stores).written_ns),
                read_ns: AtomicU64::from_ptr(&raw mut (*stores).read_ns),
            })
        }
    }

    /// Notes a read, if it is the first one after a change (`relatime`).
    fn note_read(&self, local: &LocalAnswers) {
        if self.file.access & NOTES_READS == 0 {
            return;
        }
        if let Some(notes) = self.notes()
            && notes.read_ns.load(Ordering::Relaxed) <= notes.written_ns.load(Ordering::Relaxed)
        {
            notes.read_ns.fetch_max(realtime_ns(local), Ordering::Relaxed);
        }
    }
}

/// Whether a program may name all of a buffer.
fn is_nameable(local: &LocalAnswers, address: u64, count: u64) -> bool {
    address.checked_add(count).is_some_and(|end| end <= local.user_end)
}

/// Copies to or from the program. False: an address could not be read or written.
pub(crate) fn copy(to: u64, from: u64, count: u64) -> bool {
    let done: u64;
    // SAFETY: the function uses these registers only. It writes where the program could write itself; a fault is caught.
    unsafe {
        asm!(
            "call shim_copy",
            inout("rdi") to => _, inout("rsi") from => _, in("rdx") count, lateout("rcx") _, lateout("rax") done,
        );
    }
    done != 0
}

/// Stores zeroes for the program. False: an address could not be written.
fn clear(to: u64, count: u64) -> bool {
    let done: u64;
    // SAFETY: as in `copy`.
    unsafe {
        asm!("call shim_clear", inout("rdi") to => _, in("rdx") count, lateout("rcx") _, lateout("rax") done);
    }
    done != 0
}

fn read_at(found: &Found, position: u64, address: u64, count: u64) -> Option<u64> {
    let count = readable(&found.file, position, count)?;
    (count == 0 || copy(address, found.file.window.wrapping_add(position), count)).then_some(count)
}

/// `pread64`.
pub(crate) fn pread(local: &LocalAnswers, [fd, address, count, position]: [u64; 4]) -> Option<u64> {
    let found = find(local, fd)?;
    let is_plain = found.file.kind == kind::REGULAR && found.file.access & READABLE != 0;
    if !is_plain || count == 0 || !is_nameable(local, address, count) {
        return None;
    }
    let count = read_at(&found, position, address, count)?;
    if !found.is_current() {
        return None;
    }
    found.note_read(local);
    Some(count)
}

/// `pwrite64`: over what is in the file.
///
/// The window could be taken away at any time, and another file be shown in its place. So the thread first says that it is storing, and
/// only then looks whether the window is still the file's: either the server sees the one, and leaves the place empty, or the thread sees
/// the other. If the window goes in the middle, that is a fault like others: the server does all of the write.
pub(crate) fn pwrite(local: &LocalAnswers, [fd, address, count, position]: [u64; 4]) -> Option<u64> {
    let found = find(local, fd)?;
    if !is_storable(&found.file, position, count) || !is_nameable(local, address, count) {
        return None;
    }
    let notes = found.notes()?;
    notes.under_way.fetch_add(1, Ordering::SeqCst);
    let is_done = found.is_current() && {
        // Before the first byte is there, so that nobody finds a change that has no time.
        notes.written_ns.fetch_max(realtime_ns(local), Ordering::SeqCst);
        copy(found.file.window.wrapping_add(position), address, count)
    };
    notes.under_way.fetch_sub(1, Ordering::SeqCst);
    is_done.then_some(count)
}

/// `read`.
pub(crate) fn read(local: &LocalAnswers, [fd, address, count, _]: [u64; 4]) -> Option<u64> {
    let found = find(local, fd)?;
    if found.file.access & READABLE == 0 || count == 0 || !is_nameable(local, address, count) {
        return None;
    }
    match found.file.kind {
        kind::REGULAR => read_on(local, &found, address, count),
        kind::NULL => Some(0),
        kind::ZERO => clear(address, count.min(MAX_COUNT)).then(|| count.min(MAX_COUNT)),
        kind::COUNTER | kind::SEMAPHORE => rings::read_counter(&found, address, count),
        kind::PIPE => rings::read_pipe(&found, address, count),
        _ => None,
    }
}

/// Copies, and only then moves the position: a read that the server interrupts by taking the position has not happened.
fn read_on(local: &LocalAnswers, found: &Found, address: u64, count: u64) -> Option<u64> {
    for _ in 0..ATTEMPTS {
        let position = found.position()?;
        let count = read_at(found, position, address, count)?;
        if !found.is_current() {
            return None;
        }
        if found.advance(position, position.checked_add(count)?) {
            found.note_read(local);
            return Some(count);
        }
    }
    None
}

/// `write`: not to files with content.
pub(crate) fn write(local: &LocalAnswers, [fd, address, count, _]: [u64; 4]) -> Option<u64> {
    let found = find(local, fd)?;
    if found.file.access & WRITABLE == 0 || !is_nameable(local, address, count) {
        return None;
    }
    match found.file.kind {
        kind::NULL | kind::ZERO => Some(count.min(MAX_COUNT)),
        kind::COUNTER | kind::SEMAPHORE => rings::write_counter(&found, address, count),
        kind::PIPE => rings::write_pipe(&found, address, count),
        _ => None,
    }
}

/// `lseek`.
pub(crate) fn seek(local: &LocalAnswers, [fd, offset, whence, _]: [u64; 4]) -> Option<u64> {
    let found = find(local, fd)?;
    if found.file.kind != kind::REGULAR {
        return None;
    }
    for _ in 0..ATTEMPTS {
        let position = found.position()?;
        let target = sought(&found.file, position, offset, whence as u32)?;
        if !found.is_current() {
            return None;
        }
        if found.advance(position, target) {
            return Some(target);
        }
    }
    None
}

/// What the processor compares and exchanges at once.
const _: () = assert!(size_of::<Position>() == 16 && align_of::<Position>() == 16);
