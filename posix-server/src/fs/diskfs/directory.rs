//! A directory on a disk.
//!
//! Its names are loaded together when it is first used, with the attributes of what they name. A name *sleeps* until somebody looks it up:
//! then it gets a dentry and an inode, and is in [`Names`] like one of a file system in memory. What sleeps takes a quarter of the room.
//!
//! The attributes that came with a name are right as long as the name is the only one of the file: nothing can have changed them then
//! but through this name. A file with several names is asked for by its number, unless it is in memory.

use super::volume::{Volume, Want};
use crate::budget::Charge;
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Listing};
use crate::fs::content::Content;
use crate::fs::name_table::NameTable;
use crate::fs::tmpfs::{Names, check_name};
use crate::fs::{Body, Dentry, Name};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::files::entry::{self, Attributes};
use driver_protocol::files::{self, Filled, Request};
use linux_raw_sys::general as linux;

/// What a sleeping name takes of the server's memory besides its bytes, about.
const SLEEPING_BYTES: u64 = 288;

/// A name that nobody has looked up.
pub(super) struct Sleeping {
    name: Name,
    attributes: Attributes,
    target: Box<[u8]>,
}

impl Sleeping {
    fn len_bytes(&self) -> u64 {
        SLEEPING_BYTES + (self.name.len() + self.target.len()) as u64
    }
}

#[derive(Default)]
struct Asleep {
    by_name: NameTable<u64>,
    by_position: BTreeMap<u64, Sleeping>,
    _charge: Charge,
}

/// Whether a directory's names are in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unloaded,
    Loaded,
}

/// A directory.
pub(super) struct DiskDirectory {
    volume: Rc<Volume>,
    number: Cell<u64>,
    state: Cell<State>,
    names: Names,
    asleep: RefCell<Asleep>,
    size: u64,
    blocks: u64,
    /// Its name, by which the cache knows it.
    place: RefCell<Weak<Dentry>>,
}

impl DiskDirectory {
    /// One that is on the disk.
    pub(super) fn unloaded(volume: &Rc<Volume>, attributes: &Attributes) -> Self {
        let (number, size, blocks) = (attributes.inode, attributes.size, attributes.blocks);
        Self { number: Cell::new(number), size, blocks, ..Self::with_state(volume, State::Unloaded) }
    }

    /// A new one, without names.
    fn empty(volume: &Rc<Volume>) -> Self {
        let block_bytes = volume.geometry().block_bytes;
        Self { size: block_bytes, blocks: block_bytes / 512, ..Self::with_state(volume, State::Loaded) }
    }

    fn with_state(volume: &Rc<Volume>, state: State) -> Self {
        Self {
            volume: volume.clone(),
            number: Cell::new(0),
            state: Cell::new(state),
            names: Names::new(),
            asleep: RefCell::default(),
            size: 0,
            blocks: 0,
            place: RefCell::default(),
        }
    }

    /// Takes the names that were loaded.
    fn fill(&self, list: Vec<Sleeping>, charge: Charge) {
        if self.state.get() == State::Loaded {
            return;
        }
        let mut asleep = Asleep { _charge: charge, ..Asleep::default() };
        let mut position = FIRST_ENTRY;
        for sleeping in list {
            if asleep.by_name.get(&sleeping.name).is_some() {
                continue;
            }
            asleep.by_name.insert(sleeping.name.clone(), position);
            asleep.by_position.insert(position, sleeping);
            position += 1;
        }
        self.names.begin_at(position);
        let before = self.asleep.replace(asleep);
        drop(before);
        self.state.set(State::Loaded);
        if let Some(place) = self.place.borrow().upgrade() {
            self.volume.cache.note(&place);
        }
    }

    /// Gives a sleeping name its dentry. `ENOENT`.
    fn wake(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        let asleep = self.asleep.borrow();
        let position = *asleep.by_name.get(name).ok_or(Errno::ENOENT)?;
        let sleeping = asleep.by_position.get(&position).ok_or(Errno::ENOENT)?;
        let attributes = sleeping.attributes;
        let is_directory = attributes.mode & linux::S_IFMT == linux::S_IFDIR;
        // One that could not be read with the others says itself why.
        let is_unsure = attributes.links == 0 || attributes.links > 1 && !is_directory;
        if is_unsure && self.volume.known(attributes.inode).is_none() {
            return Err(self.volume.want_inode(attributes.inode));
        }
        let inode = self.volume.inode(&attributes, &sleeping.target)?;
        drop(asleep);
        let dentry = Dentry::stored(this, name, inode)?;
        let mut asleep = self.asleep.borrow_mut();
        asleep.by_name.remove(name);
        asleep.by_position.remove(&position);
        drop(asleep);
        self.names.insert_at(position, dentry.clone());
        Ok(dentry)
    }

