//! The name space at the start: the root file system from the boot archive, and what the server itself mounts.
//!
//! No content is copied. A file of the archive is a length and a way to make its memory, a copy-on-write view of its part of
//! the archive, which is made when the file is first opened, run or mapped.

use super::change::{self, New};
use super::content::{Content, MakeMemory};
use super::diskfs::{Disks, EXT4};
use super::pagerfs::PAGERFS;
use super::walk::{Actor, LastLink, Walk};
use super::{
    Body, DEVTMPFS, Dentry, FileSystem, FsContext, Inode, Location, Made, Mount, MountFlags, MountRequest, Namespace,
    TMPFS, Times, devpts, procfs, sysfs, tmpfs,
};
use crate::cred::Credentials;
use crate::dev;
use crate::errno::{Errno, Result};
use crate::file::{FdTable, FileOps, OnExec, OpenFile};
use crate::host_link::{HostInput, HostLink, HostOutput, Output};
use crate::mqueue::MQUEUE;
use crate::pipe::Pipe;
use crate::platform::{Executor, take_needs};
use crate::process::{Pid, Server};
use crate::tty::sessions::ServerControl;
use crate::tty::{Kind, Terminal, TerminalFile};
use alloc::rc::Rc;
use alloc::vec::Vec;
use boot_archive::{Archive, Content as ArchiveContent};
use linux_raw_sys::general as linux;

/// The folder of the archive whose entries fill the root.
const ROOT_PREFIX: &[u8] = b"root/";

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Makes the memory of `length` bytes at an offset of the archive.
pub type ArchiveMemory = Rc<dyn Fn(u64, u64) -> Result<crate::platform::Memory>>;

/// Why the root could not be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootError {
    /// The path in the archive.
    pub path: Vec<u8>,
    /// What went wrong.
    pub errno: Errno,
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the boot archive's entry {:?} can't be used: {}",
            alloc::string::String::from_utf8_lossy(&self.path),
            self.errno
        )
    }
}

impl core::error::Error for BootError {}

/// Directories that are there whatever the archive has, with their permissions.
const DIRECTORIES: [(&str, u32); 6] =
    [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777), ("root", 0o700), ("run", 0o755)];

/// The root takes at most so much of the machine's memory, so that who fills it does not take it from processes.
const ROOT_OPTIONS: &[u8] = b"size=75%,mode=755";

/// A file system with the entries of the archive.
pub fn archive_tree(archive: &Archive<'_>, memory: &ArchiveMemory) -> core::result::Result<Made, BootError> {
    let fail = |errno| BootError { path: ROOT_PREFIX.to_vec(), errno };
    let (filesystem, root) = tmpfs::mounted(&TMPFS, ROOT_OPTIONS).map_err(fail)?;
    for entry in archive.entries() {
        let Some(path) = entry.path().strip_prefix(ROOT_PREFIX) else { continue };
        let fail = |errno| BootError { path: entry.path().to_vec(), errno };
        let body = match entry.content() {
            ArchiveContent::Directory => tmpfs::directory(),
            ArchiveContent::Symlink(target) => tmpfs::link(target),
            ArchiveContent::File { offset, bytes } => Body::Regular(file(memory, offset, bytes.len() as u64)),
        };
        let inode = Inode::new(&filesystem, entry.mode(), entry.uid(), entry.gid(), body).map_err(fail)?;
        let modified = entry.modified_s().saturating_mul(NS_PER_SECOND);
        inode.set_times(Times { modified, changed: modified, ..inode.times() });
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        add(&filesystem, &root, &parts, inode).map_err(fail)?;
    }
    Ok((filesystem, root))
}

/// A name space whose root file system has the entries of the archive.
pub fn root(archive: &Archive<'_>, memory: &ArchiveMemory) -> core::result::Result<Rc<Namespace>, BootError> {
    let (filesystem, root) = archive_tree(archive, memory)?;
    for (name, permissions) in DIRECTORIES {
        let fail = |errno| BootError { path: name.as_bytes().to_vec(), errno };
        directory(&filesystem, &root, name.as_bytes(), permissions).map_err(fail)?;
    }
    Ok(Namespace::new(&filesystem, root))
}

