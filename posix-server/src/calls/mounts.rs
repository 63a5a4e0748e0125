//! Calls on mounts: `mount`, `umount2`, `pivot_root` (the order of checks is that of Linux's `fs/namespace.c`).

use super::names::{CURRENT_DIRECTORY, place, with_actor};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::fs::filesystem::type_named;
use crate::fs::namespace::{Unbindable, copy_tree};
use crate::fs::propagation::{self, Change};
use crate::fs::walk::{LastLink, Walk};
use crate::fs::{
    Body, DeviceNumber, FileSystem, FileSystemType, FsContext, Location, Mount, MountFlags, MountRequest, Storage,
};
use crate::platform::PAGE_SIZE;
use crate::process::Thread;
use crate::ticket::Ticket;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mount, |t, a| mount(t, a).into())
        .partly("of file systems on disks: ext2, ext3 and ext4; of networks: none (ENODEV)"),
    SystemCall::new(linux::__NR_umount2, unmount),
    SystemCall::new(linux::__NR_pivot_root, |t, a| pivot_root(t, a).into()),
];

/// What the upper half of the flags of old programs is (`MS_MGC_VAL`).
const OLD_MARK: u32 = 0xc0ed_0000;
/// Where that mark is.
const OLD_MARK_MASK: u32 = 0xffff_0000;
/// Links are not followed (`MS_NOSYMFOLLOW`).
const NO_SYMLINK_FOLLOW: u32 = 1 << 8;

/// `EPERM` for whoever may not change what is mounted.
pub(super) fn check_may_mount(thread: &Thread) -> Result<()> {
    if thread.process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// A string argument that may be missing. `EFAULT`; `EINVAL` if it is longer than a page.
fn optional_string(thread: &Thread, address: u64) -> Result<Option<Vec<u8>>> {
    if address == 0 {
        return Ok(None);
    }
    match pointer(thread, address).read_c_string(PAGE_SIZE as usize) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        string => string.map(Some),
    }
}

/// What `mount` flags say about the mount itself.
fn mount_flags(flags: u32) -> MountFlags {
    const BITS: [(u32, MountFlags); 7] = [
        (linux::MS_RDONLY, MountFlags::READ_ONLY),
        (linux::MS_NOSUID, MountFlags::NO_SET_ID),
        (linux::MS_NODEV, MountFlags::NO_DEVICES),
        (linux::MS_NOEXEC, MountFlags::NO_EXECUTE),
        (linux::MS_NOATIME, MountFlags::NO_ACCESS_TIME),
        (linux::MS_NODIRATIME, MountFlags::NO_DIRECTORY_ACCESS_TIME),
        (NO_SYMLINK_FOLLOW, MountFlags::NO_LINKS),
    ];
    let mut result: MountFlags =
        BITS.iter().filter(|(bit, _)| flags & bit != 0).fold(MountFlags::empty(), |all, (_, flag)| all | *flag);
    if flags & linux::MS_NOATIME == 0 {
        result |= MountFlags::RELATIVE_ACCESS_TIME;
    }
    if flags & linux::MS_STRICTATIME != 0 {
        result -= MountFlags::RELATIVE_ACCESS_TIME | MountFlags::NO_ACCESS_TIME;
    }
    result
}

/// The flags of a remount: what is not said about access times stays.
fn remount_flags(flags: u32, mount: &Mount) -> MountFlags {
    let about_times = linux::MS_NOATIME | linux::MS_NODIRATIME | linux::MS_RELATIME | linux::MS_STRICTATIME;
    let new = mount_flags(flags);
    if flags & about_times != 0 {
        return new;
    }
    (new - MountFlags::ACCESS_TIMES) | (mount.flags() & MountFlags::ACCESS_TIMES)
}

