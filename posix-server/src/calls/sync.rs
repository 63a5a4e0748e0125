//! Calls on when bytes are where. Of a file in memory, what is written is as safe as it will ever be, and what is read is there; of one
//! that a pager has, it has to be written back.

use super::blocking::usable_file;
use super::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::Body;
use crate::fs::content::Content;
use crate::fs::pagerfs::PAGERFS;
use crate::platform::LocalFuture;
use crate::process::Thread;
use alloc::boxed::Box;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_fsync, fsync),
    SystemCall::new(linux::__NR_fdatasync, fsync),
    SystemCall::new(linux::__NR_syncfs, syncfs),
    SystemCall::new(linux::__NR_sync, |t, _| write_all_back(t)),
    SystemCall::new(linux::__NR_sync_file_range, |t, a| written(sync_file_range(t, a))),
    SystemCall::new(linux::__NR_fadvise64, |t, a| fadvise(t, a).into()),
    SystemCall::new(linux::__NR_readahead, |t, a| readahead(t, a).into()),
];

/// The end of a writeback.
type Written = LocalFuture<Result<()>>;

/// A call that is over when something has been written back.
pub(super) fn written(begun: Result<Option<Written>>) -> Outcome {
    match begun {
        Ok(Some(written)) => Outcome::block(async move { written.await.map(|()| 0) }),
        Ok(None) => Outcome::Return(Ok(0)),
        Err(errno) => errno.into(),
    }
}

/// What can't be synchronized says so.
fn fsync(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let file = match usable_file(thread, args[0]) {
        Ok(file) => file,
        Err(errno) => return errno.into(),
    };
    let inode = file.inode();
    if inode.filesystem().volume().is_some() {
        return synchronize(&file);
    }
    if let Some(paged) = inode.content().and_then(Content::paged_file) {
        let written = paged.write_back(0, u64::MAX);
        return Outcome::block(async move { written.await.map(|()| 0) });
    }
    match inode.directory().map(|directory| directory.page_store().cloned()) {
        Ok(Some(store)) => Outcome::block(async move { store.settled().await.map(|()| 0) }),
        Ok(None) => Outcome::Return(Ok(0)),
        Err(_) if inode.content().is_some() => Outcome::Return(Ok(0)),
        Err(_) => Errno::EINVAL.into(),
    }
}

/// Has durable what was stored in a file of a disk, and what was done to it. `EIO`, also for what failed since somebody last asked.
fn synchronize(file: &Rc<OpenFile>) -> Outcome {
    if !matches!(file.inode().body(), Body::Regular(_) | Body::Directory(_)) {
        return Errno::EINVAL.into();
    }
    let file = file.clone();
    Outcome::block(async move { synchronized(&file, 0, u64::MAX).await.map(|()| 0) })
}

/// The same for a range.
pub(super) async fn synchronized(file: &OpenFile, offset: u64, len_bytes: u64) -> Result<()> {
    let inode = file.inode();
    inode.take_over_times();
    let result = match (inode.content().and_then(Content::paged_file), inode.filesystem().volume()) {
        (Some(paged), _) => paged.synchronize(offset, len_bytes).await,
        (None, Some(volume)) => volume.commit().await,
        (None, None) => Ok(()),
    };
    let failed = file.ops().has_failed_since();
    if failed { Err(Errno::EIO) } else { result }
}

fn syncfs(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    match usable_file(thread, args[0]) {
        Ok(file) if core::ptr::eq(file.inode().filesystem().kind(), &PAGERFS) => write_store_back(thread),
        Ok(file) if file.inode().filesystem().volume().is_some() => Outcome::block(async move {
            match file.inode().filesystem().volume() {
                Some(volume) => volume.synchronize().await.map(|()| 0),
                None => Ok(0),
            }
        }),
        Ok(_) => Outcome::Return(Ok(0)),
        Err(errno) => errno.into(),
    }
}

/// `sync`: it tells nobody what failed.
fn write_all_back(thread: &Rc<Thread>) -> Outcome {
    let disks = thread.server().disks.get().filter(|disks| !disks.volumes().is_empty()).cloned();
    let store = thread.server().page_store.get().filter(|store| store.has_files()).cloned();
    if disks.is_none() && store.is_none() {
        return Outcome::Return(Ok(0));
    }
    Outcome::block(async move {
        if let Some(disks) = disks {
            let _ = disks.synchronize().await;
        }
        if let Some(store) = store {
            let _ = store.write_back().await;
        }
        Ok(0)
    })
}

/// Writes back what files have that a pager has.
fn write_store_back(thread: &Rc<Thread>) -> Outcome {
    match thread.server().page_store.get().filter(|store| store.has_files()).cloned() {
        Some(store) => Outcome::block(async move { store.write_back().await.map(|()| 0) }),
        None => Outcome::Return(Ok(0)),
    }
}

/// `sync_file_range(fd, offset, length, flags)`.
fn sync_file_range(thread: &Rc<Thread>, args: &Arguments) -> Result<Option<Written>> {
    let known = linux::SYNC_FILE_RANGE_WAIT_BEFORE | linux::SYNC_FILE_RANGE_WRITE | linux::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = usable_file(thread, args[0])?;
    let (offset, length) = (args[1] as i64, args[2] as i64);
    let end = offset.checked_add(length);
    if args[3] as u32 & !known != 0 || offset < 0 || end.is_none_or(|end| end < offset) {
        return Err(Errno::EINVAL);
    }
    let waits = linux::SYNC_FILE_RANGE_WAIT_BEFORE | linux::SYNC_FILE_RANGE_WAIT_AFTER;
    match file.inode().body() {
        Body::Regular(content) => {
            let paged = content.paged_file().filter(|_| args[3] as u32 & waits != 0);
            let length = if length == 0 { u64::MAX } else { length as u64 };
            Ok(paged.map(|paged| -> Written { Box::pin(paged.write_back(offset as u64, length)) }))
        }
        Body::Generated(_) | Body::Directory(_) | Body::Link(_) | Body::BlockDevice(_) => Ok(None),
        Body::CharacterDevice(_) | Body::Fifo(_) | Body::Socket | Body::Anonymous => Err(Errno::ESPIPE),
    }
}

fn fadvise(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    if file.ops().pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if args[3] as u32 > linux::POSIX_FADV_NOREUSE || (args[2] as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(paged) = file.inode().content().and_then(Content::paged_file) {
        let length = if args[2] == 0 { u64::MAX } else { args[2] };
        match args[3] as u32 {
            linux::POSIX_FADV_DONTNEED => paged.drop_clean(args[1], length),
            linux::POSIX_FADV_WILLNEED => paged.will_need(args[1], length),
            _ => {}
        }
    }
    Ok(0)
}

fn readahead(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    file.check_readable()?;
    let content = file.inode().content().ok_or(Errno::EINVAL)?;
    if let Some(paged) = content.paged_file() {
        paged.will_need(args[1], args[2]);
    }
    Ok(0)
}
