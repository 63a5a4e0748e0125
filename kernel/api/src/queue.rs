//! Queues: where everything asynchronous completes. Most programs use the [`Executor`](crate::Executor) on top.

use crate::account::Account;
use crate::handle::{Object, argument, object, owned};
use crate::memory::Memory;
use crate::raw::{handle_of, many_numbers, numbers};
use crate::ring::{RingFull, Rings};
use crate::time::Event;
use crate::{Commit, MapFlags, Protection, rt};
use core::ptr::NonNull;
use quire_abi::queue::{Completion, Submission};
use quire_abi::{Call, Error};

object! {
    /// A submission and a completion ring.
    Queue
}

impl Queue {
    /// Makes a queue with rings of these sizes (powers of two), and the memory that holds them. Needs `USE`.
    pub fn create(account: &Account, submissions: u32, completions: u32) -> Result<(Self, Memory), Error> {
        let arguments = [argument(account), u64::from(submissions), u64::from(completions)];
        let (queue, memory) = numbers(Call::QueueCreate, arguments).values()?;
        let queue = Self::from_handle(owned(handle_of(queue))?);
        Ok((queue, Memory::from_handle(owned(handle_of(memory))?)))
    }

    /// Takes the submissions, then waits until a completion is there, until `deadline_ns` at most. Needs `WAIT`.
    #[inline]
    pub fn wait(&self, deadline_ns: u64) -> Result<(), Error> {
        numbers(Call::QueueWait, [argument(self), deadline_ns, 0]).unit()
    }

    /// Completes `Posted` with `key` and `value`. Needs `SEND`.
    pub fn post(&self, key: u64, value: u64) -> Result<(), Error> {
        numbers(Call::QueuePost, [argument(self), key, value]).unit()
    }

    /// Makes what happens to `object` (a channel endpoint, interrupt, thread or timer) complete here with `key`. Needs
    /// `SEND`, and `WAIT` on the object.
    pub fn bind(&self, object: &impl Object, key: u64) -> Result<(), Error> {
        numbers(Call::ObjectBind, [argument(object), argument(self), key]).unit()
    }

    /// Completes once with `key` when one of the bits in `mask` of the event is set. Needs `SEND`, and `WAIT` on the event.
    pub fn notify(&self, event: &Event, key: u64, mask: u64) -> Result<(), Error> {
        let arguments = [argument(event), argument(self), key, mask, 0, 0];
        many_numbers(Call::EventNotify, arguments).unit()
    }
}

/// Takes the binding of an object to a queue back. Needs `WAIT`.
pub fn unbind(object: &impl Object) -> Result<(), Error> {
    numbers(Call::ObjectUnbind, [argument(object), 0, 0]).unit()
}

/// A queue with its rings mapped into the program's own space.
#[derive(Debug)]
pub struct MappedQueue {
    queue: Queue,
    rings: Rings,
    address: u64,
    len_bytes: u64,
}

impl MappedQueue {
    /// Makes a queue and maps its rings.
    pub fn create(account: &Account, submissions: u32, completions: u32) -> Result<Self, Error> {
        let (queue, memory) = Queue::create(account, submissions, completions)?;
        let len_bytes = memory.info()?.size;
        let mut commit = Commit::new();
        let protection = Protection::READ | Protection::WRITE;
        commit.map(&memory, 0, 0, len_bytes, protection, MapFlags::FIND | MapFlags::NO_INHERIT);
        let address = rt::space()?.commit(&commit)?.address;
        let base = NonNull::new(address as *mut u8).ok_or(Error::BadAddress)?;
        // SAFETY: the kernel's rings were just mapped there, for this value alone, which unmaps them when it goes.
        let rings = unsafe { Rings::open(base, len_bytes as usize) }.ok_or(Error::BadState)?;
        Ok(Self { queue, rings, address, len_bytes })
    }

    /// The queue, to bind objects to.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Adds a submission, to be taken by the kernel at the next [`wait`](Self::wait). If the ring is full, the kernel is
    /// asked to take what is there; [`Error::Full`] if that makes no room.
    pub fn submit(&mut self, submission: &Submission) -> Result<(), Error> {
        if self.rings.push(submission).is_ok() {
            return Ok(());
        }
        match self.queue.wait(crate::IMMEDIATELY) {
            Ok(()) | Err(Error::WouldBlock | Error::TimedOut) => {}
            Err(error) => return Err(error),
        }
        self.rings.push(submission).map_err(|RingFull| Error::Full)
    }

    /// How many submissions the kernel has not taken yet.
    pub fn pending_submissions(&self) -> u32 {
        self.rings.pending_submissions()
    }

    /// Whether there is a completion to take.
    pub fn has_completions(&self) -> bool {
        self.rings.has_completions()
    }

    /// Takes the next completion.
    pub fn take(&mut self) -> Option<Completion> {
        self.rings.pop()
    }

    /// Takes the next completion: shows it to `read` where it lies, without a copy.
    pub fn take_with<R>(&mut self, read: impl FnOnce(&Completion) -> R) -> Option<R> {
        self.rings.pop_with(read)
    }

    /// Hands the submissions over and waits for a completion until `deadline_ns`.
    pub fn wait(&self, deadline_ns: u64) -> Result<(), Error> {
        self.queue.wait(deadline_ns)
    }
}

impl Drop for MappedQueue {
    fn drop(&mut self) {
        let mut commit = Commit::new();
        commit.unmap(self.address, self.len_bytes);
        if let Ok(space) = rt::space() {
            let _ = space.commit(&commit);
        }
    }
}
