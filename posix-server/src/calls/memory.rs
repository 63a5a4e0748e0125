//! Calls on address spaces.

use super::residence::{lock_limit, lockable};
use super::{Arguments, Outcome, SystemCall};
use crate::dev;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::MountFlags;
use crate::fs::content::MAX_SIZE_BYTES;
use crate::platform::{LocalFuture, Memory, PAGE_SIZE, Protection, Sharing};
use crate::process::Thread;
use crate::user::USER_END;
use crate::vm::{Area, Content, GrowthLimits, Lock, Locked, MapRequest, MappedFile, Placement, RemapTarget};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mmap, |t, a| mmap(t, a).into()),
    SystemCall::new(linux::__NR_munmap, |t, a| t.process.vm().unmap(a[0], a[1]).into()),
    SystemCall::new(linux::__NR_mprotect, |t, a| mprotect(t, a).into()),
    SystemCall::new(linux::__NR_mremap, |t, a| mremap(t, a).into()),
    SystemCall::new(linux::__NR_madvise, |t, a| madvise(t, a).into()),
    SystemCall::new(linux::__NR_brk, |t, a| Outcome::Return(Ok(brk(t, a[0])))),
    SystemCall::new(linux::__NR_msync, |t, a| super::sync::written(msync(t, a))),
    SystemCall::new(linux::__NR_remap_file_pages, |t, a| remap_file_pages(t, a).into()),
];

/// The flags of `mmap` that `MAP_SHARED_VALIDATE` accepts.
const KNOWN_FLAGS: u32 = linux::MAP_TYPE
    | linux::MAP_FIXED
    | linux::MAP_ANONYMOUS
    | linux::MAP_GROWSDOWN
    | linux::MAP_DENYWRITE
    | linux::MAP_EXECUTABLE
    | linux::MAP_LOCKED
    | linux::MAP_NORESERVE
    | linux::MAP_POPULATE
    | linux::MAP_NONBLOCK
    | linux::MAP_STACK
    | linux::MAP_FIXED_NOREPLACE
    | MAP_32BIT;
/// `MAP_32BIT` of x86-64.
const MAP_32BIT: u32 = 0x40;

fn protection_of(bits: u64) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, bits & u64::from(linux::PROT_READ) != 0);
    protection.set(Protection::WRITE, bits & u64::from(linux::PROT_WRITE) != 0);
    protection.set(Protection::EXECUTE, bits & u64::from(linux::PROT_EXEC) != 0);
    protection
}

fn mmap(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [address, length, protection, flags, fd, offset] = *arguments;
    let flags = flags as u32;
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let is_anonymous = flags & linux::MAP_ANONYMOUS != 0;
    let file = if is_anonymous { None } else { Some(thread.process.files.borrow().slots().get(fd as i32)?) };
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let rounded = crate::vm::page_up(length).ok_or(Errno::ENOMEM)?;
    if offset.checked_add(rounded).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if rounded > USER_END {
        return Err(Errno::ENOMEM);
    }
    let sharing = match flags & linux::MAP_TYPE {
        linux::MAP_PRIVATE => Sharing::Private,
        linux::MAP_SHARED => Sharing::Shared,
        linux::MAP_SHARED_VALIDATE if flags & !KNOWN_FLAGS != 0 => return Err(Errno::EOPNOTSUPP),
        linux::MAP_SHARED_VALIDATE => Sharing::Shared,
        _ => return Err(Errno::EINVAL),
    };
    if flags & linux::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let lock = if flags & linux::MAP_LOCKED != 0 {
        lockable(thread)?;
        Lock::All
    } else {
        Lock::None
    };
    let protection = protection_of(protection);
    let (content, allowed) = match file {
        Some(file) => file_content(&file, protection, sharing, offset, rounded)?,
        None => anonymous_content(thread, sharing, rounded)?,
    };
    let placement = if flags & linux::MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedIfFree(address)
    } else if flags & linux::MAP_FIXED != 0 {
        Placement::Fixed(address)
    } else if flags & MAP_32BIT != 0 && address == 0 {
        Placement::Low
    } else {
        Placement::Anywhere(address)
    };
    let limit = thread.process.limit(linux::RLIMIT_AS);
    let data_limit = thread.process.limit(linux::RLIMIT_DATA);
    let lock_limit = lock_limit(thread);
    let request =
        MapRequest { length, placement, protection, allowed, sharing, content, limit, data_limit, lock, lock_limit };
    thread.process.vm().map(request)
}

