//! From a path to an open file (`open(2)`).

use super::body::Target;
use super::change::{self, New};
use super::content::Content;
use super::diskfs::DiskFile;
use super::generated::GeneratedFile;
use super::inode::{FirstName, PERMISSION_BITS};
use super::walk::{Actor, Ending, Last, LastLink, Parent, Restrictions, Walk};
use super::{Body, Dentry, Inode, Location, MountFlags, notify, protection};
use crate::cred::Access;
use crate::dev::{self, Devices};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, Destination, FileOps, OpenFile, PollEvents, Positioning, Source, StatusFlags};
use crate::mqueue::QueueFile;
use crate::pipe::{Pipe, PipeEnd};
use crate::tty::Terminal;
use alloc::rc::Rc;
use core::cell::Cell;
use linux_raw_sys::general as linux;

/// Who opens.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Where paths begin, and what is allowed.
    pub actor: Actor<'a>,
    /// What device nodes lead to.
    pub devices: &'a Devices,
    /// Finds the controlling terminal, for `/dev/tty`.
    pub terminal: &'a dyn Fn() -> Option<Rc<Terminal>>,
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

/// How a file is to be opened (`struct open_how`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// `O_*`.
    pub flags: u32,
    /// The mode of a new file.
    pub permissions: u32,
    /// What the path must not lead through.
    pub restrictions: Restrictions,
}

/// The flags that `open` knows.
const KNOWN_FLAGS: u32 = linux::O_ACCMODE
    | linux::O_CREAT
    | linux::O_EXCL
    | linux::O_NOCTTY
    | linux::O_TRUNC
    | linux::O_APPEND
    | linux::O_NONBLOCK
    | linux::O_SYNC
    | linux::FASYNC
    | linux::O_DIRECT
    | linux::O_LARGEFILE
    | linux::O_DIRECTORY
    | linux::O_NOFOLLOW
    | linux::O_NOATIME
    | linux::O_CLOEXEC
    | linux::O_PATH
    | linux::__O_TMPFILE;

/// The flags that mean something with `O_PATH`.
const PATH_FLAGS: u32 = linux::O_DIRECTORY | linux::O_NOFOLLOW | linux::O_PATH | linux::O_CLOEXEC;

impl How {
    /// As `open` and `openat` are asked: what they don't know or what has no meaning together is left out.
    pub fn lenient(flags: u32, permissions: u32) -> Self {
        let flags = flags & if flags & linux::O_PATH != 0 { PATH_FLAGS } else { KNOWN_FLAGS };
        let creates = flags & (linux::O_CREAT | linux::__O_TMPFILE) != 0;
        let permissions = if creates { permissions & PERMISSION_BITS } else { 0 };
        Self { flags, permissions, restrictions: Restrictions::empty() }
    }

    /// As `openat2` is asked: what is unknown or has no meaning together is `EINVAL`.
    pub fn strict(flags: u64, permissions: u64, restrictions: u64) -> Result<Self> {
        let flags = u32::try_from(flags).ok().filter(|flags| flags & !KNOWN_FLAGS == 0).ok_or(Errno::EINVAL)?;
        let restrictions = Restrictions::from_bits(restrictions).ok_or(Errno::EINVAL)?;
        let creates = flags & (linux::O_CREAT | linux::__O_TMPFILE) != 0;
        let allowed = if creates { u64::from(PERMISSION_BITS) } else { 0 };
        let is_path = flags & linux::O_PATH != 0;
        if restrictions.contains(Restrictions::BENEATH | Restrictions::IN_ROOT)
            || permissions & !allowed != 0
            || is_path && flags & !PATH_FLAGS != 0
        {
            return Err(Errno::EINVAL);
        }
        Ok(Self { flags, permissions: permissions as u32, restrictions })
    }

