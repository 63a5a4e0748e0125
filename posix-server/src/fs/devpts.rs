//! The file system of pseudo-terminals (`devpts`; Linux, `Documentation/filesystems/devpts.rst`).
//!
//! Each is a set of its own: opening its `ptmx` makes a pair, whose slave gets the lowest free number as its name. Nobody
//! else can make or remove names here.

use super::body::{Directory, Entry, FIRST_ENTRY, Listing};
use super::filesystem::{Instances, Made, MountRequest};
use super::{Body, Dentry, DeviceNumber, FileSystem, FileSystemType, Inode, Location, Storage};
use crate::cred::{Credentials, Gid, Uid};
use crate::dev;
use crate::errno::{Errno, Result};
use crate::tty::pty::{self, MAX_PTYS, Master};
use crate::tty::sessions::ServerControl;
use crate::tty::{JobControl, Terminal};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use linux_raw_sys::general as linux;

/// Pseudo-terminals.
pub static DEVPTS: FileSystemType = FileSystemType {
    name: "devpts",
    magic: linux::DEVPTS_SUPER_MAGIC as u64,
    storage: Storage::Generated,
    instances: Instances::Each(mounted),
};

/// The options with which the server itself mounts it.
pub const USUAL_OPTIONS: &[u8] = b"gid=5,mode=620,ptmxmode=666";

const ROOT_INODE: u64 = 1;
const PTMX_INODE: u64 = 2;
/// The inode number of the first slave.
const FIRST_SLAVE_INODE: u64 = 3;
/// The name of the multiplexer.
const PTMX_NAME: &[u8] = b"ptmx";

/// The options of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The owner of new slaves; `None`: whoever makes them.
    pub uid: Option<Uid>,
    /// Their group; `None`: that of whoever makes them.
    pub gid: Option<Gid>,
    /// Their permissions.
    pub mode: u32,
    /// The permissions of `ptmx`.
    pub ptmx_mode: u32,
    /// How many there are at most.
    pub max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: MAX_PTYS }
    }
}

impl Options {
    /// From the text that `mount` gets, such as `gid=5,mode=620`. `EINVAL`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        text.split(',').filter(|option| !option.is_empty()).try_fold(Self::default(), Self::with)
    }

    fn with(self, option: &str) -> Result<Self> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = |radix| u32::from_str_radix(value, radix).map_err(|_| Errno::EINVAL);
        let permissions = || number(8).map(|mode| mode & 0o7777);
        Ok(match name {
            "uid" => Self { uid: Some(number(10)?), ..self },
            "gid" => Self { gid: Some(number(10)?), ..self },
            "mode" => Self { mode: permissions()?, ..self },
            "ptmxmode" => Self { ptmx_mode: permissions()?, ..self },
            "max" => Self { max: number(10)?.min(MAX_PTYS), ..self },
            "newinstance" => self,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// As `/proc/mounts` shows them.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(id) = id {
                text.push_str(&format!(",{name}={id}"));
            }
        }
        text.push_str(&format!(",mode={:03o},ptmxmode={:03o}", self.mode, self.ptmx_mode));
        if self.max < MAX_PTYS {
            text.push_str(&format!(",max={}", self.max));
        }
        text
    }
}

/// A slave: its name, and what it leads to.
struct Slave {
    dentry: Rc<Dentry>,
    terminal: Rc<Terminal>,
}

/// The pseudo-terminals of one file system.
pub struct Ptys {
    filesystem: Rc<FileSystem>,
    options: Options,
    control: Rc<dyn JobControl>,
    slaves: RefCell<BTreeMap<u32, Slave>>,
}

impl pty::Names for Ptys {
    fn remove(&self, number: u32) {
        let removed = self.slaves.borrow_mut().remove(&number);
        if let Some(slave) = removed {
            slave.dentry.mark_removed();
            slave.dentry.inode().remove_link();
        }
    }
}