/// `mount(source, target, type, flags, data)`.
fn mount(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let kind = optional_string(thread, args[2])?;
    let source = optional_string(thread, args[0])?;
    let mut flags = args[3] as u32;
    if flags & OLD_MARK_MASK == OLD_MARK {
        flags &= !OLD_MARK_MASK;
    }
    let data = optional_data(thread, args[4])?;
    let path = pointer(thread, args[1]).read_path()?;
    let target = place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)?;
    if args[3] & u64::from(linux::MS_NOUSER) != 0 {
        return Err(Errno::EINVAL);
    }
    check_may_mount(thread)?;
    let context = thread.process.fs.borrow().clone();
    let recursive = flags & linux::MS_REC != 0;
    let types = linux::MS_SHARED | linux::MS_PRIVATE | linux::MS_SLAVE | linux::MS_UNBINDABLE;
    if flags & linux::MS_REMOUNT != 0 {
        remount(&context, &target, flags, &data)
    } else if flags & linux::MS_BIND != 0 {
        bind(thread, &context, source, target, recursive)
    } else if flags & types != 0 {
        change_propagation(&context, &target, flags)
    } else if flags & linux::MS_MOVE != 0 {
        let from = source.filter(|source| !source.is_empty()).ok_or(Errno::EINVAL)?;
        let from = place(thread, CURRENT_DIRECTORY, &from, LastLink::Follow)?;
        move_mount(&context, &from, &target)
    } else {
        let kind = type_named(&kind.ok_or(Errno::EINVAL)?)?;
        let is_read_only = flags & linux::MS_RDONLY != 0;
        let device = device_of(thread, kind, source.as_deref())?;
        let request = MountRequest { server: thread.server(), options: &data, device, is_read_only };
        let (filesystem, root) = context.namespace.instance(kind, &request)?;
        let source = source.unwrap_or_default();
        let new = Mount::new(&filesystem, root, &source, mount_flags(flags) - MountFlags::READ_ONLY)?;
        if is_read_only {
            new.set_flags(new.flags() | MountFlags::READ_ONLY)?;
            filesystem.set_read_only(true)?;
        }
        add_new(&context, &new, target)
    }?;
    Ok(0)
}

/// The block device that is to be mounted, for a file system that needs one. `ENOENT`, `ENOTBLK`, `EACCES`.
pub(super) fn device_of(
    thread: &Rc<Thread>,
    kind: &FileSystemType,
    source: Option<&[u8]>,
) -> Result<Option<DeviceNumber>> {
    if kind.storage != Storage::Disk {
        return Ok(None);
    }
    let source = source.filter(|source| !source.is_empty()).ok_or(Errno::EINVAL)?;
    let found = place(thread, CURRENT_DIRECTORY, source, LastLink::Follow)?;
    let Body::BlockDevice(device) = found.inode().body() else { return Err(Errno::ENOTBLK) };
    if found.mount.flags().contains(MountFlags::NO_DEVICES) {
        return Err(Errno::EACCES);
    }
    Ok(Some(*device))
}

/// The data of a mount: what of a page can be read.
fn optional_data(thread: &Thread, address: u64) -> Result<Vec<u8>> {
    if address == 0 {
        return Ok(Vec::new());
    }
    match pointer(thread, address).read_c_string(PAGE_SIZE as usize) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        data => data,
    }
}

/// Mounts a new mount. `EBUSY` if the same file system is mounted there already.
pub(super) fn add_new(context: &FsContext, new: &Rc<Mount>, target: Location) -> Result<()> {
    if target.is_mount_root() && Rc::ptr_eq(target.mount.filesystem(), new.filesystem()) {
        return Err(Errno::EBUSY);
    }
    context.namespace.graft(new, target)
}

fn remount(context: &FsContext, target: &Location, flags: u32, data: &[u8]) -> Result<()> {
    if !context.namespace.has(&target.mount) || !target.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mount = &target.mount;
    if flags & linux::MS_BIND == 0 {
        let filesystem = mount.filesystem();
        if filesystem.payer().is_some() {
            filesystem.set_options(filesystem.options().changed_by(data)?)?;
        }
        set_read_only(filesystem, flags & linux::MS_RDONLY != 0)?;
    }
    mount.set_flags(remount_flags(flags, mount))
}

/// Makes a file system read-only, or not, and tells the server of its disk. `EBUSY`, `EROFS`.
pub(super) fn set_read_only(filesystem: &FileSystem, is_read_only: bool) -> Result<()> {
    if let Some(volume) = filesystem.volume() {
        volume.set_read_only(is_read_only)?;
    }
    filesystem.set_read_only(is_read_only)
}

