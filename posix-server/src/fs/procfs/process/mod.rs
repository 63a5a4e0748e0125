//! What is under `/proc/PID`: the names, in a table, and the directories.

mod descriptors;
mod links;
mod memory;
mod sizes;
mod state;
mod status;
mod subject;
mod tasks;

use super::tables::NET;
use super::{INODES_PER_PROCESS, Shared, StaticDirectory, StaticEntry, check_name, parse_number};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, FileOps};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Generator, Listing};
use crate::fs::walk::Actor;
use crate::fs::{Body, Dentry, Inode, Location};
use crate::process::{Pid, Process};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use subject::{Subject, check_inspection, owner};

/// The inode numbers of a process's entries, from that of its directory: files and links first, then descriptors.
const FIRST_DESCRIPTOR_INODE: u64 = 0x1000;
/// The inode numbers of what the directory of descriptors' states has.
const FIRST_STATE_INODE: u64 = 0x2000_0000;
/// The inode number of what lies in static directories of a process, less than which no other has.
const STATIC_INODE: u64 = 0x800;
/// The inode numbers of a thread's directory, from those of a process of that number.
const FIRST_THREAD_INODE: u64 = 0x8000_0000;

const KIB: u64 = 1024;

type Text = fn(&Subject) -> Result<Vec<u8>>;
type Store = fn(&Subject, Pid, &[u8]) -> Result<()>;

/// What an entry of a process's directory is.
#[derive(Clone, Copy)]
enum Node {
    /// A text.
    Text(Text),
    /// A text that only who may look into the process can open.
    GuardedText(Text),
    /// A text that can be written.
    Setting(Text, Store),
    /// A link to a place, and the text that it shows.
    Place(fn(&Process) -> Option<Location>),
    /// The process's memory.
    Memory,
    Descriptors,
    DescriptorStates,
    NameSpaces,
    Tasks,
    Static(&'static [StaticEntry]),
}

impl Node {
    fn file_type(self) -> u32 {
        match self {
            Self::Text(_) | Self::GuardedText(_) | Self::Setting(..) | Self::Memory => linux::S_IFREG,
            Self::Place(_) => linux::S_IFLNK,
            Self::Descriptors | Self::DescriptorStates | Self::NameSpaces | Self::Tasks | Self::Static(_) => {
                linux::S_IFDIR
            }
        }
    }
}

/// Entries: name, what it is, permissions.
static ENTRIES: &[(&str, Node, u32)] = &[
    ("auxv", Node::GuardedText(memory::auxiliary_vector), 0o400),
    ("cgroup", Node::Text(|_| Ok(b"0::/\n".to_vec())), 0o444),
    ("cmdline", Node::Text(memory::command_line), 0o444),
    ("comm", Node::Setting(state::comm, state::set_comm), 0o644),
    ("coredump_filter", Node::Text(|_| Ok(b"00000033\n".to_vec())), 0o444),
    ("cpuset", Node::Text(|_| Ok(b"/\n".to_vec())), 0o444),
    ("cwd", Node::Place(|process| Some(process.fs.borrow().cwd.clone())), 0o777),
    ("environ", Node::GuardedText(memory::environment), 0o400),
    ("exe", Node::Place(|process| process.program.borrow().file.clone()), 0o777),
    ("fd", Node::Descriptors, 0o500),
    ("fdinfo", Node::DescriptorStates, 0o555),
    ("gid_map", Node::Text(state::identity_map), 0o444),
    ("io", Node::GuardedText(state::transfers), 0o400),
    ("limits", Node::Text(state::limits), 0o444),
    ("loginuid", Node::Text(|_| Ok(b"4294967295".to_vec())), 0o444),
    ("maps", Node::GuardedText(memory::maps), 0o444),
    ("mem", Node::Memory, 0o600),
    ("mountinfo", Node::Text(state::mount_info), 0o444),
    ("mounts", Node::Text(state::mounts), 0o444),
    ("mountstats", Node::Text(state::mount_statistics), 0o400),
    ("net", Node::Static(&NET), 0o555),
    ("ns", Node::NameSpaces, 0o511),
    ("oom_adj", Node::Setting(state::old_badness_adjustment, state::set_old_badness_adjustment), 0o644),
    ("oom_score", Node::Text(sizes::badness), 0o444),
    ("oom_score_adj", Node::Setting(state::badness_adjustment, state::set_badness_adjustment), 0o644),
    ("personality", Node::GuardedText(|_| Ok(b"00000000\n".to_vec())), 0o400),
    ("root", Node::Place(|process| Some(process.fs.borrow().root.clone())), 0o777),
    ("sched", Node::Text(status::schedule), 0o444),
    ("schedstat", Node::Text(status::run_times), 0o444),
    ("sessionid", Node::Text(|_| Ok(b"4294967295".to_vec())), 0o444),
    ("setgroups", Node::Text(|_| Ok(b"allow\n".to_vec())), 0o444),
    ("smaps", Node::GuardedText(memory::detailed_maps), 0o444),
    ("smaps_rollup", Node::GuardedText(memory::summed_maps), 0o444),
    ("stack", Node::GuardedText(|_| Ok(Vec::new())), 0o400),
    ("stat", Node::Text(status::numbers), 0o444),
    ("statm", Node::Text(sizes::in_pages), 0o444),
    ("status", Node::Text(status::status), 0o444),
    ("syscall", Node::GuardedText(status::system_call), 0o400),
    ("task", Node::Tasks, 0o555),
    ("timers", Node::Text(|_| Ok(Vec::new())), 0o444),
    ("timerslack_ns", Node::Text(status::timer_slack), 0o444),
    ("uid_map", Node::Text(state::identity_map), 0o444),
    ("wchan", Node::Text(|_| Ok(b"0".to_vec())), 0o444),
];

/// What only the directory of a thread has.
static THREAD_ENTRIES: &[(&str, Node, u32)] = &[("children", Node::Text(tasks::children), 0o444)];

/// Whether a directory shows a process or one of its threads, which looks the same but has no threads of its own: whoever
/// walks the tree comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Process,
    Thread(Pid),
}

