//! What an inode is: a body, each of a type of its own. Directories, links and generated files are traits, because several
//! file systems have them.

use super::content::Content;
use super::walk::Actor;
use super::{Dentry, FsContext, Location};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, FileOps};
use crate::pipe::Pipe;
use crate::process::Pid;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::OnceCell;
use linux_raw_sys::general as linux;

/// The number of a device, as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the 64-bit form that `mknod` gets (of which Linux uses the low 32 bits).
    pub const fn from_encoded(encoded: u64) -> Self {
        let encoded = encoded as u32;
        Self { major: (encoded >> 8) & 0xfff, minor: (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00) }
    }

    /// In the form that `stat` gives.
    pub const fn encoded(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }
}

/// One name in a directory, as `getdents64` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode's number.
    pub inode: u64,
    /// The type bits of the inode's mode.
    pub file_type: u32,
    /// Where the next entry begins.
    pub next: u64,
}

/// Whether a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// With the next entry.
    Continue,
    /// Not: this entry was not taken.
    Stop,
}

/// The positions of a directory below this one are `.` (0) and `..` (1).
pub const FIRST_ENTRY: u64 = 2;

/// What a directory does.
pub trait Directory {
    /// Finds a name. `this` is the directory. `ENOENT`, `ENAMETOOLONG`.
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>>;

    /// Shows the names from position `from` (at least [`FIRST_ENTRY`]) on to `each`, until that stops.
    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()>;

    /// The pseudo-terminals, if it is the root of their file system.
    fn ptys(&self) -> Option<&Rc<super::devpts::Ptys>> {
        None
    }

    /// What `open` makes where it is to make a file.
    fn new_file(&self, maker: &Credentials) -> Result<Body> {
        let _ = maker;
        Ok(Body::Regular(Content::empty()))
    }

    /// What `mkdir` makes in it.
    fn new_directory(&self) -> Body {
        super::tmpfs::directory()
    }

    /// The store that its files are in, if a pager has them.
    fn page_store(&self) -> Option<&Rc<super::pagerfs::Store>> {
        None
    }

    /// The message queues, if it is their directory.
    fn queues(&self) -> Option<&crate::mqueue::QueueDirectory> {
        None
    }

    /// The number of the process that it is about, if it is that process's own in `/proc`.
    fn process(&self) -> Option<crate::process::Pid> {
        None
    }

    /// The directory as one whose names can be changed.
    fn names(&self) -> Option<&super::tmpfs::Names> {
        None
    }

    /// Sees to it that the names are in memory. An error: they are not, and the call that is being made has to be made again.
    fn load(&self, _this: &Rc<Dentry>) -> Result<()> {
        Ok(())
    }

    /// Whether it has no names. They must be in memory.
    fn is_empty(&self) -> bool {
        self.names().is_some_and(super::tmpfs::Names::is_empty)
    }

    /// The size that `stat` shows.
    fn size_bytes(&self) -> u64 {
        self.names().map_or(0, super::tmpfs::Names::size_bytes)
    }

    /// What it takes of a disk, in blocks of 512 bytes.
    fn blocks(&self) -> u64 {
        0
    }

    /// It is the body of the inode with this number, of a disk.
    fn adopt(&self, _number: u64) {}

    /// Takes names that were loaded from a disk.
    fn fill(&self, _loaded: super::diskfs::Loaded) {}

    /// Forgets names that can be loaded again.
    fn forget_names(&self) {}
}

/// Where a symbolic link leads.
pub enum Target {
    /// To a path.
    Path(Vec<u8>),
    /// To a place, whether or not it has a name (`/proc/self/fd/3`).
    Place(Location),
}

/// What a symbolic link does.
pub trait Link {
    /// What `readlink` shows to somebody who stands in `context`.
    fn text(&self, context: &FsContext) -> Result<Vec<u8>>;

    /// Where it leads.
    fn target(&self, context: &FsContext) -> Result<Target> {
        Ok(Target::Path(self.text(context)?))
    }

