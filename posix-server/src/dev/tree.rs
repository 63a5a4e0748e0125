//! The names in `/dev`.

use super::{
    CONSOLE, CONTROLLING_TERMINAL, FULL, HARDWARE_RANDOM, NULL, PTY_MULTIPLEXER, RANDOM, SERIAL, URANDOM, ZERO,
};
use crate::errno::Result;
use crate::fs::diskfs::Disk;
use crate::fs::{Body, DEVTMPFS, Dentry, DeviceNumber, FileSystem, Inode, tmpfs};
use alloc::rc::Rc;
use alloc::string::String;

/// Device nodes: name, number, permissions.
const NODES: [(&str, DeviceNumber, u32); 10] = [
    ("null", NULL, 0o666),
    ("zero", ZERO, 0o666),
    ("full", FULL, 0o666),
    ("random", RANDOM, 0o666),
    ("urandom", URANDOM, 0o666),
    ("hwrng", HARDWARE_RANDOM, 0o600),
    ("tty", CONTROLLING_TERMINAL, 0o666),
    ("ptmx", PTY_MULTIPLEXER, 0o666),
    ("console", CONSOLE, 0o600),
    ("ttyS0", SERIAL, 0o620),
];

/// Symbolic links: name, target.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Directories: name, permissions.
const DIRECTORIES: [(&str, u32); 3] = [("shm", 0o1777), ("pts", 0o755), ("mqueue", 0o755)];

/// A file system with the device nodes.
pub fn new() -> Result<(Rc<FileSystem>, Rc<Dentry>)> {
    let (filesystem, root) = tmpfs::mounted(&DEVTMPFS, b"mode=755")?;
    for (name, device, permissions) in NODES {
        let inode = Inode::new(&filesystem, permissions, 0, 0, Body::CharacterDevice(device))?;
        add(&root, name, inode)?;
    }
    for (name, target) in LINKS {
        let inode = Inode::new(&filesystem, 0o777, 0, 0, tmpfs::link(target.as_bytes()))?;
        add(&root, name, inode)?;
    }
    for (name, permissions) in DIRECTORIES {
        let inode = Inode::new(&filesystem, permissions, 0, 0, tmpfs::directory())?;
        root.inode().add_link()?;
        add(&root, name, inode)?;
    }
    Ok((filesystem, root))
}

/// Adds the node of a terminal that not every machine has.
pub fn add_terminal(filesystem: &Rc<FileSystem>, root: &Rc<Dentry>, name: &str, device: DeviceNumber) -> Result<()> {
    const PERMISSIONS: u32 = 0o620;
    add(root, name, Inode::new(filesystem, PERMISSIONS, 0, 0, Body::CharacterDevice(device))?)
}

/// Adds a node for each disk.
pub fn add_disks(filesystem: &Rc<FileSystem>, root: &Rc<Dentry>, disks: &[Disk]) -> Result<()> {
    const PERMISSIONS: u32 = 0o660;
    for disk in disks {
        let inode = Inode::new(filesystem, PERMISSIONS, 0, 0, Body::BlockDevice(disk.number))?;
        add(root, &String::from_utf8_lossy(&disk.name), inode)?;
    }
    Ok(())
}

fn add(root: &Rc<Dentry>, name: &str, inode: Rc<Inode>) -> Result<()> {
    if let Some(names) = root.inode().directory()?.names() {
        names.insert(Dentry::stored(root, name.as_bytes(), inode)?);
    }
    Ok(())
}