impl Ptys {
    /// The terminal of a slave. `EIO` if there is none of this number.
    pub fn slave(&self, number: u32) -> Result<Rc<Terminal>> {
        self.slaves.borrow().get(&number).map(|slave| slave.terminal.clone()).ok_or(Errno::EIO)
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn free_number(&self) -> Result<u32> {
        let slaves = self.slaves.borrow();
        let taken = slaves.keys().zip(0..).take_while(|(number, index)| *number == index).count();
        u32::try_from(taken).ok().filter(|number| *number < self.options.max).ok_or(Errno::ENOSPC)
    }

    /// Makes a pair; `root` is where this file system's root is seen. `ENOSPC`, `ENOMEM`.
    pub fn open_master(self: Rc<Self>, root: &Location, credentials: &Credentials) -> Result<Master> {
        let number = self.free_number()?;
        let charge = pty::charge()?;
        let terminal = pty::new_slave(number, self.control.clone());
        let uid = self.options.uid.unwrap_or(credentials.fsuid);
        let gid = self.options.gid.unwrap_or(credentials.fsgid);
        let body = Body::CharacterDevice(terminal.device());
        let inode_number = FIRST_SLAVE_INODE + u64::from(number);
        let inode = Inode::with_number(&self.filesystem, inode_number, self.options.mode, uid, gid, body);
        let dentry = Dentry::stored(&root.dentry, format!("{number}").as_bytes(), inode)?;
        let place = root.with(dentry.clone());
        self.slaves.borrow_mut().insert(number, Slave { dentry, terminal: terminal.clone() });
        Ok(Master::new(number, terminal, place, self, charge))
    }
}

/// The root: `ptmx`, and the slaves.
struct Root {
    ptys: Rc<Ptys>,
    ptmx: Rc<Inode>,
}

impl Directory for Root {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        if name.len() > linux::NAME_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        if name == PTMX_NAME {
            return Ok(Dentry::new(this, name, self.ptmx.clone()));
        }
        let slaves = self.ptys.slaves.borrow();
        let found = slaves.values().find(|slave| *slave.dentry.name() == *name);
        found.map(|slave| slave.dentry.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        let ptmx = Entry { name: PTMX_NAME, inode: PTMX_INODE, file_type: linux::S_IFCHR, next: FIRST_ENTRY + 1 };
        if from <= FIRST_ENTRY && each(ptmx) == Listing::Stop {
            return Ok(());
        }
        let first = u32::try_from(from.saturating_sub(FIRST_ENTRY + 1)).unwrap_or(u32::MAX);
        for (number, slave) in self.ptys.slaves.borrow().range(first..) {
            let name = slave.dentry.name();
            let inode = slave.dentry.inode().number();
            let next = FIRST_ENTRY + 2 + u64::from(*number);
            if each(Entry { name: &name, inode, file_type: linux::S_IFCHR, next }) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }

    fn ptys(&self) -> Option<&Rc<Ptys>> {
        Some(&self.ptys)
    }
}

/// A new file system, for `mount`.
pub fn mounted(request: &MountRequest<'_>) -> Result<Made> {
    let options = Options::parse(request.options)?;
    Ok(new(options, Rc::new(ServerControl(Rc::downgrade(request.server)))))
}

/// A new file system without slaves.
pub fn new(options: Options, control: Rc<dyn JobControl>) -> Made {
    let filesystem = FileSystem::new(&DEVPTS);
    let inode = |number, permissions, body| Inode::with_number(&filesystem, number, permissions, 0, 0, body);
    let ptmx = inode(PTMX_INODE, options.ptmx_mode, Body::CharacterDevice(dev::PTY_MULTIPLEXER));
    let slaves = RefCell::new(BTreeMap::new());
    let ptys = Rc::new(Ptys { filesystem: filesystem.clone(), options, control, slaves });
    let root = inode(ROOT_INODE, 0o755, Body::Directory(Box::new(Root { ptys, ptmx })));
    (filesystem, Dentry::root(root))
}

/// The pseudo-terminals that the device node at a place means: those of the file system that it is in or, for a `ptmx`
/// elsewhere, of the one at `pts` beside it.
pub fn at(place: &Location, device: DeviceNumber) -> Result<(Rc<Ptys>, Location)> {
    let directory = place.dentry.parent().map(|parent| place.with(parent)).ok_or(Errno::ENODEV)?;
    if let Some(ptys) = directory.inode().directory()?.ptys() {
        return Ok((ptys.clone(), directory));
    }
    if device != dev::PTY_MULTIPLEXER {
        return Err(Errno::EIO);
    }
    let beside = directory.inode().directory()?.lookup(&directory.dentry, b"pts").map_err(|_| Errno::ENODEV)?;
    let root = directory.with(beside).covered();
    let ptys = root.inode().directory().ok().and_then(|directory| directory.ptys().cloned());
    Ok((ptys.ok_or(Errno::ENODEV)?, root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_and_shown() {
        let options = Options::parse(b"gid=5,mode=620,ptmxmode=666").unwrap();
        assert_eq!(options.shown(), ",gid=5,mode=620,ptmxmode=666");
        assert_eq!(Options::parse(b"").unwrap().shown(), ",mode=600,ptmxmode=000");
        assert_eq!(Options::parse(b"mode=999"), Err(Errno::EINVAL));
        assert_eq!(Options::parse(b"colour=red"), Err(Errno::EINVAL));
    }
}