    /// The path that is stored, if one is.
    fn stored_text(&self) -> Option<&[u8]> {
        None
    }

    /// The size that `stat` shows: the length of the target where that is stored.
    fn size(&self) -> u64 {
        0
    }
}

/// A file whose content is made when it is read.
pub trait Generator {
    /// The content, for one opening of the file.
    fn generate(&self) -> Result<Vec<u8>>;

    /// Checks an opening beyond the permissions. A file that is more than a text gives what does its work.
    fn open(&self, _actor: Actor<'_>, _access: AccessMode) -> Result<Option<Rc<dyn FileOps>>> {
        Ok(None)
    }

    /// Takes what a process writes, all of it. `EINVAL` if the file takes nothing.
    fn store(&self, _writer: Pid, _bytes: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// The message queue that it tells of, if it does: then opening the file opens that.
    fn queue(&self) -> Option<&Rc<crate::mqueue::Queue>> {
        None
    }
}

/// What an inode is.
pub enum Body {
    /// A regular file in memory.
    Regular(Content),
    /// A directory.
    Directory(Box<dyn Directory>),
    /// A symbolic link.
    Link(Box<dyn Link>),
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device. There are none; only the name can be made.
    BlockDevice(DeviceNumber),
    /// A FIFO, with its pipe once it has been opened.
    Fifo(OnceCell<Rc<Pipe>>),
    /// A socket's name.
    Socket,
    /// A file of no type, which has no name, like an event counter.
    Anonymous,
    /// A regular file whose content is generated.
    Generated(Box<dyn Generator>),
}

impl Body {
    /// What it takes of the server's memory besides its inode, as long as nobody uses it, in bytes.
    pub fn own_bytes(&self) -> u64 {
        self.link().map_or(0, Link::size)
    }

    /// The content, of a regular file that is kept.
    pub fn content(&self) -> Option<&Content> {
        if let Self::Regular(content) = self { Some(content) } else { None }
    }

    /// It as a directory.
    pub fn directory(&self) -> Option<&dyn Directory> {
        if let Self::Directory(directory) = self { Some(directory.as_ref()) } else { None }
    }

    /// It as a symbolic link.
    pub fn link(&self) -> Option<&dyn Link> {
        if let Self::Link(link) = self { Some(link.as_ref()) } else { None }
    }

    /// The size in bytes, as `stat` shows it.
    pub fn size(&self) -> u64 {
        self.content()
            .map(Content::size)
            .or_else(|| self.directory().map(Directory::size_bytes))
            .or_else(|| self.link().map(Link::size))
            .unwrap_or(0)
    }

    /// What it keeps in memory or on a disk, in blocks of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.content().map(Content::blocks).or_else(|| self.directory().map(Directory::blocks)).unwrap_or(0)
    }

    /// The device that it names; zero for other files.
    pub fn device(&self) -> DeviceNumber {
        if let Self::CharacterDevice(device) | Self::BlockDevice(device) = self {
            *device
        } else {
            DeviceNumber::default()
        }
    }

    /// The type bits of the mode.
    pub fn file_type(&self) -> u32 {
        match self {
            Self::Regular(_) | Self::Generated(_) => linux::S_IFREG,
            Self::Directory(_) => linux::S_IFDIR,
            Self::Link(_) => linux::S_IFLNK,
            Self::CharacterDevice(_) => linux::S_IFCHR,
            Self::BlockDevice(_) => linux::S_IFBLK,
            Self::Fifo(_) => linux::S_IFIFO,
            Self::Socket => linux::S_IFSOCK,
            Self::Anonymous => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_encoding() {
        for device in [(1, 3), (5, 1), (136, 300), (4095, 0xf_ffff)] {
            let device = DeviceNumber { major: device.0, minor: device.1 };
            assert_eq!(DeviceNumber::from_encoded(device.encoded()), device);
        }
        assert_eq!(DeviceNumber { major: 1, minor: 3 }.encoded(), 0x103);
    }
}
