//! `fallocate`: memory for a part of a file, or a hole in it.

use super::blocking::usable_file;
use super::metadata::set_size;
use super::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::Body;
use crate::fs::boot::persistently;
use crate::fs::content::MAX_SIZE_BYTES;
use crate::platform;
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[SystemCall::new(linux::__NR_fallocate, fallocate)];

/// How much is given memory at once, in bytes: others wait meanwhile.
const STEP_BYTES: u64 = 1 << 20;

/// Whether Linux knows a mode, on whatever file system. `EOPNOTSUPP`.
fn check_mode(mode: u32) -> Result<()> {
    let keep = linux::FALLOC_FL_KEEP_SIZE;
    let known = match mode & !keep {
        linux::FALLOC_FL_ALLOCATE_RANGE | linux::FALLOC_FL_UNSHARE_RANGE | linux::FALLOC_FL_ZERO_RANGE => true,
        linux::FALLOC_FL_PUNCH_HOLE => mode & keep != 0,
        linux::FALLOC_FL_COLLAPSE_RANGE | linux::FALLOC_FL_INSERT_RANGE => mode & keep == 0,
        _ => false,
    };
    if known { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// The range that a call names, once all is checked that does not change anything.
fn checked(thread: &Rc<Thread>, args: &Arguments) -> Result<(Rc<OpenFile>, u64, u64)> {
    let (mode, offset, length) = (args[1] as u32, args[2] as i64, args[3] as i64);
    let file = usable_file(thread, args[0])?;
    if offset < 0 || length <= 0 {
        return Err(Errno::EINVAL);
    }
    check_mode(mode)?;
    file.check_writable()?;
    match file.inode().body() {
        Body::Regular(_) => {}
        Body::Fifo(_) => return Err(Errno::ESPIPE),
        Body::Directory(_) => return Err(Errno::EISDIR),
        Body::Link(_)
        | Body::CharacterDevice(_)
        | Body::BlockDevice(_)
        | Body::Socket
        | Body::Anonymous
        | Body::Generated(_) => return Err(Errno::ENODEV),
    }
    let end = (offset as u64).checked_add(length as u64).filter(|end| *end <= MAX_SIZE_BYTES).ok_or(Errno::EFBIG)?;
    // Those that files in memory have; and one more that those on disks have.
    let zeroes = if file.inode().filesystem().volume().is_some() { linux::FALLOC_FL_ZERO_RANGE } else { 0 };
    if mode & !(linux::FALLOC_FL_KEEP_SIZE | linux::FALLOC_FL_PUNCH_HOLE | zeroes) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok((file, offset as u64, end))
}

/// `fallocate(fd, mode, offset, length)`.
fn fallocate(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let (file, start, end) = match checked(thread, args) {
        Ok(checked) => checked,
        Err(errno) => return errno.into(),
    };
    let mode = args[1] as u32;
    if file.inode().filesystem().volume().is_some() {
        let thread = thread.clone();
        return Outcome::block(async move { on_disk(&thread, &file, mode, start, end).await });
    }
    if mode & linux::FALLOC_FL_PUNCH_HOLE != 0 {
        return punch_hole(&file, start, end).into();
    }
    let grows = mode & linux::FALLOC_FL_KEEP_SIZE == 0 && end > file.inode().size();
    if grows && let Err(errno) = set_size(thread, file.inode(), end) {
        return errno.into();
    }
    if end - start <= STEP_BYTES {
        return allocate(&file, start, end).into();
    }
    let thread = thread.clone();
    Outcome::block(async move {
        let mut at = start;
        while at < end.min(file.inode().size()) {
            let next = at.saturating_add(STEP_BYTES).min(end);
            allocate(&file, at, next)?;
            at = next;
            // Others get their turn.
            thread.server().executor.sleep_until(platform::now_ns()).await;
            if thread.is_interrupted() {
                return Err(Errno::EINTR);
            }
        }
        Ok(0)
    })
}

/// The same for a file on a disk.
async fn on_disk(thread: &Rc<Thread>, file: &OpenFile, mode: u32, start: u64, end: u64) -> Result<u64> {
    let inode = file.inode();
    let content = inode.content().ok_or(Errno::ENODEV)?;
    let paged = content.paged_file().ok_or(Errno::ENODEV)?;
    let disk = paged.on_disk().ok_or(Errno::ENODEV)?;
    let (length, size) = (end - start, inode.size());
    let is_hole = mode & linux::FALLOC_FL_PUNCH_HOLE != 0;
    if is_hole || mode & linux::FALLOC_FL_ZERO_RANGE != 0 {
        let mut at = start;
        while at < end.min(size) {
            // Each step ends where a page is not there.
            let zeros = || content.store_zeros(at, end - at);
            at += persistently(&thread.server().executor, zeros).await?;
            if thread.is_interrupted() {
                return Err(Errno::EINTR);
            }
        }
        paged.write_back(start, length).await?;
        // Nobody stores there without having asked for room.
        content.readers().revoke();
        disk.punch(start, length).await?;
    }
    if !is_hole {
        disk.allocate(start, length).await?;
        if mode & linux::FALLOC_FL_KEEP_SIZE == 0 && end > inode.size() {
            set_size(thread, inode, end)?;
        }
    }
    inode.touch_modified();
    crate::fs::notify::file(file, crate::fs::notify::MODIFY);
    Ok(0)
}

fn punch_hole(file: &OpenFile, start: u64, end: u64) -> Result<()> {
    file.inode().content().ok_or(Errno::ENODEV)?.punch_hole(start, end - start)?;
    file.inode().touch_modified();
    crate::fs::notify::file(file, crate::fs::notify::MODIFY);
    Ok(())
}

fn allocate(file: &OpenFile, start: u64, end: u64) -> Result<u64> {
    file.inode().content().ok_or(Errno::ENODEV)?.allocate(start, end - start)?;
    file.inode().touch_changed();
    crate::fs::notify::file(file, crate::fs::notify::MODIFY);
    Ok(0)
}