    /// The flags as they take part. Those that contradict each other are `EINVAL`.
    fn checked_flags(self) -> Result<u32> {
        let flags = self.flags;
        if flags & linux::O_PATH != 0 {
            return Ok(flags);
        }
        if flags & linux::O_CREAT != 0 && flags & linux::O_DIRECTORY != 0 {
            return Err(Errno::EINVAL);
        }
        let writes = AccessMode::from_flags(flags).wants_write();
        if flags & linux::__O_TMPFILE != 0 && (flags & linux::O_DIRECTORY == 0 || !writes) {
            return Err(Errno::EINVAL);
        }
        let changes = flags & (linux::O_TRUNC | linux::O_CREAT | linux::__O_TMPFILE) != 0;
        if self.restrictions.contains(Restrictions::CACHED) && changes {
            return Err(Errno::EAGAIN);
        }
        let synchronous = if flags & linux::__O_SYNC != 0 { linux::O_DSYNC } else { 0 };
        // As Linux does where a `long` has 64 bits: programs see the flag in what `F_GETFL` tells.
        Ok(flags | synchronous | linux::O_LARGEFILE)
    }
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
pub fn open(opener: Opener<'_>, start: &Location, path: &[u8], how: How) -> Result<Opened> {
    let flags = how.checked_flags()?;
    if flags & linux::__O_TMPFILE != 0 {
        return open_unnamed(opener, start, path, How { flags, ..how });
    }
    let (place, origin) = if flags & linux::O_CREAT == 0 {
        let last = if flags & linux::O_NOFOLLOW == 0 { LastLink::Follow } else { LastLink::Keep };
        (Walk::restricted(opener.actor, how.restrictions).place(start, path, last)?, Origin::Found)
    } else {
        find_or_create(opener, start, path, How { flags, ..how })?
    };
    if flags & linux::O_CREAT != 0 && place.inode().is_directory() {
        return Err(Errno::EISDIR);
    }
    open_place(opener, place, flags, origin)
}

fn find_or_create(opener: Opener<'_>, start: &Location, path: &[u8], how: How) -> Result<(Location, Origin)> {
    let exclusive = how.flags & linux::O_EXCL != 0;
    let follow = !exclusive && how.flags & linux::O_NOFOLLOW == 0;
    let mut walk = Walk::restricted(opener.actor, how.restrictions);
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
                let created = create_regular(opener.actor, &parent, how.permissions)?;
                return Ok((created, Origin::Created));
            }
            Err(other) => return Err(other),
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        let Some(link) = place.inode().link().filter(|_| follow) else {
            protection::check_reuse(opener.actor, parent.directory.inode(), place.inode())?;
            return Ok((place, Origin::Found));
        };
        walk.count_link(&place)?;
        protection::check_follow(opener.actor, parent.directory.inode(), place.inode())?;
        match link.target(opener.actor.context)? {
            Target::Place(target) => return Ok((walk.jump_to(&place, target)?, Origin::Found)),
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

/// `O_TMPFILE`: a file without a name, in the file system of a directory. Its place is in the directory, as if it had been
/// removed from there.
fn open_unnamed(opener: Opener<'_>, start: &Location, path: &[u8], how: How) -> Result<Opened> {
    let actor = opener.actor;
    let directory = Walk::restricted(actor, how.restrictions).place(start, path, LastLink::Follow)?;
    directory.inode().directory()?;
    directory.check_writable()?;
    directory.inode().check_access(actor.credentials, Access::WRITE | Access::EXECUTE)?;
    if directory.inode().directory()?.names().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    let body = New::Node(directory.inode().directory()?.new_file(actor.credentials)?);
    let inode = change::new_inode(actor, directory.inode(), how.permissions, body)?;
    inode.remove_link();
    if let Some(volume) = inode.filesystem().volume() {
        volume.record_create(0, b"", &inode, inode.times().born);
    }
    if how.flags & linux::O_EXCL == 0 {
        inode.allow_first_name(FirstName::Allowed);
    }
    let name = alloc::format!("#{}", inode.number());
    let place = directory.with(Dentry::nameless(&directory.dentry, name.as_bytes(), inode.clone()));
    let ops = RegularFile::open(&place, AccessMode::from_flags(how.flags))?;
    let flags = how.flags & !(linux::__O_TMPFILE | linux::O_DIRECTORY);
    Ok(Opened::File(OpenFile::new(Rc::new(ops), inode, Some(place), flags)?))
}

/// Opens what was already found, as `open` without `O_CREAT` does.
pub fn open_found(opener: Opener<'_>, place: Location, how: How) -> Result<Opened> {
    open_place(opener, place, how.checked_flags()?, Origin::Found)
}

/// Opens a place as one only (`O_PATH`).
pub fn open_path(place: Location) -> Result<Rc<OpenFile>> {
    OpenFile::new(Rc::new(PathOnly), place.inode().clone(), Some(place), linux::O_PATH)
}

/// Opens a regular file that never had a name, for reading and writing.
pub fn open_unnamed_inode(place: Location) -> Result<Rc<OpenFile>> {
    let inode = place.inode().clone();
    let ops = RegularFile::open(&place, AccessMode::ReadWrite)?;
    OpenFile::new(Rc::new(ops), inode, Some(place), linux::O_RDWR | linux::O_LARGEFILE)
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
    let no_devices = place.mount.flags().contains(MountFlags::NO_DEVICES);
    match inode.body() {
        Body::Link(_) => return Err(Errno::ELOOP),
        Body::Directory(_) if want.contains(Access::WRITE) => return Err(Errno::EISDIR),
        Body::CharacterDevice(_) | Body::BlockDevice(_) if no_devices => return Err(Errno::EACCES),
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
    if want.contains(Access::WRITE) && inode.content().is_some() {
        place.check_writable()?;
    }
    if flags & linux::O_NOATIME != 0 && !opener.actor.credentials.is_owner_or_privileged(inode.uid()) {
        return Err(Errno::EPERM);
    }
    let direct = flags & linux::O_DIRECT != 0;
    if direct && inode.content().is_none() {
        return Err(Errno::EINVAL);
    }
    open_body(opener, place, &inode, flags, origin)
}

fn open_body(opener: Opener<'_>, place: Location, inode: &Rc<Inode>, flags: u32, origin: Origin) -> Result<Opened> {
    let access = AccessMode::from_flags(flags);
    let ops: Rc<dyn FileOps> = match inode.body() {
        Body::Regular(content) => {
            let ops = RegularFile::open(&place, access)?;
            if flags & linux::O_TRUNC != 0 {
                content.begin_write()?;
                let result = content.set_size(0);
                content.end_write();
                result?;
                inode.touch_modified();
                if origin == Origin::Found {
                    notify::place(&place, notify::MODIFY);
                }
                if !opener.actor.credentials.is_privileged() {
                    inode.clear_set_id();
                }
            }
            Rc::new(ops)
        }
        Body::Directory(_) => Rc::new(OpenDirectory),
        Body::Generated(generator) => match (generator.queue(), generator.open(opener.actor, access)?) {
            (Some(queue), _) => Rc::new(QueueFile::new(queue)),
            (None, Some(ops)) => ops,
            (None, None) => Rc::new(GeneratedFile::new(inode.clone(), opener.actor.context.pid)),
        },
        Body::CharacterDevice(device) => dev::open(opener, &place, *device, access)?,
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
    let file = OpenFile::new(ops, inode.clone(), Some(place), flags)?;
    if origin == Origin::Created {
        file.note_created();
    }
    Ok(Opened::File(file))
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
    place: Location,
    access: AccessMode,
    status: Cell<StatusFlags>,
    /// How many writebacks had failed when somebody last asked.
    failures: Cell<u64>,
}

impl RegularFile {
    /// Opens it. `ETXTBSY` if it is to be written while it is being run.
    fn open(place: &Location, access: AccessMode) -> Result<Self> {
        if access.can_write()
            && let Some(content) = place.inode().content()
        {
            content.begin_write()?;
        }
        let failures = Cell::new(disk_file(place).map_or(0, |file| file.failures().get()));
        Ok(Self { place: place.clone(), access, status: Cell::new(StatusFlags::empty()), failures })
    }

    fn content(&self) -> Result<&Content> {
        self.place.inode().content().ok_or(Errno::EINVAL)
    }
}

/// The file on a disk that a place is, if it is one.
fn disk_file(place: &Location) -> Option<&DiskFile> {
    place.inode().content().and_then(Content::paged_file).and_then(|file| file.on_disk())
}

impl Drop for RegularFile {
    fn drop(&mut self) {
        if self.access.can_write()
            && let Some(content) = self.place.inode().content()
        {
            content.end_write();
        }
    }
}

impl FileOps for RegularFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let count = self.content()?.read(position, to)?;
        if !self.status.get().contains(StatusFlags::NO_ACCESS_TIME) {
            self.place.touch_accessed();
        }
        Ok(count)
    }

    fn write(&self, position: u64, from: &mut dyn Source) -> Result<usize> {
        let count = self.content()?.write(position, from)?;
        if count > 0 {
            self.place.inode().touch_modified();
        }
        Ok(count)
    }

    fn status_changed(&self, status: StatusFlags) {
        self.status.set(status);
    }

    fn has_failed_since(&self) -> bool {
        let now = disk_file(&self.place).map_or(0, |file| file.failures().get());
        self.failures.replace(now) != now
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
