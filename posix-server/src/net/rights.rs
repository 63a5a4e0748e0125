//! Descriptors that travel in messages (`SCM_RIGHTS`).
//!
//! A file in flight is held by the message. A socket's messages are held by the socket, and a socket may be in flight itself:
//! in a queue of its own, even. Such a ring holds itself, so that counting references never frees it. [`InFlight`] therefore
//! knows every socket that is in flight, and [`InFlight::collect`] finds those that nobody can reach any more: all
//! references to them come from messages, and those messages are in sockets of the same kind.
//!
//! A chain of sockets, each in the queue of the next, may be as long as a program likes. Files are therefore never dropped
//! where they are found, which would go down the chain by recursion, but handed to [`InFlight::bury`].

use super::Socket;
use crate::budget::{Charge, Kind as Budget};
use crate::cred::Uid;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How many descriptors one message carries at most (`SCM_MAX_FD`).
pub const MAX_PER_MESSAGE: usize = 253;
/// What a descriptor in flight takes of the server's memory, about, in bytes.
const BYTES_PER_FILE: u64 = 96;

/// A socket that is in flight.
#[derive(Debug)]
struct Traveller {
    file: Weak<OpenFile>,
    /// How many messages hold it.
    count: usize,
}

/// All that is in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    per_user: RefCell<BTreeMap<Uid, u64>>,
    /// The sockets among it, by the number of the open file.
    sockets: RefCell<BTreeMap<u64, Traveller>>,
    graves: RefCell<Vec<Rc<OpenFile>>>,
    is_burying: Cell<bool>,
}

/// Files on their way, in one message.
#[derive(Debug)]
pub struct Rights {
    files: Vec<Rc<OpenFile>>,
    user: Uid,
    register: Rc<InFlight>,
    _charge: Charge,
}

impl Rights {
    /// Sends files off in the name of a user, who may have up to `limit` in flight. `ETOOMANYREFS` if there are more
    /// already; `ENOBUFS`.
    pub fn send(register: &Rc<InFlight>, files: Vec<Rc<OpenFile>>, user: Uid, limit: Option<u64>) -> Result<Self> {
        if limit.is_some_and(|limit| register.count_of(user) > limit) {
            return Err(Errno::ETOOMANYREFS);
        }
        let charge = Charge::new(Budget::Open, files.len() as u64 * BYTES_PER_FILE).map_err(|_| Errno::ENOBUFS)?;
        register.enter(&files, user);
        Ok(Self { files, user, register: register.clone(), _charge: charge })
    }

    /// The files.
    pub fn files(&self) -> &[Rc<OpenFile>] {
        &self.files
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.files);
        self.register.leave(&files, self.user);
        self.register.bury(files);
    }
}

/// The socket that a file is, if only sockets of its kind can carry files.
fn carrier(file: &OpenFile) -> Option<&Socket> {
    file.ops().socket().filter(|socket| socket.unix().is_some())
}

impl InFlight {
    /// How many files a user has in flight.
    fn count_of(&self, user: Uid) -> u64 {
        self.per_user.borrow().get(&user).copied().unwrap_or(0)
    }

    /// Whether any socket is in flight.
    pub fn has_sockets(&self) -> bool {
        !self.sockets.borrow().is_empty()
    }

    fn enter(&self, files: &[Rc<OpenFile>], user: Uid) {
        *self.per_user.borrow_mut().entry(user).or_insert(0) += files.len() as u64;
        let mut sockets = self.sockets.borrow_mut();
        for file in files.iter().filter(|file| carrier(file).is_some()) {
            let new = || Traveller { file: Rc::downgrade(file), count: 0 };
            sockets.entry(file.id()).or_insert_with(new).count += 1;
        }
    }

    fn leave(&self, files: &[Rc<OpenFile>], user: Uid) {
        let left = self.count_of(user).saturating_sub(files.len() as u64);
        let mut per_user = self.per_user.borrow_mut();
        if left == 0 {
            per_user.remove(&user)
        } else {
            per_user.insert(user, left)
        };
        let mut sockets = self.sockets.borrow_mut();
        for file in files.iter().filter(|file| carrier(file).is_some()) {
            if let Some(traveller) = sockets.get_mut(&file.id()) {
                traveller.count = traveller.count.saturating_sub(1);
                if traveller.count == 0 {
                    sockets.remove(&file.id());
                }
            }
        }
    }

    /// Drops files, one after the other: what the drop of one sets free joins the queue.
    pub fn bury(&self, files: Vec<Rc<OpenFile>>) {
        self.graves.borrow_mut().extend(files);
        if self.is_burying.replace(true) {
            return;
        }
        loop {
            let next = self.graves.borrow_mut().pop();
            match next {
                Some(file) => drop(file),
                None => break,
            }
        }
        self.is_burying.set(false);
    }

    /// Finds the sockets that only messages of such sockets hold, and empties them. Its cost follows what is in flight.
    pub fn collect(&self) {
        let candidates = self.candidates();
        let reachable = reachable(&candidates);
        for (_, (file, _)) in candidates.iter().filter(|(id, _)| !reachable.contains(id)) {
            if let Some(unix) = carrier(file).and_then(Socket::unix) {
                unix.discard_messages();
            }
        }
        self.bury(candidates.into_values().map(|(file, _)| file).collect());
    }

    /// The sockets that nothing but messages holds, and how many do.
    fn candidates(&self) -> Candidates {
        let only_in_flight = |traveller: &&Traveller| traveller.file.strong_count() == traveller.count;
        let sockets = self.sockets.borrow();
        let found = sockets.iter().filter(|(_, traveller)| only_in_flight(traveller));
        found.filter_map(|(id, traveller)| Some((*id, (traveller.file.upgrade()?, traveller.count)))).collect()
    }
}

type Candidates = BTreeMap<u64, (Rc<OpenFile>, usize)>;

/// Calls `each` with every candidate that a message in the queue of this one holds, once for each message.
fn visit(candidates: &Candidates, file: &OpenFile, each: &mut dyn FnMut(u64)) {
    let Some(unix) = carrier(file).and_then(Socket::unix) else { return };
    unix.visit_files(&mut |held| {
        if candidates.contains_key(&held.id()) {
            each(held.id());
        }
    });
}

/// The candidates that somebody can receive: a message outside holds them, or one inside a reachable candidate.
fn reachable(candidates: &Candidates) -> BTreeSet<u64> {
    let mut inside: BTreeMap<u64, usize> = BTreeMap::new();
    for (file, _) in candidates.values() {
        visit(candidates, file, &mut |held| *inside.entry(held).or_insert(0) += 1);
    }
    let is_held_outside = |id: &u64, count: usize| inside.get(id).copied().unwrap_or(0) < count;
    let mut queue: Vec<u64> =
        candidates.iter().filter(|(id, (_, count))| is_held_outside(id, *count)).map(|(id, _)| *id).collect();
    let mut reachable: BTreeSet<u64> = queue.iter().copied().collect();
    while let Some(id) = queue.pop() {
        let Some((file, _)) = candidates.get(&id) else { continue };
        visit(candidates, file, &mut |held| {
            if reachable.insert(held) {
                queue.push(held);
            }
        });
    }
    reachable
}