fn anonymous_content(thread: &Thread, sharing: Sharing, length: u64) -> Result<(Content, Protection)> {
    let content = match sharing {
        Sharing::Private => Content::Anonymous,
        Sharing::Shared => Content::SharedAnonymous(Memory::create_for(&thread.process.account, length)?, 0),
    };
    Ok((content, Protection::all()))
}

/// What a mapping of a file shows, and what it may be made usable for. `EACCES`, `ENODEV`, `EBADF`.
fn file_content(
    file: &Rc<OpenFile>,
    protection: Protection,
    sharing: Sharing,
    offset: u64,
    length: u64,
) -> Result<(Content, Protection)> {
    file.check_not_path()?;
    let access = file.access();
    let needs_write = sharing == Sharing::Shared && protection.contains(Protection::WRITE);
    if !access.can_read() || needs_write && !access.can_write() {
        return Err(Errno::EACCES);
    }
    let inode = file.inode();
    if inode.device() == dev::ZERO && inode.content().is_none() {
        return match sharing {
            Sharing::Private => Ok((Content::Anonymous, Protection::all())),
            Sharing::Shared => Err(Errno::ENODEV),
        };
    }
    let content = inode.content().ok_or(Errno::ENODEV)?;
    let memory = content.memory()?;
    if offset.checked_add(length).is_none_or(|end| end > MAX_SIZE_BYTES) {
        return Err(Errno::EOVERFLOW);
    }
    let mut allowed = Protection::all();
    let no_execute = file.location().is_some_and(|place| place.mount.flags().contains(MountFlags::NO_EXECUTE));
    if no_execute && protection.contains(Protection::EXECUTE) {
        return Err(Errno::EPERM);
    }
    allowed.set(Protection::EXECUTE, !no_execute);
    if sharing == Sharing::Shared && !(access.can_write() && content.allows_stores(needs_write)?) {
        allowed.remove(Protection::WRITE);
    }
    let writable =
        (sharing == Sharing::Shared && allowed.contains(Protection::WRITE)).then(|| content.begin_writable_mapping());
    let mapped = MappedFile { memory, inode: inode.clone(), location: file.location().cloned(), writable };
    Ok((Content::File(Rc::new(mapped), offset), allowed))
}

fn mprotect(thread: &Thread, arguments: &Arguments) -> Result<()> {
    let [address, length, protection, ..] = *arguments;
    let growth = u64::from(linux::PROT_GROWSDOWN | linux::PROT_GROWSUP);
    let known = u64::from(linux::PROT_READ | linux::PROT_WRITE | linux::PROT_EXEC | linux::PROT_SEM);
    if protection & growth == growth {
        return Err(Errno::EINVAL);
    }
    // Nothing can't be protected wrongly.
    if !(length == 0 && address.is_multiple_of(PAGE_SIZE)) && protection & !(known | growth) != 0 {
        return Err(Errno::EINVAL);
    }
    let data_limit = thread.process.limit(linux::RLIMIT_DATA);
    thread.process.vm().protect(address, length, protection_of(protection), data_limit)
}

fn growth_limits(thread: &Thread) -> GrowthLimits {
    let process = &thread.process;
    let (all, data) = (process.limit(linux::RLIMIT_AS), process.limit(linux::RLIMIT_DATA));
    GrowthLimits { all, data, locked: lock_limit(thread) }
}