    /// Where the sleeping name is that comes first from a position on, with what a listing shows of it.
    fn next_asleep(&self, from: u64) -> Option<(u64, Name, u64, u32)> {
        let asleep = self.asleep.borrow();
        let (position, sleeping) = asleep.by_position.range(from..).next()?;
        let file_type = sleeping.attributes.mode & linux::S_IFMT;
        Some((*position, sleeping.name.clone(), sleeping.attributes.inode, file_type))
    }
}

impl Directory for DiskDirectory {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        self.load(this)?;
        match self.names.get(name) {
            Some(found) => Ok(found),
            None => self.wake(this, name),
        }
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        if self.state.get() == State::Unloaded {
            return Err(self.volume.want(Want::Names(self.number.get()), Errno::EIO));
        }
        let mut from = from;
        loop {
            let awake = self.names.next(from).map(|(position, dentry)| {
                let inode = dentry.inode();
                (position, dentry.name(), inode.number(), inode.body().file_type())
            });
            let asleep = self.next_asleep(from);
            let next = match (awake, asleep) {
                (Some(one), Some(other)) => {
                    if one.0 < other.0 {
                        one
                    } else {
                        other
                    }
                }
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return Ok(()),
            };
            let (position, name, inode, file_type) = next;
            from = position.saturating_add(1);
            if each(Entry { name: &name, inode, file_type, next: from }) == Listing::Stop {
                return Ok(());
            }
        }
    }

    fn new_file(&self, _maker: &Credentials) -> Result<Body> {
        let file = super::DiskFile::new(&self.volume, 0, 0, 0);
        Ok(Body::Regular(Content::paged(Box::new(file), 0)))
    }

    fn new_directory(&self) -> Body {
        Body::Directory(Box::new(Self::empty(&self.volume)))
    }

    fn names(&self) -> Option<&Names> {
        Some(&self.names)
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.asleep.borrow().by_position.is_empty()
    }

    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn load(&self, this: &Rc<Dentry>) -> Result<()> {
        if self.state.get() == State::Loaded {
            return Ok(());
        }
        self.place.replace(Rc::downgrade(this));
        Err(self.volume.want(Want::Names(self.number.get()), Errno::EIO))
    }

    fn adopt(&self, number: u64) {
        self.number.set(number);
    }

    fn fill(&self, loaded: super::Loaded) {
        self.fill(loaded.names, loaded.charge);
    }

    fn forget_names(&self) {
        self.state.set(State::Unloaded);
        let asleep = self.asleep.take();
        self.names.clear();
        drop(asleep);
    }
}

/// The names of a directory, as they were loaded.
pub struct Loaded {
    names: Vec<Sleeping>,
    charge: Charge,
}

impl Volume {
    /// Loads the names of a directory.
    pub(super) async fn load_names(self: &Rc<Self>, number: u64) -> Result<()> {
        let Some(inode) = self.known(number) else { return Ok(()) };
        let mut loaded = Loaded { names: Vec::new(), charge: self.charge(0)? };
        let mut bytes = 0;
        let mut cookie = files::FIRST_COOKIE;
        while cookie != files::LAST_COOKIE {
            let answer = self.demand(Request::List { inode: number, cookie }, files::MAX_BUFFER_BYTES).await?;
            let Filled { len_bytes, next } = Filled::decode(&answer.words);
            for entry in entry::entries(answer.filled(len_bytes)).filter(is_shown) {
                let sleeping = Sleeping {
                    name: Name::from(entry.name),
                    attributes: entry.attributes,
                    target: Box::from(entry.target),
                };
                bytes += sleeping.len_bytes();
                loaded.names.push(sleeping);
            }
            self.resize_charge(&mut loaded.charge, bytes)?;
            if next == cookie {
                return Err(Errno::EIO);
            }
            cookie = next;
        }
        inode.directory()?.fill(loaded);
        Ok(())
    }

    fn resize_charge(&self, charge: &mut Charge, bytes: u64) -> Result<()> {
        charge.resize(bytes).or_else(|_| {
            self.cache.shrink(bytes);
            charge.resize(bytes)
        })
    }
}

fn is_shown(entry: &entry::Entry<'_>) -> bool {
    !matches!(entry.name, b"" | b"." | b"..") && !entry.name.contains(&b'/') && entry.attributes.inode != 0
}
