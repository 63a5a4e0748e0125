//! What is under `/proc/PID`.

use super::system::{NS_PER_TICK, add};
use super::{INODES_PER_PROCESS, Shared, check_name, parse_number};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::fs::inode::{Directory, Entry, FIRST_ENTRY, Generator, Link, Listing, Target};
use crate::fs::{Body, Dentry, FsContext, Inode, Location};
use crate::platform::{PAGE_SIZE, Protection, Sharing};
use crate::process::{Pid, Process, Snapshot};
use crate::vm::areas::{Area, Content};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use linux_raw_sys::general as linux;

/// The inode numbers of a process's entries, from that of its directory: files and links first, then descriptors.
const FIRST_DESCRIPTOR_INODE: u64 = 0x1000;

/// The inode numbers of a thread's directory, from those of a process of that number.
const FIRST_THREAD_INODE: u64 = 0x8000_0000;

const KIB: u64 = 1024;

/// What an entry of a process's directory is.
#[derive(Clone, Copy)]
enum Node {
    Text(fn(&Snapshot) -> Result<Vec<u8>>),
    /// A link to a place, and the text that it shows.
    Place(fn(&Process) -> Option<Location>),
    Descriptors,
    Tasks,
}

impl Node {
    fn file_type(self) -> u32 {
        match self {
            Self::Text(_) => linux::S_IFREG,
            Self::Place(_) => linux::S_IFLNK,
            Self::Descriptors | Self::Tasks => linux::S_IFDIR,
        }
    }
}

/// Entries: name, what it is, permissions.
static ENTRIES: &[(&str, Node, u32)] = &[
    ("cmdline", Node::Text(command_line), 0o444),
    ("comm", Node::Text(comm), 0o644),
    ("cwd", Node::Place(|process| Some(process.fs.borrow().cwd.clone())), 0o777),
    ("environ", Node::Text(environment), 0o400),
    ("exe", Node::Place(|process| process.program.borrow().file.clone()), 0o777),
    ("fd", Node::Descriptors, 0o500),
    ("limits", Node::Text(limits), 0o444),
    ("maps", Node::Text(maps), 0o444),
    ("mounts", Node::Text(mounts), 0o444),
    ("mountinfo", Node::Text(mount_info), 0o444),
    ("mountstats", Node::Text(mount_statistics), 0o400),
    ("root", Node::Place(|process| Some(process.fs.borrow().root.clone())), 0o777),
    ("stat", Node::Text(stat), 0o444),
    ("statm", Node::Text(memory_sizes), 0o444),
    ("status", Node::Text(status), 0o444),
    ("task", Node::Tasks, 0o555),
];

fn snapshot(shared: &Shared, pid: Pid) -> Result<Snapshot> {
    shared.server()?.snapshot(pid).ok_or(Errno::ESRCH)
}

fn live(shared: &Shared, pid: Pid) -> Result<Rc<Process>> {
    shared.server()?.process(pid).ok_or(Errno::ENOENT)
}

/// Who owns a process's files: its effective user and group; the superuser once it has ended.
fn owner(shared: &Shared, pid: Pid) -> (u32, u32) {
    live(shared, pid).map_or((0, 0), |process| {
        let credentials = process.credentials();
        (credentials.euid, credentials.egid)
    })
}

/// Whether a directory shows a process or one of its threads, which looks the same but has no threads of its own: whoever
/// walks the tree comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Process,
    Thread(Pid),
}

impl Level {
    fn shows(self, node: Node) -> bool {
        match (self, node) {
            (Self::Process, _) => true,
            (Self::Thread(_), Node::Tasks) => false,
            (Self::Thread(_), Node::Text(_) | Node::Place(_) | Node::Descriptors) => true,
        }
    }

    /// The number from which the inodes of the directory count.
    fn first_inode(self, pid: Pid) -> u64 {
        match self {
            Self::Process => pid as u64 * INODES_PER_PROCESS,
            Self::Thread(tid) => tid as u64 * INODES_PER_PROCESS + FIRST_THREAD_INODE,
        }
    }
}

