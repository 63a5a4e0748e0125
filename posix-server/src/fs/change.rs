//! Making, linking, renaming and removing names.
//!
//! Each operation checks in the order in which Linux does (`fs/namei.c`), because programs see which error comes first, and
//! changes nothing before the last check.

use super::diskfs::Volume;
use super::inode::{FirstName, Restored, TimeNs, Times, now};
use super::tmpfs::Names;
use super::walk::{Actor, Ending, Last, Parent, Walk};
use super::{Body, Dentry, DeviceNumber, Inode, Location, notify, protection};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use alloc::rc::Rc;
use driver_protocol::files::operation::{self, Operation};
use linux_raw_sys::general as linux;

/// Whether an operation is about a directory or about any other file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Any other file.
    Other,
}

impl Kind {
    fn of(inode: &Inode) -> Self {
        if inode.is_directory() { Self::Directory } else { Self::Other }
    }
}

/// What `rename` does about a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Replaces it.
    Replace,
    /// Fails with `EEXIST` (`RENAME_NOREPLACE`).
    Keep,
    /// Exchanges the two (`RENAME_EXCHANGE`).
    Exchange,
    /// Replaces it, and leaves a whiteout at the old name (`RENAME_WHITEOUT`).
    Whiteout,
    /// Leaves a whiteout, and fails with `EEXIST` if the new name is taken.
    KeepWhiteout,
}

impl Rename {
    fn keeps(self) -> bool {
        matches!(self, Self::Keep | Self::KeepWhiteout)
    }

    fn leaves_whiteout(self) -> bool {
        matches!(self, Self::Whiteout | Self::KeepWhiteout)
    }
}

/// What a whiteout is: a character device that no driver has.
const WHITEOUT: DeviceNumber = DeviceNumber { major: 0, minor: 0 };

/// What a new name names.
pub enum New {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(alloc::vec::Vec<u8>),
    /// Anything else.
    Node(Body),
}

fn names_of(directory: &Location) -> Result<&Names> {
    let body = directory.inode().directory()?;
    body.load(&directory.dentry)?;
    body.names().ok_or(Errno::EPERM)
}

/// Tells the disk that a directory is on, if it is on one, what was done to a name in it.
fn record(directory: &Location, tell: impl FnOnce(&Volume)) {
    if let Some(volume) = directory.inode().filesystem().volume() {
        tell(volume);
    }
}

/// A name is about to be added to a directory (`may_create`).
fn check_create(actor: Actor<'_>, directory: &Location) -> Result<()> {
    if directory.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    directory.inode().check_access(actor.credentials, Access::WRITE | Access::EXECUTE)
}

/// A name is about to be taken from a directory (`may_delete`).
fn check_remove(actor: Actor<'_>, directory: &Location, victim: &Location, kind: Kind) -> Result<()> {
    directory.inode().check_access(actor.credentials, Access::WRITE | Access::EXECUTE)?;
    let sticky = directory.inode().mode() & linux::S_ISVTX != 0;
    let owners = [victim.inode().uid(), directory.inode().uid()];
    if sticky && !owners.iter().any(|owner| actor.credentials.is_owner_or_privileged(*owner)) {
        return Err(Errno::EPERM);
    }
    match (kind, Kind::of(victim.inode())) {
        (Kind::Directory, Kind::Other) => Err(Errno::ENOTDIR),
        (Kind::Other, Kind::Directory) => Err(Errno::EISDIR),
        (Kind::Directory, Kind::Directory) if victim.dentry.parent().is_none() => Err(Errno::EBUSY),
        (Kind::Directory, Kind::Directory) | (Kind::Other, Kind::Other) => {
            if directory.dentry.is_removed() {
                Err(Errno::ENOENT)
            } else {
                Ok(())
            }
        }
    }
}

fn check_not_mounted(place: &Location) -> Result<()> {
    if place.dentry.is_mount_point() || place.dentry.parent().is_none() { Err(Errno::EBUSY) } else { Ok(()) }
}