/// Makes a step of the start again and again, as long as it fails because something is not there that can be brought.
pub async fn persistently<T>(executor: &Executor, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        drop(take_needs());
        match (step(), take_needs().absence) {
            (Err(_), Some(absence)) => executor.bring(absence).await?,
            (result, _) => return result,
        }
    }
}

/// Mounts a disk, by its name in `/dev` or its path there. `ENXIO`, `EIO`.
async fn mount_disk(executor: &Executor, disks: &Rc<Disks>, name: &[u8], is_read_only: bool) -> Result<Made> {
    let name = name.strip_prefix(b"/dev/").unwrap_or(name);
    let device = disks.named(name).ok_or(Errno::ENXIO)?.number;
    let mut flags = driver_protocol::files::MountFlags::empty();
    flags.set(driver_protocol::files::MountFlags::READ_ONLY, is_read_only);
    persistently(executor, || disks.mount(device, &EXT4, flags)).await
}

/// A name space whose root is a disk. The directories that are needed are made if they are missing and can be made. `/run` shows
/// the archive's tree. `ENXIO`, `EIO`, `ENOENT`.
pub async fn disk_root(
    executor: &Executor,
    disks: &Rc<Disks>,
    name: &[u8],
    is_read_only: bool,
    archive: Made,
) -> Result<Rc<Namespace>> {
    let (filesystem, root) = mount_disk(executor, disks, name, is_read_only).await?;
    let namespace = Namespace::new(&filesystem, root);
    for (directory, permissions) in DIRECTORIES {
        make_directory(executor, &namespace, directory.as_bytes(), permissions).await?;
    }
    let (tree, tree_root) = archive;
    mount(&namespace, b"/run", &tree, tree_root)?;
    Ok(namespace)
}

/// Mounts a disk at a directory, which is made if it is missing. `ENXIO`, `EIO`.
pub async fn mount_disk_at(server: &Rc<Server>, disk: &[u8], path: &[u8], is_read_only: bool) -> Result<()> {
    let disks = server.disks.get().ok_or(Errno::ENXIO)?;
    let (filesystem, root) = mount_disk(&server.executor, disks, disk, is_read_only).await?;
    make_directory(&server.executor, &server.namespace, path, 0o755).await?;
    let at = persistently(&server.executor, || find(&server.namespace, path)).await?;
    let source = if disk.starts_with(b"/") { disk.to_vec() } else { [b"/dev/", disk].concat() };
    let mut flags = MountFlags::RELATIVE_ACCESS_TIME;
    flags.set(MountFlags::READ_ONLY, is_read_only);
    let mount = Mount::new(&filesystem, root, &source, flags)?;
    server.namespace.graft(&mount, at)
}

