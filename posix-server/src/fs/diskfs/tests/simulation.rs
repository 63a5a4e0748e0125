//! A simulated file server: a model of a file system, of which a part is durable. It dies, loses answers, and has successors.

extern crate std;

use crate::errno::{Errno, Result};
use crate::fs::diskfs::server::{Answer, Enclosed, FileServer};
use crate::platform::{LocalFuture, Memory, PAGE_SIZE, Pager};
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::files::entry::{Attributes, Entry, xattr};
use driver_protocol::files::operation::{Operation, Rename, Set, operations};
use driver_protocol::files::{Applied, Filled, LAST_COOKIE, News, Refused, Request, Status, Volume, notes};
use linux_raw_sys::general as linux;
use std::collections::BTreeMap;
use std::string::String;
use std::vec;

pub(crate) const ROOT: u64 = 2;
/// How many entries one answer to `List` has.
const ENTRIES: usize = 3;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) names: BTreeMap<Vec<u8>, u64>,
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file system, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<u64, Node>,
    applied: u64,
}

impl Model {
    pub(crate) fn node(&self, number: u64) -> &Node {
        self.nodes.get(&number).unwrap_or_else(|| panic!("there is no inode {number}"))
    }

    fn node_mut(&mut self, number: u64) -> &mut Node {
        self.nodes.get_mut(&number).unwrap_or_else(|| panic!("there is no inode {number}"))
    }

    fn touch_names(&mut self, number: u64, time: i64) {
        let attributes = &mut self.node_mut(number).attributes;
        (attributes.modified, attributes.changed) = (time, time);
    }

    fn add_name(&mut self, parent: u64, name: &[u8], inode: u64, time: i64) {
        assert_eq!(self.node_mut(parent).names.insert(name.to_vec(), inode), None);
        self.node_mut(parent).attributes.links += u32::from(is_directory(self.node(inode)));
        self.touch_names(parent, time);
        self.node_mut(inode).attributes.changed = time;
    }

    fn take_name(&mut self, parent: u64, name: &[u8], inode: u64, time: i64) {
        assert_eq!(self.node_mut(parent).names.remove(name), Some(inode));
        self.node_mut(parent).attributes.links -= u32::from(is_directory(self.node(inode)));
        self.touch_names(parent, time);
        self.node_mut(inode).attributes.changed = time;
    }

    fn apply(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Create { parent, inode, name, mode, uid, gid, time, device, target } => {
                let links = if mode & linux::S_IFMT == linux::S_IFDIR { 2 } else { u32::from(parent != 0) };
                let (size, times) = (target.len() as u64, (time, time, time, time));
                let (accessed, modified, changed, born) = times;
                let attributes = Attributes {
                    inode,
                    mode,
                    uid,
                    gid,
                    links,
                    size,
                    accessed,
                    modified,
                    changed,
                    born,
                    device,
                    ..Attributes::default()
                };
                let node = Node { attributes, target: target.to_vec(), ..Node::default() };
                assert_eq!(self.nodes.insert(inode, node), None);
                if parent != 0 {
                    self.add_name(parent, name, inode, time);
                }
            }
            Operation::Link { parent, inode, name, time } => {
                self.node_mut(inode).attributes.links += 1;
                self.add_name(parent, name, inode, time);
            }
            Operation::Unlink { parent, inode, name, time } => {
                self.take_name(parent, name, inode, time);
                self.node_mut(inode).attributes.links -= 1;
            }
            Operation::RemoveDirectory { parent, inode, name, time } => {
                assert!(self.node(inode).names.is_empty());
                self.take_name(parent, name, inode, time);
                self.node_mut(inode).attributes.links = 0;
            }
            Operation::Rename { old_parent, old_name, new_parent, new_name, inode, other, how, time } => {
                self.take_name(old_parent, old_name, inode, time);
                if other != 0 {
                    self.take_name(new_parent, new_name, other, time);
                }
                match how {
                    Rename::Replace if other != 0 => {
                        let gone = if is_directory(self.node(other)) { 2 } else { 1 };
                        self.node_mut(other).attributes.links -= gone;
                    }
                    Rename::Exchange => self.add_name(old_parent, old_name, other, time),
                    Rename::Replace => {}
                }
                self.add_name(new_parent, new_name, inode, time);
            }
            Operation::SetAttributes { inode, set, values } => self.set(inode, set, &values),
            Operation::SetXattr { inode, name, value, time } => {
                self.node_mut(inode).xattrs.insert(name.to_vec(), value.to_vec());
                let attributes = &mut self.node_mut(inode).attributes;
                (attributes.changed, attributes.has_xattrs) = (time, true);
            }
            Operation::RemoveXattr { inode, name, time } => {
                assert!(self.node_mut(inode).xattrs.remove(name).is_some());
                self.node_mut(inode).attributes.changed = time;
            }
            Operation::Forget { inode } => {
                let node = self.nodes.remove(&inode).unwrap();
                assert_eq!(node.attributes.links, 0);
            }
            Operation::Allocate { .. } | Operation::Punch { .. } => {}
        }
    }

    fn set(&mut self, inode: u64, set: Set, values: &driver_protocol::files::operation::Values) {
        let a = &mut self.node_mut(inode).attributes;
        if set.contains(Set::MODE) {
            a.mode = a.mode & linux::S_IFMT | values.mode & 0o7777;
        }
        if set.contains(Set::UID) {
            a.uid = values.uid;
        }
        if set.contains(Set::GID) {
            a.gid = values.gid;
        }
        if set.intersects(Set::SIZE | Set::GROWN) {
            a.size = values.size;
            a.blocks = values.size.div_ceil(PAGE_SIZE) * 8;
        }
        if set.contains(Set::ACCESSED) {
            a.accessed = values.accessed;
        }
        if set.contains(Set::MODIFIED) {
            a.modified = values.modified;
        }
        if set.contains(Set::CHANGED) {
            a.changed = values.changed;
        }
    }

    /// All paths below an inode, with the inodes.
    pub(crate) fn tree(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, number)) = open.pop() {
            for (name, inode) in &self.node(number).names {
                open.push((std::format!("{path}/{}", String::from_utf8_lossy(name)), *inode));
            }
            found.insert(path, number);
        }
        found
    }
}