fn bind(
    thread: &Rc<Thread>,
    context: &FsContext,
    source: Option<Vec<u8>>,
    target: Location,
    recursive: bool,
) -> Result<()> {
    let source = source.filter(|source| !source.is_empty()).ok_or(Errno::EINVAL)?;
    let from = place(thread, CURRENT_DIRECTORY, &source, LastLink::Follow)?;
    let copy = copy_for_bind(context, &from, recursive)?;
    context.namespace.graft(&copy, target)
}

/// A copy of what is at a place, to be mounted elsewhere. `EINVAL` if it can't be bound; `ENOSPC`.
pub(super) fn copy_for_bind(context: &FsContext, from: &Location, recursive: bool) -> Result<Rc<Mount>> {
    if from.mount.propagation().is_unbindable || !context.namespace.has(&from.mount) {
        return Err(Errno::EINVAL);
    }
    if !recursive {
        return from.mount.copy(from.dentry.clone());
    }
    let pairs = copy_tree(&from.mount, &from.dentry, Unbindable::Skipped)?;
    pairs.first().map(|(_, copy)| copy.clone()).ok_or(Errno::EINVAL)
}

/// The one change of propagation that the flags ask for. `EINVAL` if they ask for several, or for more.
fn propagation_change(flags: u32) -> Result<Change> {
    match flags & !(linux::MS_REC | linux::MS_SILENT) {
        linux::MS_SHARED => Ok(Change::Shared),
        linux::MS_PRIVATE => Ok(Change::Private),
        linux::MS_SLAVE => Ok(Change::Slave),
        linux::MS_UNBINDABLE => Ok(Change::Unbindable),
        _ => Err(Errno::EINVAL),
    }
}

fn change_propagation(context: &FsContext, target: &Location, flags: u32) -> Result<()> {
    if !target.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let change = propagation_change(flags)?;
    let mounts = if flags & linux::MS_REC != 0 { target.mount.tree() } else { Vec::from([target.mount.clone()]) };
    mounts.iter().for_each(|mount| propagation::change(&context.namespace, mount, change));
    Ok(())
}

/// Moves a mount to another place. `EINVAL`, `ELOOP`.
pub(super) fn move_mount(context: &FsContext, from: &Location, to: &Location) -> Result<()> {
    let namespace = &context.namespace;
    let moved = &from.mount;
    if !namespace.has(&to.mount) || !namespace.has(moved) || !from.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if from.inode().is_directory() != to.inode().is_directory() {
        return Err(Errno::EINVAL);
    }
    let parent = moved.at().ok_or(Errno::EINVAL)?.mount;
    if parent.propagation().group.is_some() {
        return Err(Errno::EINVAL);
    }
    let mut above = Some(to.mount.clone());
    while let Some(mount) = above {
        if Rc::ptr_eq(&mount, moved) {
            return Err(Errno::ELOOP);
        }
        above = mount.at().map(|at| at.mount);
    }
    let before = moved.at();
    moved.detach();
    let result = namespace.graft(moved, to.clone());
    if let (Err(_), Some(before)) = (result, before) {
        moved.attach(&before);
    }
    result
}

/// The flags that `umount2` knows.
const UNMOUNT_FLAGS: u32 = linux::MNT_FORCE | linux::MNT_DETACH | linux::MNT_EXPIRE | linux::UMOUNT_NOFOLLOW;

/// `umount2(target, flags)`. That of a disk is over when the disk is no longer used, if it was its last mount.
fn unmount(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    match unmount_place(thread, args) {
        Ok(Some(closing)) => Outcome::block(async move { closing.ended().await.map(|()| 0) }),
        Ok(None) => Outcome::Return(Ok(0)),
        Err(errno) => errno.into(),
    }
}