/// Checks that a new name can be made there (`filename_create`); gives the name.
fn free_name<'p>(actor: Actor<'_>, parent: &'p Parent, kind: Kind) -> Result<&'p [u8]> {
    let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
    match Walk::new(actor).name(&parent.directory, name) {
        Ok(_) => Err(Errno::EEXIST),
        Err(Errno::ENOENT) if parent.ending == Ending::Slash && kind == Kind::Other => Err(Errno::ENOENT),
        Err(Errno::ENOENT) => parent.directory.check_writable().map(|()| name.as_slice()),
        Err(other) => Err(other),
    }
}

/// The inode of a new file in a directory: owner, group and permissions as Linux gives them (`inode_init_owner`).
pub fn new_inode(actor: Actor<'_>, directory: &Inode, permissions: u32, new: New) -> Result<Rc<Inode>> {
    let credentials = actor.credentials;
    let inherits = directory.mode() & linux::S_ISGID != 0;
    let group = if inherits { directory.gid() } else { credentials.fsgid };
    let masked = permissions & !actor.context.umask;
    let (body, permissions) = match new {
        New::Directory => {
            let set_gid = if inherits { linux::S_ISGID } else { 0 };
            (directory.directory()?.new_directory(), (masked & (0o777 | linux::S_ISVTX)) | set_gid)
        }
        New::Link(target) => (super::tmpfs::link(&target), 0o777),
        New::Node(body) => (body, masked & without_foreign_set_gid(actor, masked, inherits, group)),
    };
    make_inode(directory, permissions, credentials.fsuid, group, body)
}

/// A new inode in the file system of a directory. `ENOSPC`.
fn make_inode(directory: &Inode, permissions: u32, uid: u32, gid: u32, body: Body) -> Result<Rc<Inode>> {
    let filesystem = directory.filesystem();
    let Some(volume) = filesystem.volume() else {
        return Inode::new(filesystem, permissions, uid, gid, body);
    };
    volume.promise_name()?;
    let charge = volume.charge_inode(&body)?;
    let is_directory = matches!(body, Body::Directory(_));
    let number = volume.take_number(directory.number(), is_directory)?;
    let now = now();
    let times = Times { accessed: now, modified: now, changed: now, born: now };
    let links = if is_directory { 2 } else { 1 };
    let inode = Inode::restored(filesystem, Restored { number, permissions, uid, gid, links, times }, body, charge);
    volume.adopt(&inode);
    Ok(inode)
}

/// A file may not become set-group-id for a group that its maker is not in.
fn without_foreign_set_gid(actor: Actor<'_>, permissions: u32, inherits: bool, group: u32) -> u32 {
    let set_gid = linux::S_ISGID | linux::S_IXGRP;
    let foreign = inherits && !actor.credentials.is_in_group(group) && !actor.credentials.is_privileged();
    if permissions & set_gid == set_gid && foreign { !linux::S_ISGID } else { !0 }
}

/// Adds a name for an inode that has counted it already.
fn add_name(directory: &Location, name: &[u8], inode: Rc<Inode>, time: TimeNs) -> Result<Rc<Dentry>> {
    let names = names_of(directory)?;
    let dentry = Dentry::stored(&directory.dentry, name, inode)?;
    if dentry.inode().is_directory() {
        directory.inode().add_link()?;
    }
    names.insert(dentry.clone());
    directory.inode().touch_names(time);
    Ok(dentry)
}

fn take_name(directory: &Location, victim: &Rc<Dentry>, time: TimeNs) -> Result<()> {
    let removed = names_of(directory)?.remove(&victim.name());
    victim.mark_removed();
    victim.inode().remove_link();
    if victim.inode().is_directory() {
        victim.inode().remove_link();
        directory.inode().remove_link();
    }
    victim.inode().touch_name(time);
    directory.inode().touch_names(time);
    drop(removed);
    Ok(())
}

/// Makes a new file at a place where there must be none.
pub fn create(actor: Actor<'_>, parent: &Parent, permissions: u32, new: New) -> Result<Location> {
    let kind = if matches!(new, New::Directory) { Kind::Directory } else { Kind::Other };
    let name = free_name(actor, parent, kind)?;
    check_create(actor, &parent.directory)?;
    let is_device = matches!(new, New::Node(Body::CharacterDevice(_) | Body::BlockDevice(_)));
    if is_device && !actor.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    names_of(&parent.directory)?;
    let inode = new_inode(actor, parent.directory.inode(), permissions, new)?;
    let time = now();
    let dentry = add_name(&parent.directory, name, inode, time)?;
    dentry.inode().touch_born(time);
    record(&parent.directory, |volume| {
        volume.record_create(parent.directory.inode().number(), name, dentry.inode(), time);
    });
    notify::created(&parent.directory, &dentry);
    Ok(parent.directory.with(dentry))
}

