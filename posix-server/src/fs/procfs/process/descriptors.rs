//! Descriptors: `/proc/PID/fd` leads to the files, `/proc/PID/fdinfo` tells how they are open.

use super::subject::check_inspection;
use super::{FIRST_DESCRIPTOR_INODE, FIRST_STATE_INODE, Whose, parse_number};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::counter::Taking;
use crate::file::{OnExec, OpenFile};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Generator, Link, Listing, Target};
use crate::fs::procfs::{add, check_name};
use crate::fs::{Body, Dentry, FsContext};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

impl Whose {
    fn file(&self, fd: i32) -> Result<Rc<OpenFile>> {
        let file = self.process()?.files.borrow().slots().get(fd);
        file.map_err(|_| Errno::ENOENT)
    }

    fn list_descriptors(
        &self,
        (first_inode, file_type): (u64, u32),
        from: u64,
        each: &mut dyn FnMut(Entry<'_>) -> Listing,
    ) -> Result<()> {
        let first = u32::try_from(from - FIRST_ENTRY.min(from)).unwrap_or(u32::MAX);
        let open: Vec<i32> = self.process()?.files.borrow().slots().range(first, u32::MAX).collect();
        for fd in open {
            let name = format!("{fd}");
            let inode = self.first_inode() + first_inode + fd as u64;
            let entry = Entry { name: name.as_bytes(), inode, file_type, next: FIRST_ENTRY + fd as u64 + 1 };
            if each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

/// `/proc/PID/fd`.
pub(super) struct Descriptors(pub Whose);

impl Directory for Descriptors {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let fd = parse_number(name).ok_or(Errno::ENOENT)?;
        let access = self.0.file(fd)?.access();
        let read = if access.can_read() { linux::S_IRUSR } else { 0 };
        let write = if access.can_write() { linux::S_IWUSR } else { 0 };
        let body = Body::Link(Box::new(DescriptorLink { whose: self.0.clone(), fd }));
        let inode = self.0.inode(FIRST_DESCRIPTOR_INODE + fd as u64, linux::S_IXUSR | read | write, body)?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        self.0.list_descriptors((FIRST_DESCRIPTOR_INODE, linux::S_IFLNK), from, each)
    }
}

/// What is shown of a file without a name.
fn nameless(file: &OpenFile) -> String {
    let number = file.inode().number();
    match (file.inode().body(), file.ops().event_file()) {
        (Body::Fifo(_), _) => format!("pipe:[{number}]"),
        (Body::Socket, _) => format!("socket:[{number}]"),
        (_, Some(EventFile::Epoll(_))) => String::from("anon_inode:[eventpoll]"),
        (_, Some(EventFile::Timer(_))) => String::from("anon_inode:[timerfd]"),
        (_, Some(EventFile::Signals(_))) => String::from("anon_inode:[signalfd]"),
        (_, Some(EventFile::Process(_))) => String::from("anon_inode:[pidfd]"),
        (_, Some(EventFile::Inotify(_))) => String::from("anon_inode:inotify"),
        (_, Some(EventFile::Counter(_))) | (Body::Anonymous, None) => String::from("anon_inode:[eventfd]"),
        (
            Body::Regular(_)
            | Body::Directory(_)
            | Body::Link(_)
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_)
            | Body::Generated(_),
            None,
        ) => format!("anon_inode:[{number}]"),
    }
}

/// What `fdinfo` adds for a file that is made to be waited for.
fn details(file: &OpenFile) -> String {
    let mut text = String::new();
    match file.ops().event_file() {
        Some(EventFile::Epoll(epoll)) => {
            for (fd, event) in epoll.watched() {
                let (events, data) = (event.events, event.data);
                add!(text, "tfd: {fd:8} events: {events:8x} data: {data:16x}  pos:0 ino:0 sdev:0\n");
            }
        }
        Some(EventFile::Signals(signals)) => {
            add!(text, "sigmask:\t{:016x}\n", signals.wanted().0);
        }
        Some(EventFile::Process(process)) => {
            add!(text, "Pid:\t{0}\nNSpid:\t{0}\n", process.pid());
        }
        Some(EventFile::Inotify(inotify)) => {
            for (watch, inode, mask) in inotify.watched() {
                add!(text, "inotify wd:{watch:x} ino:{inode:x} sdev:0 mask:{mask:x} ignored_mask:0 \n");
            }
        }
        Some(EventFile::Counter(counter)) => {
            let takes_one = u8::from(counter.taking() == Taking::One);
            let (count, number) = (counter.value(), file.id());
            add!(text, "eventfd-count: {count:16x}\neventfd-id: {number}\neventfd-semaphore: {takes_one}\n");
        }
        Some(EventFile::Timer(timer)) => {
            const NS_PER_SECOND: u64 = 1_000_000_000;
            let pair = |ns: u64| (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
            let (value, interval) = timer.left_ns();
            let ((value_s, value_ns), (interval_s, interval_ns)) = (pair(value), pair(interval));
            add!(text, "it_value: ({value_s}, {value_ns})\nit_interval: ({interval_s}, {interval_ns})\n");
        }
        None => {}
    }
    text
}

/// A link to an open file.
struct DescriptorLink {
    whose: Whose,
    fd: i32,
}

impl DescriptorLink {
    fn file(&self, context: &FsContext) -> Result<Rc<OpenFile>> {
        let file = self.whose.file(self.fd)?;
        check_inspection(&self.whose, context.pid, Errno::EACCES)?;
        Ok(file)
    }
}

impl Link for DescriptorLink {
    fn text(&self, context: &FsContext) -> Result<Vec<u8>> {
        let file = self.file(context)?;
        if let Some(location) = file.location() {
            return Ok(location.shown_path(&context.root));
        }
        Ok(nameless(&file).into_bytes())
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

    /// What Linux shows for these links.
    fn size(&self) -> u64 {
        64
    }
}

/// `/proc/PID/fdinfo`.
pub(super) struct States(pub Whose);

impl Directory for States {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let fd = parse_number(name).ok_or(Errno::ENOENT)?;
        self.0.file(fd)?;
        let body = Body::Generated(Box::new(DescriptorState { whose: self.0.clone(), fd }));
        let inode = self.0.inode(FIRST_STATE_INODE + fd as u64, 0o400, body)?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        self.0.list_descriptors((FIRST_STATE_INODE, linux::S_IFREG), from, each)
    }
}

struct DescriptorState {
    whose: Whose,
    fd: i32,
}

impl Generator for DescriptorState {
    fn generate(&self) -> Result<Vec<u8>> {
        let file = self.whose.file(self.fd)?;
        let on_exec = self.whose.process()?.files.borrow().slots().on_exec(self.fd)?;
        let closes = if on_exec == OnExec::Close { linux::O_CLOEXEC } else { 0 };
        let mount = file.location().map_or(0, |location| location.mount.id());
        let (position, flags, inode) = (file.position(), file.flags() | closes, file.inode().number());
        let common = format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n");
        Ok((common + &details(&file)).into_bytes())
    }
}
