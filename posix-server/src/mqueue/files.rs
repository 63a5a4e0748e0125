//! Message queues as files: their directory, and what is open.

use super::queue::{Notice, Queue, Size};
use super::{MAX_QUEUES, Usage};
use crate::budget::{Charge, Kind as Budget};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::file::io::put_text;
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::fs::body::{Directory, Entry, Generator, Listing};
use crate::fs::tmpfs::{self, Names};
use crate::fs::{Body, Dentry, FileSystem, FileSystemType, Inode, Instances, Made, Storage};
use crate::process::Pid;
use crate::process::limits::MESSAGE_QUEUE_BYTES;
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The file system of message queues, of which there is one.
pub static MQUEUE: FileSystemType = FileSystemType {
    name: "mqueue",
    magic: 0x1980_0202,
    storage: Storage::Memory,
    instances: Instances::One(|_| new()),
};

/// The permissions of the directory: everybody makes queues, and removes their own.
const ROOT_PERMISSIONS: u32 = 0o1777;

/// What a queue takes of the server's memory, about, in bytes.
const QUEUE_BYTES: u64 = 256;

fn new() -> Result<Made> {
    let filesystem = FileSystem::new(&MQUEUE);
    let directory = QueueDirectory { names: Names::new(), usage: Rc::default() };
    let inode = Inode::new(&filesystem, ROOT_PERMISSIONS, 0, 0, Body::Directory(Box::new(directory)))?;
    Ok((filesystem, Dentry::root(inode)))
}

/// The directory of all queues.
pub struct QueueDirectory {
    names: Names,
    usage: Rc<Usage>,
}

impl QueueDirectory {
    /// The body of a new queue. `ENOSPC` if there are too many queues, `EMFILE` if the user's are too large together.
    pub fn make(&self, size: Size, maker: &Credentials, limit_bytes: u64) -> Result<Body> {
        if self.usage.queues.get() >= MAX_QUEUES && !maker.is_privileged() {
            return Err(Errno::ENOSPC);
        }
        let charge = Charge::new(Budget::Names, QUEUE_BYTES).map_err(|_| Errno::ENOSPC)?;
        self.usage.take(maker.uid, size, limit_bytes)?;
        let queue = Queue::new(size, &self.usage, maker.uid);
        Ok(Body::Generated(Box::new(QueueText { queue, _charge: charge })))
    }
}

impl Directory for QueueDirectory {
    fn lookup(&self, _this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        tmpfs::check_name(name)?;
        self.names.get(name).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        self.names.list(from, each);
        Ok(())
    }

    fn names(&self) -> Option<&Names> {
        Some(&self.names)
    }

    fn new_file(&self, maker: &Credentials) -> Result<Body> {
        self.make(Size::default(), maker, MESSAGE_QUEUE_BYTES)
    }

    fn queues(&self) -> Option<&QueueDirectory> {
        Some(self)
    }
}

/// A queue in its inode; as a file it reads as a line about its state.
struct QueueText {
    queue: Rc<Queue>,
    _charge: Charge,
}

impl Generator for QueueText {
    fn generate(&self) -> Result<Vec<u8>> {
        Ok(text(&self.queue))
    }

    fn queue(&self) -> Option<&Rc<Queue>> {
        Some(&self.queue)
    }
}

/// The line of `mq_overview(7)`, "Mounting the message queue filesystem".
fn text(queue: &Queue) -> Vec<u8> {
    let (kind, signal, pid) = match queue.registration() {
        None => (0, 0, 0),
        Some(registration) => match registration.notice {
            Notice::Nothing => (linux::SIGEV_NONE, 0, registration.owner),
            Notice::Signal(signal, _) => (0, signal.map_or(0, |signal| signal.number()), registration.owner),
        },
    };
    format!("QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n", queue.bytes()).into_bytes()
}

/// A queue that is open.
pub struct QueueFile {
    queue: Rc<Queue>,
}

impl QueueFile {
    /// Opens it.
    pub fn new(queue: &Rc<Queue>) -> Self {
        Self { queue: queue.clone() }
    }
}

impl FileOps for QueueFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        put_text(&text(&self.queue), position, to)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }

    fn readiness(&self) -> PollEvents {
        self.queue.readiness()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.queue.changed())
    }

    fn message_queue(&self) -> Option<&Rc<Queue>> {
        Some(&self.queue)
    }

    fn closed_by(&self, pid: Pid) {
        self.queue.unregister(pid);
    }
}