impl Level {
    /// All entries, with their places.
    fn entries(self) -> impl Iterator<Item = (usize, &'static (&'static str, Node, u32))> {
        let is_thread = self != Self::Process;
        let own: &[_] = if is_thread { THREAD_ENTRIES } else { &[] };
        let is_shown = move |entry: &&(&str, Node, u32)| !is_thread || !matches!(entry.1, Node::Tasks);
        ENTRIES.iter().chain(own).filter(is_shown).enumerate()
    }

    /// The number from which the inodes of the directory count.
    fn first_inode(self, pid: Pid) -> u64 {
        match self {
            Self::Process => pid as u64 * INODES_PER_PROCESS,
            Self::Thread(tid) => tid as u64 * INODES_PER_PROCESS + FIRST_THREAD_INODE,
        }
    }
}

/// Whose directory it is.
#[derive(Clone)]
struct Whose {
    shared: Shared,
    pid: Pid,
    level: Level,
}

impl Whose {
    /// The process or thread as it is now. `ESRCH`.
    fn subject(&self) -> Result<Subject> {
        Subject::find(&self.shared.server()?, self.pid, self.level)
    }

    /// The process, unless it has ended. `ENOENT`.
    fn process(&self) -> Result<Rc<Process>> {
        self.shared.server()?.process(self.pid).ok_or(Errno::ENOENT)
    }

    fn first_inode(&self) -> u64 {
        self.level.first_inode(self.pid)
    }

    fn inode(&self, number: u64, permissions: u32, body: Body) -> Result<Rc<Inode>> {
        let owner = owner(&*self.shared.server()?, self.pid, permissions);
        Ok(self.shared.inode(self.first_inode() + number, permissions, owner, body))
    }
}

/// The directory of a process; that of a thread, which is not listed, by the number of the thread. `ENOENT` if there is
/// none.
pub(super) fn directory(shared: &Shared, number: Pid) -> Result<Rc<Inode>> {
    let server = shared.server()?;
    let pid = server.thread(number).map_or(number, |thread| thread.process.pid);
    let whose = Whose { shared: shared.clone(), pid, level: Level::Process };
    whose.subject().map_err(|_| Errno::ENOENT)?;
    directory_of(whose)
}

