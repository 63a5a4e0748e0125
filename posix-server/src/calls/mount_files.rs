//! The calls that mount by descriptors: `fsopen`, `fsconfig`, `fsmount`, `fspick`, `open_tree`, `move_mount`,
//! `mount_setattr`.
//!
//! `fsopen` and `fspick` give a [`Configuration`], which collects options until a command makes a file system of them or
//! changes one. `fsmount` and `open_tree` give a mount that is nowhere yet; `move_mount` puts it somewhere.

use super::blocking::file;
use super::files::install;
use super::mounts::{add_new, check_may_mount, copy_for_bind, device_of, move_mount as move_attached, set_read_only};
use super::names::{place, start};
use super::open::read_extensible;
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, OpenFile, Positioning, Source};
use crate::fs::filesystem::type_named;
use crate::fs::propagation::{self, Change};
use crate::fs::walk::LastLink;
use crate::fs::{Body, FileSystemType, Inode, Location, Made, Mount, MountFlags, MountRequest, Storage};
use crate::platform::PAGE_SIZE;
use crate::process::Thread;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_fsopen, |t, a| fsopen(t, a).into()),
    SystemCall::new(linux::__NR_fsconfig, |t, a| fsconfig(t, a).into()).partly("options that are files: EOPNOTSUPP"),
    SystemCall::new(linux::__NR_fsmount, |t, a| fsmount(t, a).into()),
    SystemCall::new(linux::__NR_fspick, |t, a| fspick(t, a).into()),
    SystemCall::new(linux::__NR_open_tree, |t, a| open_tree(t, a).into()),
    SystemCall::new(linux::__NR_move_mount, |t, a| move_mount(t, a).into())
        .partly("MOVE_MOUNT_SET_GROUP and MOVE_MOUNT_BENEATH: EINVAL"),
    SystemCall::new(linux::__NR_mount_setattr, |t, a| mount_setattr(t, a).into()).partly("MOUNT_ATTR_IDMAP: EINVAL"),
];

/// The longest options that are collected, in bytes: as much as `mount` takes at once.
const MAX_OPTION_BYTES: usize = 4096;

/// How far a configuration is.
enum Stage {
    /// Options are collected, for a new file system of a type.
    New(&'static FileSystemType),
    /// It is made, and can be mounted once.
    Made(Made),
    /// It was mounted.
    Mounted,
    /// Options are collected for one that there is.
    Picked(Rc<Mount>),
}

/// What `fsopen` and `fspick` open.
pub struct Configuration {
    stage: RefCell<Stage>,
    source: RefCell<Vec<u8>>,
    /// Separated by commas.
    options: RefCell<Vec<u8>>,
    read_only: RefCell<Option<ReadOnly>>,
}

/// What was said of changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnly {
    Yes,
    No,
}

impl Configuration {
    fn new(stage: Stage) -> Self {
        Self {
            stage: RefCell::new(stage),
            source: RefCell::default(),
            options: RefCell::default(),
            read_only: RefCell::default(),
        }
    }
}

impl FileOps for Configuration {
    /// There are no messages.
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::ENODATA)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn configuration(&self) -> Option<&Configuration> {
        Some(self)
    }
}

fn install_configuration(thread: &Rc<Thread>, stage: Stage, close: u32) -> Result<u64> {
    let namespace = thread.process.fs.borrow().namespace.clone();
    let inode = Inode::new(namespace.anonymous(), 0o600, 0, 0, Body::Anonymous).map_err(|_| Errno::ENFILE)?;
    let file = OpenFile::new(Rc::new(Configuration::new(stage)), inode, None, linux::O_RDWR)?;
    install(thread, file, close)
}

/// `fsopen(type, flags)`.
fn fsopen(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    const CLOSE: u32 = 1;
    check_may_mount(thread)?;
    let wanted = args[1] as u32;
    if wanted & !CLOSE != 0 {
        return Err(Errno::EINVAL);
    }
    let name = pointer(thread, args[0]).read_path()?;
    let close = if wanted & CLOSE != 0 { linux::O_CLOEXEC } else { 0 };
    install_configuration(thread, Stage::New(type_named(&name)?), close)
}