fn unmount_place(thread: &Rc<Thread>, args: &Arguments) -> Result<Option<Ticket>> {
    let flags = args[1] as u32;
    if flags & !UNMOUNT_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let path = pointer(thread, args[0]).read_path()?;
    let last = if flags & linux::UMOUNT_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let context = thread.process.fs.borrow().clone();
    let cwd = context.cwd.clone();
    let target = with_actor(thread, |actor| Walk::new(actor).place(&cwd, &path, last))?;
    drop(cwd);
    check_may_mount(thread)?;
    if !target.is_mount_root() || !context.namespace.has(&target.mount) {
        return Err(Errno::EINVAL);
    }
    let mount = target.mount.clone();
    drop(target);
    let is_root = Rc::ptr_eq(&mount, &context.root.mount);
    let namespace = context.namespace.clone();
    // What this call itself stands in does not count.
    drop(context);
    unmount_found(&namespace, &mount, flags, is_root)?;
    let volume = mount.filesystem().volume().cloned();
    drop(mount);
    Ok(volume.filter(|volume| volume.is_closing()).map(|volume| volume.closed()))
}

/// How often a mount is held that nobody uses: by its place, and by the call that looks.
const IDLE_HOLDERS: usize = 2;

fn unmount_found(namespace: &crate::fs::Namespace, mount: &Rc<Mount>, flags: u32, is_root: bool) -> Result<()> {
    let lazy = flags & linux::MNT_DETACH != 0;
    let is_busy = Rc::strong_count(mount) > IDLE_HOLDERS || mount.has_children();
    if flags & linux::MNT_EXPIRE != 0 {
        if is_root || lazy || flags & linux::MNT_FORCE != 0 {
            return Err(Errno::EINVAL);
        }
        if is_busy {
            return Err(Errno::EBUSY);
        }
        if !mount.mark_expiring() {
            return Err(Errno::EAGAIN);
        }
    }
    if is_root && !lazy {
        // As Linux does: the root can't go, so that it becomes safe to switch off.
        return set_read_only(mount.filesystem(), true);
    }
    if !lazy && is_busy {
        return Err(Errno::EBUSY);
    }
    if mount.at().is_none() {
        return Err(Errno::EINVAL);
    }
    namespace.remove(mount);
    Ok(())
}

/// `pivot_root(new root, place for the old root)`.
fn pivot_root(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    check_may_mount(thread)?;
    let [new, old] = [args[0], args[1]].map(|address| {
        let path = pointer(thread, address).read_path()?;
        let place = place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)?;
        place.inode().directory()?;
        Ok::<_, Errno>(place)
    });
    let (new, old) = (new?, old?);
    let context = thread.process.fs.borrow().clone();
    let root = context.root.clone();
    check_pivot(&context, &root, &new, &old)?;
    context.namespace.pivot(&root.mount, &new.mount, &old);
    for process in thread.server().processes() {
        process.fs.borrow_mut().replace_root(&root, &new);
    }
    Ok(0)
}

fn check_pivot(context: &FsContext, root: &Location, new: &Location, old: &Location) -> Result<()> {
    let is_shared = |mount: &Mount| mount.propagation().group.is_some();
    let parent_is_shared = |mount: &Mount| mount.at().is_some_and(|at| is_shared(&at.mount));
    if is_shared(&old.mount) || parent_is_shared(&new.mount) || parent_is_shared(&root.mount) {
        return Err(Errno::EINVAL);
    }
    if !context.namespace.has(&root.mount) || !context.namespace.has(&new.mount) {
        return Err(Errno::EINVAL);
    }
    if new.dentry.is_removed() || old.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    if Rc::ptr_eq(&new.mount, &root.mount) || Rc::ptr_eq(&old.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    let places = root.is_mount_root() && new.is_mount_root() && new.mount.at().is_some();
    if !places || !old.is_below(new) || !new.is_below(root) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Gives a process a name space of its own: what it stands in moves along (`CLONE_NEWNS`). `EPERM`, `ENOSPC`.
pub(super) fn unshare_mounts(thread: &Rc<Thread>) -> Result<()> {
    check_may_mount(thread)?;
    let copy = thread.process.fs.borrow().with_own_namespace()?;
    let before = thread.process.fs.replace(copy);
    drop(before);
    Ok(())
}