fn is_directory(node: &Node) -> bool {
    node.attributes.mode & linux::S_IFMT == linux::S_IFDIR
}

struct ServedFile {
    inode: u64,
    slot: u64,
    pager: Pager,
    memory: Memory,
}

/// What a server does wrong next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It dies before it does what it is asked for.
    DiesBefore,
    /// It dies after that, and the answer is lost.
    DiesAfter,
}

#[derive(Default)]
pub(crate) struct SimulatedServer {
    pub(crate) model: RefCell<Model>,
    pub(crate) durable: RefCell<Model>,
    /// First bytes of pages on the disk: inode, page.
    pub(crate) data: RefCell<BTreeMap<(u64, u64), u8>>,
    pub(crate) heard: RefCell<Vec<Request>>,
    served: RefCell<Vec<ServedFile>>,
    notes: RefCell<Option<Memory>>,
    next_number: Cell<u64>,
    is_mounted: Cell<bool>,
    deaths: Rc<Cell<u64>>,
    news: Rc<Cell<u64>>,
    changed: WaitQueue,
    /// On the how-manieth `Apply` or `Commit` from now on what goes wrong.
    pub(crate) mishap: Cell<Option<(u32, Mishap)>>,
    pub(crate) fails_writebacks: Cell<bool>,
    /// An inode that makes no sense.
    pub(crate) unreadable: Cell<u64>,
    /// How files were told to be longer or shorter.
    pub(crate) sizes: RefCell<Vec<(Set, u64)>>,
    pub(crate) free_blocks: Cell<u64>,
    pub(crate) free_inodes: Cell<u64>,
}

impl SimulatedServer {
    pub(crate) fn new() -> Rc<Self> {
        let server = Self::default();
        let attributes =
            Attributes { inode: ROOT, mode: linux::S_IFDIR | 0o755, links: 2, size: 4096, ..Attributes::default() };
        server.model.borrow_mut().nodes.insert(ROOT, Node { attributes, ..Node::default() });
        server.durable.replace(server.model.borrow().clone());
        server.next_number.set(11);
        server.free_blocks.set(10_000);
        server.free_inodes.set(1_000_000);
        Rc::new(server)
    }

    /// It dies; what was not durable is gone. Its successor knows nothing.
    pub(crate) fn die(&self) {
        self.model.replace(self.durable.borrow().clone());
        self.is_mounted.set(false);
        self.served.borrow_mut().clear();
        self.deaths.set(self.deaths.get() + 1);
        self.changed.wake();
    }

