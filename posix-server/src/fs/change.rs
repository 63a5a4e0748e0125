//! Making, linking, renaming and removing names.
//!
//! Each operation checks in the order in which Linux does (`fs/namei.c`), because programs see which error comes first, and
//! changes nothing before the last check.

use super::inode::FirstName;
use super::tmpfs::Names;
use super::walk::{Actor, Ending, Last, Parent, Walk};
use super::{Body, Dentry, DeviceNumber, Inode, Location, notify, protection};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use alloc::rc::Rc;
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
    directory.inode().directory()?.names().ok_or(Errno::EPERM)
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
    Inode::new(directory.filesystem(), permissions, credentials.fsuid, group, body)
}

/// A file may not become set-group-id for a group that its maker is not in.
fn without_foreign_set_gid(actor: Actor<'_>, permissions: u32, inherits: bool, group: u32) -> u32 {
    let set_gid = linux::S_ISGID | linux::S_IXGRP;
    let foreign = inherits && !actor.credentials.is_in_group(group) && !actor.credentials.is_privileged();
    if permissions & set_gid == set_gid && foreign { !linux::S_ISGID } else { !0 }
}

/// Adds a name for an inode that has counted it already.
fn add_name(directory: &Location, name: &[u8], inode: Rc<Inode>) -> Result<Rc<Dentry>> {
    let names = names_of(directory)?;
    let dentry = Dentry::stored(&directory.dentry, name, inode)?;
    if dentry.inode().is_directory() {
        directory.inode().add_link()?;
    }
    names.insert(dentry.clone());
    directory.inode().touch_modified();
    Ok(dentry)
}

fn take_name(directory: &Location, victim: &Rc<Dentry>) -> Result<()> {
    let removed = names_of(directory)?.remove(&victim.name());
    victim.mark_removed();
    victim.inode().remove_link();
    if victim.inode().is_directory() {
        victim.inode().remove_link();
        directory.inode().remove_link();
    }
    victim.inode().touch_changed();
    directory.inode().touch_modified();
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
    let dentry = add_name(&parent.directory, name, inode)?;
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
    inode.add_link()?;
    let dentry = add_name(directory, name, inode.clone()).inspect_err(|_| inode.remove_link())?;
    inode.allow_first_name(FirstName::Refused);
    inode.touch_changed();
    notify::linked(directory, &dentry);
    Ok(())
}

/// Takes a name away, and tells of it: first of the end of the file, if that was its last name.
fn remove(directory: &Location, victim: Location) -> Result<()> {
    let (name, kind) = (victim.dentry.name(), Kind::of(victim.inode()));
    take_name(directory, &victim.dentry)?;
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
    check_empty(victim.inode())?;
    remove(&parent.directory, victim)
}

fn check_empty(inode: &Inode) -> Result<()> {
    let empty = inode.directory()?.names().is_some_and(Names::is_empty);
    if empty { Ok(()) } else { Err(Errno::ENOTEMPTY) }
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
    match &new {
        Some(new) if how == Rename::Exchange => {
            exchange(from, to, &old, new)?;
            notify::renamed(from, old_name, to, &old.dentry, None);
            notify::renamed(to, new_name, from, &new.dentry, None);
            return Ok(());
        }
        Some(new) => {
            if new.inode().is_directory() {
                check_empty(new.inode())?;
            }
            take_name(to, &new.dentry)?;
        }
        None => {}
    }
    move_name(from, to, &old, new_name)?;
    notify::renamed(from, old_name, to, &old.dentry, new.as_ref().map(|new| &**new.inode()));
    if let Some(whiteout) = whiteout {
        names_of(from)?.insert(whiteout);
    }
    Ok(())
}

/// A name for a whiteout, which is not stored yet. `EPERM`, `ENOSPC`.
fn new_whiteout(actor: Actor<'_>, directory: &Location, name: &[u8]) -> Result<Rc<Dentry>> {
    if !actor.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let body = Body::CharacterDevice(WHITEOUT);
    let inode = Inode::new(directory.inode().filesystem(), 0, actor.credentials.fsuid, actor.credentials.fsgid, body)?;
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
fn move_name(from: &Location, to: &Location, old: &Location, new_name: &[u8]) -> Result<()> {
    let (old_names, new_names) = (names_of(from)?, names_of(to)?);
    old_names.remove(&old.dentry.name());
    old.dentry.move_to(&to.dentry, new_name);
    new_names.insert(old.dentry.clone());
    if old.inode().is_directory() && !from.inode().is_same(to.inode()) {
        from.inode().remove_link();
        to.inode().add_link()?;
    }
    from.inode().touch_modified();
    to.inode().touch_modified();
    old.inode().touch_changed();
    Ok(())
}

fn exchange(from: &Location, to: &Location, old: &Location, new: &Location) -> Result<()> {
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
        inode.touch_modified();
    }
    for inode in [old.inode(), new.inode()] {
        inode.touch_changed();
    }
    Ok(())
}
