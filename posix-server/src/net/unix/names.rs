//! Where Unix sockets are found: by an abstract name, or by the inode of a path.

use super::UnixSocket;
use super::message::Name;
use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::net::common::Style;
use crate::random;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How many names `bind` without a name can give: five hexadecimal digits.
const AUTOMATIC_NAMES: u32 = 1 << 20;

/// What a socket is bound to.
#[derive(Clone, Debug)]
pub enum Binding {
    /// A name in the abstract name space, which begins with a zero.
    Abstract(Name),
    /// An inode of a file system.
    File(Rc<Inode>),
}

/// All that is bound. Names are kept until their sockets are closed.
#[derive(Default)]
pub struct Names {
    /// By style and name: sockets of two styles may have the same.
    abstracts: RefCell<BTreeMap<(u32, Name), Weak<UnixSocket>>>,
    /// By the address of the inode, which the socket keeps alive.
    files: RefCell<BTreeMap<usize, Weak<UnixSocket>>>,
    /// All sockets, for `/proc/net/unix`.
    all: RefCell<BTreeMap<u64, Weak<UnixSocket>>>,
    next_automatic: Cell<u32>,
}

fn key(inode: &Rc<Inode>) -> usize {
    Rc::as_ptr(inode).addr()
}

impl Names {
    /// Binds a socket. `EADDRINUSE`.
    pub fn bind(&self, socket: &Rc<UnixSocket>, binding: &Binding) -> Result<()> {
        match binding {
            Binding::Abstract(name) => {
                let mut names = self.abstracts.borrow_mut();
                let key = (socket.common.style.number(), name.clone());
                if names.contains_key(&key) {
                    return Err(Errno::EADDRINUSE);
                }
                names.insert(key, Rc::downgrade(socket));
            }
            Binding::File(inode) => {
                self.files.borrow_mut().insert(key(inode), Rc::downgrade(socket));
            }
        }
        Ok(())
    }

    /// Takes that back.
    pub fn unbind(&self, style: Style, binding: &Binding) {
        match binding {
            Binding::Abstract(name) => {
                self.abstracts.borrow_mut().remove(&(style.number(), name.clone()));
            }
            Binding::File(inode) => {
                self.files.borrow_mut().remove(&key(inode));
            }
        }
    }

    /// An abstract name that no socket of this style has. `ENOSPC`.
    pub fn automatic(&self, style: Style) -> Result<Name> {
        let names = self.abstracts.borrow();
        if self.next_automatic.get() == 0 {
            let mut seed = [0; 4];
            random::fill(&mut seed);
            self.next_automatic.set(u32::from_le_bytes(seed));
        }
        for _ in 0..AUTOMATIC_NAMES {
            let number = self.next_automatic.get() % AUTOMATIC_NAMES;
            self.next_automatic.set(number + 1);
            let name: Name = format!("\0{number:05x}").into_bytes().into();
            if !names.contains_key(&(style.number(), name.clone())) {
                return Ok(name);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// The socket with an abstract name. `ECONNREFUSED`.
    pub fn find_abstract(&self, style: Style, name: &Name) -> Result<Rc<UnixSocket>> {
        let names = self.abstracts.borrow();
        names.get(&(style.number(), name.clone())).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
    }

    /// The socket that a path leads to. `ECONNREFUSED`; `EPROTOTYPE` if it is of another style.
    pub fn find_file(&self, style: Style, inode: &Rc<Inode>) -> Result<Rc<UnixSocket>> {
        let found = self.files.borrow().get(&key(inode)).and_then(Weak::upgrade);
        let found = found.ok_or(Errno::ECONNREFUSED)?;
        if found.common.style == style { Ok(found) } else { Err(Errno::EPROTOTYPE) }
    }

    /// Takes note of a new socket.
    pub(super) fn enter(&self, socket: &Rc<UnixSocket>) {
        self.all.borrow_mut().insert(socket.common.cookie, Rc::downgrade(socket));
    }

    /// Forgets one that is gone.
    pub(super) fn forget(&self, cookie: u64) {
        self.all.borrow_mut().remove(&cookie);
    }

    /// All sockets, oldest first.
    pub fn all(&self) -> Vec<Rc<UnixSocket>> {
        self.all.borrow().values().filter_map(Weak::upgrade).collect()
    }
}
