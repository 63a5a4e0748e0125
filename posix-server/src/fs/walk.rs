//! From a path to a place (`path_resolution(7)`).
//!
//! A path is walked component by component. Before each, the directory must be one (`ENOTDIR`) and be searchable for the
//! caller (`EACCES`). Symbolic links on the way are replaced by their targets, at most [`MAX_LINKS`] of them (`ELOOP`), by
//! splicing the target before the rest of the path: no recursion.

use super::body::Target;
use super::{FsContext, Location, MountFlags, protection};
use crate::cred::{Access, Credentials};
use crate::errno::{Errno, Result};
use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::vec::Vec;
use bitflags::bitflags;
use linux_raw_sys::general as linux;

/// How many symbolic links one path may lead through (`MAXSYMLINKS` of Linux).
pub const MAX_LINKS: u32 = 40;

/// What to do when the last component is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Go where it leads.
    Follow,
    /// Take the link itself.
    Keep,
}

/// The last component of a path, when the walk ends before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name(Vec<u8>),
    /// There is none: the path is `/`.
    Root,
    /// `.`
    Dot,
    /// `..`
    DotDot,
}

/// Whether a path ends with a slash, so that what it names must be a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It does not.
    Plain,
    /// It does.
    Slash,
}

/// A walk that ended before the last component.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The directory.
    pub directory: Location,
    /// What is left.
    pub last: Last,
    /// How the path ends.
    pub ending: Ending,
}

/// Who walks: where its paths begin, and what it may do.
#[derive(Clone, Copy)]
pub struct Actor<'a> {
    /// Where paths begin.
    pub context: &'a FsContext,
    /// What is allowed.
    pub credentials: &'a Credentials,
}

bitflags! {
    /// What a path must not lead through (`openat2(2)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Restrictions: u64 {
        /// From one mount to another.
        const NO_MOUNTS = linux::RESOLVE_NO_XDEV as u64;
        /// Links to places, as in `/proc/PID/fd`.
        const NO_MAGIC_LINKS = linux::RESOLVE_NO_MAGICLINKS as u64;
        /// Symbolic links.
        const NO_LINKS = linux::RESOLVE_NO_SYMLINKS as u64;
        /// Out of the directory where it starts.
        const BENEATH = linux::RESOLVE_BENEATH as u64;
        /// Nothing: the directory where it starts is its root.
        const IN_ROOT = linux::RESOLVE_IN_ROOT as u64;
        /// What would have to be waited for. All names are in memory.
        const CACHED = linux::RESOLVE_CACHED as u64;
    }
}

impl Restrictions {
    /// Those that make the start a border.
    const SCOPED: Self = Self::BENEATH.union(Self::IN_ROOT);
}

/// One walk: it counts the links.
pub struct Walk<'a> {
    actor: Actor<'a>,
    links: u32,
    restrictions: Restrictions,
    /// The start, where it is a border.
    border: Option<Location>,
}

/// Where a walk stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Place(LastLink),
    Parent,
}

enum Outcome {
    Place(Location),
    Parent(Parent),
}

/// A path from the front: the next component, whether it is the last, and whether slashes follow it.
struct Component {
    start: usize,
    end: usize,
    is_last: bool,
    ending: Ending,
}

fn next_component(path: &[u8], from: usize) -> Option<Component> {
    let rest = path.get(from..)?;
    let start = from + rest.iter().position(|byte| *byte != b'/')?;
    let length = path.get(start..)?.iter().position(|byte| *byte == b'/');
    let end = length.map_or(path.len(), |length| start + length);
    let after = path.get(end..).unwrap_or_default();
    let is_last = after.iter().all(|byte| *byte == b'/');
    let ending = if after.is_empty() { Ending::Plain } else { Ending::Slash };
    Some(Component { start, end, is_last, ending })
}

impl<'a> Walk<'a> {
    /// A walk that has not met a link yet.
    pub fn new(actor: Actor<'a>) -> Self {
        Self::restricted(actor, Restrictions::empty())
    }

    /// The same, which must not lead everywhere: `EXDEV`, or `ELOOP` for links.
    pub fn restricted(actor: Actor<'a>, restrictions: Restrictions) -> Self {
        Self { actor, links: 0, restrictions, border: None }
    }

    /// The place that a path names, from `start` if it is relative. `ENOENT` for an empty path.
    pub fn place(&mut self, start: &Location, path: &[u8], last: LastLink) -> Result<Location> {
        match self.walk(start, path, Goal::Place(last))? {
            Outcome::Place(place) => Ok(place),
            Outcome::Parent(parent) => Ok(parent.directory),
        }
    }

    /// The directory of a path's last component, and that component.
    pub fn parent(&mut self, start: &Location, path: &[u8]) -> Result<Parent> {
        match self.walk(start, path, Goal::Parent)? {
            Outcome::Parent(parent) => Ok(parent),
            Outcome::Place(directory) => Ok(Parent { directory, last: Last::Root, ending: Ending::Plain }),
        }
    }

    /// Finds a name in a directory whose search permission has been checked, also if something is mounted on it.
    pub fn name(&self, directory: &Location, name: &[u8]) -> Result<Location> {
        let dentry = directory.inode().directory()?.lookup(&directory.dentry, name)?;
        Ok(directory.with(dentry))
    }