/// Makes another name for a file.
pub fn link(actor: Actor<'_>, old: &Location, parent: &Parent) -> Result<()> {
    let name = free_name(actor, parent, Kind::Other)?;
    if !Rc::ptr_eq(&old.mount, &parent.directory.mount) {
        return Err(Errno::EXDEV);
    }
    protection::check_name(actor, old.inode())?;
    check_create(actor, &parent.directory)?;
    if old.inode().is_directory() {
        return Err(Errno::EPERM);
    }
    names_of(&parent.directory)?;
    // A name that is gone does not come back; a file that never had one (`O_TMPFILE`) may get its first.
    if old.inode().links() == 0 && !old.inode().may_get_first_name() {
        return Err(Errno::ENOENT);
    }
    count_and_add(&parent.directory, name, old.inode())
}

/// Gives an inode one more name, and counts it.
fn count_and_add(directory: &Location, name: &[u8], inode: &Rc<Inode>) -> Result<()> {
    let time = now();
    inode.add_link()?;
    let dentry = add_name(directory, name, inode.clone(), time).inspect_err(|_| inode.remove_link())?;
    inode.allow_first_name(FirstName::Refused);
    inode.touch_name(time);
    record(directory, |volume| {
        let (parent, inode) = (directory.inode().number(), inode.number());
        // What a file without names had stored is to be kept from now on.
        volume.note_dirty(inode);
        volume.record(&Operation::Link { parent, inode, name, time }, &[parent, inode]);
    });
    notify::linked(directory, &dentry);
    Ok(())
}

/// Takes a name away, and tells of it: first of the end of the file, if that was its last name.
fn remove(directory: &Location, victim: Location) -> Result<()> {
    let (name, kind) = (victim.dentry.name(), Kind::of(victim.inode()));
    let time = now();
    take_name(directory, &victim.dentry, time)?;
    record(directory, |volume| {
        let (parent, inode, name) = (directory.inode().number(), victim.inode().number(), &*name);
        let operation = match kind {
            Kind::Directory => Operation::RemoveDirectory { parent, inode, name, time },
            Kind::Other => Operation::Unlink { parent, inode, name, time },
        };
        volume.record(&operation, &[parent, inode]);
    });
    if kind == Kind::Other {
        notify::inode(victim.inode(), notify::ATTRIBUTES);
    }
    drop(victim);
    notify::removed(directory, &name, kind);
    Ok(())
}