fn mremap(thread: &Thread, arguments: &Arguments) -> Result<u64> {
    let [address, old, new, flags, to, _] = *arguments;
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let target = match flags {
        0 => RemapTarget::Stay,
        linux::MREMAP_MAYMOVE => RemapTarget::MayMove,
        both if both == linux::MREMAP_MAYMOVE | linux::MREMAP_FIXED => RemapTarget::Fixed(to),
        _ => return Err(Errno::EINVAL),
    };
    let limits = growth_limits(thread);
    thread.process.vm().remap((address, old), new, target, limits)
}

fn madvise(thread: &Thread, arguments: &Arguments) -> Result<()> {
    let [address, length, advice, ..] = *arguments;
    let vm = thread.process.vm();
    match advice as u32 {
        linux::MADV_DONTNEED => vm.discard(address, length, Locked::Refused),
        linux::MADV_DONTNEED_LOCKED => vm.discard(address, length, Locked::Taken),
        linux::MADV_FREE | linux::MADV_COLD | linux::MADV_PAGEOUT => {
            let end = vm.check_covered(address, length)?;
            if vm.is_locked_in(address, end) { Err(Errno::EINVAL) } else { Ok(()) }
        }
        linux::MADV_NORMAL
        | linux::MADV_RANDOM
        | linux::MADV_SEQUENTIAL
        | linux::MADV_WILLNEED
        | linux::MADV_DONTFORK
        | linux::MADV_DOFORK
        | linux::MADV_MERGEABLE
        | linux::MADV_UNMERGEABLE
        | linux::MADV_HUGEPAGE
        | linux::MADV_NOHUGEPAGE
        | linux::MADV_DONTDUMP
        | linux::MADV_DODUMP => vm.check_covered(address, length).map(drop),
        _ => Err(Errno::EINVAL),
    }
}

fn brk(thread: &Thread, wanted: u64) -> u64 {
    let process = &thread.process;
    process.vm().set_break(
        wanted,
        process.limit(linux::RLIMIT_DATA),
        process.limit(linux::RLIMIT_AS),
        lock_limit(thread),
    )
}

/// There is one copy of every page of a file in memory; what a pager has is to be written back.
fn msync(thread: &Thread, arguments: &Arguments) -> Result<Option<LocalFuture<Result<()>>>> {
    let [address, length, flags, ..] = *arguments;
    let flags = flags as u32;
    let both = linux::MS_ASYNC | linux::MS_SYNC;
    if flags & !(both | linux::MS_INVALIDATE) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let vm = thread.process.vm();
    let end = vm.check_covered(address, length)?;
    let is_locked = flags & linux::MS_INVALIDATE != 0 && vm.is_locked_in(address, end);
    if is_locked {
        return Err(Errno::EBUSY);
    }
    if flags & linux::MS_SYNC == 0 {
        return Ok(None);
    }
    let written: Vec<_> = vm.areas_in(address, end).iter().filter_map(write_back).collect();
    if written.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::pin(async move {
        for written in written {
            written.await?;
        }
        Ok(())
    })))
}

/// The writeback of what an area shows of a file that a pager has.
fn write_back(area: &Area) -> Option<impl Future<Output = Result<()>> + use<>> {
    match &area.content {
        Content::File(file, offset) if area.sharing == Sharing::Shared => {
            file.inode.content()?.paged_file().map(|paged| paged.synchronize(*offset, area.length()))
        }
        Content::File(..)
        | Content::Anonymous
        | Content::Heap
        | Content::Stack
        | Content::SharedAnonymous(..)
        | Content::Segment(..) => None,
    }
}

/// As on Linux since 4.0: the pages are mapped anew.
fn remap_file_pages(thread: &Thread, arguments: &Arguments) -> Result<u64> {
    let [address, length, protection, page, ..] = *arguments;
    if protection != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, length) = (address / PAGE_SIZE * PAGE_SIZE, length / PAGE_SIZE * PAGE_SIZE);
    let pages_end = page.checked_add(length / PAGE_SIZE).ok_or(Errno::EINVAL)?;
    pages_end.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let limits = growth_limits(thread);
    thread.process.vm().remap_pages(start, length, page * PAGE_SIZE, limits).map(|()| 0)
}
