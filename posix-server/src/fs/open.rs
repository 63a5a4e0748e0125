//! From a path to an open file (`open(2)`).

use super::change::{self, New};
use super::content::Content;
use super::inode::{Generator, Target};
use super::walk::{Actor, Ending, Last, LastLink, Parent, Walk};
use super::{Body, Inode, Location};
use crate::budget::{Charge, Kind as Budget};
use crate::cred::Access;
use crate::dev::{self, Devices};
use crate::errno::{Errno, Result};
use crate::file::io::put_text;
use crate::file::{AccessMode, Destination, FileOps, OpenFile, PollEvents, Positioning, Source};
use crate::mqueue::QueueFile;
use crate::pipe::{Pipe, PipeEnd};
use crate::tty::Terminal;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;

/// Who opens.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Where paths begin, and what is allowed.
    pub actor: Actor<'a>,
    /// What device nodes lead to.
    pub devices: &'a Devices,
    /// The controlling terminal, for `/dev/tty`.
    pub terminal: Option<&'a Rc<Terminal>>,
}

/// The result of an `open`.
pub enum Opened {
    /// Done.
    File(Rc<OpenFile>),
    /// A FIFO whose other end nobody has opened: the file is there, but `open` waits until the peer has come.
    Waiting(Rc<OpenFile>, PeerWait),
}

/// Waiting for the other end of a FIFO.
pub struct PeerWait {
    pipe: Rc<Pipe>,
    awaited: AccessMode,
    before: u64,
}

impl PeerWait {
    /// The pipe, whose queue is woken when the peer comes.
    pub fn pipe(&self) -> &Rc<Pipe> {
        &self.pipe
    }

    /// Whether the peer has come, even if it has left again.
    pub fn is_over(&self) -> bool {
        self.peer_openings() != self.before
    }

    fn peer_openings(&self) -> u64 {
        let (readers, writers) = self.pipe.openings();
        if self.awaited.can_read() { readers } else { writers }
    }
}

/// The flags of `open` that take part here. Those that contradict each other are `EINVAL`.
fn checked_flags(flags: u32) -> Result<u32> {
    if flags & linux::O_PATH != 0 {
        return Ok(flags & (linux::O_DIRECTORY | linux::O_NOFOLLOW | linux::O_PATH | linux::O_CLOEXEC));
    }
    let unnamed = flags & linux::__O_TMPFILE != 0;
    let writes = AccessMode::from_flags(flags).can_write();
    if unnamed && (flags & linux::O_DIRECTORY == 0 || !writes || flags & linux::O_CREAT != 0) {
        return Err(Errno::EINVAL);
    }
    if flags & linux::O_CREAT != 0 && flags & linux::O_DIRECTORY != 0 {
        return Err(Errno::EINVAL);
    }
    // As Linux does where a `long` has 64 bits: programs see the flag in what `F_GETFL` tells.
    Ok(flags | linux::O_LARGEFILE)
}

/// What an opening with these flags needs to be allowed to do.
fn wanted_access(flags: u32) -> Access {
    let mut want = match AccessMode::from_flags(flags) {
        AccessMode::Read => Access::READ,
        AccessMode::Write => Access::WRITE,
        AccessMode::ReadWrite | AccessMode::Neither => Access::READ | Access::WRITE,
        AccessMode::Path => Access::empty(),
    };
    if flags & linux::O_TRUNC != 0 {
        want |= Access::WRITE;
    }
    want
}

/// Whether the file was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Created,
}

/// Opens the file that a path names, relative to `start`.
pub fn open(opener: Opener<'_>, start: &Location, path: &[u8], flags: u32, permissions: u32) -> Result<Opened> {
    let flags = checked_flags(flags)?;
    if flags & linux::__O_TMPFILE == linux::__O_TMPFILE {
        return open_unnamed(opener, start, path, flags, permissions);
    }
    let (place, origin) = if flags & linux::O_CREAT == 0 {
        let last = if flags & linux::O_NOFOLLOW == 0 { LastLink::Follow } else { LastLink::Keep };
        (Walk::new(opener.actor).place(start, path, last)?, Origin::Found)
    } else {
        find_or_create(opener, start, path, flags, permissions)?
    };
    if flags & linux::O_CREAT != 0 && place.inode().is_directory() {
        return Err(Errno::EISDIR);
    }
    open_place(opener, place, flags, origin)
}

/// Opens a file that was already found, with the checks of an `open` without `O_CREAT`.
pub fn open_found(opener: Opener<'_>, place: Location, flags: u32) -> Result<Opened> {
    open_place(opener, place, checked_flags(flags)?, Origin::Found)
}