fn directory_of(whose: Whose) -> Result<Rc<Inode>> {
    let body = Body::Directory(Box::new(ProcessDirectory(whose.clone())));
    whose.inode(0, 0o555, body)
}

struct ProcessDirectory(Whose);

impl ProcessDirectory {
    fn body(&self, node: Node) -> Body {
        let whose = self.0.clone();
        let file = |kind| Body::Generated(Box::new(ProcessFile { whose: self.0.clone(), kind }));
        match node {
            Node::Text(text) => file(FileKind::Text(text)),
            Node::GuardedText(text) => file(FileKind::Guarded(text)),
            Node::Setting(text, store) => file(FileKind::Setting(text, store)),
            Node::Memory => file(FileKind::Memory),
            Node::Place(place) => Body::Link(Box::new(links::PlaceLink { whose, place })),
            Node::Descriptors => Body::Directory(Box::new(descriptors::Descriptors(whose))),
            Node::DescriptorStates => Body::Directory(Box::new(descriptors::States(whose))),
            Node::NameSpaces => Body::Directory(Box::new(links::NameSpaces(whose))),
            Node::Tasks => Body::Directory(Box::new(tasks::Tasks(whose))),
            Node::Static(entries) => {
                let number = whose.first_inode() + STATIC_INODE;
                Body::Directory(Box::new(StaticDirectory { shared: whose.shared, entries, number }))
            }
        }
    }
}

impl Directory for ProcessDirectory {
    fn process(&self) -> Option<Pid> {
        (self.0.level == Level::Process).then_some(self.0.pid)
    }

    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        self.0.subject().map_err(|_| Errno::ENOENT)?;
        let mut entries = self.0.level.entries();
        let (index, (_, node, permissions)) =
            entries.find(|(_, (entry, ..))| entry.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let inode = self.0.inode(1 + index as u64, *permissions, self.body(*node))?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        self.0.subject().map_err(|_| Errno::ENOENT)?;
        for (index, (name, node, _)) in self.0.level.entries().skip((from - FIRST_ENTRY.min(from)) as usize) {
            let entry = Entry {
                name: name.as_bytes(),
                inode: self.0.first_inode() + 1 + index as u64,
                file_type: node.file_type(),
                next: FIRST_ENTRY + index as u64 + 1,
            };
            if each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

/// What a file of a process is.
#[derive(Clone, Copy)]
enum FileKind {
    Text(Text),
    Guarded(Text),
    Setting(Text, Store),
    Memory,
}

struct ProcessFile {
    whose: Whose,
    kind: FileKind,
}

impl Generator for ProcessFile {
    fn open(&self, actor: Actor<'_>, _access: AccessMode) -> Result<Option<Rc<dyn FileOps>>> {
        match self.kind {
            FileKind::Text(_) | FileKind::Setting(..) => Ok(None),
            FileKind::Guarded(_) => {
                check_inspection(&self.whose, actor.context.pid, Errno::EACCES)?;
                Ok(None)
            }
            FileKind::Memory => {
                check_inspection(&self.whose, actor.context.pid, Errno::EACCES)?;
                Ok(Some(Rc::new(memory::MemoryFile::open(&self.whose)?)))
            }
        }
    }

    fn generate(&self) -> Result<Vec<u8>> {
        match self.kind {
            FileKind::Text(text) | FileKind::Guarded(text) | FileKind::Setting(text, _) => text(&self.whose.subject()?),
            FileKind::Memory => Err(Errno::EIO),
        }
    }

    fn store(&self, writer: Pid, bytes: &[u8]) -> Result<()> {
        match self.kind {
            FileKind::Setting(_, store) => store(&self.whose.subject()?, writer, bytes),
            FileKind::Text(_) | FileKind::Guarded(_) | FileKind::Memory => Err(Errno::EINVAL),
        }
    }
}