/// Makes a directory, and those above it, unless they are there. `EROFS`, `ENOTDIR`, `EIO`.
pub async fn make_directory(
    executor: &Executor,
    namespace: &Rc<Namespace>,
    path: &[u8],
    permissions: u32,
) -> Result<()> {
    let context = FsContext { umask: 0, ..FsContext::new(namespace) };
    let credentials = Credentials::root();
    let actor = Actor { context: &context, credentials: &credentials };
    let mut so_far = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        so_far.push(b'/');
        so_far.extend_from_slice(part);
        let made = persistently(executor, || {
            let parent = Walk::new(actor).parent(&context.root, &so_far)?;
            change::create(actor, &parent, permissions, New::Directory).map(drop)
        });
        match made.await {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn file(memory: &ArchiveMemory, offset: u64, length: u64) -> Content {
    if length == 0 {
        return Content::empty();
    }
    let memory = memory.clone();
    let make: MakeMemory = alloc::boxed::Box::new(move || memory(offset, length));
    Content::deferred(length, make)
}

/// Adds an inode at a path, whose directories are made if they are missing.
fn add(filesystem: &Rc<FileSystem>, root: &Rc<Dentry>, path: &[&[u8]], inode: Rc<Inode>) -> Result<()> {
    let Some((name, directories)) = path.split_last() else { return Err(Errno::EINVAL) };
    let mut at = root.clone();
    for part in directories {
        at = directory(filesystem, &at, part, 0o755)?;
    }
    let names = at.inode().directory()?.names().ok_or(Errno::EPERM)?;
    if names.get(name).is_some() {
        return Err(Errno::EEXIST);
    }
    if inode.is_directory() {
        at.inode().add_link()?;
    }
    names.insert(Dentry::stored(&at, name, inode)?);
    Ok(())
}

/// The directory of this name, which is made if it is missing.
fn directory(filesystem: &Rc<FileSystem>, parent: &Rc<Dentry>, name: &[u8], permissions: u32) -> Result<Rc<Dentry>> {
    let names = parent.inode().directory()?.names().ok_or(Errno::EPERM)?;
    if let Some(found) = names.get(name) {
        return Ok(found);
    }
    let inode = Inode::new(filesystem, permissions, 0, 0, tmpfs::directory())?;
    parent.inode().add_link()?;
    let dentry = Dentry::stored(parent, name, inode)?;
    names.insert(dentry.clone());
    Ok(dentry)
}

/// Mounts `/dev`, `/dev/pts`, `/proc`, `/sys` and `/pager`, and makes the machine's terminals, of which there is at least one, and the first
/// becomes the console. They are returned, and have no devices yet.
pub fn mount_system(server: &Rc<Server>, terminals: &[MachineTerminal]) -> Result<Vec<Rc<Terminal>>> {
    let namespace = &server.namespace;
    let (devices, devices_root) = dev::tree::new()?;
    if let Some(disks) = server.disks.get() {
        dev::tree::add_disks(&devices, &devices_root, disks.list())?;
    }
    namespace.set_singleton(&DEVTMPFS, (devices.clone(), devices_root.clone()));
    mount(namespace, b"/dev", &devices, devices_root.clone())?;
    let control = Rc::new(ServerControl(Rc::downgrade(server)));
    let (ptys, ptys_root) = devpts::new(devpts::Options::parse(devpts::USUAL_OPTIONS)?, control.clone());
    mount(namespace, b"/dev/pts", &ptys, ptys_root)?;
    let (queues, queues_root) = namespace.instance(&MQUEUE, &MountRequest::of_memory(server, b""))?;
    mount(namespace, b"/dev/mqueue", &queues, queues_root)?;
    procfs::load::observe(server);
    let (processes, processes_root) = procfs::new(server);
    mount(namespace, b"/proc", &processes, processes_root)?;
    let (system, system_root) = sysfs::new(server);
    mount(namespace, b"/sys", &system, system_root)?;
    mount_pages(server)?;
    let mut made = Vec::new();
    for terminal in terminals {
        if terminal.number() != dev::SERIAL {
            dev::tree::add_terminal(&devices, &devices_root, terminal.name(), terminal.number())?;
        }
        let terminal = Terminal::new(Kind::Serial, terminal.number(), control.clone());
        namespace.devices().add_terminal(terminal.clone());
        made.push(terminal);
    }
    if let Some(console) = made.first() {
        namespace.devices().set_console(console.clone());
    }
    Ok(made)
}

/// A terminal that the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineTerminal {
    /// At the end of a serial line.
    Serial,
    /// A virtio console.
    Virtio,
}

impl MachineTerminal {
    /// The name of its device node.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "ttyS0",
            Self::Virtio => "hvc0",
        }
    }

    /// The number of its device node.
    pub fn number(self) -> super::DeviceNumber {
        match self {
            Self::Serial => dev::SERIAL,
            Self::Virtio => dev::VIRTIO_CONSOLE,
        }
    }
}