fn find_or_create(
    opener: Opener<'_>,
    start: &Location,
    path: &[u8],
    flags: u32,
    permissions: u32,
) -> Result<(Location, Origin)> {
    let exclusive = flags & linux::O_EXCL != 0;
    let follow = !exclusive && flags & linux::O_NOFOLLOW == 0;
    let mut walk = Walk::new(opener.actor);
    let mut start = start.clone();
    let mut path = path.to_vec();
    loop {
        let parent = walk.parent(&start, &path)?;
        let Last::Name(name) = &parent.last else { return Err(Errno::EISDIR) };
        if parent.ending == Ending::Slash {
            return Err(Errno::EISDIR);
        }
        let place = match walk.lookup(&parent.directory, name) {
            Ok(place) => place,
            Err(Errno::ENOENT) => {
                let created = create_regular(opener.actor, &parent, permissions)?;
                return Ok((created, Origin::Created));
            }
            Err(other) => return Err(other),
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        let Some(link) = place.inode().link().filter(|_| follow) else { return Ok((place, Origin::Found)) };
        walk.count_link()?;
        match link.target(opener.actor.context)? {
            Target::Place(place) => return Ok((place, Origin::Found)),
            Target::Path(target) => {
                start = parent.directory;
                path = target;
            }
        }
    }
}

fn create_regular(actor: Actor<'_>, parent: &Parent, permissions: u32) -> Result<Location> {
    let body = parent.directory.inode().directory()?.new_file(actor.credentials)?;
    match change::create(actor, parent, permissions, New::Node(body)) {
        // Where no names can be made, `open` says so in another way than `mkdir`.
        Err(Errno::EPERM) if parent.directory.inode().directory()?.ptys().is_some() => Err(Errno::EACCES),
        Err(Errno::EPERM) => Err(Errno::ENOENT),
        other => other,
    }
}

/// `O_TMPFILE`: a file without a name, in the file system of a directory.
fn open_unnamed(opener: Opener<'_>, start: &Location, path: &[u8], flags: u32, permissions: u32) -> Result<Opened> {
    let actor = opener.actor;
    let directory = Walk::new(actor).place(start, path, LastLink::Follow)?;
    directory.inode().directory()?;
    directory.inode().check_access(actor.credentials, Access::WRITE | Access::EXECUTE)?;
    if directory.inode().directory()?.names().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    let body = New::Node(Body::Regular(Content::empty()));
    let inode = change::new_inode(actor, directory.inode(), permissions, body)?;
    inode.remove_link();
    let ops = RegularFile::open(&inode, AccessMode::from_flags(flags))?;
    Ok(Opened::File(OpenFile::new(Rc::new(ops), inode, None, flags & !linux::__O_TMPFILE)?))
}

/// Opens a regular file that has no name, for reading and writing.
pub fn open_unnamed_inode(inode: &Rc<Inode>) -> Result<Rc<OpenFile>> {
    let ops = RegularFile::open(inode, AccessMode::ReadWrite)?;
    OpenFile::new(Rc::new(ops), inode.clone(), None, linux::O_RDWR | linux::O_LARGEFILE)
}

fn open_place(opener: Opener<'_>, place: Location, flags: u32, origin: Origin) -> Result<Opened> {
    let inode = place.inode().clone();
    if flags & linux::O_DIRECTORY != 0 && !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if flags & linux::O_PATH != 0 {
        return Ok(Opened::File(OpenFile::new(Rc::new(PathOnly), inode, Some(place), flags)?));
    }
    let want = wanted_access(flags);
    match inode.body() {
        Body::Link(_) => return Err(Errno::ELOOP),
        Body::Directory(_) if want.contains(Access::WRITE) => return Err(Errno::EISDIR),
        Body::Directory(_)
        | Body::Regular(_)
        | Body::Generated(_)
        | Body::CharacterDevice(_)
        | Body::BlockDevice(_)
        | Body::Fifo(_)
        | Body::Socket
        | Body::Anonymous => {}
    }
    if origin == Origin::Found {
        inode.check_access(opener.actor.credentials, want)?;
    }
    if flags & linux::O_NOATIME != 0 && !opener.actor.credentials.is_owner_or_privileged(inode.uid()) {
        return Err(Errno::EPERM);
    }
    open_body(opener, place, &inode, flags)
}

fn open_body(opener: Opener<'_>, place: Location, inode: &Rc<Inode>, flags: u32) -> Result<Opened> {
    let access = AccessMode::from_flags(flags);
    let ops: Rc<dyn FileOps> = match inode.body() {
        Body::Regular(content) => {
            let ops = RegularFile::open(inode, access)?;
            if flags & linux::O_TRUNC != 0 {
                content.begin_write()?;
                let result = content.set_size(0);
                content.end_write();
                result?;
                inode.touch_modified();
            }
            Rc::new(ops)
        }
        Body::Directory(_) => Rc::new(OpenDirectory),
        Body::Generated(generator) => match generator.queue() {
            Some(queue) => Rc::new(QueueFile::new(queue)),
            None => Rc::new(GeneratedFile { inode: inode.clone(), text: RefCell::new(None) }),
        },
        Body::CharacterDevice(device) => dev::open(opener, &place, *device)?,
        Body::BlockDevice(_) | Body::Socket | Body::Anonymous => return Err(Errno::ENXIO),
        Body::Fifo(cell) => {
            if cell.get().is_none() {
                // Nobody else can have set it meanwhile.
                let _ = cell.set(Pipe::new()?);
            }
            // A pipe that is opened anew, through `/proc/PID/fd`, waits for nobody: both ends have been there.
            let is_pipe = Rc::ptr_eq(inode.filesystem(), opener.actor.context.namespace.pipes());
            let peers = if is_pipe { Peers::Unneeded } else { Peers::Awaited };
            return open_fifo(cell.get().ok_or(Errno::ENXIO)?, place, inode, flags, peers);
        }
        Body::Link(_) => return Err(Errno::ELOOP),
    };
    Ok(Opened::File(OpenFile::new(ops, inode.clone(), Some(place), flags)?))
}

/// Whether the opening of one end waits until somebody has the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    Awaited,
    Unneeded,
}