/// Removes a name that is not a directory's.
pub fn unlink(actor: Actor<'_>, parent: &Parent) -> Result<()> {
    let Last::Name(name) = &parent.last else { return Err(Errno::EISDIR) };
    parent.directory.check_writable()?;
    let victim = Walk::new(actor).name(&parent.directory, name)?;
    if parent.ending == Ending::Slash {
        return Err(if victim.inode().is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_remove(actor, &parent.directory, &victim, Kind::Other)?;
    names_of(&parent.directory)?;
    check_not_mounted(&victim)?;
    remove(&parent.directory, victim)
}

/// Removes an empty directory.
pub fn remove_directory(actor: Actor<'_>, parent: &Parent) -> Result<()> {
    let name = match &parent.last {
        Last::Name(name) => name,
        Last::Root => return Err(Errno::EBUSY),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
    };
    parent.directory.check_writable()?;
    let victim = Walk::new(actor).name(&parent.directory, name)?;
    check_remove(actor, &parent.directory, &victim, Kind::Directory)?;
    names_of(&parent.directory)?;
    check_not_mounted(&victim)?;
    check_empty(&victim)?;
    remove(&parent.directory, victim)
}

fn check_empty(directory: &Location) -> Result<()> {
    let body = directory.inode().directory()?;
    body.load(&directory.dentry)?;
    if body.is_empty() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
}

/// The name of one side of a rename. `taken`: the error where there is none.
fn rename_name(parent: &Parent, no_name: Errno) -> Result<&[u8]> {
    match &parent.last {
        Last::Name(name) => Ok(name),
        Last::Root | Last::Dot | Last::DotDot => Err(no_name),
    }
}

/// Renames, replaces or exchanges.
pub fn rename(actor: Actor<'_>, old_parent: &Parent, new_parent: &Parent, how: Rename) -> Result<()> {
    let (from, to) = (&old_parent.directory, &new_parent.directory);
    if !Rc::ptr_eq(&from.mount, &to.mount) {
        return Err(Errno::EXDEV);
    }
    let old_name = rename_name(old_parent, Errno::EBUSY)?;
    let new_name = rename_name(new_parent, if how.keeps() { Errno::EEXIST } else { Errno::EBUSY })?;
    from.check_writable()?;
    let walk = Walk::new(actor);
    let old = walk.name(from, old_name)?;
    let new = match walk.name(to, new_name) {
        Ok(new) => Some(new),
        Err(Errno::ENOENT) => None,
        Err(other) => return Err(other),
    };
    check_rename_names(old_parent, new_parent, &old, new.as_ref(), how)?;
    check_rename_tree(from, to, &old, new.as_ref(), how)?;
    if new.as_ref().is_some_and(|new| new.inode().is_same(old.inode())) {
        return Ok(());
    }
    check_rename_permissions(actor, from, to, &old, new.as_ref(), how)?;
    old.dentry.reserve_name(new_name)?;
    let whiteout = if how.leaves_whiteout() { Some(new_whiteout(actor, from, old_name)?) } else { None };
    let time = now();
    match &new {
        Some(new) if how == Rename::Exchange => {
            exchange(from, to, &old, new, time)?;
            record_rename(from, to, [old_name, new_name], &old, Some(new), operation::Rename::Exchange, time);
            notify::renamed(from, old_name, to, &old.dentry, None);
            notify::renamed(to, new_name, from, &new.dentry, None);
            return Ok(());
        }
        Some(new) => {
            if new.inode().is_directory() {
                check_empty(new)?;
            }
            take_name(to, &new.dentry, time)?;
        }
        None => {}
    }
    move_name(from, to, &old, new_name, time)?;
    record_rename(from, to, [old_name, new_name], &old, new.as_ref(), operation::Rename::Replace, time);
    notify::renamed(from, old_name, to, &old.dentry, new.as_ref().map(|new| &**new.inode()));
    if let Some(whiteout) = whiteout {
        names_of(from)?.insert(whiteout.clone());
        record(from, |volume| volume.record_create(from.inode().number(), old_name, whiteout.inode(), time));
    }
    Ok(())
}

/// Tells the disk of a rename. What takes another file's place is written back first, so that a loss of power leaves one of both.
fn record_rename(
    from: &Location,
    to: &Location,
    [old_name, new_name]: [&[u8]; 2],
    old: &Location,
    new: Option<&Location>,
    how: operation::Rename,
    time: TimeNs,
) {
    record(from, |volume| {
        let (old_parent, new_parent, inode) = (from.inode().number(), to.inode().number(), old.inode().number());
        let other = new.map_or(0, |new| new.inode().number());
        if other != 0 && how == operation::Rename::Replace {
            volume.write_back_first(old.inode());
        }
        let rename = Operation::Rename { old_parent, old_name, new_parent, new_name, inode, other, how, time };
        volume.record(&rename, &[old_parent, new_parent, inode, other]);
    });
}

/// A name for a whiteout, which is not stored yet. `EPERM`, `ENOSPC`.
fn new_whiteout(actor: Actor<'_>, directory: &Location, name: &[u8]) -> Result<Rc<Dentry>> {
    if !actor.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let body = Body::CharacterDevice(WHITEOUT);
    let inode = make_inode(directory.inode(), 0, actor.credentials.fsuid, actor.credentials.fsgid, body)?;
    Dentry::stored(&directory.dentry, name, inode)
}

/// What the names themselves forbid.
fn check_rename_names(
    old_parent: &Parent,
    new_parent: &Parent,
    old: &Location,
    new: Option<&Location>,
    how: Rename,
) -> Result<()> {
    let new_slash = new_parent.ending == Ending::Slash;
    match (how, new) {
        (_, Some(_)) if how.keeps() => return Err(Errno::EEXIST),
        (Rename::Exchange, None) => return Err(Errno::ENOENT),
        (Rename::Exchange, Some(new)) if new_slash && !new.inode().is_directory() => return Err(Errno::ENOTDIR),
        (Rename::Exchange, Some(_)) | (Rename::Keep | Rename::Replace | Rename::Whiteout | Rename::KeepWhiteout, _) => {
        }
    }
    let slash = old_parent.ending == Ending::Slash || (how != Rename::Exchange && new_slash);
    if slash && !old.inode().is_directory() { Err(Errno::ENOTDIR) } else { Ok(()) }
}

/// A directory can't move below itself, nor replace one that it is below.
fn check_rename_tree(
    from: &Location,
    to: &Location,
    old: &Location,
    new: Option<&Location>,
    how: Rename,
) -> Result<()> {
    if to.dentry.is_within(&old.dentry) {
        return Err(Errno::EINVAL);
    }
    match new {
        Some(new) if from.dentry.is_within(&new.dentry) => {
            Err(if how == Rename::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_rename_permissions(
    actor: Actor<'_>,
    from: &Location,
    to: &Location,
    old: &Location,
    new: Option<&Location>,
    how: Rename,
) -> Result<()> {
    let kind = Kind::of(old.inode());
    check_remove(actor, from, old, kind)?;
    match new {
        None => check_create(actor, to)?,
        Some(new) if how == Rename::Exchange => check_remove(actor, to, new, Kind::of(new.inode()))?,
        Some(new) => check_remove(actor, to, new, kind)?,
    }
    names_of(from)?;
    names_of(to)?;
    if !from.inode().is_same(to.inode()) {
        // `..` of a directory that moves changes, which is a write to it.
        let exchanged = new.filter(|_| how == Rename::Exchange);
        for moved in [Some(old), exchanged].into_iter().flatten().filter(|moved| moved.inode().is_directory()) {
            moved.inode().check_access(actor.credentials, Access::WRITE)?;
        }
    }
    check_not_mounted(old)?;
    new.map_or(Ok(()), check_not_mounted)
}

/// Moves a name to a free one. Everything has been checked.
fn move_name(from: &Location, to: &Location, old: &Location, new_name: &[u8], time: TimeNs) -> Result<()> {
    let (old_names, new_names) = (names_of(from)?, names_of(to)?);
    old_names.remove(&old.dentry.name());
    old.dentry.move_to(&to.dentry, new_name);
    new_names.insert(old.dentry.clone());
    if old.inode().is_directory() && !from.inode().is_same(to.inode()) {
        from.inode().remove_link();
        to.inode().add_link()?;
    }
    from.inode().touch_names(time);
    to.inode().touch_names(time);
    old.inode().touch_name(time);
    Ok(())
}

fn exchange(from: &Location, to: &Location, old: &Location, new: &Location, time: TimeNs) -> Result<()> {
    let (old_names, new_names) = (names_of(from)?, names_of(to)?);
    let (old_name, new_name) = (old.dentry.name(), new.dentry.name());
    old_names.remove(&old_name);
    new_names.remove(&new_name);
    old.dentry.move_to(&to.dentry, &new_name);
    new.dentry.move_to(&from.dentry, &old_name);
    old_names.insert(new.dentry.clone());
    new_names.insert(old.dentry.clone());
    match (Kind::of(old.inode()), Kind::of(new.inode())) {
        (Kind::Directory, Kind::Other) => {
            from.inode().remove_link();
            to.inode().add_link()?;
        }
        (Kind::Other, Kind::Directory) => {
            to.inode().remove_link();
            from.inode().add_link()?;
        }
        (Kind::Directory, Kind::Directory) | (Kind::Other, Kind::Other) => {}
    }
    for inode in [from.inode(), to.inode()] {
        inode.touch_names(time);
    }
    for inode in [old.inode(), new.inode()] {
        inode.touch_name(time);
    }
    Ok(())
}