    /// Fills pages that are waited for, and takes those that were stored to.
    pub(crate) fn page(&self) {
        let applied = self.model.borrow().applied;
        for file in self.served.borrow().iter() {
            let needed = [notes::CUT, notes::SIZE].map(|field| self.note(notes::slot_offset(file.slot) + field));
            let dirty = file.pager.dirty();
            if needed.iter().any(|sequence| *sequence > applied)
                && !(dirty.is_empty() && file.pager.wanted().is_empty())
            {
                self.news.set(self.news.get() | News::SEND.bits());
                self.changed.wake();
                continue;
            }
            for page in file.pager.wanted() {
                file.pager.supply(page, self.data.borrow().get(&(file.inode, page)).copied().unwrap_or_default());
            }
            if dirty.is_empty() {
                continue;
            }
            if self.fails_writebacks.get() {
                file.pager.fail();
                continue;
            }
            if needed.iter().any(|sequence| *sequence > self.durable.borrow().applied) {
                // What was written is not lost with the server.
                self.durable.replace(self.model.borrow().clone());
            }
            let pages = self.model.borrow().node(file.inode).attributes.size.div_ceil(PAGE_SIZE);
            for page in dirty {
                assert!(page < pages, "a page beyond the end of inode {}", file.inode);
                let mut byte = [0];
                file.memory.read(page * PAGE_SIZE, &mut byte);
                if self.data.borrow_mut().insert((file.inode, page), byte[0]).is_none() {
                    self.free_blocks.set(self.free_blocks.get().saturating_sub(1));
                }
            }
            file.pager.written();
        }
    }