/// Opens a FIFO (`fifo(7)`): each side waits for the other, unless it is both, or does not want to wait.
fn open_fifo(pipe: &Rc<Pipe>, place: Location, inode: &Rc<Inode>, flags: u32, peers: Peers) -> Result<Opened> {
    let access = AccessMode::from_flags(flags);
    let nonblocking = flags & linux::O_NONBLOCK != 0;
    let (awaited, is_there) = match access {
        AccessMode::Read if peers == Peers::Unneeded => (AccessMode::Write, true),
        AccessMode::Write if peers == Peers::Unneeded => (AccessMode::Read, true),
        AccessMode::Read => (AccessMode::Write, pipe.has_writers() || nonblocking),
        AccessMode::Write if nonblocking && !pipe.has_readers() => return Err(Errno::ENXIO),
        AccessMode::Write => (AccessMode::Read, pipe.has_readers()),
        AccessMode::ReadWrite => (AccessMode::Read, true),
        AccessMode::Neither | AccessMode::Path => return Err(Errno::EINVAL),
    };
    let mut wait = PeerWait { pipe: pipe.clone(), awaited, before: 0 };
    wait.before = wait.peer_openings();
    let ops = Rc::new(PipeEnd::open(pipe, access));
    let file = OpenFile::new(ops, inode.clone(), Some(place), flags)?;
    Ok(if is_there { Opened::File(file) } else { Opened::Waiting(file, wait) })
}

/// A regular file that is open.
struct RegularFile {
    inode: Rc<Inode>,
    access: AccessMode,
}

impl RegularFile {
    /// Opens it. `ETXTBSY` if it is to be written while it is being run.
    fn open(inode: &Rc<Inode>, access: AccessMode) -> Result<Self> {
        if access.can_write()
            && let Some(content) = inode.content()
        {
            content.begin_write()?;
        }
        Ok(Self { inode: inode.clone(), access })
    }

    fn content(&self) -> Result<&Content> {
        self.inode.content().ok_or(Errno::EINVAL)
    }
}

impl Drop for RegularFile {
    fn drop(&mut self) {
        if self.access.can_write()
            && let Some(content) = self.inode.content()
        {
            content.end_write();
        }
    }
}

impl FileOps for RegularFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let count = self.content()?.read(position, to)?;
        self.inode.touch_accessed();
        Ok(count)
    }

    fn write(&self, position: u64, from: &mut dyn Source) -> Result<usize> {
        let count = self.content()?.write(position, from)?;
        if count > 0 {
            self.inode.touch_modified();
        }
        Ok(count)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }
}

/// A directory that is open: it is listed through its inode.
struct OpenDirectory;

impl FileOps for OpenDirectory {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Entries
    }
}

/// What `O_PATH` opens: nothing can be done with it.
struct PathOnly;

impl FileOps for PathOnly {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        PollEvents::INVALID
    }
}

/// A generated file: the text is made when it is read from the start, so that one pass sees one state.
struct GeneratedFile {
    inode: Rc<Inode>,
    text: RefCell<Option<(Vec<u8>, Charge)>>,
}

impl GeneratedFile {
    fn generator(&self) -> Option<&dyn Generator> {
        match self.inode.body() {
            Body::Generated(generator) => Some(generator.as_ref()),
            Body::Regular(_)
            | Body::Directory(_)
            | Body::Link(_)
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_)
            | Body::Fifo(_)
            | Body::Socket
            | Body::Anonymous => None,
        }
    }
}

impl FileOps for GeneratedFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let is_made = self.text.borrow().is_some();
        if position == 0 || !is_made {
            let text = self.generator().ok_or(Errno::EINVAL)?.generate()?;
            let charge = Charge::new(Budget::Contents, text.len() as u64)?;
            self.text.replace(Some((text, charge)));
        }
        let text = self.text.borrow();
        put_text(text.as_ref().map(|(text, _)| text.as_slice()).unwrap_or_default(), position, to)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }
}