    /// The same, and crosses mounts.
    pub fn lookup(&self, directory: &Location, name: &[u8]) -> Result<Location> {
        let found = self.name(directory, name)?.covered();
        self.check_crossing(directory, &found)?;
        Ok(found)
    }

    fn check_crossing(&self, from: &Location, to: &Location) -> Result<()> {
        let stays = !self.restrictions.contains(Restrictions::NO_MOUNTS) || Rc::ptr_eq(&from.mount, &to.mount);
        if stays { Ok(()) } else { Err(Errno::EXDEV) }
    }

    /// Where absolute paths begin.
    fn root(&self) -> &Location {
        self.border.as_ref().unwrap_or(&self.actor.context.root)
    }

    /// Follows an absolute link from `from`. `EXDEV`.
    fn jump_to_root(&self, from: &Location) -> Result<Location> {
        if self.restrictions.contains(Restrictions::BENEATH) {
            return Err(Errno::EXDEV);
        }
        self.check_crossing(from, self.root())?;
        Ok(self.root().clone())
    }

    /// Follows a link to a place. `ELOOP`, `EXDEV`.
    pub fn jump_to(&self, from: &Location, to: Location) -> Result<Location> {
        if self.restrictions.contains(Restrictions::NO_MAGIC_LINKS) {
            return Err(Errno::ELOOP);
        }
        if self.restrictions.intersects(Restrictions::SCOPED) {
            return Err(Errno::EXDEV);
        }
        self.check_crossing(from, &to)?;
        Ok(to)
    }

    /// Counts a symbolic link that is followed. `ELOOP`.
    pub fn count_link(&mut self, link: &Location) -> Result<()> {
        self.links += 1;
        let refused =
            self.restrictions.contains(Restrictions::NO_LINKS) || link.mount.flags().contains(MountFlags::NO_LINKS);
        if refused || self.links > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
    }

    fn walk(&mut self, start: &Location, path: &[u8], goal: Goal) -> Result<Outcome> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut path = Cow::Borrowed(path);
        if self.restrictions.intersects(Restrictions::SCOPED) && self.border.is_none() {
            self.border = Some(start.clone());
        }
        let mut place = match path.first() {
            Some(b'/') if self.restrictions.contains(Restrictions::BENEATH) => return Err(Errno::EXDEV),
            Some(b'/') => self.root().clone(),
            Some(_) | None => start.clone(),
        };
        let mut at = 0;
        while let Some(component) = next_component(&path, at) {
            place.inode().directory()?;
            place.inode().check_access(self.actor.credentials, Access::EXECUTE)?;
            let name = path.get(component.start..component.end).unwrap_or_default();
            if component.is_last && goal == Goal::Parent {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(name.to_vec()),
                };
                return Ok(Outcome::Parent(Parent { directory: place, last, ending: component.ending }));
            }
            at = component.end;
            match name {
                b"." => continue,
                b".." => {
                    place = self.above(&place)?;
                    continue;
                }
                _ => {}
            }
            let found = self.lookup(&place, name)?;
            let follow =
                !component.is_last || component.ending == Ending::Slash || goal == Goal::Place(LastLink::Follow);
            let Some(link) = found.inode().link().filter(|_| follow) else {
                if component.ending == Ending::Slash && !found.inode().is_directory() {
                    return Err(Errno::ENOTDIR);
                }
                place = found;
                continue;
            };
            self.count_link(&found)?;
            if component.is_last {
                protection::check_follow(self.actor, place.inode(), found.inode())?;
            }
            found.touch_accessed();
            match link.target(self.actor.context)? {
                Target::Place(target) => place = self.jump_to(&place, target)?,
                Target::Path(target) => {
                    if target.is_empty() {
                        return Err(Errno::ENOENT);
                    }
                    if target.first() == Some(&b'/') {
                        place = self.jump_to_root(&place)?;
                    }
                    let rest = path.get(at..).unwrap_or_default();
                    path = Cow::Owned(splice(&target, rest)?);
                    at = 0;
                }
            }
        }
        if path.last() == Some(&b'/') {
            // A link to a place may have led to something that the slash forbids.
            place.inode().directory()?;
        }
        Ok(Outcome::Place(place))
    }

    /// `..`: not above the caller's root.
    fn above(&self, place: &Location) -> Result<Location> {
        if place.is_same(self.root()) {
            let leaves = self.restrictions.contains(Restrictions::BENEATH);
            return if leaves { Err(Errno::EXDEV) } else { Ok(place.clone()) };
        }
        let above = place.parent().covered();
        self.check_crossing(place, &above)?;
        Ok(above)
    }
}

/// A link's target, followed by what is left of the path (which is empty or begins with a slash).
fn splice(target: &[u8], rest: &[u8]) -> Result<Vec<u8>> {
    let mut path = Vec::new();
    path.try_reserve(target.len() + rest.len()).map_err(|_| Errno::ENOMEM)?;
    path.extend_from_slice(target);
    path.extend_from_slice(rest);
    Ok(path)
}