/// How the calls of this file name a place: path flags by their bits.
struct PathFlags {
    no_follow: u32,
    empty: u32,
}

fn find(thread: &Rc<Thread>, directory: u64, path: u64, flags: u32, bits: &PathFlags) -> Result<Location> {
    let path = pointer(thread, path).read_path()?;
    if path.is_empty() && flags & bits.empty != 0 {
        return start(thread, directory, &path);
    }
    let last = if flags & bits.no_follow != 0 { LastLink::Keep } else { LastLink::Follow };
    place(thread, directory, &path, last)
}

/// `fspick(directory, path, flags)`.
fn fspick(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    const CLOSE: u32 = 1;
    const NO_FOLLOW: u32 = 2;
    const NO_AUTOMOUNT: u32 = 4;
    const EMPTY: u32 = 8;
    check_may_mount(thread)?;
    let flags = args[2] as u32;
    if flags & !(CLOSE | NO_FOLLOW | NO_AUTOMOUNT | EMPTY) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags, &PathFlags { no_follow: NO_FOLLOW, empty: EMPTY })?;
    if !found.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let close = if flags & CLOSE != 0 { linux::O_CLOEXEC } else { 0 };
    install_configuration(thread, Stage::Picked(found.mount), close)
}

/// The longest value of an option, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// Whether a command of `fsconfig` can have these parameters. `EINVAL`; `EOPNOTSUPP` for an unknown command.
fn check_parameters(chosen: u32, key: u64, value: u64, auxiliary: i32) -> Result<()> {
    use linux::fsconfig_command as command;
    const MAX_BINARY_BYTES: i32 = 1 << 20;
    let is = |command: command| chosen == command as u32;
    let (has_key, has_value) = (key != 0, value != 0);
    let fits = if is(command::FSCONFIG_SET_FLAG) {
        has_key && !has_value && auxiliary == 0
    } else if is(command::FSCONFIG_SET_STRING) {
        has_key && has_value && auxiliary == 0
    } else if is(command::FSCONFIG_SET_BINARY) {
        has_key && has_value && (1..=MAX_BINARY_BYTES).contains(&auxiliary)
    } else if is(command::FSCONFIG_SET_PATH) || is(command::FSCONFIG_SET_PATH_EMPTY) {
        has_key && has_value && (auxiliary == linux::AT_FDCWD || auxiliary >= 0)
    } else if is(command::FSCONFIG_SET_FD) {
        has_key && !has_value && auxiliary >= 0
    } else if is(command::FSCONFIG_CMD_CREATE)
        || is(command::FSCONFIG_CMD_CREATE_EXCL)
        || is(command::FSCONFIG_CMD_RECONFIGURE)
    {
        !has_key && !has_value && auxiliary == 0
    } else {
        return Err(Errno::EOPNOTSUPP);
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `fsconfig(fd, command, key, value, auxiliary)`.
fn fsconfig(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    use linux::fsconfig_command as command;
    if (args[0] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (chosen, key, value) = (args[1] as u32, args[2], args[3]);
    check_parameters(chosen, key, value, args[4] as i32)?;
    let file = file(thread, args[0])?;
    let configuration = file.ops().configuration().ok_or(Errno::EINVAL)?;
    let string = |address: u64| match pointer(thread, address).read_c_string(MAX_VALUE_BYTES) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        string => string,
    };
    if chosen == command::FSCONFIG_SET_FLAG as u32 {
        configuration.set_flag(&string(key)?)?;
    } else if chosen == command::FSCONFIG_SET_STRING as u32 {
        configuration.set_string(&string(key)?, &string(value)?)?;
    } else if chosen == command::FSCONFIG_CMD_CREATE as u32 || chosen == command::FSCONFIG_CMD_CREATE_EXCL as u32 {
        configuration.create(thread)?;
    } else if chosen == command::FSCONFIG_CMD_RECONFIGURE as u32 {
        configuration.reconfigure()?;
    } else {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(0)
}

impl Configuration {
    /// `EBUSY` if no options are taken any more.
    fn check_collecting(&self) -> Result<()> {
        match &*self.stage.borrow() {
            Stage::New(_) | Stage::Picked(_) => Ok(()),
            Stage::Made(_) | Stage::Mounted => Err(Errno::EBUSY),
        }
    }

    fn set_flag(&self, key: &[u8]) -> Result<()> {
        self.check_collecting()?;
        match key {
            b"ro" => drop(self.read_only.replace(Some(ReadOnly::Yes))),
            b"rw" => drop(self.read_only.replace(Some(ReadOnly::No))),
            // There is no disk that could be behind.
            b"sync" | b"async" | b"dirsync" | b"lazytime" | b"nolazytime" | b"mand" | b"nomand" => {}
            _ => self.add_option(key)?,
        }
        Ok(())
    }

    fn set_string(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_collecting()?;
        if key == b"source" {
            if !self.source.borrow().is_empty() {
                return Err(Errno::EINVAL);
            }
            self.source.replace(value.to_vec());
            return Ok(());
        }
        self.add_option(&[key, b"=", value].concat())
    }

    /// Adds an option that the type knows. `EINVAL`.
    fn add_option(&self, option: &[u8]) -> Result<()> {
        let is_of_disk = matches!(&*self.stage.borrow(), Stage::New(kind) if kind.storage == Storage::Disk);
        if is_of_disk {
            crate::fs::diskfs::check_options(option)?;
        } else {
            crate::fs::mount_options::TmpfsOptions::parse(option)?;
        }
        let mut options = self.options.borrow_mut();
        if options.len() + option.len() >= MAX_OPTION_BYTES {
            return Err(Errno::EINVAL);
        }
        options.extend_from_slice(option);
        options.push(b',');
        Ok(())
    }

    fn create(&self, thread: &Rc<Thread>) -> Result<()> {
        let Stage::New(kind) = *self.stage.borrow() else { return Err(Errno::EBUSY) };
        check_may_mount(thread)?;
        let namespace = thread.process.fs.borrow().namespace.clone();
        let options = self.options.borrow().clone();
        let source = self.source.borrow().clone();
        let device = device_of(thread, kind, Some(&source))?;
        let is_read_only = *self.read_only.borrow() == Some(ReadOnly::Yes);
        let request = MountRequest { server: thread.server(), options: &options, device, is_read_only };
        let made = namespace.instance(kind, &request)?;
        if is_read_only {
            made.0.set_read_only(true)?;
        }
        let before = self.stage.replace(Stage::Made(made));
        drop(before);
        Ok(())
    }

    fn reconfigure(&self) -> Result<()> {
        let stage = self.stage.borrow();
        let Stage::Picked(mount) = &*stage else { return Err(Errno::EBUSY) };
        let filesystem = mount.filesystem();
        if filesystem.payer().is_some() {
            filesystem.set_options(filesystem.options().changed_by(&self.options.borrow())?)?;
        }
        match *self.read_only.borrow() {
            Some(wanted) => set_read_only(filesystem, wanted == ReadOnly::Yes),
            None => Ok(()),
        }
    }
}

/// What `fsmount` and `mount_setattr` call the flags of a mount. `EINVAL` for unknown ones.
fn attributes(bits: u64) -> Result<MountFlags> {
    const BITS: [(u32, MountFlags); 6] = [
        (linux::MOUNT_ATTR_RDONLY, MountFlags::READ_ONLY),
        (linux::MOUNT_ATTR_NOSUID, MountFlags::NO_SET_ID),
        (linux::MOUNT_ATTR_NODEV, MountFlags::NO_DEVICES),
        (linux::MOUNT_ATTR_NOEXEC, MountFlags::NO_EXECUTE),
        (linux::MOUNT_ATTR_NODIRATIME, MountFlags::NO_DIRECTORY_ACCESS_TIME),
        (linux::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NO_LINKS),
    ];
    let known = BITS.iter().fold(linux::MOUNT_ATTR__ATIME, |all, (bit, _)| all | bit);
    let bits = u32::try_from(bits).ok().filter(|bits| bits & !known == 0).ok_or(Errno::EINVAL)?;
    Ok(BITS.iter().filter(|(bit, _)| bits & bit != 0).fold(MountFlags::empty(), |all, (_, flag)| all | *flag))
}

/// What they say about access times. `EINVAL` if it contradicts itself.
fn access_times(bits: u64) -> Result<MountFlags> {
    match bits as u32 & linux::MOUNT_ATTR__ATIME {
        linux::MOUNT_ATTR_RELATIME => Ok(MountFlags::RELATIVE_ACCESS_TIME),
        linux::MOUNT_ATTR_NOATIME => Ok(MountFlags::NO_ACCESS_TIME),
        linux::MOUNT_ATTR_STRICTATIME => Ok(MountFlags::empty()),
        _ => Err(Errno::EINVAL),
    }
}

/// A descriptor of a mount that is nowhere yet: an `O_PATH` file of its root, which keeps it.
fn install_mount(thread: &Rc<Thread>, at: Location, close: u32) -> Result<u64> {
    let file = crate::fs::open::open_path(at)?;
    install(thread, file, close)
}

/// `fsmount(fd, flags, attributes)`.
fn fsmount(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    const CLOSE: u32 = 1;
    check_may_mount(thread)?;
    let wanted = args[1] as u32;
    if wanted & !CLOSE != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = attributes(args[2])? | access_times(args[2])?;
    let file = file(thread, args[0])?;
    let configuration = file.ops().configuration().ok_or(Errno::EINVAL)?;
    let (filesystem, root) = match &*configuration.stage.borrow() {
        Stage::Made(made) => made.clone(),
        Stage::New(_) | Stage::Picked(_) => return Err(Errno::EINVAL),
        Stage::Mounted => return Err(Errno::EBUSY),
    };
    let mount = Mount::new(&filesystem, root, &configuration.source.borrow(), flags)?;
    let before = configuration.stage.replace(Stage::Mounted);
    drop(before);
    install_mount(thread, mount.place(), if wanted & CLOSE != 0 { linux::O_CLOEXEC } else { 0 })
}

/// `open_tree(directory, path, flags)`.
fn open_tree(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[2] as u32;
    let path_flags = linux::AT_EMPTY_PATH | linux::AT_NO_AUTOMOUNT | linux::AT_SYMLINK_NOFOLLOW;
    let known = path_flags | linux::AT_RECURSIVE | linux::OPEN_TREE_CLONE | linux::OPEN_TREE_CLOEXEC;
    let copies = flags & linux::OPEN_TREE_CLONE != 0;
    let recursive = flags & linux::AT_RECURSIVE != 0;
    if flags & !known != 0 || recursive && !copies {
        return Err(Errno::EINVAL);
    }
    if copies {
        check_may_mount(thread)?;
    }
    let bits = PathFlags { no_follow: linux::AT_SYMLINK_NOFOLLOW, empty: linux::AT_EMPTY_PATH };
    let found = find(thread, args[0], args[1], flags, &bits)?;
    let close = flags & linux::OPEN_TREE_CLOEXEC;
    if !copies {
        return install_mount(thread, found, close);
    }
    let context = thread.process.fs.borrow().clone();
    let copy = copy_for_bind(&context, &found, recursive)?;
    install_mount(thread, copy.place(), close)
}

/// `move_mount(directory, path, directory, path, flags)`.
fn move_mount(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    check_may_mount(thread)?;
    let flags = args[4] as u32;
    let known = linux::MOVE_MOUNT__MASK & !(linux::MOVE_MOUNT_SET_GROUP | linux::MOVE_MOUNT_BENEATH);
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    // Links are followed only when asked for, other than elsewhere.
    let from_bits = PathFlags { no_follow: linux::MOVE_MOUNT_F_SYMLINKS, empty: linux::MOVE_MOUNT_F_EMPTY_PATH };
    let to_bits = PathFlags { no_follow: linux::MOVE_MOUNT_T_SYMLINKS, empty: linux::MOVE_MOUNT_T_EMPTY_PATH };
    let inverted = flags ^ (linux::MOVE_MOUNT_F_SYMLINKS | linux::MOVE_MOUNT_T_SYMLINKS);
    let from = find(thread, args[0], args[1], inverted, &from_bits)?;
    let to = find(thread, args[2], args[3], inverted, &to_bits)?;
    let context = thread.process.fs.borrow().clone();
    let is_loose = from.is_mount_root() && from.mount.namespace() == 0 && from.mount.at().is_none();
    if is_loose {
        if from.inode().is_directory() != to.inode().is_directory() {
            return Err(Errno::EINVAL);
        }
        add_new(&context, &from.mount, to)?;
    } else {
        move_attached(&context, &from, &to)?;
    }
    Ok(0)
}

/// `struct mount_attr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `mount_setattr(directory, path, flags, attributes, size)`.
fn mount_setattr(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[2] as u32;
    let known = linux::AT_EMPTY_PATH | linux::AT_RECURSIVE | linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if args[4] > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if args[4] < linux::MOUNT_ATTR_SIZE_VER0 as u64 {
        return Err(Errno::EINVAL);
    }
    check_may_mount(thread)?;
    let wanted: MountAttributes = read_extensible(&pointer(thread, args[3]), args[4])?;
    if wanted.set == 0 && wanted.clear == 0 && wanted.propagation == 0 {
        return Ok(0);
    }
    let change = propagation_change(wanted.propagation)?;
    let (set, clear) = (attributes(wanted.set)?, attributes(wanted.clear)?);
    let all_times = u64::from(linux::MOUNT_ATTR__ATIME);
    let times = match wanted.clear & all_times {
        0 if wanted.set & all_times != 0 => return Err(Errno::EINVAL),
        0 => None,
        bits if bits == all_times => Some(access_times(wanted.set)?),
        _ => return Err(Errno::EINVAL),
    };
    let bits = PathFlags { no_follow: linux::AT_SYMLINK_NOFOLLOW, empty: linux::AT_EMPTY_PATH };
    let found = find(thread, args[0], args[1], flags, &bits)?;
    let namespace = thread.process.fs.borrow().namespace.clone();
    let is_ours = namespace.has(&found.mount) || found.mount.namespace() == 0;
    if !found.is_mount_root() || !is_ours {
        return Err(Errno::EINVAL);
    }
    let mounts = if flags & linux::AT_RECURSIVE != 0 { found.mount.tree() } else { Vec::from([found.mount.clone()]) };
    for mount in &mounts {
        let mut new = (mount.flags() - clear) | set;
        if let Some(times) = times {
            new = (new - MountFlags::NO_ACCESS_TIME - MountFlags::RELATIVE_ACCESS_TIME) | times;
        }
        mount.set_flags(new)?;
        if let Some(change) = change {
            propagation::change(&namespace, mount, change);
        }
    }
    Ok(0)
}

fn propagation_change(bits: u64) -> Result<Option<Change>> {
    match u32::try_from(bits).map_err(|_| Errno::EINVAL)? {
        0 => Ok(None),
        linux::MS_SHARED => Ok(Some(Change::Shared)),
        linux::MS_PRIVATE => Ok(Some(Change::Private)),
        linux::MS_SLAVE => Ok(Some(Change::Slave)),
        linux::MS_UNBINDABLE => Ok(Some(Change::Unbindable)),
        _ => Err(Errno::EINVAL),
    }
}