    fn note(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.notes.borrow().as_ref().unwrap().read(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn status(&self) -> Status {
        let (applied, durable) = (self.model.borrow().applied, self.durable.borrow().applied);
        Status {
            free_blocks: self.free_blocks.get(),
            reserved_blocks: 0,
            free_inodes: self.free_inodes.get(),
            applied,
            durable,
        }
    }

    fn serve(&self, request: Request, send: &[u8], enclosed: Enclosed<'_>) -> Answer {
        if !self.is_mounted.get() && !matches!(request, Request::Mount { .. }) {
            return refusal(Refused::NotMounted);
        }
        match (request, enclosed) {
            (Request::Mount { .. }, Enclosed::Notes(memory)) => {
                self.notes.replace(Some(memory.clone()));
                self.is_mounted.set(true);
                let volume = Volume {
                    root: ROOT,
                    block_bytes: 4096,
                    blocks: 20_000,
                    inodes: 2_000_000,
                    max_file_bytes: 1 << 44,
                    max_links: 65_000,
                    max_xattr_bytes: 4000,
                    status: self.status(),
                    version: 4,
                    ..Volume::default()
                };
                Answer { bytes: volume.encode().to_vec(), ..Answer::default() }
            }
            (Request::Status, _) => Answer { words: self.status().encode(), ..Answer::default() },
            (Request::Load { inode }, _) if inode == self.unreadable.get() => refusal(Refused::Corrupt),
            (Request::Load { inode }, _) => {
                let model = self.model.borrow();
                let node = model.node(inode);
                let mut bytes = Vec::new();
                Entry { attributes: node.attributes, name: b"", target: &node.target }.encode(&mut bytes);
                filled(bytes, 0)
            }
            (Request::List { inode, cookie }, _) => self.list(inode, cookie),
            (Request::Xattrs { inode }, _) => {
                let mut bytes = Vec::new();
                for (name, value) in &self.model.borrow().node(inode).xattrs {
                    xattr::Xattr { name, value }.encode(&mut bytes);
                }
                let length = bytes.len() as u64;
                filled(bytes, length)
            }
            (Request::Reserve { count, .. }, _) => {
                let count = count.min(self.free_inodes.get());
                self.free_inodes.set(self.free_inodes.get() - count);
                let first = self.next_number.replace(self.next_number.get() + count);
                if count == 0 {
                    return refusal(Refused::NoInodes);
                }
                filled((first..first + count).flat_map(u64::to_le_bytes).collect(), 0)
            }
            (Request::Apply { first, count }, _) => {
                let mut model = self.model.borrow_mut();
                assert!(first <= model.applied + 1, "operations are missing");
                assert_eq!(operations(send).count() as u64, count);
                for (sequence, operation) in (first..).zip(operations(send)) {
                    if sequence == model.applied + 1 {
                        model.apply(&operation);
                        self.cut(&operation);
                        model.applied = sequence;
                    }
                }
                drop(model);
                Answer { words: Applied { status: self.status(), refused: None }.encode(), ..Answer::default() }
            }
            (Request::Commit { sequence }, _) => {
                assert!(sequence <= self.model.borrow().applied);
                self.durable.replace(self.model.borrow().clone());
                Answer::default()
            }
            (Request::Serve { inode, slot }, Enclosed::File(pager, memory)) => {
                self.model.borrow().node(inode);
                assert!(self.served.borrow().iter().all(|file| file.inode != inode && file.slot != slot));
                let file = ServedFile { inode, slot, pager: pager.clone(), memory: memory.clone() };
                self.served.borrow_mut().push(file);
                Answer::default()
            }
            (Request::Release { inode }, _) => {
                self.served.borrow_mut().retain(|file| file.inode != inode);
                Answer::default()
            }
            (Request::Unmount, _) => {
                self.model.borrow_mut().applied = 0;
                self.durable.replace(self.model.borrow().clone());
                self.is_mounted.set(false);
                Answer::default()
            }
            (Request::Remount { .. }, _) => Answer::default(),
            (_, _) => refusal(Refused::Unknown),
        }
    }

    fn list(&self, inode: u64, cookie: u64) -> Answer {
        let model = self.model.borrow();
        let names = &model.node(inode).names;
        let mut bytes = Vec::new();
        for (name, number) in names.iter().skip(cookie as usize).take(ENTRIES) {
            let node = model.node(*number);
            let mut attributes = node.attributes;
            if attributes.inode == self.unreadable.get() {
                let (inode, mode) = (attributes.inode, attributes.mode & linux::S_IFMT);
                attributes = Attributes { inode, mode, ..Attributes::default() };
            }
            Entry { attributes, name, target: &node.target }.encode(&mut bytes);
        }
        let next = cookie + ENTRIES as u64;
        filled(bytes, if next as usize >= names.len() { LAST_COOKIE } else { next })
    }

    /// Forgets the pages that an operation cuts off.
    fn cut(&self, operation: &Operation<'_>) {
        let Operation::SetAttributes { inode, set, values } = *operation else { return };
        if set.intersects(Set::SIZE | Set::GROWN) {
            self.sizes.borrow_mut().push((set & (Set::SIZE | Set::GROWN), values.size));
        }
        if set.contains(Set::SIZE) {
            let pages = values.size.div_ceil(PAGE_SIZE);
            self.data.borrow_mut().retain(|(owner, page), _| *owner != inode || *page < pages);
        }
    }

    fn due_mishap(&self, request: Request) -> Option<Mishap> {
        if !matches!(request, Request::Apply { .. } | Request::Commit { .. }) {
            return None;
        }
        match self.mishap.get()? {
            (0, mishap) => {
                self.mishap.set(None);
                Some(mishap)
            }
            (more, mishap) => {
                self.mishap.set(Some((more - 1, mishap)));
                None
            }
        }
    }
}

fn refusal(refused: Refused) -> Answer {
    Answer { label: refused as u64, ..Answer::default() }
}

fn filled(bytes: Vec<u8>, next: u64) -> Answer {
    Answer { words: Filled { len_bytes: bytes.len() as u64, next }.encode(), bytes, ..Answer::default() }
}

impl FileServer for Rc<SimulatedServer> {
    fn call(
        &self,
        request: Request,
        send: Vec<u8>,
        _receive_bytes: usize,
        enclosed: Enclosed<'_>,
    ) -> LocalFuture<Result<Answer>> {
        self.heard.borrow_mut().push(request);
        if request == Request::Watch && self.is_mounted.get() {
            let (before, this) = (self.deaths.get(), self.clone());
            return Box::pin(async move {
                loop {
                    let listener = this.changed.listen();
                    if this.deaths.get() != before {
                        return Err(Errno::ESRCH);
                    }
                    let news = this.news.take();
                    if news != 0 {
                        return Ok(Answer { words: [news, 0, 0, 0, 0, 0, 0, 0], ..Answer::default() });
                    }
                    listener.await;
                }
            });
        }
        let answer = match self.due_mishap(request) {
            Some(Mishap::DiesBefore) => Err(Errno::ESRCH),
            Some(Mishap::DiesAfter) => {
                self.serve(request, &send, enclosed);
                Err(Errno::ESRCH)
            }
            None => Ok(self.serve(request, &send, enclosed)),
        };
        if answer.is_err() {
            self.die();
        }
        Box::pin(async move { answer })
    }
}