/// Mounts `/pager`, if there is a store.
fn mount_pages(server: &Rc<Server>) -> Result<()> {
    if server.page_store.get().is_none() {
        return Ok(());
    }
    let namespace = &server.namespace;
    let root = namespace.root().dentry;
    if root.inode().filesystem().volume().is_some() {
        // Nobody asked for a directory on the disk.
        return Ok(());
    }
    directory(root.inode().filesystem(), &root, b"pager", 0o755)?;
    let (files, files_root) = namespace.instance(&PAGERFS, &MountRequest::of_memory(server, b""))?;
    mount(namespace, b"/pager", &files, files_root)
}

fn mount(namespace: &Rc<Namespace>, path: &[u8], filesystem: &Rc<FileSystem>, root: Rc<Dentry>) -> Result<()> {
    let at = find(namespace, path)?;
    namespace.mount(filesystem, root, at).map(drop)
}

/// The place that an absolute path names, for the server itself.
fn find(namespace: &Rc<Namespace>, path: &[u8]) -> Result<Location> {
    let context = FsContext::new(namespace);
    let credentials = Credentials::root();
    let actor = Actor { context: &context, credentials: &credentials };
    Walk::new(actor).place(&context.root, path, LastLink::Follow)
}

/// Where the first process stands: in this directory, which is made if it is missing.
pub fn first_context(namespace: &Rc<Namespace>, path: &[u8]) -> Result<FsContext> {
    let context = FsContext::new(namespace);
    let root = context.root.clone();
    let mut at = root.dentry.clone();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        at = match at.inode().directory()?.lookup(&at, part) {
            Ok(found) => root.with(found).covered().dentry,
            Err(Errno::ENOENT) => directory(root.inode().filesystem(), &at, part, 0o755)?,
            Err(errno) => return Err(errno),
        };
    }
    let cwd = find(namespace, path)?;
    cwd.inode().directory()?;
    Ok(FsContext { cwd, ..context })
}

/// No limit on descriptors is reached by the first three.
const FIRST_DESCRIPTORS: u64 = 3;

fn three(files: [Rc<OpenFile>; 3]) -> Result<FdTable> {
    let table = FdTable::new();
    for file in files {
        table.slots_mut().insert(file, 0, OnExec::Keep, FIRST_DESCRIPTORS)?;
    }
    Ok(table)
}

/// Descriptors 0, 1 and 2 on the console.
pub fn console_files(namespace: &Rc<Namespace>, terminal: &Rc<Terminal>) -> Result<FdTable> {
    let place = find(namespace, b"/dev/console")?;
    let ops = Rc::new(TerminalFile::open(terminal)?);
    let file = OpenFile::new(ops, place.inode().clone(), Some(place), linux::O_RDWR)?;
    three([file.clone(), file.clone(), file])
}

/// Descriptors 0, 1 and 2 on the host link.
pub fn link_files(namespace: &Rc<Namespace>, link: &Rc<HostLink>) -> Result<FdTable> {
    let root = Credentials::root();
    let file = |ops: Rc<dyn FileOps>, flags| {
        let inode = Inode::anonymous_pipe(namespace.pipes(), &root, Pipe::new()?)?;
        OpenFile::new(ops, inode, None, flags)
    };
    three([
        file(Rc::new(HostInput(link.clone())), linux::O_RDONLY)?,
        file(Rc::new(HostOutput(link.clone(), Output::Standard)), linux::O_WRONLY)?,
        file(Rc::new(HostOutput(link.clone(), Output::Error)), linux::O_WRONLY)?,
    ])
}

/// Makes the console the controlling terminal of a session, with the leader's group in the foreground.
pub fn give_console(server: &Rc<Server>, terminal: &Rc<Terminal>, session: Pid) {
    terminal.set_session(session, session);
    server.set_controlling_terminal(session, Some(terminal.clone()));
}
