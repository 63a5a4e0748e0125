//! Links to places that a process has, and to the name spaces that it is in.

use super::subject::check_inspection;
use super::{FIRST_DESCRIPTOR_INODE, Whose};
use crate::errno::{Errno, Result};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Link, Listing, Target};
use crate::fs::procfs::check_name;
use crate::fs::{Body, Dentry, FsContext, Location};
use crate::process::Process;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// A link to a place that a process has.
pub(super) struct PlaceLink {
    pub whose: Whose,
    pub place: fn(&Process) -> Option<Location>,
}

impl PlaceLink {
    fn place(&self, context: &FsContext) -> Result<Location> {
        let process = self.whose.process()?;
        check_inspection(&self.whose, context.pid, Errno::EACCES)?;
        (self.place)(&process).ok_or(Errno::ENOENT)
    }
}

impl Link for PlaceLink {
    fn text(&self, context: &FsContext) -> Result<Vec<u8>> {
        Ok(self.place(context)?.shown_path(&context.root))
    }

    fn target(&self, context: &FsContext) -> Result<Target> {
        self.place(context).map(Target::Place)
    }
}

/// Name spaces: the name in the directory, and the number that Linux gives the first of its kind. There is one of each.
const NAME_SPACES: [(&str, u32); 10] = [
    ("cgroup", 0xefff_fffb),
    ("ipc", 0xefff_ffff),
    ("mnt", 0xf000_0000),
    ("net", 0xf000_0098),
    ("pid", 0xefff_fffc),
    ("pid_for_children", 0xefff_fffc),
    ("time", 0xefff_fffa),
    ("time_for_children", 0xefff_fffa),
    ("user", 0xefff_fffd),
    ("uts", 0xefff_fffe),
];

/// `/proc/PID/ns`.
pub(super) struct NameSpaces(pub Whose);

impl Directory for NameSpaces {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let mut all = NAME_SPACES.iter().enumerate();
        let (index, (kind, number)) = all.find(|(_, (kind, _))| kind.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let body = Body::Link(Box::new(NameSpaceLink { whose: self.0.clone(), kind, number: *number }));
        let inode = self.0.inode(FIRST_DESCRIPTOR_INODE / 2 + index as u64, 0o777, body)?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        for (index, (kind, _)) in NAME_SPACES.iter().enumerate().skip((from - FIRST_ENTRY.min(from)) as usize) {
            let inode = self.0.first_inode() + FIRST_DESCRIPTOR_INODE / 2 + index as u64;
            let next = FIRST_ENTRY + index as u64 + 1;
            if each(Entry { name: kind.as_bytes(), inode, file_type: linux::S_IFLNK, next }) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

struct NameSpaceLink {
    whose: Whose,
    kind: &'static str,
    number: u32,
}

impl Link for NameSpaceLink {
    fn text(&self, context: &FsContext) -> Result<Vec<u8>> {
        check_inspection(&self.whose, context.pid, Errno::EACCES)?;
        let kind = self.kind.split('_').next().unwrap_or_default();
        Ok(format!("{kind}:[{}]", self.number).into_bytes())
    }

    /// There is nothing to open: no call takes a name space.
    fn target(&self, context: &FsContext) -> Result<Target> {
        check_inspection(&self.whose, context.pid, Errno::EACCES)?;
        Err(Errno::EACCES)
    }
}