/// The directory of a process. `ENOENT` if there is none.
pub(super) fn directory(shared: &Shared, pid: Pid) -> Result<Rc<Inode>> {
    snapshot(shared, pid).map_err(|_| Errno::ENOENT)?;
    Ok(directory_of(shared, pid, Level::Process))
}

fn directory_of(shared: &Shared, pid: Pid, level: Level) -> Rc<Inode> {
    let body = Body::Directory(Box::new(ProcessDirectory { shared: shared.clone(), pid, level }));
    shared.inode(level.first_inode(pid), 0o555, owner(shared, pid), body)
}

struct ProcessDirectory {
    shared: Shared,
    pid: Pid,
    level: Level,
}

impl Directory for ProcessDirectory {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let (shared, pid) = (self.shared.clone(), self.pid);
        snapshot(&shared, pid).map_err(|_| Errno::ENOENT)?;
        let mut entries = ENTRIES.iter().enumerate();
        let (index, (_, node, permissions)) =
            entries.find(|(_, (entry, ..))| entry.as_bytes() == name).ok_or(Errno::ENOENT)?;
        if !self.level.shows(*node) {
            return Err(Errno::ENOENT);
        }
        let body = match *node {
            Node::Text(generate) => Body::Generated(Box::new(ProcessText { shared, pid, generate })),
            Node::Place(place) => Body::Link(Box::new(PlaceLink { shared, pid, place })),
            Node::Descriptors => Body::Directory(Box::new(Descriptors { shared, pid })),
            Node::Tasks => Body::Directory(Box::new(Tasks { shared, pid })),
        };
        let number = self.level.first_inode(pid) + 1 + index as u64;
        let inode = self.shared.inode(number, *permissions, owner(&self.shared, pid), body);
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        for (index, (name, node, _)) in ENTRIES.iter().enumerate().skip((from - FIRST_ENTRY.min(from)) as usize) {
            let entry = Entry {
                name: name.as_bytes(),
                inode: self.level.first_inode(self.pid) + 1 + index as u64,
                file_type: node.file_type(),
                next: FIRST_ENTRY + index as u64 + 1,
            };
            if self.level.shows(*node) && each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

struct ProcessText {
    shared: Shared,
    pid: Pid,
    generate: fn(&Snapshot) -> Result<Vec<u8>>,
}

impl Generator for ProcessText {
    fn generate(&self) -> Result<Vec<u8>> {
        (self.generate)(&snapshot(&self.shared, self.pid)?)
    }
}

/// Whether somebody may look into a process: its own user, or the superuser (`ptrace(2)`, access mode checking).
fn check_inspection(shared: &Shared, context: &FsContext, target: &Process) -> Result<()> {
    let caller: Rc<Credentials> = live(shared, context.pid)?.credentials();
    let credentials = target.credentials();
    let same = [credentials.uid, credentials.euid, credentials.suid].iter().all(|uid| *uid == caller.fsuid);
    if same || caller.is_privileged() { Ok(()) } else { Err(Errno::EACCES) }
}

/// A link to a place that a process has.
struct PlaceLink {
    shared: Shared,
    pid: Pid,
    place: fn(&Process) -> Option<Location>,
}

impl PlaceLink {
    fn place(&self, context: &FsContext) -> Result<Location> {
        let process = live(&self.shared, self.pid)?;
        check_inspection(&self.shared, context, &process)?;
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

/// `/proc/PID/fd`.
struct Descriptors {
    shared: Shared,
    pid: Pid,
}

impl Directory for Descriptors {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let fd = parse_number(name).ok_or(Errno::ENOENT)?;
        let process = live(&self.shared, self.pid)?;
        let file = process.files.borrow().get(fd).map_err(|_| Errno::ENOENT)?;
        let access = file.access();
        let read = if access.can_read() { linux::S_IRUSR } else { 0 };
        let write = if access.can_write() { linux::S_IWUSR } else { 0 };
        let body = Body::Link(Box::new(DescriptorLink { shared: self.shared.clone(), pid: self.pid, fd }));
        let number = self.pid as u64 * INODES_PER_PROCESS + FIRST_DESCRIPTOR_INODE + fd as u64;
        let permissions = linux::S_IXUSR | read | write;
        let inode = self.shared.inode(number, permissions, owner(&self.shared, self.pid), body);
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        let process = live(&self.shared, self.pid)?;
        let first = u32::try_from(from - FIRST_ENTRY.min(from)).unwrap_or(u32::MAX);
        let open: Vec<i32> = process.files.borrow().range(first, u32::MAX).collect();
        for fd in open {
            let name = format!("{fd}");
            let entry = Entry {
                name: name.as_bytes(),
                inode: self.pid as u64 * INODES_PER_PROCESS + FIRST_DESCRIPTOR_INODE + fd as u64,
                file_type: linux::S_IFLNK,
                next: FIRST_ENTRY + fd as u64 + 1,
            };
            if each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

/// A link to an open file.
struct DescriptorLink {
    shared: Shared,
    pid: Pid,
    fd: i32,
}

impl DescriptorLink {
    fn file(&self, context: &FsContext) -> Result<Rc<crate::file::OpenFile>> {
        let process = live(&self.shared, self.pid)?;
        check_inspection(&self.shared, context, &process)?;
        let file = process.files.borrow().get(self.fd);
        file.map_err(|_| Errno::ENOENT)
    }
}

impl Link for DescriptorLink {
    fn text(&self, context: &FsContext) -> Result<Vec<u8>> {
        let file = self.file(context)?;
        if let Some(location) = file.location() {
            return Ok(location.shown_path(&context.root));
        }
        let kind = if file.ops().pipe().is_some() { "pipe" } else { "anon_inode" };
        Ok(format!("{kind}:[{}]", file.inode().number()).into_bytes())
    }

    fn target(&self, context: &FsContext) -> Result<Target> {
        let file = self.file(context)?;
        match file.location() {
            Some(location) => Ok(Target::Place(location.clone())),
            // A file without a name gets a place of its own, so that it can be opened anew.
            None => {
                let dentry = Dentry::root(file.inode().clone());
                Ok(Target::Place(context.root.with(dentry)))
            }
        }
    }
}

/// `/proc/PID/task`: a directory for each thread, which shows the process.
struct Tasks {
    shared: Shared,
    pid: Pid,
}

impl Directory for Tasks {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let tid = parse_number(name).ok_or(Errno::ENOENT)?;
        if !snapshot(&self.shared, self.pid)?.tids.contains(&tid) {
            return Err(Errno::ENOENT);
        }
        Ok(Dentry::new(this, name, directory_of(&self.shared, self.pid, Level::Thread(tid))))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        let mut tids = snapshot(&self.shared, self.pid)?.tids;
        tids.sort_unstable();
        for tid in tids {
            let position = FIRST_ENTRY + tid as u64;
            let name = format!("{tid}");
            let inode = Level::Thread(tid).first_inode(self.pid);
            let entry = Entry { name: name.as_bytes(), inode, file_type: linux::S_IFDIR, next: position + 1 };
            if position >= from && each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

// ---- texts -----------------------------------------------------------------------------------------------------------

/// The most that is read of a process's strings, in bytes.
const MAX_STRINGS_BYTES: u64 = 1 << 20;

/// What lies between two addresses of a process; less if it can't be read.
fn read_strings(process: &Process, start: u64, end: u64) -> Vec<u8> {
    let length = end.saturating_sub(start).min(MAX_STRINGS_BYTES) as usize;
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length).is_err() {
        return bytes;
    }
    bytes.resize(length, 0);
    let read = process.space().read(start, &mut bytes);
    bytes.truncate(read);
    bytes
}

fn command_line(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let Some(process) = &snapshot.process else { return Ok(Vec::new()) };
    let [start, end, ..] = process.program.borrow().strings;
    let now = read_strings(process, start, end);
    Ok(if now.is_empty() { snapshot.arguments.clone() } else { now })
}

fn environment(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let Some(process) = &snapshot.process else { return Ok(Vec::new()) };
    let [_, _, start, end] = process.program.borrow().strings;
    Ok(read_strings(process, start, end))
}

fn comm(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut text = snapshot.name.clone();
    text.push(b'\n');
    Ok(text)
}

fn push_area(text: &mut Vec<u8>, area: &Area, root: Option<&Location>) {
    let flag = |bit, letter| if area.protection.contains(bit) { letter } else { '-' };
    let shared = if area.sharing == Sharing::Shared { 's' } else { 'p' };
    let (device, inode) = match &area.content {
        Content::File(file, _) => (file.inode.filesystem().device(), file.inode.number()),
        Content::Anonymous | Content::Heap | Content::Stack | Content::SharedAnonymous(..) => Default::default(),
    };
    let mut line = String::new();
    add!(line, "{:08x}-{:08x} ", area.start, area.end);
    add!(line, "{}{}", flag(Protection::READ, 'r'), flag(Protection::WRITE, 'w'));
    add!(line, "{}{shared} ", flag(Protection::EXECUTE, 'x'));
    add!(line, "{:08x} {:02x}:{:02x} {inode} ", area.content.offset(), device.major, device.minor);
    let name = match (&area.content, root) {
        (Content::File(file, _), Some(root)) => {
            file.location.as_ref().map(|location| location.shown_path(root)).unwrap_or_default()
        }
        (Content::Heap, _) => b"[heap]".to_vec(),
        (Content::Stack, _) => b"[stack]".to_vec(),
        (Content::SharedAnonymous(..), _) => b"/dev/zero (deleted)".to_vec(),
        (Content::File(..), None) | (Content::Anonymous, _) => Vec::new(),
    };
    if !name.is_empty() {
        /// Names begin at this column, as Linux has it.
        const NAME_COLUMN: usize = 73;
        while line.len() < NAME_COLUMN {
            line.push(' ');
        }
    }
    text.extend_from_slice(line.as_bytes());
    text.extend_from_slice(&name);
    text.push(b'\n');
}

fn maps(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let root = snapshot.process.as_ref().map(|process| process.fs.borrow().root.clone());
    let mut text = Vec::new();
    snapshot.areas.iter().for_each(|area| push_area(&mut text, area, root.as_ref()));
    Ok(text)
}

/// What a table of mounts says to the process.
fn mount_table(snapshot: &Snapshot, table: fn(&FsContext) -> Vec<u8>) -> Result<Vec<u8>> {
    let process = snapshot.process.as_ref().ok_or(Errno::EINVAL)?;
    let context = process.fs.borrow().clone();
    Ok(table(&context))
}

fn mounts(snapshot: &Snapshot) -> Result<Vec<u8>> {
    mount_table(snapshot, crate::fs::mount_table::mounts)
}

fn mount_info(snapshot: &Snapshot) -> Result<Vec<u8>> {
    mount_table(snapshot, crate::fs::mount_table::mount_info)
}

fn mount_statistics(snapshot: &Snapshot) -> Result<Vec<u8>> {
    mount_table(snapshot, crate::fs::mount_table::mount_statistics)
}

/// The numbers of `stat`, in the order of `proc(5)`, from the third field on.
fn stat(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let terminal = snapshot.process.as_ref().and_then(|process| process.server.controlling_terminal(snapshot.session));
    let (terminal_number, foreground) = match &terminal {
        Some(terminal) => (crate::dev::SERIAL.encoded(), terminal.foreground()),
        None => (0, -1),
    };
    let usage = snapshot.process.as_ref().map(|process| process.usage()).unwrap_or_default();
    let children = snapshot.process.as_ref().map(|process| process.children_usage.get()).unwrap_or_default();
    let mut text = String::new();
    add!(text, "{} ({}) ", snapshot.pid, String::from_utf8_lossy(&snapshot.name));
    add!(text, "{} {} {} {} ", char::from(snapshot.state), snapshot.parent, snapshot.group, snapshot.session);
    // Flags, and faults: minor, major, of the process and of its children.
    add!(text, "{terminal_number} {foreground} 0 0 0 0 0 ");
    // Time of the process in user and system mode, and that of its children.
    add!(text, "{} {} ", usage.user_ns / NS_PER_TICK, usage.system_ns / NS_PER_TICK);
    add!(text, "{} {} ", children.user_ns / NS_PER_TICK, children.system_ns / NS_PER_TICK);
    // Priority, nice value, threads, an obsolete field, start.
    add!(text, "20 0 {} 0 {} ", snapshot.threads, snapshot.start_ns / NS_PER_TICK);
    add!(text, "{} {} {} ", snapshot.virtual_bytes, snapshot.resident_pages, u64::MAX);
    // Addresses, signals, and the rest, which nobody may know or which is not counted.
    add!(text, "0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(text.into_bytes())
}

fn memory_sizes(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let pages = snapshot.virtual_bytes / PAGE_SIZE;
    Ok(format!("{pages} {} 0 0 0 {pages} 0\n", snapshot.resident_pages).into_bytes())
}

fn state_name(state: u8) -> &'static str {
    match state {
        b'R' => "R (running)",
        b'T' => "T (stopped)",
        b'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    }
}

fn status(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let credentials = snapshot.process.as_ref().map(|process| process.credentials());
    let credentials = credentials.unwrap_or_else(|| Rc::new(Credentials::root()));
    let umask = snapshot.process.as_ref().map(|process| process.fs.borrow().umask).unwrap_or_default();
    let mut text = String::new();
    add!(text, "Name:\t{}\nUmask:\t{umask:04o}\n", String::from_utf8_lossy(&snapshot.name));
    add!(text, "State:\t{}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\n", state_name(snapshot.state), snapshot.pid, snapshot.pid);
    add!(text, "PPid:\t{}\nTracerPid:\t0\n", snapshot.parent);
    add!(text, "Uid:\t{}\t{}\t", credentials.uid, credentials.euid);
    add!(text, "{}\t{}\n", credentials.suid, credentials.fsuid);
    add!(text, "Gid:\t{}\t{}\t", credentials.gid, credentials.egid);
    add!(text, "{}\t{}\nFDSize:\t64\nGroups:\t", credentials.sgid, credentials.fsgid);
    for group in credentials.groups.iter() {
        add!(text, "{group} ");
    }
    let resident = snapshot.resident_pages * (PAGE_SIZE / KIB);
    add!(text, "\nVmPeak:\t{0:8} kB\nVmSize:\t{0:8} kB\n", snapshot.virtual_bytes / KIB);
    add!(text, "VmRSS:\t{resident:8} kB\nThreads:\t{}\n", snapshot.threads);
    if let Some(process) = &snapshot.process {
        let signals = process.signals.borrow();
        let mask = process.threads().first().map(|thread| thread.mask().0).unwrap_or_default();
        add!(text, "SigPnd:\t{:016x}\nShdPnd:\t{:016x}\n", 0, signals.pending.set().0);
        add!(text, "SigBlk:\t{mask:016x}\n");
    }
    Ok(text.into_bytes())
}

fn limits(snapshot: &Snapshot) -> Result<Vec<u8>> {
    /// Name, number and unit of the limits that are enforced.
    const SHOWN: [(&str, u32, &str); 4] = [
        ("Max file size", linux::RLIMIT_FSIZE, "bytes"),
        ("Max stack size", linux::RLIMIT_STACK, "bytes"),
        ("Max processes", linux::RLIMIT_NPROC, "processes"),
        ("Max open files", linux::RLIMIT_NOFILE, "files"),
    ];
    let mut text = format!("{:<26}{:<21}{:<21}{:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    if let Some(process) = &snapshot.process {
        let shown = |limit: u64| if limit == u64::MAX { String::from("unlimited") } else { format!("{limit}") };
        for (name, resource, unit) in SHOWN {
            let soft = shown(process.limit(resource));
            let hard = shown(process.limits.get().get(resource).map_or(u64::MAX, |limit| limit.hard));
            add!(text, "{name:<26}{soft:<21}{hard:<21}{unit:<10}\n");
        }
    }
    Ok(text.into_bytes())
}
